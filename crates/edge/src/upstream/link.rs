//! The asking side of a link: one HTTP/2 connection to another edge.
//!
//! A peer that can only dial out lends us a connection that it dialled, and answers on it; see [`crate::lend`].
//! Dialled when first needed and again when it broke; all requests share it. A peer that did not answer is not dialled
//! again for a moment, so that readers of a mirror whose primary is away are not kept waiting one by one. Pings find a
//! peer that is gone without a word within seconds. Of several [`Uplinks`] the preferred one is used whenever it is well;
//! what is under way on a lesser one when it comes back is answered there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response, Uri};
use http_body::Body as _;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sovereign_model::edge_config::Peer;
use sovereign_model::edge_name::EdgeName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tracing::info;

use super::unsent::{Unsent, was_not_acted_on};
use super::uplinks::{Uplinks, race};
use super::{UpstreamError, spare_of, within};
use crate::body::Body;

/// TCP and TLS together, per address.
const DIAL_WITHIN: Duration = Duration::from_secs(5);
/// How long a failed dial is believed.
const BELIEVE_AWAY: Duration = Duration::from_secs(1);
/// While a lesser uplink is used, better ones are tried this often.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(5);
/// A quiet link is pinged this often, also when idle: it carries the notices of changes.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A ping unanswered for this long ends the link.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// As the application behind the peer may take that long.
const ANSWER_WITHIN: Duration = Duration::from_secs(125);
/// While the peer's edge is replaced, a new connection may still reach the process that is about to end.
const MOST_TRIES: u32 = 4;
/// Enough for a link of 1 Gbit/s and 30 ms, and small enough to be paid per peer.
const WINDOW: u32 = 1 << 20;

/// The way to one peer.
pub(crate) struct Link {
    peer: EdgeName,
    tls: Arc<ClientConfig>,
    dial: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    lent: Notify,
}

struct State {
    uplinks: Uplinks,
    sender: Option<Sender>,
    /// Counts connections, to tell them apart.
    made: u64,
    failed: Option<Instant>,
}

impl State {
    fn connected(&mut self, requests: SendRequest<Body>) -> Sender {
        self.made += 1;
        self.failed = None;
        self.sender.insert(Sender { requests, number: self.made }).clone()
    }
}

/// A live connection.
#[derive(Clone)]
struct Sender {
    requests: SendRequest<Body>,
    number: u64,
}

impl Link {
    pub(crate) fn new(peer: &Peer, tls: Arc<ClientConfig>) -> Arc<Self> {
        let uplinks = Uplinks::new(&peer.addresses);
        Arc::new(Self {
            peer: peer.edge(),
            tls,
            dial: tokio::sync::Mutex::default(),
            state: Mutex::new(State { uplinks, sender: None, made: 0, failed: None }),
            lent: Notify::new(),
        })
    }

