//! The edge itself: what all connections share, and the way of a request through it.
//!
//! ```text
//!  reader ──▶ Routes::resolve ─┬─ Refused ─▶ a sentence
//!                              ├─ Hook ────▶ hooks      signature, then: the site changed
//!                              ├─ Read ────▶ read       memory; else the store, or one fetch however many wait
//!                              └─ Live ────▶ live       through to the source, nothing kept
//!  peer ────▶ peers ───────────▶ the same read and live, for canonical bytes
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use rustls::server::ProducesTickets;
use sovereign_model::agent_config::{HEALTH_PATH, LEARNED_FIELD};
use sovereign_model::edge_config::EdgeApp;
use sovereign_model::edge_rules::Limits;
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::lifecycle::Lifecycle;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::access::{self, Access, Came};
use crate::board::Board;
use crate::body::{Body, Moving};
use crate::counters::Counters;
use crate::door::Door;
use crate::fetch::Flights;
use crate::generation::{ConfigError, Generation, Site};
use crate::heard::Heard;
use crate::limit::{Buckets, Rate};
use crate::moment::Moment;
use crate::notice::{Notice, What};
use crate::policy::Outcome;
use crate::route::{Asked, Class, Decision, Route};
use crate::share::{Share, Shares};
use crate::store::Store;
use crate::taken::taken;
use crate::tls::PeerKey;
use crate::{epochs, hooks, keeper, lend, live, pages, passed, peers, policy, read};

/// Notices of changes that a slow link may lag behind before it is told "look at everything". One page is one notice.
const NOTICES: usize = 1024;
/// Answers that are being taken by one subscriber at a time: files and pages made for it. Beyond any browser, and beyond
/// an office behind one address.
const MOST_ANSWERS: usize = 1024;
/// Exchanges with applications that one subscriber has at a time. An application works on one or two; whoever keeps many
/// open, by sending or taking slowly, must not keep others from theirs.
const MOST_EXCHANGES: usize = 64;

/// The port of names without one. A promise to use nothing but HTTPS holds for all ports of a name (RFC 6797 section
/// 8.3), so it is made only where no other service of that name can be meant.
const HTTPS_PORT: u16 = 443;

/// A request's body. None at all stays none: the source sees no body where the reader sent none.
pub(crate) fn received(body: Incoming, limits: &Limits) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::stream(Moving::new(body, limits)) }
}

/// Everything the connections of one process share.
pub(crate) struct Edge {
    config: PathBuf,
    pub(crate) trust: VerifyingKey,
    tickets: Arc<dyn ProducesTickets>,
    generation: ArcSwap<Generation>,
    keepers: Mutex<CancellationToken>,
    pub(crate) store: Arc<Store>,
    pub(crate) flights: Flights,
    pub(crate) attempts: Buckets,
    requests: Buckets,
    pub(crate) door: Door,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access: Access,
    answers: Shares,
    exchanges: Shares,
    owns_store: AtomicBool,
    /// Memory for webhooks, in megabytes.
    pub(crate) hook_memory: Semaphore,
    notices: broadcast::Sender<Notice>,
    /// Connections that peers have dialled, by their key.
    linked: Mutex<HashMap<PeerKey, usize>>,
    /// Where they dial from.
    pub(crate) heard: Heard,
    /// What those who renew certificates say.
    pub(crate) board: Board,
    lifecycle: Lifecycle,
    /// That of the process, as against those of the threads that serve connections.
    runtime: Handle,
}

/// The store learns how much room each site may take.
fn set_rooms(store: &Store, generation: &Generation) {
    for site in generation.sites.values() {
        store.set_room(site.name(), site.config.room);
    }
}

/// A site that was closed to the public stays so until its source says otherwise.
fn recall_closed(store: &Store, generation: &Generation) {
    for site in generation.sites.values().filter(|site| store.is_closed(site.name())) {
        site.standing.set_private(true);
    }
}

