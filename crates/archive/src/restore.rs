//! Bringing files back from a snapshot, in little memory, and sure of every byte.
//!
//! The library's own restore reads packs with many threads and took a gigabyte. Here one chunk after the other is
//! read, decrypted, compared with the SHA-256 that is its name, and written.
//!
//! Promise: only a folder that is empty or not there yet is written into, and one that is there only when it is ours and
//! nobody else may write in it: whoever could would have us write through links of theirs. Nothing is written outside of
//! it, whatever the snapshot holds; links are made and never followed. Owners are not restored (everything belongs to
//! whoever runs this) and neither are set-user-id bits.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustic_core::repofile::MasterKey;
use rustic_core::{DataId, FileType, Id, IndexedFullStatus, ReadBackend as _, Repository, WriteBackend};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use sha2::{Digest as _, Sha256};

use crate::chunk::{Sum, name};
use crate::entry::{Entry, Kind, Moment, TreePath};
use crate::error::{ArchiveError, To as _};
use crate::manifest::Manifest;
use crate::repository::{Archive, Snapshot};
use crate::seal::Opener;
use crate::tree;

/// What was brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Folders, files and links.
    pub entries: u64,
    /// Of them, files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A snapshot that is open for reading.
pub struct Contents {
    pub(crate) repository: Repository<IndexedFullStatus>,
    backend: Arc<dyn WriteBackend>,
    key: MasterKey,
    /// The part of its name that people type.
    snapshot: String,
    pub(crate) manifest: Manifest,
    /// Of each entry.
    chunks: Vec<Vec<DataId>>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contents({})", self.snapshot)
    }
}

impl Archive {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// When it cannot be read, or is none of this program's.
    pub fn contents(&self, snapshot: &Snapshot) -> Result<Contents, ArchiveError> {
        let tampered = |why| ArchiveError::Tampered { snapshot: snapshot.short().to_owned(), why };
        let Some(subject) = &snapshot.subject else {
            return Err(tampered("it was made by another program".to_owned()));
        };
        let repository = self.indexed()?;
        let (manifest, chunks) = tree::read(&repository, snapshot.file.tree, subject).map_err(tampered)?;
        Ok(self.contents_of(repository, snapshot, manifest, chunks))
    }

    /// Those of a snapshot whose tree was read.
    pub(crate) fn contents_of(
        &self,
        repository: Repository<IndexedFullStatus>,
        snapshot: &Snapshot,
        manifest: Manifest,
        chunks: Vec<Vec<DataId>>,
    ) -> Contents {
        let (backend, key) = (self.backend(), self.key().clone());
        Contents { repository, backend, key, snapshot: snapshot.short().to_owned(), manifest, chunks }
    }
}

impl Contents {
    /// Everything in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The chunks of each entry.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[DataId]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    /// Restores all, or `only` what is at and below a path, into the folder `to`. `seen` is told how many bytes have
    /// been written.
    ///
    /// # Errors
    /// When the folder is not empty or not ours alone, or something cannot be read or written. What was written by then
    /// stays.
    pub fn restore(&self, only: Option<&TreePath>, to: &Path, seen: &dyn Fn(u64)) -> Result<Restored, ArchiveError> {
        let chosen = |entry: &&(usize, &Entry)| only.is_none_or(|only| entry.1.path.is_in(only));
        let all: Vec<_> = self.manifest.entries().iter().enumerate().collect();
        let chosen: Vec<_> = all.iter().filter(chosen).copied().collect();
        if let (true, Some(only)) = (chosen.is_empty(), only) {
            return Err(ArchiveError::NoPath { snapshot: self.snapshot.clone(), path: only.to_string() });
        }
        let to = &empty_folder(to)?;
        if let Some(folder) = only.and_then(TreePath::parent) {
            let folder = TreePath::parse(folder).map(|folder| folder.below(to)).unwrap_or_else(|_| to.to_owned());
            fs::create_dir_all(&folder).map_err(ArchiveError::file("make", folder))?;
        }
        let (mut opener, mut restored) = (Opener::new(&self.key)?, Restored::default());
        for (index, entry) in &chosen {
            let place = entry.path.below(to);
            self.restore_one(*index, entry, &place, &mut opener, &mut |more| {
                restored.bytes += more;
                seen(restored.bytes);
            })?;
            restored.entries += 1;
            restored.files += u64::from(matches!(entry.kind, Kind::File { .. }));
        }
        // Last and inside out, because a folder's time changes with what is put in, and its mode may forbid it.
        for (_, entry) in chosen.iter().rev().filter(|(_, entry)| entry.kind == Kind::Folder) {
            let place = entry.path.below(to);
            File::open(&place)
                .and_then(|folder| finish(entry, &folder))
                .map_err(ArchiveError::file("finish", place))?;
        }
        Ok(restored)
    }

