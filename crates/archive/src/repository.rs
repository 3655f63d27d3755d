//! The encrypted repository on the management machine: a folder in restic's format, version 2.
//!
//! Promise: nothing of the library shows outside of this crate; the key is needed once per run; one run
//! at a time, by a lock that ends with the process that holds it.
//!
//! ```text
//!  /sites/<site>/...    the data of a site       host = the data center it was read at
//!  /state/...           the stack's own state    host = the stack
//!  /images/...          what applications run    host = the stack
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bytesize::ByteSize;
use rustic_backend::LocalBackend;
use rustic_core::repofile::{MasterKey, SnapshotFile, SnapshotId};
use rustic_core::{
    ConfigOptions, Credentials, FileType, Id, IndexedFullStatus, KeyOptions, OpenStatus, Repository,
    RepositoryBackends, RepositoryOptions, WriteBackend,
};
use sovereign_model::SiteName;

use crate::chunk::name;
use crate::copy::backend::CopyBackend;
use crate::copy::{CopyError, FileName, Folder, Original, Place};
use crate::error::{ArchiveError, To as _};
use crate::password::Password;
use crate::{known, place};

/// What other programs are told of the size of chunks; ours are cut by [`crate::chunk`].
const CHUNK: ByteSize = ByteSize::kib(64);
const SMALLEST_CHUNK: ByteSize = ByteSize::kib(32);
const LARGEST_CHUNK: ByteSize = ByteSize::kib(512);
/// A pack is held in memory while it is made, several at a time.
pub(crate) const PACK: ByteSize = ByteSize::mib(8);

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The data of a site.
    Site(SiteName),
    /// The stack's own state.
    State,
    /// The images that its applications run.
    Images,
}

impl Subject {
    /// The folder of the repository that it lies in, as restic shows it.
    pub(crate) fn folder(&self) -> String {
        match self {
            Self::Site(site) => format!("sites/{site}"),
            Self::State => "state".to_owned(),
            Self::Images => "images".to_owned(),
        }
    }

    fn of_paths(snapshot: &SnapshotFile) -> Option<Self> {
        let mut paths = snapshot.paths.into_iter();
        let (path, None) = (paths.next()?, paths.next()) else { return None };
        match path.strip_prefix('/')? {
            "state" => Some(Self::State),
            "images" => Some(Self::Images),
            other => Some(Self::Site(SiteName::from_str(other.strip_prefix("sites/")?).ok()?)),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => write!(f, "{site}"),
            Self::State => f.write_str("(state)"),
            Self::Images => f.write_str("(images)"),
        }
    }
}

impl FromStr for Subject {
    type Err = sovereign_model::InvalidName;

    /// Reads what is displayed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "(state)" => Ok(Self::State),
            "(images)" => Ok(Self::Images),
            site => site.parse().map(Self::Site),
        }
    }
}

/// One backup in the archive.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name: 64 hex digits.
    pub id: String,
    /// Of what; `None` for one that another program made.
    pub subject: Option<Subject>,
    /// When it was made, seconds since 1970.
    pub taken_unix: i64,
    /// How many files and links it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many bytes it added to the archive.
    pub added: u64,
    pub(crate) file: SnapshotFile,
}

impl Snapshot {
    /// The part of the name that people type.
    pub fn short(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }

    pub(crate) fn of(file: SnapshotFile) -> Self {
        let summary = file.summary.clone().unwrap_or_default();
        Self {
            id: file.id.to_hex().to_string(),
            subject: Subject::of_paths(&file),
            taken_unix: file.time.timestamp().as_second(),
            files: summary.total_files_processed,
            bytes: summary.total_bytes_processed,
            added: summary.data_added_packed,
            file,
        }
    }
}

/// A snapshot of which nothing is known but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub id: String,
    /// Why it cannot be read.
    pub why: String,
}

