//! The zone of a domain as it should be: pure, from what name servers know of a stack and from which addresses
//! are counted on.
//!
//! ```text
//!  names ──────┐ (of the stack file)
//!  addresses ──┼─▶ Zone: SOA, NS and their addresses, the sites' addresses, mail, the operator's records
//!  who lives ──┘
//! ```
//!
//! Promise: the same inputs give the same zone, byte for byte. Everything in it is within its domain. A name of a site has
//! the addresses of all data centers with that site that are counted on; when none is, of those that are taken out on
//! purpose and live; when nobody lives, of all of them: a name that leads nowhere helps nobody. Name servers keep fixed
//! addresses, whoever lives: resolvers find the living by themselves. What a secondary has a copy of is this zone: all that
//! are counted on, whoever asks from wherever.
//!
//! Left out: signatures, which the name server makes; the order by geography, which it makes of the addresses.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use sovereign_model::dns_record::{DEFAULT_TTL, is_within};
use sovereign_model::names::{Domain, Names, Place, Site};
use sovereign_model::secondary::Secondary;
use sovereign_model::stack::{Mail, UplinkAddress, name_server};
use sovereign_model::{DatacenterName, DnsName, DnsRecord, SecondaryName};

/// How long resolvers keep an address of a site, in seconds: so long a dead data center is still asked by those that know
/// it.
pub const ADDRESS_TTL: u32 = 30;
/// How long resolvers keep what a certificate authority asks to see, in seconds: the next question is a new one.
const CHALLENGE_TTL: u32 = 10;
/// How long resolvers keep who answers for a domain, in seconds; the parent's own is a day or two.
pub const NAME_SERVER_TTL: u32 = 86_400;
/// How long resolvers believe that a name is not there, in seconds (RFC 2308 section 5).
const NEGATIVE_TTL: u32 = 300;
/// When others that keep a copy of the zone look for a newer one, try again and give it up, in seconds (RFC 1912 section
/// 2.2).
const REFRESH: (u32, u32, u32) = (3600, 600, 1_209_600);
/// So many name servers a domain needs (RFC 1034 section 4.1).
pub const NAME_SERVERS: usize = 2;

/// What a zone depends on beside the stack's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The addresses of uplinks whose provider changes them, by data center and uplink.
    pub learned: BTreeMap<(DatacenterName, String), BTreeSet<IpAddr>>,
    /// What is not counted on.
    pub away: BTreeSet<(DatacenterName, IpAddr)>,
    /// The data centers that are taken out on purpose.
    pub drained: BTreeSet<DatacenterName>,
    /// What certificate authorities ask to see, by the name that a certificate is to have (RFC 8555 section 8.4).
    pub challenges: BTreeMap<DnsName, BTreeSet<String>>,
}

/// All records of a domain that somebody answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zone {
    /// The domain.
    pub domain: DnsName,
    /// The number of this state of it (RFC 1982).
    pub serial: u32,
    /// Its records: the SOA first, then by owner and type.
    pub records: Vec<DnsRecord>,
}

/// A name server of a domain, as a registrar wants to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameServer {
    /// Whose it is.
    #[serde(flatten)]
    pub whose: Whose,
    /// Its name.
    pub name: DnsName,
    /// Its addresses. They never change.
    pub addresses: BTreeSet<IpAddr>,
}

/// Whose a name server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The stack's own, in this data center.
    Datacenter(DatacenterName),
    /// Somebody else's, who has a copy.
    Secondary(SecondaryName),
}

impl NameServer {
    /// Its addresses as the registry has them too (the glue), and the zone itself: where its name is within the domain.
    /// Elsewhere they are for others to say.
    pub fn glue(&self, domain: &DnsName) -> Option<&BTreeSet<IpAddr>> {
        is_within(self.name.as_str(), domain.as_str()).then_some(&self.addresses)
    }
}

/// The name servers of a domain that the stack answers for: one for each data center that can be reached at a fixed
/// address, and the domain's secondaries.
pub fn name_servers(names: &Names, domain: &DnsName) -> Vec<NameServer> {
    let of = |place: &Place| {
        let fixed = place.uplinks.iter().filter_map(|uplink| match uplink.address {
            UplinkAddress::Fixed(address) => Some(address),
            UplinkAddress::Dynamic => None,
        });
        let addresses: BTreeSet<IpAddr> = fixed.collect();
        // A domain that is too long for it is no domain of a parsed stack.
        let name = name_server(&place.name, domain).ok().filter(|_| !addresses.is_empty())?;
        Some(NameServer { whose: Whose::Datacenter(place.name.clone()), name, addresses })
    };
    let copy = |secondary: &Secondary| {
        let (whose, addresses) = (Whose::Secondary(secondary.name.clone()), secondary.addresses.clone());
        Some(NameServer { whose, name: secondary.server(domain).ok()?, addresses })
    };
    let secondaries = names.domain(domain).into_iter().flat_map(|domain| names.secondaries(domain));
    names.places.iter().filter_map(of).chain(secondaries.filter_map(copy)).collect()
}

