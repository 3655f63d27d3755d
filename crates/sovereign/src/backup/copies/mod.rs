//! The copies of the archive that the stack file declares: where they are, and bringing them in step one after the other.
//!
//! Promise: one that fails does not keep the others from it. A disk that is not plugged in is told, and is no failure.

mod chain;
mod record;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_archive::copy::{
    Before, Copied, CopyError, Disks, FileName, Folder, Login, Original, Place, Sftp, Unplugged,
};
use sovereign_archive::{Archive, ArchiveError, Seen, Watch};
use sovereign_model::CopyName;
use sovereign_model::archive_copy::{ArchiveCopy, CopyFormat, CopyPlace, SftpPlace};
use sovereign_model::interval::Interval;
use tokio_util::sync::CancellationToken;

use super::{BackupError, Record, Run};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::output::{Cell, Page, Progress, Stage, Table, figures};
use crate::world::unix_seconds;

use chain::ChainError;
pub(crate) use chain::SCRATCH as CHAIN_SCRATCH;
pub(crate) use record::{Copies, Known};

/// A copy that was named on the command line and does not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCopy {
    /// Nothing of that name is declared.
    #[error("the stack file declares no copy {name}")]
    Unknown {
        /// The name.
        name: CopyName,
        /// What is declared.
        declared: Vec<String>,
    },
    /// None is declared at all.
    #[error("the stack file declares no copy of the archive")]
    None,
    /// Its disk is in a drawer.
    #[error("copy {name} cannot be read: {why}")]
    Away {
        /// The name.
        name: CopyName,
        /// Why.
        why: Unplugged,
    },
}

impl Reason for NoCopy {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::None => Exit::Usage,
            Self::Away { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { declared, .. } if !declared.is_empty() => {
                Some(format!("it declares {}", declared.join(", ")))
            }
            Self::Unknown { .. } | Self::None => {
                Some("add an [[archive.copy]] to the stack file; see docs/archive.md".to_owned())
            }
            Self::Away { .. } => Some("plug the disk in and mount it".to_owned()),
        }
    }
}

/// The copies that were asked for: one, or all there are.
///
/// # Errors
/// When there is none, or none of that name.
pub(crate) fn named<'d>(declared: &'d Declared, name: Option<&CopyName>) -> Result<Vec<&'d ArchiveCopy>, NoCopy> {
    let all = &declared.stack.archive.copies;
    let Some(name) = name else {
        return if all.is_empty() { Err(NoCopy::None) } else { Ok(all.iter().collect()) };
    };
    let found: Vec<_> = all.iter().filter(|copy| &copy.name == name).collect();
    if found.is_empty() {
        let declared = all.iter().map(|copy| copy.name.to_string()).collect();
        return Err(NoCopy::Unknown { name: name.clone(), declared });
    }
    Ok(found)
}

/// The place of a copy, ready to be used; or why it is away.
///
/// # Errors
/// When it cannot be found out, or got to.
pub(crate) fn place(
    declared: &Declared,
    archive: &Path,
    copy: &ArchiveCopy,
) -> Result<Result<Arc<dyn Place>, Unplugged>, CopyError> {
    let folder = |path: &Path| -> Result<Arc<dyn Place>, CopyError> {
        let folder = Folder::new(path);
        folder.lies_apart_from(archive)?;
        Ok(Arc::new(folder))
    };
    let at =
        |source| CopyError::Place { action: "get to", what: copy.name.to_string(), place: copy.at.to_string(), source };
    let sftp = |place: &SftpPlace| -> Result<Arc<dyn Place>, CopyError> {
        let known_hosts = declared.state.archive().join(format!("known-host-{}", copy.name));
        Ok(Arc::new(Sftp::connect(Login { place: place.clone(), known_hosts }).map_err(at)?))
    };
    Ok(Ok(match &copy.at {
        CopyPlace::Folder(path) => folder(path)?,
        CopyPlace::Datacenter(datacenter) => {
            match hosts::archive_place(declared, datacenter).map_err(|error| at(io::Error::other(error)))? {
                None => folder(&declared.state.archive_copy(datacenter))?,
                Some(place) => sftp(&place)?,
            }
        }
        CopyPlace::Disk { uuid, folder: on_disk } => match Disks::default().mounted(uuid) {
            Ok(mounted) => folder(&mounted.join(on_disk))?,
            Err(Unplugged::Unknown(error)) => return Err(at(error)),
            Err(away) => return Ok(Err(away)),
        },
        CopyPlace::Sftp(place) => sftp(place)?,
    }))
}

