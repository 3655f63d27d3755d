//! What is said about providers that are told: in which way, and of which domains.

use std::collections::BTreeMap;

use super::Check;
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::{Node, closest};
use crate::name::ProviderName;
use crate::provider::{Provider, Way};
use crate::secondary::TsigAlgorithm;

/// What only dynamic updates need to know.
const OF_UPDATES: [&str; 3] = ["server", "key", "algorithm"];

impl Check<'_> {
    /// In the order of the file.
    pub(super) fn providers(&mut self, nodes: &[Node], domains: &[Node]) -> Vec<Provider> {
        let mut names = BTreeMap::new();
        let mut providers = Vec::new();
        for node in nodes {
            let way = self.way(node);
            let Some(name) = node.parse::<ProviderName>("name") else { continue };
            let is_new = self.unique(&mut names, name.clone(), &format!("provider `{name}`"), node.span_of("name"));
            self.is_named(&name, node, domains);
            if let (true, Some(way)) = (is_new, way) {
                providers.push(Provider { name, way });
            }
        }
        providers
    }

    fn way(&mut self, node: &Node) -> Option<Way> {
        let kind = node.text("kind")?;
        if kind != "rfc2136" {
            for key in OF_UPDATES.into_iter().filter(|key| node.has(key)) {
                let message = format!("`{key}` is for providers of the kind `rfc2136`");
                let finding = Finding::new(ProblemKind::Conflict, node.span_of(key), message);
                self.find(finding.note(node.span_of("kind"), "the kind").help("remove it"));
            }
            return match kind {
                "cloudflare" => Some(Way::Cloudflare),
                _ => Some(Way::Desec),
            };
        }
        for (key, example) in [("server", "\"203.0.113.53:53\""), ("key", "\"my-stack.example.net\"")] {
            if !node.has(key) {
                let message = format!("`{key}` is missing: a provider of the kind `rfc2136` needs it");
                let finding = Finding::new(ProblemKind::Missing, node.span_of("kind"), message);
                self.find(finding.help(format!("add `{key} = {example}`")));
            }
        }
        let algorithm = match node.has("algorithm") {
            true => node.text("algorithm").and_then(TsigAlgorithm::find),
            false => Some(TsigAlgorithm::HmacSha256),
        };
        Some(Way::Rfc2136 { server: node.parse("server")?, key: node.parse("key")?, algorithm: algorithm? })
    }

    /// A domain's provider may be anybody, so that a name that was mistyped is found here.
    fn is_named(&mut self, name: &ProviderName, node: &Node, domains: &[Node]) {
        let named = || domains.iter().filter_map(|domain| domain.text("provider"));
        if named().any(|other| other == name.as_str()) || domains.iter().any(|domain| domain.spoilt("provider")) {
            return;
        }
        let help = match closest(name.as_str(), named()) {
            Some(near) => format!("a domain has `provider = \"{near}\"`: did you mean this one?"),
            None => format!("write `provider = \"{name}\"` where it answers for a domain, or remove this"),
        };
        let message = format!("no domain has provider `{name}`");
        self.find(Finding::new(ProblemKind::Conflict, node.span_of("name"), message).help(help));
    }
}
