//! Sources that fail in every way but by refusing: what readers get meanwhile, and what is kept afterwards.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::origin::Page;
use common::raw::{Raw, Script, script};
use common::{Lab, NAME, Origin, eventually, site_changed};
use http::StatusCode;
use sovereign_runtime::control::Request as Control;
use tokio::io::AsyncWriteExt as _;

/// What must never be seen.
const POISON: &str = "POISON";

/// Says `bytes` to every request, and ends the connection.
fn says(bytes: impl Into<String>) -> Script {
    let bytes: Arc<str> = bytes.into().into();
    script(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
}

fn faults() -> Vec<(&'static str, Script)> {
    let kind = "Content-Type: text/html\r\nCache-Control: public, max-age=60\r\n";
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{kind}{fields}\r\n\r\n{POISON}");
    vec![
        ("hangs up", says("")),
        ("speaks something else", says("SSH-2.0-OpenSSH_9.2\r\n")),
        ("speaks TLS", says("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0")),
        ("has a field that is none", says(head("Bad Field\0: x\r\nContent-Length: 6"))),
        ("has a field across lines", says(head("Folded: a\r\n\tb\r\n c: d\u{7}\r\nContent-Length: 6"))),
        ("breaks off in its head", says(format!("HTTP/1.1 200 OK\r\n{kind}Content-Le"))),
        ("breaks off in its body", says(head("Content-Length: 1000"))),
        ("breaks off in a chunk", says(head("Transfer-Encoding: chunked").replace(POISON, "1f\r\nPOISON"))),
        ("breaks off between chunks", says(head("Transfer-Encoding: chunked").replace(POISON, "6\r\nPOISON\r\n"))),
        ("miscounts a chunk", says(head("Transfer-Encoding: chunked").replace(POISON, "2\r\nPOISON\r\n0\r\n\r\n"))),
        ("has a chunk of no number", says(head("Transfer-Encoding: chunked").replace(POISON, "zz\r\nPOISON"))),
        ("has two lengths", says(head("Content-Length: 6\r\nContent-Length: 3"))),
        ("has a length below zero", says(head("Content-Length: -6"))),
        ("has a length beyond all", says(head("Content-Length: 18446744073709551616"))),
        ("has an endless head", says(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(200_000)))),
        ("confirms what nobody has", says("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_source_says_is_neither_shown_nor_kept() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let good = lab.client.get(home.address(), &host, "/first/").await.body;
    origin.kill();
    let raw = Raw::at(&origin.socket, says(""));
    for (number, (fault, script)) in faults().into_iter().enumerate() {
        raw.now(script);
        // From now on everybody asks.
        assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::NO_CONTENT);
        for place in [&home, &office] {
            let kept = lab.client.get(place.address(), &host, "/first/").await;
            assert_eq!((kept.status, &kept.body), (StatusCode::OK, &good), "{fault}, at {}", place.name);
            let new = lab.client.get(place.address(), &host, &format!("/new-{number}/")).await;
            assert!(new.status.is_server_error(), "{fault}, at {}: {new:?}", place.name);
            assert!(!new.text().contains(POISON), "{fault}, at {}: {new:?}", place.name);
            let live = lab.client.get_whole(place.address(), &host, "/members/api/member/").await;
            assert!(
                !live.as_ref().is_some_and(|live| live.status.is_success()),
                "{fault}, at {}: {live:?}",
                place.name
            );
        }
    }
    raw.end();
    origin.run();
    let (kept, mirrored) = (at_home.complete().await, at_office.complete().await);
    assert_eq!(kept["pages-kept"], mirrored["pages-kept"]);
    for place in [&home, &office] {
        let page = lab.client.get(place.address(), &host, "/first/").await;
        assert_eq!(page.body, good);
    }
    assert_eq!(kept["source"]["reachable"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_silent_or_slow_keeps_no_reader_waiting() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.kill();
    let raw = Raw::at(&origin.socket, script(|_, _stream| std::future::pending()));
    assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::NO_CONTENT);
    for place in [&home, &office] {
        for path in ["/", "/first/", "/second/", "/rss/"] {
            let began = Instant::now();
            let kept = lab.client.get(place.address(), &host, path).await;
            assert_eq!(kept.status, StatusCode::OK, "{path} at {}", place.name);
            assert!(began.elapsed() < Duration::from_secs(3), "{path} at {}: {:?}", place.name, began.elapsed());
        }
    }
    assert_eq!(at_home.site().await["source"]["reachable"], true, "silence alone is not believed so soon");
    // A byte at a time, and right: that is an answer, when it is complete.
    raw.end();
    let raw = Raw::at(
        &origin.socket,
        script(|head, mut stream| async move {
            if !head.starts_with("GET /first/ ") {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nslow";
            for byte in answer.as_bytes() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }),
    );
    assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::NO_CONTENT);
    let began = Instant::now();
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for place in [&home, &office] {
        eventually("the slow answer is there", async || {
            (lab.client.get(place.address(), &host, "/first/").await.text() == "slow").then_some(())
        })
        .await;
    }
    raw.end();
    origin.run();
    site_changed(&lab.client, home.address()).await;
    at_home.complete().await;
    at_office.complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_an_answer_is_no_other_answer() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _at_home, office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.kill();
    // On a connection that stays open: a body longer than was said, which reads as another answer.
    let smuggled = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n{POISON}");
    let raw = Raw::at(
        &origin.socket,
        script(move |_, mut stream| {
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nshort{smuggled}");
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
                std::future::pending().await
            }
        }),
    );
    for number in 0..20 {
        let place = if number % 2 == 0 { &home } else { &office };
        for path in [format!("/page-{number}/"), format!("/members/{number}/")] {
            let answer = lab.client.get(place.address(), &host, &path).await;
            assert_eq!((answer.status, &*answer.text()), (StatusCode::OK, "short"), "{path} at {}", place.name);
        }
    }
    // An empty page is a page, when the source says so.
    raw.now(says("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"));
    site_changed(&lab.client, home.address()).await;
    for place in [&home, &office] {
        eventually("the page is empty", async || {
            let page = lab.client.get(place.address(), &host, "/first/").await;
            assert_eq!(page.status, StatusCode::OK);
            page.body.is_empty().then_some(())
        })
        .await;
    }
    raw.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_that_breaks_off_is_cut_for_readers_and_not_kept() {
    const LONG: usize = 4 << 20;
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let kept = at_office.site().await["pages-kept"].clone();
    origin.kill();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: public, max-age=60\r\n";
    let counted = format!("{head}Content-Length: {LONG}\r\n\r\n{}", "x".repeat(LONG / 4));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", LONG / 4, "x".repeat(LONG / 4));
    let raw = Raw::at(&origin.socket, says(counted));
    for broken in [None, Some(says(chunked))] {
        broken.into_iter().for_each(|script| raw.now(script));
        for place in [&office, &home] {
            let answer = lab.client.get_whole(place.address(), &host, "/film.mp4").await;
            let served = answer.filter(|answer| answer.status.is_success());
            assert!(served.is_none(), "at {}: {:?}", place.name, served.map(|answer| answer.body.len()));
        }
    }
    raw.end();
    origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=60", vec![7; LONG]));
    origin.run();
    assert_eq!(at_home.site().await["pages-kept"], kept);
    assert_eq!(at_office.site().await["pages-kept"], kept);
    for place in [&office, &home] {
        let film = lab.client.get(place.address(), &host, "/film.mp4").await;
        assert_eq!((film.status, film.body.len()), (StatusCode::OK, LONG), "at {}", place.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_of_no_use_is_refused_and_the_old_one_stays() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, _office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let (chain, key) = (home.folder.join("chain.pem"), home.folder.join("key.pem"));
    let served = async || {
        let stream = lab.client.connect(home.address(), &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let (good_chain, good_key, before) = (std::fs::read(&chain).unwrap(), std::fs::read(&key).unwrap(), served().await);
    let elsewhere = lab.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    lab.write_certificate(&elsewhere);
    let (other_chain, other_key) =
        (std::fs::read(elsewhere.join("chain.pem")).unwrap(), std::fs::read(elsewhere.join("key.pem")).unwrap());
    let torn = good_chain[..good_chain.len() / 2].to_vec();
    let spoiled = String::from_utf8(good_chain.clone()).unwrap().replace("MII", "AAA").into_bytes();
    for (what, chain_bytes, key_bytes) in [
        ("a key of another certificate", &good_chain, &other_key),
        ("a certificate of another key", &other_chain, &good_key),
        ("half a chain", &torn, &good_key),
        ("a chain of garbage", &spoiled, &good_key),
        ("an empty chain", &Vec::new(), &good_key),
        ("a key in place of the chain", &good_key, &good_key),
        ("a chain in place of the key", &good_chain, &good_chain),
        ("an empty key", &good_chain, &Vec::new()),
    ] {
        std::fs::write(&chain, chain_bytes).unwrap();
        std::fs::write(&key, key_bytes).unwrap();
        let refused = at_home.ask(Control::new("reload")).await.unwrap_err();
        assert!(format!("{refused:?}").contains("certificate"), "{what}: {refused:?}");
        assert_eq!(served().await, before, "{what}");
        assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK, "{what}");
    }
    std::fs::write(&chain, &other_chain).unwrap();
    std::fs::write(&key, &other_key).unwrap();
    at_home.ask(Control::new("reload")).await.unwrap();
    assert_ne!(served().await, before);
    // One that has expired is served all the same: some readers get in with a warning, with none nobody would.
    lab.write_certificate_until(&home.folder, 2020);
    at_home.ask(Control::new("reload")).await.unwrap();
    assert!(lab.client.connect(home.address(), &[]).await.is_err(), "this reader looks at the date");
    assert_eq!(at_home.ask(Control::new("status")).await.unwrap()["certificate"], digest_of(&chain));
}

fn digest_of(file: &Path) -> String {
    sovereign_model::Digest::of(std::fs::read(file).unwrap()).to_string()
}
