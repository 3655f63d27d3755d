//! The running site on a host as a swap sees it: volumes of two instances, what is remembered of it here, its edges.
//!
//! The data comes beside the live one first, into a database of its own that has to take it; so what is put in place are
//! volumes that are ready, and neither readers nor writers wait for a dump to be loaded.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use sovereign_engine::incus::beside::Beside;
use sovereign_engine::incus::instances::{Instances, InstancesError, OfUnit};
use sovereign_engine::incus::{IncusEngineError, Link};
use sovereign_hosts::Connection;
use sovereign_keys::WorkingKeys;
use sovereign_model::stack::Site;
use sovereign_model::{EdgeName, UnitName};
use sovereign_services::ghost::{self, CONTENT_VOLUME, DATABASE_VOLUME, DumpSeen, pack_script};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::edges;
use super::folder::Folder;
use super::live::Seen;
use super::stage::StageError;
use super::swap::{Change, Found, Intent, Move, Origin, Part, World};
use super::volumes::{self, Volumes};
use super::{alive, volumes::PARTS};
use crate::backup::{Scratch, examine_dump};
use crate::deployment::{Deployment, Joined};
use crate::failure::{Failure, Reason};
use crate::moving::NewPlace;
use crate::output::Progress;

/// What was restored cannot be brought to the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BringError {
    /// The database has not taken all of it.
    #[error("of {of} tables in the dump, {loaded} are in the database that it was loaded into")]
    Short {
        /// What is there.
        loaded: u64,
        /// What should be.
        of: u64,
    },
    /// What people uploaded cannot be packed.
    #[error("what people uploaded cannot be packed: {said}")]
    Packed {
        /// What was said.
        said: String,
    },
}

impl Reason for BringError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Short { .. } => Some("`sovereign archive list` names other snapshots".to_owned()),
            Self::Packed { .. } => Some("see that there is room in the state folder".to_owned()),
        }
    }
}

/// A site on a host.
pub(crate) struct OnHost<'a> {
    deployment: &'a Deployment,
    keys: &'a WorkingKeys,
    site: &'a Site,
    folder: &'a Folder,
    progress: &'a Progress,
    at: EdgeName,
    database: UnitName,
    ghost: UnitName,
    /// Whether no edge leads to it yet, so that none can be asked.
    is_new: bool,
    seen: RefCell<Seen>,
}

