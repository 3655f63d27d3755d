//! From the root servers to who answers for a name, as resolvers go (RFC 1034 section 5.3.3), with nobody's help.
//!
//! ```text
//!  root ──"org: ask these"──▶ servers of org ──"example.org: ask these"──▶ the delegation: what the registry publishes
//! ```
//!
//! Promise: what a server says of names outside its own zone is not believed. Servers lead downwards only, so that the walk
//! ends; whoever leads it astray with names whose addresses have to be found first is followed a few steps, and
//! all of it has a budget.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

use serde::Serialize;
use sovereign_model::dns_message::{Answer, Code, Question};
use sovereign_model::dns_record::is_within;
use sovereign_model::{DnsName, DnsRecord};
use tokio::task::JoinSet;

use super::{Asker, PORT};

/// The root servers, as IANA names them (root hints of 2023-11-27). One that moves answers at its old address for years.
const ROOTS: [(Ipv4Addr, Ipv6Addr); 13] = [
    (Ipv4Addr::new(198, 41, 0, 4), Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
    (Ipv4Addr::new(170, 247, 170, 2), Ipv6Addr::new(0x2801, 0x1b8, 0x10, 0, 0, 0, 0, 0xb)),
    (Ipv4Addr::new(192, 33, 4, 12), Ipv6Addr::new(0x2001, 0x500, 2, 0, 0, 0, 0, 0xc)),
    (Ipv4Addr::new(199, 7, 91, 13), Ipv6Addr::new(0x2001, 0x500, 0x2d, 0, 0, 0, 0, 0xd)),
    (Ipv4Addr::new(192, 203, 230, 10), Ipv6Addr::new(0x2001, 0x500, 0xa8, 0, 0, 0, 0, 0xe)),
    (Ipv4Addr::new(192, 5, 5, 241), Ipv6Addr::new(0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf)),
    (Ipv4Addr::new(192, 112, 36, 4), Ipv6Addr::new(0x2001, 0x500, 0x12, 0, 0, 0, 0, 0xd0d)),
    (Ipv4Addr::new(198, 97, 190, 53), Ipv6Addr::new(0x2001, 0x500, 1, 0, 0, 0, 0, 0x53)),
    (Ipv4Addr::new(192, 36, 148, 17), Ipv6Addr::new(0x2001, 0x7fe, 0, 0, 0, 0, 0, 0x53)),
    (Ipv4Addr::new(192, 58, 128, 30), Ipv6Addr::new(0x2001, 0x503, 0xc27, 0, 0, 0, 2, 0x30)),
    (Ipv4Addr::new(193, 0, 14, 129), Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1)),
    (Ipv4Addr::new(199, 7, 83, 42), Ipv6Addr::new(0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42)),
    (Ipv4Addr::new(202, 12, 27, 33), Ipv6Addr::new(0x2001, 0xdc3, 0, 0, 0, 0, 0, 0x35)),
];

/// So many servers of a zone are asked before it counts as silent.
const SERVERS_ASKED: usize = 4;

/// So many names of servers are looked up whose addresses nobody gave.
const NAMES_LOOKED_UP: usize = 3;

/// So deep a look-up may need another one.
const DEEPEST: usize = 5;

/// So many questions one walk may ask.
const BUDGET: usize = 400;

/// What the zone above a domain says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Parent {
    /// Nobody of them answers, so nothing is known.
    Silent {
        /// The zone whose servers do not; the root is empty.
        zone: String,
    },
    /// There is no such domain.
    NoSuchName {
        /// The zone that says so.
        zone: String,
    },
    /// There is, and it leads nowhere.
    NotDelegated {
        /// The zone that says so.
        zone: String,
    },
    /// It leads to servers.
    Delegated(Delegation),
}

/// Where a registry leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delegation {
    /// The zone above.
    pub parent: String,
    /// The names of the servers, and the addresses that are given with them (glue).
    pub servers: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Whether addresses would be given: a server that has both zones gives none.
    pub with_glue: bool,
    /// The digests of keys, as a DS record says them; `None` when nobody answered that.
    pub ds: Option<BTreeSet<String>>,
}

