//! Looking after the archive: checking it, and forgetting old snapshots in two steps.
//!
//! Promise: what is about to go is shown before it goes, and goes in two steps a day apart: the first only marks chunks
//! that no snapshot refers to, the second removes what was marked and is still not needed. A program that reads the
//! archive meanwhile (restic on another machine, say) never loses what it is reading.

use rustic_core::jiff::Span;
use rustic_core::repofile::SnapshotId;
use rustic_core::{CheckOptions, PruneOptions};

use crate::error::{ArchiveError, To as _};
use crate::repository::{Archive, Inventory, Snapshot, Unreadable};

/// How long what is marked stays.
const GRACE_HOURS: i64 = 23;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many snapshots were looked at.
    pub snapshots: u64,
    /// What is wrong.
    pub errors: Vec<String>,
    /// What is not as it should be, and harms nothing: chunks that an interrupted backup left, for instance.
    pub remarks: Vec<String>,
}

/// What a clean-up would do, or has done. All in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanUp {
    /// What snapshots refer to.
    pub used: u64,
    /// What none refers to any more: marked now, removed by a clean-up a day later.
    pub marks: u64,
    /// What was marked before and is removed now.
    pub removes: u64,
}

impl Archive {
    /// Looks whether every snapshot can be restored: that all it needs is there, and with `read_data` that every chunk
    /// is what it was.
    ///
    /// # Errors
    /// When the check itself cannot be done. What it finds is in the answer.
    pub fn check(&self, read_data: bool) -> Result<Checked, ArchiveError> {
        const ACTION: &str = "check the archive";
        let repository = self.repository()?;
        let Inventory { snapshots, unreadable } = self.inventory()?;
        let trees = snapshots.iter().map(|snapshot| snapshot.file.tree).collect();
        let lost =
            |unreadable: &Unreadable| format!("snapshot {} cannot be read: {}", unreadable.short(), unreadable.why);
        let mut errors: Vec<String> = unreadable.iter().map(lost).collect();
        let snapshots = (snapshots.len() + unreadable.len()) as u64;
        let options = CheckOptions::default().read_data(read_data);
        // A chunk that cannot be decompressed makes the library panic.
        let ended = std::thread::scope(|scope| scope.spawn(|| repository.check_with_trees(options, trees)).join());
        let found = match ended {
            Ok(found) => found.to(ACTION)?,
            Err(_) => {
                errors.push("a chunk cannot be decompressed".to_owned());
                return Ok(Checked { snapshots, errors, remarks: Vec::new() });
            }
        };
        let mut checked = Checked { snapshots, errors, remarks: Vec::new() };
        for (level, error) in found.0 {
            // Nothing else tells the levels apart: their type has no name outside of the library.
            let list = if format!("{level:?}") == "Error" { &mut checked.errors } else { &mut checked.remarks };
            list.push(error.to_string());
        }
        Ok(checked)
    }

    /// Forgets snapshots. Their chunks stay until a clean-up.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn forget(&self, snapshots: &[Snapshot]) -> Result<(), ArchiveError> {
        let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.file.id).collect();
        self.repository()?.delete_snapshots(&ids).to("forget snapshots")
    }

    /// What a clean-up would do now.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn plan_clean_up(&self) -> Result<CleanUp, ArchiveError> {
        self.clean_up_if(false, GRACE_HOURS)
    }

    /// Marks what no snapshot needs, and removes what was marked long enough ago.
    ///
    /// # Errors
    /// When the archive cannot be read or written.
    pub fn clean_up(&self) -> Result<CleanUp, ArchiveError> {
        self.clean_up_if(true, GRACE_HOURS)
    }

    pub(crate) fn clean_up_if(&self, really: bool, grace_hours: i64) -> Result<CleanUp, ArchiveError> {
        const ACTION: &str = "clean the archive up";
        let repository = self.repository()?;
        let options = PruneOptions::default().keep_delete(Span::new().hours(grace_hours));
        let plan = repository.prune_plan(&options).to(ACTION)?;
        let sizes = plan.stats.size_sum();
        let done = CleanUp {
            used: sizes.used,
            marks: sizes.remove + sizes.repackrm + plan.stats.size_unref,
            removes: plan.stats.size_to_delete.remove,
        };
        if really {
            repository.prune(&options, plan).to(ACTION)?;
        }
        Ok(done)
    }
}
