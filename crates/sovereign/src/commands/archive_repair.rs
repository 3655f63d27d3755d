//! `sovereign archive check --repair`: what is damaged is brought back from a copy, or given up so that all else goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use sovereign_archive::copy::{FileKind, FileName, Place};
use sovereign_archive::{Archive, Damage, Lost};
use sovereign_model::CopyName;

use super::backup::short;
use crate::backup::{self, copies};
use crate::cli::ArchiveCheckArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Cell, Page, Report, Stage, StageTime, Table, figures, printable};

/// More paths of a snapshot than people read.
const MOST_PATHS: usize = 20;

/// What is put right, or was.
#[derive(Debug, Serialize)]
pub(crate) struct Repaired {
    archive: String,
    files: Vec<Row>,
    lost: Vec<LostRow>,
    /// Copies that could not be asked, and why.
    not_asked: BTreeMap<CopyName, String>,
    /// Where damaged files are now.
    set_aside: String,
    /// Whether it is done; otherwise this is what would be.
    done: bool,
    /// How many snapshots were given up that nobody has whole.
    snapshots_given_up: usize,
    /// Whether anything was wrong.
    nothing: bool,
    /// What is wrong still, in snapshots that go on without what they lost.
    errors: Vec<String>,
    stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    #[serde(skip)]
    called: String,
    missing: bool,
    /// The copy that has it; `None` when none has.
    from: Option<CopyName>,
    brought_back: bool,
}

#[derive(Debug, Serialize)]
struct LostRow {
    snapshot: String,
    of: Option<String>,
    /// Empty when it is the snapshot itself that cannot be read.
    paths: Vec<String>,
}

impl From<Lost> for LostRow {
    fn from(Lost { snapshot, subject, paths }: Lost) -> Self {
        Self { snapshot, of: subject.map(|subject| subject.to_string()), paths }
    }
}

impl Report for Repaired {
    fn show(&self, page: &mut Page) {
        let warning = page.theme().warning;
        for (copy, why) in &self.not_asked {
            page.line(format_args!("copy {copy} could not be asked: {why}"));
        }
        if self.nothing {
            page.line("every file of the archive is there, and what it was");
            return;
        }
        let mut table = Table::new(["FILE", "WHAT", "FROM"]);
        if !self.files.is_empty() {
            page.line("these files are damaged or missing:");
        }
        for row in &self.files {
            table.row([
                Cell::from(&row.called),
                Cell::from(if row.missing { "missing" } else { "damaged" }),
                match &row.from {
                    Some(copy) => Cell::from(format!("copy {copy}")),
                    None => Cell::styled("no copy has it", warning),
                },
            ]);
        }
        if !self.files.is_empty() {
            page.table(&table);
        }
        for lost in &self.lost {
            let of = lost.of.as_deref().map(|of| format!(" of {of}")).unwrap_or_default();
            let snapshot = short(&lost.snapshot);
            if lost.paths.is_empty() {
                page.line(format_args!("{warning}snapshot {snapshot}{of} is lost{warning:#}"));
                continue;
            }
            let paths = figures::count(lost.paths.len() as u64, "file or folder", "files and folders");
            page.line(format_args!("{warning}snapshot {snapshot}{of} loses {paths}{warning:#}"));
            for path in lost.paths.iter().take(MOST_PATHS) {
                page.line(format_args!("  {}", if path.is_empty() { "all of it".to_owned() } else { printable(path) }));
            }
            if lost.paths.len() > MOST_PATHS {
                page.line(format_args!("  and {} more: `--json` has them all", lost.paths.len() - MOST_PATHS));
            }
        }
        if !self.done {
            if self.files.is_empty() && !self.not_asked.is_empty() {
                page.help("a copy that could not be asked may have what is missing: plug it in, or bring it back, and run this again");
            }
            return;
        }
        if self.snapshots_given_up > 0 {
            let snapshots = figures::count(self.snapshots_given_up as u64, "snapshot", "snapshots");
            page.line(format_args!("{snapshots} given up; their own files are in {}", self.set_aside));
            return;
        }
        let back = self.files.iter().filter(|row| row.brought_back).count() as u64;
        page.line(format_args!("{} brought back", figures::count(back, "file", "files")));
        let given_up = self.files.iter().filter(|row| !row.brought_back).count() as u64;
        if given_up > 0 {
            page.line(format_args!(
                "{} given up; what was damaged is in {}",
                figures::count(given_up, "file", "files"),
                self.set_aside
            ));
            page.help(
                "`sovereign backup` reads again what is still at the sites, and snapshots that have the same are whole again; \
                 then `sovereign archive check --repair` gives up those that are not",
            );
        }
    }

    fn exit(&self) -> Exit {
        let whole = self.lost.is_empty() || self.snapshots_given_up > 0;
        let well = whole && self.files.iter().all(|row| row.brought_back) && self.errors.is_empty();
        if well { Exit::Done } else { Exit::Failed }
    }
}

/// A copy that can be asked.
struct Source {
    name: CopyName,
    place: Arc<dyn Place>,
}

