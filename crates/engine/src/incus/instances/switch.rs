//! One instance in the place of another where both must not run at once, and the way back from it.
//!
//! Until the new one is well, everything is there to go back to: the old instance, parked, and its data as it was when
//! it stopped. The new instance is made before that and removed last on the way back, so that a run which is cut leaves
//! with it word of what it may have converted.

use std::collections::BTreeSet;

use sovereign_incus::instance::Stop;
use sovereign_incus::{Devices, InstanceName, SnapshotName, VolumeName};
use sovereign_model::instance::InstanceSpec;
use sovereign_model::{Digest, UnitName};

use super::error::InstancesError;
use super::ground::{Busy, unless_gone};
use super::host::InstanceHost;
use super::listing::{self, Listing, Ours};
use super::run::{Ran, Tell, converts};
use super::{Instances, names};
use crate::apply::Progress;

impl<H: InstanceHost> Instances<'_, H> {
    /// Stops the old one, keeps what is to be converted, starts the new one; all the way back when it fails.
    pub(super) async fn switch(
        &self,
        listing: &Listing,
        old: &Ours,
        name: &InstanceName,
        spec: &InstanceSpec,
        digest: &Digest,
        progress: Tell<'_>,
    ) -> Result<Ran, InstancesError> {
        let Err(first) = self.switch_over(listing, old, name, spec, digest, progress).await else {
            return Ok(Ran::New { after_stop: true });
        };
        progress(Progress::Doing("go back".to_owned()));
        match self.go_back(listing, old, name, spec, digest, progress).await {
            Ok(()) => Err(first),
            Err(source) => Err(InstancesError::NotBack {
                unit: spec.name.clone(),
                first: Box::new(first),
                source: Box::new(source),
            }),
        }
    }

    async fn switch_over(
        &self,
        listing: &Listing,
        old: &Ours,
        name: &InstanceName,
        spec: &InstanceSpec,
        digest: &Digest,
        progress: Tell<'_>,
    ) -> Result<(), InstancesError> {
        progress(Progress::Doing("stop".to_owned()));
        for running in listing.unit(&spec.name).filter(|ours| ours.digest != *digest) {
            self.park(running).await?;
        }
        if converts(old, spec) {
            progress(Progress::Doing("keep data".to_owned()));
            let before = names::before(digest)?;
            for (_, volume) in converted(spec)? {
                self.client.snapshot_volume(&names::pool(), &volume, &before).await?;
            }
        }
        self.client.patch_instance(name, &listing::at_boot(false), &listing::devices(spec, digest, true)?).await?;
        self.start(name, spec, progress).await?;
        self.settle(name, listing.next_number(&spec.name)).await?;
        if converts(old, spec) {
            self.forget_older(spec, digest).await;
        }
        Ok(())
    }

    async fn go_back(
        &self,
        listing: &Listing,
        old: &Ours,
        name: &InstanceName,
        spec: &InstanceSpec,
        digest: &Digest,
        progress: Tell<'_>,
    ) -> Result<(), InstancesError> {
        if converts(old, spec) {
            self.data_back(listing, name, spec, digest).await?;
            self.forget(spec, digest).await?;
        }
        self.discard(name).await?;
        self.unpark(old).await?;
        self.start(&old.name, &old.spec, progress).await
    }

    /// Makes the volumes that an instance may have converted what they were. Their units are stopped for it.
    pub(super) async fn data_back(
        &self,
        listing: &Listing,
        name: &InstanceName,
        spec: &InstanceSpec,
        digest: &Digest,
    ) -> Result<(), InstancesError> {
        // It may not run.
        let _ = self.client.stop(name, Stop::AtOnce).await;
        let (pool, before) = (names::pool(), names::before(digest)?);
        let mut kept: Vec<(UnitName, VolumeName)> = Vec::new();
        for (unit, volume) in converted(spec)? {
            let snapshots = self.client.volume_snapshots(&pool, &volume).await?;
            if snapshots.iter().any(|snapshot| snapshot.name.as_ref() == Some(&before)) {
                kept.push((unit, volume));
            }
        }
        let units: BTreeSet<&UnitName> = kept.iter().map(|(unit, _)| unit).filter(|unit| **unit != spec.name).collect();
        let users: Vec<&Ours> =
            units.iter().flat_map(|unit| listing.unit(unit)).filter(|ours| ours.is_running()).collect();
        for user in &users {
            self.stop_running(user).await?;
        }
        let mut restored = Ok(());
        for (_, volume) in &kept {
            restored = restored.and(self.restore(volume, &before).await);
        }
        // Whatever came of it: others may need them.
        for user in users {
            self.start(&user.name, &user.spec, &|_| ()).await?;
        }
        restored
    }

    async fn restore(&self, volume: &VolumeName, before: &SnapshotName) -> Result<(), InstancesError> {
        Ok(self.client.restore_volume(&names::pool(), volume, before).await?)
    }

    /// Removes what was kept before a conversion. Done before an instance is made that may convert as well, so that what
    /// an instance which a cut run has left may have converted is never taken for what an earlier one did.
    pub(super) async fn forget(&self, spec: &InstanceSpec, digest: &Digest) -> Result<(), InstancesError> {
        let before = names::before(digest)?;
        for (_, volume) in converted(spec)? {
            unless_gone(self.client.delete_volume_snapshot(&names::pool(), &volume, &before).await)?;
        }
        Ok(())
    }

    /// Removes what was kept before earlier conversions. What cannot be removed is removed after the next one.
    async fn forget_older(&self, spec: &InstanceSpec, digest: &Digest) {
        let (Ok(volumes), Ok(before)) = (converted(spec), names::before(digest)) else { return };
        for (_, volume) in volumes {
            let snapshots = self.client.volume_snapshots(&names::pool(), &volume).await.unwrap_or_default();
            let names = snapshots.into_iter().filter_map(|snapshot| snapshot.name);
            for older in names.filter(|name| *name != before && name.as_str().starts_with(names::BEFORE)) {
                let _ = self.client.delete_volume_snapshot(&names::pool(), &volume, &older).await;
            }
        }
    }

    /// Stops an instance, and takes its address and its start at boot from it. It stays as it is otherwise.
    pub(super) async fn park(&self, ours: &Ours) -> Result<(), InstancesError> {
        if ours.is_running() {
            self.stop_running(ours).await?;
        }
        if ours.has_interface {
            let devices = listing::devices(&ours.spec, &ours.digest, false)?;
            self.change(ours, false, devices).await?;
        }
        Ok(())
    }

    /// Gives an instance back what [`Instances::park`] took.
    pub(super) async fn unpark(&self, ours: &Ours) -> Result<(), InstancesError> {
        self.change(ours, true, listing::devices(&ours.spec, &ours.digest, true)?).await
    }

    /// Whether it starts at boot, and all of its devices: none that is not among these stays.
    async fn change(&self, ours: &Ours, at_boot: bool, devices: Devices) -> Result<(), InstancesError> {
        let busy = Busy::new();
        loop {
            let mut kept = self.client.instance(&ours.name).await?;
            kept.value.config.extend(listing::at_boot(at_boot));
            kept.value.devices = devices.clone();
            let changed = self.client.update_instance(&kept).await;
            if !busy.was(&changed).await {
                return Ok(changed?);
            }
        }
    }
}

/// The volumes that an instance converts, by what they are called, each with its unit.
fn converted(spec: &InstanceSpec) -> Result<Vec<(UnitName, VolumeName)>, InstancesError> {
    let named = |(unit, volume): &(UnitName, String)| Ok((unit.clone(), names::volume(unit, volume)?));
    spec.converts.iter().map(named).collect()
}
