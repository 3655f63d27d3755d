//! Carrying out a plan, and being killed while at it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;

use sovereign_engine::apply::{ApplyError, Audience, Caller, Event, apply};
use sovereign_engine::journal::{Journal, Outcome};
use sovereign_model::Observed;
use sovereign_plan::plan;
use sovereign_testkit::memory::{MemoryEngine, MemoryError};
use sovereign_testkit::sample;
use tokio_util::sync::CancellationToken;

const CALLER: Caller<'static> = Caller { command: "up", version: "0.1.0" };

fn up(folder: &Path, point: usize) -> ExitStatus {
    let program = env!("CARGO_BIN_EXE_testbed");
    Command::new(program).arg("up").arg(folder).arg(point.to_string()).status().unwrap()
}

fn world(folder: &Path) -> Option<Observed> {
    Some(serde_json::from_slice(&fs::read(folder.join("world.json")).ok()?).unwrap())
}

#[test]
fn killed_at_any_point_the_next_run_finishes_the_work() {
    let whole = tempfile::tempdir().unwrap();
    assert!(up(whole.path(), 0).success());
    let expected = world(whole.path()).unwrap();
    let mut points = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("journal"));
        if up(folder.path(), points + 1).success() {
            break;
        }
        points += 1;
        let told = journal.last().unwrap().unwrap();
        let (unfinished, seen) = (told.outcome.is_none(), world(folder.path()).unwrap_or_default());
        // What the journal calls finished is in the world: performing the rest of the plan in thought gives the same.
        let want = sample::wanted();
        let mut rest = seen;
        let finished = told.steps.iter().filter(|step| step.ended.is_some()).count();
        told.plan.steps[finished..].iter().for_each(|step| sovereign_plan::simulate(&step.step, &want, &mut rest));
        assert_eq!(rest, expected, "killed at point {points}");
        assert!(up(folder.path(), 0).success(), "the run after being killed at point {points}");
        assert_eq!(world(folder.path()).unwrap(), expected, "killed at point {points}");
        assert!(unfinished || told.is_done(), "killed at point {points}: {:?}", told.outcome);
    }
    assert!(points > 40, "a run of many steps has many points, not {points}");
}

#[tokio::test]
async fn a_stale_plan_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (want, journal) = (sample::wanted(), Journal::at(folder.path()));
    let engine = MemoryEngine::empty(want.clone());
    let plan = plan(&want, &engine.seen());
    engine.change(|seen| seen.edges.entry("home".parse().unwrap()).or_default().config = None);
    engine.change(|seen| drop(seen.datacenters.insert("elsewhere".parse().unwrap(), Default::default())));
    let before = engine.seen();
    let refused = apply(&engine, &plan, &journal, CALLER, &(), &CancellationToken::new()).await;
    assert!(matches!(refused, Err(ApplyError::Stale)));
    assert_eq!(engine.seen(), before);
    assert_eq!(journal.last().unwrap(), None);
}

#[tokio::test]
async fn a_failed_step_stops_the_run_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (want, journal) = (sample::wanted(), Journal::at(folder.path()));
    let engine = MemoryEngine::empty(want.clone());
    let first = plan(&want, &engine.seen());
    engine.fail_at(first.steps[3].step.clone());
    let failed = apply(&engine, &first, &journal, CALLER, &(), &CancellationToken::new()).await;
    assert!(matches!(failed, Err(ApplyError::Step { source: MemoryError::Asked, .. })));
    let told = journal.last().unwrap().unwrap();
    assert_eq!((told.outcome, told.steps.len()), (Some(Outcome::Failed), 4));
    let second = plan(&want, &engine.seen());
    assert_eq!(second.steps.len(), first.steps.len() - 3);
    apply(&engine, &second, &journal, CALLER, &(), &CancellationToken::new()).await.unwrap();
    assert!(plan(&want, &engine.seen()).is_empty());
    assert!(journal.last().unwrap().unwrap().is_done());
}

/// Interrupts when the third step begins.
struct Interrupter(CancellationToken, Mutex<usize>);

impl Audience for Interrupter {
    fn hear(&self, event: Event<'_>) {
        let mut begun = self.1.lock().unwrap();
        *begun += usize::from(matches!(event, Event::StepBegun(_)));
        if *begun == 3 {
            self.0.cancel();
        }
    }
}

#[tokio::test]
async fn an_interrupted_run_stops_at_once_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let (want, journal) = (sample::wanted(), Journal::at(folder.path()));
    let engine = MemoryEngine::empty(want.clone());
    let plan = plan(&want, &engine.seen());
    let stop = CancellationToken::new();
    let audience = Interrupter(stop.clone(), Mutex::new(0));
    let interrupted = apply(&engine, &plan, &journal, CALLER, &audience, &stop).await;
    assert!(matches!(interrupted, Err(ApplyError::Interrupted { done: 2, of }) if of == plan.steps.len()));
    let told = journal.last().unwrap().unwrap();
    assert_eq!(told.outcome, Some(Outcome::Interrupted));
    assert_eq!(told.at_work().collect::<Vec<_>>(), [plan.steps[2].id]);
}
