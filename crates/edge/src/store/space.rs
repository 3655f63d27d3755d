//! The room that sites take in a store: what was promised to bodies on their way, what is known of a site and not kept,
//! and what is let go. [`crate::room`] decides; here it is carried out.
//!
//! ```text
//!             reserve                 reach, reach, ...              commit
//!   a body ──────────▶ Reservation ──────────────────▶ Writer ─────────────▶ kept
//!             └─ NoRoom                └─ NoRoom: it outgrew what is left
//!                  └────────┬───────────────┘
//!                           ▼
//!                       left out: known, not kept, not fetched by a keeper while it does not fit
//! ```
//!
//! When a body was last read is the time of change of its file, brought up to date by [`Store::remember_reads`]: it costs
//! no second format, and after a restart the order is right to the hour. What was left out is not written down: a
//! mirror learns it again from its primary's list without fetching anything, a primary by asking its application once.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sovereign_model::SiteName;
use sovereign_model::edge_rules::{Keep, Room};
use tracing::{info, warn};

use super::ledger::{Awaited, Known, LONGEST, Ledger, MOST_AWAITED, Taken};
use super::{Entry, Head, Store, StoreError, lock, record};
use crate::room::{self, Disk, Facts, Kind, Medium, Stamp, Verdict, Wanted};
use crate::route::{Key, Target};

/// A file says to the hour when it was read: a mirror of ten thousand images that are all read all the time writes to
/// three of them a second.
const NEAR: u32 = 60;
/// The file system does not say how much is free.
const UNKNOWN: u64 = u64::MAX;

/// What a store knows about room, for all sites.
#[derive(Debug, Default)]
pub(super) struct Space {
    ledgers: Mutex<BTreeMap<SiteName, Ledger>>,
    /// Held while it is decided what gets the room that is left, so that nothing gets it twice. Never while serving.
    deciding: Mutex<()>,
    /// Promised to bodies on their way, of all sites, and not on the disk yet.
    unwritten: AtomicU64,
    /// What the disk had free when somebody last looked.
    free: AtomicU64,
}

impl Space {
    /// What `change` does to the ledger of a site.
    fn with<T>(&self, site: &SiteName, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledgers = lock(&self.ledgers);
        match ledgers.get_mut(site) {
            Some(ledger) => change(ledger),
            None => change(ledgers.entry(site.clone()).or_default()),
        }
    }

    /// A page has come.
    pub(super) fn note_kept(&self, key: &Key) {
        if key.variant == 0 {
            self.with(&key.site, |ledger| ledger.forget(&key.target));
        }
    }

    fn disk(&self) -> Option<Disk> {
        let free = self.free.load(Ordering::Relaxed);
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        (free != UNKNOWN).then(|| Disk { free: free.saturating_sub(unwritten) })
    }
}

/// How much room a site has, takes and would take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) facts: Facts,
    /// Bytes that are known and not kept.
    pub(crate) awaited: u64,
    /// Of these, what there was no room for.
    pub(crate) left_out: usize,
    pub(crate) left_out_bytes: u64,
}

impl Account {
    /// How much more of the disk the site would take if it could.
    pub(crate) fn wanted(&self) -> u64 {
        let kept = self.facts.pages + self.facts.media;
        self.facts.budget.map_or(self.awaited, |budget| self.awaited.min(budget.saturating_sub(kept)))
    }
}

/// Room that was promised to a body on its way; given back when it is dropped. By then the page is in the index or
/// there will be none.
#[derive(Debug)]
pub(crate) struct Reservation {
    store: Arc<Store>,
    key: Key,
    kind: Kind,
    /// The length of the body that it replaces.
    replaces: u64,
    granted: u64,
    written: u64,
}

impl Reservation {
    /// The body is about to be `length` bytes long.
    pub(super) fn reach(&mut self, length: u64) -> Result<(), StoreError> {
        if length > self.granted {
            self.grow(length)?;
        }
        let more = length.saturating_sub(self.written);
        self.written += more;
        self.store.space.unwritten.fetch_sub(more, Ordering::Relaxed);
        Ok(())
    }

    fn growth(&self) -> u64 {
        self.granted.saturating_sub(self.replaces)
    }

    /// Asks for as much more as `length` takes. Blocks.
    fn grow(&mut self, length: u64) -> Result<(), StoreError> {
        let (growth, more) = (length.saturating_sub(self.replaces) - self.growth(), length - self.granted);
        let store = Arc::clone(&self.store);
        let space = &store.space;
        let _deciding = lock(&space.deciding);
        let asked_before = space.with(&self.key.site, |ledger| {
            ledger.expect_no_more(&self.key.target).map_or(Stamp::default(), |awaited| awaited.asked_before)
        });
        let wanted = Wanted { kind: self.kind, growth, length: more, asked_before };
        store.look_at_disk();
        match room::decide(&store.facts(&self.key.site), &wanted, || store.media(&self.key.site, Some(&self.key))) {
            Verdict::Keep => {}
            Verdict::PassThrough => {
                store.leave_out(&self.key, self.kind, length.saturating_sub(self.replaces));
                return Err(StoreError::NoRoom { length });
            }
            Verdict::KeepAfterDropping(keys) => store.let_go(&keys)?,
        }
        space.with(&self.key.site, |ledger| ledger.promised.add(self.kind, growth));
        space.unwritten.fetch_add(more, Ordering::Relaxed);
        self.granted = length;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let space = &self.store.space;
        space.with(&self.key.site, |ledger| ledger.promised.subtract(self.kind, self.growth()));
        space.unwritten.fetch_sub(self.granted - self.written, Ordering::Relaxed);
    }
}

