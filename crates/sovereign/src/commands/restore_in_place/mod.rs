//! `sovereign restore` into the running site, and back.

mod report;

use std::time::{Instant, SystemTime};

use sovereign_archive::{Archive, Contents, Snapshot, Subject};
use sovereign_engine::incus::lease::Lease;
use sovereign_model::stack::{App, Site};
use sovereign_model::{EdgeName, SiteName};

use self::report::{Discarded, InPlace, PutBack, Unfinished};
use super::restore::choose;
use super::site::find;
use crate::backup::{self, Backed, Run};
use crate::cli::RestoreArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::lease;
use crate::output::{Answer, Progress, figures};
use crate::primaries::Primaries;
use crate::restore::swap::{Change, Ended, Intent, Origin, Part};
use crate::restore::{self, Ground, Seen, Since, Staged};
use crate::secrets;
use crate::world::unix_seconds;

/// It cannot be restored in place.
#[derive(Debug, thiserror::Error)]
enum NotInPlace {
    #[error("site {name} is a folder of yours: it is not replaced under the edge that reads it")]
    Static { name: SiteName },
    #[error("site {name} is a service of yours: only your own `load` can replace its data")]
    Upstream { name: SiteName },
    #[error("{of} is not replaced under a stack that runs")]
    NoSite { of: Subject },
    #[error("no restore of site {name} has replaced anything that is still kept")]
    NothingKept { name: SiteName },
    #[error("what was written into site {name} in the {lost} after snapshot {snapshot} would be gone from it")]
    Older { name: SiteName, snapshot: String, lost: String },
    #[error("the data of site {name} is at {found}, which answers")]
    Elsewhere { name: SiteName, found: EdgeName },
    #[error("what was written into site {name} at {found} after snapshot {snapshot} would be lost: {why}")]
    Unreached { name: SiteName, found: EdgeName, snapshot: String, why: String },
}

impl Reason for NotInPlace {
    fn exit(&self) -> Exit {
        match self {
            Self::Static { .. } | Self::Upstream { .. } | Self::NoSite { .. } => Exit::Usage,
            Self::NothingKept { .. } | Self::Older { .. } | Self::Elsewhere { .. } | Self::Unreached { .. } => {
                Exit::Failed
            }
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
            Self::NoSite { .. } => {
                "`--to FOLDER` restores it beside; `sovereign recover` brings it back on an empty machine".to_owned()
            }
            Self::NothingKept { name } => format!("`sovereign restore {name}` restores from the archive"),
            Self::Elsewhere { found, .. } => format!(
                "two places that are both written to cannot be made one again: write `primary = \"{}\"`, or take its \
                 host out first",
                found.datacenter
            ),
            Self::Unreached { .. } => "wait until it is back, or say with `--accept-loss` that it is lost".to_owned(),
            Self::Older { .. } => {
                "`--accept-loss` with `--yes` says that it may; it is kept beside, and `--undo` brings it back"
                    .to_owned()
            }
        })
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
        App::Ghost => {}
        App::Static { .. } => return Err(NotInPlace::Static { name: site.name }.into()),
        App::Upstream { .. } => return Err(NotInPlace::Upstream { name: site.name }.into()),
    }
    sovereign_engine::state::read(&declared.state)?;
    let began = Instant::now();
    let _lock = secrets::lock(&declared.state, "restore")?;
    // It gets its data before anybody is led to it.
    let deployment = Deployment::new(declared.clone())?.beginning_empty([site.name.clone()]);
    let keys = secrets::open(context, &declared.stack, &declared.state)?;
    let lease = lease::take(context, declared, &deployment.reach, "restore", &args.lease, args.yes)?;
    let progress = context.output.progress();
    let (deployment, keys, site, progress) = (&deployment, &keys, &site, &progress);
    let ground = Ground::of(context, declared, deployment, keys, site, progress);
    let place = InPlaceOf { context, declared, deployment, lease, site, ground, progress, began };
    let pending = place.ground.folder.pending()?;
    if pending.is_none() && args.undo {
        restore::must_be_whole(&declared.state, site)?;
    }
    if pending.is_some() || args.discard || args.undo {
        place.on_ground(async |ground| ground.must_be_there().await)?;
    }
    Ok(match pending {
        Some(intent) => place.swap(intent, Facts { resumed: true, ..Facts::default() })?.into(),
        None if args.discard => place.discard(args)?.into(),
        None if args.undo => place.undo(args)?.into(),
        None => place.restore(args)?.into(),
    })
}

