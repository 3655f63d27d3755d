//! Edges that die in every way that servers do.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this module")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sovereign_dns::health::Rules;
use sovereign_model::agent_config::{HEALTH_PATH, LEARNED_FIELD};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub const NAME: &str = "blog.example";

/// As shipped, many times as fast.
pub const RULES: Rules = Rules {
    interval: Duration::from_millis(40),
    jitter_percent: 10,
    timeout: Duration::from_millis(500),
    fall: 3,
    rise: 2,
    hold: Duration::from_millis(200),
    longest_hold: Duration::from_secs(1),
    calm: Duration::from_secs(60),
};

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server's side of TLS, for a name and for loopback.
    pub fn server(&self, name: &str) -> TlsAcceptor {
        self.server_from(name, 1975)
    }

    /// The same, whose certificate begins in a year.
    pub fn server_from(&self, name: &str, year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    }
}

/// How a server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As an edge.
    Edge,
    /// It answers everything with this status.
    Status(u16),
    /// It takes connections, and says nothing.
    Silent,
}

/// Where an edge says that others are, as it says so.
pub type Told = Arc<Mutex<Vec<String>>>;

/// A server, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    tasks: JoinHandle<()>,
}

impl Server {
    pub async fn start(tls: TlsAcceptor, manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tls, manner).await
    }

    pub async fn start_at(address: SocketAddr, tls: TlsAcceptor, manner: Manner) -> Self {
        Self::start_telling(address, tls, manner, Told::default()).await
    }

    /// One that knows where others are.
    pub async fn start_telling(address: SocketAddr, tls: TlsAcceptor, manner: Manner, told: Told) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, told) = (tls.clone(), told.clone());
                connections.spawn(async move {
                    if manner == Manner::Silent {
                        std::future::pending::<()>().await;
                    }
                    let Ok(stream) = tls.accept(socket).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        assert_eq!(request.uri().path(), HEALTH_PATH);
                        let status = if let Manner::Status(status) = manner { status } else { 204 };
                        let mut response = Response::new(Empty::<Bytes>::new());
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        for told in &*told.lock().unwrap() {
                            response.headers_mut().append(LEARNED_FIELD, told.parse().unwrap());
                        }
                        std::future::ready(Ok::<_, std::convert::Infallible>(response))
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, tasks }
    }

    /// Nobody listens any more, and who is connected is cut off.
    pub async fn kill(self) -> SocketAddr {
        self.tasks.abort();
        assert!(self.tasks.await.unwrap_err().is_cancelled());
        self.address
    }
}
