//! What can go wrong while looking and while carrying out.

use std::path::PathBuf;

use sovereign_images::ImageError;
use sovereign_keys::KeysError;
use sovereign_model::{DatacenterName, SiteName, UnitName};
use sovereign_plan::Obstacle;
use sovereign_runtime::control::ControlError;
use sovereign_services::folder::WriteError;
use sovereign_services::ghost::OperatorError;

use crate::apply::Failure;
use crate::certificate::CertificateError;
use crate::embedded::ClientError;
use crate::record::RecordError;

/// The embedded engine could not see or do something.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The supervisor.
    #[error("the supervisor does not do its part")]
    Supervisor(#[from] ClientError),
    /// The image store, or a build.
    #[error("the image cannot be had")]
    Image(#[from] ImageError),
    /// A working key.
    #[error("a key is not to be had")]
    Keys(#[source] KeysError),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A file of ours.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An application's folder.
    #[error("the application's folder cannot be made ready")]
    Folder(#[from] WriteError),
    /// An edge refused its configuration, or does not answer.
    #[error("the edge of {datacenter} does not take its configuration")]
    Edge {
        /// Whose edge.
        datacenter: DatacenterName,
        /// Why.
        source: ControlError,
    },
    /// A unit does not become well.
    #[error("{unit} does not become well: {problem}")]
    NotWell {
        /// The unit.
        unit: UnitName,
        /// What is wrong, in the supervisor's words.
        problem: String,
        /// The last lines it wrote.
        log: String,
    },
    /// Ghost.
    #[error("site {site} cannot be set up")]
    Ghost {
        /// The site.
        site: SiteName,
        /// Ghost's own words.
        source: OperatorError,
    },
    /// A mirror does not become complete.
    #[error("the mirror of site {site} at {datacenter} does not fill: {why}")]
    NotFilled {
        /// Where.
        datacenter: DatacenterName,
        /// What.
        site: SiteName,
        /// Why.
        why: String,
    },
    /// What is remembered of a site.
    #[error("it is not known how far a site is")]
    Record(#[from] RecordError),
    /// A step names what this stack does not declare: the plan is not for this stack.
    #[error("the plan names {what}, which is not declared")]
    Undeclared {
        /// What.
        what: String,
    },
    /// What no step may mend, met while one was carried out.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// The work was given up by the runtime.
    #[error("the work was cut off")]
    CutOff,
}

impl EmbeddedError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl Failure for EmbeddedError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Supervisor(error) => error.help(),
            Self::Image(error) => error.help(),
            Self::Keys(error) => error.help(),
            Self::Certificate(error) => error.help(),
            Self::Folder(error) => error.help(),
            Self::Edge { source, .. } => source.help(),
            Self::Ghost { source, .. } => source.help(),
            Self::File { source, .. } => crate::file::help(source),
            Self::Record(error) => error.help(),
            Self::NotWell { unit, log, .. } if log.is_empty() => Some(format!("`sovereign logs {unit}` may say why")),
            Self::NotWell { log, .. } => Some(format!("the last lines it wrote:\n{log}")),
            Self::NotFilled { datacenter, .. } => Some(format!("`sovereign logs edge@{datacenter}` may say why")),
            Self::Undeclared { .. } => Some("make the plan again: `sovereign plan`".to_owned()),
            Self::Obstacle(obstacle) => obstacle.help(),
            Self::CutOff => None,
        }
    }
}
