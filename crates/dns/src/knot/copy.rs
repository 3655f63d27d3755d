//! What the owner of a secondary adds to the configuration of their Knot: the other side of ours.
//!
//! Each of the stack's name servers is a primary there, since any of them may be away. It may tell of changes, and nothing
//! else; what it sends is believed with the key only. Other servers than Knot have the same facts under other names.

use std::fmt::Write as _;
use std::net::IpAddr;

use sovereign_model::DnsName;
use sovereign_model::names::{Domain, NAMES_PORT, Names};
use sovereign_model::secondary::Secondary;

use crate::zone::{NameServer, Whose, name_servers};

/// The domains that a secondary has a copy of.
pub fn domains<'n>(names: &'n Names, secondary: &Secondary) -> Vec<&'n Domain> {
    names.domains.iter().filter(|domain| domain.secondaries.contains(&secondary.name)).collect()
}

/// The stack's own name servers, that a secondary copies from: each by its name in this domain.
pub fn primaries(names: &Names, domain: &DnsName) -> Vec<NameServer> {
    let own = |server: &NameServer| matches!(server.whose, Whose::Datacenter(_));
    name_servers(names, domain).into_iter().filter(own).collect()
}

/// A part of Knot's configuration; `secret` is the key, in base 64.
pub fn conf(names: &Names, secondary: &Secondary, secret: &str) -> String {
    let Secondary { key, algorithm, .. } = secondary;
    let domains = domains(names, secondary);
    let primaries = domains.first().map(|domain| primaries(names, &domain.name)).unwrap_or_default();
    let mut text = format!("key:\n  - id: {key}\n    algorithm: {algorithm}\n    secret: {secret}\n\nremote:\n");
    let mut ids = Vec::new();
    for server in &primaries {
        let Whose::Datacenter(datacenter) = &server.whose else { continue };
        let at = |address: &IpAddr| format!("{address}@{NAMES_PORT}");
        let places: Vec<String> = server.addresses.iter().map(at).collect();
        let id = format!("{key}.{datacenter}");
        // A String takes all.
        let _ = writeln!(text, "  - id: {id}\n    address: [ {} ]\n    key: {key}", places.join(", "));
        ids.push(id);
    }
    let _ = write!(text, "\nacl:\n  - id: {key}\n    key: {key}\n    action: notify\n\nzone:\n");
    for domain in domains {
        let _ = writeln!(text, "  - domain: {}\n    master: [ {} ]\n    acl: {key}", domain.name, ids.join(", "));
    }
    text
}