impl Edge {
    /// An edge of the process whose runtime this is called on.
    pub(crate) fn new(
        config: PathBuf,
        trust: VerifyingKey,
        tickets: Arc<dyn ProducesTickets>,
        generation: Generation,
        store: Arc<Store>,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        recall_closed(&store, &generation);
        epochs::recall(&store, &trust, &generation);
        set_rooms(&store, &generation);
        let access = Access::start();
        access.follow(&generation);
        Arc::new(Self {
            config,
            trust,
            tickets,
            generation: ArcSwap::from_pointee(generation),
            keepers: Mutex::default(),
            store,
            flights: Flights::default(),
            attempts: Buckets::default(),
            requests: Buckets::default(),
            door: Door::default(),
            counters: Arc::default(),
            access,
            answers: Shares::default(),
            exchanges: Shares::default(),
            owns_store: AtomicBool::new(false),
            hook_memory: Semaphore::new(hooks::MEMORY),
            notices: broadcast::Sender::new(NOTICES),
            linked: Mutex::default(),
            heard: Heard::default(),
            board: Board::default(),
            lifecycle,
            runtime: Handle::current(),
        })
    }

    /// The generation that is served now. Hold on to it for the length of a request.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Reads the configuration again and serves it; or says why not and goes on as before.
    pub(crate) fn reload(self: &Arc<Self>) -> Result<Arc<Generation>, ConfigError> {
        let served = self.generation();
        let next = Generation::load(&self.config, &self.trust, Some(&served), self.tickets.clone())?;
        recall_closed(&self.store, &next);
        epochs::recall(&self.store, &self.trust, &next);
        epochs::carry_over(&self.store, &served, &next);
        set_rooms(&self.store, &next);
        self.access.follow(&next);
        let next = Arc::new(next);
        self.generation.store(next.clone());
        info!(generation = next.number, "a new generation is served");
        self.start_keepers();
        Ok(next)
    }

    /// Whether this process may write to the store: it holds its lock and has not been told to stop.
    pub(crate) fn may_write(&self) -> bool {
        self.owns_store.load(Ordering::Acquire) && !self.lifecycle.is_stopping()
    }

    /// From now on this process keeps the store.
    pub(crate) fn take_ownership(self: &Arc<Self>) {
        self.owns_store.store(true, Ordering::Release);
        for site in self.generation().sites.values() {
            // Whatever was said while nobody listened is lost: ask for everything once.
            self.store.invalidate(site.name(), keeper::changes_with_the_site);
        }
        self.start_keepers();
    }

