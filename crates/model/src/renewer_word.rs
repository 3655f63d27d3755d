//! What one who renews certificates says to all others of its stack: which answers to challenges name servers are to give.
//!
//! It crosses data centers by the hands of edges, which none of them trusts with it. So it is signed by a key of whoever says
//! it, and that key is vouched for by the management machine. Edges carry on what holds and drop everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::edge_name::EdgeName;
use crate::name::{DnsName, StackName};

/// The longest that is carried, as JSON: a hundred names with a few challenges each.
pub const LONGEST_WORD: usize = 64 << 10;

/// All that one of them has to say now: a later word takes the place of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Word {
    /// Who says it: one for each edge, beside it.
    pub by: EdgeName,
    /// Its public key, 64 hex digits.
    pub key: String,
    /// The management machine's word for that key, over [`warrant_statement`]; 128 hex digits.
    pub warrant: String,
    /// Counted by who says it: the higher is the later.
    pub number: u64,
    /// The answers, by the name that a certificate is to have.
    pub challenges: BTreeMap<DnsName, BTreeSet<String>>,
    /// Over [`Word::statement`], by its key; 128 hex digits.
    pub signature: String,
}

impl Word {
    /// What is signed. In JSON no two of them read the same.
    ///
    /// # Panics
    /// Never: names, numbers and texts are JSON.
    pub fn statement(&self, stack: &StackName) -> Vec<u8> {
        let said = ("word of a renewer", stack, &self.by, self.number, &self.challenges);
        serde_json::to_vec(&said).expect("names, numbers and texts serialize to JSON")
    }

    /// Whether it was said by who says so, and the management machine, whose key is `trust` in hex, vouches for that.
    /// `is_signed` says of a key in hex, a statement and a signature whether they belong together.
    pub fn holds(&self, stack: &StackName, trust: &str, is_signed: impl Fn(&str, &[u8], &str) -> bool) -> bool {
        is_signed(trust, &warrant_statement(stack, &self.by, &self.key), &self.warrant)
            && is_signed(&self.key, &self.statement(stack), &self.signature)
    }
}

/// What the management machine signs for the key of one who renews. No name and no digits contain the separator.
pub fn warrant_statement(stack: &StackName, by: &EdgeName, key: &str) -> Vec<u8> {
    format!("key of a renewer\0{stack}\0{by}\0{key}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word() -> Word {
        let challenges = BTreeMap::from([("www.example.org".parse().unwrap(), BTreeSet::from(["a".to_owned()]))]);
        let (key, warrant, signature) = ("k".to_owned(), "w".to_owned(), "s".to_owned());
        Word { by: "home/atlas".parse().unwrap(), key, warrant, number: 7, challenges, signature }
    }

    #[test]
    fn both_signatures_are_asked_for_and_cover_all_that_is_said() {
        let stack: StackName = "shop".parse().unwrap();
        let said = word();
        let [warranted, stated] = [warrant_statement(&stack, &said.by, &said.key), said.statement(&stack)];
        let is_signed = |key: &str, statement: &[u8], signature: &str| match signature {
            "w" => key == "trust" && statement == warranted,
            "s" => key == "k" && statement == stated,
            _ => false,
        };
        assert!(said.holds(&stack, "trust", is_signed));
        let read: Word = serde_json::from_str(&serde_json::to_string(&said).unwrap()).unwrap();
        assert!(read.holds(&stack, "trust", is_signed));
        let by = Word { by: "office/boreas".parse().unwrap(), ..word() };
        let key = Word { key: "trust".to_owned(), ..word() };
        let number = Word { number: 8, ..word() };
        let none = Word { challenges: BTreeMap::new(), ..word() };
        for other in [by, key, number, none] {
            assert!(!other.holds(&stack, "trust", is_signed), "{other:?}");
        }
        assert!(!said.holds(&"other".parse().unwrap(), "trust", is_signed));
        assert!(!said.holds(&stack, "k", is_signed));
    }
}
