//! Properties of the planner over arbitrary stacks and arbitrary worlds they were left in.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fmt::Write as _;
use std::path::Path;

use common::{NOW, apply, world};
use proptest::prelude::*;
use proptest::sample::Index;
use sovereign_model::observed::UnitState;
use sovereign_model::stack::Stack;
use sovereign_model::{Digest, Observed};
use sovereign_plan::{LEAF_LIFE, Wanted, desired, lint, plan, simulate};

/// A site: Ghost or not, its mirrors by data center, whether it has another name, its title.
type SiteSeed = (bool, Vec<bool>, bool, u8);

/// A stack as a file: so many data centers, a rotation of their ports, sites that stay written at one place.
fn stack_of(datacenters: usize, rotation: usize, sites: &[SiteSeed]) -> Stack {
    let mut file = "version = 1\n[stack]\nname = \"any\"\n".to_owned();
    for index in 0..datacenters {
        let port = 8000 + (index + rotation) % datacenters;
        write!(
            file,
            "[[datacenter]]\nname = \"dc{index}\"\n\
             [[datacenter.uplink]]\nname = \"a\"\naddress = \"127.0.0.1\"\nport = {port}\n"
        )
        .unwrap();
    }
    for (index, (ghost, mirrors, named, title)) in sites.iter().enumerate() {
        // Ghost sites are always written at dc0, which every stack has: data does not move.
        let primary = if *ghost { 0 } else { index % datacenters };
        let mirrors: Vec<String> = (0..datacenters)
            .filter(|dc| *dc != primary && mirrors.get(*dc).copied().unwrap_or_default())
            .map(|dc| format!("\"dc{dc}\""))
            .collect();
        let kind = if *ghost { "ghost" } else { "files" };
        write!(
            file,
            "[[site]]\nname = \"{kind}{index}\"\ncanonical = \"{kind}{index}.localhost\"\nprimary = \"dc{primary}\"\n\
             mirrors = [{}]\nnames = [{}]\n",
            mirrors.join(", "),
            if *named { format!("\"{kind}{index}.example.org\"") } else { String::new() },
        )
        .unwrap();
        if *ghost {
            writeln!(file, "app = \"ghost\"\n[site.settings]\ntitle = \"{title}\"").unwrap();
        } else {
            writeln!(file, "app = \"static\"\nfolder = \"/srv/{title}\"").unwrap();
        }
    }
    sovereign_model::parse("stack.toml", &file, Path::new("/srv")).unwrap()
}

fn any_stack() -> impl Strategy<Value = Stack> {
    let site = (any::<bool>(), proptest::collection::vec(any::<bool>(), 0..4), any::<bool>(), 0..3u8);
    (1..5usize, 0..4usize, proptest::collection::vec(site, 0..4))
        .prop_map(|(datacenters, rotation, sites)| stack_of(datacenters, rotation, &sites))
}

fn any_want() -> impl Strategy<Value = Wanted> {
    (any_stack(), 0..2u8, 0..2 * LEAF_LIFE.as_secs()).prop_map(|(stack, release, later)| {
        let mut world = world(&stack, release);
        world.now = NOW + later;
        desired(&stack, &world).unwrap()
    })
}

/// What an accident does to a world.
#[derive(Debug, Clone)]
enum Accident {
    Supervisor,
    Unit(Index, u8),
    Certificate(Index),
    Mirror(Index),
    Image,
    EdgeState(Index),
    Notices(Index),
}

fn any_accident() -> impl Strategy<Value = Accident> {
    prop_oneof![
        Just(Accident::Supervisor),
        (any::<Index>(), 0..5u8).prop_map(|(unit, how)| Accident::Unit(unit, how)),
        any::<Index>().prop_map(Accident::Certificate),
        any::<Index>().prop_map(Accident::Mirror),
        Just(Accident::Image),
        any::<Index>().prop_map(Accident::EdgeState),
        any::<Index>().prop_map(Accident::Notices),
    ]
}

