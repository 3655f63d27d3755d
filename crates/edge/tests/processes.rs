//! The edge as a process of its own, as its supervisor starts it: socket passed on, signals, memory.

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::origin::Page;
use common::process::{Process, play, record_of, status};
use common::{Client, Lab, NAME, Origin, eventually};
use http::StatusCode;
use rustix::process::Signal;
use sovereign_model::edge_config::Source;

/// Not a test: what the processes of these tests run, started by name.
#[test]
#[ignore = "is the edge process of the other tests"]
fn edge_process() {
    play();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
async fn processes_relieve_each_other_and_end_when_told() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let home = lab.place("home");
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let host = format!("{NAME}:{}", home.port());

    let old = Process::spawn(&lab, &home);
    old.complete(&home).await;
    let (resident, own) = (old.memory_kib("VmRSS"), old.memory_kib("RssAnon"));
    println!("memory of an idle edge: {resident} KiB resident, {own} KiB of it its own");
    assert!(resident < 40 * 1024, "{resident} KiB");

    let mut sender = lab.client.http1(home.address()).await;
    let new = Process::spawn(&lab, &home);
    eventually("the new one has the control socket", async || {
        (status(&home).await?["process"] == new.0.id()).then_some(())
    })
    .await;
    old.signal(Signal::TERM);
    // The connection that was open before is served once more, and told to close.
    let asked = common::client::request(http::Method::GET, &host, "/first/", &[], Default::default());
    let answer = common::client::collected(sender.send_request(asked).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    new.complete(&home).await;
    old.stop();
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    new.stop();
    assert!(!home.control().exists(), "nothing is left behind");
}

/// Reads all pages of the blog until told to stop: how many, and which failed.
async fn read_on(client: Client, edge: SocketAddr, host: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut reads, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        for path in ["/", "/first/", "/second/", "/rss/", "/content/images/a.png"] {
            let began = Instant::now();
            let answer = client.get(edge, &host, path).await;
            reads += 1;
            if answer.status != StatusCode::OK || began.elapsed() > Duration::from_secs(3) {
                failed.push(format!("{path} after {:?}: {}", began.elapsed(), answer.status));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (reads, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_or_frozen_costs_its_mirrors_readers_nothing() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    at_home.stop().await;
    let host = format!("{NAME}:{}", home.port());
    let write = async || lab.client.post(office.address(), &host, "/ghost/api/admin/posts/", &[], Bytes::new()).await;
    let killed = Process::spawn(&lab, &home);
    killed.complete(&home).await;
    let stop = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn(read_on(lab.client.clone(), office.address(), host.clone(), stop.clone()));
    eventually("writes arrive", async || (write().await.status == StatusCode::OK).then_some(())).await;

    killed.signal(Signal::KILL);
    // Nobody takes its connections, though the socket is still there: the supervisor holds it.
    let refused = write().await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.field("retry-after").is_empty());
    let next = Process::spawn(&lab, &home);
    next.complete(&home).await;
    eventually("writes arrive again", async || (write().await.status == StatusCode::OK).then_some(())).await;

    next.signal(Signal::STOP);
    eventually("the mirror knows", async || (at_office.site().await["source"]["reachable"] == false).then_some(()))
        .await;
    assert_eq!(write().await.status, StatusCode::SERVICE_UNAVAILABLE);
    next.signal(Signal::CONT);
    eventually("writes arrive again", async || (write().await.status == StatusCode::OK).then_some(())).await;
    eventually("all is well", async || (at_office.site().await["source"]["reachable"] == true).then_some(())).await;
    stop.store(true, Ordering::Relaxed);
    let (reads, failed) = reading.await.unwrap();
    assert!(reads > 500, "{reads}");
    assert!(failed.is_empty(), "of {reads}: {failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_has_damaged_is_fetched_again_and_the_rest_is_served() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let film: Vec<u8> = (0..3_000_000u32).map(|n| (n / 777) as u8).collect();
    let front = r#"<a href="/first/">1</a> <a href="/second/">2</a> <img src="/content/images/film.mp4">"#;
    origin.put("/", Page::html(front));
    origin.put("/content/images/film.mp4", Page::of("video/mp4", "public, max-age=60", film.clone()));
    let home = lab.place("home");
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let host = format!("{NAME}:{}", home.port());
    let get = async |path: &str| lab.client.get(home.address(), &host, path).await;
    let first = Process::spawn(&lab, &home);
    first.complete(&home).await;
    let whole = ["/", "/content/images/a.png"];
    let damaged = ["/first/", "/second/", "/rss/", "/content/images/film.mp4", "/robots.txt"];
    let mut before = Vec::new();
    for path in whole.iter().chain(&damaged) {
        before.push(get(path).await.body);
    }
    first.signal(Signal::KILL);
    drop(first);

    let change = |path: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let record = record_of(&home, path);
        let mut bytes = std::fs::read(&record).unwrap();
        change(&mut bytes);
        std::fs::write(record, bytes).unwrap();
    };
    change("/first/", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    change("/second/", &|bytes| bytes.truncate(bytes.len() - 5));
    change("/rss/", &|bytes| bytes[..100].fill(0));
    change("/content/images/film.mp4", &|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
    // What cannot even be read: here, a folder.
    std::fs::remove_file(record_of(&home, "/robots.txt")).unwrap();
    std::fs::create_dir(record_of(&home, "/robots.txt")).unwrap();
    // Half a page that was being written.
    std::fs::write(home.folder.join("store/tmp/1-1"), "half").unwrap();

    origin.kill();
    let second = Process::spawn(&lab, &home);
    eventually("it answers", async || status(&home).await.filter(|status| status["process"] == second.0.id())).await;
    for (path, body) in whole.iter().zip(&before) {
        assert_eq!(get(path).await.body, body, "{path}");
    }
    for path in damaged {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    origin.run();
    for (path, body) in whole.iter().chain(&damaged).zip(&before) {
        eventually("the page is as it was", async || (get(path).await.body == body).then_some(())).await;
    }
    // One page cannot be kept, which is said; until it can.
    assert_eq!(status(&home).await.unwrap()["sites"][0]["complete"], false);
    std::fs::remove_dir(record_of(&home, "/robots.txt")).unwrap();
    second.complete(&home).await;
    second.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are worth seeing")]
async fn a_gigabyte_goes_through_mirror_and_link_in_constant_memory() {
    const BYTES: u64 = 1 << 30;
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    at_home.stop().await;
    at_office.stop().await;
    let edges = [Process::spawn(&lab, &home), Process::spawn(&lab, &office)];
    edges[0].complete(&home).await;
    edges[1].complete(&office).await;
    let before = edges.each_ref().map(|edge| edge.memory_kib("VmRSS"));
    let authority = lab.folder.path().join("authority.pem");
    std::fs::write(&authority, &lab.authority).unwrap();
    let began = Instant::now();
    let (port, authority) = (office.port(), authority.display().to_string());
    let uploaded = tokio::task::spawn_blocking(move || {
        let script = format!(
            "head -c {BYTES} /dev/zero | curl --silent --show-error --cacert {authority} \
             --connect-to ::127.0.0.1:{port} --upload-file - https://{NAME}:{port}/ghost/api/admin/images/upload/"
        );
        Command::new("sh").args(["-c", &script]).output().unwrap()
    });
    let uploaded = uploaded.await.unwrap();
    let said = String::from_utf8_lossy(&uploaded.stdout).into_owned();
    assert!(said.starts_with(&format!("{BYTES} bytes")), "{said:.80} {}", String::from_utf8_lossy(&uploaded.stderr));
    let peak = edges.each_ref().map(|edge| edge.memory_kib("VmHWM"));
    println!(
        "1 GiB uploaded through a mirror in {:?}; memory in KiB before {before:?}, at most {peak:?}",
        began.elapsed()
    );
    for (before, peak) in before.into_iter().zip(peak) {
        assert!(peak < before + (32 << 10), "{peak} KiB, {before} before");
    }
}
