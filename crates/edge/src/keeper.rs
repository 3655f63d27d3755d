//! The keeper of a site: sees to it that every page is kept, and kept fresh, without any reader asking.
//!
//! ```text
//!            ┌──────────── a change, a request, the source is back ─────────────┐
//!            ▼                                                                  │
//!  pass: seeds ─▶ pages they link to ─▶ ... ─▶ all pages kept so far ─▶ ended ─▶ wait (sweep, or retry)
//! ```
//!
//! A pass asks for a page only when its copy is not fresh or the source was away, and conditionally. The front page and
//! what it lists come first, media last: what has no room for all is to have its pages. The source is asked by at most a few questions at a time: an application with one thread
//! has readers too.
//!
//! Promise: a page is removed only when the source said that it is gone, twice, or once after it said that the site
//! changed; and a pass that would remove more than a tenth of a site removes nothing and says so, because a broken
//! primary must not erase its mirrors.
//!
//! A mirror's keeper also listens for notices over the link to the primary's edge. Each time that link stands anew,
//! everything is checked, as notices may have been missed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use sovereign_model::edge_config::Source;
use sovereign_model::edge_status::{LastPass, PassReason, Progress};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::body::Body;
use crate::discover;
use crate::edge::Edge;
use crate::fetch::{Fetched, Flights, NotKept, away};
use crate::generation::{Generation, Site};
use crate::policy::{self, Use};
use crate::room::Kind;
use crate::route::{Key, Target, is_mirrored};
use crate::store::{Content, Entry, Known};
use crate::upstream::Upstream;
use crate::upstream::link::Link;
use crate::{known, peers, rename};

/// How often everything is looked at, changes or none: covers lost webhooks.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// After a pass that could not finish, the next begins after this long, doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Questions to an application at a time. Ghost renders on one thread: two keep it busy.
const TO_APPLICATION: usize = 2;
/// Questions over a link at a time: they wait for the line more than for the other side.
const OVER_LINK: usize = 8;
/// Removals that are never held back: unpublishing a post takes its page and perhaps those of its tags.
const ALWAYS_REMOVED: usize = 3;
/// Texts longer than this are not searched for links.
const LONGEST_SEARCHED: u64 = 8 << 20;
/// A list of all pages: 200 bytes each, 100,000 pages.
const LONGEST_LIST: usize = 20 << 20;
/// Pages of one site at most, so that a calendar of endless links does not fill the disk.
const MOST_PAGES: usize = 200_000;

/// Starts the keepers of all sites of `generation`; they end with `token`.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Generation, token: &CancellationToken) {
    for site in generation.sites.values() {
        let (edge, site, token) = (edge.clone(), site.clone(), token.clone());
        tokio::spawn(async move { token.run_until_cancelled(keep(&edge, &site)).await });
    }
    for (datacenter, link) in &generation.links {
        let from_there =
            |site: &&Arc<Site>| matches!(&site.config.source, Source::Link(source) if source == datacenter);
        let sites: Vec<_> = generation.sites.values().filter(from_there).cloned().collect();
        if !sites.is_empty() {
            let (edge, link, token) = (edge.clone(), link.clone(), token.clone());
            tokio::spawn(async move { token.run_until_cancelled(listen(&edge, &link, &sites)).await });
        }
    }
}

/// Whether a page may be another one after the site changed: texts are; images, fonts and versioned files are not.
pub(crate) fn changes_with_the_site(entry: &Entry) -> bool {
    if entry.key().target.is_versioned() {
        return false;
    }
    let fields = entry.fields();
    let Some(kind) = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return true };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/") || kind.ends_with("xml") || kind.ends_with("json")
}

/// Listens for notices of changes over a link, for as long as there is a link.
async fn listen(edge: &Arc<Edge>, link: &Arc<Link>, sites: &[Arc<Site>]) {
    let mut retry = FIRST_RETRY;
    loop {
        match link.send(peers::question_for_changes()).await {
            Ok(response) if response.status() == StatusCode::OK => {
                retry = FIRST_RETRY;
                notices(edge, response.into_body(), sites).await;
            }
            Ok(response) => debug!(status = %response.status(), "a peer gives no notices"),
            Err(error) => {
                debug!(error = %error.in_full(), "a peer cannot be listened to");
                if error.is_absence() {
                    sites.iter().for_each(|site| away(site, &error));
                }
            }
        }
        // A peer that we cannot dial lends us a connection.
        let _ = tokio::time::timeout(retry, link.lent()).await;
        retry = LONGEST_RETRY.min(retry * 2);
    }
}