impl Store {
    /// How much room a site may take from now on. What that means for what is kept is for [`Store::settle_room`].
    pub(crate) fn set_room(&self, site: &SiteName, room: Room) {
        self.space.with(site, |ledger| ledger.room = room);
    }

    /// Room for a body that is as long as its source has `announced`, or grows as it comes. Blocks.
    pub(crate) fn reserve(self: &Arc<Self>, head: &Head, announced: Option<u64>) -> Result<Reservation, StoreError> {
        let key = head.key.clone();
        let replaces = self.get(&key).map_or(0, |kept| kept.length());
        // One that has outgrown what was left will do so again.
        let before = self.space.with(&key.site, |ledger| ledger.awaited.get(&key.target).map(|known| known.length));
        let least = announced.unwrap_or_else(|| before.map_or(0, |growth| growth + replaces));
        let store = Arc::clone(self);
        let mut room = Reservation { store, key, kind: Kind::of(&head.fields), replaces, granted: 0, written: 0 };
        room.grow(least.min(LONGEST))?;
        Ok(room)
    }

    /// Whether a keeper is to pass over a page: it is not kept, and would not fit. If not, its length is promised to it
    /// until [`Store::expects_no_more`].
    pub(crate) fn passes_over(&self, key: &Key) -> bool {
        let (kept, disk) = self.kept_and_disk(&key.site);
        self.space.with(&key.site, |ledger| {
            let facts = ledger.facts(kept, disk);
            let Some(awaited) = ledger.expect_no_more(&key.target) else { return false };
            let Awaited { kind, length, .. } = *awaited;
            let wanted = Wanted { kind, growth: length, length, asked_before: Stamp::default() };
            let fits = facts.may_fit(&wanted);
            (awaited.left_out, awaited.expected) = (!fits, fits);
            if fits {
                ledger.promised.add(kind, length);
            }
            !fits
        })
    }

    /// The keeper has its answer about a page, or none.
    pub(crate) fn expects_no_more(&self, key: &Key) {
        self.space.with(&key.site, |ledger| ledger.expect_no_more(&key.target).is_some());
    }

    /// A reader asks for a page that is not kept.
    pub(crate) fn note_wanted(&self, key: &Key, now: Stamp) {
        self.space.with(&key.site, |ledger| {
            if let Some(awaited) = ledger.awaited.get_mut(&key.target).filter(|awaited| awaited.asked < now) {
                awaited.asked_before = std::mem::replace(&mut awaited.asked, now);
            }
        });
    }

    /// Whether there was no room for a page.
    pub(crate) fn is_left_out(&self, key: &Key) -> bool {
        self.space.with(&key.site, |ledger| ledger.awaited.get(&key.target).is_some_and(|awaited| awaited.left_out))
    }

    /// Somebody who knows says what a site has.
    pub(crate) fn note_known(&self, site: &SiteName, known: impl IntoIterator<Item = Known>) {
        for Known { target, length, kind } in known {
            let Some(length) = length.map(|length| length.min(LONGEST)) else { continue };
            let kept = self.get(&Key::new(site.clone(), target.clone())).map(|kept| kept.length());
            let growth = length.saturating_sub(kept.unwrap_or(0));
            self.space.with(site, |ledger| {
                if let Some(awaited) = ledger.expect_no_more(&target) {
                    (awaited.kind, awaited.length) = (kind, growth);
                } else if kept.is_none() && ledger.awaited.len() < MOST_AWAITED {
                    ledger.awaited.insert(target, Awaited::new(kind, length));
                }
            });
        }
    }

    /// All of a site was looked at: what is not in `known` does not belong to it any more.
    pub(crate) fn settle_known(&self, site: &SiteName, known: &HashSet<Target>) {
        self.space.with(site, |ledger| ledger.retain(|target| known.contains(target)));
    }

    /// Nothing of a site is to be kept.
    pub(super) fn forget_all_known(&self, site: &SiteName) {
        self.space.with(site, |ledger| ledger.retain(|_| false));
    }

    /// There is no such page.
    pub(crate) fn forget_known(&self, key: &Key) {
        self.space.with(&key.site, |ledger| ledger.forget(&key.target));
    }

