//! `sovereign images build`.

use serde::Serialize;
use sovereign_images::debian::{self, Blueprint, Kept, Role};
use sovereign_images::{ImageError, Store};
use sovereign_model::Digest;

use crate::cli::ImagesBuildArgs;
use crate::context::Context;
use crate::debian::{LockFile, Watched, layers, options};
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Page, Report, StageTime, figures};

/// An image that is in the store now.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    role: String,
    /// Whether it was built just now.
    built: bool,
    image: Digest,
    lock: Digest,
    /// What Incus calls it.
    fingerprint: Digest,
    bytes: u64,
    metadata: String,
    rootfs: String,
    stages: Vec<StageTime>,
}

impl Report for Built {
    fn show(&self, page: &mut Page) {
        let what = if self.built { "is built" } else { "is in the store already" };
        page.line(format_args!("{} {what}: {}, {}", self.role, self.image.short(), figures::bytes(self.bytes)));
        page.line(format_args!("  {}\n  {}", self.metadata, self.rootfs));
        page.line(format_args!("  Incus knows it as {}", self.fingerprint.hex()));
    }
}

/// Builds the image of a role from its lock, where it is not in the store.
///
/// # Errors
/// When the role is not locked, a package cannot be had, or the build fails.
pub(crate) fn run(context: &Context, args: &ImagesBuildArgs) -> Result<Built, Failure> {
    let declared = Declared::load(context)?;
    let role = Role::find(&args.role).map_err(ImageError::from)?;
    let lock = LockFile::of(&declared.file, &role).expect(&role)?;
    let store = Store::open(declared.places.images())?;
    let layers = layers(&role, &declared.ghost_lock()?, &store)?;
    let blueprint = Blueprint { role: &role, lock: &lock, layers: &layers };
    let progress = context.output.progress();
    let (watched, options) = (Watched::new(&progress, &role), options(args.offline));
    let kept = Kept::open(declared.places.packages())?;
    if debian::find(&store, &blueprint)?.is_none() {
        debian::fetch(&lock, &role, &kept, &options, &watched)?;
    }
    let (image, receipt) = debian::build(&store, &kept, &blueprint, &options, &watched)?;
    Ok(Built {
        role: role.short().to_owned(),
        built: receipt.built,
        image: image.0.digest,
        lock: lock.digest(),
        fingerprint: image.fingerprint()?,
        bytes: store.manifest(image.0.digest)?.bytes,
        metadata: image.metadata().display().to_string(),
        rootfs: image.rootfs().display().to_string(),
        stages: progress.times(),
    })
}
