//! One pass over the pages of a site, or over those that a change concerns.
//!
//! A sweep asks at its own [pace](super::pace), but for pages that are known to be stale. What a change concerns comes
//! before everything else, also while a pass is under way.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Limited};
use sovereign_model::edge_status::{LastPass, PassReason, Progress};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::look::{Looked, Seen, is_routine, look};
use super::pace::Pace;
use crate::edge::Edge;
use crate::generation::Site;
use crate::news::ALWAYS_REMOVED;
use crate::room::Kind;
use crate::route::{Key, Target, is_mirrored};
use crate::store::Known;
use crate::upstream::Upstream;
use crate::{discover, known, peers};

/// Questions to an application at a time. Ghost renders on one thread: two keep it busy.
const TO_APPLICATION: usize = 2;
/// Questions over a link at a time: they wait for the line more than for the other side.
const OVER_LINK: usize = 8;
/// A list of all pages: 200 bytes each, 100,000 pages.
const LONGEST_LIST: usize = 20 << 20;
/// Pages of one site at most, so that a calendar of endless links does not fill the disk.
const MOST_PAGES: usize = 200_000;

/// Why a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A change concerns it.
    News,
    /// It belongs to the site.
    Pass,
    /// The same, at the sweep's pace.
    Routine,
}

/// A pass, or a round: over those pages only that a change concerns.
pub(super) struct Pass<'a> {
    edge: &'a Arc<Edge>,
    site: &'a Arc<Site>,
    reason: PassReason,
    round: bool,
    /// Copies of texts that were confirmed before do not count.
    since: Option<SystemTime>,
    begun: Instant,
    pace: Pace,
    /// Found on pages that changed, and not kept.
    new: VecDeque<Target>,
    /// To be looked at, in this order.
    queue: VecDeque<Target>,
    /// Kept pages, after all others: perhaps nothing links to them any more.
    last: VecDeque<Target>,
    /// After those, or they would take the room of pages.
    media: VecDeque<Target>,
    seen: HashSet<Target>,
    /// Of these, the ones with a query that pages link to.
    linked: HashSet<Target>,
    gone: Vec<Target>,
    /// Of these, those that a change concerns: the application has said that something changed there.
    sure: HashSet<Target>,
    done: usize,
    /// Looked for, but there is no such page: seeds that the site does not have, dead links.
    absent: usize,
    failed: usize,
}

impl<'a> Pass<'a> {
    /// Over everything.
    pub(super) fn new(edge: &'a Arc<Edge>, site: &'a Arc<Site>, reason: PassReason) -> Self {
        Self { round: false, since: site.standing.news.begin_pass(), ..Self::over_what_is_new(edge, site, reason) }
    }

    fn over_what_is_new(edge: &'a Arc<Edge>, site: &'a Arc<Site>, reason: PassReason) -> Self {
        Self {
            edge,
            site,
            reason,
            round: true,
            since: None,
            begun: Instant::now(),
            pace: Pace::default(),
            new: VecDeque::new(),
            queue: VecDeque::new(),
            last: VecDeque::new(),
            media: VecDeque::new(),
            seen: HashSet::new(),
            linked: HashSet::new(),
            gone: Vec::new(),
            sure: HashSet::new(),
            done: 0,
            absent: 0,
            failed: 0,
        }
    }

    /// Looks at what is new; whether all of it could be had.
    pub(super) async fn round(edge: &'a Arc<Edge>, site: &'a Arc<Site>, changes: u64) -> bool {
        let mut round = Self::over_what_is_new(edge, site, PassReason::Change);
        if round.all(changes).await {
            round.end_round().await;
        }
        site.standing.finish_pass(None);
        round.failed == 0
    }

