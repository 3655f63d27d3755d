//! What of a stack a name server needs to know, and nothing else: where its data centers are reached, which domains the
//! stack answers for itself, and which names lead where.
//!
//! It is part of a name server's configuration, so whatever is left out here can change without a name server being
//! replaced: what a site runs, say, or who its domain is registered with. Beside it, which edges have a name server, and
//! where that is asked.

use std::net::{IpAddr, SocketAddr};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dns_record::{DnsRecord, is_within};
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, ProviderName, SecondaryName};
use crate::network::Network;
use crate::secondary::Secondary;
use crate::stack::{self, Location, Mail, Reach, Stack, UplinkAddress};

/// The part of a [`Stack`] that its name servers know. Made by [`Names::of`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Names {
    /// The data centers, by name.
    pub places: Vec<Place>,
    /// The domains that the stack's own name servers answer for, by name.
    pub domains: Vec<Domain>,
    /// Name servers of others that have copies of these, in the order of the stack file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondaries: Vec<Secondary>,
    /// The sites, in the order of their names.
    pub sites: Vec<Site>,
    /// What the authorities that issue certificates call themselves in CAA records; `None` where nobody is kept from issuing,
    /// because no authority is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<BTreeSet<DnsName>>,
}

/// A data center, as DNS knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Place {
    /// Its name.
    pub name: DatacenterName,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The jurisdiction it is under (ISO 3166-1 alpha-2, upper case): where nobody said where it is, it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// How readers reach it. Empty when it can only dial out.
    pub uplinks: Vec<Uplink>,
}

/// An uplink that readers come in over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: UplinkAddress,
}

/// A domain, as its zone needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: DnsName,
    /// Whose name servers have a copy of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondaries: Vec<SecondaryName>,
    /// Where mail for it goes.
    pub mail: Mail,
    /// The operator's own records, all within it.
    pub records: Vec<DnsRecord>,
}

/// A site: which names lead to which data centers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Site {
    /// The host names it is served under, the canonical one first.
    pub names: Vec<DnsName>,
    /// The data centers that it is at, the primary first.
    pub datacenters: Vec<DatacenterName>,
}

impl Names {
    /// What of a stack its name servers know.
    pub fn of(stack: &Stack) -> Self {
        Self {
            places: stack.datacenters.values().map(Place::from).collect(),
            domains: stack.domains.values().filter(|domain| domain.provider.is_none()).map(Domain::from).collect(),
            secondaries: stack.secondaries.clone(),
            sites: stack.sites.values().map(Site::from).collect(),
            issuers: (!stack.authorities.is_empty())
                .then(|| stack.authorities.iter().filter_map(|authority| authority.caa.clone()).collect()),
        }
    }

    /// What whoever tells providers of these domains where readers are led knows: nothing of what else is in them.
    pub(crate) fn told(stack: &Stack, told: &BTreeMap<DnsName, ProviderName>) -> Self {
        let bare = |name: &DnsName| Domain {
            name: name.clone(),
            secondaries: Vec::new(),
            mail: Mail::Elsewhere,
            records: Vec::new(),
        };
        let domains = told.keys().map(bare).collect();
        Self { domains, secondaries: Vec::new(), issuers: None, ..Self::of(stack) }
    }

    /// A data center.
    pub fn place(&self, name: &DatacenterName) -> Option<&Place> {
        self.places.iter().find(|place| place.name == *name)
    }

    /// The secondaries of a domain, in the order of the stack file.
    pub fn secondaries(&self, domain: &Domain) -> impl Iterator<Item = &Secondary> {
        self.secondaries.iter().filter(|secondary| domain.secondaries.contains(&secondary.name))
    }

    /// A domain that is answered for.
    pub fn domain(&self, name: &DnsName) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name == *name)
    }
}

