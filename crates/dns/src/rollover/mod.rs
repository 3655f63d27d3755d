//! The exchange of a zone's key for the next one, little by little: from what was seen, and the hour, to what is awaited.
//! Pure, but for [`look`](look()).
//!
//! ```text
//!  all name servers      what is kept of      the registry has      who keeps only     the old DS      who keeps it
//!  sign with both  ────▶ the old key alone ─▶ the new DS beside  ─▶ the old DS has  ─▶ is removed   ─▶ has forgotten ─▶ over:
//!  (`up`)                has ended            (the operator)        forgotten it      (the operator)                    the old
//!                                                                                                                      key leaves
//! ```
//!
//! Both keys sign all of the zone the whole time (RFC 6781 section 4.1.3, double signature; the waits are those of RFC 7583
//! section 3.3.1). So whoever checks signatures believes the zone with whichever DS records, keys and answers it keeps.
//!
//! | module | what it gives |
//! |---|---|
//! | [`Rollover`] | what is known of an exchange, and what it awaits |
//! | [`look`](look()) | asks all name servers of the domain, and all servers of the registry |
//!
//! Promise: what was not seen is not believed. Something is seen when every server has said it, and forgotten when one says
//! otherwise; a server that is silent says neither, so that it can hold the exchange up and never bring it to its end.
//! A registry that has no DS record of the old key leads nobody to it either: then nothing of the new one is waited for.
//!
//! Left out: the signatures of the registry's answers: who forges them on their way can have the old key leave too early.
//! Digests of another type than SHA-256: of the new key they are not counted, of the old one they are.

mod look;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::look::look;

/// So much longer than records live is waited, in seconds: for clocks that differ, and servers behind one address of which
/// one was seen and another one not.
pub const SLACK: u64 = 300;
/// How long a DS record is taken to live that was never seen, in seconds: none of the large registries says more.
const DS_TTL: u32 = 86_400;

/// What is known of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rollover {
    /// The epoch of the key that leaves.
    pub from: u32,
    /// The epoch of the key that comes.
    pub to: u32,
    /// When it was begun, in seconds since 1970.
    pub begun_unix: u64,
    /// How long anybody keeps an answer of the zone, in seconds.
    zone_ttl: u32,
    /// How long anybody keeps a DS record, in seconds; `None` when none was seen.
    ds_ttl: Option<u32>,
    /// Since when all name servers have both keys.
    both_since_unix: Option<u64>,
    /// Since when the whole registry has the new DS record.
    new_since_unix: Option<u64>,
    /// Since when none of the registry has the old one.
    old_gone_since_unix: Option<u64>,
    /// Whether any of the registry had the new one, ever.
    new_was_seen: bool,
    /// Who held it up when somebody looked last.
    awaited: BTreeSet<String>,
}

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// How long the zone's records live at most, in seconds.
    pub zone_ttl: u32,
    /// By each of its name servers, whether it has both keys; `None` for one that does not say.
    pub servers: BTreeMap<String, Option<bool>>,
    /// What the registry has.
    pub registry: Registry,
}

/// What the registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registry {
    /// Nobody says.
    Silent,
    /// It does not lead to the domain.
    NotDelegated,
    /// This, by each of its servers; `None` for one that does not say.
    Has(BTreeMap<String, Option<Has>>),
}

/// What a server of the registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Has {
    /// The DS record of the key that leaves.
    pub old: bool,
    /// That of the key that comes.
    pub new: bool,
    /// How long they live, in seconds; 0 where there are none.
    pub ttl: u32,
}

/// What is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "awaits")]
pub enum Stage {
    /// Name servers that have both keys.
    BothKeys,
    /// That everybody has forgotten answers with one key alone.
    OneKeyForgotten {
        /// When that is so, in seconds since 1970.
        until_unix: u64,
    },
    /// That the registry has the new DS record.
    NewDigest,
    /// That everybody has forgotten the old DS record without the new one.
    OldAloneForgotten {
        /// When that is so.
        until_unix: u64,
    },
    /// That the registry has the old DS record no longer.
    OldDigestGone,
    /// That everybody has forgotten it.
    OldDigestForgotten {
        /// When that is so.
        until_unix: u64,
    },
    /// One more look, by which all of it is still so.
    LastLook,
}

/// Why an exchange cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUndone {
    /// Somebody may believe the new key only.
    #[error("the registry has, or had, the DS record of the new key")]
    Given,
    /// Nobody knows.
    #[error("it cannot be seen whether the registry has the DS record of the new key")]
    Unknown,
}

impl Rollover {
    /// The beginning, from the key of one epoch to that of another.
    pub fn begin(from: u32, to: u32, zone_ttl: u32, now: u64) -> Self {
        Self {
            from,
            to,
            begun_unix: now,
            zone_ttl,
            ds_ttl: None,
            both_since_unix: None,
            new_since_unix: None,
            old_gone_since_unix: None,
            new_was_seen: false,
            awaited: BTreeSet::new(),
        }
    }

