//! A Ghost's data on its way from this machine to an instance on a host.
//!
//! ```text
//!  old Ghost serves ──────────────────┤ stopped                                             ├ forgotten
//!       uploads, most of them ────────▶ the rest ─▶ database ─▶ set-up ─▶ edge ─▶ asked ─▶ the record says: there
//!                                        │ anything fails                                   │
//!                                        └─▶ old Ghost is started again                     └─▶ `up` does what is left
//! ```
//!
//! Promises: nothing of the old data is changed or removed; where the data is changes in one moment, by one rename, after
//! the new place has served; whatever is killed before that is begun anew by the next run, which takes everything over
//! again. Old Ghost's folder is read by its own user, confined: links in it lead nowhere.
//!
//! Left out: whether it may move (the command asks), and what follows once the data is there.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sovereign_engine::apply::{Caller, Engine as _, apply};
use sovereign_engine::incus::Newcomer;
use sovereign_engine::journal::Journal;
use sovereign_keys::WorkingKeys;
use sovereign_model::stack::{AdminReach, Site};
use sovereign_model::{DatacenterName, EdgeName, SiteName, UnitName};
use sovereign_plan::{Moving, Obstacle, Plan, moving};
use sovereign_services::ghost::Taken;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::backup::{Ghost, Scratch};
use crate::certificates::trust;
use crate::commands::up::{Told, is_served};
use crate::datacenters::Matter;
use crate::deployment::{Deployment, Joined};
use crate::engines::Engines;
use crate::failure::{Failure, Reason};
use crate::output::Progress;
use crate::restore;

/// A large database is not opened at once.
const BOOT_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// An edge that has just been started, or found its application away a moment ago, asks again soon.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// What an edge keeps no copy of, so that the answer is the application's own.
const LIVE_PATH: &str = "/ghost/api/admin/site/";

/// It does not move.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MovingError {
    /// The host cannot be worked on.
    #[error("host {place} does not answer: {why}")]
    Away {
        /// Which.
        place: EdgeName,
        /// Why.
        why: String,
    },
    /// Other sites' data.
    #[error("something else stands in the way: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Obstructed(Vec<Obstacle>),
    /// There is no instance where one was just made.
    #[error("no Ghost of site {site} runs at {place}")]
    NoNewcomer {
        /// The site.
        site: SiteName,
        /// Where.
        place: EdgeName,
    },
    /// The edge of the new place does not have all pages.
    #[error("{place} does not show all of it: {why}")]
    NotShown {
        /// Which.
        place: EdgeName,
        /// Why.
        why: String,
    },
    /// The new place does not serve.
    #[error("{url} at {place} is answered with {status}")]
    NotServed {
        /// What was asked for.
        url: String,
        /// Whom.
        place: EdgeName,
        /// The answer.
        status: u16,
    },
    /// What cannot be where it should.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whether the new place serves cannot be seen while its edges leave the application alone.
    #[error("applications of {datacenter} are being worked on, so whether the site serves there could not be seen")]
    WorkedOn {
        /// Where.
        datacenter: DatacenterName,
    },
    /// The operator stopped it.
    #[error("the move was stopped")]
    Stopped,
}

impl Reason for MovingError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Away { place, .. } => Some(format!("`sovereign host check {place}` says more")),
            Self::Obstructed(obstacles) => obstacles.iter().find_map(Obstacle::help),
            Self::NotServed { place, .. } | Self::NotShown { place, .. } => {
                Some(format!("`sovereign logs {}` may say why", place.unit()))
            }
            Self::WorkedOn { datacenter } => Some(format!("`sovereign dc maintenance off {datacenter}` ends that")),
            Self::NoNewcomer { .. } | Self::Stopped => Some("run the command again".to_owned()),
            Self::File { .. } => None,
        }
    }
}

/// Before the data was at the new place, something failed.
#[derive(Debug, thiserror::Error)]
#[error("site {site} has not moved: {why}")]
pub(crate) struct NotMoved {
    site: SiteName,
    why: String,
    help: Option<String>,
    /// Why it does not run where it was, if it does not.
    unwell: Option<String>,
}

impl Reason for NotMoved {
    fn help(&self) -> Option<String> {
        let site = &self.site;
        let state = match &self.unwell {
            None => format!("it runs where it was, and `sovereign site move {site}` begins anew"),
            Some(unwell) => format!("it is not well where it was either: {unwell}; its data is untouched"),
        };
        Some(self.help.as_ref().map_or(state.clone(), |help| format!("{help}; {state}")))
    }
}

