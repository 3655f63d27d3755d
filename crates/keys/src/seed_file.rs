//! `seed/root.json`: the root seed on the management machine, encrypted to a passphrase when one was given.
//!
//! The file also carries the seed's fingerprint, so that words can be checked against it without the passphrase. It
//! belongs to one stack: what is encrypted is bound to the stack's name and the format's version.

use std::fmt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Tag};
use serde::{Deserialize, Serialize};
use sovereign_model::StackName;
use zeroize::{Zeroize, Zeroizing};

use crate::derive::Fingerprint;
use crate::file::{self, Existing, FileError};
use crate::secret::Passphrase;
use crate::seed::RootSeed;
use crate::words::WordsError;

/// The format of `root.json`.
const VERSION: u32 = 1;

/// Argon2id as RFC 9106 section 4 recommends it where memory is short: 64 MiB, three passes. About a third of a second
/// for each guess on a small machine.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;

/// A file that asks for more was not written by us, and must not be able to exhaust the machine.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;

/// The root seed could not be kept, or not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file could not be read or written.
    #[error("the root seed is not accessible")]
    File(#[source] FileError),
    /// There is no root seed yet.
    #[error("there is no root seed at {}", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is one already, and it is another one.
    #[error("another root seed is already at {}", path.display())]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// The file belongs to another stack.
    #[error("the root seed at {} belongs to the stack {found}", path.display())]
    OtherStack {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: StackName,
    },
    /// The passphrase could not be had.
    #[error("the root seed is encrypted, and its passphrase cannot be had")]
    NoPassphrase(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The passphrase is not the one, or the file was changed.
    #[error("the passphrase does not open the root seed at {}", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The words are not a root seed.
    #[error("the words are not a root seed")]
    Words(#[source] WordsError),
}

impl SeedError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::File(error) => error.help(),
            Self::Missing { .. } => {
                Some("`sovereign up` makes one; `sovereign seed restore` brings one back from its 24 words".into())
            }
            Self::Exists { path } => Some(format!(
                "every secret of the stack comes from it: write its words down (`sovereign seed show`), then move {} away",
                path.display()
            )),
            Self::OtherStack { .. } => Some("each stack has a root seed and a state folder of its own".into()),
            Self::NoPassphrase(_) => {
                Some("run in a terminal to be asked, or name a file with SOVEREIGN_PASSPHRASE_FILE".into())
            }
            Self::WrongPassphrase { .. } => {
                Some("without the passphrase, `sovereign seed restore` brings the seed back from its 24 words".into())
            }
            Self::Words(error) => error.help(),
        }
    }
}

impl From<WordsError> for SeedError {
    fn from(error: WordsError) -> Self {
        Self::Words(error)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    stack: StackName,
    fingerprint: Fingerprint,
    seed: Kept,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Kept {
    /// 64 hex digits.
    Plain { entropy: WipedText },
    /// ChaCha20-Poly1305 (RFC 8439) under an Argon2id key (RFC 9106). The tag is the last 16 bytes.
    Encrypted { argon2id: Stretch, nonce: String, ciphertext: String },
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct WipedText(String);

impl Drop for WipedText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stretch {
    memory_kib: u32,
    passes: u32,
    salt: String,
}

/// The place of a stack's root seed.
#[derive(Debug, Clone)]
pub struct SeedFile {
    path: PathBuf,
    stack: StackName,
}

impl SeedFile {
    /// `root.json` in `folder`, for `stack`. Touches nothing.
    pub fn at(folder: &Path, stack: StackName) -> Self {
        Self { path: folder.join("root.json"), stack }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new seed and keeps it. Never replaces one.
    pub fn create(&self, passphrase: Option<&Passphrase>) -> Result<RootSeed, SeedError> {
        let seed = RootSeed::generate();
        self.keep(&seed, passphrase, Existing::Keep)?;
        Ok(seed)
    }

    /// Keeps a seed that came from its words. A seed that is there already is kept again (with another passphrase, say)
    /// when it is the same one, and never replaced by another.
    pub fn restore(&self, seed: &RootSeed, passphrase: Option<&Passphrase>) -> Result<(), SeedError> {
        match self.open() {
            Err(SeedError::Missing { .. }) => self.keep(seed, passphrase, Existing::Keep),
            Ok(stored) if stored.is(seed) => self.keep(seed, passphrase, Existing::Replace),
            Ok(_) => Err(SeedError::Exists { path: self.path.clone() }),
            Err(error) => Err(error),
        }
    }

    /// Reads the file, without opening what is encrypted in it.
    pub fn open(&self) -> Result<StoredSeed, SeedError> {
        let content: Option<Content> = file::read(&self.path, VERSION).map_err(SeedError::File)?;
        let content = content.ok_or_else(|| SeedError::Missing { path: self.path.clone() })?;
        if content.stack != self.stack {
            return Err(SeedError::OtherStack { path: self.path.clone(), found: content.stack });
        }
        Ok(StoredSeed { path: self.path.clone(), content })
    }

    fn keep(&self, seed: &RootSeed, passphrase: Option<&Passphrase>, existing: Existing) -> Result<(), SeedError> {
        let fingerprint = seed.fingerprint(&self.stack);
        let kept = match passphrase {
            None => Kept::Plain { entropy: WipedText(hex::encode(seed.entropy())) },
            Some(passphrase) => encrypt(seed, passphrase, &bound_to(&self.stack, &fingerprint)),
        };
        let content = Content { version: VERSION, stack: self.stack.clone(), fingerprint, seed: kept };
        file::write(&self.path, &content, existing).map_err(|error| match error {
            FileError::Write { path, source } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                SeedError::Exists { path }
            }
            error => SeedError::File(error),
        })
    }
}

/// A root seed as it lies on disk.
pub struct StoredSeed {
    path: PathBuf,
    content: Content,
}

impl fmt::Debug for StoredSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredSeed({}, {})", self.path.display(), self.content.fingerprint)
    }
}

impl StoredSeed {
    /// Whether a passphrase is needed to unlock it.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.content.seed, Kept::Encrypted { .. })
    }

