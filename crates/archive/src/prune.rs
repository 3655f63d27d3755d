//! Forgetting snapshots and getting their room back, in two steps.
//!
//! ```text
//!  prune                      GRACE later, prune
//!  snapshots ── removed
//!  chunks that none needs ──▶ marked ──▶ removed, unless a snapshot needs them again
//!  packs half needed ───────▶ what is needed copied, the pack marked ──▶ removed
//! ```
//!
//! Promise: a [`Prune`] that was looked at is what is run, or nothing is: it holds the library's own plan, and refuses
//! when snapshots or indexes are others than those it was made from. Killed anywhere it leaves every snapshot that is
//! still there whole; the next one goes on from what it finds. Whoever reads the archive meanwhile (restic on another
//! machine, say) has a day to finish.
//!
//! Beside a snapshot that cannot be read nothing is pruned: nobody knows which chunks it needs, so all that only it needs
//! would be taken for what none needs, and be gone when its file is brought back. On a disk that has no room for it
//! nothing is copied; the rest is done, because it is what frees room.
//!
//! What an interrupted backup left, packs that no index names, the library marks too, but only when it has an index to
//! write anyway: with one small index it says that there is nothing to do and forgets its marks. Then such packs are
//! removed here once they are as old as marks must be. They are counted as they will be treated.
//!
//! Left out: which snapshots to forget ([`crate::keep`]), and asking whether it may be done.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use rustic_core::jiff::Span;
use rustic_core::repofile::{IndexFile, SnapshotId};
use rustic_core::{FileType, Id, LimitOption, OpenStatus, PruneOptions, PrunePlan, Repository, WriteBackend as _};

use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::place::lock_for_copies;
use crate::repository::{Archive, Snapshot};
use crate::room::room_for;
use crate::take::Watch;

/// How long what is marked stays: an hour less than a day, so that a prune every day at the same time removes what the
/// one before has marked. A reader that started before the mark has that long to finish.
pub const GRACE: Duration = Duration::from_secs(23 * 3600);

/// So much may always be copied out of packs that are partly needed: it takes seconds. In a larger archive it is a tenth
/// of it at a time, so that a prune ends; the library's own limit is that tenth alone, which frees next to nothing in a
/// small one.
const COPIED: u64 = 1 << 30;

/// What a prune makes of the room that the archive takes. All in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// What snapshots that stay refer to.
    pub used: u64,
    /// What none refers to any more: marked now, free after the first prune that comes [`GRACE`] later or more.
    pub marks: u64,
    /// What was marked long enough ago: free right away.
    pub removes: u64,
    /// What was marked, or left by an interrupted backup, and still has to wait.
    pub waits: u64,
    /// What is copied out of packs that are only partly needed; takes room twice until those packs are removed.
    pub copies: u64,
}

/// A prune that is planned and not done.
pub struct Prune<'a> {
    archive: &'a Archive,
    forget: Vec<SnapshotId>,
    options: PruneOptions,
    plan: PrunePlan,
    /// Packs that no index names, old enough to go; empty when the library marks them.
    strays: Vec<Id>,
    room: Room,
    made_from: MadeFrom,
}

impl fmt::Debug for Prune<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prune({} snapshots, {:?})", self.forget.len(), self.room)
    }
}

/// All that a plan depends on: packs never change, and which of them count the indexes say.
#[derive(Debug, PartialEq, Eq)]
struct MadeFrom {
    snapshots: BTreeSet<Id>,
    indexes: BTreeSet<Id>,
}

