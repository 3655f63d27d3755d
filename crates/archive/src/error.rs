//! What can go wrong with an archive, and what the operator can do.

use std::io;
use std::path::PathBuf;

use crate::pull::PullError;

/// Something about the archive failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no archive at this place.
    #[error("there is no archive in {folder}", folder = .folder.display())]
    Missing {
        /// The place.
        folder: PathBuf,
    },
    /// The archive that was used before is not at its place.
    #[error("the archive that this stack uses is not in {folder}", folder = .folder.display())]
    Gone {
        /// The place.
        folder: PathBuf,
        /// What says that there is one.
        known: PathBuf,
    },
    /// Another one is there.
    #[error("the archive in {folder} is not the one that this stack uses", folder = .folder.display())]
    Another {
        /// The place.
        folder: PathBuf,
        /// What says which it is.
        known: PathBuf,
    },
    /// What says which archive is used says nothing.
    #[error("cannot understand {known}, which names the archive that this stack uses", known = .known.display())]
    Senseless {
        /// The file.
        known: PathBuf,
    },
    /// A new archive has to be made where something else is.
    #[error("there is no archive in {folder}, but something else", folder = .folder.display())]
    Occupied {
        /// The place.
        folder: PathBuf,
    },
    /// What has to be written does not fit.
    #[error(
        "there is no room for {bytes} in {folder}: {free} are free, and {reserve} have to stay free",
        bytes = size(*.bytes), folder = .folder.display(), free = size(*.free), reserve = size(*.reserve)
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What has to be written.
        bytes: u64,
        /// What is free.
        free: u64,
        /// What of that is left alone.
        reserve: u64,
    },
    /// The key does not open it.
    #[error("the key does not open the archive in {folder}", folder = .folder.display())]
    WrongKey {
        /// The place.
        folder: PathBuf,
    },
    /// The repository could not be read or written.
    #[error("cannot {action}: {why}")]
    Repository {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        why: String,
    },
    /// A file or folder outside the repository.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The source cannot be had whole; no snapshot was made.
    #[error("no snapshot was made")]
    Source(#[source] PullError),
    /// What was stored is not what was listed; no snapshot was made.
    #[error("no snapshot was made: {path} {what}")]
    NotAsListed {
        /// Where they differ.
        path: String,
        /// How.
        what: &'static str,
    },
    /// What a snapshot holds is not what was put in.
    #[error("snapshot {snapshot} cannot be restored as it was made: {path} {what}")]
    Unproven {
        /// Which.
        snapshot: String,
        /// Where they differ.
        path: String,
        /// How.
        what: &'static str,
    },
    /// No snapshot goes by this name.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// Several do.
    #[error("several snapshots begin with {0}")]
    Ambiguous(String),
    /// A snapshot does not have this path.
    #[error("snapshot {snapshot} has no {path}")]
    NoPath {
        /// Which.
        snapshot: String,
        /// What it lacks.
        path: String,
    },
    /// A snapshot has in it what cannot be restored: it was not made by this program, or tampered with.
    #[error("snapshot {snapshot} has something in it that cannot be: {why}")]
    Tampered {
        /// Which.
        snapshot: String,
        /// What.
        why: String,
    },
    /// A snapshot's own file is damaged.
    #[error("snapshot {snapshot} cannot be read: {why}")]
    Unreadable {
        /// Which.
        snapshot: String,
        /// Why.
        why: String,
    },
    /// Others could put something into a folder to restore into.
    #[error("{path} belongs to another user, or others may write in it", path = .path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// A folder to restore into has something in it.
    #[error("{path} is not empty", path = .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another run works on the archive.
    #[error("another run works on the archive")]
    Locked,
    /// Another run makes copies of the archive.
    #[error("another run brings copies of the archive in step")]
    LockedForCopies,
    /// What was planned was planned for an archive that was another one then.
    #[error("the archive has changed since this was planned, so nothing was done")]
    Stale,
    /// What a snapshot needs that cannot be read would be taken for what none needs.
    #[error("nothing is pruned beside a snapshot that cannot be read: {}", short(.snapshots))]
    BesideUnreadable {
        /// The names of those that cannot.
        snapshots: Vec<String>,
        /// Where their files are.
        folder: PathBuf,
    },
    /// A copy in another place can be read, and nothing else.
    #[error("a copy of the archive is only read")]
    OnlyRead,
    /// The library gave up with a panic.
    #[error("the archive library failed inside while it had to {action}")]
    Panicked {
        /// What was tried.
        action: &'static str,
    },
}

