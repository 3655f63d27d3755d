//! What has to be done so that a copy is what the archive is: decided from what both have.
//!
//! Promise: nothing that is missing here goes there too, unless a prune of ours removed it. An archive that lost files,
//! by whatever mishap, must not take its copies along.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{FileKind, FileName};
use crate::chunk::Sum;

/// The files of a repository, by kind.
pub(crate) type Files = BTreeMap<FileKind, BTreeMap<Sum, u64>>;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What goes there and how long it is, in the order in which it goes.
    pub(crate) send: Vec<(FileName, u64)>,
    /// What is removed there, in this order.
    pub(crate) remove: Vec<FileName>,
    /// What is there, not here, and stays: nobody knows why it is not here.
    pub(crate) kept: Vec<FileName>,
}

impl Plan {
    /// How many bytes go there.
    pub(crate) fn bytes(&self) -> u64 {
        self.send.iter().map(|(_, size)| size).sum()
    }
}

/// Compares the two. `removed` is what our own prunes took out of the archive.
pub(crate) fn plan(here: &Files, there: &Files, removed: &BTreeSet<FileName>) -> Plan {
    let mut plan = Plan::default();
    let none = BTreeMap::new();
    for kind in FileKind::ALL {
        let (here, there) = (here.get(&kind).unwrap_or(&none), there.get(&kind).unwrap_or(&none));
        let missing = here.iter().filter(|(sum, size)| there.get(*sum) != Some(size));
        plan.send.extend(missing.map(|(sum, size)| (FileName::Named(kind, *sum), *size)));
    }
    // The other way round: nothing there refers to what goes. What a snapshot or an index refers to that is only there,
    // nobody can tell without a key, so beside one all stays.
    let mut all_stays = false;
    for kind in FileKind::ALL.into_iter().rev() {
        let (here, there) = (here.get(&kind).unwrap_or(&none), there.get(&kind).unwrap_or(&none));
        let mut kept = Vec::new();
        for sum in there.keys().filter(|sum| !here.contains_key(*sum)) {
            let name = FileName::Named(kind, *sum);
            let to = if removed.contains(&name) && !all_stays { &mut plan.remove } else { &mut kept };
            to.push(name);
        }
        all_stays |= !kept.is_empty();
        plan.kept.extend(kept);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn name(kind: FileKind, byte: u8) -> FileName {
        FileName::Named(kind, [byte; 32])
    }

    fn files(names: &[FileName]) -> Files {
        let mut files = Files::new();
        for name in names {
            let FileName::Named(kind, sum) = name else { continue };
            files.entry(*kind).or_default().insert(*sum, u64::from(sum[0]));
        }
        files
    }

    const KEY: FileName = name(FileKind::Key, 1);
    const PACKS: [FileName; 2] = [name(FileKind::Pack, 2), name(FileKind::Pack, 3)];
    const INDEXES: [FileName; 2] = [name(FileKind::Index, 4), name(FileKind::Index, 5)];
    const SNAPSHOTS: [FileName; 2] = [name(FileKind::Snapshot, 6), name(FileKind::Snapshot, 7)];

    #[test]
    fn what_a_file_refers_to_goes_before_it() {
        let here = files(&[SNAPSHOTS[0], INDEXES[0], PACKS[1], PACKS[0], KEY]);
        let planned = plan(&here, &Files::new(), &BTreeSet::new());
        let order: Vec<_> = planned.send.iter().map(|(name, _)| *name).collect();
        assert_eq!(order, [KEY, PACKS[0], PACKS[1], INDEXES[0], SNAPSHOTS[0]]);
        assert_eq!((planned.bytes(), planned.remove.len(), planned.kept.len()), (1 + 2 + 3 + 4 + 6, 0, 0));
        assert_eq!(plan(&here, &here, &BTreeSet::new()), Plan::default());
    }

    #[test]
    fn what_our_prune_removed_goes_there_too_and_nothing_else() {
        let there = files(&[KEY, PACKS[0], PACKS[1], INDEXES[0], INDEXES[1], SNAPSHOTS[0], SNAPSHOTS[1]]);
        let here = files(&[KEY, PACKS[1], INDEXES[1], SNAPSHOTS[1]]);
        let removed = BTreeSet::from([PACKS[0], INDEXES[0], SNAPSHOTS[0]]);
        let planned = plan(&here, &there, &removed);
        assert_eq!((planned.remove, planned.kept), (vec![SNAPSHOTS[0], INDEXES[0], PACKS[0]], vec![]));
        // Nobody said so.
        let planned = plan(&here, &there, &BTreeSet::new());
        assert_eq!((planned.remove, planned.kept), (vec![], vec![SNAPSHOTS[0], INDEXES[0], PACKS[0]]));
        // All of it is gone here.
        let planned = plan(&Files::new(), &there, &removed);
        assert_eq!((planned.remove, planned.kept.len()), (vec![SNAPSHOTS[0]], 6));
    }

    #[test]
    fn beside_a_snapshot_that_vanished_nothing_that_it_may_need_goes() {
        let there = files(&[PACKS[0], PACKS[1], INDEXES[0], SNAPSHOTS[0], SNAPSHOTS[1]]);
        let here = files(&[PACKS[1]]);
        let removed = BTreeSet::from([PACKS[0], INDEXES[0], SNAPSHOTS[0]]);
        let planned = plan(&here, &there, &removed);
        assert_eq!((planned.remove, planned.kept), (vec![SNAPSHOTS[0]], vec![SNAPSHOTS[1], INDEXES[0], PACKS[0]]));
        // A pack that vanished here is no reason to keep others.
        let planned = plan(&files(&[SNAPSHOTS[1]]), &there, &removed);
        assert_eq!((planned.remove, planned.kept), (vec![SNAPSHOTS[0], INDEXES[0], PACKS[0]], vec![PACKS[1]]));
    }

    #[test]
    fn a_file_of_another_length_goes_again() {
        let here = files(&[PACKS[0]]);
        let mut there = here.clone();
        there.get_mut(&FileKind::Pack).unwrap().insert([2; 32], 1);
        assert_eq!(plan(&here, &there, &BTreeSet::new()).send, [(PACKS[0], 2)]);
    }
}
