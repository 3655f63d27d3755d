//! Putting right what is damaged: from a copy where one has it, and without one so that all goes on that can.
//!
//! Promise: nothing that is damaged is deleted; it is set aside in the archive's folder. What comes from a copy is what its
//! name says. What is lost for good is named: which snapshots, and which of their files.
//!
//! ```text
//!  damaged or missing ──▶ a copy has it ──▶ bring_back
//!                     └─▶ none has it   ──▶ lost: say what ──▶ give_up: set aside, a new index without it
//!                                             ▲                   │
//!                 give_up_snapshots ◀─────────┴──── a backup ◀────┘
//! ```
//!
//! Left out: reading again what is still at the source; the next backup does, because its chunks are missing then. What
//! snapshots still lack after that is lost for good, and they are given up, since beside one nothing can be pruned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustic_core::repofile::{IndexBlob, IndexFile, IndexId, RepoFile, SnapshotFile};
use rustic_core::{DataId, Id, IndexedFullStatus, OpenStatus, RepairIndexOptions, Repository, TreeId, WriteBackend};

use crate::chunk::Sum;
use crate::copy::backend::{self, CopyBackend};
use crate::copy::place::{FileKind, FileName, Place};
use crate::copy::{CopyError, Folder, list, read_right};
use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::place::{lock_for_copies, sync_names};
use crate::removed::{self, Removed};
use crate::repository::{Archive, Subject};
use crate::take::{Seen, Watch};

/// Where damaged files go.
const ASIDE: &str = "set-aside";

/// What is wrong with the files of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Files that are not what their names say, or cannot be read.
    pub damaged: Vec<FileName>,
    /// Files that should be there.
    pub missing: Vec<FileName>,
}

impl Damage {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty()
    }

    /// Each file of it.
    pub fn all(&self) -> impl Iterator<Item = FileName> {
        self.damaged.iter().chain(&self.missing).copied()
    }
}

/// What a snapshot lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its name.
    pub snapshot: String,
    /// What it is of, as far as that can still be read.
    pub subject: Option<Subject>,
    /// Its files, and its folders (with a slash at the end, or empty) with all that is in them; none when the snapshot itself
    /// is what is lost.
    pub paths: Vec<String>,
}

impl Archive {
    /// Reads every file, and compares it with its name; and looks whether each pack is there that an index names. `watch`
    /// is told how many bytes were read.
    ///
    /// # Errors
    /// When the archive cannot be listed.
    pub fn damage(&self, watch: &Watch) -> Result<Damage, CopyError> {
        let here = Folder::new(self.folder());
        let (files, _) = list(&here)?;
        watch(Seen::Total(files.values().flat_map(|files| files.values()).sum()));
        let mut damage = Damage::default();
        let mut read = 0;
        for (kind, files) in &files {
            for (sum, size) in files {
                let name = FileName::Named(*kind, *sum);
                if !matches!(read_right(&here, &name), Ok(Some(_))) {
                    damage.damaged.push(name);
                }
                read += size;
                watch(Seen::Stored(read));
            }
        }
        let there = files.get(&FileKind::Pack);
        let mut missing = BTreeSet::new();
        self.each_pack(&damage.damaged, &mut |pack, _| {
            if there.is_none_or(|packs| !packs.contains_key(&pack)) {
                missing.insert(FileName::Named(FileKind::Pack, pack));
            }
        })?;
        damage.missing.extend(missing);
        Ok(damage)
    }

    /// Tells of each pack that an index names which can be read, and what is in it.
    fn each_pack(&self, damaged: &[FileName], tell: &mut dyn FnMut(Sum, &[IndexBlob])) -> Result<(), ArchiveError> {
        const ACTION: &str = "read the archive's index";
        let repository = self.repository()?;
        let is_good = |id: &IndexId| !damaged.contains(&FileName::Named(FileKind::Index, sum(id.to_hex().as_str())));
        let good = repository.list::<IndexId>().to(ACTION)?.filter(is_good).collect();
        for file in repository.stream_files_list::<IndexFile>(good).to(ACTION)? {
            let (_, index) = file.to(ACTION)?;
            for pack in index.packs.iter().chain(&index.packs_to_delete) {
                tell(sum(pack.id.to_hex().as_str()), &pack.blobs);
            }
        }
        Ok(())
    }

