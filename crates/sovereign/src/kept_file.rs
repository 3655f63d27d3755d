//! Files of the state folder that are never taken for ones that say nothing: JSON, with the number of its format.
//!
//! Promise: the number is read before anything else, so that a file of a newer program is told from a damaged one, whatever
//! else is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Reason;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptFileError {
    #[error("cannot use {path}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot understand {path}", path = .path.display())]
    Malformed { path: PathBuf, source: serde_json::Error, otherwise: Option<&'static str> },
    #[error("{path} is of a newer program", path = .path.display())]
    Newer { path: PathBuf },
}

impl KeptFileError {
    /// With what else the operator can do about a file that is damaged.
    pub(crate) fn or(mut self, what: &'static str) -> Self {
        if let Self::Malformed { otherwise, .. } = &mut self {
            *otherwise = Some(what);
        }
        self
    }
}

impl Reason for KeptFileError {
    fn help(&self) -> Option<String> {
        let restore = "bring it back from the archive: `sovereign restore \"(state)\" --to FOLDER`";
        match self {
            Self::File { .. } => None,
            Self::Malformed { otherwise, .. } => {
                Some(otherwise.map_or_else(|| restore.to_owned(), |otherwise| format!("{restore}; or {otherwise}")))
            }
            Self::Newer { .. } => Some("use the newest `sovereign` that has worked on this stack".to_owned()),
        }
    }
}

/// What is in a file, when it is of no newer format than `newest`; `None` when there is none.
///
/// # Errors
/// When it is there and cannot be used.
pub(crate) fn read<T: DeserializeOwned>(path: PathBuf, newest: u32) -> Result<Option<T>, KeptFileError> {
    #[derive(Deserialize)]
    struct Format {
        version: u32,
    }

    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeptFileError::File { path, source }),
        Ok(text) => text,
    };
    let malformed = |source| KeptFileError::Malformed { path: path.clone(), source, otherwise: None };
    let Format { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version > newest {
        return Err(KeptFileError::Newer { path });
    }
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

/// Writes a file, for its owner alone: it holds what it held before, or all of this.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> Result<(), KeptFileError> {
    let failed = |source| KeptFileError::File { path: path.to_owned(), source };
    let text = serde_json::to_vec_pretty(content).map_err(|error| failed(io::Error::other(error)))?;
    sovereign_runtime::file::replace(path, &text, 0o600).map_err(|error| failed(error.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Kept {
        version: u32,
        sites: Vec<String>,
    }

    #[test]
    fn a_file_is_there_and_understood_or_it_is_said_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.json");
        let look = || read::<Kept>(path.clone(), 2);
        assert_eq!(look().unwrap(), None);
        let kept = Kept { version: 1, sites: vec!["blog".to_owned()] };
        write(&path, &kept).unwrap();
        assert_eq!(look().unwrap(), Some(kept));
        // Whatever else a newer program has put in.
        fs::write(&path, r#"{"version": 3, "sites": [], "more": true}"#).unwrap();
        assert!(matches!(look(), Err(KeptFileError::Newer { .. })));
        for bad in ["", "{}", "[]", r#"{"version": 2}"#, r#"{"version": 2, "sites": [], "more": true}"#] {
            fs::write(&path, bad).unwrap();
            let error = look().unwrap_err().or("remove it");
            assert!(matches!(error, KeptFileError::Malformed { .. }), "{bad}: {error}");
            assert!(error.help().unwrap().ends_with("; or remove it"));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(look(), Err(KeptFileError::File { .. })));
    }
}
