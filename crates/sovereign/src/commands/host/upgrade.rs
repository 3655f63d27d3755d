//! `sovereign host upgrade`: one host after the other, and none before all is well.
//!
//! ```text
//!  look at all ─▶ show, ask ─▶ all is well? ─▶ packages ─▶ must it boot? ─▶ drain ─▶ boot ─▶ back, well? ─▶ the next
//!                                   │ no            │                                            │ no
//!                                   └─ refused      └─ no ─▶ well? ─▶ the next                   └─ stops here
//! ```
//!
//! Promise: never more than one host is down. What is left to do is seen on the hosts and not remembered, so a run that was
//! stopped is gone on with by the same command. A host that was drained starts what it had by itself when it boots,
//! whether or not this machine is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use sovereign_engine::incus::evacuated::Absence;
use sovereign_engine::incus::lease::Lease;
use sovereign_engine::incus::{IncusEngineError, Reach};
use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::findings::is_taken;
use sovereign_hosts::record::{HostId, Record};
use sovereign_hosts::upgrade::{Booted, Pending, booted, install, pending, reboot};
use sovereign_hosts::{Connection, Facts, Finding, SshError, findings};
use sovereign_incus::cluster::Status;
use sovereign_model::{DatacenterName, EdgeName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::evacuate::{look, note, remember, told};
use crate::assess::serving_problems;
use crate::cli::HostUpgradeArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::gather::gather;
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Cell, Page, Progress, Report, StageTime, Table, Theme, figures};
use crate::secrets::{self, HostKeys};
use crate::upgrade::{COMMAND, Todo, order, stays_out};
use crate::world::unix_seconds;

/// So many hosts are looked at at once.
const AT_ONCE: usize = 8;
/// A machine with much memory tests it before it boots.
const BOOTS_WITHIN: Duration = Duration::from_secs(15 * 60);
/// What its applications need after a boot, and edges to hear of them.
const WELL_WITHIN: Duration = Duration::from_secs(10 * 60);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// A host, and what there is to do on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    host: HostId,
    #[serde(flatten)]
    pending: Pending,
    #[serde(flatten)]
    booted: Booted,
    /// Whether an operator took it out: it stays out.
    stays_out: bool,
    /// Whether it booted again in this run.
    rebooted: bool,
    /// Whether this run is through with it.
    upgraded: bool,
    #[serde(skip)]
    todo: Todo,
    #[serde(skip)]
    facts: Facts,
}

/// What there is to upgrade, and what was.
#[derive(Debug, Serialize)]
pub(crate) struct Upgraded {
    hosts: Vec<Row>,
    /// Whether it was done; otherwise this is what would be.
    done: bool,
    stages: Vec<StageTime>,
}

impl Upgraded {
    fn is_left(&self) -> bool {
        self.hosts.iter().any(|row| !row.upgraded && !row.todo.is_nothing())
    }

    fn show_plan(&self, page: &mut Page) {
        let mut packages: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in &self.hosts {
            for package in &row.pending.packages {
                packages.entry(package).or_default().push(row.host.to_string());
            }
        }
        if !packages.is_empty() {
            page.title("What is upgraded");
            let mut table = Table::new(["PACKAGE", "FROM", "TO", "ON"]);
            for (package, on) in &packages {
                let from = package.from.as_deref().unwrap_or("not there yet");
                table.row([Cell::from(&package.name), from.into(), package.to.as_str().into(), on.join(", ").into()]);
            }
            page.table(&table);
        }
        page.title("In this order, one after the other");
        let mut table = Table::new([">", "HOST", ">PACKAGES", "BOOTS AGAIN"]);
        for (number, row) in (1..).zip(&self.hosts) {
            let boots = match row.todo.reboot.as_slice() {
                [] if row.todo.packages => "if it must after that".to_owned(),
                [] => "no".to_owned(),
                reasons => reasons.join("; "),
            };
            let packages = row.pending.packages.len();
            table.row([Cell::from(number), Cell::from(&row.host), Cell::from(packages), boots.into()]);
        }
        page.table(&table);
        for row in self.hosts.iter().filter(|row| row.pending.brought && row.todo.packages) {
            page.line(format_args!("{} reaches no mirror: its packages come through here", row.host));
        }
        for row in self.hosts.iter().filter(|row| row.booted.container) {
            page.line(format_args!("{} is a container: its kernel is that of the machine around it", row.host));
        }
        for row in self.hosts.iter().filter(|row| row.stays_out) {
            page.line(format_args!("{} is evacuated, and stays so", row.host));
        }
    }
}