impl Archive {
    /// Plans to forget these snapshots, to mark what none of the others needs, and to remove what was marked `grace`
    /// ago: [`GRACE`], but for tests. Changes nothing.
    ///
    /// # Errors
    /// When the archive, or one of its snapshots, cannot be read.
    pub fn plan_prune(&self, forget: &[Snapshot], grace: Duration) -> Result<Prune<'_>, ArchiveError> {
        const ACTION: &str = "plan what to prune";
        let made_from = self.made_from()?;
        let unreadable = self.inventory()?.unreadable;
        if !unreadable.is_empty() {
            let folder = self.folder().join(FileType::Snapshot.dirname());
            let snapshots = unreadable.into_iter().map(|lost| lost.id).collect();
            return Err(ArchiveError::BesideUnreadable { snapshots, folder });
        }
        // In this order: a pack is written before the index that names it.
        let packs = self.backend().list_with_size(FileType::Pack).to(ACTION)?;
        let total: u64 = packs.iter().map(|(_, size)| u64::from(*size)).sum();
        let repository = self.repository()?;
        let forget: Vec<SnapshotId> = forget.iter().map(|snapshot| snapshot.file.id).collect();
        let mut options = PruneOptions::default()
            .keep_delete(Span::new().seconds(grace.as_secs().min(GRACE.as_secs()).cast_signed()))
            .max_repack(LimitOption::Size(ByteSize::b(COPIED.max(total / 10))))
            .ignore_snaps(forget.clone());
        let mut plan = repository.prune_plan(&options).to(ACTION)?;
        if room_for(self.folder(), copied(&plan)).is_err() {
            options = options.max_repack(LimitOption::Size(ByteSize::b(0)));
            plan = repository.prune_plan(&options).to(ACTION)?;
        }
        let (stats, sizes) = (&plan.stats, plan.stats.size_sum());
        let mut room = Room {
            used: sizes.used,
            marks: sizes.remove + sizes.repackrm,
            removes: stats.size_to_delete.remove,
            waits: stats.size_to_delete.keep,
            copies: copied(&plan),
        };
        let mut strays = Vec::new();
        if stats.index_files_rebuild > 0 {
            room.marks += stats.size_unref;
        } else if stats.packs_unref > 0 {
            for stray in self.strays(packs, &repository)? {
                if stray.age >= grace {
                    room.removes += stray.size;
                    strays.push(stray.id);
                } else {
                    room.waits += stray.size;
                }
            }
        }
        Ok(Prune { archive: self, forget, options, plan, strays, room, made_from })
    }

    fn made_from(&self) -> Result<MadeFrom, ArchiveError> {
        let backend = self.backend();
        let list = |of| -> Result<BTreeSet<Id>, ArchiveError> {
            Ok(backend.list(of).to("list the archive")?.into_iter().collect())
        };
        Ok(MadeFrom { snapshots: list(FileType::Snapshot)?, indexes: list(FileType::Index)? })
    }

    /// Those of the packs that no index names.
    fn strays(&self, packs: Vec<(Id, u32)>, repository: &Repository<OpenStatus>) -> Result<Vec<Stray>, ArchiveError> {
        const ACTION: &str = "read the archive's index";
        let mut named = BTreeSet::new();
        for file in repository.stream_files::<IndexFile>().to(ACTION)? {
            let (_, index) = file.to(ACTION)?;
            named.extend(index.packs.iter().chain(&index.packs_to_delete).map(|pack| *pack.id));
        }
        let strays = packs.into_iter().filter(|(id, _)| !named.contains(id));
        Ok(strays.map(|(id, size)| Stray { id, size: size.into(), age: self.age(&id) }).collect())
    }

    /// How long ago a pack was written; no time at all when nobody can tell.
    fn age(&self, pack: &Id) -> Duration {
        let name = pack.to_hex();
        let name = name.as_str();
        let folder = self.folder().join("data").join(name.get(..2).unwrap_or_default());
        let modified = folder.join(name).metadata().and_then(|metadata| metadata.modified());
        modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }
}

fn copied(plan: &PrunePlan) -> u64 {
    let sizes = plan.stats.size_sum();
    sizes.repack - sizes.repackrm
}

struct Stray {
    id: Id,
    size: u64,
    age: Duration,
}

impl Prune<'_> {
    /// What it makes of the room.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Whether there is nothing to forget, mark, remove or copy.
    pub fn is_nothing(&self) -> bool {
        let Room { used: _, marks, removes, waits: _, copies } = self.room;
        let recovers = self.plan.stats.packs_to_delete.recover;
        self.forget.is_empty() && [marks, removes, copies, recovers] == [0; 4]
    }

    /// Does it. `watch` is told how many bytes are copied.
    ///
    /// # Errors
    /// When the archive is not the one any more that this was planned for, or has no room any more for what is copied:
    /// then nothing is done. When it cannot be written, or others take the room meanwhile: then it is sound, and the next
    /// prune goes on.
    pub fn run(self, watch: &Watch) -> Result<(), ArchiveError> {
        const ACTION: &str = "prune the archive";
        let Self { archive, forget, options, plan, strays, room, made_from } = self;
        let _no_copies = lock_for_copies(archive.folder())?;
        if archive.made_from()? != made_from {
            return Err(ArchiveError::Stale);
        }
        room_for(archive.folder(), room.copies)?;
        let held = Arc::new(Held::new(archive.backend(), archive.folder().to_owned()));
        let repository = archive.repository_over(&held, watch)?;
        let work = || -> Result<(), ArchiveError> {
            // Before anything is marked: were this killed in between, a snapshot would need what is marked.
            if !forget.is_empty() {
                repository.delete_snapshots(&forget).to(ACTION)?;
                held.settle()?;
            }
            repository.prune(&options, plan).to(ACTION)?;
            strays.iter().try_for_each(|id| held.remove(FileType::Pack, id, false)).to(ACTION)
        };
        // A full disk makes threads of the library end early, and those that wait for them panic.
        let ended = std::thread::scope(|scope| scope.spawn(work).join());
        if let Some(error) = held.no_room() {
            return Err(error);
        }
        ended.map_err(|_| ArchiveError::Panicked { action: ACTION })?
    }
}

#[cfg(test)]
mod tests;
