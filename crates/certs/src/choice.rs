//! What to do next for a name: pure, from what was tried and from what is wanted.
//!
//! ```text
//!               due, or none                 every authority held off
//!   ┌──────┐  ───────────────▶  ┌───────┐  ───────────────────────▶  ┌─────────┐
//!   │ held │                    │ order │                            │ waiting │
//!   └──────┘  ◀───────────────  └───────┘  ◀───────────────────────  └─────────┘
//!               stored            │   ▲        the first hold is over
//!                                 ╰───╯
//!                     failed: the next authority in the order of preference
//! ```
//!
//! Promise: with one authority a name is tried at most [`TRIES_PER_HOUR`] times in any hour, whoever is killed meanwhile,
//! and an authority that cannot be reached or has said that it is asked too often is left alone for all names that this
//! concerns. What fails for one name is remembered with that name only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sovereign_model::{AuthorityName, DnsName};

use crate::moment::Moment;
use crate::renewal::due;
use crate::state::{AuthorityState, Begun, Hold, NameState};
use crate::turn::Turn;

/// Let's Encrypt, which has the strictest rule known, refuses a name that has failed five times in an hour.
pub const TRIES_PER_HOUR: usize = 5;
/// Authorities forget an order after a week or so; what is older is not gone on with.
const ORDER_LIVES: Duration = Duration::from_secs(6 * 24 * 3600);
/// What an authority says about when to come back is believed up to this: a week is the longest time that limits are
/// counted over.
const MOST_SAID: Duration = Duration::from_secs(7 * 24 * 3600);

/// Four in an hour come from it and its doubles.
const SHORT: Duration = Duration::from_secs(5 * 60);
/// So do five from this.
const LONG: Duration = Duration::from_secs(15 * 60);
const HOUR: Duration = Duration::from_secs(3600);

/// Whom a failure concerns, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The authority cannot be reached, or is not well: all names at it.
    Away,
    /// The authority takes no more of this stack, or what it issues is of no use: all names at it.
    Useless,
    /// The authority is asked too often: all names of the domain at it.
    Limited,
    /// The authority refuses this name.
    Refused,
    /// It is our own side that fails: this name, at every authority.
    Ours,
}

impl Trouble {
    /// How long it is left alone after the first failure, and at most. Doubled in between.
    const fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Away | Self::Ours => (SHORT, HOUR),
            Self::Useless | Self::Limited => (HOUR, Duration::from_secs(12 * 3600)),
            Self::Refused => (LONG, Duration::from_secs(8 * 3600)),
        }
    }
}

/// A failure, as far as it matters for what comes next.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Whom it concerns.
    pub trouble: Trouble,
    /// How long the authority said to wait.
    pub retry_after: Option<Duration>,
    /// For people.
    pub why: String,
}

/// What comes after `before`: `spread`, from 0 to 1, keeps many that failed together from coming back together.
pub fn hold(before: Option<&Hold>, failed: &Failed, now: Moment, spread: f64) -> Hold {
    let failures = before.map_or(0, |hold| hold.failures).saturating_add(1);
    let (first, most) = failed.trouble.waits();
    let doubled = first.saturating_mul(1 << (failures - 1).min(16)).min(most);
    let wait = doubled.mul_f64(1.0 + spread.clamp(0.0, 1.0) / 4.0);
    let said = failed.retry_after.map(|said| said.min(MOST_SAID));
    let wait = match failed.trouble {
        // It knows best.
        Trouble::Limited => said.map_or(wait, |said| said.max(LONG)),
        _ => wait.max(said.unwrap_or_default()),
    };
    Hold { failures, until: now.after(wait), why: failed.why.clone() }
}

/// Writes down a failure where it belongs.
pub fn remember(
    name: &mut NameState,
    authority: &AuthorityName,
    state: &mut AuthorityState,
    domain: &DnsName,
    failed: &Failed,
    (now, spread): (Moment, f64),
) {
    name.begun = None;
    if matches!(failed.trouble, Trouble::Refused | Trouble::Useless) {
        name.order = None;
    }
    let next = |before: Option<&Hold>| hold(before, failed, now, spread);
    match failed.trouble {
        // Names that are tried at the same time fail together: that is one failure.
        Trouble::Away | Trouble::Useless if state.whole.as_ref().is_some_and(|hold| hold.until > now) => {}
        Trouble::Away | Trouble::Useless => state.whole = Some(next(state.whole.as_ref())),
        Trouble::Limited if state.domains.get(domain).is_some_and(|hold| hold.until > now) => {}
        Trouble::Limited => drop(state.domains.insert(domain.clone(), next(state.domains.get(domain)))),
        Trouble::Refused => drop(name.refused.insert(authority.clone(), next(name.refused.get(authority)))),
        Trouble::Ours => name.ours = Some(next(name.ours.as_ref())),
    }
}

/// Writes down that nothing is in the way any more.
pub fn forget(name: &mut NameState, state: &mut AuthorityState, domain: &DnsName) {
    (name.begun, name.ours, name.order) = (None, None, None);
    name.refused.clear();
    state.whole = None;
    state.domains.remove(domain);
}

/// Writes down, before anything is asked, that it will be.
pub fn begin(name: &mut NameState, authority: &AuthorityName, now: Moment) {
    let before = name.begun.as_ref().filter(|begun| begun.authority == *authority);
    let times = before.map_or(0, |begun| begun.times).saturating_add(1);
    name.begun = Some(Begun { authority: authority.clone(), at: now, times });
    let tried = name.tried.entry(authority.clone()).or_default();
    tried.push(now);
    let surplus = tried.len().saturating_sub(TRIES_PER_HOUR);
    tried.drain(..surplus);
}

