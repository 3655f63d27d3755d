//! Swaps that are killed at every place, once and again, in a world of folders in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;
use crate::failure::Reason;

const OLD: &str = "old";
const NEW: &str = "new";

type Generation = BTreeMap<Part, &'static str>;

/// Folders by name, parts in them, whose data they are. A folder that is not there has no entry.
#[derive(Debug, Clone, Default)]
struct Disk {
    folders: BTreeMap<String, Generation>,
    intent: Option<String>,
}

/// A machine that is cut off after so many effects.
struct Machine {
    disk: RefCell<Disk>,
    runs: Cell<bool>,
    /// Whether readers are led to the new data.
    open: Cell<bool>,
    /// Whether the new data is any good.
    good: bool,
    left: Cell<usize>,
    old: Generation,
    new: Generation,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(&'static str);

impl Reason for Broken {}

impl Machine {
    /// Something is about to happen to it.
    async fn effect(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => std::future::pending().await,
        }
    }

    fn name(intent: &Intent, place: Place) -> String {
        match place {
            Place::Live => "live".to_owned(),
            Place::Staged => "staged".to_owned(),
            Place::Before => format!("before-{}", intent.number),
        }
    }

    /// Whose data is live; `None` for some of both.
    fn live(&self) -> Option<&'static str> {
        let live = &self.disk.borrow().folders["live"];
        [(&self.old, OLD), (&self.new, NEW)].into_iter().find_map(|(whole, name)| (live == whole).then_some(name))
    }
}

impl World for Machine {
    async fn keep(&self, intent: &Intent) -> Result<(), Failure> {
        self.effect().await;
        self.disk.borrow_mut().intent = Some(serde_json::to_string(intent).unwrap());
        Ok(())
    }

    async fn prepare(&self, intent: &Intent) -> Result<(), Failure> {
        if let Origin::Before { number } = intent.origin {
            self.effect().await;
            let disk = &mut *self.disk.borrow_mut();
            if let Some(folder) = disk.folders.remove(&format!("before-{number}")) {
                disk.folders.insert("staged".to_owned(), folder);
            }
        }
        Ok(())
    }

    async fn next(&self, intent: &Intent) -> Result<Option<Move>, Failure> {
        let disk = self.disk.borrow();
        if intent.back.is_some() && !disk.folders.contains_key("staged") {
            return Ok(None);
        }
        let has =
            |part, place| disk.folders.get(&Self::name(intent, place)).is_some_and(|folder| folder.contains_key(&part));
        let found = |part| Found {
            live: has(part, Place::Live),
            staged: has(part, Place::Staged),
            before: has(part, Place::Before),
        };
        Ok(intent.next(found).map_err(|_| Broken("something is missing"))?)
    }

    async fn stop(&self) -> Result<(), Failure> {
        self.effect().await;
        self.runs.set(false);
        Ok(())
    }

    async fn rename(&self, intent: &Intent, step: Move) -> Result<(), Failure> {
        self.effect().await;
        assert!(!self.runs.get(), "{step:?} under a running application");
        let disk = &mut *self.disk.borrow_mut();
        let content = disk.folders.get_mut(&Self::name(intent, step.from)).unwrap().remove(&step.part).unwrap();
        let to = disk.folders.entry(Self::name(intent, step.to)).or_default();
        assert!(to.insert(step.part, content).is_none(), "{step:?} replaces something");
        Ok(())
    }

    async fn revive(&self) -> Result<(), Failure> {
        self.effect().await;
        self.runs.set(true);
        match self.live() {
            Some(NEW) if !self.good => Err(Broken("it dies of that data").into()),
            Some(_) => Ok(()),
            None => panic!("started on some of both: {:?}", self.disk.borrow()),
        }
    }

    async fn open(&self) -> Result<(), Failure> {
        self.effect().await;
        assert!(self.runs.get() && self.live() == Some(NEW), "readers are led to what is not there");
        self.open.set(true);
        Ok(())
    }

    async fn tell(&self) {
        self.effect().await;
    }

    async fn forget(&self, intent: &Intent) -> Result<(), Failure> {
        self.effect().await;
        if let (Some(_), Origin::Before { number }) = (&intent.back, &intent.origin) {
            let disk = &mut *self.disk.borrow_mut();
            if let Some(folder) = disk.folders.remove("staged") {
                disk.folders.insert(format!("before-{number}"), folder);
            }
        }
        self.effect().await;
        self.disk.borrow_mut().intent = None;
        self.effect().await;
        self.disk.borrow_mut().folders.remove("staged");
        Ok(())
    }
}

