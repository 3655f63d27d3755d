//! What this engine remembers of a site between runs: that it was set up, with what, and Ghost's keys for us.
//!
//! The file lies beside the application's folder, not in it: the application must not rewrite it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sovereign_model::layout::StateFolder;
use sovereign_model::{DatacenterName, Digest, SiteName};
use sovereign_services::ghost::{Keys, SetUp, Webhooks};
use sovereign_services::secret::Secret;

use super::EmbeddedError;

/// The format of the file.
const VERSION: u32 = 1;

/// A site that was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    /// The digest of the settings that were applied last.
    pub(super) settings: Option<Digest>,
    /// The digest of where and how its webhooks were registered.
    pub(super) webhooks: Digest,
    /// The keys Ghost made for us.
    keys: Keys,
    /// What readers of a private site have to know, as Ghost has it.
    reader_password: Option<Secret>,
}

impl Record {
    pub(super) fn new(webhooks: &Webhooks, done: SetUp, settings: Option<Digest>) -> Self {
        let SetUp { keys, reader_password, .. } = done;
        Self { version: VERSION, settings, webhooks: digest_of(webhooks), keys, reader_password }
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, EmbeddedError> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| EmbeddedError::Malformed { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(EmbeddedError::File { path: path.to_owned(), source }),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), EmbeddedError> {
        let text = serde_json::to_vec_pretty(self).expect("digests and texts serialize to JSON");
        if let Some(folder) = path.parent() {
            crate::file::private_folder(folder).map_err(EmbeddedError::file(folder))?;
        }
        sovereign_runtime::file::replace(path, &text, 0o600)
            .map_err(|error| EmbeddedError::File { path: path.to_owned(), source: error.source })
    }
}

/// The password that readers of a private site need; `None` when it is open to all or was never set up.
///
/// # Errors
/// When the record of the site cannot be read.
pub fn reader_password(
    state: &StateFolder,
    datacenter: &DatacenterName,
    site: &SiteName,
) -> Result<Option<Secret>, EmbeddedError> {
    Ok(Record::read(&path(state, datacenter, site))?.and_then(|record| record.reader_password))
}

/// What changes when the address or the key of webhooks does. One way: the key cannot be told from it.
pub(super) fn digest_of(webhooks: &Webhooks) -> Digest {
    Digest::of(format!("{}\n{}", webhooks.target, webhooks.key.expose()))
}

/// Where a site's record lies.
pub(super) fn path(state: &StateFolder, datacenter: &DatacenterName, site: &SiteName) -> PathBuf {
    state.set_up(datacenter, site)
}

/// The mark that says that a mirror was complete once.
pub(super) fn filled(state: &StateFolder, datacenter: &DatacenterName, site: &SiteName) -> PathBuf {
    state.edge(datacenter).path().join("filled").join(site.as_str())
}