    /// The seed's public name.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.content.fingerprint
    }

    /// Whether it is this seed: how words are checked, without the passphrase.
    pub fn is(&self, seed: &RootSeed) -> bool {
        seed.fingerprint(&self.content.stack) == self.content.fingerprint
    }

    /// The seed itself. `passphrase` is asked only when it is needed.
    pub fn unlock<E>(&self, passphrase: impl FnOnce() -> Result<Passphrase, E>) -> Result<RootSeed, SeedError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let malformed = || SeedError::File(FileError::malformed(&self.path));
        let mut entropy = Zeroizing::new([0; 32]);
        match &self.content.seed {
            Kept::Plain { entropy: text } => {
                hex::decode_to_slice(&text.0, &mut *entropy).map_err(|_| malformed())?;
            }
            Kept::Encrypted { argon2id, nonce, ciphertext } => {
                let (mut raw_nonce, mut sealed) = ([0; 12], [0; 48]);
                hex::decode_to_slice(nonce, &mut raw_nonce).map_err(|_| malformed())?;
                hex::decode_to_slice(ciphertext, &mut sealed).map_err(|_| malformed())?;
                if argon2id.memory_kib > MOST_MEMORY_KIB || argon2id.passes > MOST_PASSES {
                    return Err(malformed());
                }
                let salt = hex::decode(&argon2id.salt).map_err(|_| malformed())?;
                let passphrase = passphrase().map_err(|error| SeedError::NoPassphrase(error.into()))?;
                let cipher = cipher(&passphrase, &salt, argon2id.memory_kib, argon2id.passes).ok_or_else(malformed)?;
                entropy.copy_from_slice(&sealed[..32]);
                let bound = bound_to(&self.content.stack, &self.content.fingerprint);
                cipher
                    .decrypt_in_place_detached(&raw_nonce.into(), &bound, &mut *entropy, Tag::from_slice(&sealed[32..]))
                    .map_err(|_| SeedError::WrongPassphrase { path: self.path.clone() })?;
            }
        }
        let seed = RootSeed::from_entropy(entropy);
        if self.is(&seed) { Ok(seed) } else { Err(malformed()) }
    }
}

/// What the ciphertext is bound to, so that it opens in no other place.
fn bound_to(stack: &StackName, fingerprint: &Fingerprint) -> Vec<u8> {
    format!("sovereign-stack root seed {VERSION} / {stack} / {fingerprint}").into_bytes()
}

fn encrypt(seed: &RootSeed, passphrase: &Passphrase, bound: &[u8]) -> Kept {
    let (mut salt, mut nonce) = ([0; 16], [0; 12]);
    getrandom::fill(&mut salt).expect("Linux gives random numbers once it has booted");
    getrandom::fill(&mut nonce).expect("Linux gives random numbers once it has booted");
    let cipher = cipher(passphrase, &salt, MEMORY_KIB, PASSES).expect("our own parameters are valid");
    let mut sealed = seed.entropy().to_vec();
    let tag = cipher.encrypt_in_place_detached(&nonce.into(), bound, &mut sealed).expect("32 bytes are not too many");
    sealed.extend_from_slice(&tag);
    Kept::Encrypted {
        argon2id: Stretch { memory_kib: MEMORY_KIB, passes: PASSES, salt: hex::encode(salt) },
        nonce: hex::encode(nonce),
        ciphertext: hex::encode(sealed),
    }
}

