//! What instances are made in and from: what the project allows, the bridge, images, volumes.

use std::time::Duration;

use sovereign_incus::image::Source;
use sovereign_incus::{Config, IncusError};
use sovereign_model::StackName;
use sovereign_model::instance::{InstanceSpec, bridge, is_older};
use sovereign_plan::Obstacle;
use tokio::time::{Instant, sleep};

use super::error::InstancesError;
use super::host::InstanceHost;
use super::listing::{KEY_DATA, KEY_STACK, KEY_UNIT};
use super::{Instances, names};

/// How long Incus may be busy with an instance before that is an error: a start on a slow disk takes so long.
const FREE_WITHIN: Duration = Duration::from_secs(60);
/// Between looks whether it still is.
const LOOK: Duration = Duration::from_millis(200);

impl<H: InstanceHost> Instances<'_, H> {
    /// Makes what is missing of the ground. The project itself is made when the host is added.
    pub(super) async fn ground(&self) -> Result<(), InstancesError> {
        let mut is_made = self.ground.lock().await;
        if *is_made {
            return Ok(());
        }
        self.allow().await?;
        match self.client.network(&names::network()).await {
            Ok(network) if self.is_ours(&network.value.config) => {}
            Ok(network) => return Err(foreign("a network", network.value.name.as_str())),
            Err(error) if error.is_not_found() => self.make_bridge().await?,
            Err(error) => return Err(error.into()),
        }
        *is_made = true;
        Ok(())
    }

    /// Instances may be on our bridge and on no other network; volumes may have snapshots.
    async fn allow(&self) -> Result<(), InstancesError> {
        let mut project = self.client.project(&names::project()).await?;
        let wanted = [("restricted.networks.access", bridge::NAME), ("restricted.snapshots", "allow")];
        let config = &mut project.value.config;
        let missing = wanted.into_iter().filter(|(key, value)| config.get(*key).map(String::as_str) != Some(value));
        let missing = config_of(&missing.collect::<Vec<_>>());
        if missing.is_empty() {
            return Ok(());
        }
        config.extend(missing);
        Ok(self.client.update_project(&project).await?)
    }

    /// A bridge to nowhere: no address is translated and no route announced. Addresses are given by Incus, each interface
    /// its own. What passes is said by our packet filter and not by Incus's, which lets instances ask the host.
    async fn make_bridge(&self) -> Result<(), InstancesError> {
        let config = bridge_config(self.stack);
        let network = names::network();
        let what = "instances of Sovereign Stack";
        // In a cluster at each member first, where somebody else may have begun.
        for member in self.members().await? {
            let made = self.client.at(member.server_name).create_bridge(&network, what, &Config::new()).await;
            unless_there(made)?;
        }
        // For all of them, and so at none of them.
        Ok(unless_there(self.everywhere.create_bridge(&network, what, &config).await)?)
    }

    async fn members(&self) -> Result<Vec<sovereign_incus::cluster::Member>, IncusError> {
        if self.member.is_some() { self.client.members().await } else { Ok(Vec::new()) }
    }

    /// Sends an image that is not there yet. A connection that breaks leaves nothing of it.
    pub(super) async fn have_image(&self, image: &Source) -> Result<(), InstancesError> {
        match self.client.image(image.digest()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(unless_there(self.client.upload_image(image).await)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the volumes that are not there yet. Those that are stay as they are; one that a newer version has worked with
    /// is refused.
    pub(super) async fn have_volumes(&self, spec: &InstanceSpec) -> Result<(), InstancesError> {
        let pool = names::pool();
        for volume in &spec.volumes {
            let name = names::volume(&spec.name, &volume.name)?;
            match self.client.volume(&pool, &name).await {
                Ok(found) if self.is_ours(&found.value.config) => {
                    is_new_enough(spec, found.value.config.get(KEY_DATA))?;
                }
                Ok(_) => return Err(foreign("a volume", name.as_str())),
                Err(error) if error.is_not_found() => {
                    let what = format!("{} of {}", volume.name, spec.name);
                    let config = config_of(&[(KEY_STACK, self.stack.as_str()), (KEY_UNIT, spec.name.as_str())]);
                    unless_there(self.client.create_volume(&pool, &name, &what, &config).await)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes on the volumes of an instance which version has worked with them. It says so when no instance is left.
    pub(super) async fn date_volumes(&self, spec: &InstanceSpec) -> Result<(), InstancesError> {
        let (pool, Some(version)) = (names::pool(), &spec.data_version) else { return Ok(()) };
        for volume in &spec.volumes {
            let mut kept = self.client.volume(&pool, &names::volume(&spec.name, &volume.name)?).await?;
            if kept.value.config.get(KEY_DATA) != Some(version) {
                kept.value.config.insert(KEY_DATA.to_owned(), version.clone());
                self.client.update_volume(&pool, &kept).await?;
            }
        }
        Ok(())
    }

    pub(super) fn is_ours(&self, config: &Config) -> bool {
        config.get(KEY_STACK).map(String::as_str) == Some(self.stack.as_str())
    }
}

/// Refuses to have an instance work with data of a newer version.
pub(super) fn is_new_enough(spec: &InstanceSpec, data: Option<&String>) -> Result<(), Obstacle> {
    match (&spec.data_version, data) {
        (Some(wanted), Some(found)) if is_older(wanted, found) => {
            Err(Obstacle::OlderVersion { unit: spec.name.clone(), wanted: wanted.clone(), found: found.clone() })
        }
        _ => Ok(()),
    }
}

pub(super) fn foreign(kind: &'static str, name: &str) -> InstancesError {
    InstancesError::Foreign { kind, name: name.to_owned() }
}

/// Somebody was faster, or a run that was cut got so far.
pub(super) fn unless_there(made: Result<(), IncusError>) -> Result<(), IncusError> {
    made.or_else(|error| if error.is_already_there() { Ok(()) } else { Err(error) })
}

/// Likewise.
pub(super) fn unless_gone(removed: Result<(), IncusError>) -> Result<(), IncusError> {
    removed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// Waits for Incus where it is busy with an instance: after a boot of the host it starts them by itself.
pub(super) struct Busy(Instant);

impl Busy {
    pub(super) fn new() -> Self {
        Self(Instant::now() + FREE_WITHIN)
    }

    /// Whether what was done with an instance is to be done again, after a while, because Incus was busy with it.
    pub(super) async fn was(&self, done: &Result<(), IncusError>) -> bool {
        let again = done.as_ref().is_err_and(IncusError::is_busy) && Instant::now() < self.0;
        if again {
            sleep(LOOK).await;
        }
        again
    }
}

/// What the bridge is configured with.
pub(super) fn bridge_config(stack: &StackName) -> Config {
    let address = format!("{}/{}", bridge::HOST, bridge::PREFIX);
    config_of(&[
        ("ipv4.address", &address),
        ("ipv4.nat", "false"),
        ("ipv4.dhcp", "true"),
        ("ipv4.firewall", "false"),
        ("ipv6.address", "none"),
        ("dns.mode", "none"),
        (KEY_STACK, stack.as_str()),
    ])
}

fn config_of(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
