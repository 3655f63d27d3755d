//! The embedded engine behind the [`Engine`] port: what steps mean on this machine.
//!
//! Promise: observing changes nothing and asks everything at once; every step can be repeated after being cut off at
//! any point, because each looks at what is there, writes by renaming, and leaves starting and stopping to the
//! supervisor. Left out: how processes are kept (the supervisor), what an application needs (services).

mod error;
mod files;
mod observe;
mod perform;

use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use sovereign_images::{Options, Store};
use sovereign_keys::WorkingKeys;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use sovereign_model::{Observed, SiteName, Stack, Step, UnitName};
use sovereign_plan::Wanted;
use sovereign_services::ghost;
use sovereign_services::secret::Secret;

pub use error::EmbeddedError;

use super::Client;
use crate::apply::{Engine, Progress, Receipt};

/// What an embedded engine is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is declared.
    pub stack: &'a Stack,
    /// What follows from it: steps name units, their descriptions are here.
    pub wanted: &'a Wanted,
    /// The stack's state folder.
    pub state: &'a StateFolder,
    /// The stack's secrets.
    pub keys: &'a WorkingKeys,
    /// Where images are kept.
    pub images: &'a Store,
    /// Which Ghost runs.
    pub ghost: &'a sovereign_images::Lock,
    /// How images are prepared.
    pub options: Options,
    /// The program that the supervisor runs, installed where it stays.
    pub program: &'a Path,
    /// The arguments that make it this stack's supervisor.
    pub arguments: Vec<OsString>,
    /// The hour.
    pub now: SystemTime,
}

/// The engine of a stack whose data centers are all on this machine.
#[derive(Debug)]
pub struct EmbeddedEngine<'a> {
    parts: Parts<'a>,
    client: Client,
}

impl<'a> EmbeddedEngine<'a> {
    /// An engine of these parts. Nothing is opened yet.
    pub fn new(parts: Parts<'a>) -> Self {
        let client = Client::of(parts.state.clone());
        Self { parts, client }
    }

    fn site(&self, name: &SiteName) -> Result<&'a Site, EmbeddedError> {
        self.parts.stack.sites.get(name).ok_or_else(|| EmbeddedError::Undeclared { what: format!("site {name}") })
    }

    /// The Ghost site that a unit works for.
    fn ghost_of(&self, unit: &UnitName) -> Option<&'a Site> {
        let mut ghosts = self.parts.stack.sites.values().filter(|site| site.app == App::Ghost);
        ghosts.find(|site| Self::unit_of(site).is_ok_and(|name| name == *unit))
    }

    /// The unit of a Ghost site.
    fn unit_of(site: &Site) -> Result<UnitName, EmbeddedError> {
        let undeclared = |_| EmbeddedError::Undeclared { what: format!("site {}", site.name) };
        UnitName::at(&format!("ghost-{}", site.name), &site.primary).map_err(undeclared)
    }

    /// Where a Ghost tells of changes, and how it signs that.
    fn webhooks(&self, site: &Site) -> Result<ghost::Webhooks, EmbeddedError> {
        let key = self.parts.keys.webhook_key(&site.name).map_err(EmbeddedError::Keys)?;
        Ok(ghost::Webhooks { target: ghost::webhook_url(site), key: Secret::new(key.expose()) })
    }
}

impl Engine for EmbeddedEngine<'_> {
    type Error = EmbeddedError;

    async fn observe(&self) -> Result<Observed, EmbeddedError> {
        self.look().await
    }

    async fn perform(
        &self,
        step: &Step,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, EmbeddedError> {
        self.carry_out(step, progress).await
    }
}