    fn restore_one(
        &self,
        index: usize,
        entry: &Entry,
        place: &Path,
        opener: &mut Opener,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let failed = |action| ArchiveError::file(action, place);
        match &entry.kind {
            Kind::Folder => DirBuilder::new().mode(0o700).create(place).map_err(failed("make")),
            Kind::Link { target } => {
                let target = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target);
                std::os::unix::fs::symlink(target, place).map_err(failed("make"))?;
                let times = Timestamps { last_access: spec(entry.modified), last_modification: spec(entry.modified) };
                rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed("finish")(errno.into()))
            }
            Kind::File { .. } => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place);
                let mut file = made.map_err(failed("make"))?;
                self.write_one(index, entry, (&mut file, place), opener, true, wrote)?;
                finish(entry, &file).map_err(failed("finish"))
            }
        }
    }

    /// Writes one file, chunk by chunk; each is `compared` with its name, unless somebody does that afterwards.
    fn write_one(
        &self,
        index: usize,
        entry: &Entry,
        (file, place): (&mut File, &Path),
        opener: &mut Opener,
        compared: bool,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        for id in self.chunks.get(index).into_iter().flatten() {
            let chunk = self.chunk(id, opener)?;
            if compared && *id != DataId::from(Id::new(name(chunk))) {
                return Err(self.unproven(&entry.path, "has a chunk that is not what it was"));
            }
            file.write_all(chunk).map_err(ArchiveError::file("write", place))?;
            wrote(chunk.len() as u64);
        }
        Ok(())
    }

    fn chunk<'o>(&self, id: &DataId, opener: &'o mut Opener) -> Result<&'o [u8], ArchiveError> {
        const ACTION: &str = "read a chunk";
        let there = self.repository.get_index_entry(id).to(ACTION)?;
        let at = there.location;
        let sealed = self.backend.read_partial(FileType::Pack, &there.pack, false, at.offset, at.length).to(ACTION)?;
        opener.open(sealed, at.uncompressed_length)
    }

    fn unproven(&self, path: &TreePath, what: &'static str) -> ArchiveError {
        ArchiveError::Unproven { snapshot: self.snapshot.clone(), path: path.to_string(), what }
    }

    /// Restores files into `scratch` and compares the bytes on disk with what came from the source when they were
    /// read. What is named in `paths` without a sum is restored too, for others to look at.
    ///
    /// # Errors
    /// When one is not what it was.
    pub fn prove(
        &self,
        paths: &mut dyn Iterator<Item = (&TreePath, Option<&Sum>)>,
        scratch: &Path,
        seen: &dyn Fn(u64),
    ) -> Result<Restored, ArchiveError> {
        let scratch = &empty_folder(scratch)?;
        // One file for all that nobody looks at afterwards, written from its beginning each time and never cut: a file
        // system takes long to find room for the next one where another was just removed. It has no name, so nothing of it
        // stays.
        let place = scratch.join("restored");
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&place);
        let mut file = made.map_err(ArchiveError::file("make", &place))?;
        fs::remove_file(&place).map_err(ArchiveError::file("remove", &place))?;
        let (mut opener, mut restored) = (Opener::new(&self.key)?, Restored::default());
        for (path, sum) in paths {
            let found = self.manifest.entries().binary_search_by(|entry| entry.path.cmp(path));
            let entry = found.ok().and_then(|index| Some((index, self.manifest.entries().get(index)?)));
            let (index, entry) = entry.ok_or_else(|| self.unproven(path, "is missing"))?;
            let before = restored.bytes;
            let mut wrote = |more| {
                restored.bytes += more;
                seen(restored.bytes);
            };
            match sum {
                Some(sum) => {
                    file.rewind().map_err(ArchiveError::file("read", &place))?;
                    self.write_one(index, entry, (&mut file, &place), &mut opener, false, &mut wrote)?;
                    let has_length = restored.bytes - before == entry.size();
                    let found = self.sum_of(index, &mut file).map_err(ArchiveError::file("read", &place))?;
                    if !has_length || found != Some(*sum) {
                        return Err(self.unproven(path, "has other bytes"));
                    }
                }
                None => {
                    let place = path.below(scratch);
                    if let Some(folder) = place.parent() {
                        fs::create_dir_all(folder).map_err(ArchiveError::file("make", folder))?;
                    }
                    self.restore_one(index, entry, &place, &mut opener, &mut wrote)?;
                }
            }
            restored.entries += 1;
            restored.files += 1;
        }
        Ok(restored)
    }

    /// The sum of what a file on disk begins with; `None` when that does not consist of the chunks that it should.
    fn sum_of(&self, index: usize, file: &mut File) -> io::Result<Option<Sum>> {
        file.rewind()?;
        let (mut sum, mut chunk) = (Sha256::new(), Vec::new());
        for id in self.chunks.get(index).into_iter().flatten() {
            let length = self.repository.get_index_entry(id).map_err(io::Error::other)?.data_length();
            chunk.resize(length as usize, 0);
            file.read_exact(&mut chunk)?;
            let name = name(&chunk);
            if *id != DataId::from(Id::new(name)) {
                return Ok(None);
            }
            sum.update(name);
        }
        Ok(Some(sum.finalize().into()))
    }
}

/// The folder, made when it is not there. Its name is resolved once: a link in it that somebody turns round meanwhile
/// leads nowhere else.
fn empty_folder(folder: &Path) -> Result<PathBuf, ArchiveError> {
    match fs::canonicalize(folder) {
        Ok(folder) => {
            let metadata = fs::symlink_metadata(&folder).map_err(ArchiveError::file("look at", &folder))?;
            if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
                return Err(ArchiveError::NotOurs { path: folder });
            }
            let mut inside = fs::read_dir(&folder).map_err(ArchiveError::file("read", &folder))?;
            if inside.next().is_some() { Err(ArchiveError::NotEmpty { path: folder }) } else { Ok(folder) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(ArchiveError::file("make", folder))?;
            fs::canonicalize(folder).map_err(ArchiveError::file("look at", folder))
        }
        Err(error) => Err(ArchiveError::file("read", folder)(error)),
    }
}

fn spec(moment: Moment) -> Timespec {
    Timespec { tv_sec: moment.seconds, tv_nsec: moment.nanoseconds.into() }
}

/// Mode and time of a file or folder that this run made.
fn finish(entry: &Entry, file: &File) -> io::Result<()> {
    let time = match entry.modified {
        Moment { seconds, nanoseconds } if seconds >= 0 => {
            SystemTime::UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanoseconds)
        }
        Moment { seconds, nanoseconds } => {
            SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + Duration::new(0, nanoseconds)
        }
    };
    file.set_modified(time)?;
    file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777))
}
