//! The read path: pages everybody gets.
//!
//! | the store has it | and the source | the reader gets |
//! |---|---|---|
//! | fresh | | it |
//! | stale by time | may be asked | it; it is fetched again behind |
//! | stale, the site changed | may be asked | the new one if that comes within [`PATIENCE`], else it |
//! | stale | is away | it, marked |
//! | no | answers | the answer; one question however many readers wait |
//! | no, no room for it | answers | the answer, passed through; part of it when part was asked for |
//! | no | is away | the page without its query if that is kept, else a 503 that says what works |
//!
//! An author who has just published sees the new page, and a reader never waits long for an application that hangs.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_LENGTH, DATE, HeaderValue, RANGE};
use http::{HeaderMap, Method, Response, StatusCode};
use sovereign_model::edge_config::EdgeApp;
use tracing::debug;

use crate::body::{Body, FileBody};
use crate::coming::Coming;
use crate::edge::Edge;
use crate::fetch::{self, Fetched, Flights, Said};
use crate::generation::Site;
use crate::pages::Lacking;
use crate::policy::{self, CACHE_STATUS, CacheStatus, Span, Subject, Use, Why};
use crate::rename;
use crate::rewrite::{self, Rewriter};
use crate::room::Stamp;
use crate::route::{Key, Route};
use crate::store::{Awake, BodyFile, Content, Entry};
use crate::upstream::UpstreamError;
use crate::{live, pages, peers};

/// How long a reader of a page that has just changed waits for the new one.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a mirror waits for it: it would only ask again.
const PEER_PATIENCE: Duration = Duration::from_secs(30);

/// How often a page is looked up that is replaced before its file is open.
const MOST_TRIES: u32 = 4;

/// A request for a page.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) fields: &'a HeaderMap,
    pub(crate) route: &'a Route,
    pub(crate) reader: IpAddr,
    /// Another edge, which is to get what the source says now.
    pub(crate) peer: bool,
}

/// The answer to a request of class read that needs nothing but memory: the page is awake and may be used as it is. This
/// is the way of nearly all requests, so it is a plain function: no task waits for it, no future is made and moved about.
/// What it gives is what [`answer`] would give.
pub(crate) fn at_once(
    edge: &Edge,
    site: &Site,
    key: &Key,
    asked: &Asked<'_>,
    now: SystemTime,
) -> Option<Response<Body>> {
    if site.standing.is_private() {
        return None;
    }
    let entry = edge.store.get(key).filter(|entry| entry.selection().is_empty())?;
    let terms = entry.terms();
    let ttl = terms.ttl(now);
    let stale = may_be_another(site, &entry);
    let status = match policy::judge(&terms, stale, now, || site.standing.source_reachable()) {
        Use::Fresh => CacheStatus::Hit { ttl },
        Use::ServeStale => CacheStatus::SourceAway { ttl, status: None },
        Use::ServeAndRefresh | Use::Confirm => return None,
    };
    Some(compose(site, &entry, Held::Awake(entry.awake()?), status, asked, now))
}

/// Answers a request of class read.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    fallback: Option<&Key>,
    asked: &Asked<'_>,
) -> Response<Body> {
    if site.standing.is_private() {
        return pass(edge, site, asked).await;
    }
    // A page may be replaced between looking it up and opening its file.
    for _ in 0..MOST_TRIES {
        let Some(entry) = edge.store.get(key) else { break };
        let entry = if entry.selection().is_empty() {
            entry
        } else {
            let Some(entry) = edge.store.select(key, &said(site, asked).unwrap_or_default()) else { break };
            entry
        };
        if let Some(response) = from_store(edge, site, key, entry, asked).await {
            return response;
        }
    }
    miss(edge, site, key, fallback, asked).await
}

/// What an edge beside the source's has for another edge.
pub(crate) enum Beside {
    /// What the source says now.
    Asked(Response<Body>),
    /// A kept page: the source cannot be asked.
    Kept(Response<Body>),
}

