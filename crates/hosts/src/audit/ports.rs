//! Who listens, and why that may be.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use sovereign_model::instance::bridge;

use super::{Findings, Wanted};
use crate::facts::{Facts, Listener, Protocol};
use crate::ready::PORT;

const SUBJECT: &str = "ports";
/// Where answers to the host's own questions for an address arrive.
const DHCP_CLIENT: [u16; 2] = [68, 546];
/// From here on the kernel gives ports to whoever asks something, so that one is gone as soon as it was seen.
const EPHEMERAL: u16 = 32_768;
/// Who has the sockets of an edge: systemd, and the program that it hands them to.
const OF_EDGE: [&str; 2] = ["systemd", "sovereign"];
/// Who has those of a name server: the Knot that it drives.
const OF_NAME_SERVER: [&str; 1] = ["knotd"];

/// A socket that takes what comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// The socket, and who has it.
    #[serde(flatten)]
    pub listener: Listener,
    /// Why that may be; nothing when it may not.
    pub why: Option<&'static str>,
}

/// All that listen.
pub(super) fn open(facts: &Facts, wanted: &Wanted) -> Vec<Open> {
    let all = facts.listeners.iter().flatten();
    all.map(|listener| Open { listener: listener.clone(), why: why(listener, facts, wanted) }).collect()
}

pub(super) fn judge(open: &[Open], facts: &Facts, wanted: &Wanted, all: &mut Findings) {
    if facts.listeners.is_none() {
        return all.unseen(SUBJECT, "who listens there cannot be seen", "install `ss` on the host (package iproute2)");
    }
    for Open { listener, .. } in open.iter().filter(|open| open.why.is_none()) {
        let Listener { protocol, port, address, owners } = listener;
        let who = if owners.is_empty() { "somebody".to_owned() } else { owners.join(", ") };
        let at = address.map(|address| format!(" of {address}")).unwrap_or_default();
        let sentence = format!("{who} listens on {protocol} {port}{at}, which nothing describes");
        let help = format!("`ss -lntup 'sport = {port}'` on the host names the process; stop it");
        if *protocol == Protocol::Udp && *port >= EPHEMERAL {
            all.warn(
                "passing ports",
                sentence,
                "a program that asks something listens for the answer; see whether it is still there",
            );
        } else {
            all.drift(SUBJECT, sentence, help);
        }
    }
    for socket in &wanted.sockets {
        if !facts.listeners.iter().flatten().any(|listener| is_at(listener, *socket)) {
            all.drift(SUBJECT, format_args!("nothing listens on {socket}, where the edge should"), "`sovereign up`");
        }
    }
    for (place, protocol) in wanted.asked.iter().flat_map(|place| [(place, Protocol::Udp), (place, Protocol::Tcp)]) {
        if !facts.listeners.iter().flatten().any(|listener| is_for(listener, *place, protocol)) {
            let sentence = format!("nothing listens on {protocol} {place}, where the name server should");
            let help = format!("`sovereign status` says why, and `sovereign logs`; on {} `ss -lntup`", wanted.host);
            all.drift(SUBJECT, sentence, help);
        }
    }
    all.else_fine(SUBJECT, format_args!("{} sockets listen, each for a reason", open.len()));
}

fn is_at(listener: &Listener, socket: SocketAddr) -> bool {
    is_for(listener, socket, Protocol::Tcp)
}

fn is_for(listener: &Listener, socket: SocketAddr, protocol: Protocol) -> bool {
    let address = Some(socket.ip()).filter(|ip| !ip.is_unspecified());
    listener.protocol == protocol && listener.port == socket.port() && listener.address == address
}

fn why(listener: &Listener, facts: &Facts, wanted: &Wanted) -> Option<&'static str> {
    let Listener { protocol, port, address, owners } = listener;
    let (is_tcp, is_udp) = (*protocol == Protocol::Tcp, *protocol == Protocol::Udp);
    let is_of = |names: &[&str]| owners.iter().all(|owner| names.contains(&owner.as_str()));
    if wanted.sockets.iter().any(|socket| is_at(listener, *socket)) {
        return is_of(&OF_EDGE).then_some("the edge");
    }
    if wanted.asked.iter().any(|place| is_for(listener, *place, *protocol)) {
        return is_of(&OF_NAME_SERVER).then_some("the name server");
    }
    if is_tcp && Some(*port) == facts.ssh_port {
        return Some("ssh");
    }
    if listener.is_private() {
        return Some("reached from the host itself only");
    }
    if is_udp && DHCP_CLIENT.contains(port) {
        return Some("the host's own address");
    }
    let is_on_bridge = *address == Some(IpAddr::V4(bridge::HOST)) && *port == 53;
    if is_of(&["dnsmasq"]) && (is_on_bridge || (is_udp && *port == 67)) {
        return Some("addresses of instances");
    }
    let is_member = facts.incus.as_ref().is_some_and(|incus| incus.clustered) && !wanted.peers.is_empty();
    if is_tcp && is_member && *port == PORT && *address == facts.address && is_of(&["incusd"]) {
        return Some("the other hosts of the data center");
    }
    let before = wanted.open_before.iter().flatten();
    let mut before = before.filter(|before| before.protocol == *protocol && before.port == *port);
    before.next().map(|_| "open before the host was made ready")
}
