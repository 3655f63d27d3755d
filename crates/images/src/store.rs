//! The store: finished images, each in a folder named by its digest.
//!
//! ```text
//!  images/
//!    .lock                 held by whoever builds or removes
//!    .work/                a build in progress, or what a killed one left
//!    <64 hex digits>/
//!      manifest.json       what it is, see `Manifest`
//!      contents            what it contains, see `content`; its digest is the folder's name
//!      root/               the image
//! ```
//!
//! An image appears by one rename, after everything in it is on disk, and goes by one rename before anything in it is
//! removed. So whoever reads the store needs no lock. There is no index to go wrong: finding an image reads the few
//! manifests there are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sovereign_model::{Digest, ImageName};

use crate::content::{Contents, Fault};
use crate::error::At as _;
use crate::progress::{Event, Progress, Stage, Unit};
use crate::{Image, ImageError};

/// The version of the manifest that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// The description of an image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// The image's name.
    pub image: ImageName,
    /// The digest of the lock it was built from.
    pub lock: Digest,
    /// The digest of what it contains.
    pub digest: Digest,
    /// The bytes of all its files.
    pub bytes: u64,
    /// The number of its files.
    pub files: u64,
    /// What it was made from.
    pub source: Source,
    /// When it was built, in seconds since 1970-01-01 00:00 UTC.
    pub built: u64,
}

/// What an image was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// The locked packages, each as "name version".
    pub packages: Vec<String>,
    /// The compilers' own names for themselves.
    pub compilers: Vec<String>,
}

/// What [`Store::prune`] removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// The images.
    pub images: Vec<Digest>,
    /// The bytes of their files. What a killed build left is not counted.
    pub bytes: u64,
}