/// Answers another edge at one that stands beside the source's. Where it may (`ask`) it asks for itself, not with others:
/// what was asked for before the site changed, and is not known here to have, would be taken for new there.
pub(crate) async fn beside(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    asked: &Asked<'_>,
    ask: bool,
) -> Option<Beside> {
    if ask && (site.standing.is_private() || site.standing.source_reachable()) {
        match fetch::ask_now(edge, site, key, said(site, asked)).await {
            Fetched::Kept { entry, status } => {
                let status =
                    CacheStatus::Forwarded { why: Why::Stale, status: Some(status), stored: true, collapsed: false };
                return present_kept(edge, site, &entry, status, asked).await.map(Beside::Asked);
            }
            Fetched::Unkept(answer) => {
                let response = answer.take()?;
                return Some(Beside::Asked(deliver(edge, site, response, Why::Stale, asked)));
            }
            Fetched::Failed(error)
                if let Some(status) = status_of(&error).filter(|_| !site.standing.source_is_away()) =>
            {
                return Some(Beside::Asked(failed(status)));
            }
            Fetched::Coming(coming) => {
                let status = CacheStatus::Forwarded {
                    why: Why::Stale,
                    status: Some(coming.status),
                    stored: true,
                    collapsed: false,
                };
                let body = coming.body()?;
                return Some(Beside::Asked(stream(site, &coming, body, status, asked)));
            }
            Fetched::Failed(_) => {}
        }
    }
    if site.standing.is_private() {
        return None;
    }
    let entry = edge.store.select(key, &said(site, asked).unwrap_or_default())?;
    let away = CacheStatus::SourceAway { ttl: entry.terms().ttl(SystemTime::now()), status: None };
    present(edge, site, &entry, away, asked).await.map(Beside::Kept)
}

/// The answer from a kept page; `None` when its file turns out unusable, or the source no longer has it for everybody.
async fn from_store(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    entry: Arc<Entry>,
    asked: &Asked<'_>,
) -> Option<Response<Body>> {
    let now = SystemTime::now();
    let terms = entry.terms();
    let hit = CacheStatus::Hit { ttl: terms.ttl(now) };
    // Where a site does not tell when it changes, an answer that asks to be confirmed is confirmed, however long it takes.
    let patience = if asked.peer || by_book(site) { PEER_PATIENCE } else { PATIENCE };
    let stale = may_be_another(site, &entry);
    match policy::judge(&terms, stale, now, || site.standing.source_reachable()) {
        Use::Fresh => present(edge, site, &entry, hit, asked).await,
        // What is not known to have changed is ours to look at, in our own time: an application that renders on one
        // thread would otherwise render once for every mirror.
        Use::ServeAndRefresh if !stale && asked.peer && matches!(site.config.app, EdgeApp::Ghost) => {
            present(edge, site, &entry, hit, asked).await
        }
        Use::ServeAndRefresh if !stale && !asked.peer => {
            Flights::fetch_behind(edge, site, key, said(site, asked), |entry| is_fresh(site, entry));
            present(edge, site, &entry, hit, asked).await
        }
        Use::ServeAndRefresh | Use::Confirm => {
            let fetching = Flights::fetch(edge, site, key, said(site, asked), |entry| is_fresh(site, entry));
            match tokio::time::timeout(patience, fetching).await {
                Ok((Fetched::Kept { entry, status }, collapsed)) => {
                    let status =
                        CacheStatus::Forwarded { why: Why::Stale, status: Some(status), stored: true, collapsed };
                    present(edge, site, &entry, status, asked).await
                }
                Ok((Fetched::Failed(error), _)) => {
                    let away = CacheStatus::SourceAway { ttl: terms.ttl(now), status: status_of(&error) };
                    present(edge, site, &entry, away, asked).await
                }
                Ok((Fetched::Coming(coming), _)) => coming.body().map(|body| stream(site, &coming, body, hit, asked)),
                Ok((Fetched::Unkept(answer), _)) => {
                    // Not for everybody any more: what is kept must not be shown for longer.
                    debug!(site = %site.name(), status = %answer.status, "a kept page is no longer for everybody");
                    answer.take().map(|response| deliver(edge, site, response, Why::Stale, asked))
                }
                Err(_) => present(edge, site, &entry, hit, asked).await,
            }
        }
        Use::ServeStale => {
            let away = CacheStatus::SourceAway { ttl: terms.ttl(now), status: None };
            present(edge, site, &entry, away, asked).await
        }
    }
}