/// The zone of a domain that the stack's own name servers answer for.
pub fn zone(names: &Names, domain: &Domain, serial: u32, world: &World) -> Zone {
    let apex = &domain.name;
    let servers = name_servers(names, apex);
    let mut records = records(names, domain, world);
    for server in &servers {
        records.push(DnsRecord::new(apex, NAME_SERVER_TTL, "NS", format!("{}.", server.name)));
        let glue = server.glue(apex).into_iter().flatten();
        records.extend(glue.map(|address| at(&server.name, NAME_SERVER_TTL, *address)));
    }
    for (name, texts) in world.challenges.iter().filter(|(name, _)| is_within(name.as_str(), apex.as_str())) {
        records.extend(texts.iter().map(|text| DnsRecord {
            owner: challenge_owner(name),
            ttl: CHALLENGE_TTL,
            kind: "TXT".to_owned(),
            data: format!("\"{text}\""),
        }));
    }
    let within = |name: &DnsName| is_within(name.as_str(), apex.as_str());
    if let Some(issuers) = &names.issuers
        && names.sites.iter().flat_map(|site| &site.names).any(within)
    {
        records.extend(pinned(apex, issuers));
    }
    agree_on_ttls(&mut records);
    records.sort();
    records.dedup();
    let first = servers.first().map_or_else(|| apex.to_string(), |server| server.name.to_string());
    let (refresh, retry, expire) = REFRESH;
    let start = format!("{first}. hostmaster.{apex}. {serial} {refresh} {retry} {expire} {NEGATIVE_TTL}");
    records.insert(0, DnsRecord::new(apex, NEGATIVE_TTL, "SOA", start));
    Zone { domain: apex.clone(), serial, records }
}

/// Where a certificate authority looks for what it asked to see.
pub fn challenge_owner(name: &DnsName) -> String {
    format!("_acme-challenge.{name}")
}

/// What of a domain is the same whoever answers for it: the addresses of sites, what it does about mail, the operator's
/// own records.
pub fn records(names: &Names, domain: &Domain, world: &World) -> Vec<DnsRecord> {
    let apex = &domain.name;
    let mut records = domain.records.clone();
    if domain.mail == Mail::None {
        records.extend(without_mail(apex));
    }
    for site in &names.sites {
        let addresses: BTreeSet<IpAddr> = answering(names, site, world).into_iter().map(|(_, ip)| ip).collect();
        for name in site.names.iter().filter(|name| is_within(name.as_str(), apex.as_str())) {
            records.extend(addresses.iter().map(|address| at(name, ADDRESS_TTL, *address)));
        }
    }
    records.sort();
    records
}

/// Where readers of a site are led: the public addresses of its data centers that are counted on; when none is, of those
/// that live; when none does, of all.
pub fn answering(names: &Names, site: &Site, world: &World) -> BTreeSet<(DatacenterName, IpAddr)> {
    let places = site.datacenters.iter().filter_map(|name| names.place(name));
    let all: BTreeSet<_> = places.flat_map(|place| public_addresses(place, world)).collect();
    let living: BTreeSet<_> = all.difference(&world.away).cloned().collect();
    let counted_on: BTreeSet<_> = living.iter().filter(|(place, _)| !world.drained.contains(place)).cloned().collect();
    [counted_on, living].into_iter().find(|addresses| !addresses.is_empty()).unwrap_or(all)
}

/// Where readers reach a data center.
pub fn public_addresses(place: &Place, world: &World) -> BTreeSet<(DatacenterName, IpAddr)> {
    let mut addresses = BTreeSet::new();
    for uplink in &place.uplinks {
        let learned = world.learned.get(&(place.name.clone(), uplink.name.clone()));
        let of_uplink: BTreeSet<IpAddr> = match uplink.address {
            UplinkAddress::Fixed(address) => BTreeSet::from([address]),
            UplinkAddress::Dynamic => learned.cloned().unwrap_or_default(),
        };
        addresses.extend(of_uplink.into_iter().map(|address| (place.name.clone(), address)));
    }
    addresses
}

fn at(name: &DnsName, ttl: u32, address: IpAddr) -> DnsRecord {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    DnsRecord::new(name, ttl, kind, address.to_string())
}

/// Says that nobody takes mail for a domain (RFC 7505 section 3) and nobody sends it (RFC 7208 section 5.1, RFC 7489
/// section 6.3).
fn without_mail(apex: &DnsName) -> [DnsRecord; 3] {
    let mut policy = DnsRecord::new(apex, DEFAULT_TTL, "TXT", "\"v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s\"");
    policy.owner = format!("_dmarc.{apex}");
    [
        DnsRecord::new(apex, DEFAULT_TTL, "MX", "0 ."),
        DnsRecord::new(apex, DEFAULT_TTL, "TXT", "\"v=spf1 -all\""),
        policy,
    ]
}

/// Says that these may issue certificates for a domain and what is below it, and nobody else; for all names below one at
/// once nobody (RFC 8659 section 4). What the operator allows besides stands beside it, and counts.
fn pinned(apex: &DnsName, issuers: &BTreeSet<DnsName>) -> Vec<DnsRecord> {
    let record = |data: String| DnsRecord::new(apex, DEFAULT_TTL, "CAA", data);
    let mut records: Vec<DnsRecord> = issuers.iter().map(|issuer| record(format!("0 issue \"{issuer}\""))).collect();
    if records.is_empty() {
        records.push(record("0 issue \";\"".into()));
    }
    records.push(record("0 issuewild \";\"".into()));
    records
}

/// Records of one owner and type live equally long (RFC 2181 section 5.2): as long as the shortest-lived.
fn agree_on_ttls(records: &mut [DnsRecord]) {
    let mut least: BTreeMap<(String, String), u32> = BTreeMap::new();
    for record in records.iter() {
        let ttl = least.entry((record.owner.clone(), record.kind.clone())).or_insert(record.ttl);
        *ttl = record.ttl.min(*ttl);
    }
    for record in records {
        record.ttl = least.get(&(record.owner.clone(), record.kind.clone())).copied().unwrap_or(record.ttl);
    }
}

/// As a zone file (RFC 1035 section 5).
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}
