//! A service that speaks HTTP/1.1: an application on a unix socket of this host, or anything on a TCP port.
//!
//! Safe requests reuse idle connections; an unsafe one always gets a connection of its own, so that it can never be
//! sent into a connection that the application is just closing and there is no doubt whether it arrived. (A unix
//! connect costs some 50 µs.) Idle connections are given up before the application does (Node closes after 5 s).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sovereign_runtime::socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{UpstreamError, spare_of, within};
use crate::body::Body;

/// Shorter than Node's keep-alive timeout of 5 s.
const MOST_IDLE: Duration = Duration::from_secs(3);
/// Kept between requests: the crawler and a burst of misses; more would only cost the application memory.
const MOST_KEPT: usize = 8;
/// For an answer to a request without a body. What takes Ghost longer (imports, uploads) has one.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// A service on another host may be gone without a word.
const DIAL_WITHIN: Duration = Duration::from_secs(5);
/// Exchanges with the application at a time. More would only queue up inside it, and each costs a descriptor here.
const MOST_EXCHANGES: usize = 512;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A service and the idle connections to it.
pub(crate) struct Service {
    place: Place,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<(SendRequest<Body>, Instant)>>,
}

impl Service {
    pub(crate) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, turns: Arc::new(Semaphore::new(MOST_EXCHANGES)), idle: Mutex::default() })
    }

    pub(crate) async fn send(self: &Arc<Self>, mut request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let turn = tokio::time::timeout(TURN_WITHIN, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| UpstreamError::Busy)?.expect("the semaphore is never closed");
        let complete = request.body().is_end_stream();
        let reusable = request.method().is_safe() && complete;
        // HTTP/2 requests and link requests arrive in absolute form; to an origin server one speaks in origin form.
        if let Some(target) = request.uri().path_and_query() {
            *request.uri_mut() = target.clone().into();
        }
        *request.version_mut() = http::Version::HTTP_11;
        while reusable && let Some(mut sender) = self.idle_connection().await {
            let spare = spare_of(&request);
            match within(ANSWER_WITHIN, complete, sender.try_send_request(request)).await? {
                Ok(response) => return Ok(self.keep(turn, sender, response)),
                // The application has closed it under us: once more, on another one.
                Err(mut error) => match error.take_message().or(spare) {
                    Some(again) => request = again,
                    None => return Err(UpstreamError::Http(error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let answered = within(ANSWER_WITHIN, complete, sender.send_request(request)).await?;
        let response = answered.map_err(UpstreamError::Http)?;
        Ok(self.keep(turn, sender, response))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, UpstreamError> {
        match &self.place {
            Place::Unix(path) => shake_hands(socket::connect_async(path).await.map_err(UpstreamError::Socket)?).await,
            Place::Tcp(address) => {
                let dialled = tokio::time::timeout(DIAL_WITHIN, TcpStream::connect(address)).await;
                let refused = |source| UpstreamError::Service { address: *address, source };
                let stream = dialled.map_err(|_| refused(io::ErrorKind::TimedOut.into()))?.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                shake_hands(stream).await
            }
        }
    }

    async fn idle_connection(&self) -> Option<SendRequest<Body>> {
        loop {
            let (mut sender, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < MOST_IDLE && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// The response, which gives its connection back when it has been read to the end.
    fn keep(
        self: &Arc<Self>,
        turn: OwnedSemaphorePermit,
        sender: SendRequest<Body>,
        response: Response<Incoming>,
    ) -> Response<Body> {
        let upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
        response.map(|body| {
            if upgraded {
                return Body::empty();
            }
            Body::stream(Borrowed { body, sender: Some(sender), source: self.clone(), _turn: turn })
        })
    }

    fn give_back(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| since.elapsed() < MOST_IDLE && !sender.is_closed());
        if idle.len() < MOST_KEPT && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }
}

async fn shake_hands<S>(stream: S) -> Result<SendRequest<Body>, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Http)?;
    // Ends with the connection; what went wrong is told to whoever waits for the response.
    tokio::spawn(async move { connection.with_upgrades().await.ok() });
    Ok(sender)
}

/// A response body and the connection it comes from.
struct Borrowed {
    body: Incoming,
    sender: Option<SendRequest<Body>>,
    source: Arc<Service>,
    _turn: OwnedSemaphorePermit,
}

impl HttpBody for Borrowed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = frame {
            self.sender = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take().filter(|_| self.body.is_end_stream()) {
            self.source.give_back(sender);
        }
    }
}
