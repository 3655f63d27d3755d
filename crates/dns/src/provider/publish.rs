//! When an agent tells a provider which addresses live, and when it leaves that to another one. Pure: time comes in.
//!
//! ```text
//!  who lives ──▶ Desk ──due──▶ what is there is asked ──▶ decide: what is added, what goes ──▶ told ──▶ Desk
//! ```
//!
//! Every agent can tell. Whoever is the first of those that live, in an order that all of them know, does so at once; each one
//! after it waits a minute longer, and finds nothing to do where one before it did its part. So nobody has to agree, and a
//! data center that lives and cannot dial out, or has lost what proves it, delays the others by a minute and stops nobody.
//!
//! Promise: an agent changes something once a minute at most. Two that do not see each other and so each take the other out
//! come to rest: an address that was put back by somebody else is left there for [an hour](Pace::kept), because whoever put it back sees it
//! alive. Then both are told, which is how it fails open. The first minute of such a quarrel has one of the two, not none. No
//! name is left without an address.
//!
//! Left out: who is right. Readers who are led to a dead one try the next address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// When what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So often it is looked who lives.
    pub second: Duration,
    /// From one change to the next, and from one in the order to the next. Providers count what they are asked for, and one that
    /// is away is not asked more often either.
    pub step: Duration,
    /// So often an agent asks what is there although nothing has changed: for what somebody else did.
    pub look: Duration,
    /// So long an address stays that somebody else has put back: in a quarrel that lasts, readers are sent to one that is dead to
    /// somebody for so long, and once in so long for some minutes to one data center alone.
    pub kept: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let [second, step, look, kept] = [1, 60, 300, 3600].map(Duration::from_secs);
        Self { second, step, look, kept }
    }
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Those that it is to have. None: nothing is known.
    pub wanted: BTreeSet<IpAddr>,
    /// All that are known to be the stack's.
    pub known: BTreeSet<IpAddr>,
    /// Whether there may be others, since the address of a data center changes.
    pub is_open: bool,
}

/// What is to be done to a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// The addresses it gets.
    pub add: BTreeSet<IpAddr>,
    /// Those that it loses.
    pub remove: BTreeSet<IpAddr>,
}

/// Addresses by name.
pub type ByName<T> = BTreeMap<String, T>;

/// What an agent knows of a provider.
#[derive(Debug, Clone)]
pub struct Desk {
    pace: Pace,
    wanted: ByName<Addresses>,
    /// Since it is wanted.
    since: Instant,
    looked: Option<Instant>,
    changed: Option<Instant>,
    /// What was told here and taken out, and when.
    removed: BTreeMap<(String, IpAddr), Instant>,
    /// What somebody else has put back, and when that was seen first.
    kept: BTreeMap<(String, IpAddr), Instant>,
    /// What was told here of addresses that change.
    added: BTreeSet<(String, IpAddr)>,
}

impl Desk {
    /// Of an agent that starts.
    pub fn new(pace: Pace, now: Instant) -> Self {
        let (wanted, removed, kept, added) = Default::default();
        Self { pace, wanted, since: now, looked: None, changed: None, removed, kept, added }
    }

    /// What the agent sees now: what is to be there. What lives is taken out anew when it dies again.
    pub fn sees(&mut self, wanted: &ByName<Addresses>, now: Instant) {
        if self.wanted != *wanted {
            (self.wanted, self.since) = (wanted.clone(), now);
        }
        let lives = |(name, ip): &(String, IpAddr)| wanted.get(name).is_some_and(|of| of.wanted.contains(ip));
        self.removed.retain(|of, _| !lives(of));
        self.kept.retain(|of, when| !lives(of) && now.saturating_duration_since(*when) < self.pace.kept);
    }

