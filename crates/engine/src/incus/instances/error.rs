//! What can go wrong with the instances of a host.

use std::error::Error;
use std::path::PathBuf;

use sovereign_incus::{IncusError, InvalidName};
use sovereign_model::{Digest, UnitName};
use sovereign_plan::Obstacle;

use crate::apply::Failure;
use crate::causes::with_causes;

/// Something about an instance could not be seen or done.
#[derive(Debug, thiserror::Error)]
pub enum InstancesError {
    /// The host's Incus.
    #[error(transparent)]
    Incus(#[from] IncusError),
    /// The host, or the way to it.
    #[error("the host does not do what it is asked")]
    Host(#[source] Box<dyn Error + Send + Sync>),
    /// The packet filter.
    #[error("the packet filter of the instances cannot be {what}: {said}")]
    Filter {
        /// What was to be done with it.
        what: &'static str,
        /// What the host said.
        said: String,
    },
    /// A name in a description is none in Incus.
    #[error("the description has a name that Incus does not take")]
    Name(#[from] InvalidName),
    /// Something that is not of our making has a name of ours.
    #[error("there is {kind} {name} on the host that is not ours")]
    Foreign {
        /// What kind of thing, with its article.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An instance of ours whose description is not one that this program knows.
    #[error("cannot understand what instance {name} says of itself: {why}")]
    Unreadable {
        /// The instance.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was given for a file is not what the description says.
    #[error("the description has another content for {}", path.display())]
    OtherContent {
        /// The file.
        path: PathBuf,
    },
    /// The image that was given is not the one of the description.
    #[error("the description has image {wanted}, given was {given}")]
    OtherImage {
        /// The description's.
        wanted: Digest,
        /// What was given.
        given: Digest,
    },
    /// What no step may mend, met while one was carried out.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// Data could not be put on a volume.
    #[error("{} cannot be filled: {said}", path.display())]
    NotFilled {
        /// Where the volume lies on the host.
        path: PathBuf,
        /// What the host said.
        said: String,
    },
    /// An instance does not become well. What ran before runs.
    #[error("{unit} does not become well: {problem}")]
    NotWell {
        /// The unit.
        unit: UnitName,
        /// What is wrong.
        problem: String,
        /// The last lines of its journal.
        log: String,
    },
    /// Something failed, and then the way back too.
    #[error("{unit} could not be replaced ({}), and what ran before could not be brought back", with_causes(&**first))]
    NotBack {
        /// The unit.
        unit: UnitName,
        /// What failed first.
        first: Box<InstancesError>,
        /// What failed then.
        source: Box<InstancesError>,
    },
}

impl InstancesError {
    pub(super) fn host(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Host(Box::new(error))
    }
}

impl Failure for InstancesError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Incus(error) => error.help(),
            Self::Obstacle(obstacle) => obstacle.help(),
            Self::Host(_) | Self::Name(_) => None,
            Self::Filter { .. } => Some("`nft list ruleset` on the host shows what is in effect".to_owned()),
            Self::Foreign { kind, name } => {
                let kind = kind.rsplit(' ').next().unwrap_or(kind);
                Some(format!(
                    "rename or remove that {kind} in Incus's project sovereign on the host, which is for what this \
                     program makes: nothing was done to {name}"
                ))
            }
            Self::NotFilled { .. } => Some("see that the host has room: `sovereign host check`".to_owned()),
            Self::Unreadable { .. } => {
                Some("a newer version of this program has made it: use that one, or a newer one still".to_owned())
            }
            Self::OtherContent { .. } | Self::OtherImage { .. } => {
                Some("make the plan again: `sovereign plan`".to_owned())
            }
            Self::NotWell { unit, log, .. } if log.is_empty() => Some(format!("`sovereign logs {unit}` may say why")),
            Self::NotWell { log, .. } => Some(format!("what ran before still does; the last lines it wrote:\n{log}")),
            Self::NotBack { source, .. } => Some(source.help().unwrap_or_else(|| {
                "its data is as it was, beside it what it was before: run the command again, which goes on from here"
                    .to_owned()
            })),
        }
    }
}
