//! `sovereign backup`.

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_archive::{Inventory, Subject, Taken, Unreadable};
use sovereign_model::SiteName;
use sovereign_model::stack::Site;

use super::site::find;
use crate::backup::{self, Backed, BackupError, Proof, Record, Run, copies};
use crate::cli::BackupArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Cell, Page, Report, StageTime, Table, figures};

/// What was backed up, and what was not.
#[derive(Debug, Serialize)]
pub(crate) struct BackedUp {
    archive: String,
    snapshots: Vec<Row>,
    /// Sites that cannot be backed up yet.
    not_covered: Vec<SiteName>,
    failed: Vec<Failed>,
    /// Sites that do not run, since their hosts are evacuated on purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aside: Vec<Failed>,
    /// Snapshots of before that cannot be read.
    unreadable: Vec<Lost>,
    /// Snapshots that the stack file's rules do not keep; `None` beside one that cannot be read: nothing is pruned then.
    beyond_keep: Option<usize>,
    /// What became of the archive's copies, where they were brought in step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) copies: Vec<copies::Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
struct Row {
    of: String,
    snapshot: String,
    unchanged: bool,
    files: u64,
    bytes: u64,
    bytes_read: u64,
    bytes_added: u64,
    left_out: u64,
    files_proven: u64,
    bytes_proven: u64,
    verified_unix: u64,
    examined: Option<String>,
    /// Others of it that came after the last one that was proven before.
    unproven: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Failed {
    of: String,
    #[serde(skip)]
    site: Option<SiteName>,
    /// The snapshot that is there and not proven, if there is one.
    snapshot: Option<String>,
    /// Whether it was proven by an earlier run, and could not be again.
    proven_before: bool,
    message: String,
    help: Option<String>,
}

/// A snapshot that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    snapshot: String,
    why: String,
}

impl From<Unreadable> for Lost {
    fn from(Unreadable { id, why }: Unreadable) -> Self {
        Self { snapshot: id, why }
    }
}

impl Lost {
    pub(super) fn show(&self, page: &mut Page) {
        let warning = page.theme().warning;
        let Self { snapshot, why } = self;
        page.line(format_args!("{warning}snapshot {}{warning:#} cannot be read: {why}", short(snapshot)));
    }
}

pub(super) fn short(snapshot: &str) -> &str {
    snapshot.get(..8).unwrap_or(snapshot)
}

impl Failed {
    fn new(of: &Subject, failure: &Failure) -> Self {
        let (message, help) = (failure.chain().join(": "), failure.help());
        let site = if let Subject::Site(site) = of { Some(site.clone()) } else { None };
        Self { of: of.to_string(), site, snapshot: None, proven_before: false, message, help }
    }
}

impl BackedUp {
    /// What is said when the archive could not even be opened.
    pub(super) fn not_at_all(declared: &Declared, sites: &[&Site], failure: &Failure) -> Self {
        let (others, upstream): (Vec<&Site>, Vec<&Site>) = sites.iter().partition(|site| site.is_backed_up());
        let subjects: Vec<_> =
            others.into_iter().map(|site| Subject::Site(site.name.clone())).chain([Subject::State]).collect();
        backup::note_failure(declared, subjects.iter().cloned(), failure);
        Self {
            archive: backup::repository(declared).display().to_string(),
            snapshots: Vec::new(),
            not_covered: upstream.into_iter().map(|site| site.name.clone()).collect(),
            failed: subjects.iter().map(|of| Failed::new(of, failure)).collect(),
            aside: Vec::new(),
            unreadable: Vec::new(),
            beyond_keep: None,
            copies: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// This, and what was backed up later: of what is in both, that.
    pub(super) fn then(mut self, later: Self) -> Self {
        let again: BTreeSet<_> =
            later.snapshots.iter().map(|row| &row.of).chain(later.failed.iter().map(|f| &f.of)).collect();
        self.snapshots.retain(|row| !again.contains(&row.of));
        self.failed.retain(|failed| !again.contains(&failed.of));
        let Self { snapshots, failed, aside, unreadable, beyond_keep, copies, .. } = later;
        self.snapshots.extend(snapshots);
        self.failed.extend(failed);
        self.aside = aside;
        Self { unreadable, beyond_keep, copies, ..self }
    }

    /// Whether a site was backed up, provably.
    pub(super) fn has(&self, site: &SiteName) -> bool {
        let of = Subject::Site(site.clone()).to_string();
        self.snapshots.iter().any(|row| row.of == of)
    }

    /// The sites that were not backed up, or not provably.
    pub(super) fn failed_sites(&self) -> BTreeSet<SiteName> {
        self.failed.iter().filter_map(|failed| failed.site.clone()).collect()
    }
}

impl Row {
    fn new(of: String, taken: &Taken, proof: Proof) -> Self {
        Self {
            of,
            snapshot: taken.snapshot.id.clone(),
            unchanged: taken.unchanged,
            files: taken.manifest.files(),
            bytes: taken.manifest.bytes(),
            bytes_read: taken.bytes_read,
            bytes_added: if taken.unchanged { 0 } else { taken.snapshot.added },
            left_out: taken.left_out,
            files_proven: proof.files,
            bytes_proven: proof.bytes,
            verified_unix: proof.verified_unix,
            examined: proof.examined,
            unproven: taken.unproven.clone(),
        }
    }
}

impl Report for BackedUp {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["OF", "SNAPSHOT", ">FILES", ">SIZE", ">READ", ">ADDED", "RESTORED AND COMPARED"]);
        for row in &self.snapshots {
            let snapshot = short(&row.snapshot);
            let proven = match (&row.examined, row.files_proven) {
                (Some(examined), files) => format!("{}, {examined}", figures::count(files, "file", "files")),
                (None, files) => figures::count(files, "file", "files"),
            };
            table.row([
                Cell::from(&row.of),
                if row.unchanged { format!("{snapshot} (unchanged)") } else { snapshot.to_owned() }.into(),
                row.files.into(),
                figures::bytes(row.bytes).into(),
                figures::bytes(row.bytes_read).into(),
                figures::bytes(row.bytes_added).into(),
                proven.into(),
            ]);
        }
        page.table(&table);
        for row in &self.snapshots {
            if let Some(newest) = row.unproven.last() {
                let snapshots = figures::count(row.unproven.len() as u64, "snapshot", "snapshots");
                let newest = short(newest);
                page.line(format_args!("{}: no proof is known of {snapshots} of before, at last {newest}", row.of));
            }
        }
        for lost in &self.unreadable {
            lost.show(page);
        }
        for site in &self.not_covered {
            let warning = page.theme().warning;
            page.line(format_args!(
                "{warning}{site}{warning:#}: not backed up: only you know the data of a service of your own; name a `dump`"
            ));
        }
        for failed in &self.failed {
            let warning = page.theme().warning;
            let Failed { of, message, proven_before, .. } = failed;
            match &failed.snapshot {
                Some(snapshot) => {
                    let what = if *proven_before { "could not be proven again" } else { "is there but not proven" };
                    page.line(format_args!("{warning}{of}{warning:#}: snapshot {} {what}: {message}", short(snapshot)));
                }
                None => page.line(format_args!("{warning}{of}{warning:#}: not backed up: {message}")),
            }
            if let Some(help) = &failed.help {
                page.help(help);
            }
        }
        for Failed { of, message, help, .. } in &self.aside {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}{of}{warning:#}: left out: {message}"));
            if let Some(help) = help {
                page.help(help);
            }
        }
        copies::show(&self.copies, page);
        if let Some(beyond) = self.beyond_keep.filter(|beyond| *beyond > 0) {
            let (snapshots, are) = if beyond == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
            page.line(format_args!(
                "{beyond} {snapshots} {are} beyond what [archive] keep says: `sovereign archive prune`"
            ));
        }
    }

