//! A step: one change that brings the world nearer to what is declared.
//!
//! Steps are plain data: they leave no choice to whoever performs them, can be stored, compared and performed again
//! without harm. There is no step that removes data.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::edge_config::EdgeConfig;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, ImageName, SiteName, UnitName};
use crate::stack::SiteSettings;

/// Names a step in the journal: the digest of its content and of its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Digest);

impl StepId {
    /// The id of `step` at place `ordinal`, counted from 0.
    pub fn new(ordinal: usize, step: &Step) -> Self {
        Self(Digest::of_value(&(ordinal, step)))
    }

    /// The digest itself.
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.short())
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "step", deny_unknown_fields)]
pub enum Step {
    /// Fetch and build an image by its lock, and check it.
    PrepareImage {
        /// Which image.
        image: ImageName,
        /// The digest of the lock that says what is in it.
        lock: Digest,
    },
    /// Start the supervisor of this machine.
    StartSupervisor {
        /// The digest of the binary it must run.
        binary: Digest,
    },
    /// Have the supervisor replace itself in place; its units go on.
    ReplaceSupervisor {
        /// The digest of the binary it must run then.
        binary: Digest,
    },
    /// Put right what was changed on a host behind our back: units, rules for packets.
    MendHost {
        /// Which host, by its edge.
        edge: EdgeName,
    },
    /// Issue a certificate and lay it ready for the edge.
    IssueCertificate {
        /// Which edge it is for.
        #[serde(alias = "datacenter")]
        edge: EdgeName,
        /// The host names in it.
        names: BTreeSet<DnsName>,
        /// The addresses in it.
        addresses: BTreeSet<IpAddr>,
        /// When it ends, in unix seconds.
        not_after: u64,
    },
    /// Write an edge's configuration and, when the edge runs, have it reload configuration and certificate.
    ConfigureEdge {
        /// Which edge.
        #[serde(alias = "datacenter")]
        edge: EdgeName,
        /// The number of this configuration: higher than that of every one before.
        generation: u64,
        /// The configuration.
        config: Box<EdgeConfig>,
    },
    /// Start a unit that does not run, or wait for one that is not well yet, until its health check passes.
    RunUnit {
        /// Where it belongs.
        datacenter: DatacenterName,
        /// Which unit.
        unit: UnitName,
        /// The digest of its description.
        spec: Digest,
    },
    /// Replace a unit by one with another description, in the way the description says.
    ReplaceUnit {
        /// Where it belongs.
        datacenter: DatacenterName,
        /// Which unit.
        unit: UnitName,
        /// The digest of the new description.
        spec: Digest,
    },
    /// Stop a unit. Its data stays.
    StopUnit {
        /// Where it belongs.
        datacenter: DatacenterName,
        /// Which unit.
        unit: UnitName,
    },
    /// End what a unit has replaced, now that nobody is sent to it any more.
    RetireUnit {
        /// Where it belongs.
        datacenter: DatacenterName,
        /// Which unit.
        unit: UnitName,
    },
    /// Do a site's first set-up (owner, integration, publish notices), or what is left of it.
    SetUpSite {
        /// Where it is written.
        datacenter: DatacenterName,
        /// Which site.
        site: SiteName,
    },
    /// Apply a site's settings.
    ApplySettings {
        /// Where it is written.
        datacenter: DatacenterName,
        /// Which site.
        site: SiteName,
        /// The settings; what is `None` is left alone.
        settings: SiteSettings,
        /// Their digest, to be remembered when they are applied.
        digest: Digest,
    },
    /// Fill a mirror until it is complete.
    FillMirror {
        /// The edge that keeps it.
        #[serde(alias = "datacenter")]
        edge: EdgeName,
        /// Which site.
        site: SiteName,
    },
}

impl Step {
    /// The data center it changes; `None` for this machine as a whole.
    pub fn datacenter(&self) -> Option<&DatacenterName> {
        match self {
            Self::PrepareImage { .. } | Self::StartSupervisor { .. } | Self::ReplaceSupervisor { .. } => None,
            Self::MendHost { edge }
            | Self::IssueCertificate { edge, .. }
            | Self::ConfigureEdge { edge, .. }
            | Self::FillMirror { edge, .. } => Some(&edge.datacenter),
            Self::RunUnit { datacenter, .. }
            | Self::ReplaceUnit { datacenter, .. }
            | Self::StopUnit { datacenter, .. }
            | Self::RetireUnit { datacenter, .. }
            | Self::SetUpSite { datacenter, .. }
            | Self::ApplySettings { datacenter, .. } => Some(datacenter),
        }
    }
}

/// One line in the operator's words.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrepareImage { image, .. } => write!(f, "prepare image {image}"),
            Self::StartSupervisor { .. } => write!(f, "start the supervisor"),
            Self::ReplaceSupervisor { .. } => write!(f, "replace the supervisor in place"),
            Self::MendHost { edge } => write!(f, "put right what was changed on {edge}"),
            Self::IssueCertificate { edge, names, .. } => {
                write!(f, "issue a certificate for {edge} ({})", names_counted(names.len()))
            }
            Self::ConfigureEdge { edge, generation, .. } => {
                write!(f, "configure the edge of {edge} (generation {generation})")
            }
            Self::RunUnit { unit, .. } => write!(f, "run {unit}"),
            Self::ReplaceUnit { unit, .. } => write!(f, "replace {unit}"),
            Self::StopUnit { unit, .. } => write!(f, "stop {unit}, keep its data"),
            Self::RetireUnit { unit, .. } => write!(f, "end what {unit} has replaced"),
            Self::SetUpSite { datacenter, site } => write!(f, "set up site {site} at {datacenter}"),
            Self::ApplySettings { site, .. } => write!(f, "apply the settings of site {site}"),
            Self::FillMirror { edge, site } => write!(f, "fill the mirror of site {site} at {edge}"),
        }
    }
}

fn names_counted(count: usize) -> String {
    match count {
        0 => "addresses only".to_owned(),
        1 => "1 name".to_owned(),
        several => format!("{several} names"),
    }
}
