//! What an agent says on its control socket: how it sees the data centers it watches. The answer to `status`.
//!
//! Like the configuration it crosses a process boundary, in the other direction. A reader ignores fields it does not
//! know, so that a command line understands an agent one version ahead.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DatacenterName, HostName, ProviderName, StackName};

/// How an agent is, and what it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentStatus {
    /// It watches.
    pub healthy: bool,
    /// It was told to stop.
    pub draining: bool,
    /// Its program's version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// Whose agent it is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The digest of its configuration.
    pub config_digest: Digest,
    /// Everything it watches looks dead, its own data center too: it rather distrusts itself, and all is counted on.
    #[serde(default)]
    pub fails_open: bool,
    /// What it watches.
    pub watched: Vec<Sight>,
    /// The providers of DNS that it tells who lives, and why it could not the last time, where it could not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<ProviderName, Option<String>>,
}

/// One address, as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sight {
    /// Which data center.
    pub datacenter: DatacenterName,
    /// The uplink whose address it is; of the agent's own data center the host.
    pub at: String,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// How it is.
    pub standing: Standing,
    /// Whether readers may be sent there: it is not dead, or everything is.
    pub counted_on: bool,
    /// Since when it is so, in seconds since the Unix epoch; of what is not known yet, since when it is watched.
    pub since_unix: u64,
    /// How long the last answer took, the connection and its certificate included, in microseconds.
    #[serde(default)]
    pub latency_us: Option<u64>,
    /// How far the clock there is ahead of the one here, in seconds, as it was last seen. At least so far, when its certificate
    /// begins later than now.
    #[serde(default)]
    pub clock_ahead_seconds: Option<i64>,
    /// Why the last look failed, when it did.
    #[serde(default)]
    pub last_error: Option<String>,
    /// How often it has died since the agent was started.
    #[serde(default)]
    pub deaths: u64,
}

/// How an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Not looked at often enough yet.
    Unknown,
    /// It answers.
    Alive,
    /// It does not.
    Dead,
}
