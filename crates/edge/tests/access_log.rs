//! The access log: what is in it and what is not, and that no disk and no reader can do harm through it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::client::{collected, request};
use common::origin::Page;
use common::{Lab, NAME, Origin, Place, Running, eventually};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sovereign_model::access_entry::{KEPT, MOST_BYTES, rotated};
use sovereign_model::edge_config::{EdgeConfig, EdgeSite, Source};
use sovereign_model::edge_rules::{AccessLog, Limits};
use sovereign_runtime::control::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An edge that writes down who reads.
struct Logged {
    lab: Lab,
    origin: Origin,
    home: Place,
    running: Running,
    config: EdgeConfig,
}

impl Logged {
    async fn new(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let home = lab.place("home");
        fs::create_dir(home.folder.join("log")).unwrap();
        let site = lab.site(&home, Source::Unix(origin.socket.clone()));
        origin.set_canonical(&site.canonical.to_string());
        let mut config = lab.config(&home, Vec::new(), site);
        config.access_log = Some(home.folder.join("log/access.jsonl"));
        config.rules.limits = Limits { requests_per_address: 1_000_000, ..Limits::default() };
        change(&mut config);
        lab.seal(&home, 1, &config);
        let running = lab.start(&home).await;
        running.complete().await;
        Self { lab, origin, home, running, config }
    }

    fn path(&self) -> PathBuf {
        self.home.folder.join("log/access.jsonl")
    }