/// Whether the site has changed since a page was kept, or may have.
fn may_be_another(site: &Site, entry: &Entry) -> bool {
    entry.is_stale() || site.standing.news.doubts(entry)
}

/// Whether a kept page needs no question.
fn is_fresh(site: &Site, entry: &Entry) -> bool {
    policy::judge(&entry.terms(), may_be_another(site, entry), SystemTime::now(), || site.standing.source_reachable())
        == Use::Fresh
}

fn by_book(site: &Site) -> bool {
    matches!(site.config.app, EdgeApp::Upstream(_))
}

/// What of the request the source may see, under the site's own name.
fn said(site: &Site, asked: &Asked<'_>) -> Said {
    by_book(site).then(|| {
        let mut fields = policy::forwarded_fields(asked.fields);
        peers::remove_claims(&mut fields);
        if asked.route.rewritten() {
            Rewriter::new(&asked.route.origin, &site.config.canonical).request_fields(&mut fields);
        }
        Arc::new(fields)
    })
}

async fn miss(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    fallback: Option<&Key>,
    asked: &Asked<'_>,
) -> Response<Body> {
    if !asked.peer {
        edge.store.note_wanted(key, Stamp::at(SystemTime::now()));
        // Nobody seeks in a film by taking it whole, and this one is not kept.
        if asked.fields.contains_key(RANGE) && edge.store.is_left_out(key) {
            return pass(edge, site, asked).await;
        }
    }
    let fetching = Flights::fetch_now(edge, site, key, said(site, asked), |entry| is_fresh(site, entry));
    let (fetched, collapsed) = fetching.await;
    let error = match fetched {
        Fetched::Kept { entry, status } => {
            let status = CacheStatus::Forwarded { why: Why::UriMiss, status: Some(status), stored: true, collapsed };
            let presented = present_kept(edge, site, &entry, status, asked).await;
            return presented.unwrap_or_else(|| pages::source_away(site.absence(), asked.fields, Lacking::Page));
        }
        Fetched::Coming(coming) if let Some(body) = coming.body() => {
            let status =
                CacheStatus::Forwarded { why: Why::UriMiss, status: Some(coming.status), stored: true, collapsed };
            return stream(site, &coming, body, status, asked);
        }
        Fetched::Unkept(answer) if let Some(response) = answer.take() => {
            return deliver(edge, site, response, Why::UriMiss, asked);
        }
        // Somebody else's, or too late to join: this reader asks for itself.
        Fetched::Unkept(_) | Fetched::Coming(_) => match fetch::ask(edge, site, key, said(site, asked)).await {
            Fetched::Unkept(answer) if let Some(response) = answer.take() => {
                return deliver(edge, site, response, Why::UriMiss, asked);
            }
            Fetched::Kept { entry, status } => {
                let status =
                    CacheStatus::Forwarded { why: Why::UriMiss, status: Some(status), stored: true, collapsed };
                let presented = present_kept(edge, site, &entry, status, asked).await;
                return presented.unwrap_or_else(|| pages::source_away(site.absence(), asked.fields, Lacking::Page));
            }
            Fetched::Unkept(_) | Fetched::Coming(_) => {
                return pages::source_away(site.absence(), asked.fields, Lacking::Page);
            }
            Fetched::Failed(error) => error,
        },
        Fetched::Failed(error) => error,
    };
    let stand_in = fallback.and_then(|key| edge.store.get(key));
    if let Some(entry) = stand_in {
        let away = CacheStatus::SourceAway { ttl: entry.terms().ttl(SystemTime::now()), status: status_of(&error) };
        if let Some(response) = present(edge, site, &entry, away, asked).await {
            return response;
        }
    }
    match status_of(&error) {
        // The application is there and has failed; its own words may tell a stranger too much. What is no failure (that a
        // page is as it was, say, which nobody has) would be no answer to this request.
        Some(status) if !site.standing.source_is_away() => failed(status),
        _ => pages::source_away(site.absence(), asked.fields, Lacking::Page),
    }
}

