//! All instances of a host stopped for a while, and started again: the host is evacuated, and they stay where their data is.

use std::collections::BTreeSet;

use sovereign_incus::{Devices, InstanceName};
use sovereign_model::UnitName;

use super::Instances;
use super::error::InstancesError;
use super::host::InstanceHost;
use super::listing::{self, Listing, Ours};
use super::run::Tell;
use crate::apply::Progress;

impl<H: InstanceHost> Instances<'_, H> {
    /// The current instances that run, in the order in which they are to be started: what others need comes first.
    ///
    /// # Errors
    /// When the host's Incus does not answer, or has an instance of ours that this program does not understand.
    pub async fn that_run(&self) -> Result<Vec<(UnitName, InstanceName)>, InstancesError> {
        let listing = self.list().await?;
        Ok(in_order(&listing).into_iter().map(|ours| (ours.spec.name.clone(), ours.name.clone())).collect())
    }

    /// Stops all instances, those that others need last. Unless they start at boot as before, they stay so until they are
    /// taken back, however often the host boots.
    ///
    /// # Errors
    /// When the host does not obey. What was stopped stays so, and doing it again goes on.
    pub async fn set_aside(&self, starts_at_boot: bool, progress: Tell<'_>) -> Result<(), InstancesError> {
        let listing = self.list().await?;
        let current: Vec<&Ours> = in_order(&listing);
        let is_current = |ours: &Ours| current.iter().any(|other| other.name == ours.name);
        let others = listing.ours.iter().filter(|ours| ours.is_running() && !is_current(ours));
        for ours in others.chain(current.iter().rev().copied()) {
            progress(Progress::Doing(format!("stop {}", ours.spec.name)));
            // First, or a host that has no power now would have it run when it is back.
            if !starts_at_boot {
                self.client.patch_instance(&ours.name, &listing::at_boot(false), &Devices::new()).await?;
            }
            self.stop_running(ours).await?;
        }
        Ok(())
    }

    /// Starts instances again, one after the other, each when the one before is well. Those that are gone or were replaced
    /// meanwhile are passed over.
    ///
    /// # Errors
    /// When the host does not obey, or an instance does not become well.
    pub async fn take_back(&self, names: &[String], progress: Tell<'_>) -> Result<(), InstancesError> {
        let listing = self.list().await?;
        let found = names.iter().filter_map(|name| listing.ours.iter().find(|ours| ours.name.as_str() == name));
        for ours in found.filter(|ours| listing.current(&ours.spec.name) == Some(*ours)) {
            progress(Progress::Doing(format!("start {}", ours.spec.name)));
            self.client.patch_instance(&ours.name, &listing::at_boot(true), &Devices::new()).await?;
            self.filter().await?;
            // A host that has just booted may be starting it by itself: then it is refused, and becomes well.
            let started = if ours.is_running() { Ok(()) } else { self.client.start(&ours.name).await };
            match (self.well(&ours.name, &ours.spec, progress).await, started) {
                (Ok(()), _) => {}
                (Err(_), Err(refused)) => return Err(refused.into()),
                (Err(unwell), Ok(())) => return Err(unwell),
            }
        }
        Ok(())
    }
}

/// The current instances that run, those that others need first.
fn in_order(listing: &Listing) -> Vec<&Ours> {
    let units: BTreeSet<&UnitName> = listing.ours.iter().map(|ours| &ours.spec.name).collect();
    let current = units.into_iter().filter_map(|unit| listing.current(unit)).filter(|ours| ours.is_running());
    let mut left: Vec<&Ours> = current.collect();
    let mut ordered: Vec<&Ours> = Vec::new();
    while !left.is_empty() {
        let is_free = |ours: &&Ours| !left.iter().any(|other| ours.spec.after.contains(&other.spec.name));
        // Should they wait for each other, any of them begins.
        let at = left.iter().position(is_free).unwrap_or(0);
        ordered.push(left.remove(at));
    }
    ordered
}
