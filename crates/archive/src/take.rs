//! Taking a snapshot: whole, or not at all.
//!
//! A source that dies after three files leaves three files stored. So nothing that stores is believed: faults of the source
//! are counted where they happen ([`crate::pull`]); then the stored tree is read again, by the library, and compared with
//! the list, entry by entry, chunk by chunk; only then is there a snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustic_core::jiff::Zoned;
use rustic_core::repofile::{SnapshotFile, SnapshotSummary, StringList};
use rustic_core::{
    FileType, Id, Progress, ProgressBars, ProgressType, Repository, RepositoryBackends, RepositoryOptions,
    RusticProgress, WriteBackend as _,
};

use crate::chunk::{Sum, name};
use crate::entry::{Entry, Kind, TreePath};
use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::manifest::Manifest;
use crate::pack::Added;
use crate::pull::{Line, Listed, Pull, PullError, list};
use crate::repository::{Archive, Snapshot, Subject, newer};
use crate::restore::Contents;
use crate::room::room_for;
use crate::seal::Sealer;
use crate::store::{Stored, known};
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
    /// The same as it can be restored, read from the archive.
    pub contents: Contents,
    /// The files that came over the line, with their sums. All others are as in the proven snapshot.
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
        let snapshots = self.snapshots()?;
        let is_proven = |snapshot: &&Snapshot| {
            snapshot.subject.as_ref() == Some(subject) && proven.is_some_and(|proven| snapshot.id == proven)
        };
        let before = snapshots.iter().find(is_proven);
        let later = newer(&snapshots, subject, proven);
        self.make_sure_of_room(&manifest, subject, before.into_iter().chain(later.last().copied()))?;
        let held = Held::new(self.backend(), self.folder().to_owned());
        let index = self.indexed()?;
        // One that cannot be read is none: all is read anew.
        let there = before.and_then(|before| tree::read(&index, before.file.tree, subject).ok());
        let is_same = there.as_ref().is_some_and(|(there, _)| *there == manifest);
        let is_known = |entry: &&Entry| there.as_ref().is_some_and(|there| known(there, entry).is_some());
        let files = manifest.entries().iter().filter(|entry| matches!(entry.kind, Kind::File { .. }));
        let mut pull = Pull::new(line, files.filter(|entry| !is_known(entry)).collect());
        let stored = match before {
            Some(before) if is_same => Ok(Stored::nothing(before.file.tree)),
            _ => self.store(subject, &index, there.as_ref(), &manifest, &mut pull, &held, watch),
        };
        pull.quit();
        if let Some(error) = held.no_room() {
            return Err(error);
        }
        if let Some(fault) = pull.fault() {
            return Err(ArchiveError::Source(PullError::Fault(fault)));
        }
        let bytes_read = pull.bytes();
        let Stored { tree, read, added, any } = stored?;
        watch(Seen::Comparing);
        let repository = if any { self.indexed()? } else { index };
        let (there, chunks) = match there.filter(|_| is_same) {
            Some(there) => there,
            None => tree::read(&repository, tree, subject)
                .map_err(|why| ArchiveError::Repository { action: "read what was stored", why })?,
        };
        compare(&there, &manifest)?;
        // One that was let in and never proven is as good as another one like it, now that all of it was read.
        let same = before.into_iter().chain(later.last().copied()).find(|there| there.file.tree == tree).cloned();
        let unchanged = same.is_some();
        let snapshot = match same {
            Some(same) => {
                held.settle()?;
                same
            }
            None => {
                let file = SnapshotFile { hostname: host.to_owned(), tree, ..new_snapshot(subject, before)? };
                let file = SnapshotFile { summary: Some(summary(&manifest, &read, added, &file.time)), ..file };
                let id = self.write_snapshot(&file, &held)?;
                held.let_in()?;
                Snapshot::of(SnapshotFile { id: id.into(), ..file })
            }
        };
        let unproven = later.iter().filter(|later| later.id != snapshot.id).map(|later| later.id.clone()).collect();
        let contents = self.contents_of(repository, &snapshot, there, chunks);
        Ok(Taken { snapshot, unchanged, unproven, manifest, contents, read, bytes_read, left_out })
    }

    fn write_snapshot(&self, file: &SnapshotFile, held: &Held) -> Result<Id, ArchiveError> {
        const ACTION: &str = "write the snapshot";
        let text = serde_json::to_vec(file);
        let text = text.map_err(|error| ArchiveError::Repository { action: ACTION, why: error.to_string() })?;
        let sealed = Sealer::new(self.key())?.file(&text)?;
        let id = Id::new(name(&sealed));
        held.write_bytes(FileType::Snapshot, &id, false, sealed.into()).to(ACTION)?;
        Ok(id)
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
fn compare(stored: &Manifest, listed: &Manifest) -> Result<(), ArchiveError> {
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

/// The file of a snapshot, as restic has it, before anything is known of what it holds.
fn new_snapshot(subject: &Subject, before: Option<&Snapshot>) -> Result<SnapshotFile, ArchiveError> {
    let path: Result<StringList, _> = format!("/{}", subject.folder()).parse();
    let failed = |error| ArchiveError::Repository { action: "name the snapshot", why: format!("{error}") };
    Ok(SnapshotFile {
        time: Zoned::now(),
        paths: path.map_err(failed)?,
        program_version: format!("sovereign {}", env!("CARGO_PKG_VERSION")),
        parent: before.map(|before| before.file.id),
        parents: before.map(|before| before.file.id).into_iter().collect(),
        ..SnapshotFile::default()
    })
}

/// What a snapshot's file says of it.
fn summary(manifest: &Manifest, read: &BTreeMap<TreePath, Sum>, added: Added, time: &Zoned) -> SnapshotSummary {
    let Added { data, trees } = added;
    let folders = manifest.entries().iter().filter(|entry| entry.kind == Kind::Folder).count() as u64;
    let mut summary = SnapshotSummary::default();
    summary.total_files_processed = manifest.entries().len() as u64 - folders;
    summary.total_dirs_processed = folders;
    summary.total_bytes_processed = manifest.bytes();
    summary.files_changed = read.len() as u64;
    summary.files_unmodified = summary.total_files_processed - summary.files_changed;
    (summary.data_blobs, summary.tree_blobs) = (data.chunks, trees.chunks);
    (summary.data_added_files, summary.data_added_files_packed) = (data.bytes, data.packed);
    (summary.data_added_trees, summary.data_added_trees_packed) = (trees.bytes, trees.packed);
    (summary.data_added, summary.data_added_packed) = (data.bytes + trees.bytes, data.packed + trees.packed);
    (summary.backup_start, summary.backup_end) = (time.clone(), Zoned::now());
    summary
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