    /// Whether what is there is to be asked now, by the agent with so many before it; `None` where it does nothing.
    pub fn is_due(&self, before: Option<usize>, now: Instant) -> bool {
        let Some(before) = before else { return false };
        let passed =
            |when: Option<Instant>, least| when.is_none_or(|when| now.saturating_duration_since(when) >= least);
        let Pace { step, look, .. } = self.pace;
        let turn = step.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX));
        let is_news = self.looked.is_none_or(|looked| looked < self.since + turn);
        passed(self.changed, step) && passed(Some(self.since), turn) && (is_news || passed(self.looked, look))
    }

    /// What is to be done, where this is there.
    pub fn decide(&mut self, seen: &ByName<BTreeSet<IpAddr>>, now: Instant) -> ByName<Edit> {
        self.looked = Some(now);
        let mut edits = BTreeMap::new();
        for (name, addresses) in &self.wanted {
            let none = BTreeSet::new();
            let seen = seen.get(name).unwrap_or(&none);
            for ip in seen {
                let of = (name.clone(), *ip);
                if self.removed.remove(&of).is_some() {
                    self.kept.insert(of, now);
                }
            }
            let Addresses { wanted, known, is_open } = addresses;
            if wanted.is_empty() {
                continue;
            }
            let goes = |ip: &&IpAddr| {
                let of = (name.clone(), **ip);
                let is_ours = !is_open || known.contains(*ip) || self.added.contains(&of);
                is_ours && !self.kept.contains_key(&of)
            };
            let edit = Edit {
                add: wanted.difference(seen).copied().collect(),
                remove: seen.difference(wanted).filter(goes).copied().collect(),
            };
            if edit != Edit::default() {
                edits.insert(name.clone(), edit);
            }
        }
        edits
    }

    /// That a name was changed so.
    pub fn did(&mut self, name: &str, edit: &Edit, now: Instant) {
        self.changed = Some(now);
        let of = |ip: &IpAddr| (name.to_owned(), *ip);
        self.added.extend(edit.add.iter().map(of));
        self.removed.extend(edit.remove.iter().map(|ip| (of(ip), now)));
        for ip in &edit.remove {
            self.added.remove(&of(ip));
        }
    }

    /// That the provider was not told: it is tried again a minute later.
    pub fn failed(&mut self, now: Instant) {
        (self.changed, self.looked) = (Some(now), None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ips(numbers: &[u8]) -> BTreeSet<IpAddr> {
        numbers.iter().map(|number| IpAddr::from([192, 0, 2, *number])).collect()
    }

    fn wanted(numbers: &[u8]) -> ByName<Addresses> {
        let of = Addresses { wanted: ips(numbers), known: ips(&[1, 2, 3]), is_open: false };
        BTreeMap::from([("a.example".to_owned(), of)])
    }

    /// A provider and who tells it; each has a desk and so many before it.
    struct World {
        now: Instant,
        there: ByName<BTreeSet<IpAddr>>,
        changes: Vec<(usize, Instant)>,
    }

    impl World {
        fn new(there: &[u8]) -> Self {
            let there = BTreeMap::from([("a.example".to_owned(), ips(there))]);
            Self { now: Instant::now(), there, changes: Vec::new() }
        }

        /// A second of everybody.
        fn second(&mut self, desks: &mut [(Desk, ByName<Addresses>, Option<usize>)]) {
            self.now += Duration::from_secs(1);
            for (index, (desk, wanted, before)) in desks.iter_mut().enumerate() {
                desk.sees(wanted, self.now);
                if !desk.is_due(*before, self.now) {
                    continue;
                }
                for (name, edit) in desk.decide(&self.there.clone(), self.now) {
                    let there = self.there.entry(name.clone()).or_default();
                    there.extend(&edit.add);
                    there.retain(|ip| !edit.remove.contains(ip));
                    desk.did(&name, &edit, self.now);
                    self.changes.push((index, self.now));
                }
            }
        }

        fn run(&mut self, seconds: u64, desks: &mut [(Desk, ByName<Addresses>, Option<usize>)]) {
            (0..seconds).for_each(|_| self.second(desks));
        }

        fn there(&self) -> &BTreeSet<IpAddr> {
            &self.there["a.example"]
        }
    }

    #[test]
    fn the_first_that_lives_takes_the_dead_out_at_once_and_the_next_one_a_minute_later() {
        for (before, seconds) in [(0, 0), (1, 60), (2, 120)] {
            let mut world = World::new(&[1, 2]);
            let mut desks = [(Desk::new(Pace::default(), world.now), wanted(&[1, 2]), Some(before))];
            world.run(400, &mut desks);
            assert!(world.changes.is_empty(), "all is there");
            desks[0].1 = wanted(&[1]);
            world.run(seconds, &mut desks);
            assert_eq!(*world.there(), ips(&[1, 2]), "{before}");
            world.run(1, &mut desks);
            assert_eq!(*world.there(), ips(&[1]), "{before}");
        }
    }

    #[test]
    fn two_that_do_not_see_each_other_come_to_rest_with_both() {
        let mut world = World::new(&[1, 2]);
        let mut desks = [
            (Desk::new(Pace::default(), world.now), wanted(&[1]), Some(0)),
            (Desk::new(Pace::default(), world.now), wanted(&[2]), Some(0)),
        ];
        world.run(1000, &mut desks);
        assert_eq!(*world.there(), ips(&[1, 2]));
        let changes = world.changes.len();
        assert!(changes <= 4, "{changes}");
        world.run(2000, &mut desks);
        assert_eq!(world.changes.len(), changes, "and stay so");
        // They meet again, and what dies then goes at once.
        for (_, of, _) in &mut desks {
            *of = wanted(&[1, 2]);
        }
        world.run(400, &mut desks);
        desks[0].1 = wanted(&[1]);
        desks[1].2 = None;
        world.run(2, &mut desks);
        assert_eq!(*world.there(), ips(&[1]));
    }

    #[test]
    fn where_addresses_change_only_what_is_known_goes() {
        let mut world = World::new(&[1, 2, 9]);
        let mut open = wanted(&[1]);
        open.get_mut("a.example").unwrap().is_open = true;
        let mut desks = [(Desk::new(Pace::default(), world.now), open, Some(0))];
        world.run(100, &mut desks);
        assert_eq!(*world.there(), ips(&[1, 9]));
        // One that was learned, and moves.
        for (number, then) in [(7, [1, 7, 9]), (8, [1, 8, 9])] {
            desks[0].1.get_mut("a.example").unwrap().wanted = ips(&[1, number]);
            world.run(100, &mut desks);
            assert_eq!(*world.there(), ips(&then));
        }
    }

    /// Who sees whom alive, for how long.
    fn views() -> impl Strategy<Value = Vec<([Vec<u8>; 3], u64)>> {
        let view = || prop::sample::subsequence(vec![1u8, 2, 3], 1..=3);
        prop::collection::vec(([view(), view(), view()], 1u64..600), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_three_see_no_name_is_empty_nobody_hurries_and_who_agree_have_it(views in views()) {
            let (mut world, pace) = (World::new(&[1, 2, 3]), Pace::default());
            let start = Desk::new(Pace::default(), world.now);
            let mut desks = [0, 1, 2].map(|_| (start.clone(), wanted(&[1, 2, 3]), Some(0)));
            for (view, seconds) in &views {
                for ((_, of, before), (index, sees)) in desks.iter_mut().zip((1u8..).zip(view)) {
                    // Whoever is dead in its own view is broken, and tells nothing.
                    *before = sees.contains(&index).then(|| sees.iter().filter(|other| **other < index).count());
                    *of = wanted(sees);
                }
                for _ in 0..*seconds {
                    world.second(&mut desks);
                    prop_assert!(!world.there().is_empty());
                }
            }
            for who in 0..3 {
                let mine: Vec<Instant> = world.changes.iter().filter(|(of, _)| *of == who).map(|(_, at)| *at).collect();
                prop_assert!(mine.windows(2).all(|two| two[1] - two[0] >= pace.step), "once a minute");
            }
            // They agree again, that the third one is dead.
            for ((_, of, before), turn) in desks.iter_mut().zip([Some(0), Some(1), None]) {
                (*of, *before) = (wanted(&[1, 2]), turn);
            }
            world.run((pace.kept + 2 * pace.look).as_secs(), &mut desks);
            prop_assert_eq!(world.there(), &ips(&[1, 2]));
            let changes = world.changes.len();
            world.run(pace.kept.as_secs(), &mut desks);
            prop_assert_eq!(world.changes.len(), changes, "and nothing is told any more");
        }
    }
}
