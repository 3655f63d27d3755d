//! One host: a container that behaves like a machine somebody has just installed Debian on.

use std::collections::BTreeMap;
use std::path::Path;

use sovereign_incus::file::{Content, Owned};
use sovereign_incus::instance::{NewInstance, Status};
use sovereign_incus::{Client, Config, IncusError};

use crate::error::LabError;
use crate::keys::{Folder, public, read};
use crate::shape::{Lab, LabDatacenter, LabHost};

/// Whose it is, on everything that a lab makes.
pub(crate) const MARK: &str = "user.sovereign.lab";

/// Numbers of users for what runs in the host. Debian's own range does not fit into the one that the host itself has.
const NUMBERS: &str = "root:1000000:100000000\n";

/// The cgroup hierarchies of this machine are no business of a host's: with the unified one alone the host's containers
/// start on any machine, also where controllers are spread over several hierarchies.
const INIT: &str = "lxc.init.cmd = /sbin/init systemd.unified_cgroup_hierarchy=1";

/// Makes a host and starts it; one that is there is started if it does not run.
pub(crate) async fn make(
    client: &Client,
    folder: &Path,
    lab: &Lab,
    at: (&LabDatacenter, &LabHost),
) -> Result<(), LabError> {
    let (datacenter, host) = at;
    match client.create_instance(&description(lab, datacenter, host)).await {
        Err(error) if !error.is_already_there() => return Err(error.into()),
        _ => {}
    }
    if client.instance_state(&host.instance).await?.status == Status::Running {
        return Ok(());
    }
    // Before its first start, and again where the last run was stopped in the midst of it.
    for (path, content, mode) in files(folder, datacenter, host)? {
        let owned = Owned::by_root(mode);
        client.push_file(&host.instance, Path::new(path), &Content::Bytes(content.into_bytes()), owned).await?;
    }
    Ok(client.start(&host.instance).await?)
}

fn description(lab: &Lab, datacenter: &LabDatacenter, host: &LabHost) -> NewInstance {
    let text = |pairs: &[(&str, &str)]| -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    NewInstance {
        name: host.instance.clone(),
        image: lab.image,
        description: format!("host {} of the lab {}", host.name, lab.name),
        // It does not come back by itself after a power cut: whether a host does is for the lab to say.
        config: text(&[
            (MARK, lab.name.as_str()),
            ("security.nesting", "true"),
            ("raw.lxc", INIT),
            ("boot.autostart", "false"),
        ]),
        devices: BTreeMap::from([
            ("root".to_owned(), text(&[("type", "disk"), ("path", "/"), ("pool", lab.pool.as_str())])),
            ("eth0".to_owned(), text(&[("type", "nic"), ("name", "eth0"), ("network", datacenter.bridge.as_str())])),
        ]),
        profiles: Vec::new(),
        ephemeral: false,
    }
}

/// What a host has that the others do not, each with its permissions.
fn files(
    folder: &Path,
    datacenter: &LabDatacenter,
    host: &LabHost,
) -> Result<Vec<(&'static str, String, u32)>, LabError> {
    let place = Folder::new(folder);
    let key = place.host_key(host);
    let network = format!(
        "[Match]\nName=eth0\n\n[Network]\nAddress={}/24\nGateway={}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        host.address, datacenter.gateway
    );
    Ok(vec![
        ("/etc/hostname", format!("{}\n", host.name), 0o644),
        ("/etc/hosts", format!("127.0.0.1 localhost\n{} {}\n", host.address, host.name), 0o644),
        ("/etc/subuid", NUMBERS.to_owned(), 0o644),
        ("/etc/subgid", NUMBERS.to_owned(), 0o644),
        ("/etc/systemd/network/10-eth0.network", network, 0o644),
        ("/etc/ssh/ssh_host_ed25519_key", read(&key)?, 0o600),
        ("/etc/ssh/ssh_host_ed25519_key.pub", read(&public(&key))?, 0o644),
        ("/root/.ssh/authorized_keys", read(&public(&place.key()))?, 0o600),
    ])
}

/// Stops a host as a power cut would; one that does not run stays so.
pub(crate) async fn power_off(client: &Client, host: &LabHost) -> Result<(), IncusError> {
    use sovereign_incus::instance::Stop;
    match client.instance_state(&host.instance).await?.status {
        Status::Stopped => Ok(()),
        _ => client.stop(&host.instance, Stop::AtOnce).await,
    }
}
