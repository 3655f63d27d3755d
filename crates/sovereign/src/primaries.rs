//! How often each site has got another primary while its old one did not answer.
//!
//! Edges take the highest number that they have seen, with the operator's signature, for the truth: an old primary that comes
//! back hears it from any of them and takes no more writes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sovereign_model::SiteName;
use sovereign_model::layout::StateFolder;

use crate::failure::{Failure, Reason};

/// The format of the file.
const VERSION: u32 = 1;

/// The number of each site's primary; that of a site which is not named is 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Primaries {
    version: u32,
    epochs: BTreeMap<SiteName, u64>,
}

/// The file cannot be used. It is never taken for one that says nothing: an old primary would be believed again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrimariesError {
    #[error("cannot use {path}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot understand {path}", path = .path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{path} is of a newer program", path = .path.display())]
    Newer { path: PathBuf },
}

impl Reason for PrimariesError {
    fn help(&self) -> Option<String> {
        match self {
            Self::File { .. } => None,
            Self::Malformed { .. } => {
                Some("bring it back from the archive: `sovereign restore \"(state)\" --to FOLDER`".to_owned())
            }
            Self::Newer { .. } => Some("use the newest `sovereign` that has worked on this stack".to_owned()),
        }
    }
}

impl Default for Primaries {
    fn default() -> Self {
        Self { version: VERSION, epochs: BTreeMap::new() }
    }
}

impl Primaries {
    /// What is known; nothing where no site has got another primary so.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub(crate) fn read(state: &StateFolder) -> Result<Self, PrimariesError> {
        let path = state.primaries();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(PrimariesError::File { path, source }),
            Ok(text) => text,
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(read) if read.version <= VERSION => Ok(read),
            Ok(_) => Err(PrimariesError::Newer { path }),
            Err(source) => Err(PrimariesError::Malformed { path, source }),
        }
    }

    /// The numbers, for edges.
    pub(crate) fn epochs(self) -> BTreeMap<SiteName, u64> {
        self.epochs
    }

    /// Writes down that a site has another primary from now on. To be done before any edge hears of it.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(crate) fn raise(state: &StateFolder, site: &SiteName) -> Result<(), Failure> {
        let mut all = Self::read(state)?;
        let epoch = all.epochs.entry(site.clone()).or_insert(1);
        *epoch = epoch.saturating_add(1);
        let path = state.primaries();
        let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
        sovereign_runtime::file::replace(&path, &text, 0o600)
            .map_err(|error| PrimariesError::File { path, source: error.source })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_grows_and_what_is_not_understood_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        let (blog, shop): (SiteName, SiteName) = ("blog".parse().unwrap(), "shop".parse().unwrap());
        assert_eq!(Primaries::read(&state).unwrap().epochs(), BTreeMap::new());
        for _ in 0..2 {
            Primaries::raise(&state, &blog).unwrap();
        }
        Primaries::raise(&state, &shop).unwrap();
        assert_eq!(Primaries::read(&state).unwrap().epochs(), BTreeMap::from([(blog.clone(), 3), (shop, 2)]));
        for bad in ["", "{}", r#"{"version": 2, "epochs": {}}"#] {
            fs::write(state.primaries(), bad).unwrap();
            assert!(Primaries::read(&state).is_err() && Primaries::raise(&state, &blog).is_err(), "{bad}");
        }
    }
}
