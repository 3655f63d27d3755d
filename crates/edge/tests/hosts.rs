//! Data centers with several hosts, an edge on each: one edge has the application, three have copies.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::client::request;
use common::door::{Door, Way};
use common::origin::{CHUNK, Page};
use common::process::{Process, play};
use common::{Answer, Lab, NAME, Origin, Place, Running, eventually, site_changed};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::Value;
use sovereign_model::edge_config::{EdgeConfig, EdgeSite, Peer, Source};
use sovereign_runtime::control::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

const PAGES: [&str; 7] =
    ["/", "/first/", "/second/", "/rss/", "/content/images/a.png", "/robots.txt", "/assets/screen.css?v=1"];
const WRITE: &str = "/ghost/api/admin/posts/";

/// Not a test: what the processes of these tests run, started by name.
#[test]
#[ignore = "is the edge process of the other tests"]
fn edge_process() {
    play();
}

/// Two hosts at home, the application on the first; two at the office.
struct Hosts {
    lab: Lab,
    origin: Origin,
    places: [Place; 4],
    site: EdgeSite,
}

const HOME_1: usize = 0;
const HOME_2: usize = 1;
const OFFICE_1: usize = 2;
const OFFICE_2: usize = 3;

impl Hosts {
    fn new() -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let places = [("home", "home-1"), ("home", "home-2"), ("office", "office-1"), ("office", "office-2")]
            .map(|(datacenter, host)| lab.host(datacenter, host));
        let mut site = lab.site(&places[HOME_1], Source::Unix(origin.socket.clone()));
        site.mirrors = ["home", "office"].map(|name| name.parse().unwrap()).to_vec();
        origin.set_canonical(&site.canonical.to_string());
        Self { lab, origin, places, site }
    }

    /// The configuration of one edge, which reaches each other one where `address` says. The edge with the application
    /// is the last in every list: where it is, is to be found out.
    fn config(&self, own: usize, address: impl Fn(usize) -> Vec<SocketAddr>) -> EdgeConfig {
        let others = (0..self.places.len()).rev().filter(|other| *other != own);
        let peers = others.map(|other| Peer { addresses: address(other), ..self.places[other].as_peer() }).collect();
        let site = match own {
            HOME_1 => self.site.clone(),
            _ => EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..self.site.clone() },
        };
        self.lab.config(&self.places[own], peers, site)
    }

    fn seal(&self, own: usize, generation: u64, address: impl Fn(usize) -> Vec<SocketAddr>) {
        self.lab.seal(&self.places[own], generation, &self.config(own, address));
    }

    fn at(&self, place: usize) -> SocketAddr {
        self.places[place].address()
    }

    /// What readers ask for.
    fn host(&self) -> String {
        format!("{NAME}:{}", self.places[HOME_1].port())
    }

    async fn start(&self, place: usize) -> Running {
        let running = self.lab.start(&self.places[place]).await;
        running.complete().await;
        running
    }

    async fn read(&self, place: usize, path: &str) -> Answer {
        self.lab.client.get(self.at(place), &self.host(), path).await
    }

    async fn write(&self, place: usize, body: impl Into<Bytes>) -> Answer {
        let kind = [("content-type", "application/json")];
        self.lab.client.post(self.at(place), &self.host(), WRITE, &kind, body.into()).await
    }

    /// What is sent on a WebSocket to the application comes back.
    async fn echo(&self, place: usize, said: &[u8]) {
        let fields = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGVzdA==")];
        let asked = request(Method::GET, &self.host(), "/ghost/socket/", &fields, Bytes::new());
        let response = self.lab.client.http1(self.at(place)).await.send_request(asked).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{response:?}");
        let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        socket.write_all(said).await.unwrap();
        socket.flush().await.unwrap();
        let mut heard = vec![0; said.len()];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);
    }

    /// An author saves `text` as the first post; all of `places` show it.
    async fn publish(&self, text: &str, places: &[usize]) {
        self.origin.put("/first/", Page::html(text));
        assert_eq!(site_changed(&self.lab.client, self.at(HOME_1)).await.status, StatusCode::NO_CONTENT);
        for place in places {
            eventually("the edit is shown", async || {
                let page = self.read(*place, "/first/").await;
                (page.text() == text && page.field("cache-status").contains("hit")).then_some(())
            })
            .await;
        }
    }
}

