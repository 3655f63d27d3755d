//! The engines of a stack behind one port: this machine's supervisor, and hosts with an Incus.

use sovereign_engine::apply::{self, Engine, Progress as Told, Receipt};
use sovereign_engine::embedded::{EmbeddedEngine, EmbeddedError};
use sovereign_engine::incus::{IncusEngine, IncusEngineError};
use sovereign_images::Lock;
use sovereign_images::debian::Role;
use sovereign_keys::WorkingKeys;
use sovereign_model::stack::EngineKind;
use sovereign_model::{ImageName, Observed, Step, UnitName};
use sovereign_plan::Wanted;

use crate::debian::LockFile;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::hosts::OnHosts;
use crate::output::Progress;
use crate::root_images;
use crate::unrestored::Archived;
use crate::world::ghost_image;

/// All engines of a stack.
#[derive(Debug)]
pub(crate) struct Engines<'a> {
    /// Of this machine.
    pub(crate) here: EmbeddedEngine<'a>,
    /// Of hosts.
    pub(crate) hosts: IncusEngine<'a>,
    /// What follows from what is declared.
    pub(crate) wanted: &'a Wanted,
    /// What is declared, and where things lie.
    pub(crate) declared: &'a Declared,
    /// Which Ghost runs.
    pub(crate) ghost: &'a Lock,
    /// What runs on hosts.
    pub(crate) on_hosts: &'a OnHosts,
    /// The stack's secrets.
    pub(crate) keys: &'a WorkingKeys,
    /// What the archive has of sites of which nothing is left.
    pub(crate) archived: &'a Archived,
    /// Whether nothing may be fetched.
    pub(crate) offline: bool,
    /// Where the making of images is shown.
    pub(crate) progress: &'a Progress,
}

/// What goes wrong in one of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnginesError {
    #[error(transparent)]
    Here(#[from] EmbeddedError),
    #[error(transparent)]
    Hosts(#[from] IncusEngineError),
    #[error("{}", .0.chain().join(": "))]
    Image(Failure),
}

impl apply::Failure for EnginesError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Here(error) => apply::Failure::help(error),
            Self::Hosts(error) => apply::Failure::help(error),
            Self::Image(failure) => failure.help(),
        }
    }
}

impl Reason for EnginesError {
    fn help(&self) -> Option<String> {
        apply::Failure::help(self)
    }
}

impl Engines<'_> {
    fn is_on_hosts(&self, step: &Step) -> bool {
        let datacenter = step.datacenter().and_then(|name| self.declared.stack.datacenters.get(name));
        datacenter.is_some_and(|datacenter| datacenter.engine == EngineKind::Incus)
    }

    /// Whether a unit runs on this machine that nothing declares.
    async fn is_left_here(&self, step: &Step, unit: &UnitName) -> Result<bool, EnginesError> {
        let declared = step.datacenter().and_then(|datacenter| self.wanted.unit(datacenter, unit));
        Ok(declared.is_none() && self.here.has(unit).await?)
    }

    /// Builds the root file system of a role, and first what it is built around.
    async fn root_image(&self, image: &ImageName, tell: &(dyn Fn(Told) + Send + Sync)) -> Result<(), EnginesError> {
        let failed = |error: sovereign_images::ImageError| EnginesError::Image(error.into());
        let role = Role::find(image.as_str()).map_err(|error| failed(error.into()))?;
        if role.layers.iter().any(|layer| layer.image == ghost_image()) {
            let lock = self.ghost.digest();
            self.here.perform(&Step::PrepareImage { image: ghost_image(), lock }, tell).await?;
        }
        let file = LockFile::of(&self.declared.file, &role);
        let build = || root_images::ready(&role, &file, self.ghost, &self.declared.places, self.offline, self.progress);
        tokio::task::block_in_place(build).map(drop).map_err(EnginesError::Image)
    }
}

impl Engine for Engines<'_> {
    type Error = EnginesError;

    async fn observe(&self) -> Result<Observed, EnginesError> {
        let (here, hosts) = tokio::join!(self.here.observe(), self.hosts.look());
        let (mut seen, hosts) = (here?, hosts?);
        for (name, datacenter) in hosts.datacenters {
            seen.datacenters.entry(name).or_default().units.extend(datacenter.units);
        }
        seen.edges.extend(hosts.edges);
        (seen.away, seen.evacuated) = (hosts.away, hosts.evacuated);
        for (site, primaries) in hosts.primaries {
            primaries.into_iter().for_each(|primary| seen.note_primary(&site, primary));
        }
        for (name, site) in hosts.sites {
            seen.sites.entry(name).or_insert(site);
        }
        seen.images.extend(self.on_hosts.seen.clone());
        seen.unrestored = self.archived.unrestored(self.declared, self.keys, &seen);
        Ok(seen)
    }

    async fn perform(&self, step: &Step, progress: &(dyn Fn(Told) + Send + Sync)) -> Result<Receipt, EnginesError> {
        match step {
            Step::PrepareImage { image, .. } if *image != ghost_image() => {
                self.root_image(image, progress).await.map(|()| Receipt::default())
            }
            // Of a data center that was on this machine before it was declared on hosts.
            Step::StopUnit { unit, .. } if self.is_on_hosts(step) && self.is_left_here(step, unit).await? => {
                Ok(self.here.perform(step, progress).await?)
            }
            step if self.is_on_hosts(step) => Ok(self.hosts.carry_out(step, progress).await?),
            step => Ok(self.here.perform(step, progress).await?),
        }
    }
}
