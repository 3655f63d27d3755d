//! What is said about the archive: where it is, when something is done with it, and what is kept in it.

use super::Check;
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::keep_rules::KeepRules;
use crate::stack::Archive;

impl Check<'_> {
    pub(super) fn archive(&mut self, node: Option<&Node>) -> Archive {
        let Some(node) = node else { return Archive::default() };
        let keep = node.node("keep").map(|node| self.keep_rules(node)).unwrap_or_default();
        let Archive { every, prove, .. } = Archive::default();
        Archive {
            folder: self.folder(node),
            every: node.parse("every").unwrap_or(every),
            prove: node.parse("prove").unwrap_or(prove),
            keep,
            images: node.flag("images").unwrap_or_default(),
        }
    }

    fn keep_rules(&mut self, node: &Node) -> KeepRules {
        let default = KeepRules::default();
        let number = |key, default| node.integer(key).and_then(|number| number.try_into().ok()).unwrap_or(default);
        let rules = KeepRules {
            last: number("last", default.last),
            hourly: number("hourly", default.hourly),
            daily: number("daily", default.daily),
            weekly: number("weekly", default.weekly),
            monthly: number("monthly", default.monthly),
            yearly: number("yearly", default.yearly),
        };
        if rules == KeepRules::NOTHING {
            let help = "give one of them a number: `last = 3` keeps the newest three, whenever they were made";
            let finding = Finding::new(ProblemKind::Conflict, node.span.clone(), "these rules would keep nothing");
            self.find(finding.help(help));
        }
        rules
    }
}
