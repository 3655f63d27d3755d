//! Which archive a stack uses: its id, written down where the stack's state is.
//!
//! A disk that is not mounted leaves an empty folder behind, and in an empty folder a new archive is made. So what was
//! used once is known from then on, and nothing else is taken for it. Whoever wants another one removes the file.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ArchiveError;

/// The format of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Known {
    version: u32,
    /// As it stands in the repository's configuration: 64 hex digits.
    id: String,
}

/// The id in `file`; `None` when no archive was used yet.
///
/// # Errors
/// When there is a file and it cannot be understood. It is not passed over: that would be the new archive again.
pub(crate) fn read(file: &Path) -> Result<Option<String>, ArchiveError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ArchiveError::file("read", file)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(Known { version: VERSION, id }) => Ok(Some(id)),
        _ => Err(ArchiveError::Senseless { known: file.to_owned() }),
    }
}

/// Writes it down.
pub(crate) fn note(file: &Path, id: &str) -> Result<(), ArchiveError> {
    if let Some(folder) = file.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(ArchiveError::file("make", folder))?;
    }
    let known = Known { version: VERSION, id: id.to_owned() };
    let failed = |source| ArchiveError::File { action: "write", path: file.to_owned(), source };
    let text = serde_json::to_vec_pretty(&known).map_err(|error| failed(io::Error::other(error)))?;
    sovereign_runtime::file::replace(file, &text, 0o600).map_err(|error| failed(error.source))
}
