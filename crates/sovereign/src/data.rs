//! The data of a service that the operator runs, written out and read in by the operator's own program.
//!
//! ```text
//! dump   program ─ stdout ─▶ FILE.partial ─ ended well, wrote something ─▶ FILE, and FILE.sha256 beside it
//! load   FILE ─ is what FILE.sha256 says ─▶ program's stdin ─ ended well, read all ─▶ the edges fetch anew
//! ```
//!
//! Promise: a file under its own name is whole; whatever goes wrong, the one before stays, and no part of a new one.
//! The program is run without a shell, with a few variables and no terminal to read from; what it writes to its standard
//! error is shown, cleaned and bounded. Ctrl-C ends it with everything it started.
//!
//! Left out: what the data is. A dump is the program's business, and so is putting it in place in one piece.

mod child;
mod dump;
mod file;
mod words;

pub(crate) use child::{Child, Ended};
pub(crate) use dump::{dump, folder_of};
pub(crate) use file::{Checked, NewFile, Sink};

use std::io;
use std::path::PathBuf;

use crate::exit::Exit;
use crate::failure::Reason;

/// Data was not written out, or not read in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// The program is not there, or is none.
    #[error("cannot start {program}")]
    NotStarted {
        /// What was to be run.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program said no.
    #[error("{program} {how}{}", said(last))]
    Ended {
        /// What was run.
        program: String,
        /// With which code, or by which signal.
        how: Ended,
        /// The last line it wrote to its standard error.
        last: Option<String>,
    },
    /// All seemed well, but there is no data.
    #[error("{program} ended well and wrote nothing")]
    Nothing {
        /// What was run.
        program: String,
    },
    /// All seemed well, but not all data was read.
    #[error("{program} ended well and read only {read} of {of} bytes")]
    Unread {
        /// What was run.
        program: String,
        /// How much it read.
        read: u64,
        /// How much there was.
        of: u64,
    },
    /// Ctrl-C.
    #[error("{program} was stopped")]
    Stopped {
        /// What was run.
        program: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is something that is no file, and would be replaced by one.
    #[error("{path} is not a file", path = .path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Nothing to read in.
    #[error("{path} is empty", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody knows whether the file is whole.
    #[error("{path} has no checksum beside it", path = .path.display())]
    NoChecksum {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{path} is not what its checksum says: cut off, or changed", path = .path.display())]
    WrongChecksum {
        /// The file.
        path: PathBuf,
    },
}

fn said(last: &Option<String>) -> String {
    last.as_ref().map(|line| format!(": {line}")).unwrap_or_default()
}

impl Reason for DataError {
    fn exit(&self) -> Exit {
        match self {
            Self::Stopped { .. } => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::NotStarted { program, source } => Some(match source.kind() {
                io::ErrorKind::NotFound => {
                    format!("install {program}, or write its whole path into the stack file; no shell looks for it")
                }
                io::ErrorKind::PermissionDenied => format!("make it executable: chmod +x {program}"),
                // No interpreter line, or for another machine.
                _ => "the stack file wants a program and its arguments, each a text of its own".to_owned(),
            }),
            Self::Nothing { .. } => {
                Some("data is expected on its standard output: see `dump` in docs/services.md".to_owned())
            }
            Self::Unread { .. } => {
                Some("the data there may be half replaced: load again with a program that reads all".to_owned())
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space, or name another place with `--to`".to_owned())
            }
            Self::NoChecksum { path } => {
                let name = path.display();
                Some(format!("if you know that it is whole: sha256sum {name} > {name}.sha256"))
            }
            Self::WrongChecksum { .. } => Some("nothing was replaced; take another dump".to_owned()),
            Self::Ended { .. }
            | Self::Stopped { .. }
            | Self::File { .. }
            | Self::NotAFile { .. }
            | Self::Empty { .. } => None,
        }
    }
}
