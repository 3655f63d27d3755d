//! The packet filter of a host: what may come in. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use sovereign_model::instance::bridge::NAME;

use crate::facts::{Facts, Listener, Protocol};

/// Where they lie on a host.
pub(crate) const FILE: &str = "/etc/sovereign/nftables.conf";
/// They are shorter: some lines, and one for each port that was open before.
pub(crate) const LONGEST: usize = 256 << 10;
/// What is open on every host: names, pages, and pages over QUIC.
const OPEN: [(Protocol, u16); 5] =
    [(Protocol::Tcp, 53), (Protocol::Tcp, 80), (Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Udp, 443)];
/// The mark of packets that an instance may send to the host: their own table sets it, so that without that table nothing
/// has it.
pub const FROM_INSTANCE: &str = "0x736f";
/// How the rule for SSH ends, and those for the other hosts of the data center, which come after it.
const SSH: &str = "comment \"ssh\"";
const PEER: &str = "comment \"another host of the data center\"";
/// Where answers to the host's own questions for an address arrive.
const DHCP_CLIENT: [u16; 2] = [68, 546];

/// What listens there now, and is not among what is open on every host. It stays open, and the operator is told.
pub fn open_before(facts: &Facts) -> Vec<&Listener> {
    let ssh = facts.ssh_port;
    let others = facts.listeners.iter().flatten().filter(|listener| {
        let is_base = OPEN.contains(&(listener.protocol, listener.port));
        let is_ssh = listener.protocol == Protocol::Tcp && Some(listener.port) == ssh;
        let is_dhcp = listener.protocol == Protocol::Udp && DHCP_CLIENT.contains(&listener.port);
        // What Incus opens is for the other hosts of the data center.
        let is_own = listener.owners.iter().any(|owner| owner == "dnsmasq" || owner == "incusd");
        !(listener.is_private() || is_base || is_ssh || is_dhcp || is_own)
    });
    let mut others: Vec<&Listener> = others.collect();
    others.dedup_by_key(|listener| (listener.protocol, listener.port));
    others
}

/// The rules, as a file for `nft -f`. They replace a table of ours and touch no other.
pub(crate) fn rules(facts: &Facts, peers: &BTreeSet<IpAddr>) -> String {
    let mut text = String::from(
        "# Written by sovereign: what may come in. What is not named here is dropped; nothing that goes out is.\n\
         table inet sovereign\n\
         delete table inet sovereign\n\
         table inet sovereign {\n    \
             chain input {\n        \
                 type filter hook input priority filter; policy drop;\n        \
                 ct state established,related accept\n        \
                 iif lo accept\n        \
                 meta l4proto { 1, 58 } accept comment \"ICMP, by number: a bare host has no names for protocols\"\n        \
                 udp sport 67 udp dport 68 accept\n        \
                 udp sport 547 udp dport 546 accept\n",
    );
    let mut line = |rule: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "        {rule}"); // into a string: never fails
    };
    line(format_args!("tcp dport {} accept {SSH}", facts.ssh_port.unwrap_or(22)));
    for (protocol, port) in OPEN {
        line(format_args!("{protocol} dport {port} accept"));
    }
    for bridge in ["incusbr*", "sov*"] {
        line(format_args!("iifname \"{bridge}\" udp dport {{ 67, 547 }} accept comment \"addresses for instances\""));
    }
    line(format_args!("iifname \"{NAME}\" meta mark {FROM_INSTANCE} accept comment \"what instances may reach\""));
    for Listener { protocol, port, owners, .. } in open_before(facts) {
        // Names of programs are theirs to choose.
        let owners = if owners.is_empty() { "by whom is unknown".to_owned() } else { owners.join(" ") };
        let owners: String = owners.chars().filter(|c| c.is_ascii_alphanumeric() || " -_.".contains(*c)).collect();
        line(format_args!("{protocol} dport {port} accept comment \"open before: {}\"", owners.trim()));
    }
    text.push_str("    }\n}\n");
    with_peers(&text, peers)
}

/// The rules of a host that was made ready once, from what was written down of it then.
pub(crate) fn wanted(ssh_port: Option<u16>, open_before: &[Listener], peers: &BTreeSet<IpAddr>) -> String {
    rules(&Facts { ssh_port, listeners: Some(open_before.to_vec()), ..Facts::default() }, peers)
}

/// The same rules for other peers: what else was let in when they were made stays so, and nothing comes to it.
pub(crate) fn with_peers(rules: &str, peers: &BTreeSet<IpAddr>) -> String {
    let mut text = String::new();
    for line in rules.lines().filter(|line| !line.ends_with(PEER)) {
        let _ = writeln!(text, "{line}"); // into a string: never fails
        if line.ends_with(SSH) {
            for peer in peers {
                let family = if peer.is_ipv4() { "ip" } else { "ip6" };
                let _ = writeln!(text, "        {family} saddr {peer} accept {PEER}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(protocol: Protocol, port: u16, address: Option<&str>, owner: &str) -> Listener {
        Listener { protocol, port, address: address.map(|a| a.parse().unwrap()), owners: vec![owner.to_owned()] }
    }

    #[test]
    fn what_was_open_stays_open_and_is_named() {
        let facts = Facts {
            ssh_port: Some(2222),
            listeners: Some(vec![
                listener(Protocol::Tcp, 2222, None, "sshd"),
                listener(Protocol::Tcp, 5432, Some("127.0.0.1"), "postgres"),
                listener(Protocol::Tcp, 8080, None, "my \"wiki\""),
                listener(Protocol::Tcp, 8080, Some("192.0.2.8"), "my \"wiki\""),
                listener(Protocol::Tcp, 443, None, "sovereign"),
                listener(Protocol::Udp, 68, None, "systemd-network"),
                listener(Protocol::Udp, 51820, None, ""),
                listener(Protocol::Tcp, 8443, Some("192.0.2.8"), "incusd"),
            ]),
            ..Facts::default()
        };
        let ports: Vec<u16> = open_before(&facts).iter().map(|listener| listener.port).collect();
        assert_eq!(ports, [8080, 51820]);
        let peers = ["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()].into();
        let text = rules(&facts, &peers);
        insta::assert_snapshot!(text);
        // Peers come and go, and nothing else changes.
        let (alone, mut fewer) = (rules(&facts, &BTreeSet::new()), peers.clone());
        assert_eq!(with_peers(&text, &peers), text);
        assert_eq!(with_peers(&text, &BTreeSet::new()), alone);
        fewer.pop_first();
        assert_eq!(with_peers(&with_peers(&alone, &fewer), &peers), text);
    }
}
