//! What is said about secondaries: who they are, and which domains they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::{Check, Declared};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::{Node, closest};
use crate::name::{DatacenterName, SecondaryName, StackName};
use crate::names::NAMES_PORT;
use crate::secondary::{Secondary, TsigAlgorithm};
use crate::stack::Datacenter;

impl Check<'_> {
    /// In the order of the file.
    pub(super) fn secondaries(
        &mut self,
        nodes: &[Node],
        stack: Option<&StackName>,
        datacenters: &BTreeMap<DatacenterName, Declared>,
    ) -> Vec<Secondary> {
        let (mut names, mut keys) = (BTreeMap::new(), BTreeMap::new());
        let mut secondaries = Vec::new();
        for node in nodes {
            let addresses = self.answers_at(node);
            let Some(name) = node.parse::<SecondaryName>("name") else { continue };
            let is_new = self.unique(&mut names, name.clone(), &format!("secondary `{name}`"), node.span_of("name"));
            if let Some((_, other)) = datacenters.iter().find(|(datacenter, _)| datacenter.as_str() == name.as_str()) {
                let message = format!("`{name}` is a data center too, and name servers are called after both");
                let finding = Finding::new(ProblemKind::Conflict, node.span_of("name"), message);
                self.find(finding.note(other.span.clone(), "the data center").help("give the secondary another name"));
            }
            let algorithm = node.text("algorithm").and_then(TsigAlgorithm::find);
            let key = match node.has("key") {
                true => node.parse("key"),
                false => stack.map(|stack| Secondary::usual_key(&name, stack)),
            };
            if let Some(key) = &key {
                let span = if node.has("key") { node.span_of("key") } else { node.span_of("name") };
                self.unique(&mut keys, key.clone(), &format!("key `{key}`"), span);
            }
            let places = node.texts("notify").iter().filter_map(|text| text.get_ref().parse::<SocketAddr>().ok());
            let mut notify: Vec<SocketAddr> = places.collect();
            if notify.is_empty() {
                notify.extend(addresses.iter().map(|address| SocketAddr::new(*address, NAMES_PORT)));
            }
            let (true, false, Some(key), Some(algorithm)) = (is_new, addresses.is_empty(), key, algorithm) else {
                continue;
            };
            secondaries.push(Secondary { name, host: node.parse("host"), addresses, notify, key, algorithm });
        }
        self.has_somebody_to_copy(nodes, datacenters);
        secondaries
    }

    fn answers_at(&mut self, node: &Node) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeMap<IpAddr, Range<usize>> = BTreeMap::new();
        for text in node.texts("addresses") {
            let Ok(address) = text.get_ref().parse::<IpAddr>() else { continue };
            if let Some(first) = addresses.insert(address, text.span()) {
                let finding = Finding::new(ProblemKind::Duplicate, text.span(), "this address is there twice");
                self.find(finding.note(first, "first given here").help("remove one of them"));
            }
            self.reachable_address(address, text.span());
        }
        if addresses.is_empty() && node.has("addresses") && !node.spoilt("addresses") {
            let finding = Finding::new(ProblemKind::BadValue, node.span_of("addresses"), "a secondary has an address");
            self.find(finding.help("write the addresses that it answers at: `addresses = [\"203.0.113.53\"]`"));
        }
        addresses.into_keys().collect()
    }

    /// Copies are made of what a name server of the stack's own has, which needs an address that stays.
    fn has_somebody_to_copy(&mut self, nodes: &[Node], datacenters: &BTreeMap<DatacenterName, Declared>) {
        let all_known = datacenters.values().all(|declared| declared.complete.is_some());
        let mut complete = datacenters.values().filter_map(|declared| declared.complete.as_ref());
        let is_there = complete.any(Datacenter::is_reached_for_good);
        if let Some(node) = nodes.first().filter(|_| all_known && !datacenters.is_empty() && !is_there) {
            let message = "there is no name server to copy from: no data center is reached at a fixed address";
            let finding = Finding::new(ProblemKind::Conflict, node.span.clone(), message);
            self.find(
                finding.help("give one an uplink with an address that stays, or leave the domains to a `provider`"),
            );
        }
    }

    /// Which secondaries a domain has: those that it names, or all; none where a provider answers.
    pub(super) fn secondaries_of(&mut self, node: &Node, file: &Node, secondaries: &[Secondary]) -> Vec<SecondaryName> {
        if node.has("provider") {
            if node.has("secondaries") {
                let message = "secondaries copy from the stack's own name servers, and here a provider answers";
                let finding = Finding::new(ProblemKind::Conflict, node.span_of("secondaries"), message);
                self.find(finding.note(node.span_of("provider"), "the provider").help("remove one of the two"));
            }
            return Vec::new();
        }
        if !node.has("secondaries") {
            return secondaries.iter().map(|secondary| secondary.name.clone()).collect();
        }
        let declared: BTreeSet<SecondaryName> =
            file.nodes("secondary").iter().filter_map(|node| node.parse("name")).collect();
        let names_known = !file.spoilt("secondary") && file.nodes("secondary").iter().all(|node| !node.spoilt("name"));
        let mut seen: BTreeMap<SecondaryName, Range<usize>> = BTreeMap::new();
        let mut named = Vec::new();
        for text in node.texts("secondaries") {
            let Ok(name) = text.get_ref().parse::<SecondaryName>() else { continue };
            if declared.contains(&name) {
                if let Some(first) = seen.insert(name.clone(), text.span()) {
                    let message = format!("secondary `{name}` is listed twice");
                    let finding = Finding::new(ProblemKind::Duplicate, text.span(), message);
                    self.find(finding.note(first, "first listed here").help("remove one of them"));
                } else {
                    named.push(name);
                }
            } else if names_known {
                let help = match closest(name.as_str(), declared.iter().map(SecondaryName::as_str)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "declare it with [[secondary]]".to_owned(),
                };
                let message = format!("there is no secondary `{name}`");
                self.find(Finding::new(ProblemKind::UnknownReference, text.span(), message).help(help));
            }
        }
        named
    }
}
