//! What was seen of a stack: the half of a plan's input that the world decides.
//!
//! Plain data, made by an engine. What a plan depends on has a [`Observed::fingerprint`], so that a plan made against
//! an older observation can be refused; figures for people (pages, times) are carried along and do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, ImageName, SiteName, UnitName};

/// Everything that was seen, all data centers together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observed {
    /// The supervisor of this machine; `None` when it does not run.
    pub supervisor: Option<SupervisorSeen>,
    /// The images that are kept whole.
    pub images: BTreeMap<ImageName, ImageSeen>,
    /// The data centers where anything of the stack was seen.
    pub datacenters: BTreeMap<DatacenterName, DatacenterSeen>,
    /// The edges of which anything was seen.
    pub edges: BTreeMap<EdgeName, EdgeSeen>,
    /// The hosts that could not be looked at, by their edges, and why: nothing is known of what is on them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub away: BTreeMap<EdgeName, String>,
    /// The hosts that are evacuated on purpose, by their edges, and by whom: nothing is planned for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evacuated: BTreeMap<EdgeName, String>,
    /// The sites that were seen at their primary.
    pub sites: BTreeMap<SiteName, SiteSeen>,
    /// The newest primaries of sites that edges have proof of: of each site those with the highest number, which is more than
    /// one only where two machines gave the same number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub primaries: BTreeMap<SiteName, BTreeSet<Primary>>,
    /// The sites of which nothing is where they are declared, though the archive has them: they do not begin empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unrestored: BTreeMap<SiteName, Unrestored>,
}

/// A site that waits for a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unrestored {
    /// The newest snapshot of it; `None` when it is not known what the archive has.
    pub snapshot: Option<String>,
    /// Whether a restore that was cut off has brought it up, empty.
    pub is_arriving: bool,
}

/// A primary of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Primary {
    /// Which one it is, counted: the highest is the newest.
    pub epoch: u64,
    /// Where the site is written.
    pub at: DatacenterName,
}

/// A supervisor that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SupervisorSeen {
    /// The digest of the binary it runs.
    pub binary: Digest,
    /// That binary's version, for people.
    pub version: String,
}

/// An image that is kept whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageSeen {
    /// The digest of the lock it was made by.
    pub lock: Digest,
    /// The digest of what is in it.
    pub content: Digest,
}

/// What was seen at a data center.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatacenterSeen {
    /// The units the engine knows.
    pub units: BTreeMap<UnitName, UnitSeen>,
}

/// What was seen of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EdgeSeen {
    /// Its configuration; `None` when it was never given one.
    pub config: Option<ConfigSeen>,
    /// The certificate that lies ready for it.
    pub certificate: Option<CertificateSeen>,
    /// The mirrors it keeps.
    pub mirrors: BTreeMap<SiteName, MirrorSeen>,
    /// What on its host is not as it was made, in sentences: units of ours, rules for packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// The packages that are not on its host, though what is to run there needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// A unit the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnitSeen {
    /// How it is.
    pub state: UnitState,
    /// The digest of the description it was started by.
    pub spec: Digest,
    /// The listening sockets that are held for it.
    #[serde(default)]
    pub sockets: BTreeSet<SocketAddr>,
    /// Whether one that it has replaced still runs, for whoever has not heard of the new one yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// The version of the application that its data was last used by, where versions matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_version: Option<String>,
}

/// How a unit is.
///
/// ```text
///            run                  health check
/// Stopped ---------> Unhealthy ----------------> Healthy
///    ^                 |    ^---------------------'
///    | stop            | dies again and again
///    '------------- Failed
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Not meant to run.
    Stopped,
    /// Meant to run, and starting, being restarted, or not answering.
    Unhealthy,
    /// It runs and its health check passes.
    Healthy,
    /// Given up for now; the text says why.
    Failed(String),
}

