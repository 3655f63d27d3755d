//! What can go wrong with a copy, and what the operator can do.

use std::io;

use crate::error::{ArchiveError, size};

/// Something about a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The place could not be read or written.
    #[error("cannot {action} {what} in {place}")]
    Place {
        /// What was tried.
        action: &'static str,
        /// With what.
        what: String,
        /// Where.
        place: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else is there than a copy.
    #[error("{place} has something in it, and no copy of the archive")]
    Occupied {
        /// Where.
        place: String,
    },
    /// A copy of another archive is there.
    #[error("{place} has another archive in it")]
    Another {
        /// Where.
        place: String,
    },
    /// The copy that was there is not.
    #[error("the copy that was in {place} is not there")]
    Gone {
        /// Where.
        place: String,
    },
    /// There is no copy yet.
    #[error("there is no copy of the archive in {place}")]
    Missing {
        /// Where.
        place: String,
    },
    /// The place lies in the archive, or the other way round.
    #[error("{place} and the archive lie in each other")]
    Itself {
        /// Where.
        place: String,
    },
    /// What has to be written does not fit.
    #[error(
        "there is no room for {bytes} in {place}: {free} are free, and {reserve} have to stay free",
        bytes = size(*.bytes), free = size(*.free), reserve = size(*.reserve)
    )]
    NoRoom {
        /// Where.
        place: String,
        /// What has to be written.
        bytes: u64,
        /// What is free.
        free: u64,
        /// What of that is left alone.
        reserve: u64,
    },
    /// Whoever started it wants it to end.
    #[error("stopped, as you wished")]
    Stopped,
    /// The archive itself.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl CopyError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Occupied { .. } => {
                "is the right disk mounted there? A copy is begun in an empty folder only: name one in the stack file"
            }
            Self::Another { .. } => {
                "is the right disk mounted, here and there? Nothing was changed; to begin a copy of this archive there, \
                 name an empty folder in the stack file"
            }
            Self::Gone { .. } => {
                "is the right disk mounted there? To begin the copy anew, run `sovereign archive copy NAME --anew`"
            }
            Self::Missing { .. } => "`sovereign archive copy` makes it",
            Self::Itself { .. } => "give the copy a folder of its own in the stack file, on another disk",
            Self::Stopped => "run the command again: it goes on where it was",
            Self::NoRoom { .. } => "free some space there and run the command again: it goes on where it was",
            Self::Place { source, .. } => return place_help(source),
            Self::Archive(error) => return error.help(),
        };
        Some(text.to_owned())
    }

    /// For `map_err` on something of a place.
    pub(crate) fn place(
        action: &'static str,
        what: impl ToString,
        place: &dyn super::place::Place,
    ) -> impl FnOnce(io::Error) -> Self {
        let (what, place) = (what.to_string(), place.location());
        move |source| Self::Place { action, what, place, source }
    }
}

fn place_help(source: &io::Error) -> Option<String> {
    let said = source.to_string();
    let text = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space there and run the command again: it goes on where it was"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "is the disk mounted read-only? Then it can be restored from, but not written"
        }
        io::ErrorKind::PermissionDenied if said.contains("publickey") => {
            "add the public key of `key` in the stack file to that user's ~/.ssh/authorized_keys on the host"
        }
        io::ErrorKind::PermissionDenied if said.contains("ost key") => {
            "the host is another one, or has a new key: compare `host-key` in the stack file with \
             /etc/ssh/ssh_host_ed25519_key.pub on the host itself"
        }
        io::ErrorKind::PermissionDenied => "see that whoever runs this may read and write there",
        io::ErrorKind::TimedOut | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            "run the command again: it goes on where it was"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
