//! `sovereign restore` into the running site, and back.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_archive::entry::TreePath;
use sovereign_archive::{Archive, Contents, Snapshot, Subject};
use sovereign_keys::WorkingKeys;
use sovereign_model::stack::{App, Site};
use sovereign_model::{DatacenterName, SiteName};

use super::backup::short;
use super::restore::choose;
use super::site::find;
use crate::backup::{self, Backed, DATABASE, Ghost, Run};
use crate::cli::RestoreArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Answer, Page, Progress, Report, StageTime, figures};
use crate::restore::swap::{Ended, Intent, Origin, Part, carry_out};
use crate::restore::{self, Folder, Live, Seen, Staged};
use crate::secrets;
use crate::world::unix_seconds;

/// It cannot be restored in place.
#[derive(Debug, thiserror::Error)]
enum NotInPlace {
    #[error("site {name} is a folder of yours: it is not replaced under the edge that reads it")]
    Static { name: SiteName },
    #[error("site {name} is a service of yours: only your own `load` can replace its data")]
    Upstream { name: SiteName },
    #[error("site {name} is on a host, where its data is not replaced yet")]
    OnHost { name: SiteName },
    #[error("{of} is not replaced under a stack that runs")]
    NoSite { of: Subject },
    #[error("no restore of site {name} has replaced anything that is still kept")]
    NothingKept { name: SiteName },
    #[error("what was written into site {name} in the {lost} after snapshot {snapshot} would be gone from it")]
    Older { name: SiteName, snapshot: String, lost: String },
}

impl Reason for NotInPlace {
    fn exit(&self) -> Exit {
        match self {
            Self::Static { .. } | Self::Upstream { .. } | Self::OnHost { .. } | Self::NoSite { .. } => Exit::Usage,
            Self::NothingKept { .. } | Self::Older { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Static { name } => format!(
                "its files cannot all change in one moment; `sovereign restore {name} --to FOLDER`, name FOLDER/files as \
                 `folder` of the site in the stack file, and `sovereign up` drops no request on the way there"
            ),
            Self::Upstream { name } => format!(
                "`sovereign restore {name} --to FOLDER`, then `sovereign site load {name} --from FOLDER/data.dump`"
            ),
            Self::OnHost { name } => {
                format!(
                    "`sovereign restore {name} --to FOLDER` brings all of it back: its uploads, and its database as SQL"
                )
            }
            Self::NoSite { .. } => {
                "`--to FOLDER` restores it beside; `sovereign recover` brings it back on an empty machine".to_owned()
            }
            Self::NothingKept { name } => format!("`sovereign restore {name}` restores from the archive"),
            Self::Older { .. } => {
                "`--accept-loss` with `--yes` says that it may; it is kept beside, and `--undo` brings it back"
                    .to_owned()
            }
        })
    }
}

/// What took the place of a site's data.
#[derive(Debug, Serialize)]
struct InPlace {
    site: SiteName,
    datacenter: DatacenterName,
    /// Which snapshot; `None` for what a restore before had replaced.
    snapshot: Option<String>,
    taken_unix: Option<i64>,
    /// The number of the restore that had replaced it.
    undone: Option<u32>,
    /// Begun by a run that was cut off.
    resumed: bool,
    files: u64,
    bytes: u64,
    /// How much of what was written last is not in it any more.
    lost_seconds: Option<u64>,
    /// The snapshot that has what was live before.
    backed_up: Option<String>,
    examined: Option<String>,
    /// Where what was live before is kept.
    kept: PathBuf,
    /// Whether its application runs, and was asked.
    runs: bool,
    /// Data centers whose edge shows what is live now.
    shown: Vec<DatacenterName>,
    /// Those that do not yet, and why.
    behind: BTreeMap<DatacenterName, String>,
    remarks: Vec<String>,
    stages: Vec<StageTime>,
    seconds: f64,
    #[serde(skip)]
    now_unix: u64,
}

