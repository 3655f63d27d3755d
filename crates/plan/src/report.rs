//! The plan as a value, and what it says for itself: why each step, what stands in the way, what stays as it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sovereign_model::observed::Unrestored;
use sovereign_model::{DatacenterName, Digest, EdgeName, Observed, SiteName, StackName, Step, StepId, UnitName};

/// The ordered steps from what was seen to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// Whose plan it is.
    pub stack: StackName,
    /// The fingerprint of the observation it was made for.
    pub observed: Digest,
    /// The steps, in the order they must be performed.
    pub steps: Vec<Planned>,
    /// What forbids to do anything. When there is any, there are no steps.
    pub obstacles: Vec<Obstacle>,
    /// What already is as it should be.
    pub kept: Kept,
    /// The hosts of which nothing is known, by their edges, and why: nothing is planned for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub away: BTreeMap<EdgeName, String>,
    /// The hosts that are evacuated on purpose, by their edges, and by whom: nothing is planned for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evacuated: BTreeMap<EdgeName, String>,
    /// The sites that wait for a restore: no step works on their data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unrestored: BTreeMap<SiteName, Unrestored>,
}

impl Plan {
    /// Whether nothing has to change and nothing stands in the way.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.obstacles.is_empty()
    }

    /// Whether the plan still fits what is seen now; otherwise it must be made again.
    pub fn fits(&self, seen: &Observed) -> bool {
        self.observed == seen.fingerprint()
    }
}

/// A step in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Planned {
    /// Its id.
    pub id: StepId,
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// The host where it is done, by its edge; `None` for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<EdgeName>,
}

/// Why a step is in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It was not there.
    Absent,
    /// What is declared differs from what was seen.
    Changed,
    /// It was there and did not run.
    NotRunning,
    /// It runs and is not well yet.
    NotWell,
    /// It was given up; the text says why.
    GivenUp(String),
    /// Another binary runs than this one.
    OtherBinary,
    /// A certificate ends in so many days.
    Ending(u64),
    /// A certificate was renewed and is not served yet.
    CertificateRenewed,
    /// A site's publish notices do not arrive.
    NoNotices,
    /// A mirror has never been complete.
    Incomplete,
    /// Another one is in its place.
    Replaced,
    /// It was changed behind our back; the sentences say what.
    Drifted(Vec<String>),
    /// Nothing declares it any longer.
    Undeclared,
    /// It holds an address that is another unit's now.
    AddressNeeded {
        /// The other unit.
        by: UnitName,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "not there yet"),
            Self::Changed => write!(f, "declared otherwise now"),
            Self::NotRunning => write!(f, "not running"),
            Self::NotWell => write!(f, "not well yet"),
            Self::GivenUp(why) => write!(f, "given up: {why}"),
            Self::OtherBinary => write!(f, "another binary runs"),
            Self::Ending(0) => write!(f, "ends within a day"),
            Self::Ending(1) => write!(f, "ends in a day"),
            Self::Ending(days) => write!(f, "ends in {days} days"),
            Self::CertificateRenewed => write!(f, "its new certificate is not served yet"),
            Self::NoNotices => write!(f, "publish notices are not registered"),
            Self::Incomplete => write!(f, "never complete yet"),
            Self::Replaced => write!(f, "another one is in its place"),
            Self::Drifted(what) => write!(f, "{}", what.join("; ")),
            Self::Undeclared => write!(f, "no longer declared"),
            Self::AddressNeeded { by } => write!(f, "{by} needs its address"),
        }
    }
}

