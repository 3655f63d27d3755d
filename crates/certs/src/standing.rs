//! How certificates stand, as far as is known here: when each ends, when something is done for it next, and what is in the way.

use std::collections::BTreeMap;

use sovereign_model::DnsName;

use crate::challenges::Challenges;
use crate::choice::{self, Next};
use crate::moment::Moment;
use crate::renewer::Renewer;

/// How one stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// When it ends; `None` while there is none.
    pub ends: Option<Moment>,
    /// When its turn comes, or when it is tried again; `None` when nothing is known of it.
    pub next: Option<Moment>,
    /// What is in the way of renewing it; nothing while it is not due.
    pub in_the_way: Vec<String>,
}

impl<C: Challenges> Renewer<C> {
    /// How the certificates of the names that are wanted stand, each with its domain. Asks nobody.
    pub fn standing(&self, wanted: &BTreeMap<DnsName, DnsName>) -> BTreeMap<DnsName, Standing> {
        let (authorities, now) = (self.authority_states(), self.now());
        let standing = wanted.iter().map(|(name, domain)| {
            let standing = match self.store().state(name) {
                Err(error) => Standing { in_the_way: vec![error.to_string()], ..Standing::default() },
                Ok(state) => {
                    let (next, is_waiting) = match self.next(&state, domain, &authorities, now) {
                        Next::Well(due) => (due, false),
                        Next::Wait(until) => (until, true),
                        Next::Order(_) | Next::GoOn(_) => (now, false),
                    };
                    let in_the_way =
                        if is_waiting { choice::in_the_way(&state, domain, &authorities) } else { Vec::new() };
                    Standing {
                        ends: state.held.as_ref().map(|held| held.not_after),
                        next: Some(next),
                        in_the_way: in_the_way.into_iter().map(|hold| hold.why.clone()).collect(),
                    }
                }
            };
            (name.clone(), standing)
        });
        standing.collect()
    }
}
