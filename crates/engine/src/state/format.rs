//! `state.json`: which format the folder has, and whose it is.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sovereign_model::StackName;
use sovereign_model::layout::StateFolder;

/// The format this program writes. It reads this one and those before it.
pub const FORMAT: u32 = 1;

/// What `state.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format of the whole folder.
    pub format: u32,
    /// Whose state this is.
    pub stack: StackName,
    /// The version of the program that wrote it last.
    pub written_by: String,
}

/// Read before anything else, so that a newer format is recognised whatever else changed in it.
#[derive(Deserialize)]
struct Preamble {
    format: u32,
    written_by: Option<String>,
}

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A newer program wrote it.
    #[error("{} has format {found}; this program knows up to {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The version of the program that wrote it.
        written_by: Option<String>,
    },
    /// It belongs to another stack.
    #[error("{} belongs to the stack {found}, not {expected}", path.display())]
    OtherStack {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: StackName,
        /// Whose it should be.
        expected: StackName,
    },
    /// It is not what this program writes.
    #[error("cannot understand {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { written_by, .. } => Some(match written_by {
                Some(version) => format!("use sovereign {version} or newer with this stack"),
                None => "use a newer sovereign with this stack".to_owned(),
            }),
            Self::OtherStack { .. } => Some("give each stack a state folder of its own".to_owned()),
            Self::Malformed { .. } => Some("bring the file back from a backup of the state folder".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

/// What `state.json` says, or `None` when there is no state yet.
///
/// # Errors
/// When it cannot be read, or a newer program wrote it.
pub fn read(state: &StateFolder) -> Result<Option<State>, StateError> {
    let path = state.state_file();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { path, source }),
    };
    let malformed = |source| StateError::Malformed { path: path.clone(), source };
    let Preamble { format, written_by } = serde_json::from_slice(&text).map_err(malformed)?;
    if format > FORMAT {
        return Err(StateError::Newer { path, found: format, written_by });
    }
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

/// Makes the folder ready for `stack`, written by program version `version`; does nothing when it already is.
///
/// # Errors
/// When the folder cannot be made or read, is of a newer format, or another stack's.
pub fn prepare(state: &StateFolder, stack: &StackName, version: &str) -> Result<State, StateError> {
    super::create(state).map_err(|source| StateError::Io { path: state.path().to_owned(), source })?;
    let wanted = State { format: FORMAT, stack: stack.clone(), written_by: version.to_owned() };
    match read(state)? {
        Some(found) if found.stack != *stack => {
            Err(StateError::OtherStack { path: state.state_file(), found: found.stack, expected: stack.clone() })
        }
        Some(found) if found == wanted => Ok(found),
        Some(_) | None => {
            let text = serde_json::to_vec_pretty(&wanted).expect("names and numbers serialize");
            let path = state.state_file();
            sovereign_runtime::file::replace(&path, &text, 0o600)
                .map_err(|error| StateError::Io { path, source: error.source })?;
            Ok(wanted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_prepared_once_and_keeps_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().join("s"));
        let mine = "mine".parse().unwrap();
        assert_eq!(read(&state).unwrap(), None);
        let first = prepare(&state, &mine, "0.1.0").unwrap();
        assert_eq!(prepare(&state, &mine, "0.1.0").unwrap(), first);
        let other = prepare(&state, &"other".parse().unwrap(), "0.1.0");
        assert!(matches!(other, Err(StateError::OtherStack { .. })));
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path());
        std::fs::write(state.state_file(), r#"{"format":2,"written_by":"9.0.0","unheard":[1]}"#).unwrap();
        let error = read(&state).unwrap_err();
        assert!(matches!(error, StateError::Newer { found: 2, .. }));
        assert_eq!(error.help().unwrap(), "use sovereign 9.0.0 or newer with this stack");
    }
}
