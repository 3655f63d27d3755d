//! Attacks on an edge, as a stranger can make them: raw bytes, odd names and paths, claims, cookies, slowness, numbers;
//! and as a peer can that means harm.
//!
//! Every one ends in the right answer or a refusal. After each kind, a reader gets the page as the site made it, and the
//! store holds what it held before.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::client::{collected, request};
use common::origin::Page;
use common::{HOOK_SECRET, Lab, NAME, Origin, Place, Running, eventually, proof_by};
use hmac::{Hmac, Mac as _};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::DigitallySignedStruct;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use sha2::Sha256;
use sovereign_model::edge_config::{EdgeSite, EpochProof, Source};
use sovereign_model::stack::AdminReach;
use sovereign_runtime::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LONG: Duration = Duration::from_secs(20);

/// One edge with a small blog, complete.
struct Target {
    lab: Lab,
    origin: Origin,
    place: Place,
    running: Running,
    host: String,
    /// What its front page looks like, and how many pages it keeps.
    front: Bytes,
    kept: u64,
}

impl Target {
    async fn new(change: impl FnOnce(&mut EdgeSite)) -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let place = lab.place("home");
        let mut site = lab.site(&place, Source::Unix(origin.socket.clone()));
        change(&mut site);
        origin.set_canonical(&site.canonical.to_string());
        lab.seal(&place, 1, &lab.config(&place, Vec::new(), site));
        let running = lab.start(&place).await;
        let kept = running.complete().await["pages-kept"].as_u64().unwrap();
        let host = format!("{NAME}:{}", place.port());
        let front = lab.client.get(place.address(), &host, "/").await.body;
        Self { lab, origin, place, running, host, front, kept }
    }

    /// Sends bytes as they are over TLS; gives all that comes until the edge closes, or asks for nothing more.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.lab.client.connect(self.place.address(), &[b"http/1.1"]).await.unwrap();
        // An edge that has heard enough may have closed already.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(400), stream.read_to_end(&mut said)).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The statuses of all answers in what was said.
    fn statuses(said: &str) -> Vec<u16> {
        said.match_indices("HTTP/1.").filter_map(|(at, _)| said.get(at + 9..at + 12)?.parse().ok()).collect()
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> common::client::Answer {
        self.lab.client.get_with(self.place.address(), &self.host, path, fields).await
    }

    /// The site is as it was, for everybody.
    async fn is_unharmed(&self, after: &str) {
        let front = self.get("/", &[]).await;
        assert_eq!(front.status, StatusCode::OK, "after {after}");
        assert_eq!(front.body, self.front, "after {after}");
        assert!(!front.fields.contains_key("set-cookie"), "after {after}");
        let site = self.running.site().await;
        assert_eq!(site["pages-kept"], self.kept, "after {after}: {site}");
    }

    /// The application was asked for `path` by nobody.
    fn never_asked(&self, path: &str) {
        let asked: Vec<_> = self.origin.asked().into_iter().filter(|asked| asked.target.contains(path)).collect();
        assert!(asked.is_empty(), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_cannot_be_smuggled() {
    let edge = Target::new(|site| site.admin = AdminReach::Public).await;
    let host = &edge.host;
    let hidden = format!("GET /smuggled/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let length = hidden.len();
    // A body that one reading ends early: nothing of it may be taken for a request.
    let one_answer = [
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            length + 5
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0, {length}\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +{length}\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x10\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 18446744073709551616\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}"),
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n\r\n{hidden}"
        ),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{hidden}"),
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0;{}\r\n\r\n{hidden}",
            "x".repeat(40_000)
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: evil.example\r\n\r\n{hidden}"
        ),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX y: z\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n: z\r\n\r\n{hidden}"),
        format!("GET /\x0b HTTP/1.1\r\nHost: {host}\r\n\r\n{hidden}"),
        format!("GET / HTTP/1.1 x\r\nHost: {host}\r\n\r\n{hidden}"),
        format!("GET / HTTP/2.0\r\nHost: {host}\r\n\r\n{hidden}"),
        "\x16\x03\x01\x00\x00".repeat(50),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    for attack in &one_answer {
        let said = edge.raw(attack.as_bytes()).await;
        assert!(Target::statuses(&said).len() <= 1, "{attack:.200?} was answered {said}");
        edge.never_asked("smuggled");
    }
    // A body of a plain length that looks like a request is a body.
    let said = edge
        .raw(
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{hidden}")
                .as_bytes(),
        )
        .await;
    assert_eq!(Target::statuses(&said).len(), 1, "{said}");
    edge.never_asked("smuggled");
    // What reaches the application has one length, whatever `Connection` names.
    let body = "x=1";
    let said = edge.raw(format!("POST /ghost/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nConnection: close, content-length, host, x-forwarded-for\r\n\r\n{body}").as_bytes()).await;
    assert_eq!(Target::statuses(&said), [200], "{said}");
    let asked = edge.origin.last("/ghost/x");
    assert_eq!((asked.body, asked.fields["host"].to_str().unwrap()), (3, host.as_str()));
    assert_eq!(asked.fields["x-forwarded-for"], "127.0.0.1");
    edge.is_unharmed("smuggling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_one_host_and_it_is_ours() {
    let edge = Target::new(|_| ()).await;
    let host = &edge.host;
    for (attack, expected) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}, evil.example\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: evil.example@{host}\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}@evil.example\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}:\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}:0\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}:65536\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}:443:443\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}/x\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {NAME}%2eevil.example\r\n\r\n"), 421),
        ("GET / HTTP/1.1\r\nHost: [::1]:443\r\n\r\n".to_owned(), 421),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), 421),
        (format!("GET / HTTP/1.1\r\nHost: evil.{NAME}\r\n\r\n"), 421),
        (format!("GET https://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400),
        (format!("GET https://{host}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 400),
        (format!("GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), 200),
        (format!("GET //evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400),
        (format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400),
        (format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"), 405),
        (format!("TRACE / HTTP/1.1\r\nHost: {host}\r\nCookie: ghost-members-ssr=secret\r\n\r\n"), 405),
    ] {
        let said = edge.raw(attack.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await;
        let statuses = Target::statuses(&said);
        assert!(statuses == [expected] || (expected != 200 && statuses == [400]), "{attack:?} was answered {said}");
        assert!(!said.contains("evil") && !said.contains("secret"), "{said}");
    }
    // HTTP/2: the authority and a host that says otherwise; no names at all; a stranger's name over our connection.
    let mut sender = edge.lab.client.http2(edge.place.address()).await;
    for (uri, fields, expected) in [
        (format!("https://{host}/"), vec![("host", "evil.example")], 400),
        (format!("https://{host}/"), vec![("host", host.as_str()), ("host", host.as_str())], 400),
        ("https://evil.example/".to_owned(), vec![("host", host.as_str())], 400),
        ("https://evil.example/".to_owned(), vec![], 421),
        (format!("https://{host}/"), vec![("host", host.as_str())], 200),
        (format!("https://evil@{host}/"), vec![], 400),
    ] {
        let mut question = Request::get(&uri);
        for (name, value) in &fields {
            question = question.header(*name, *value);
        }
        let answer = sender.send_request(question.body(http_body_util::Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{uri} {fields:?}");
    }
    edge.is_unharmed("hosts").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_have_one_meaning() {
    let edge = Target::new(|site| site.admin = AdminReach::Local).await;
    let host = &edge.host;
    for path in [
        "/ghost/..;/x.css",
        "/..;/ghost/",
        "/a/../ghost/",
        "/a/..%2fghost/",
        "/%2e%2e/ghost/",
        "/a/%2e%2e/",
        "/a//b",
        "//ghost/",
        "/ghost%2f",
        "/ghost%2Fapi/admin/",
        "/ghost%5capi",
        "/a\\b",
        "/%00",
        "/first/%00.css",
        "/a%0d%0aSet-Cookie:x",
        "/a%0ab",
        "/%",
        "/%g0",
        "/%u002f",
        "/\u{e9}",
        "/;/ghost/",
        "/.;/ghost/",
        "/%2e;/ghost/",
    ] {
        let said =
            edge.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(Target::statuses(&said), [400], "{path} was answered {said}");
    }
    let long = edge.get(&format!("/{}", "a".repeat(5000)), &[]).await;
    assert_eq!(long.status, StatusCode::BAD_REQUEST);

    // Deception: what ends like a file is still the reader's own, and what it answers is nobody else's.
    let member = [("cookie", "ghost-members-ssr=me")];
    for path in [
        "/members/api/member/",
        "/members/api/member/x.css",
        "/members/x.js",
        "/ghost/api/admin/users/me/x.css",
        "/first/x.css",
        "/account.css",
    ] {
        edge.origin.put(path, Page::html("mine alone").with("set-cookie", "ghost-members-ssr=me"));
        let mine = edge.get(path, &member).await;
        assert!(!mine.field("cache-status").contains("stored"), "{path}: {mine:?}");
        edge.origin.remove(path);
        let theirs = edge.get(path, &[]).await;
        assert!(!theirs.text().contains("mine alone"), "{path}: {theirs:?}");
    }
    // Two spellings of one page are one page.
    let before = edge.origin.asked().len();
    for path in ["/first/", "/%66irst/", "/firs%74/?utm_source=x", "/first/?fbclid=1&ref=evil.example"] {
        let page = edge.get(path, &[]).await;
        assert!(page.field("cache-status").starts_with("sovereign; hit"), "{path}: {page:?}");
    }
    assert_eq!(edge.origin.asked().len(), before);
    edge.is_unharmed("paths").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_claims_changes_nobodys_page() {
    let edge = Target::new(|_| ()).await;
    let claims = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-scheme", "http"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1;host=evil.example"),
        ("x-original-url", "/ghost/"),
        ("x-rewrite-url", "/ghost/"),
        ("x-http-method-override", "POST"),
        ("x-method-override", "PUT"),
        ("x-host", "evil.example"),
        ("x_forwarded_host", "evil.example"),
        ("accept", "evil/type"),
        ("accept-language", "xx"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "evil"),
        ("origin", "https://evil.example"),
        ("referer", "https://evil.example/"),
        ("cache-control", "no-cache, no-store"),
        ("pragma", "no-cache"),
        ("via", "1.1 evil"),
        ("cookie", "theme=evil; session=x; __Host-a=b"),
        ("sovereign-site", "other"),
        ("sovereign-purpose", "list"),
        ("sovereign-reader", "127.0.0.1"),
        ("sovereign-epoch", "18446744073709551615"),
        ("x-ghost-signature", "sha256=00, t=1"),
        ("accept-version", "v2.0"),
        ("dnt", "1"),
    ];
    for (number, claim) in claims.iter().enumerate() {
        let path = format!("/claimed-{number}/");
        edge.origin.put(&path, Page::html("as the site made it"));
        let first = edge.get(&path, &[*claim]).await;
        assert_eq!(first.text(), "as the site made it", "{claim:?}");
        let asked = edge.origin.last(&path);
        for (name, value) in &asked.fields {
            assert!(!value.to_str().unwrap().contains("evil"), "{claim:?} reached the application in {name}");
        }
        assert_eq!((asked.fields["host"].to_str().unwrap(), asked.method), (edge.host.as_str(), Method::GET));
        assert!(!asked.fields.contains_key("cookie") && asked.fields["accept-encoding"] == "identity", "{claim:?}");
        edge.origin.put(&path, Page::html("as the site made it"));
        let next = edge.get(&path, &[]).await;
        assert_eq!(next.body, first.body, "{claim:?}");
        assert_eq!(next.fields.get("vary"), first.fields.get("vary"));
    }
    // Passed through, none of them is believed.
    for claim in &claims {
        edge.get("/members/claimed/", &[*claim]).await;
        let asked = edge.origin.last("/members/claimed/");
        assert_eq!(asked.fields["x-forwarded-for"], "127.0.0.1", "{claim:?}");
        assert_eq!(asked.fields["x-forwarded-host"], edge.host.as_str(), "{claim:?}");
        for name in [
            "forwarded",
            "x-original-url",
            "x-http-method-override",
            "x-method-override",
            "x_forwarded_host",
            "x-host",
            "x-forwarded-scheme",
            "sovereign-reader",
            "sovereign-site",
        ] {
            assert!(!asked.fields.contains_key(name), "{claim:?}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_reader_is_kept() {
    let edge = Target::new(|_| ()).await;
    let secret = "only for me";
    for cookie in [
        "ghost-members-ssr=1",
        "ghost-members-ssr.sig=1",
        "ghost-private=1",
        "ghost-admin-api-session=1",
        "GHOST-members-ssr=1",
        "a=b; ghost-members-ssr=1",
        "a=b;ghost-private=1",
        "a=\"; ghost-x=1\"",
        "a=b,ghost-private=1",
        "ghost-something-new=1",
    ] {
        edge.origin.put("/own/", Page::html(secret));
        let mine = edge.get("/own/", &[("cookie", cookie)]).await;
        assert_eq!(mine.text(), secret);
        assert!(mine.field("cache-status").contains("fwd=bypass"), "{cookie}: {mine:?}");
        edge.origin.remove("/own/");
        assert_eq!(edge.get("/own/", &[]).await.status, StatusCode::NOT_FOUND, "{cookie}");
    }
    // Answers that say, or show, that they are one reader's, and those that hold for a moment only.
    let page = |kind: &str, cache: &str| Page::of(kind, cache, secret);
    let html = "text/html";
    for (number, answer) in [
        Page::html(secret).with("set-cookie", "ghost-members-ssr=stolen"),
        page(html, "private"),
        page(html, "no-store"),
        page(html, "public, max-age=60, No-Store"),
        page(html, "max-age=60, private=\"set-cookie\""),
        page(html, "public").with("vary", "Cookie"),
        page(html, "public").with("vary", "*"),
        page(html, "public").with("content-encoding", "gzip"),
        page(html, "public").with("content-range", "bytes 0-10/11"),
        Page { status: 500, ..Page::html(secret) },
        Page { status: 503, ..Page::html(secret) },
        Page { status: 404, ..Page::html(secret) },
        Page { status: 403, ..Page::html(secret) },
        Page { status: 302, ..Page::html("") }.with("location", "https://evil.example/"),
        Page { status: 307, ..Page::html("") }.with("location", "https://evil.example/"),
        Page { status: 206, ..Page::html(secret) },
        Page { status: 204, ..Page::html("") },
        Page { status: 299, ..Page::html(secret) },
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/unkept-{number}/");
        edge.origin.put(&path, answer);
        let first = edge.get(&path, &[]).await;
        assert!(!first.field("cache-status").contains("stored"), "{path}: {first:?}");
        edge.origin.put(&path, Page::of(html, "no-store", "well"));
        assert_eq!(edge.get(&path, &[]).await.text(), "well", "{path}");
    }
    edge.is_unharmed("answers of one reader").await;
    // Methods: nothing but GET and HEAD reads, and HEAD keeps the page and not its absence.
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PURGE", "BAN", "get"] {
        edge.origin.put("/first/", Page::html("changed by a method"));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        edge.lab
            .client
            .send(edge.place.address(), request(method.clone(), &edge.host, "/first/", &[], Bytes::new()))
            .await;
        assert!(edge.get("/first/", &[]).await.text().starts_with("<p>first"), "{method}");
    }
    edge.origin.put("/head/", Page::html("with a body"));
    edge.lab.client.send(edge.place.address(), request(Method::HEAD, &edge.host, "/head/", &[], Bytes::new())).await;
    assert_eq!(edge.get("/head/", &[]).await.text(), "with a body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_ranges_never_give_a_wrong_byte() {
    let edge = Target::new(|_| ()).await;
    let path = "/content/images/a.png";
    let whole = edge.get(path, &[]).await;
    let tag = whole.field("etag").to_owned();
    for range in [
        "bytes=0-0",
        "bytes=299999-",
        "bytes=-1",
        "bytes=5-4",
        "bytes=300000-",
        "bytes=-0",
        "bytes=0-99999999999999999999",
        "bytes=0-1,3-4,5-6",
        "bytes=0-,0-,0-,0-",
        "items=0-1",
        "bytes=",
        "bytes=-",
        "bytes=\u{b2}-3",
    ] {
        let fields = [("range", range)];
        let Ok(part) = tokio::time::timeout(LONG, edge.get(path, &fields)).await else { panic!("{range}") };
        match part.status {
            StatusCode::OK => assert_eq!(part.body, whole.body, "{range}"),
            StatusCode::PARTIAL_CONTENT => {
                let place =
                    part.field("content-range").strip_prefix("bytes ").unwrap().split_once('/').unwrap().0.to_owned();
                let (first, last) = place.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                assert_eq!(part.body, whole.body.slice(first..=last), "{range}");
            }
            status => assert_eq!((status, part.body.len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0), "{range}"),
        }
    }
    // A range of something not kept yet keeps the whole of it.
    edge.origin.put("/late/", Page::html("0123456789"));
    edge.get(
        "/late/",
        &[("range", "bytes=0-1"), ("if-none-match", "\"x\""), ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT")],
    )
    .await;
    let late = edge.get("/late/", &[]).await;
    assert_eq!((late.status, late.text().as_str()), (StatusCode::OK, "0123456789"));
    let asked = edge.origin.last("/late/");
    assert!(
        ["range", "if-none-match", "if-modified-since"].iter().all(|name| !asked.fields.contains_key(*name)),
        "{asked:?}"
    );
    for (fields, status) in [
        ([("if-none-match", tag.as_str()), ("range", "bytes=0-1")], StatusCode::NOT_MODIFIED),
        ([("if-none-match", "\"other\""), ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT")], StatusCode::OK),
        ([("if-range", "\"other\""), ("range", "bytes=0-1")], StatusCode::OK),
    ] {
        assert_eq!(edge.get(path, &fields).await.status, status, "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_addresses_fill_neither_disk_nor_memory() {
    let edge = Target::new(|_| ()).await;
    edge.origin.answer_any_query();
    let mut sender = edge.lab.client.http2(edge.place.address()).await;
    // More than the store allows of each kind: queries, versions, ports.
    for number in 0..1300 {
        for target in [format!("/?v={number}"), format!("/?page={number}")] {
            let uri = format!("https://{}{target}", edge.host);
            let question = Request::get(uri).body(http_body_util::Full::default()).unwrap();
            let answer = collected(sender.send_request(question).await.unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
    }
    for port in 1..200 {
        let page = edge.lab.client.get(edge.place.address(), &format!("{NAME}:{port}"), "/first/").await;
        assert_eq!(page.status, StatusCode::OK);
    }
    let kept = edge.running.site().await["pages-kept"].as_u64().unwrap();
    assert!(kept <= edge.kept + 1024, "{kept} pages are kept of a site of {}", edge.kept);
    // What the site itself links to was not pushed out.
    let sheet = edge.get("/assets/screen.css?v=1", &[]).await;
    assert!(sheet.field("cache-status").starts_with("sovereign; hit"), "{sheet:?}");
    // And the keeper does not run after them.
    let before = edge.origin.asked().len();
    edge.running.ask(sovereign_runtime::control::Request::new("fill").with("site", "blog")).await.unwrap();
    edge.running.complete().await;
    assert!(edge.origin.asked().len() < before + 50, "{} questions", edge.origin.asked().len() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_slow_requests_cost_little() {
    let edge = Target::new(|_| ()).await;
    let host = &edge.host;
    let large = "x".repeat(100_000);
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    for attack in [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {large}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        format!("GET /{large} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("{large} / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: ghost-x={large}\r\n\r\n"),
    ] {
        let said = edge.raw(attack.as_bytes()).await;
        let statuses = Target::statuses(&said);
        assert!(
            statuses.is_empty() || (statuses.len() == 1 && (400..500).contains(&statuses[0])),
            "{attack:.60} was answered {said}"
        );
    }
    // Many who never finish their head, their body, or their handshake: others are served meanwhile.
    let mut held = Vec::new();
    for number in 0..120 {
        let opening = match number % 3 {
            0 => format!("GET / HTTP/1.1\r\nHost: {host}\r\nX"),
            1 => format!("POST /ghost/api/admin/slow/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nx"),
            _ => format!("POST /.sovereign/hooks/blog HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nx"),
        };
        let mut stream = edge.lab.client.connect(edge.place.address(), &[b"http/1.1"]).await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        held.push(stream);
    }
    for _ in 0..40 {
        held_raw(&edge).await;
    }
    edge.is_unharmed("slow requests").await;
    let live = edge.get("/members/api/member/", &[]).await;
    assert_eq!(live.status, StatusCode::NOT_FOUND, "the application is still reached");
}

async fn held_raw(edge: &Target) {
    let mut socket = tokio::net::TcpStream::connect(edge.place.address()).await.unwrap();
    socket.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    // Forgotten open: it is the handshake's bound that ends it.
    tokio::spawn(async move { socket.read_u8().await });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reader_cannot_hold_all_exchanges_with_the_application() {
    let edge = Target::new(|_| ()).await;
    // Asks much and takes nothing, over HTTP/2 with a window of no bytes.
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..2 {
        let stream = edge.lab.client.connect(edge.place.address(), &[b"h2"]).await.unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        for number in 0..60 {
            let question = Request::get(format!("https://{}/members/{number}/", edge.host)).body(Empty::new()).unwrap();
            let answer = sender.clone().send_request(question).await.unwrap();
            refused += usize::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
            held.push(answer);
        }
    }
    assert!(refused >= 120 - 64, "{refused} of 120 were refused");
    // The others' exchanges are theirs; here the reader is the same, who gives some back first.
    assert_eq!(edge.get("/", &[]).await.body, edge.front);
    held.clear();
    eventually("there is room again", async || {
        (edge.get("/members/more/", &[]).await.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_opened_and_reset_leave_nothing_behind() {
    let edge = Target::new(|_| ()).await;
    edge.origin.hold();
    for _ in 0..4 {
        let stream = edge.lab.client.connect(edge.place.address(), &[b"h2"]).await.unwrap();
        let (sender, connection) =
            http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for number in 0..2000 {
            let question = Request::get(format!("https://{}/reset-{number}/", edge.host)).body(Empty::new()).unwrap();
            // Given up before it is answered: a reset. The edge may end the connection.
            let mut sender = sender.clone();
            if sender.ready().await.is_err() {
                break;
            }
            drop(tokio::time::timeout(Duration::from_micros(20), sender.send_request(question)).await);
        }
    }
    assert_eq!(edge.get("/", &[]).await.body, edge.front, "kept pages are served meanwhile");
    edge.origin.release();
    eventually("the application is reached again", async || {
        (edge.get("/reset/", &[]).await.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    edge.is_unharmed("resets").await;
}

fn signed(secret: &str, body: &[u8], time: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.update(time.as_bytes());
    format!("sha256={}, t={time}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_cannot_be_forged() {
    let edge = Target::new(|_| ()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let (now, old, new) = (now.to_string(), (now - 600_000).to_string(), (now + 600_000).to_string());
    let asked = edge.origin.asked().len();
    let body = b"{}";
    let good = signed(HOOK_SECRET, body, &now);
    for (path, signature, sent) in [
        ("/.sovereign/hooks/blog", signed("guess", body, &now), &body[..]),
        ("/.sovereign/hooks/blog", signed("", body, &now), body),
        ("/.sovereign/hooks/blog", signed(HOOK_SECRET, body, &old), body),
        ("/.sovereign/hooks/blog", signed(HOOK_SECRET, body, &new), body),
        ("/.sovereign/hooks/blog", good.clone(), b"{ }"),
        ("/.sovereign/hooks/blog", good.replace("t=1", "t=01"), body),
        ("/.sovereign/hooks/blog", format!("{good}, t={now}"), body),
        ("/.sovereign/hooks/blog", good.replace("sha256=", "sha256=00"), body),
        ("/.sovereign/hooks/other", good.clone(), body),
        ("/.sovereign/hooks/", good.clone(), body),
        ("/.sovereign/hooks/blog/x", good.clone(), body),
        ("/.sovereign/", good.clone(), body),
    ] {
        let sent = Bytes::copy_from_slice(sent);
        let answer = edge
            .lab
            .client
            .post(edge.place.address(), &edge.host, path, &[("x-ghost-signature", &signature)], sent)
            .await;
        assert!(answer.status.is_client_error(), "{path} {signature}: {answer:?}");
    }
    // What is not signed as it should be is refused before its body is read.
    let endless = format!(
        "POST /.sovereign/hooks/blog HTTP/1.1\r\nHost: {}\r\nX-Ghost-Signature: {}\r\nContent-Length: 16000000\r\n\r\n",
        edge.host,
        signed(HOOK_SECRET, body, &old)
    );
    assert_eq!(Target::statuses(&edge.raw(endless.as_bytes()).await), [403]);
    assert_eq!(edge.get("/.sovereign/hooks/blog", &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(edge.origin.asked().len(), asked, "nobody was made to look at the site");
    edge.is_unharmed("forged webhooks").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_interface_is_reached_by_no_trick() {
    // This reader is at 127.0.0.1: let reach be judged by an address that no reader can have.
    let edge = Target::new(|site| site.admin = AdminReach::Local).await;
    let host = &edge.host;
    assert_eq!(edge.get("/ghost/", &[]).await.status, StatusCode::OK);
    // h2c: the application is not to be asked behind the edge's back.
    let said = edge.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n").as_bytes()).await;
    assert_eq!(Target::statuses(&said), [200], "{said}");
    let said = edge
        .raw(
            format!("GET /members/h2c HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                .as_bytes(),
        )
        .await;
    assert_eq!(Target::statuses(&said), [404], "{said}");
    assert!(!edge.origin.last("/members/h2c").fields.contains_key("upgrade"));
    // Guesses are counted in every spelling, and on every name of the site.
    let mut answers = Vec::new();
    for number in 0..16 {
        let path = [
            "/ghost/api/admin/session",
            "/ghost/api/v4/admin/session/",
            "/GHOST/api/canary/admin/session/?x",
            "/private/",
        ][number % 4];
        let fields = [("x-forwarded-for", "10.0.0.1"), ("content-type", "application/json")];
        let name = if number % 2 == 0 { host.clone() } else { format!("www.{NAME}:{number}") };
        answers.push(
            edge.lab.client.post(edge.place.address(), &name, path, &fields, Bytes::from_static(b"{}")).await.status,
        );
    }
    assert!(answers[11..].iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_link() {
    let edge = Target::new(|_| ()).await;
    for protocol in [sovereign_edge::LINK_ALPN, sovereign_edge::LINK_BACK_ALPN] {
        // TLS 1.3 lets the client finish first; the refusal is what it reads then.
        if let Ok(mut stream) = edge.lab.client.connect(edge.place.address(), &[protocol]).await {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let mut said = Vec::new();
            let read = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await.unwrap();
            assert!(read.is_err() || said.is_empty(), "{said:?}");
        }
    }
    for purpose in ["read", "live", "list", "changes"] {
        let page = edge
            .get("/", &[("sovereign-site", "blog"), ("sovereign-purpose", purpose), ("sovereign-epoch", "9")])
            .await;
        assert_eq!(page.body, edge.front, "a reader's fields are not a link's");
    }
    assert_eq!(edge.running.site().await["superseded"], false);
    edge.is_unharmed("strangers on links").await;
}

/// Takes any key: here it is the edge that has to look closely.
#[derive(Debug)]
struct AnyKey;

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Dials `to` as the edge of `from` would.
async fn link(from: &Place, to: &Place) -> http2::SendRequest<Empty<Bytes>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_file(from.folder.join("link.pem")).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = CertificateDer::from(key.public_key().unwrap().to_vec());
    let identity = Arc::new(CertifiedKey::new(vec![shown], key));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(identity)));
    config.alpn_protocols = vec![sovereign_edge::LINK_ALPN.to_vec()];
    let socket = tokio::net::TcpStream::connect(to.address()).await.unwrap();
    let name = ServerName::IpAddress(to.address().ip().into());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_cannot_mix_sites() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let files = lab.folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("index.html"), "files").unwrap();
    let mut blog = lab.site(&home, Source::Unix(origin.socket.clone()));
    blog.names = vec![NAME.parse().unwrap()];
    blog.admin = AdminReach::Local;
    let mut other = lab.site(&home, Source::Folder(files));
    other.site = "files".parse().unwrap();
    other.canonical = format!("https://www.{NAME}:{}", home.port()).parse().unwrap();
    other.names = vec![format!("www.{NAME}").parse().unwrap()];
    origin.set_canonical(&blog.canonical.to_string());
    let mut config = lab.config(&home, vec![office.as_peer()], blog);
    config.sites.push(other);
    lab.seal(&home, 1, &config);
    let running = lab.start(&home).await;
    running.complete().await;
    let mut sender = link(&office, &home).await;
    let asked = origin.asked().len();
    for (site, host, path, purpose, expected) in [
        ("blog", NAME.to_owned(), "/", "read", 200),
        ("blog", format!("www.{NAME}"), "/", "read", 421),
        ("blog", format!("www.{NAME}"), "/new/", "read", 421),
        ("blog", format!("www.{NAME}"), "/ghost/api/admin/", "live", 421),
        ("files", NAME.to_owned(), "/", "read", 421),
        ("files", NAME.to_owned(), "/members/", "live", 421),
        ("nothing", NAME.to_owned(), "/", "read", 421),
        ("blog", NAME.to_owned(), "/ghost/", "live", 403),
        ("blog", NAME.to_owned(), "/members/", "read", 400),
        ("blog", NAME.to_owned(), "/.sovereign/hooks/blog", "live", 405),
        ("blog", NAME.to_owned(), "/", "write", 400),
        ("blog", NAME.to_owned(), "/", "", 400),
    ] {
        let question = Request::get(format!("https://{host}:{}{path}", home.port()))
            .header("sovereign-site", site)
            .header("sovereign-purpose", purpose)
            .header("sovereign-reader", "192.0.2.1")
            .body(Empty::new())
            .unwrap();
        let answer = sender.send_request(question).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{purpose} {site} {host} {path}");
    }
    assert_eq!(origin.asked().len(), asked, "nothing of it reached the application");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_makes_up_an_epoch_stops_no_writes() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, vec![office.as_peer()], site));
    let running = lab.start(&home).await;
    running.complete().await;
    let mut sender = link(&office, &home).await;
    let own_key = SigningKey::from_bytes(&[9; 32]);
    let text = |proof: EpochProof| format!("{} {}", proof.primary, proof.signature);
    let good = text(lab.proof(9, "office"));
    let mut say = async |purpose: &str, epoch: &str, proof: Option<&str>| {
        let mut question = Request::get(format!("https://{NAME}:{}/", home.port()))
            .header("sovereign-site", "blog")
            .header("sovereign-purpose", purpose)
            .header("sovereign-epoch", epoch);
        if let Some(proof) = proof {
            question = question.header("sovereign-epoch-proof", proof);
        }
        let answer = sender.send_request(question.body(Empty::new()).unwrap()).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    };
    for purpose in ["read", "list", "epoch"] {
        for (epoch, proof) in [
            ("9", None),
            ("18446744073709551615", None),
            ("9", Some(text(proof_by(&own_key, "blog", 9, "office")))),
            ("9", Some(text(proof_by(&own_key, "other", 9, "office")))),
            ("10", Some(good.clone())),
            ("9", Some(good.replace("office", "attic"))),
            ("9", Some(good.to_uppercase())),
            ("9", Some(good[..good.len() - 1].to_owned())),
            ("9", Some("office".to_owned())),
            ("9 9", Some(good.clone())),
        ] {
            say(purpose, epoch, proof.as_deref()).await;
            assert_eq!(running.site().await["superseded"], false, "{purpose} {epoch} {proof:?}");
        }
    }
    say("epoch", "9", Some(&good)).await;
    assert_eq!(running.site().await["superseded"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_an_earlier_version_is_told_of_sites_only() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    let own = site.canonical.to_string();
    lab.seal(&home, 1, &lab.config(&home, vec![office.as_peer()], site));
    let running = lab.start(&home).await;
    running.complete().await;
    let mut streams = Vec::new();
    for understands in ["", "pages"] {
        let mut sender = link(&office, &home).await;
        let question = Request::get(format!("https://{NAME}:{}/", home.port()))
            .header("sovereign-purpose", "changes")
            .header("sovereign-notices", understands)
            .body(Empty::new())
            .unwrap();
        let mut body = sender.send_request(question).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "\n");
        streams.push((sender, body));
    }
    origin.put("/first/", Page::html("<p>edited</p>"));
    let fields = format!(
        r#""id":"1","slug":"first","status":"published","url":"{own}/first/","title":"First","updated_at":"now""#
    );
    let said =
        format!(r#"{{"event":"post.published.edited","post":{{"current":{{{fields}}},"previous":{{"title":"x"}}}}}}"#);
    for body in [r#"{"event":"site.changed"}"#, &said, r#"{"event":"site.changed"}"#] {
        assert_eq!(lab.hook(&home, body).await.status, StatusCode::NO_CONTENT);
    }
    let mut told = Vec::new();
    for (_sender, body) in &mut streams {
        let mut lines = String::new();
        // The last change comes without particulars.
        while !lines.ends_with("blog\n") || !lines.contains("first") && lines.lines().count() < 2 {
            lines.push_str(std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap());
        }
        told.push(lines);
    }
    assert_eq!(told[0], "blog\nblog\n", "each change once, by the name of the site");
    assert!(
        told[1].starts_with("blog */ghost/api/content/\n") && told[1].contains("\nblog /first/\n"),
        "{:?}",
        told[1]
    );
}
