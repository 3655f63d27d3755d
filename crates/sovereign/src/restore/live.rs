//! The running site on this machine as a swap sees it: its folders, its application, its edges.

use std::cell::RefCell;
use std::time::Duration;

use sovereign_keys::WorkingKeys;
use sovereign_model::UnitName;
use sovereign_model::stack::Site;

use super::alive;
use super::edges::{self, Told};
use super::folder::Folder;
use super::swap::{Intent, Move, Origin, World};
use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::output::Progress;

/// A Ghost that has to bring a database of an older version up to date takes minutes for a large one.
const BOOT_PATIENCE: Duration = Duration::from_secs(5 * 60);

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
}

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

    async fn next(&self, intent: &Intent) -> Result<Option<Move>, Failure> {
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
            alive::set_up(self.deployment, self.keys, self.site, self.progress).await?;
            alive::ask(self.deployment, self.keys, self.site).await?;
        }
        self.seen.borrow_mut().runs = runs;
        stage.finish();
        Ok(())
    }

    /// It is where it was.
    async fn open(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn tell(&self) {
        let told = edges::tell(self.deployment, self.site).await;
        self.seen.borrow_mut().edges = told;
    }

    async fn forget(&self, intent: &Intent) -> Result<(), Failure> {
        if intent.back.is_some() {
            if let Origin::Before { number } = &intent.origin {
                self.folder.put_away(*number)?;
            }
            self.folder.remove_empty(intent.number)?;
        }
        self.folder.forget()?;
        Ok(self.folder.remove_staged()?)
    }
}