impl Unreadable {
    /// The part of the name that people type.
    pub fn short(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// What an archive has.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every snapshot that can be read, the oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The others: damage to one must not take the others away.
    pub unreadable: Vec<Unreadable>,
}

/// The snapshots of a subject that came after the one that goes by this name; all when there is none. The oldest first,
/// as `snapshots` are.
pub fn newer<'s>(snapshots: &'s [Snapshot], subject: &Subject, than: Option<&str>) -> Vec<&'s Snapshot> {
    let of_it: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.subject.as_ref() == Some(subject)).collect();
    let from = than.and_then(|than| of_it.iter().position(|snapshot| snapshot.id == than)).map_or(0, |at| at + 1);
    of_it.get(from..).unwrap_or_default().to_vec()
}

/// An archive that is open. One process at a time has one.
pub struct Archive {
    folder: PathBuf,
    pub(crate) place: Arc<dyn Place>,
    backend: Arc<dyn WriteBackend>,
    key: MasterKey,
    /// What tells it from every other archive.
    id: String,
    /// `None` for a copy, which is only read.
    _lock: Option<File>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({})", self.folder.display())
    }
}

impl Archive {
    /// The archive in `folder`. It is made when there is none and the file `known` names none; from then on `known`
    /// does, and no other archive is taken for it.
    ///
    /// # Errors
    /// When the folder has another archive in it, or something else, another run uses it, or `password` does not open
    /// it.
    pub fn open_or_create(folder: &Path, known: &Path, password: &Password) -> Result<Self, ArchiveError> {
        let archive = if known::read(known)?.is_some() || place::has_archive(folder) {
            Self::open(folder, known, password)?
        } else {
            Self::create(folder, password)?
        };
        archive.note(known)?;
        Ok(archive)
    }

