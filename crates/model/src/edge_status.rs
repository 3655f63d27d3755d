//! What an edge says of itself on its control socket: the answer to `status`.
//!
//! Like the configuration it crosses a process boundary, in the other direction. A reader ignores fields it does not
//! know, so that a command line understands an edge one version ahead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::edge_config::{EdgeApp, EpochProof};
use crate::edge_rules::Keep;
use crate::name::{DatacenterName, DnsName, HostName, Origin, SiteName, StackName};

/// How an edge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EdgeStatus {
    /// It serves. (A drain is not unhealthy, but is said.)
    pub healthy: bool,
    /// It was told to stop and serves its last readers.
    pub draining: bool,
    /// Its program's version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// Whose edge it is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there; not said where its configuration does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The number of the configuration it serves.
    pub generation: u64,
    /// That configuration's digest.
    pub config_digest: Digest,
    /// The digest of the certificate chain's file that it serves.
    #[serde(default)]
    pub certificate: Option<Digest>,
    /// When that certificate ends, in seconds since the Unix epoch.
    #[serde(default)]
    pub certificate_ends_unix: Option<u64>,
    /// The certificates of public authorities that it has, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub public_certificates: BTreeMap<DnsName, PublicCertificate>,
    /// Whether this process writes to the store; a new one does once the old one has been told to stop.
    pub owns_store: bool,
    /// Connections of readers and peers.
    pub connections: usize,
    /// What it has done since it was started; an older edge does not say.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// The access log; `None` when none is written.
    #[serde(default)]
    pub access_log: Option<AccessLogStatus>,
    /// The sites served here.
    pub sites: Vec<SiteStatus>,
}

impl EdgeStatus {
    /// A site by its name.
    pub fn site(&self, name: &SiteName) -> Option<&SiteStatus> {
        self.sites.iter().find(|site| site.site == *name)
    }
}

/// A certificate of a public authority at an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PublicCertificate {
    /// The digest of its file.
    pub file: Digest,
    /// From when it is valid, in seconds since the Unix epoch; `None` when it is not used. An older edge does not say.
    #[serde(default)]
    pub begins_unix: Option<u64>,
    /// When it ends, in seconds since the Unix epoch; `None` when it is not used.
    pub ends_unix: Option<u64>,
    /// Why it is not used: the stack's own is shown instead.
    #[serde(default)]
    pub problem: Option<String>,
}

/// How the access log is written. Numbers since the process was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct AccessLogStatus {
    /// Entries in the file.
    pub written: u64,
    /// Entries that were dropped, because the disk did not take them (in time).
    pub dropped: u64,
    /// Why entries are being dropped now.
    pub problem: Option<String>,
}

/// What an edge has done since its process was started. Numbers that only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Traffic {
    /// Answers from the store, fresh.
    pub hits: u64,
    /// Answers from the store, stale and fetched again behind.
    pub stale: u64,
    /// Answers from the store because the source was away.
    pub away: u64,
    /// Answers that the source was asked for.
    pub misses: u64,
    /// What belongs to one reader, passed through.
    pub passed: u64,
    /// Answers of the edge itself: refusals, webhooks, "the source is away".
    pub own: u64,
    /// Those of them that told a reader to ask less often.
    pub limited: u64,
    /// Questions of other edges.
    pub asked_by_edges: u64,
    /// Questions to sources whose answer was kept.
    pub kept: u64,
    /// Questions that confirmed what was kept.
    pub confirmed: u64,
    /// Questions whose answer was not for the store.
    pub unkept: u64,
    /// Questions without a usable answer.
    pub unanswered: u64,
    /// TLS handshakes that ended well.
    pub handshakes: u64,
    /// TLS handshakes that did not.
    pub handshakes_failed: u64,
    /// Connections taken.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Bytes from readers and peers that dialled, TLS included.
    pub received_bytes: u64,
    /// Bytes to them.
    pub sent_bytes: u64,
    /// How long sources took to begin an answer.
    pub source_latency: Latency,
}

impl Traffic {
    /// All answers to readers.
    pub fn requests(&self) -> u64 {
        self.from_store() + self.misses + self.passed + self.own
    }

    /// Answers for which nobody was waited for.
    pub fn from_store(&self) -> u64 {
        self.hits + self.stale + self.away
    }
}

/// Upper bounds of the buckets of [`Latency`], in milliseconds; one more bucket holds what is beyond the last.
pub const LATENCY_BOUNDS_MS: [u64; 9] = [1, 5, 10, 25, 50, 100, 250, 1000, 5000];

