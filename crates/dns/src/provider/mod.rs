//! Providers of DNS that are told what a domain is to have.
//!
//! ```text
//!  records wanted ──▶ Set ──┐
//!                           ├─▶ change (pure) ──▶ Change: what is added, what goes ──▶ Teller ──▶ provider
//!  what it has ─────────────┘
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`change`](change()) | pure: wanted × seen → what is added and what goes |
//! | [`value`] | what records say, to and from the words of the crate that tells |
//! | [`tell`] | the port, and how each provider is spoken to |
//! | [`export`] | all that a provider has of a domain, as its interface exports it |
//! | [`publish`] | pure: when an agent tells which addresses live, and when it leaves that to another one |
//! | `publisher` | the agent's part: it follows what the agent sees |
//!
//! Promise: addresses of a site's name are the stack's, and whatever else stands there goes. Of everything else the stack adds what
//! it wants and removes nothing: what an operator keeps at a provider stays there. What is there as it should be is not
//! touched. New values are there before old ones go, so that no name is empty in between.
//!
//! Left out: how long a record lives that is there already, since providers do not tell; records of types that the crate has no
//! words for, which are said to be the operator's to tell.

pub mod export;
pub mod publish;
mod publisher;
pub mod tell;
pub mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sovereign_model::DnsRecord;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::{Domain, Names};
use sovereign_model::stack::UplinkAddress;

pub(crate) use self::publisher::{Standings, followers};
use self::value::{NotTold, canonical};
use crate::zone::{self, ADDRESS_TTL, World, answering, public_addresses};

/// The types that a name of a site has addresses in.
pub const ADDRESSES: [&str; 2] = ["A", "AAAA"];

/// All values of one owner and type that a provider is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Whose they are, absolute, without the dot at the end.
    pub owner: String,
    /// Their type.
    pub kind: String,
    /// How long resolvers may keep them, in seconds.
    pub ttl: u32,
    /// What they say.
    pub values: BTreeSet<String>,
    /// What may be there beside them, and stays.
    pub beside: Beside,
}

/// What may stand beside the values of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// Anything: the operator's.
    Anything,
    /// Nothing.
    Nothing,
    /// What agents decide of, as long as any of it is there: any of these values may be missing, and where `open` any other one may
    /// be there, since the address of a data center changes.
    Living {
        /// Whether it is not known which values there may be.
        open: bool,
    },
}

/// What has to be done to one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub owner: String,
    /// Of which type.
    pub kind: String,
    /// How long resolvers may keep what is added, in seconds.
    pub ttl: u32,
    /// What is added.
    pub add: BTreeSet<String>,
    /// What goes.
    pub remove: BTreeSet<String>,
    /// What is there then.
    pub then: BTreeSet<String>,
}

/// What has to be done so that `set` is there, where `seen` is; `None` for nothing.
pub fn change(set: &Set, seen: &BTreeSet<String>) -> Option<Change> {
    let foreign: BTreeSet<String> = seen.difference(&set.values).cloned().collect();
    let missing: BTreeSet<String> = set.values.difference(seen).cloned().collect();
    let (add, remove) = match set.beside {
        Beside::Anything => (missing, BTreeSet::new()),
        Beside::Nothing => (missing, foreign),
        Beside::Living { open: true } if !seen.is_empty() => return None,
        Beside::Living { open: false } if !seen.is_disjoint(&set.values) => (BTreeSet::new(), foreign),
        // Nothing of the stack's is there: better all than none.
        Beside::Living { .. } => (missing, foreign),
    };
    if add.is_empty() && remove.is_empty() {
        return None;
    }
    let then = seen.union(&add).filter(|value| !remove.contains(*value)).cloned().collect();
    Some(Change { owner: set.owner.clone(), kind: set.kind.clone(), ttl: set.ttl, add, remove, then })
}

/// What a provider is told of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// The sets, by owner and type.
    pub sets: Vec<Set>,
    /// Names that lead to data centers and so cannot be another name for something.
    pub sites: BTreeSet<String>,
    /// Records that it cannot be told, and why.
    pub left: Vec<(DnsRecord, NotTold)>,
}

