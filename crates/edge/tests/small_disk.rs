//! An edge whose store lies on a disk of its own that is too small: a tmpfs in a mount namespace of this process.
//!
//! Not run by the test harness, whose threads a process must not have yet when it leaves its user namespace. Where
//! that is forbidden, it says so and counts as ignored; as root and with `CI=true` that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test, and the harness prints too"
)]

mod common;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::origin::{CHUNK, Page};
use common::{Lab, NAME, Origin, eventually};
use http::StatusCode;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use serde_json::Value;
use sovereign_edge::room::DISK_RESERVE;
use sovereign_model::edge_config::{EdgeSite, Source};
use sovereign_model::edge_rules::{Keep, Room};
use sovereign_model::size::ByteSize;
use sovereign_runtime::control::Request;
use tokio::sync::Semaphore;

/// What the disk has beyond the reserve.
const USABLE: u64 = 4 << 20;
const TEST: &str = "a_disk_that_is_full_stays_as_it_is_and_readers_get_everything";

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        println!("{TEST}: test");
        return;
    }
    if let Err(error) = own_mounts() {
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && rustix::process::geteuid().is_root();
        assert!(!must, "no mounts of its own: {error}");
        println!("test {TEST} ... ignored, no mounts of its own: {error}");
        println!("\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(a_disk_that_is_full_stays_as_it_is_and_readers_get_everything());
    println!("test {TEST} ... ok");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// From here on this process may mount, and nobody else sees what.
fn own_mounts() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let leave = |what| {
        #[expect(deprecated, reason = "only sharing of the descriptor table is unsafe, and it stays shared")]
        rustix::thread::unshare(what)
    };
    if !user.is_root() {
        leave(UnshareFlags::NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    }
    leave(UnshareFlags::NEWNS)?;
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

fn small_disk(at: &Path, name: &str) {
    fs::create_dir(at).unwrap();
    let options = std::ffi::CString::new(format!("size={},mode=0700", DISK_RESERVE + USABLE)).unwrap();
    rustix::mount::mount(name, at, "tmpfs", MountFlags::empty(), &*options).unwrap();
}

fn free(at: &Path) -> u64 {
    let disk = rustix::fs::statvfs(at).unwrap();
    disk.f_bavail * disk.f_frsize
}

async fn a_disk_that_is_full_stays_as_it_is_and_readers_get_everything() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    let pictures: Vec<String> = (0..10).map(|number| format!("/content/images/{number}.png")).collect();
    let images: String = pictures.iter().map(|picture| format!("<img src={picture}>")).collect();
    origin.put("/", Page::html(&images));
    for (number, picture) in (1..).zip(&pictures) {
        origin.put(picture, Page::of("image/png", "public, max-age=31536000", vec![number; 1_000_000]));
    }
    let home = lab.place("home");
    let host = format!("{NAME}:{}", home.port());
    let store = home.folder.join("store");
    small_disk(&store, "store");
    let get = async |path: &str| lab.client.get(home.address(), &host, path).await;

    // Without a budget the disk is the limit: 10 MB of pictures, 4 MiB of room.
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site.clone()));
    let running = lab.start(&home).await;
    let at_rest = async |left_out: u64| {
        eventually("everything was looked at", async || {
            let site = running.site().await;
            let rests = site["pass"].is_null() && site["last-pass"]["left-out"] == left_out;
            (rests && site["room"]["left-out"] == left_out).then_some(site)
        })
        .await
    };
    let number = |value: &Value| value.as_u64().unwrap();
    let report = at_rest(6).await;
    assert_eq!(report["complete"], false);
    assert!(free(&store) >= DISK_RESERVE, "{} of the reserve are left", free(&store));
    assert!(number(&report["room"]["limit"]) < number(&report["bytes-known"]), "{report:#}");
    for (number, picture) in (1..).zip(&pictures) {
        let answer = get(picture).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 1_000_000), "{picture}");
        assert!(answer.body.iter().all(|byte| *byte == number), "{picture}");
    }

    // A film ten times as long as what is left, and of which nobody says how long it is.
    let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    let film = Bytes::from(vec![9; 160 * CHUNK]);
    origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=0", film.clone()).in_chunks(&permits));
    for _ in 0..2 {
        assert!(get("/film.mp4").await.body == film);
        assert!(free(&store) >= DISK_RESERVE, "{} of the reserve are left", free(&store));
    }

    // Somebody else takes of the reserve: what is kept is served, what is new is passed through, and nothing breaks.
    fs::write(store.join("somebody-else"), vec![0; usize::try_from(USABLE).unwrap()]).unwrap();
    let left = free(&store);
    assert!(left < DISK_RESERVE);
    origin.put("/new/", Page::html("news"));
    origin.put("/", Page::html(&format!("<a href=/new/>New</a>{images}")));
    lab.client.post(home.address(), &host, "/ghost/api/admin/changed/", &[], Bytes::new()).await;
    let report = at_rest(7).await;
    assert_eq!(number(&report["room"]["limit"]), number(&report["bytes"]), "{report:#}");
    assert_eq!(get("/new/").await.text(), "news");
    assert_eq!(free(&store), left, "nothing more was taken");
    assert!(
        get("/").await.text().contains("/new/"),
        "a kept page that cannot be replaced is not shown for the new one"
    );
    origin.kill();
    eventually("the application is away", async || {
        get("/new/").await;
        (running.site().await["source"]["reachable"] == false).then_some(())
    })
    .await;
    assert_eq!(get("/new/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get("/").await.status, StatusCode::OK, "the page of before is better than none");
    origin.run();

    // Room again, by a budget that lets go: pages first.
    let budget = EdgeSite { room: Room { keep: Keep::Budget, budget: Some(ByteSize(2_500_000)) }, ..site };
    lab.seal(&home, 2, &lab.config(&home, Vec::new(), budget));
    fs::remove_file(store.join("somebody-else")).unwrap();
    running.ask(Request::new("reload")).await.unwrap();
    let report = at_rest(8).await;
    assert!(number(&report["bytes"]) <= 2_500_000, "{report:#}");
    let known = get("/new/").await;
    assert!(known.field("cache-status").contains("hit"), "{known:?}");
    running.stop().await;
}