impl Report for InPlace {
    fn show(&self, page: &mut Page) {
        let site = &self.site;
        let took = figures::duration(Duration::from_secs_f64(self.seconds));
        match (&self.snapshot, self.undone) {
            (Some(snapshot), _) => {
                let taken = u64::try_from(self.taken_unix.unwrap_or_default()).unwrap_or_default();
                let ago = figures::seconds(self.now_unix.saturating_sub(taken));
                page.line(format_args!(
                    "site {site} has the data of snapshot {}, taken {ago} ago; {took}",
                    short(snapshot)
                ));
            }
            (None, _) => page.line(format_args!("site {site} has the data again that was replaced last; {took}")),
        }
        if self.resumed {
            page.line("begun by an earlier run, which was cut off; run the command again for another");
        }
        if let Some(examined) = &self.examined {
            page.line(examined);
        }
        if !self.runs {
            page.line("its application does not run, so it was not asked: `sovereign up`");
        }
        if !self.shown.is_empty() {
            let shown: Vec<_> = self.shown.iter().map(ToString::to_string).collect();
            page.line(format_args!("shown at {}", shown.join(", ")));
        }
        let warning = page.theme().warning;
        for (datacenter, why) in &self.behind {
            page.line(format_args!("{warning}{datacenter}{warning:#} does not show all of it yet: {why}"));
        }
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        if let Some(lost) = self.lost_seconds.map(figures::seconds) {
            page.line(format_args!("what was written in the {lost} after it is not in it"));
        }
        let also = self
            .backed_up
            .as_ref()
            .map_or(String::new(), |backed_up| format!(", and in snapshot {}", short(backed_up)));
        page.line(format_args!("what was live before is in {}{also}", self.kept.display()));
        page.help(format_args!("`sovereign restore {site} --undo` swaps both; `--discard` removes what is kept"));
    }
}

/// The new data was no good, and the old is back.
#[derive(Debug, thiserror::Error)]
#[error("site {site} did not come to life with that data, so what was live before is live again: {why}")]
struct PutBack {
    site: SiteName,
    why: String,
    unwell: Option<String>,
}

impl Reason for PutBack {
    fn help(&self) -> Option<String> {
        Some(match &self.unwell {
            Some(unwell) => format!("it is not well with that either: {unwell}"),
            None => "nothing was changed; `sovereign archive list` names other snapshots".to_owned(),
        })
    }
}

/// A swap that could not be brought to its end.
#[derive(Debug, thiserror::Error)]
#[error("the restore of site {site} is not at its end: {why}")]
struct Unfinished {
    site: SiteName,
    why: String,
    help: Option<String>,
}

impl Reason for Unfinished {
    fn help(&self) -> Option<String> {
        let again = format!("`sovereign restore {}` or `sovereign up` goes on from here", self.site);
        Some(self.help.as_ref().map_or(again.clone(), |help| format!("{help}; then {again}")))
    }
}

/// `restore` without `--to`.
///
/// # Errors
/// When it is refused, or did not come to life; then what was live before is live.
pub(super) fn run(context: &Context, declared: &Declared, args: &RestoreArgs) -> Result<Answer, Failure> {
    let Subject::Site(name) = &args.of else { return Err(NotInPlace::NoSite { of: args.of.clone() }.into()) };
    let site = find(&declared.stack, Some(name))?.clone();
    match site.app {
        App::Ghost if site.host(&declared.stack).is_some() => return Err(NotInPlace::OnHost { name: site.name }.into()),
        App::Ghost => {}
        App::Static { .. } => return Err(NotInPlace::Static { name: site.name }.into()),
        App::Upstream { .. } => return Err(NotInPlace::Upstream { name: site.name }.into()),
    }
    hosts::data_is_here(&declared.stack, &site, "replaced")?;
    sovereign_engine::state::read(&declared.state)?;
    let began = Instant::now();
    let _lock = secrets::lock(&declared.state, "restore")?;
    let deployment = Deployment::new(declared.clone())?;
    let keys = secrets::open(context, &declared.stack, &declared.state)?;
    let _lease = lease::take(context, declared, &deployment.reach, "restore", &args.lease, args.yes)?;
    let folder = Folder::of(&declared.state, &site);
    let progress = context.output.progress();
    let place = InPlaceOf { context, declared, deployment, keys, site, folder, progress, began };
    let pending = place.folder.pending()?;
    Ok(match pending {
        Some(intent) => place.swap(intent, Facts { resumed: true, ..Facts::default() })?.into(),
        None if args.discard => place.discard(args)?.into(),
        None if args.undo => place.undo(args)?.into(),
        None => place.restore(args)?.into(),
    })
}

/// What is known of the data before it takes the place.
#[derive(Debug, Default)]
struct Facts {
    resumed: bool,
    files: u64,
    bytes: u64,
    lost: Option<u64>,
    backed_up: Option<String>,
    examined: Option<String>,
    remarks: Vec<String>,
}

/// What was removed.
#[derive(Debug, Serialize)]
struct Discarded {
    site: SiteName,
    removed: Vec<PathBuf>,
}