impl Report for Upgraded {
    fn show(&self, page: &mut Page) {
        if self.hosts.is_empty() {
            return page.line("there are no hosts");
        }
        if !self.is_left() && !self.done {
            return page.line("nothing is newer, and no host must boot again");
        }
        if !self.done {
            return self.show_plan(page);
        }
        for row in self.hosts.iter().filter(|row| row.upgraded) {
            let boots = if row.rebooted { "booted again" } else { "did not have to boot" };
            let packages = figures::count(row.pending.packages.len() as u64, "package", "packages");
            page.line(format_args!("{}: {packages} upgraded, {boots}, all is well", row.host));
        }
    }

    fn exit(&self) -> Exit {
        if self.is_left() { Exit::Attention } else { Exit::Done }
    }
}

/// Hosts are not upgraded.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("not everything is well, so {host} is not touched: {}", .troubles.join("; "))]
    Unwell { host: HostId, troubles: Vec<String> },
    #[error("the hosts of {datacenter} must all get the same Incus, and {} were not named", list(.missing))]
    OtherIncus { datacenter: DatacenterName, missing: Vec<HostId> },
    #[error("{id} cannot be upgraded")]
    InTheWay { id: HostId, findings: Vec<Finding> },
    #[error("{host} did not come back within {} min of its boot: {why}", BOOTS_WITHIN.as_secs() / 60)]
    Gone { host: HostId, why: String },
    #[error("{host} is upgraded, and not all is well within {} min: {}", WELL_WITHIN.as_secs() / 60, .troubles.join("; "))]
    StaysUnwell { host: HostId, troubles: Vec<String> },
    #[error("stopped before {0}")]
    Stopped(HostId),
    #[error("{host}: {}{}", .why.chain().join(": "), rest(.left))]
    Turn { host: HostId, why: Failure, left: Vec<HostId> },
}

fn list(hosts: &[HostId]) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn rest(left: &[HostId]) -> String {
    if left.is_empty() { String::new() } else { format!("; not touched: {}", list(left)) }
}

impl Reason for Refused {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unwell { .. } => {
                "`sovereign status` and `sovereign host check` say what to do; then this again".to_owned()
            }
            Self::OtherIncus { .. } => "name them too, or none: then all are upgraded".to_owned(),
            Self::InTheWay { .. } => return None,
            Self::Gone { host, .. } => {
                format!("look at its console; when it is back, `sovereign host upgrade` goes on with {host}")
            }
            Self::StaysUnwell { .. } => {
                "`sovereign status` says what to do; then `sovereign host upgrade` goes on".to_owned()
            }
            Self::Stopped(_) => "`sovereign host upgrade` goes on there".to_owned(),
            Self::Turn { why, .. } => {
                let again = "`sovereign host upgrade` goes on there";
                why.help().map_or(again.to_owned(), |help| format!("{help}; then {again}"))
            }
        })
    }

    fn page(&self, theme: Theme) -> Option<String> {
        let Self::InTheWay { findings, .. } = self else { return None };
        let mut page = Page::new(theme);
        super::show(findings, &mut page);
        let style = theme.error;
        page.line(format_args!("{style}error:{style:#} {self}: nothing was done on any host"));
        Some(page.into_text())
    }

    fn problems(&self) -> Option<Value> {
        match self {
            Self::InTheWay { findings, .. } => serde_json::to_value(findings).ok(),
            Self::Unwell { troubles, .. } | Self::StaysUnwell { troubles, .. } => serde_json::to_value(troubles).ok(),
            _ => None,
        }
    }
}

/// All hosts, reached and held.
struct Held {
    reach: Arc<Reach>,
    lease: Lease,
}

struct Work<'a> {
    context: &'a Context,
    args: &'a HostUpgradeArgs,
    declared: &'a Declared,
    keys: HostKeys,
    record: Record,
    progress: Progress,
    stop: CancellationToken,
}

/// Looks, says what will happen, asks, does it.
pub(crate) fn run(context: &Context, args: &HostUpgradeArgs) -> Result<Upgraded, Failure> {
    let declared = Declared::load(context)?;
    let record = Record::read(&declared.state.hosts_record())?;
    for id in &args.hosts {
        super::known(&declared, id)?;
    }
    let chosen: BTreeSet<HostId> = if args.hosts.is_empty() {
        record.hosts.keys().cloned().collect()
    } else {
        args.hosts.iter().cloned().collect()
    };
    if chosen.is_empty() {
        return Ok(Upgraded { hosts: Vec::new(), done: false, stages: Vec::new() });
    }
    let _lock = secrets::lock(&declared.state, "host upgrade")?;
    let keys = secrets::hosts(context, &declared.stack, &declared.state)?;
    let progress = context.output.progress();
    interrupt::run(&context.output, |stop| {
        let work = Work { context, args, declared: &declared, keys, record, progress, stop };
        let ordered = order(&declared.stack, chosen);
        async move { work.run(ordered).await }
    })
}