/// What a provider is to have of a domain. Where `followed`, agents on hosts tell it which data centers live.
pub fn told(names: &Names, domain: &Domain, world: &World, followed: bool) -> Told {
    let mut told = Told::default();
    let mut open = BTreeMap::new();
    for site in &names.sites {
        let places = site.datacenters.iter().filter_map(|name| names.place(name));
        let mut uplinks = places.flat_map(|place| &place.uplinks);
        let is_open = uplinks.any(|uplink| uplink.address == UplinkAddress::Dynamic);
        for name in site.names.iter().filter(|name| is_within(name.as_str(), domain.name.as_str())) {
            open.insert(name.to_string(), is_open);
        }
    }
    let mut sets: BTreeMap<(String, String), Set> = BTreeMap::new();
    for (owner, is_open) in &open {
        for kind in ADDRESSES {
            let beside = match (followed, is_open) {
                (true, open) => Beside::Living { open: *open },
                (false, false) => Beside::Nothing,
                (false, true) => Beside::Anything,
            };
            let set =
                Set { owner: owner.clone(), kind: kind.to_owned(), ttl: ADDRESS_TTL, values: BTreeSet::new(), beside };
            sets.insert((owner.clone(), kind.to_owned()), set);
        }
    }
    for record in zone::records(names, domain, world) {
        let value = match canonical(&record.kind, &record.data) {
            Ok(value) => value,
            Err(why) => {
                told.left.push((record, why));
                continue;
            }
        };
        // A name has one other name, or none.
        let beside = if record.kind == "CNAME" { Beside::Nothing } else { Beside::Anything };
        let DnsRecord { owner, kind, ttl, .. } = record;
        let set = sets.entry((owner.clone(), kind.clone()));
        let set = set.or_insert_with(|| Set { owner, kind, ttl, values: BTreeSet::new(), beside });
        set.ttl = set.ttl.min(ttl);
        set.values.insert(value);
    }
    // A type that a name never has addresses of is not the agents' to leave out: it is empty.
    for set in sets.values_mut().filter(|set| set.values.is_empty()) {
        if set.beside == (Beside::Living { open: false }) {
            set.beside = Beside::Nothing;
        }
    }
    told.sets = sets.into_values().collect();
    told.sites = open.into_keys().collect();
    told
}

