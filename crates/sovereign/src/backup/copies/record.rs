//! What is known of the copies without looking at them: the file `archive/copies.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sovereign_model::CopyName;
use sovereign_model::layout::StateFolder;

use crate::backup::BackupError;

/// The format of the file.
const VERSION: u32 = 1;

/// What is known of one copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Where it was then; it is another one when the stack file says another place.
    pub(crate) at: String,
    /// When it was brought in step last.
    #[serde(default)]
    pub(crate) in_step_unix: Option<u64>,
    /// The snapshots that it had then.
    #[serde(default)]
    pub(crate) snapshots: Vec<String>,
    /// When it was looked at last and all was there.
    #[serde(default)]
    pub(crate) checked_unix: Option<u64>,
    /// When all of it was read last and was what it should be.
    #[serde(default)]
    pub(crate) read_unix: Option<u64>,
    /// What the last attempt failed with; nothing when it did not, or when a disk was not plugged in.
    #[serde(default)]
    pub(crate) trouble: Option<Trouble>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// When.
    pub(crate) unix: u64,
    /// What.
    pub(crate) message: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copies {
    version: u32,
    /// By name.
    pub(crate) copies: BTreeMap<CopyName, Known>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { version: VERSION, copies: BTreeMap::new() }
    }
}

impl Copies {
    /// What is known; nothing when there is no file, or one that nobody understands.
    pub(crate) fn read(state: &StateFolder) -> Self {
        let read = std::fs::read(path(state)).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        read.filter(|copies| copies.version == VERSION).unwrap_or_default()
    }

    /// What is known of a copy, if it is the one at this place.
    pub(crate) fn of(&self, name: &CopyName, at: &str) -> Option<&Known> {
        self.copies.get(name).filter(|known| known.at == at)
    }

    /// Changes what is known of the copy at this place.
    pub(super) fn note(
        state: &StateFolder,
        name: &CopyName,
        at: &str,
        change: impl FnOnce(&mut Known),
    ) -> Result<(), BackupError> {
        let path = path(state);
        let failed = |source| BackupError::File { path: path.clone(), source };
        let mut all = Self::read(state);
        let mut known = all.of(name, at).cloned().unwrap_or_default();
        at.clone_into(&mut known.at);
        change(&mut known);
        all.copies.insert(name.clone(), known);
        let text = serde_json::to_vec_pretty(&all).map_err(|error| failed(io::Error::other(error)))?;
        sovereign_runtime::file::replace(&path, &text, 0o600).map_err(|error| failed(error.source))
    }
}

fn path(state: &StateFolder) -> PathBuf {
    state.archive().join("copies.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known_of_that_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path());
        let name: CopyName = "nas".parse().unwrap();
        assert_eq!(Copies::read(&state).copies.len(), 0);
        Copies::note(&state, &name, "/a", |known| known.in_step_unix = Some(7)).unwrap_err();
        std::fs::create_dir(state.archive()).unwrap();
        Copies::note(&state, &name, "/a", |known| known.in_step_unix = Some(7)).unwrap();
        Copies::note(&state, &name, "/a", |known| known.checked_unix = Some(8)).unwrap();
        let known = Copies::read(&state);
        let at_a = known.of(&name, "/a").unwrap();
        assert_eq!((at_a.in_step_unix, at_a.checked_unix), (Some(7), Some(8)));
        assert_eq!(known.of(&name, "/b"), None);
        Copies::note(&state, &name, "/b", |known| known.checked_unix = Some(9)).unwrap();
        assert_eq!(Copies::read(&state).of(&name, "/b").unwrap().in_step_unix, None, "it is another one");
        std::fs::write(path(&state), "{\"version\":2,\"copies\":{}}").unwrap();
        assert_eq!(Copies::read(&state).copies.len(), 0);
    }
}
