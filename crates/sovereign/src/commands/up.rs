//! `sovereign up`: the main job.

mod saving;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_engine::apply::{self, ApplyError, Audience, Caller, Count, Engine as _, Event, Part, Unit, apply};
use sovereign_engine::embedded::Client;
use sovereign_engine::incus::Asked;
use sovereign_engine::journal::Journal;
use sovereign_keys::WorkingKeys;
use sovereign_model::observed::Unrestored;
use sovereign_model::stack::{App, EngineKind, Site};
use sovereign_model::{EdgeName, SiteName, Stack, Step, StepId};
use sovereign_plan::{Plan, Planned};
use tokio_util::sync::CancellationToken;

use crate::adopted;
use crate::assess::{addresses, assess};
use crate::certificates::{Certificates, Renewed, Rules, trust};
use crate::cli::UpArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::gather::gather;
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Cell, Page, Progress, Report, Stage, StageTime, Table, figures};
use crate::providers::{Providers, Tellings};
use crate::restore;
use crate::secrets;
use crate::world::unix_seconds;
use crate::zone_keys::{self, Exchange};

use self::saving::{Saving, Spared};
use super::backup::BackedUp;
use super::dns_drift::Stopped;
use super::open::{has_screen, tunnel};
use super::plan::{Shown, show_unrestored};
use super::site::find;

/// A reader would not wait longer.
const VERIFY_PATIENCE: Duration = Duration::from_secs(10);

/// How long edges may take to come to rest after a change.
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);
const SETTLE_LOOK: Duration = Duration::from_millis(50);

/// How often a plan is made anew when something changes between the plan and the first step. Whoever gave the plan is
/// told instead.
const PLANNED_AGAIN: usize = 5;

/// How a run ended.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    stack: String,
    /// Steps that were carried out.
    steps: usize,
    /// Why nothing had to be done, where nothing had to.
    kept: Vec<String>,
    /// Where sites are read.
    addresses: Vec<Address>,
    /// Where sites are written.
    admins: Vec<Admin>,
    /// What shows them on another machine.
    tunnel: Option<String>,
    /// Bytes, by the host they came from.
    fetched: BTreeMap<String, u64>,
    /// How much was asked of each host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    asked: BTreeMap<EdgeName, Asked>,
    /// How long each part took.
    stages: Vec<StageTime>,
    /// Whether a root seed was made in this run.
    seed_made: bool,
    /// Steps that were not carried out, because they work on data that could not be backed up.
    left_undone: Vec<String>,
    /// Hosts that did not answer, and why: nothing was done there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    away: BTreeMap<EdgeName, String>,
    /// Hosts that are evacuated on purpose, and by whom: nothing was done there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    evacuated: BTreeMap<EdgeName, String>,
    /// Sites that wait for a restore: nothing was done to them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unrestored: BTreeMap<SiteName, Unrestored>,
    /// What became of certificates of public authorities; `None` where none is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Renewed>,
    /// How far zones are whose keys are exchanged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<Exchange>,
    /// What providers of DNS were told; `None` where none is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<Tellings>,
    /// `None` when no backup was wanted.
    backup: Option<BackedUp>,
    seconds: f64,
    /// Whether all but the backup has been shown.
    #[serde(skip)]
    told: bool,
}

/// Where a site was read.
#[derive(Debug, Serialize)]
pub(super) struct Address {
    datacenter: EdgeName,
    site: String,
    url: String,
    /// What a reader's question was answered with.
    status: u16,
    milliseconds: u128,
}

#[derive(Debug, Serialize)]
struct Admin {
    site: String,
    url: String,
    credentials: String,
}

impl Report for Done {
    fn show(&self, page: &mut Page) {
        if !self.told {
            self.show_run(page);
        }
        if let Some(backup) = &self.backup {
            page.title("Backed up");
            backup.show(page);
        }
        for step in &self.left_undone {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}left undone:{warning:#} {step}"));
        }
        for (host, why) in &self.away {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}left out:{warning:#} {host}: {why}"));
        }
        super::host::show_evacuated(&self.evacuated, page);
        show_unrestored(&self.unrestored, page);
        if !self.away.is_empty() {
            page.help("`sovereign up` goes on there when they answer again");
        }
        if !self.left_undone.is_empty() {
            page.help(
                "a step waits for a backup of the data that it works on; `sovereign up --no-backup` does without one",
            );
        }
    }