/// The application is there and has failed.
fn failed(status: StatusCode) -> Response<Body> {
    let status = if status.is_server_error() { status } else { StatusCode::BAD_GATEWAY };
    pages::text(status, "The site could not make this page.")
}

/// Passes a read of a private site through: the password page, and pages for who has the password.
async fn pass(edge: &Arc<Edge>, site: &Arc<Site>, asked: &Asked<'_>) -> Response<Body> {
    let mut request = http::Request::new(Body::empty());
    *request.method_mut() = asked.method.clone();
    *request.headers_mut() = asked.fields.clone();
    *request.uri_mut() = asked.route.target.as_str().parse().expect("a target in canonical form is a URI");
    live::answer(edge, site, asked.route, request, asked.reader).await
}

fn status_of(error: &UpstreamError) -> Option<StatusCode> {
    match error {
        UpstreamError::Status(status) => Some(*status),
        _ => None,
    }
}

/// A long page as it comes: whole, since what was asked for of it may not be there yet.
fn stream(site: &Site, coming: &Coming, body: Body, status: CacheStatus, asked: &Asked<'_>) -> Response<Body> {
    let body = if asked.method == Method::HEAD { Body::empty() } else { body };
    let mut response = Response::new(body);
    *response.status_mut() = coming.status;
    *response.headers_mut() = coming.fields.clone();
    if let Some(length) = coming.length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.headers_mut().insert(CACHE_STATUS, status.value());
    match site.rewriter(asked.route) {
        Some(rewriter) => rename::response(&rewriter, response),
        None => response,
    }
}

/// Hands on an answer that is not kept.
fn deliver(edge: &Edge, site: &Site, response: Response<Body>, why: Why, asked: &Asked<'_>) -> Response<Body> {
    // It comes straight from the source, at the reader's pace.
    let Some(exchange) = edge.exchange(asked.reader) else { return pages::too_many_at_once() };
    let (mut parts, body) = response.map(|body| body.holding(exchange)).into_parts();
    policy::strip_hop_by_hop(&mut parts.headers);
    let status = CacheStatus::Forwarded { why, status: Some(parts.status), stored: false, collapsed: false };
    parts.headers.insert(CACHE_STATUS, status.value());
    let body = if asked.method == Method::HEAD { Body::empty() } else { body };
    let response = Response::from_parts(parts, body);
    match site.rewriter(asked.route) {
        Some(rewriter) => rename::response(&rewriter, response),
        None => response,
    }
}

