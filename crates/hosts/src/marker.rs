//! What lies on a host and says whose it is: `/etc/sovereign/host.json`.

use serde::{Deserialize, Serialize};
use sovereign_model::{DatacenterName, HostName, StackName};

/// Where it lies.
pub const MARKER: &str = "/etc/sovereign/host.json";

/// The format of the file, and of all that this program expects on a host that it made ready.
pub const PROTOCOL: u32 = 1;

/// Whose a host is, and what was done on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Marker {
    /// [`PROTOCOL`] of the program that wrote it.
    pub protocol: u32,
    /// The stack.
    pub stack: StackName,
    /// Which stack of that name: the fingerprint of its root seed.
    pub seed: String,
    /// The data center.
    pub datacenter: DatacenterName,
    /// The host's name in it.
    pub host: HostName,
    /// The steps that are done.
    #[serde(default)]
    pub done: Vec<String>,
}

/// What was read where the marker lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A marker.
    Marker(Marker),
    /// A marker of a newer program: its protocol.
    Newer(u32),
    /// Something else.
    Nonsense,
}

impl Found {
    /// Reads what a host has.
    pub fn parse(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Preamble {
            protocol: u32,
        }
        match serde_json::from_str::<Preamble>(text) {
            Ok(Preamble { protocol }) if protocol > PROTOCOL => Self::Newer(protocol),
            Ok(_) => serde_json::from_str(text).map_or(Self::Nonsense, Self::Marker),
            Err(_) => Self::Nonsense,
        }
    }
}