/// What happens to each part.
type Changes = std::collections::BTreeMap<Part, Change>;

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

/// A site whose data is about to be replaced. The stack is locked.
struct InPlaceOf<'a> {
    context: &'a Context,
    declared: &'a Declared,
    deployment: &'a Deployment,
    lease: Lease,
    site: &'a Site,
    ground: Ground<'a>,
    progress: &'a Progress,
    began: Instant,
}

impl<'a> InPlaceOf<'a> {
    fn restore(&self, args: &RestoreArgs) -> Result<InPlace, Failure> {
        let Self { context, declared, site, ground, .. } = self;
        let subject = Subject::Site(site.name.clone());
        let archive = backup::open_from(context, declared, args.from_copy.as_ref())?;
        let (snapshot, remarks) = choose(declared, &archive, &subject, args.snapshot.as_deref())?;
        let contents = archive.contents(&snapshot)?;
        let mut facts = Facts { remarks, ..Facts::default() };
        if !self.on_ground(async |ground| ground.is_there().await)? {
            return self.anew(args, &contents, snapshot, facts);
        }
        facts.lost = match self.on_ground(async |ground| Ok(ground.since(&contents, &snapshot).await))? {
            Since::Nothing => None,
            Since::Written(seconds) => Some(seconds),
            Since::Unknown(why) => {
                facts.remarks.push(format!("whether it was written into after the snapshot is not known: {why}"));
                None
            }
        };
        self.ask(args, &snapshot, facts.lost)?;
        if !args.no_backup && ground.has_data() {
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
        let (staged, examined, changes, number) = self.stage(&contents, &snapshot)?;
        let origin = Origin::Snapshot { id: snapshot.id, taken_unix: snapshot.taken_unix };
        let Staged { files, bytes } = staged;
        self.swap(Intent::new(origin, number, changes), Facts { files, bytes, examined: Some(examined), ..facts })
    }

    /// Brings a site to where it is declared and does not run, after what it was at is lost. Readers are led to it when it
    /// has its data.
    fn anew(
        &self,
        args: &RestoreArgs,
        contents: &Contents,
        snapshot: Snapshot,
        facts: Facts,
    ) -> Result<InPlace, Failure> {
        let (name, short) = (&self.site.name, snapshot.short().to_owned());
        let at = self.site.place(&self.deployment.stack);
        let mut question = format!("Bring site {name} to {at}, with the data of snapshot {short}?");
        let seen = self.on_ground(async |ground| ground.observe().await)?;
        match self.ground.elsewhere(&seen) {
            None => {}
            Some((found, None)) => return Err(NotInPlace::Elsewhere { name: name.clone(), found }.into()),
            Some((found, Some(why))) if args.yes && !args.accept_loss => {
                return Err(NotInPlace::Unreached { name: name.clone(), found, snapshot: short, why }.into());
            }
            Some((found, Some(_))) => {
                question
                    .push_str(&format!(" What was written after it at {found}, which does not answer, is lost then."));
            }
        }
        self.context.output.confirm(&question, args.yes)?;
        // Also where nothing is known of another place: another machine may know one.
        Primaries::raise(&self.declared.state, self.site, &seen)?;
        interrupt::run(&self.context.output, |stop| lease::under(&self.lease, self.ground.bring_up(stop)))?;
        let (Staged { files, bytes }, examined, changes, number) = self.stage(contents, &snapshot)?;
        let origin = Origin::Snapshot { id: snapshot.id, taken_unix: snapshot.taken_unix };
        let mut facts = Facts { files, bytes, examined: Some(examined), ..facts };
        facts.remarks.push("`sovereign up` does what is left: mirrors, and what else the stack file says".to_owned());
        // What it replaces is nothing, or what was left there of long ago: it is kept in either case.
        self.swap(Intent::new(origin, number, changes), facts)
    }

    /// Nothing live is touched by this, and it can be interrupted.
    fn stage(&self, contents: &Contents, snapshot: &Snapshot) -> Result<(Staged, String, Changes, u32), Failure> {
        let (ground, lease) = (&self.ground, &self.lease);
        interrupt::run(&self.context.output, |stop| {
            lease::under(lease, async move {
                let staged = async {
                    let (staged, examined) = ground.stage(contents, snapshot.short()).await?;
                    let changes = ground.changes(&ground.folder.staged()).await?;
                    Ok((staged, examined, changes, ground.next_number().await?))
                };
                let outcome = tokio::select! {
                    staged = staged => staged,
                    () = stop.cancelled() => Err(Stopped.into()),
                };
                if outcome.is_err() {
                    // It is of no use, and takes room; what cannot be removed now is removed by the next run.
                    let _ = ground.clear().await;
                    let _ = ground.folder.remove_staged();
                }
                outcome
            })
        })
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
        let Self { context, declared, site, progress, .. } = self;
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
        let Self { ground, site, .. } = self;
        let (name, kept) = (site.name.clone(), ground.folder.kept()?);
        let Some(number) = kept.last().copied() else { return Err(NotInPlace::NothingKept { name }.into()) };
        let question = format!("Replace all data of site {name} by what it was before the last restore?");
        self.context.output.confirm(&question, args.yes)?;
        // A backup that runs would read some of both. Where there is no archive, none runs.
        let _archive = match backup::open(self.context, self.declared) {
            Err(failure) if failure.is_busy() => return Err(failure),
            opened => opened.ok(),
        };
        let (changes, next) = self.on_ground(async |ground| {
            if !ground.begin(number).await? {
                return Err(NotInPlace::NothingKept { name }.into());
            }
            Ok((ground.changes(&ground.folder.before(number)).await?, ground.next_number().await?))
        })?;
        self.swap(Intent::new(Origin::Before { number }, next, changes), Facts::default())
    }

    fn discard(&self, args: &RestoreArgs) -> Result<Discarded, Failure> {
        let Self { ground, site, .. } = self;
        let kept = ground.folder.kept()?;
        if !kept.is_empty() {
            let (site, kept) = (&site.name, figures::count(kept.len() as u64, "generation", "generations"));
            let question = format!("Remove {kept} of site {site}'s data, which restores have replaced, for good?");
            self.context.output.confirm(&question, args.yes)?;
        }
        self.on_ground(async |ground| {
            for number in &kept {
                ground.discard(*number).await?;
            }
            Ok(())
        })?;
        let removed = kept.into_iter().map(|number| ground.kept_in(number)).collect();
        Ok(Discarded { site: site.name.clone(), removed })
    }

    fn swap(&self, intent: Intent, facts: Facts) -> Result<InPlace, Failure> {
        let Self { deployment, site, ground, progress, .. } = self;
        let (origin, number) = (intent.origin.clone(), intent.number);
        // An interruption is not heeded: what is begun here is short, and is finished or undone.
        let (ended, seen, behind) = self.on_ground(async |ground| {
            let (ended, seen) = ground.swap(intent).await.map_err(|failure| Unfinished {
                site: site.name.clone(),
                why: failure.chain().join(": "),
                help: failure.help(),
            })?;
            let mut behind = seen.edges.untold.clone();
            if seen.runs {
                let stage = progress.stage("see that every edge shows it");
                behind.extend(restore::settle(deployment, site, &seen.edges.told, &stage).await);
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
        let shown = if runs { edges.told } else { Vec::new() };
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
            kept: ground.kept_in(number),
            runs,
            shown: shown.into_iter().filter(|at| !behind.contains_key(at)).collect(),
            behind,
            remarks: facts.remarks,
            stages: progress.times(),
            seconds: self.began.elapsed().as_secs_f64(),
            now_unix: unix_seconds(SystemTime::now()),
        })
    }

    /// Does something with the data, for as long as nobody else works on its host.
    fn on_ground<T>(&self, act: impl AsyncFnOnce(&Ground<'a>) -> Result<T, Failure>) -> Result<T, Failure> {
        interrupt::run(&self.context.output, |_| lease::under(&self.lease, act(&self.ground)))
    }
}

/// The operator has stopped it.
#[derive(Debug, thiserror::Error)]
#[error("the restore was stopped before anything was changed")]
struct Stopped;

impl Reason for Stopped {}