fn edge(id: &HostId) -> EdgeName {
    EdgeName::on(&id.datacenter, &id.host)
}

impl Work<'_> {
    async fn run(&self, hosts: Vec<HostId>) -> Result<Upgraded, Failure> {
        let reach = Arc::new(hosts::reach_known(self.declared, None)?);
        let rows = self.look_at_all(&reach, &hosts).await?;
        let mut upgraded = Upgraded { hosts: rows, done: false, stages: Vec::new() };
        if self.args.dry_run || !upgraded.is_left() {
            upgraded.stages = self.progress.times();
            return Ok(upgraded);
        }
        self.context.output.show(&upgraded);
        self.context.output.confirm("Upgrade them, one after the other?", self.args.yes)?;
        let mut held = self.hold(reach)?;
        let deployed = self.is_deployed(&held.reach).await?;
        let mut prepared: BTreeSet<DatacenterName> = BTreeSet::new();
        for at in 0..upgraded.hosts.len() {
            if upgraded.hosts[at].todo.is_nothing() {
                continue;
            }
            let id = upgraded.hosts[at].host.clone();
            let left =
                || upgraded.hosts[at + 1..].iter().filter(|row| !row.todo.is_nothing()).map(|row| row.host.clone());
            let turn = |why| Refused::Turn { host: id.clone(), why, left: left().collect() };
            if self.stop.is_cancelled() {
                return Err(Refused::Stopped(id).into());
            }
            if prepared.insert(id.datacenter.clone()) {
                let together = self.together(&held, &upgraded.hosts, &id.datacenter);
                lease::under(&held.lease, together).await.map_err(turn)?;
            }
            lease::under(&held.lease, self.gate(&held.reach, &id, deployed)).await?;
            let boots = lease::under(&held.lease, self.before(&held.reach, &upgraded.hosts[at])).await.map_err(turn)?;
            if let Some(before) = &boots {
                held = self.boot(held, &id, before).await.map_err(turn)?;
            }
            let back = self.back(&held.reach, &id, boots.is_some(), deployed);
            lease::under(&held.lease, back).await.map_err(turn)?;
            let row = &mut upgraded.hosts[at];
            (row.rebooted, row.upgraded) = (boots.is_some(), true);
        }
        upgraded.done = true;
        upgraded.stages = self.progress.times();
        Ok(upgraded)
    }

    /// Takes the lease on all hosts.
    fn hold(&self, reach: Arc<Reach>) -> Result<Held, Failure> {
        let (context, declared, args) = (self.context, self.declared, self.args);
        let take = || lease::take(context, declared, &reach, "host upgrade", &args.lease, args.yes);
        let lease = tokio::task::block_in_place(take)?;
        Ok(Held { reach, lease })
    }

    async fn look_at_all(&self, reach: &Reach, hosts: &[HostId]) -> Result<Vec<Row>, Failure> {
        let stage = self.progress.stage("look at hosts and for newer packages");
        let turns = Semaphore::new(AT_ONCE);
        let looks = hosts.iter().map(async |id| {
            let _turn = turns.acquire().await; // never closed
            self.look_at(reach, id).await
        });
        let rows: Result<Vec<Row>, Failure> = join_all(looks).await.into_iter().collect();
        stage.finish();
        rows
    }

    async fn look_at(&self, reach: &Reach, id: &HostId) -> Result<Row, Failure> {
        let host = &reach.link(&edge(id)).await?.connection;
        let facts = Facts::gather(host).await?;
        let known = super::known(self.declared, id)?;
        let required = super::required(self.declared, &self.keys, &self.record, id, known.disk.as_deref());
        let found = findings(&facts, &required);
        if !is_taken(&found) {
            return Err(Refused::InTheWay { id: id.clone(), findings: found }.into());
        }
        let (pending, booted) =
            (pending(host, &facts, &self.declared.state.host(&id.datacenter, &id.host)).await?, booted(host).await?);
        let note = Evacuation::read(host).await?;
        let todo = Todo::new(&pending, &booted, note.as_ref(), self.args.reboot);
        let (stays_out, host) = (stays_out(note.as_ref()), id.clone());
        Ok(Row { host, pending, booted, stays_out, rebooted: false, upgraded: false, todo, facts })
    }

    /// Whether anything of the stack runs on hosts yet: before that nothing can be unwell.
    async fn is_deployed(&self, reach: &Reach) -> Result<bool, Failure> {
        let gathered = gather(&self.declared.stack, &self.declared.state, reach).await?;
        let mut seen = gathered.hosts.values().filter_map(|seen| seen.as_ref().ok());
        Ok(seen.any(|seen| {
            !seen.usage.services.is_empty()
                || seen.instances.as_ref().is_ok_and(|instances| !instances.units.is_empty())
        }))
    }

    /// What is not well: what serves readers and writers, hosts that do not answer, members that their cluster misses.
    async fn troubles(&self, reach: &Reach, deployed: bool) -> Result<Vec<String>, Failure> {
        let Declared { stack, state, .. } = self.declared;
        let gathered = gather(stack, state, reach).await?;
        let mut troubles: Vec<String> = if deployed {
            let problems = serving_problems(stack, &gathered, unix_seconds(SystemTime::now()));
            problems.into_iter().map(|problem| format!("{}: {}", problem.subject, problem.message)).collect()
        } else {
            let silent = gathered.hosts.iter().filter(|(edge, _)| !gathered.evacuated.contains_key(edge));
            silent.filter_map(|(edge, seen)| Some(format!("{edge}: {}", seen.as_ref().err()?.why))).collect()
        };
        let mut asked: BTreeSet<&DatacenterName> = BTreeSet::new();
        for edge in reach.edges().filter(|edge| !gathered.evacuated.contains_key(edge)) {
            let Ok(link) = reach.link(edge).await else { continue };
            if asked.contains(&edge.datacenter) {
                continue;
            }
            match link.members().await {
                Ok(members) => {
                    asked.insert(&edge.datacenter);
                    let missed = members.iter().filter(|m| !matches!(m.status, Status::Online | Status::Evacuated));
                    let name = &edge.datacenter;
                    troubles.extend(
                        missed.map(|m| format!("{name}/{}: its cluster misses it: {}", m.server_name, m.message)),
                    );
                }
                Err(error) => troubles.push(Failure::from(error).chain().join(": ")),
            }
        }
        Ok(troubles)
    }

    /// All must be well before a host is touched.
    async fn gate(&self, reach: &Reach, id: &HostId, deployed: bool) -> Result<(), Failure> {
        let stage = self.progress.stage("see that all is well");
        let troubles = self.troubles(reach, deployed).await?;
        if !troubles.is_empty() {
            return Err(Refused::Unwell { host: id.clone(), troubles }.into());
        }
        stage.finish();
        Ok(())
    }

    /// Members of a cluster wait for each other while not all have one version of Incus, and none of them answers. So where
    /// that is among the packages, all hosts of the data center have theirs upgraded first; none boots, and what runs in
    /// Incus goes on.
    async fn together(&self, held: &Held, rows: &[Row], datacenter: &DatacenterName) -> Result<(), Failure> {
        let of = || rows.iter().filter(|row| row.host.datacenter == *datacenter);
        let is_clustered = |row: &Row| row.facts.incus.as_ref().is_some_and(|incus| incus.clustered);
        if !of().any(|row| row.pending.changes_incus() && is_clustered(row)) {
            return Ok(());
        }
        let all = self.record.hosts.keys().filter(|id| id.datacenter == *datacenter);
        let missing = all.filter(|id| !rows.iter().any(|row| row.host == **id));
        let missing: Vec<HostId> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(Refused::OtherIncus { datacenter: datacenter.clone(), missing }.into());
        }
        for row in of().filter(|row| row.todo.packages) {
            self.install(&held.reach, row).await?;
        }
        Ok(())
    }

    async fn install(&self, reach: &Reach, row: &Row) -> Result<(), Failure> {
        let id = &row.host;
        let stage = self.progress.stage(format!("upgrade packages of {id}"));
        let host = &reach.link(&edge(id)).await?.connection;
        let work = self.declared.state.host(&id.datacenter, &id.host);
        install(host, &row.facts, &work, row.pending.brought).await?;
        stage.finish();
        Ok(())
    }

    /// Upgrades the packages, and drains the host when it must boot: then how it has booted until now.
    async fn before(&self, reach: &Reach, row: &Row) -> Result<Option<String>, Failure> {
        let (id, edge) = (&row.host, edge(&row.host));
        let link = reach.link(&edge).await?;
        if row.todo.packages {
            self.install(reach, row).await?;
        }
        let now = booted(&link.connection).await?;
        if now.reasons.is_empty() && !self.args.reboot {
            return Ok(None);
        }
        let stack = &self.declared.stack;
        look(stack, reach, &edge).await?;
        if !row.stays_out {
            let stage = self.progress.stage(format!("drain {id}"));
            let note = note(COMMAND);
            remember(self.declared, id, Some(note.clone()))?;
            let note = link.evacuate(&stack.name, note, Absence::OneBoot, &told(&stage)).await?;
            remember(self.declared, id, Some(note))?;
            stage.finish();
        }
        Ok(Some(now.boot))
    }

    /// Boots a host, and waits until it lets us in. The lease lies in its memory, so it is taken anew.
    async fn boot(&self, held: Held, id: &HostId, before: &str) -> Result<Held, Failure> {
        let stage = self.progress.stage(format!("boot {id}"));
        let edge = edge(id);
        held.lease.vanish(&edge);
        reboot(&held.reach.link(&edge).await?.connection).await?;
        let wait = async {
            let began = Instant::now();
            loop {
                match self.came_up(id, before).await {
                    Ok(true) => return Ok(()),
                    Ok(false) if began.elapsed() < BOOTS_WITHIN => stage.note("it has not begun"),
                    Err(Failing::Soon(error)) if began.elapsed() < BOOTS_WITHIN => stage.note(error.to_string()),
                    Ok(false) => {
                        let why = "it runs as before".to_owned();
                        return Err(Refused::Gone { host: id.clone(), why }.into());
                    }
                    Err(Failing::Soon(error)) => {
                        return Err(Refused::Gone { host: id.clone(), why: error.to_string() }.into());
                    }
                    Err(Failing::Never(failure)) => return Err(failure),
                }
                sleep(LOOK).await;
            }
        };
        lease::under(&held.lease, wait).await?;
        stage.finish();
        drop(held);
        self.hold(Arc::new(hosts::reach_known(self.declared, None)?))
    }

    /// Whether it has booted since.
    async fn came_up(&self, id: &HostId, before: &str) -> Result<bool, Failing> {
        let known = super::known(self.declared, id).map_err(Failing::Never)?;
        let login = super::login(self.declared, id, &known, super::ours(&self.keys)).map_err(Failing::Never)?;
        let asked = async {
            let host = Connection::open(login, &self.declared.places.sockets(), super::PATIENCE).await?;
            let now = booted(&host).await?;
            host.close().await;
            Ok(now.boot != before)
        };
        asked.await.map_err(|error| match error {
            // Somebody else answers there now.
            SshError::HostKeyChanged { .. } => Failing::Never(error.into()),
            error => Failing::Soon(error),
        })
    }

    /// Brings a host back that was drained, and waits until all is well.
    async fn back(&self, reach: &Reach, id: &HostId, has_booted: bool, deployed: bool) -> Result<(), Failure> {
        let (edge, began) = (edge(id), Instant::now());
        let link = reach.link(&edge).await?;
        let failed = |source| IncusEngineError::Host { host: edge.clone(), source: Box::new(source) };
        let note = Evacuation::read(&link.connection).await.map_err(failed)?;
        if note.as_ref().is_some_and(|note| note.command == COMMAND) {
            let stage = self.progress.stage(format!("bring {id} back"));
            // Its Incus answers some seconds after its SSH server, and a cluster whose leader has left looks for another.
            while let Err(error) = link.restore(&self.declared.stack.name, &told(&stage)).await {
                if began.elapsed() > WELL_WITHIN {
                    return Err(error.into());
                }
                stage.note(error.to_string());
                sleep(LOOK).await;
            }
            remember(self.declared, id, None)?;
            stage.finish();
        }
        let what = if has_booted { "see that all is well again" } else { "see that all is still well" };
        let stage = self.progress.stage(what);
        loop {
            let troubles = self.troubles(reach, deployed).await?;
            let Some(first) = troubles.first() else { break };
            if began.elapsed() > WELL_WITHIN {
                return Err(Refused::StaysUnwell { host: id.clone(), troubles }.into());
            }
            stage.note(first.clone());
            sleep(LOOK).await;
        }
        stage.finish();
        Ok(())
    }
}

/// Why a host that boots does not answer.
enum Failing {
    /// It may yet.
    Soon(SshError),
    /// It will not.
    Never(Failure),
}
