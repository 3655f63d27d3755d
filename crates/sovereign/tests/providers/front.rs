//! What stands before recorded interfaces: a proxy that leads to their addresses and nowhere else, and TLS.
//!
//! The crate knows the addresses by heart. So whoever tells a provider is led here as an operator's own proxy leads (`HTTPS_PROXY`),
//! and believes the certificates as a machine does whose authorities are these (`SSL_CERT_FILE`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What is asked of an interface.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// What the asker proves itself with.
    pub(crate) authorization: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// An interface: a status, and what it says; a text is said as it is.
pub(crate) trait Interface: Send + Sync {
    fn answer(&self, asked: &Asked<'_>) -> (u16, Value);
}

/// Who answers under which name.
type Hosts = BTreeMap<&'static str, Arc<dyn Interface>>;

/// It, for as long as the process lives.
pub(crate) struct Front {
    pub(crate) proxy: SocketAddr,
    /// The certificate of the authority that theirs are issued by, PEM.
    pub(crate) authority: String,
    inner: Arc<Inner>,
}

struct Inner {
    hosts: Hosts,
    tls: TlsAcceptor,
    /// What was asked: method, host and path.
    asked: Mutex<Vec<String>>,
    away: AtomicBool,
}

impl Front {
    pub(crate) fn start(hosts: Hosts) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.keys().map(|&host| host.to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let (asked, away) = (Mutex::default(), AtomicBool::new(false));
        let inner = Arc::new(Inner { hosts, tls: TlsAcceptor::from(Arc::new(config)), asked, away });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn({
            let inner = inner.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = TcpListener::from_std(listener).unwrap();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(inner.clone().serve(stream));
                    }
                });
            }
        });
        Self { proxy, authority: issuer.pem(), inner }
    }

    pub(crate) fn is_away(&self, away: bool) {
        self.inner.away.store(away, Ordering::SeqCst);
    }

    /// What was asked since this was asked the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.asked.lock().unwrap())
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if head.len() < 4096 => head.push(byte),
                _ => return,
            }
        }
        let is_it = |host: &&&str| head.starts_with(format!("CONNECT {host}:443 ").as_bytes());
        let host = self.hosts.keys().find(is_it).copied().filter(|_| !self.away.load(Ordering::SeqCst));
        let answer: &[u8] =
            if host.is_some() { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 502 Bad Gateway\r\n\r\n" };
        if stream.write_all(answer).await.is_err() {
            return;
        }
        let Some(host) = host else { return };
        let Ok(stream) = self.tls.accept(stream).await else { return };
        let service = service_fn(move |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(host, request).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, host: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        self.asked.lock().unwrap().push(format!("{method} {host}{path}"));
        let authorization = parts.headers.get("authorization").and_then(|of| of.to_str().ok());
        let query = parts.uri.query().unwrap_or_default();
        let (status, said) = self.hosts[host].answer(&Asked { method, path, query, authorization, body: &body });
        let body: Bytes = match said {
            _ if status == 204 => Bytes::new(),
            Value::String(text) => text.into(),
            said => said.to_string().into(),
        };
        Response::builder().status(status).header("content-type", "application/json").body(Full::new(body)).unwrap()
    }
}