impl From<&stack::Datacenter> for Place {
    fn from(datacenter: &stack::Datacenter) -> Self {
        let open = datacenter.uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly);
        Self {
            name: datacenter.name.clone(),
            location: datacenter.location,
            jurisdiction: datacenter.jurisdiction.clone(),
            uplinks: open.map(|uplink| Uplink { name: uplink.name.clone(), address: uplink.address }).collect(),
        }
    }
}

impl From<&stack::Domain> for Domain {
    fn from(domain: &stack::Domain) -> Self {
        let stack::Domain { name, secondaries, mail, records, .. } = domain.clone();
        Self { name, secondaries, mail, records }
    }
}

impl From<&stack::Site> for Site {
    fn from(site: &stack::Site) -> Self {
        Self { names: site.all_names().cloned().collect(), datacenters: site.datacenters().cloned().collect() }
    }
}

/// The networks of a data center's own people and things, where its public address may lead nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lan {
    /// Which.
    pub networks: Vec<Network>,
    /// Its edges there, in the order of its hosts. Never empty.
    pub edges: Vec<IpAddr>,
}

/// Where names are asked for, by UDP and TCP (RFC 1035 section 4.2).
pub const NAMES_PORT: u16 = 53;

impl Stack {
    /// The edges that have a name server beside them, where the stack answers for a domain itself: those on hosts of data
    /// centers that are reached at a fixed address, and for its own people where a data center has a LAN.
    pub fn name_servers(&self) -> impl Iterator<Item = EdgeName> {
        let answers = self.domains.values().any(|domain| domain.provider.is_none());
        let is_asked = |edge: &EdgeName| {
            let datacenter = self.datacenters.get(&edge.datacenter);
            datacenter.is_some_and(|datacenter| datacenter.is_reached_for_good() || datacenter.lan().is_some())
        };
        self.edges_on_hosts().filter(move |edge| answers && is_asked(edge))
    }

    /// Those of them that are for the whole world: the others answer their own LAN alone.
    pub fn public_name_servers(&self) -> impl Iterator<Item = EdgeName> {
        self.name_servers().filter(|edge| self.datacenters[&edge.datacenter].is_reached_for_good())
    }

    /// The domain that a name is in.
    pub fn domain_of(&self, name: &DnsName) -> Option<&stack::Domain> {
        self.domains.values().find(|domain| is_within(name.as_str(), domain.name.as_str()))
    }
}

impl stack::Datacenter {
    /// Whether it is reached from outside at an address that stays: one that a registry can be told.
    pub fn is_reached_for_good(&self) -> bool {
        let is_fixed = |uplink: &stack::Uplink| matches!(uplink.address, UplinkAddress::Fixed(_));
        self.uplinks.iter().any(|uplink| uplink.reach != Reach::OutboundOnly && is_fixed(uplink))
    }

    /// What leads there on its own networks, if it has any.
    pub fn lan(&self) -> Option<Lan> {
        let is_in = |ip: &IpAddr| self.lan.iter().any(|network| network.contains(*ip));
        let edges: Vec<IpAddr> = self.hosts.iter().filter_map(|host| host.address).filter(is_in).collect();
        (!edges.is_empty()).then(|| Lan { networks: self.lan.clone(), edges })
    }