/// Opens a copy, to look at it and restore from it. What is here need not be there any more.
///
/// # Errors
/// When it is away, or cannot be opened.
pub(crate) fn open(context: &Context, declared: &Declared, name: &CopyName) -> Result<Archive, Failure> {
    let copy = named(declared, Some(name))?.into_iter().next().ok_or(NoCopy::None)?;
    repository(copy)?;
    let place = place(declared, &super::repository(declared), copy)?;
    let place = place.map_err(|why| NoCopy::Away { name: name.clone(), why })?;
    Ok(Archive::open_copy(place, &super::known(declared), &super::password(context, declared)?)?)
}

/// That it has the files of an archive.
///
/// # Errors
/// When it is a chain of duplicity's.
pub(crate) fn repository(copy: &ArchiveCopy) -> Result<(), ChainError> {
    match copy.format {
        CopyFormat::Restic => Ok(()),
        CopyFormat::Duplicity { .. } => Err(ChainError::NotOurs(copy.name.to_string())),
    }
}

/// How it went with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It is what the archive is.
    InStep,
    /// It is not, for a reason that lies here.
    OutOfStep,
    /// Another run brings it in step.
    UnderWay,
    /// Its disk is not there.
    Away,
    /// It could not be brought in step.
    Failed,
}

/// What was done with a copy.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    copy: CopyName,
    at: String,
    outcome: Outcome,
    files_sent: u64,
    bytes_sent: u64,
    files_removed: u64,
    snapshots: usize,
    /// Files of the archive that are not what they were.
    damaged: Vec<String>,
    /// How many files are there, missing here, and stay.
    kept: usize,
    message: Option<String>,
    help: Option<String>,
}

impl Row {
    fn new(copy: &ArchiveCopy, outcome: Outcome, copied: &Copied) -> Self {
        let damaged: Vec<_> = copied.damaged.iter().map(FileName::path).collect();
        let kept = copied.kept.len();
        let message = match (damaged.len() as u64, kept as u64) {
            (0, 0) => None,
            (0, kept) => Some(format!(
                "it has {} that the archive lost, and that no prune removed: nothing of that is removed there",
                figures::count(kept, "file", "files")
            )),
            (damaged, _) => Some(format!(
                "{} of the archive is not what it was, and was not sent: {}",
                figures::count(damaged, "file", "files"),
                copied.damaged.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )),
        };
        Self {
            copy: copy.name.clone(),
            at: copy.at.to_string(),
            outcome,
            files_sent: copied.files_sent,
            bytes_sent: copied.bytes_sent,
            files_removed: copied.files_removed,
            snapshots: copied.snapshots.len(),
            damaged,
            kept,
            help: message
                .is_some()
                .then(|| "`sovereign archive check --repair` shows what can be brought back".to_owned()),
            message,
        }
    }

    fn failed(copy: &ArchiveCopy, failure: &Failure) -> Self {
        let (message, help) = (Some(failure.chain().join(": ")), failure.help());
        Self { message, help, ..Self::new(copy, Outcome::Failed, &Copied::default()) }
    }

    fn under_way(copy: &ArchiveCopy) -> Self {
        let message = Some("another run brings it in step, and began before this backup".to_owned());
        Self { message, ..Self::new(copy, Outcome::UnderWay, &Copied::default()) }
    }

    fn away(copy: &ArchiveCopy, why: &Unplugged) -> Self {
        Self { message: Some(why.to_string()), ..Self::new(copy, Outcome::Away, &Copied::default()) }
    }

    /// Whether somebody has to do something about it.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self.outcome, Outcome::OutOfStep | Outcome::Failed)
    }
}

/// Shows what became of copies.
pub(crate) fn show(rows: &[Row], page: &mut Page) {
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new(["COPY", "AT", ">SENT", ">REMOVED", ">SNAPSHOTS", "STATE"]);
    let warning = page.theme().warning;
    for row in rows {
        let state = match row.outcome {
            Outcome::InStep => Cell::from("in step"),
            Outcome::OutOfStep => Cell::styled("not in step", warning),
            Outcome::UnderWay => Cell::from("under way"),
            Outcome::Away => Cell::from("away"),
            Outcome::Failed => Cell::styled("failed", warning),
        };
        let (sent, removed, snapshots) = match row.outcome {
            Outcome::InStep | Outcome::OutOfStep => (
                format!("{} ({})", figures::count(row.files_sent, "file", "files"), figures::bytes(row.bytes_sent)),
                figures::count(row.files_removed, "file", "files"),
                row.snapshots.to_string(),
            ),
            Outcome::UnderWay | Outcome::Away | Outcome::Failed => Default::default(),
        };
        table.row([
            Cell::from(row.copy.as_str()),
            row.at.as_str().into(),
            sent.into(),
            removed.into(),
            snapshots.into(),
            state,
        ]);
    }
    page.table(&table);
    for row in rows {
        if let Some(message) = &row.message {
            let warning = if row.is_bad() { warning } else { anstyle::Style::new() };
            page.line(format_args!("{warning}copy {}{warning:#}: {message}", row.copy));
        }
        if let Some(help) = &row.help {
            page.help(help);
        }
    }
}

