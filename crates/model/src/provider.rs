//! Providers of DNS that are told what a domain is to have, each in its own way.
//!
//! Part of the stack file and of what an agent is configured with. What a stack proves itself with at a provider is in neither:
//! the provider has made it, it is given by `sovereign dns login`, and lies where it is used and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, ProviderName};
use crate::names::Names;
use crate::secondary::TsigAlgorithm;
use crate::stack::{Domain, Stack};

/// A provider that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provider {
    /// What domains call it.
    pub name: ProviderName,
    /// How it is told.
    pub way: Way,
}

/// How a provider is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Way {
    /// By dynamic updates (RFC 2136), signed (TSIG, RFC 8945), over TCP.
    Rfc2136 {
        /// Where updates are taken.
        server: SocketAddr,
        /// What the key is called there.
        key: DnsName,
        /// How it is used.
        algorithm: TsigAlgorithm,
    },
    /// By Cloudflare's interface.
    Cloudflare,
    /// By deSEC's.
    Desec,
}

impl Way {
    /// As stack files write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rfc2136 { .. } => "rfc2136",
            Self::Cloudflare => "cloudflare",
            Self::Desec => "desec",
        }
    }

    /// The port that it is reached at over TCP.
    pub fn port(&self) -> u16 {
        match self {
            Self::Rfc2136 { server, .. } => server.port(),
            Self::Cloudflare | Self::Desec => 443,
        }
    }

    /// The shortest time, in seconds, that it lets resolvers keep a record: Cloudflare refuses less than a minute, deSEC less
    /// than an hour.
    pub fn shortest_ttl(&self) -> u32 {
        match self {
            Self::Rfc2136 { .. } => 0,
            Self::Cloudflare => 60,
            Self::Desec => 3600,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.way.kind())
    }
}

impl Stack {
    /// The provider that is told what a domain is to have; `None` where the stack answers itself, and where the operator
    /// tells.
    pub fn told(&self, domain: &Domain) -> Option<&Provider> {
        let name = domain.provider.as_deref()?;
        self.providers.iter().find(|provider| provider.name.as_str() == name)
    }
}

/// What an agent needs to tell providers which data centers live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Publishes {
    /// The domains that are at these providers, and what leads where.
    pub names: Names,
    /// Whom each domain is at.
    pub told: BTreeMap<DnsName, ProviderName>,
    /// The providers.
    pub providers: Vec<Provider>,
    /// The digest of what the stack proves itself with at each.
    pub secrets: BTreeMap<ProviderName, Digest>,
    /// All that could tell them, the first that does first.
    pub order: Vec<EdgeName>,
    /// The data centers that are taken out on purpose.
    pub drained: BTreeSet<DatacenterName>,
}

impl Publishes {
    /// What the agents of a stack tell, with what it proves itself with where that is known; `None` for nothing.
    pub fn of(
        stack: &Stack,
        secrets: &BTreeMap<ProviderName, Digest>,
        drained: &BTreeSet<DatacenterName>,
    ) -> Option<Self> {
        let known = |domain: &Domain| stack.told(domain).filter(|provider| secrets.contains_key(&provider.name));
        let told = stack.domains.values().filter_map(|domain| Some((domain.name.clone(), known(domain)?.name.clone())));
        let told: BTreeMap<DnsName, ProviderName> = told.collect();
        let is_told = |name: &ProviderName| told.values().any(|other| other == name);
        let providers = stack.providers.iter().filter(|provider| is_told(&provider.name)).cloned().collect();
        let secrets = secrets.iter().filter(|(name, _)| is_told(name)).map(|(name, of)| (name.clone(), *of)).collect();
        (!told.is_empty()).then(|| Self {
            names: Names::told(stack, &told),
            providers,
            secrets,
            order: stack.agents().collect(),
            drained: drained.iter().filter(|name| stack.datacenters.contains_key(*name)).cloned().collect(),
            told,
        })
    }
}