/// Times, counted in buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Latency {
    /// How many fell into each bucket.
    pub buckets: Vec<u64>,
    /// Their sum.
    pub microseconds: u64,
}

impl Latency {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How a site stands at an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteStatus {
    /// Its name.
    pub site: SiteName,
    /// Where it is canonical.
    pub canonical: Origin,
    /// What the application is.
    pub app: EdgeApp,
    /// Whether it is written here.
    pub role: Role,
    /// The data center of the primary, when that is another edge; this edge's own where the application runs on another
    /// host of it.
    pub primary: Option<DatacenterName>,
    /// Which primary this is, counted.
    pub epoch: u64,
    /// A newer primary exists: this one takes no writes.
    pub superseded: bool,
    /// The newest primary that it has proof of, from its configuration or from another edge; an older edge does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestPrimary>,
    /// Closed to the public by its owner: nothing is kept.
    pub private: bool,
    /// Its application is being worked on, and is not asked for anything.
    #[serde(default)]
    pub maintenance: bool,
    /// Every page that is known is kept, and the last pass kept or confirmed it.
    pub complete: bool,
    /// Pages on disk.
    pub pages_kept: usize,
    /// Pages known, kept or not.
    pub pages_known: usize,
    /// Kept pages that wait to be confirmed.
    pub pages_stale: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that are known to belong to the site, kept or not; 0 when an older edge does not say.
    #[serde(default)]
    pub bytes_known: u64,
    /// How it stands with the room it may take; an older edge does not say.
    #[serde(default)]
    pub room: Option<RoomReport>,
    /// When the page confirmed longest ago was confirmed, in seconds since the Unix epoch.
    pub oldest_fetch_unix: Option<u64>,
    /// When a page was confirmed last, in seconds since the Unix epoch.
    pub newest_fetch_unix: Option<u64>,
    /// Where its content comes from.
    pub source: SourceReport,
    /// The pass that runs now.
    pub pass: Option<Progress>,
    /// How the last pass ended.
    pub last_pass: Option<LastPass>,
}

impl SiteStatus {
    /// Whether everything is kept that is to be: all that is known but what was left out for want of room, and nothing of
    /// a site that its owner closed.
    pub fn is_filled(&self) -> bool {
        self.private || self.complete || self.last_pass.as_ref().is_some_and(|last| last.complete)
    }
}

/// The newest primary of a site that somebody knows of, with the management machine's word on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewestPrimary {
    /// Which one it is, counted.
    pub epoch: u64,
    /// Where it is, signed.
    pub proof: EpochProof,
}

/// How a site stands with the room it may take at an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RoomReport {
    /// What happens when it is used up.
    pub keep: Keep,
    /// The budget, in bytes; `None`: as much as the disk has.
    pub budget: Option<u64>,
    /// What it could take at most: the budget, or less when the disk has less. `None`: the file system does not say.
    pub limit: Option<u64>,
    /// Bytes of pages on disk, without images, video and the like.
    pub page_bytes: u64,
    /// Pages that are passed through because there was no room for them.
    pub left_out: usize,
    /// Their bytes.
    pub left_out_bytes: u64,
}

/// Whether a site is written at an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It is.
    Primary,
    /// A copy is kept.
    Mirror,
}

/// Whether a site's source answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceReport {
    /// `None` until it was asked for the first time.
    pub reachable: Option<bool>,
    /// Why it did not answer last.
    pub last_error: Option<String>,
}

/// A pass over a site that runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Why it runs.
    pub reason: PassReason,
    /// Pages looked at.
    pub done: usize,
    /// Pages known so far: looked at, or still to be.
    pub known: usize,
    /// Pages that could not be fetched.
    pub failed: usize,
}

impl Progress {
    /// A pass that has looked at nothing yet.
    pub fn begun(reason: PassReason) -> Self {
        Self { reason, done: 0, known: 0, failed: 0 }
    }
}

/// Why a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassReason {
    /// The mirror is not known to be complete.
    Fill,
    /// The site said that it changed.
    Change,
    /// Time has passed.
    Sweep,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastPass {
    /// Why it ran.
    pub reason: PassReason,
    /// When it ended, in seconds since the Unix epoch.
    pub finished_unix: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Pages it knew of.
    pub known: usize,
    /// Pages that could not be fetched.
    pub failed: usize,
    /// Pages that there was no room for.
    #[serde(default)]
    pub left_out: usize,
    /// Pages that were gone and were removed.
    pub removed: usize,
    /// Pages that the source no longer has but that are still served, because they were too many at once.
    pub held: usize,
    /// Every known page was kept or confirmed, or left out for want of room.
    pub complete: bool,
}
