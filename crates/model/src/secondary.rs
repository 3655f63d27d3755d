//! Secondaries: name servers of others that answer for the stack's domains with a copy of the zone (RFC 1996, RFC 5936).
//!
//! Part of the stack file and of what a name server is configured with. The secret that a transfer is proven with is in
//! neither: it is derived, and lies where a name server reads it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::name::{DnsName, InvalidName, SecondaryName, StackName};

/// A name server of somebody else's that has copies of zones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secondary {
    /// Its name, unique in the stack, and no data center's.
    pub name: SecondaryName,
    /// What it is called in NS records; `None` for a name within each domain, [`Secondary::server`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<DnsName>,
    /// Where it answers. Never empty.
    pub addresses: BTreeSet<IpAddr>,
    /// Where it is told that a zone has changed, the preferred place first. Never empty.
    pub notify: Vec<SocketAddr>,
    /// What the key is called that it proves itself with, and that notices are proven with (RFC 8945).
    pub key: DnsName,
    /// How.
    pub algorithm: TsigAlgorithm,
}

impl Secondary {
    /// Its name in the NS records of a domain.
    ///
    /// # Errors
    /// When it would be longer than a name can be (RFC 1035 section 2.3.4).
    pub fn server(&self, domain: &DnsName) -> Result<DnsName, InvalidName> {
        match &self.host {
            Some(host) => Ok(host.clone()),
            None => format!("ns-{}.{domain}", self.name).parse(),
        }
    }

    /// What the key is called where the stack file does not say it: another stack's is called otherwise, so that one server
    /// can be the secondary of several.
    ///
    /// # Panics
    /// Never: two labels make a name.
    pub fn usual_key(name: &SecondaryName, stack: &StackName) -> DnsName {
        format!("{name}.{stack}").parse().expect("two labels are a name")
    }
}

/// How the key of a transfer is used (RFC 8945 section 6). Those that are weaker are not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256: every server has it.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// All, the usual one first.
    pub const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// As stack files and name servers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// The one that is written so.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
    }
}

impl fmt::Display for TsigAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
