//! `sovereign drill restore`: a real Ghost on each site's newest proven snapshot, compared with the live one.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_archive::{Archive, Contents, Snapshot, Subject};
use sovereign_images::Store;
use sovereign_model::SiteName;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use sovereign_services::ghost;

use super::backup::short;
use super::drill_on_host;
use super::restore::choose;
use super::site::find;
use crate::backup::{self, Ghost};
use crate::cli::DrillArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::drill::{self, Compared};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hosts;
use crate::interrupt;
use crate::output::{Cell, Page, Progress, Report, StageTime, Table, figures};
use crate::restore::swap::{Intent, Origin};
use crate::restore::{self, Folder, Form, Staged};
use crate::secrets;
use crate::world::unix_seconds;

/// What the drill found.
#[derive(Debug, Serialize)]
pub(crate) struct Drilled {
    sites: Vec<Row>,
    /// Sites that there is no drill for: folders, and services of the operator's.
    left_out: Vec<SiteName>,
    failed: Vec<Failed>,
    stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
struct Row {
    site: SiteName,
    snapshot: String,
    /// What a disaster now would lose: how long ago the snapshot was found to be what is live.
    rpo_seconds: u64,
    /// From the first byte read to a Ghost that answers.
    rto_seconds: f64,
    files: u64,
    bytes: u64,
    examined: String,
    compared: Compared,
}

#[derive(Debug, Serialize)]
struct Failed {
    site: SiteName,
    message: String,
    help: Option<String>,
}

impl Report for Drilled {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new([
            "SITE",
            "SNAPSHOT",
            ">RPO",
            ">RTO",
            ">SIZE",
            ">PAGES THE SAME",
            ">OTHER",
            ">ONLY RESTORED",
            ">ONLY LIVE",
        ]);
        for row in &self.sites {
            let Compared { same, different, only_restored, only_live, .. } = &row.compared;
            table.row([
                Cell::from(&row.site),
                short(&row.snapshot).into(),
                figures::seconds(row.rpo_seconds).into(),
                figures::duration(Duration::from_secs_f64(row.rto_seconds)).into(),
                figures::bytes(row.bytes).into(),
                (*same as u64).into(),
                (different.len() as u64).into(),
                (only_restored.len() as u64).into(),
                (only_live.len() as u64).into(),
            ]);
        }
        if !self.sites.is_empty() {
            page.table(&table);
        }
        for row in &self.sites {
            row.show(page);
        }
        for site in &self.left_out {
            page.line(format_args!("{site}: no Ghost, so there is nothing to start"));
        }
        let warning = page.theme().warning;
        for Failed { site, message, help } in &self.failed {
            page.line(format_args!("{warning}{site}{warning:#}: {message}"));
            if let Some(help) = help {
                page.help(help);
            }
        }
    }

    fn exit(&self) -> Exit {
        let is_well = |row: &Row| row.compared.broken.is_empty();
        if self.failed.is_empty() && self.sites.iter().all(is_well) { Exit::Done } else { Exit::Failed }
    }
}

impl Row {
    fn show(&self, page: &mut Page) {
        let Self { site, compared, examined, .. } = self;
        page.line(format_args!("{site}: {examined}"));
        match compared.feed_same {
            None => page.line(format_args!("{site}: the live site does not run, so nothing was compared")),
            Some(_) if compared.is_equal() => {
                page.line(format_args!("{site}: every page is as it is live, the feed too"))
            }
            Some(_) => page.line(format_args!("{site}: what differs was written after the snapshot, or should not")),
        }
        let lists = [
            ("another one live", &compared.different),
            ("only in the snapshot", &compared.only_restored),
            ("only live", &compared.only_live),
            ("named by the restored site, and not there", &compared.broken),
        ];
        for (what, paths) in lists {
            for path in paths.iter().take(MOST_SHOWN) {
                page.line(format_args!("  {path}: {what}"));
            }
            if let Some(more) = paths.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
                page.line(format_args!("  {more} more: {what}"));
            }
        }
    }
}

/// Paths of a kind that are shown; `--json` has all.
const MOST_SHOWN: usize = 10;