    /// Where the name server beside an edge of it takes questions: at the address where the edge is reached, and at those of
    /// direct uplinks that no other host is reached at. Not at every address, since on its networks Incus answers for
    /// instances.
    pub fn asked(&self, edge: &EdgeName) -> Vec<SocketAddr> {
        let own = self.uplinks.iter().filter(|uplink| uplink.reach == Reach::Direct);
        let own = own.filter_map(|uplink| match uplink.address {
            UplinkAddress::Fixed(ip) => Some(ip),
            UplinkAddress::Dynamic => None,
        });
        let others = self.hosts.iter().filter(|host| edge.host.as_ref() != Some(&host.name));
        let own = own.filter(|ip| !others.clone().any(|host| host.address == Some(*ip)));
        stack::each_once(std::iter::once(self.reached(edge).ip()).chain(own).map(|ip| SocketAddr::new(ip, NAMES_PORT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "home"
location = { latitude = 48.2, longitude = 16.4 }
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[datacenter.uplink]]
name = "cable"
address = "dynamic"
listen = 8444
[[datacenter]]
name = "cabin"
jurisdiction = "IS"
[[datacenter.uplink]]
name = "lte"
address = "203.0.113.9"
port = 10443
reach = "outbound-only"
[[domain]]
name = "example.org"
registrar = "r"
records = ["_dmarc 60 TXT \"a \\\" b\"", "x TYPE65400 \\# 3 010203"]
[[domain]]
name = "example.net"
registrar = "q"
provider = "p"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.net"]
primary = "home"
mirrors = ["cabin"]
"#;

    fn names() -> Names {
        Names::of(&crate::parse("stack.toml", STACK, std::path::Path::new("/")).unwrap())
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let names = names();
        let text = serde_json::to_string(&names).unwrap();
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), names);
        assert_eq!(names.domains.iter().map(|domain| domain.name.as_str()).collect::<Vec<_>>(), ["example.org"]);
        assert_eq!(names.places.iter().map(|place| place.uplinks.len()).collect::<Vec<_>>(), [0, 2]);
        assert!(!text.contains("example.net\",\"mail") && !text.contains("203.0.113.9"), "{text}");
    }

    #[test]
    fn where_there_is_a_lan_there_is_a_name_server_though_not_for_the_world() {
        let text = |lan: &str| {
            format!(
                "version = 1\n[stack]\nname = \"s\"\n\
                 [[datacenter]]\nname = \"cabin\"\nengine = \"incus\"\n{lan}\n[[datacenter.uplink]]\nname = \"lte\"\n\
                 address = \"dynamic\"\nreach = \"outbound-only\"\n\
                 [[datacenter.host]]\nname = \"a\"\naddress = \"192.168.1.5\"\n\
                 [[datacenter.host]]\nname = \"b\"\naddress = \"10.0.0.6\"\n\
                 [[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n"
            )
        };
        let stack = |lan| crate::parse("stack.toml", &text(lan), std::path::Path::new("/")).unwrap();
        assert_eq!(stack("").name_servers().count(), 0);
        let with = stack("lan = [\"192.168.1.0/24\"]");
        assert_eq!((with.name_servers().count(), with.public_name_servers().count()), (2, 0));
        let lan = with.datacenters[&"cabin".parse().unwrap()].lan().unwrap();
        assert_eq!(lan.edges, ["192.168.1.5".parse::<IpAddr>().unwrap()], "the other is on no network of it");
    }

    #[test]
    fn who_may_issue_is_known_once_an_authority_is_declared() {
        let issuers = |more: &str| {
            let stack = crate::parse("stack.toml", &format!("{STACK}{more}"), std::path::Path::new("/")).unwrap();
            let names = Names::of(&stack);
            assert_eq!(serde_json::from_str::<Names>(&serde_json::to_string(&names).unwrap()).unwrap(), names);
            names.issuers.map(|all| all.into_iter().map(String::from).collect::<Vec<_>>())
        };
        let own = "[[authority]]\nname = \"own\"\ndirectory = \"https://ca.example/dir\"\n";
        assert_eq!(issuers(""), None);
        assert_eq!(issuers(own), Some(vec![]));
        let both = format!("[[authority]]\nname = \"letsencrypt\"\n{own}caa = \"ca.example\"\n");
        assert_eq!(issuers(&both), Some(vec!["ca.example".into(), "letsencrypt.org".into()]));
    }

    #[test]
    fn a_record_that_is_none_is_refused() {
        let text = serde_json::to_string(&names()).unwrap();
        for (good, bad) in
            [("\"TXT\"", "\"TXT\\n@\""), ("\"TXT\"", "\"A\""), ("_dmarc.example.org", "a b"), ("01 02 03", "01 02")]
        {
            let damaged = text.replace(good, bad);
            assert_ne!(damaged, text);
            assert!(serde_json::from_str::<Names>(&damaged).is_err(), "{bad}");
        }
    }
}