    fn exit(&self) -> Exit {
        let failed = !self.failed.is_empty() || self.copies.iter().any(copies::Row::is_bad);
        match failed {
            true => Exit::Failed,
            false if !self.aside.is_empty() => Exit::Attention,
            false => Exit::Done,
        }
    }
}

/// Backs up the named sites, or all, and the stack's own state. One that fails does not keep the others from it.
pub(crate) fn run(context: &Context, args: &BackupArgs) -> Result<BackedUp, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let sites = if args.sites.is_empty() {
        declared.stack.sites.values().collect()
    } else {
        args.sites.iter().map(|name| find(&declared.stack, Some(name))).collect::<Result<Vec<_>, _>>()?
    };
    let progress = context.output.progress();
    let done = interrupt::blocking(&context.output, |stop| {
        let archive = backup::open_or_create(context, &declared)?;
        let run = Run { context, declared: &declared, archive: &archive, progress: &progress, stop };
        let done = back_up(&run, &sites)?;
        let all: Vec<_> = declared.stack.archive.copies.iter().collect();
        let copies = copies::after_backup(context, &declared, archive, &all, &progress, stop)?;
        Ok(BackedUp { copies, ..done })
    })?;
    Ok(BackedUp { stages: progress.times(), ..done })
}

/// Backs up these sites and the stack's own state.
///
/// # Errors
/// When the run is stopped, or the archive cannot be read. What else fails is part of the report.
pub(super) fn back_up(run: &Run<'_>, sites: &[&Site]) -> Result<BackedUp, Failure> {
    let state = &run.declared.state;
    let (mut snapshots, mut failed, mut aside) = (Vec::new(), Vec::new(), Vec::new());
    let mut not_covered = Vec::new();
    let fault = |of: &Subject, snapshot: Option<String>, failure: &Failure| {
        let proven = Record::read(state).proofs.remove(&of.to_string()).map(|proof| proof.snapshot);
        let proven_before = proven.is_some() && proven == snapshot;
        backup::note_failure(run.declared, [of.clone()], failure);
        Failed { snapshot, proven_before, ..Failed::new(of, failure) }
    };
    let mut note = |of: Subject, outcome: Result<Option<Backed>, Failure>| match outcome {
        Ok(Some(Backed { taken, proof: Ok(proof) })) => snapshots.push(Row::new(of.to_string(), &taken, proof)),
        Ok(Some(Backed { taken, proof: Err(failure) })) => failed.push(fault(&of, Some(taken.snapshot.id), &failure)),
        Ok(None) => {}
        // What was wrong before, and is written down, stays so.
        Err(failure) if failure.is_aside() => aside.push(Failed::new(&of, &failure)),
        Err(failure) => failed.push(fault(&of, None, &failure)),
    };
    for site in sites {
        if !site.is_backed_up() {
            not_covered.push(site.name.clone());
            continue;
        }
        note(Subject::Site(site.name.clone()), run.site(site));
        if run.stop.is_cancelled() {
            return Err(BackupError::Stopped.into());
        }
    }
    note(Subject::State, run.state().map(Some));
    if run.declared.stack.archive.images {
        note(Subject::Images, run.images());
    }
    let Inventory { snapshots: all, unreadable } = run.archive.inventory()?;
    Ok(BackedUp {
        archive: run.archive.folder().display().to_string(),
        snapshots,
        not_covered,
        failed,
        aside,
        beyond_keep: unreadable.is_empty().then(|| backup::keep::beyond(run.declared, &all)),
        unreadable: unreadable.into_iter().map(Lost::from).collect(),
        copies: Vec::new(),
        stages: Vec::new(),
    })
}
