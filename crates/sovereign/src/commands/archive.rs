//! `sovereign archive`, and the source that a backup reads from.

use std::io::{self, BufReader, BufWriter, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_archive::entry::{Kind, TreePath};
use sovereign_archive::wire::{PIECE, WireError};
use sovereign_archive::{Inventory, Offer, Password, Root, Snapshot, SourceError, newer, serve};
use sovereign_model::CopyName;

use super::backup::{Lost, short};
use super::daemons::Ended;
use crate::backup::growth::{Added, Growth};
use crate::backup::{self, Record};
use crate::cli::{ArchiveCheckArgs, ArchiveKeyArgs, ArchiveListArgs, ArchiveShowArgs, ArchiveSourceArgs};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Table, figures};
use crate::world::unix_seconds;

/// What the archive has.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshots {
    archive: String,
    now_unix: u64,
    snapshots: Vec<Row>,
    unreadable: Vec<Lost>,
    /// `None` of a copy.
    growth: Option<Growth>,
}

#[derive(Debug, Serialize)]
struct Row {
    snapshot: String,
    of: Option<String>,
    taken_unix: i64,
    files_and_links: u64,
    bytes: u64,
    bytes_added: u64,
    /// When it was restored and compared last, when it is the newest of its kind.
    verified_unix: Option<u64>,
    /// Whether it came after the last one that was proven.
    unproven: bool,
}

impl Report for Snapshots {
    fn show(&self, page: &mut Page) {
        for lost in &self.unreadable {
            lost.show(page);
        }
        if self.snapshots.is_empty() {
            page.line("the archive has no snapshot");
            return;
        }
        let ago = |unix: u64| format!("{} ago", figures::seconds(self.now_unix.saturating_sub(unix)));
        let mut table = Table::new(["SNAPSHOT", "OF", ">TAKEN", ">FILES AND LINKS", ">SIZE", ">ADDED", ">PROVEN"]);
        for row in &self.snapshots {
            table.row([
                Cell::from(short(&row.snapshot)),
                row.of.as_deref().unwrap_or("another program's").into(),
                ago(row.taken_unix.try_into().unwrap_or_default()).into(),
                row.files_and_links.into(),
                figures::bytes(row.bytes).into(),
                figures::bytes(row.bytes_added).into(),
                match row.verified_unix {
                    Some(verified) => ago(verified),
                    None if row.unproven => "not known".to_owned(),
                    None => String::new(),
                }
                .into(),
            ]);
        }
        page.table(&table);
        if let Some(growth) = &self.growth {
            show_growth(growth, page);
        }
    }
}

fn show_growth(Growth { bytes, free, added }: &Growth, page: &mut Page) {
    let (takes, left) = (figures::bytes(*bytes), figures::bytes(*free));
    page.line(format_args!("the archive takes {takes}, and {left} are free on its disk"));
    let Some(Added { bytes, days, full_in_days }) = added else { return };
    let (bytes, days) = (figures::bytes(*bytes), figures::count(*days, "day", "days"));
    page.line(match full_in_days {
        Some(left) => {
            let left = figures::count(*left, "day", "days");
            format!(
                "{bytes} were added in the last {days}; at that rate, and with nothing pruned, it is full in {left}"
            )
        }
        None => format!("{bytes} were added in the last {days}"),
    });
}

/// `archive list`.
pub(crate) fn list(context: &Context, args: &ArchiveListArgs) -> Result<Snapshots, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open_from(context, &declared, args.from_copy.as_ref())?;
    let record = Record::read(&declared.state);
    let Inventory { snapshots, unreadable } = archive.inventory()?;
    let is_unproven = |snapshot: &Snapshot| {
        let subject = snapshot.subject.as_ref();
        subject.is_some_and(|subject| {
            newer(&snapshots, subject, record.proven(subject)).iter().any(|newer| newer.id == snapshot.id)
        })
    };
    let row = |snapshot: &Snapshot| {
        let of = snapshot.subject.as_ref().map(ToString::to_string);
        let proof = of.as_ref().and_then(|of| record.proofs.get(of)).filter(|proof| proof.snapshot == snapshot.id);
        Row {
            verified_unix: proof.map(|proof| proof.verified_unix),
            unproven: is_unproven(snapshot),
            of,
            taken_unix: snapshot.taken_unix,
            files_and_links: snapshot.files,
            bytes: snapshot.bytes,
            bytes_added: snapshot.added,
            snapshot: snapshot.id.clone(),
        }
    };
    Ok(Snapshots {
        archive: archive.folder().display().to_string(),
        now_unix: unix_seconds(SystemTime::now()),
        snapshots: snapshots.iter().map(row).collect(),
        growth: match args.from_copy {
            Some(_) => None,
            None => Some(Growth::of(&archive, &snapshots, unix_seconds(SystemTime::now()))?),
        },
        unreadable: unreadable.into_iter().map(Lost::from).collect(),
    })
}

/// What a snapshot has.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    snapshot: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    mode: String,
    bytes: u64,
    modified_unix: i64,
}

impl Report for Shown {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["MODE", ">SIZE", "PATH"]);
        for entry in &self.entries {
            let slash = if entry.kind == "folder" { "/" } else { "" };
            table.row([
                Cell::from(&entry.mode),
                figures::bytes(entry.bytes).into(),
                format!("{}{slash}", entry.path).into(),
            ]);
        }
        page.table(&table);
    }
}

