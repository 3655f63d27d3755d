//! What is said about authorities that certificates are asked for.

use std::collections::BTreeMap;

use super::Check;
use crate::authority::{Authority, Known};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::name::AuthorityName;

impl Check<'_> {
    /// In the order of the file: it is the operator's order of preference.
    pub(super) fn authorities(&mut self, nodes: &[Node]) -> Vec<Authority> {
        let (mut names, mut directories) = (BTreeMap::new(), BTreeMap::new());
        let mut authorities = Vec::new();
        for node in nodes {
            let known = node.text("name").and_then(Known::find);
            for key in ["directory", "caa"] {
                if let Some(known) = known.filter(|_| node.has(key)) {
                    let message = format!("what `{key}` of \"{}\" is, is known", known.name);
                    let help = format!("remove `{key}`, or give an authority of your own another name");
                    self.find(Finding::new(ProblemKind::Conflict, node.span_of(key), message).help(help));
                }
            }
            let directory = match known {
                Some(known) => known.directory.parse().ok(),
                None => node.parse("directory"),
            };
            if directory.is_none() && !node.spoilt("directory") && !node.spoilt("name") {
                let known: Vec<String> =
                    crate::authority::KNOWN.iter().map(|known| format!("\"{}\"", known.name)).collect();
                let message = "`directory` is missing in [[authority]]";
                let help = format!(
                    "add the address of its ACME directory, or call it {} for one that is known",
                    known.join(" or ")
                );
                self.find(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(help));
            }
            if let Some(directory) = directory.as_ref().map(ToString::to_string) {
                let key = if known.is_some() { "name" } else { "directory" };
                self.unique(&mut directories, directory, "this authority", node.span_of(key));
            }
            let Some(name) = node.parse::<AuthorityName>("name") else { continue };
            let is_new = self.unique(&mut names, name.clone(), &format!("authority `{name}`"), node.span_of("name"));
            let Some(directory) = directory.filter(|_| is_new) else { continue };
            authorities.push(Authority {
                name,
                directory,
                roots: node.text("roots").map(|file| self.absolute(file)),
                profile: node.owned("profile"),
                caa: known.map_or_else(|| node.parse("caa"), |known| known.caa.parse().ok()),
            });
        }
        authorities
    }
}
