//! Connections: from the accepted socket to requests, with bounds on what a stranger can cost.
//!
//! ```text
//! accept ─▶ ClientHello ─┬─ ALPN sovereign-link/1 ─▶ mutual TLS, HTTP/2 ─▶ requests of a peer
//!                        ├─ ALPN sovereign-link-back/1 ─▶ mutual TLS; here it is us who ask
//!                        └─ everyone else ─▶ TLS ─┬─ h2 ───────────────┬─▶ requests of a reader
//!                                                 └─ http/1.1 or none ─┘
//! ```
//!
//! The drain, connection by connection: HTTP/2 is told GOAWAY and finishes its streams. HTTP/1.1 is told
//! `Connection: close` with its next answer; a connection that lies idle is closed only after [`LINGER`], because
//! closing it at once would cross with a request that is already on its way, and that request would be lost.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sovereign_runtime::lifecycle::accept_each;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::body::Body;
use crate::counters::Counted;
use crate::edge::Edge;
use crate::share::Shares;
use crate::tls::{LINK_ALPN, LINK_BACK_ALPN, PeerKey};

/// Open connections at most: some 40 kB each when idle, so about 160 MB when somebody tries.
const MOST_CONNECTIONS: usize = 4096;
/// Of these, one address may hold so many: an office behind one address fits, one stranger does not take all.
const MOST_PER_ADDRESS: usize = 512;
/// From the accepted socket to the finished handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// For a request's head, and for an idle HTTP/1.1 connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// All fields of a request together. Ghost's own cookies and tokens take about 2 kB.
const MOST_HEAD: usize = 32 << 10;
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
/// Sent data that is not acknowledged for this long ends the connection.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// What one upload may have in flight: 1 MB is 80 Mbit/s at 100 ms.
const WINDOW: u32 = 1 << 20;
/// How long idle HTTP/1.1 connections stay open in a drain.
const LINGER: Duration = Duration::from_secs(5);

type Tls = TlsStream<Counted<TcpStream>>;

/// Serves readers and peers on `listener` until the edge is told to stop.
pub(crate) async fn accept(listener: TcpListener, edge: Arc<Edge>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let seats = Shares::new(MOST_PER_ADDRESS);
    let stopping = edge.lifecycle().stopping();
    accept_each(&listener, stopping.clone(), |(socket, reader)| {
        let Ok(place) = places.clone().try_acquire_owned() else {
            edge.counters.connections_refused.one();
            warn!(%reader, "too many connections, one is refused");
            return;
        };
        let Some(seat) = seats.take(reader.ip()) else {
            edge.counters.connections_refused.one();
            debug!(%reader, "too many connections from one address, one is refused");
            return;
        };
        edge.counters.connections.one();
        let (edge, stopping) = (edge.clone(), stopping.clone());
        edge.clone().lifecycle().spawn(async move {
            connection(socket, reader, edge, stopping).await;
            drop((seat, place));
        });
    })
    .await;
}

async fn connection(socket: TcpStream, reader: SocketAddr, edge: Arc<Edge>, stopping: CancellationToken) {
    // Without it small answers wait for acknowledgements; a socket that refuses is on its way out anyway.
    let _ = socket.set_nodelay(true);
    // A reader that takes nothing for this long is gone or means harm.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, TAKEN_WITHIN.as_millis() as u32);
    let socket = Counted::new(socket, edge.counters.clone());
    let Some(stream) = handshake(socket, reader, &edge).await else { return };
    let session = stream.get_ref().1;
    match session.alpn_protocol() {
        Some(LINK_ALPN) => {
            let Some(peer) = PeerKey::of_connection(session.peer_certificates()) else { return };
            let _linked = edge.link_of(peer);
            serve_peer(stream, edge, peer, stopping).await;
        }
        Some(LINK_BACK_ALPN) => {
            let Some(peer) = PeerKey::of_connection(session.peer_certificates()) else { return };
            let generation = edge.generation();
            let Some(link) = generation.peer(peer).and_then(|datacenter| generation.links.get(datacenter)) else {
                return;
            };
            if let Some(Err(error)) = stopping.run_until_cancelled(link.borrow(stream)).await {
                debug!(%error, "a lent connection broke off");
            }
        }
        Some(b"h2") => {
            serve_http2(stream, reader_service(edge, reader, stopping.clone()), Asker::Reader, stopping).await;
        }
        _ => serve_http1(stream, reader_service(edge, reader, stopping.clone()), stopping).await,
    }
}

async fn handshake(socket: Counted<TcpStream>, reader: SocketAddr, edge: &Edge) -> Option<Tls> {
    let shaken = timeout(HANDSHAKE_WITHIN, async {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        let generation = edge.generation();
        let from_peer = hello.client_hello().alpn().is_some_and(|mut offered| offered.any(is_link));
        let config = if from_peer { &generation.tls.link } else { &generation.tls.public };
        hello.into_stream(config.clone()).await
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
    let service = service_fn(move |request| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(edge.answer_peer(request, peer).await) }
    });
    serve_http2(stream, service, Asker::Peer, stopping).await;
}

fn reader_service(
    edge: Arc<Edge>,
    reader: SocketAddr,
    stopping: CancellationToken,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Send {
    service_fn(move |request: Request<Incoming>| {
        let (edge, stopping) = (edge.clone(), stopping.clone());
        async move {
            let version = request.version();
            // Where a chunked body ends, others on the way may have seen differently: RFC 9112 section 6.1 asks to close
            // if it came with a length too, and the HTTP implementation does not tell whether it did.
            let chunked = request.headers().contains_key(TRANSFER_ENCODING);
            let mut response = edge.answer_reader(request, reader.ip()).await;
            let upgrades = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
            if version < Version::HTTP_2 && (chunked || stopping.is_cancelled()) && !upgrades {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    })
}

async fn serve_http1<S>(stream: Tls, service: S, stopping: CancellationToken)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MOST_HEAD)
        .max_headers(MOST_FIELDS)
        .max_header_size(MOST_HEAD)
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

async fn serve_http2<I, S>(stream: I, service: S, asker: Asker, stopping: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let (streams, resets, head) = match asker {
        Asker::Reader => (MOST_STREAMS, MOST_RESETS, MOST_HEAD),
        // A reader's head, and our own fields beside it.
        Asker::Peer => (MOST_LINK_STREAMS, MOST_LINK_STREAMS as usize, MOST_HEAD * 2),
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(resets)
        .max_header_list_size(head as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP/2 connection broke off");
    }
}
