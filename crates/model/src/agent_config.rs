//! The configuration an agent is given: what it watches. Every agent of a stack has its own.
//!
//! It crosses a process boundary inside the signed envelope of the `runtime` crate, so every change here is a change of
//! protocol: bump [`PROTOCOL`] and keep reading the one before. An agent does not read it again: another one is another
//! description of its unit, which replaces it, and going back to the unit before is going back to what it was given.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, HostName, StackName};
use crate::provider::Publishes;

/// The version of this format.
pub const PROTOCOL: u32 = 1;

/// What agents ask an edge for, whatever its name: it answers with 204 and nothing else.
pub const HEALTH_PATH: &str = "/.sovereign/health";

/// A field of an edge's answer to that: a data center whose address changes, a space, and an address that an edge of it
/// dials from. One field for each.
pub const LEARNED_FIELD: &str = "sovereign-learned";

/// All that an agent needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentConfig {
    /// Whose agent this is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The certificate of the stack's own authority, PEM.
    pub authority: String,
    /// What it watches: the other data centers from outside, its own from inside.
    pub watched: Vec<Watched>,
    /// What it watches besides, at the addresses that its own edges learn: uplinks of others whose provider changes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dynamic: Vec<Dynamic>,
    /// Whom it tells who lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishes: Option<Publishes>,
}

impl AgentConfig {
    /// The edge it stands beside.
    pub fn edge(&self) -> EdgeName {
        EdgeName { datacenter: self.datacenter.clone(), host: self.host.clone() }
    }

    /// Whether this is one of the agent's own data center, which it judges by its insides.
    pub fn is_inside(&self, watched: &Watched) -> bool {
        watched.datacenter == self.datacenter
    }
}

/// An address at which a data center's edge must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watched {
    /// Which data center.
    pub datacenter: DatacenterName,
    /// The uplink whose address it is; of the agent's own data center the host.
    pub at: String,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// The name that is asked for, and that the certificate must carry; the address itself where no site is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// Whether a certificate of a public authority is as good as one of the stack's own: another proxy ends TLS there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
}

/// An uplink of another data center whose address its provider changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dynamic {
    /// Which data center.
    pub datacenter: DatacenterName,
    /// The uplink.
    pub at: String,
    /// The port that readers connect to.
    pub port: u16,
    /// As [`Watched::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// As [`Watched::public`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
}

impl Dynamic {
    /// What is watched while it has this address.
    pub fn at(&self, address: IpAddr) -> Watched {
        let Self { datacenter, at, port, name, public } = self.clone();
        Watched { datacenter, at, address: SocketAddr::new(address, port), name, public }
    }
}