async fn traffic(running: &Running) -> Value {
    running.ask(Request::new("status")).await.unwrap()["traffic"].clone()
}

async fn asked_by_edges(edges: &[&Running]) -> u64 {
    let mut sum = 0;
    for edge in edges {
        sum += traffic(edge).await["asked-by-edges"].as_u64().unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_edges_keep_a_site_that_runs_on_one_host() {
    let hosts = Hosts::new();
    // The second host of the office and the application's cannot reach each other: only through the other one there.
    let shut = Door::to(hosts.at(HOME_1)).await;
    shut.stand(Way::Shut);
    for own in [HOME_2, OFFICE_1] {
        hosts.seal(own, 1, |other| vec![hosts.at(other)]);
    }
    for (own, far) in [(HOME_1, OFFICE_2), (OFFICE_2, HOME_1)] {
        hosts.seal(own, 1, |other| vec![if other == far { shut.address } else { hosts.at(other) }]);
    }
    let home_1 = Process::spawn(&hosts.lab, &hosts.places[HOME_1]);
    home_1.complete(&hosts.places[HOME_1]).await;
    let home_2 = hosts.start(HOME_2).await;
    let office_1 = hosts.start(OFFICE_1).await;
    let office_2 = hosts.start(OFFICE_2).await;

    for path in PAGES {
        assert_eq!(hosts.origin.count(path), 1, "the application was asked once for {path}, for all four");
        for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
            let page = hosts.read(place, path).await;
            assert_eq!(page.status, StatusCode::OK, "{path} at {place}");
            assert!(page.field("cache-status").contains("hit"), "{path} at {place}: {page:?}");
        }
    }
    let status = home_2.ask(Request::new("status")).await.unwrap();
    assert_eq!((&status["datacenter"], &status["host"]), (&"home".into(), &"home-2".into()));
    assert_eq!(status["sites"][0]["role"], "mirror");
    assert_eq!(status["sites"][0]["primary"], "home");

    // The one that does not hear it from the application's edge hears it from the one beside.
    let published = Instant::now();
    hosts.publish("<p>edited</p>", &[HOME_1, HOME_2, OFFICE_1, OFFICE_2]).await;
    assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
    hosts.origin.put("/late/", Page::html("<p>late</p>"));
    assert_eq!(hosts.read(HOME_1, "/late/").await.status, StatusCode::OK);
    eventually("a page is named to it too", async || {
        (office_2.site().await["pages-kept"] == PAGES.len() + 1).then_some(())
    })
    .await;

    for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
        let before = hosts.origin.count(WRITE);
        let saved = hosts.write(place, "{}").await;
        assert_eq!(saved.status, StatusCode::OK, "at {place}: {saved:?}");
        assert_eq!(hosts.origin.count(WRITE), before + 1, "it arrives once, from {place}");
        let seen = hosts.origin.last(WRITE);
        assert_eq!(seen.fields["x-forwarded-for"], "127.0.0.1");
        assert!(seen.fields.keys().all(|name| !name.as_str().starts_with("sovereign-")), "{seen:?}");
        assert!(saved.fields.keys().all(|name| !name.as_str().starts_with("sovereign-")), "{saved:?}");
    }
    hosts.echo(OFFICE_2, b"over two links").await;
    // What is long in coming is given on as it comes, over two links too.
    let permits = Arc::new(Semaphore::new(10));
    hosts
        .origin
        .put("/long/", Page::of("text/plain", "public, max-age=60", vec![b'a'; 16 * CHUNK]).in_chunks(&permits));
    let asked = request(Method::GET, &hosts.host(), "/long/", &[], Bytes::new());
    let long = hosts.lab.client.http1(hosts.at(OFFICE_2)).await.send_request(asked).await.unwrap();
    assert_eq!(long.status(), StatusCode::OK);
    permits.add_permits(6);
    assert_eq!(long.into_body().collect().await.unwrap().to_bytes().len(), 16 * CHUNK);
    let picture = Bytes::from(vec![1u8; 20 << 20]);
    let uploaded = hosts.write(OFFICE_2, picture.clone()).await;
    assert!(uploaded.text().starts_with(&format!("{} bytes", picture.len())), "{:.80}", uploaded.text());

    // The host of the application dies. Nobody takes its connections, and nobody refuses them.
    home_1.signal(Signal::KILL);
    drop(home_1);
    for (place, edge) in [(HOME_2, &home_2), (OFFICE_1, &office_1), (OFFICE_2, &office_2)] {
        for path in PAGES {
            let began = Instant::now();
            let page = hosts.read(place, path).await;
            assert_eq!(page.status, StatusCode::OK, "{path} at {place}");
            assert!(began.elapsed() < Duration::from_secs(3), "{path} at {place} after {:?}", began.elapsed());
        }
        let began = Instant::now();
        let refused = hosts.write(place, "{}").await;
        assert!(began.elapsed() < Duration::from_secs(15), "at {place} after {:?}", began.elapsed());
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "at {place}: {refused:?}");
        assert!(!refused.field("retry-after").is_empty());
        assert!(refused.text().contains("Nothing was saved"), "{}", refused.text());
        eventually("it knows", async || (edge.site().await["source"]["reachable"] == false).then_some(())).await;
    }

    let home_1 = Process::spawn(&hosts.lab, &hosts.places[HOME_1]);
    home_1.complete(&hosts.places[HOME_1]).await;
    for place in [HOME_2, OFFICE_1, OFFICE_2] {
        eventually("writes arrive again", async || {
            (hosts.write(place, "{}").await.status == StatusCode::OK).then_some(())
        })
        .await;
    }
    hosts.publish("<p>edited again</p>", &[HOME_1, HOME_2, OFFICE_1, OFFICE_2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_seen_at_four_edges_at_once_and_rendered_once() {
    let hosts = Hosts::new();
    (0..4).for_each(|own| hosts.seal(own, 1, |other| vec![hosts.at(other)]));
    let mut running = Vec::new();
    for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
        running.push(hosts.start(place).await);
    }
    let published = Instant::now();
    hosts.publish("<p>edited</p>", &[HOME_1, HOME_2, OFFICE_1, OFFICE_2]).await;
    assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
    for edge in &running {
        edge.complete().await;
    }
    // Once for the change, and once more in the slow sweep that may have followed.
    let renders = hosts.origin.count("/first/") - 1;
    let how: Vec<_> = hosts.origin.asked().into_iter().filter(|asked| asked.target == "/first/").collect();
    assert!((1..=2).contains(&renders), "{renders}: {how:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_moves_to_another_host_is_found_there() {
    let hosts = Hosts::new();
    (0..4).for_each(|own| hosts.seal(own, 1, |other| vec![hosts.at(other)]));
    let mut running = Vec::new();
    for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
        running.push(hosts.start(place).await);
    }
    hosts.publish("<p>edited</p>", &[HOME_1, HOME_2, OFFICE_1, OFFICE_2]).await;
    // The two at home are told, one after the other; those at the office are not.
    let mut there = hosts.config(HOME_2, |other| vec![hosts.at(other)]);
    there.sites = vec![EdgeSite { webhook_key: Some(hosts.places[HOME_2].folder.join("hook")), ..hosts.site.clone() }];
    let mut here = hosts.config(HOME_1, |other| vec![hosts.at(other)]);
    here.sites[0].source = Source::Link("home".parse().unwrap());
    here.sites[0].webhook_key = None;
    for (place, config) in [(HOME_2, there), (HOME_1, here)] {
        hosts.lab.seal(&hosts.places[place], 2, &config);
        running[place].ask(Request::new("reload")).await.unwrap();
        assert_eq!(hosts.write(OFFICE_2, "{}").await.status, StatusCode::OK);
    }
    for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
        let before = hosts.origin.count(WRITE);
        assert_eq!(hosts.write(place, "{}").await.status, StatusCode::OK);
        assert_eq!(hosts.origin.count(WRITE), before + 1);
    }
    hosts.origin.put("/first/", Page::html("<p>from there</p>"));
    assert_eq!(site_changed(&hosts.lab.client, hosts.at(HOME_2)).await.status, StatusCode::NO_CONTENT);
    for place in [HOME_1, OFFICE_1, OFFICE_2] {
        eventually("the edit is shown", async || {
            (hosts.read(place, "/first/").await.text() == "<p>from there</p>").then_some(())
        })
        .await;
    }
    // Without the host that it has left.
    running.remove(HOME_1).stop().await;
    for place in [HOME_2, OFFICE_1, OFFICE_2] {
        assert_eq!(hosts.write(place, "{}").await.status, StatusCode::OK, "at {place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_beside_each_other_do_not_send_a_question_in_a_circle() {
    let hosts = Hosts::new();
    // All of them mirror what runs at home, on a host that is not there any more.
    (0..4).for_each(|own| hosts.seal(own, 1, |other| vec![hosts.at(other)]));
    let home_1 = hosts.start(HOME_1).await;
    let third = hosts.lab.host("home", "home-3");
    let peers = [HOME_2, OFFICE_1, HOME_1].map(|peer| hosts.places[peer].as_peer()).to_vec();
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..hosts.site.clone() };
    hosts.lab.seal(&third, 1, &hosts.lab.config(&third, peers, mirror));
    for own in [HOME_1, HOME_2, OFFICE_1] {
        let mut config = hosts.config(own, |other| vec![hosts.at(other)]);
        config.peers.insert(0, third.as_peer());
        hosts.lab.seal(&hosts.places[own], 2, &config);
    }
    home_1.ask(Request::new("reload")).await.unwrap();
    let home_2 = hosts.start(HOME_2).await;
    let home_3 = hosts.lab.start(&third).await;
    home_3.complete().await;
    let office_1 = hosts.start(OFFICE_1).await;
    // Those that listen to each other do not tell each other what they have heard.
    hosts.publish("<p>edited</p>", &[HOME_1, HOME_2, OFFICE_1]).await;
    for edge in [&home_1, &home_2, &home_3, &office_1] {
        edge.complete().await;
    }
    let edges = [&home_2, &home_3, &office_1];
    let (before, asked) = (asked_by_edges(&edges).await, hosts.origin.asked().len());
    let rest = Instant::now();
    while rest.elapsed() < Duration::from_secs(2) {
        assert_eq!(hosts.read(OFFICE_1, "/first/").await.status, StatusCode::OK);
    }
    let (after, asked) = (asked_by_edges(&edges).await - before, hosts.origin.asked().len() - asked);
    assert!(
        after < 10 && asked < 10,
        "{after} questions among edges and {asked} of the application while nothing happens"
    );
    // One of them alone has this page.
    hosts.origin.put("/late/", Page::html("<p>late</p>"));
    let late = hosts.read(HOME_2, "/late/").await;
    assert_eq!(late.status, StatusCode::OK);
    home_1.stop().await;
    let reads = ["/missing/", "/nowhere/", "/members/"];
    let mut before = asked_by_edges(&edges).await;
    for (place, address) in [(HOME_2, hosts.at(HOME_2)), (OFFICE_1, hosts.at(OFFICE_1)), (4, third.address())] {
        for round in 0..4 {
            for path in reads {
                let began = Instant::now();
                let answer = hosts.lab.client.get(address, &hosts.host(), &format!("{path}{round}")).await;
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path} at {place}: {answer:?}");
                assert!(began.elapsed() < Duration::from_secs(8), "{path} at {place} after {:?}", began.elapsed());
            }
            let refused = hosts.lab.client.post(address, &hosts.host(), WRITE, &[], Bytes::from_static(b"{}")).await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "at {place}: {refused:?}");
        }
        let after = asked_by_edges(&edges).await;
        // 16 requests: with two others beside, at most six questions each, and what the keepers ask meanwhile.
        assert!(after - before < 16 * 8, "{} questions at {place}", after - before);
        before = after;
    }
    // A page that one of them keeps is had from there, and is marked as what it is.
    for address in [third.address(), hosts.at(OFFICE_1)] {
        let page = hosts.lab.client.get(address, &hosts.host(), "/late/").await;
        assert_eq!((page.status, page.text()), (StatusCode::OK, late.text()), "{page:?}");
    }
    for edge in edges {
        assert_eq!(edge.site().await["source"]["reachable"], false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_can_only_dial_out_are_mirrored_all_the_same() {
    let hosts = Hosts::new();
    // Those at home reach each other; from the office neither can be dialled.
    for own in [HOME_1, HOME_2] {
        hosts.seal(own, 1, |other| vec![hosts.at(other)]);
    }
    for own in [OFFICE_1, OFFICE_2] {
        hosts.seal(own, 1, |other| if other < OFFICE_1 { Vec::new() } else { vec![hosts.at(other)] });
    }
    let mut running = Vec::new();
    for place in [HOME_1, HOME_2, OFFICE_1, OFFICE_2] {
        running.push(hosts.start(place).await);
    }
    hosts.publish("<p>edited</p>", &[HOME_1, HOME_2, OFFICE_1, OFFICE_2]).await;
    for place in [OFFICE_1, OFFICE_2] {
        let before = hosts.origin.count(WRITE);
        assert_eq!(hosts.write(place, "{}").await.status, StatusCode::OK);
        assert_eq!(hosts.origin.count(WRITE), before + 1);
    }
    // Each office edge is lent a connection by each edge at home: with one gone, the other still answers.
    hosts.origin.put("/late/", Page::html("<p>late</p>"));
    let late = hosts.read(HOME_2, "/late/").await;
    assert_eq!(late.status, StatusCode::OK, "{late:?} {:?}", running[HOME_2].site().await);
    eventually("home-2 has lent connections", async || (asked_by_edges(&[&running[HOME_2]]).await > 0).then_some(()))
        .await;
    running.remove(HOME_1).stop().await;
    for place in [OFFICE_1, OFFICE_2] {
        eventually("the page comes from the host that is left", async || {
            (hosts.read(place, "/late/").await.status == StatusCode::OK).then_some(())
        })
        .await;
        assert_eq!(hosts.write(place, "{}").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_edge_has_a_key_of_its_own() {
    let hosts = Hosts::new();
    (0..4).for_each(|own| hosts.seal(own, 1, |other| vec![hosts.at(other)]));
    let home_1 = hosts.start(HOME_1).await;
    for peer in [
        Peer { public_key: hosts.places[OFFICE_1].as_peer().public_key, ..hosts.places[OFFICE_2].as_peer() },
        hosts.places[HOME_1].as_peer(),
    ] {
        let mut config = hosts.config(HOME_1, |other| vec![hosts.at(other)]);
        config.peers.retain(|known| known.host != peer.host);
        config.peers.push(peer.clone());
        hosts.lab.seal(&hosts.places[HOME_1], 2, &config);
        let refused = format!("{:?}", home_1.ask(Request::new("reload")).await.unwrap_err());
        assert!(refused.contains("link key of another edge"), "{refused}");
    }
    // An edge of the data center that is no peer is nobody, and one that shows another's key is not that one.
    let mut config = hosts.config(HOME_1, |other| vec![hosts.at(other)]);
    config.peers.retain(|peer| peer.host.as_ref().is_none_or(|host| host.as_str() != "home-2"));
    hosts.lab.seal(&hosts.places[HOME_1], 2, &config);
    home_1.ask(Request::new("reload")).await.unwrap();
    let home_2 = hosts.lab.start(&hosts.places[HOME_2]).await;
    assert_eq!(hosts.read(HOME_2, "/first/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(home_2.site().await["pages-kept"], 0);
    hosts.seal(HOME_1, 3, |other| vec![hosts.at(other)]);
    home_1.ask(Request::new("reload")).await.unwrap();
    home_2.complete().await;
    assert_eq!(hosts.read(HOME_2, "/first/").await.status, StatusCode::OK);
}
