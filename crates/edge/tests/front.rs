//! The front of an edge: proxies before it, plain HTTP beside it, limits on strangers, and the fields that say what it
//! is.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};

use bytes::Bytes;
use common::client::{Answer, collected, request};
use common::{Lab, NAME, Origin, Place, Running, eventually};
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sovereign_edge::Listeners;
use sovereign_model::ByteSize;
use sovereign_model::edge_config::{EdgeConfig, Source};
use sovereign_model::edge_rules::{Limits, Proxy, ProxySpeech};
use sovereign_model::stack::AdminReach;
use sovereign_runtime::control::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whom nobody has named (RFC 7600 section 4.8).
const NOBODY: &str = "192.0.0.8";

/// An edge in front of an application, configured by `change`.
struct Front {
    lab: Lab,
    origin: Origin,
    home: Place,
    running: Running,
    config: EdgeConfig,
}

impl Front {
    async fn new(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let home = lab.place("home");
        let site = lab.site(&home, Source::Unix(origin.socket.clone()));
        origin.set_canonical(&site.canonical.to_string());
        let mut config = lab.config(&home, Vec::new(), site);
        change(&mut config);
        lab.seal(&home, 1, &config);
        let running = lab.start(&home).await;
        running.complete().await;
        Self { lab, origin, home, running, config }
    }

    async fn with_limits(limits: Limits) -> Self {
        Self::new(|config| config.rules.limits = limits).await
    }

    fn host(&self) -> String {
        format!("{NAME}:{}", self.home.port())
    }

    async fn get(&self, path: &str) -> Answer {
        self.lab.client.get(self.home.address(), &self.host(), path).await
    }

    /// Asks over TLS after `preface`, as a proxy would; `None` when the connection is closed instead.
    async fn after(&self, preface: &[u8], path: &str) -> Option<Answer> {
        let mut socket = TcpStream::connect(self.home.address()).await.unwrap();
        // In pieces, since a network may do that too.
        for piece in preface.chunks(7) {
            socket.write_all(piece).await.ok()?;
            socket.flush().await.ok()?;
        }
        let stream = self.lab.client.connect_on(socket, &[b"http/1.1"]).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let asked = request(Method::GET, &self.host(), path, &[("x-forwarded-for", "10.9.9.9")], Bytes::new());
        Some(collected(sender.send_request(asked).await.ok()?).await)
    }

    /// Asks in the clear.
    async fn plain(&self, address: SocketAddr, asked: http::Request<Full<Bytes>>) -> Option<Answer> {
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
        tokio::spawn(connection);
        Some(collected(sender.send_request(asked).await.ok()?).await)
    }

    /// Whom the application believes to have asked for `path` last.
    fn reader_of(&self, path: &str) -> String {
        self.origin.last(path).fields["x-forwarded-for"].to_str().unwrap().to_owned()
    }
}

