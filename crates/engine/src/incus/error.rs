//! What can go wrong on hosts.

use std::path::PathBuf;

use sovereign_hosts::SshError;
use sovereign_hosts::ready::ReadyError;
use sovereign_hosts::systemd::ReplaceError;
use sovereign_incus::IncusError;
use sovereign_keys::KeysError;
use sovereign_model::{EdgeName, SiteName, UnitName};
use sovereign_runtime::control::ControlError;
use sovereign_services::ghost::OperatorError;

use super::instances::InstancesError;
use super::logs::LogError;
use crate::apply::Failure;
use crate::certificate::CertificateError;
use crate::record::RecordError;

/// Something could not be seen or done on a host.
#[derive(Debug, thiserror::Error)]
pub enum IncusEngineError {
    /// Nobody has made it ready.
    #[error("host {host} was not made ready for this stack")]
    NoHost {
        /// Which.
        host: EdgeName,
    },
    /// It did not answer at the beginning of the run, so the run has no lease on it.
    #[error("host {host} is left out of this run: {why}")]
    LeftOut {
        /// Which.
        host: EdgeName,
        /// Why.
        why: String,
    },
    /// The host, or the way to it.
    #[error("host {host} does not do what it is asked")]
    Host {
        /// Which.
        host: EdgeName,
        /// Why.
        source: Box<SshError>,
    },
    /// What may come in on it.
    #[error("the packet filter of {host} cannot be put right")]
    Ready {
        /// Which.
        host: EdgeName,
        /// Why.
        source: Box<ReadyError>,
    },
    /// Its Incus.
    #[error("the Incus of {host} does not do what it is asked")]
    Incus {
        /// Which host.
        host: EdgeName,
        /// Why.
        source: Box<IncusError>,
    },
    /// Its applications.
    #[error("the applications of {host} cannot be looked at")]
    Instances {
        /// Which host.
        host: EdgeName,
        /// Why.
        source: Box<InstancesError>,
    },
    /// An application in a container.
    #[error("{unit} cannot be run on {host}")]
    Instance {
        /// The unit.
        unit: UnitName,
        /// Its host.
        host: EdgeName,
        /// Why.
        source: Box<InstancesError>,
    },
    /// An application that was expected there.
    #[error("{unit} is not on {host}")]
    NotThere {
        /// The unit.
        unit: UnitName,
        /// The host.
        host: EdgeName,
    },
    /// A log.
    #[error("the log of {unit} on {host} cannot be read")]
    Log {
        /// Whose.
        unit: UnitName,
        /// The host.
        host: EdgeName,
        /// Why.
        source: Box<LogError>,
    },
    /// An edge as a unit.
    #[error("the edge of {host} cannot be replaced")]
    Unit {
        /// The host.
        host: EdgeName,
        /// Why.
        source: Box<ReplaceError<SshError>>,
    },
    /// A unit of the host's own runs and is not well.
    #[error("{unit} does not become well on {host}")]
    NotWell {
        /// The unit.
        unit: UnitName,
        /// The host.
        host: EdgeName,
    },
    /// An edge refused its configuration, or does not answer.
    #[error("the edge of {host} does not take its configuration")]
    Edge {
        /// The host.
        host: EdgeName,
        /// Why.
        source: Box<ControlError>,
    },
    /// Ghost.
    #[error("site {site} cannot be set up")]
    Ghost {
        /// The site.
        site: SiteName,
        /// Ghost's own words.
        source: Box<OperatorError>,
    },
    /// A mirror does not become complete.
    #[error("the mirror of site {site} at {host} does not fill: {why}")]
    NotFilled {
        /// Where.
        host: EdgeName,
        /// What.
        site: SiteName,
        /// Why.
        why: String,
    },
    /// A working key.
    #[error("a key is not to be had")]
    Keys(#[source] KeysError),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What is remembered of a site.
    #[error("it is not known how far a site is")]
    Record(#[from] RecordError),
    /// A file of ours.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing that an edge could serve.
    #[error("there are no files of site {site}, or one of them cannot be read")]
    NoFiles {
        /// The site.
        site: SiteName,
    },
    /// A plan names other files than there are.
    #[error("the files of site {site} are others than the plan was made for")]
    OtherFiles {
        /// The site.
        site: SiteName,
    },
    /// A step names what this stack does not declare: the plan is not for this stack.
    #[error("the plan names {what}, which is not declared")]
    Undeclared {
        /// What.
        what: String,
    },
}

impl IncusEngineError {
    /// Whether a host's Incus does not answer, though the host does.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Incus { source, .. } => source.is_silence(),
            Self::Instances { source, .. } => matches!(&**source, InstancesError::Incus(error) if error.is_silence()),
            _ => false,
        }
    }
}

impl Failure for IncusEngineError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoHost { host } => {
                let EdgeName { datacenter, host: name } = host;
                let name = name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
                Some(format!("`sovereign host add root@ADDRESS --datacenter {datacenter}{name}` does that"))
            }
            Self::LeftOut { .. } => Some("run the command again when it answers".to_owned()),
            Self::Host { source, .. } => source.help(),
            Self::Ready { source, .. } => source.help(),
            Self::Incus { source, .. } => source.help(),
            Self::Instances { source, .. } | Self::Instance { source, .. } => source.help(),
            Self::NotThere { .. } => {
                Some("`sovereign up` brings it there; `sovereign status` shows what runs".to_owned())
            }
            Self::Log { source, .. } => source.help(),
            Self::Unit { source, .. } => source.help(),
            Self::NotWell { unit, .. } => Some(format!("`sovereign logs {unit}` may say why")),
            Self::Edge { source, .. } => source.help(),
            Self::Ghost { source, .. } => source.help(),
            Self::NotFilled { host, .. } => Some(format!("`sovereign logs {}` may say why", host.unit())),
            Self::Keys(error) => error.help(),
            Self::Certificate(error) => error.help(),
            Self::Record(error) => error.help(),
            Self::File { source, .. } => crate::file::help(source),
            Self::NoFiles { .. } => Some("`sovereign up` says which".to_owned()),
            Self::OtherFiles { .. } | Self::Undeclared { .. } => {
                Some("make the plan again: `sovereign plan`".to_owned())
            }
        }
    }
}
