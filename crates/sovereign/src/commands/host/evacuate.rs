//! `sovereign host evacuate`, and what `host upgrade` does of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use serde::Serialize;
use sovereign_engine::apply::Progress as Told;
use sovereign_engine::incus::evacuated::{Absence, Leaving};
use sovereign_engine::incus::{IncusEngineError, Reach};
use sovereign_hosts::Facts;
use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::record::{HostId, Record};
use sovereign_model::{EdgeName, Stack};

use crate::cli::HostEvacuateArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::evacuation::{Cluster, judge, lines_to, sites_on};
use crate::failure::Failure;
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Report, Stage, StageTime};
use crate::secrets;
use crate::world::unix_seconds;

/// The command, as a note on a host has it.
const COMMAND: &str = "sovereign host evacuate";

/// What becomes of what is on a host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Evacuated {
    host: HostId,
    /// Units of the stack that stop.
    stops: Vec<String>,
    /// Instances of others that stop.
    others_stop: Vec<String>,
    /// Instances of others that move.
    moves: Vec<String>,
    /// Who serves the sites that are written there, meanwhile.
    served_by: BTreeMap<String, Vec<String>>,
    /// Lines of the data center that lead to this host.
    lines: Vec<String>,
    /// Whether nothing can be changed at the other hosts while it is off.
    cluster_waits: bool,
    /// Whether it was evacuated before.
    already: bool,
    /// Whether it was done; otherwise this is what would be.
    done: bool,
    stages: Vec<StageTime>,
}

impl Evacuated {
    fn new(stack: &Stack, id: &HostId, leaving: &Leaving, cluster: Cluster, already: bool) -> Self {
        let edge = EdgeName::on(&id.datacenter, &id.host);
        let served = sites_on(stack, &edge).into_iter().map(|(site, edges)| {
            let edges = edges.iter().map(ToString::to_string).collect();
            (site.to_string(), edges)
        });
        Self {
            host: id.clone(),
            stops: leaving.stops.iter().map(ToString::to_string).collect(),
            others_stop: leaving.others_stop.clone(),
            moves: leaving.moves.iter().map(|(name, _)| name.clone()).collect(),
            served_by: served.collect(),
            lines: lines_to(stack, &edge).into_iter().map(str::to_owned).collect(),
            cluster_waits: cluster == Cluster::Waits,
            already,
            done: false,
            stages: Vec::new(),
        }
    }

    fn show_what(&self, page: &mut Page) {
        let warning = page.theme().warning;
        page.title(format_args!("What becomes of what is on {}", self.host));
        if self.stops.is_empty() && self.others_stop.is_empty() && self.moves.is_empty() {
            page.line("nothing runs in its Incus");
        }
        for name in &self.moves {
            page.line(format_args!("moves to another host: {name}"));
        }
        for name in &self.stops {
            page.line(format_args!("{warning}stops{warning:#}, since its data is on this host: {name}"));
        }
        for name in &self.others_stop {
            page.line(format_args!("{warning}stops{warning:#}, since what it needs is on this host: {name}"));
        }
        for (site, edges) in &self.served_by {
            match edges.as_slice() {
                [] => page.line(format_args!(
                    "site {site}: {warning}nobody can write, and nobody can read once the host is off{warning:#}"
                )),
                edges => page.line(format_args!(
                    "site {site}: nobody can write; kept pages are read at {}, and here until the host is off",
                    edges.join(", ")
                )),
            }
        }
        for line in &self.lines {
            page.line(format_args!(
                "{warning}line {line} leads to this host's address:{warning:#} who is sent there finds nobody while it is off"
            ));
        }
        if self.cluster_waits {
            page.line("it alone decides in its cluster: while it is off nothing can be changed at the other hosts");
        }
    }
}

impl Report for Evacuated {
    fn show(&self, page: &mut Page) {
        if !self.done {
            return self.show_what(page);
        }
        page.line(format_args!("{} is evacuated: it can be switched off", self.host));
        page.help(format_args!("`sovereign host restore {}` brings it back", self.host));
    }
}