/// Runs until it ends or is cut off.
async fn until_cut(machine: &Machine, intent: Intent) -> Option<Result<Ended, Failure>> {
    tokio::select! {
        biased;
        ended = carry_out(machine, intent) => Some(ended),
        () = std::future::ready(()) => None,
    }
}

/// What a run that comes after finds on the disk.
fn found(machine: &Machine) -> Option<Intent> {
    machine.disk.borrow().intent.as_ref().map(|text| serde_json::from_str(text).unwrap())
}

async fn killed_everywhere(had: &[Part], gets: &[Part], good: bool, undo: bool) {
    let generation = |parts: &[Part], name| parts.iter().map(|part| (*part, name)).collect::<Generation>();
    let (old, new) = (generation(had, OLD), generation(gets, NEW));
    let change = |part| (part, Change { had: had.contains(&part), gets: gets.contains(&part) });
    let changes = Part::ALL.into_iter().map(change).filter(|(_, change)| change.had || change.gets).collect();
    let (origin, from) = match undo {
        true => (Origin::Before { number: 1 }, "before-1"),
        false => (Origin::Snapshot { id: "ab".to_owned(), taken_unix: 7 }, "staged"),
    };
    let intent = Intent::new(origin, 2, changes);
    for (first, second) in (0..24).flat_map(|first| (0..24).map(move |second| (first, second))) {
        let folders = [("live", &old), (from, &new)].map(|(name, generation)| (name.to_owned(), generation.clone()));
        let machine = Machine {
            disk: RefCell::new(Disk { folders: folders.into(), intent: None }),
            runs: Cell::new(true),
            open: Cell::new(false),
            good,
            left: Cell::new(first),
            old: old.clone(),
            new: new.clone(),
        };
        let case = format!("{had:?} to {gets:?}, good: {good}, undo: {undo}, killed after {first} and {second}");
        let mut ended = until_cut(&machine, intent.clone()).await;
        for left in [second, usize::MAX] {
            machine.left.set(left);
            if let (None, Some(intent)) = (&ended, found(&machine)) {
                ended = until_cut(&machine, intent).await;
            }
        }
        assert!(found(&machine).is_none(), "{case}: it is over");
        assert!(machine.runs.get(), "{case}: it runs at the end");
        let live = machine.live();
        assert_eq!(machine.open.get(), live == Some(NEW), "{case}: nobody is led to what is not there");
        assert_eq!(live, Some(if good && first > 0 { NEW } else { OLD }), "{case}");
        // Nothing is lost: what is not live is kept, unless it is a copy of what the archive has.
        let kept = |name: &str| machine.disk.borrow().folders.get(name).cloned().unwrap_or_default();
        match live {
            Some(NEW) => assert_eq!(kept("before-2"), old, "{case}"),
            _ if undo => assert_eq!(kept("before-1"), new, "{case}"),
            _ => assert_eq!(kept("before-2"), Generation::new(), "{case}"),
        }
        if let Some(Ok(Ended::Back { why, unwell })) = ended {
            assert_eq!((why.as_str(), unwell), ("it dies of that data", None), "{case}");
        }
    }
}

#[tokio::test]
async fn wherever_it_is_killed_all_is_old_or_all_is_new() {
    use Part::{Content, Data, SetUp};
    let sets: [&[Part]; 4] = [&[Data, Content, SetUp], &[Data, Content], &[Data], &[]];
    for had in sets {
        for gets in sets.into_iter().filter(|gets| !gets.is_empty() && *gets != had) {
            for (good, undo) in [(true, false), (false, false), (true, true), (false, true)] {
                killed_everywhere(had, gets, good, undo).await;
            }
        }
    }
    killed_everywhere(&Part::ALL, &Part::ALL, true, false).await;
    killed_everywhere(&Part::ALL, &Part::ALL, false, true).await;
}

#[test]
fn nothing_leaves_its_place_for_what_is_gone() {
    let change = Change { had: true, gets: true };
    let intent = Intent::new(Origin::Before { number: 1 }, 2, BTreeMap::from([(Part::Data, change)]));
    let gone = Found { live: true, staged: false, before: false };
    assert_eq!(intent.next(|_| gone), Err(Missing { part: "data" }));
}

#[test]
fn an_intent_is_read_as_it_was_written() {
    let change = Change { had: true, gets: false };
    let origin = Origin::Snapshot { id: "ab".to_owned(), taken_unix: 7 };
    let intent = Intent::new(origin, 3, BTreeMap::from([(Part::SetUp, change)]));
    let text = serde_json::to_string(&intent).unwrap();
    assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
    insta::assert_snapshot!(text, @r#"{"version":1,"origin":{"snapshot":{"id":"ab","taken-unix":7}},"number":3,"parts":{"set-up":{"had":true,"gets":false}},"back":null}"#);
}
