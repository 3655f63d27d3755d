//! What is remembered of a site between runs: that it was set up, with what, and Ghost's keys for us.
//!
//! The file lies beside the application's folder, not in it: the application must not rewrite it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sovereign_model::layout::StateFolder;
use sovereign_model::{Digest, EdgeName, SiteName};
use sovereign_services::ghost::{Keys, SetUp, Webhooks};
use sovereign_services::secret::Secret;

/// What is remembered of a site cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not of our making, or of a newer program's.
    #[error("cannot understand {path}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RecordError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Malformed { path, .. } => {
                Some(format!("move {} away and run `sovereign up` again; it is written anew", path.display()))
            }
            Self::File { source, .. } => crate::file::help(source),
        }
    }
}

/// The format of the file.
const VERSION: u32 = 1;

/// A site that was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    /// The digest of the settings that were applied last.
    pub(crate) settings: Option<Digest>,
    /// The digest of where and how its webhooks were registered.
    pub(crate) webhooks: Digest,
    /// The keys Ghost made for us.
    keys: Keys,
    /// What readers of a private site have to know, as Ghost has it.
    reader_password: Option<Secret>,
    /// What its owner logs in with: made from the name that the site had then, or whatever the owner has put since.
    #[serde(default)]
    owner_email: Option<String>,
}

impl Record {
    pub(crate) fn new(webhooks: &Webhooks, done: SetUp, settings: Option<Digest>) -> Self {
        let SetUp { keys, reader_password, owner_email, .. } = done;
        let owner_email = Some(owner_email);
        Self { version: VERSION, settings, webhooks: digest_of(webhooks), keys, reader_password, owner_email }
    }

    pub(crate) fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RecordError::Malformed { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError::File { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_vec_pretty(self).expect("digests and texts serialize to JSON");
        if let Some(folder) = path.parent() {
            let failed = |source| RecordError::File { path: folder.to_owned(), source };
            crate::file::private_folder(folder).map_err(failed)?;
        }
        sovereign_runtime::file::replace(path, &text, 0o600)
            .map_err(|error| RecordError::File { path: path.to_owned(), source: error.source })
    }
}

/// The password that readers of a private site need; `None` when it is open to all or was never set up.
///
/// # Errors
/// When the record of the site cannot be read.
pub fn reader_password(state: &StateFolder, at: &EdgeName, site: &SiteName) -> Result<Option<Secret>, RecordError> {
    Ok(Record::read(&state.set_up(at, site))?.and_then(|record| record.reader_password))
}

/// What the owner of a site logs in with, as it was seen last; `None` when the site was never set up.
///
/// # Errors
/// When the record of the site cannot be read.
pub fn owner_email(state: &StateFolder, at: &EdgeName, site: &SiteName) -> Result<Option<String>, RecordError> {
    Ok(Record::read(&state.set_up(at, site))?.and_then(|record| record.owner_email))
}

/// What changes when the address or the key of webhooks does. One way: the key cannot be told from it.
pub(crate) fn digest_of(webhooks: &Webhooks) -> Digest {
    Digest::of(format!("{}\n{}", webhooks.target, webhooks.key.expose()))
}

/// The mark that says that a mirror was complete once.
pub(crate) fn filled(state: &StateFolder, edge: &EdgeName, site: &SiteName) -> PathBuf {
    let folder = match &edge.host {
        None => state.edge(&edge.datacenter).path().to_owned(),
        Some(host) => state.host(&edge.datacenter, host),
    };
    folder.join("filled").join(site.as_str())
}
