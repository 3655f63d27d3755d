//! What is said about a data center's own networks.

use std::collections::BTreeMap;

use super::{Check, port};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::network::Network;
use crate::stack::Host;

impl Check<'_> {
    /// The networks of a data center: each once, a host in one of them, and where readers knock there is somebody.
    pub(super) fn lan(&mut self, datacenter: &Node, hosts: Option<&[Host]>) -> Vec<Network> {
        let mut networks: BTreeMap<Network, _> = BTreeMap::new();
        for text in datacenter.texts("lan") {
            let Ok(network) = text.get_ref().parse::<Network>() else { continue };
            if let Some(first) = networks.insert(network, text.span()) {
                let finding = Finding::new(ProblemKind::Duplicate, text.span(), "this network is there twice");
                self.find(finding.note(first, "first given here").help("remove one of them"));
            }
        }
        let is_in = |host: &Host| host.address.is_some_and(|ip| networks.keys().any(|network| network.contains(ip)));
        if let Some(hosts) = hosts
            && !networks.is_empty()
            && !datacenter.spoilt("lan")
            && !datacenter.nodes("host").iter().any(|host| host.spoilt("address"))
        {
            if !hosts.iter().any(is_in) {
                let message = "no host has an address in `lan`";
                let help = "write the network that the hosts' own addresses are in, or leave `lan` out";
                self.find(Finding::new(ProblemKind::Conflict, datacenter.span_of("lan"), message).help(help));
            }
            self.is_knocked_at(datacenter);
        }
        networks.into_keys().collect()
    }

    /// On its network nobody stands before a host who would lead one port to another.
    fn is_knocked_at(&mut self, datacenter: &Node) {
        let Some(uplink) = datacenter.nodes("uplink").first().filter(|_| !datacenter.has("proxy")) else { return };
        let (Some(asked), Some(listens)) = (port(uplink, "port"), port(uplink, "listen")) else { return };
        if asked != listens {
            let message = format!("who is on the LAN asks a host for port {asked}, and its edge listens at {listens}");
            let help = "have the edge listen at the same port: remove `listen`; or leave `lan` out";
            let finding = Finding::new(ProblemKind::Conflict, uplink.span_of("listen"), message);
            self.find(finding.note(datacenter.span_of("lan"), "the LAN is declared here").help(help));
        }
    }
}