    /// What a copy has and this archive has not, though no prune removed it: it is missing here. Where snapshots are
    /// missing, that is all that only the copy has, since they may need it. But for keys: a copy is in other hands, and a key
    /// may be made to take for ever. Indexes and snapshots are told only when they are this archive's.
    ///
    /// # Errors
    /// When one of the two cannot be listed.
    pub fn missing_beside(&self, place: &Arc<dyn Place>) -> Result<Vec<FileName>, CopyError> {
        let here = Folder::new(self.folder());
        let removed =
            removed::read(self.folder()).map_err(ArchiveError::file("read what was pruned from", self.folder()))?;
        let kept = crate::copy::plan::plan(&list(&here)?.0, &list(&**place)?.0, &removed).kept;
        let copy: Arc<dyn WriteBackend> = Arc::new(CopyBackend::new(Arc::clone(place)));
        let copy = self.repository_in(&copy)?;
        let is_ours = |name: &FileName| match name {
            FileName::Named(FileKind::Pack, _) => true,
            FileName::Named(FileKind::Index, sum) => opens::<IndexFile>(&copy, sum),
            FileName::Named(FileKind::Snapshot, sum) => opens::<SnapshotFile>(&copy, sum),
            FileName::Named(FileKind::Key, _) | FileName::Config | FileName::Label => false,
        };
        Ok(kept.into_iter().filter(is_ours).collect())
    }

    /// Brings a file back from a copy; what is here under this name is set aside. Whether the copy has it as it was.
    ///
    /// # Errors
    /// When the copy cannot be read, or the archive not written.
    pub fn bring_back(&self, name: &FileName, from: &dyn Place) -> Result<bool, CopyError> {
        let content = match read_right(from, name) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(CopyError::place("read", name, from)(error)),
        };
        let _no_copies = lock_for_copies(self.folder())?;
        crate::room::room_for(self.folder(), content.len() as u64)?;
        self.set_aside(name)?;
        let here = Folder::new(self.folder());
        here.write(name, &content).map_err(CopyError::place("write", name, &here))?;
        here.settle().map_err(CopyError::place("sync", "the folder", &here))?;
        Ok(true)
    }

    /// Where damaged files are.
    pub fn aside(&self) -> PathBuf {
        self.folder().join(ASIDE)
    }

    fn set_aside(&self, name: &FileName) -> Result<(), ArchiveError> {
        let (from, aside) = (self.folder().join(name.path()), self.aside());
        if from.symlink_metadata().is_err() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&aside).map_err(ArchiveError::file("make", &aside))?;
        // One of that name may lie there, of another time.
        let free = (0_u32..).map(|number| aside.join(format!("{}.{number}", name.path().replace('/', "-"))));
        let to =
            free.into_iter().find(|to| to.symlink_metadata().is_err()).unwrap_or_else(|| aside.join("one-too-many"));
        fs::rename(&from, to).map_err(ArchiveError::file("set aside", &from))?;
        sync_names(&aside).map_err(ArchiveError::file("sync", aside))
    }

    /// What is lost without these files, and what was lost before: which snapshots, and what of them.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn lost(&self, without: &[FileName]) -> Result<Vec<Lost>, ArchiveError> {
        let mut lost = Vec::new();
        for name in without {
            if let FileName::Named(FileKind::Snapshot, sum) = name {
                lost.push(Lost { snapshot: hex::encode(sum), subject: None, paths: Vec::new() });
            }
        }
        let is_lost = |pack: &Sum| without.contains(&FileName::Named(FileKind::Pack, *pack));
        let name = |blob: &IndexBlob| sum(blob.id.to_hex().as_str());
        let mut gone = BTreeSet::new();
        self.each_pack(without, &mut |pack, blobs| gone.extend(blobs.iter().map(name).filter(|_| is_lost(&pack))))?;
        // A chunk may be in two packs.
        self.each_pack(without, &mut |pack, blobs| {
            if !gone.is_empty() && !is_lost(&pack) {
                for blob in blobs {
                    gone.remove(&name(blob));
                }
            }
        })?;
        // An index that cannot be read would stop it, and its packs can be indexed again.
        let without_index = without.iter().any(|name| matches!(name, FileName::Named(FileKind::Index, _)));
        if without_index {
            return Ok(lost);
        }
        let repository = self.indexed()?;
        let mut walk = Walk { repository: &repository, gone: &gone, known: BTreeMap::new() };
        for snapshot in self.inventory()?.snapshots {
            let folder = snapshot.subject.as_ref().map(Subject::folder).unwrap_or_default();
            let shorter = |path: &String| path.strip_prefix(&folder).unwrap_or(path).trim_start_matches('/').to_owned();
            let paths: Vec<String> = walk.of(snapshot.file.tree).iter().map(shorter).collect();
            if !paths.is_empty() {
                lost.push(Lost { snapshot: snapshot.id, subject: snapshot.subject, paths });
            }
        }
        Ok(lost)
    }

    /// Gives up snapshots that are not whole, and that nobody has whole: sets them aside, and says so to copies.
    ///
    /// # Errors
    /// When the archive cannot be written; it can be done again.
    pub fn give_up_snapshots(&self, lost: &[Lost]) -> Result<(), ArchiveError> {
        let _no_copies = lock_for_copies(self.folder())?;
        let mut removed =
            Removed::open(self.folder()).map_err(ArchiveError::file("note what is removed from", self.folder()))?;
        for lost in lost {
            let name = FileName::Named(FileKind::Snapshot, sum(&lost.snapshot));
            removed.note(&name).map_err(ArchiveError::file("note what is removed from", self.folder()))?;
            self.set_aside(&name)?;
        }
        Ok(())
    }

    /// Goes on without these files: sets them aside, and makes the index say what is there.
    ///
    /// # Errors
    /// When the archive cannot be written; it can be done again.
    pub fn give_up(&self, files: &[FileName]) -> Result<(), ArchiveError> {
        const ACTION: &str = "make the index anew";
        let _no_copies = lock_for_copies(self.folder())?;
        files.iter().try_for_each(|name| self.set_aside(name))?;
        let held = Arc::new(Held::new(self.backend(), self.folder().to_owned()));
        let quiet: Watch = Arc::new(|_| {});
        let repository = self.repository_over(&held, &quiet)?;
        // What the library writes it syncs; it removes an index when the new one is there.
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| repository.repair_index(&RepairIndexOptions::default(), false)).join()
        });
        ended.map_err(|_| ArchiveError::Panicked { action: ACTION })?.to(ACTION)?;
        held.let_in()
    }
}

