//! `sovereign restore`, and into a folder: all, a part, or one table. Into the running site: `restore_in_place`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use sovereign_archive::entry::{Entry, Malformed, TreePath};
use sovereign_archive::{Archive, ArchiveError, Contents, Inventory, Snapshot, Subject, newer, room_for};
use sovereign_services::ghost;
use sovereign_services::ghost::data::Table;

use super::backup::short;
use super::restore_in_place;
use super::site::find;
use crate::backup::{self, DATABASE, DUMP, Ghost, Record, Scratch};
use crate::cli::RestoreArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Answer, Page, Report, figures};

/// `restore`.
pub(crate) fn run(context: &Context, args: &RestoreArgs) -> Result<Answer, Failure> {
    let declared = Declared::load(context)?;
    match &args.to {
        Some(to) => Ok(to_folder(context, &declared, args, to)?.into()),
        None => restore_in_place::run(context, &declared, args),
    }
}

/// What was brought back into a folder.
#[derive(Debug, Serialize)]
struct Restored {
    snapshot: String,
    to: PathBuf,
    files: u64,
    bytes: u64,
    /// Of a table.
    rows: Option<u64>,
    /// What there is to know about the choice of the snapshot.
    remarks: Vec<String>,
}

impl Report for Restored {
    fn show(&self, page: &mut Page) {
        let (files, bytes) = (figures::count(self.files, "file", "files"), figures::bytes(self.bytes));
        let (snapshot, to) = (short(&self.snapshot), self.to.display());
        match self.rows {
            Some(rows) => {
                let rows = figures::count(rows, "row", "rows");
                page.line(format_args!("{rows} ({bytes}) of snapshot {snapshot} are in {to}, as SQL"));
            }
            None => page.line(format_args!("{files} ({bytes}) of snapshot {snapshot} are in {to}")),
        }
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
    }
}

/// The snapshot is another site's.
#[derive(Debug, thiserror::Error)]
#[error("snapshot {snapshot} is not one of {of}")]
struct OtherSubject {
    snapshot: String,
    of: Subject,
}

