//! Why Knot does not serve what it should.

use std::path::PathBuf;
use std::{fmt, io};

use sovereign_model::DnsName;
use sovereign_runtime::file::FileError;

use super::driver::PATIENCE;

/// Knot does not serve what it should; it serves what it did before.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Its folder cannot be written.
    #[error("the name server's folder {} cannot be written", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of Knot's cannot be run.
    #[error("{program} cannot be run")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program of Knot's did not end.
    #[error("{program} has not ended within {} s", PATIENCE.as_secs())]
    Slow {
        /// Which.
        program: String,
    },
    /// Nobody brought the key of a domain.
    #[error("there is no key for {domain}")]
    NoKey {
        /// Whose.
        domain: DnsName,
    },
    /// Knot has another key for a domain than the one that was brought.
    #[error("{domain} is signed with another key than {wanted}: Knot has {found}")]
    OtherKey {
        /// Whose.
        domain: DnsName,
        /// The tags of those that were brought.
        wanted: String,
        /// What Knot has, as it lists it.
        found: String,
    },
    /// Knot refuses it.
    #[error("{what} is refused: {said}")]
    Refused {
        /// What.
        what: What,
        /// What Knot said.
        said: String,
    },
}

/// What can be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The configuration, or what it refers to.
    Configuration,
    /// The zone of a domain.
    Zone(DnsName),
    /// The key of a domain.
    Key(DnsName),
    /// The reload.
    Reload,
    /// The start.
    Start,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the name server's configuration"),
            Self::Zone(domain) => write!(f, "the zone of {domain}"),
            Self::Key(domain) => write!(f, "the key of {domain}"),
            Self::Reload => f.write_str("the name server's reload"),
            Self::Start => f.write_str("the name server's start"),
        }
    }
}

impl DriverError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Run { .. } => Some("install Debian's packages knot, knot-dnssecutils and knot-module-geoip".into()),
            Self::Refused { what: What::Zone(domain), .. } => {
                Some(format!("look at `sovereign dns show {domain}`: your own `records` may not go together"))
            }
            Self::Refused { what: What::Start, .. } => Some(
                "another program may listen at the port: `ss --listening --numeric --processes 'sport = 53'`".into(),
            ),
            Self::NoKey { .. } | Self::Refused { what: What::Key(_), .. } => {
                Some("`sovereign up` brings the keys".into())
            }
            Self::OtherKey { domain, .. } => Some(format!(
                "its DS record at the registry decides: see `sovereign dns ds {domain}`; keymgr removes a key"
            )),
            Self::Folder { .. } | Self::File(_) | Self::Slow { .. } | Self::Refused { .. } => None,
        }
    }
}
