//! Working keys: the derived secrets that daily work needs, kept so that nobody is asked for the words or the
//! passphrase every day.
//!
//! One file per purpose, `keys/<purpose>.json` (a `/` becomes a `.`), mode 0600. Each says whose it is (stack, seed,
//! epoch). One that is missing, or belongs to another seed or epoch, is derived again: that is all there is to rotation
//! and to recovery. One that is not exchanged at once has its successor beside it, `keys/coming.<purpose>.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sovereign_model::secondary::Secondary;
use sovereign_model::{DnsName, EdgeName, SiteName, StackName};
use zeroize::{Zeroize as _, Zeroizing};

use crate::ca::{Ca, CaError};
use crate::derive::{DerivedSecret, Fingerprint};
use crate::file::{self, Existing, FileError};
use crate::purpose::{Epochs, Purpose};
use crate::secret::SecretText;
use crate::seed::RootSeed;
use crate::seed_file::SeedError;
use crate::transfer_key::TransferKey;
use crate::typed::{self, LinkKey, SshKey};
use crate::zone_key::ZoneKey;

/// The format of a working key's file.
const VERSION: u32 = 1;

/// A working key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Its file could not be read or written.
    #[error("the working key for {purpose} is not accessible")]
    File {
        /// Which key.
        purpose: Purpose,
        /// Why.
        source: FileError,
    },
    /// Working keys are missing, and the root seed that would give them is not to be had.
    #[error("{} working keys have to be derived from the root seed", missing.len())]
    Seed {
        /// Which.
        missing: Vec<Purpose>,
        /// Why the seed is not there.
        source: SeedError,
    },
    /// The root seed is not the one that the stack uses.
    #[error("the root seed has the fingerprint {found}, the stack uses {expected}")]
    OtherSeed {
        /// The stack's.
        expected: Fingerprint,
        /// The one that was offered.
        found: Fingerprint,
    },
    /// Nobody asked for this key when the working keys were made ready.
    #[error("the working key for {purpose} was not made ready")]
    NotReady {
        /// Which key.
        purpose: Purpose,
    },
    /// The certificate authority cannot be made from its key.
    #[error("the internal CA cannot be made")]
    Ca(#[source] CaError),
}

impl KeysError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::File { source: FileError::Malformed { path, .. }, .. } => {
                Some(format!("remove {}: the key is derived again from the root seed", path.display()))
            }
            Self::File { source, .. } => source.help(),
            Self::Seed { source, .. } => source.help(),
            Self::OtherSeed { .. } => Some("bring the stack's own words: `sovereign seed restore`".into()),
            Self::NotReady { .. } => Some("`sovereign up` makes the keys of everything in the stack file".into()),
            Self::Ca(_) => None,
        }
    }
}

/// Whose keys they are: a stack, and the seed it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The stack.
    pub stack: StackName,
    /// Its root seed's public name.
    pub seed: Fingerprint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    stack: StackName,
    seed: Fingerprint,
    purpose: Purpose,
    epoch: u32,
    secret: String,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Derived secrets that are ready for use.
pub struct WorkingKeys {
    stack: StackName,
    keys: BTreeMap<Purpose, (u32, DerivedSecret)>,
    coming: BTreeMap<Purpose, DerivedSecret>,
}

impl fmt::Debug for WorkingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purposes: Vec<String> =
            self.keys.iter().map(|(purpose, (epoch, _))| format!("{purpose} ({epoch})")).collect();
        write!(f, "WorkingKeys({}: {})", self.stack, purposes.join(", "))
    }
}

