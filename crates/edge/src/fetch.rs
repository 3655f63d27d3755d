//! Asking the source for a page everybody gets: one question at a time per page, however many wait for it.
//!
//! ```text
//!   reader, reader, keeper ──▶ Flights::fetch ──first──▶ ask the source ──▶ Kept      in the store now, for all
//!                                   └─others wait───────────────────────▶ Unkept    the answer is one asker's own
//!                                                                      └▶ Failed    no answer
//! ```
//!
//! The question runs in a task of its own: a reader who leaves does not end it for the others. What it learns about
//! the source (that it answers, that it is away, that the site is private) goes into the site's standing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Request, Response, StatusCode, header};
use sovereign_model::edge_config::EdgeApp;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::body::Body;
use crate::coming::Coming;
use crate::edge::Edge;
use crate::generation::Site;
use crate::health::Failure;
use crate::policy::{self, Exchange, NotStorable, Selection, Terms};
use crate::route::Key;
use crate::store::{Entry, Head, Ticket};
use crate::upstream::UpstreamError;
use crate::upstream::edges::SecondHand;
use crate::{arrival, peers, rename};

/// A page takes Ghost some 40 ms; one that takes this long is not coming.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Questions under way at most. One goes on when its reader has left, so a reader could begin more than an application
/// ever answers.
const MOST_FLIGHTS: usize = 4096;

/// What came of a question.
#[derive(Clone)]
pub(crate) enum Fetched {
    /// It is in the store; `status` is what the source answered (304: confirmed).
    Kept { entry: Arc<Entry>, status: StatusCode },
    /// It is long, and on its way into the store.
    Coming(Arc<Coming>),
    /// It is not for the store.
    Unkept(Arc<Unkept>),
    /// The source did not answer, or not with anything usable.
    Failed(Arc<UpstreamError>),
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// It is not for everybody.
    OneReaders,
    /// It is, but there is no room for it.
    NoRoom,
    /// It is, but the disk fails.
    Disk,
}

/// An answer that is not kept.
pub(crate) struct Unkept {
    pub(crate) status: StatusCode,
    pub(crate) why: NotKept,
    /// For whoever takes it first; the others ask for themselves.
    response: Mutex<Option<Response<Body>>>,
}

impl Unkept {
    fn of(response: Response<Body>) -> Fetched {
        Self::because(NotKept::OneReaders, response.status(), Some(response))
    }

