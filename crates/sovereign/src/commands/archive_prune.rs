//! `sovereign archive prune`.

use std::sync::Arc;

use serde::Serialize;
use sovereign_archive::keep::{Reason as Kept, Verdict};
use sovereign_archive::{ArchiveError, GRACE, Room, Seen, Snapshot, Watch};
use sovereign_model::keep_rules::KeepRules;

use crate::backup::{self, keep};
use crate::cli::ArchivePruneArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Stage, StageTime, Table, figures};

/// What a prune does, or has done.
#[derive(Debug, Serialize)]
pub(crate) struct Pruned {
    archive: String,
    keep: KeepRules,
    snapshots: Vec<Row>,
    /// Snapshots that are forgotten.
    forgotten: usize,
    /// What snapshots that stay refer to.
    bytes_used: u64,
    /// Needed no more: marked now, removed by the first prune that comes `grace_seconds` later or more.
    bytes_marked: u64,
    /// Marked before, removed now.
    bytes_removed: u64,
    /// Marked before, not removed yet.
    bytes_waiting: u64,
    /// Copied out of packs that are partly needed.
    bytes_copied: u64,
    grace_seconds: u64,
    /// Whether it is done; otherwise this is what would be.
    done: bool,
    /// Whether there is nothing to do.
    nothing: bool,
    stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
struct Row {
    snapshot: String,
    of: Option<String>,
    taken_unix: i64,
    #[serde(skip)]
    taken: String,
    bytes_added: u64,
    forget: bool,
    kept_by: Vec<Kept>,
}

impl Row {
    fn new(snapshot: &Snapshot, verdict: &Verdict) -> Self {
        Self {
            snapshot: snapshot.id.clone(),
            of: snapshot.subject.as_ref().map(ToString::to_string),
            taken_unix: snapshot.taken_unix,
            taken: snapshot.taken_utc(),
            bytes_added: snapshot.added,
            forget: verdict.is_forgotten(),
            kept_by: verdict.reasons.iter().copied().collect(),
        }
    }
}

fn words(reason: Kept) -> &'static str {
    match reason {
        Kept::Newest => "newest",
        Kept::NewestProven => "newest proven",
        Kept::NoneProven => "none is known to be proven",
        Kept::Last => "last",
        Kept::Hourly => "hourly",
        Kept::Daily => "daily",
        Kept::Weekly => "weekly",
        Kept::Monthly => "monthly",
        Kept::Yearly => "yearly",
        Kept::AnotherProgram => "another program's",
        Kept::Future => "from the future: a clock is or was wrong",
    }
}

impl Pruned {
    fn planned(archive: String, keep: KeepRules, snapshots: Vec<Row>, room: Room, nothing: bool) -> Self {
        let Room { used, marks, removes, waits, copies } = room;
        Self {
            archive,
            keep,
            forgotten: snapshots.iter().filter(|row| row.forget).count(),
            snapshots,
            bytes_used: used,
            bytes_marked: marks,
            bytes_removed: removes,
            bytes_waiting: waits,
            bytes_copied: copies,
            grace_seconds: GRACE.as_secs(),
            done: false,
            nothing,
            stages: Vec::new(),
        }
    }

    fn table(&self, page: &mut Page) {
        let mut table = Table::new(["SNAPSHOT", "OF", "TAKEN (UTC)", ">ADDED", "FORGOTTEN, OR KEPT BY"]);
        for row in &self.snapshots {
            let verdict = if row.forget {
                Cell::styled("forgotten", page.theme().warning)
            } else {
                let reasons: Vec<_> = row.kept_by.iter().map(|reason| words(*reason)).collect();
                reasons.join(", ").into()
            };
            table.row([
                Cell::from(row.snapshot.get(..8).unwrap_or_default()),
                row.of.as_deref().unwrap_or("another program's").into(),
                Cell::from(&row.taken),
                figures::bytes(row.bytes_added).into(),
                verdict,
            ]);
        }
        page.table(&table);
    }
}

impl Report for Pruned {
    fn show(&self, page: &mut Page) {
        if !self.done {
            self.table(page);
        }
        if self.nothing {
            page.line("nothing to prune");
        } else {
            let forgotten = figures::count(self.forgotten as u64, "snapshot", "snapshots");
            let stay = self.snapshots.len() - self.forgotten;
            page.line(format_args!("{forgotten} forgotten, {stay} kept"));
        }
        let hours = self.grace_seconds / 3600;
        if self.bytes_marked > 0 {
            let marked = figures::bytes(self.bytes_marked);
            page.line(format_args!(
                "{marked} that nothing else needs: marked now, freed by the first prune {hours} hours later or more"
            ));
        }
        if self.bytes_removed > 0 {
            page.line(format_args!("{} that was marked before: freed now", figures::bytes(self.bytes_removed)));
        }
        if self.bytes_waiting > 0 {
            let waiting = figures::bytes(self.bytes_waiting);
            page.line(format_args!("{waiting} that was marked less than {hours} hours ago: still there"));
        }
        if self.bytes_copied > 0 {
            let copied = figures::bytes(self.bytes_copied);
            page.line(format_args!(
                "{copied} that is needed lies beside what is not: copied, and twice there until then"
            ));
        }
    }
}

/// Something else wrote into the archive while this was looked at.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Stale(ArchiveError);

impl Reason for Stale {
    fn exit(&self) -> Exit {
        Exit::PlanStale
    }

    fn help(&self) -> Option<String> {
        self.0.help()
    }
}

/// Shows what goes and what stays, asks, and does just that.
pub(crate) fn run(context: &Context, args: &ArchivePruneArgs) -> Result<Pruned, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open(context, &declared)?;
    let snapshots = archive.snapshots()?;
    let verdicts = keep::verdicts(&declared, &snapshots);
    let rows = snapshots.iter().zip(&verdicts).map(|(snapshot, verdict)| Row::new(snapshot, verdict)).collect();
    let forgotten = snapshots.into_iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_forgotten());
    let forget: Vec<_> = forgotten.map(|(snapshot, _)| snapshot).collect();
    let progress = context.output.progress();
    let stage = progress.stage("look for what is not needed");
    let prune = archive.plan_prune(&forget, GRACE)?;
    stage.finish();
    let folder = archive.folder().display().to_string();
    let mut pruned = Pruned::planned(folder, declared.stack.archive.keep, rows, prune.room(), prune.is_nothing());
    if !args.dry_run && !pruned.nothing {
        context.output.show(&pruned);
        context.output.confirm(&pruned.question(), args.yes)?;
        let stage = Arc::new(progress.stage("prune the archive"));
        stage.expect_bytes(pruned.bytes_copied);
        let told = Arc::clone(&stage);
        let watch: Watch = Arc::new(move |seen| {
            if let Seen::Stored(bytes) = seen {
                told.reach(bytes);
            }
        });
        prune.run(&watch).map_err(|error| match error {
            ArchiveError::Stale => Failure::from(Stale(error)),
            other => other.into(),
        })?;
        drop(watch);
        Arc::into_inner(stage).map(Stage::finish);
        pruned.done = true;
    }
    pruned.stages = progress.times();
    Ok(pruned)
}

impl Pruned {
    fn question(&self) -> String {
        match self.forgotten {
            0 => "Remove from the archive what no snapshot needs?".to_owned(),
            forgotten => {
                let forgotten = figures::count(forgotten as u64, "snapshot", "snapshots");
                format!("Forget {forgotten} for good?")
            }
        }
    }
}