/// What each server of the zone above a domain says of its keys' digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digests {
    /// Nobody says anything.
    Silent,
    /// It does not lead to the domain.
    NotDelegated,
    /// By the server's name: the DS records, or nothing where it does not answer. What its addresses say is put together.
    Of(BTreeMap<String, Option<Vec<DnsRecord>>>),
}

/// Goes from the root to names.
#[derive(Debug)]
pub struct Walk {
    asker: Asker,
    port: u16,
    /// Who answers for which zone, as far as it has been seen.
    known: BTreeMap<String, Vec<SocketAddr>>,
    asked: usize,
}

/// What an answer means on the way to a name.
#[derive(Debug, PartialEq, Eq)]
enum Means {
    /// That is it.
    Answer,
    /// Others are to be asked, who are nearer.
    Ask { zone: String, servers: BTreeMap<String, BTreeSet<IpAddr>> },
    /// Nothing.
    Nothing,
}

impl Walk {
    /// From these root servers, from IANA's where none are given. Servers further down are asked at the first one's port.
    pub fn new(asker: Asker, roots: &[SocketAddr]) -> Self {
        let port = roots.first().map_or(PORT, SocketAddr::port);
        let roots: Vec<IpAddr> = match roots {
            [] => {
                let (ipv4, ipv6) = (ROOTS.iter().map(|(ip, _)| IpAddr::from(*ip)), ROOTS.iter().map(|(_, ip)| *ip));
                ipv4.chain(ipv6.map(IpAddr::from)).collect()
            }
            given => given.iter().map(SocketAddr::ip).collect(),
        };
        let mut walk = Self { asker, port, known: BTreeMap::new(), asked: 0 };
        let roots = walk.places(roots);
        walk.known.insert(String::new(), roots);
        walk
    }

