//! Figures for Prometheus: what they say, who gets them, and that no question is lost while an edge is replaced.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use common::prometheus::{Family, parse};
use common::{Lab, NAME, Origin, Place, Running, eventually};
use sovereign_edge::Listeners;
use sovereign_model::edge_config::Source;
use sovereign_model::edge_rules::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An edge with a port for figures.
struct Watched {
    lab: Lab,
    origin: Origin,
    home: Place,
    metrics: TcpListener,
    running: Running,
}

impl Watched {
    async fn new() -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let home = lab.place("home");
        let site = lab.site(&home, Source::Unix(origin.socket.clone()));
        origin.set_canonical(&site.canonical.to_string());
        let mut config = lab.config(&home, Vec::new(), site);
        config.rules.limits = Limits { requests_per_address: 3, ..Limits::default() };
        config.access_log = Some(home.folder.join("access.jsonl"));
        lab.seal(&home, 1, &config);
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
        let running = start(&lab, &home, &metrics).await;
        running.complete().await;
        Self { lab, origin, home, metrics, running }
    }

    fn address(&self) -> SocketAddr {
        self.metrics.local_addr().unwrap()
    }

    async fn figures(&self) -> BTreeMap<String, Family> {
        let answer = ask(self.address(), "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        parse(body)
    }
}

async fn start(lab: &Lab, home: &Place, metrics: &TcpListener) -> Running {
    let https = vec![home.listener.try_clone().unwrap()];
    let metrics = vec![metrics.try_clone().unwrap()];
    lab.start_with(home, Listeners { https, metrics, ..Listeners::default() }).await
}

/// All that comes back until the edge closes.
async fn ask(edge: SocketAddr, question: &str) -> String {
    let mut connection = TcpStream::connect(edge).await.unwrap();
    connection.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_prometheus_reads_and_what_happened() {
    let edge = Watched::new().await;
    let host = format!("{NAME}:{}", edge.home.port());
    let get = async |path: &str| edge.lab.client.get(edge.home.address(), &host, path).await;
    get("/first/").await;
    edge.origin.put("/unlinked/", common::origin::Page::html("<p>unlinked</p>"));
    get("/unlinked/").await;
    let mut plain = TcpStream::connect(edge.home.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    plain.read_to_end(&mut Vec::new()).await.unwrap();
    for _ in 0..12 {
        get("/first/").await;
    }
    let figures = eventually("the access log is written", async || {
        let figures = edge.figures().await;
        (figures["sovereign_edge_access_log_entries_total"].samples["{outcome=\"written\"}"] >= 14.0).then_some(figures)
    })
    .await;
    let figure = |family: &str, which: &str| figures[family].samples[which];
    assert!(figure("sovereign_edge_requests_total", "{from=\"hit\"}") >= 1.0);
    assert_eq!(figure("sovereign_edge_requests_total", "{from=\"miss\"}"), 1.0);
    assert!(figure("sovereign_edge_requests_limited_total", "") >= 1.0, "12 at once of 3 per second");
    assert!(figure("sovereign_edge_tls_handshakes_total", "{outcome=\"ok\"}") >= 14.0);
    assert_eq!(figure("sovereign_edge_tls_handshakes_total", "{outcome=\"failed\"}"), 1.0);
    assert!(figure("sovereign_edge_source_duration_seconds", "_count") >= 5.0);
    assert!(figure("sovereign_edge_sent_bytes_total", "") > 1000.0);
    assert_eq!(figure("sovereign_edge_generation", ""), 1.0);
    assert_eq!(figure("sovereign_edge_store_owner", ""), 1.0);
    assert_eq!(figure("sovereign_edge_access_log_up", ""), 1.0);
    // rcgen's certificates end in the year 4096.
    assert!(figure("sovereign_edge_certificate_not_after_timestamp_seconds", "") > 4e9);
    let site = "{site=\"blog\"}";
    let known = figure("sovereign_site_pages_known", site);
    assert!(known >= 7.0 && figure("sovereign_site_pages_kept", site) == known);
    assert!(figure("sovereign_site_store_bytes", site) > 300_000.0);
    assert!(figure("sovereign_site_oldest_confirmed_timestamp_seconds", site) > 1.7e9);
    assert_eq!((figure("sovereign_site_complete", site), figure("sovereign_site_source_up", site)), (1.0, 1.0));
    edge.origin.kill();
    edge.running.ask(sovereign_runtime::control::Request::new("fill").with("site", "blog")).await.unwrap();
    eventually("the source is known to be away", async || {
        (edge.figures().await["sovereign_site_source_up"].samples[site] == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_for_programs_of_this_machine_that_ask_for_them() {
    let edge = Watched::new().await;
    let port = edge.address().port();
    for (question, status) in [
        (format!("GET /metrics HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n"), "200"),
        (format!("GET /metrics?x=1 HTTP/1.0\r\nhost: [::1]:{port}\r\n\r\n"), "200"),
        ("HEAD /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_owned(), "200"),
        ("GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n".to_owned(), "405"),
        // A page in a browser whose name leads here since a moment ago.
        (format!("GET /metrics HTTP/1.1\r\nhost: evil.example:{port}\r\norigin: http://evil.example\r\n\r\n"), "403"),
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), "403"),
        (format!("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nx: {}\r\n\r\n", "y".repeat(20_000)), "431"),
    ] {
        let answer = ask(edge.address(), &question).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{question:.200}: {answer:.200}"
        );
        assert!(
            answer.contains("sovereign_edge_info") == (status == "200" && !question.starts_with("HEAD")),
            "{answer}"
        );
        assert!(!answer.contains("access-control-allow"), "no other page may read it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_connections_open_keeps_nobody_out_for_long() {
    let edge = Watched::new().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(edge.address()).await.unwrap());
    }
    // Those beyond the limit are closed at once, the others when their question does not come.
    eventually("there is room again", async || {
        let mut connection = TcpStream::connect(edge.address()).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.ok()?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.ok()?;
        answer.starts_with(b"HTTP/1.1 200 ").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_is_lost_and_no_counter_jumps_to_and_fro_while_an_edge_is_replaced() {
    let Watched { lab, origin: _origin, home, metrics, running } = Watched::new().await;
    let host = format!("{NAME}:{}", home.port());
    for _ in 0..5 {
        lab.client.get(home.address(), &host, "/first/").await;
    }
    let address = metrics.local_addr().unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let scraping = tokio::spawn(async move {
        let mut handshakes = Vec::new();
        while stopped.try_recv().is_err() {
            let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let figures = parse(answer.split_once("\r\n\r\n").unwrap().1);
            handshakes.push(figures["sovereign_edge_tls_handshakes_total"].samples["{outcome=\"ok\"}"]);
        }
        handshakes
    });
    let new = start(&lab, &home, &metrics).await;
    // Both run, and the old one owns the store: some questions more.
    for _ in 0..5 {
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        assert!(answer.contains("sovereign_edge_store_owner 1"));
    }
    running.stop().await;
    new.complete().await;
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(answer.contains("sovereign_edge_store_owner 1"));
    stop.send(()).unwrap();
    let handshakes = scraping.await.unwrap();
    let falls = handshakes.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(falls, 1, "one restart, as Prometheus sees it: {handshakes:?}");
}
