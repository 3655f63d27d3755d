//! Data of a site beside the live one on its host: in a database and a Ghost of their own.
//!
//! ```text
//!  dump ──────▶ database ─┐
//!                         ├─▶ Ghost, asked by this machine and nobody else       a rehearsal
//!  uploads ───▶ ground ───┤
//!                         └─▶ stopped: their volumes are what takes the place    a restore
//! ```
//!
//! Promises: nothing of the live site is touched or waits; what is here reaches nothing but its database, and no edge knows
//! of it; whatever a run that was cut off has left is removed by [`Beside::clear`]. That the host has room is seen before
//! anything is sent: a disk that is full would stop the live site too. Left out: where the data comes from.

use std::path::Path;

use sovereign_hosts::{Connection, Run};
use sovereign_incus::image::Source;
use sovereign_model::instance::InstanceSpec;
use sovereign_model::stack::Site;
use sovereign_model::{EdgeName, UnitName};
use sovereign_services::ghost::{self, CONTENT_VOLUME, DATABASE_VOLUME, Described};

use super::instances::{Instances, InstancesError, OfUnit, volume_folder};
use super::newcomer::{Newcomer, NewcomerError};
use super::reach::Link;
use super::{IncusEngine, IncusEngineError};
use crate::apply::Failure;

/// What a MariaDB takes before anything is in it: tables of its own and the redo log.
const EMPTY: u64 = 300 << 20;

/// It cannot be brought beside.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// The host, or what runs there.
    #[error(transparent)]
    Host(#[from] IncusEngineError),
    /// The data.
    #[error(transparent)]
    Data(#[from] NewcomerError),
    /// The host is too full.
    #[error("{host} has {free} MB free for data of its sites, and {needed} MB are needed")]
    NoRoom {
        /// Which.
        host: EdgeName,
        /// What it has.
        free: u64,
        /// What it should have.
        needed: u64,
    },
}

impl Failure for BesideError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Data(error) => error.help(),
            Self::NoRoom { .. } => Some(
                "give its pool more room; `sovereign restore SITE --discard` removes what restores have kept"
                    .to_owned(),
            ),
        }
    }
}

/// The place beside a site's live data.
#[derive(Debug)]
pub struct Beside<'e> {
    engine: &'e IncusEngine<'e>,
    link: &'e Link,
    at: EdgeName,
    live_data: UnitName,
    described: &'e ghost::Beside,
}

impl<'e> IncusEngine<'e> {
    /// The place beside the live data of a site, with what is to run there.
    ///
    /// # Errors
    /// When its host is not reached.
    pub async fn beside(&'e self, site: &Site, described: &'e ghost::Beside) -> Result<Beside<'e>, IncusEngineError> {
        let at = site.place(self.parts.stack);
        let link = self.parts.reach.link(&at).await?;
        let undeclared = |_| IncusEngineError::Undeclared { what: format!("site {}", site.name) };
        let live_data = ghost::database_unit(site, &site.primary).map_err(undeclared)?;
        Ok(Beside { engine: self, link, at, live_data, described })
    }
}

