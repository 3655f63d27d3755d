//! What is new at a site: from what its application says to the pages that are fetched again, and to the mirrors.
//!
//! ```text
//!  hooks ─▶ Event ─▶ concern ─▶ stale at once ─▶ held ─┐
//!                └─▶ Ledger: one change? ──── Begin ───┴─▶ queue ─▶ keeper ─▶ store ─▶ Notice::Changed ─▶ mirrors
//!  hooks, live ─▶ signal ─▶ Ledger ─── Everything ────────────────▶ keeper                 or Gone
//! ```
//!
//! While it is not known what a signal means, pages kept from before it are doubted: a reader who asks for one waits
//! for the source, as when it is marked stale, and nothing is asked for that nobody wants.

mod ledger;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sovereign_model::edge_config::EdgeApp;
use tracing::{info, warn};

use crate::concern::{self, Concern, Event, Links, Scope, Subject};
use crate::edge::Edge;
use crate::generation::Site;
use crate::notice::What;
use crate::route::{Key, Target, is_mirrored};
use crate::store::Entry;
use ledger::{Act, Kind, Ledger};

/// After a change whose pages are known everything is looked at, slowly: it finds what the theme shows elsewhere.
const SWEEP_AFTER: Duration = Duration::from_secs(15);
/// Pages that wait to be fetched again; beyond it everything is.
const MOST_QUEUED: usize = 100_000;
/// Pages of a higher rank may be all pages of the site: they are fetched one by one, so that an author who goes on
/// working finds an application that has time.
const LAST_AT_ONCE: u8 = 5;
/// Events that are remembered for the ones that come with them.
const MOST_HEARD: usize = 8;
/// Removals that are never held back: unpublishing a post takes its page and perhaps those of its tags.
pub(crate) const ALWAYS_REMOVED: usize = 3;

/// What is new at one site.
#[derive(Default)]
pub(crate) struct News {
    ledger: Mutex<Ledger>,
    links: Mutex<Links>,
    queue: Mutex<Queue>,
    /// Milliseconds since the Unix epoch; 0: nothing is doubted.
    doubted: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Concerned by events whose signal is awaited.
    held: Vec<Scope>,
    /// To be fetched again, by rank and then in turn: the last post does not wait for all that the one before concerned.
    targets: BTreeMap<(u8, u64), Target>,
    queued: HashMap<Target, (u8, u64)>,
    /// Counts what was ever queued.
    turn: u64,
    /// Pages that an event is about: gone for sure when the source says so.
    own: HashSet<Target>,
    /// Pages that the primary's edge says are gone.
    gone: Vec<Target>,
    /// Removed because the primary's edge said so, since the last pass.
    removed: usize,
    /// Made from the application's memory in the last changes.
    remembered: Vec<Target>,
    /// What the last events concerned: another one about the same saved state has nothing to add to that.
    heard: VecDeque<(Subject, HashSet<Target>)>,
    /// The first and the last change since everything was looked at.
    unswept: Option<(Instant, SystemTime)>,
}

impl Queue {
    /// What of `scope` is not under way already because of another event about `subject`.
    fn hear(&mut self, subject: &Subject, scope: &mut Scope) {
        match self.heard.iter_mut().find(|(known, _)| known == subject) {
            Some((_, known)) => scope.targets.retain(|target| known.insert(target.clone())),
            None => {
                self.heard.truncate(MOST_HEARD - 1);
                self.heard.push_front((subject.clone(), scope.targets.iter().cloned().collect()));
            }
        }
    }