async fn notices(edge: &Arc<Edge>, mut body: Body, sites: &[Arc<Site>]) {
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let name = line.trim_ascii();
            // The empty line opens the stream: whatever happened before it may have been missed.
            for site in sites.iter().filter(|site| name.is_empty() || site.name().as_str().as_bytes() == name) {
                edge.site_changed(site);
            }
        }
        if pending.len() > 256 {
            return;
        }
    }
}

async fn keep(edge: &Arc<Edge>, site: &Arc<Site>) {
    let mut reason = PassReason::Fill;
    let mut retry = FIRST_RETRY;
    loop {
        let changes = site.standing.changes();
        let last = Pass::new(edge, site, reason).run(changes).await;
        let finished = last.is_some();
        let complete = last.as_ref().is_some_and(|last| last.complete);
        site.standing.finish_pass(last);
        if !finished {
            reason = PassReason::Change;
            continue;
        }
        // A source on trial is asked until it is known to be well.
        let complete = complete && !site.standing.source_is_doubtful();
        let pause = if complete { SWEEP_EVERY } else { retry };
        retry = if complete { FIRST_RETRY } else { LONGEST_RETRY.min(retry * 2) };
        reason = match tokio::time::timeout(pause, woken(site, changes)).await {
            Ok(reason) => reason,
            Err(_) if complete => PassReason::Sweep,
            Err(_) => PassReason::Fill,
        };
    }
}

/// Waits for something to do. `changes`: as many were seen to by the last pass.
async fn woken(site: &Site, changes: u64) -> PassReason {
    loop {
        if site.standing.changes() != changes {
            return PassReason::Change;
        }
        if site.standing.take_request() {
            return PassReason::Fill;
        }
        let away = site.standing.source_is_away();
        site.standing.woken().await;
        if away && !site.standing.source_is_away() {
            return PassReason::Fill;
        }
    }
}

/// One pass over all pages of a site.
struct Pass<'a> {
    edge: &'a Arc<Edge>,
    site: &'a Arc<Site>,
    reason: PassReason,
    begun: Instant,
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
    done: usize,
    /// Looked for, but there is no such page: seeds that the site does not have, dead links.
    absent: usize,
    failed: usize,
}

/// What came of looking at a page.
enum Seen {
    /// Its copy is good; these are the pages it names.
    Kept(Vec<Target>),
    /// There is a copy, but the source no longer has the page for everybody.
    Gone,
    /// There is none and need not be.
    Nothing,
    /// There is no room for it; these are the pages that an older copy names.
    LeftOut(Vec<Target>),
    Failed,
}

impl<'a> Pass<'a> {
    fn new(edge: &'a Arc<Edge>, site: &'a Arc<Site>, reason: PassReason) -> Self {
        Self {
            edge,
            site,
            reason,
            begun: Instant::now(),
            queue: VecDeque::new(),
            last: VecDeque::new(),
            media: VecDeque::new(),
            seen: HashSet::new(),
            linked: HashSet::new(),
            gone: Vec::new(),
            done: 0,
            absent: 0,
            failed: 0,
        }
    }

    /// Runs; `None` when the site changed meanwhile (more often than `changes`): the next pass begins at once.
    async fn run(mut self, changes: u64) -> Option<LastPass> {
        self.enqueue(discover::seeds(&self.site.config.app));
        let kept = self.edge.store.keys(self.site.name());
        self.last.extend(kept.into_iter().map(|key| key.target).filter(|target| target.query().is_none()));
        let listed = self.listed().await;
        self.last.extend(listed.iter().map(|known| known.target.clone()));
        self.make_room(listed).await;
        let at_once = if self.site.upstream.is_local() { TO_APPLICATION } else { OVER_LINK };
        let mut looking = JoinSet::new();
        loop {
            while looking.len() < at_once
                && let Some(target) = self.next()
            {
                let (edge, site) = (self.edge.clone(), self.site.clone());
                looking.spawn(async move {
                    let seen = look(&edge, &site, &target).await;
                    (target, seen)
                });
            }
            let Some(looked) = looking.join_next().await else { break };
            // A look that panicked counts as failed.
            let Ok((target, seen)) = looked else {
                self.failed += 1;
                continue;
            };
            self.note(target, seen);
            if self.site.standing.changes() != changes {
                return None;
            }
            if self.site.standing.source_is_away() || self.site.standing.is_private() {
                break;
            }
        }
        Some(self.end().await)
    }