impl Reason for OtherSubject {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign archive list` says whose they are".to_owned())
    }
}

/// A path that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("this is no path inside a snapshot")]
struct NoPath(#[source] Malformed);

impl Reason for NoPath {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("paths are as `sovereign archive show` prints them".to_owned())
    }
}

/// The snapshot of a subject that was proven last; the newest when this stack proved none: its state may be new, and the
/// archive a copy of an old one. With what there is to know about that.
fn newest_proven(
    inventory: Inventory,
    subject: &Subject,
    proven: Option<&str>,
) -> Result<(Snapshot, Vec<String>), ArchiveError> {
    let Inventory { snapshots, unreadable } = inventory;
    let mut remarks: Vec<String> =
        unreadable.iter().map(|lost| format!("snapshot {} cannot be read: {}", lost.short(), lost.why)).collect();
    let later = newer(&snapshots, subject, proven);
    let of_it = |snapshot: &&Snapshot| snapshot.subject.as_ref() == Some(subject);
    let proven = proven.and_then(|proven| snapshots.iter().filter(of_it).find(|snapshot| snapshot.id == proven));
    let chosen = match (proven, later.last()) {
        (Some(proven), newest) => {
            remarks.extend(newest.map(|newest| {
                let newest = newest.short();
                format!("snapshot {newest} is newer and was never proven: `--snapshot {newest}` restores it")
            }));
            proven
        }
        (None, Some(newest)) => {
            remarks.push("whether this snapshot was ever proven is not known here".to_owned());
            newest
        }
        (None, None) => return Err(ArchiveError::NoSnapshot(format!("of {subject}"))),
    };
    Ok((chosen.clone(), remarks))
}

/// The snapshot that was named, or the newest one that is good, and what there is to know about it.
///
/// # Errors
/// When there is none, or it is another subject's.
pub(super) fn choose(
    declared: &Declared,
    archive: &Archive,
    subject: &Subject,
    named: Option<&str>,
) -> Result<(Snapshot, Vec<String>), Failure> {
    let (snapshot, remarks) = match named {
        Some(name) => (archive.find(name)?, Vec::new()),
        None => newest_proven(archive.inventory()?, subject, Record::read(&declared.state).proven(subject))?,
    };
    if snapshot.subject.as_ref() != Some(subject) {
        return Err(OtherSubject { snapshot: snapshot.short().to_owned(), of: subject.clone() }.into());
    }
    Ok((snapshot, remarks))
}

fn to_folder(context: &Context, declared: &Declared, args: &RestoreArgs, to: &Path) -> Result<Restored, Failure> {
    let subject = args.of.clone();
    // `archive show` prints folders with a slash behind them.
    let parse = |path: &PathBuf| {
        let bytes = path.as_os_str().as_bytes();
        TreePath::parse(bytes.strip_suffix(b"/").unwrap_or(bytes))
    };
    let path = args.path.as_ref().map(parse).transpose().map_err(NoPath)?;
    let archive = backup::open_from(context, declared, args.from_copy.as_ref())?;
    let (snapshot, remarks) = choose(declared, &archive, &subject, args.snapshot.as_deref())?;
    let contents = archive.contents(&snapshot)?;
    let progress = context.output.progress();
    let stage = progress.stage(format!("restore {subject}"));
    if let Some(table) = &args.table {
        let written = write_table(context, declared, &contents, &subject, table, to)?;
        stage.finish();
        return Ok(Restored { snapshot: snapshot.id, remarks, ..written });
    }
    stage.expect_bytes(if path.is_none() { contents.manifest().bytes() } else { 0 });
    let restored = contents.restore(path.as_ref(), to, &|bytes| stage.reach(bytes))?;
    stage.finish();
    let (files, bytes) = (restored.files, restored.bytes);
    Ok(Restored { snapshot: snapshot.id, to: to.to_owned(), files, bytes, rows: None, remarks })
}

/// A table cannot be had.
#[derive(Debug, thiserror::Error)]
enum NoTable {
    #[error("{of} has no database")]
    NoDatabase { of: Subject },
    #[error("the database has no table {table}")]
    Unknown { table: String, tables: Vec<String> },
    #[error("cannot write {}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl Reason for NoTable {
    fn exit(&self) -> Exit {
        match self {
            Self::NoDatabase { .. } | Self::Unknown { .. } => Exit::Usage,
            Self::File { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::NoDatabase { .. } => Some("without `--table` all of it is restored".to_owned()),
            Self::Unknown { tables, .. } => Some(format!("its tables are: {}", tables.join(", "))),
            Self::File { .. } => None,
        }
    }
}

/// One table as SQL: from the database of the snapshot, by a process that sees nothing else, or from its dump.
fn write_table(
    context: &Context,
    declared: &Declared,
    contents: &Contents,
    subject: &Subject,
    table: &str,
    to: &Path,
) -> Result<Restored, Failure> {
    let no_database = || NoTable::NoDatabase { of: subject.clone() };
    let Subject::Site(name) = subject else { return Err(no_database().into()) };
    let there =
        |path: &str| TreePath::parse(path.as_bytes()).ok().filter(|path| contents.manifest().get(path).is_some());
    let dump = there(DUMP);
    let database = dump.clone().or_else(|| there(DATABASE)).ok_or_else(no_database)?;
    let scratch = Scratch::new(&declared.state)?;
    // The database, and as much of it again as SQL.
    let size = contents.manifest().get(&database).map_or(0, Entry::size);
    room_for(&scratch.folder, size.saturating_mul(3))?;
    contents.prove(&mut std::iter::once((&database, None)), &scratch.folder.join("table"), &|_| {})?;
    let file = database.below(&scratch.folder.join("table"));
    let made = file.with_file_name("table.sql");
    let Table { rows, tables } = match dump {
        Some(_) => write_dumped(&file, table, &made).map_err(|source| NoTable::File { path: made.clone(), source })?,
        None => Ghost::of(context, declared, find(&declared.stack, Some(name))?)?.write_table(&file, table, &made)?,
    };
    let Some(rows) = rows else { return Err(NoTable::Unknown { table: table.to_owned(), tables }.into()) };
    // Tables have names that files cannot have.
    let safe: String = table.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let place = to.join(format!("{safe}.sql"));
    let bytes = take_over(&made, to, &place).map_err(|source| NoTable::File { path: place.clone(), source })?;
    Ok(Restored { snapshot: String::new(), to: to.to_owned(), files: 1, bytes, rows: Some(rows), remarks: Vec::new() })
}

/// The same from a database that was written out as SQL.
fn write_dumped(dump: &Path, table: &str, made: &Path) -> std::io::Result<Table> {
    let from = BufReader::with_capacity(1 << 16, File::open(dump)?);
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(made)?;
    ghost::write_table(from, table, BufWriter::new(to))
}

/// Copies what a process with fewer rights has written, following no link, over nothing that is there.
fn take_over(made: &Path, folder: &Path, place: &Path) -> std::io::Result<u64> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut from = File::from(rustix::fs::open(made, flags, Mode::empty())?);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
    let bytes = std::io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    Ok(bytes)
}