    fn push(&mut self, rank: u8, target: Target) {
        self.turn += 1;
        let place = (rank, self.turn);
        match self.queued.get_mut(&target) {
            Some(before) if before.0 <= rank => return,
            Some(before) => drop(self.targets.remove(&std::mem::replace(before, place))),
            None => drop(self.queued.insert(target.clone(), place)),
        }
        self.targets.insert(place, target);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl News {
    /// What links to what.
    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }

    /// The next page to be fetched again; `alone`: while nothing else is fetched.
    pub(crate) fn next(&self, alone: bool) -> Option<Target> {
        let mut queue = lock(&self.queue);
        let first = queue.targets.first_entry()?;
        if !alone && first.key().0 > LAST_AT_ONCE {
            return None;
        }
        let next = first.remove();
        queue.queued.remove(&next);
        Some(next)
    }

    /// Whether pages are to be fetched again.
    pub(crate) fn has_pages(&self) -> bool {
        !lock(&self.queue).targets.is_empty()
    }

    /// Whether there is something for the keeper.
    pub(crate) fn is_waiting(&self) -> bool {
        let queue = lock(&self.queue);
        !queue.targets.is_empty() || !queue.gone.is_empty()
    }

    /// Whether something was said that is not seen to yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.is_waiting() || !lock(&self.queue).held.is_empty() || lock(&self.ledger).waiting_since().is_some()
    }

    /// Whether an event was about this page, asked once.
    pub(crate) fn take_own(&self, target: &Target) -> bool {
        lock(&self.queue).own.remove(target)
    }

    /// Whether the primary's edge has said that pages are gone.
    pub(crate) fn is_told_gone(&self) -> bool {
        !lock(&self.queue).gone.is_empty()
    }

    /// Pages that the primary's edge says are gone, as many as may go without being held back, of `kept`; and how many
    /// are.
    pub(crate) fn take_gone(&self, kept: usize) -> (Vec<Target>, usize) {
        let mut queue = lock(&self.queue);
        let mut gone = std::mem::take(&mut queue.gone);
        let room = ALWAYS_REMOVED.max(kept / 10).saturating_sub(queue.removed);
        let held = gone.len().saturating_sub(room);
        gone.truncate(room);
        queue.removed += gone.len();
        (gone, held)
    }

    /// A pass over everything begins: since when copies must have been confirmed to count.
    pub(crate) fn begin_pass(&self) -> Option<SystemTime> {
        let mut queue = lock(&self.queue);
        queue.removed = 0;
        queue.unswept.take().map(|(_, last)| last)
    }

    /// When everything is to be looked at because of a change.
    pub(crate) fn sweep_due(&self) -> Option<Instant> {
        lock(&self.queue).unswept.map(|(first, _)| first + SWEEP_AFTER)
    }

    /// Everything is fetched again: what was known in particular no longer matters.
    pub(crate) fn everything(&self) {
        self.links().doubt();
        let mut queue = lock(&self.queue);
        *queue = Queue { removed: queue.removed, ..Queue::default() };
        drop(queue);
        lock(&self.ledger).clear();
        self.doubted.store(0, Ordering::Release);
    }

    /// Whether a kept page may be another one, as far as is known at this moment.
    pub(crate) fn doubts(&self, entry: &Entry) -> bool {
        let since = self.doubted.load(Ordering::Acquire);
        since > 0 && milliseconds(entry.terms().fetched) <= since && crate::keeper::changes_with_the_site(entry)
    }