    fn note(&mut self, target: Target, seen: Seen) {
        self.done += 1;
        match seen {
            Seen::Kept(links) => {
                self.site.standing.forgive(&target);
                self.enqueue(links);
            }
            Seen::Gone => self.gone.push(target),
            Seen::Nothing => {
                self.absent += 1;
                self.edge.store.forget_known(&Key::new(self.site.name().clone(), target));
            }
            // The store counts what is left out: more may come while others need the room.
            Seen::LeftOut(links) => self.enqueue(links),
            Seen::Failed => self.failed += 1,
        }
        let progress = Progress {
            reason: self.reason,
            done: self.done - self.absent,
            known: self.seen.len() - self.absent,
            failed: self.failed,
        };
        self.site.standing.report_progress(progress);
    }

    fn enqueue(&mut self, targets: impl IntoIterator<Item = Target>) {
        for target in targets {
            let wanted = is_mirrored(&self.site.config.app, &target) && !target.is_incidental();
            if wanted && self.seen.len() < MOST_PAGES && self.seen.insert(target.clone()) {
                if target.query().is_some() {
                    // It is one of the site's own from before it is fetched.
                    self.edge.store.note_linked(self.site.name(), &target);
                    self.linked.insert(target.clone());
                }
                match known::guess(&target) {
                    Kind::Page => self.queue.push_back(target),
                    Kind::Media => self.media.push_back(target),
                }
            }
        }
    }

    fn next(&mut self) -> Option<Target> {
        loop {
            if let Some(target) = self.queue.pop_front() {
                return Some(target);
            }
            let Some(target) = self.last.pop_front() else { return self.media.pop_front() };
            self.enqueue([target]);
        }
    }

    /// What the source knows of its pages beyond what they link to.
    async fn listed(&self) -> Vec<Known> {
        match &self.site.upstream {
            Upstream::Service(_) => Vec::new(),
            Upstream::Folder(folder) => {
                let folder = folder.clone();
                let files = tokio::task::spawn_blocking(move || folder.list()).await;
                files.ok().and_then(Result::ok).unwrap_or_default()
            }
            Upstream::Link(link) => {
                let Ok(response) = link.send(peers::question_for_list(self.site)).await else { return Vec::new() };
                let (parts, body) = response.into_parts();
                let listed = Limited::new(body, LONGEST_LIST).collect().await;
                listed.ok().and_then(|list| known::decode(&parts.headers, &list.to_bytes())).unwrap_or_default()
            }
        }
    }

    /// Before anything is fetched: what a smaller budget has no room for goes, and what is to come is known.
    async fn make_room(&self, mut listed: Vec<Known>) {
        let app = &self.site.config.app;
        listed.retain(|known| is_mirrored(app, &known.target) && !known.target.is_incidental());
        let (store, name) = (self.edge.store.clone(), self.site.name().clone());
        let settled = tokio::task::spawn_blocking(move || {
            store.note_known(&name, listed);
            store.settle_room(&name)
        });
        if let Ok(Err(error)) = settled.await {
            warn!(site = %self.site.name(), %error, "the store cannot make room");
        }
    }

