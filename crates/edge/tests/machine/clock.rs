//! The primary's clock jumps, a year back and a year ahead: pages are served, changes are seen at home and at the mirror,
//! links stand. The clock alone never makes anything fresh, and never takes anything away.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use sovereign_model::edge_config::{EdgeSite, Source};

use super::common::origin::Page;
use super::common::process::{Process, command, status};
use super::common::{Lab, NAME, Origin, eventually, site_changed, site_changed_at};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(crate) fn jumps() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(jump());
}

/// The library that stands between a process and its clock.
fn library() -> PathBuf {
    let architectures = std::fs::read_dir("/usr/lib").unwrap();
    let mut libraries = architectures.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.is_file()).expect("the package faketime brings it")
}

async fn jump() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, vec![office.as_peer()], site));
    lab.seal(&office, 1, &lab.config(&office, vec![home.as_peer()], mirror));
    let clock = lab.folder.path().join("clock");
    let set = |offset: &str| std::fs::write(&clock, offset).unwrap();
    set("+0");
    let mut with_clock = command(&std::env::current_exe().unwrap(), &lab, &home);
    with_clock.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
    with_clock.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    let at_home = Process(with_clock.spawn().unwrap());
    at_home.complete(&home).await;
    let at_office = lab.start(&office).await;
    at_office.complete().await;
    let host = format!("{NAME}:{}", home.port());

    for (number, offset) in ["+0", "-1y", "+1y", "+0"].into_iter().enumerate() {
        set(offset);
        let there = || match offset {
            "-1y" => SystemTime::now() - YEAR,
            "+1y" => SystemTime::now() + YEAR,
            _ => SystemTime::now(),
        };
        for place in [&home, &office] {
            for path in ["/", "/first/", "/rss/", "/content/images/a.png"] {
                let answer = lab.client.get(place.address(), &host, path).await;
                assert_eq!(answer.status, StatusCode::OK, "{path} at {} with {offset}", place.name);
                let age: u64 = answer.field("age").parse().unwrap();
                assert!(age <= 2 * 366 * 86_400, "{age}");
            }
        }
        let said = format!("<p>edit {number}</p>");
        origin.put("/first/", Page::html(&said));
        let told = site_changed_at(&lab.client, home.address(), there()).await;
        assert_eq!(told.status, StatusCode::NO_CONTENT, "{offset}: {told:?}");
        for place in [&home, &office] {
            eventually("the edit is seen", async || {
                (lab.client.get(place.address(), &host, "/first/").await.text() == said).then_some(())
            })
            .await;
        }
        eventually("a pass has ended, at that time", async || {
            let ended = status(&home).await?["sites"][0]["last-pass"]["finished-unix"].as_u64()?;
            let ended = SystemTime::UNIX_EPOCH + Duration::from_secs(ended);
            let off = ended.duration_since(there()).unwrap_or_else(|error| error.duration());
            (off < Duration::from_secs(2 * 86_400)).then_some(())
        })
        .await;
        let written =
            lab.client.post(office.address(), &host, "/ghost/api/admin/posts/", &[], Bytes::from_static(b"{}")).await;
        assert_eq!(written.status, StatusCode::OK, "with {offset}");
    }
    // A notice of another time is none: it may be an old one, sent again.
    set("-1y");
    assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::FORBIDDEN);
    // Whatever the clock says, what is kept is served when the source is away.
    origin.kill();
    for offset in ["-1y", "+1y", "+0"] {
        set(offset);
        for place in [&home, &office] {
            for path in ["/", "/first/", "/rss/", "/content/images/a.png"] {
                let answer = lab.client.get(place.address(), &host, path).await;
                assert_eq!(answer.status, StatusCode::OK, "{path} at {} with {offset}", place.name);
            }
        }
    }
    set("+0");
    at_home.stop();
}