    fn exit(&self) -> Exit {
        let backup = self.backup.as_ref().map_or(Exit::Done, Report::exit);
        match (self.left_undone.is_empty() && self.unrestored.is_empty(), self.away.is_empty()) {
            (false, _) => Exit::Failed,
            (true, false) if backup == Exit::Done => Exit::Attention,
            (true, _) => backup,
        }
    }
}

impl Done {
    fn show_run(&self, page: &mut Page) {
        let theme = page.theme();
        if self.steps == 0 && self.left_undone.is_empty() {
            page.line("nothing has to change");
            for line in &self.kept {
                page.line(format_args!("  {line}"));
            }
        }
        page.title("Read it at");
        let mut table = Table::new(["DATA CENTER", "SITE", "ADDRESS", ">ANSWERED IN"]);
        for address in &self.addresses {
            table.row([
                Cell::from(&address.datacenter),
                address.site.as_str().into(),
                Cell::styled(&address.url, theme.hint),
                format!("{} ms", address.milliseconds).into(),
            ]);
        }
        page.table(&table);
        if !self.admins.is_empty() {
            page.title("Write it at");
            for admin in &self.admins {
                let hint = theme.hint;
                page.line(format_args!("{hint}{}{hint:#}", admin.url));
                page.line(format_args!("  login and password: {}", admin.credentials));
            }
        }
        if let Some(certificates) = self.certificates.as_ref().filter(|certificates| !certificates.is_quiet()) {
            page.title("Certificates of public authorities");
            certificates.show(page);
            if !certificates.is_well() {
                page.help("readers are shown the stack's own certificate meanwhile; `sovereign cert list` says why");
            }
        }
        if !self.exchanges.is_empty() {
            page.title("Keys of zones");
            self.exchanges.iter().for_each(|exchange| exchange.show(page));
        }
        if let Some(providers) = self.providers.as_ref().filter(|providers| !providers.is_quiet()) {
            page.title("Told to providers of DNS");
            providers.show(page);
        }
        if let Some(tunnel) = &self.tunnel {
            page.title("See it from another machine");
            page.line(tunnel);
        }
        page.title("Trust its certificates");
        page.line("sovereign ca show > sovereign.pem    # import it into your browser");
        if self.seed_made {
            page.title("Write down your 24 words");
            page.line("sovereign seed show    # on paper; every secret of this stack comes from them");
        }
        if !self.fetched.is_empty() {
            page.title("Fetched");
            for (host, bytes) in &self.fetched {
                page.line(format_args!("{} from {host}", figures::bytes(*bytes)));
            }
        }
        if self.steps > 0 {
            page.title("Took");
            let mut table = Table::new(["STAGE", ">TIME"]);
            for StageTime { stage, time } in &self.stages {
                table.row([Cell::from(stage), figures::duration(*time).into()]);
            }
            table.row([Cell::from("all together"), figures::duration(Duration::from_secs_f64(self.seconds)).into()]);
            page.table(&table);
        }
    }
}

/// Something about a run that no room below knows.
#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("cannot read the plan {path}", path = .path.display())]
    PlanUnreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a plan", path = .path.display())]
    NotAPlan { path: PathBuf, source: serde_json::Error },
    #[error("the plan is not the one this stack needs now")]
    Stale,
    #[error("{} stands in the way", figures::count(*.0 as u64, "obstacle", "obstacles"))]
    Obstructed(usize),
    #[error("{url} at {edge} does not answer as it should")]
    NotServed { url: String, edge: EdgeName, status: u16 },
}

