//! HTTP/1.1 over a unix socket: how we talk to a Ghost.
//!
//! One connection for each request: these are a handful, and a connection kept open would have to be watched.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use sovereign_runtime::socket::{self, SocketError};
use tokio::time::timeout;

/// The largest answer read. A Ghost with every setting filled answers with some hundred kilobytes.
const LARGEST_ANSWER: usize = 16 << 20;

/// Setting up the owner took 4 s on a busy machine; Ghost's own limit for a query is far above.
const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to whatever listens on a unix socket.
#[derive(Debug, Clone)]
pub struct Connection {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens.
    #[error("Ghost does not answer")]
    Unreachable(#[source] SocketError),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection to {socket} broke", socket = .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// The answer is larger than any we expect, or ended early.
    #[error("cannot read the answer from {socket}", socket = .socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("no answer on {socket} within {} s", .patience.as_secs(), socket = .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        patience: Duration,
    },
}

impl ConnectionError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unreachable(_) => Some("see whether Ghost runs: `sovereign status`, `sovereign logs`".to_owned()),
            Self::Silent { .. } => Some("see what Ghost is busy with: `sovereign logs`".to_owned()),
            Self::Broken { .. } | Self::Answer { .. } => None,
        }
    }
}

impl Connection {
    /// Will speak to the socket at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Sends `request` (its URI is a path) and reads the whole answer.
    ///
    /// # Errors
    /// When there is no complete answer. An answer of any status is not an error here.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ConnectionError> {
        timeout(PATIENCE, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(ConnectionError::Silent { socket: self.socket.clone(), patience: PATIENCE }))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ConnectionError> {
        let path = || self.socket.clone();
        let stream = socket::connect_async(&self.socket).await.map_err(ConnectionError::Unreachable)?;
        let broken = |source| ConnectionError::Broken { socket: path(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection); // ends when the exchange does
        let answer = async {
            let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await;
            let body = body.map_err(|source| ConnectionError::Answer { socket: path(), source })?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let answer = answer.await;
        driver.abort();
        answer
    }

    /// `GET path` as an edge would ask for it, under `host`.
    ///
    /// # Errors
    /// As [`Connection::send`].
    ///
    /// # Panics
    /// When `path` or `host` cannot stand in a request.
    pub async fn get(&self, host: &str, path: &str) -> Result<(StatusCode, HeaderMap, Bytes), ConnectionError> {
        let request = Request::get(path)
            .header(http::header::HOST, host)
            .header("x-forwarded-proto", "https")
            .body(Full::default())
            .expect("callers pass a path and a host name");
        let (parts, body) = self.send(request).await?.into_parts();
        Ok((parts.status, parts.headers, body))
    }
}
