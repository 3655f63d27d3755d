//! `sovereign backup`.

use serde::Serialize;
use sovereign_model::SiteName;
use sovereign_model::stack::App;

use super::site::find;
use crate::backup::{self, Backed};
use crate::cli::BackupArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Cell, Page, Report, StageTime, Table, figures};

/// What was backed up, and what was not.
#[derive(Debug, Serialize)]
pub(crate) struct BackedUp {
    archive: String,
    snapshots: Vec<Row>,
    /// Sites that cannot be backed up yet.
    not_covered: Vec<SiteName>,
    failed: Vec<Failed>,
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
}

#[derive(Debug, Serialize)]
struct Failed {
    of: String,
    message: String,
    help: Option<String>,
}

impl Row {
    fn new(of: String, Backed { taken, proof }: &Backed) -> Self {
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
            examined: proof.examined.clone(),
        }
    }
}

impl Report for BackedUp {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["OF", "SNAPSHOT", ">FILES", ">SIZE", ">READ", ">ADDED", "RESTORED AND COMPARED"]);
        for row in &self.snapshots {
            let snapshot = row.snapshot.get(..8).unwrap_or_default();
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
        for site in &self.not_covered {
            let warning = page.theme().warning;
            page.line(format_args!(
                "{warning}{site}{warning:#}: not backed up: an upstream service's own data is yours to back up"
            ));
        }
        for failed in &self.failed {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}{}{warning:#}: not backed up: {}", failed.of, failed.message));
            if let Some(help) = &failed.help {
                page.help(help);
            }
        }
    }

    fn exit(&self) -> Exit {
        if self.failed.is_empty() { Exit::Done } else { Exit::Failed }
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
    let archive = backup::open_or_create(context, &declared)?;
    let progress = context.output.progress();
    let (mut snapshots, mut failed, mut not_covered) = (Vec::new(), Vec::new(), Vec::new());
    let mut note = |of: String, outcome: Result<Option<Backed>, Failure>| match outcome {
        Ok(Some(backed)) => snapshots.push(Row::new(of, &backed)),
        Ok(None) => {}
        Err(failure) => failed.push(Failed { of, message: failure.chain().join(": "), help: failure.help() }),
    };
    for site in sites {
        if matches!(site.app, App::Upstream { .. }) {
            not_covered.push(site.name.clone());
            continue;
        }
        note(site.name.to_string(), backup::site(context, &declared, &archive, &progress, site));
    }
    note("(state)".to_owned(), backup::state(&declared, &archive, &progress).map(Some));
    let archive = archive.folder().display().to_string();
    Ok(BackedUp { archive, snapshots, not_covered, failed, stages: progress.times() })
}
