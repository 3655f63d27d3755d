//! Taking a snapshot: whole, or not at all.
//!
//! The library stores what it can get and passes over the rest: a source that dies after three files leaves a snapshot
//! of three files, and the word that all is well. So nothing it says is believed here. Its snapshot is held back
//! ([`crate::held`]); faults of the source are counted where they happen ([`crate::pull`]); then the stored tree is
//! read again and compared with the list, entry by entry, chunk by chunk; only then is the snapshot let in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustic_core::jiff::Zoned;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    BackupOptions, ErrorKind, ParentOptions, Progress, ProgressBars, ProgressType, ReadSource, ReadSourceEntry,
    ReadSourceOpen, Repository, RepositoryBackends, RepositoryOptions, RusticError, RusticProgress, RusticResult,
};

use crate::entry::{Entry, Kind, TreePath};
use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::manifest::Manifest;
use crate::pull::{FileBytes, Line, Listed, Pull, PullError, Sum, list};
use crate::repository::{Archive, Snapshot, Subject, newer, within};
use crate::room::room_for;
use crate::tree;

/// What a run has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// So many entries are listed.
    Listed(u64),
    /// So many bytes there are in all files.
    Total(u64),
    /// So many of them are in the archive.
    Stored(u64),
    /// All is stored, and is compared with the list.
    Comparing,
}

/// Is told what a run has come to, from several threads.
pub type Watch = Arc<dyn Fn(Seen) + Send + Sync>;

/// A snapshot that was taken.
#[derive(Debug)]
pub struct Taken {
    /// It; one before when nothing has changed since that.
    pub snapshot: Snapshot,
    /// Whether nothing had changed, so that none was added.
    pub unchanged: bool,
    /// The names of others that came after the last one that was proven: what they hold is compared with nothing.
    pub unproven: Vec<String>,
    /// What it consists of.
    pub manifest: Manifest,
    /// The files that came over the line, with the sum of their bytes. All others are as in the proven snapshot.
    pub read: BTreeMap<TreePath, Sum>,
    /// How many bytes of content came over the line.
    pub bytes_read: u64,
    /// Pipes, sockets and devices that were passed over.
    pub left_out: u64,
}

impl Archive {
    /// Takes a snapshot of what the source at the other end of `line` has, as the data of `subject`. `host` is shown by
    /// restic and must be the same each time. `proven` is the snapshot whose every file is known to be in the archive
    /// as it was read: what looks as it does there is not read again. Without one everything is, so that all of it can
    /// be compared afterwards.
    ///
    /// # Errors
    /// When it cannot be had, stored or compared whole, or there is no room for it: then there is no snapshot.
    pub fn take(
        &self,
        subject: &Subject,
        host: &str,
        proven: Option<&str>,
        mut line: Line,
        watch: &Watch,
    ) -> Result<Taken, ArchiveError> {
        let Listed { manifest, left_out } =
            list(&mut line, &|count| watch(Seen::Listed(count))).map_err(ArchiveError::Source)?;
        watch(Seen::Total(manifest.bytes()));
        let manifest = Arc::new(manifest);
        let snapshots = self.snapshots()?;
        let is_proven = |snapshot: &&Snapshot| {
            snapshot.subject.as_ref() == Some(subject) && proven.is_some_and(|proven| snapshot.id == proven)
        };
        let before = snapshots.iter().find(is_proven);
        let later = newer(&snapshots, subject, proven);
        self.make_sure_of_room(&manifest, subject, before.into_iter().chain(later.last().copied()))?;
        let held = Arc::new(Held::new(self.backend(), self.folder().to_owned()));
        let pull = Arc::new(Pull::new(line));
        let stored = self.store(subject, host, before, &manifest, &pull, &held, watch);
        pull.quit();
        if let Some(error) = held.no_room() {
            return Err(error);
        }
        if let Some(fault) = pull.fault() {
            return Err(ArchiveError::Source(PullError::Fault(fault)));
        }
        let file = stored?;
        watch(Seen::Comparing);
        compare(&self.indexed()?, &file, subject, &manifest)?;
        // One that was let in and never proven is as good as another one like it, now that all of it was read.
        let same = before.into_iter().chain(later.last().copied()).find(|there| there.file.tree == file.tree).cloned();
        let unchanged = same.is_some();
        let snapshot = match same {
            Some(same) => {
                held.settle()?;
                same
            }
            None => {
                held.let_in()?;
                Snapshot::of(file)
            }
        };
        let unproven = later.iter().filter(|later| later.id != snapshot.id).map(|later| later.id.clone()).collect();
        let (read, bytes_read) = pull.read();
        let manifest = Arc::unwrap_or_clone(manifest);
        Ok(Taken { snapshot, unchanged, unproven, manifest, read, bytes_read, left_out })
    }