    /// Where servers at these addresses are asked.
    pub fn places(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<SocketAddr> {
        addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect()
    }

    /// What the zone above a domain says of it.
    pub async fn parent(&mut self, domain: &DnsName) -> Parent {
        let domain = domain.as_str();
        // What another walk saw of the domain itself is below where this one ends.
        self.known.remove(domain);
        let (zone, answer) = match self.descend(domain, "NS", Some(domain), 0).await {
            Ok(found) => found,
            Err(zone) => return Parent::Silent { zone },
        };
        let (servers, with_glue) = match means(&answer, &zone, domain) {
            Means::Ask { servers, .. } => (servers, true),
            Means::Answer if answer.code == Code::NoSuchName => return Parent::NoSuchName { zone },
            _ => {
                let servers: BTreeMap<_, _> =
                    answer.of(domain, "NS").map(|record| (name_in(&record.data), BTreeSet::new())).collect();
                if servers.is_empty() {
                    return Parent::NotDelegated { zone };
                }
                (servers, false)
            }
        };
        let digests = self.ask(&zone, domain, "DS").await;
        let ds = digests.map(|answer| answer.of(domain, "DS").map(|record| record.data.clone()).collect());
        Parent::Delegated(Delegation { parent: zone, servers, with_glue, ds })
    }

    /// What all servers of the zone above a domain say of its keys' digests.
    pub async fn digests(&mut self, domain: &DnsName) -> Digests {
        let zone = match self.parent(domain).await {
            Parent::Silent { .. } => return Digests::Silent,
            Parent::NoSuchName { .. } | Parent::NotDelegated { .. } => return Digests::NotDelegated,
            Parent::Delegated(delegation) => delegation.parent,
        };
        let Ok(question) = Question::new(domain.as_str(), "DS") else { return Digests::Silent };
        let mut said = BTreeMap::new();
        for (server, places) in self.servers_of(&zone).await {
            let mut asking = JoinSet::new();
            for place in places {
                let (asker, question) = (self.asker, question.clone());
                asking.spawn(async move { asker.ask(place, &question).await.ok() });
            }
            let is_said =
                |answer: &Answer| answer.authoritative && matches!(answer.code, Code::NoError | Code::NoSuchName);
            let answers = asking.join_all().await.into_iter().flatten().filter(is_said);
            let records = answers.map(|answer| answer.of(domain.as_str(), "DS").cloned().collect::<Vec<_>>());
            said.insert(server, records.reduce(|one, other| [one, other].concat()));
        }
        Digests::Of(said)
    }

    /// The servers of a zone that was met, by their names, and where they are asked.
    async fn servers_of(&mut self, zone: &str) -> BTreeMap<String, Vec<SocketAddr>> {
        let met = self.known.get(zone).cloned().unwrap_or_default();
        let each = |met: Vec<SocketAddr>| met.into_iter().map(|place| (place.ip().to_string(), vec![place])).collect();
        // Who the root servers are is known.
        if zone.is_empty() {
            return each(met);
        }
        let named = self.ask(zone, zone, "NS").await;
        let names: BTreeSet<String> =
            named.iter().flat_map(|answer| answer.of(zone, "NS")).map(|record| name_in(&record.data)).collect();
        let mut servers = BTreeMap::new();
        for name in names {
            let addresses = self.addresses(&name).await;
            servers.insert(name, self.places(addresses));
        }
        if servers.is_empty() { each(met) } else { servers }
    }

    /// The addresses of a name; none when they cannot be found.
    pub async fn addresses(&mut self, name: &str) -> BTreeSet<IpAddr> {
        self.addresses_within(name, 0).await
    }

    fn addresses_within<'a>(
        &'a mut self,
        name: &'a str,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = BTreeSet<IpAddr>> + Send + 'a>> {
        Box::pin(async move {
            let mut found = BTreeSet::new();
            for kind in ["A", "AAAA"] {
                let Ok((_, answer)) = self.descend(name, kind, None, depth).await else { break };
                found.extend(answer.of(name, kind).filter_map(|record| record.data.parse::<IpAddr>().ok()));
            }
            found
        })
    }

    /// Goes down until somebody answers, or leads to `until`: that answer, and the zone it comes from. Else the zone whose
    /// servers do not answer.
    async fn descend(
        &mut self,
        name: &str,
        kind: &str,
        until: Option<&str>,
        depth: usize,
    ) -> Result<(String, Answer), String> {
        let mut zone = self.nearest(name);
        loop {
            let Some(answer) = self.ask(&zone, name, kind).await else { return Err(zone) };
            let Means::Ask { zone: below, servers } = means(&answer, &zone, name) else { return Ok((zone, answer)) };
            if until == Some(below.as_str()) {
                return Ok((zone, answer));
            }
            let mut addresses: BTreeSet<IpAddr> = servers.values().flatten().copied().collect();
            if addresses.is_empty() && depth < DEEPEST {
                for server in servers.keys().take(NAMES_LOOKED_UP) {
                    // One within the zone that it answers for cannot be found without its address.
                    if !is_within(server, &below) {
                        addresses.extend(self.addresses_within(server, depth + 1).await);
                    }
                }
            }
            let places = self.places(addresses);
            self.known.insert(below.clone(), places);
            zone = below;
        }
    }

    /// The zone nearest to a name whose servers are known.
    fn nearest(&self, name: &str) -> String {
        let above = self.known.keys().filter(|zone| within(name, zone));
        above.max_by_key(|zone| zone.len()).cloned().unwrap_or_default()
    }

    /// The first useful answer of a zone's servers.
    async fn ask(&mut self, zone: &str, name: &str, kind: &str) -> Option<Answer> {
        let question = Question::new(name, kind).ok()?;
        let servers = self.known.get(zone).cloned().unwrap_or_default();
        for server in servers.into_iter().take(SERVERS_ASKED) {
            if self.asked >= BUDGET {
                return None;
            }
            self.asked += 1;
            if let Ok(answer) = self.asker.ask(server, &question).await
                && means(&answer, zone, name) != Means::Nothing
            {
                return Some(answer);
            }
        }
        None
    }
}

/// What an answer of a zone's server means to whoever is on the way to a name. Pure.
fn means(answer: &Answer, zone: &str, name: &str) -> Means {
    match answer.code {
        Code::NoError | Code::NoSuchName if answer.authoritative => return Means::Answer,
        Code::NoError if answer.answer.is_empty() => {}
        _ => return Means::Nothing,
    }
    let below = |owner: &str| owner != zone && within(owner, zone) && within(name, owner);
    let Some(first) = answer.authority.iter().find(|record| record.kind == "NS" && below(&record.owner)) else {
        return Means::Nothing;
    };
    let of_zone = answer.authority.iter().filter(|record| record.kind == "NS" && record.owner == first.owner);
    let mut servers: BTreeMap<String, BTreeSet<IpAddr>> =
        of_zone.map(|record| (name_in(&record.data), BTreeSet::new())).collect();
    for record in answer.additional.iter().filter(|record| matches!(record.kind.as_str(), "A" | "AAAA")) {
        // Of other names it knows nothing.
        if !within(&record.owner, zone) {
            continue;
        }
        if let (Some(addresses), Ok(address)) = (servers.get_mut(&record.owner), record.data.parse()) {
            addresses.insert(address);
        }
    }
    Means::Ask { zone: first.owner.clone(), servers }
}

fn within(name: &str, zone: &str) -> bool {
    zone.is_empty() || is_within(name, zone)
}

/// A name in a record's data, as an owner is written.
pub(crate) fn name_in(data: &str) -> String {
    data.strip_suffix('.').unwrap_or(data).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use sovereign_model::dns_record::parse_zone;

    use super::*;

    fn answer(code: Code, authoritative: bool, authority: &str, additional: &str) -> Answer {
        let origin: DnsName = "org".parse().unwrap();
        let records = |text| parse_zone(text, &origin).unwrap();
        let (authority, additional) = (records(authority), records(additional));
        Answer { code, authoritative, truncated: false, answer: Vec::new(), authority, additional }
    }

    #[test]
    fn a_server_leads_downwards_only_and_gives_addresses_of_its_own_names_only() {
        let leads = |zone: &str, authority: &str| {
            let glue = "ns.example.org. A 192.0.2.1\nns.evil.net. A 192.0.2.66\nother.example.org. A 192.0.2.2";
            means(&answer(Code::NoError, false, authority, glue), zone, "www.example.org")
        };
        let Means::Ask { zone, servers } =
            leads("org", "example.org. NS NS.example.org.\nexample.org. NS ns.evil.net.")
        else {
            panic!("it leads nowhere");
        };
        assert_eq!(zone, "example.org");
        let given: Vec<_> = servers.iter().map(|(name, addresses)| (name.as_str(), addresses.len())).collect();
        assert_eq!(given, [("ns.evil.net", 0), ("ns.example.org", 1)], "the other name's address is not its to give");
        assert_eq!(leads("example.org", "example.org. NS ns.example.org."), Means::Nothing, "to itself");
        assert_eq!(leads("example.org", "org. NS ns.example.org."), Means::Nothing, "upwards");
        assert_eq!(leads("org", "example.net. NS ns.example.org."), Means::Nothing, "beside");
        assert_eq!(leads("org", ""), Means::Nothing);
    }

    #[test]
    fn a_failure_is_no_answer() {
        let of = |code, authoritative| means(&answer(code, authoritative, "", ""), "org", "example.org");
        assert_eq!(of(Code::NoSuchName, true), Means::Answer);
        assert_eq!(of(Code::NoSuchName, false), Means::Nothing, "only who knows may say so");
        assert_eq!(of(Code::Refused, true), Means::Nothing);
        assert_eq!(of(Code::ServerFailure, false), Means::Nothing);
    }

    #[test]
    fn the_walk_begins_at_the_nearest_zone_that_is_known() {
        let mut walk = Walk::new(Asker::default(), &[]);
        assert_eq!(walk.known[""].len(), 26);
        assert!(walk.known[""].iter().all(|place| place.port() == 53));
        walk.known.insert("org".to_owned(), Vec::new());
        assert_eq!(walk.nearest("www.example.org"), "org");
        assert_eq!(walk.nearest("www.example.net"), "");
    }
}