    /// Starts the keepers of the generation that is served, and ends those of the one before.
    fn start_keepers(self: &Arc<Self>) {
        if !self.may_write() {
            return;
        }
        let token = self.lifecycle.stopping().child_token();
        let before = {
            let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *keepers, token.clone())
        };
        before.cancel();
        keeper::start(self, &self.generation(), &token);
        lend::start(self, &self.generation(), &token);
        epochs::start(self, &self.generation(), &token);
        passed::start(self, &self.generation(), &token);
    }

    /// The site changed: its texts are stale, are fetched again at once, and the mirrors are told.
    pub(crate) fn site_changed(&self, site: &Site) {
        let marked = self.store.invalidate(site.name(), keeper::changes_with_the_site);
        info!(site = %site.name(), marked, "the site changed");
        site.standing.note_change();
        site.standing.news.everything();
        self.tell(site, What::Anything);
    }

    /// Tells the mirrors.
    pub(crate) fn tell(&self, site: &Site, what: What) {
        // Nobody listens: no mirror is linked right now; it looks at everything when it is.
        let _ = self.notices.send(Notice { site: site.name().clone(), what });
    }

    /// The data behind the site is another: no copy is fresh any more, whatever its answer promised.
    pub(crate) fn site_replaced(&self, site: &Site) {
        let marked = self.store.invalidate(site.name(), |_| true);
        info!(site = %site.name(), marked, "the site's data was replaced");
        site.standing.note_change();
        site.standing.news.everything();
        self.tell(site, What::Anything);
    }

    /// The site was closed to the public, or opened again.
    pub(crate) fn site_private(&self, site: &Site, private: bool) {
        if !site.standing.set_private(private) {
            return;
        }
        if private {
            warn!(site = %site.name(), "the site is private now: its kept pages are removed");
            self.remember_closed(site, true);
            if let Err(error) = self.store.remove_site(site.name()) {
                warn!(site = %site.name(), %error, "kept pages of a private site cannot be removed; they are not served");
            }
        } else {
            info!(site = %site.name(), "the site is public again");
            self.remember_closed(site, false);
            site.standing.note_change();
        }
        site.standing.news.everything();
        self.tell(site, What::Anything);
    }

    fn remember_closed(&self, site: &Site, closed: bool) {
        if let Err(error) = self.store.set_closed(site.name(), closed) {
            warn!(site = %site.name(), %error, "a restart would not know whether the site is private");
        }
    }

    /// A peer has dialled us; until the returned value is dropped.
    pub(crate) fn link_of(self: &Arc<Self>, peer: PeerKey) -> Linked {
        *self.linked.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default() += 1;
        Linked { edge: self.clone(), peer }
    }

    /// What agents are answered: this edge lives, and where peers are whose address changes.
    fn health(&self, generation: &Generation) -> Response<Body> {
        let mut response = pages::health();
        for told in self.heard.told(&generation.config.peers) {
            response.headers_mut().append(LEARNED_FIELD, told);
        }
        response
    }

    /// Whether a peer has dialled us.
    pub(crate) fn peer_is_linked(&self, peer: PeerKey) -> bool {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).is_some_and(|count| *count > 0)
    }

    pub(crate) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// A place for an exchange of `reader` with an application; `None` when it has too many. A peer's own questions
    /// have no reader and are bounded by the peer.
    pub(crate) fn exchange(&self, reader: IpAddr) -> Option<Option<Share>> {
        if reader.is_unspecified() { Some(None) } else { self.exchanges.take(reader, MOST_EXCHANGES).map(Some) }
    }

    /// Answers a reader, counts it, and writes it down.
    pub(crate) async fn answer_reader(self: &Arc<Self>, request: Request<Incoming>, reader: IpAddr) -> Response<Body> {
        let at = Moment::now();
        let generation = self.generation.load();
        let came = Came { generation: &generation, request: &request, reader, at };
        let decision = match self.at_once(&came) {
            // Agents look every other second. They are no readers, and would be most of what is written down.
            Ok(response) if request.uri().path() == HEALTH_PATH => return response,
            Ok(response) => {
                let response = self.bounded(response, reader);
                return self.access.answered_at_once(&came, self.count(&response), response);
            }
            Err(decision) => decision,
        };
        let pending = self.access.begin(&came);
        let generation = Guard::into_inner(generation);
        let response = self.beside(self.clone().in_time(generation, decision, request, reader)).await;
        let response = self.bounded(response, reader);
        access::answered(pending, self.count(&response), response)
    }

    /// What `work` gives on the runtime of the process, where it keeps no connection from being served. It ends with
    /// whoever waits for it. Started at once, because its state is large, and that of all other answers would be too.
    pub(crate) fn beside<W>(&self, work: W) -> impl Future<Output = Response<Body>> + use<W>
    where
        W: Future<Output = Response<Body>> + Send + 'static,
    {
        let working = AbortOnDropHandle::new(self.runtime.spawn(work));
        async move {
            match working.await.map_err(JoinError::try_into_panic) {
                // What broke off meanwhile would otherwise end the connection before anything is sent on it.
                Ok(response) => response.map(Body::failing_late),
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(Err(_)) => pages::text(http::StatusCode::SERVICE_UNAVAILABLE, "This edge has stopped."),
            }
        }
    }

    fn count(&self, response: &Response<Body>) -> Option<Outcome> {
        let outcome = Outcome::of(response.headers());
        self.counters.answered(response.status(), outcome);
        outcome
    }

    /// The answer, which its reader must take.
    fn bounded(&self, response: Response<Body>, reader: IpAddr) -> Response<Body> {
        if matches!(response.body(), Body::Whole(_)) {
            return response;
        }
        match self.answers.take(reader, MOST_ANSWERS) {
            Some(share) => response.map(|body| taken(body, share)),
            None => pages::too_many_at_once(),
        }
    }

    /// What can be answered without waiting: refusals, and kept pages that are awake. Else where the request belongs.
    fn at_once(&self, came: &Came<'_, Incoming>) -> Result<Response<Body>, Box<Decision>> {
        let Came { generation, request, reader, at } = *came;
        let limits = &generation.config.rules.limits;
        if let Err(wait) = self.requests.take(Rate::of_requests(limits), reader, at.monotonic) {
            return Ok(pages::too_many_requests(wait));
        }
        let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers(), reader };
        let route = match generation.routes.resolve(&asked) {
            Decision::Refused(refusal) => return Ok(pages::refused(refusal)),
            Decision::Health => return Ok(self.health(generation)),
            hook @ Decision::Hook(_) => return Err(Box::new(hook)),
            Decision::Site(route) => route,
        };
        if generation.via.is_in(request.headers()) {
            return Ok(pages::text(http::StatusCode::LOOP_DETECTED, "This request was here before."));
        }
        if request.body().size_hint().lower() > limits.body.0 {
            return Ok(pages::too_long());
        }
        if let Class::Read { key, .. } = &route.class
            && let Some(site) = generation.sites.get(&route.site.site)
        {
            let asked =
                read::Asked { method: request.method(), fields: request.headers(), route: &route, reader, peer: false };
            if let Some(response) = read::at_once(self, site, key, &asked, at.wall) {
                return Ok(secured(site, &route, response));
            }
        }
        Err(Box::new(Decision::Site(route)))
    }

    /// The answer to a request that belongs there.
    async fn in_time(
        self: Arc<Self>,
        generation: Arc<Generation>,
        decision: Box<Decision>,
        request: Request<Incoming>,
        reader: IpAddr,
    ) -> Response<Body> {
        let route = match *decision {
            Decision::Refused(refusal) => return pages::refused(refusal),
            Decision::Health => return self.health(&generation),
            Decision::Hook(site) => {
                return match generation.sites.get(&site) {
                    Some(site) => hooks::receive(&self, site, request, SystemTime::now()).await,
                    None => pages::text(http::StatusCode::NOT_FOUND, "There is nothing here."),
                };
            }
            Decision::Site(route) => route,
        };
        let Some(site) = generation.sites.get(&route.site.site) else {
            return pages::text(http::StatusCode::MISDIRECTED_REQUEST, "No site of this name is served here.");
        };
        let response = self.answer_for(&generation, site, &route, request, reader).await;
        secured(site, &route, response)
    }

    async fn answer_for(
        self: &Arc<Self>,
        generation: &Generation,
        site: &Arc<Site>,
        route: &Route,
        request: Request<Incoming>,
        reader: IpAddr,
    ) -> Response<Body> {
        if let Class::Read { key, fallback } = &route.class {
            let asked = read::Asked { method: request.method(), fields: request.headers(), route, reader, peer: false };
            return read::answer(self, site, key, fallback.as_ref(), &asked).await;
        }
        if let Class::Live { copy: Some(key) } = &route.class
            && matches!(site.config.app, EdgeApp::Upstream(_))
            && self.store.get(key).is_some_and(|entry| policy::is_for_everybody(&entry.fields()))
        {
            let asked = read::Asked { method: request.method(), fields: request.headers(), route, reader, peer: false };
            return read::answer(self, site, key, None, &asked).await;
        }
        if pages::is_attempt(request.method(), &route.target)
            && let Err(wait) = self.attempts.take(Rate::ATTEMPTS, reader, Instant::now())
        {
            return pages::slow_down(request.headers(), wait);
        }
        if let Some(sorry) = pages::needs_mail(request.headers(), request.method(), &route.target) {
            return sorry;
        }
        let limits = &generation.config.rules.limits;
        live::answer(self, site, route, request.map(|body| received(body, limits)), reader).await
    }

    /// Answers the edge of another data center.
    pub(crate) async fn answer_peer(self: Arc<Self>, request: Request<Incoming>, peer: PeerKey) -> Response<Body> {
        peers::answer(&self, request, peer).await
    }
}

/// With the promise that the site is to be had over HTTPS only, where it is made.
fn secured(site: &Site, route: &Route, mut response: Response<Body>) -> Response<Body> {
    if let Some(hsts) = site.hsts.as_ref().filter(|_| route.origin.port() == HTTPS_PORT) {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    response
}

/// An open connection that a peer has dialled.
pub(crate) struct Linked {
    edge: Arc<Edge>,
    peer: PeerKey,
}

impl Drop for Linked {
    fn drop(&mut self) {
        if let Some(count) = self.edge.linked.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.peer) {
            *count -= 1;
        }
    }
}