impl<'a> OnHost<'a> {
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
        is_new: bool,
    ) -> Result<Self, Failure> {
        let at = site.place(&deployment.stack);
        let database = ghost::database_unit(site, &site.primary)?;
        let ghost = ghost::ghost_unit(site, &site.primary)?;
        Ok(Self { deployment, keys, site, folder, progress, at, database, ghost, is_new, seen: RefCell::default() })
    }

    /// What was seen of it.
    pub(crate) fn seen(self) -> Seen {
        self.seen.into_inner()
    }

    /// That the site runs there at all, so that there is something to take the place of.
    ///
    /// # Errors
    /// When it does not, or the host does not answer.
    pub(crate) async fn must_be_there(&self) -> Result<(), Failure> {
        let (link, stack) = (self.link().await?, &self.deployment.stack.name);
        for unit in [&self.database, &self.ghost] {
            link.instance(stack, unit).await?;
        }
        Ok(())
    }

    /// Whether it does.
    ///
    /// # Errors
    /// When the host does not answer.
    pub(crate) async fn is_there(&self) -> Result<bool, Failure> {
        let (link, stack) = (self.link().await?, &self.deployment.stack.name);
        for unit in [&self.database, &self.ghost] {
            match link.instance(stack, unit).await {
                Err(IncusEngineError::NotThere { .. }) => return Ok(false),
                found => drop(found?),
            }
        }
        Ok(true)
    }

    /// When its database was written into last; `None`: never.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn last_written(&self) -> Result<Option<u64>, Failure> {
        let not_there = || IncusEngineError::NotThere { unit: self.database.clone(), host: self.at.clone() };
        let found = self.link().await?.newcomer(&self.deployment.stack.name, &self.database).await?;
        Ok(found.ok_or_else(not_there)?.last_written().await?)
    }

    /// Brings what is staged on this machine beside the live data, and ends what took it there: its volumes are staged
    /// now. What the database said of it.
    ///
    /// # Errors
    /// When not all of it can be had there.
    pub(crate) async fn bring(&self) -> Result<String, Failure> {
        let joined = self.deployment.joined(self.keys)?;
        let engines = self.deployment.engine(self.keys, &joined, self.progress);
        let beside = engines.hosts.beside(self.site, described(&joined, self.site)?).await?;
        let brought = bring(&self.deployment.state.archive(), &beside, self.folder, self.progress).await?;
        let stage = self.progress.stage("stop what loaded it");
        beside.halt().await?;
        stage.finish();
        volumes::begin(self).await?;
        Ok(brought)
    }

    /// What happens to each part when what is staged takes its place, or what lies in `from`.
    ///
    /// # Errors
    /// When a part cannot be moved.
    pub(crate) async fn changes(&self, from: &Path) -> Result<std::collections::BTreeMap<Part, Change>, Failure> {
        let both = Change { had: true, gets: true };
        let mut changes = self.folder.changes(from)?;
        changes.retain(|part, _| *part == Part::SetUp);
        changes.extend(PARTS.map(|part| (part, both)));
        Ok(changes)
    }

    /// Before what a restore has replaced is put back: whether it is still kept.
    ///
    /// # Errors
    /// When the host does not obey.
    pub(crate) async fn begin(&self, number: u32) -> Result<bool, Failure> {
        for part in PARTS {
            if !self.keeps(part, number).await? {
                return Ok(false);
            }
        }
        volumes::begin(self).await?;
        Ok(true)
    }

    /// The highest number under which a volume is kept: another management machine, or one that is lost, may have kept some.
    ///
    /// # Errors
    /// When the host does not answer.
    pub(crate) async fn newest_kept(&self) -> Result<u32, Failure> {
        let mut newest = 0;
        for part in PARTS {
            let of = self.volume(part);
            let kept = self.with(of.unit, async |instances| instances.kept(&of).await).await?;
            newest = kept.into_iter().fold(newest, u32::max);
        }
        Ok(newest)
    }

    /// Removes what a restore has replaced.
    ///
    /// # Errors
    /// When the host does not obey.
    pub(crate) async fn discard(&self, number: u32) -> Result<(), Failure> {
        for part in PARTS {
            Volumes::forget(self, part, number).await?;
        }
        Ok(self.folder.remove_before(number)?)
    }

    /// Removes what is beside.
    ///
    /// # Errors
    /// When the host does not obey.
    pub(crate) async fn clear(&self) -> Result<(), Failure> {
        let joined = self.deployment.joined(self.keys)?;
        let engines = self.deployment.engine(self.keys, &joined, self.progress);
        Ok(engines.hosts.beside(self.site, described(&joined, self.site)?).await?.clear().await?)
    }

    async fn link(&self) -> Result<&'a Link, IncusEngineError> {
        self.deployment.reach.link(&self.at).await
    }

    async fn with<T>(
        &self,
        unit: &UnitName,
        act: impl AsyncFnOnce(&Instances<'_, Connection>) -> Result<T, InstancesError>,
    ) -> Result<T, Failure> {
        let incus = |source| IncusEngineError::Incus { host: self.at.clone(), source: Box::new(source) };
        let instances = self.link().await?.instances(&self.deployment.stack.name).await.map_err(incus)?;
        let failed =
            |source| IncusEngineError::Instance { unit: unit.clone(), host: self.at.clone(), source: Box::new(source) };
        Ok(act(&instances).await.map_err(failed)?)
    }

    /// The volume of a part.
    fn volume(&self, part: Part) -> OfUnit<'_> {
        match part {
            Part::Data => OfUnit { unit: &self.database, volume: DATABASE_VOLUME },
            Part::Content | Part::SetUp => OfUnit { unit: &self.ghost, volume: CONTENT_VOLUME },
        }
    }
}

/// What is to run beside the live data of a site.
///
/// # Errors
/// When the site is not on a host.
pub(crate) fn described<'j>(joined: &'j Joined, site: &Site) -> Result<&'j ghost::Beside, IncusEngineError> {
    let undeclared = || IncusEngineError::Undeclared { what: format!("site {}", site.name) };
    joined.beside(&site.name).ok_or_else(undeclared)
}

/// Brings what is staged in a folder to where data is beside the live one; what was said of it there. In the folder only
/// what this machine remembers of the site is left.
///
/// # Errors
/// When not all of it can be had there.
pub(crate) async fn bring(
    archive: &Path,
    beside: &Beside<'_>,
    folder: &Folder,
    progress: &Progress,
) -> Result<String, Failure> {
    let stage = progress.stage("bring it beside the live data, and load it");
    let [data, content] = [Part::Data, Part::Content].map(|part| folder.staged().join(part.name()));
    let dump = data.join("ghost.sql");
    let DumpSeen { tables: of, .. } = block_in_place(|| examine_dump(&dump))?;
    let scratch = Scratch::in_folder(archive, "bringing")?;
    let packed = block_in_place(|| pack(&content, &scratch))?;
    let loaded = beside.bring(&dump, &packed).await?;
    if loaded < of {
        return Err(BringError::Short { loaded, of }.into());
    }
    for part in [&data, &content] {
        fs::remove_dir_all(part).map_err(StageError::file("remove", part))?;
    }
    stage.finish();
    Ok(format!("the dump is complete; all of its {of} tables were loaded into a database beside"))
}