    /// Asks over a connection that the peer has dialled, for as long as it lasts.
    pub(crate) async fn borrow<S>(&self, stream: S) -> Result<(), hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = speak(stream).await?;
        self.state().connected(sender);
        self.lent.notify_waiters();
        connection.await
    }

    /// Waits until the peer lends a connection.
    pub(crate) async fn lent(&self) {
        self.lent.notified().await;
    }

    /// Whether the peer could not be reached when it was last tried.
    pub(crate) fn is_away(&self) -> bool {
        self.state().failed.is_some()
    }

    pub(crate) async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        self.offer(request).await.map(|(response, _)| response).map_err(|(error, _)| error)
    }

    /// The same, with what may be asked of another: the request, should the answer be that it was not acted on; or as it
    /// comes back because nobody has acted on it.
    pub(super) async fn offer(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<(Response<Body>, Unsent), (UpstreamError, Option<Request<Body>>)> {
        complete(&mut request);
        let whole = request.body().is_end_stream();
        let mut spare = spare_of(&request);
        let mut tries = MOST_TRIES;
        loop {
            let mut sender = match self.connection().await {
                Ok(sender) => sender,
                Err(error) => return Err((error, Some(request))),
            };
            let (out, unsent) = Unsent::hand_out(request);
            let sent = within(ANSWER_WITHIN, whole, sender.requests.try_send_request(out)).await;
            let mut error = match sent.map_err(|error| (error, None))? {
                Ok(response) => return Ok((response.map(Body::stream), unsent)),
                Err(error) => error,
            };
            tries -= 1;
            let not_acted_on = error.take_message().is_some() || was_not_acted_on(error.error());
            // The link had ended, or is ending, and the peer has not acted on the request; or it may see it twice.
            let again = if not_acted_on { unsent.take_back() } else { spare.take() };
            match again {
                Some(again) if tries > 0 => {
                    self.forget(&sender);
                    request = again;
                }
                again => return Err((UpstreamError::Http(error.into_error()), again)),
            }
        }
    }

    /// Nothing more is asked over this connection.
    fn forget(&self, ended: &Sender) {
        let mut state = self.state();
        if state.sender.as_ref().is_some_and(|sender| sender.number == ended.number) {
            state.sender = None;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live connection, if there is one; or that the peer is believed to be away.
    fn known(&self) -> Option<Result<Sender, UpstreamError>> {
        let mut state = self.state();
        if let Some(sender) = &state.sender {
            if !sender.requests.is_closed() {
                return Some(Ok(sender.clone()));
            }
            state.sender = None;
        }
        let recently = state.failed.is_some_and(|at| at.elapsed() < BELIEVE_AWAY);
        recently.then(|| Err(self.unreachable(io::Error::from(io::ErrorKind::NotConnected))))
    }

    async fn connection(self: &Arc<Self>) -> Result<Sender, UpstreamError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one_at_a_time = match self.dial.try_lock() {
            Ok(alone) => alone,
            // Whoever dials finds out; nobody else waits for what has failed the last time.
            Err(_) if self.state().failed.is_some() => return Err(self.unreachable(io::ErrorKind::NotConnected.into())),
            Err(_) => self.dial.lock().await,
        };
        if let Some(known) = self.known() {
            return known;
        }
        let order = self.state().uplinks.order();
        let raced = race(order, |address| self.clone().dial(address)).await;
        let mut state = self.state();
        state.uplinks.note(&raced, Instant::now());
        match raced.result {
            Ok((address, requests)) => {
                let sender = state.connected(requests);
                tokio::spawn(look_back(Arc::downgrade(self), address, sender.number));
                Ok(sender)
            }
            Err(error) => {
                state.failed = Some(Instant::now());
                Err(error.unwrap_or_else(|| UpstreamError::NoAddress { peer: self.peer.clone() }))
            }
        }
    }

    async fn dial(self: Arc<Self>, address: SocketAddr) -> Result<SendRequest<Body>, UpstreamError> {
        let unreachable = |source| self.unreachable(source);
        let dialling = async {
            let socket = TcpStream::connect(address).await.map_err(unreachable)?;
            socket.set_nodelay(true).map_err(unreachable)?;
            let name = ServerName::IpAddress(address.ip().into());
            let stream = TlsConnector::from(self.tls.clone()).connect(name, socket).await.map_err(unreachable)?;
            let (sender, connection) = speak(stream).await.map_err(UpstreamError::Http)?;
            // Ends with the connection; what went wrong is told to whoever waits for a response.
            tokio::spawn(async move { connection.await.ok() });
            Ok(sender)
        };
        let dialled = tokio::time::timeout(DIAL_WITHIN, dialling).await;
        dialled.unwrap_or_else(|_| Err(self.unreachable(io::ErrorKind::TimedOut.into())))
    }

    /// Tries the uplinks that are better than the one `used` by the connection `number`; what is used then. `None` when
    /// that was another connection before.
    async fn find_back(self: Arc<Self>, used: SocketAddr, number: u64) -> Option<(SocketAddr, u64)> {
        let better = self.state().uplinks.better_than(used);
        for address in better {
            let dialled = self.clone().dial(address).await;
            let mut state = self.state();
            if state.sender.as_ref().is_none_or(|sender| sender.number != number) {
                return None;
            }
            match dialled {
                Ok(requests) if state.uplinks.answered(address, Instant::now()) => {
                    info!(peer = %self.peer, %address, "a better uplink is used again");
                    return Some((address, state.connected(requests).number));
                }
                Ok(_) => {}
                Err(_) => state.uplinks.failed(address, Instant::now()),
            }
        }
        Some((used, number))
    }

    fn unreachable(&self, source: io::Error) -> UpstreamError {
        UpstreamError::Unreachable { peer: self.peer.clone(), source }
    }
}

/// Goes back to better uplinks than `used`, as long as the connection `number`, or what it finds, is the one in use.
async fn look_back(link: Weak<Link>, mut used: SocketAddr, mut number: u64) {
    while link.upgrade().is_some_and(|link| !link.state().uplinks.better_than(used).is_empty()) {
        tokio::time::sleep(LOOK_BACK_EVERY).await;
        // Held for the length of a dial only: a link ends with its generation.
        let Some(link) = link.upgrade() else { return };
        let Some(found) = link.find_back(used, number).await else { return };
        (used, number) = found;
    }
}

type Connection<S> = http2::Connection<TokioIo<S>, Body, TokioExecutor>;

async fn speak<S>(stream: S) -> Result<(SendRequest<Body>, Connection<S>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
}

/// Brings a request into the form HTTP/2 wants: scheme and authority in the target, no connection-level fields.
fn complete(request: &mut Request<Body>) {
    let authority = request.headers_mut().remove(http::header::HOST);
    if authority.is_none() && request.uri().authority().is_some() {
        return; // It was offered to another peer before.
    }
    let authority = authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if let Ok(uri) = Uri::builder().scheme("https").authority(authority).path_and_query(target).build() {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = http::Version::HTTP_2;
}
