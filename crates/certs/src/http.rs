//! How authorities are talked to: HTTP/1.1 over TLS, one connection for as long as it lasts.
//!
//! Promise: nothing but https, no answer longer than a chain of certificates can be, none that takes for ever; and what an
//! authority says about when to come back is known also where it says no. A request that was never sent is sent again on
//! a new connection, once; one that may have been is not.
//!
//! Left out: proxies. Hosts reach the world directly.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error as AcmeError, HttpClient};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A chain has a few kilobytes; directories and problems have less.
const MOST_BODY: usize = 1 << 20;
const MOST_HEAD: usize = 64 << 10;

/// An authority could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It names an address that is none, or not https.
    #[error("{0} is no https address")]
    Address(Uri),
    /// Its name is none that TLS knows.
    #[error("its host name cannot be used")]
    Name(#[source] InvalidDnsNameError),
    /// There is no way there.
    #[error("no connection to {0}")]
    Connect(Authority, #[source] io::Error),
    /// TLS, its certificate among it.
    #[error("no TLS as it should be with {0}")]
    Tls(Authority, #[source] io::Error),
    /// HTTP.
    #[error("no answer")]
    Http(#[source] hyper::Error),
    /// The answer broke off, or is longer than any should be.
    #[error("no whole answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// How the last answer began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// Its status.
    pub(crate) status: StatusCode,
    /// How long it said to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// A client of one authority.
#[derive(Clone)]
pub(crate) struct Https(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    patience: Duration,
    open: tokio::sync::Mutex<Option<Connection>>,
    last: Mutex<Option<Answered>>,
}

struct Connection {
    to: Authority,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Https {
    /// A client that believes in these roots, and waits so long for an answer.
    pub(crate) fn new(roots: RootCertStore, patience: Duration) -> Result<Self, rustls::Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        let (tls, open, last) = (Arc::new(tls).into(), tokio::sync::Mutex::new(None), Mutex::new(None));
        Ok(Self(Arc::new(Inner { tls, patience, open, last })))
    }

    /// How the last answer began; `None` when there was none to the last request.
    pub(crate) fn last(&self) -> Option<Answered> {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn set_last(&self, answered: Option<Answered>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = answered;
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        self.set_last(None);
        let (to, request) = addressed(request)?;
        let mut open = self.open.lock().await;
        let mut connection = match open.take().filter(|open| open.to == to && !open.sender.is_closed()) {
            Some(open) => open,
            None => self.connect(to.clone()).await?,
        };
        let answer = match connection.sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut failed) => match failed.take_message() {
                // It was closed in the meantime, before anything of this was sent.
                Some(request) => {
                    connection = self.connect(to).await?;
                    connection.sender.send_request(request).await.map_err(HttpError::Http)?
                }
                None => return Err(HttpError::Http(failed.into_error())),
            },
        };
        let answer = whole(answer).await?;
        self.set_last(Some(Answered { status: answer.status(), retry_after: retry_after(&answer) }));
        if connection.sender.ready().await.is_ok() {
            *open = Some(connection);
        }
        Ok(answer)
    }

    async fn connect(&self, to: Authority) -> Result<Connection, HttpError> {
        let name = to.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let place = (name.clone(), to.port_u16().unwrap_or(443));
        let name = ServerName::try_from(name).map_err(HttpError::Name)?;
        let socket = TcpStream::connect(place).await.map_err(|error| HttpError::Connect(to.clone(), error))?;
        let _ = socket.set_nodelay(true);
        let stream = self.tls.connect(name, socket).await.map_err(|error| HttpError::Tls(to.clone(), error))?;
        let handshake = http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream));
        let (sender, driver) = handshake.await.map_err(HttpError::Http)?;
        // How it ends is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection { to, sender, driver })
    }
}

/// Whom a request goes to, and the request as it is sent there.
fn addressed(request: Request<Full<Bytes>>) -> Result<(Authority, Request<Full<Bytes>>), HttpError> {
    let (mut head, body) = request.into_parts();
    let parts = head.uri.clone().into_parts();
    let (Some(to), true) = (parts.authority, parts.scheme == Some(Scheme::HTTPS)) else {
        return Err(HttpError::Address(head.uri));
    };
    let Ok(host) = HeaderValue::from_str(to.as_str()) else { return Err(HttpError::Address(head.uri)) };
    head.uri = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
    head.headers.insert(header::HOST, host);
    Ok((to, Request::from_parts(head, body)))
}

async fn whole(answer: Response<Incoming>) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MOST_BODY).collect().await.map_err(HttpError::Body)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// RFC 9110 section 10.2.3.
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().map(Duration::from_secs).ok().or_else(|| {
        let then = httpdate::parse_http_date(text).ok()?;
        Some(then.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, AcmeError>> + Send>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let asked = inner.ask(Request::from_parts(head, Full::new(body)));
            let answer = match timeout(inner.patience, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(HttpError::TimedOut(inner.patience)),
            };
            let (parts, body) = answer.map_err(|error| AcmeError::Other(Box::new(error)))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_asked_and_a_request_says_whom() {
        let request = |uri: &str| Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
        for wrong in ["http://ca.example/dir", "/dir"] {
            assert!(matches!(addressed(request(wrong)), Err(HttpError::Address(_))), "{wrong}");
        }
        let (to, request) = addressed(request("https://[::1]:14000/dir?x")).unwrap();
        assert_eq!((to.as_str(), request.uri().to_string().as_str()), ("[::1]:14000", "/dir?x"));
        assert_eq!(request.headers()[header::HOST], "[::1]:14000");
    }

    #[test]
    fn when_to_come_back_is_understood_in_both_forms() {
        let said = |text: &str| {
            retry_after(&Response::builder().header(header::RETRY_AFTER, text).body(Bytes::new()).unwrap())
        };
        assert_eq!(said("120"), Some(Duration::from_secs(120)));
        let then = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        assert!((3590..=3600).contains(&said(&then).unwrap().as_secs()));
        assert_eq!(said("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!((said("soon"), said("-1")), (None, None));
    }
}
