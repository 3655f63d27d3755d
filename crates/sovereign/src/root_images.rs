//! The root file systems that instances are made from: one per role, locked by the operator, built on this machine.

use std::path::Path;

use sovereign_engine::incus::RootFiles;
use sovereign_images::debian::{self, Blueprint, Kept, Lock, Role, RootImage};
use sovereign_images::{ImageError, Lock as GhostLock, Store};
use sovereign_model::observed::ImageSeen;
use sovereign_model::{Digest, ImageName};

use crate::debian::{LockFile, Watched, layers, options};
use crate::failure::Failure;
use crate::output::Progress;
use crate::places::Places;

/// What the roles of a Ghost on a host are called.
const ROLES: [&str; 2] = ["site", "database"];

/// The image of a role, as it is wanted now.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What it is called.
    pub(crate) name: ImageName,
    /// What decides what is in it. Where that is not known yet, because nothing is locked or a part is not built, a digest
    /// that no image has.
    pub(crate) lock: Digest,
    /// The digest that Incus knows it by, and its files, when it is built.
    pub(crate) built: Option<(Digest, RootFiles)>,
}

impl Wanted {
    /// Of a role, with the lock beside this stack file, around this Ghost.
    ///
    /// # Errors
    /// When the lock or the store cannot be read.
    pub(crate) fn of(role: &Role, stack_file: &Path, ghost: &GhostLock, store: &Store) -> Result<Self, Failure> {
        let name = role.name.clone();
        let unknown = Self { lock: Digest::of(format!("{name} is not known yet")), name, built: None };
        let Some(lock) = LockFile::of(stack_file, role).read()? else { return Ok(unknown) };
        let Ok(layers) = layers(role, ghost, store) else { return Ok(unknown) };
        let blueprint = Blueprint { role, lock: &lock, layers: &layers };
        let built = debian::find(store, &blueprint)?.map(|image| files(&image)).transpose()?;
        Ok(Self { lock: blueprint.digest(), built, ..unknown })
    }

    /// Those of a Ghost on a host, in this order: of the site and of its database.
    ///
    /// # Errors
    /// As [`Wanted::of`].
    pub(crate) fn on_hosts(stack_file: &Path, ghost: &GhostLock, store: &Store) -> Result<Vec<Self>, Failure> {
        let role = |name: &&str| Self::of(&Role::find(name).map_err(ImageError::from)?, stack_file, ghost, store);
        ROLES.iter().map(role).collect()
    }

    /// What the digest is by which Incus would know it.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.built.as_ref().map_or(self.lock, |(fingerprint, _)| *fingerprint)
    }

    /// What a look at the store sees.
    pub(crate) fn seen(&self) -> Option<ImageSeen> {
        self.built.as_ref().map(|(content, _)| ImageSeen { lock: self.lock, content: *content })
    }
}

fn files(image: &RootImage) -> Result<(Digest, RootFiles), ImageError> {
    Ok((image.fingerprint()?, RootFiles { metadata: image.metadata(), rootfs: image.rootfs() }))
}

/// The image of a role from the store: locked, fetched and built the first time.
///
/// # Errors
/// When there is no lock to be had, or not all of its packages, or the build fails.
pub(crate) fn ready(
    role: &Role,
    file: &LockFile,
    ghost: &GhostLock,
    places: &Places,
    offline: bool,
    progress: &Progress,
) -> Result<RootImage, Failure> {
    let (store, kept) = (Store::open(places.images())?, Kept::open(places.packages())?);
    let (watched, options) = (Watched::new(progress, role), options(offline));
    let layers = layers(role, ghost, &store)?;
    let lock: Lock = match file.read()? {
        Some(lock) => lock,
        None => {
            let lock = debian::resolve(role, &kept, &options, &watched)?;
            file.write(&lock)?;
            lock
        }
    };
    let blueprint = Blueprint { role, lock: &lock, layers: &layers };
    if let Some(image) = debian::find(&store, &blueprint)? {
        return Ok(image);
    }
    debian::fetch(&lock, role, &kept, &options, &watched)?;
    Ok(debian::build(&store, &kept, &blueprint, &options, &watched)?.0)
}
