//! How often each site has got another primary, and where this machine had it last.
//!
//! Edges take the highest number that they have seen, with the operator's signature, for the truth: an old primary that comes
//! back hears it from any of them and takes no more writes. So a number is written down here before any edge hears of it, and
//! what edges have proof of counts as much as what is written here: another machine may have given it, or this one before
//! it was recovered from an older state ([`sovereign_plan::number`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sovereign_model::layout::StateFolder;
use sovereign_model::observed::Primary;
use sovereign_model::stack::Site;
use sovereign_model::{DatacenterName, Observed, SiteName, Stack};
use sovereign_plan::{Given, next_number, number};

use crate::failure::Failure;
use crate::kept_file::{self, KeptFileError};

/// The format of the file. The first one did not have the places.
const VERSION: u32 = 2;

/// The number of each site's primary; that of a site which is not named is 1. A file that cannot be used is never taken for
/// one that says nothing: an old primary would be believed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Primaries {
    version: u32,
    epochs: BTreeMap<SiteName, u64>,
    #[serde(default)]
    places: BTreeMap<SiteName, DatacenterName>,
}

impl Default for Primaries {
    fn default() -> Self {
        Self { version: VERSION, epochs: BTreeMap::new(), places: BTreeMap::new() }
    }
}

impl Primaries {
    /// What is known; nothing where no site has got a primary yet.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub(crate) fn read(state: &StateFolder) -> Result<Self, KeptFileError> {
        let read = kept_file::read::<Self>(state.primaries(), VERSION)?;
        Ok(read.map_or_else(Self::default, |read| Self { version: VERSION, ..read }))
    }

    /// The numbers, for edges.
    pub(crate) fn epochs(&self) -> &BTreeMap<SiteName, u64> {
        &self.epochs
    }

    fn given(&self, site: &SiteName) -> Option<Given> {
        let epoch = *self.epochs.get(site)?;
        Some(Given { epoch, at: self.places.get(site).cloned() })
    }

    fn give(&mut self, site: &Site, epoch: u64) {
        self.epochs.insert(site.name.clone(), epoch);
        self.places.insert(site.name.clone(), site.primary.clone());
    }

    /// With the numbers that the primaries of a stack have after what was `seen` of it. A site that is written elsewhere by
    /// proof of an edge keeps its number here: the plan says so.
    #[must_use]
    pub(crate) fn settled(&self, stack: &Stack, seen: &Observed) -> Self {
        let mut settled = self.clone();
        for site in stack.sites.values() {
            let given = self.given(&site.name);
            if let Some(epoch) = number(given.as_ref(), reported(seen, &site.name), &site.primary) {
                settled.give(site, epoch);
            }
        }
        settled
    }

    /// Writes them down. To be done before any edge hears of them.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(crate) fn keep(&self, state: &StateFolder) -> Result<(), KeptFileError> {
        if Self::read(state)? == *self {
            return Ok(());
        }
        kept_file::write(&state.primaries(), self)
    }

    /// Writes down that a site has another primary from now on, where it is declared. To be done before any edge hears of it.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(crate) fn raise(state: &StateFolder, site: &Site, seen: &Observed) -> Result<(), Failure> {
        let mut all = Self::read(state)?;
        let epoch = next_number(all.given(&site.name).as_ref(), reported(seen, &site.name));
        all.give(site, epoch);
        Ok(all.keep(state)?)
    }
}

fn reported<'s>(seen: &'s Observed, site: &SiteName) -> &'s BTreeSet<Primary> {
    static NONE: BTreeSet<Primary> = BTreeSet::new();
    seen.primaries.get(site).unwrap_or(&NONE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::assess::tests::stack;

    #[test]
    fn a_number_grows_and_what_is_not_understood_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        let (stack, mut seen) = (stack(), Observed::default());
        let site = stack.sites.values().next().unwrap();
        let epoch = || Primaries::read(&state).unwrap().epochs().get(&site.name).copied();
        assert_eq!(epoch(), None);
        Primaries::raise(&state, site, &seen).unwrap();
        Primaries::raise(&state, site, &seen).unwrap();
        assert_eq!(epoch(), Some(3));
        // What edges say counts too.
        seen.note_primary(&site.name, Primary { epoch: 7, at: "attic".parse().unwrap() });
        Primaries::raise(&state, site, &seen).unwrap();
        assert_eq!(epoch(), Some(8));
        // Of the format before it is not known where the primary was.
        let name = &site.name;
        fs::write(state.primaries(), format!(r#"{{"version": 1, "epochs": {{"{name}": 2}}}}"#)).unwrap();
        let before = Primaries::read(&state).unwrap();
        assert_eq!(before.given(name), Some(Given { epoch: 2, at: None }));
        before.settled(&stack, &Observed::default()).keep(&state).unwrap();
        let after = Primaries::read(&state).unwrap();
        assert_eq!(after.given(name), Some(Given { epoch: 2, at: Some(site.primary.clone()) }));
        for bad in ["", "{}", r#"{"version": 3, "epochs": {}}"#] {
            fs::write(state.primaries(), bad).unwrap();
            assert!(Primaries::read(&state).is_err() && Primaries::raise(&state, site, &seen).is_err(), "{bad}");
            assert!(after.keep(&state).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_machine_that_knows_less_takes_the_number_over_and_overrules_nobody() {
        let stack = stack();
        let site = stack.sites.values().next().unwrap();
        let mut seen = Observed::default();
        seen.note_primary(&site.name, Primary { epoch: 4, at: site.primary.clone() });
        let recovered = Primaries::default().settled(&stack, &seen);
        assert_eq!(recovered.epochs()[&site.name], 4);
        seen.note_primary(&site.name, Primary { epoch: 5, at: "attic".parse().unwrap() });
        assert_eq!(recovered.settled(&stack, &seen), recovered);
        assert!(recovered.places[&site.name] == site.primary);
    }
}