/// A folder of images.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the store in a folder, which is made when it is missing. Other users may read it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).at("create", &folder)?;
        let folder = folder.canonicalize().at("open", &folder)?;
        // Nothing but a change is asked of the file system, so that a store of somebody else can be read.
        if fs::metadata(&folder).at("look at", &folder)?.permissions().mode() & 0o755 != 0o755 {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).at("change the mode of", &folder)?;
        }
        Ok(Self { folder })
    }

    /// Its folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The youngest image that was built from a lock. Damaged descriptions are passed over.
    pub fn find(&self, lock: Digest) -> Result<Option<Image>, ImageError> {
        let manifests = self.list()?.into_iter().filter_map(Result::ok);
        let youngest = manifests.filter(|manifest| manifest.lock == lock).max_by_key(|manifest| manifest.built);
        youngest.map(|manifest| self.image(manifest.digest)).transpose()
    }

    /// The image with a digest.
    pub fn image(&self, digest: Digest) -> Result<Image, ImageError> {
        let root = self.folder.join(digest.hex()).join("root");
        if root.is_dir() { Ok(Image { digest, root }) } else { Err(ImageError::Unknown(digest)) }
    }

    /// All images, sorted by digest, each with its description or what is wrong with that.
    pub fn list(&self) -> Result<Vec<Result<Manifest, ImageError>>, ImageError> {
        Ok(self.digests()?.into_iter().map(|digest| self.manifest(digest)).collect())
    }

    fn digests(&self) -> Result<BTreeSet<Digest>, ImageError> {
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).at("list", &self.folder)? {
            let name = entry.at("list", &self.folder)?.file_name();
            digests.extend(name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    /// The description of an image.
    pub fn manifest(&self, digest: Digest) -> Result<Manifest, ImageError> {
        let path = self.folder.join(digest.hex()).join("manifest.json");
        let damaged = |reason: String| ImageError::Damaged { digest, reason };
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ImageError::Unknown(digest)),
            read => read.at("read", &path)?,
        };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("it has format {}, this program reads format {FORMAT}", manifest.format)));
        }
        if manifest.digest != digest {
            return Err(damaged(format!("it describes {}", manifest.digest.short())));
        }
        Ok(manifest)
    }

    /// Compares every file of an image with what it should be; the answer is empty when the image is whole.
    pub fn verify(&self, digest: Digest) -> Result<Vec<Fault>, ImageError> {
        let image = self.image(digest)?;
        let path = self.folder.join(digest.hex()).join("contents");
        let lines = fs::read(&path).at("read", &path)?;
        let damaged = |reason: String| ImageError::Damaged { digest, reason };
        if Digest::of(&lines) != digest {
            return Err(damaged("the list of its contents has another digest".to_owned()));
        }
        let expected = Contents::from_lines(&lines).map_err(|error| damaged(error.to_string()))?;
        Ok(expected.faults(&Contents::of(&image.root, false, |_, _| {})?))
    }

    /// Takes in an image that was kept elsewhere. `fill` puts its folder, as it was in a store, into the folder that it is
    /// given, under the name it has here; nothing of it is believed: it must be whole, and what its name says.
    ///
    /// # Errors
    /// What `fill` failed with; that the image is damaged; when it cannot be put in place.
    pub fn take_in<E: From<ImageError>>(
        &self,
        digest: Digest,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Image, E> {
        let workshop = self.lock(&crate::Silent)?;
        let folder = workshop.fresh("taken-in")?;
        fill(&folder)?;
        let image = workshop.admit(&Self { folder }, digest);
        workshop.clear()?;
        Ok(image?)
    }

    /// Removes every image that is not in `keep`, and what killed builds left. Waits for a build that runs.
    pub fn prune(&self, keep: &BTreeSet<Digest>) -> Result<Pruned, ImageError> {
        let workshop = self.lock(&crate::Silent)?;
        let mut pruned = Pruned::default();
        for digest in self.digests()?.difference(keep) {
            pruned.bytes += self.manifest(*digest).map_or(0, |manifest| manifest.bytes);
            workshop.discard(&self.folder.join(digest.hex()))?;
            pruned.images.push(*digest);
        }
        workshop.clear()?;
        Ok(pruned)
    }

    /// Becomes the only one who builds or removes, waiting for the one before.
    pub(crate) fn lock(&self, progress: &dyn Progress) -> Result<Workshop<'_>, ImageError> {
        let path = self.folder.join(".lock");
        let lock = File::options().create(true).append(true).open(&path).at("create", &path)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                progress.report(Event::Note { message: "another build is running, waiting for it" });
                rustix::fs::flock(&lock, FlockOperation::LockExclusive).at("lock", &path)?;
            }
            locked => locked.at("lock", &path)?,
        }
        Ok(Workshop { store: self, _lock: lock })
    }
}

/// The right to build, and the folder to do it in. A killed build leaves downloads, which the next one continues from,
/// and half an image, which the next one removes.
pub(crate) struct Workshop<'a> {
    store: &'a Store,
    /// Released by the kernel when it is closed, also when this program is killed.
    _lock: File,
}