fn pack(content: &Path, scratch: &Scratch) -> Result<std::path::PathBuf, Failure> {
    fs::create_dir_all(content).map_err(StageError::file("make", content))?;
    let [archive, noted] = ["content.tar", "noted"].map(|name| scratch.folder.join(name));
    let mut tar = Command::new("sh");
    tar.args(["-c", pack_script(), "sovereign"]).args([content, &archive, &noted]);
    let ran = tar.output().map_err(StageError::file("pack", content))?;
    if ran.status.success() {
        return Ok(archive);
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(BringError::Packed { said: said.trim().chars().filter(|c| !c.is_control()).take(300).collect() }.into())
}

impl Volumes for OnHost<'_> {
    async fn keep(&self, part: Part, number: u32) -> Result<(), Failure> {
        // What says here that there is such a generation.
        self.folder.make_before(number)?;
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.keep(&of, number).await).await
    }

    async fn keeps(&self, part: Part, number: u32) -> Result<bool, Failure> {
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.keeps(&of, number).await).await
    }

    async fn put_back(&self, part: Part, number: u32) -> Result<(), Failure> {
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.put_back(&of, number).await).await
    }

    async fn forget(&self, part: Part, number: u32) -> Result<(), Failure> {
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.forget_kept(&of, number).await).await
    }

    async fn fill(&self, part: Part) -> Result<(), Failure> {
        let joined = self.deployment.joined(self.keys)?;
        let ghost::Beside { database, ghost, .. } = described(&joined, self.site)?;
        let to = self.volume(part);
        let unit = if part == Part::Data { &database.spec.name } else { &ghost.spec.name };
        let from = OfUnit { unit, volume: to.volume };
        self.with(to.unit, async |instances| instances.fill(&from, &to).await).await
    }

    async fn holds(&self, part: Part) -> Result<Option<String>, Failure> {
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.holds(&of).await).await
    }

    async fn set_holds(&self, part: Part, what: Option<&str>) -> Result<(), Failure> {
        let of = self.volume(part);
        self.with(of.unit, async |instances| instances.set_holds(&of, what).await).await
    }
}

impl World for OnHost<'_> {
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
        let mut found = std::collections::BTreeMap::new();
        for part in PARTS {
            found.insert(part, volumes::found(self, intent, part).await?);
        }
        let set_up = match intent.back.is_some() && !self.folder.is_staged() {
            // It is taken away last: nothing goes back without it.
            true => Found { live: true, staged: true, before: false },
            false => self.folder.found(intent, Part::SetUp),
        };
        Ok(self.folder.missing(intent.next(|part| found.get(&part).copied().unwrap_or(set_up)))?)
    }

    async fn stop(&self) -> Result<(), Failure> {
        let stage = self.progress.stage(format!("stop {} and {}", self.ghost, self.database));
        for unit in [&self.ghost, &self.database] {
            self.with(unit, async |instances| instances.halt(unit).await).await?;
        }
        stage.finish();
        Ok(())
    }

    async fn rename(&self, intent: &Intent, step: Move) -> Result<(), Failure> {
        match step.part {
            Part::SetUp => Ok(self.folder.rename(intent, step)?),
            Part::Data | Part::Content => {
                let stage = self.progress.stage(format!("{} of {}: {}", step.part.name(), self.site.name, step.says()));
                volumes::carry(self, intent, step).await?;
                stage.finish();
                Ok(())
            }
        }
    }

    async fn revive(&self) -> Result<(), Failure> {
        let stage = self.progress.stage(format!("start {} and ask it", self.ghost));
        let mut runs = true;
        for unit in [&self.database, &self.ghost] {
            runs &= self.with(unit, async |instances| instances.revive(unit, &|_| ()).await).await?;
        }
        if runs {
            alive::set_up(self.deployment, self.keys, self.site, self.progress).await?;
            if !self.is_new {
                alive::ask(self.deployment, self.keys, self.site).await?;
            }
        }
        self.seen.borrow_mut().runs = runs;
        stage.finish();
        Ok(())
    }

    /// What is remembered of the site elsewhere is of no use any more: no later run may take data there for the site's.
    async fn open(&self) -> Result<(), Failure> {
        if !self.is_new {
            return Ok(());
        }
        let Self { deployment, keys, site, progress, .. } = *self;
        let (place, stop) = (self.at.clone(), CancellationToken::new());
        let new = NewPlace { deployment, keys, site, place, command: "restore", progress, stop };
        // On a machine that has only just been recovered, nothing has put it there yet.
        deployment.install()?;
        let joined = deployment.joined(keys)?;
        let edge = new.parts(&joined).await?.edge;
        new.carry_out(&joined, &edge).await?;
        let Deployment { stack, state, reach, .. } = deployment;
        for other in stack.edges_on_hosts().chain(reach.edges().cloned()).filter(|other| *other != self.at) {
            let (from, to) = (state.set_up(&other, &site.name), state.moved_away(&other, &site.name));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StageError::file("rename", &from)(error).into());
                }
                _ => {}
            }
        }
        Ok(self.folder.set_arrived()?)
    }

    async fn tell(&self) {
        let told = edges::tell(self.deployment, self.site).await;
        self.seen.borrow_mut().edges = told;
    }

    async fn forget(&self, intent: &Intent) -> Result<(), Failure> {
        volumes::over(self, intent).await?;
        if intent.back.is_some() {
            if let Origin::Before { number } = &intent.origin {
                self.folder.put_away(*number)?;
            }
            self.folder.remove_empty(intent.number)?;
        }
        self.clear().await?;
        self.folder.forget()?;
        Ok(self.folder.remove_staged()?)
    }
}