    fn host(&self) -> String {
        format!("{NAME}:{}", self.home.port())
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> common::client::Answer {
        self.lab.client.get_with(self.home.address(), &self.host(), path, fields).await
    }

    /// The entries so far, oldest first, of every file.
    fn entries(&self) -> Vec<Value> {
        let files = (0..=KEPT).rev().map(|times| fs::read_to_string(rotated(&self.path(), times)).unwrap_or_default());
        let lines: Vec<_> = files.collect();
        lines.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Waits for so many entries; gives the last.
    async fn nth(&self, count: usize) -> Value {
        eventually("the entry is written", async || {
            let mut entries = self.entries();
            (entries.len() >= count).then(|| entries.swap_remove(count - 1))
        })
        .await
    }

    async fn status(&self) -> Value {
        self.running.ask(Request::new("status")).await.unwrap()["access-log"].clone()
    }
}

/// Agents look every other second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_whether_it_answers_is_answered_under_any_name_and_neither_counted_nor_written_down() {
    let edge = Logged::new(|_| ()).await;
    let own = async || edge.running.ask(Request::new("status")).await.unwrap()["traffic"]["own"].clone();
    let before = own().await;
    for host in [edge.host().as_str(), "192.0.2.9", "[2001:db8::1]:8443"] {
        let answer = edge.lab.client.get(edge.home.address(), host, "/.sovereign/health").await;
        assert_eq!((answer.status, answer.field("cache-control")), (StatusCode::NO_CONTENT, "no-store"), "{host}");
    }
    edge.get("/first/", &[]).await;
    assert_eq!(edge.nth(1).await["target"], "/first/");
    assert_eq!((own().await, edge.entries().len()), (before, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_says_what_was_asked_and_answered_and_not_by_whom() {
    let edge = Logged::new(|_| ()).await;
    let fields = [
        ("referer", "https://news.example/item?id=77&user=mary"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("cookie", "ghost-members-ssr=mary@example.org"),
        ("authorization", "Ghost c2VjcmV0"),
    ];
    edge.get("/first/?page=2&token=s3cr3t-t0ken&uuid=3d4e5f60-1a2b-4c3d-8e9f-0a1b2c3d4e5f&key=abcdef", &fields).await;
    let entry = edge.nth(1).await;
    for (name, expected) in [
        ("site", "blog"),
        ("host", &*edge.host()),
        ("method", "GET"),
        ("target", "/first/?page=2&token=*&uuid=*&key=*"),
        ("version", "HTTP/1.1"),
        ("reader", "127.0.0.0/24"),
        ("referrer", "https://news.example"),
        ("agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ] {
        assert_eq!(entry[name], expected, "{entry}");
    }
    assert!(entry["duration-ms"].as_f64() > Some(0.0), "{entry}");
    assert!(entry["time"].as_str().unwrap().ends_with('Z') && entry["time"].as_str().unwrap().len() == 24, "{entry}");
    let text = fs::read_to_string(edge.path()).unwrap();
    for secret in ["s3cr3t", "3d4e5f60", "abcdef", "mary", "c2VjcmV0", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }

    let answer = edge.get("/first/", &[]).await;
    let entry = edge.nth(2).await;
    let expected = (Value::from(200), Value::from(answer.body.len()), Value::from("hit"), &Value::Null);
    assert_eq!((entry["status"].clone(), entry["bytes"].clone(), entry["from"].clone(), &entry["cut"]), expected);

    // Over HTTP/2, nothing but a head, from a host that is not ours, and a page that is a file.
    let mut http2 = edge.lab.client.http2(edge.home.address()).await;
    let uri = format!("https://{}/content/images/a.png", edge.host());
    let ask = http::Request::get(&uri).body(http_body_util::Full::default()).unwrap();
    assert_eq!(collected(http2.send_request(ask).await.unwrap()).await.body.len(), 300_000);
    let entry = edge.nth(3).await;
    assert_eq!((&entry["version"], &entry["bytes"], &entry["cut"]), (&"HTTP/2".into(), &300_000.into(), &Value::Null));
    let head = request(Method::HEAD, &edge.host(), "/content/images/a.png", &[], Bytes::new());
    edge.lab.client.send(edge.home.address(), head).await;
    let entry = edge.nth(4).await;
    assert_eq!((&entry["method"], &entry["bytes"], &entry["cut"]), (&"HEAD".into(), &0.into(), &Value::Null));
    edge.lab.client.get(edge.home.address(), "elsewhere.example", "/").await;
    let entry = edge.nth(5).await;
    assert_eq!((&entry["site"], &entry["status"], &entry["from"]), (&Value::Null, &421.into(), &"edge".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_written_whole_cut_or_not_at_all_as_the_operator_says() {
    let mut edge = Logged::new(|config| config.rules.access_log = AccessLog::Full).await;
    edge.get("/first/", &[]).await;
    assert_eq!(edge.nth(1).await["reader"], "127.0.0.1");
    // The next generation writes nothing: neither of new requests nor of old ones.
    (edge.config.rules.access_log, edge.config.access_log) = (AccessLog::Off, None);
    edge.lab.seal(&edge.home, 2, &edge.config);
    edge.running.ask(Request::new("reload")).await.unwrap();
    edge.get("/first/", &[]).await;
    assert_eq!(edge.status().await, Value::Null);
    let path = edge.path();
    (edge.config.rules.access_log, edge.config.access_log) = (AccessLog::Truncated, Some(path));
    edge.lab.seal(&edge.home, 3, &edge.config);
    edge.running.ask(Request::new("reload")).await.unwrap();
    edge.get("/second/", &[]).await;
    let entry = edge.nth(2).await;
    assert_eq!((&entry["target"], &entry["reader"]), (&"/second/".into(), &"127.0.0.0/24".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_sends_neither_forges_a_line_nor_steers_a_terminal() {
    let edge = Logged::new(|_| ()).await;
    let mut stream = edge.lab.client.connect(edge.home.address(), &[]).await.unwrap();
    let agent = b"evil\",\"status\":200}\xc2\x9b2J\xe2\x80\xae\\n\t{";
    let mut head =
        format!("GET /x%0a%1b\u{9b}2J}}{{|?q=%0d HTTP/1.1\r\nhost: {}\r\nuser-agent: ", edge.host()).into_bytes();
    head.extend_from_slice(agent);
    head.extend_from_slice(format!("{}\r\nconnection: close\r\n\r\n", "y".repeat(20_000)).as_bytes());
    stream.write_all(&head).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("not in a safe form"), "it is refused by us, and noted");
    let entry = edge.nth(1).await;
    let text = fs::read(edge.path()).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert!(text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "visible ASCII only");
    assert!(text.len() < 1000, "what is sent is bounded");
    let agent = entry["agent"].as_str().unwrap();
    assert!(agent.starts_with("evil\",\"status\":200}*2J*\\n*{yyy") && agent.len() <= 256, "{agent}");
    assert_eq!(entry["target"], "/x%0a%1b*2J}{|?q=*");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_who_leave_early_are_written_down_as_such() {
    let edge = Logged::new(|_| ()).await;
    edge.origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=60", vec![7u8; 20_000_000]));
    edge.get("/film.mp4", &[]).await;
    assert_eq!(edge.nth(1).await["bytes"], 20_000_000);

    let mut sender = edge.lab.client.http1(edge.home.address()).await;
    let ask = request(Method::GET, &edge.host(), "/film.mp4", &[], Bytes::new());
    let mut response = sender.send_request(ask).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop((sender, response));
    let entry = edge.nth(2).await;
    assert_eq!((&entry["cut"], &entry["status"]), (&"reader".into(), &200.into()), "{entry}");
    assert!(entry["bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 20_000_000), "{entry}");

    // And one who left before there was an answer.
    edge.origin.put("/slow/", Page::html("slow"));
    edge.origin.hold();
    let mut sender = edge.lab.client.http1(edge.home.address()).await;
    let ask = request(Method::GET, &edge.host(), "/slow/", &[], Bytes::new());
    let asking = tokio::spawn(async move { sender.send_request(ask).await.is_ok() });
    eventually("the source is asked", async || (edge.origin.count("/slow/") == 1).then_some(())).await;
    asking.abort();
    let entry = edge.nth(3).await;
    assert_eq!((&entry["cut"], &entry["status"]), (&"reader".into(), &Value::Null), "{entry}");
    edge.origin.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_or_a_missing_folder_costs_entries_and_no_reader() {
    let edge = Logged::new(|_| ()).await;
    std::os::unix::fs::symlink("/dev/full", edge.path()).unwrap();
    for _ in 0..20 {
        assert_eq!(edge.get("/first/", &[]).await.status, StatusCode::OK);
    }
    let status = eventually("the loss is known", async || {
        let status = edge.status().await;
        (status["dropped"] == 20).then_some(status)
    })
    .await;
    assert_eq!(status["written"], 0);
    assert!(status["problem"].as_str().unwrap().contains("No space left"), "{status}");

    fs::remove_dir_all(edge.home.folder.join("log")).unwrap();
    assert_eq!(edge.get("/first/", &[]).await.status, StatusCode::OK);
    eventually("the loss is known", async || {
        let status = edge.status().await;
        (status["dropped"] == 21 && status["problem"].as_str()?.contains("No such file")).then_some(())
    })
    .await;
    fs::create_dir(edge.home.folder.join("log")).unwrap();
    edge.get("/second/", &[]).await;
    assert_eq!(edge.nth(1).await["target"], "/second/");
    let status = edge.status().await;
    assert_eq!((&status["written"], &status["problem"]), (&1.into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_costs_entries_and_neither_readers_nor_the_end_of_the_process() {
    let edge = Logged::new(|_| ()).await;
    // Nobody reads from it: when it is full, who writes to it hangs for ever.
    let made = std::process::Command::new("mkfifo").arg(edge.path()).status().unwrap();
    assert!(made.success());
    let sender = edge.lab.client.http2(edge.home.address()).await;
    let uri = format!("https://{}/first/", edge.host());
    let began = Instant::now();
    let mut asked = 0;
    while edge.status().await["dropped"].as_u64() < Some(1000) {
        let readers = (0..100).map(|_| {
            let (mut sender, uri) = (sender.clone(), uri.clone());
            tokio::spawn(async move {
                let ask = http::Request::get(uri).body(http_body_util::Full::default()).unwrap();
                collected(sender.send_request(ask).await.unwrap()).await.status
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert_eq!(reader.await.unwrap(), StatusCode::OK);
            asked += 1;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{asked} answers");
    }
    let status = edge.status().await;
    assert_eq!(status["problem"], "the disk is too slow");
    assert!(asked < 30_000, "what waits is bounded");
    let began = Instant::now();
    drop(sender);
    edge.running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "the end waits for the disk, but not long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_is_replaced_and_its_successor_write_whole_lines_into_one_log_that_is_rotated() {
    let Logged { lab, origin, home, running, config } = Logged::new(|_| ()).await;
    let path = config.access_log.clone().unwrap();
    // Nearly full, so that it is rotated while both write.
    let line = format!("{{\"old\":\"{}\"}}\n", "x".repeat(1000));
    fs::write(&path, line.repeat(MOST_BYTES as usize / line.len())).unwrap();
    let old = fs::read_to_string(&path).unwrap().lines().count();
    let new = lab.start(&home).await;
    let mut asking = Vec::new();
    for _ in 0..4 {
        let (client, address, host) = (lab.client.clone(), home.address(), format!("{NAME}:{}", home.port()));
        asking.push(tokio::spawn(async move {
            for _ in 0..150 {
                // A connection each: either edge may take it.
                assert_eq!(client.get(address, &host, "/first/").await.status, StatusCode::OK);
            }
        }));
    }
    for asking in asking {
        asking.await.unwrap();
    }
    let status = new.ask(Request::new("status")).await.unwrap();
    let answered = ["hits", "stale"].map(|figure| status["traffic"][figure].as_u64().unwrap()).iter().sum::<u64>();
    assert!(answered > 0 && answered < 600, "both have answered: {answered}");
    // All that either has answered is there when it has ended.
    running.stop().await;
    new.stop().await;
    let logged = Logged { running: lab.start(&home).await, lab, origin, home, config };
    let entries = logged.entries();
    let ours = entries.iter().filter(|entry| entry["site"] == "blog").count();
    assert_eq!((ours, entries.len()), (600, old + 600), "every line is whole, none is lost");
    assert!(rotated(&path, 1).exists() && !rotated(&path, 2).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_writes_down_its_own_readers_and_the_primary_does_not() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    origin.set_canonical(&site.canonical.to_string());
    for (place, site, peer) in [(&home, site, &office), (&office, mirror, &home)] {
        let mut config = lab.config(place, vec![peer.as_peer()], site);
        config.access_log = Some(place.folder.join("access.jsonl"));
        lab.seal(place, 1, &config);
    }
    let at_home = lab.start(&home).await;
    let at_office = lab.start(&office).await;
    at_office.complete().await;
    lab.client.get(office.address(), &format!("{NAME}:{}", office.port()), "/nowhere/").await;
    at_office.stop().await;
    at_home.stop().await;
    let text = fs::read_to_string(office.folder.join("access.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!home.folder.join("access.jsonl").exists(), "over links nothing is written");
}
