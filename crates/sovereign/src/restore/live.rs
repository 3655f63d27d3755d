//! The running site as a swap sees it: its folders, its application, its edges.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use sovereign_engine::apply::{Caller, Engine as _, apply};
use sovereign_engine::journal::Journal;
use sovereign_keys::WorkingKeys;
use sovereign_model::stack::Site;
use sovereign_model::{Step, UnitName};
use sovereign_plan::{Plan, Planned};
use tokio_util::sync::CancellationToken;

use super::edges::{self, Told};
use super::folder::Folder;
use super::swap::{Intent, Move, Origin, World};
use crate::deployment::Deployment;
use crate::failure::{Failure, Reason};
use crate::output::Progress;
use crate::verify::{ProbeError, Prober};

/// A Ghost that has to bring a database of an older version up to date takes minutes for a large one.
const BOOT_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// An application that is well answers its edge at once; an edge that found it away asks again after two seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// What an edge keeps no copy of, so that the answer is the application's own.
const LIVE_PATH: &str = "/ghost/api/admin/site/";

/// What became of it while it was swapped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Whether its application runs, and did as it was asked.
    pub(crate) runs: bool,
    /// Whom the news was told.
    pub(crate) edges: Told,
}

/// A site that runs, or does not.
pub(crate) struct Live<'a> {
    deployment: &'a Deployment,
    keys: &'a WorkingKeys,
    site: &'a Site,
    folder: &'a Folder,
    unit: UnitName,
    progress: &'a Progress,
    seen: RefCell<Seen>,
}

impl<'a> Live<'a> {
    /// The `site` of a stack.
    ///
    /// # Errors
    /// When its name makes no unit's name.
    pub(crate) fn of(
        deployment: &'a Deployment,
        keys: &'a WorkingKeys,
        site: &'a Site,
        folder: &'a Folder,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let unit = UnitName::at(&format!("ghost-{}", site.name), &site.primary)?;
        Ok(Self { deployment, keys, site, folder, unit, progress, seen: RefCell::default() })
    }

    /// What was seen of it.
    pub(crate) fn seen(self) -> Seen {
        self.seen.into_inner()
    }

    /// The database is another: what was set up in it after it was copied is set up again.
    async fn set_up(&self) -> Result<(), Failure> {
        let joined = self.deployment.joined(self.keys)?;
        let engine = self.deployment.engine(self.keys, &joined, self.progress);
        let plan = sovereign_plan::plan(&joined.wanted, &engine.observe().await?);
        let is_ours = |planned: &Planned| match &planned.step {
            Step::SetUpSite { site, .. } | Step::ApplySettings { site, .. } => *site == self.site.name,
            _ => false,
        };
        let steps: Vec<_> = plan.steps.iter().filter(|planned| is_ours(planned)).cloned().collect();
        if steps.is_empty() {
            return Ok(());
        }
        let journal = Journal::at(self.deployment.state.journal());
        let caller = Caller { command: "restore", version: env!("CARGO_PKG_VERSION") };
        apply(&engine, &Plan { steps, ..plan }, &journal, caller, &(), &CancellationToken::new()).await?;
        Ok(())
    }

    /// Asks it from outside, through its edge. Nobody is asked where no edge runs, or one whose certificate is another
    /// than we expect: neither says anything of the data.
    async fn ask(&self) -> Result<(), Failure> {
        let prober = Prober::trusting(self.keys.ca()?.pem().as_bytes())?;
        let address = self.deployment.stack.datacenters[&self.site.primary].loopback();
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            let refused = match prober.get(address, &self.site.canonical, LIVE_PATH, ANSWER_PATIENCE).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Err(ProbeError::Connect { .. } | ProbeError::Handshake { .. }) => return Ok(()),
                Ok(answer) => Failure::from(NotServed { status: answer.status }),
                Err(error) => error.into(),
            };
            if Instant::now() > deadline {
                return Err(refused);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// It says that it is well, and does not answer readers.
#[derive(Debug, thiserror::Error)]
#[error("{LIVE_PATH} is answered with {status}")]
struct NotServed {
    status: u16,
}

impl Reason for NotServed {}

impl World for Live<'_> {
    async fn keep(&self, intent: &Intent) -> Result<(), Failure> {
        Ok(self.folder.keep(intent)?)
    }

    async fn prepare(&self, intent: &Intent) -> Result<(), Failure> {
        match intent.origin {
            Origin::Before { number } => Ok(self.folder.take_out(number)?),
            Origin::Snapshot { .. } => Ok(()),
        }
    }

    fn next(&self, intent: &Intent) -> Result<Option<Move>, Failure> {
        Ok(self.folder.next(intent)?)
    }

    async fn stop(&self) -> Result<(), Failure> {
        let stage = self.progress.stage(format!("stop {}", self.unit));
        let joined = self.deployment.joined(self.keys)?;
        self.deployment.engine(self.keys, &joined, self.progress).here.halt(&self.unit).await?;
        stage.finish();
        Ok(())
    }

    async fn rename(&self, intent: &Intent, step: Move) -> Result<(), Failure> {
        Ok(self.folder.rename(intent, step)?)
    }

    async fn revive(&self) -> Result<(), Failure> {
        let stage = self.progress.stage(format!("start {} and ask it", self.unit));
        let joined = self.deployment.joined(self.keys)?;
        let engine = self.deployment.engine(self.keys, &joined, self.progress);
        let runs = engine.here.revive(&self.unit, BOOT_PATIENCE).await?;
        if runs {
            self.set_up().await?;
            self.ask().await?;
        }
        self.seen.borrow_mut().runs = runs;
        stage.finish();
        Ok(())
    }

    async fn tell(&self) {
        let told = edges::tell(&self.deployment.state, self.site).await;
        self.seen.borrow_mut().edges = told;
    }

    async fn forget(&self, intent: &Intent) -> Result<(), Failure> {
        if let (Some(_), Origin::Before { number }) = (&intent.back, &intent.origin) {
            self.folder.put_away(*number)?;
        }
        self.folder.forget()?;
        Ok(self.folder.remove_staged()?)
    }
}
