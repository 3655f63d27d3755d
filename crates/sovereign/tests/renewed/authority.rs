//! An authority (RFC 8555) that lives in the hour of a test, as Debian's pebble cannot.
//!
//! Checked as the world's do it: that every request is signed by the key of its account, for its address, with a nonce that was
//! given out and is used once; that an order is that account's; that each name server that answers `kdig` has the answer to the
//! challenge; and, by OpenSSL, that a request for a certificate is signed by its own key and for the one name that was ordered.
//!
//! Left out: challenges but DNS-01, keys but P-256, several names in an order, limits, revocation, renewal windows, CAA, DNSSEC,
//! and that an authority takes its time.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SignatureAlgorithm,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::Clock;
use crate::pebble::Trust;

/// What it answers: a status, where the thing is that is spoken of, what is said.
type Answer = (StatusCode, Option<String>, Said);
/// Why it refuses: the kind of the problem, and for people.
type Refusal = (&'static str, String);

enum Said {
    Object(Value),
    Chain(String),
}

/// It issues until it is dropped.
pub(super) struct Authority {
    pub(super) place: SocketAddr,
    inner: Arc<Inner>,
    /// What it is answered by; it ends with the value.
    _runtime: Runtime,
}

struct Inner {
    base: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    name_servers: Vec<SocketAddr>,
    clock: Clock,
    life: Duration,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    nonces: BTreeSet<String>,
    accounts: Vec<Account>,
    orders: Vec<Order>,
}

struct Account {
    /// The point of its key, uncompressed.
    key: Vec<u8>,
    /// RFC 7638.
    thumbprint: String,
}

struct Order {
    account: usize,
    name: String,
    token: String,
    status: &'static str,
    chain: Option<String>,
}

/// The public key of a request for a certificate: a point on P-256.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// One that asks these name servers, all of them, and issues for so long.
    pub(super) fn start(trust: &Trust, name_servers: &[SocketAddr], clock: &Clock, life: Duration) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "of the test's hour");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(trust.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(trust.key.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let place = listener.local_addr().unwrap();
        let (base, books) = (format!("https://127.0.0.1:{}", place.port()), Mutex::default());
        let (name_servers, clock) = (name_servers.to_vec(), clock.clone());
        let inner = Arc::new(Inner { base, issuer, name_servers, clock, life, books });
        let serving = inner.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, inner) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = hyper::service::service_fn(move |request| answered(inner.clone(), request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    // How it ends is the client's to say.
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { place, inner, _runtime: runtime }
    }

    /// What readers believe it by.
    pub(super) fn root(&self) -> String {
        self.inner.issuer.pem()
    }

    /// How many certificates it has issued.
    pub(super) fn issued(&self) -> usize {
        self.inner.books.lock().unwrap().orders.iter().filter(|order| order.chain.is_some()).count()
    }
}

async fn answered(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let nonce = random();
    inner.books.lock().unwrap().nonces.insert(nonce.clone());
    // It asks name servers, and waits for them.
    let answer = tokio::task::spawn_blocking(move || inner.answer(&head.method, head.uri.path(), &body)).await.unwrap();
    let (status, location, said) = answer.unwrap_or_else(|(kind, detail)| {
        let problem = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        (StatusCode::BAD_REQUEST, None, Said::Object(problem))
    });
    let mut response = Response::builder().status(status).header("replay-nonce", nonce);
    if let Some(location) = location {
        response = response.header(header::LOCATION, location);
    }
    let text = match said {
        Said::Object(object) => object.to_string(),
        Said::Chain(chain) => chain,
    };
    Ok(response.body(Full::new(text.into())).unwrap())
}

impl Inner {
    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Result<Answer, Refusal> {
        let base = &self.base;
        if *method == Method::GET && path == "/dir" {
            let directory = json!({
                "newNonce": format!("{base}/nonce"),
                "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"),
            });
            return Ok((StatusCode::OK, None, Said::Object(directory)));
        }
        if *method == Method::HEAD && path == "/nonce" {
            return Ok((StatusCode::OK, None, Said::Object(Value::Null)));
        }
        if *method != Method::POST {
            return Err(("malformed", format!("{method} {path}")));
        }
        let (account, is_new, payload) = self.signed(path, body)?;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            ["account"] => {
                let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
                let location = Some(format!("{base}/accounts/{account}"));
                Ok((status, location, Said::Object(json!({ "status": "valid" }))))
            }
            ["order"] => {
                let Some([identifier]) = payload["identifiers"].as_array().map(Vec::as_slice) else {
                    return Err(("malformed", "not one name".to_owned()));
                };
                let name = text(identifier, "value")?.to_owned();
                let order = Order { account, name, token: random(), status: "pending", chain: None };
                let mut books = self.books.lock().unwrap();
                books.orders.push(order);
                let number = books.orders.len() - 1;
                let said = self.order(number, &books.orders[number]);
                Ok((StatusCode::CREATED, Some(format!("{base}/orders/{number}")), Said::Object(said)))
            }
            ["orders", number, ref what @ ..] => {
                let number: usize = number.parse().map_err(|_| ("malformed", path.to_owned()))?;
                let said = self.of_order(account, number, what.first().copied(), &payload)?;
                Ok((StatusCode::OK, None, said))
            }
            _ => Err(("malformed", path.to_owned())),
        }
    }

    /// Whose request this is, whether that account is new, and what it says (RFC 8555 section 6.2).
    fn signed(&self, path: &str, body: &[u8]) -> Result<(usize, bool, Value), Refusal> {
        let malformed = |why: &str| ("malformed", why.to_owned());
        let signed: Value = serde_json::from_slice(body).map_err(|_| malformed("it is not signed"))?;
        let [protected, payload, signature] = ["protected", "payload", "signature"].map(|part| text(&signed, part));
        let (protected, payload) = (protected?, payload?);
        let head: Value = serde_json::from_slice(&decoded(protected)?).map_err(|_| malformed("its head"))?;
        if text(&head, "alg")? != "ES256" || text(&head, "url")? != format!("{}{path}", self.base) {
            return Err(malformed("it is signed otherwise, or for elsewhere"));
        }
        let mut books = self.books.lock().unwrap();
        if !books.nonces.remove(text(&head, "nonce")?) {
            return Err(("badNonce", "it is not known, or was used".to_owned()));
        }
        let key = if path == "/account" {
            let (x, y) = (text(&head["jwk"], "x")?, text(&head["jwk"], "y")?);
            let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            let thumbprint = hashed(&canonical);
            Account { key: [vec![4], decoded(x)?, decoded(y)?].concat(), thumbprint }
        } else {
            let number = text(&head, "kid")?.strip_prefix(&format!("{}/accounts/", self.base));
            let known = number.and_then(|number| books.accounts.get(number.parse::<usize>().ok()?));
            let known = known.ok_or(("accountDoesNotExist", "this account is not known".to_owned()))?;
            Account { key: known.key.clone(), thumbprint: known.thumbprint.clone() }
        };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.key)
            .verify(format!("{protected}.{payload}").as_bytes(), &decoded(signature?)?)
            .map_err(|_| malformed("its signature"))?;
        let payload = match decoded(payload)? {
            // As RFC 8555 section 6.3 has it of questions.
            empty if empty.is_empty() => Value::Null,
            payload => serde_json::from_slice(&payload).map_err(|_| malformed("what it says"))?,
        };
        let known = books.accounts.iter().position(|known| known.key == key.key);
        let number = known.unwrap_or(books.accounts.len());
        if known.is_none() {
            books.accounts.push(key);
        }
        Ok((number, known.is_none(), payload))
    }

    /// What is asked of an order, or done with it.
    fn of_order(&self, account: usize, number: usize, what: Option<&str>, payload: &Value) -> Result<Said, Refusal> {
        let (name, expected, status) = {
            let books = self.books.lock().unwrap();
            let order = books.orders.get(number).filter(|order| order.account == account);
            let order = order.ok_or(("unauthorized", "this is no order of this account".to_owned()))?;
            let expected = hashed(&format!("{}.{}", order.token, books.accounts[account].thumbprint));
            (order.name.clone(), expected, order.status)
        };
        match (what, status) {
            (Some("challenge"), "pending") => {
                let answers: Vec<bool> =
                    self.name_servers.iter().filter_map(|server| has(*server, &name, &expected)).collect();
                let is_proven = !answers.is_empty() && !answers.contains(&false);
                self.books.lock().unwrap().orders[number].status = if is_proven { "ready" } else { "invalid" };
            }
            (Some("finalize"), "ready") => {
                let point = requested(&decoded(text(payload, "csr")?)?, &name)?;
                let chain = self.issue(number, &name, &point);
                let mut books = self.books.lock().unwrap();
                let order = &mut books.orders[number];
                (order.status, order.chain) = ("valid", Some(chain));
            }
            (Some("finalize"), _) => return Err(("orderNotReady", "its name is not proven".to_owned())),
            _ => {}
        }
        let books = self.books.lock().unwrap();
        let order = &books.orders[number];
        Ok(match what {
            None | Some("finalize") => Said::Object(self.order(number, order)),
            Some("authorization") => {
                let status = if order.status == "ready" { "valid" } else { order.status };
                let identifier = json!({ "type": "dns", "value": order.name });
                let challenges = [self.challenge(number, order)];
                Said::Object(json!({ "identifier": identifier, "status": status, "challenges": challenges }))
            }
            Some("challenge") => Said::Object(self.challenge(number, order)),
            Some("certificate") => match &order.chain {
                Some(chain) => Said::Chain(chain.clone()),
                None => return Err(("orderNotReady", "nothing was issued".to_owned())),
            },
            Some(other) => return Err(("malformed", other.to_owned())),
        })
    }

    fn order(&self, number: usize, order: &Order) -> Value {
        let place = format!("{}/orders/{number}", self.base);
        let certificate = order.chain.as_ref().map(|_| format!("{place}/certificate"));
        json!({
            "status": order.status,
            "identifiers": [{ "type": "dns", "value": order.name }],
            "authorizations": [format!("{place}/authorization")],
            "finalize": format!("{place}/finalize"),
            "certificate": certificate,
        })
    }

    fn challenge(&self, number: usize, order: &Order) -> Value {
        let (status, error) = match order.status {
            "pending" => ("pending", Value::Null),
            "invalid" => ("invalid", json!({ "type": "urn:ietf:params:acme:error:dns", "detail": "it is not there" })),
            _ => ("valid", Value::Null),
        };
        let url = format!("{}/orders/{number}/challenge", self.base);
        json!({ "type": "dns-01", "url": url, "token": order.token, "status": status, "error": error })
    }

    /// A certificate for a key, from the hour that it is.
    fn issue(&self, number: usize, name: &str, key: &Point) -> String {
        let begins = self.clock.now();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (begins.into(), (begins + self.life).into());
        params.serial_number = Some(SerialNumber::from(number as u64 + 1));
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

/// Whether a name server gives this answer to the challenge for a name; `None` when it is silent.
fn has(server: SocketAddr, name: &str, expected: &str) -> Option<bool> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let owner = format!("_acme-challenge.{name}");
    let asked = ["+short", "+timeout=2", "+retry=0", &*owner, "TXT"];
    let asked = Command::new("kdig").args([&*at, "-p", &*port]).args(asked).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    asked.status.success().then(|| said.lines().any(|line| line.trim_matches('"') == expected))
}

/// The key in a request for a certificate for this name and no other, that has signed it.
fn requested(request: &[u8], name: &str) -> Result<Point, Refusal> {
    let bad = |why: &str| ("badCSR", why.to_owned());
    let mut openssl = Command::new("openssl")
        .args(["req", "-inform", "DER", "-verify", "-noout", "-text", "-pubkey"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(request).unwrap();
    let told = openssl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    let names: Vec<&str> = said.split([' ', ',', '\n']).filter_map(|word| word.strip_prefix("DNS:")).collect();
    if !told.status.success() || names != [name] {
        return Err(bad("it is not signed by its key, or for another name"));
    }
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&told.stdout).map_err(|_| bad("it has no key"))?;
    // A head of 26 bytes says that it is on P-256.
    match key.split_at_checked(26) {
        Some((_, point)) if point.len() == 65 && point[0] == 4 => Ok(Point(point.to_vec())),
        _ => Err(bad("its key is of another kind")),
    }
}

fn text<'v>(object: &'v Value, key: &str) -> Result<&'v str, Refusal> {
    object[key].as_str().ok_or_else(|| ("malformed", format!("it has no {key}")))
}

fn decoded(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| ("malformed", "it is no base64url".to_owned()))
}

fn hashed(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

fn random() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}
