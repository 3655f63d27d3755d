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
use crate::health::{Failure, Health};
use crate::news::News;
use crate::route::Target;

/// A source that is away is left alone by readers' requests for this long, then one of them tries again; the keeper
/// probes it meanwhile.
const BELIEVE_AWAY: Duration = Duration::from_secs(2);

/// What is known about one site.
#[derive(Default)]
pub(crate) struct Standing {
    private: AtomicBool,
    doubted: AtomicBool,
    facts: Mutex<Facts>,
    wake: Notify,
    /// What is new there.
    pub(crate) news: News,
}

#[derive(Default)]
struct Facts {
    /// The newest primary that was proven to us over a link.
    newest: Option<Claim>,
    changes: u64,
    source: SourceState,
    pass: Option<Progress>,
    last: Option<LastPass>,
    requested: bool,
    accept_removals: bool,
    /// Pages that were found gone, and how often in a row.
    strikes: BTreeMap<Target, u32>,
}

#[derive(Default)]
struct SourceState {
    health: Health,
    /// When it failed last, or a reader last set out to see whether it still does.
    tried: Option<Instant>,
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

    /// There is something for the keeper.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
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

    /// The source answered. Returns whether it is well again after having been away.
    pub(crate) fn source_answered(&self) -> bool {
        let mut facts = self.facts();
        let source = &mut facts.source;
        let (was_away, was_doubtful) = (source.health.is_away(), source.health.is_doubtful());
        source.health.answered(Instant::now());
        let well = !source.health.is_doubtful();
        if well {
            source.error = None;
        }
        drop(facts);
        if was_away {
            self.wake.notify_one();
        }
        was_doubtful && well
    }

    /// The source failed. Returns whether it is away from now on, and was not until now.
    pub(crate) fn source_failed(&self, failure: Failure, error: String) -> bool {
        let now = Instant::now();
        let source = &mut self.facts().source;
        let was_doubtful = source.health.is_doubtful();
        source.health.failed(failure, now);
        source.tried = Some(now);
        source.error = Some(error);
        !was_doubtful && source.health.is_away()
    }

    /// Whether a reader's request should ask the source now: of a source in doubt one does, now and then.
    pub(crate) fn source_reachable(&self) -> bool {
        let source = &mut self.facts().source;
        if !source.health.is_doubtful() {
            return true;
        }
        let due = source.tried.is_none_or(|tried| tried.elapsed() > BELIEVE_AWAY);
        if due {
            source.tried = Some(Instant::now());
        }
        due
    }

    /// Whether the source is away.
    pub(crate) fn source_is_away(&self) -> bool {
        self.facts().source.health.is_away()
    }

    /// Whether the source is away, or has only just come back and may go again.
    pub(crate) fn source_is_doubtful(&self) -> bool {
        self.facts().source.health.is_doubtful()
    }

    pub(crate) fn source_report(&self) -> SourceReport {
        let facts = self.facts();
        let health = &facts.source.health;
        SourceReport {
            // On trial it answers: that kept pages are preferred for a while yet is nothing to be told of.
            reachable: health.is_known().then(|| !health.is_away()),
            last_error: facts.source.error.clone(),
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