/// The addresses that names of sites within these domains are to have, as an agent sees the world; and those that a name
/// may have at all, as far as that is known.
pub fn addresses(names: &Names, world: &World) -> BTreeMap<String, publish::Addresses> {
    let mut all = BTreeMap::new();
    for site in &names.sites {
        let wanted: BTreeSet<IpAddr> = answering(names, site, world).into_iter().map(|(_, ip)| ip).collect();
        let places = || site.datacenters.iter().filter_map(|name| names.place(name));
        let is_open = places().flat_map(|place| &place.uplinks).any(|of| of.address == UplinkAddress::Dynamic);
        let known = places().flat_map(|place| public_addresses(place, world)).map(|(_, ip)| ip).collect();
        let of_domains = |name: &&sovereign_model::DnsName| {
            names.domains.iter().any(|domain| is_within(name.as_str(), domain.name.as_str()))
        };
        for name in site.names.iter().filter(of_domains) {
            let addresses = publish::Addresses { wanted: wanted.clone(), known: BTreeSet::clone(&known), is_open };
            all.insert(name.to_string(), addresses);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "isp"
address = "192.0.2.1"
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "isp"
address = "198.51.100.1"
listen = 8443
[[domain]]
name = "example.net"
registrar = "r"
provider = "there"
records = ["@ TXT \"mine\"", "shop CNAME Shops.example.org.", "x SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789"]
[[provider]]
name = "there"
kind = "desec"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.net"
names = ["www.example.net"]
primary = "home"
mirrors = ["office"]
"#;

    fn told_of(followed: bool) -> Told {
        let stack = sovereign_model::parse("stack.toml", STACK, "/srv".as_ref()).unwrap();
        let (names, domain) = (Names::of(&stack), Domain::from(stack.domains.values().next().unwrap()));
        told(&names, &domain, &World::default(), followed)
    }

    fn values(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_provider_is_told_of_sites_mail_and_the_operators_own_records() {
        let told = told_of(false);
        let line = |set: &Set| {
            let values: Vec<&str> = set.values.iter().map(String::as_str).collect();
            format!("{} {} {} [{}] {:?}", set.owner, set.ttl, set.kind, values.join(", "), set.beside)
        };
        let lines: Vec<String> = told.sets.iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        _dmarc.example.net 3600 TXT ["v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s"] Anything
        example.net 30 A [192.0.2.1, 198.51.100.1] Nothing
        example.net 30 AAAA [] Nothing
        example.net 3600 MX [0 .] Anything
        example.net 3600 TXT ["mine", "v=spf1 -all"] Anything
        shop.example.net 3600 CNAME [shops.example.org.] Nothing
        www.example.net 30 A [192.0.2.1, 198.51.100.1] Nothing
        www.example.net 30 AAAA [] Nothing
        "#);
        let left: Vec<String> = told.left.iter().map(|(record, why)| format!("{}: {why}", record.kind)).collect();
        assert_eq!(left, ["SSHFP: there are no words for records of this type"]);
    }

    #[test]
    fn who_lives_is_left_to_agents_where_there_are_any() {
        let told = told_of(true);
        let set = told.sets.iter().find(|set| (set.owner.as_str(), set.kind.as_str()) == ("example.net", "A")).unwrap();
        assert_eq!(change(set, &values(&["192.0.2.1"])), None, "an agent has taken the other one out");
        let change = |seen: &[&str]| change(set, &values(seen)).map(|change| (change.add, change.remove));
        assert_eq!(change(&["192.0.2.1", "203.0.113.9"]), Some((values(&[]), values(&["203.0.113.9"]))));
        let both = values(&["192.0.2.1", "198.51.100.1"]);
        assert_eq!(change(&[]), Some((both.clone(), values(&[]))));
        assert_eq!(change(&["203.0.113.9"]), Some((both, values(&["203.0.113.9"]))));
    }

    fn some_values() -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set("[a-e]", 0..5)
    }

    fn beside() -> impl Strategy<Value = Beside> {
        prop::sample::select(vec![
            Beside::Anything,
            Beside::Nothing,
            Beside::Living { open: true },
            Beside::Living { open: false },
        ])
    }

    proptest! {
        #[test]
        fn a_change_leads_to_what_is_wanted_and_takes_nothing_else(
            wanted in some_values(), seen in some_values(), beside in beside()
        ) {
            let set = Set { owner: "o".to_owned(), kind: "A".to_owned(), ttl: 30, values: wanted.clone(), beside };
            let Some(did) = change(&set, &seen) else {
                let (has_all, has_any) = (seen.is_superset(&wanted), !seen.is_empty() || wanted.is_empty());
                let leaves_out = matches!(set.beside, Beside::Living { .. });
                prop_assert!(if leaves_out { has_any } else { has_all }, "what is wanted is there");
                return Ok(());
            };
            prop_assert!(did.remove.is_disjoint(&wanted), "nothing that is wanted goes");
            prop_assert!(set.beside != Beside::Anything || did.remove.is_empty(), "the operator's stays");
            prop_assert!(did.add.is_subset(&wanted) && did.add.is_disjoint(&seen) && did.remove.is_subset(&seen));
            let mut then = seen.clone();
            then.extend(did.add.clone());
            then.retain(|value| !did.remove.contains(value));
            prop_assert_eq!(&then, &did.then);
            prop_assert!(!then.is_empty() || wanted.is_empty(), "no name is left empty");
            prop_assert_eq!(change(&set, &then), None, "once is enough");
        }
    }
}