/// `None` when the parameters are outside of what Argon2 allows.
fn cipher(passphrase: &Passphrase, salt: &[u8], memory_kib: u32, passes: u32) -> Option<ChaCha20Poly1305> {
    let params = Params::new(memory_kib, passes, 1, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.bytes(), salt, &mut *key)
        .ok()?;
    Some(ChaCha20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs;

    use super::*;

    fn place() -> (tempfile::TempDir, SeedFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = SeedFile::at(&folder.path().join("seed"), "shop".parse().unwrap());
        (folder, file)
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    fn never_asked() -> Result<Passphrase, Infallible> {
        panic!("no passphrase is needed")
    }

    #[test]
    fn a_plain_seed_comes_back_and_is_never_replaced() {
        let (_folder, file) = place();
        assert!(matches!(file.open(), Err(SeedError::Missing { .. })));
        let seed = file.create(None).unwrap();
        assert!(matches!(file.create(None), Err(SeedError::Exists { .. })));
        let stored = file.open().unwrap();
        assert!(!stored.is_encrypted() && stored.is(&seed));
        assert_eq!(stored.unlock(never_asked).unwrap().entropy(), seed.entropy());
    }

    #[test]
    fn an_encrypted_seed_opens_with_its_passphrase_only() {
        let (_folder, file) = place();
        let seed = file.create(Some(&passphrase("right"))).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(&hex::encode(seed.entropy())), "the seed does not lie there in the open");

        let stored = file.open().unwrap();
        assert!(stored.is_encrypted() && stored.is(&seed) && !stored.is(&RootSeed::generate()));
        let opened = stored.unlock(|| Ok::<_, Infallible>(passphrase("right"))).unwrap();
        assert_eq!(opened.entropy(), seed.entropy());
        let wrong = stored.unlock(|| Ok::<_, Infallible>(passphrase("wrong"))).unwrap_err();
        assert!(matches!(wrong, SeedError::WrongPassphrase { .. }), "{wrong:?}");
        let unasked = stored.unlock(|| Err::<Passphrase, _>("no terminal")).unwrap_err();
        assert!(matches!(unasked, SeedError::NoPassphrase(_)), "{unasked:?}");
    }

    #[test]
    fn what_the_seed_is_bound_to_cannot_be_changed() {
        let (_folder, file) = place();
        let seed = file.create(Some(&passphrase("right"))).unwrap();
        let fingerprint = seed.fingerprint(&"shop".parse().unwrap()).to_string();
        let text = fs::read_to_string(file.path()).unwrap().replace(&fingerprint, &"0".repeat(32));
        fs::write(file.path(), text).unwrap();
        let error = file.open().unwrap().unlock(|| Ok::<_, Infallible>(passphrase("right"))).unwrap_err();
        assert!(matches!(error, SeedError::WrongPassphrase { .. }), "{error:?}");
    }

    #[test]
    fn restoring_changes_the_passphrase_but_not_the_seed() {
        let (_folder, file) = place();
        let seed = RootSeed::generate();
        file.restore(&seed, Some(&passphrase("old"))).unwrap();
        file.restore(&seed, None).unwrap();
        assert_eq!(file.open().unwrap().unlock(never_asked).unwrap().entropy(), seed.entropy());
        let other = file.restore(&RootSeed::generate(), None).unwrap_err();
        assert!(matches!(other, SeedError::Exists { .. }), "{other:?}");
    }

    #[test]
    fn files_that_are_not_ours_are_refused() {
        let (folder, file) = place();
        file.create(None).unwrap();
        let other = SeedFile::at(&folder.path().join("seed"), "blog".parse().unwrap());
        assert!(matches!(other.open(), Err(SeedError::OtherStack { .. })));

        let hungry = r#"{"version":1,"stack":"shop","fingerprint":"00","seed":{"encrypted":{"argon2id":
            {"memory-kib":4294967295,"passes":1,"salt":"00000000000000000000000000000000"},
            "nonce":"000000000000000000000000","ciphertext":"CIPHER"}}}"#;
        fs::write(file.path(), hungry.replace("CIPHER", &"0".repeat(96))).unwrap();
        let error = file.open().unwrap().unlock(never_asked).unwrap_err();
        assert!(matches!(error, SeedError::File(FileError::Malformed { .. })), "{error:?}");
    }
}