    fn create(folder: &Path, password: &Password) -> Result<Self, ArchiveError> {
        const ACTION: &str = "make the archive";
        // Before anything is put there, were it only a lock.
        place::may_become_one(folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(ArchiveError::file("make", folder))?;
        let lock = place::lock(folder)?;
        if place::has_archive(folder) {
            return Self::with(folder, password, lock); // made by another run since
        }
        let made = place::make(folder, |new| {
            let config = ConfigOptions::default()
                .set_chunk_size(CHUNK)
                .set_chunk_min_size(SMALLEST_CHUNK)
                .set_chunk_max_size(LARGEST_CHUNK)
                .set_datapack_size(PACK)
                .set_datapack_size_limit(PACK)
                .set_treepack_size_limit(PACK);
            let (backend, key) = (backend(new)?, MasterKey::new());
            // Before the configuration, with which it counts as made.
            let copy = password.copy_of(&key)?;
            let made = backend
                .create()
                .and_then(|()| backend.write_bytes(FileType::Key, &Id::new(name(&copy)), false, copy.into()));
            made.to(ACTION)?;
            plain(&backend)?.init(&Credentials::Masterkey(key), &KeyOptions::default(), &config).to(ACTION)
        })?;
        match made {
            Some(made) => {
                password.remember(&made.key());
                Self::of(folder, &made, lock)
            }
            None => Self::with(folder, password, lock),
        }
    }

    /// The archive that is in `folder`.
    ///
    /// # Errors
    /// When there is none, it is another one than the file `known` names, another run uses it, or `password` does not
    /// open it.
    pub fn open(folder: &Path, known: &Path, password: &Password) -> Result<Self, ArchiveError> {
        let expected = known::read(known)?;
        let (place, known) = (folder.to_owned(), known.to_owned());
        if !place::has_archive(folder) {
            return Err(match expected {
                Some(_) => ArchiveError::Gone { folder: place, known },
                None => ArchiveError::Missing { folder: place },
            });
        }
        let lock = place::lock(folder)?;
        place::sweep(folder);
        let archive = Self::with(folder, password, lock)?;
        match expected {
            Some(id) if id != archive.id => Err(ArchiveError::Another { folder: place, known }),
            _ => Ok(archive),
        }
    }

    fn with(folder: &Path, password: &Password, lock: File) -> Result<Self, ArchiveError> {
        Self::of(folder, &open_plain(&backend(folder)?, folder, password)?, lock)
    }

    fn of(folder: &Path, opened: &Repository<OpenStatus>, lock: File) -> Result<Self, ArchiveError> {
        let id = opened.config().id.to_hex().to_string();
        let (key, place) = (opened.key(), Arc::new(Folder::new(folder)));
        Ok(Self { folder: folder.to_owned(), place, backend: backend(folder)?, key, id, _lock: Some(lock) })
    }

    /// The copy of an archive that is in another place. It can be read, and nothing is written there, were it only a
    /// lock.
    ///
    /// # Errors
    /// When there is none, it is another archive's than the file `known` names, or `password` does not open it.
    pub fn open_copy(place: Arc<dyn Place>, known: &Path, password: &Password) -> Result<Self, CopyError> {
        let location = place.location();
        match place.read(&FileName::Config) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CopyError::Missing { place: location });
            }
            Err(error) => return Err(CopyError::place("read", FileName::Config, &*place)(error)),
        }
        let folder = PathBuf::from(&location);
        let backend: Arc<dyn WriteBackend> = Arc::new(CopyBackend::new(Arc::clone(&place)));
        let opened = open_plain(&backend, &folder, password)?;
        let id = opened.config().id.to_hex().to_string();
        if known::read(known)?.is_some_and(|expected| expected != id) {
            return Err(CopyError::Another { place: location });
        }
        Ok(Self { folder, place, key: opened.key(), backend, id, _lock: None })
    }

    /// What copies of it are made from. While this is there nothing is removed from the archive, and no other run makes
    /// copies; backups go on once the archive itself is closed.
    ///
    /// # Errors
    /// When another run makes copies, or this is a copy itself.
    pub fn for_copies(&self) -> Result<Original, ArchiveError> {
        if self._lock.is_none() {
            return Err(ArchiveError::OnlyRead);
        }
        Original::of(&self.folder)
    }

    /// Has the file `known` name it, unless it names one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn note(&self, known: &Path) -> Result<(), ArchiveError> {
        if known::read(known)?.is_none() { known::note(known, &self.id) } else { Ok(()) }
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn repository(&self) -> Result<Repository<OpenStatus>, ArchiveError> {
        plain(&self.backend)?.open(&self.credentials()).to("open the archive")
    }

    pub(crate) fn key(&self) -> &MasterKey {
        &self.key
    }

    /// The repository that lies elsewhere and has the same key.
    pub(crate) fn repository_in(
        &self,
        backend: &Arc<dyn WriteBackend>,
    ) -> Result<Repository<OpenStatus>, ArchiveError> {
        plain(backend)?.open(&self.credentials()).to("open the copy")
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::Masterkey(self.key.clone())
    }

    pub(crate) fn backend(&self) -> Arc<dyn WriteBackend> {
        Arc::clone(&self.backend)
    }

    pub(crate) fn indexed(&self) -> Result<Repository<IndexedFullStatus>, ArchiveError> {
        self.repository()?.to_indexed().to("read the archive's index")
    }

    /// Every snapshot, those that cannot be read apart.
    ///
    /// # Errors
    /// When the archive cannot be read at all.
    pub fn inventory(&self) -> Result<Inventory, ArchiveError> {
        const ACTION: &str = "list the snapshots";
        let repository = self.repository()?;
        let ids: Vec<SnapshotId> = repository.list().to(ACTION)?.collect();
        let all = repository.stream_files_list::<SnapshotFile>(ids.clone()).to(ACTION)?;
        let mut read: BTreeMap<_, _> = all.filter_map(Result::ok).collect();
        let mut inventory = Inventory::default();
        let mut files = Vec::new();
        for id in ids {
            // Asked for alone, because an error does not say whose it is.
            let found = read.remove(&id).map_or_else(|| alone(&repository, id), Ok);
            match found {
                Ok(file) => files.push(SnapshotFile { id, ..file }),
                Err(why) => inventory.unreadable.push(Unreadable { id: id.to_hex().to_string(), why }),
            }
        }
        files.sort_by(|a, b| a.time.cmp(&b.time));
        inventory.snapshots = files.into_iter().map(Snapshot::of).collect();
        Ok(inventory)
    }

    /// Every snapshot that can be read, the oldest first.
    ///
    /// # Errors
    /// When the archive cannot be read at all.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, ArchiveError> {
        Ok(self.inventory()?.snapshots)
    }

    /// The newest snapshot of a subject.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn newest(&self, subject: &Subject) -> Result<Option<Snapshot>, ArchiveError> {
        let of_it = |snapshot: &Snapshot| snapshot.subject.as_ref() == Some(subject);
        Ok(self.snapshots()?.into_iter().rfind(of_it))
    }

    /// The snapshot whose name begins so.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<Snapshot, ArchiveError> {
        let Inventory { snapshots, unreadable } = self.inventory()?;
        if name.is_empty() {
            return Err(ArchiveError::NoSnapshot(name.to_owned()));
        }
        let mut found = snapshots.into_iter().filter(|snapshot| snapshot.id.starts_with(name));
        let mut lost = unreadable.into_iter().filter(|unreadable| unreadable.id.starts_with(name));
        match (found.next(), lost.next(), found.next().is_some() || lost.next().is_some()) {
            (Some(snapshot), None, false) => Ok(snapshot),
            (None, Some(Unreadable { id, why }), false) => Err(ArchiveError::Unreadable { snapshot: id, why }),
            (None, None, _) => Err(ArchiveError::NoSnapshot(name.to_owned())),
            _ => Err(ArchiveError::Ambiguous(name.to_owned())),
        }
    }

    /// A second password that opens it from now on: one that is on paper elsewhere, say.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_password(&self, password: &Password) -> Result<(), ArchiveError> {
        self.repository()?.add_key(password.expose(), &KeyOptions::default()).to("add the key").map(drop)
    }
}

