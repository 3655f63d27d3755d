//! Odd answers under another name of the site: what comes is never worse than what the application sent.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::client::request;
use common::{Lab, NAME, Place, Running};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use sovereign_model::edge_config::{EdgeApp, EdgeSite, Source};
use sovereign_model::stack::MirrorRules;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a body that must not be kept in memory, and of what may be.
const LONG: usize = 64 << 20;
const ROOM: usize = 32 << 20;

/// A service that says what it is asked to, byte by byte.
struct Service {
    address: SocketAddr,
    /// An event is sent for each permit.
    events: Arc<Semaphore>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, events) = (listener.local_addr().unwrap(), Arc::new(Semaphore::new(0)));
        tokio::spawn({
            let events = events.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, events.clone()));
                }
            }
        });
        Self { address, events }
    }
}

async fn answer(mut stream: TcpStream, events: Arc<Semaphore>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned()));
    let origin = format!("https://{}", field("host").unwrap());
    let path = head.split_whitespace().nth(1).unwrap().to_owned();
    let mut say = async |fields: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {fields}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.shutdown().await
    };
    match path.as_str() {
        "/encoded" => {
            let body = format!("not asked for {origin}/");
            say("200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip", body.as_bytes()).await
        }
        "/binary" => say("200 OK\r\nContent-Type: text/html", &binary(&origin)).await,
        "/text" if field("range").is_some() => {
            let fields = "206 Partial Content\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-23/24";
            say(fields, format!("{origin}/ and so on").as_bytes().get(8..24).unwrap()).await
        }
        "/text" => say("200 OK\r\nContent-Type: text/plain\r\nETag: \"1\"", format!("{origin}/!").as_bytes()).await,
        "/film" => say("206 Partial Content\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-2/9", b"abc").await,
        "/login" => say(&format!("204 Fine\r\nSet-Cookie: s=1; Domain={NAME}; Path=/\r\nSet-Cookie: t=2"), b"").await,
        "/form" => {
            let length = field("content-length").map(|length| length.parse().unwrap());
            let mut body = Vec::new();
            // In chunks, the last of which is empty, or of a length.
            while length.map_or(!body.ends_with(b"\r\n\r\n"), |length: usize| body.len() < length) {
                body.push(stream.read_u8().await?);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n").await?;
            stream.write_all(&body).await?;
            stream.shutdown().await
        }
        "/cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n").await?;
            // In the middle of the host's name.
            stream.write_all(format!("<a href=\"{}", &origin[..origin.len() - 9]).as_bytes()).await?;
            stream.shutdown().await
        }
        "/events" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            loop {
                events.acquire().await.unwrap().forget();
                stream.write_all(format!("data: {origin}\n\n").as_bytes()).await?;
            }
        }
        "/long" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nContent-Length: {LONG}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            let mut part = format!("<a href=\"{origin}/\">a</a>").into_bytes();
            part.resize(1 << 16, b'.');
            for _ in 0..LONG / part.len() {
                stream.write_all(&part).await?;
            }
            stream.shutdown().await
        }
        _ => say("404 Not Found\r\nContent-Type: text/plain", b"nothing").await,
    }
}

/// No text in any encoding, with a spelling of the origin that begins but does not end.
fn binary(origin: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255u8).cycle().take(5000).collect();
    bytes.extend_from_slice(origin.as_bytes());
    bytes.extend_from_slice(b"0\0\xff\xfe");
    bytes
}

