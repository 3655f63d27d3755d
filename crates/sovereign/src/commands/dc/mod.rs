//! `sovereign dc`: what an operator decides of whole data centers.
//!
//! ```text
//!  decision ─▶ would it leave readers nobody? ─▶ written down ─▶ every name server, or edge, that answers ─▶ who has heard
//! ```
//!
//! Promise: a decision is written down before anybody hears of it, so a run that is killed is completed by the same command
//! and by `up`. Who cannot be reached is named, and keeps nobody else from being told.

mod check;
mod drain;
mod list;
mod maintenance;

use std::collections::BTreeMap;

use sovereign_engine::apply::{ApplyError, Caller, Engine as _, apply};
use sovereign_engine::journal::Journal;
use sovereign_keys::WorkingKeys;
use sovereign_model::{DatacenterName, Digest, EdgeName, Stack};
use sovereign_plan::{Hearer, Telling, Wanted, telling};
use tokio_util::sync::CancellationToken;

pub(crate) use self::check::run as check;
pub(crate) use self::drain::{drain, undrain};
pub(crate) use self::list::run as list;
pub(crate) use self::maintenance::run as maintenance;
use super::plan::Shown;
use super::up::Told as Stages;
use crate::cli::LeaseArgs;
use crate::context::Context;
use crate::datacenters::{Datacenters, Decided, Matter};
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::gather::{Gathered, gather};
use crate::interrupt;
use crate::lease;
use crate::output::{Page, StageTime, figures};
use crate::secrets;

/// So often it is planned anew when something changes between the plan and the first step.
const PLANNED_AGAIN: usize = 5;

/// It cannot be decided.
#[derive(Debug, thiserror::Error)]
enum NotDecided {
    #[error("there is no data center {name}")]
    Unknown { name: DatacenterName, known: Vec<String> },
    #[error("{}, which would be carried out in part: {}", figures::count(.steps.len() as u64, "other change is pending", "other changes are pending"), .steps.join("; "))]
    Pending { steps: Vec<String> },
    #[error("{}", figures::count(*.0 as u64, "obstacle stands in the way", "obstacles stand in the way"))]
    Obstructed(usize),
}

impl Reason for NotDecided {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::Usage,
            Self::Pending { .. } | Self::Obstructed(_) => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } => Some(format!("there are: {}", known.join(", "))),
            Self::Pending { .. } => Some("`sovereign up` carries them out; then the same command again".to_owned()),
            Self::Obstructed(_) => None,
        }
    }
}

/// That there is such a data center.
fn known(stack: &Stack, name: &DatacenterName) -> Result<(), Failure> {
    if stack.datacenters.contains_key(name) {
        return Ok(());
    }
    let known = stack.datacenters.keys().map(ToString::to_string).collect();
    Err(NotDecided::Unknown { name: name.clone(), known }.into())
}

/// What is to be decided.
struct Wish<'a> {
    /// The command, as the journal has it.
    command: &'static str,
    matter: Matter,
    datacenters: &'a [DatacenterName],
    /// Whether it is so from now on, or not any more.
    on: bool,
    lease: &'a LeaseArgs,
    yes: bool,
}

impl Wish<'_> {
    fn hearer(&self) -> Hearer {
        match self.matter {
            Matter::Drained => Hearer::NameServers,
            Matter::Maintained => Hearer::Edges,
        }
    }
}

/// What came of it.
struct Outcome {
    /// Whether it was otherwise before.
    changed: bool,
    /// Who acts on it.
    told: Vec<EdgeName>,
    /// Who does not yet, and why.
    untold: BTreeMap<EdgeName, String>,
    stages: Vec<StageTime>,
}

/// Who acts on what is wanted, and who does not and why.
type Heard = (Vec<EdgeName>, BTreeMap<EdgeName, String>);

/// Decides it and tells everybody whom it concerns. `may` looks at what would be decided, and at how everything is, before
/// anything is changed.
///
/// # Errors
/// When it may not be, or somebody who answers could not be told; doing it again goes on from there.
fn decide(
    context: &Context,
    declared: Declared,
    wish: &Wish<'_>,
    may: impl Fn(&Datacenters, &Gathered) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let deployment = Deployment::new(declared.clone())?;
    deployment.prepare()?;
    let _lock = secrets::lock(&deployment.state, wish.command)?;
    let keys = secrets::open(context, &deployment.stack, &deployment.state)?;
    let before = Datacenters::read(&deployment.state)?;
    let decided = Decided { since_unix: deployment.hour(), by: lease::who() };
    let next = before.with(wish.matter, wish.datacenters, wish.on.then_some(&decided));
    let deployment = deployment.deciding(next.clone());
    let lease = lease::take(context, &declared, &deployment.reach, wish.command, wish.lease, wish.yes)?;
    let work = async |stop| {
        let stage = context.output.progress().stage("look at everything");
        may(&next, &gather(&deployment.stack, &deployment.state, &deployment.reach).await?)?;
        stage.finish();
        tell(context, &deployment, &keys, wish, &next, stop).await
    };
    let ((told, untold), stages) = interrupt::run(&context.output, |stop| lease::under(&lease, work(stop)))?;
    Ok(Outcome { changed: next != before, told, untold, stages })
}

