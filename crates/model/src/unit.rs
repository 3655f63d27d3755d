//! A unit: a process an engine keeps running, described whole, so that equal descriptions have equal digests and a
//! different digest means "replace it".

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::instance::InstanceSpec;
use crate::name::{DatacenterName, HostName, UnitName};

/// What an engine keeps running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runs {
    /// A process of the host itself.
    Unit(UnitSpec),
    /// An application in a container.
    Instance(InstanceSpec),
}

impl Runs {
    /// Its name.
    pub fn name(&self) -> &UnitName {
        match self {
            Self::Unit(unit) => &unit.name,
            Self::Instance(instance) => &instance.name,
        }
    }

    /// Where it belongs.
    pub fn datacenter(&self) -> &DatacenterName {
        match self {
            Self::Unit(unit) => &unit.datacenter,
            Self::Instance(instance) => &instance.datacenter,
        }
    }

    /// The host it runs on; `None` for this machine.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Unit(unit) => unit.host.as_ref(),
            Self::Instance(instance) => Some(&instance.host),
        }
    }

    /// The units that must be healthy before it starts.
    pub fn after(&self) -> &[UnitName] {
        match self {
            Self::Unit(unit) => &unit.after,
            Self::Instance(instance) => &instance.after,
        }
    }

    /// The listening sockets that are held for it.
    pub fn sockets(&self) -> &[SocketSpec] {
        match self {
            Self::Unit(unit) => &unit.sockets,
            Self::Instance(_) => &[],
        }
    }

    /// Where its host's edge reaches it over TCP, if it does.
    pub fn serves(&self) -> Option<SocketAddrV4> {
        match self {
            Self::Unit(_) => None,
            Self::Instance(instance) => Some(SocketAddrV4::new(instance.address, instance.serves?)),
        }
    }

    /// As a process of the host; `None` for a container.
    pub fn as_unit(&self) -> Option<&UnitSpec> {
        match self {
            Self::Unit(unit) => Some(unit),
            Self::Instance(_) => None,
        }
    }

    /// The digest that tells two descriptions apart.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Unit(unit) => unit.digest(),
            Self::Instance(instance) => instance.digest(),
        }
    }
}

/// A process to keep running, with everything that decides how it runs. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnitSpec {
    /// Its name, unique in the stack.
    pub name: UnitName,
    /// Where it belongs.
    pub datacenter: DatacenterName,
    /// The host it runs on; `None` for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The program to execute.
    pub program: PathBuf,
    /// Its arguments, the program's name left out. Never a secret.
    pub args: Vec<String>,
    /// Its whole environment: nothing is inherited. Never a secret.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub working_dir: PathBuf,
    /// Listening sockets the supervisor holds and passes on (`LISTEN_FDS`, names in `LISTEN_FDNAMES`).
    pub sockets: Vec<SocketSpec>,
    /// What it may see.
    pub confinement: Confinement,
    /// How to tell that it is well.
    pub health: Health,
    /// Units that must be healthy before this one starts.
    pub after: Vec<UnitName>,
    /// How long it may take to stop after SIGTERM before SIGKILL, in seconds.
    pub stop_grace_seconds: u32,
    /// What happens when the description changes.
    pub replace: Replace,
    /// Digest of inputs that are not in the description (an image's content, a configuration file): a change replaces the unit.
    pub inputs: BTreeMap<String, Digest>,
}

impl UnitSpec {
    /// The digest that tells two descriptions apart.
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SocketSpec {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What a unit may see of the file system, besides system libraries and its own `/tmp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Confinement {
    /// Folders and files it may read and execute.
    pub read: Vec<PathBuf>,
    /// Folders it may change.
    pub write: Vec<PathBuf>,
    /// Whether it gets a root folder and, from root, a user id of its own where the machine allows (`write` folders are
    /// handed to it). Edges keep the operator's.
    pub own_user: bool,
    /// The TCP ports it may connect to, on any address, and then it may listen on none but `sockets`; `None` when it may
    /// connect and listen anywhere. Kept where the kernel can (Linux 6.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Vec<u16>>,
    /// Whether it may itself listen at ports below 1024, which are root's otherwise. On hosts only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low_ports: bool,
}

/// How to tell that a unit is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// `GET path` over HTTP/1.1 on a unix socket answers with a status below 500.
    HttpUnix {
        /// The socket.
        socket: PathBuf,
        /// The request target.
        path: String,
        /// The `Host` field. Sent with `X-Forwarded-Proto: https`.
        host: String,
    },
    /// The unit's control socket answers `status` with `"healthy": true`.
    Control {
        /// The socket.
        socket: PathBuf,
    },
    /// It runs.
    Alive,
}

/// How an old process makes room for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replace {
    /// The new one starts beside the old one on the same sockets; the old one drains when the new one is healthy.
    Beside,
    /// The old one stops first: two of them must not share its data.
    StopFirst,
}
