//! Where a site's content comes from, behind one call: a request goes out, a response comes back.
//!
//! | source | what it is | what it promises |
//! |---|---|---|
//! | [`service`] | an application on this host, or any service on a TCP port: HTTP/1.1 | kept connections for reads, a new one for every unsafe request |
//! | [`folder`] | files on this host | nothing outside the folder is ever read |
//! | [`edges`] | the edges of the primary data center | each [`link`] is one HTTP/2 connection per peer, pinned keys |
//!
//! Requests given to [`Upstream::send`] are already pinned (`Host`, `X-Forwarded-*`) by whoever made them.

pub(crate) mod edges;
pub(crate) mod folder;
pub(crate) mod link;
pub(crate) mod mime;
pub(crate) mod service;
mod unsent;
pub(crate) mod uplinks;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use sovereign_model::edge_name::EdgeName;
use sovereign_runtime::socket::SocketError;

use crate::body::{Body, TooLong};
use edges::Edges;
use folder::Folder;
use service::Service;

/// Where a site's content comes from.
#[derive(Clone)]
pub(crate) enum Upstream {
    Service(Arc<Service>),
    Folder(Arc<Folder>),
    Link(Arc<Edges>),
    /// An application on this host that is being worked on: nobody asks it for anything.
    Maintained,
}

impl Upstream {
    /// Sends `request` and waits for the head of the response; its body streams.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        match self {
            Self::Service(source) => source.send(request).await,
            Self::Folder(folder) => Ok(folder.answer(request).await),
            Self::Link(edges) => edges.send(request).await,
            Self::Maintained => Err(UpstreamError::Maintained),
        }
    }

    /// Whether content is made on this host (and not on another, here or at another data center).
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Self::Link(_))
    }
}

/// Waits for the head of an answer: at most `most` when the question is complete. While a body is on its way the
/// answer may take as long as the body does, and a body that makes no progress ends by itself.
async fn within<T>(most: Duration, complete: bool, answer: impl Future<Output = T>) -> Result<T, UpstreamError> {
    if complete {
        tokio::time::timeout(most, answer).await.map_err(|_| UpstreamError::Timeout)
    } else {
        Ok(answer.await)
    }
}

/// A request to send again if the connection turns out to be gone; only one that is safe and has no body.
fn spare_of(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_safe() || !request.body().is_end_stream() {
        return None;
    }
    let mut spare = Request::new(Body::empty());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.version_mut() = request.version();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}

/// The source did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("the application does not answer on its socket")]
    Socket(#[source] SocketError),
    #[error("nothing answers at {address}")]
    Service { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the connection to the source failed")]
    Http(#[source] hyper::Error),
    #[error("the source did not answer in time")]
    Timeout,
    #[error("too many requests wait for the application")]
    Busy,
    #[error("edge {peer} cannot be reached")]
    Unreachable { peer: EdgeName, source: std::io::Error },
    #[error("edge {peer} has no address to dial")]
    NoAddress { peer: EdgeName },
    #[error("no edge of data center {datacenter} that answers reaches the site's application")]
    NoSource { datacenter: String },
    #[error("the application is being worked on, and not asked for anything")]
    Maintained,
    #[error("the source answered {0}")]
    Status(http::StatusCode),
    #[error("the body of the answer broke off")]
    Body(#[source] crate::body::BodyError),
    #[error("the copy cannot be stored")]
    Store(#[source] crate::store::StoreError),
}

impl UpstreamError {
    /// Whether the source itself cannot be reached. An exchange that broke off says nothing about that: the reader may
    /// have left.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Socket(_)
                | Self::Service { .. }
                | Self::Unreachable { .. }
                | Self::NoAddress { .. }
                | Self::NoSource { .. }
                | Self::Maintained
        )
    }

    /// Whether the reader's own body went beyond its bound.
    pub(crate) fn is_of_too_long_a_body(&self) -> bool {
        let mut causes = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        causes.any(|cause| cause.is::<TooLong>())
    }

    /// The error and its causes on one line, for `status`.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
