//! What passes through to the application as it comes, at its own edge and through a mirror: events, WebSockets, answers
//! that are long in coming, uploads that ask before they begin.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::client::request;
use common::raw::{Raw, script};
use common::{Lab, NAME, Origin, Place};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_before_the_next_is_sent() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _at_home, office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.kill();
    let seen = Arc::new(Semaphore::new(0));
    let next = seen.clone();
    let raw = Raw::at(
        &origin.socket,
        script(move |_, mut stream| {
            let next = next.clone();
            async move {
                stream.write_all(EVENTS).await.unwrap();
                for number in 0..5 {
                    stream.write_all(format!("data: {number}\n\n").as_bytes()).await.unwrap();
                    next.acquire().await.unwrap().forget();
                }
            }
        }),
    );
    for place in [&home, &office] {
        // A member's, and one of the admin's.
        for path in ["/members/events/", "/ghost/api/admin/events/"] {
            let mut sender = lab.client.http1(place.address()).await;
            let asked = request(Method::GET, &host, path, &[("accept", "text/event-stream")], Bytes::new());
            let mut response = sender.send_request(asked).await.unwrap();
            assert_eq!(
                response.headers().get("content-type").map(|kind| kind.as_bytes()),
                Some(&b"text/event-stream"[..]),
                "{response:?}"
            );
            for number in 0..5 {
                let event = tokio::time::timeout(Duration::from_secs(10), response.frame()).await;
                let event = event.expect("the event has been sent").unwrap().unwrap().into_data().unwrap();
                assert_eq!(event, format!("data: {number}\n\n"), "{path} at {}", place.name);
                seen.add_permits(1);
            }
            assert!(response.frame().await.is_none());
        }
    }
    raw.end();
}

/// Longer than everything that a reader is given up for: a head, a body that stands still, an answer that is not taken.
const LONG: Duration = Duration::from_secs(65);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_be_long_in_coming() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _at_home, office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.kill();
    let raw = Raw::at(
        &origin.socket,
        script(|head, mut stream| async move {
            // Not a condition to wait for: this is how long the application takes.
            if head.contains("/poll/") {
                tokio::time::sleep(LONG).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews").await.unwrap();
            } else if head.contains("/events/") {
                stream.write_all(EVENTS).await.unwrap();
                for number in 0..2 {
                    tokio::time::sleep(LONG * number).await;
                    stream.write_all(format!("data: {number}\n\n").as_bytes()).await.unwrap();
                }
            }
        }),
    );
    let get = async |place: &Place, path: &str| lab.client.get(place.address(), &host, path).await;
    let (near, far, here, there) = tokio::join!(
        get(&home, "/members/poll/"),
        get(&office, "/members/poll/"),
        get(&home, "/members/events/"),
        get(&office, "/members/events/"),
    );
    for polled in [near, far] {
        assert_eq!((polled.status, &*polled.text()), (StatusCode::OK, "news"));
    }
    for events in [here, there] {
        assert_eq!(events.text(), "data: 0\n\ndata: 1\n\n");
    }
    raw.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_work_at_a_mirror_too() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.kill();
    let raw = Raw::at(
        &origin.socket,
        script(|head, mut stream| async move {
            let head = head.to_ascii_lowercase();
            let asked = head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n");
            let keyed = head.starts_with("get ") && head.contains("\r\nsec-websocket-key: dgvzda==\r\n");
            let answer: &[u8] = match (asked && keyed, head.contains("/socket/")) {
                (true, true) => {
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: yes\r\n\r\n"
                }
                (true, false) if head.contains("/plain/") => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
                (true, false) => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                (false, _) => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }),
    );
    let fields = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGVzdA==")];
    for place in [&home, &office] {
        let asked = |path: &str| request(Method::GET, &host, path, &fields, Bytes::new());
        let mut sender = lab.client.http1(place.address()).await;
        let response = sender.send_request(asked("/ghost/socket/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "at {}", place.name);
        assert_eq!(response.headers()["sec-websocket-accept"], "yes");
        assert_eq!(response.headers()["upgrade"], "websocket");
        let (mut read, mut write) = tokio::io::split(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
        // More than any window, both ways at once.
        let sent: Vec<u8> = (0..6_000_000u32).map(|n| (n / 1000) as u8).collect();
        let sending = sent.clone();
        let sender = tokio::spawn(async move {
            write.write_all(&sending).await.unwrap();
            // TLS keeps the end to itself when the connection has no room for it at that moment.
            write.flush().await.unwrap();
            write
        });
        let mut echoed = vec![0; sent.len()];
        read.read_exact(&mut echoed).await.unwrap();
        assert!(echoed == sent, "at {}", place.name);
        // A reader who is gone without a word is found out.
        let filter = format!("sport = :{}", place.port());
        let sockets = Command::new("ss").args(["-tnoH", "state", "established", &filter]).output().unwrap();
        let sockets = String::from_utf8(sockets.stdout).unwrap();
        assert!(sockets.lines().count() > 0, "at {}", place.name);
        for socket in sockets.lines() {
            assert!(socket.contains("timer:"), "at {}: {sockets}", place.name);
        }
        // Who hangs up is heard on the other side.
        drop((sender.await.unwrap(), read));

        let mut sender = lab.client.http1(place.address()).await;
        let refused = sender.send_request(asked("/ghost/forbidden/")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "at {}", place.name);
        let mut sender = lab.client.http1(place.address()).await;
        let plain = sender.send_request(asked("/ghost/plain/")).await.unwrap();
        let expected = if place.name == "home" { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        assert_eq!(plain.status(), expected, "at {}", place.name);
    }
    raw.end();
    origin.run();
    at_home.complete().await;
    at_office.complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_asks_first_is_told_to_go_on() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _at_home, office, _at_office) = lab.two(&origin).await;
    let authority = lab.folder.path().join("authority.pem");
    let picture = lab.folder.path().join("picture");
    std::fs::write(&authority, &lab.authority).unwrap();
    std::fs::write(&picture, vec![7; 3_000_000]).unwrap();
    for place in [&home, &office] {
        let port = place.port();
        let mut curl = Command::new("curl");
        // It sends nothing before it is told to, or a minute has passed.
        curl.args(["--silent", "--show-error", "--verbose", "--http1.1", "--expect100-timeout", "60"]);
        curl.args(["--max-time", "30", "--header", "Expect: 100-continue"]);
        curl.arg("--cacert").arg(&authority).arg("--connect-to").arg(format!("::127.0.0.1:{port}"));
        curl.arg("--upload-file").arg(&picture);
        curl.arg(format!("https://{NAME}:{port}/ghost/api/admin/images/upload"));
        let uploaded = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        let (said, told) = (String::from_utf8_lossy(&uploaded.stdout), String::from_utf8_lossy(&uploaded.stderr));
        assert!(said.starts_with("3000000 bytes"), "at {}: {said:.80}\n{told}", place.name);
        assert_eq!(told.matches("< HTTP/1.1 100 Continue").count(), 1, "at {}: {told}", place.name);
    }
}