/// Looks at everything, shows what can be done, asks, and does it.
pub(crate) fn run(context: &Context, args: &ArchiveCheckArgs) -> Result<Repaired, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open(context, &declared)?;
    let progress = context.output.progress();
    let stage = Arc::new(progress.stage("read the whole archive"));
    let mut damage = archive.damage(&copies::watch(&stage))?;
    Arc::into_inner(stage).map(Stage::finish);
    let (sources, not_asked) = sources(&declared, &archive);
    for source in &sources {
        let missing = archive.missing_beside(&source.place)?;
        damage.missing.extend(missing);
    }
    damage.missing.sort();
    damage.missing.dedup();
    let mut files = Vec::new();
    for name in damage.all() {
        let from = sources.iter().find(|source| source.place.read_part(&name, 0, 1).is_ok());
        files.push((name, from));
    }
    // What others refer to first: killed in between, nothing refers to what is not there yet.
    files.sort_by_key(|(name, _)| *name);
    let without: Vec<_> = files.iter().filter(|(_, from)| from.is_none()).map(|(name, _)| *name).collect();
    let lost = archive.lost(&without)?;
    let mut repaired = Repaired {
        archive: archive.folder().display().to_string(),
        files: files.iter().map(|(name, from)| row(name, from.map(|from| &from.name), &damage)).collect(),
        nothing: damage.is_none() && lost.is_empty(),
        lost: lost.iter().cloned().map(LostRow::from).collect(),
        not_asked,
        set_aside: archive.aside().display().to_string(),
        done: false,
        snapshots_given_up: 0,
        errors: Vec::new(),
        stages: Vec::new(),
    };
    if damage.is_none() && !lost.is_empty() && repaired.not_asked.is_empty() {
        context.output.show(&repaired);
        let snapshots = figures::count(lost.len() as u64, "snapshot", "snapshots");
        context.output.confirm(&format!("Give up {snapshots}, which nobody has whole?"), args.yes)?;
        archive.give_up_snapshots(&lost)?;
        repaired.snapshots_given_up = lost.len();
        repaired.errors = archive.check(false)?.errors;
        repaired.done = true;
    } else if !damage.is_none() {
        context.output.show(&repaired);
        context.output.confirm(&question(&files), args.yes)?;
        let stage = progress.stage("put the archive right");
        let mut given_up = Vec::new();
        for ((name, _), row) in files.iter().zip(&mut repaired.files) {
            let from = bring_back(&archive, name, &sources)?;
            row.brought_back = from.is_some();
            row.from = from;
            if !row.brought_back {
                given_up.push(*name);
            }
        }
        let needs_index = |name: &FileName| matches!(name, FileName::Named(FileKind::Pack | FileKind::Index, _));
        if !given_up.is_empty() || files.iter().any(|(name, _)| needs_index(name)) {
            archive.give_up(&given_up)?;
        }
        stage.finish();
        let stage = progress.stage("check the archive");
        repaired.errors = archive.check(false)?.errors;
        stage.finish();
        repaired.done = true;
    }
    repaired.stages = progress.times();
    Ok(repaired)
}

/// From the first copy that has it as it was.
fn bring_back(archive: &Archive, name: &FileName, sources: &[Source]) -> Result<Option<CopyName>, Failure> {
    for source in sources {
        if archive.bring_back(name, &*source.place)? {
            return Ok(Some(source.name.clone()));
        }
    }
    Ok(None)
}

fn sources(declared: &Declared, archive: &Archive) -> (Vec<Source>, BTreeMap<CopyName, String>) {
    let (mut sources, mut not_asked) = (Vec::new(), BTreeMap::new());
    // A chain of duplicity's has none of the archive's files.
    for copy in declared.stack.archive.copies.iter().filter(|copy| copies::repository(copy).is_ok()) {
        let name = copy.name.clone();
        let why = match copies::place(declared, archive.folder(), copy) {
            Ok(Ok(place)) => match archive.is_copied_to(&*place) {
                Ok(()) => {
                    sources.push(Source { name, place });
                    continue;
                }
                Err(error) => Failure::from(error).chain().join(": "),
            },
            Ok(Err(away)) => away.to_string(),
            Err(error) => Failure::from(error).chain().join(": "),
        };
        not_asked.insert(name, why);
    }
    (sources, not_asked)
}

fn row(name: &FileName, from: Option<&CopyName>, damage: &Damage) -> Row {
    let missing = damage.missing.contains(name);
    Row { file: name.path(), called: name.to_string(), missing, from: from.cloned(), brought_back: false }
}

fn question(files: &[(FileName, Option<&Source>)]) -> String {
    let back = files.iter().filter(|(_, from)| from.is_some()).count() as u64;
    let given_up = files.len() as u64 - back;
    let file = |count| figures::count(count, "file", "files");
    match (back, given_up) {
        (back, 0) => format!("Bring {} back?", file(back)),
        (0, given_up) => format!("Go on without {}, which nobody has?", file(given_up)),
        (back, given_up) => {
            format!("Bring {} back, and go on without {}, which nobody has?", file(back), file(given_up))
        }
    }
}