fn befall(seen: &mut Observed, accident: &Accident) {
    fn pick<T>(items: impl Iterator<Item = T>, index: &Index) -> Option<T> {
        let mut items: Vec<T> = items.collect();
        if items.is_empty() { None } else { Some(items.swap_remove(index.index(items.len()))) }
    }
    match accident {
        Accident::Supervisor => seen.supervisor = None,
        Accident::Image => seen.images.clear(),
        Accident::Unit(index, how) => {
            let units = seen.datacenters.values_mut().flat_map(|dc| dc.units.values_mut());
            let Some(unit) = pick(units, index) else { return };
            match how {
                0 => unit.state = UnitState::Stopped,
                1 => unit.state = UnitState::Unhealthy,
                2 => unit.state = UnitState::Failed("accident".to_owned()),
                3 => unit.spec = Digest::of("accident"),
                _ => unit.sockets.clear(),
            }
        }
        Accident::Certificate(index) => {
            pick(seen.edges.values_mut(), index).into_iter().for_each(|edge| edge.certificate = None);
        }
        Accident::EdgeState(index) => {
            pick(seen.edges.values_mut(), index).into_iter().for_each(|edge| edge.config = None);
        }
        Accident::Mirror(index) => {
            let mirrors = seen.edges.values_mut().flat_map(|edge| edge.mirrors.values_mut());
            pick(mirrors, index).into_iter().for_each(|mirror| mirror.complete = false);
        }
        Accident::Notices(index) => {
            pick(seen.sites.values_mut(), index).into_iter().for_each(|site| site.webhook = false);
        }
    }
}

/// A world that some stack was brought up in, part of the way, and to which things happened.
fn any_seen() -> impl Strategy<Value = Observed> {
    let accidents = proptest::collection::vec(any_accident(), 0..6);
    (any_want(), any::<Index>(), any::<bool>(), accidents).prop_map(|(want, cut, whole, accidents)| {
        let mut seen = Observed::default();
        let steps = plan(&want, &seen).steps;
        let count = if whole { steps.len() } else { cut.index(steps.len() + 1) };
        steps[..count].iter().for_each(|planned| simulate(&planned.step, &want, &mut seen));
        accidents.iter().for_each(|accident| befall(&mut seen, accident));
        seen
    })
}

/// What must be equal at the end, however one got there: generations only count up.
fn settled(seen: &Observed) -> Observed {
    let mut seen = seen.clone();
    for config in seen.edges.values_mut().filter_map(|edge| edge.config.as_mut()) {
        config.generation = 0;
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_make_the_same_plan(stack in any_stack(), seen in any_seen()) {
        let wanted = || desired(&stack, &world(&stack, 0)).unwrap();
        prop_assert_eq!(plan(&wanted(), &seen.clone()), plan(&wanted(), &seen));
    }

    #[test]
    fn after_the_plan_nothing_is_left_to_do(want in any_want(), mut seen in any_seen()) {
        let first = plan(&want, &seen);
        apply(&first, &want, &mut seen);
        let second = plan(&want, &seen);
        prop_assert!(second.is_empty() || !second.obstacles.is_empty(), "{:#?}", second.steps);
    }

    #[test]
    fn a_plan_cut_anywhere_is_finished_by_the_next(want in any_want(), seen in any_seen(), cut in any::<Index>()) {
        let whole = plan(&want, &seen);
        let mut straight = seen.clone();
        apply(&whole, &want, &mut straight);

        let mut resumed = seen;
        for planned in &whole.steps[..cut.index(whole.steps.len() + 1)] {
            simulate(&planned.step, &want, &mut resumed);
        }
        let rest = plan(&want, &resumed);
        prop_assert_eq!(lint(&rest, &want, &resumed), vec![]);
        apply(&rest, &want, &mut resumed);
        prop_assert_eq!(settled(&resumed), settled(&straight));
        prop_assert!(plan(&want, &resumed).steps.is_empty());
    }

    #[test]
    fn a_step_done_twice_is_a_step_done_once(want in any_want(), mut seen in any_seen()) {
        for planned in plan(&want, &seen).steps {
            simulate(&planned.step, &want, &mut seen);
            let once = seen.clone();
            simulate(&planned.step, &want, &mut seen);
            prop_assert_eq!(&seen, &once, "{}", planned.step);
        }
    }

    #[test]
    fn the_checker_never_complains(want in any_want(), seen in any_seen()) {
        let plan = plan(&want, &seen);
        prop_assert_eq!(lint(&plan, &want, &seen), vec![], "{:#?}", plan.steps);
    }

    #[test]
    fn equal_fingerprints_have_equal_plans(want in any_want(), seen in any_seen(), pages in any::<u64>()) {
        let mut later = seen.clone();
        for edge in later.edges.values_mut() {
            edge.mirrors.values_mut().for_each(|mirror| mirror.pages_kept = pages);
            edge.config.iter_mut().for_each(|config| config.healthy = !config.healthy);
        }
        prop_assert_eq!(later.fingerprint(), seen.fingerprint());
        prop_assert_eq!(plan(&want, &later), plan(&want, &seen));
    }
}
