//! The figures for Prometheus, over plain HTTP on a port of this machine.
//!
//! One question per connection, few connections, little time: whoever asks stands on this machine and gets everything
//! in one answer. A page in the operator's browser is on this machine too: its own name could lead here (DNS rebinding),
//! so a question must be asked under an address, or as `localhost`.
//!
//! While an edge is replaced, one process tells its figures at a time, or they would jump back and forth: the one that
//! owns the store. A question that comes in between waits in the socket's queue.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use hyper::service::service_fn;
use sovereign_model::ByteSize;
use sovereign_model::edge_rules::Limits;
use sovereign_runtime::lifecycle::accept_each;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::body::Body;
use crate::edge::Edge;
use crate::serve::{prepare, serve_http1};
use crate::{metrics, pages};

const PATH: &str = "/metrics";
/// Prometheus' text format.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// Questions at a time: some Prometheus servers and a person.
const MOST_AT_ONCE: usize = 8;
/// From the accepted socket to the end of the answer; Prometheus gives up after ten seconds.
const WITHIN: Duration = Duration::from_secs(10);
/// Until the question must be there.
const ASKED_WITHIN_SECONDS: u32 = 5;
/// A question is short.
const MOST_HEAD: ByteSize = ByteSize(8 << 10);

/// Answers questions on `listener` until the edge is told to stop.
pub(crate) async fn accept(listener: TcpListener, edge: Arc<Edge>) {
    let stopping = edge.lifecycle().stopping();
    let seats = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let limits = Limits { head: MOST_HEAD, head_within: ASKED_WITHIN_SECONDS, ..Limits::default() };
    prepare(&listener);
    accept_each(&listener, stopping.clone(), |(socket, _)| {
        let Ok(seat) = seats.clone().try_acquire_owned() else { return };
        let (edge, stopping, limits) = (edge.clone(), stopping.clone(), limits.clone());
        edge.clone().lifecycle().spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&edge, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            // Whoever takes longer is cut off.
            let _ = timeout(WITHIN, serve_http1(socket, service, &limits, stopping)).await;
            drop(seat);
        });
    })
    .await;
}

fn answer<B>(edge: &Edge, request: &Request<B>) -> Response<Body> {
    let mut response = if !is_asked_by_address(request) {
        pages::text(StatusCode::FORBIDDEN, "Ask under an address of this machine.")
    } else if request.uri().path() != PATH {
        pages::text(StatusCode::NOT_FOUND, "The figures are at /metrics.")
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = pages::text(StatusCode::METHOD_NOT_ALLOWED, "Figures are read with GET.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    } else {
        let mut response = Response::new(Body::from(metrics::render(&edge.status())));
        response.headers_mut().insert(CONTENT_TYPE, FORMAT);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    };
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether every authority that a request names, and one at least, is an address or `localhost`.
fn is_asked_by_address<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut named = hosts.chain(request.uri().authority().map(|authority| Some(authority.clone()))).peekable();
    named.peek().is_some() && named.all(|authority| authority.is_some_and(|authority| is_address(&authority)))
}

fn is_address(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    !authority.as_str().contains('@') && (bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        is_asked_by_address(&request.body(()).unwrap())
    }

    #[test]
    fn a_name_that_may_be_anybodys_is_refused() {
        for host in ["127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "localhost:9464", "LOCALHOST", "192.0.2.7:80"] {
            assert!(asked("/metrics", &[host]), "{host}");
            assert!(asked(&format!("http://{host}/metrics"), &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "x@127.0.0.1",
            "evil.example@127.0.0.1",
            "127.0.0.1 ",
            "",
        ] {
            assert!(!asked("/metrics", &[host]), "{host}");
        }
        assert!(!asked("/metrics", &[]));
        assert!(!asked("/metrics", &["127.0.0.1", "evil.example"]));
        assert!(!asked("http://evil.example/metrics", &["127.0.0.1"]));
    }
}
