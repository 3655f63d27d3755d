//! What deSEC's interface is to the crate that tells it, recorded from its documentation and made to work: its domains, sets of
//! records, limits and refusals, behind TLS and a proxy that leads to it and nowhere else.
//!
//! The crate knows its address by heart. So whoever tells it is led here as an operator's own proxy leads (`HTTPS_PROXY`), and
//! believes its certificate as a machine does whose authorities are these (`SSL_CERT_FILE`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const HOST: &str = "desec.io";
/// Records live an hour at least.
const LEAST_TTL: u64 = 3600;

/// Sets of records: subname and type, time to live and values.
type Sets = BTreeMap<(String, String), (u64, Vec<String>)>;

/// It, for as long as the process lives.
pub(crate) struct Desec {
    pub(crate) proxy: SocketAddr,
    /// The certificate of the authority that its own is issued by, PEM.
    pub(crate) authority: String,
    inner: Arc<Inner>,
}

struct Inner {
    token: &'static str,
    domain: &'static str,
    sets: Mutex<Sets>,
    /// What was asked: method and path.
    asked: Mutex<Vec<String>>,
    away: AtomicBool,
}

impl Desec {
    /// One that has this domain and knows this token.
    pub(crate) fn start(domain: &'static str, token: &'static str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let (asked, away) = (Mutex::default(), AtomicBool::new(false));
        let inner = Arc::new(Inner { token, domain, sets: Mutex::default(), asked, away });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn({
            let (inner, tls) = (inner.clone(), TlsAcceptor::from(Arc::new(config)));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = TcpListener::from_std(listener).unwrap();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(inner.clone().serve(stream, tls.clone()));
                    }
                });
            }
        });
        Self { proxy, authority: issuer.pem(), inner }
    }

    pub(crate) fn has(&self, subname: &str, kind: &str) -> Vec<String> {
        self.inner
            .sets
            .lock()
            .unwrap()
            .get(&(subname.to_owned(), kind.to_owned()))
            .map(|of| of.1.clone())
            .unwrap_or_default()
    }

    pub(crate) fn set(&self, subname: &str, kind: &str, records: &[&str]) {
        let records = records.iter().map(|&record| record.to_owned()).collect();
        self.inner.sets.lock().unwrap().insert((subname.to_owned(), kind.to_owned()), (LEAST_TTL, records));
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
    async fn serve(self: Arc<Self>, mut stream: TcpStream, tls: TlsAcceptor) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if head.len() < 4096 => head.push(byte),
                _ => return,
            }
        }
        let wanted = format!("CONNECT {HOST}:443 ");
        let leads = head.starts_with(wanted.as_bytes()) && !self.away.load(Ordering::SeqCst);
        let answer: &[u8] = if leads { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 502 Bad Gateway\r\n\r\n" };
        if stream.write_all(answer).await.is_err() || !leads {
            return;
        }
        let Ok(stream) = tls.accept(stream).await else { return };
        let service = service_fn(move |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.asked.lock().unwrap().push(format!("{} {}", parts.method, parts.uri.path()));
        let token = parts.headers.get("authorization").and_then(|token| token.to_str().ok());
        let (status, answer) = if token == Some(&format!("Token {}", self.token)) {
            self.done(&parts.method, parts.uri.path(), &body)
        } else {
            (401, json!({ "detail": "Invalid token." }))
        };
        let body = if status == 204 { Bytes::new() } else { answer.to_string().into() };
        Response::builder().status(status).header("content-type", "application/json").body(Full::new(body)).unwrap()
    }

    fn done(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let (home, mut sets) = (format!("/api/v1/domains/{}/", self.domain), self.sets.lock().unwrap());
        let missing = || (404, json!({ "detail": "Not found." }));
        let Some(below) = path.strip_prefix(&home) else { return missing() };
        let words: Vec<&str> = below.split('/').collect();
        match (method, words.as_slice()) {
            (&Method::GET, [""]) => (200, json!({ "name": self.domain, "minimum_ttl": LEAST_TTL })),
            (&Method::GET, ["rrsets", subname, kind, ""]) => {
                let key = (subname.trim_start_matches('@').to_owned(), (*kind).to_owned());
                sets.get(&key).map_or_else(missing, |set| (200, self.told(&key, set)))
            }
            (&Method::DELETE, ["rrsets", subname, kind, ""]) => {
                sets.remove(&(subname.trim_start_matches('@').to_owned(), (*kind).to_owned()));
                (204, Value::Null)
            }
            (&Method::PUT, ["rrsets", ""]) => {
                let Ok(Value::Array(wanted)) = serde_json::from_slice(body) else { return (400, json!({})) };
                let mut told = Vec::new();
                for set in wanted {
                    let text = |name: &str| set[name].as_str().unwrap_or_default().to_owned();
                    let (key, ttl) = ((text("subname"), text("type")), set["ttl"].as_u64().unwrap_or_default());
                    let records = set["records"].as_array().cloned().unwrap_or_default();
                    let records: Vec<String> = records.iter().filter_map(|of| of.as_str().map(str::to_owned)).collect();
                    if ttl < LEAST_TTL {
                        return (
                            400,
                            json!([{ "ttl": [format!("Ensure this value is greater than or equal to {LEAST_TTL}.")] }]),
                        );
                    }
                    if !records.iter().all(|record| is_canonical(&key.1, record)) {
                        return (400, json!([{ "records": ["Record content malformed."] }]));
                    }
                    told.push(self.told(&key, &(ttl, records.clone())));
                    sets.insert(key, (ttl, records));
                }
                (200, Value::Array(told))
            }
            _ => (405, json!({ "detail": "Method not allowed." })),
        }
    }

    fn told(&self, (subname, kind): &(String, String), (ttl, records): &(u64, Vec<String>)) -> Value {
        let name = if subname.is_empty() { format!("{}.", self.domain) } else { format!("{subname}.{}.", self.domain) };
        let hour = "2026-11-26T12:00:00.000000Z";
        json!({
            "created": hour, "domain": self.domain, "subname": subname, "name": name, "records": records, "ttl": ttl,
            "type": kind, "touched": hour,
        })
    }
}

/// Names end with a dot and texts stand between quotes: what does not, is refused.
fn is_canonical(kind: &str, record: &str) -> bool {
    match kind {
        "A" => record.parse::<std::net::Ipv4Addr>().is_ok(),
        "AAAA" => record.parse::<std::net::Ipv6Addr>().is_ok(),
        "MX" | "CNAME" => record.ends_with('.'),
        "TXT" => record.len() >= 2 && record.starts_with('"') && record.ends_with('"'),
        _ => true,
    }
}
