//! Connections: from the accepted socket to requests, with bounds on what a stranger can cost.
//!
//! ```text
//! accept ─▶ (proxy's word) ─▶ ClientHello ─┬─ ALPN sovereign-link/1 ─▶ mutual TLS, HTTP/2 ─▶ requests of a peer
//!                                          ├─ ALPN sovereign-link-back/1 ─▶ mutual TLS; here it is us who ask
//!                                          └─ everyone else ─▶ TLS ─┬─ h2 ───────────────┬─▶ requests of a reader
//!                                                                   └─ http/1.1 or none ─┘
//! ```
//!
//! The drain, connection by connection: HTTP/2 is told GOAWAY and finishes its streams. HTTP/1.1 is told
//! `Connection: close` with its next answer; a connection that lies idle is closed only after [`LINGER`], because
//! closing it at once would cross with a request that is already on its way, and that request would be lost.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use sovereign_model::edge_rules::Limits;
use sovereign_runtime::lifecycle::accept_each;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::body::{Body, BodyError};
use crate::counters::Counted;
use crate::deadlines::Deadlines;
use crate::edge::Edge;
use crate::gather::{AtOnce, gather};
use crate::linger::{HadBody, Lingering};
use crate::proxied::{Arrival, Speech, arrive, forwarded_for};
use crate::threads::Threads;
use crate::tls::{LINK_ALPN, LINK_BACK_ALPN, PeerKey};

/// From the accepted socket to the finished handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Fields of a request.
const MOST_FIELDS: usize = 100;
/// Streams of one HTTP/2 connection: what nginx and browsers are used to.
const MOST_STREAMS: u32 = 128;
/// Streams a client may open and reset before it is cut off ("rapid reset", CVE-2023-44487).
const MOST_RESETS: usize = 20;
/// The same for a link, which carries the requests, and the changes of mind, of all readers of a mirror.
const MOST_LINK_STREAMS: u32 = 1024;
/// An idle HTTP/2 connection is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// A link is asked as often from this side as from the other: behind address translation only one of them may notice
/// that it is gone.
const LINK_PING_EVERY: Duration = Duration::from_secs(5);
const LINK_PONG_WITHIN: Duration = Duration::from_secs(5);
/// Sent data that is not acknowledged for this long ends the connection.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// A connection on which nothing is said is asked for a sign of life by the kernel this often: WebSockets are quiet for
/// hours, and a reader who is gone says nothing at all.
const PROBED_EVERY: Duration = Duration::from_secs(60);
/// What one upload may have in flight: 1 MB is 80 Mbit/s at 100 ms.
const WINDOW: u32 = 1 << 20;
/// How long idle HTTP/1.1 connections stay open in a drain.
const LINGER: Duration = Duration::from_secs(5);

type Tls = TlsStream<Counted<TcpStream>>;

/// Serves readers and peers on `listener` until the edge is told to stop.
pub(crate) async fn accept(listener: TcpListener, edge: Arc<Edge>, threads: Arc<Threads>) {
    prepare(&listener);
    let stopping = edge.lifecycle().stopping();
    accept_each(&listener, stopping.clone(), |(socket, peer)| {
        let Some(entry) = edge.door.enter(&edge, peer.ip()) else { return };
        let (serving, stopping) = (edge.clone(), stopping.clone());
        let socket = socket.into_std();
        threads.spawn(edge.lifecycle(), async move {
            // The thread that serves it is the one that watches it.
            match socket.and_then(TcpStream::from_std) {
                Ok(socket) => connection(socket, peer, serving, stopping).await,
                Err(error) => debug!(%peer, %error, "a connection cannot be watched"),
            }
            drop(entry);
        });
    })
    .await;
}

/// Sets what every accepted socket is to have: it inherits these from the one it was accepted on, which saves five system
/// calls for each connection.
pub(crate) fn prepare(socket: &TcpListener) {
    // Without it small answers wait for acknowledgements. What cannot be set is no reason not to serve.
    let _ = sockopt::set_tcp_nodelay(socket, true);
    // A reader that takes nothing for this long is gone or means harm.
    let _ = sockopt::set_tcp_user_timeout(socket, TAKEN_WITHIN.as_millis() as u32);
    let _ = sockopt::set_tcp_keepidle(socket, PROBED_EVERY);
    let _ = sockopt::set_tcp_keepintvl(socket, PROBED_EVERY / 3);
    let _ = sockopt::set_socket_keepalive(socket, true);
}

