//! What the supervisor knows, on disk, so that its successor knows it too: which units are wanted and which processes
//! are theirs.
//!
//! Promise: a process is written down before it becomes a unit's program, so no successor ever starts a second one
//! beside it unknowingly.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sovereign_model::unit::UnitSpec;
use sovereign_model::{Digest, UnitName};

use super::proc::Identity;
use super::shim::Confined;

const FORMAT: u32 = 1;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Content {
    format: u32,
    units: BTreeMap<UnitName, Entry>,
    /// User ids given to units, kept for units that are gone: their files may still be there.
    users: BTreeMap<UnitName, u32>,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) spec: UnitSpec,
    /// Whether it shall run.
    pub(crate) run: bool,
    /// How often the operator asked for a restart.
    pub(crate) round: u64,
    pub(crate) restarts: u32,
    pub(crate) processes: Vec<Recorded>,
}

/// A process of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Recorded {
    pub(crate) identity: Identity,
    pub(crate) digest: Digest,
    pub(crate) round: u64,
    pub(crate) role: Role,
    pub(crate) confined: Option<Confined>,
}

/// What a process is to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// It serves.
    Current,
    /// It shall replace the one that serves, when it is well.
    Incoming,
    /// It was asked to end.
    Leaving,
}

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A newer program wrote it.
    #[error("{} has format {found}; this program knows {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
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
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LedgerError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer sovereign with this stack".to_owned()),
            Self::Malformed { path, .. } => {
                Some(format!("stop what still runs by hand, remove {}, then run `sovereign up`", path.display()))
            }
            Self::Io { .. } => None,
        }
    }
}

/// The ledger of one supervisor.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    content: Content,
}

impl Ledger {
    /// Reads the ledger in `folder`; an empty one when there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, LedgerError> {
        #[derive(Deserialize)]
        struct Preamble {
            format: u32,
        }
        let path = folder.join("units.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let content = Content { format: FORMAT, units: BTreeMap::new(), users: BTreeMap::new() };
                return Ok(Self { path, content });
            }
            Err(source) => return Err(LedgerError::Io { path, source }),
        };
        let malformed = |source| LedgerError::Malformed { path: path.clone(), source };
        let Preamble { format } = serde_json::from_slice(&text).map_err(malformed)?;
        if format > FORMAT {
            return Err(LedgerError::Newer { path, found: format });
        }
        let content = serde_json::from_slice(&text).map_err(malformed)?;
        Ok(Self { path, content })
    }

    /// Changes the ledger, then puts it on disk.
    pub(crate) fn write(&mut self, change: impl FnOnce(&mut BTreeMap<UnitName, Entry>)) -> io::Result<()> {
        change(&mut self.content.units);
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.content).expect("names, paths that are UTF-8 and numbers serialize");
        sovereign_runtime::file::replace(&self.path, &text, 0o600).map_err(|error| error.source)
    }

    pub(crate) fn units(&self) -> &BTreeMap<UnitName, Entry> {
        &self.content.units
    }

    /// The user id of a unit: the one it had, or the first of `candidates` that no other unit has.
    pub(crate) fn user(&mut self, unit: &UnitName, mut candidates: impl Iterator<Item = u32>) -> Option<u32> {
        if let Some(user) = self.content.users.get(unit) {
            return Some(*user);
        }
        let user = candidates.find(|user| !self.content.users.values().any(|taken| taken == user))?;
        self.content.users.insert(unit.clone(), user);
        Some(user)
    }
}