/// Is told of bytes by the archive, and tells a stage.
pub(crate) fn watch(stage: &Arc<Stage>) -> Watch {
    let told = Arc::clone(stage);
    Arc::new(move |seen| match seen {
        Seen::Total(bytes) => told.expect_bytes(bytes),
        Seen::Stored(bytes) => told.reach(bytes),
        Seen::Listed(_) | Seen::Comparing => {}
    })
}

/// The copies that have not all that was proven last, as far as that is known without looking at them. A disk that is
/// not there is passed over.
pub(crate) fn behind(declared: &Declared) -> Vec<&ArchiveCopy> {
    let (proofs, known) = (Record::read(&declared.state).proofs, Copies::read(&declared.state));
    let is_away = |copy: &ArchiveCopy| match &copy.at {
        CopyPlace::Disk { uuid, .. } => Disks::default().mounted(uuid).is_err(),
        _ => false,
    };
    let has = |copy: &ArchiveCopy, snapshot: &String| {
        known.of(&copy.name, &copy.at.to_string()).is_some_and(|known| known.snapshots.contains(snapshot))
    };
    // Images have no chain.
    let images = sovereign_archive::Subject::Images.to_string();
    let belongs = |copy: &ArchiveCopy, of: &str| repository(copy).is_ok() || of != images;
    let is_behind =
        |copy: &&ArchiveCopy| proofs.iter().any(|(of, proof)| belongs(copy, of) && !has(copy, &proof.snapshot));
    declared.stack.archive.copies.iter().filter(is_behind).filter(|copy| !is_away(copy)).collect()
}

