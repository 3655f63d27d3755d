//! Debian root file systems, built on this machine from packages that are pinned, checked and kept.
//!
//! ```text
//!  role ──▶ resolve ──▶ lock ──▶ fetch ──▶ kept packages ──▶ build ──▶ store
//!  names    apt, gpgv   yours    by SHA-256, for good        mmdebstrap  one rename
//! ```
//!
//! Promises: what is not signed with Debian's keys never becomes a lock; what is not in the lock never becomes part of
//! an image; two builds from one lock, by the same program, are the same bytes; with the packages kept, a build needs
//! no network.
//!
//! Left out: hosts of another kind than this machine, upgrading an image in place (a new lock makes a new image), and
//! sending images to hosts.

pub mod apt;
mod archive;
mod build;
mod error;
mod fetch;
mod kept;
mod lock;
mod names;
mod program;
mod repository;
mod resolve;
mod role;
mod sources;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use sovereign_model::Digest;

pub use build::{Blueprint, build, find, preflight};
pub use error::DebianError;
pub use fetch::fetch;
pub use kept::Kept;
pub use lock::{Archive, Change, InvalidLock, Lock, Package, Release};
pub use names::{Architecture, PackageName, PoolPath, SuiteName, Version};
pub use resolve::resolve;
pub use role::{Base, File, Layer, Role, User};

use crate::error::At as _;
use crate::{Image, ImageError};

/// An image in the store that Incus takes: two archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage(pub Image);

impl RootImage {
    /// The archive that describes it.
    pub fn metadata(&self) -> PathBuf {
        self.0.root.join("metadata.tar")
    }

    /// The archive of its root file system, not compressed.
    pub fn rootfs(&self) -> PathBuf {
        self.0.root.join("rootfs.tar")
    }

    /// What Incus calls it: the SHA-256 digest of both archives, one after the other.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn fingerprint(&self) -> Result<Digest, ImageError> {
        let path = self.0.root.join("fingerprint");
        let text = fs::read_to_string(&path).at("read", &path)?;
        text.trim().parse().map_err(|_| ImageError::Damaged {
            digest: self.0.digest,
            reason: "its fingerprint cannot be read".to_owned(),
        })
    }
}
