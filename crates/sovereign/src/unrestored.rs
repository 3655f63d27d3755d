//! Sites that would begin empty where they are declared, though the archive has them.
//!
//! With an empty one in its place a site is lost bit by bit: its owner is asked for a new account, and the next backup is of
//! that. So it waits for a restore, or for the word that it is to begin anew.
//!
//! Promise: where something of a site is, nothing is looked at; where nothing is, what is written down of the last proof
//! answers, and only where that says nothing the archive is opened, once. One that cannot be read is not taken for one that
//! has nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use sovereign_archive::{Archive, ArchiveError, Password, Subject};
use sovereign_keys::WorkingKeys;
use sovereign_model::observed::{UnitState, Unrestored};
use sovereign_model::stack::{App, Site};
use sovereign_model::{Observed, SiteName};
use sovereign_services::ghost::{data, database_unit, ghost_unit};

use crate::backup::{self, Record};
use crate::declared::Declared;
use crate::failure::Failure;
use crate::restore::Folder;

/// What the archive has, as far as anybody had to ask.
#[derive(Debug, Default)]
pub(crate) struct Archived {
    /// The sites that may begin empty all the same.
    begin_empty: BTreeSet<SiteName>,
    /// The newest snapshot of each site; `None` when it cannot be read.
    newest: OnceLock<Option<BTreeMap<SiteName, String>>>,
}

impl Archived {
    /// With sites that may begin empty.
    pub(crate) fn beginning_empty(begin_empty: BTreeSet<SiteName>) -> Self {
        Self { begin_empty, newest: OnceLock::new() }
    }

    /// The sites that wait for a restore, by what was `seen`.
    pub(crate) fn unrestored(
        &self,
        declared: &Declared,
        keys: &WorkingKeys,
        seen: &Observed,
    ) -> BTreeMap<SiteName, Unrestored> {
        let ghosts = declared.stack.sites.values().filter(|site| site.app == App::Ghost);
        let waiting = ghosts.filter(|site| !self.begin_empty.contains(&site.name)).filter_map(|site| {
            let at = site.place(&declared.stack);
            let is_arriving = at.host.is_some() && Folder::at(&declared.state, site, &at).is_arriving();
            if !is_arriving && !begins(declared, site, seen) {
                return None;
            }
            let proven = Record::read(&declared.state).proven(&Subject::Site(site.name.clone())).map(str::to_owned);
            let snapshot = match proven {
                Some(proven) => Some(proven),
                None => match self.newest.get_or_init(|| newest(declared, keys)) {
                    Some(newest) => match newest.get(&site.name) {
                        Some(newest) => Some(newest.clone()),
                        // What was being restored may have come out of a copy.
                        None if is_arriving => None,
                        None => return None,
                    },
                    None => None,
                },
            };
            Some((site.name.clone(), Unrestored { snapshot, is_arriving }))
        });
        waiting.collect()
    }
}

/// Whether nothing of a site is where it is declared. What cannot be looked at, or is known to be elsewhere, does not begin.
fn begins(declared: &Declared, site: &Site, seen: &Observed) -> bool {
    let at = site.place(&declared.stack);
    let is_elsewhere = seen.sites.get(&site.name).is_some_and(|seen| seen.at != at);
    if is_elsewhere || seen.away.contains_key(&at) || seen.evacuated.contains_key(&at) {
        return false;
    }
    let units = [ghost_unit(site, &site.primary), database_unit(site, &site.primary)];
    let mut units = units.iter().flatten().filter_map(|unit| seen.unit(&site.primary, unit));
    match at.host {
        // A stopped instance has its data.
        Some(_) => units.next().is_none(),
        None => {
            let database = data::database(declared.state.site(&site.primary, &site.name).path());
            database.symlink_metadata().is_err() && !units.any(|unit| unit.state != UnitState::Stopped)
        }
    }
}

fn newest(declared: &Declared, keys: &WorkingKeys) -> Option<BTreeMap<SiteName, String>> {
    let listed = || -> Result<_, Failure> {
        let remembered = declared.state.keys().join("archive-key.json");
        let password = Password::new(keys.archive_password()?.expose().to_owned()).remembered_in(remembered);
        let opened = Archive::open(&backup::repository(declared), &backup::known(declared), &password);
        let archive = match opened {
            // There is none yet; or with other words, so nothing of this stack is in it.
            Err(ArchiveError::Missing { .. } | ArchiveError::WrongKey { .. }) => return Ok(BTreeMap::new()),
            opened => opened?,
        };
        let snapshots = archive.inventory()?.snapshots;
        // The oldest come first.
        Ok(snapshots
            .into_iter()
            .filter_map(|snapshot| Some((snapshot.subject?, snapshot.id)))
            .filter_map(of_site)
            .collect())
    };
    match tokio::task::block_in_place(listed) {
        Ok(newest) => Some(newest),
        Err(failure) => {
            tracing::warn!(why = %failure.chain().join(": "), "what the archive has of sites cannot be read");
            None
        }
    }
}

fn of_site((subject, snapshot): (Subject, String)) -> Option<(SiteName, String)> {
    match subject {
        Subject::Site(site) => Some((site, snapshot)),
        _ => None,
    }
}