/// Brings copies in step after a backup. The archive is closed before those are that consist of its files: with a slow
/// host it may take long, and the next backup must not wait for it.
///
/// # Errors
/// When the run is stopped. What else fails is part of the report.
pub(crate) fn after_backup(
    context: &Context,
    declared: &Declared,
    archive: Archive,
    copies: &[&ArchiveCopy],
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Vec<Row>, Failure> {
    if copies.is_empty() {
        return Ok(Vec::new());
    }
    let run = Run { context, declared, archive: &archive, progress, stop };
    let mut rows = keep_chains(&run, copies, false);
    let files: Vec<&ArchiveCopy> = copies.iter().copied().filter(|copy| repository(copy).is_ok()).collect();
    if !files.is_empty() {
        let original = archive.for_copies();
        drop(archive);
        rows.extend(match original {
            Ok(original) => {
                let stop = stop.clone();
                bring_in_step(declared, &original.until(move || stop.is_cancelled()), progress, &files, false)
            }
            Err(ArchiveError::LockedForCopies) => files.iter().map(|copy| Row::under_way(copy)).collect(),
            Err(error) => {
                let failure = Failure::from(error);
                files.iter().map(|copy| Row::failed(copy, &failure)).collect::<Vec<_>>()
            }
        });
    }
    if stop.is_cancelled() { Err(BackupError::Stopped.into()) } else { Ok(rows) }
}

/// Adds to the chains of duplicity's among the copies what they do not have yet.
pub(crate) fn keep_chains(run: &Run<'_>, copies: &[&ArchiveCopy], anew: bool) -> Vec<Row> {
    let chain = |copy: &&ArchiveCopy| match copy.format {
        CopyFormat::Duplicity { full } => {
            Some(in_chains(run, copy, full, anew).unwrap_or_else(|failure| Row::failed(copy, &failure)))
        }
        CopyFormat::Restic => None,
    };
    copies.iter().filter_map(chain).collect()
}

/// Brings copies in step, one after the other. `anew` begins one where it was and is not any more.
pub(crate) fn bring_in_step(
    declared: &Declared,
    archive: &Original,
    progress: &Progress,
    copies: &[&ArchiveCopy],
    anew: bool,
) -> Vec<Row> {
    let rows: Vec<Row> = copies
        .iter()
        .map(|copy| one(declared, archive, progress, copy, anew).unwrap_or_else(|failure| Row::failed(copy, &failure)))
        .collect();
    let all = rows.len() == declared.stack.archive.copies.len();
    if all && !rows.is_empty() && rows.iter().all(|row| row.outcome == Outcome::InStep) {
        // Only a list that grows: the next time does it.
        let _ = archive.all_copies_are_in_step();
    }
    rows
}

/// Writes down that a copy was looked at, and all was well.
pub(crate) fn note_checked(declared: &Declared, copy: &ArchiveCopy, read: bool, now: u64) -> Result<(), Failure> {
    let note = |known: &mut Known| {
        known.checked_unix = Some(now);
        if read {
            known.read_unix = Some(now);
        }
    };
    Ok(Copies::note(&declared.state, &copy.name, &copy.at.to_string(), note)?)
}

fn in_chains(run: &Run<'_>, copy: &ArchiveCopy, full: Interval, anew: bool) -> Result<Row, Failure> {
    let (state, at) = (&run.declared.state, copy.at.to_string());
    let folder = match &copy.at {
        CopyPlace::Disk { uuid, folder } => match Disks::default().mounted(uuid) {
            Ok(mounted) => mounted.join(folder),
            Err(away) => return Ok(Row::away(copy, &away)),
        },
        CopyPlace::Folder(folder) => folder.clone(),
        // No stack file says so.
        CopyPlace::Sftp(_) | CopyPlace::Datacenter(_) => return Err(ChainError::Gone(at).into()),
    };
    Folder::new(&folder).lies_apart_from(run.archive.folder())?;
    let known = Copies::read(state).of(&copy.name, &at).map(|known| known.snapshots.clone()).unwrap_or_default();
    let kept = chain::keep(run, &folder, full, &known, anew);
    let unix = unix_seconds(SystemTime::now());
    let row = match kept {
        Ok(chain::Kept { files, bytes, snapshots }) => {
            let copied = Copied { files_sent: files, bytes_sent: bytes, snapshots, ..Copied::default() };
            let row = Row::new(copy, Outcome::InStep, &copied);
            Copies::note(state, &copy.name, &at, |known| {
                *known = Known { at: known.at.clone(), in_step_unix: Some(unix), ..Known::default() };
                known.snapshots = copied.snapshots;
            })?;
            row
        }
        Err(failure) => {
            let row = Row::failed(copy, &failure);
            let trouble = row.message.clone().map(|message| record::Trouble { unix, message });
            Copies::note(state, &copy.name, &at, |known| known.trouble = trouble)?;
            row
        }
    };
    Ok(row)
}

fn one(
    declared: &Declared,
    archive: &Original,
    progress: &Progress,
    copy: &ArchiveCopy,
    anew: bool,
) -> Result<Row, Failure> {
    let (state, at) = (&declared.state, copy.at.to_string());
    let known = Copies::read(state).of(&copy.name, &at).is_some_and(|known| known.in_step_unix.is_some());
    let before = if known && !anew { Before::Known } else { Before::Unknown };
    let place = match place(declared, archive.folder(), copy) {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(away)) => return Ok(Row::away(copy, &away)),
        Err(error) => Err(error),
    };
    let stage = Arc::new(progress.stage(format!("copy to {}", copy.name)));
    let done = place.and_then(|place| archive.copy_to(&*place, before, &watch(&stage)));
    let now = unix_seconds(SystemTime::now());
    let trouble = |message: String| Some(record::Trouble { unix: now, message });
    let row = match done {
        Ok(copied) => {
            let outcome = if copied.is_in_step() { Outcome::InStep } else { Outcome::OutOfStep };
            let row = Row::new(copy, outcome, &copied);
            Copies::note(state, &copy.name, &at, |known| {
                if outcome == Outcome::InStep {
                    known.in_step_unix = Some(now);
                }
                known.snapshots = copied.snapshots;
                known.trouble = row.message.clone().and_then(trouble);
            })?;
            row
        }
        Err(error) => {
            let failure = Failure::from(error);
            let row = Row::failed(copy, &failure);
            Copies::note(state, &copy.name, &at, |known| known.trouble = row.message.clone().and_then(trouble))?;
            return Ok(row);
        }
    };
    if let Some(stage) = Arc::into_inner(stage) {
        stage.finish();
    }
    Ok(row)
}
