//! A world of name servers and registries that hear of everything late, an operator who does what is said, and every mix of
//! what anybody may still keep.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Epochs of keys.
type Keys = BTreeSet<u32>;

const ZONE_TTL: u32 = 7_200;
const DS_TTL_THERE: u32 = 3_600;

/// What some servers have, and when somebody was last told each of what they had.
#[derive(Debug, Clone)]
struct Servers {
    now: Vec<Keys>,
    told: BTreeMap<Keys, u64>,
    ttl: u64,
}

impl Servers {
    fn new(number: usize, has: Keys, ttl: u32) -> Self {
        Self { now: vec![has; number], told: BTreeMap::new(), ttl: ttl.into() }
    }

    fn told_until(&mut self, now: u64) {
        self.told.extend(self.now.iter().map(|has| (has.clone(), now)));
        self.told.retain(|_, last| *last + self.ttl > now);
    }
}

#[derive(Debug, Clone)]
struct World {
    now: u64,
    /// Key and signatures of the zone: both are of the same keys, and are kept apart.
    zone: Servers,
    registry: Servers,
    /// What the operator has told the registrar.
    ordered: Keys,
    current: u32,
    newest: u32,
    under_way: Option<Rollover>,
    ended: usize,
}

/// What happens next; numbers are taken as servers, or as who is silent.
#[derive(Debug, Clone)]
enum Event {
    Rotate,
    Undo(u8),
    Up(usize),
    Published(usize),
    Look(u8),
    /// The operator does what is said: adds the new record, puts it in the place of the old one, has all of them removed.
    Told(u8),
    Wait(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let silent = prop_oneof![4 => Just(0_u8), 1 => any::<u8>()];
    prop_oneof![
        1 => Just(Event::Rotate),
        1 => any::<u8>().prop_map(Event::Undo),
        4 => (0..3_usize).prop_map(Event::Up),
        4 => (0..3_usize).prop_map(Event::Published),
        6 => silent.prop_map(Event::Look),
        3 => any::<u8>().prop_map(Event::Told),
        5 => any::<u16>().prop_map(Event::Wait),
    ]
}

impl World {
    fn new() -> Self {
        let first = Keys::from([1]);
        let (zone, registry) = (Servers::new(3, first.clone(), ZONE_TTL), Servers::new(3, first.clone(), DS_TTL_THERE));
        Self { now: 1_000_000, zone, registry, ordered: first, current: 1, newest: 1, under_way: None, ended: 0 }
    }

    fn wanted(&self) -> Keys {
        std::iter::once(self.current).chain(self.under_way.as_ref().map(|exchange| exchange.to)).collect()
    }

    fn sight(&self, silent: u8) -> Sight {
        let Rollover { from, to, .. } = self.under_way.clone().unwrap();
        let says = |index: usize| silent & (1 << index) == 0;
        let servers = self
            .zone
            .now
            .iter()
            .enumerate()
            .map(|(index, has)| (index.to_string(), says(index).then(|| has.contains(&from) && has.contains(&to))));
        let registry = self.registry.now.iter().enumerate().map(|(index, has)| {
            let ttl = if has.is_empty() { 0 } else { DS_TTL_THERE };
            let has = Has { old: has.contains(&from), new: has.contains(&to), ttl };
            (index.to_string(), says(index + 3).then_some(has))
        });
        Sight { zone_ttl: ZONE_TTL, servers: servers.collect(), registry: Registry::Has(registry.collect()) }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Wait(seconds) => {
                // Until the last moment all of them told what they have.
                self.now += u64::from(seconds);
                self.zone.told_until(self.now);
                self.registry.told_until(self.now);
            }
            Event::Rotate if self.under_way.is_none() => {
                self.newest += 1;
                self.under_way = Some(Rollover::begin(self.current, self.newest, ZONE_TTL, self.now));
            }
            Event::Undo(silent)
                if self.under_way.as_ref().is_some_and(|exchange| !self.ordered.contains(&exchange.to)) =>
            {
                let exchange = self.under_way.as_ref().unwrap();
                if exchange.may_be_undone(&self.sight(silent)).is_ok() {
                    self.under_way = None;
                }
            }
            Event::Up(index) => self.zone.now[index] = self.wanted(),
            Event::Published(index) => self.registry.now[index] = self.ordered.clone(),
            Event::Look(silent) if self.under_way.is_some() => {
                let (sight, now) = (self.sight(silent), self.now);
                let exchange = self.under_way.as_mut().unwrap();
                if exchange.see(&sight, now) {
                    self.current = exchange.to;
                    (self.under_way, self.ended) = (None, self.ended + 1);
                }
            }
            Event::Told(how) => self.order(how),
            _ => {}
        }
    }

