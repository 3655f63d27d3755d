//! How a site stands at this edge: what changed, whether its source answers, how far the mirror is.
//!
//! One value per site for the life of the process; generations of the configuration share it. Everything here is a
//! small fact behind a short lock, never held across a wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sovereign_model::edge_status::{LastPass, Progress, SourceReport};
use tokio::sync::Notify;

use crate::epochs::Claim;
use crate::route::Target;

/// A source that failed is believed to be away for this long before a reader's request tries again; the keeper probes
/// it meanwhile.
const BELIEVE_AWAY: Duration = Duration::from_secs(2);

/// What is known about one site.
#[derive(Default)]
pub(crate) struct Standing {
    private: AtomicBool,
    doubted: AtomicBool,
    facts: Mutex<Facts>,
    wake: Notify,
}

#[derive(Default)]
struct Facts {
    /// The newest primary that was proven to us over a link.
    newest: Option<Claim>,
    changes: u64,
    source: Option<SourceState>,
    pass: Option<Progress>,
    last: Option<LastPass>,
    requested: bool,
    accept_removals: bool,
    /// Pages that were found gone, and how often in a row.
    strikes: BTreeMap<Target, u32>,
}

struct SourceState {
    reachable: bool,
    checked: Instant,
    error: Option<String>,
}

impl Standing {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The site changed: the keeper looks at it at once.
    pub(crate) fn note_change(&self) {
        self.facts().changes += 1;
        self.wake.notify_one();
    }

    /// How often the site changed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.facts().changes
    }

    /// An operator asks for a pass. `accept_removals`: what a pass has held back may be removed this time.
    pub(crate) fn request_pass(&self, accept_removals: bool) {
        let mut facts = self.facts();
        facts.requested = true;
        facts.accept_removals |= accept_removals;
        drop(facts);
        self.wake.notify_one();
    }

    /// Whether a pass was asked for since the last call.
    pub(crate) fn take_request(&self) -> bool {
        std::mem::take(&mut self.facts().requested)
    }

    /// Whether removals were accepted since the last call.
    pub(crate) fn take_accepted_removals(&self) -> bool {
        std::mem::take(&mut self.facts().accept_removals)
    }

    /// Waits until something wants the keeper's attention.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether the site's owner has closed it to the public.
    pub(crate) fn is_private(&self) -> bool {
        self.private.load(Ordering::Acquire)
    }

    /// Returns whether that is news.
    pub(crate) fn set_private(&self, private: bool) -> bool {
        self.private.swap(private, Ordering::AcqRel) != private
    }

    /// Remembers a claim that was found to hold.
    pub(crate) fn believe(&self, claim: Claim) {
        let newest = &mut self.facts().newest;
        if newest.as_ref().is_none_or(|known| known.epoch < claim.epoch) {
            *newest = Some(claim);
        }
    }

    /// The newest primary that was proven to us.
    pub(crate) fn newest(&self) -> Option<Claim> {
        self.facts().newest.clone()
    }

    /// Whether a newer primary than that of `epoch` exists.
    pub(crate) fn is_superseded(&self, epoch: u64) -> bool {
        self.facts().newest.as_ref().is_some_and(|newest| newest.epoch > epoch)
    }

    /// True once: a peer that goes on claiming what it cannot prove is not worth more than a line.
    pub(crate) fn is_first_doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::AcqRel)
    }

    /// The source answered. Returns whether it had been away.
    pub(crate) fn source_answered(&self) -> bool {
        let state = SourceState { reachable: true, checked: Instant::now(), error: None };
        let before = self.facts().source.replace(state);
        let was_away = before.is_some_and(|before| !before.reachable);
        if was_away {
            self.wake.notify_one();
        }
        was_away
    }

    /// The source failed. Returns whether it had answered until now.
    pub(crate) fn source_failed(&self, error: String) -> bool {
        let state = SourceState { reachable: false, checked: Instant::now(), error: Some(error) };
        let before = self.facts().source.replace(state);
        before.is_none_or(|before| before.reachable)
    }

    /// Whether it is worth asking the source now: not when it has just failed.
    pub(crate) fn source_reachable(&self) -> bool {
        self.facts().source.as_ref().is_none_or(|source| source.reachable || source.checked.elapsed() > BELIEVE_AWAY)
    }

    /// Whether the last question to the source failed.
    pub(crate) fn source_is_away(&self) -> bool {
        self.facts().source.as_ref().is_some_and(|source| !source.reachable)
    }

    pub(crate) fn source_report(&self) -> SourceReport {
        let facts = self.facts();
        let source = facts.source.as_ref();
        SourceReport {
            reachable: source.map(|source| source.reachable),
            last_error: source.and_then(|source| source.error.clone()),
        }
    }

    /// A page was found gone once more in a row; returns how often.
    pub(crate) fn strike(&self, target: &Target) -> u32 {
        let mut facts = self.facts();
        let strikes = facts.strikes.entry(target.clone()).or_default();
        *strikes += 1;
        *strikes
    }

    /// The page is there (again), or was removed.
    pub(crate) fn forgive(&self, target: &Target) {
        self.facts().strikes.remove(target);
    }

    pub(crate) fn report_progress(&self, progress: Progress) {
        self.facts().pass = Some(progress);
    }

    pub(crate) fn finish_pass(&self, last: Option<LastPass>) {
        let mut facts = self.facts();
        facts.pass = None;
        if last.is_some() {
            facts.last = last;
        }
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        self.facts().pass.clone()
    }

    pub(crate) fn last_pass(&self) -> Option<LastPass> {
        self.facts().last.clone()
    }
}