/// Something that steps cannot mend without risk to data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Obstacle {
    /// The data of a site is at another data center than its declared primary: an empty one would take its place.
    #[error("site {site} is declared at {declared}, but its data is at {found}")]
    DataElsewhere {
        /// The site.
        site: SiteName,
        /// Where it is declared.
        declared: EdgeName,
        /// Where its data is.
        found: EdgeName,
    },
    /// Edges have proof of a newer primary than the one that they would be told: there would be two, or nobody could write.
    #[error(
        "site {site} is declared at {declared}, but it is written at {found} since number {epoch} of its primaries, which \
        another management machine gave"
    )]
    WrittenElsewhere {
        /// The site.
        site: SiteName,
        /// Where it is declared.
        declared: DatacenterName,
        /// Where it is written.
        found: DatacenterName,
        /// The number of that primary.
        epoch: u64,
    },
    /// Another management machine wrote the configuration of an edge: what it declares would be undone unseen.
    #[error("the edge of {edge} has generation {found}, which was made on another management machine{}; {}",
        if *.signed { "" } else { ", with a key that this one does not have" },
        .written.map_or_else(|| "this one wrote none there".to_owned(), |written| format!("this one wrote {written} last")))]
    MadeElsewhere {
        /// The edge.
        edge: EdgeName,
        /// The generation that lies there.
        found: u64,
        /// Whether the key that this machine has signed it.
        signed: bool,
        /// The newest that this machine wrote there.
        written: Option<u64>,
    },
    /// A newer version of an application has worked with its data: the older one does not know what it finds.
    #[error("the data of {unit} is of version {found}, and {wanted} is older")]
    OlderVersion {
        /// The unit.
        unit: UnitName,
        /// The version that is to run.
        wanted: String,
        /// The version that its data was last used by.
        found: String,
    },
    /// A host was made ready by a program that did not need as much of it.
    #[error("{edge} lacks what a name server is made of: {}", packages.join(", "))]
    Lacks {
        /// The host, by its edge.
        edge: EdgeName,
        /// The packages.
        packages: Vec<String>,
    },
}

impl Obstacle {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Lacks { edge: EdgeName { datacenter, host }, .. } => {
                let name = host.as_ref().map(|host| format!(" --name {host}")).unwrap_or_default();
                format!("`sovereign host add root@ADDRESS --datacenter {datacenter}{name}` once more installs them")
            }
            Self::OlderVersion { found, .. } => format!(
                "`sovereign images lock ghost --version {found}` stays with it; what was before is in the archive: \
                 `sovereign archive list`"
            ),
            // Another command than `up` has met it.
            Self::WrittenElsewhere { declared, found, .. } if declared == found => {
                "`sovereign up` takes that number over".to_owned()
            }
            Self::WrittenElsewhere { site, declared, found, .. } => format!(
                "write `primary = \"{found}\"` for site {site}; if it is to be written at {declared} again, and {found} is \
                 lost, `sovereign restore {site}` brings it there"
            ),
            Self::MadeElsewhere { signed: true, .. } => "see that this stack file has what the other machine's has; \
                                                         then `sovereign up --take-over` goes on from here"
                .to_owned(),
            Self::MadeElsewhere { signed: false, .. } => {
                "the other machine may have rotated `config-signing`: bring its `keys/epochs.json` here first; then \
                 `sovereign up --take-over` goes on from here"
                    .to_owned()
            }
            Self::DataElsewhere { site, found, declared } => match &found.host {
                None if declared.host.is_none() => {
                    format!("write `primary = \"{found}\"` for site {site}: this version does not move a site's data")
                }
                None => format!(
                    "`sovereign site move {site}` takes it along; to leave it there, write `primary = \"{found}\"` for \
                     site {site}, and the engine that {found} had"
                ),
                Some(host) => format!(
                    "write `primary = \"{}\"` for site {site}, and host {host} first of its hosts",
                    found.datacenter
                ),
            },
        })
    }
}

/// How much already is as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// Images that are kept as locked.
    pub images: usize,
    /// Whether the supervisor runs this binary.
    pub supervisor: bool,
    /// Certificates that name what they must.
    pub certificates: usize,
    /// Days until the first of them ends.
    pub first_end_days: Option<u64>,
    /// Edges that have their configuration.
    pub edges: usize,
    /// Units that run as described and are well.
    pub units: usize,
    /// Sites that are set up.
    pub sites: usize,
    /// Mirrors that were complete.
    pub mirrors: usize,
}

impl Kept {
    /// Why nothing happens there, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |count: usize, one: &str, many: &str| match count {
            0 => {}
            1 => lines.push(format!("1 {one}")),
            several => lines.push(format!("{several} {many}")),
        };
        line(self.images, "image is kept as locked", "images are kept as locked");
        line(usize::from(self.supervisor), "supervisor runs this binary", "");
        line(self.edges, "edge has its configuration", "edges have their configuration");
        line(self.units, "unit runs as described and is well", "units run as described and are well");
        line(self.sites, "site is set up as declared", "sites are set up as declared");
        line(self.mirrors, "mirror is complete", "mirrors are complete");
        line(self.certificates, "certificate is good", "certificates are good");
        if let Some(days) = self.first_end_days {
            let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
            lines.push(format!("the first certificate ends in {days}"));
        }
        lines
    }
}