/// A place on a host where a site is to be, and is not yet. The stack is locked.
pub(crate) struct NewPlace<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) keys: &'a WorkingKeys,
    /// As it is declared.
    pub(crate) site: &'a Site,
    /// Where that is.
    pub(crate) place: EdgeName,
    /// On whose behalf, for the journal.
    pub(crate) command: &'static str,
    pub(crate) progress: &'a Progress,
    pub(crate) stop: CancellationToken,
}

impl NewPlace<'_> {
    /// Brings up what is needed at the new place, empty, where it is not there yet.
    pub(crate) async fn bring_up(&self) -> Result<Newcomer, Failure> {
        if self.deployment.decided()?.decided(Matter::Maintained).contains_key(&self.site.primary) {
            return Err(MovingError::WorkedOn { datacenter: self.site.primary.clone() }.into());
        }
        let mut joined = self.deployment.joined(self.keys)?;
        // A run that was cut off may have left it paused.
        if let Some(newcomer) = self.engines(&joined).hosts.newcomer(self.site).await? {
            let _ = newcomer.resume().await;
        }
        let images = self.parts(&joined).await?.images;
        if !images.steps.is_empty() {
            self.carry_out(&joined, &images).await?;
            joined = self.deployment.joined(self.keys)?;
        }
        let applications = self.parts(&joined).await?.applications;
        self.carry_out(&joined, &applications).await?;
        let newcomer = self.engines(&joined).hosts.newcomer(self.site).await?;
        let (site, place) = (self.site.name.clone(), self.place.clone());
        Ok(newcomer.ok_or(MovingError::NoNewcomer { site, place })?)
    }

    /// What is to be done at the new place now.
    pub(crate) async fn parts(&self, joined: &Joined) -> Result<Moving, Failure> {
        let seen = self.engines(joined).observe().await?;
        if let Some(why) = seen.away.get(&self.place).or_else(|| seen.evacuated.get(&self.place)) {
            return Err(MovingError::Away { place: self.place.clone(), why: why.clone() }.into());
        }
        let (site, place) = (self.site.name.clone(), self.place.clone());
        let parts = moving(&joined.wanted, &seen, &self.site.name).ok_or(MovingError::NoNewcomer { site, place })?;
        match &parts.applications.obstacles[..] {
            [] => Ok(parts),
            obstacles => Err(MovingError::Obstructed(obstacles.to_vec()).into()),
        }
    }

    pub(crate) async fn carry_out(&self, joined: &Joined, plan: &Plan) -> Result<(), Failure> {
        if plan.steps.is_empty() {
            return Ok(());
        }
        let journal = Journal::at(self.deployment.state.journal());
        let caller = Caller { command: self.command, version: env!("CARGO_PKG_VERSION") };
        apply(&self.engines(joined), plan, &journal, caller, &Told::new(self.progress), &self.stop).await?;
        Ok(())
    }

    pub(crate) fn engines<'d>(&'d self, joined: &'d Joined) -> Engines<'d> {
        self.deployment.engine(self.keys, joined, self.progress)
    }
}

/// A site that moves. The stack is locked.
pub(crate) struct Mover<'a> {
    /// Where it moves to.
    pub(crate) to: NewPlace<'a>,
    /// As it was declared where its data is.
    pub(crate) old: &'a Site,
    /// Its data.
    pub(crate) ghost: Ghost<'a>,
}

