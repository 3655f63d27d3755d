//! The kept packages: files named by their digest, shared by all stacks of a user.
//!
//! ```text
//!  packages/
//!    .lock          held by whoever fetches or locks
//!    .apt/          the mirror's signed indexes, and settings for apt
//!    .part/         what is being fetched
//!    <64 hex>.deb   a package, whole
//! ```
//!
//! A package appears by one rename after it was checked and is on disk. None is ever removed here: what a mirror has
//! dropped cannot be had again, and which locks of which stacks name it nobody knows.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use super::DebianError;
use super::lock::Package;
use crate::ImageError;
use crate::error::At as _;
use crate::progress::{Event, Progress};

/// A folder of packages.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

/// The right to fetch into it.
pub(super) struct Fetching {
    /// Released by the kernel when it is closed, also when this program is killed.
    _lock: File,
}

/// How a kept package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// As the lock says.
    Whole,
    /// Not there.
    Missing,
    /// Something else, with this digest.
    Damaged(Digest),
}

impl Kept {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).at("create", &folder)?;
        let folder = folder.canonicalize().at("open", &folder)?;
        Ok(Self { folder })
    }

    /// Its folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a package lies, if it is kept.
    pub fn file(&self, package: &Package) -> PathBuf {
        self.folder.join(format!("{}.deb", package.sha256.hex()))
    }

    /// Reads a package and compares it with the lock.
    pub(super) fn condition(&self, package: &Package) -> Result<Condition, ImageError> {
        let path = self.file(package);
        match digest(&path) {
            Ok((found, bytes)) if found == package.sha256 && bytes == package.bytes => Ok(Condition::Whole),
            Ok((found, _)) => Ok(Condition::Damaged(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Condition::Missing),
            Err(error) => Err(error).at("read", &path),
        }
    }

    /// The file of a package, checked just now.
    pub(super) fn whole(&self, package: &Package) -> Result<PathBuf, ImageError> {
        let path = self.file(package);
        match self.condition(package)? {
            Condition::Whole => Ok(path),
            Condition::Missing => Err(DebianError::NotKept { packages: vec![package.to_string()] }.into()),
            Condition::Damaged(found) => Err(DebianError::Damaged { package: package.to_string(), path, found }.into()),
        }
    }

    /// Becomes the only one who fetches, waiting for the one before.
    pub(super) fn lock(&self, progress: &dyn Progress) -> Result<Fetching, ImageError> {
        let path = self.folder.join(".lock");
        let lock = File::options().create(true).append(true).open(&path).at("create", &path)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                progress.report(Event::Note { message: "packages are being fetched already, waiting for it" });
                rustix::fs::flock(&lock, FlockOperation::LockExclusive).at("lock", &path)?;
            }
            locked => locked.at("lock", &path)?,
        }
        Ok(Fetching { _lock: lock })
    }

    /// A folder in it that is not for packages.
    pub(super) fn own(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).at("create", &path)?;
        Ok(path)
    }

    /// Takes in a file that was fetched, when it is the package; else gives the digest that it has.
    pub(super) fn take_in(&self, package: &Package, fetched: &Path) -> Result<Result<(), Digest>, ImageError> {
        let (found, bytes) = digest(fetched).at("read", fetched)?;
        if found != package.sha256 || bytes != package.bytes {
            fs::remove_file(fetched).at("remove", fetched)?;
            return Ok(Err(found));
        }
        File::open(fetched).and_then(|file| file.sync_all()).at("write to disk", fetched)?;
        let place = self.file(package);
        fs::rename(fetched, &place).at("rename", fetched)?;
        Ok(Ok(()))
    }
}

/// The digest and the size of a file.
pub(super) fn digest(path: &Path) -> io::Result<(Digest, u64)> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let bytes = io::copy(&mut file, &mut hasher)?;
    Ok((Digest::from_bytes(hasher.finalize().into()), bytes))
}

#[cfg(test)]
mod tests {
    use super::super::lock::tests::lock_of;
    use super::*;

    #[test]
    fn only_the_right_bytes_are_taken_in_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(folder.path().join("packages")).unwrap();
        let mut package = lock_of(&[("bash", "5.2")]).packages.remove(0);
        (package.sha256, package.bytes) = (Digest::of("right"), 5);
        assert_eq!(kept.condition(&package).unwrap(), Condition::Missing);

        let part = folder.path().join("part");
        fs::write(&part, "wrong").unwrap();
        assert_eq!(kept.take_in(&package, &part).unwrap(), Err(Digest::of("wrong")));
        assert!(!part.exists());
        fs::write(&part, "right").unwrap();
        assert_eq!(kept.take_in(&package, &part).unwrap(), Ok(()));
        assert_eq!(kept.whole(&package).unwrap(), kept.file(&package));

        fs::write(kept.file(&package), "righ").unwrap();
        let error = kept.whole(&package).unwrap_err();
        assert!(error.to_string().starts_with("the kept package bash 5.2 is damaged"), "{error}");
        assert!(error.help().is_some());
    }
}