/// An answer to a session, from the kept public page: the source is away.
pub(crate) async fn stand_in(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    asked: &Asked<'_>,
) -> Option<Response<Body>> {
    if site.standing.is_private() || !matches!(*asked.method, Method::GET | Method::HEAD) {
        return None;
    }
    let entry = edge.store.get(key)?;
    let away = CacheStatus::SourceAway { ttl: entry.terms().ttl(SystemTime::now()), status: None };
    let mut response = present(edge, site, &entry, away, asked).await?;
    // A browser must not keep the public page in place of this reader's own.
    response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// A kept page as the answer to this request; `None` when its file turns out unusable.
async fn present(
    edge: &Arc<Edge>,
    site: &Site,
    entry: &Arc<Entry>,
    status: CacheStatus,
    asked: &Asked<'_>,
) -> Option<Response<Body>> {
    let held = match entry.awake() {
        Some(awake) => Held::Awake(awake),
        None => Held::Content(load(edge, entry).await?),
    };
    Some(compose(site, entry, held, status, asked, SystemTime::now()))
}

/// A page that has just been kept, or what has taken its place since: the source's edge tells of it too, and the keeper
/// may have been faster.
async fn present_kept(
    edge: &Arc<Edge>,
    site: &Site,
    entry: &Arc<Entry>,
    status: CacheStatus,
    asked: &Asked<'_>,
) -> Option<Response<Body>> {
    let mut entry = entry.clone();
    for _ in 1..MOST_TRIES {
        if let Some(response) = present(edge, site, &entry, status, asked).await {
            return Some(response);
        }
        entry = edge.store.get(entry.key())?;
    }
    present(edge, site, &entry, status, asked).await
}

/// The answer with a page that is there.
fn compose(
    site: &Site,
    entry: &Entry,
    held: Held,
    status: CacheStatus,
    asked: &Asked<'_>,
    now: SystemTime,
) -> Response<Body> {
    let rewriter = site.rewriter(asked.route);
    let (made, ready);
    let (page, head) = match (held, &rewriter) {
        (Held::Awake(awake), None) => {
            ready = awake;
            (Page::Whole(ready.body.clone()), &ready.head)
        }
        (held, rewriter) => {
            let mut fields = entry.fields();
            let applies = rewriter.is_some() && rewrite::applies_to(&fields);
            let page = match (held.content(), rewriter) {
                (Content::Memory(bytes), Some(rewriter)) if applies => Page::Own(rewriter.whole(&bytes)),
                (Content::Memory(bytes), _) => Page::Whole(bytes),
                (Content::File(file), Some(rewriter)) if applies => Page::Rewritten(file, rewriter.clone()),
                (Content::File(file), _) => Page::File(file),
            };
            if let Some(rewriter) = rewriter {
                rewriter.response_fields(&mut fields, applies);
            }
            made = policy::whole(entry.status(), fields, page.length());
            (page, &made)
        }
    };
    let subject = Subject { status: entry.status(), fields: head, length: page.length() };
    let reply = policy::respond(asked.method, asked.fields, &subject);
    let body = match (reply.span, page) {
        (Span::Nothing, _) => Body::empty(),
        (Span::Whole, Page::Whole(bytes)) => Body::whole(bytes),
        (Span::Part(part), Page::Whole(bytes)) => Body::whole(cut(&bytes, part)),
        (Span::Whole, Page::Own(bytes)) => Body::own(bytes),
        (Span::Part(part), Page::Own(bytes)) => Body::own(cut(&bytes, part)),
        (Span::Whole, Page::File(file)) => stored(file, None),
        (Span::Part(part), Page::File(file)) => stored(file, Some(part)),
        (_, Page::Rewritten(file, rewriter)) => rename::body(&rewriter, stored(file, None)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.fields;
    match entry.date() {
        Some(date) => drop(response.headers_mut().insert(DATE, date)),
        // Dated when it is sent.
        None => drop(response.headers_mut().remove(DATE)),
    }
    if !asked.peer {
        entry.note_read(now);
    }
    let age = entry.terms().age(now).as_secs();
    response.headers_mut().insert(AGE, HeaderValue::from(age));
    response.headers_mut().insert(CACHE_STATUS, status.value());
    response
}

/// What there is of a page to answer with.
enum Held {
    /// Everything, ready.
    Awake(Arc<Awake>),
    /// Its body.
    Content(Content),
}

impl Held {
    fn content(self) -> Content {
        match self {
            Self::Awake(awake) => Content::Memory(awake.body.clone()),
            Self::Content(content) => content,
        }
    }
}

fn cut(bytes: &bytes::Bytes, part: Range<u64>) -> bytes::Bytes {
    let end = usize::try_from(part.end).unwrap_or(usize::MAX).min(bytes.len());
    let start = usize::try_from(part.start).unwrap_or(usize::MAX).min(end);
    bytes.slice(start..end)
}

enum Page {
    /// As it is kept, and shared by all.
    Whole(bytes::Bytes),
    /// Made for this reader.
    Own(bytes::Bytes),
    File(BodyFile),
    Rewritten(BodyFile, Rewriter),
}

impl Page {
    /// `None` while it is not known.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) | Self::Own(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.length()),
            Self::Rewritten(..) => None,
        }
    }
}

fn stored(file: BodyFile, part: Option<Range<u64>>) -> Body {
    let part = part.unwrap_or(0..file.length());
    Body::stream(FileBody::new(file, part))
}

/// The body; `None` when its file turns out unusable.
async fn load(edge: &Arc<Edge>, entry: &Arc<Entry>) -> Option<Content> {
    let (store, entry) = (edge.store.clone(), entry.clone());
    let loaded = tokio::task::spawn_blocking(move || {
        store.read(&entry).inspect_err(|error| tracing::warn!(%error, "a kept page cannot be read"))
    });
    loaded.await.ok()?.ok()
}