impl WorkingKeys {
    /// Reads the working keys for `purposes` from `folder`. Those that are missing or out of date are derived and kept;
    /// only then is `seed` asked for.
    pub fn ensure<'a>(
        folder: &Path,
        owner: &Owner,
        purposes: impl IntoIterator<Item = &'a Purpose>,
        epochs: &Epochs,
        seed: impl FnOnce() -> Result<RootSeed, SeedError>,
    ) -> Result<Self, KeysError> {
        let mut ready = Self { stack: owner.stack.clone(), keys: BTreeMap::new(), coming: BTreeMap::new() };
        let (mut missing, mut missing_coming) = (Vec::new(), Vec::new());
        for purpose in purposes {
            let epoch = epochs.of(purpose);
            match read_current(folder, owner, purpose, epoch)? {
                Some(secret) => drop(ready.keys.insert(purpose.clone(), (epoch, secret))),
                None => missing.push(purpose.clone()),
            }
            let Some(epoch) = epochs.coming(purpose) else { continue };
            match read(&coming_path(folder, purpose), owner, purpose, epoch)? {
                Some(secret) => drop(ready.coming.insert(purpose.clone(), secret)),
                None => missing_coming.push((purpose.clone(), epoch)),
            }
        }
        if missing.is_empty() && missing_coming.is_empty() {
            return Ok(ready);
        }
        let seed = match seed() {
            Ok(seed) => seed,
            Err(source) => {
                missing.extend(missing_coming.into_iter().map(|(purpose, _)| purpose));
                return Err(KeysError::Seed { missing, source });
            }
        };
        let found = seed.fingerprint(&owner.stack);
        if found != owner.seed {
            return Err(KeysError::OtherSeed { expected: owner.seed.clone(), found });
        }
        for purpose in missing {
            let epoch = epochs.of(&purpose);
            let secret = seed.derive(&owner.stack, &purpose, epoch);
            write(&path_of(folder, &purpose), owner, &purpose, epoch, &secret)?;
            ready.keys.insert(purpose, (epoch, secret));
        }
        for (purpose, epoch) in missing_coming {
            let secret = seed.derive(&owner.stack, &purpose, epoch);
            write(&coming_path(folder, &purpose), owner, &purpose, epoch, &secret)?;
            ready.coming.insert(purpose, secret);
        }
        Ok(ready)
    }

    /// Working keys in memory only, each of epoch 1: for a plan that is looked at before there is a root seed.
    pub fn imagined<'a>(stack: &StackName, purposes: impl IntoIterator<Item = &'a Purpose>, seed: &RootSeed) -> Self {
        let epoch = Epochs::default();
        let derive = |purpose: &Purpose| (epoch.of(purpose), seed.derive(stack, purpose, epoch.of(purpose)));
        let keys = purposes.into_iter().map(|purpose| (purpose.clone(), derive(purpose))).collect();
        Self { stack: stack.clone(), keys, coming: BTreeMap::new() }
    }

    /// The epoch of a ready key.
    pub fn epoch(&self, purpose: &Purpose) -> Option<u32> {
        self.keys.get(purpose).map(|(epoch, _)| *epoch)
    }

    fn secret(&self, purpose: Purpose) -> Result<&(u32, DerivedSecret), KeysError> {
        self.keys.get(&purpose).ok_or(KeysError::NotReady { purpose })
    }

    /// The first password of a site's owner, [`typed::owner_password`].
    pub fn owner_password(&self, site: &SiteName) -> Result<SecretText, KeysError> {
        Ok(typed::owner_password(&self.secret(Purpose::OwnerPassword(site.clone()))?.1))
    }

    /// The key of a site's webhook signatures, 64 hex digits.
    pub fn webhook_key(&self, site: &SiteName) -> Result<SecretText, KeysError> {
        Ok(typed::webhook_key(&self.secret(Purpose::Webhook(site.clone()))?.1))
    }

    /// What a site opens its database with, [`typed::database_password`].
    pub fn database_password(&self, site: &SiteName) -> Result<SecretText, KeysError> {
        Ok(typed::database_password(&self.secret(Purpose::Database(site.clone()))?.1))
    }

    /// The identity of an edge on links.
    pub fn link_key(&self, edge: &EdgeName) -> Result<LinkKey, KeysError> {
        Ok(typed::link_key(&self.secret(Purpose::Link(edge.clone()))?.1))
    }

    /// What a renewer signs with, in the form of an identity on links.
    pub fn renewer_key(&self, edge: &EdgeName) -> Result<LinkKey, KeysError> {
        Ok(typed::link_key(&self.secret(Purpose::Renewer(edge.clone()))?.1))
    }

    /// The key that signs what daemons are configured with.
    pub fn config_signing(&self) -> Result<SigningKey, KeysError> {
        Ok(typed::signing_key(&self.secret(Purpose::ConfigSigning)?.1))
    }

    /// What opens the archive, [`typed::archive_password`].
    pub fn archive_password(&self) -> Result<SecretText, KeysError> {
        Ok(typed::archive_password(&self.secret(Purpose::Archive)?.1))
    }

    /// The key that opens the stack's hosts, [`typed::ssh_key`].
    pub fn hosts_key(&self) -> Result<SshKey, KeysError> {
        let (_, secret) = self.secret(Purpose::Hosts)?;
        Ok(typed::ssh_key(secret, &format!("sovereign:{}:management", self.stack)))
    }

    /// The key that signs a domain's zone.
    pub fn zone_key(&self, domain: &DnsName) -> Result<ZoneKey, KeysError> {
        Ok(ZoneKey::from_secret(&self.secret(Purpose::Zone(domain.clone()))?.1))
    }

    /// The key that is to take its place, and signs the zone too until then.
    pub fn coming_zone_key(&self, domain: &DnsName) -> Option<ZoneKey> {
        self.coming.get(&Purpose::Zone(domain.clone())).map(ZoneKey::from_secret)
    }

    /// Removes the key that was to come, which is not to come any more.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn forget_coming(folder: &Path, purpose: &Purpose) -> io::Result<()> {
        match fs::remove_file(coming_path(folder, purpose)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The key that a secondary gets zones with.
    pub fn transfer_key(&self, secondary: &Secondary) -> Result<TransferKey, KeysError> {
        let secret = &self.secret(Purpose::Transfer(secondary.name.clone()))?.1;
        Ok(TransferKey::from_secret(secret, secondary))
    }

    /// The internal certificate authority.
    pub fn ca(&self) -> Result<Ca, KeysError> {
        let (epoch, secret) = self.secret(Purpose::Ca)?;
        Ca::new(&self.stack, *epoch, secret).map_err(KeysError::Ca)
    }
}

