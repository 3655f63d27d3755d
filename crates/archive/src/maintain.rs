//! Looking whether the archive is sound.

use rustic_core::CheckOptions;

use crate::error::{ArchiveError, To as _};
use crate::repository::{Archive, Inventory, Unreadable};

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
}