async fn connection(mut socket: TcpStream, peer: SocketAddr, edge: Arc<Edge>, stopping: CancellationToken) {
    // A token of its own, because asking one takes its lock.
    let stopping = stopping.child_token();
    let generation = edge.generation();
    let limits = generation.config.rules.limits.clone();
    let arriving = arrive(&mut socket, peer, generation.config.proxy.as_ref());
    let Arrival { reader, speech } = match timeout(HANDSHAKE_WITHIN, arriving).await {
        Ok(Ok(arrival)) => arrival,
        Ok(Err(error)) => return debug!(%peer, %error, "a proxy's connection says nothing that is understood"),
        Err(_) => return debug!(%peer, "a proxy's connection says nothing"),
    };
    drop(generation);
    // A proxy's readers have seats of their own; it names them only later where it ends TLS itself.
    let _seat = if reader == peer || speech == Speech::Http {
        None
    } else {
        let Some(seat) = edge.door.seat(&edge, reader.ip()) else { return };
        Some(seat)
    };
    let socket = Counted::new(socket, edge.counters.clone());
    if speech == Speech::Http {
        let had_body = HadBody::default();
        let service = reader_service(edge, Reader::Named, had_body.clone(), stopping.clone());
        return serve_http1(Lingering::new(socket, had_body), service, &limits, stopping).await;
    }
    let Some(stream) = handshake(socket, reader, &edge).await else { return };
    let session = stream.get_ref().1;
    match session.alpn_protocol() {
        Some(LINK_ALPN) => {
            let Some(peer) = PeerKey::of_connection(session.peer_certificates()) else { return };
            let _linked = (edge.link_of(peer), edge.heard.from(peer, reader.ip()));
            serve_peer(stream, edge, peer, stopping).await;
        }
        Some(LINK_BACK_ALPN) => {
            let Some(peer) = PeerKey::of_connection(session.peer_certificates()) else { return };
            let generation = edge.generation();
            let _heard = edge.heard.from(peer, reader.ip());
            let Some(peer) = generation.peer(peer) else { return };
            if let Some(Err(error)) = stopping.run_until_cancelled(peer.link.borrow(stream)).await {
                debug!(%error, "a lent connection broke off");
            }
        }
        Some(b"h2") => {
            let service = reader_service(edge, Reader::Known(reader), HadBody::default(), stopping.clone());
            serve_http2(stream, service, Asker::Reader, &limits, stopping).await;
        }
        _ => {
            let had_body = HadBody::default();
            let service = reader_service(edge, Reader::Known(reader), had_body.clone(), stopping.clone());
            serve_http1(Lingering::new(stream, had_body), service, &limits, stopping).await;
        }
    }
}

async fn handshake(socket: Counted<TcpStream>, reader: SocketAddr, edge: &Edge) -> Option<Tls> {
    let shaken = timeout(HANDSHAKE_WITHIN, async {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        let generation = edge.generation();
        let from_peer = hello.client_hello().alpn().is_some_and(|mut offered| offered.any(is_link));
        let tls = &generation.tls;
        let config = if from_peer { tls.link.clone() } else { tls.for_reader(&hello.client_hello()).clone() };
        hello.into_stream(config).await
    });
    match shaken.await {
        Ok(Ok(stream)) => {
            edge.counters.handshakes.one();
            Some(stream)
        }
        Ok(Err(error)) => {
            edge.counters.handshakes_failed.one();
            debug!(%reader, %error, "the TLS handshake failed");
            None
        }
        Err(_) => {
            edge.counters.handshakes_failed.one();
            debug!(%reader, "the TLS handshake took too long");
            None
        }
    }
}

fn is_link(protocol: &[u8]) -> bool {
    protocol == LINK_ALPN || protocol == LINK_BACK_ALPN
}