fn path_of(folder: &Path, purpose: &Purpose) -> PathBuf {
    // Names are DNS labels, which contain neither a slash nor a dot, so that two purposes never share a file; a domain
    // has dots, and nothing but domains is called `zone.`.
    folder.join(format!("{}.json", purpose.to_string().replace('/', ".")))
}

/// Where the key lies that is to take another one's place. No purpose is called `coming.`.
fn coming_path(folder: &Path, purpose: &Purpose) -> PathBuf {
    folder.join(format!("coming.{}.json", purpose.to_string().replace('/', ".")))
}

/// The kept key that counts; the one that was to come takes its place when its epoch does.
fn read_current(
    folder: &Path,
    owner: &Owner,
    purpose: &Purpose,
    epoch: u32,
) -> Result<Option<DerivedSecret>, KeysError> {
    let (path, coming) = (path_of(folder, purpose), coming_path(folder, purpose));
    if let Some(secret) = read(&path, owner, purpose, epoch)? {
        return Ok(Some(secret));
    }
    let Some(secret) = read(&coming, owner, purpose, epoch)? else { return Ok(None) };
    let failed =
        |source| KeysError::File { purpose: purpose.clone(), source: FileError::Write { path: path.clone(), source } };
    fs::rename(&coming, &path).map_err(failed)?;
    Ok(Some(secret))
}

/// The key in a file, if it is the owner's and of this epoch.
fn read(path: &Path, owner: &Owner, purpose: &Purpose, epoch: u32) -> Result<Option<DerivedSecret>, KeysError> {
    let failed = |source| KeysError::File { purpose: purpose.clone(), source };
    let Some(kept) = file::read::<KeyFile>(path, VERSION).map_err(failed)? else { return Ok(None) };
    if kept.stack != owner.stack || kept.seed != owner.seed || kept.purpose != *purpose || kept.epoch != epoch {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&kept.secret, &mut *bytes).map_err(|_| failed(FileError::malformed(path)))?;
    Ok(Some(DerivedSecret::new(bytes)))
}

