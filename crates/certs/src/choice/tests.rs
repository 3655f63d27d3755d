//! Tests of what comes next.

use proptest::prelude::*;

use super::*;
use crate::renewal::tests::held;
use crate::state::Order;
use crate::turn::Turn;

fn authority(name: &str) -> AuthorityName {
    name.parse().unwrap()
}

fn failed(trouble: Trouble, retry_after: Option<Duration>) -> Failed {
    Failed { trouble, retry_after, why: "no".into() }
}

/// A world of one domain and two authorities.
struct World {
    name: NameState,
    other: NameState,
    domain: DnsName,
    preferred: Vec<AuthorityName>,
    authorities: BTreeMap<AuthorityName, AuthorityState>,
    now: Moment,
}

impl World {
    fn new() -> Self {
        let preferred = vec![authority("first"), authority("second")];
        let named = |name: &str| NameState::new(name.parse().unwrap());
        Self {
            name: named("www.example.org"),
            other: named("blog.example.org"),
            domain: "example.org".parse().unwrap(),
            authorities: preferred.iter().map(|name| (name.clone(), AuthorityState::new(String::new()))).collect(),
            preferred,
            now: Moment::at(1_800_000_000),
        }
    }

    fn next(&self) -> Next {
        next(&self.name, &self.domain, &self.preferred, &self.authorities, Turn::FIRST, self.now)
    }

    fn next_of_other(&self) -> Next {
        next(&self.other, &self.domain, &self.preferred, &self.authorities, Turn::FIRST, self.now)
    }

    fn fail(&mut self, at: &str, failed: &Failed) {
        let at = authority(at);
        let state = self.authorities.get_mut(&at).unwrap();
        remember(&mut self.name, &at, state, &self.domain, failed, (self.now, 0.5));
    }
}

fn order(name: &str) -> Next {
    Next::Order(authority(name))
}

#[test]
fn authorities_are_asked_in_the_order_of_preference_and_what_is_refused_waits() {
    let mut world = World::new();
    assert_eq!(world.next(), order("first"));
    world.fail("first", &failed(Trouble::Refused, None));
    assert_eq!(world.next(), order("second"));
    assert_eq!(world.next_of_other(), order("first"), "what was refused to one name is not refused to another");
    world.fail("second", &failed(Trouble::Refused, None));
    let Next::Wait(until) = world.next() else { panic!("{:?}", world.next()) };
    assert!(until.since(world.now) >= LONG);
    world.now = until;
    assert_eq!(world.next(), order("first"), "the preferred one first, again");
}

#[test]
fn an_authority_that_is_away_is_left_alone_for_all_and_one_that_is_asked_too_often_for_the_domain() {
    let mut world = World::new();
    world.fail("first", &failed(Trouble::Away, None));
    assert_eq!(world.next_of_other(), order("second"));
    world.fail("second", &failed(Trouble::Limited, Some(Duration::from_secs(7200))));
    let Next::Wait(until) = world.next_of_other() else { panic!("{:?}", world.next_of_other()) };
    assert!(until.since(world.now) < HOUR, "the first is asked again sooner");
    let elsewhere = NameState::new("www.example.net".parse().unwrap());
    let domain = "example.net".parse().unwrap();
    let found = next(&elsewhere, &domain, &world.preferred, &world.authorities, Turn::FIRST, world.now);
    assert_eq!(found, order("second"));
    let limited = world.authorities[&authority("second")].domains[&world.domain].until;
    assert_eq!(limited, world.now.after(Duration::from_secs(7200)), "as the authority says");
    // Eight names that are away at the same time are one failure.
    world.fail("first", &failed(Trouble::Away, None));
    assert_eq!(world.authorities[&authority("first")].whole.as_ref().unwrap().failures, 1);
}

#[test]
fn what_fails_on_this_side_is_not_tried_elsewhere_and_its_order_stays_open() {
    let mut world = World::new();
    let open = Order { authority: authority("first"), url: "https://ca/order/1".into(), since: world.now };
    world.name.order = Some(open);
    assert_eq!(world.next(), Next::GoOn(authority("first")));
    world.fail("first", &failed(Trouble::Ours, None));
    let Next::Wait(until) = world.next() else { panic!("{:?}", world.next()) };
    world.now = until;
    assert_eq!(world.next(), Next::GoOn(authority("first")));
    world.now = world.now.after(ORDER_LIVES);
    assert_eq!(world.next(), order("first"), "it is forgotten by now");
}

#[test]
fn a_certificate_that_is_good_is_left_alone_unless_its_authority_was_struck_out() {
    let mut world = World::new();
    let mut good = held(world.now.seconds(), 90 * 86_400);
    good.authority = authority("second");
    world.name.held = Some(good);
    assert!(matches!(world.next(), Next::Well(due) if due > world.now));
    world.preferred.pop();
    assert_eq!(world.next(), order("first"));
}

#[test]
fn what_ends_first_comes_first() {
    let now = Moment::at(1000);
    let named = |name: &str, ends: Option<u64>| {
        let mut state = NameState::new(name.parse().unwrap());
        state.held = ends.map(|ends| held(0, ends));
        state
    };
    let all = [named("later", Some(5000)), named("none", None), named("soon", Some(1001)), named("ended", Some(900))];
    let names: Vec<&str> = by_urgency(all.iter(), now).into_iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["ended", "none", "soon", "later"]);
}

/// How a try ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Failed(Trouble, Option<u64>),
    /// Killed; with an order open or without.
    Killed(bool),
    Issued,
}

