//! Everything that can go wrong with a lab, and what the operator can do about it.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use sovereign_incus::IncusError;
use sovereign_model::HostName;

/// Why a lab is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// More or fewer data centers or hosts than there can be.
    #[error("a lab has 1 to {most_datacenters} data centers with 1 to {most_hosts} hosts each")]
    Shape {
        /// The limit.
        most_datacenters: usize,
        /// The limit in each.
        most_hosts: usize,
    },
    /// It is there, and is another.
    #[error("there is a lab {name} already, with {datacenters} data centers and {hosts} hosts")]
    OtherShape {
        /// Its name.
        name: String,
        /// How many it has.
        datacenters: usize,
        /// How many it has in all.
        hosts: usize,
    },
    /// It is there, on another Incus.
    #[error("there is a lab {name} already, on the Incus at {}", incus.display())]
    OtherIncus {
        /// Its name.
        name: String,
        /// The socket of its Incus.
        incus: PathBuf,
    },
    /// There is none of that name.
    #[error("there is no lab {name}")]
    None {
        /// What was asked for.
        name: String,
    },
    /// Something of that name is somebody else's.
    #[error("Incus has a {kind} {name} that is not this lab's")]
    Foreign {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Nothing of that name is in the lab.
    #[error("the lab has no data center and no host {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A data center has no router that this could be done to.
    #[error("{name} has no router that does this")]
    NotRouted {
        /// Which.
        name: String,
    },
    /// All private addresses are in use here.
    #[error("every network within 10.96.0.0 to 10.255.0.0 is in use on this machine")]
    NoAddresses,
    /// A limit of the kernel is too low for so many machines in one.
    #[error("{} is {value}, this lab needs {needed}", path.display())]
    Limit {
        /// Where it is set.
        path: PathBuf,
        /// What it is.
        value: u64,
        /// What it has to be.
        needed: u64,
    },
    /// Incus did not do it.
    #[error("Incus did not do it")]
    Incus(#[from] IncusError),
    /// A file of the lab's cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is written down cannot be read.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What is written down is of a later version.
    #[error("{} was written by a newer sovereign", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
    },
    /// A program that is needed cannot be run.
    #[error("cannot run {program}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A program that is needed failed.
    #[error("{program} failed ({status}): {said}")]
    Ended {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// A host does not answer.
    #[error("{host} does not answer over SSH at {address}, after {} s", waited.as_secs())]
    Silent {
        /// Which.
        host: HostName,
        /// Where.
        address: Ipv4Addr,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A host answers and does not let us in, or does not do what it is told.
    #[error("{host} at {address} refused: {said}")]
    Refused {
        /// Which.
        host: HostName,
        /// Where.
        address: Ipv4Addr,
        /// What OpenSSH said.
        said: String,
    },
    /// Two data centers do not reach each other.
    #[error("{from} does not reach {to} at {address}")]
    NoRoute {
        /// Who asked.
        from: HostName,
        /// Who was asked.
        to: HostName,
        /// Where.
        address: Ipv4Addr,
    },
    /// Some of the hosts failed; the others are done.
    #[error("{} of {hosts} hosts failed: {}", failures.len(), Listed(failures))]
    Hosts {
        /// How many there are.
        hosts: usize,
        /// What happened to which.
        failures: Vec<(HostName, LabError)>,
    },
}

impl LabError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::OtherShape { name, .. } | Self::OtherIncus { name, .. } => {
                format!("`sovereign lab down --name {name}` removes it, or choose another --name")
            }
            Self::None { .. } => "`sovereign lab up` makes one".to_owned(),
            Self::Foreign { .. } => "choose another --name".to_owned(),
            Self::Unknown { known, .. } => format!("it has {}", known.join(", ")),
            Self::NotRouted { .. } => {
                "routers of --forwarded data centers forward ports; those of --outbound-only ones change their address too"
                    .to_owned()
            }
            Self::Limit { path, needed, .. } => format!("as root: echo {needed} > {}", path.display()),
            Self::Incus(error) => return error.help(),
            Self::Newer { .. } => "use the sovereign that made it, or a newer one".to_owned(),
            Self::Program { program, source } if source.kind() == io::ErrorKind::NotFound => match *program {
                "nft" => "install it (Debian: package nftables)".to_owned(),
                _ => "install OpenSSH's client (Debian: package openssh-client)".to_owned(),
            },
            Self::Ended { program: "nft", .. } => "breaking networks needs root".to_owned(),
            Self::Silent { host, .. } => {
                format!(
                    "`incus --project lab-NAME console {host} --show-log` shows its boot; run again to go on waiting"
                )
            }
            Self::NoRoute { .. } => {
                "a firewall on this machine drops what is forwarded between bridges: see `nft list ruleset`".to_owned()
            }
            Self::Hosts { failures, .. } => return failures.first().and_then(|(_, error)| error.help()),
            Self::Shape { .. }
            | Self::NoAddresses
            | Self::File { .. }
            | Self::Damaged { .. }
            | Self::Program { .. }
            | Self::Ended { .. }
            | Self::Refused { .. } => return None,
        })
    }
}

struct Listed<'a>(&'a [(HostName, LabError)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (host, error)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{host}: {error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(source) = cause {
                write!(f, ": {source}")?;
                cause = source.source();
            }
        }
        Ok(())
    }
}
