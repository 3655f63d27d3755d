//! What a renewer says on its control socket: the answer to `status`.
//!
//! Like the configuration it crosses a process boundary, in the other direction. A reader ignores fields it does not
//! know, so that a command line understands a renewer one version ahead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DatacenterName, DnsName, HostName, StackName};

/// How a renewer is, and what it knows of the certificates it renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RenewerStatus {
    /// It sees what its edge shows, and could hand over what it gets.
    pub healthy: bool,
    /// It was told to stop.
    pub draining: bool,
    /// Its program's version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// Whose renewer it is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The digest of its configuration.
    pub config_digest: Digest,
    /// What it renews.
    pub names: BTreeMap<DnsName, Renewing>,
    /// Why it is not healthy, when it is not.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A certificate, as a renewer knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Renewing {
    /// When it ends, in seconds since the Unix epoch; `None` while there is none.
    pub ends_unix: Option<u64>,
    /// When its turn comes, or when it tries again, likewise.
    pub turn_unix: Option<u64>,
    /// What is in the way of renewing it, in as many sentences as there are; empty while nothing is.
    pub why: Vec<String>,
}
