//! The end of instances: of what was replaced, of a unit, of everything.

use std::collections::BTreeSet;
use std::time::Duration;

use sovereign_incus::instance::Stop;
use sovereign_model::{Digest, UnitName};

use super::error::InstancesError;
use super::ground::{foreign, unless_gone};
use super::host::InstanceHost;
use super::listing::Ours;
use super::{Instances, filter, names};

impl<H: InstanceHost> Instances<'_, H> {
    /// Stops what the current instance of a unit has replaced. The last one is kept, stopped; those before it are removed,
    /// and images that nothing is made from any more.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn retire(&self, unit: &UnitName) -> Result<(), InstancesError> {
        let listing = self.list().await?;
        let mut replaced = listing.settled(unit).skip(1);
        if let Some(last) = replaced.next() {
            self.park(last).await?;
        }
        for older in replaced {
            self.remove(older).await?;
        }
        self.filter().await?;
        self.remove_unused_images().await
    }

    /// Ends a unit for good. Its volumes stay.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn stop(&self, unit: &UnitName) -> Result<(), InstancesError> {
        let mut listing = self.list().await?;
        if listing.unfinished(unit).next().is_some() {
            self.mend(&listing, unit).await?;
            listing = self.list().await?;
        }
        for ours in listing.unit(unit) {
            self.remove(ours).await?;
        }
        self.filter().await?;
        self.remove_unused_images().await
    }

    /// Removes everything of the stack on this host: instances, volumes and what is on them, images, the bridge, the packet
    /// filter. What is not ours stays, and is an error at the end.
    ///
    /// # Errors
    /// When the host does not obey, or something foreign is in the project.
    pub async fn purge(&self) -> Result<(), InstancesError> {
        let listing = self.list().await?;
        for ours in &listing.ours {
            self.discard(&ours.name).await?;
        }
        let pool = names::pool();
        for volume in self.client.volumes(&pool).await? {
            if self.is_here(&volume.location) && self.is_ours(&volume.config) {
                unless_gone(self.client.delete_volume(&pool, &volume.name).await)?;
            }
        }
        if let Some(name) = listing.foreign.first() {
            return Err(foreign("an instance", name.as_str()));
        }
        filter::unload(self.host).await?;
        *self.filter.lock().await = None;
        *self.ground.lock().await = false;
        // Those of a cluster are shared: the last host takes them with it.
        if !self.client.instances().await?.is_empty() {
            return Ok(());
        }
        self.remove_unused_images().await?;
        let network = names::network();
        match self.client.network(&network).await {
            Ok(found) if self.is_ours(&found.value.config) => {
                Ok(unless_gone(self.client.delete_network(&network).await)?)
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_here(&self, location: &str) -> bool {
        self.member.as_ref().is_none_or(|member| member.as_str() == location)
    }

    /// Stops an instance, which is given the time that it may take, and removes it.
    pub(super) async fn remove(&self, ours: &Ours) -> Result<(), InstancesError> {
        if ours.is_running() {
            self.stop_running(ours).await?;
        }
        Ok(unless_gone(self.client.delete_instance(&ours.name).await)?)
    }

    /// Stops an instance, which is given the time that it may take.
    pub(super) async fn stop_running(&self, ours: &Ours) -> Result<(), InstancesError> {
        let grace = Duration::from_secs(ours.spec.stop_grace_seconds.into());
        if self.client.stop(&ours.name, Stop::Within(grace)).await.is_ok() {
            return Ok(());
        }
        // Or it has just ended by itself.
        let killed = self.client.stop(&ours.name, Stop::AtOnce).await;
        match killed {
            Err(error) if self.client.instance_state(&ours.name).await?.pid > 0 => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn remove_unused_images(&self) -> Result<(), InstancesError> {
        let _alone = self.images.write().await;
        let used: BTreeSet<Digest> = self.everybodys_images().await?;
        for digest in self.client.images().await?.iter().filter_map(sovereign_incus::image::Image::digest) {
            if !used.contains(&digest) {
                unless_gone(self.client.delete_image(digest).await)?;
            }
        }
        Ok(())
    }

    /// What the instances of the project are made from, at other members too.
    async fn everybodys_images(&self) -> Result<BTreeSet<Digest>, InstancesError> {
        let base = |config: &sovereign_incus::Config| format!("sha256:{}", config.get(BASE)?).parse().ok();
        Ok(self.client.instances().await?.iter().filter_map(|instance| base(&instance.config)).collect())
    }
}

/// Where Incus says what an instance was made from.
const BASE: &str = "volatile.base_image";