/// Whether a file was written with the archive's own key.
fn opens<F: RepoFile>(copy: &Repository<OpenStatus>, sum: &Sum) -> bool
where
    F::Id: From<Id>,
{
    let read = copy.stream_files_list::<F>(vec![F::Id::from(backend::id(sum))]);
    read.is_ok_and(|mut read| read.next().is_some_and(|file| file.is_ok()))
}

fn sum(hex: &str) -> Sum {
    crate::copy::place::sum_of_name(hex).unwrap_or_default()
}

/// A walk through trees, each once.
struct Walk<'r> {
    repository: &'r Repository<IndexedFullStatus>,
    gone: &'r BTreeSet<Sum>,
    known: BTreeMap<Sum, Arc<Vec<String>>>,
}

impl Walk<'_> {
    /// What is lost at and below a folder, as paths from there; the empty path when it is the folder itself.
    fn of(&mut self, tree: TreeId) -> Arc<Vec<String>> {
        let name = sum(tree.to_hex().as_str());
        if let Some(known) = self.known.get(&name) {
            return Arc::clone(known);
        }
        let nodes = match self.repository.get_tree(&tree) {
            Ok(tree) if !self.gone.contains(&name) => tree.nodes,
            _ => {
                let all = Arc::new(vec![String::new()]);
                self.known.insert(name, Arc::clone(&all));
                return all;
            }
        };
        let mut paths = Vec::new();
        for node in nodes {
            let called = node.name().to_string_lossy().into_owned();
            if let Some(inside) = node.subtree {
                let below = self.of(inside);
                paths.extend(below.iter().map(|path| format!("{called}/{path}")));
            }
            let is_gone = |chunk: &DataId| {
                self.gone.contains(&sum(chunk.to_hex().as_str())) || self.repository.get_index_entry(chunk).is_err()
            };
            if node.content.iter().flatten().any(is_gone) {
                paths.push(called);
            }
        }
        let paths = Arc::new(paths);
        self.known.insert(name, Arc::clone(&paths));
        paths
    }
}
