//! Looking at one page: is there a good copy, and what does it link to?

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{StatusCode, header};

use super::changes_with_the_site;
use crate::discover;
use crate::edge::Edge;
use crate::fetch::{Fetched, Flights, NotKept};
use crate::generation::Site;
use crate::policy::{self, Use};
use crate::rename;
use crate::route::{Key, Target};
use crate::store::{Content, Entry};

/// Texts longer than this are not searched for links.
const LONGEST_SEARCHED: u64 = 8 << 20;

/// What came of looking at a page.
pub(super) enum Seen {
    /// Its copy is good; these are the pages it names.
    Kept(Vec<Target>),
    /// There is a copy, but the source no longer has the page for everybody; whether it said that there is none.
    Gone {
        absent: bool,
    },
    /// There is none and need not be.
    Nothing,
    /// There is no room for it; these are the pages that an older copy names.
    LeftOut(Vec<Target>),
    Failed,
}

/// A page that was looked at.
pub(super) struct Looked {
    pub(super) seen: Seen,
    /// How long the source took, if it was asked.
    pub(super) took: Option<Duration>,
}

/// Whether the copy of a page is good as it is. One that was not confirmed after `since` is not.
fn is_good(site: &Site, entry: &Entry, since: Option<SystemTime>) -> bool {
    // That a copy is fresh says nothing of a source that was away: only a question tells whether it is back.
    !site.standing.source_is_doubtful()
        && policy::judge(&entry.terms(), entry.is_stale(), SystemTime::now(), || true) == Use::Fresh
        && !(since.is_some_and(|since| entry.terms().fetched <= since) && changes_with_the_site(entry))
}

/// Whether the source will be asked only to be sure: nobody said that this is another page now.
pub(super) fn is_routine(edge: &Edge, site: &Site, target: &Target, since: Option<SystemTime>) -> bool {
    let entry = edge.store.get(&Key::new(site.name().clone(), target.clone()));
    entry.is_none_or(|entry| !entry.is_stale() && !is_good(site, &entry, since))
}

pub(super) async fn look(edge: &Arc<Edge>, site: &Arc<Site>, target: &Target, since: Option<SystemTime>) -> Looked {
    let key = Key::new(site.name().clone(), target.clone());
    if let Some(entry) = edge.store.get(&key).filter(|entry| is_good(site, entry, since)) {
        return Looked { seen: Seen::Kept(links(edge, site, &entry).await), took: None };
    }
    if edge.store.passes_over(&key) {
        return Looked { seen: left_out(edge, site, &key).await, took: None };
    }
    let began = Instant::now();
    let seen = fetch(edge, site, &key, since).await;
    edge.store.expects_no_more(&key);
    Looked { seen, took: Some(began.elapsed()) }
}

async fn fetch(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key, since: Option<SystemTime>) -> Seen {
    let good = |entry: &Entry| is_good(site, entry, since);
    let (mut fetched, collapsed) = Flights::fetch(edge, site, key, None, good).await;
    if collapsed && matches!(&fetched, Fetched::Kept { entry, .. } if entry.is_stale()) {
        // That question was begun by somebody else before the site changed.
        fetched = Flights::fetch(edge, site, key, None, good).await.0;
    }
    match fetched {
        Fetched::Kept { entry, .. } => Seen::Kept(links(edge, site, &entry).await),
        // Not given to those who wait to the end.
        Fetched::Coming(_) => Seen::Kept(Vec::new()),
        Fetched::Unkept(answer) if answer.why == NotKept::NoRoom => left_out(edge, site, key).await,
        // What is kept of it so far still is the site's page.
        Fetched::Unkept(answer) if answer.why == NotKept::Disk => Seen::Failed,
        Fetched::Unkept(answer) if edge.store.get(key).is_some() => {
            Seen::Gone { absent: matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) }
        }
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

/// The pages of the same site that a page names. At the primary they are remembered, for the next change.
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
        let (page, canonical) = (&entry.key().target, &site.config.canonical);
        let links = discover::links(kind, page, canonical, &site.config.app, &bytes);
        if site.upstream.is_local() {
            let mut known = site.standing.news.links();
            known.record(page, &links);
            if kind == discover::Kind::Xml && page.path().ends_with("/rss/") {
                known.record_feed(page, discover::first_entry(page, canonical, &bytes));
            }
        }
        links
    };
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}
