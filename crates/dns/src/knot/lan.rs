//! What differs for whoever asks from the data center's own networks: they are led to its hosts themselves.
//!
//! Its public address leads them nowhere where a router stands before it: few lead back in who calls from within. So Knot's
//! module `geoip` answers these networks first, and for them alone, by `subnet`; the one that answers by geography is asked
//! after it. A kind of address that no host has there is answered as to everybody.
//!
//! Not while the data center is taken out on purpose. That one of several hosts there is dead is not known to whoever
//! answers: readers try the next of the addresses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use sovereign_model::DnsName;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::{Domain, Lan};

use super::files::Setup;

/// The module's file for a domain. `None` where nobody on the networks is led elsewhere than all others.
pub fn answers(setup: &Setup<'_>, domain: &Domain) -> Option<String> {
    let Lan { networks, edges } = setup.lan?;
    let here = setup.names.sites.iter().filter(|site| site.datacenters.contains(setup.datacenter));
    let names: BTreeSet<&DnsName> = here.flat_map(|site| &site.names).collect();
    let mut names = names.into_iter().filter(|name| is_within(name.as_str(), domain.name.as_str())).peekable();
    if setup.world.drained.contains(setup.datacenter) || names.peek().is_none() {
        return None;
    }
    let mut text = String::new();
    for name in names {
        let _ = writeln!(text, "{name}:"); // a String takes all
        for network in networks {
            let _ = writeln!(text, "  - net: \"{network}\"");
            for (kind, is_of_kind) in [("A", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("AAAA", IpAddr::is_ipv6)] {
                let of_kind = edges.iter().filter(|address| is_of_kind(address));
                let of_kind: Vec<String> = of_kind.map(|address| format!("\"{address}\"")).collect();
                if !of_kind.is_empty() {
                    let _ = writeln!(text, "    {kind}: [ {} ]", of_kind.join(", "));
                }
            }
        }
    }
    Some(text)
}