    /// Asks for what is not in the archive yet, as far as that can be told before reading it: what it comes to
    /// compressed nobody knows.
    fn make_sure_of_room<'s>(
        &self,
        manifest: &Manifest,
        subject: &Subject,
        there: impl Iterator<Item = &'s Snapshot>,
    ) -> Result<(), ArchiveError> {
        if room_for(self.folder(), manifest.bytes()).is_ok() {
            return Ok(());
        }
        let repository = self.indexed()?;
        let trees = there.filter_map(|snapshot| tree::read(&repository, snapshot.file.tree, subject).ok());
        let stored: Vec<Manifest> = trees.map(|(manifest, _)| manifest).collect();
        // The time of change is left out: who changes modes, and nothing else, adds nothing.
        let is_there = |entry: &&Entry| {
            let looks = |entry: &Entry| (entry.size(), entry.modified, entry.inode);
            stored.iter().filter_map(|stored| stored.get(&entry.path)).any(|there| looks(there) == looks(entry))
        };
        let anew = manifest.entries().iter().filter(|entry| !is_there(entry)).map(Entry::size).sum();
        room_for(self.folder(), anew)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one run, used once")]
    fn store(
        &self,
        subject: &Subject,
        host: &str,
        before: Option<&Snapshot>,
        manifest: &Arc<Manifest>,
        pull: &Arc<Pull>,
        held: &Arc<Held>,
        watch: &Watch,
    ) -> Result<SnapshotFile, ArchiveError> {
        const ACTION: &str = "store the data";
        let repository = self.repository_over(held, watch)?.to_indexed_ids().to("read the archive's index")?;
        let source = Source { manifest: Arc::clone(manifest), pull: Arc::clone(pull), subject: subject.clone() };
        let folder = PathBuf::from(format!("/{}", subject.folder()));
        let snapshot = SnapshotFile {
            time: Zoned::now(),
            hostname: host.to_owned(),
            program_version: format!("sovereign {}", env!("CARGO_PKG_VERSION")),
            ..SnapshotFile::default()
        };
        let parent = match before {
            Some(before) => ParentOptions::default()
                .parents(vec![before.id.clone()])
                // The library's test is the wrong way round: this is what makes it look at inodes. A test of ours
                // fails when that changes.
                .ignore_inode(true),
            None => ParentOptions::default().force(true),
        };
        let options = BackupOptions::default().parent_opts(parent).no_scan(true);
        // A full disk makes threads of the library end early, and those that wait for them panic.
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| repository.archive(&options, &source, snapshot, &[folder])).join()
        });
        ended.map_err(|_| ArchiveError::Panicked { action: ACTION })?.to(ACTION)
    }

    /// Over `held`; `watch` is told how many bytes are stored.
    pub(crate) fn repository_over(
        &self,
        held: &Arc<Held>,
        watch: &Watch,
    ) -> Result<Repository<rustic_core::OpenStatus>, ArchiveError> {
        let over: Arc<dyn rustic_core::WriteBackend> = Arc::clone(held) as _;
        let options = RepositoryOptions::default().no_cache(true);
        Repository::new_with_progress(&options, &RepositoryBackends::new(over, None), Bars(Arc::clone(watch)))
            .and_then(|repository| repository.open(&self.credentials()))
            .to("open the archive")
    }
}

/// What is stored must be what was listed.
fn compare(
    repository: &Repository<rustic_core::IndexedFullStatus>,
    file: &SnapshotFile,
    subject: &Subject,
    listed: &Manifest,
) -> Result<(), ArchiveError> {
    let read = tree::read(repository, file.tree, subject);
    let (stored, _) = read.map_err(|why| ArchiveError::Repository { action: "read what was stored", why })?;
    let differs = |path: &TreePath, what| Err(ArchiveError::NotAsListed { path: path.to_string(), what });
    let mut stored = stored.entries().iter();
    for listed in listed.entries() {
        match stored.next() {
            Some(stored) if stored == listed => {}
            Some(stored) if stored.path == listed.path => return differs(&listed.path, "is stored otherwise"),
            _ => return differs(&listed.path, "is missing from what was stored"),
        }
    }
    stored.next().map_or(Ok(()), |more| differs(&more.path, "is stored and was not listed"))
}

/// A list and a line, as the library wants them.
struct Source {
    manifest: Arc<Manifest>,
    pull: Arc<Pull>,
    subject: Subject,
}

struct Entries {
    manifest: Arc<Manifest>,
    pull: Arc<Pull>,
    subject: Subject,
    next: usize,
}

/// A file that the library may ask for.
struct Opening {
    manifest: Arc<Manifest>,
    pull: Arc<Pull>,
    index: usize,
}

fn refused(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::InputOutput, "the source does not have it", why)
}

impl ReadSourceOpen for Opening {
    type Reader = FileBytes;

    fn open(self) -> RusticResult<FileBytes> {
        let entry = self.manifest.entries().get(self.index).ok_or_else(|| refused("no such entry"))?;
        self.pull.open(entry).map_err(refused)
    }
}

impl ReadSource for Source {
    type Open = Opening;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(Some(self.manifest.bytes()))
    }

    fn entries(&self) -> Entries {
        let Self { manifest, pull, subject } = self;
        Entries { manifest: Arc::clone(manifest), pull: Arc::clone(pull), subject: subject.clone(), next: 0 }
    }
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Opening>>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.manifest.entries().get(self.next)?;
        let index = self.next;
        self.next += 1;
        let Some(node) = tree::node(entry) else { return Some(Err(refused("a time that cannot be stored"))) };
        let opening = || Opening { manifest: Arc::clone(&self.manifest), pull: Arc::clone(&self.pull), index };
        let open = matches!(entry.kind, Kind::File { .. }).then(opening);
        Some(Ok(ReadSourceEntry { path: within(&self.subject, &entry.path), node, open }))
    }
}

/// Passes on how many bytes are stored.
struct Bars(Watch);

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}

impl ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, _: &str) -> Progress {
        match kind {
            ProgressType::Bytes => Progress::new(Bar { watch: Arc::clone(&self.0), stored: AtomicU64::new(0) }),
            ProgressType::Counter | ProgressType::Spinner => Progress::hidden(),
        }
    }
}

struct Bar {
    watch: Watch,
    stored: AtomicU64,
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bar")
    }
}

impl RusticProgress for Bar {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, _: u64) {}

    fn set_title(&self, _: &str) {}

    fn inc(&self, more: u64) {
        let before = self.stored.fetch_add(more, Ordering::Relaxed);
        (self.watch)(Seen::Stored(before + more));
    }

    fn finish(&self) {}
}