#[cfg(test)]
impl Archive {
    /// The same, over another way to its folder.
    pub(crate) fn over(self, wrap: impl FnOnce(Arc<dyn WriteBackend>) -> Arc<dyn WriteBackend>) -> Self {
        Self { backend: wrap(Arc::clone(&self.backend)), ..self }
    }

    /// The same, whose files are read from elsewhere when it is brought to a place.
    pub(crate) fn read_from(self, place: Arc<dyn Place>) -> Self {
        Self { place, ..self }
    }

    /// A copy of it in another folder, without making the key from the password again.
    pub(crate) fn copied_to(&self, folder: &Path) -> Result<Self, ArchiveError> {
        let (key, id) = (self.key.clone(), self.id.clone());
        let (place, lock) = (Arc::new(Folder::new(folder)), place::lock(folder)?);
        Ok(Self { folder: folder.to_owned(), place, backend: backend(folder)?, key, id, _lock: Some(lock) })
    }
}

fn backend(folder: &Path) -> Result<Arc<dyn WriteBackend>, ArchiveError> {
    let text = folder.to_str().ok_or_else(|| ArchiveError::File {
        action: "use",
        path: folder.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidFilename, "its name is no text"),
    })?;
    Ok(Arc::new(LocalBackend::new(text, None).to("open the archive's folder")?))
}

fn plain(backend: &Arc<dyn WriteBackend>) -> Result<Repository<()>, ArchiveError> {
    let options = RepositoryOptions::default().no_cache(true);
    Repository::new(&options, &RepositoryBackends::new(Arc::clone(backend), None)).to("open the archive")
}

fn open_plain(
    backend: &Arc<dyn WriteBackend>,
    folder: &Path,
    password: &Password,
) -> Result<Repository<OpenStatus>, ArchiveError> {
    if let Some(key) = password.recall()
        && let Ok(opened) = plain(backend)?.open(&Credentials::Masterkey(key))
    {
        return Ok(opened);
    }
    let opened = plain(backend)?.open(&Credentials::password(password.expose())).map_err(|error| {
        if error.is_incorrect_password() {
            ArchiveError::WrongKey { folder: folder.to_owned() }
        } else {
            ArchiveError::Repository { action: "open the archive", why: error.display_log() }
        }
    })?;
    password.remember(&opened.key());
    Ok(opened)
}

/// One snapshot's file, or why not.
fn alone(repository: &Repository<OpenStatus>, id: SnapshotId) -> Result<SnapshotFile, String> {
    let mut answers = repository.stream_files_list::<SnapshotFile>(vec![id]).map_err(|error| error.display_log())?;
    match answers.next() {
        Some(Ok((_, file))) => Ok(file),
        Some(Err(error)) => Err(error.display_log()),
        None => Err("the library does not say".to_owned()),
    }
}