/// `drill restore`.
pub(crate) fn restore(context: &Context, args: &DrillArgs) -> Result<Drilled, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let sites: Vec<Site> = if args.sites.is_empty() {
        declared.stack.sites.values().cloned().collect()
    } else {
        args.sites.iter().map(|name| find(&declared.stack, Some(name)).cloned()).collect::<Result<_, _>>()?
    };
    // The stack is not changed, but what a restore or another drill does meanwhile would be compared with.
    let _lock = secrets::lock(&declared.state, "drill restore")?;
    let archive = backup::open(context, &declared)?;
    let store = Store::open(context.places()?.images())?;
    let progress = context.output.progress();
    let state = drill::state_in(&declared.state);
    let mut drilled = Drilled { sites: Vec::new(), left_out: Vec::new(), failed: Vec::new(), stages: Vec::new() };
    for site in &sites {
        if site.app != App::Ghost {
            drilled.left_out.push(site.name.clone());
            continue;
        }
        let drill = Drill { context, declared: &declared, archive: &archive, store: &store, state: &state, site };
        match drill.run(&progress) {
            Ok(row) => drilled.sites.push(row),
            Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
            Err(failure) => drilled.failed.push(Failed {
                site: site.name.clone(),
                message: failure.chain().join(": "),
                help: failure.help(),
            }),
        }
    }
    drilled.stages = progress.times();
    Ok(drilled)
}

pub(super) struct Drill<'a> {
    pub(super) context: &'a Context,
    pub(super) declared: &'a Declared,
    archive: &'a Archive,
    store: &'a Store,
    pub(super) state: &'a StateFolder,
    pub(super) site: &'a Site,
}

/// What was found on the way to a Ghost that answers, and in what it says.
pub(super) struct Tried {
    pub(super) staged: Staged,
    pub(super) examined: String,
    pub(super) rto: Duration,
    pub(super) compared: Compared,
}

impl Drill<'_> {
    fn run(&self, progress: &Progress) -> Result<Row, Failure> {
        let Self { context, declared, archive, state, site, .. } = self;
        interrupt::run(&context.output, |_| async { drill::clean_up(state).await })?; // of one that was killed
        let subject = Subject::Site(site.name.clone());
        let (snapshot, _) = choose(declared, archive, &subject, None)?;
        let contents = archive.contents(&snapshot)?;
        let Tried { staged, examined, rto, compared } = match site.host(&declared.stack) {
            None => self.here(&contents, &snapshot, progress)?,
            Some(_) => drill_on_host::run(self, &contents, snapshot.short(), progress)?,
        };
        let proof = backup::Record::read(&declared.state).proofs.get(&subject.to_string()).cloned();
        let as_of = proof.filter(|proof| proof.snapshot == snapshot.id).map(|proof| proof.verified_unix);
        let as_of = as_of.unwrap_or_else(|| u64::try_from(snapshot.taken_unix).unwrap_or_default());
        Ok(Row {
            site: site.name.clone(),
            snapshot: snapshot.id,
            rpo_seconds: unix_seconds(SystemTime::now()).saturating_sub(as_of),
            rto_seconds: rto.as_secs_f64(),
            files: staged.files,
            bytes: staged.bytes,
            examined,
            compared,
        })
    }

    /// On this machine, with a supervisor of its own.
    fn here(&self, contents: &Contents, snapshot: &Snapshot, progress: &Progress) -> Result<Tried, Failure> {
        let Self { context, declared, state, site, .. } = self;
        hosts::data_is_here(&declared.stack, site, "rehearsed with")?;
        let began = Instant::now();
        let folder = Folder::of(state, site);
        let stage = progress.stage(format!("restore {} beside", site.name));
        let staged = restore::restore(contents, snapshot.short(), Form::Sqlite, &folder, &stage)?;
        let examined = restore::check(&Ghost::of(context, declared, site)?, &folder)?;
        let origin = Origin::Snapshot { id: snapshot.id.clone(), taken_unix: snapshot.taken_unix };
        let intent = Intent::new(origin, 1, folder.changes(&folder.staged())?);
        folder.keep(&intent)?;
        folder.carry_out(&intent)?;
        stage.finish();
        let (rto, compared) = interrupt::run(&context.output, |cancel| async move {
            let work = self.start_and_compare(progress, began);
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = cancel.cancelled() => Err(Stopped.into()),
            };
            let cleaned = drill::clean_up(state).await;
            outcome.and_then(|outcome| cleaned.map(|()| outcome))
        })?;
        Ok(Tried { staged, examined, rto, compared })
    }

    async fn start_and_compare(&self, progress: &Progress, began: Instant) -> Result<(Duration, Compared), Failure> {
        let Self { declared, store, state, site, .. } = self;
        let stage = progress.stage(format!("start a Ghost on it, for {}", site.name));
        drill::start(state, (store, &declared.ghost_lock()?), &declared.state.ca_certificate(), site).await?;
        stage.finish();
        let rto = began.elapsed();
        let stage = progress.stage("compare every page with the live site");
        let socket = |state: &StateFolder| ghost::socket(state.site(&site.primary, &site.name).path());
        let compared = drill::compare(site, &socket(state), Some(&socket(&declared.state))).await?;
        stage.finish();
        Ok((rto, compared))
    }
}

/// The operator has stopped it.
#[derive(Debug, thiserror::Error)]
#[error("the drill was stopped")]
pub(super) struct Stopped;

impl crate::failure::Reason for Stopped {}
