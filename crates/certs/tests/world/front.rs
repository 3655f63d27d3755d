//! What stands between pebble and whoever asks it: passes everything on, counts it, and breaks what a test wants broken.
//!
//! Debian's pebble knows nothing of renewal information (RFC 9773); that is told here, and what an order replaces.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Trust;

/// What it does to what passes.
#[derive(Default)]
pub(crate) struct Rules {
    /// The renewal window that it suggests for every certificate.
    pub(crate) window: Option<(OffsetDateTime, OffsetDateTime)>,
    /// New orders are answered so: status, type of the problem, seconds to wait.
    pub(crate) refuse: Option<(u16, &'static str, Option<u64>)>,
    /// Orders that replace something are answered as if that was done already.
    pub(crate) replaced: bool,
    /// Everything is answered by a page, as by a proxy whose authority is away.
    pub(crate) page: bool,
    /// The request of this number, from 1, is never answered: `true` when it is passed on all the same.
    pub(crate) hang: Option<(usize, bool)>,
}

/// What passed.
#[derive(Default)]
pub(crate) struct Seen {
    /// Method and path of every request.
    pub(crate) requests: Vec<String>,
    /// What new orders said that they replace.
    pub(crate) replaces: Vec<Option<String>>,
    /// The kinds of certificates that they asked for.
    pub(crate) profiles: Vec<Option<String>>,
}

impl Seen {
    /// How many requests there were to a path that begins so.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.requests.iter().filter(|seen| seen.starts_with(request)).count()
    }
}

#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) place: SocketAddr,
    pub(crate) rules: Arc<Mutex<Rules>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// Told when a request hangs.
    pub(crate) hanging: Arc<Notify>,
    behind: SocketAddr,
    client: TlsConnector,
}

pub(crate) const NEW_ORDER: &str = "POST /order-plz";
pub(crate) const NEW_ACCOUNT: &str = "POST /sign-me-up";
pub(crate) const CHALLENGE: &str = "POST /chalZ/";
const WINDOWS: &str = "/renewal-info/";

impl Front {
    pub(crate) async fn start(trust: &Trust, behind: SocketAddr) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trust.root.as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(trust.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(trust.key.as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Self {
            place: listener.local_addr().unwrap(),
            rules: Arc::default(),
            seen: Arc::default(),
            hanging: Arc::default(),
            behind,
            client: Arc::new(client).into(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let serving = front.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (front, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let front = front.clone();
                        async move { Ok::<_, std::convert::Infallible>(front.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        front
    }

    pub(crate) fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap());
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let line = format!("{} {}", head.method, head.uri.path());
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.requests.push(line.clone());
            seen.requests.len()
        };
        let hang = self.rules.lock().unwrap().hang.filter(|(at, _)| *at == number);
        if hang.is_some_and(|(_, passed_on)| !passed_on) {
            self.hanging.notify_one();
            std::future::pending::<()>().await;
        }
        if let Some(answer) = self.own(&head.method, head.uri.path(), &line) {
            return answer;
        }
        let ordered = (line == NEW_ORDER).then(|| {
            let order = payload(&body);
            ["replaces", "profile"].map(|key| order[key].as_str().map(str::to_owned))
        });
        let replaces = ordered.as_ref().map(|[replaces, _]| replaces.clone());
        if let Some([replaces, profile]) = &ordered {
            let mut seen = self.seen.lock().unwrap();
            seen.replaces.push(replaces.clone());
            seen.profiles.push(profile.clone());
            drop(seen);
            let rules = self.rules.lock().unwrap();
            if let Some((status, kind, wait)) = rules.refuse {
                return problem(status, kind, wait);
            }
            if rules.replaced && replaces.is_some() {
                return problem(409, "alreadyReplaced", None);
            }
        }
        let answer = self.pass_on(Request::from_parts(head, Full::new(body))).await;
        // One that is refused because of its nonce comes again, and counts then.
        if answer.body().windows(8).any(|part| part == b"badNonce") {
            let mut seen = self.seen.lock().unwrap();
            seen.requests[number - 1].insert_str(0, "again: ");
            if replaces.is_some() {
                seen.replaces.pop();
                seen.profiles.pop();
            }
        }
        if hang.is_some() {
            self.hanging.notify_one();
            std::future::pending::<()>().await;
        }
        self.told(&line, replaces.flatten(), answer)
    }

    /// What it answers itself.
    fn own(&self, method: &Method, path: &str, line: &str) -> Option<Response<Full<Bytes>>> {
        let rules = self.rules.lock().unwrap();
        if rules.page {
            let page = Response::builder().status(502).body(Full::new("<html>Bad gateway</html>".into()));
            return Some(page.unwrap());
        }
        let (start, end) = rules.window.filter(|_| *method == Method::GET && path.starts_with(WINDOWS))?;
        let [start, end] = [start, end].map(|time| time.format(&Rfc3339).unwrap());
        assert!(line.len() > WINDOWS.len() + 10, "{line}");
        let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        Some(Response::builder().header(header::RETRY_AFTER, "21600").body(Full::new(body.into())).unwrap())
    }

    async fn pass_on(&self, mut request: Request<Full<Bytes>>) -> Response<Bytes> {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let socket = TcpStream::connect(self.behind).await.unwrap();
        let stream = self.client.connect(ServerName::from(self.behind.ip()), socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let line = format!("{} {}", request.method(), request.uri());
        let answer = sender.send_request(request).await;
        let (mut head, body) = answer.unwrap_or_else(|error| panic!("{line}: {error}")).into_parts();
        head.headers.remove(header::CONNECTION);
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    /// Adds what this pebble does not say.
    fn told(&self, line: &str, replaces: Option<String>, answer: Response<Bytes>) -> Response<Full<Bytes>> {
        let (mut head, mut body) = answer.into_parts();
        let more = match line {
            "GET /dir" if self.rules.lock().unwrap().window.is_some() => {
                let url = format!("https://127.0.0.1:{}{}", self.place.port(), WINDOWS.trim_end_matches('/'));
                Some(("renewalInfo", url))
            }
            NEW_ORDER if head.status.is_success() => replaces.map(|id| ("replaces", id)),
            _ => None,
        };
        if let Some((key, value)) = more {
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            object[key] = value.into();
            body = object.to_string().into();
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Response::from_parts(head, Full::new(body))
    }
}

fn problem(status: u16, kind: &str, wait: Option<u64>) -> Response<Full<Bytes>> {
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "says the front" });
    let mut answer = Response::builder().status(status).header("replay-nonce", "none-that-is-known");
    if let Some(wait) = wait {
        answer = answer.header(header::RETRY_AFTER, wait);
    }
    answer.body(Full::new(body.to_string().into())).unwrap()
}

/// What a signed request says (RFC 7515).
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap()).unwrap()
}
