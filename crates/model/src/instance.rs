//! An instance: one application that Incus runs from an image, described whole, so that equal descriptions have equal
//! digests and a different digest means "replace it". Its data lies on volumes, which outlive it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DatacenterName, HostName, ImageName, UnitName};
use crate::unit::Replace;

/// The bridge that instances of a host are on. It exists within each host by itself: nothing is routed to it, so all
/// hosts have the same.
pub mod bridge {
    use super::{Digest, Ipv4Addr};

    /// Its name.
    pub const NAME: &str = "sovereign0";

    /// The host's own address on it, where instances reach the host's edge.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

    /// How many bits of an address name the network.
    pub const PREFIX: u8 = 16;

    /// The address of what `digest` names: the same each time, so that it is known before anything runs. Never one of
    /// the network's first or last 256, where the host's and the broadcast address lie.
    pub fn address(digest: &Digest) -> Ipv4Addr {
        let bytes = digest.as_bytes();
        let [network, site, _, _] = HOST.octets();
        Ipv4Addr::new(network, site, bytes[0] % 254 + 1, bytes[1])
    }

    /// The hardware address of whatever has `address`, so that an instance that takes another's place is found at once:
    /// its neighbours remember for half a minute which hardware address belongs to an address. In the range that Incus
    /// takes its own from.
    pub fn hardware(address: Ipv4Addr) -> String {
        let [_, b, c, d] = address.octets();
        format!("00:16:3e:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// What applications run as within instances. Debian gives these numbers to nobody, and they never change: they are
/// written on volumes that outlive images.
pub mod users {
    /// Ghost, in the image of a site. Its group has the same number.
    pub const GHOST: u32 = 60_900;

    /// MariaDB, in the image of a database.
    pub const MYSQL: u32 = 60_901;
}

/// An application to keep running in a container, with everything that decides how it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstanceSpec {
    /// Its name, unique in the stack.
    pub name: UnitName,
    /// Where it belongs.
    pub datacenter: DatacenterName,
    /// The host it runs on.
    pub host: HostName,
    /// What it is made from.
    pub image: ImageName,
    /// The digest that Incus knows that image by.
    pub fingerprint: Digest,
    /// Its address on the host's [`bridge`].
    pub address: Ipv4Addr,
    /// Its data.
    pub volumes: Vec<VolumeSpec>,
    /// Files that it finds when it starts. What is in them may be secret, and is not part of the description.
    pub files: Vec<InstanceFile>,
    /// The addresses and ports it may connect to; nothing else answers it.
    pub reaches: Vec<SocketAddrV4>,
    /// The TCP port that its host's edge may connect to, if there is one.
    pub serves: Option<u16>,
    /// What it may take of its host.
    pub limits: Limits,
    /// How to tell that it is well.
    pub health: InstanceHealth,
    /// Units that must be healthy before this one starts.
    pub after: Vec<UnitName>,
    /// How long it may take to stop before it is killed, in seconds.
    pub stop_grace_seconds: u32,
    /// What happens when the description changes.
    pub replace: Replace,
    /// What its data is written for, of an application that changes its data's form when it starts: the version, say.
    /// Two with another one never run at once, and before the newer one starts, the volumes of `converts` are kept as
    /// they are, to go back to.
    pub data_version: Option<String>,
    /// The volumes, its own or other units', whose content is converted then: unit and volume.
    pub converts: Vec<(UnitName, String)>,
    /// Digests of inputs that are not in the description: a change replaces the instance.
    pub inputs: BTreeMap<String, Digest>,
}

impl InstanceSpec {
    /// The digest that tells two descriptions apart.
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }

    /// The same with its address worked out: one that is replaced by another beside it needs an address of its own,
    /// one that stops first keeps what others know it by.
    pub fn addressed(self) -> Self {
        let without = Self { address: Ipv4Addr::UNSPECIFIED, ..self };
        let digest = match without.replace {
            Replace::Beside => without.digest(),
            Replace::StopFirst => Digest::of(without.name.as_str()),
        };
        Self { address: bridge::address(&digest), ..without }
    }
}

/// Whether a version of an application is older than another. Of what are no numbers with dots between it is not known.
pub fn is_older(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u64>> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|number| number.parse().ok()).collect()
    };
    numbers(version).zip(numbers(than)).is_some_and(|(version, than)| version < than)
}

/// A volume that outlives the instances it is attached to. Its name on the host follows from the unit's and its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its name, unique in the unit.
    pub name: String,
    /// Where it is mounted, absolute.
    pub path: PathBuf,
}

/// A file within an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstanceFile {
    /// Where, absolute. Folders above it are made, for root.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The user it belongs to, by the number within the instance.
    pub user: u32,
    /// Likewise the group.
    pub group: u32,
    /// The digest of what is in it.
    pub digest: Digest,
}

/// What an instance may take of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
}

/// How to tell that an instance is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceHealth {
    /// `GET path` over HTTP/1.1 on a TCP port answers with a status below 500.
    Http {
        /// The port.
        port: u16,
        /// The request target.
        path: String,
        /// The `Host` field. Sent with `X-Forwarded-Proto: https`.
        host: String,
    },
    /// A systemd unit within it is active.
    Service {
        /// Its name, `database.service` for instance.
        service: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_each_time_and_nobody_elses() {
        for text in ["a", "b", "ghost-blog@home"] {
            let address = bridge::address(&Digest::of(text));
            assert_eq!(address, bridge::address(&Digest::of(text)));
            let [10, 64, third, _] = address.octets() else { panic!("{address}") };
            assert!((1..=254).contains(&third), "{address}");
            let hardware = bridge::hardware(address);
            assert_eq!((&hardware[..12], hardware.len()), ("00:16:3e:40:", 17));
        }
    }
}