impl Beside<'_> {
    /// Removes whatever is here.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn clear(&self) -> Result<(), IncusEngineError> {
        for of in self.volumes() {
            self.with(of.unit, async |instances| instances.remove_with_data(of.unit, &[of.volume]).await).await?;
        }
        Ok(())
    }

    /// Brings a dump and an archive of uploads; how many tables the database has then. What was here before is removed.
    ///
    /// # Errors
    /// When there is no room, the host does not obey, or the dump cannot be loaded.
    pub async fn bring(&self, dump: &Path, uploads: &Path) -> Result<u64, BesideError> {
        self.clear().await?;
        self.room_for(size(dump)?.saturating_mul(3) + size(uploads)?.saturating_mul(2) + EMPTY).await?;
        let ghost::Beside { database, ground, .. } = self.described;
        // Of the packet filter, what was listed last is to be in effect: whoever runs both sees to that.
        let instances = self.engine.instances(&self.at, self.link).await?;
        let load = async { Ok(self.run(&instances, database).await?.load(dump).await?) };
        let unpack = async {
            let ground = self.run(&instances, ground).await?;
            ground.make_room().await?;
            Ok(ground.unpack(uploads).await?)
        };
        let (loaded, unpacked): (_, Result<(), BesideError>) = tokio::join!(load, unpack);
        unpacked.and(loaded)
    }

    /// Starts a Ghost on what was brought, and waits until it is well; its description.
    ///
    /// # Errors
    /// When it does not become well.
    pub async fn start(&self) -> Result<&InstanceSpec, BesideError> {
        let instances = self.engine.instances(&self.at, self.link).await?;
        self.run(&instances, &self.described.ghost).await?;
        Ok(&self.described.ghost.spec)
    }

    /// Ends what runs here. Its volumes stay.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn halt(&self) -> Result<(), IncusEngineError> {
        for of in self.volumes() {
            self.with(of.unit, async |instances| instances.stop(of.unit).await).await?;
        }
        Ok(())
    }

    /// What is to take the place of the database's volume, and of the uploads'. The Ghost's is first: it needs the other.
    fn volumes(&self) -> [OfUnit<'_>; 2] {
        let ghost::Beside { database, ghost, .. } = self.described;
        [
            OfUnit { unit: &ghost.spec.name, volume: CONTENT_VOLUME },
            OfUnit { unit: &database.spec.name, volume: DATABASE_VOLUME },
        ]
    }

    async fn run(
        &self,
        instances: &Instances<'_, Connection>,
        Described { spec, contents }: &Described,
    ) -> Result<Newcomer, BesideError> {
        let files = self.engine.parts.images.get(&spec.fingerprint);
        let files = files.ok_or_else(|| IncusEngineError::Undeclared { what: format!("image {}", spec.image) })?;
        let incus = |source| IncusEngineError::Incus { host: self.at.clone(), source: Box::new(source) };
        let image = Source::described(&files.metadata, &files.rootfs, spec.fingerprint).await.map_err(incus)?;
        let ran = instances.run(spec, contents, &image, &|_| ()).await;
        ran.map_err(|source| self.failed(&spec.name, source))?;
        let newcomer = self.link.newcomer(&self.engine.parts.stack.name, &spec.name).await?;
        let lost = || IncusEngineError::NotThere { unit: spec.name.clone(), host: self.at.clone() };
        Ok(newcomer.ok_or_else(lost)?)
    }

    fn failed(&self, unit: &UnitName, source: InstancesError) -> IncusEngineError {
        IncusEngineError::Instance { unit: unit.clone(), host: self.at.clone(), source: Box::new(source) }
    }

    async fn with<T>(
        &self,
        unit: &UnitName,
        act: impl AsyncFnOnce(&Instances<'_, Connection>) -> Result<T, InstancesError>,
    ) -> Result<T, IncusEngineError> {
        let instances = self.engine.instances(&self.at, self.link).await?;
        act(&instances).await.map_err(|source| self.failed(unit, source))
    }

    async fn room_for(&self, needed: u64) -> Result<(), BesideError> {
        let host = |source| IncusEngineError::Host { host: self.at.clone(), source: Box::new(source) };
        let undeclared = |_| IncusEngineError::Undeclared { what: self.live_data.to_string() };
        let folder = volume_folder(&self.live_data, DATABASE_VOLUME).map_err(undeclared)?;
        let pool = folder.parent().unwrap_or(&folder);
        let look = Run::new("see what room there is", "df").args(["--output=avail", "--block-size=1"]).arg(pool);
        let said = self.link.connection.succeed(&look).await.map_err(host)?;
        let said = String::from_utf8_lossy(&said);
        let free: Option<u64> = said.lines().last().and_then(|line| line.trim().parse().ok());
        match free {
            Some(free) if free < needed => {
                Err(BesideError::NoRoom { host: self.at.clone(), free: free >> 20, needed: needed >> 20 })
            }
            _ => Ok(()),
        }
    }
}

fn size(file: &Path) -> Result<u64, IncusEngineError> {
    let failed = |source| IncusEngineError::File { path: file.to_owned(), source };
    Ok(file.metadata().map_err(failed)?.len())
}
