//! What opens an archive: a password, and the key that it led to the last time.
//!
//! The key that encrypts a password's copy of the archive's own key is made by scrypt, as restic has it: half a second and
//! 128 MB, each time, to make guessing dear. So the archive's own key can be remembered in a file beside the other working
//! keys; with which password it was found is written there too, and for another password it is not used. No new secret
//! comes into being: where that file is, the password is. A password that nobody can guess needs no such price: for one
//! that is remembered scrypt takes an eighth.

use std::fs;
use std::path::{Path, PathBuf};

use rustic_core::repofile::{KeyFile, MasterKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{ArchiveError, To as _};
use crate::seal::Sealer;

/// What scrypt works through for a password that somebody may guess, in kilobytes: what the library takes.
const DEAR: u32 = 1 << 17;
/// And for one that nobody can.
const CHEAP: u32 = 1 << 14;

/// The format of the file.
const VERSION: u32 = 1;

/// The password of an archive, as restic asks for it.
#[derive(Clone)]
pub struct Password {
    text: Zeroizing<String>,
    remembered: Option<PathBuf>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    version: u32,
    /// The SHA-256 of the password, in hex: a password that was derived cannot be guessed from it.
    found_with: String,
    key: MasterKey,
}

impl Password {
    /// A password.
    pub fn new(text: String) -> Self {
        Self { text: Zeroizing::new(text), remembered: None }
    }

    /// The same; the key it leads to is kept in `file`, readable by its owner only. Only for a password that nobody can
    /// guess.
    #[must_use]
    pub fn remembered_in(self, file: PathBuf) -> Self {
        Self { remembered: Some(file), ..self }
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// A file of keys with the archive's own key, as this password opens it.
    pub(crate) fn copy_of(&self, key: &MasterKey) -> Result<Vec<u8>, ArchiveError> {
        const ACTION: &str = "write down the archive's key";
        let failed = |why: String| ArchiveError::Repository { action: ACTION, why };
        let mut salt = vec![0; 64];
        getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
        let mut file = KeyFile {
            hostname: None,
            username: None,
            created: None,
            kdf: "scrypt".to_owned(),
            n: if self.remembered.is_some() { CHEAP } else { DEAR },
            r: 8,
            p: 1,
            data: Vec::new(),
            salt,
        };
        let mut wrapping = MasterKey::new();
        (wrapping.encrypt, wrapping.mac.k, wrapping.mac.r) = file.kdf_key(&self.expose()).to(ACTION)?.to_keys();
        let text = serde_json::to_vec(key).map(Zeroizing::new).map_err(|error| failed(error.to_string()))?;
        Sealer::new(&wrapping)?.plain(&text, &mut file.data)?;
        serde_json::to_vec(&file).map_err(|error| failed(error.to_string()))
    }

    fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.text.as_bytes()))
    }

    /// The key that was found with this password. What cannot be read or understood was never there.
    pub(crate) fn recall(&self) -> Option<MasterKey> {
        let text = Zeroizing::new(fs::read(self.remembered.as_ref()?).ok()?);
        let Remembered { version, found_with, key } = serde_json::from_slice(&text).ok()?;
        (version == VERSION && found_with == self.digest()).then_some(key)
    }

    /// Keeps the key for the next time.
    pub(crate) fn remember(&self, key: &MasterKey) {
        let Some(file) = &self.remembered else { return };
        let remembered = Remembered { version: VERSION, found_with: self.digest(), key: key.clone() };
        let Ok(text) = serde_json::to_vec(&remembered).map(Zeroizing::new) else { return };
        let is_there = file.parent().is_some_and(Path::is_dir);
        if is_there {
            let _ = sovereign_runtime::file::replace(file, &text, 0o600); // more time the next time
        }
    }
}