    fn order(&mut self, how: u8) {
        let Some(exchange) = &self.under_way else {
            // Where nothing is under way, `dns ds` has one.
            self.ordered = Keys::from([self.current]);
            return;
        };
        let new = Keys::from([exchange.to]);
        match exchange.stage(self.now) {
            Stage::BothKeys | Stage::OneKeyForgotten { .. } => {}
            Stage::NewDigest | Stage::OldAloneForgotten { .. } if how.is_multiple_of(3) => self.ordered.extend(&new),
            _ if how % 5 == 1 => self.ordered = Keys::new(),
            _ => self.ordered = new,
        }
    }

    /// Whatever anybody keeps of the registry's records, of keys and of signatures: it goes together.
    fn check(&self) -> Result<(), TestCaseError> {
        let all =
            |servers: &Servers| -> BTreeSet<Keys> { servers.now.iter().chain(servers.told.keys()).cloned().collect() };
        let (zones, registries) = (all(&self.zone), all(&self.registry));
        for ds in registries.iter().filter(|ds| !ds.is_empty()) {
            for keys in &zones {
                prop_assert!(!ds.is_disjoint(keys), "DS {:?}, keys {:?}: {:#?}", ds, keys, self);
                for signed in &zones {
                    prop_assert!(!keys.is_disjoint(signed), "keys {:?}, signed by {:?}: {:#?}", keys, signed, self);
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn whoever_checks_signatures_believes_the_zone_whatever_they_keep(
        events in proptest::collection::vec(event(), 0..150)
    ) {
        let mut world = World::new();
        for event in events {
            // What is told in the last moment before something changes is kept from then on.
            world.happen(&Event::Wait(0));
            world.happen(&event);
            world.check()?;
        }
    }

    #[test]
    fn whatever_has_happened_it_comes_to_an_end_when_all_do_their_part(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let mut world = World::new();
        events.iter().for_each(|event| world.happen(event));
        world.happen(&Event::Rotate);
        let before = world.ended;
        for round in 0..12 {
            for index in 0..3 {
                world.happen(&Event::Up(index));
                world.happen(&Event::Published(index));
            }
            world.happen(&Event::Look(0));
            world.happen(&Event::Told(round * 3));
            world.happen(&Event::Wait(u16::try_from(ZONE_TTL).unwrap()));
            world.check()?;
        }
        prop_assert!(world.ended > before, "{:#?}", world);
    }
}

fn has(old: bool, new: bool) -> Has {
    Has { old, new, ttl: 100 }
}

fn sight(servers: [Option<bool>; 2], registry: [Option<Has>; 2]) -> Sight {
    let named = |prefix: &'static str| move |index: usize| format!("{prefix}{index}");
    let (server, above) = (named("ns"), named("above"));
    Sight {
        zone_ttl: 1_000,
        servers: servers.into_iter().enumerate().map(|(index, both)| (server(index), both)).collect(),
        registry: Registry::Has(registry.into_iter().enumerate().map(|(index, has)| (above(index), has)).collect()),
    }
}

const BOTH: [Option<bool>; 2] = [Some(true); 2];

#[test]
fn each_step_waits_for_all_and_says_for_whom() {
    let mut exchange = Rollover::begin(1, 2, 1_000, 0);
    let mut sees = |servers, registry, now| {
        let over = exchange.see(&sight(servers, registry), now);
        (exchange.stage(now), exchange.awaited().iter().cloned().collect::<Vec<_>>().join(" "), over)
    };
    let old = [Some(has(true, false)); 2];
    assert_eq!(sees([Some(true), None], old, 10), (Stage::BothKeys, "ns1".to_owned(), false));
    assert_eq!(sees(BOTH, old, 20), (Stage::OneKeyForgotten { until_unix: 1_320 }, String::new(), false));
    // One that went back to what it had begins it anew.
    assert_eq!(sees([Some(true), Some(false)], old, 30), (Stage::BothKeys, "ns1".to_owned(), false));
    assert_eq!(sees(BOTH, old, 40).0, Stage::OneKeyForgotten { until_unix: 1_340 });
    assert_eq!(sees([None; 2], old, 1_340), (Stage::NewDigest, "above0 above1".to_owned(), false));
    let some = [Some(has(true, true)), Some(has(true, false))];
    assert_eq!(sees(BOTH, some, 1_350), (Stage::NewDigest, "above1".to_owned(), false));
    assert_eq!(sees(BOTH, [Some(has(true, true)), None], 1_355), (Stage::NewDigest, "above1".to_owned(), false));
    let both = [Some(has(true, true)); 2];
    assert_eq!(sees(BOTH, both, 1_360).0, Stage::OldAloneForgotten { until_unix: 1_760 });
    assert_eq!(sees(BOTH, both, 1_760), (Stage::OldDigestGone, "above0 above1".to_owned(), false));
    let new = [Some(has(false, true)); 2];
    assert_eq!(sees(BOTH, new, 1_800).0, Stage::OldDigestForgotten { until_unix: 2_200 });
    assert_eq!(sees([Some(true), None], new, 2_200), (Stage::LastLook, "ns1".to_owned(), false));
    assert_eq!(sees(BOTH, [Some(has(false, true)), None], 2_201), (Stage::LastLook, "above1".to_owned(), false));
    assert_eq!(sees(BOTH, new, 2_202), (Stage::LastLook, String::new(), true));
}

#[test]
fn it_is_undone_only_where_nobody_can_believe_the_new_key_alone() {
    let mut exchange = Rollover::begin(1, 2, 1_000, 0);
    let undone = |exchange: &Rollover, registry| exchange.may_be_undone(&sight(BOTH, registry));
    let old = Some(has(true, false));
    assert_eq!(undone(&exchange, [old; 2]), Ok(()));
    assert_eq!(undone(&exchange, [old, None]), Err(NotUndone::Unknown));
    assert_eq!(undone(&exchange, [Some(has(true, true)), None]), Err(NotUndone::Given));
    let of = |registry| Sight { registry, ..sight(BOTH, [old; 2]) };
    assert_eq!(exchange.may_be_undone(&of(Registry::Silent)), Err(NotUndone::Unknown));
    assert_eq!(exchange.may_be_undone(&of(Registry::NotDelegated)), Ok(()));
    // It was there, and somebody keeps it.
    exchange.see(&sight(BOTH, [Some(has(true, true)), old]), 10);
    exchange.see(&sight(BOTH, [old; 2]), 20);
    assert_eq!(undone(&exchange, [old; 2]), Err(NotUndone::Given));
}

#[test]
fn a_registry_that_says_nothing_of_the_domain_ends_nothing() {
    let mut exchange = Rollover::begin(1, 2, 1_000, 0);
    for registry in [Registry::Silent, Registry::NotDelegated, Registry::Has(BTreeMap::new())] {
        let blind = Sight { registry, ..sight(BOTH, [None; 2]) };
        assert!(!exchange.see(&blind, 1) && !exchange.see(&blind, 1_000_000), "{blind:?}");
        assert_eq!(exchange.stage(1_000_000), Stage::NewDigest);
    }
    // One without any record leads nobody to the old key.
    let none = sight(BOTH, [Some(Has { old: false, new: false, ttl: 0 }); 2]);
    assert!(!exchange.see(&none, 2_000_000));
    assert_eq!(exchange.stage(2_000_000), Stage::OldDigestForgotten { until_unix: 2_000_000 + 86_400 + SLACK });
    assert!(exchange.see(&none, 2_100_000));
}

#[test]
fn what_is_kept_of_it_says_the_same_when_it_is_read_again() {
    let mut exchange = Rollover::begin(1, 2, 1_000, 7);
    exchange.see(&sight(BOTH, [Some(has(true, true)), None]), 20);
    let text = serde_json::to_string(&exchange).unwrap();
    assert_eq!(serde_json::from_str::<Rollover>(&text).unwrap(), exchange);
}
