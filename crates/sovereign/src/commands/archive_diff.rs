//! `sovereign archive diff`.

use serde::Serialize;
use sovereign_archive::entry::TreePath;
use sovereign_archive::{Archive, ArchiveError, Change, Snapshot, Subject};
use sovereign_model::stack::{App, Site};
use sovereign_services::ghost::data::{Changes, Compared};

use super::backup::short;
use crate::backup;
use crate::cli::ArchiveDiffArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Report, Table, figures, printable};

/// More of one kind than people read.
const MOST_SHOWN: usize = 50;
/// The word for the newest snapshot of what the first one is of.
const NEWEST: &str = "newest";

/// What changed.
#[derive(Debug, Serialize)]
pub(crate) struct Diff {
    of: String,
    from: End,
    to: End,
    /// What the databases of a Ghost site say; `None` when it is none, or nothing there changed.
    content: Option<Compared>,
    /// Why they do not say it.
    content_unknown: Option<String>,
    images: Files,
    files: Files,
}

/// One of the two snapshots.
#[derive(Debug, Serialize)]
struct End {
    snapshot: String,
    taken_unix: i64,
    #[serde(skip)]
    taken: String,
}

impl From<&Snapshot> for End {
    fn from(snapshot: &Snapshot) -> Self {
        Self { snapshot: snapshot.id.clone(), taken_unix: snapshot.taken_unix, taken: snapshot.taken_utc() }
    }
}

/// Paths.
#[derive(Debug, Default, Serialize)]
struct Files {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Files {
    fn note(&mut self, path: String, change: Change) {
        match change {
            Change::Added => self.added.push(path),
            Change::Changed => self.changed.push(path),
            Change::Removed => self.removed.push(path),
        }
    }
}

/// Some names of one kind that had the same happen to them, and how many there are in all.
struct Lines<'l> {
    what: &'static str,
    change: &'static str,
    count: u64,
    names: &'l [String],
}

impl Lines<'_> {
    fn of_content<'l>(what: &'static str, changes: &'l Changes) -> [Lines<'l>; 3] {
        let Changes { added, changed, removed } = changes;
        [("added", added), ("changed", changed), ("removed", removed)].map(|(change, titles)| Lines {
            what,
            change,
            count: titles.count,
            names: &titles.titles,
        })
    }

    fn of_files<'l>(what: &'static str, files: &'l Files) -> [Lines<'l>; 3] {
        let Files { added, changed, removed } = files;
        [("added", added), ("changed", changed), ("removed", removed)].map(|(change, names)| Lines {
            what,
            change,
            count: names.len() as u64,
            names,
        })
    }
}

impl Diff {
    fn lines(&self) -> Vec<Lines<'_>> {
        let mut lines = Vec::new();
        if let Some(Compared { posts, pages, members, tags }) = &self.content {
            for (what, changes) in [("post", posts), ("page", pages), ("tag", tags), ("member", members)] {
                lines.extend(Lines::of_content(what, changes));
            }
        }
        lines.extend(Lines::of_files("image", &self.images));
        lines.extend(Lines::of_files("file", &self.files));
        lines
    }
}

impl Report for Diff {
    fn show(&self, page: &mut Page) {
        let Self { of, from, to, .. } = self;
        page.line(format_args!(
            "{of}: from {} ({} UTC) to {} ({} UTC)",
            short(&from.snapshot),
            from.taken,
            short(&to.snapshot),
            to.taken
        ));
        if let Some(why) = &self.content_unknown {
            page.line(format_args!("what changed in the database is not known: {why}"));
        }
        let lines: Vec<_> = self.lines().into_iter().filter(|lines| lines.count > 0).collect();
        if lines.is_empty() {
            page.line("nothing changed");
            return;
        }
        let mut table = Table::new(["WHAT", "CHANGE", "NAME"]);
        for Lines { what, change, count, names } in lines {
            for name in names.iter().take(MOST_SHOWN) {
                table.row([Cell::from(what), change.into(), printable(name).into()]);
            }
            let more = count.saturating_sub(MOST_SHOWN as u64);
            if more > 0 {
                table.row([
                    Cell::from(what),
                    change.into(),
                    format!("and {}", figures::count(more, "more", "more")).into(),
                ]);
            }
        }
        page.table(&table);
    }
}

