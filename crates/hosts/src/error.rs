//! What can go wrong between this machine and a host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_model::ssh::{Fingerprint, SshAddress};

/// A host did not do what it was asked, or was not asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Something on this machine is in the way.
    #[error("cannot {action}")]
    Here {
        /// What was to be done.
        action: String,
        /// Why it was not.
        source: io::Error,
    },
    /// Nobody answers at that address, or not as an SSH server does.
    #[error("cannot reach {host}: {said}")]
    Unreachable {
        /// The address.
        host: SshAddress,
        /// What ssh says.
        said: String,
    },
    /// The host does not let our keys in.
    #[error("{host} lets none of our keys in: {said}")]
    KeyRefused {
        /// The address.
        host: SshAddress,
        /// The keys that were shown.
        keys: Vec<PathBuf>,
        /// What ssh says.
        said: String,
    },
    /// The host has another key than the one that was pinned.
    #[error(
        "{host} is not the host that it was: it should have the key {pinned}, and shows {}",
        found.as_ref().map_or_else(|| "another one".to_owned(), ToString::to_string)
    )]
    HostKeyChanged {
        /// The address.
        host: SshAddress,
        /// What was pinned.
        pinned: Fingerprint,
        /// What was found, when that could be told.
        found: Option<Fingerprint>,
    },
    /// The host shows no key with the fingerprint that the operator gave.
    #[error("{host} has no key {expected}: it shows {}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    OtherFingerprint {
        /// The address.
        host: SshAddress,
        /// What the operator gave.
        expected: Fingerprint,
        /// What was found.
        found: Vec<Fingerprint>,
    },
    /// It took longer than we wait.
    #[error("{host} did not {action} within {}", seconds(*waited))]
    TimedOut {
        /// The address.
        host: SshAddress,
        /// What it was to do.
        action: String,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The connection ended in the midst of it.
    #[error("the connection to {host} ended while it was to {action}: {said}")]
    Lost {
        /// The address.
        host: SshAddress,
        /// What it was to do.
        action: String,
        /// What ssh says.
        said: String,
    },
    /// A command ran and failed.
    #[error("{host} could not {action} (exit code {code}): {said}")]
    Failed {
        /// The address.
        host: SshAddress,
        /// What it was to do.
        action: String,
        /// The command's exit code.
        code: i32,
        /// The command's own words.
        said: String,
    },
    /// It says more than there can be to say.
    #[error("{host} says more than {most} bytes when it is to {action}")]
    TooMuch {
        /// The address.
        host: SshAddress,
        /// What it was to do.
        action: String,
        /// The limit.
        most: usize,
    },
    /// What it says cannot be understood.
    #[error("cannot understand what {host} says of itself: {why}")]
    Nonsense {
        /// The address.
        host: SshAddress,
        /// What is wrong with it.
        why: String,
    },
}

/// What scripts say that were to write something else.
const NOT_SENT: &str = "what arrived is not what was sent";
/// The usual reason.
const STILL_WRITTEN: &str = "something writes there still: run the command again when it has finished";

fn seconds(waited: Duration) -> String {
    if waited.subsec_millis() == 0 {
        format!("{} s", waited.as_secs())
    } else {
        format!("{:.1} s", waited.as_secs_f64())
    }
}

impl SshError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            // Of a program and not of a file: the system names no error of its own then.
            Self::Here { source, .. }
                if source.kind() == io::ErrorKind::NotFound && source.raw_os_error().is_none() =>
            {
                "install OpenSSH's client on this machine (openssh-client)".to_owned()
            }
            Self::Here { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space on this machine".to_owned()
            }
            Self::Here { source, .. } if source.kind() == io::ErrorKind::InvalidData => STILL_WRITTEN.to_owned(),
            Self::Here { .. } => return None,
            Self::Unreachable { host, .. } => {
                let port = host.port();
                format!("see that {} is on and that its SSH server listens on port {port}", host.host())
            }
            Self::KeyRefused { host, keys, .. } => {
                let shown: Vec<_> = keys.iter().map(|key| format!("{}.pub", key.display())).collect();
                let shown = if shown.is_empty() { "your public key".to_owned() } else { shown.join(" or ") };
                format!(
                    "add {shown} to ~/.ssh/authorized_keys of {} on the host, or name another key with --identity",
                    host.user()
                )
            }
            Self::HostKeyChanged { .. } | Self::OtherFingerprint { .. } => {
                "nothing was sent to it. On the host's own console, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` \
                 shows the fingerprint that is right: if the host was set up anew, `sovereign host remove --forget` \
                 and add it again; if not, somebody stands between"
                    .to_owned()
            }
            Self::TimedOut { .. } | Self::Lost { .. } => {
                "run the command again when the host answers: it goes on where it was".to_owned()
            }
            Self::Failed { said, .. } if said.contains("No space left on device") => {
                "the host's disk is full: free some space there and run the command again".to_owned()
            }
            Self::Failed { said, .. } if said.contains("dpkg frontend lock") || said.contains("Could not get lock") => {
                "another program installs packages on the host: run the command again when it has finished".to_owned()
            }
            Self::Failed { said, .. } if said.contains(NOT_SENT) => STILL_WRITTEN.to_owned(),
            Self::Failed { .. } => return None,
            Self::TooMuch { .. } | Self::Nonsense { .. } => {
                "see whether the shell of that user prints things of its own: `ssh HOST true` must print nothing"
                    .to_owned()
            }
        })
    }

    /// Whether trying again later may be enough.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Lost { .. })
    }
}
