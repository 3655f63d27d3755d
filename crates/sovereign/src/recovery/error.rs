//! Why a stack does not come back, and what the operator can do.

use std::io;
use std::path::{Path, PathBuf};

use sovereign_model::StackName;
use sovereign_model::archive_copy::SftpAddress;

use crate::exit::Exit;
use crate::failure::Reason;

/// Why nothing, or not all, comes back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("nothing in {} says which stack's archive it is", .folder.display())]
    NoName { folder: PathBuf },
    #[error("nobody is let in at {address} before the stack's name is known")]
    NameFirst { address: SftpAddress },
    #[error("there is no archive in {place}")]
    NoArchive { place: String },
    #[error("these are 24 good words, but as those of stack {stack} they do not open the archive in {}", .folder.display())]
    OtherWords { stack: StackName, folder: PathBuf },
    #[error("the archive in {} has no snapshot of a stack's state that can be read", .folder.display())]
    NoState { folder: PathBuf },
    #[error("the archive's stack file is that of stack {found}, not of {expected}")]
    OtherStack { found: StackName, expected: StackName },
    #[error("there is another stack file already: {}", .path.display())]
    StackFileThere { path: PathBuf },
    #[error("the stack file in the archive has problems: {0}")]
    BadStackFile(String),
    #[error("cannot {action} {}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

impl Reason for RecoverError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoName { .. } | Self::NameFirst { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoName { .. } | Self::NameFirst { .. } => {
                "say it with `--name`: every secret follows from the words and the stack's name".to_owned()
            }
            Self::OtherWords { stack, .. } => format!(
                "are they this stack's, and is {stack} its name (`--name`)? `sovereign seed show` printed them once"
            ),
            Self::NoArchive { .. } => "the folder with `config`, `data` and `keys` in it is the archive".to_owned(),
            Self::NoState { .. } => "is it the right folder? `restic` lists what is in it: docs/archive.md".to_owned(),
            Self::OtherStack { found, .. } => format!("`--name {found}`"),
            Self::StackFileThere { path } => format!(
                "nothing is written over it: move {} away, or name another place with `--stack FILE`",
                path.display()
            ),
            Self::BadStackFile(_) => "a newer `sovereign` may have written it: use that one".to_owned(),
            Self::File { .. } => return None,
        })
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoverError {
    let path = path.to_owned();
    move |source| RecoverError::File { action, path, source }
}