/// The configuration an edge was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConfigSeen {
    /// The generation it serves; of its configuration file while it does not run.
    pub generation: u64,
    /// The digest of that configuration (`Digest::of_value` of the `EdgeConfig`).
    pub config: Digest,
    /// The digest of the certificate chain it serves; `None` when it does not run or does not say. An edge that serves
    /// another one than the one that lies ready is told to reload.
    #[serde(default)]
    pub certificate: Option<Digest>,
    /// Whether it says that it is well.
    pub healthy: bool,
    /// Who made what lies ready for it; `None` where nobody but this management machine can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// A configuration as it was written: its number, and the digest of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Written {
    /// Its generation.
    pub generation: u64,
    /// The digest of the configuration (`Digest::of_value` of the `EdgeConfig`).
    pub config: Digest,
}

/// Where a configuration on a host comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provenance {
    /// What lies on the host.
    pub lies: Written,
    /// Whether the key that this management machine has signed it. Another one may have rotated that key.
    pub signed: bool,
    /// What this management machine wrote there last: nothing, one, or more when it was killed while it wrote another.
    pub written: Vec<Written>,
}

impl Provenance {
    /// Whether this management machine wrote what lies there.
    pub fn is_ours(&self) -> bool {
        self.written.contains(&self.lies)
    }

    /// The newest generation that this management machine wrote there.
    pub fn newest_written(&self) -> Option<u64> {
        self.written.iter().map(|written| written.generation).max()
    }
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CertificateSeen {
    /// The digest of the chain's file.
    pub chain: Digest,
    /// The host names in it.
    pub names: BTreeSet<DnsName>,
    /// The addresses in it.
    pub addresses: BTreeSet<IpAddr>,
    /// When it ends, in unix seconds.
    pub not_after: u64,
}

/// A site as it was seen at its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteSeen {
    /// The edge beside its data.
    pub at: EdgeName,
    /// Whether its first set-up is done.
    pub set_up: bool,
    /// The digest of the settings that were applied last; `None` before the first time.
    pub settings: Option<Digest>,
    /// Whether its publish notices are registered with the edge's address and key.
    pub webhook: bool,
}

/// A mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MirrorSeen {
    /// Whether it was filled completely once. What changes afterwards is the edges' business.
    pub complete: bool,
    /// Pages it keeps.
    pub pages_kept: u64,
    /// Pages it knows of.
    pub pages_known: u64,
    /// When it last fetched one, in unix seconds.
    pub newest_fetch: Option<u64>,
}

impl Observed {
    /// The digest of what a plan depends on. Two observations with the same fingerprint have the same plan.
    pub fn fingerprint(&self) -> Digest {
        let mut decisive = self.clone();
        if let Some(supervisor) = &mut decisive.supervisor {
            supervisor.version.clear();
        }
        for datacenter in decisive.datacenters.values_mut() {
            for unit in datacenter.units.values_mut() {
                if let UnitState::Failed(reason) = &mut unit.state {
                    reason.clear();
                }
            }
        }
        for edge in decisive.edges.values_mut() {
            if let Some(config) = &mut edge.config {
                // Its unit's state says the same, and counts.
                config.healthy = false;
                config.provenance = config.provenance.take().filter(|provenance| !provenance.is_ours());
            }
            for mirror in edge.mirrors.values_mut() {
                *mirror = MirrorSeen { complete: mirror.complete, ..MirrorSeen::default() };
            }
        }
        decisive.away.values_mut().chain(decisive.evacuated.values_mut()).for_each(String::clear);
        Digest::of_value(&decisive)
    }

    /// Takes note of a primary that somebody has proof of. Older ones do not count any more.
    pub fn note_primary(&mut self, site: &SiteName, primary: Primary) {
        let known = self.primaries.entry(site.clone()).or_default();
        let newest = known.last().map_or(0, |known| known.epoch);
        if primary.epoch > newest {
            known.clear();
        }
        if primary.epoch >= newest {
            known.insert(primary);
        }
    }

    /// A unit, wherever it is.
    pub fn unit(&self, datacenter: &DatacenterName, unit: &UnitName) -> Option<&UnitSeen> {
        self.datacenters.get(datacenter)?.units.get(unit)
    }
}
