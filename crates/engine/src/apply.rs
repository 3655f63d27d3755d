//! Carrying out a plan: step by step, each in the journal before and after.
//!
//! Promise: nothing is changed for a plan that was made against another observation; a step begins only when that is
//! on disk; when a step fails, no further step begins at its place, and when the operator interrupts, none at all; the
//! journal says where it stopped. Steps are safe to repeat, so the next run plans from what it sees and goes on.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use sovereign_model::{EdgeName, Observed, Step};
use sovereign_plan::{Plan, Planned};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::causes::with_causes;
use crate::journal::{Journal, JournalError, OpenRun, Outcome};

/// What a stack runs on: the port that adapters implement.
pub trait Engine: Sync {
    /// What goes wrong in this engine.
    type Error: Failure;

    /// Looks at everything the stack has, at all data centers at once.
    fn observe(&self) -> impl Future<Output = Result<Observed, Self::Error>> + Send;

    /// Performs one step. Safe to repeat: a step that was performed already, wholly or in part, is completed. Dropping
    /// the future at any point leaves nothing that a repetition does not mend.
    fn perform(
        &self,
        step: &Step,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> impl Future<Output = Result<Receipt, Self::Error>> + Send;
}

/// An error with advice.
pub trait Failure: Error + Send + Sync + 'static {
    /// What the operator can do.
    fn help(&self) -> Option<String>;
}

/// What a step left to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// One line for people.
    pub note: Option<String>,
    /// Bytes fetched, by the host they came from.
    pub fetched: BTreeMap<String, u64>,
}

impl Receipt {
    /// A receipt with one line for people.
    pub fn note(text: impl Into<String>) -> Self {
        Self { note: Some(text.into()), fetched: BTreeMap::new() }
    }
}

/// How a step gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// What it does now: `boot`, `health`.
    Doing(String),
    /// How far it is.
    Counted(Count),
    /// A part of it, by name, that has a beginning and an end of its own. Parts may overlap.
    Part(&'static str, Part),
}

/// How a part of a step gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It began.
    Begun,
    /// How far it is.
    Counted(Count),
    /// It is done.
    Done,
}

/// How much is done, and of how much where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// So far.
    pub done: u64,
    /// In all.
    pub total: Option<u64>,
    /// What is counted.
    pub of: Unit,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things, called so: `pages`.
    Things(&'static str),
}

