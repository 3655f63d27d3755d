//! What a name server says on its control socket: what it answers, and what it holds back. The answer to `status`.
//!
//! Like the configuration it crosses a process boundary, in the other direction. A reader ignores fields it does not
//! know, so that a command line understands a name server one version ahead.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DatacenterName, DnsName, HostName, StackName};

/// How a name server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NameServerStatus {
    /// It answers what it should, or is silent on purpose.
    pub healthy: bool,
    /// It was told to stop.
    pub draining: bool,
    /// Its program's version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// That of the Knot it drives, while one runs.
    #[serde(default)]
    pub knot: Option<u32>,
    /// Whose name server it is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The digest of its configuration.
    pub config_digest: Digest,
    /// Why it answers nobody, when it does so on purpose.
    #[serde(default)]
    pub silent: Option<String>,
    /// When its agent last told what it sees, in seconds since the Unix epoch; `None` when nothing is believed, and all are
    /// counted on.
    #[serde(default)]
    pub seen_unix: Option<u64>,
    /// Why the agent could not be asked the last time, when it could not.
    #[serde(default)]
    pub agent_error: Option<String>,
    /// The agent doubts what it sees, so all are counted on.
    #[serde(default)]
    pub fails_open: bool,
    /// Which addresses are left out of answers while there are others.
    pub away: Vec<Away>,
    /// The table by which readers are led to the nearest data center; `None` when all are told of all.
    #[serde(default)]
    pub geography: Option<Geography>,
    /// Why there is none, or why it is not the newest.
    #[serde(default)]
    pub geography_error: Option<String>,
    /// Where it takes questions; an older one does not say.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// The domains that it answers for.
    pub zones: Vec<ZoneStatus>,
    /// The names that have a challenge of a certificate authority's published.
    #[serde(default)]
    pub challenges: Vec<DnsName>,
    /// Why it does not answer what it should, when it does not; what it did before, it goes on answering.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// An address that readers are not sent to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Away {
    /// Whose it is.
    pub datacenter: DatacenterName,
    /// Which.
    pub address: IpAddr,
    /// Why.
    pub why: WhyAway,
}

/// Why readers are not sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyAway {
    /// It does not answer.
    Dead,
    /// Its data center is taken out on purpose.
    Drained,
}

/// A table of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Geography {
    /// When what it is made of was changed the last time, in seconds since the Unix epoch.
    pub of_unix: u64,
    /// Its size.
    pub bytes: u64,
}

/// A domain that is answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ZoneStatus {
    /// Its name.
    pub domain: DnsName,
    /// The number of its state; `None` while it is not loaded.
    #[serde(default)]
    pub serial: Option<u32>,
    /// When it was last loaded and what geography differs by was signed, in seconds since the Unix epoch.
    #[serde(default)]
    pub signed_unix: Option<u64>,
}
