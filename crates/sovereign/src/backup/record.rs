//! What is known of the archive without opening it: for each subject, what was proven last.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use sovereign_archive::Subject;
use sovereign_model::layout::StateFolder;

use super::BackupError;

/// The format of the file.
const VERSION: u32 = 1;

/// A snapshot that was restored, as far as it was new, and found to be what had been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// Which.
    pub(crate) snapshot: String,
    /// When it was made.
    pub(crate) taken_unix: i64,
    /// When it was proven; later than that when nothing had changed since.
    pub(crate) verified_unix: u64,
    /// How many files were restored and compared.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What a look into the database said.
    #[serde(default)]
    pub(crate) examined: Option<String>,
    /// When all of the newest snapshot was restored and compared last, not only what was new.
    #[serde(default)]
    pub(crate) whole_unix: Option<u64>,
}

/// The file `archive/verified.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// By subject.
    pub(crate) proofs: BTreeMap<String, Proof>,
    /// By subject, what went wrong since the last proof.
    #[serde(default)]
    pub(crate) failures: BTreeMap<String, Trouble>,
}

/// A backup or a proof that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// The first time since it last went well.
    pub(crate) since_unix: u64,
    /// What was said the last time.
    pub(crate) message: String,
    /// And what to do.
    #[serde(default)]
    pub(crate) help: Option<String>,
}

impl Default for Record {
    fn default() -> Self {
        Self { version: VERSION, proofs: BTreeMap::new(), failures: BTreeMap::new() }
    }
}

impl Record {
    /// What is known; nothing when there is no file, or one that nobody understands: it is made anew then.
    pub(crate) fn read(state: &StateFolder) -> Self {
        let read = std::fs::read(Self::path(state)).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        read.filter(|record| record.version == VERSION).unwrap_or_default()
    }

    /// The snapshot of a subject that was proven last.
    pub(crate) fn proven(&self, subject: &Subject) -> Option<&str> {
        self.proofs.get(&subject.to_string()).map(|proof| proof.snapshot.as_str())
    }

    /// Adds a proof: all is well again.
    pub(crate) fn note(state: &StateFolder, subject: &Subject, proof: Proof) -> Result<(), BackupError> {
        let mut record = Self::read(state);
        record.failures.remove(&subject.to_string());
        record.proofs.insert(subject.to_string(), proof);
        record.write(state)
    }

    /// Adds what went wrong.
    pub(super) fn note_failure(state: &StateFolder, subject: &Subject, now: Trouble) -> Result<(), BackupError> {
        let mut record = Self::read(state);
        let since = record.failures.remove(&subject.to_string()).map_or(now.since_unix, |before| before.since_unix);
        record.failures.insert(subject.to_string(), Trouble { since_unix: since, ..now });
        record.write(state)
    }

    fn write(&self, state: &StateFolder) -> Result<(), BackupError> {
        let path = Self::path(state);
        let failed = |source| BackupError::File { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        sovereign_runtime::file::replace(&path, &text, 0o600).map_err(|error| failed(error.source))
    }

    fn path(state: &StateFolder) -> std::path::PathBuf {
        state.archive().join("verified.json")
    }
}