/// What happens while a plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The run is in the journal.
    RunBegun,
    /// A step is in the journal and about to be performed.
    StepBegun(&'a Planned),
    /// A step gets on.
    StepProgress(&'a Planned, Progress),
    /// A step was performed and is not in the journal as such yet.
    StepPerformed(&'a Planned),
    /// A step is in the journal as performed.
    StepFinished(&'a Planned, &'a Receipt),
    /// A step failed.
    StepFailed(&'a Planned),
    /// The run's end is in the journal.
    RunEnded(Outcome),
}

/// Who is told.
pub trait Audience: Sync {
    /// Called for each event in turn; must not block for long.
    fn hear(&self, event: Event<'_>);
}

/// Nobody.
impl Audience for () {
    fn hear(&self, _: Event<'_>) {}
}

/// A plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E: Failure> {
    /// The world is not as it was when the plan was made.
    #[error("something has changed since this plan was made")]
    Stale,
    /// The plan says why nothing can be done.
    #[error("{}", .0.join("; "))]
    Obstructed(Vec<String>),
    /// The world could not be looked at.
    #[error("cannot see what there is")]
    Observe(#[source] E),
    /// A step failed, at other places others perhaps.
    #[error("{}cannot {what}", others.iter().map(|other| format!("{other}; ")).collect::<String>())]
    Step {
        /// The step, for people.
        what: String,
        /// Why.
        source: E,
        /// What failed at other places, and why.
        others: Vec<String>,
    },
    /// The journal failed; nothing goes on without it.
    #[error("cannot keep the journal")]
    Journal(#[source] JournalError),
    /// The operator interrupted.
    #[error("interrupted after {done} of {of} steps")]
    Interrupted {
        /// Steps performed.
        done: usize,
        /// Steps of the plan.
        of: usize,
    },
}

impl<E: Failure> ApplyError<E> {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Stale => Some("`sovereign plan` shows what is to be done now".to_owned()),
            Self::Obstructed(_) => Some("`sovereign plan` shows how to mend it".to_owned()),
            Self::Observe(error) | Self::Step { source: error, .. } => error.help(),
            Self::Journal(error) => error.help(),
            Self::Interrupted { .. } => Some("`sovereign up` goes on from here".to_owned()),
        }
    }
}

/// Who carries out a plan, for the journal.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// What the operator asked for, `up` for instance.
    pub command: &'a str,
    /// The program's version.
    pub version: &'a str,
}

/// Carries out `plan` on `engine`, until done, a failure, or `stop`.
///
/// # Errors
/// See [`ApplyError`]; after each, a new plan and another `apply` are in order.
pub async fn apply<E: Engine>(
    engine: &E,
    plan: &Plan,
    journal: &Journal,
    caller: Caller<'_>,
    audience: &impl Audience,
    stop: &CancellationToken,
) -> Result<Vec<Receipt>, ApplyError<E::Error>> {
    if !plan.obstacles.is_empty() {
        return Err(ApplyError::Obstructed(plan.obstacles.iter().map(ToString::to_string).collect()));
    }
    let seen = engine.observe().await.map_err(ApplyError::Observe)?;
    if !plan.fits(&seen) {
        return Err(ApplyError::Stale);
    }
    let run = journal.begin(caller.command, caller.version, plan).map_err(ApplyError::Journal)?;
    audience.hear(Event::RunBegun);
    let work = Work { engine, run: Mutex::new(run), audience, stop, done: Mutex::default(), failed: Mutex::default() };
    work.all(plan).await?;
    let Work { run, done, failed, .. } = work;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
    let (outcome, result) = match failed.next() {
        Some((what, source)) => {
            let others = failed.map(|(what, source)| format!("cannot {what}: {}", with_causes(&source))).collect();
            (Outcome::Failed, Err(ApplyError::Step { what, source, others }))
        }
        None if done.len() < plan.steps.len() => {
            (Outcome::Interrupted, Err(ApplyError::Interrupted { done: done.len(), of: plan.steps.len() }))
        }
        None => (Outcome::Done, Ok(done.into_values().collect())),
    };
    run.into_inner().unwrap_or_else(PoisonError::into_inner).end(outcome).map_err(ApplyError::Journal)?;
    audience.hear(Event::RunEnded(outcome));
    result
}

/// So many hosts are worked on at once.
const AT_ONCE: usize = 8;

/// A plan under way.
///
/// ```text
///  this machine's images and supervisor ─▶ each host by itself, all at once ─▶ mirrors, all at once
/// ```
///
/// Steps of one place are performed in the plan's order; places do not wait for each other, so that a slow host delays
/// itself only, and one that fails stops itself only. Mirrors come last: they need what is at other places. When a step
/// has failed they are not waited for, since they fill by themselves.
struct Work<'w, E: Engine, A> {
    engine: &'w E,
    run: Mutex<OpenRun>,
    audience: &'w A,
    stop: &'w CancellationToken,
    /// By the place in the plan.
    done: Mutex<BTreeMap<usize, Receipt>>,
    failed: Mutex<Vec<(String, E::Error)>>,
}

/// A place with its steps, each with its number in the plan.
type Lane<'p> = Vec<(usize, &'p Planned)>;

impl<E: Engine, A: Audience> Work<'_, E, A> {
    async fn all(&self, plan: &Plan) -> Result<(), ApplyError<E::Error>> {
        let of_machine = |planned: &Planned| planned.step.datacenter().is_none();
        let is_mirror = |planned: &Planned| planned.at.is_some() && matches!(planned.step, Step::FillMirror { .. });
        let wave = |planned: &Planned| if of_machine(planned) { 0 } else { 1 + usize::from(is_mirror(planned)) };
        let mut waves: [BTreeMap<Option<&EdgeName>, Lane<'_>>; 3] = Default::default();
        for (number, planned) in plan.steps.iter().enumerate() {
            waves[wave(planned)].entry(planned.at.as_ref()).or_default().push((number, planned));
        }
        for lanes in waves {
            if self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                let turns = Semaphore::new(AT_ONCE);
                let work = lanes.into_values().map(async |lane| {
                    let _turn = turns.acquire().await; // never closed
                    self.lane(lane).await
                });
                join_all(work).await.into_iter().collect::<Result<(), _>>()?;
            }
        }
        Ok(())
    }

    /// Performs the steps of a place, until one fails or the operator interrupts.
    async fn lane(&self, lane: Lane<'_>) -> Result<(), ApplyError<E::Error>> {
        for (number, planned) in lane {
            if self.stop.is_cancelled() {
                break;
            }
            self.write(|run| run.begun(planned.id))?;
            self.audience.hear(Event::StepBegun(planned));
            let progress = |progress| self.audience.hear(Event::StepProgress(planned, progress));
            let outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                outcome = self.engine.perform(&planned.step, &progress) => outcome,
            };
            match outcome {
                Ok(receipt) => {
                    self.audience.hear(Event::StepPerformed(planned));
                    self.write(|run| run.finished(planned.id, &receipt))?;
                    self.audience.hear(Event::StepFinished(planned, &receipt));
                    self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, receipt);
                }
                Err(source) => {
                    self.write(|run| run.failed(planned.id, with_causes(&source)))?;
                    self.audience.hear(Event::StepFailed(planned));
                    let failed = (planned.step.to_string(), source);
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&self, line: impl FnOnce(&mut OpenRun) -> Result<(), JournalError>) -> Result<(), ApplyError<E::Error>> {
        line(&mut self.run.lock().unwrap_or_else(PoisonError::into_inner)).map_err(ApplyError::Journal)
    }
}