fn ends() -> impl Strategy<Value = End> {
    let trouble = prop_oneof![
        Just(Trouble::Away),
        Just(Trouble::Useless),
        Just(Trouble::Limited),
        Just(Trouble::Refused),
        Just(Trouble::Ours)
    ];
    prop_oneof![
        6 => (trouble, proptest::option::of(0..100_000_u64)).prop_map(|(trouble, said)| End::Failed(trouble, said)),
        3 => any::<bool>().prop_map(End::Killed),
    ]
}

impl World {
    /// One try, which ends so; whom it was with.
    fn try_once(&mut self, end: End) -> Option<AuthorityName> {
        settle(&mut self.name, 0.5);
        let at = match self.next() {
            Next::Order(at) => {
                self.name.order = None;
                at
            }
            Next::GoOn(at) => at,
            Next::Well(_) | Next::Wait(_) => return None,
        };
        begin(&mut self.name, &at, self.now);
        let opened = Some(Order { authority: at.clone(), url: "o".into(), since: self.now });
        match end {
            End::Failed(trouble, said) => {
                self.name.order = self.name.order.take().or(opened);
                self.fail(at.as_str(), &failed(trouble, said.map(Duration::from_secs)));
            }
            End::Killed(with_order) => {
                if with_order {
                    self.name.order = self.name.order.take().or(opened);
                }
            }
            End::Issued => {
                self.name.held = Some(held(self.now.seconds(), 6 * 86_400));
                self.name.held.as_mut().unwrap().authority = at.clone();
                let state = self.authorities.get_mut(&at).unwrap();
                forget(&mut self.name, state, &self.domain);
            }
        }
        Some(at)
    }
}

proptest! {
    // A case is three days of minutes.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails and whoever is killed: asked again every minute, for days.
    #[test]
    fn a_name_is_never_tried_too_often(all in proptest::collection::vec(ends(), 1..40)) {
        let mut world = World::new();
        let mut tries: Vec<(AuthorityName, Moment)> = Vec::new();
        let mut all = all.into_iter().cycle();
        for _ in 0..3 * 24 * 60 {
            let mut at_once = 0;
            // A pass goes on to the next authority, and whoever was killed is started again at once.
            while let Some(at) = world.try_once(all.next().unwrap()) {
                tries.push((at, world.now));
                at_once += 1;
                prop_assert!(at_once <= 6, "no end of it: {tries:?}");
            }
            world.now = world.now.after(Duration::from_secs(60));
        }
        prop_assert!(!tries.is_empty());
        for name in &world.preferred {
            let times: Vec<Moment> = tries.iter().filter(|(at, _)| at == name).map(|(_, when)| *when).collect();
            for some in times.windows(TRIES_PER_HOUR + 1) {
                prop_assert!(some[TRIES_PER_HOUR].since(some[0]) >= HOUR, "{name}: {some:?}");
            }
        }
    }

}

proptest! {
    /// The first authority never issues; the second fails for a while and then does: nothing ends before it is renewed.
    #[test]
    fn what_can_be_renewed_is_renewed_before_it_ends(
        first in proptest::collection::vec(ends(), 1..8),
        second in proptest::collection::vec(ends(), 0..4),
        hours in 0..24_u64,
    ) {
        let mut world = World::new();
        world.name.held = Some(held(world.now.seconds(), 6 * 86_400));
        world.name.held.as_mut().unwrap().authority = authority("second");
        let ends = world.name.held.as_ref().unwrap().not_after;
        // An authority that says to come back in a day or more is not one that could issue.
        // What fails on this side fails at each.
        let soon = |end: End| match end {
            End::Failed(Trouble::Ours, said) => End::Failed(Trouble::Refused, said.map(|said| said % 7200)),
            End::Failed(trouble, said) => End::Failed(trouble, said.map(|said| said % 7200)),
            other => other,
        };
        let (mut first, mut second) = (first.into_iter().cycle(), second.into_iter());
        let begins = ends.before(Duration::from_secs(2 * 86_400 - hours * 600));
        while world.name.held.as_ref().unwrap().not_after == ends {
            prop_assert!(world.now < ends, "it has ended: {:?}", world.name);
            settle(&mut world.name, 0.5);
            let at = match world.next() { Next::Order(at) | Next::GoOn(at) => Some(at), _ => None };
            let end = match at {
                Some(at) if at.as_str() == "first" => soon(first.next().unwrap()),
                Some(_) if world.now >= begins => second.next().map_or(End::Issued, soon),
                Some(_) => End::Failed(Trouble::Away, None),
                None => End::Killed(false),
            };
            if world.try_once(end).is_none() {
                world.now = world.now.after(Duration::from_secs(300));
            }
        }
        prop_assert!(world.name.refused.is_empty() && world.name.begun.is_none());
    }

    #[test]
    fn nobody_is_held_off_for_ever(trouble in 0..5_usize, failures in 0..1000_u32, said: Option<u64>, spread: f64) {
        let trouble = [Trouble::Away, Trouble::Useless, Trouble::Limited, Trouble::Refused, Trouble::Ours][trouble];
        let now = Moment::at(1_800_000_000);
        let before = Hold { failures, until: now, why: String::new() };
        let next = hold(Some(&before), &failed(trouble, said.map(Duration::from_secs)), now, spread);
        prop_assert!(next.until > now && next.until.since(now) <= MOST_SAID);
    }
}
