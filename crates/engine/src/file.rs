//! Folders only their owner can enter, and what is to be done about files.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes `folder` and the missing folders above it, each readable by their owner only.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What the operator can do about what a file system said.
pub(crate) fn help(error: &io::Error) -> Option<String> {
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    is_full.then(|| "free some space; `sovereign up` goes on from here".to_owned())
}