/// One edge in front of the service, and the other name.
async fn edge(lab: &Lab, service: &Service) -> (Place, Running, String) {
    let place = lab.place("home");
    let site = EdgeSite {
        app: EdgeApp::Upstream(MirrorRules { crawl: false, start: Vec::new(), never: Vec::new() }),
        webhook_key: None,
        ..lab.site(&place, Source::Tcp(service.address))
    };
    lab.seal(&place, 1, &lab.config(&place, Vec::new(), site));
    let running = lab.start(&place).await;
    let other = format!("www.{NAME}:{}", place.port());
    (place, running, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_passes_as_it_is() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let origin = format!("https://{NAME}:{}", place.port());
    for cookie in [&[][..], &[("cookie", "s=1")]] {
        let encoded = lab.client.get_with(place.address(), &other, "/encoded", cookie).await;
        assert_eq!(encoded.text(), format!("not asked for {origin}/"), "an encoded body is not looked into");
        assert_eq!(encoded.field("content-encoding"), "gzip");
        let odd = lab.client.get_with(place.address(), &other, "/binary", cookie).await;
        assert!(odd.body == binary(&origin), "bytes that only claim to be text");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_seen_to() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let mut sender = lab.client.http1(place.address()).await;
    let asked = request(Method::GET, &other, "/cut", &[("cookie", "s=1")], Bytes::new());
    let response = sender.send_request(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err(), "half a page is not passed off as a whole one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_text_is_not_cut_by_the_wrong_measure() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let fields = [("cookie", "s=1"), ("range", "bytes=8-23")];
    let whole = lab.client.get_with(place.address(), &other, "/text", &fields).await;
    assert_eq!((whole.status, whole.text()), (StatusCode::OK, format!("https://{other}/!")));
    assert_eq!(whole.field("content-range"), "");
    // Under its own name, and of what is no text, a part is a part.
    let canonical = format!("{NAME}:{}", place.port());
    let part = lab.client.get_with(place.address(), &canonical, "/text", &fields).await;
    assert_eq!((part.status, part.field("content-range")), (StatusCode::PARTIAL_CONTENT, "bytes 8-23/24"));
    let part = lab.client.get_with(place.address(), &other, "/film", &fields).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"abc"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_and_cookies_work_under_the_other_name() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let encoded = other.replace(':', "%3A");
    let body = Bytes::from(format!("back=https%3A%2F%2F{encoded}%2Fa&text=x"));
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let said = lab.client.post(place.address(), &other, "/form", &fields, body).await;
    let canonical = format!("back=https%3A%2F%2F{NAME}%3A{}%2Fa&text=x", place.port());
    assert!(said.text().contains(&canonical), "the service sees its own name: {}", said.text());
    let said = lab.client.get_with(place.address(), &other, "/login", &[("cookie", "s=0")]).await;
    let cookies: Vec<_> = said.fields.get_all("set-cookie").iter().collect();
    // Of the other name's own domain: `www.` is in it.
    assert_eq!(cookies, [&format!("s=1; Domain={NAME}; Path=/"), "t=2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_does_not_wait_for_the_next_one() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let mut sender = lab.client.http1(place.address()).await;
    let asked = request(Method::GET, &other, "/events", &[("cookie", "s=1")], Bytes::new());
    let mut body = sender.send_request(asked).await.unwrap().into_body();
    for _ in 0..3 {
        service.events.add_permits(1);
        let mut event = Vec::new();
        while !event.ends_with(b"\n\n") {
            let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await;
            event.extend_from_slice(&frame.expect("the event comes").unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(String::from_utf8_lossy(&event), format!("data: https://{other}\n\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_page_takes_no_memory() {
    let (lab, service) = (Lab::new(), Service::start().await);
    let (place, _running, other) = edge(&lab, &service).await;
    let mut sender = lab.client.http1(place.address()).await;
    let asked = request(Method::GET, &other, "/long", &[], Bytes::new());
    let mut body = sender.send_request(asked).await.unwrap().into_body();
    let before = resident();
    let (mut length, mut most) = (0, 0);
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
        most = most.max(resident());
    }
    let longer = "www.".len() * (LONG >> 16);
    assert_eq!(length, LONG + longer, "every link was rewritten");
    assert!(most.saturating_sub(before) < ROOM, "{} MB for a page of {} MB", (most - before) >> 20, LONG >> 20);
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
