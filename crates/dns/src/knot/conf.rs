//! The configuration of Knot.
//!
//! Every choice that is not Knot's own default is here because an authority on the open internet wants it:
//!
//! - **EDNS Client Subnet on** (RFC 7871): a resolver that tells where its reader is gets the answer for there, with the
//!   size of the network that it holds for, so that it is not given to others. Without it, the resolver's own address counts.
//! - **Cookies** (RFC 7873), then **rate limiting**, in this order: who proves with a cookie that the address is really its
//!   own is never limited. The others get 200 answers a second for each network, kind of answer and zone; a resolver, which
//!   keeps an answer for 30 s, needs a fraction of that. Above it every second answer says "ask by TCP", which cannot be
//!   forged, and the rest is dropped: less goes out than comes in, so we are no use for flooding others. The machine itself
//!   is never limited.
//! - **Nothing leaves but answers**: no updates, no notices are allowed to anybody, transfers to declared secondaries that
//!   prove themselves with their key and to nobody else, and who asks for version or machine is told nothing. Its name server identifier is the data center, which is public anyway.
//! - **Sockets that others may open too** (`tcp-reuseport`; by UDP it is Knot's default), but only others of the same user:
//!   so one Knot can take over from another while both answer.
//! - **One key signs everything** (`single-type-signing`), it is brought and never made or exchanged by Knot (`manual`).
//!   Signatures live for 14 days and are renewed a week before they end; those by geography are made when they are loaded,
//!   therefore the driver reloads every day.
//! - **Secondaries get whole zones** and no differences (`provide-ixfr: off`): each name server numbers its zone by itself, so
//!   that a difference from a number that a secondary has of another one would be a difference from something else.
//! - **Serials follow the time** (`unixtime`), and Knot finds out by itself what changed in a zone: what is unchanged keeps
//!   its signatures.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use sovereign_model::secondary::Secondary;

use super::files::{Served, Setup, answers_file, lan_file, zone_file};
use crate::zone::ADDRESS_TTL;

/// Answers a second for each network and kind, before they are limited.
const RATE_LIMIT: u32 = 200;
/// Buckets for them, of 32 bytes each: 2 MB instead of the default's 12, for some 50,000 answers a second. A prime, as
/// Knot recommends.
const RATE_TABLE: u32 = 65_537;

/// What a module is called that answers the data center's own networks, behind the name of its domain. No name has it.
const ON_LAN: &str = "_lan";

/// The secondaries: the files with their keys, where each is told of changes, and what each may have.
fn secondaries(setup: &Setup<'_>) -> String {
    let all = &setup.names.secondaries;
    if all.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    // A String takes all.
    for file in all.iter().filter_map(|secondary| setup.transfer_keys.get(&secondary.name)) {
        let _ = writeln!(text, "\ninclude: {}", quoted(&file.to_string_lossy()));
    }
    text.push_str("\nremote:\n");
    for Secondary { name, notify, key, .. } in all {
        let places: Vec<String> = notify.iter().map(place).collect();
        let _ = writeln!(text, "  - id: {name}\n    address: [ {} ]\n    key: {key}", places.join(", "));
    }
    text.push_str("\nacl:\n");
    for Secondary { name, key, .. } in all {
        let _ = writeln!(text, "  - id: {name}\n    key: {key}\n    action: transfer");
    }
    text
}

/// The configuration.
pub fn conf(setup: &Setup<'_>, served: &[Served<'_>], home: &Path, generation: &Path) -> String {
    let listen: Vec<String> = setup.listen.iter().map(place).collect();
    let mut text = format!(
        "\
# Written by sovereign, and written anew at the next change.
server:
    rundir: {rundir}
    listen: [ {listen} ]
    tcp-reuseport: on
    identity: \"\"
    version: \"\"
    nsid: {identity}
    edns-client-subnet: on
    answer-rotation: on

log:
  - target: stderr
    any: notice

database:
    storage: {storage}

mod-rrl:
  - id: open
    rate-limit: {RATE_LIMIT}
    slip: 2
    table-size: {RATE_TABLE}
    whitelist: [ 127.0.0.0/8, ::1 ]

policy:
  - id: one-key
    algorithm: ecdsap256sha256
    single-type-signing: on
    manual: on
    cds-cdnskey-publish: none
    rrsig-lifetime: 14d
    rrsig-refresh: 7d

template:
  - id: default
    global-module: [ mod-cookies, mod-rrl/open ]
    semantic-checks: on
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    serial-policy: unixtime
    dnssec-signing: on
    dnssec-policy: one-key
",
        rundir = quoted(&home.join("run").to_string_lossy()),
        listen = listen.join(", "),
        identity = quoted(setup.datacenter.as_str()),
        storage = quoted(&home.join("db").to_string_lossy()),
    );
    text.push_str(&secondaries(setup));
    let file = |name: &Path| quoted(&generation.join(name).to_string_lossy());
    if served.iter().any(|served| served.by_lan || served.by_geography) {
        text.push_str("\nmod-geoip:\n");
    }
    for Served { domain, .. } in served.iter().filter(|served| served.by_lan) {
        // A String takes all.
        let _ = write!(
            text,
            "  - id: {}{}\n    config-file: {}\n    ttl: {ADDRESS_TTL}\n    mode: subnet\n",
            domain.name,
            ON_LAN,
            file(&lan_file(domain))
        );
    }
    for Served { domain, .. } in served.iter().filter(|served| served.by_geography) {
        let table = setup.geography.map(|geography| quoted(&geography.table.to_string_lossy())).unwrap_or_default();
        let answers = file(&answers_file(domain));
        // A String takes all.
        let _ = write!(
            text,
            "  - id: {}\n    config-file: {answers}\n    ttl: {ADDRESS_TTL}\n    mode: geodb\n    geodb-file: {table}\n    \
             geodb-key: nearest\n",
            domain.name
        );
    }
    if !served.is_empty() {
        text.push_str("\nzone:\n");
    }
    for Served { domain, by_lan, by_geography } in served {
        let _ = write!(text, "  - domain: {}\n    file: {}\n", domain.name, file(&zone_file(domain)));
        // The first that has an answer gives it.
        let modules = [(by_lan, ON_LAN), (by_geography, "")].into_iter().filter(|(differs, _)| **differs);
        let modules: Vec<String> = modules.map(|(_, what)| format!("mod-geoip/{}{what}", domain.name)).collect();
        if !modules.is_empty() {
            let _ = writeln!(text, "    module: [ {} ]", modules.join(", "));
        }
        let names: Vec<&str> = setup.names.secondaries(domain).map(|secondary| secondary.name.as_str()).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            let _ = writeln!(text, "    notify: [ {names} ]\n    acl: [ {names} ]\n    provide-ixfr: off");
        }
    }
    text
}

fn place(listen: &SocketAddr) -> String {
    format!("{}@{}", listen.ip(), listen.port())
}

/// A text as Knot's configuration has it, where a backslash means itself, but for one before a quotation mark.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}