/// What a stage notes while something is done on a host.
pub(super) fn told(stage: &Stage) -> impl Fn(Told) + Send + Sync {
    |told| {
        if let Told::Doing(what) = told {
            stage.note(what);
        }
    }
}

/// What would become of what is on a host, whether it may be, and whether it is out already.
///
/// # Errors
/// When it is not reached, or may not be taken out.
pub(super) async fn look(
    stack: &Stack,
    reach: &Reach,
    edge: &EdgeName,
) -> Result<(Leaving, Cluster, Option<Evacuation>), Failure> {
    let link = reach.link(edge).await?;
    let leaving = link.leaving(&stack.name).await?;
    let failed = |source| IncusEngineError::Host { host: edge.clone(), source: Box::new(source) };
    let note = Evacuation::read(&link.connection).await.map_err(failed)?;
    // How much room the others have matters only where something moves.
    let others = reach.edges().filter(|other| other.datacenter == edge.datacenter && *other != edge);
    let others = others.filter(|_| !leaving.moves.is_empty());
    let free = join_all(others.map(async |other| {
        let facts = Facts::gather(&reach.link(other).await.ok()?.connection).await.ok()?;
        facts.memory_available
    }));
    let free: Vec<u64> = free.await.into_iter().flatten().collect();
    let cluster = judge(edge, &leaving, &free)?;
    Ok((leaving, cluster, note))
}

/// Remembers here, too, that a host is evacuated, or that it is not.
pub(super) fn remember(declared: &Declared, id: &HostId, note: Option<Evacuation>) -> Result<(), Failure> {
    let change = |record: &mut Record| {
        if let Some(known) = record.hosts.get_mut(id) {
            known.evacuated = note;
        }
    };
    Ok(Record::change(&declared.state.hosts_record(), change)?)
}

/// One that begins now, by who sits here.
pub(super) fn note(command: &str) -> Evacuation {
    Evacuation::new(lease::who(), command, unix_seconds(SystemTime::now()))
}

/// Looks, says what will happen, asks, does it.
pub(crate) fn run(context: &Context, args: &HostEvacuateArgs) -> Result<Evacuated, Failure> {
    let declared = Declared::load(context)?;
    let (stack, id) = (&declared.stack, &args.host);
    super::known(&declared, id)?;
    let _lock = secrets::lock(&declared.state, "host evacuate")?;
    secrets::hosts(context, stack, &declared.state)?;
    let edge = EdgeName::on(&id.datacenter, &id.host);
    let reach = Arc::new(hosts::reach_known(&declared, None)?);
    let progress = context.output.progress();
    interrupt::run(&context.output, |_| async {
        let stage = progress.stage(format!("look at {id}"));
        let (leaving, cluster, before) = look(stack, &reach, &edge).await?;
        stage.finish();
        let mut evacuated = Evacuated::new(stack, id, &leaving, cluster, before.is_some());
        if args.dry_run {
            return Ok(evacuated);
        }
        context.output.show(&evacuated);
        context.output.confirm(&format!("Evacuate {id}?"), args.yes)?;
        let take = || lease::take(context, &declared, &reach, "host evacuate", &args.lease, args.yes);
        let lease = tokio::task::block_in_place(take)?;
        let work = async {
            let stage = progress.stage(format!("evacuate {id}"));
            let note = note(COMMAND);
            remember(&declared, id, Some(note.clone()))?;
            let link = reach.link(&edge).await?;
            let note = link.evacuate(&stack.name, note, Absence::UntilRestored, &told(&stage)).await?;
            remember(&declared, id, Some(note))?;
            stage.finish();
            Ok(())
        };
        lease::under(&lease, work).await?;
        evacuated.done = true;
        evacuated.stages = progress.times();
        Ok(evacuated)
    })
}
