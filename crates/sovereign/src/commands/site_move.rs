//! `sovereign site move`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use sovereign_engine::apply::Engine as _;
use sovereign_engine::embedded::Client;
use sovereign_model::stack::{App, EngineKind, Site};
use sovereign_model::{DatacenterName, EdgeName, SiteName, UnitName};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::backup::short;
use super::site::find;
use super::up::{self, Address, Given};
use crate::backup::{self, Backed, Ghost, Run};
use crate::cli::MoveArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::engines::Engines;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::lease;
use crate::moving::{Mover, NewPlace};
use crate::output::{Page, Progress, Report, StageTime, figures};
use crate::primaries::Primaries;
use crate::restore;
use crate::secrets;

/// Ghost's name of the role.
const OWNER: &str = "Owner";

/// How long another run may work on the archive.
const PATIENCE: Duration = Duration::from_secs(600);

/// It is not for this command.
#[derive(Debug, thiserror::Error)]
enum NotMovable {
    #[error("site {site} has no data that the stack keeps: it is yours")]
    NotKept { site: SiteName },
    #[error("site {site} is declared on this machine, at {at}")]
    Here { site: SiteName, at: EdgeName },
    #[error("site {site} has no data yet")]
    NoData { site: SiteName },
    #[error("the data of site {site} is on a host already, at {found}, and not at {declared}")]
    BetweenHosts { site: SiteName, found: EdgeName, declared: EdgeName },
    #[error("it could not be backed up: {why}")]
    NotBackedUp { why: String },
}

impl Reason for NotMovable {
    fn exit(&self) -> Exit {
        match self {
            Self::NotKept { .. } | Self::Here { .. } => Exit::Usage,
            Self::NoData { .. } | Self::BetweenHosts { .. } | Self::NotBackedUp { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotKept { .. } => "declare it at its new place, and `sovereign up`".to_owned(),
            Self::Here { site, at } => format!(
                "declare first where it is to be: `engine = \"incus\"` and a [[datacenter.host]] for {}, or another such data \
                 center as `primary` of site {site}; see docs/hosts.md",
                at.datacenter
            ),
            Self::NoData { .. } => "`sovereign up` starts it where it is declared".to_owned(),
            Self::BetweenHosts { found, .. } => format!(
                "this version moves data from this machine to a host; write `primary = \"{}\"`, and its host first of all",
                found.datacenter
            ),
            Self::NotBackedUp { .. } => "`--no-backup` does without".to_owned(),
        })
    }
}

/// A site at its new place.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    site: SiteName,
    /// Where its data was; `None` when an earlier run has moved it.
    from: Option<EdgeName>,
    to: EdgeName,
    url: String,
    /// The snapshot that was taken before.
    backed_up: Option<String>,
    /// The name that its owner logs in with: that of before.
    owner: Option<String>,
    /// Rows that were taken over, by table.
    rows: BTreeMap<String, u64>,
    /// Where the data of before lies, untouched.
    kept: Option<PathBuf>,
    /// Where sites are read.
    addresses: Vec<Address>,
    /// Hosts that did not answer, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    away: BTreeMap<EdgeName, String>,
    /// Edges that do not show all of it yet, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    behind: BTreeMap<EdgeName, String>,
    stages: Vec<StageTime>,
    seconds: f64,
}

impl Report for Moved {
    fn show(&self, page: &mut Page) {
        let Self { site, to, url, .. } = self;
        let Some(from) = &self.from else {
            return page.line(format_args!("site {site} is at {to} already: {url}/"));
        };
        let took = figures::duration(Duration::from_secs_f64(self.seconds));
        page.line(format_args!("site {site} has moved from {from} to {to}: {url}/; {took}"));
        let rows = |table: &str| self.rows.get(table).copied().unwrap_or_default();
        page.line(format_args!(
            "{}, {} on the staff, {} came along",
            figures::count(rows("posts"), "post or page", "posts and pages"),
            rows("users"),
            figures::count(rows("members"), "member", "members"),
        ));
        if let Some(owner) = &self.owner {
            page.line(format_args!("its owner logs in as {owner}, as before"));
        }
        if let Some(backed_up) = &self.backed_up {
            page.line(format_args!("what it was before is in snapshot {}", short(backed_up)));
        }
        if let Some(kept) = &self.kept {
            page.line(format_args!("what it was before is in {}, untouched", kept.display()));
        }
        let warning = page.theme().warning;
        for (host, why) in &self.away {
            page.line(format_args!("{warning}left out:{warning:#} {host}: {why}"));
        }
        for (edge, why) in &self.behind {
            page.line(format_args!("{warning}{edge}{warning:#} does not show all of it yet: {why}"));
        }
    }