impl Report for Discarded {
    fn show(&self, page: &mut Page) {
        if self.removed.is_empty() {
            page.line(format_args!("nothing is kept that restores of site {} have replaced", self.site));
        }
        for removed in &self.removed {
            page.line(format_args!("removed {}", removed.display()));
        }
    }
}

/// A site whose data is about to be replaced. The stack is locked.
struct InPlaceOf<'a> {
    context: &'a Context,
    declared: &'a Declared,
    deployment: Deployment,
    keys: WorkingKeys,
    site: Site,
    folder: Folder,
    progress: Progress,
    began: Instant,
}

impl InPlaceOf<'_> {
    fn restore(&self, args: &RestoreArgs) -> Result<InPlace, Failure> {
        let Self { context, declared, site, folder, progress, .. } = self;
        let subject = Subject::Site(site.name.clone());
        let archive = backup::open_from(context, declared, args.from_copy.as_ref())?;
        let (snapshot, remarks) = choose(declared, &archive, &subject, args.snapshot.as_deref())?;
        let contents = archive.contents(&snapshot)?;
        let ghost = Ghost::of(context, declared, site)?;
        let lost = self.lost(&contents, &snapshot);
        self.ask(args, &snapshot, lost)?;
        let mut facts = Facts { lost, remarks, ..Facts::default() };
        if !args.no_backup {
            match &args.from_copy {
                None => self.back_up(&archive, &mut facts)?,
                // It may be the reason why a copy is taken. What is live is still kept beside.
                Some(_) => match backup::open(context, declared) {
                    Ok(own) => self.back_up(&own, &mut facts)?,
                    Err(failure) => {
                        let why = failure.chain().join(": ");
                        facts.remarks.push(format!("what was live before could not be backed up: {why}"));
                    }
                },
            }
        }
        let stage = progress.stage(format!("restore {subject}"));
        let Staged { files, bytes } = restore::restore(&contents, snapshot.short(), folder, &stage)?;
        stage.finish();
        let stage = progress.stage("look into the database");
        let examined = restore::check(&ghost, folder)?;
        stage.finish();
        let origin = Origin::Snapshot { id: snapshot.id, taken_unix: snapshot.taken_unix };
        let number = folder.kept()?.last().map_or(1, |newest| newest + 1);
        let intent = Intent::new(origin, number, folder.changes(&folder.staged())?);
        self.swap(intent, Facts { files, bytes, examined: Some(examined), ..facts })
    }

    /// How long after what the snapshot has the live data was written last, in seconds; `None`: it was not.
    fn lost(&self, contents: &Contents, snapshot: &Snapshot) -> Option<u64> {
        let database = sovereign_services::ghost::data::database(&self.site_folder());
        let written = ["", "-wal", "-journal"].iter().filter_map(|end| {
            let mut path = database.clone().into_os_string();
            path.push(end);
            PathBuf::from(path).symlink_metadata().ok().map(|metadata| (metadata.mtime(), metadata.mtime_nsec()))
        });
        let copied = TreePath::parse(DATABASE.as_bytes()).ok().and_then(|path| contents.manifest().get(&path));
        let copied = copied
            .map_or((snapshot.taken_unix, 0), |entry| (entry.modified.seconds, i64::from(entry.modified.nanoseconds)));
        let written = written.max().filter(|written| *written > copied)?;
        u64::try_from(written.0 - copied.0).ok().map(|seconds| seconds.max(1))
    }

    fn site_folder(&self) -> PathBuf {
        self.declared.state.site(&self.site.primary, &self.site.name).path().to_owned()
    }

    fn ask(&self, args: &RestoreArgs, snapshot: &Snapshot, lost: Option<u64>) -> Result<(), Failure> {
        let (name, short) = (&self.site.name, snapshot.short());
        let taken = u64::try_from(snapshot.taken_unix).unwrap_or_default();
        let ago = figures::seconds(unix_seconds(SystemTime::now()).saturating_sub(taken));
        let mut question = format!("Replace all data of site {name} by snapshot {short}, taken {ago} ago?");
        if let Some(lost) = lost.map(figures::seconds) {
            if args.yes && !args.accept_loss {
                return Err(NotInPlace::Older { name: name.clone(), snapshot: short.to_owned(), lost }.into());
            }
            question.push_str(&format!(" What was written in the {lost} after it is gone from the site then."));
        }
        self.context.output.confirm(&question, args.yes)
    }

    /// What is live goes into the archive first, if it can be read. If not, it is still kept beside.
    fn back_up(&self, archive: &Archive, facts: &mut Facts) -> Result<(), Failure> {
        let Self { context, declared, site, folder, progress, .. } = self;
        if folder.live(Part::Data).symlink_metadata().is_err() {
            return Ok(()); // there is nothing
        }
        let saved = interrupt::blocking(&context.output, |stop| {
            match (Run { context, declared, archive, progress, stop }).site(site) {
                Err(failure) if stop.is_cancelled() => Err(failure),
                saved => Ok(saved),
            }
        })?;
        let why = match saved {
            Ok(Some(Backed { taken, proof: Ok(_) })) => {
                facts.backed_up = Some(taken.snapshot.id);
                return Ok(());
            }
            Ok(Some(Backed { taken, proof: Err(failure) })) => {
                let why = failure.chain().join(": ");
                format!("snapshot {} of what was live before could not be proven: {why}", taken.snapshot.short())
            }
            Ok(None) => return Ok(()),
            Err(failure) => format!("what was live before could not be backed up: {}", failure.chain().join(": ")),
        };
        facts.remarks.push(why);
        Ok(())
    }

    fn undo(&self, args: &RestoreArgs) -> Result<InPlace, Failure> {
        let (name, kept) = (self.site.name.clone(), self.folder.kept()?);
        let Some(number) = kept.last().copied() else { return Err(NotInPlace::NothingKept { name }.into()) };
        let question = format!("Replace all data of site {name} by what it was before the last restore?");
        self.context.output.confirm(&question, args.yes)?;
        // A backup that runs would read some of both. Where there is no archive, none runs.
        let _archive = match backup::open(self.context, self.declared) {
            Err(failure) if failure.is_busy() => return Err(failure),
            opened => opened.ok(),
        };
        self.folder.begin()?;
        let changes = self.folder.changes(&self.folder.before(number))?;
        self.swap(Intent::new(Origin::Before { number }, number + 1, changes), Facts::default())
    }

    fn discard(&self, args: &RestoreArgs) -> Result<Discarded, Failure> {
        let kept = self.folder.kept()?;
        if !kept.is_empty() {
            let (site, kept) = (&self.site.name, figures::count(kept.len() as u64, "generation", "generations"));
            let question = format!("Remove {kept} of site {site}'s data, which restores have replaced, for good?");
            self.context.output.confirm(&question, args.yes)?;
        }
        let remove = |number: &u32| self.folder.remove_before(*number).map(|()| self.folder.before(*number));
        let removed = kept.iter().map(remove).collect::<Result<_, _>>()?;
        Ok(Discarded { site: self.site.name.clone(), removed })
    }

    fn swap(&self, intent: Intent, facts: Facts) -> Result<InPlace, Failure> {
        let Self { context, deployment, keys, site, folder, progress, .. } = self;
        let (origin, number) = (intent.origin.clone(), intent.number);
        // An interruption is not heeded: what is begun here is short, and is finished or undone.
        let (ended, seen, behind) = interrupt::run(&context.output, |_| async move {
            let live = Live::of(deployment, keys, site, folder, progress)?;
            let ended = carry_out(&live, intent).await.map_err(|failure| Unfinished {
                site: site.name.clone(),
                why: failure.chain().join(": "),
                help: failure.help(),
            })?;
            let seen = live.seen();
            let mut behind = seen.edges.untold.clone();
            if seen.runs {
                let stage = progress.stage("see that every edge shows it");
                behind.extend(restore::settle(&deployment.state, site, &seen.edges.told, &stage).await);
                stage.finish();
            }
            Ok((ended, seen, behind))
        })?;
        if let Ended::Back { why, unwell } = ended {
            return Err(PutBack { site: site.name.clone(), why, unwell }.into());
        }
        let (snapshot, taken_unix, undone) = match origin {
            Origin::Snapshot { id, taken_unix } => (Some(id), Some(taken_unix), None),
            Origin::Before { number } => (None, None, Some(number)),
        };
        let Seen { runs, edges } = seen;
        Ok(InPlace {
            site: site.name.clone(),
            datacenter: site.primary.clone(),
            snapshot,
            taken_unix,
            undone,
            resumed: facts.resumed,
            files: facts.files,
            bytes: facts.bytes,
            lost_seconds: facts.lost,
            backed_up: facts.backed_up,
            examined: facts.examined,
            kept: folder.before(number),
            runs,
            shown: if runs {
                edges.told.into_iter().filter(|at| !behind.contains_key(at)).collect()
            } else {
                Vec::new()
            },
            behind,
            remarks: facts.remarks,
            stages: progress.times(),
            seconds: self.began.elapsed().as_secs_f64(),
            now_unix: unix_seconds(SystemTime::now()),
        })
    }
}