impl Workshop<'_> {
    fn folder(&self) -> PathBuf {
        self.store.folder.join(".work")
    }

    /// A folder that later builds find as this one leaves it.
    pub(crate) fn kept(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.folder().join(name);
        fs::create_dir_all(&path).at("create", &path)?;
        Ok(path)
    }

    /// An empty folder for one build, and an end to those of earlier ones.
    ///
    /// Its name is this process's own: a program that a killed build had started may still be writing to that one's.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf, ImageError> {
        self.kept("")?;
        let prefix = format!("{name}-");
        self.clear_if(|found| found.starts_with(&prefix))?;
        let name = format!("{prefix}{}", std::process::id());
        remove(&self.folder().join(&name))?;
        self.kept(&name)
    }

    /// Seals a finished tree, puts it into the store and removes everything a build needs. `(image, lock)` is what it
    /// is called, and what it will be found by.
    pub(crate) fn publish(
        &self,
        root: &Path,
        (image, lock): (ImageName, Digest),
        source: Source,
        now: SystemTime,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let advanced = |done, total, what| {
            let (stage, unit) = (Stage::Seal, Unit::Files);
            progress.report(Event::Advanced { stage, done, total: Some(total), unit, what });
        };
        let contents =
            Contents::of(root, true, |done, total| advanced(done as u64, total as u64, "computing digests"))?;
        let digest = contents.digest();
        let (files, bytes) = contents.size();
        let built = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let manifest = Manifest { format: FORMAT, image, lock, digest, bytes, files, source, built };

        let finished = self.fresh("finished")?;
        fs::set_permissions(&finished, fs::Permissions::from_mode(0o755)).at("change the mode of", &finished)?;
        fs::rename(root, finished.join("root")).at("move", root)?;
        write_readable(&finished.join("contents"), &contents.to_lines())?;
        let mut text = serde_json::to_vec_pretty(&manifest).expect("a manifest serializes to JSON");
        text.push(b'\n');
        write_readable(&finished.join("manifest.json"), &text)?;
        // What is removed before it reaches the disk is never written there: most of what the installer fetched.
        self.clear_if(|found| !found.starts_with("finished-"))?;
        advanced(files, files, "writing to disk");
        // One call for tens of thousands of files, instead of one for each.
        let folder = File::open(&finished).at("open", &finished)?;
        rustix::fs::syncfs(&folder).at("write to disk", &finished)?;

        let place = self.store.folder.join(digest.hex());
        if !place.exists() {
            fs::rename(&finished, &place).at("publish", &place)?;
        } else if self.store.verify(digest).is_ok_and(|faults| faults.is_empty()) {
            // Another lock led to the same contents. Somebody may be running them: only the description changes.
            fs::rename(finished.join("manifest.json"), place.join("manifest.json")).at("publish", &place)?;
        } else {
            self.discard(&place)?;
            fs::rename(&finished, &place).at("publish", &place)?;
        }
        let parent = File::open(&self.store.folder).at("open", &self.store.folder)?;
        parent.sync_all().at("write to disk", &self.store.folder)?;
        self.clear()?;
        self.store.image(digest)
    }

    /// Moves an image from another store, on the same file system, to this one.
    fn admit(&self, from: &Store, digest: Digest) -> Result<Image, ImageError> {
        from.manifest(digest)?;
        let faults = from.verify(digest)?;
        if let Some(fault) = faults.first() {
            let reason = format!("{} is not as it was built", fault.path.display());
            return Err(ImageError::Damaged { digest, reason });
        }
        let (here, there) = (self.store.folder.join(digest.hex()), from.folder.join(digest.hex()));
        let folder = File::open(&there).at("open", &there)?;
        rustix::fs::syncfs(&folder).at("write to disk", &there)?;
        if here.exists() {
            self.discard(&here)?;
        }
        fs::set_permissions(&there, fs::Permissions::from_mode(0o755)).at("change the mode of", &there)?;
        fs::rename(&there, &here).at("publish", &here)?;
        let parent = File::open(&self.store.folder).at("open", &self.store.folder)?;
        parent.sync_all().at("write to disk", &self.store.folder)?;
        self.store.image(digest)
    }

    /// Takes a folder out of the store at once, then removes it.
    fn discard(&self, folder: &Path) -> Result<(), ImageError> {
        let trash = self.fresh("trash")?;
        fs::rename(folder, trash.join("image")).at("remove", folder)?;
        remove(&trash)
    }

    /// Removes everything that is not an image.
    fn clear(&self) -> Result<(), ImageError> {
        self.kept("")?;
        self.clear_if(|_| true)?;
        remove_leftover(&self.folder())
    }

    /// Removes what builds leave, by name.
    fn clear_if(&self, unwanted: impl Fn(&str) -> bool) -> Result<(), ImageError> {
        let folder = self.folder();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let entry = entry.at("list", &folder)?;
            if entry.file_name().to_str().is_none_or(&unwanted) {
                remove_leftover(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a folder unless somebody is writing to it; the next build or pruning will.
fn remove_leftover(folder: &Path) -> Result<(), ImageError> {
    match remove(folder) {
        Err(ImageError::File { source, .. }) if source.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn write_readable(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).at("write", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).at("change the mode of", path)
}

/// Removes a folder; it may be missing.
fn remove(folder: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", folder),
    }
}

#[cfg(test)]
mod tests;