    /// What is known of a site, kept or not.
    pub(crate) fn known(&self, site: &SiteName) -> Vec<Known> {
        let index = self.read_index();
        let first = index.entries.iter().filter(|(key, _)| key.site == *site && key.variant == 0);
        let known = |target: &Target, length, kind| Known { target: target.clone(), length: Some(length), kind };
        let mut all: Vec<_> = first.map(|(key, entry)| known(&key.target, entry.length(), entry.kind())).collect();
        drop(index);
        let kept: HashSet<_> = all.iter().map(|known| known.target.clone()).collect();
        self.space.with(site, |ledger| {
            let others = ledger.awaited.iter().filter(|(target, _)| !kept.contains(*target));
            all.extend(others.map(|(target, awaited)| known(target, awaited.length, awaited.kind)));
        });
        all
    }

    /// How a site stands with its room. Looks at the disk.
    pub(crate) fn account(&self, site: &SiteName) -> Account {
        self.look_at_disk();
        let facts = self.facts(site);
        self.space.with(site, |ledger| {
            let left_out = ledger.awaited.values().filter(|awaited| awaited.left_out);
            Account {
                facts,
                awaited: ledger.awaited.values().map(|awaited| awaited.length).sum(),
                left_out: left_out.clone().count(),
                left_out_bytes: left_out.map(|awaited| awaited.length).sum(),
            }
        })
    }

    /// Lets go what a site has no room for any more; how many pages that were. Blocks.
    pub(crate) fn settle_room(&self, site: &SiteName) -> Result<usize, StoreError> {
        let _deciding = lock(&self.space.deciding);
        self.look_at_disk();
        let surplus = room::surplus(&self.facts(site), || self.media(site, None));
        self.let_go(&surplus)?;
        Ok(surplus.len())
    }

    /// Writes down when the media of a site were last read. Blocks.
    pub(crate) fn remember_reads(&self, site: &SiteName) -> Result<(), StoreError> {
        let unremembered: Vec<_> = {
            let index = self.read_index();
            let media = index.entries.iter().filter(|(key, entry)| key.site == *site && entry.kind() == Kind::Media);
            media.filter_map(|(key, entry)| Some((key.clone(), entry.take_unremembered(NEAR)?))).collect()
        };
        for (key, read) in unremembered {
            let path = record::path(&self.folder, &key);
            match File::open(&path).and_then(|file| file.set_modified(read.time())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("mark", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a site's media may be let go.
    pub(crate) fn lets_go(&self, site: &SiteName) -> bool {
        self.space.with(site, |ledger| ledger.room.keep == Keep::Budget)
    }

    fn facts(&self, site: &SiteName) -> Facts {
        let (kept, disk) = self.kept_and_disk(site);
        self.space.with(site, |ledger| ledger.facts(kept, disk))
    }

    fn kept_and_disk(&self, site: &SiteName) -> (Taken, Option<Disk>) {
        let kept = self.read_index().sites.get(site).map(|site| site.taken).unwrap_or_default();
        (kept, self.space.disk())
    }

    /// The kept media of a site, but `except`.
    fn media(&self, site: &SiteName, except: Option<&Key>) -> Vec<Medium<Key>> {
        let index = self.read_index();
        let media = index.entries.values().filter(|entry| {
            let key = entry.key();
            key.site == *site && entry.kind() == Kind::Media && Some(key) != except
        });
        let medium = |entry: &Arc<Entry>| {
            let (key, length, read) = (entry.key().clone(), entry.length(), entry.last_read());
            Medium { key, length, read }
        };
        media.map(medium).collect()
    }

    /// Removes media that others need the room of.
    fn let_go(&self, keys: &[Key]) -> Result<(), StoreError> {
        for key in keys {
            let Some(entry) = self.get(key) else { continue };
            self.remove(key)?;
            self.leave_out(key, entry.kind(), entry.length());
            self.space.with(&key.site, |ledger| {
                if let Some(awaited) = ledger.awaited.get_mut(&key.target) {
                    awaited.asked = entry.last_read();
                }
            });
            info!(site = %key.site, target = %key.target, bytes = entry.length(), "let go: others need the room");
        }
        Ok(())
    }

    /// Remembers that there was no room for a page, unless it is one that readers make up.
    fn leave_out(&self, key: &Key, kind: Kind, length: u64) {
        let made_up = key.variant > 0 || (key.target.query().is_some() && !self.is_linked(&key.site, &key.target));
        self.space.with(&key.site, |ledger| {
            if made_up || (ledger.awaited.len() >= MOST_AWAITED && !ledger.awaited.contains_key(&key.target)) {
                return;
            }
            ledger.expect_no_more(&key.target);
            let awaited = ledger.awaited.entry(key.target.clone()).or_insert(Awaited::new(kind, length));
            (awaited.kind, awaited.length, awaited.left_out) = (kind, length, true);
        });
    }

    fn look_at_disk(&self) {
        let free = match rustix::fs::statvfs(&self.folder) {
            // Some file systems in user space do not count.
            Ok(found) if found.f_blocks > 0 => found.f_bavail.saturating_mul(found.f_frsize),
            Ok(_) => UNKNOWN,
            Err(error) => {
                warn!(%error, folder = %self.folder.display(), "the disk does not say how much room it has");
                UNKNOWN
            }
        };
        self.space.free.store(free, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
