//! The store's disk fills up: everything is still served, nothing is torn or lost, and when there is room again all of
//! it is kept.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use sovereign_edge::room::DISK_RESERVE;
use sovereign_model::edge_config::Source;
use sovereign_runtime::control::Request;
use tokio::io::AsyncWriteExt as _;

use super::common::origin::Page;
use super::common::raw::{Raw, script};
use super::common::{Lab, NAME, Origin, eventually, site_changed};
use super::network::sh;

const POSTS: usize = 30;
/// All posts together do not fit on the disk.
const POST: usize = 200_000;
/// This alone does not.
const FILM: usize = 9_000_000;

pub(crate) fn full() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(fill());
}

fn post(number: usize, letter: char) -> Page {
    Page::html(&format!("<p>{number}</p>{}", letter.to_string().repeat(POST)))
}

async fn fill() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let home = lab.place("home");
    let store = home.folder.join("store");
    std::fs::create_dir(&store).unwrap();
    sh(&format!("mount -t tmpfs -o size={} none {}", DISK_RESERVE + (4 << 20), store.display()));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let running = lab.start(&home).await;
    let before = running.complete().await["pages-kept"].as_u64().unwrap();
    let host = format!("{NAME}:{}", home.port());
    let get = async |path: &str| lab.client.get(home.address(), &host, path).await;
    let first = get("/first/").await.body;

    let links: String = (0..POSTS).map(|number| format!(r#"<a href="/post-{number}/">{number}</a>"#)).collect();
    origin.put("/", Page::html(&format!(r#"<a href="/first/">1</a><a href="/second/">2</a>{links}"#)));
    (0..POSTS).for_each(|number| origin.put(&format!("/post-{number}/"), post(number, 'a')));
    origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=60", vec![7; FILM]));
    site_changed(&lab.client, home.address()).await;
    let stuck = eventually("a pass ends for want of room", async || {
        let site = running.site().await;
        (site["pass"].is_null() && site["room"]["left-out"].as_u64() > Some(0)).then_some(site)
    })
    .await;
    assert_eq!((&stuck["complete"], &stuck["source"]["reachable"]), (&false.into(), &true.into()));
    // New ones, changed ones, and those that were kept and cannot be kept anew.
    (0..POSTS).for_each(|number| origin.put(&format!("/post-{number}/"), post(number, 'b')));
    site_changed(&lab.client, home.address()).await;
    for round in 0..2 {
        for number in 0..POSTS {
            let answer = get(&format!("/post-{number}/")).await;
            assert_eq!(answer.status, StatusCode::OK, "post {number}, round {round}");
            assert!(answer.text().starts_with(&format!("<p>{number}</p>")) && answer.body.len() > POST, "{number}");
        }
        assert_eq!(get("/first/").await.body, first);
        let film = get("/film.mp4").await;
        assert_eq!((film.status, film.body.len()), (StatusCode::OK, FILM), "round {round}");
    }
    let kept = running.site().await["pages-kept"].as_u64().unwrap();
    assert!(kept >= before, "{kept}, {before} before: what is kept is not given up");

    // Of what does not say how long it is, one answer may break off, and no more.
    origin.kill();
    let raw = Raw::at(
        &origin.socket,
        script(|head, mut stream| async move {
            if !head.starts_with("GET /concert.mp4 ") {
                return;
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n";
            let body = format!("{FILM:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(FILM));
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }),
    );
    let _may_break_off = lab.client.get_whole(home.address(), &host, "/concert.mp4").await;
    let concert = get("/concert.mp4").await;
    assert_eq!((concert.status, concert.body.len()), (StatusCode::OK, FILM));
    raw.end();
    origin.run();

    // With the source away what is kept is whole, whichever it is.
    origin.kill();
    assert_eq!(get("/first/").await.body, first);
    for number in 0..POSTS {
        let answer = get(&format!("/post-{number}/")).await;
        let whole = answer.text().starts_with(&format!("<p>{number}</p>")) && answer.body.len() > POST;
        assert!(
            answer.status == StatusCode::SERVICE_UNAVAILABLE || (answer.status == StatusCode::OK && whole),
            "{number}"
        );
    }
    running.stop().await;

    // A new process copes with a full disk, too; and then there is room.
    origin.run();
    let running = lab.start(&home).await;
    assert_eq!(get("/first/").await.body, first);
    sh(&format!("mount -o remount,size={} {}", DISK_RESERVE + (40 << 20), store.display()));
    // As a sweep does within minutes.
    running.ask(Request::new("fill").with("site", "blog")).await.unwrap();
    let site = running.complete().await;
    assert!(site["pages-kept"].as_u64().unwrap() >= before + POSTS as u64, "{site}");
    for number in 0..POSTS {
        let answer = get(&format!("/post-{number}/")).await;
        assert!(answer.text().ends_with('b'), "{number}");
    }
    assert_eq!(get("/film.mp4").await.body.len(), FILM);
    assert!(unfinished(&store.join("tmp")).await, "nothing unfinished is left");
    running.stop().await;
    sh(&format!("umount {}", store.display()));
}

/// Whether no file that is being written is left, soon.
async fn unfinished(folder: &Path) -> bool {
    for _ in 0..100 {
        let files =
            std::fs::read_dir(folder).unwrap().filter(|file| file.as_ref().unwrap().metadata().unwrap().size() > 0);
        if files.count() == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