/// Two snapshots that say nothing about each other.
#[derive(Debug, thiserror::Error)]
enum NoPair {
    #[error("snapshot {0} is the first of its kind: there is none before it")]
    First(String),
    #[error("snapshot {0} is of {1}, and snapshot {2} of {3}")]
    Others(String, String, String, String),
    #[error("snapshot {0} was made by another program")]
    Foreign(String),
}

impl Reason for NoPair {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign archive list` says whose they are".to_owned())
    }
}

/// The two that are meant, the older one first as they were named.
fn pair(archive: &Archive, args: &ArchiveDiffArgs) -> Result<(Subject, Snapshot, Snapshot), Failure> {
    let first = archive.find(&args.from)?;
    let name = |snapshot: &Snapshot| snapshot.short().to_owned();
    let subject = first.subject.clone().ok_or_else(|| NoPair::Foreign(name(&first)))?;
    let (from, to) = match args.to.as_deref() {
        Some(NEWEST) => {
            let newest = archive.newest(&subject)?;
            (first, newest.ok_or_else(|| ArchiveError::NoSnapshot(format!("of {subject}")))?)
        }
        Some(second) => (first, archive.find(second)?),
        None => {
            let mut before = archive.snapshots()?;
            before.retain(|snapshot| snapshot.subject.as_ref() == Some(&subject));
            let position = before.iter().position(|snapshot| snapshot.id == first.id).unwrap_or_default();
            before.truncate(position);
            (before.pop().ok_or_else(|| NoPair::First(name(&first)))?, first)
        }
    };
    if to.subject != from.subject {
        let of =
            |snapshot: &Snapshot| snapshot.subject.as_ref().map_or("another program".to_owned(), ToString::to_string);
        return Err(NoPair::Others(name(&from), of(&from), name(&to), of(&to)).into());
    }
    Ok((subject, from, to))
}

/// Compares two snapshots.
pub(crate) fn run(context: &Context, args: &ArchiveDiffArgs) -> Result<Diff, Failure> {
    let declared = Declared::load(context)?;
    let archive = backup::open(context, &declared)?;
    let (subject, from, to) = pair(&archive, args)?;
    let (older, newer) = (archive.contents(&from)?, archive.contents(&to)?);
    let site = match &subject {
        Subject::Site(name) => declared.stack.sites.get(name),
        Subject::State | Subject::Images => None,
    };
    let ghost = site.filter(|site: &&Site| matches!(site.app, App::Ghost));
    let mut diff = Diff {
        of: subject.to_string(),
        from: (&from).into(),
        to: (&to).into(),
        content: None,
        content_unknown: None,
        images: Files::default(),
        files: Files::default(),
    };
    for (path, change) in older.changes(&newer) {
        let is = |name: &str| change == Change::Changed && path.as_bytes() == name.as_bytes();
        let compared = if is(backup::DATABASE) {
            ghost.map(|site| backup::compare_ghosts(context, &declared, site, &older, &newer))
        } else if is(backup::DUMP) {
            ghost.map(|_| backup::compare_dumps(&declared, &older, &newer))
        } else {
            None
        };
        match compared {
            Some(Ok(compared)) => {
                diff.content = Some(compared);
                continue;
            }
            Some(Err(failure)) => diff.content_unknown = Some(failure.chain().join(": ")),
            None if is(backup::DATABASE) || is(backup::DUMP) => {
                diff.content_unknown = Some("the stack file has no such Ghost site any more".to_owned());
            }
            None => {}
        }
        match image(&path) {
            Some(image) => diff.images.note(image, change),
            None => diff.files.note(path.to_string(), change),
        }
    }
    Ok(diff)
}

/// The name of an image that was uploaded to a Ghost site. Ghost keeps smaller ones beside it, made from it.
fn image(path: &TreePath) -> Option<String> {
    path.to_string().strip_prefix("content/images/").map(str::to_owned)
}