fn write(path: &Path, owner: &Owner, purpose: &Purpose, epoch: u32, secret: &DerivedSecret) -> Result<(), KeysError> {
    let kept = KeyFile {
        version: VERSION,
        stack: owner.stack.clone(),
        seed: owner.seed.clone(),
        purpose: purpose.clone(),
        epoch,
        secret: hex::encode(secret.expose()),
    };
    file::write(path, &kept, Existing::Replace).map_err(|source| KeysError::File { purpose: purpose.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn seed() -> RootSeed {
        RootSeed::from_entropy(Zeroizing::new([3; 32]))
    }

    fn owner() -> Owner {
        let stack: StackName = "shop".parse().unwrap();
        let seed = seed().fingerprint(&stack);
        Owner { stack, seed }
    }

    fn never_asked() -> Result<RootSeed, SeedError> {
        panic!("the seed is not needed")
    }

    fn all() -> Vec<Purpose> {
        ["owner-password/blog", "webhook/blog", "ca", "link/home", "config-signing"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect()
    }

    #[test]
    fn the_seed_is_asked_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let first = WorkingKeys::ensure(&keys, &owner(), &all(), &Epochs::default(), || Ok(seed())).unwrap();
        let second = WorkingKeys::ensure(&keys, &owner(), &all(), &Epochs::default(), never_asked).unwrap();
        let blog = "blog".parse().unwrap();
        assert_eq!(first.owner_password(&blog).unwrap(), second.owner_password(&blog).unwrap());
        assert_eq!(first.ca().unwrap().pem(), second.ca().unwrap().pem());
        for file in std::fs::read_dir(&keys).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!format!("{first:?}").contains(first.owner_password(&blog).unwrap().expose()));
    }

    #[test]
    fn a_rotation_changes_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut epochs = Epochs::default();
        let blog: SiteName = "blog".parse().unwrap();
        let before = WorkingKeys::ensure(folder.path(), &owner(), &all(), &epochs, || Ok(seed())).unwrap();
        epochs.rotate(&Purpose::Webhook(blog.clone()));
        let after = WorkingKeys::ensure(folder.path(), &owner(), &all(), &epochs, || Ok(seed())).unwrap();
        assert_ne!(before.webhook_key(&blog).unwrap(), after.webhook_key(&blog).unwrap());
        assert_eq!(before.owner_password(&blog).unwrap(), after.owner_password(&blog).unwrap());
        assert_eq!(after.epoch(&Purpose::Webhook(blog)), Some(2));
    }

    #[test]
    fn keys_of_another_seed_are_not_used_and_another_seed_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        WorkingKeys::ensure(folder.path(), &owner(), &all(), &Epochs::default(), || Ok(seed())).unwrap();
        let other = RootSeed::generate();
        let theirs = Owner { seed: other.fingerprint(&owner().stack), ..owner() };
        let error = WorkingKeys::ensure(folder.path(), &theirs, &all(), &Epochs::default(), || Ok(seed())).unwrap_err();
        assert!(matches!(error, KeysError::OtherSeed { .. }), "{error:?}");
        WorkingKeys::ensure(folder.path(), &theirs, &all(), &Epochs::default(), || Ok(other)).unwrap();
    }

    #[test]
    fn a_broken_key_is_reported_and_derived_again_once_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let ensure = || WorkingKeys::ensure(folder.path(), &owner(), [&Purpose::Ca], &Epochs::default(), || Ok(seed()));
        let before = ensure().unwrap();
        let path = folder.path().join("ca.json");
        std::fs::write(&path, "{").unwrap();
        let error = ensure().unwrap_err();
        assert!(error.help().unwrap().contains("ca.json"), "{error:?}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ensure().unwrap().ca().unwrap().pem(), before.ca().unwrap().pem());
    }

    #[test]
    fn a_key_that_was_not_asked_for_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let ready = WorkingKeys::ensure(folder.path(), &owner(), [], &Epochs::default(), never_asked).unwrap();
        assert!(matches!(ready.config_signing(), Err(KeysError::NotReady { purpose: Purpose::ConfigSigning })));
    }
}
