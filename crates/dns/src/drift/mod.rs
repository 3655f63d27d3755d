//! What the world is told of a domain, beside what the stack wants it to be told: what differs, how bad that is, and who
//! can put it right.
//!
//! ```text
//!  stack file ──▶ Wanted ──┐
//!                          ├─▶ compare (pure) ──▶ Drift, the worst first
//!  registry, servers ──▶ Seen ──┘
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`compare`](compare()) | pure: wanted × seen → what differs |
//! | [`found`] | one thing that differs, in words |
//! | [`look`](look()) | asks the registry's servers and the domain's |
//!
//! Promise: of a name of a site any of the wanted addresses are right on the stack's own name servers, as long as there is one:
//! which they are depends on who lives, and on who asks. A provider has all of them, unless agents tell it who lives.
//! A DS record that leads to no key is said before all else: whoever checks signatures does not reach the domain.
//!
//! Left out: how long records live, since servers that hand out what they keep count down; whether signatures are good,
//! which takes a resolver that checks them.

pub(crate) mod compare;
pub mod found;
mod look;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::{self, Names};
use sovereign_model::stack::{Domain, Stack, UplinkAddress};
use sovereign_model::{DnsName, DnsRecord};

pub use self::compare::compare;
pub use self::found::{Drift, Place, Severity, What};
pub use self::look::look;
use crate::ask::walk::{Parent, name_in};
use crate::zone::{self, NameServer, World};

/// Servers of the stack number their zones by the clock, each by itself, whenever something changes and when signatures are
/// renewed, which is every two weeks at least: so far one may be behind another, in seconds.
const OWN_LAG: u32 = 16 * 86_400;

/// What is asked of every domain, wanted or not: what would matter if it were there.
const ASKED_ALWAYS: [&str; 6] = ["A", "AAAA", "MX", "TXT", "CAA", "NS"];

/// An owner and a type.
pub type Set = (String, String);

/// The digest of a domain's key, as the registry should have it, and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// As a DS record says it.
    pub ds: String,
    /// As a DNSKEY record says it.
    pub dnskey: String,
}

/// What the world should be told of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The domain.
    pub domain: DnsName,
    /// Who it is registered with.
    pub registrar: String,
    /// Who answers for it; `None` for the stack's own name servers.
    pub provider: Option<String>,
    /// Whether that one is told by the stack.
    pub told: bool,
    /// Whether who lives decides of addresses: on name servers of the stack's own, and where agents tell a provider.
    pub living: bool,
    /// These; none where a provider answers.
    pub name_servers: Vec<NameServer>,
    /// Its records, by owner and type, without its SOA.
    pub sets: BTreeMap<Set, BTreeSet<String>>,
    /// How long any of them lives at most, in seconds.
    pub longest_ttl: u32,
    /// Names whose addresses depend on who lives.
    pub by_health: BTreeSet<String>,
    /// Names that have addresses which only their data centers know.
    pub open: BTreeSet<String>,
    /// Its key; `None` when it is not the stack's, or not there yet.
    pub signed: Option<Signed>,
    /// The key that is to take its place, where it is being exchanged: either is right then.
    pub coming: Option<Signed>,
}

impl Wanted {
    /// What the stack file wants of a domain.
    pub fn of(stack: &Stack, domain: &Domain, signed: Option<Signed>) -> Self {
        let (names, world) = (Names::of(stack), World::default());
        let (records, name_servers) = match domain.provider {
            None => {
                let zone = zone::zone(&names, &names::Domain::from(domain), 0, &world);
                (zone.records, zone::name_servers(&names, &domain.name))
            }
            Some(_) => (zone::records(&names, &names::Domain::from(domain), &world), Vec::new()),
        };
        let longest_ttl = records.iter().map(|record| record.ttl).max().unwrap_or_default();
        let mut sets: BTreeMap<Set, BTreeSet<String>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.kind != "SOA") {
            sets.entry(set_of(record)).or_default().insert(normal(record));
        }
        let (mut by_health, mut open) = (BTreeSet::new(), BTreeSet::new());
        for site in &names.sites {
            let places = site.datacenters.iter().filter_map(|name| names.place(name));
            let mut uplinks = places.flat_map(|place| &place.uplinks);
            let is_open = uplinks.any(|uplink| uplink.address == UplinkAddress::Dynamic);
            for name in site.names.iter().filter(|name| is_within(name.as_str(), domain.name.as_str())) {
                by_health.insert(name.to_string());
                open.extend(is_open.then(|| name.to_string()));
            }
        }
        Self {
            domain: domain.name.clone(),
            registrar: domain.registrar.clone(),
            provider: domain.provider.clone(),
            told: stack.told(domain).is_some(),
            living: domain.provider.is_none() || (stack.told(domain).is_some() && stack.agents().next().is_some()),
            name_servers,
            sets,
            longest_ttl,
            by_health,
            open,
            signed,
            coming: None,
        }
    }

    /// With a key that is to take the place of the one that signs.
    #[must_use]
    pub fn exchanging(self, coming: Option<Signed>) -> Self {
        Self { coming, ..self }
    }

    /// Whether a DS record is of a key of the stack's.
    fn is_of_ours(&self, ds: &str) -> bool {
        self.signed.iter().chain(&self.coming).any(|signed| compare::same(ds, &signed.ds))
    }

    /// What its servers are asked: all that is wanted, and what would matter if it were there.
    pub fn questions(&self) -> BTreeSet<Set> {
        let apex = self.domain.as_str();
        let mut asked: BTreeSet<Set> = self.sets.keys().cloned().collect();
        asked.extend(ASKED_ALWAYS.map(|kind| (apex.to_owned(), kind.to_owned())));
        asked.insert((format!("_dmarc.{apex}"), "TXT".to_owned()));
        let both = self.by_health.iter().flat_map(|name| ["A", "AAAA"].map(|kind| (name.clone(), kind.to_owned())));
        asked.extend(both);
        asked
    }
}

/// What the world is told of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// What the registry publishes.
    pub parent: Parent,
    /// What each server says, at each of its addresses.
    pub servers: Vec<SeenServer>,
}

/// A server at one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenServer {
    /// Its name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// What it says.
    pub said: Said,
}

/// What a server says of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// Nothing, and why.
    Nothing(String),
    /// It does not answer for the domain, and how it says so.
    NotMine(String),
    /// What it has of it.
    Zone(SaidZone),
}

/// What a server has of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SaidZone {
    /// The number of the zone.
    pub serial: u32,
    /// The keys, by number and algorithm, and as DNSKEY records say them; `None` when it did not answer that.
    pub keys: Option<Vec<(u16, String, String)>>,
    /// What it answered, by what it was asked. Another name for something counts for each type.
    #[serde(skip)]
    pub sets: BTreeMap<Set, BTreeSet<String>>,
    /// What it did not answer.
    #[serde(skip)]
    pub unanswered: BTreeSet<Set>,
}

fn set_of(record: &DnsRecord) -> Set {
    (record.owner.clone(), record.kind.clone())
}

/// What a record says, so that two that mean the same are equal: names have no case.
pub(crate) fn normal(record: &DnsRecord) -> String {
    match record.kind.as_str() {
        "NS" | "CNAME" | "DNAME" | "MX" | "SRV" | "PTR" => record.data.to_ascii_lowercase(),
        _ => record.data.clone(),
    }
}

/// Another name for something, where its records were asked for.
fn alias(target: &str) -> String {
    format!("CNAME {}.", name_in(target))
}