    fn exit(&self) -> Exit {
        if self.away.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// `site move`.
///
/// # Errors
/// When it is refused, or did not move; then it runs where it was.
pub(crate) fn run(context: &Context, args: &MoveArgs) -> Result<Moved, Failure> {
    let declared = Declared::load(context)?;
    let site = find(&declared.stack, Some(&args.site))?.clone();
    if site.app != App::Ghost {
        return Err(NotMovable::NotKept { site: site.name }.into());
    }
    let place = site.place(&declared.stack);
    if place.host.is_none() {
        return Err(NotMovable::Here { site: site.name, at: place }.into());
    }
    let deployment = Deployment::new(declared.clone())?.offline(args.offline);
    deployment.prepare()?;
    let _lock = secrets::lock(&deployment.state, "site move")?;
    let (keys, _) = secrets::open_or_create(context, &deployment.stack, &deployment.state)?;
    let lease = lease::take(context, &declared, &deployment.reach, "site move", &args.lease, args.yes)?;
    let progress = context.output.progress();
    let work = Work { context, args, declared: &declared, deployment: &deployment, site, place, progress: &progress };
    interrupt::run(&context.output, |stop| lease::under(&lease, work.run(&keys, stop)))
}

struct Work<'a> {
    context: &'a Context,
    args: &'a MoveArgs,
    declared: &'a Declared,
    deployment: &'a Deployment,
    site: Site,
    place: EdgeName,
    progress: &'a Progress,
}

impl Work<'_> {
    async fn run(&self, keys: &sovereign_keys::WorkingKeys, stop: CancellationToken) -> Result<Moved, Failure> {
        let Self { deployment, site, place, progress, .. } = self;
        let joined = deployment.joined(keys)?;
        let engines = deployment.engine(keys, &joined, progress);
        let seen = engines.observe().await?;
        let found = seen.sites.get(&site.name).map(|seen| seen.at.clone());
        let found = found.ok_or_else(|| NotMovable::NoData { site: site.name.clone() })?;
        let began = Instant::now();
        if found == *place {
            self.forget_old(&engines, None).await?;
            return Ok(self.moved(None, BTreeMap::new(), None, began));
        }
        if found.host.is_some() {
            let (site, declared) = (site.name.clone(), place.clone());
            return Err(NotMovable::BetweenHosts { site, found, declared }.into());
        }
        deployment.check(&joined.wanted, Client::of(deployment.state.clone()).status().await?.as_ref())?;
        let question = format!(
            "Move site {} with all its data from {found} on this machine to {place}? Nobody can write for some minutes.",
            site.name
        );
        block_in_place(|| self.context.output.confirm(&question, self.args.yes))?;
        let began = Instant::now();
        let before = as_before(self.declared, site, &found);
        let old = &before.stack.sites[&site.name];
        let ghost = Ghost::of(self.context, &before, old)?;
        let first = || {
            let backed_up = if self.args.no_backup { None } else { Some(self.back_up(&before, old, &stop)?) };
            deployment.install()?;
            if found.datacenter != place.datacenter {
                Primaries::raise(&self.declared.state, site, &seen)?;
            }
            Ok(backed_up)
        };
        let (place, stopped) = (place.clone(), stop.clone());
        let to = NewPlace { deployment, keys, site, place, command: "site move", progress, stop: stopped };
        let mover = Mover { to, old, ghost };
        let (backed_up, taken) = mover.run(first).await?;
        // It has moved, whatever becomes of the rest.
        self.forget_old(&engines, Some(&found.datacenter)).await?;
        let owner = engines.hosts.operator(site).await?.staff().await?.people.into_iter();
        let owner = owner.filter(|person| person.role == OWNER).map(|person| person.email).next();
        let carried =
            up::carry_out(self.context, deployment, keys, Given::default(), progress, None, stop.clone()).await?;
        let behind = self.mirrors().await;
        let moved = self.moved(Some(&found), taken.tables, backed_up, began);
        Ok(Moved { owner, addresses: carried.addresses, away: carried.away, behind, ..moved })
    }

