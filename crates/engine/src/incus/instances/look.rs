//! What instances there are on a host, and how they are.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use sovereign_incus::InstanceName;
use sovereign_model::instance::InstanceSpec;
use sovereign_model::{Digest, UnitName};

use super::error::InstancesError;
use super::host::InstanceHost;
use super::listing::{Listing, Ours};
use super::{Instances, filter, health};

/// What there is on a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its units.
    pub units: BTreeMap<UnitName, Runs>,
    /// Instances in our project that do not say that they are ours.
    pub foreign: Vec<InstanceName>,
    /// The rules for packets that these instances need, when there are any.
    pub rules: Option<String>,
}

/// A unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    /// The description of the instance that is used, and what it is by now; `None` when none ever became well.
    pub current: Option<Current>,
    /// What it replaced and is still there, the newest first.
    pub superseded: Vec<Superseded>,
    /// What a run that was cut has left behind: running this unit again, whichever description, mends that.
    pub unfinished: Vec<Digest>,
}

/// The instance of a unit that others are to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Its name in Incus.
    pub instance: InstanceName,
    /// Its description.
    pub spec: InstanceSpec,
    /// The digest of its description.
    pub digest: Digest,
    /// When it was made, in seconds of the epoch.
    pub made: u64,
    /// When it was started last, in seconds of the epoch.
    pub started: Option<u64>,
    /// How it is.
    pub condition: Condition,
    /// Whether it starts with its host.
    pub starts: bool,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It runs and is well.
    Well,
    /// It runs, and this is wrong with it.
    Unwell(String),
    /// It does not run.
    Stopped,
}

/// An instance that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The digest of its description.
    pub digest: Digest,
    /// Whether it still runs: nobody has retired it.
    pub is_running: bool,
}

impl<H: InstanceHost> Instances<'_, H> {
    /// Looks at all instances, and asks those that run how they are, all at once.
    ///
    /// # Errors
    /// When the host's Incus does not answer, or has an instance of ours that this program does not understand.
    pub async fn look(&self) -> Result<Seen, InstancesError> {
        let listing = self.list().await?;
        let units: BTreeSet<&UnitName> = listing.ours.iter().map(|ours| &ours.spec.name).collect();
        let units = join_all(units.into_iter().map(|unit| self.look_at(&listing, unit))).await;
        let rules = (!listing.ours.is_empty()).then(|| filter::text(listing.connected()));
        Ok(Seen { units: units.into_iter().collect(), foreign: listing.foreign, rules })
    }

    /// The instance of a unit that others are to use, if there is one.
    ///
    /// # Errors
    /// As [`Instances::look`].
    pub async fn current(&self, unit: &UnitName) -> Result<Option<InstanceName>, InstancesError> {
        Ok(self.list().await?.current(unit).map(|ours| ours.name.clone()))
    }

    async fn look_at(&self, listing: &Listing, unit: &UnitName) -> (UnitName, Runs) {
        let mut settled = listing.settled(unit);
        let current = match settled.next() {
            Some(ours) => Some(Current {
                instance: ours.name.clone(),
                started: ours.started,
                spec: ours.spec.clone(),
                digest: ours.digest,
                made: ours.made,
                condition: self.condition(ours).await,
                starts: ours.starts,
            }),
            None => None,
        };
        let superseded = settled.map(|ours| Superseded { digest: ours.digest, is_running: ours.is_running() });
        let unfinished = listing.unfinished(unit).map(|ours| ours.digest).collect();
        (unit.clone(), Runs { current, superseded: superseded.collect(), unfinished })
    }

    async fn condition(&self, ours: &Ours) -> Condition {
        if !ours.is_running() {
            return Condition::Stopped;
        }
        match health::check(&self.client, self.host, &ours.name, &ours.spec).await {
            Ok(()) => Condition::Well,
            Err(problem) => Condition::Unwell(problem),
        }
    }
}