/// Takes back that something was begun: nothing was asked.
pub fn undo(name: &mut NameState) {
    if let Some(begun) = name.begun.take()
        && let Some(tried) = name.tried.get_mut(&begun.authority)
    {
        tried.pop();
    }
}

/// Takes what was begun twice and never ended for a refusal: if it is the conversation itself that kills us, another
/// authority must have its turn.
pub fn settle(name: &mut NameState, spread: f64) {
    let Some(begun) = name.begun.take_if(|begun| begun.times > 1) else { return };
    let why = "it was begun twice, and nobody wrote down how it ended".to_owned();
    let failed = Failed { trouble: Trouble::Refused, retry_after: None, why };
    let hold = hold(name.refused.get(&begun.authority), &failed, begun.at, spread);
    name.refused.insert(begun.authority, hold);
}

/// What to do for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing before then: its certificate is good.
    Well(Moment),
    /// Nothing before then: all that could be tried was.
    Wait(Moment),
    /// Ask this authority for a new one.
    Order(AuthorityName),
    /// Go on with the order that is open.
    GoOn(AuthorityName),
}

/// What to do for a name of a domain, with the authorities in the order of preference, for one whose turn is `turn`.
pub fn next(
    name: &NameState,
    domain: &DnsName,
    preferred: &[AuthorityName],
    authorities: &BTreeMap<AuthorityName, AuthorityState>,
    turn: Turn,
    now: Moment,
) -> Next {
    match &name.held {
        Some(held) => {
            let comes = turn.to_renew(due(&name.name, held), held.not_after);
            // One of an authority that the operator has struck out is replaced at once, by whoever is first.
            let is_struck_out = turn.is_first() && !preferred.contains(&held.authority);
            if comes > now && !is_struck_out {
                return Next::Well(comes);
            }
        }
        None if turn.to_begin() > now => return Next::Wait(turn.to_begin()),
        None => {}
    }
    another(name, domain, preferred, authorities, now)
}

/// The same for a name that is to have another certificate, however good the one is that it has.
pub fn another(
    name: &NameState,
    domain: &DnsName,
    preferred: &[AuthorityName],
    authorities: &BTreeMap<AuthorityName, AuthorityState>,
    now: Moment,
) -> Next {
    let ours = name.ours.as_ref().map_or(Moment::LONG_AGO, |hold| hold.until).max(unfinished(name));
    if ours > now {
        return Next::Wait(ours);
    }
    let held_off = |authority: &AuthorityName| {
        let refused = name.refused.get(authority);
        let state = authorities.get(authority);
        let whole = state.and_then(|state| state.whole.as_ref());
        let limited = state.and_then(|state| state.domains.get(domain));
        let hold = [refused, whole, limited].into_iter().flatten().map(|hold| hold.until).max();
        hold.into_iter().chain(often(name, authority)).max().unwrap_or(Moment::LONG_AGO)
    };
    let open = name.order.as_ref().filter(|order| {
        order.since.after(ORDER_LIVES) > now
            && preferred.contains(&order.authority)
            && held_off(&order.authority) <= now
    });
    if let Some(order) = open {
        return Next::GoOn(order.authority.clone());
    }
    match preferred.iter().find(|authority| held_off(authority) <= now) {
        Some(authority) => Next::Order(authority.clone()),
        None => Next::Wait(preferred.iter().map(held_off).min().unwrap_or(now.after(HOUR))),
    }
}

/// What is in the way of getting one for a name of a domain, each reason once.
pub fn in_the_way<'s>(
    name: &'s NameState,
    domain: &DnsName,
    authorities: &'s BTreeMap<AuthorityName, AuthorityState>,
) -> Vec<&'s Hold> {
    let of_authorities = authorities.values().flat_map(|known| known.whole.iter().chain(known.domains.get(domain)));
    let mut holds: Vec<&Hold> = Vec::new();
    for hold in name.ours.iter().chain(name.refused.values()).chain(of_authorities) {
        match holds.iter_mut().find(|other| other.why == hold.why) {
            Some(other) if hold.until < other.until => *other = hold,
            Some(_) => {}
            None => holds.push(hold),
        }
    }
    holds
}

/// Until when an authority was asked often enough for a name, whatever each of the holds says.
fn often(name: &NameState, authority: &AuthorityName) -> Option<Moment> {
    let tried = name.tried.get(authority).filter(|tried| tried.len() >= TRIES_PER_HOUR)?;
    tried.first().map(|first| first.after(HOUR))
}

/// What was begun and never ended waits: whatever kills us must not become a flood of orders. An order that is open is
/// gone on with at once, the first time, when nothing has failed before.
fn unfinished(name: &NameState) -> Moment {
    let Some(Begun { authority, at, times }) = &name.begun else { return Moment::LONG_AGO };
    let is_first = *times == 1 && name.order.is_some() && !name.refused.contains_key(authority);
    if is_first { Moment::LONG_AGO } else { at.after(LONG) }
}

/// The names that something is to be done for, the most urgent first: what ends first comes first, what has nothing to
/// end after what has ended.
pub fn by_urgency<'n>(names: impl Iterator<Item = &'n NameState>, now: Moment) -> Vec<&'n NameState> {
    let mut all: Vec<&NameState> = names.collect();
    all.sort_by_key(|state| (state.held.as_ref().map_or(now, |held| held.not_after), state.name.clone()));
    all
}

#[cfg(test)]
mod tests;