    /// Runs; `None` when the site changed meanwhile (more often than `changes`): the next pass begins at once.
    pub(super) async fn run(mut self, changes: u64) -> Option<LastPass> {
        self.enqueue(discover::seeds(&self.site.config.app));
        let kept = self.edge.store.keys(self.site.name());
        self.last.extend(kept.into_iter().map(|key| key.target).filter(|target| target.query().is_none()));
        let listed = self.listed().await;
        self.last.extend(listed.iter().map(|known| known.target.clone()));
        self.make_room(listed).await;
        if !self.all(changes).await {
            return None;
        }
        Some(self.end(changes).await)
    }

    /// Looks at all there is; whether it came to an end before the site changed again.
    async fn all(&mut self, changes: u64) -> bool {
        let at_once = if self.site.upstream.is_local() { TO_APPLICATION } else { OVER_LINK };
        let mut looking = JoinSet::new();
        let mut routine = false;
        loop {
            self.remove_told().await;
            while looking.len() < at_once
                && let Some((target, why)) = self.next(looking.is_empty(), routine)
            {
                routine |= why == Why::Routine;
                let (edge, site, since) = (self.edge.clone(), self.site.clone(), self.since);
                looking.spawn(async move {
                    let looked = look(&edge, &site, &target, since).await;
                    (target, why, looked)
                });
            }
            let pause = self.pace.wait(Instant::now()).filter(|_| !routine && !self.queue.is_empty());
            let looked = tokio::select! {
                Some(looked) = looking.join_next() => looked,
                () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now).into()), if pause.is_some() => continue,
                () = self.site.standing.woken(), if pause.is_some() || !looking.is_empty() => {
                    if self.site.standing.changes() != changes {
                        return false;
                    }
                    continue;
                }
                else => break,
            };
            // A look that panicked counts as failed.
            let Ok((target, why, Looked { seen, took })) = looked else {
                self.failed += 1;
                routine = false;
                continue;
            };
            if why == Why::Routine {
                routine = false;
                self.pace.answered(Instant::now(), took.unwrap_or_default());
            }
            self.note(target, why, seen).await;
            if self.site.standing.changes() != changes {
                return false;
            }
            if self.site.standing.source_is_away() || self.site.standing.is_private() {
                break;
            }
        }
        true
    }

    /// The next page, and why; `None` also when all that is left has to wait. `alone`: nothing is looked at;
    /// `routine`: a question without haste is under way.
    fn next(&mut self, alone: bool, routine: bool) -> Option<(Target, Why)> {
        let news = &self.site.standing.news;
        if let Some(target) = news.next(alone || !self.site.upstream.is_local()) {
            return Some((target, Why::News));
        }
        if !alone && news.has_pages() {
            return None;
        }
        if let Some(target) = self.new.pop_front() {
            return Some((target, Why::News));
        }
        while self.queue.is_empty()
            && let Some(target) = self.last.pop_front()
        {
            self.enqueue([target]);
        }
        if self.queue.is_empty() {
            self.queue.extend(self.media.pop_front());
        }
        let why = self.why(self.queue.front()?);
        if why == Why::Routine && (routine || self.pace.wait(Instant::now()).is_some()) {
            return None;
        }
        self.queue.pop_front().map(|target| (target, why))
    }

    fn why(&self, target: &Target) -> Why {
        let routine = self.reason == PassReason::Sweep && is_routine(self.edge, self.site, target, self.since);
        if routine { Why::Routine } else { Why::Pass }
    }

    async fn note(&mut self, target: Target, why: Why, seen: Seen) {
        let news = &self.site.standing.news;
        let own = why == Why::News && news.take_own(&target);
        self.done += 1;
        match seen {
            Seen::Kept(links) => {
                self.site.standing.forgive(&target);
                if why == Why::News {
                    self.enqueue_new(&links);
                }
                if !self.round {
                    self.enqueue(links);
                }
            }
            // The application said so twice: in a signed message, and when it was asked.
            Seen::Gone { absent: true } if own => self.remove(vec![target]).await,
            Seen::Gone { .. } => {
                if why == Why::News {
                    self.sure.insert(target.clone());
                }
                self.gone.push(target);
            }
            Seen::Nothing => {
                self.absent += 1;
                news.links().forget(&target);
                self.edge.store.forget_known(&Key::new(self.site.name().clone(), target));
            }
            // The store counts what is left out: more may come while others need the room.
            Seen::LeftOut(links) if !self.round => self.enqueue(links),
            Seen::LeftOut(_) => {}
            Seen::Failed => self.failed += 1,
        }
        let known = if self.round { self.done + self.new.len() } else { self.seen.len() };
        let progress = Progress {
            reason: if self.round || why == Why::News { PassReason::Change } else { self.reason },
            done: self.done.saturating_sub(self.absent),
            known: known.saturating_sub(self.absent),
            failed: self.failed,
        };
        self.site.standing.report_progress(progress);
    }

    fn enqueue(&mut self, targets: impl IntoIterator<Item = Target>) {
        for target in targets {
            if self.is_wanted(&target) && self.seen.len() < MOST_PAGES && self.seen.insert(target.clone()) {
                self.note_linked(&target);
                match known::guess(&target) {
                    Kind::Page => self.queue.push_back(target),
                    Kind::Media => self.media.push_back(target),
                }
            }
        }
    }

    /// What a changed page links to and is not kept yet: the pictures of a new post, say.
    fn enqueue_new(&mut self, targets: &[Target]) {
        for target in targets {
            let key = Key::new(self.site.name().clone(), target.clone());
            if self.is_wanted(target)
                && self.edge.store.get(&key).is_none()
                && !self.site.standing.news.links().is_absent(target)
                && self.seen.len() < MOST_PAGES
                && self.seen.insert(target.clone())
            {
                self.note_linked(target);
                self.new.push_back(target.clone());
            }
        }
    }

    fn is_wanted(&self, target: &Target) -> bool {
        is_mirrored(&self.site.config.app, target) && !target.is_incidental()
    }

    fn note_linked(&mut self, target: &Target) {
        if target.query().is_some() {
            // It is one of the site's own from before it is fetched.
            self.edge.store.note_linked(self.site.name(), target);
            self.linked.insert(target.clone());
        }
    }

    /// What the source knows of its pages beyond what they link to.
    async fn listed(&self) -> Vec<Known> {
        match &self.site.upstream {
            Upstream::Service(_) | Upstream::Maintained => Vec::new(),
            Upstream::Folder(folder) => {
                let folder = folder.clone();
                let files = tokio::task::spawn_blocking(move || folder.list()).await;
                files.ok().and_then(Result::ok).unwrap_or_default()
            }
            Upstream::Link(edges) => {
                let Ok(response) = edges.send(peers::question_for_list(self.site)).await else { return Vec::new() };
                let (parts, body) = response.into_parts();
                let listed = Limited::new(body, LONGEST_LIST).collect().await;
                listed.ok().and_then(|list| known::decode(&parts.headers, &list.to_bytes())).unwrap_or_default()
            }
        }
    }

    /// Before anything is fetched: what a smaller budget has no room for goes, and what is to come is known.
    async fn make_room(&self, mut listed: Vec<Known>) {
        listed.retain(|known| self.is_wanted(&known.target));
        let (store, name) = (self.edge.store.clone(), self.site.name().clone());
        let settled = tokio::task::spawn_blocking(move || {
            store.note_known(&name, listed);
            store.settle_room(&name)
        });
        if let Ok(Err(error)) = settled.await {
            warn!(site = %self.site.name(), %error, "the store cannot make room");
        }
    }

    /// Removes what the primary's edge says is gone.
    async fn remove_told(&self) {
        let news = &self.site.standing.news;
        if !news.is_told_gone() {
            return;
        }
        let kept = self.edge.store.stats(self.site.name()).kept;
        let (gone, held) = news.take_gone(kept);
        if held > 0 {
            warn!(site = %self.site.name(), held, kept, "too many pages are said to be gone: they are still served");
        }
        if !gone.is_empty() {
            self.remove(gone).await;
        }
    }

    async fn remove(&self, targets: Vec<Target>) {
        let (store, name) = (self.edge.store.clone(), self.site.name().clone());
        let removed = tokio::task::spawn_blocking(move || {
            for target in &targets {
                let first = Key::new(name.clone(), target.clone());
                for variant in 0..=Key::MOST_VARIANTS {
                    store.remove(&first.variant(variant))?;
                }
            }
            store.sync().map(|()| targets)
        });
        match removed.await {
            Ok(Ok(removed)) => {
                for target in &removed {
                    self.site.standing.forgive(target);
                    self.edge.page_gone(self.site, target);
                }
            }
            Ok(Err(error)) => warn!(%error, "the store cannot be brought up to date"),
            Err(_) => {}
        }
    }

    /// Removes what is gone, unless that is too much at once; how many were removed, and how many are held back.
    async fn remove_gone(&mut self, accepted: bool) -> (usize, usize) {
        let gone = std::mem::take(&mut self.gone);
        let kept = self.edge.store.stats(self.site.name()).kept;
        let too_many = gone.len() > ALWAYS_REMOVED && gone.len() * 10 > kept;
        if too_many && !accepted {
            warn!(site = %self.site.name(), held = gone.len(), kept, "too many pages are gone at once: they are still served");
            return (0, gone.len());
        }
        let removed = gone.len();
        if removed > 0 {
            self.remove(gone).await;
        }
        (removed, 0)
    }

    async fn end_round(&mut self) {
        let (removed, held) = self.remove_gone(false).await;
        info!(
            site = %self.site.name(), looked_at = self.done, failed = self.failed, removed, held,
            milliseconds = self.begun.elapsed().as_millis(), "what is new has been fetched"
        );
    }

    async fn end(mut self, changes: u64) -> LastPass {
        let standing = &self.site.standing;
        let stopped = standing.source_is_away();
        let accepted = standing.take_accepted_removals();
        let change = self.reason == PassReason::Change || accepted;
        let sure = &self.sure;
        self.gone.retain(|target| standing.strike(target) >= 2 || change || sure.contains(target));
        let (removed, held) = self.remove_gone(accepted).await;
        let complete = self.failed == 0 && !stopped;
        let known = self.seen.len() - self.absent;
        if complete {
            self.settle_store().await;
            self.settle_links(changes);
        }
        let last = LastPass {
            reason: self.reason,
            finished_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            known,
            failed: self.failed,
            left_out: self.edge.store.account(self.site.name()).left_out,
            removed,
            held,
            complete,
        };
        info!(
            site = %self.site.name(), reason = ?last.reason, known = last.known, failed = last.failed,
            left_out = last.left_out, removed, milliseconds = last.duration_ms, complete = last.complete, "a pass has ended"
        );
        last
    }

    /// Everything was looked at: what belongs to the site is known, and what is read there is remembered.
    async fn settle_store(&mut self) {
        let (store, name) = (self.edge.store.clone(), self.site.name().clone());
        let (linked, seen) = (std::mem::take(&mut self.linked), std::mem::take(&mut self.seen));
        let settled = tokio::task::spawn_blocking(move || {
            store.settle_linked(&name, linked)?;
            store.settle_known(&name, &seen);
            if store.lets_go(&name) {
                store.remember_reads(&name)?;
            }
            store.sync()
        });
        if let Ok(Err(error)) = settled.await {
            warn!(%error, "the store cannot be brought up to date");
        }
    }

    /// From now on it is known what links to what. (A change marks pages first, is counted next, and makes this void
    /// last: what is settled here too late is void at once.)
    fn settle_links(&self, changes: u64) {
        if !self.site.upstream.is_local() || self.site.standing.is_private() {
            return;
        }
        let name = self.site.name();
        let kept: HashSet<Target> = self.edge.store.targets(name, |_| true).into_iter().collect();
        let mut links = self.site.standing.news.links();
        if self.site.standing.changes() == changes {
            links.settle(|target| kept.contains(target));
        }
    }
}
