//! What changed from one snapshot to another: by path, and by what is in a file.
//!
//! Two files are the same when they consist of the same chunks: nothing is read for it. Folders are told by what is in
//! them; modes, owners and times are not.

use std::collections::BTreeMap;

use crate::entry::{Kind, TreePath};
use crate::restore::Contents;

/// What became of a file or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is there now.
    Added,
    /// It is another one now.
    Changed,
    /// It is there no more.
    Removed,
}

impl Contents {
    /// What changed from this snapshot to a newer one.
    pub fn changes(&self, newer: &Self) -> BTreeMap<TreePath, Change> {
        let (before, after) = (self.inside(), newer.inside());
        let removed = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path, Change::Removed));
        let others = after.iter().filter_map(|(path, now)| match before.get(path) {
            Some(then) if then == now => None,
            Some(_) => Some((path, Change::Changed)),
            None => Some((path, Change::Added)),
        });
        removed.chain(others).map(|(path, change)| ((*path).clone(), change)).collect()
    }

    /// What each path holds.
    fn inside(&self) -> BTreeMap<&TreePath, (&Kind, &[rustic_core::DataId])> {
        let entries = self.manifest().entries().iter().zip(self.chunks());
        entries
            .filter(|(entry, _)| entry.kind != Kind::Folder)
            .map(|(entry, chunks)| (&entry.path, (&entry.kind, chunks)))
            .collect()
    }
}