impl ArchiveError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Missing { .. } => "`sovereign backup` makes one".to_owned(),
            Self::Gone { known, .. } | Self::Another { known, .. } => format!(
                "is the right disk mounted there? To begin a new archive, or to use the one that is there, remove {}",
                known.display()
            ),
            Self::Senseless { known } => {
                format!(
                    "a newer program may have written it; to use whatever archive is there, remove {}",
                    known.display()
                )
            }
            Self::Occupied { .. } => "is the right disk mounted there? A new archive is made in an empty folder only: \
                                      name one in the stack file, as `folder` of `[archive]`"
                .to_owned(),
            Self::NoRoom { .. } => "free some space on that file system and run the command again".to_owned(),
            Self::NotOurs { .. } => {
                "name a folder that is not there yet, or one of yours that only you write in".to_owned()
            }
            Self::Unreadable { .. } => "`sovereign archive check --read-data` says what else is damaged".to_owned(),
            Self::WrongKey { .. } => "it was made with another root seed (on the wrong disk lies another stack's, \
                                      say), or another program changed its keys; bring the stack's own words: \
                                      `sovereign seed restore`"
                .to_owned(),
            Self::Repository { why, .. } if why.contains("os error 28") => {
                "free some space on the archive's file system and run the command again".to_owned()
            }
            Self::Repository { .. } => "`sovereign archive check` says whether the archive is sound".to_owned(),
            Self::Source(error) if error.may_pass() => {
                "files changed while they were read; run the command again".to_owned()
            }
            Self::Source(error) if error.is_unreadable() => {
                "see that whoever runs this may read it, and that its disk is well; \
                                                  nothing is left out of a backup"
                    .to_owned()
            }
            Self::NoSnapshot(_) | Self::Ambiguous(_) => "`sovereign archive list` names them".to_owned(),
            Self::NoPath { snapshot, .. } => format!("`sovereign archive show {snapshot}` lists what it has"),
            Self::NotEmpty { .. } => "name a folder that is empty or not there yet".to_owned(),
            Self::Locked | Self::LockedForCopies => "wait until it is done, or interrupt it with Ctrl-C".to_owned(),
            Self::BesideUnreadable { snapshots, folder } => format!(
                "`sovereign archive list` says why; bring its file back from a copy of the archive, or remove it to give \
                 it up for good: {} in {}",
                snapshots.join(", "),
                folder.display()
            ),
            Self::Stale => {
                "run the command again, and let no other program write into the archive meanwhile".to_owned()
            }
            Self::Unproven { .. } => "run `sovereign archive check --read-data`, and the backup again".to_owned(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space and run the command again".to_owned()
            }
            _ => return None,
        };
        Some(text)
    }

    /// For `map_err` on a path.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// The parts of their names that people type.
fn short(snapshots: &[String]) -> String {
    snapshots.iter().map(|id| id.get(..8).unwrap_or(id)).collect::<Vec<_>>().join(", ")
}

/// As people read it.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().si().to_string()
}

/// Names what was being done when the library failed.
pub(crate) trait To<T> {
    fn to(self, action: &'static str) -> Result<T, ArchiveError>;
}

impl<T> To<T> for rustic_core::RusticResult<T> {
    fn to(self, action: &'static str) -> Result<T, ArchiveError> {
        self.map_err(|error| ArchiveError::Repository { action, why: error.display_log() })
    }
}
