//! The configuration a name server is given: what it answers for, where, and with which keys. Every name server of a stack
//! has its own.
//!
//! It crosses a process boundary inside the signed envelope of the `runtime` crate, so every change here is a change of
//! protocol: bump [`PROTOCOL`] and keep reading the one before. Like an agent, a name server does not read it again:
//! another one is another description of its unit, which replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, HostName, SecondaryName, StackName};
use crate::names::{Lan, Names};

/// The version of this format.
pub const PROTOCOL: u32 = 1;

/// All that a name server needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NameServerConfig {
    /// Whose name server this is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Its folder, absolute. What lies where in it, [`NameServerFolder`](crate::layout::NameServerFolder) says.
    pub folder: PathBuf,
    /// Where questions are taken, by UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The data center's own networks, where its edges are reached at other addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<Lan>,
    /// What is answered.
    pub names: Names,
    /// The tags of the domains' keys (RFC 4034 appendix B): each has one, which lies in the folder.
    pub keys: BTreeMap<DnsName, u16>,
    /// The tags of those that are to take their place, where keys are exchanged: such a domain is signed with both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coming_keys: BTreeMap<DnsName, u16>,
    /// The digests of the files with the keys of the secondaries' transfers: each has one, which lies in the folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transfer_keys: BTreeMap<SecondaryName, Digest>,
    /// The data centers that are taken out on purpose.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained: BTreeSet<DatacenterName>,
}

impl NameServerConfig {
    /// The edge it stands beside.
    pub fn edge(&self) -> EdgeName {
        EdgeName { datacenter: self.datacenter.clone(), host: self.host.clone() }
    }
}