/// Answers the questions of `peer` on a connection, whoever dialled it.
pub(crate) async fn serve_peer<S>(stream: S, edge: Arc<Edge>, peer: PeerKey, stopping: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = edge.generation().config.rules.limits.clone();
    let service = service_fn(move |request| {
        let answer = edge.beside(edge.clone().answer_peer(request, peer));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    serve_http2(stream, service, Asker::Peer, &limits, stopping).await;
}

/// Who asks on a connection.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// Whoever opened it.
    Known(SocketAddr),
    /// Whom a proxy names, with each request.
    Named,
}

impl Reader {
    fn of(self, request: &Request<Incoming>) -> IpAddr {
        match self {
            Self::Known(reader) => reader.ip(),
            Self::Named => forwarded_for(request.headers()),
        }
    }
}

fn reader_service(
    edge: Arc<Edge>,
    reader: Reader,
    had_body: HadBody,
    stopping: CancellationToken,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Send {
    // One share of what belongs to this connection for each request: what all connections share is not touched, which
    // would make every core wait for the others.
    let shared = Arc::new((edge, stopping));
    service_fn(move |request: Request<Incoming>| {
        if !request.body().is_end_stream() {
            had_body.note();
        }
        let shared = shared.clone();
        async move {
            let (edge, stopping) = &*shared;
            let version = request.version();
            // Where a chunked body ends, others on the way may have seen differently: RFC 9112 section 6.1 asks to close
            // if it came with a length too, and the HTTP implementation does not tell whether it did.
            let chunked = request.headers().contains_key(TRANSFER_ENCODING);
            let reader = reader.of(&request);
            let mut response = edge.answer_reader(request, reader).await;
            let upgrades = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
            if version < Version::HTTP_2 && (chunked || stopping.is_cancelled()) && !upgrades {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    })
}

pub(crate) async fn serve_http1<I, S>(stream: I, service: S, limits: &Limits, stopping: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let head = most_head(limits);
    let connection = http1::Builder::new()
        .timer(Deadlines::default())
        .header_read_timeout(Duration::from_secs(limits.head_within.into()))
        .max_buf_size(head)
        .max_headers(MOST_FIELDS)
        .max_header_size(head)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lingered(&stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP/1.1 connection broke off");
    }
}

fn most_head(limits: &Limits) -> usize {
    usize::try_from(limits.head.0).unwrap_or(usize::MAX)
}

async fn lingered(stopping: &CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

/// Who opens streams: one reader, or a peer for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Reader,
    Peer,
}

async fn serve_http2<I, S>(stream: I, service: S, asker: Asker, limits: &Limits, stopping: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let (streams, resets, head) = match asker {
        Asker::Reader => (MOST_STREAMS, MOST_RESETS, most_head(limits)),
        // A reader's head, and our own fields beside it.
        Asker::Peer => (MOST_LINK_STREAMS, MOST_LINK_STREAMS as usize, most_head(limits) * 2),
    };
    let (ping_every, pong_within) = match asker {
        Asker::Reader => (PING_EVERY, PONG_WITHIN),
        Asker::Peer => (LINK_PING_EVERY, LINK_PONG_WITHIN),
    };
    let (stream, outlet) = gather(stream);
    let mut builder = http2::Builder::new(AtOnce);
    if asker == Asker::Peer {
        // WebSockets come over links; browsers open them over HTTP/1.1.
        builder.enable_connect_protocol();
    }
    let connection = builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(resets)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .keep_alive_interval(ping_every)
        .keep_alive_timeout(pong_within)
        .serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut stopped, mut told) = (pin!(connection), pin!(stopping.cancelled()), false);
    let ended = poll_fn(|cx| {
        if !told && stopped.as_mut().poll(cx).is_ready() {
            connection.as_mut().graceful_shutdown();
            told = true;
        }
        let turn = connection.as_mut().poll(cx).map_err(BodyError::from);
        // What the turn has written leaves with it, whether it was the last or not.
        match outlet.poll_send(cx) {
            Poll::Ready(Err(error)) if turn.is_pending() => Poll::Ready(Err(error.into())),
            _ => turn,
        }
    });
    if let Err(error) = ended.await {
        debug!(%error, "an HTTP/2 connection broke off");
    }
}
