//! One look at an address: a connection, TLS with the certificate checked, and a request that an edge answers.
//!
//! Promise: what answers is an edge that has a certificate of the stack's for the name that was asked for, or one of a
//! public authority where that was allowed; a listener, a captive portal or somebody else's server does not count. Every
//! look begins from nothing: no session is resumed, because a resumed one checks no certificate.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, pem};
use sovereign_model::agent_config::{HEALTH_PATH, LEARNED_FIELD, Watched};
use sovereign_runtime::certificate::public_roots;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::warn;

use crate::away::Place;

/// An edge says no more than a status and a few fields.
const MOST_HEAD: usize = 16 << 10;

/// So many addresses are taken of one answer.
const MOST_LEARNED: usize = 64;

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens, or there is no way there.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// TLS, its certificate among it.
    #[error("no TLS as it should be")]
    Tls(#[source] io::Error),
    /// HTTP.
    #[error("no answer")]
    Http(#[source] hyper::Error),
    /// Somebody answers, and it is not what an edge says.
    #[error("it answers {}, not as an edge does", .0.as_u16())]
    Status(StatusCode),
    /// It took too long.
    #[error("nothing within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

impl ProbeError {
    /// Whether there is no way there from here: a machine without IPv6 can say nothing of an address of it.
    pub fn is_no_way(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == io::ErrorKind::NetworkUnreachable)
    }

    /// How far the clock there is ahead of the one here, in seconds, at least: its certificate begins later than now.
    pub fn clock_ahead(&self) -> Option<i64> {
        let Self::Tls(error) = self else { return None };
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
                i64::try_from(not_before.as_secs().saturating_sub(time.as_secs())).ok()
            }
            _ => None,
        }
    }
}

/// Certificates that cannot be believed in.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is no certificate.
    #[error("the authority's certificate cannot be read")]
    Authority(#[source] pem::Error),
    /// It is one that cannot be used.
    #[error("the authority's certificate cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// What a look found: an edge that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// How long the answer took.
    pub took: Duration,
    /// Where it says that data centers are whose address changes. To be believed of an edge of the own data center only.
    pub learned: BTreeSet<Place>,
    /// How far its clock is ahead of the one here, in seconds, if it told the hour.
    pub clock_ahead: Option<i64>,
}

/// Looks at addresses.
#[derive(Debug)]
pub struct Prober {
    stack: Arc<ClientConfig>,
    public: Arc<ClientConfig>,
    timeout: Duration,
}

impl Prober {
    /// One that believes in the stack's authority, PEM, and `with_public` in this machine's too, where an address says so.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn new(authority: &str, with_public: bool, timeout: Duration) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.map_err(TrustError::Authority)?).map_err(TrustError::Unusable)?;
        }
        let stack = client(roots.clone())?;
        let public = if with_public { client(with_public_roots(roots))? } else { stack.clone() };
        Ok(Self { stack, public, timeout })
    }

    /// Looks once.
    ///
    /// # Errors
    /// When no edge answers there in time.
    pub async fn look(&self, at: &Watched) -> Result<Look, ProbeError> {
        let began = Instant::now();
        match timeout(self.timeout, self.ask(at)).await {
            Ok(answered) => answered.map(|fields| Look {
                took: began.elapsed(),
                learned: learned(&fields),
                clock_ahead: clock_ahead(&fields, SystemTime::now()),
            }),
            Err(_) => Err(ProbeError::TimedOut(self.timeout)),
        }
    }

    async fn ask(&self, at: &Watched) -> Result<HeaderMap, ProbeError> {
        let socket = TcpStream::connect(at.address).await.map_err(ProbeError::Connect)?;
        let tls = if at.public { &self.public } else { &self.stack };
        let stream = TlsConnector::from(tls.clone()).connect(server_name(at), socket).await.map_err(ProbeError::Tls)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MOST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeError::Http)?;
        let answer = sender.send_request(question(at));
        tokio::pin!(connection, answer);
        // Both here, so that a look that is given up leaves nothing behind.
        let answer = tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error),
            },
        };
        let answer = answer.map_err(ProbeError::Http)?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(answer.into_parts().0.headers),
            status => Err(ProbeError::Status(status)),
        }
    }
}

/// Where an edge says that other data centers are. What cannot be read is left out.
pub fn learned(fields: &HeaderMap) -> BTreeSet<Place> {
    let read = |told: &HeaderValue| {
        let (datacenter, address) = told.to_str().ok()?.split_once(' ')?;
        Some((datacenter.parse().ok()?, address.parse().ok()?))
    };
    fields.get_all(LEARNED_FIELD).iter().take(MOST_LEARNED).filter_map(read).collect()
}

/// By what an answer says of the hour (RFC 9110 section 6.6.1).
fn clock_ahead(fields: &HeaderMap, now: SystemTime) -> Option<i64> {
    let told = httpdate::parse_http_date(fields.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |by: Duration| i64::try_from(by.as_secs()).ok();
    match told.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => seconds(behind.duration()).map(|behind| -behind),
    }
}

/// Whose certificate it must be.
fn server_name(at: &Watched) -> ServerName<'static> {
    let named = at.name.as_ref().and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
    named.unwrap_or_else(|| ServerName::from(at.address.ip()))
}

fn question(at: &Watched) -> Request<Empty<Bytes>> {
    let host = match &at.name {
        Some(name) => SocketName(name.as_str(), at.address).to_string(),
        None => at.address.to_string(),
    };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from_static(HEALTH_PATH);
    // Names and addresses are made of what may stand in a field.
    if let Ok(host) = HeaderValue::from_str(&host) {
        request.headers_mut().insert(header::HOST, host);
    }
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}

/// A name with the port of an address.
struct SocketName<'n>(&'n str, SocketAddr);

impl std::fmt::Display for SocketName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1.port() {
            443 => f.write_str(self.0),
            port => write!(f, "{}:{port}", self.0),
        }
    }
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn with_public_roots(mut roots: RootCertStore) -> RootCertStore {
    let text = public_roots();
    if text.is_empty() {
        warn!("this machine has no certificates of public authorities (package ca-certificates): none is believed in");
        return roots;
    }
    let (added, ignored) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    tracing::debug!(added, ignored, "public authorities are believed in");
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_edge_says_of_the_hour_is_compared_with_the_one_here() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let said = |date: &'static str| {
            clock_ahead(&HeaderMap::from_iter([(header::DATE, HeaderValue::from_static(date))]), now)
        };
        assert_eq!(said("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(said("Sun, 06 Nov 1994 10:49:37 GMT"), Some(7200));
        assert_eq!(said("Fri, 06 Nov 1970 08:49:37 GMT"), Some(-24 * 365 * 86_400 - 6 * 86_400));
        assert_eq!(said("soon"), None);
        assert_eq!(clock_ahead(&HeaderMap::new(), now), None);
    }
}