async fn tell(
    context: &Context,
    deployment: &Deployment,
    keys: &WorkingKeys,
    wish: &Wish<'_>,
    next: &Datacenters,
    stop: CancellationToken,
) -> Result<(Heard, Vec<StageTime>), Failure> {
    let progress = context.output.progress();
    let joined = deployment.joined(keys)?;
    let engine = deployment.engine(keys, &joined, &progress);
    let mut seen = engine.observe().await?;
    let (joined, primaries) = deployment.settled(keys, joined, &seen)?;
    let engine = deployment.engine(keys, &joined, &progress);
    let mut plan = sovereign_plan::plan(&joined.wanted, &seen);
    if !plan.obstacles.is_empty() {
        let obstacles = plan.obstacles.len();
        context.output.show(&Shown::new(plan, deployment)?);
        return Err(NotDecided::Obstructed(obstacles).into());
    }
    if engine.hosts.take_over(&mut seen)? {
        plan = sovereign_plan::plan(&joined.wanted, &seen);
    }
    let Telling { plan: mut part, pending } = telling(&plan, &joined.wanted, wish.hearer());
    if !pending.is_empty() && !part.steps.is_empty() {
        let steps = pending.iter().map(|planned| planned.step.to_string()).collect();
        return Err(NotDecided::Pending { steps }.into());
    }
    // Before anybody hears of it.
    next.keep(&deployment.state)?;
    primaries.keep(&deployment.state)?;
    if !part.steps.is_empty() {
        deployment.install()?;
    }
    let journal = Journal::at(deployment.state.journal());
    let caller = Caller { command: wish.command, version: env!("CARGO_PKG_VERSION") };
    let stages = Stages::new(&progress);
    let mut again = 0..PLANNED_AGAIN;
    while !part.steps.is_empty() {
        match apply(&engine, &part, &journal, caller, &stages, &stop).await {
            Ok(_) => break,
            Err(ApplyError::Stale) if again.next().is_some() => {
                let plan = sovereign_plan::plan(&joined.wanted, &engine.observe().await?);
                part = telling(&plan, &joined.wanted, wish.hearer()).plan;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let gathered = gather(&deployment.stack, &deployment.state, &deployment.reach).await?;
    Ok((heard(wish, &joined.wanted, &gathered), progress.times()))
}

/// What somebody says that it acts on.
fn acts_on<S>(
    said: &BTreeMap<EdgeName, Result<S, String>>,
    at: &EdgeName,
    digest: impl Fn(&S) -> Digest,
) -> Result<Digest, String> {
    said.get(at)
        .map_or_else(|| Err("it is not asked".to_owned()), |said| said.as_ref().map(digest).map_err(Clone::clone))
}

fn heard(wish: &Wish<'_>, wanted: &Wanted, gathered: &Gathered) -> Heard {
    // What each should act on, and what it says that it does.
    let concerned: Vec<(&EdgeName, Digest, Result<Digest, String>)> = match wish.hearer() {
        Hearer::NameServers => {
            let acts_on = |at| acts_on(&gathered.name_servers, at, |status| status.config_digest);
            wanted.name_servers.iter().map(|(at, server)| (at, server.config_digest, acts_on(at))).collect()
        }
        Hearer::Edges => {
            let acts_on = |at| acts_on(&gathered.edges, at, |status| status.config_digest);
            let is_written_there = |site| {
                let primary = wanted.primaries.get(site).map(|primary| &primary.at);
                primary.is_some_and(|at| wish.datacenters.contains(at))
            };
            let edges = wanted.edges.iter();
            let edges = edges.filter(|(_, edge)| edge.config.sites.iter().any(|site| is_written_there(&site.site)));
            edges.map(|(at, edge)| (at, edge.config_digest, acts_on(at))).collect()
        }
    };
    let (mut told, mut untold) = (Vec::new(), BTreeMap::new());
    for (at, wanted, says) in concerned {
        match says {
            Ok(says) if says == wanted => told.push(at.clone()),
            Ok(_) if gathered.evacuated.contains_key(at) => {
                untold.insert(at.clone(), "its host is evacuated on purpose, and left alone".to_owned());
            }
            Ok(_) => drop(untold.insert(at.clone(), "it acts on what it was told before".to_owned())),
            Err(why) => drop(untold.insert(at.clone(), why)),
        }
    }
    (told, untold)
}

/// Names who does not act on it yet.
fn show_untold(untold: &BTreeMap<EdgeName, String>, whose: &str, page: &mut Page) {
    let warning = page.theme().warning;
    for (at, why) in untold {
        page.line(format_args!("{warning}not told:{warning:#} {whose} of {at}: {why}"));
    }
    if !untold.is_empty() {
        page.help("`sovereign up`, or the same command, tells them when they answer again");
    }
}