fn proxy(speaks: ProxySpeech, from: &str) -> Proxy {
    Proxy { speaks, from: vec![from.parse::<IpAddr>().unwrap()] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_names_the_reader() {
    let front = Front::new(|config| config.proxy = Some(proxy(ProxySpeech::ProxyProtocol, "127.0.0.1"))).await;
    let answer = front.after(b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 443\r\n", "/members/one/").await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(front.reader_of("/members/one/"), "192.0.2.7");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    header.extend([0; 16]);
    header.extend([200, 34, 1, 187]);
    front.after(&header, "/members/two/").await.unwrap();
    assert_eq!(front.reader_of("/members/two/"), "2001:db8::7");
    // The proxy's own check, and a connection of this machine, which needs no word of anybody.
    front.after(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "/members/three/").await.unwrap();
    assert_eq!(front.reader_of("/members/three/"), NOBODY);
    front.after(b"", "/members/four/").await.unwrap();
    assert_eq!(front.reader_of("/members/four/"), NOBODY);
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x2f\x21\0\x24"] {
        assert!(front.after(wrong, "/members/five/").await.is_none());
    }
    assert_eq!(front.origin.count("/members/five/"), 0);
    assert_eq!(front.get("/").await.status, StatusCode::OK, "and the edge is unharmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_believed() {
    let front = Front::new(|config| config.proxy = Some(proxy(ProxySpeech::ProxyProtocol, "192.0.2.200"))).await;
    assert!(front.after(b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 443\r\n", "/members/one/").await.is_none());
    front.after(b"", "/members/one/").await.unwrap();
    assert_eq!(front.reader_of("/members/one/"), "127.0.0.1");
    let front = Front::new(|config| config.proxy = Some(proxy(ProxySpeech::Http, "192.0.2.200"))).await;
    let asked = request(Method::GET, &front.host(), "/", &[("x-forwarded-for", "192.0.2.7")], Bytes::new());
    assert!(front.plain(front.home.address(), asked).await.is_none(), "no plain HTTP for others");
}

/// A proxy on this machine whose configuration lacks a line must not make neighbours of all the world.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_named_is_no_neighbour() {
    for speaks in [ProxySpeech::ProxyProtocol, ProxySpeech::Http] {
        let front = Front::new(|config| {
            config.proxy = Some(proxy(speaks, "127.0.0.1"));
            config.sites[0].admin = AdminReach::Local;
        })
        .await;
        assert_eq!(front.get("/ghost/").await.status, StatusCode::FORBIDDEN, "TLS as it comes");
        let asked = request(Method::GET, &front.host(), "/ghost/", &[], Bytes::new());
        if let Some(answer) = front.plain(front.home.address(), asked).await {
            assert_eq!((answer.status, speaks), (StatusCode::FORBIDDEN, ProxySpeech::Http));
        }
        if speaks == ProxySpeech::ProxyProtocol {
            let named = front.after(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", "/ghost/").await.unwrap();
            assert_eq!(named.status, StatusCode::OK, "whom it names is who it says");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_ends_tls_is_served_in_the_clear() {
    let front = Front::new(|config| config.proxy = Some(proxy(ProxySpeech::Http, "127.0.0.1"))).await;
    let ask = async |path: &str, named: &[(&str, &str)]| {
        let asked = request(Method::GET, &front.host(), path, named, Bytes::new());
        front.plain(front.home.address(), asked).await.unwrap()
    };
    let page = ask("/first/", &[("x-forwarded-for", "192.0.2.7")]).await;
    assert_eq!((page.status, page.text()), (StatusCode::OK, front.get("/first/").await.text()));
    ask("/members/one/", &[("x-forwarded-for", "10.0.0.1, 192.0.2.7")]).await;
    assert_eq!(front.reader_of("/members/one/"), "192.0.2.7", "what the reader claimed stands before it");
    ask("/members/two/", &[]).await;
    assert_eq!(front.reader_of("/members/two/"), NOBODY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_leads_to_https_and_nowhere_else() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let home = lab.place("home");
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mut config = lab.config(&home, Vec::new(), site);
    config.https_port = 8443;
    lab.seal(&home, 1, &config);
    let (first, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (plain, other) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    let https = vec![home.listener.try_clone().unwrap(), second];
    let running = lab.start_with(&home, Listeners { https, http: vec![first], ..Listeners::default() }).await;
    let front = Front { lab, origin, home, running, config };
    let ask = async |method: Method, host: &str, path: &str| {
        front.plain(plain, request(method, host, path, &[], Bytes::new())).await.unwrap()
    };
    let pointed = ask(Method::GET, NAME, "/first/?a=b").await;
    assert_eq!(pointed.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(pointed.field("location"), format!("https://{NAME}:8443/first/?a=b"));
    let pointed = ask(Method::POST, &format!("www.{NAME}:8080"), "/members/api/").await;
    assert_eq!(pointed.field("location"), format!("https://www.{NAME}:8443/members/api/"));
    assert_eq!(ask(Method::GET, "elsewhere.example", "/").await.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(ask(Method::GET, NAME, "/a/..%2f/b").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask(Method::POST, NAME, "/.sovereign/hooks/blog").await.status, StatusCode::FORBIDDEN);
    // Every uplink's socket is served.
    assert_eq!(front.lab.client.get(other, &front.host(), "/").await.status, StatusCode::OK);
    assert_eq!(front.config.https_port, 8443);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_ask_without_end() {
    let front = Front::with_limits(Limits { requests_per_address: 5, ..Limits::default() }).await;
    let mut sender = front.lab.client.http1(front.home.address()).await;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let asked = request(Method::GET, &front.host(), "/", &[], Bytes::new());
        sender.ready().await.unwrap();
        statuses.push(collected(sender.send_request(asked).await.unwrap()).await);
    }
    let served = statuses.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = statuses.iter().find(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).unwrap();
    assert!((20..=35).contains(&served), "four seconds' worth, and what came meanwhile: {served}");
    assert_eq!(refused.field("retry-after"), "1");
    // Over time there is always a next one.
    eventually("the address may ask again", async || (front.get("/").await.status == StatusCode::OK).then_some(()))
        .await;
    // The limits of a new generation hold for what comes next.
    let mut config = front.config.clone();
    config.rules.limits.requests_per_address = 1_000_000;
    front.lab.seal(&front.home, 2, &config);
    front.running.ask(Request::new("reload")).await.unwrap();
    for _ in 0..60 {
        assert_eq!(front.get("/").await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_are_bounded() {
    let front = Front::with_limits(Limits { connections_per_address: 3, ..Limits::default() }).await;
    // What the laboratory itself had open is given back first.
    let open = async || front.running.ask(Request::new("status")).await.unwrap()["connections"].as_u64().unwrap();
    eventually("nothing is open", async || (open().await == 0).then_some(())).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(front.lab.client.connect(front.home.address(), &[]).await.unwrap());
    }
    assert!(front.lab.client.connect(front.home.address(), &[]).await.is_err(), "one too many");
    held.clear();
    eventually("there is room again", async || front.lab.client.connect(front.home.address(), &[]).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_has_a_bound() {
    let limits = Limits { body: ByteSize(100_000), head: ByteSize(8 << 10), body_within: 1, ..Limits::default() };
    let front = Front::with_limits(limits).await;
    let (address, host) = (front.home.address(), front.host());
    let say = async |bytes: &[u8]| {
        let mut stream = front.lab.client.connect(address, &[b"http/1.1"]).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    };
    let head = format!("POST /ghost/api/admin/images/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let post = async |length: usize| {
        let said = say(format!("{head}content-length: {length}\r\n\r\n{}", "x".repeat(length)).as_bytes()).await;
        StatusCode::from_bytes(&said.as_bytes()[9..12]).unwrap()
    };
    assert_eq!(post(100_000).await, StatusCode::OK);
    assert_eq!(post(100_001).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post(2_000_000).await, StatusCode::PAYLOAD_TOO_LARGE, "and its reader hears of it");
    assert_eq!(front.origin.asked().iter().filter(|asked| asked.body > 0).count(), 1, "the others were not passed on");
    // Without a length it is found out on the way.
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        chunked += &format!("2710\r\n{}\r\n", "y".repeat(10_000));
    }
    chunked += "0\r\n\r\n";
    let said = say(chunked.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    let said = say(format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-a: {}\r\n\r\n", "a".repeat(9000)).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    // A body that stands still ends, and its reader is told something.
    let still = format!("{head}content-length: 9\r\n\r\nabc");
    let said = tokio::time::timeout(std::time::Duration::from_secs(10), say(still.as_bytes())).await.unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 "), "{said}");
    assert_eq!(front.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_say_what_they_should() {
    let front = Front::new(|config| config.sites[0].hsts_days = 30).await;
    let at = async |host: &str| front.lab.client.get(front.home.address(), host, "/").await;
    // The promise holds for all ports of a name: made only where there is no other.
    assert_eq!(at(NAME).await.field("strict-transport-security"), "max-age=2592000");
    assert_eq!(at(&front.host()).await.field("strict-transport-security"), "");
    // Who passed it on is told the application, and a request that comes round again is refused.
    front.get("/members/one/").await;
    let via = front.origin.last("/members/one/").fields["via"].to_str().unwrap().to_owned();
    assert!(via.starts_with("1.1 sovereign-"), "{via}");
    assert!(front.origin.last("/").fields["via"].to_str().unwrap().starts_with("1.1 sovereign-"));
    for (value, status) in [(via.as_str(), StatusCode::LOOP_DETECTED), ("1.1 sovereign-00000000", StatusCode::OK)] {
        let answer = front.lab.client.get_with(front.home.address(), &front.host(), "/", &[("via", value)]).await;
        assert_eq!(answer.status, status, "{value}");
    }
    let asked = request(Method::TRACE, &front.host(), "/", &[], Bytes::new());
    let refused = front.lab.client.send(front.home.address(), asked).await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(refused.field("allow").contains("GET, HEAD"), "RFC 9110 section 15.5.6");
    assert_eq!(refused.field("cache-status"), "sovereign; detail=own", "every answer says where it came from");
}

/// What an outside judge can negotiate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_modern_tls_is_spoken() {
    let front = Front::new(|_| ()).await;
    let address = front.home.address().to_string();
    let authority = front.lab.folder.path().join("authority.pem");
    std::fs::write(&authority, &front.lab.authority).unwrap();
    let speak = async |version: &str, ciphers: &str| {
        let mut client = tokio::process::Command::new("openssl");
        client.args(["s_client", "-brief", "-connect", &address, "-servername", NAME, "-CAfile"]).arg(&authority);
        client.args([version, "-cipher", ciphers]).stdin(std::process::Stdio::null());
        let output = client.output().await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // What costs least, but for who has no instructions for it and says so.
    for (offered, chosen) in [
        ("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ] {
        let mut client = tokio::process::Command::new("openssl");
        client.args(["s_client", "-brief", "-connect", &address, "-servername", NAME, "-ciphersuites", offered]);
        let output = client.stdin(std::process::Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("Ciphersuite: {chosen}")), "{offered}: {said}");
    }
    // The client itself is to hold nothing back.
    const ALL: &str = "ALL:@SECLEVEL=0";
    let (done, said) = speak("-tls1_3", ALL).await;
    assert!(done && said.contains("TLSv1.3") && said.contains("Verification: OK"), "{said}");
    let (done, said) = speak("-tls1_2", ALL).await;
    assert!(done && said.contains("TLSv1.2") && (said.contains("GCM") || said.contains("CHACHA20")), "{said}");
    for (version, ciphers) in [
        ("-tls1_1", ALL),
        ("-tls1", ALL),
        ("-tls1_2", "AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "AES128-GCM-SHA256:@SECLEVEL=0"),
    ] {
        let (done, said) = speak(version, ciphers).await;
        assert!(!done && said.contains("alert"), "{version} {ciphers}: {said}");
    }
}