    async fn end(mut self) -> LastPass {
        let standing = &self.site.standing;
        let stopped = standing.source_is_away();
        let accepted = standing.take_accepted_removals();
        let sure = self.reason == PassReason::Change || accepted;
        self.gone.retain(|target| standing.strike(target) >= 2 || sure);
        let kept = self.edge.store.stats(self.site.name()).kept;
        let too_many = self.gone.len() > ALWAYS_REMOVED && self.gone.len() * 10 > kept;
        let (remove, held) = if too_many && !accepted { (Vec::new(), self.gone.len()) } else { (self.gone, 0) };
        if held > 0 {
            warn!(site = %self.site.name(), held, kept, "too many pages are gone at once: they are still served");
        }
        let (removed, known) = (remove.len(), self.seen.len() - self.absent);
        let complete = self.failed == 0 && !stopped;
        let linked = complete.then_some(self.linked);
        let (store, name) = (self.edge.store.clone(), self.site.name().clone());
        let seen = (self.failed == 0 && !stopped).then_some(self.seen);
        let cleaned = tokio::task::spawn_blocking(move || {
            for target in &remove {
                let first = Key::new(name.clone(), target.clone());
                for variant in 0..=Key::MOST_VARIANTS {
                    store.remove(&first.variant(variant))?;
                }
            }
            linked.map_or(Ok(()), |linked| store.settle_linked(&name, linked))?;
            if let Some(seen) = seen {
                store.settle_known(&name, &seen);
            }
            if store.lets_go(&name) {
                store.remember_reads(&name)?;
            }
            store.sync().map(|()| remove)
        });
        match cleaned.await {
            Ok(Ok(removed)) => removed.iter().for_each(|target| standing.forgive(target)),
            Ok(Err(error)) => warn!(%error, "the store cannot be brought up to date"),
            Err(_) => {}
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
}

async fn look(edge: &Arc<Edge>, site: &Arc<Site>, target: &Target) -> Seen {
    let key = Key::new(site.name().clone(), target.clone());
    // That a copy is fresh says nothing of a source that was away: only a question tells whether it is back.
    if !site.standing.source_is_doubtful()
        && let Some(entry) = edge.store.get(&key)
        && policy::judge(&entry.terms(), entry.is_stale(), SystemTime::now(), true) == Use::Fresh
    {
        return Seen::Kept(links(edge, site, &entry).await);
    }
    if edge.store.passes_over(&key) {
        return left_out(edge, site, &key).await;
    }
    let seen = fetch(edge, site, &key).await;
    edge.store.expects_no_more(&key);
    seen
}

async fn fetch(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key) -> Seen {
    let (mut fetched, collapsed) = Flights::fetch(edge, site, key, None).await;
    if collapsed && matches!(&fetched, Fetched::Kept { entry, .. } if entry.is_stale()) {
        // That question was begun by somebody else before the site changed.
        fetched = Flights::fetch(edge, site, key, None).await.0;
    }
    match fetched {
        Fetched::Kept { entry, .. } => Seen::Kept(links(edge, site, &entry).await),
        // Not given to those who wait to the end.
        Fetched::Coming(_) => Seen::Kept(Vec::new()),
        Fetched::Unkept(unkept) if unkept.why == NotKept::NoRoom => left_out(edge, site, key).await,
        // What is kept of it so far still is the site's page.
        Fetched::Unkept(unkept) if unkept.why == NotKept::Disk => Seen::Failed,
        Fetched::Unkept(_) if edge.store.get(key).is_some() => Seen::Gone,
        Fetched::Unkept(_) => Seen::Nothing,
        Fetched::Failed(_) => Seen::Failed,
    }
}

async fn left_out(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key) -> Seen {
    match edge.store.get(key) {
        Some(older) => Seen::LeftOut(links(edge, site, &older).await),
        None => Seen::LeftOut(Vec::new()),
    }
}

/// The pages of the same site that a page names.
async fn links(edge: &Arc<Edge>, site: &Arc<Site>, entry: &Arc<Entry>) -> Vec<Target> {
    let fields = entry.fields();
    let canonical = &site.config.canonical;
    if let Some(location) = fields.get(header::LOCATION).and_then(|location| location.to_str().ok()) {
        let here = location.starts_with('/') || location.starts_with(&canonical.to_string());
        return here.then(|| Target::parse(rename::path_of(location)).ok()).flatten().into_iter().collect();
    }
    let Some(kind) = discover::Kind::of(&fields).filter(|_| entry.length() <= LONGEST_SEARCHED) else {
        return Vec::new();
    };
    let (store, entry, site) = (edge.store.clone(), entry.clone(), site.clone());
    let search = move || {
        let bytes = match store.glance(&entry) {
            Ok(Content::Memory(bytes)) => bytes,
            Ok(Content::File(file)) => {
                let length = usize::try_from(file.length()).unwrap_or(usize::MAX);
                file.read_at(0, length).unwrap_or_default()
            }
            Err(_) => return Vec::new(),
        };
        discover::links(kind, &entry.key().target, &site.config.canonical, &site.config.app, &bytes)
    };
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}