    /// Has the other edges look at everything again; those that do not show all of it, and why. They go on by themselves.
    async fn mirrors(&self) -> BTreeMap<EdgeName, String> {
        let Self { declared: Declared { stack, state, .. }, deployment, site, .. } = self;
        let mirrors = site.datacenters();
        let edges = mirrors.filter_map(|mirror| stack.datacenters.get(mirror)).flat_map(|mirror| mirror.edges());
        let mut behind = BTreeMap::new();
        for edge in edges.filter(|edge| *edge != self.place) {
            let stage = self.progress.stage(format!("see that {edge} shows it"));
            let control = match &edge.host {
                None => Ok(state.edge(&edge.datacenter).control()),
                Some(_) => deployment.reach.link(&edge).await.map(|link| link.control.clone()),
            };
            let shown = match control {
                Ok(control) => restore::renew(&control, site, &edge.to_string(), &stage).await,
                Err(error) => Err(error.to_string()),
            };
            stage.finish();
            behind.extend(shown.err().map(|why| (edge, why)));
        }
        behind
    }

    /// The supervisor has nothing to do any more with what has moved away.
    async fn forget_old(&self, engines: &Engines<'_>, from: Option<&DatacenterName>) -> Result<(), Failure> {
        let (state, site) = (&self.declared.state, &self.site.name);
        let declared = self.declared.stack.datacenters.keys();
        let moved = declared.filter(|datacenter| state.moved_away(&EdgeName::here(datacenter), site).exists());
        for datacenter in moved.chain(from) {
            engines.here.dismiss(&UnitName::at(&format!("ghost-{site}"), datacenter)?).await?;
        }
        Ok(())
    }

    fn moved(
        &self,
        from: Option<&EdgeName>,
        rows: BTreeMap<String, u64>,
        backed_up: Option<String>,
        began: Instant,
    ) -> Moved {
        let Self { declared, site, .. } = self;
        Moved {
            site: site.name.clone(),
            from: from.cloned(),
            to: self.place.clone(),
            url: site.canonical.to_string(),
            backed_up,
            owner: None,
            rows,
            kept: from.map(|from| declared.state.site(&from.datacenter, &site.name).path().to_owned()),
            addresses: Vec::new(),
            away: BTreeMap::new(),
            behind: BTreeMap::new(),
            stages: self.progress.times(),
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    /// The snapshot of the data as it is, which is proven.
    fn back_up(&self, declared: &Declared, old: &Site, stop: &CancellationToken) -> Result<String, Failure> {
        let Self { context, progress, .. } = self;
        let not = |failure: Failure| {
            if stop.is_cancelled() {
                return failure;
            }
            NotMovable::NotBackedUp { why: failure.chain().join(": ") }.into()
        };
        let archive = backup::open_when_free(context, declared, progress, stop, PATIENCE).map_err(not)?;
        let run = Run { context, declared, archive: &archive, progress, stop };
        let Some(Backed { taken, proof }) = run.site(old).map_err(not)? else {
            return Err(NotMovable::NoData { site: old.name.clone() }.into());
        };
        proof.map_err(not)?;
        Ok(taken.snapshot.id)
    }
}

/// What was declared where the data is: the site there, on this machine.
fn as_before(declared: &Declared, site: &Site, at: &EdgeName) -> Declared {
    let mut before = declared.clone();
    if let Some(datacenter) = before.stack.datacenters.get_mut(&at.datacenter) {
        (datacenter.engine, datacenter.hosts) = (EngineKind::Embedded, Vec::new());
    }
    let old = Site { primary: at.datacenter.clone(), mirrors: Vec::new(), ..site.clone() };
    before.stack.sites.insert(site.name.clone(), old);
    before
}
