//! Which number the primary of a site has.
//!
//! Edges take the highest number that they have seen for the truth, so it never goes down, and no two places have the same
//! one. A management machine knows what it gave last; what another one gave, or what it gave itself before it was recovered
//! from an older state, edges tell. Pure.
//!
//! Left out: edges that cannot be asked. Where two machines reach no edge in common, both may give the same number; that is
//! an obstacle for either when it sees it.

use std::collections::BTreeSet;

use sovereign_model::DatacenterName;
use sovereign_model::observed::Primary;

/// What a management machine gave last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The number.
    pub epoch: u64,
    /// Where the site was to be written then; `None` when nobody wrote that down.
    pub at: Option<DatacenterName>,
}

/// The number of a primary at `declared`; `None` when the site is written elsewhere since another machine said so.
///
/// Where this machine gave the number to another place, somebody has changed its stack file, and the place that is declared
/// now gets the next one.
pub fn number(given: Option<&Given>, reported: &BTreeSet<Primary>, declared: &DatacenterName) -> Option<u64> {
    let newest = reported.last().map_or(0, |newest| newest.epoch);
    let others = reported.iter().filter(|primary| primary.epoch == newest && primary.at != *declared);
    let others: BTreeSet<_> = others.map(|primary| &primary.at).collect();
    let Some(given) = given.filter(|given| given.epoch >= newest) else {
        return others.is_empty().then_some(newest.max(1));
    };
    let before = given.at.as_ref().filter(|at| *at != declared);
    if given.epoch == newest && others.iter().any(|other| Some(*other) != before) {
        return None;
    }
    Some(if before.is_some() { given.epoch.saturating_add(1) } else { given.epoch })
}

/// The number of a primary that takes the place of whichever there is.
pub fn next_number(given: Option<&Given>, reported: &BTreeSet<Primary>) -> u64 {
    let newest = reported.last().map_or(0, |newest| newest.epoch);
    newest.max(given.map_or(1, |given| given.epoch)).saturating_add(1)
}

/// Where a site is written by proof of some edge, when that is no older than number `epoch` at `declared`: whoever would
/// give this number now would have two primaries, or none that is believed.
pub(crate) fn elsewhere<'r>(
    reported: &'r BTreeSet<Primary>,
    epoch: u64,
    declared: &DatacenterName,
) -> Option<&'r Primary> {
    reported.iter().rev().find(|primary| primary.epoch > epoch || (primary.epoch == epoch && primary.at != *declared))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: [&str; 3] = ["attic", "home", "office"];

    fn place(at: usize) -> DatacenterName {
        PLACES[at % 3].parse().unwrap()
    }

    fn primary(epoch: u64, at: &str) -> Primary {
        Primary { epoch, at: at.parse().unwrap() }
    }

    fn given(epoch: u64, at: &str) -> Given {
        Given { epoch, at: Some(at.parse().unwrap()) }
    }

    #[test]
    fn what_edges_say_counts_and_another_place_is_not_overruled() {
        let number = |given: Option<Given>, reported: &[(u64, &str)], declared: &str| {
            let reported = reported.iter().map(|(epoch, at)| primary(*epoch, at)).collect();
            number(given.as_ref(), &reported, &declared.parse().unwrap())
        };
        assert_eq!(number(None, &[], "home"), Some(1), "the first of all");
        assert_eq!(number(None, &[(3, "home")], "home"), Some(3), "a machine that knows nothing any more");
        assert_eq!(number(Some(given(1, "home")), &[(3, "home")], "home"), Some(3), "or something old");
        assert_eq!(number(Some(given(1, "home")), &[(2, "office")], "home"), None, "another machine moved it");
        assert_eq!(number(Some(given(1, "home")), &[(2, "office")], "attic"), None);
        assert_eq!(
            number(Some(given(1, "home")), &[(2, "office")], "office"),
            Some(2),
            "and that is declared here now"
        );
        assert_eq!(number(None, &[(1, "office")], "home"), None, "another stack file");
        assert_eq!(number(Some(given(1, "home")), &[(1, "home")], "office"), Some(2), "this stack file was changed");
        assert_eq!(
            number(Some(given(2, "office")), &[(1, "home")], "home"),
            Some(3),
            "and back, before any edge heard"
        );
        assert_eq!(number(Some(given(2, "home")), &[(2, "office")], "home"), None, "both gave the same");
        let both = [(2, "home"), (2, "office")];
        assert_eq!(number(Some(given(2, "home")), &both, "home"), None);
        assert_eq!(number(Some(given(2, "home")), &both, "office"), Some(3), "until one of them gives way");
        let unknown = Given { epoch: 2, at: None };
        assert_eq!(number(Some(unknown.clone()), &[(2, "home")], "home"), Some(2));
        assert_eq!(number(Some(unknown), &[(2, "office")], "home"), None);
    }

    /// What an operator does.
    #[derive(Debug, Clone)]
    enum Act {
        /// `up`, with a stack file that says so.
        Up(usize),
        /// `restore` at another place.
        Restore(usize),
        /// The machine is recovered from what it was at the beginning.
        Recover,
    }

    fn act() -> impl Strategy<Value = (bool, Act, [bool; 3])> {
        let act = prop_oneof![(0..3usize).prop_map(Act::Up), (0..3usize).prop_map(Act::Restore), Just(Act::Recover)];
        // Edges that hear of it; one does, or nothing has happened.
        (any::<bool>(), act, any::<[bool; 3]>())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Two machines that see what edges have never give one number to two places, nor a lower one than there is.
        #[test]
        fn two_machines_that_alternate_never_have_two_primaries(acts in proptest::collection::vec(act(), 1..24)) {
            let mut machines: [Option<Given>; 2] = [None, None];
            let mut edges: [Option<Primary>; 3] = [const { None }; 3];
            let mut all: BTreeSet<Primary> = BTreeSet::new();
            for (second, act, hear) in acts {
                let known = &mut machines[usize::from(second)];
                let newest = edges.iter().flatten().map(|primary| primary.epoch).max().unwrap_or(0);
                let reported: BTreeSet<_> = edges.iter().flatten().filter(|primary| primary.epoch == newest).cloned().collect();
                let (epoch, at) = match act {
                    Act::Recover => {
                        *known = None;
                        continue;
                    }
                    Act::Up(at) => match number(known.as_ref(), &reported, &place(at)) {
                        Some(epoch) => (epoch, place(at)),
                        None => {
                            prop_assert!(reported.iter().any(|primary| primary.at != place(at)));
                            let epoch = known.as_ref().map_or(1, |known| known.epoch);
                            prop_assert!(elsewhere(&reported, epoch, &place(at)).is_some(), "it is said");
                            continue;
                        }
                    },
                    Act::Restore(at) => (next_number(known.as_ref(), &reported), place(at)),
                };
                prop_assert!(epoch >= newest && elsewhere(&reported, epoch, &at).is_none());
                *known = Some(Given { epoch, at: Some(at.clone()) });
                let primary = Primary { epoch, at };
                // What is written down and reaches no edge is nobody's primary.
                for (edge, _) in edges.iter_mut().zip(hear).filter(|(_, hears)| *hears) {
                    *edge = Some(primary.clone());
                }
                if hear.contains(&true) {
                    all.insert(primary.clone());
                }
                let same = all.iter().filter(|other| other.epoch == primary.epoch);
                prop_assert!(same.count() <= 1, "{all:?}");
            }
        }
    }
}
