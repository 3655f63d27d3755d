//! One edge: what it keeps and what it never keeps, what it refuses, and how it changes and ends.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::client::{collected, request};
use common::origin::Page;
use common::{Lab, NAME, Origin, Place, Running, eventually};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sovereign_model::edge_config::{EdgeConfig, EdgeSite, Source};
use sovereign_model::stack::AdminReach;
use sovereign_runtime::control::Request;
use sovereign_runtime::lifecycle::Drained;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn home(lab: &Lab, origin: &Origin, change: impl FnOnce(&mut EdgeSite)) -> (Place, Running, String) {
    let home = lab.place("home");
    let mut site = lab.site(&home, Source::Unix(origin.socket.clone()));
    change(&mut site);
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let running = lab.start(&home).await;
    running.complete().await;
    let host = format!("{NAME}:{}", home.port());
    (home, running, host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_question_serves_all_who_wait() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    origin.put("/unlinked/", Page::html("<p>unlinked</p>"));
    origin.hold();
    let readers: Vec<_> = (0..40)
        .map(|_| {
            let (client, address, host) = (lab.client.clone(), home.address(), host.clone());
            tokio::spawn(async move { client.get(address, &host, "/unlinked/").await })
        })
        .collect();
    eventually("the question is asked", async || (origin.count("/unlinked/") == 1).then_some(())).await;
    eventually("all readers are at the edge", async || {
        let status = running.ask(Request::new("status")).await.unwrap();
        (status["connections"].as_u64() >= Some(40)).then_some(())
    })
    .await;
    origin.release();
    let mut collapsed = 0;
    for reader in readers {
        let answer = reader.await.unwrap();
        assert_eq!(answer.text(), "<p>unlinked</p>");
        collapsed += usize::from(answer.field("cache-status").contains("collapsed"));
    }
    assert_eq!(origin.count("/unlinked/"), 1);
    assert!(collapsed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_when_the_answer_has_just_arrived_asks_no_more() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, host) = home(&lab, &origin, |_| ()).await;
    for page in 0..150 {
        let path = format!("/unlinked-{page}/");
        origin.put(&path, Page::html("<p>unlinked</p>"));
        let readers: Vec<_> = (0..24)
            .map(|_| {
                let (client, address, host, path) = (lab.client.clone(), home.address(), host.clone(), path.clone());
                tokio::spawn(async move { client.get(address, &host, &path).await.text() })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), "<p>unlinked</p>");
        }
        assert_eq!(origin.count(&path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_is_given_to_all_who_wait_as_it_comes() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, host) = home(&lab, &origin, |_| ()).await;
    let film: Vec<u8> = (0..8_000_000u32).map(|n| (n / 1000) as u8).collect();
    origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=60", film.clone()));
    let ask = || {
        let (client, address, host) = (lab.client.clone(), home.address(), host.clone());
        tokio::spawn(async move { client.get(address, &host, "/film.mp4").await })
    };
    let readers: Vec<_> = (0..6).map(|_| ask()).collect();
    for reader in readers {
        let answer = reader.await.unwrap();
        assert_eq!(answer.field("content-length"), "8000000");
        assert!(answer.body == film, "{} bytes", answer.body.len());
    }
    assert_eq!(origin.count("/film.mp4"), 1);
    let part = lab.client.get_with(home.address(), &host, "/film.mp4", &[("range", "bytes=7999990-")]).await;
    assert_eq!(part.body, film[7_999_990..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_made_for_one_reader_reaches_another() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    let before = running.site().await["pages-kept"].clone();
    // A session is passed on and its answer is not kept.
    origin.put("/secret/", Page::html("<p>for everybody</p>"));
    let member = [("cookie", "ghost-members-ssr=alice")];
    let answer = lab.client.get_with(home.address(), &host, "/secret/", &member).await;
    assert!(answer.field("cache-status").contains("fwd=bypass"), "{answer:?}");
    assert_eq!(origin.last("/secret/").fields["cookie"], "ghost-members-ssr=alice");
    assert_eq!(running.site().await["pages-kept"], before);
    // Other cookies do not reach the application, nor do answers that set one enter the store.
    lab.client.get_with(home.address(), &host, "/secret/", &[("cookie", "theme=dark")]).await;
    assert!(!origin.last("/secret/").fields.contains_key("cookie"));
    origin.put("/greets/", Page::html("hello").with("set-cookie", "visitor=1"));
    for _ in 0..2 {
        let answer = lab.client.get(home.address(), &host, "/greets/").await;
        assert!(!answer.field("cache-status").contains("hit"), "{answer:?}");
    }
    assert_eq!(origin.count("/greets/"), 2);
    // An absent page costs the application one question each: its no is not kept.
    assert_eq!(lab.client.get(home.address(), &host, "/nowhere/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_turns_private_is_served_from_the_store_no_more() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    let closed = Page {
        status: 302,
        fields: vec![("location".into(), "/private/?r=%2F".into())],
        body: Bytes::new(),
        chunks: None,
    };
    for path in ["/", "/first/", "/second/"] {
        origin.put(path, closed.clone());
    }
    running.ask(Request::new("fill").with("site", "blog")).await.unwrap();
    // Every page was confirmed a moment ago; a passed-through save by the owner is what says that something changed.
    origin.put("/ghost/", Page::html(""));
    let saved = lab.client.post(home.address(), &host, "/ghost/api/admin/changed/", &[], Bytes::new()).await;
    assert_eq!(saved.field("x-cache-invalidate"), "", "it is for us, not for readers");
    eventually("the edge knows", async || (running.site().await["private"] == true).then_some(())).await;
    let page = lab.client.get(home.address(), &host, "/first/").await;
    assert_eq!((page.status, page.field("location")), (StatusCode::FOUND, "/private/?r=%2F"));
    eventually("nothing is kept", async || (running.site().await["pages-kept"] == 0).then_some(())).await;
    running.stop().await;
    let running = lab.start(&home).await;
    assert_eq!(running.site().await["private"], true, "a new process knows it before it has asked");
    origin.fill();
    eventually("it is public again", async || {
        // Refused until the new process owns the store.
        running.ask(Request::new("fill").with("site", "blog")).await.ok()?;
        (running.site().await["private"] == false).then_some(())
    })
    .await;
    running.complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_primary_does_not_erase_its_mirror() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    for n in 0..20 {
        origin.put(&format!("/post-{n}/"), Page::html("post"));
    }
    let links: String = (0..20).map(|n| format!("<a href=/post-{n}/>")).collect();
    origin.put("/", Page::html(&links));
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    let kept = running.site().await["pages-kept"].as_u64().unwrap();
    assert!(kept >= 21, "{kept}");
    for n in 0..20 {
        origin.remove(&format!("/post-{n}/"));
    }
    lab.client.post(home.address(), &host, "/ghost/api/admin/changed/", &[], Bytes::new()).await;
    let site = eventually("the pass has ended", async || {
        let site = running.site().await;
        (site["last-pass"]["held"] == 20).then_some(site)
    })
    .await;
    assert_eq!(site["pages-kept"].as_u64().unwrap(), kept);
    // The operator has looked, and agrees.
    running.ask(Request::new("fill").with("site", "blog").with("accept-removals", true)).await.unwrap();
    eventually("they are removed", async || {
        (running.site().await["pages-kept"].as_u64().unwrap() == kept - 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_not_guessed_and_mail_is_not_promised() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, host) = home(&lab, &origin, |_| ()).await;
    let post = async |path: &str| lab.client.post(home.address(), &host, path, &[], Bytes::new()).await;
    for path in ["/members/api/send-magic-link/", "/ghost/api/admin/authentication/password_reset/"] {
        let answer = post(path).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert!(answer.text().contains("no e-mail"));
    }
    let mut refused = 0;
    for _ in 0..15 {
        let answer = post("/ghost/api/admin/session/").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(!answer.field("retry-after").is_empty());
            refused += 1;
        }
    }
    assert!((4..=6).contains(&refused), "{refused}");
    assert_eq!(post("/ghost/api/admin/posts/").await.status, StatusCode::OK, "only attempts count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_requests_are_refused() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, host) = home(&lab, &origin, |site| site.admin = AdminReach::Local).await;
    let raw = async |text: String| {
        let mut stream = lab.client.connect(home.address(), &[b"http/1.1"]).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
    };
    for (head, expected) in [
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n"), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "400"),
        (format!("GET /a/../ghost/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), "400"),
        ("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(40_000)), "431"),
        (format!("TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "405"),
    ] {
        let line = raw(head.clone()).await;
        assert!(line.contains(expected), "{line:?} for {:.60}", head);
    }
    // Both lengths: whatever it is taken for, nothing of it becomes a second request.
    let before = origin.asked().len();
    let smuggled = format!(
        "POST /ghost/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"
    );
    raw(smuggled).await;
    assert!(
        origin.asked()[before..].iter().all(|asked| asked.target != "/smuggled"),
        "{:?}",
        &origin.asked()[before..]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_and_upgrades_work() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, host) = home(&lab, &origin, |_| ()).await;
    let mut sender = lab.client.http2(home.address()).await;
    let uri = format!("https://{host}/first/");
    let asked = http::Request::get(uri).body(http_body_util::Full::new(Bytes::new())).unwrap();
    let answer = collected(sender.send_request(asked).await.unwrap()).await;
    assert!(answer.text().contains("first, at"), "{answer:?}");

    let mut sender = lab.client.http1(home.address()).await;
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    let asked = request(Method::GET, &host, "/ghost/socket", &fields, Bytes::new());
    let response = sender.send_request(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_site() {
    let lab = Lab::new();
    let home = lab.place("home");
    let files = lab.folder.path().join("files");
    std::fs::create_dir_all(files.join("sub/.git")).unwrap();
    std::fs::write(files.join("index.html"), "<a href=sub/>sub</a>").unwrap();
    std::fs::write(files.join("sub/index.html"), "<p>sub</p>").unwrap();
    std::fs::write(files.join("sub/not linked.txt"), "text").unwrap();
    std::fs::write(files.join("sub/.git/config"), "secret").unwrap();
    std::fs::write(files.join("404.html"), "nothing here").unwrap();
    std::fs::write(lab.folder.path().join("outside"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", files.join("leak.txt")).unwrap();
    std::fs::write(files.join("film.webm"), vec![3; 2_000_000]).unwrap();
    let site = lab.site(&home, Source::Folder(files.clone()));
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let running = lab.start(&home).await;
    let site = running.complete().await;
    assert_eq!((&site["pages-kept"], &site["pages-known"]), (&5.into(), &5.into()), "{site}");
    let host = format!("{NAME}:{}", home.port());
    let get = async |path: &str| lab.client.get(home.address(), &host, path).await;
    assert_eq!(get("/sub/").await.text(), "<p>sub</p>");
    assert_eq!(get("/sub/not%20linked.txt").await.text(), "text");
    assert_eq!(get("/sub").await.field("location"), "/sub/");
    for hidden in ["/leak.txt", "/sub/.git/config", "/..%2foutside", "/nowhere"] {
        let answer = get(hidden).await;
        assert!(answer.status.is_client_error() && !answer.text().contains("secret"), "{hidden} {answer:?}");
    }
    let part = lab.client.get_with(home.address(), &host, "/film.webm", &[("range", "bytes=1999990-")]).await;
    assert_eq!((part.status, part.body.len()), (StatusCode::PARTIAL_CONTENT, 10));
    assert_eq!(get("/film.webm").await.body.len(), 2_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_all_or_nothing() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let good = lab.config(&home, Vec::new(), site.clone());
    let reload = async || running.ask(Request::new("reload")).await;
    // A certificate that was renewed is served by the next handshake.
    let renewed = lab.write_certificate(&home.folder);
    reload().await.unwrap();
    let stream = lab.client.connect(home.address(), &[]).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), renewed);
    // What is not newer, not signed, not for us or not complete is refused, with a reason.
    let mut other = good.clone();
    other.sites[0].admin = AdminReach::Local;
    for (sabotage, reason) in [
        (Box::new(|| lab.seal(&home, 1, &other)) as Box<dyn Fn()>, "generation 1 is refused"),
        (Box::new(|| std::fs::write(home.config_path(), "{}").unwrap()), "refused"),
        (
            Box::new(|| {
                let mut lost = good.clone();
                lost.certificate.key = "/nowhere".into();
                lab.seal(&home, 5, &lost);
            }),
            "/nowhere",
        ),
        (
            Box::new(|| {
                let mut moved = good.clone();
                moved.store = "/elsewhere".into();
                lab.seal(&home, 5, &moved);
            }),
            "another store",
        ),
    ] {
        sabotage();
        let refused = reload().await.unwrap_err();
        let text = format!("{refused:?}");
        assert!(text.contains(reason), "{text}");
        assert_eq!(running.ask(Request::new("status")).await.unwrap()["generation"], 1);
        assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    }
    lab.seal(&home, 2, &other);
    assert_eq!(reload().await.unwrap()["generation"], 2);
}

/// Asks without a pause on kept connections, as a load generator does, and counts what is not well.
async fn load(lab: &Lab, home: &Place, host: &str, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (asked, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for _ in 0..8 {
        let (client, address, host, stop) = (lab.client.clone(), home.address(), host.to_owned(), stop.clone());
        let (asked, failed) = (asked.clone(), failed.clone());
        readers.push(tokio::spawn(async move {
            let mut sender: Option<http1::SendRequest<http_body_util::Full<Bytes>>> = None;
            while !stop.load(Ordering::Relaxed) {
                let mut connection = match sender.take().filter(|sender| !sender.is_closed()) {
                    Some(kept) => kept,
                    None => client.http1(address).await,
                };
                asked.fetch_add(1, Ordering::Relaxed);
                let question = request(Method::GET, &host, "/first/", &[], Bytes::new());
                match connection.send_request(question).await {
                    Ok(response) => {
                        let close = response.headers().get("connection").is_some_and(|value| value == "close");
                        let well = response.status() == StatusCode::OK;
                        let whole = response.into_body().collect().await.is_ok();
                        failed.fetch_add(usize::from(!well || !whole), Ordering::Relaxed);
                        if !close && connection.ready().await.is_ok() {
                            sender = Some(connection);
                        }
                    }
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_certificate_is_shown_for_its_name_while_it_is_good_and_else_the_stacks_own() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    let www = format!("www.{NAME}");
    let own = lab.client.shown(home.address(), NAME).await;
    let public = home.folder.join("public");
    std::fs::create_dir(&public).unwrap();
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let config = EdgeConfig { public_certificates: Some(public.clone()), ..lab.config(&home, Vec::new(), site) };
    lab.seal(&home, 2, &config);
    let reload = async || running.ask(Request::new("reload")).await.unwrap();
    let told = async || running.ask(Request::new("status")).await.unwrap()["public-certificates"].clone();
    reload().await;
    assert_eq!(lab.client.shown(home.address(), NAME).await, own, "there is none yet");

    // One is brought, and renewed, under a connection that stays open.
    let mut kept = lab.client.http1(home.address()).await;
    let mut ask = async || {
        let question = request(Method::GET, &host, "/first/", &[], Bytes::new());
        kept.send_request(question).await.unwrap().status()
    };
    let file = public.join(format!("{NAME}.pem"));
    for _ in 0..2 {
        let (text, leaf) = lab.public_certificate(NAME, 4096);
        std::fs::write(&file, text).unwrap();
        reload().await;
        assert_eq!(lab.client.shown(home.address(), NAME).await, leaf);
        assert_eq!(lab.client.shown(home.address(), &www).await, own, "the other name has its own");
        assert_eq!(ask().await, StatusCode::OK);
        let told = told().await;
        assert_eq!(told[NAME]["file"], sovereign_model::Digest::of(std::fs::read(&file).unwrap()).to_string());
        assert!(told[NAME]["ends-unix"].as_u64() > Some(67_000_000_000) && told[&www].is_null(), "{told}");
        let figures = running.ask(Request::new("metrics")).await.unwrap();
        let ends = format!("not_after_timestamp_seconds{{name=\"{NAME}\"}} {}\n", told[NAME]["ends-unix"]);
        assert!(figures.as_str().unwrap().contains(&ends), "{figures}");
    }

    // What is of no use is said, and stands in nobody's way.
    let (good, leaf) = lab.public_certificate(&www, 4096);
    std::fs::write(public.join(format!("{www}.pem")), good).unwrap();
    let (text, _) = lab.public_certificate(NAME, 4096);
    let (other, _) = lab.public_certificate(&www, 4096);
    let (_, chain) = text.split_once("-----BEGIN CERTIFICATE").unwrap();
    let (key, _) = other.split_once("-----BEGIN CERTIFICATE").unwrap();
    for (broken, why) in [
        (text[..text.len() / 2].to_owned(), "PEM"),
        (String::new(), "PEM"),
        (other.clone(), "another name"),
        (format!("{key}-----BEGIN CERTIFICATE{chain}"), "key"),
    ] {
        std::fs::write(&file, broken).unwrap();
        reload().await;
        assert_eq!(lab.client.shown(home.address(), NAME).await, own);
        assert_eq!(lab.client.shown(home.address(), &www).await, leaf);
        let told = told().await;
        assert!(told[NAME]["problem"].as_str().unwrap().contains(why) && told[NAME]["ends-unix"].is_null(), "{told}");
    }
    // One that is over would let nobody in.
    std::fs::write(&file, lab.public_certificate(NAME, 2020).0).unwrap();
    reload().await;
    assert_eq!(lab.client.shown(home.address(), NAME).await, own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_relieves_an_old_one_and_no_request_is_lost() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, old, host) = home(&lab, &origin, |_| ()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = load(&lab, &home, &host, stop.clone());
    let replacing = async {
        let new = lab.start(&home).await;
        assert_eq!(new.ask(Request::new("status")).await.unwrap()["owns-store"], false, "the old one still writes");
        assert_eq!(old.stop().await, Drained::Quiet);
        eventually("the new one owns the store", async || {
            (new.ask(Request::new("status")).await.unwrap()["owns-store"] == true).then_some(())
        })
        .await;
        new.complete().await;
        stop.store(true, Ordering::Relaxed);
        new
    };
    let ((asked, failed), new) = tokio::join!(loading, replacing);
    assert!(asked > 100, "{asked}");
    assert_eq!(failed, 0, "of {asked}");
    drop(new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_served_to_its_end() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, running, host) = home(&lab, &origin, |_| ()).await;
    origin.hold();
    let (client, address) = (lab.client.clone(), home.address());
    let asked = tokio::spawn(async move { client.post(address, &host, "/ghost/slow", &[], Bytes::new()).await });
    eventually("it is under way", async || (origin.count("/ghost/slow") == 1).then_some(())).await;
    running.lifecycle.stop();
    running.lifecycle.stopping().cancelled().await;
    origin.release();
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.field("connection")), (StatusCode::OK, "close"));
    let drained =
        tokio::time::timeout(Duration::from_secs(3), running.task).await.expect("nothing is left to wait for");
    assert_eq!(drained.unwrap().unwrap(), Drained::Quiet);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_link() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _running, _host) = home(&lab, &origin, |_| ()).await;
    let link = lab.client.connect(home.address(), &[sovereign_edge::LINK_ALPN]).await;
    assert!(link.is_err(), "the key is no peer's, and a certificate is not what links show");
}