    /// `None` for the response when that is being given to others already.
    pub(crate) fn because(why: NotKept, status: StatusCode, response: Option<Response<Body>>) -> Fetched {
        Fetched::Unkept(Arc::new(Self { status, why, response: Mutex::new(response) }))
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<Response<Body>> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a question carries of the reader it is asked for, as [`policy::forwarded_fields`] leaves it; `None` where pages do not depend
/// on their readers.
pub(crate) type Said = Option<Arc<HeaderMap>>;

type Landing = watch::Receiver<Option<Fetched>>;
pub(crate) type Listeners<'a> = Option<&'a watch::Sender<Option<Fetched>>>;

/// The questions that are under way.
#[derive(Default)]
pub(crate) struct Flights {
    open: Mutex<HashMap<Key, Landing>>,
}

impl Flights {
    /// Asks the source of `site` for `key`, or waits for the question that is under way, to its end. The flag tells
    /// whether it was somebody else's.
    ///
    /// Whoever asks has looked into the store before, and found nothing that is `good`. A question that ended since has
    /// put it there.
    pub(crate) async fn fetch(
        edge: &Arc<Edge>,
        site: &Arc<Site>,
        key: &Key,
        said: Said,
        good: impl Fn(&Entry) -> bool,
    ) -> (Fetched, bool) {
        Self::wait(edge, site, key, said, good, |fetched| !matches!(fetched, None | Some(Fetched::Coming(_)))).await
    }

    /// The same for a reader, who takes a long answer as it comes.
    pub(crate) async fn fetch_now(
        edge: &Arc<Edge>,
        site: &Arc<Site>,
        key: &Key,
        said: Said,
        good: impl Fn(&Entry) -> bool,
    ) -> (Fetched, bool) {
        Self::wait(edge, site, key, said, good, |fetched| fetched.is_some()).await
    }

    async fn wait(
        edge: &Arc<Edge>,
        site: &Arc<Site>,
        key: &Key,
        said: Said,
        good: impl Fn(&Entry) -> bool,
        enough: impl Fn(&Option<Fetched>) -> bool,
    ) -> (Fetched, bool) {
        let (mut landing, collapsed) = Self::board(edge, site, key, said.clone(), good);
        // An error means that the task was ended with the process.
        let landed = landing.wait_for(enough).await.ok().and_then(|landed| landed.clone());
        match landed.unwrap_or_else(|| Fetched::Failed(Arc::new(UpstreamError::Timeout))) {
            // Somebody else's question, and the answer depends on who asks.
            Fetched::Kept { entry, .. }
                if collapsed && !said.as_ref().is_none_or(|said| entry.selection().fits(said)) =>
            {
                (ask(edge, site, key, said).await, false)
            }
            landed => (landed, collapsed),
        }
    }

    /// Starts a question that nobody waits for.
    pub(crate) fn fetch_behind(
        edge: &Arc<Edge>,
        site: &Arc<Site>,
        key: &Key,
        said: Said,
        good: impl Fn(&Entry) -> bool,
    ) {
        if edge.may_write() {
            Self::board(edge, site, key, said, good);
        }
    }

    fn board(
        edge: &Arc<Edge>,
        site: &Arc<Site>,
        key: &Key,
        said: Said,
        good: impl Fn(&Entry) -> bool,
    ) -> (Landing, bool) {
        let mut open = edge.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = open.get(key) {
            return (landing.clone(), true);
        }
        let (sender, landing) = watch::channel(None);
        // A question is on the list until its answer is in the store, so that what is in neither was not asked for.
        let nothing = HeaderMap::new();
        let kept = edge.store.select(key, said.as_deref().unwrap_or(&nothing)).filter(|entry| good(entry));
        if let Some(entry) = kept {
            let status = entry.status();
            sender.send_replace(Some(Fetched::Kept { entry, status }));
            return (landing, true);
        }
        if open.len() >= MOST_FLIGHTS {
            sender.send_replace(Some(Fetched::Failed(Arc::new(UpstreamError::Busy))));
            return (landing, false);
        }
        open.insert(key.clone(), landing.clone());
        let (edge, site, key) = (edge.clone(), site.clone(), key.clone());
        tokio::spawn(async move {
            let guard = Boarded { edge: &edge, key: &key };
            let fetched = ask_aloud(&edge, &site, &key, said, Some(&sender)).await;
            drop(guard);
            sender.send_replace(Some(fetched));
        });
        (landing, false)
    }
}

/// Takes a question off the list when it ends, however it ends.
struct Boarded<'a> {
    edge: &'a Edge,
    key: &'a Key,
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        self.edge.flights.open.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

/// Asks the source once, for this caller alone.
pub(crate) async fn ask(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key, said: Said) -> Fetched {
    ask_aloud(edge, site, key, said, None).await
}

/// The same; a long answer is taken as it comes.
pub(crate) async fn ask_now(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key, said: Said) -> Fetched {
    let (sender, mut landing) = watch::channel(None);
    let (edge, site, key) = (edge.clone(), site.clone(), key.clone());
    tokio::spawn(async move {
        let fetched = ask_aloud(&edge, &site, &key, said, Some(&sender)).await;
        sender.send_replace(Some(fetched));
    });
    let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
    landed.unwrap_or_else(|| Fetched::Failed(Arc::new(UpstreamError::Timeout)))
}

/// Asks the source; whoever listens is told of a long answer as soon as it begins to come.
async fn ask_aloud(edge: &Arc<Edge>, site: &Arc<Site>, key: &Key, said: Said, listeners: Listeners<'_>) -> Fetched {
    let fetched = match try_ask(edge, site, key, said, listeners).await {
        Ok(fetched) => fetched,
        Err(error) => {
            debug!(site = %site.name(), target = %key.target, error = %error.in_full(), "a page could not be fetched");
            Fetched::Failed(Arc::new(error))
        }
    };
    edge.counters.fetched(&fetched);
    fetched
}

async fn try_ask(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    key: &Key,
    said: Said,
    listeners: Listeners<'_>,
) -> Result<Fetched, UpstreamError> {
    // Before the question: what changes while it is under way makes the answer stale.
    let ticket = edge.store.ticket(site.name());
    let by_book = matches!(site.config.app, EdgeApp::Upstream(_));
    let said = said.unwrap_or_default();
    let kept = edge.store.select(key, &said);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = key.target.as_str().parse().expect("a target in canonical form is a URI");
    *request.headers_mut() = HeaderMap::clone(&said);
    let own = policy::request_fields(&site.config.canonical, kept.as_deref().map(Entry::fields).as_ref());
    request.headers_mut().extend(own);
    edge.generation().via.add(request.headers_mut(), http::Version::HTTP_11);
    if !site.upstream.is_local() {
        peers::address(&mut request, site, peers::Purpose::Read, None);
    }
    let asked_at = SystemTime::now();
    let began = Instant::now();
    let answered = tokio::time::timeout(ANSWER_WITHIN, site.upstream.send(request)).await;
    let answered = answered.unwrap_or(Err(UpstreamError::Timeout));
    edge.counters.source_took(began.elapsed());
    let mut response = answered.inspect_err(|error| {
        // One exchange that broke off says little of a whole service.
        if error.is_absence() || !by_book {
            away(site, error);
        }
    })?;
    let second_hand = response.extensions_mut().remove::<SecondHand>();
    if let Some(SecondHand(datacenter)) = &second_hand {
        let error = UpstreamError::NoSource { datacenter: datacenter.clone() };
        away(site, &error);
        if kept.is_some() {
            return Err(error); // Ours is as good.
        }
    }
    let second_hand = second_hand.is_some();
    let exchange = Exchange { asked_at, answered_at: SystemTime::now() };
    let status = response.status();
    if status.is_server_error() && by_book && kept.is_none() && site.upstream.is_local() {
        // The service's own words, for whoever asked.
        return Ok(Unkept::of(response));
    }
    if status.is_server_error() {
        let error = UpstreamError::Status(status);
        // Of a whole service, one address that fails says little.
        if is_away(status) && !(by_book && site.upstream.is_local()) {
            away(site, &error);
        }
        return Err(error);
    }
    if !second_hand && site.standing.source_answered() {
        info!(site = %site.name(), "the source answers again");
    }
    if status == StatusCode::NOT_MODIFIED {
        return confirmed(edge, site, ticket, kept, response, exchange).await;
    }
    if by_book || second_hand {
        // Nobody closes it but itself.
    } else if says_private(&response) {
        edge.site_private(site, true);
    } else if status == StatusCode::OK && key.target.as_str() == "/" {
        edge.site_private(site, false);
    }
    let terms = decide(site, key, status, response.headers(), exchange);
    let Ok(terms) = terms else { return Ok(Unkept::of(response)) };
    if site.standing.is_private() || !edge.may_write() {
        return Ok(Unkept::of(response));
    }
    let fields = policy::storable_fields(response.headers());
    let selection = if by_book { Selection::of(&fields, &said) } else { Selection::default() };
    let key = edge.store.place(key, &selection, &said);
    let head = Head { key: key.clone(), status, fields, terms, selection };
    let fetched = arrival::keep(edge, ticket, head, response, listeners).await?;
    if matches!(fetched, Fetched::Kept { .. }) {
        edge.page_changed(site, &key);
    }
    Ok(fetched)
}

/// A site that tells when it changes is taken at its word; of any other only what its answers say is known.
fn decide(
    site: &Site,
    key: &Key,
    status: StatusCode,
    headers: &HeaderMap,
    exchange: Exchange,
) -> Result<Terms, NotStorable> {
    match site.config.app {
        EdgeApp::Ghost | EdgeApp::Static => policy::decide(&key.target, status, headers, exchange),
        EdgeApp::Upstream(_) => policy::decide_by_book(status, headers, exchange),
    }
}

/// 502, 503 and 504 are said by, or instead of, an application that is not there; a 500 is its own.
pub(crate) fn is_away(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

pub(crate) fn away(site: &Site, error: &UpstreamError) {
    // That there is no room for one more question says nothing about the source.
    if matches!(error, UpstreamError::Busy) {
        return;
    }
    // A status was said; that nobody is there is as good as said.
    let said = error.is_absence() || matches!(error, UpstreamError::Status(_));
    let failure = if said { Failure::Refused } else { Failure::Silent };
    let error = error.in_full();
    if site.standing.source_failed(failure, error.clone()) {
        warn!(site = %site.name(), %error, "the source is away: kept pages are served");
    }
}

/// Ghost answers the pages of a private site with a redirect to the page that asks for the password.
fn says_private(response: &Response<Body>) -> bool {
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    response.status() == StatusCode::FOUND && location.is_some_and(|location| rename::path_of(location) == "/private/")
}

async fn confirmed(
    edge: &Arc<Edge>,
    site: &Site,
    ticket: Ticket,
    kept: Option<Arc<Entry>>,
    response: Response<Body>,
    exchange: Exchange,
) -> Result<Fetched, UpstreamError> {
    let Some(entry) = kept else { return Err(UpstreamError::Status(StatusCode::NOT_MODIFIED)) };
    let mut fields = entry.fields().clone();
    policy::merge_not_modified(&mut fields, response.headers());
    let mut judged = fields.clone();
    for moment in [header::DATE, header::AGE] {
        // Never kept, but they say how old the confirmation itself is.
        judged.extend(response.headers().get(&moment).map(|value| (moment, value.clone())));
    }
    let Ok(terms) = decide(site, entry.key(), entry.status(), &judged, exchange) else {
        // Confirmed, but no longer for everybody.
        return Ok(Unkept::of(response));
    };
    if !edge.may_write() {
        return Ok(Fetched::Kept { entry, status: StatusCode::NOT_MODIFIED });
    }
    let store = edge.store.clone();
    let refreshed = arrival::blocking(move || store.refresh(ticket, &entry, fields, terms)).await?;
    let entry = refreshed.map_err(UpstreamError::Store)?;
    Ok(Fetched::Kept { entry, status: StatusCode::NOT_MODIFIED })
}