    fn settle_doubt(&self, ledger: &Ledger) {
        let since = ledger.waiting_since().map_or(0, |since| {
            let ago = since.elapsed();
            milliseconds(SystemTime::now()).saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
        });
        self.doubted.store(since, Ordering::Release);
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Edge {
    /// The application of a site says what changed, in a webhook.
    pub(crate) fn hear(self: &Arc<Self>, site: &Arc<Site>, event: &Event) {
        let news = &site.standing.news;
        let now = Instant::now();
        // Another process keeps the store, or one that does not tell what changed: its next keeper looks at everything.
        if !self.may_write() || !matches!(site.config.app, EdgeApp::Ghost) {
            return self.site_changed(site);
        }
        let subject = match event {
            Event::Other => return self.site_changed(site),
            Event::Site => {
                lock(&news.ledger).signal(now, Kind::Hook);
                return self.attend(site, None);
            }
            Event::Entry(entry) if !entry.concerns_readers() => return,
            Event::Entry(entry) => &entry.subject,
            Event::Tag(tag) => &tag.subject,
        };
        let kept = self.store.targets(site.name(), |_| true);
        let concerned = {
            let links = news.links();
            concern::concern(event, concern::Site { canonical: &site.config.canonical, kept: &kept, links: &links })
        };
        let scope = match concerned {
            Concern::Everything => {
                self.site_changed(site);
                None
            }
            Concern::Pages(mut scope) => {
                lock(&news.queue).hear(subject, &mut scope);
                Some(scope).filter(|scope| !scope.targets.is_empty())
            }
        };
        lock(&news.ledger).explain(now, subject.clone());
        self.attend(site, scope);
    }

    /// The answer to somebody who changed something at `asked` names what caches should drop: everything, or some
    /// addresses.
    pub(crate) fn hear_answer(self: &Arc<Self>, site: &Arc<Site>, asked: &Target, dropped: &str) {
        if !self.may_write() || !matches!(site.config.app, EdgeApp::Ghost) {
            return self.site_changed(site);
        }
        if dropped.trim() == "/*" {
            lock(&site.standing.news.ledger).signal(Instant::now(), Kind::of_answer(asked));
            return self.attend(site, None);
        }
        let mut targets = Vec::new();
        for address in dropped.split(',').map(str::trim) {
            match Target::parse(address) {
                // Previews of drafts are not kept.
                Ok(target) if !is_mirrored(&site.config.app, &target) => {}
                Ok(target) => targets.push(target),
                Err(_) => return self.site_changed(site),
            }
        }
        if !targets.is_empty() {
            self.renew(site, targets);
        }
    }

    /// Does what the messages so far call for, now and when their time has come.
    fn attend(self: &Arc<Self>, site: &Arc<Site>, scope: Option<Scope>) {
        let news = &site.standing.news;
        let (acts, next) = {
            let mut ledger = lock(&news.ledger);
            let acts = ledger.due(Instant::now());
            news.settle_doubt(&ledger);
            (acts, ledger.next())
        };
        let seen = acts.contains(&Act::Begin { front: true });
        if let Some(mut scope) = scope {
            scope.targets.retain(|target| !(seen && target.as_str() == "/"));
            let marked = self.store.invalidate_named(site.name(), &scope.targets);
            info!(site = %site.name(), concerned = scope.targets.len(), marked, "something changed at the site");
            self.tell(site, What::Something);
            self.tell(site, What::Below(concern::answers()));
            let mut queue = lock(&news.queue);
            queue.held.push(scope);
            let first = queue.unswept.map_or_else(Instant::now, |(first, _)| first);
            queue.unswept = Some((first, SystemTime::now()));
        }
        for act in acts {
            match act {
                Act::Begin { .. } => self.begin(site),
                Act::Front => self.renew(site, Target::parse("/").ok().into_iter().collect()),
                Act::Late => {
                    let remembered = lock(&news.queue).remembered.clone();
                    self.renew(site, remembered);
                }
                Act::Everything => self.site_changed(site),
            }
        }
        if let Some(next) = next {
            let (edge, site) = (self.clone(), site.clone());
            tokio::spawn(async move {
                tokio::time::sleep_until(next.into()).await;
                edge.attend(&site, None);
            });
        }
    }

    /// What is held is fetched again now.
    fn begin(&self, site: &Site) {
        let mut queue = lock(&site.standing.news.queue);
        let held = std::mem::take(&mut queue.held);
        queue.remembered = held.iter().flat_map(Scope::remembered).cloned().collect();
        let own = queue.own.len();
        for scope in held {
            for target in scope.targets.iter().filter(|target| !target.is_incidental()) {
                queue.push(scope.rank(target), target.clone());
            }
            queue.own.extend(scope.own);
        }
        let too_many = queue.targets.len() > MOST_QUEUED || own > MOST_QUEUED;
        drop(queue);
        if too_many {
            return self.site_changed(site);
        }
        site.standing.wake();
    }

    /// These pages are stale, and fetched again at once.
    fn renew(&self, site: &Site, targets: Vec<Target>) {
        self.store.invalidate_named(site.name(), &targets);
        let mut queue = lock(&site.standing.news.queue);
        targets.into_iter().filter(|target| !target.is_incidental()).for_each(|target| queue.push(0, target));
        drop(queue);
        site.standing.wake();
    }

    /// The source of a site gave another page: the mirrors are told.
    pub(crate) fn page_changed(&self, site: &Site, key: &Key) {
        let told = site.upstream.is_local() && !matches!(site.config.app, EdgeApp::Upstream(_));
        // As long as everything is fetched again, the mirrors do the same.
        if told && !key.target.is_incidental() && site.standing.news.links().is_complete() {
            self.tell(site, What::Changed(key.target.clone()));
        }
    }

    /// A page is gone and no longer kept: the mirrors are told.
    pub(crate) fn page_gone(&self, site: &Site, target: &Target) {
        site.standing.news.links().forget(target);
        if site.upstream.is_local() {
            self.tell(site, What::Gone(target.clone()));
        }
    }

    /// The primary's edge says what happened to a site that is mirrored here.
    pub(crate) fn hear_notice(&self, site: &Site, what: What) {
        let app = &site.config.app;
        match what {
            What::Anything | What::Something => self.site_changed(site),
            What::Changed(target) if is_mirrored(app, &target) => {
                let mut targets = self.store.targets(site.name(), |kept| kept.path() == target.path());
                targets.push(target.clone());
                self.store.invalidate_named(site.name(), &targets);
                let mut queue = lock(&site.standing.news.queue);
                if queue.targets.len() > MOST_QUEUED {
                    drop(queue);
                    return self.site_changed(site);
                }
                if !target.is_incidental() {
                    queue.push(0, target);
                }
            }
            What::Gone(target) => {
                let mut queue = lock(&site.standing.news.queue);
                if queue.gone.len() > MOST_QUEUED {
                    warn!(site = %site.name(), "too many pages are said to be gone: nothing is removed");
                    queue.gone.clear();
                }
                queue.gone.push(target);
            }
            What::Below(path) => {
                let targets = self.store.targets(site.name(), |kept| kept.is_under(path.path()));
                self.store.invalidate_named(site.name(), &targets);
            }
            What::Changed(_) => {}
        }
        site.standing.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_most_comes_first_and_once() {
        let news = News::default();
        let target = |path: &str| Target::parse(path).unwrap();
        {
            let mut queue = lock(&news.queue);
            for (rank, path) in [(7, "/old-1/"), (7, "/old-2/"), (1, "/"), (0, "/new/"), (0, "/old-2/"), (7, "/new/")] {
                queue.push(rank, target(path));
            }
        }
        let take = |alone| std::iter::from_fn(|| news.next(alone)).map(|target| target.to_string()).collect::<Vec<_>>();
        assert_eq!(take(false), ["/new/", "/old-2/", "/"]);
        assert!(news.is_waiting(), "what many pages are among is fetched alone");
        assert_eq!(take(true), ["/old-1/"]);
        assert!(!news.is_waiting());
    }

    #[test]
    fn no_more_than_a_tenth_goes_on_the_word_of_another_edge() {
        let news = News::default();
        let say = |count: usize| {
            let gone = (0..count).map(|n| Target::parse(&format!("/{n}/")).unwrap());
            lock(&news.queue).gone.extend(gone);
            let (gone, held) = news.take_gone(100);
            (gone.len(), held)
        };
        assert_eq!((say(4), say(7), say(1)), ((4, 0), (6, 1), (0, 1)));
        news.begin_pass();
        assert_eq!(say(2), (2, 0), "everything was looked at since");
    }
}
