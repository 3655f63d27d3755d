//! What operators decide of data centers beside the stack file: which are taken out of answers, and which have
//! applications that are being worked on.
//!
//! Promise: a decision is written down here before anybody hears of it, so that every later run says the same, whoever
//! could not be reached the first time. A file that cannot be used is never taken for one that says nothing.
//!
//! Left out: other management machines. What one of them decided another one does not know; each writes to edges and name
//! servers what it knows itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sovereign_model::DatacenterName;
use sovereign_model::layout::StateFolder;

use crate::kept_file::{self, KeptFileError};
use crate::output::figures;

/// The format of the file.
const VERSION: u32 = 1;

/// Who decided, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Decided {
    /// In seconds since the Unix epoch.
    pub(crate) since_unix: u64,
    /// A user and their machine.
    pub(crate) by: String,
}

impl Decided {
    /// For people.
    pub(crate) fn text(&self, now: u64) -> String {
        format!("since {} by {}", figures::seconds(now.saturating_sub(self.since_unix)), self.by)
    }
}

/// What can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Being taken out of answers.
    Drained,
    /// Having applications that are being worked on.
    Maintained,
}

/// All decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Datacenters {
    version: u32,
    drained: BTreeMap<DatacenterName, Decided>,
    maintenance: BTreeMap<DatacenterName, Decided>,
}

impl Default for Datacenters {
    fn default() -> Self {
        Self { version: VERSION, drained: BTreeMap::new(), maintenance: BTreeMap::new() }
    }
}

impl Datacenters {
    /// What was decided; nothing where nothing was.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub(crate) fn read(state: &StateFolder) -> Result<Self, KeptFileError> {
        Ok(kept_file::read(state.datacenters(), VERSION)?.unwrap_or_default())
    }

    /// Writes it down. To be done before anybody hears of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep(&self, state: &StateFolder) -> Result<(), KeptFileError> {
        kept_file::write(&state.datacenters(), self)
    }

    /// Of which data centers it was decided.
    pub(crate) fn decided(&self, matter: Matter) -> &BTreeMap<DatacenterName, Decided> {
        match matter {
            Matter::Drained => &self.drained,
            Matter::Maintained => &self.maintenance,
        }
    }

    /// Their names.
    pub(crate) fn names(&self, matter: Matter) -> BTreeSet<DatacenterName> {
        self.decided(matter).keys().cloned().collect()
    }

    /// Whether nothing was decided.
    pub(crate) fn are_as_declared(&self) -> bool {
        self.drained.is_empty() && self.maintenance.is_empty()
    }

    /// With `datacenters` decided on, or not any more. What was decided before stays as it was.
    #[must_use]
    pub(crate) fn with(&self, matter: Matter, datacenters: &[DatacenterName], decided: Option<&Decided>) -> Self {
        let mut next = self.clone();
        let all = match matter {
            Matter::Drained => &mut next.drained,
            Matter::Maintained => &mut next.maintenance,
        };
        for name in datacenters {
            match decided {
                Some(decided) => drop(all.entry(name.clone()).or_insert_with(|| decided.clone())),
                None => drop(all.remove(name)),
            }
        }
        next
    }

    /// A line for each decision.
    pub(crate) fn lines(&self, now: u64) -> Vec<String> {
        let drained = self.drained.iter().map(|(name, decided)| {
            format!("{name} is taken out of answers {}; `sovereign dc undrain {name}` puts it back", decided.text(now))
        });
        let maintained = self.maintenance.iter().map(|(name, decided)| {
            format!(
                "applications of {name} are being worked on {}; `sovereign dc maintenance off {name}` ends that",
                decided.text(now)
            )
        });
        drained.chain(maintained).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_decided_is_kept_and_what_is_not_understood_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        let [home, office]: [DatacenterName; 2] = ["home", "office"].map(|name| name.parse().unwrap());
        let before = Datacenters::read(&state).unwrap();
        assert!(before.are_as_declared() && before.lines(0).is_empty());
        let ann = Decided { since_unix: 1_000, by: "ann@laptop".to_owned() };
        let ben = Decided { since_unix: 2_000, by: "ben@desk".to_owned() };
        let drained = before.with(Matter::Drained, std::slice::from_ref(&home), Some(&ann));
        drained.keep(&state).unwrap();
        assert_eq!(Datacenters::read(&state).unwrap(), drained);
        // Who decides the same again changes nothing, nor of the other matter.
        let both = [home.clone(), office.clone()];
        let more = drained.with(Matter::Drained, &both, Some(&ben)).with(Matter::Maintained, &both[1..], Some(&ben));
        assert_eq!(more.decided(Matter::Drained)[&home], ann);
        assert_eq!(more.names(Matter::Maintained), BTreeSet::from([office.clone()]));
        assert!(more.lines(1_040)[0].starts_with("home is taken out of answers since 40 s by ann@laptop"));
        let none = more.with(Matter::Drained, &both, None).with(Matter::Maintained, &both, None);
        assert_eq!(none, Datacenters::default());
        for bad in ["", "{}", r#"{"version": 2, "drained": {}, "maintenance": {}}"#] {
            fs::write(state.datacenters(), bad).unwrap();
            assert!(Datacenters::read(&state).is_err(), "{bad}");
        }
    }
}
