//! Two data centers: what readers and writers see at each, while things go well and while they do not.

#[path = "two_places/certificates.rs"]
mod certificates;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::origin::Page;
use common::{Lab, NAME, Origin, Place, eventually, site_changed};
use http::StatusCode;
use sovereign_model::agent_config::{HEALTH_PATH, LEARNED_FIELD};
use sovereign_model::edge_config::{EdgeSite, Learned, Peer, Source};
use sovereign_model::stack::AdminReach;
use sovereign_runtime::control::Request;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_read_at_both_places() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let canonical = format!("{NAME}:{}", home.port());
    let other = format!("{NAME}:{}", office.port());

    // Every page was asked of the application once, for both places together.
    for path in ["/", "/first/", "/second/", "/rss/", "/content/images/a.png", "/assets/screen.css?v=1"] {
        assert_eq!(origin.count(path), 1, "{path}");
    }
    let asked = origin.last("/first/");
    assert_eq!(asked.fields["host"], canonical.as_str());
    assert_eq!(asked.fields["x-forwarded-proto"], "https");

    for path in ["/", "/first/", "/rss/", "/content/images/a.png", "/robots.txt"] {
        let here = lab.client.get(home.address(), &canonical, path).await;
        let there = lab.client.get(office.address(), &canonical, path).await;
        assert_eq!(here.status, StatusCode::OK);
        assert!(here.field("cache-status").starts_with("sovereign; hit"), "{here:?}");
        assert!(there.field("cache-status").starts_with("sovereign; hit"), "{there:?}");
        assert_eq!(here.body, there.body, "byte for byte under the canonical name: {path}");
        let renamed = lab.client.get(office.address(), &other, path).await;
        let expected = here.body.clone();
        if path.ends_with(".png") {
            assert_eq!(renamed.body, expected);
        } else {
            assert_eq!(renamed.text(), here.text().replace(&canonical, &other), "{path}");
        }
    }
    let tag = lab.client.get(home.address(), &canonical, "/first/").await.field("etag").to_owned();
    let renamed = lab.client.get(office.address(), &other, "/first/").await.field("etag").to_owned();
    assert_ne!(tag, renamed);
    let known = [("if-none-match", renamed.as_str())];
    let unchanged = lab.client.get_with(office.address(), &other, "/first/", &known).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    let part =
        lab.client.get_with(office.address(), &canonical, "/content/images/a.png", &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status, part.body.len()), (StatusCode::PARTIAL_CONTENT, 10));
    assert_eq!(at_home.site().await["role"], "primary");
    assert_eq!(at_office.site().await["role"], "mirror");
    assert_eq!(at_office.site().await["pages-kept"], at_home.site().await["pages-kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_seen_at_the_mirror_at_once() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    origin.put("/first/", Page::html("<p>edited</p>"));
    origin.put("/third/", Page::html("<p>third</p>"));
    origin.put("/", Page::html(r#"<a href="/third/">Third</a> <a href="/first/">First</a>"#));
    origin.remove("/second/");
    let published = Instant::now();
    assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::NO_CONTENT);
    // The author looks at home at once, and sees the new page.
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.text(), "<p>edited</p>");
    eventually("the mirror shows the edit", async || {
        let page = lab.client.get(office.address(), &host, "/first/").await;
        (page.text() == "<p>edited</p>").then_some(())
    })
    .await;
    eventually("the mirror keeps the new post and drops the old one", async || {
        let third = lab.client.get(office.address(), &host, "/third/").await;
        let second = lab.client.get(office.address(), &host, "/second/").await;
        (third.field("cache-status").contains("hit") && second.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
    assert_eq!(origin.count("/assets/screen.css?v=1"), 1, "a versioned file is not asked for again");
    at_home.complete().await;
    let site = at_office.complete().await;
    assert_eq!(site["last-pass"]["held"], 0);

    // A webhook that Ghost did not send changes nothing.
    let before = origin.asked().len();
    let forged = [("x-ghost-signature", "sha256=00, t=1")];
    let refused = lab.client.post(home.address(), &host, "/.sovereign/hooks/blog", &forged, Bytes::new()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(origin.asked().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_still_served_when_the_application_and_then_its_edge_are_gone() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let pages = ["/", "/first/", "/second/", "/rss/", "/content/images/a.png", "/robots.txt", "/assets/screen.css?v=1"];
    origin.kill();
    // Nobody can say that anything changed; a change of configuration makes everything stale for sure.
    assert_eq!(site_changed(&lab.client, home.address()).await.status, StatusCode::NO_CONTENT);
    eventually("home knows", async || (at_home.site().await["source"]["reachable"] == false).then_some(())).await;
    for place in [&home, &office] {
        for path in pages {
            let page = lab.client.get(place.address(), &host, path).await;
            assert_eq!(page.status, StatusCode::OK, "{path} at {}", place.name);
            assert!(!page.field("age").is_empty());
        }
        // A link with a campaign's query finds the page; a page that never was is a clear no.
        let tagged = lab.client.get(place.address(), &host, "/first/?from=somewhere").await;
        assert_eq!(tagged.status, StatusCode::OK);
        let missing = lab.client.get_with(place.address(), &host, "/nowhere/", &[("accept", "text/html")]).await;
        assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!missing.field("retry-after").is_empty());
        assert!(missing.text().contains("can still be read"), "{}", missing.text());
        // A reader with a session gets the public page rather than an error.
        let member = lab.client.get_with(place.address(), &host, "/first/", &[("cookie", "ghost-members-ssr=x")]).await;
        assert_eq!((member.status, member.field("cache-control")), (StatusCode::OK, "no-store"));
        let write = lab.client.post(place.address(), &host, "/ghost/api/admin/posts/", &[], Bytes::new()).await;
        assert_eq!(write.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!write.field("retry-after").is_empty());
        let said: serde_json::Value = serde_json::from_slice(&write.body).unwrap();
        assert_eq!(said["errors"][0]["message"], "Nothing was saved", "at {}", place.name);
        let admin = lab.client.get_with(place.address(), &host, "/ghost/", &[("accept", "text/html")]).await;
        assert!(admin.text().contains("signing in, writing and commenting work again"), "{}", admin.text());
    }
    let stale = lab.client.get(home.address(), &host, "/first/").await;
    assert!(stale.field("cache-status").contains("detail=source-away"), "{stale:?}");

    at_home.stop().await;
    for path in pages {
        let page = lab.client.get(office.address(), &host, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path} with the home edge gone");
    }

    // A new process finds everything on disk.
    at_office.stop().await;
    let again = lab.start(&office).await;
    for path in pages {
        assert_eq!(lab.client.get(office.address(), &host, path).await.status, StatusCode::OK, "{path}");
    }
    drop(again);

    // And all is well again by itself.
    origin.run();
    let at_home = lab.start(&home).await;
    at_home.complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_with_fresh_pages_finds_out_at_once_that_its_source_is_back() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    for path in ["/rss/", "/sitemap.xml", "/robots.txt", "/llms.txt", "/llms-full.txt", "/favicon.ico"] {
        origin.put(path, Page::of("text/plain", "public, max-age=3600", "fresh for long"));
    }
    let list: String = (0..40).map(|post| format!(r#"<a href="/post-{post}/">{post}</a>"#)).collect();
    (0..40)
        .for_each(|post| origin.put(&format!("/post-{post}/"), Page::of("text/html", "public, max-age=3600", "post")));
    origin.put("/", Page::of("text/html", "public, max-age=3600", list));
    let (home, _at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    // No page that is kept is asked for while the application is away.
    origin.kill();
    let missing = lab.client.get(office.address(), &host, "/nowhere/").await;
    assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(at_office.site().await["source"]["reachable"], false);
    origin.run();
    let back = Instant::now();
    at_office.ask(Request::new("fill").with("site", "blog")).await.unwrap();
    eventually("the office knows", async || (at_office.site().await["source"]["reachable"] == true).then_some(()))
        .await;
    at_office.complete().await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_sign_in_and_write_through_either_place() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, _at_home, office, _at_office) = lab.two(&origin).await;
    let canonical = format!("{NAME}:{}", home.port());
    let other = format!("{NAME}:{}", office.port());
    for (place, host) in [(&home, &canonical), (&office, &canonical), (&office, &other)] {
        let own = format!("https://{host}");
        let claims = [("origin", own.as_str()), ("x-forwarded-for", "10.9.9.9"), ("sovereign-reader", "10.9.9.9")];
        let session = lab
            .client
            .post(place.address(), host, "/ghost/api/admin/session/", &claims, Bytes::from_static(b"{}"))
            .await;
        assert_eq!(session.status, StatusCode::CREATED, "at {} as {host}", place.name);
        assert!(session.field("set-cookie").contains("Path=/ghost"), "{session:?}");
        let seen = origin.last("/ghost/api/admin/session/");
        assert_eq!(seen.fields["x-forwarded-for"], "127.0.0.1", "what readers claim is not believed");
        assert_eq!(seen.fields["host"], canonical.as_str());

        let json = [("content-type", "application/json"), ("cookie", "ghost-admin-api-session=s3cret")];
        let post = format!(r#"{{"html":"<img src={own}/content/images/a.png>"}}"#);
        let saved = lab.client.post(place.address(), host, "/ghost/api/admin/posts/", &json, post.into()).await;
        // What was sent reached the application with its own origin; what it answered reads with the reader's.
        let asked = origin.last("/ghost/api/admin/posts/");
        assert_eq!(asked.fields["cookie"], "ghost-admin-api-session=s3cret");
        assert!(saved.text().contains(&format!("own url {own}/")), "{}", saved.text());
        assert_eq!(saved.field("cache-control"), "no-cache, private, no-store");
    }
    // An upload of 50 MB, through the mirror, arrives whole.
    let picture = Bytes::from(vec![1u8; 50 << 20]);
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    let uploaded =
        lab.client.post(office.address(), &other, "/ghost/api/admin/images/upload/", &kind, picture.clone()).await;
    assert!(uploaded.text().starts_with(&format!("{} bytes", picture.len())), "{:.80}", uploaded.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_can_only_dial_out_is_mirrored_all_the_same() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    origin.set_canonical(&site.canonical.to_string());
    let undialable = Peer { addresses: Vec::new(), learned: Some(Learned::Any), ..home.as_peer() };
    lab.seal(&home, 1, &lab.config(&home, vec![office.as_peer()], site));
    let config = lab.config(&office, vec![undialable], mirror);
    lab.seal(&office, 1, &config);
    let at_home = lab.start(&home).await;
    let at_office = lab.start(&office).await;
    at_office.complete().await;
    // Where home dials from, the agent at the office is told, and whoever else asks.
    let learned = async |at: &Place| {
        let health = lab.client.get(at.address(), &format!("{NAME}:{}", at.port()), HEALTH_PATH).await;
        health.fields.get_all(LEARNED_FIELD).iter().map(|told| told.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(learned(&office).await, ["home 127.0.0.1"]);
    assert_eq!(learned(&home).await, [""; 0], "the office has an address that stays");
    let host = format!("{NAME}:{}", home.port());
    origin.put("/first/", Page::html("<p>edited</p>"));
    site_changed(&lab.client, home.address()).await;
    eventually("the mirror shows the edit", async || {
        let page = lab.client.get(office.address(), &host, "/first/").await;
        (page.text() == "<p>edited</p>").then_some(())
    })
    .await;
    let own = format!("https://{host}");
    let fields = [("origin", own.as_str())];
    let session =
        lab.client.post(office.address(), &host, "/ghost/api/admin/session/", &fields, Bytes::from_static(b"{}")).await;
    assert_eq!(session.status, StatusCode::CREATED);
    // A new generation at the mirror keeps the connection that home has lent it.
    lab.seal(&office, 2, &config);
    at_office.ask(Request::new("reload")).await.unwrap();
    origin.put("/first/", Page::html("<p>edited again</p>"));
    site_changed(&lab.client, home.address()).await;
    eventually("the mirror shows the next edit", async || {
        let page = lab.client.get(office.address(), &host, "/first/").await;
        (page.text() == "<p>edited again</p>").then_some(())
    })
    .await;
    at_home.stop().await;
    eventually("nobody is told of it any more", async || learned(&office).await.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_learns_of_a_newer_one_takes_no_more_writes() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let write = async || lab.client.post(home.address(), &host, "/ghost/api/admin/posts/", &[], Bytes::new()).await;
    assert_eq!(write().await.status, StatusCode::OK);
    // The office is made the primary, and home is not told: it was away.
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let newer = EdgeSite {
        mirrors: Vec::new(),
        webhook_key: None,
        epoch: 2,
        epoch_proof: Some(lab.proof(2, "office")),
        ..site.clone()
    };
    lab.seal(&office, 2, &lab.config(&office, vec![home.as_peer()], newer));
    at_office.ask(Request::new("reload")).await.unwrap();
    eventually("home knows", async || (at_home.site().await["superseded"] == true).then_some(())).await;
    let refused = write().await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("written at another place now"), "{}", refused.text());
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK, "it can be read");

    // Started again with nobody to tell it, it still knows.
    at_office.stop().await;
    eventually("it is on disk", async || home.folder.join("store/epoch-blog").exists().then_some(())).await;
    at_home.stop().await;
    let at_home = lab.start(&home).await;
    assert_eq!(at_home.site().await["superseded"], true);
    assert_eq!(write().await.status, StatusCode::SERVICE_UNAVAILABLE);
    // What lies there is believed for its proof, not for its place.
    at_home.stop().await;
    std::fs::write(home.folder.join("store/epoch-blog"), format!("9 office {}", "0".repeat(128))).unwrap();
    let at_home = lab.start(&home).await;
    assert_eq!(at_home.site().await["superseded"], false);
    // Another mirror passes on what it knows, to a home that has just come back.
    let mirror = EdgeSite {
        source: Source::Link("home".parse().unwrap()),
        webhook_key: None,
        epoch: 3,
        epoch_proof: Some(lab.proof(3, "attic")),
        ..site
    };
    lab.seal(&office, 3, &lab.config(&office, vec![home.as_peer()], mirror.clone()));
    let at_office = lab.start(&office).await;
    eventually("home knows", async || (at_home.site().await["superseded"] == true).then_some(())).await;
    assert_eq!(at_home.site().await["newest"]["proof"]["primary"], "attic");

    // A machine that knows less names an older primary: the number does not go down by that, nor by a restart.
    let older = EdgeSite { epoch: 1, epoch_proof: Some(lab.proof(1, "home")), ..mirror };
    lab.seal(&office, 4, &lab.config(&office, vec![home.as_peer()], older));
    at_home.stop().await;
    at_office.ask(Request::new("reload")).await.unwrap();
    let newest = |site: &serde_json::Value| (site["epoch"].clone(), site["newest"]["epoch"].clone());
    assert_eq!(newest(&at_office.site().await), (1.into(), 3.into()));
    at_office.stop().await;
    let at_office = lab.start(&office).await;
    assert_eq!(newest(&at_office.site().await), (1.into(), 3.into()));
    assert_eq!(at_office.site().await["superseded"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_interface_is_reached_from_where_it_may_be() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, _at_office) = lab.two(&origin).await;
    // The mirror's own configuration is open: it is the primary that knows better, by the reader's address.
    let mut site = lab.site(&home, Source::Unix(origin.socket.clone()));
    site.admin = AdminReach::Local;
    lab.seal(&home, 2, &lab.config(&home, vec![office.as_peer()], site));
    at_home.ask(Request::new("reload")).await.unwrap();
    let host = format!("{NAME}:{}", home.port());
    for place in [&home, &office] {
        let here = lab.client.get(place.address(), &host, "/ghost/").await;
        assert_eq!(here.status, StatusCode::OK, "the reader is on this machine, also through {}", place.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primarys_edge_is_replaced_and_the_mirror_loses_no_request() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, old, office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (client, address, host, stop) = (lab.client.clone(), office.address(), host.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let body = Bytes::from_static(b"{}");
                    answers.push(client.post(address, &host, "/ghost/api/admin/posts/", &[], body).await.status);
                }
                answers
            })
        })
        .collect();
    eventually("writes flow", async || (origin.count("/ghost/api/admin/posts/") > 20).then_some(())).await;
    let new = lab.start(&home).await;
    old.stop().await;
    new.complete().await;
    let before = origin.count("/ghost/api/admin/posts/");
    eventually("writes still flow", async || (origin.count("/ghost/api/admin/posts/") > before + 20).then_some(()))
        .await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let answers = writer.await.unwrap();
        let lost: Vec<_> = answers.iter().filter(|status| **status != StatusCode::OK).collect();
        assert!(lost.is_empty(), "of {}: {lost:?}", answers.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_an_application_is_worked_on_pages_are_read_and_writers_are_told() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    let seal = |generation: u64, maintenance: bool| {
        let (site, mirror) = (site.clone(), mirror.clone());
        lab.seal(&home, generation, &lab.config(&home, vec![office.as_peer()], EdgeSite { maintenance, ..site }));
        lab.seal(&office, generation, &lab.config(&office, vec![home.as_peer()], EdgeSite { maintenance, ..mirror }));
    };
    let write = async |at| lab.client.post(at, &host, "/ghost/api/admin/posts/", &[], Bytes::new()).await;
    let both = [home.address(), office.address()];
    seal(2, true);
    for edge in [&at_home, &at_office] {
        edge.ask(Request::new("reload")).await.unwrap();
    }
    let before = origin.asked().len();
    // What is kept is read, by whoever has a session too; the site says that it changed, and still nobody is asked.
    site_changed(&lab.client, home.address()).await;
    let session = [("cookie", "ghost-members-ssr=somebody"), ("accept", "text/html")];
    for at in both {
        for path in ["/", "/first/", "/rss/", "/content/images/a.png"] {
            let page = lab.client.get_with(at, &host, path, &session).await;
            assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text());
        }
        for answer in [
            write(at).await,
            lab.client.get_with(at, &host, "/ghost/", &session).await,
            lab.client.get_with(at, &host, "/never-seen/", &session).await,
        ] {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
            assert_eq!(answer.field("retry-after"), "120");
            assert!(answer.text().contains("is being worked on"), "{}", answer.text());
        }
        let browser = lab.client.post(at, &host, "/ghost/api/admin/posts/", &session, Bytes::new()).await;
        assert!(browser.text().contains("<h1>Nothing was saved</h1>"), "{}", browser.text());
    }
    for edge in [&at_home, &at_office] {
        assert_eq!(edge.site().await["maintenance"], true);
    }
    // A restart changes nothing of it.
    at_home.stop().await;
    let at_home = lab.start(&home).await;
    assert_eq!(write(home.address()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    assert_eq!(origin.asked().len(), before, "nobody asked the application");

    origin.put("/first/", Page::html("<p>worked on</p>"));
    seal(3, false);
    for edge in [&at_home, &at_office] {
        edge.ask(Request::new("reload")).await.unwrap();
    }
    for at in both {
        assert_eq!(write(at).await.status, StatusCode::OK);
    }
    eventually("both show what is new", async || {
        let [here, there] = [
            lab.client.get(home.address(), &host, "/first/").await.text().to_owned(),
            lab.client.get(office.address(), &host, "/first/").await.text().to_owned(),
        ];
        (here == "<p>worked on</p>" && there == here).then_some(())
    })
    .await;
    assert_eq!(at_office.site().await["maintenance"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_not_told_shows_what_the_primarys_edge_says_of_maintenance() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, _at_office) = lab.two(&origin).await;
    let host = format!("{NAME}:{}", home.port());
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let site = EdgeSite { maintenance: true, ..site };
    lab.seal(&home, 2, &lab.config(&home, vec![office.as_peer()], site));
    at_home.ask(Request::new("reload")).await.unwrap();
    let fields = [("accept", "text/html")];
    let write = lab.client.post(office.address(), &host, "/ghost/api/admin/posts/", &fields, Bytes::new()).await;
    assert_eq!((write.status, write.field("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "120"));
    assert!(write.text().contains("<h1>Nothing was saved</h1>"), "{}", write.text());
    for path in ["/", "/first/", "/rss/"] {
        assert_eq!(lab.client.get(office.address(), &host, path).await.status, StatusCode::OK, "{path}");
    }
}