    /// Takes in what a look has shown that ended `now`. True when all is over: from then on the old key may leave.
    pub fn see(&mut self, sight: &Sight, now: u64) -> bool {
        self.zone_ttl = self.zone_ttl.max(sight.zone_ttl);
        since(&mut self.both_since_unix, sight.servers.values().copied(), now);
        if let Registry::Has(all) = &sight.registry {
            let of = |what: fn(Has) -> bool| all.values().map(move |has| has.map(what));
            since(&mut self.new_since_unix, of(|has| has.new), now);
            since(&mut self.old_gone_since_unix, of(|has| !has.old), now);
            self.new_was_seen |= of(|has| has.new).any(|has| has == Some(true));
            self.ds_ttl = all.values().flatten().map(|has| has.ttl).filter(|ttl| *ttl > 0).chain(self.ds_ttl).max();
        }
        let stage = self.stage(now);
        self.awaited = sight.in_the_way(&stage);
        stage == Stage::LastLook && self.awaited.is_empty()
    }

    /// What is awaited, by what was seen until `now`.
    pub fn stage(&self, now: u64) -> Stage {
        let ends = |since: u64, ttl: u32| since.saturating_add(ttl.into()).saturating_add(SLACK);
        let of_ds = |since| ends(since, self.ds_ttl.unwrap_or(DS_TTL));
        let Some(both) = self.both_since_unix.map(|since| ends(since, self.zone_ttl)) else { return Stage::BothKeys };
        if now < both {
            return Stage::OneKeyForgotten { until_unix: both };
        }
        match (self.new_since_unix.map(of_ds), self.old_gone_since_unix.map(of_ds)) {
            (_, Some(until_unix)) if now < until_unix => Stage::OldDigestForgotten { until_unix },
            (_, Some(_)) => Stage::LastLook,
            (None, None) => Stage::NewDigest,
            (Some(until_unix), None) if now < until_unix => Stage::OldAloneForgotten { until_unix },
            (Some(_), None) => Stage::OldDigestGone,
        }
    }

    /// Who held it up when somebody looked last.
    pub fn awaited(&self) -> &BTreeSet<String> {
        &self.awaited
    }

    /// Whether the new key may leave again.
    ///
    /// # Errors
    /// When somebody may believe the new key only, by what was ever seen, or nobody can tell.
    pub fn may_be_undone(&self, sight: &Sight) -> Result<(), NotUndone> {
        if self.new_was_seen {
            return Err(NotUndone::Given);
        }
        match &sight.registry {
            Registry::Silent => Err(NotUndone::Unknown),
            Registry::NotDelegated => Ok(()),
            Registry::Has(all) if all.values().flatten().any(|has| has.new) => Err(NotUndone::Given),
            Registry::Has(all) if all.is_empty() || all.values().any(Option::is_none) => Err(NotUndone::Unknown),
            Registry::Has(_) => Ok(()),
        }
    }
}

/// Since when all say yes: from now on if they do for the first time, no longer when one says no. Who is silent says neither.
fn since(since: &mut Option<u64>, said: impl Iterator<Item = Option<bool>>, now: u64) {
    let said: Vec<Option<bool>> = said.collect();
    if said.contains(&Some(false)) {
        *since = None;
    } else if !said.is_empty() && said.iter().all(Option::is_some) {
        since.get_or_insert(now);
    }
}

impl Sight {
    /// Who is in the way of what is awaited. That nobody is there to be asked is in the way, too.
    fn in_the_way(&self, stage: &Stage) -> BTreeSet<String> {
        let servers = self.servers.iter().filter(|(_, has)| **has != Some(true)).map(|(name, _)| name.clone());
        let of_registry = |is_well: fn(Has) -> bool| match &self.registry {
            Registry::Silent => vec!["the registry".to_owned()],
            Registry::NotDelegated => vec!["the registry, which does not lead to the domain".to_owned()],
            Registry::Has(all) => {
                all.iter().filter(|(_, has)| !has.is_some_and(is_well)).map(|(name, _)| name.clone()).collect()
            }
        };
        match stage {
            Stage::BothKeys => servers.collect(),
            Stage::NewDigest => of_registry(|has| has.new).into_iter().collect(),
            Stage::OldDigestGone => of_registry(|has| !has.old).into_iter().collect(),
            Stage::LastLook => servers.chain(of_registry(|has| !has.old)).collect(),
            Stage::OneKeyForgotten { .. } | Stage::OldAloneForgotten { .. } | Stage::OldDigestForgotten { .. } => {
                BTreeSet::new()
            }
        }
    }
}
