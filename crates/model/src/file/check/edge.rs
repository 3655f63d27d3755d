//! What is said about edges: limits, the log, a proxy in front, the room of a site.

use std::net::IpAddr;

use super::Check;
use crate::edge_rules::{AccessLog, EdgeRules, Keep, Limits, Proxy, ProxySpeech, Room};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::size::ByteSize;

/// A head shorter than this has no room for what browsers send.
const LEAST_HEAD: ByteSize = ByteSize(8 << 10);
/// A head is held in memory for every connection.
const MOST_HEAD: ByteSize = ByteSize(1 << 20);
/// A sign-in takes this much.
const LEAST_BODY: ByteSize = ByteSize(1000);
/// Beyond any disk that an upload could end on.
const MOST_BODY: ByteSize = ByteSize(1_000_000_000_000_000);

impl Check<'_> {
    pub(super) fn edge_rules(&mut self, node: Option<&Node>) -> EdgeRules {
        let Some(node) = node else { return EdgeRules::default() };
        let access_log = match node.text("access-log") {
            Some("off") => AccessLog::Off,
            Some("full") => AccessLog::Full,
            _ => AccessLog::Truncated,
        };
        EdgeRules { access_log, limits: node.node("limits").map(|node| self.limits(node)).unwrap_or_default() }
    }

    fn limits(&mut self, node: &Node) -> Limits {
        let default = Limits::default();
        let number = |key, default| node.integer(key).and_then(|number| number.try_into().ok()).unwrap_or(default);
        let limits = Limits {
            connections: number("connections", default.connections),
            connections_per_address: number("connections-per-address", default.connections_per_address),
            requests_per_address: number("requests-per-address", default.requests_per_address),
            head: node.parse("head").unwrap_or(default.head),
            head_within: number("head-within", default.head_within),
            body: node.parse("body").unwrap_or(default.body),
            body_within: number("body-within", default.body_within),
        };
        self.between(node, "head", limits.head, LEAST_HEAD, MOST_HEAD);
        self.between(node, "body", limits.body, LEAST_BODY, MOST_BODY);
        limits
    }

    fn between(&mut self, node: &Node, key: &str, size: ByteSize, least: ByteSize, most: ByteSize) {
        if !(least..=most).contains(&size) {
            let message = format!("`{key}` is out of range: {size}");
            let help = format!("write a size from {least} to {most}");
            self.find(Finding::new(ProblemKind::BadValue, node.span_of(key), message).help(help));
        }
    }

    /// `None` when something of it could not be read.
    pub(super) fn proxy(&mut self, node: &Node) -> Option<Proxy> {
        let speaks = match node.text("speaks") {
            Some("proxy-protocol") => Some(ProxySpeech::ProxyProtocol),
            Some("http") => Some(ProxySpeech::Http),
            _ => None,
        };
        let from: Vec<IpAddr> = node.texts("from").iter().filter_map(|text| text.get_ref().parse().ok()).collect();
        if from.is_empty() && !node.spoilt("from") && node.has("from") {
            let message = "a proxy without an address is never believed";
            let help = "write where it connects from: `from = [\"127.0.0.1\"]` on the same machine";
            self.find(Finding::new(ProblemKind::BadValue, node.span_of("from"), message).help(help));
        }
        Some(Proxy { speaks: speaks?, from })
    }

    pub(super) fn room(&mut self, node: &Node) -> Room {
        let budget = node.parse::<ByteSize>("budget");
        let keep = if node.text("keep") == Some("budget") { Keep::Budget } else { Keep::All };
        if keep == Keep::Budget && budget.is_none() && !node.spoilt("budget") {
            let message = "`keep = \"budget\"` without a `budget`";
            let help = "say how much room the site may take: add `budget = \"20 GB\"`";
            self.find(Finding::new(ProblemKind::Missing, node.span_of("keep"), message).help(help));
        }
        Room { keep, budget }
    }
}
