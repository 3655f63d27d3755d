//! How large the archive is, how it grows, and how long its disk has room for that. Pure, but for the looking.

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_archive::{Archive, ArchiveError, Snapshot, Subject};

const DAY: u64 = 86_400;
/// What was added in so many days is what is reckoned with.
const WINDOW: u64 = 30 * DAY;
/// From less than this nothing can be told.
const LEAST: u64 = DAY;
/// Further than this nobody looks ahead.
const FAR_DAYS: u64 = 36_500;

/// The size of an archive, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Growth {
    /// All its files.
    pub(crate) bytes: u64,
    /// What its file system has left.
    pub(crate) free: u64,
    /// What later snapshots than the first of each kind have added, in as many days; `None` when all of it is younger
    /// than a day.
    pub(crate) added: Option<Added>,
}

/// What was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Added {
    pub(crate) bytes: u64,
    pub(crate) days: u64,
    /// In how many days the disk is full at that rate, when nothing is pruned; `None` when nobody lives to see it.
    pub(crate) full_in_days: Option<u64>,
}

impl Growth {
    /// Looks at the archive and at the disk it lies on.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub(crate) fn of(archive: &Archive, snapshots: &[Snapshot], now: u64) -> Result<Self, ArchiveError> {
        let (bytes, free) = archive.size()?;
        let seen: Vec<_> = snapshots
            .iter()
            .map(|snapshot| (snapshot.subject.clone(), u64::try_from(snapshot.taken_unix).unwrap_or(0), snapshot.added))
            .collect();
        Ok(Self { bytes, free, added: added(&seen, free, now) })
    }
}

/// From what each snapshot is of, when it was made, and what it added, the oldest first.
fn added(snapshots: &[(Option<Subject>, u64, u64)], free: u64, now: u64) -> Option<Added> {
    let oldest = snapshots.first().map(|(_, taken, _)| *taken)?;
    let window = now.saturating_sub(oldest).min(WINDOW);
    if window < LEAST {
        return None;
    }
    let mut begun = BTreeSet::new();
    let later = snapshots.iter().filter(|(subject, ..)| !begun.insert(subject.clone()));
    let bytes = later.filter(|(_, taken, _)| *taken > now.saturating_sub(window)).map(|(.., bytes)| bytes).sum::<u64>();
    let full = u128::from(free) * u128::from(window) / u128::from(bytes.max(1)) / u128::from(DAY);
    let full_in_days = u64::try_from(full).ok().filter(|days| *days < FAR_DAYS && bytes > 0);
    Some(Added { bytes, days: window / DAY, full_in_days })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_no_growth() {
        let site = |name: &str| Some(Subject::Site(name.parse().unwrap()));
        let day = |day: u64| 1_800_000_000 + day * DAY;
        let snapshots = [
            (site("blog"), day(0), 1_000_000_000),
            (site("blog"), day(1), 7_000_000),
            (site("shop"), day(30), 500_000_000),
            (site("blog"), day(39), 1_000_000),
            (site("shop"), day(40), 2_000_000),
        ];
        // The last 30 days of 40.
        let free = 3_000_000 * 100;
        let found = added(&snapshots, free, day(40)).unwrap();
        assert_eq!(found, Added { bytes: 3_000_000, days: 30, full_in_days: Some(3000) });
        assert_eq!(added(&snapshots[..2], free, day(1)).unwrap().days, 1);
        assert_eq!(added(&snapshots[..1], free, day(0) + DAY - 1), None, "too young");
        assert_eq!(added(&snapshots[..1], free, day(9)).unwrap().full_in_days, None, "nothing is added");
        assert_eq!(added(&[], free, day(9)), None);
        assert_eq!(added(&snapshots, u64::MAX, day(40)).unwrap().full_in_days, None, "nobody lives to see it");
    }
}