impl Reason for UpError {
    fn exit(&self) -> Exit {
        match self {
            Self::PlanUnreadable { .. } | Self::NotAPlan { .. } => Exit::Usage,
            Self::Stale => Exit::PlanStale,
            Self::Obstructed(_) | Self::NotServed { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::PlanUnreadable { .. } | Self::NotAPlan { .. } => {
                Some("`sovereign plan --out FILE` writes one".to_owned())
            }
            Self::Stale => Some("`sovereign plan` shows what is to be done now".to_owned()),
            Self::Obstructed(_) => None,
            Self::NotServed { edge, status, .. } => {
                Some(format!("it answered {status}; `sovereign logs {}` may say why", edge.unit()))
            }
        }
    }
}

/// Brings what runs in line with the stack file.
pub(crate) fn run(context: &Context, args: &UpArgs) -> Result<Done, Failure> {
    let kept_plan = args.plan.as_deref().map(read_plan).transpose()?;
    let given = Given { kept_plan, take_over: args.take_over };
    let declared = Declared::load_or_write(context)?;
    adopted::nothing_vanishes(&declared)?;
    for site in &args.begin_empty {
        find(&declared.stack, Some(site))?;
    }
    let deployment = Deployment::new(declared.clone())?.offline(args.offline);
    let deployment = deployment.beginning_empty(args.begin_empty.iter().cloned());
    deployment.prepare()?;
    let _lock = secrets::lock(&deployment.state, "up")?;
    let (stack, state) = (&deployment.stack, &deployment.state);
    for site in &args.begin_empty {
        // It is not waited for any more; a restore that has data to put in goes on all the same.
        let folder = restore::Folder::of(&deployment.state, find(&declared.stack, Some(site))?);
        if folder.pending()?.is_none() {
            folder.set_arrived()?;
        }
    }
    // A key whose exchange is over leaves in this run.
    let exchanges = match args.offline {
        true => Vec::new(),
        false => interrupt::run(&context.output, |stop| async move {
            tokio::select! {
                exchanges = zone_keys::go_on(context, stack, state) => exchanges,
                () = stop.cancelled() => Err(Stopped.into()),
            }
        })?,
    };
    let (keys, seed_made) = secrets::open_or_create(context, stack, state)?;
    let lease = lease::take(context, &declared, &deployment.reach, "up", &args.lease, args.yes)?;
    if seed_made {
        saving::set_aside(context, &deployment.state)?;
    }
    // Not before: an operator may have been thinking about a passphrase.
    let began = Instant::now();
    let progress = context.output.progress();
    let saving = (!args.no_backup).then_some(Saving { context, declared: &declared, progress: &progress });
    let carried = interrupt::run(&context.output, |stop| {
        let work = carry_out(context, &deployment, &keys, given, &progress, saving.as_ref(), stop);
        lease::under(&lease, work)
    })?;
    let Carried {
        steps,
        kept,
        fetched,
        addresses,
        left_undone,
        away,
        evacuated,
        unrestored,
        certificates,
        providers,
        backup,
    } = carried;
    let ghosts = deployment.stack.sites.values().filter(|site| site.app == App::Ghost);
    let admins = ghosts.map(|site| Admin {
        site: site.name.to_string(),
        url: format!("{}/ghost/", site.canonical),
        credentials: format!("sovereign site credentials {}", site.name),
    });
    // Those on hosts are reached from another machine as from this one.
    let here = deployment.stack.datacenters.values().filter(|home| home.engine == EngineKind::Embedded);
    let ports: Vec<_> = here.map(|home| (home.port(), home.loopback().port())).collect();
    let mut done = Done {
        stack: deployment.stack.name.to_string(),
        steps,
        kept,
        admins: admins.collect(),
        addresses,
        tunnel: (!has_screen(context) && !ports.is_empty()).then(|| tunnel(context, ports)),
        fetched,
        asked: deployment.reach.asked(),
        stages: progress.times(),
        seed_made,
        left_undone,
        away,
        evacuated,
        unrestored,
        certificates,
        exchanges,
        providers,
        backup,
        seconds: began.elapsed().as_secs_f64(),
        told: false,
    };
    if let Some(saving) = saving {
        done = saving.afterwards(done)?;
    }
    Ok(done)
}

fn read_plan(path: &Path) -> Result<Plan, UpError> {
    let text = fs::read(path).map_err(|source| UpError::PlanUnreadable { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| UpError::NotAPlan { path: path.to_owned(), source })
}

/// What the operator says beside the stack file.
#[derive(Default)]
pub(super) struct Given {
    /// The plan to carry out.
    kept_plan: Option<Plan>,
    /// Whether what other management machines wrote may be written over.
    take_over: bool,
}

/// What was done.
pub(super) struct Carried {
    steps: usize,
    kept: Vec<String>,
    fetched: BTreeMap<String, u64>,
    pub(super) addresses: Vec<Address>,
    left_undone: Vec<String>,
    pub(super) away: BTreeMap<EdgeName, String>,
    pub(super) evacuated: BTreeMap<EdgeName, String>,
    unrestored: BTreeMap<SiteName, Unrestored>,
    certificates: Option<Renewed>,
    providers: Option<Tellings>,
    /// What was backed up before anything changed; `None` when nothing changed, or there was nothing yet.
    backup: Option<BackedUp>,
}

/// Brings everything in line.
///
/// # Errors
/// When something stands in the way or fails; doing it again goes on from there.
pub(super) async fn carry_out(
    context: &Context,
    deployment: &Deployment,
    keys: &WorkingKeys,
    Given { kept_plan, take_over }: Given,
    progress: &Progress,
    saving: Option<&Saving<'_>>,
    stop: CancellationToken,
) -> Result<Carried, Failure> {
    restore::finish_all(context, deployment, keys, progress).await?;
    let joined = deployment.joined(keys)?;
    let engine = deployment.engine(keys, &joined, progress);
    let mut seen = engine.observe().await?;
    hosts::forget_ended(&deployment.state, deployment.reach.edges(), &seen.evacuated)?;
    if take_over {
        engine.hosts.take_over(&mut seen)?;
    }
    let (joined, primaries) = deployment.settled(keys, joined, &seen)?;
    let engine = deployment.engine(keys, &joined, progress);
    let mut plan = sovereign_plan::plan(&joined.wanted, &seen);
    let is_kept = kept_plan.is_some();
    if kept_plan.is_some_and(|kept| kept != plan) {
        return Err(UpError::Stale.into());
    }
    if !plan.obstacles.is_empty() {
        let obstacles = plan.obstacles.len();
        context.output.show(&Shown::new(plan, deployment)?);
        return Err(UpError::Obstructed(obstacles).into());
    }
    // Before any edge hears of them.
    primaries.keep(&deployment.state)?;
    // What was made elsewhere and says the same is this machine's from now on.
    if engine.hosts.take_over(&mut seen)? {
        plan = sovereign_plan::plan(&joined.wanted, &seen);
    }
    if !plan.steps.is_empty() {
        context.output.show(&Shown::new(plan.clone(), deployment)?);
    }
    if !plan.steps.is_empty() {
        deployment.check(&joined.wanted, Client::of(deployment.state.clone()).status().await?.as_ref())?;
        deployment.install()?;
    }
    let mut spared = Spared::default();
    let mut backup = None;
    let is_first = seen.supervisor.is_none() && seen.sites.is_empty();
    if let Some(saving) = saving.filter(|_| !plan.steps.is_empty() && !is_first) {
        let saved = tokio::task::block_in_place(|| saving.before(&seen, &stop))?;
        spared = Spared::of(deployment, saved.failed_sites(), &seen)?;
        backup = Some(saved);
        // It took its time.
        let again = sovereign_plan::plan(&joined.wanted, &engine.observe().await?);
        if again.steps != plan.steps {
            if is_kept {
                return Err(UpError::Stale.into());
            }
            context.output.show(&Shown::new(again.clone(), deployment)?);
        }
        plan = again;
    }

    let journal = Journal::at(deployment.state.journal());
    let caller = Caller { command: "up", version: env!("CARGO_PKG_VERSION") };
    let told = Told::new(progress);
    let mut fetched = BTreeMap::new();
    let mut steps = 0;
    // What an image contains is known when it is built, and part of what its units are. So images come first, and the
    // rest is planned again with them.
    let (images, rest) = split(plan);
    let (joined, rest) = match images {
        None => (joined, rest),
        Some(images) => {
            collect(&mut fetched, apply(&engine, &images, &journal, caller, &told, &stop).await?);
            steps += images.steps.len();
            let joined = deployment.joined(keys)?;
            let seen = deployment.engine(keys, &joined, progress).observe().await?;
            let again = sovereign_plan::plan(&joined.wanted, &seen);
            (joined, again)
        }
    };
    let (mut rest, mut left_undone) = spared.leave_out(rest, &joined.wanted);
    let engine = deployment.engine(keys, &joined, progress);
    let mut again = 0..if is_kept { 0 } else { PLANNED_AGAIN };
    while !rest.steps.is_empty() {
        match apply(&engine, &rest, &journal, caller, &told, &stop).await {
            Ok(receipts) => {
                collect(&mut fetched, receipts);
                steps += rest.steps.len();
                break;
            }
            // Hosts that have just come back do by themselves what was planned for them.
            Err(ApplyError::Stale) if again.next().is_some() => {
                let plan = sovereign_plan::plan(&joined.wanted, &engine.observe().await?);
                (rest, left_undone) = spared.leave_out(plan, &joined.wanted);
                if !rest.steps.is_empty() {
                    context.output.show(&Shown::new(rest.clone(), deployment)?);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stage = (steps > 0).then(|| progress.stage("ask every data center as a reader would"));
    let (away, evacuated) = (rest.away.clone(), rest.evacuated.clone());
    // An edge that is evacuated may serve, and need not.
    let not_asked = away.keys().chain(evacuated.keys()).collect();
    let unrestored = rest.unrestored.clone();
    let unasked = spared.sites().iter().chain(unrestored.keys()).cloned().collect();
    let addresses = ask_as_readers(&deployment.stack, keys, &unasked, &not_asked).await?;
    // Nor does a provider.
    let providers = Providers { stack: &deployment.stack, state: &deployment.state, progress };
    let providers = if deployment.is_offline() { None } else { providers.tell(&stop).await };
    // Now there are name servers to prove names with. No authority makes a run fail.
    let certificates =
        Certificates { stack: &deployment.stack, state: &deployment.state, reach: &deployment.reach, progress };
    let left_out = not_asked.into_iter().cloned().collect();
    let rules = Rules { offline: deployment.is_offline(), left_out, ..Rules::default() };
    let certificates = certificates.renew(rules, &stop).await;
    if let Some(stage) = stage {
        stage.finish();
        // What was left undone stays so, however long anyone waits.
        if left_undone.is_empty() && away.is_empty() && unrestored.is_empty() {
            settle(deployment, progress, &stop).await?;
        }
        deployment.tidy_up()?;
    }
    let kept = rest.kept.lines();
    Ok(Carried {
        steps,
        kept,
        fetched,
        addresses,
        left_undone,
        away,
        evacuated,
        unrestored,
        certificates,
        providers,
        backup,
    })
}

/// Waits until `status` would find all well, or nothing but what waiting does not help: after a change, edges look at every page once more. What takes longer is
/// no failure of the run, and `status` says what it is.
async fn settle(deployment: &Deployment, progress: &Progress, stop: &CancellationToken) -> Result<(), Failure> {
    let stage = progress.stage("see that all is well");
    let deadline = Instant::now() + SETTLE_PATIENCE;
    while !stop.is_cancelled() && Instant::now() < deadline {
        let gathered = gather(&deployment.stack, &deployment.state, &deployment.reach).await?;
        let found = assess(&deployment.stack, &gathered, unix_seconds(SystemTime::now()));
        let Some(problem) = found.problems.iter().find(|problem| !problem.lasting) else { break };
        stage.note(format!("{}: {}", problem.subject, problem.message));
        tokio::time::sleep(SETTLE_LOOK).await;
    }
    stage.finish();
    Ok(())
}

/// The steps that prepare images as a plan of their own, and the whole plan.
fn split(plan: Plan) -> (Option<Plan>, Plan) {
    let is_image = |planned: &&Planned| matches!(planned.step, Step::PrepareImage { .. });
    let steps: Vec<_> = plan.steps.iter().filter(is_image).cloned().collect();
    let images = (!steps.is_empty()).then(|| Plan { steps, ..plan.clone() });
    (images, plan)
}

fn collect(fetched: &mut BTreeMap<String, u64>, receipts: Vec<apply::Receipt>) {
    for (host, bytes) in receipts.into_iter().flat_map(|receipt| receipt.fetched) {
        *fetched.entry(host).or_default() += bytes;
    }
}

/// One question per site and edge, over TLS with the stack's CA, as a browser would ask it. Of the `spared` sites
/// nobody knows whether they can be served.
async fn ask_as_readers(
    stack: &Stack,
    keys: &WorkingKeys,
    spared: &BTreeSet<SiteName>,
    left_out: &BTreeSet<&EdgeName>,
) -> Result<Vec<Address>, Failure> {
    let prober = trust::prober(stack, keys)?;
    let mut asked = Vec::new();
    for (edge, sites) in addresses(stack).into_iter().filter(|(edge, _)| !left_out.contains(edge)) {
        let address = stack.datacenters[&edge.datacenter].reached(&edge);
        for (site, origin) in sites.into_iter().filter(|(site, _)| !spared.contains(&site.name)) {
            let answer = prober.get(address, &origin, "/", VERIFY_PATIENCE).await?;
            let url = format!("{origin}/");
            if !is_served(site, answer.status) {
                return Err(UpError::NotServed { url, edge, status: answer.status }.into());
            }
            asked.push(Address {
                datacenter: edge.clone(),
                site: site.name.to_string(),
                url,
                status: answer.status,
                milliseconds: answer.took.as_millis(),
            });
        }
    }
    Ok(asked)
}

/// A private site sends readers to its password page.
pub(crate) fn is_served(site: &Site, status: u16) -> bool {
    status == 200 || (site.settings.private == Some(true) && status == 302)
}

/// Shows steps as stages: at each place one is under way.
pub(crate) struct Told<'p> {
    progress: &'p Progress,
    under_way: Mutex<BTreeMap<StepId, UnderWay>>,
}

/// A step under way, and its parts.
struct UnderWay {
    step: Stage,
    parts: BTreeMap<&'static str, Stage>,
}

impl<'p> Told<'p> {
    /// In this progress.
    pub(crate) fn new(progress: &'p Progress) -> Self {
        Self { progress, under_way: Mutex::default() }
    }
}

impl Audience for Told<'_> {
    fn hear(&self, event: Event<'_>) {
        let mut all = self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::StepBegun(planned) => {
                let under_way =
                    UnderWay { step: self.progress.stage(planned.step.to_string()), parts: BTreeMap::new() };
                all.insert(planned.id, under_way);
            }
            Event::StepProgress(planned, progress) => {
                let Some(UnderWay { step, parts }) = all.get_mut(&planned.id) else { return };
                match progress {
                    apply::Progress::Doing(what) => step.note(what),
                    apply::Progress::Counted(count) => show(step, count),
                    apply::Progress::Part(name, Part::Begun) => drop(parts.insert(name, self.progress.stage(name))),
                    apply::Progress::Part(name, Part::Counted(count)) => {
                        if let Some(stage) = parts.get(name) {
                            show(stage, count);
                        }
                    }
                    apply::Progress::Part(name, Part::Done) => {
                        if let Some(stage) = parts.remove(name) {
                            stage.finish();
                        }
                    }
                }
            }
            Event::StepFinished(planned, _) => {
                if let Some(UnderWay { step, parts }) = all.remove(&planned.id) {
                    drop(parts);
                    step.finish();
                }
            }
            Event::StepFailed(planned) => drop(all.remove(&planned.id)),
            Event::RunEnded(_) => all.clear(),
            Event::RunBegun | Event::StepPerformed(_) => {}
        }
    }
}

fn show(stage: &Stage, Count { done, total, of }: Count) {
    match of {
        Unit::Bytes => stage.expect_bytes(total.unwrap_or(0)),
        Unit::Things(things) => stage.expect_things(things, total.unwrap_or(0)),
    }
    stage.reach(done);
}