/// `archive show`.
pub(crate) fn show(context: &Context, args: &ArchiveShowArgs) -> Result<Shown, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open_from(context, &declared, args.from_copy.as_ref())?;
    let snapshot = archive.find(&args.snapshot)?;
    let contents = archive.contents(&snapshot)?;
    let entry = |entry: &sovereign_archive::entry::Entry| Entry {
        path: entry.path.to_string(),
        kind: match entry.kind {
            Kind::Folder => "folder",
            Kind::File { .. } => "file",
            Kind::Link { .. } => "link",
        },
        mode: format!("{:04o}", entry.mode),
        bytes: entry.size(),
        modified_unix: entry.modified.seconds,
    };
    Ok(Shown { snapshot: snapshot.id, entries: contents.manifest().entries().iter().map(entry).collect() })
}

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(super) snapshots: u64,
    pub(super) read_data: bool,
    pub(super) errors: Vec<String>,
    pub(super) remarks: Vec<String>,
    /// The copy that was looked at instead of the archive.
    pub(super) copy: Option<CopyName>,
}

impl Report for Checked {
    fn show(&self, page: &mut Page) {
        for error in &self.errors {
            let warning = page.theme().warning;
            page.line(format_args!("{warning}error{warning:#}: {error}"));
        }
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        let snapshots = figures::count(self.snapshots, "snapshot", "snapshots");
        match (self.errors.is_empty(), self.read_data) {
            (true, true) => page.line(format_args!("{snapshots}: all there, every byte read")),
            (true, false) => page.line(format_args!("{snapshots}: all there; `--read-data` reads every byte too")),
            (false, read_data) => match &self.copy {
                Some(copy) if read_data => {
                    page.help(format_args!(
                        "`sovereign archive check --copy {copy} --read-data --repair` puts right what is right here"
                    ));
                }
                Some(copy) => {
                    page.help(format_args!("`sovereign archive check --copy {copy} --read-data` says which files"))
                }
                None => {
                    page.help("`sovereign archive check --repair` shows what can be brought back from a copy, and asks")
                }
            },
        }
    }

    fn exit(&self) -> Exit {
        if self.errors.is_empty() { Exit::Done } else { Exit::Failed }
    }
}

/// `archive check`.
pub(crate) fn check(context: &Context, args: &ArchiveCheckArgs) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open(context, &declared)?;
    let progress = context.output.progress();
    let stage = progress.stage(if args.read_data { "read the whole archive" } else { "check the archive" });
    let found = archive.check(args.read_data)?;
    stage.finish();
    let sovereign_archive::Checked { snapshots, errors, remarks } = found;
    Ok(Checked { snapshots, read_data: args.read_data, errors, remarks, copy: None })
}

/// The archive's password.
#[derive(Serialize)]
pub(crate) struct Key {
    archive: String,
    password: String,
}

impl Report for Key {
    fn show(&self, page: &mut Page) {
        page.line(&self.password);
    }
}

/// The password would have gone where nobody looks.
#[derive(Debug, thiserror::Error)]
#[error("the archive's password is not written into a file or a pipe unasked")]
struct NotATerminal;

impl Reason for NotATerminal {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`--yes` says that it is meant; then see that nobody else reads it".to_owned())
    }
}

/// `archive key`.
pub(crate) fn key(context: &Context, args: &ArchiveKeyArgs) -> Result<Key, Failure> {
    if !args.yes && !io::stdout().is_terminal() {
        return Err(NotATerminal.into());
    }
    let declared = Declared::load(context)?;
    if args.add {
        let archive = backup::open(context, &declared)?;
        let password = sovereign_keys::random_password();
        archive.add_password(&Password::new(password.expose().to_owned()))?;
        return Ok(Key { archive: archive.folder().display().to_string(), password: password.expose().to_owned() });
    }
    let password = backup::password(context, &declared)?;
    Ok(Key { archive: backup::repository(&declared).display().to_string(), password: password.expose().to_owned() })
}

/// A root that is none.
#[derive(Debug, thiserror::Error)]
#[error("a root is NAME=PATH")]
struct NoRoot;

impl Reason for NoRoot {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// `archive-source`: on standard input and output, until the other side has had enough.
pub(crate) fn source(args: &ArchiveSourceArgs) -> Result<Ended, Failure> {
    let root = |text: &std::ffi::OsString| {
        let bytes = text.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').ok_or(NoRoot)?;
        let name = TreePath::parse(&bytes[..equals]).map_err(|_| NoRoot)?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[equals + 1..]));
        Ok::<_, NoRoot>(Root { name, path })
    };
    let roots = args.root.iter().map(root).collect::<Result<_, _>>()?;
    let offer = Offer { roots, without: Vec::new() };
    // Not through what looks for the ends of lines in it.
    let out = std::fs::File::from(
        io::stdout().as_fd().try_clone_to_owned().map_err(|error| SourceError::Wire(WireError::Io(error)))?,
    );
    serve(&offer, &mut BufReader::new(io::stdin().lock()), &mut BufWriter::with_capacity(PIECE, out))?;
    Ok(Ended::well())
}
