//! Verification from outside: the question a reader asks, asked of every data center over real TLS.
//!
//! Promise: a probe trusts nothing but the stack's own CA and the authorities that it declares, connects to the very address it was given (no name is looked
//! up), and ends within its deadline. It leaves judging to the caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sovereign_model::Origin;
use tokio::net::TcpStream;

/// A page is read up to this size; what is longer is not needed to tell that a site is served.
const LARGEST_BODY: usize = 4 << 20;

/// What came back.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The `Cache-Status` field (RFC 9211), when there is one.
    pub(crate) cache_status: Option<String>,
    /// How many bytes the body has.
    pub(crate) bytes: usize,
    /// From connecting to the last byte.
    pub(crate) took: Duration,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The CA file holds no certificate rustls can use.
    #[error("the CA certificate cannot be used")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing accepted the connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS handshake failed: an untrusted certificate, or another name in it.
    #[error("no TLS session with {address} as {host}")]
    Handshake {
        /// Where to.
        address: SocketAddr,
        /// The name in the certificate that was asked for.
        host: String,
        /// What rustls said.
        source: std::io::Error,
    },
    /// The HTTP exchange broke.
    #[error("{origin} at {address} did not answer in HTTP")]
    Exchange {
        /// Where to.
        address: SocketAddr,
        /// What was asked for.
        origin: String,
        /// What hyper said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing within the deadline.
    #[error("{origin} at {address} did not answer within {} s", deadline.as_secs())]
    Late {
        /// Where to.
        address: SocketAddr,
        /// What was asked for.
        origin: String,
        /// How long it was given.
        deadline: Duration,
    },
}

impl ProbeError {
    /// What the operator can do.
    pub(crate) fn help(&self) -> Option<String> {
        Some(match self {
            Self::Authority(_) => "`sovereign seed verify` checks the words that the CA comes from".to_owned(),
            Self::Connect { .. } | Self::Late { .. } | Self::Exchange { .. } => {
                "`sovereign status` says what is wrong, `sovereign logs` why".to_owned()
            }
            Self::Handshake { address, .. } => {
                format!("see that nothing else answers at {address}: `sovereign status`, `ss -ltnp`")
            }
        })
    }
}

/// Asks questions, trusting some authorities.
#[derive(Clone)]
pub(crate) struct Prober {
    tls: tokio_rustls::TlsConnector,
}

impl Prober {
    /// A prober that trusts the certificates in `authority_pem`, those in `roots`, and no others.
    pub(crate) fn trusting(authority_pem: &[u8], mut roots: rustls::RootCertStore) -> Result<Self, ProbeError> {
        for certificate in CertificateDer::pem_slice_iter(authority_pem) {
            let certificate = certificate.map_err(|error| ProbeError::Authority(Box::new(error)))?;
            roots.add(certificate).map_err(|error| ProbeError::Authority(Box::new(error)))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ProbeError::Authority(Box::new(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into() })
    }

    /// `GET path` of `origin`, asked of the edge at `address`.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        origin: &Origin,
        path: &str,
        deadline: Duration,
    ) -> Result<Answer, ProbeError> {
        tokio::time::timeout(deadline, self.exchange(address, origin, path))
            .await
            .unwrap_or_else(|_| Err(ProbeError::Late { address, origin: origin.to_string(), deadline }))
    }

    async fn exchange(&self, address: SocketAddr, origin: &Origin, path: &str) -> Result<Answer, ProbeError> {
        let started = Instant::now();
        let tcp = TcpStream::connect(address).await.map_err(|source| ProbeError::Connect { address, source })?;
        let handshake = |source| ProbeError::Handshake { address, host: origin.host().to_string(), source };
        let name = ServerName::try_from(origin.host().to_string())
            .map_err(|error| handshake(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let tls = self.tls.connect(name, tcp).await.map_err(handshake)?;
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| ProbeError::Exchange {
            address,
            origin: origin.to_string(),
            source,
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|error| broken(error.into()))?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, origin.authority())
            .header(hyper::header::USER_AGENT, concat!("sovereign/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(error.into()))?;
        let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(broken)?.to_bytes();
        driver.abort();
        let cache_status = head.headers.get("cache-status").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status.as_u16(), cache_status, bytes: body.len(), took: started.elapsed() })
    }
}