impl Mover<'_> {
    /// Moves it, after `first`. When this is done the record says that the data is at the new place.
    ///
    /// # Errors
    /// When it did not move; then the old Ghost runs, also when an earlier run that was killed had stopped it.
    pub(crate) async fn run<T>(&self, first: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Taken), Failure> {
        let moved = async {
            let first = block_in_place(first)?;
            let scratch = Scratch::named(&self.to.deployment.state, "moving")?;
            let newcomer = self.to.bring_up().await?;
            // Thousands of pictures: most of them go over while the site is written and read as ever.
            self.content("copy what people uploaded", &newcomer, &scratch).await?;
            Ok((first, self.switch(&newcomer, &scratch).await?))
        };
        match moved.await {
            Ok(moved) => Ok(moved),
            Err(failure) => Err(self.back(&failure).await.into()),
        }
    }

    /// The short part: from here on nobody writes at the old place.
    async fn switch(&self, newcomer: &Newcomer, scratch: &Scratch) -> Result<Taken, Failure> {
        let joined = self.to.deployment.joined(self.to.keys)?;
        let unit = self.unit()?;
        let stage = self.to.progress.stage(format!("stop {unit} at {}", self.old.primary));
        self.to.engines(&joined).here.halt(&unit).await?;
        stage.finish();
        newcomer.pause().await?;
        self.content("copy what was uploaded since", newcomer, scratch).await?;
        let stage = self.to.progress.stage("take the database over");
        let database = block_in_place(|| self.ghost.copy_out(scratch))?;
        let taken = newcomer.take_over(&database).await?;
        stage.finish();
        newcomer.resume().await?;
        // It is well again, and then it is set up.
        for part in [|parts: Moving| parts.applications, |parts: Moving| parts.set_up, |parts: Moving| parts.edge] {
            let plan = part(self.to.parts(&joined).await?);
            self.to.carry_out(&joined, &plan).await?;
        }
        // It may have been a mirror, or have kept pages of a run that was cut off.
        let stage = self.to.progress.stage(format!("see that {} shows it", self.to.place));
        let link = self.to.deployment.reach.link(&self.to.place).await?;
        let shown = restore::renew(&link.control, self.to.site, &self.to.place.to_string(), &stage).await;
        shown.map_err(|why| MovingError::NotShown { place: self.to.place.clone(), why })?;
        stage.finish();
        let stage = self.to.progress.stage(format!("ask {} as a reader would", self.to.place));
        self.ask().await?;
        stage.finish();
        if self.to.stop.is_cancelled() {
            return Err(MovingError::Stopped.into());
        }
        self.record()?;
        Ok(taken)
    }

    /// The moment from which on the data is at the new place.
    fn record(&self) -> Result<(), Failure> {
        let (state, at) = (&self.to.deployment.state, EdgeName::here(&self.old.primary));
        let (from, to) = (state.set_up(&at, &self.to.site.name), state.moved_away(&at, &self.to.site.name));
        let failed = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| MovingError::File { action, path, source }
        };
        fs::rename(&from, &to).map_err(failed("rename", &from))?;
        let folder = to.parent().map(PathBuf::from).unwrap_or_default();
        // Renamed it is; that it may not outlast a power cut is found by the next run, which moves it again.
        if let Err(error) = fs::File::open(&folder).and_then(|open| open.sync_all()) {
            tracing::warn!(%error, folder = %folder.display(), "cannot be synced");
        }
        Ok(())
    }

    /// After a failure: everything is as it was.
    async fn back(&self, failure: &Failure) -> NotMoved {
        let unwell = self.revive().await.err().map(|failure| failure.chain().join(": "));
        NotMoved { site: self.to.site.name.clone(), why: failure.chain().join(": "), help: failure.help(), unwell }
    }

    async fn revive(&self) -> Result<(), Failure> {
        let unit = self.unit()?;
        let stage = self.to.progress.stage(format!("start {unit} at {} again", self.old.primary));
        let joined = self.to.deployment.joined(self.to.keys)?;
        let engines = self.to.engines(&joined);
        engines.here.revive(&unit, BOOT_PATIENCE).await?;
        stage.finish();
        // The one at the new place is not needed until the next run begins anew. That it cannot be reached may be why.
        if let Ok(Some(newcomer)) = engines.hosts.newcomer(self.to.site).await {
            let _ = newcomer.pause().await;
        }
        Ok(())
    }

    async fn content(&self, what: &str, newcomer: &Newcomer, scratch: &Scratch) -> Result<(), Failure> {
        let stage = self.to.progress.stage(what);
        let archive = block_in_place(|| self.ghost.pack(scratch))?;
        newcomer.unpack(&archive).await?;
        stage.finish();
        if self.to.stop.is_cancelled() { Err(MovingError::Stopped.into()) } else { Ok(()) }
    }

    /// Asks from outside, through the edge at the new place.
    async fn ask(&self) -> Result<(), Failure> {
        let prober = trust::prober(&self.to.deployment.stack, self.to.keys)?;
        let address = self.to.deployment.stack.datacenters[&self.to.place.datacenter].reached(&self.to.place);
        // Where this machine may not ask it, that its instance is well has said the same.
        let live = Some(LIVE_PATH).filter(|_| self.to.site.admin == AdminReach::Public);
        for path in live.into_iter().chain(["/"]) {
            let deadline = Instant::now() + ANSWER_PATIENCE;
            loop {
                let refused = match prober.get(address, &self.to.site.canonical, path, ANSWER_PATIENCE).await {
                    Ok(answer) if is_served(self.to.site, answer.status) => break,
                    Ok(answer) => Failure::from(MovingError::NotServed {
                        url: format!("{}{path}", self.to.site.canonical),
                        place: self.to.place.clone(),
                        status: answer.status,
                    }),
                    Err(error) => error.into(),
                };
                if Instant::now() > deadline || self.to.stop.is_cancelled() {
                    return Err(refused);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Where old Ghost runs.
    fn unit(&self) -> Result<UnitName, Failure> {
        Ok(UnitName::at(&format!("ghost-{}", self.old.name), &self.old.primary)?)
    }
}
