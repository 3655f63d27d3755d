//! Which snapshots the stack file's rules keep, of those that the archive has.

use std::time::SystemTime;

use sovereign_archive::Snapshot;
use sovereign_archive::entry::Moment;
use sovereign_archive::keep::{Verdict, decide};

use super::Record;
use crate::declared::Declared;
use crate::world::unix_seconds;

/// A verdict for each of the snapshots, in their order.
pub(crate) fn verdicts(declared: &Declared, snapshots: &[Snapshot]) -> Vec<Verdict> {
    let record = Record::read(&declared.state);
    let proven = |snapshot: &Snapshot| record.proofs.values().any(|proof| proof.snapshot == snapshot.id);
    let dated: Vec<_> = snapshots.iter().map(|snapshot| snapshot.dated(proven(snapshot))).collect();
    // To the end of this second: what was made in it is not from the future.
    let seconds = unix_seconds(SystemTime::now()).try_into().unwrap_or(i64::MAX);
    decide(&dated, &declared.stack.archive.keep, Moment { seconds, nanoseconds: 999_999_999 })
}

/// How many of the snapshots a prune would forget.
pub(crate) fn beyond(declared: &Declared, snapshots: &[Snapshot]) -> usize {
    verdicts(declared, snapshots).iter().filter(|verdict| verdict.is_forgotten()).count()
}
