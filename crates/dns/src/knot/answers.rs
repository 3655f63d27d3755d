//! What differs by where a question comes from: the answers that Knot's module `geoip` gives in place of the zone's.
//!
//! Whoever asks from a class of countries gets the addresses of the one data center that comes first in its order, of those
//! that are counted on. IPv4 and IPv6 each for itself: a reader who has only one of them must not be sent where that one
//! does not lead. Only one, because Knot puts the records of an answer into an order of its own, and resolvers shuffle them
//! anyway: with all of them in the answer, readers would be spread evenly over the globe. Whose country is not known gets
//! the zone's own answer, which is all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use sovereign_model::dns_record::is_within;
use sovereign_model::names::{Domain, Site};
use sovereign_model::{DatacenterName, DnsName};

use super::files::Setup;
use crate::geography::nearest::{Order, Orders};
use crate::zone::answering;

/// The module's file for a domain. `None` when nothing in it differs, because all sites there are at one data center.
pub fn answers(setup: &Setup<'_>, domain: &Domain, orders: &Orders) -> Option<String> {
    let mut names: BTreeMap<&DnsName, &Site> = BTreeMap::new();
    for site in &setup.names.sites {
        let within = site.names.iter().filter(|name| is_within(name.as_str(), domain.name.as_str()));
        names.extend(within.map(|name| (name, site)));
    }
    let mut text = String::new();
    for (name, site) in names {
        let addresses = answering(setup.names, site, setup.world);
        let datacenters: BTreeSet<&DatacenterName> = addresses.iter().map(|(datacenter, _)| datacenter).collect();
        if datacenters.len() < 2 {
            continue;
        }
        let _ = writeln!(text, "{name}:"); // a String takes all
        for order in orders.classes() {
            let _ = writeln!(text, "  - geo: \"{order}\"");
            for (kind, is_of_kind) in [("A", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("AAAA", IpAddr::is_ipv6)] {
                let nearest = nearest(order, &addresses, is_of_kind);
                if !nearest.is_empty() {
                    let _ = writeln!(text, "    {kind}: [ {} ]", nearest.join(", "));
                }
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The addresses of the first data center that has any of the kind.
fn nearest(
    order: &Order,
    addresses: &BTreeSet<(DatacenterName, IpAddr)>,
    is_of_kind: fn(&IpAddr) -> bool,
) -> Vec<String> {
    let of = |datacenter: &DatacenterName| -> Vec<String> {
        let its = addresses.iter().filter(|(place, address)| place == datacenter && is_of_kind(address));
        its.map(|(_, address)| format!("\"{address}\"")).collect()
    };
    order.datacenters().iter().map(of).find(|its| !its.is_empty()).unwrap_or_default()
}
