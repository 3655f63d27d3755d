//! A data center with two uplinks, as its mirror sees it: the preferred one dies, freezes and comes back.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::door::{Door, Way};
use common::{Client, Lab, NAME, Origin, eventually};
use http::StatusCode;
use sovereign_model::edge_config::{EdgeSite, Peer, Source};

/// Reads of pages that are kept, and of ones that only the primary can say something about, without a pause.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
    through: Arc<AtomicUsize>,
}

impl Readers {
    fn start(client: &Client, edge: std::net::SocketAddr, host: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let through = Arc::new(AtomicUsize::new(0));
        let tasks = (0..4).map(|reader| {
            let (client, host) = (client.clone(), host.to_owned());
            let (stop, through) = (stop.clone(), through.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    let kept = client.get(edge, &host, "/first/").await;
                    if kept.status != StatusCode::OK || kept.field("cache-status").contains("source-away") {
                        failed.push(format!("{kept:?}"));
                    }
                    if began.elapsed() > Duration::from_secs(2) {
                        failed.push(format!("a kept page after {:?}", began.elapsed()));
                    }
                    let asked = client.get(edge, &host, &format!("/missing-{reader}-{number}/")).await;
                    if asked.status != StatusCode::NOT_FOUND {
                        failed.push(format!("{asked:?}"));
                    }
                    through.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                failed
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks, through }
    }

    /// Waits until every reader has been all the way to the primary and back, and again.
    async fn are_answered(&self) {
        let before = self.through.load(Ordering::Relaxed);
        let enough = before + 4 * self.tasks.len();
        eventually("readers are answered", async || (self.through.load(Ordering::Relaxed) > enough).then_some(()))
            .await;
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await.unwrap());
        }
        failed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_dies_freezes_and_comes_back_and_no_read_fails() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let (fibre, mobile) = (Door::to(home.address()).await, Door::to(home.address()).await);
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, vec![office.as_peer()], site));
    let two_ways = Peer { addresses: vec![fibre.address, mobile.address], ..home.as_peer() };
    lab.seal(&office, 1, &lab.config(&office, vec![two_ways], mirror));
    let at_home = lab.start(&home).await;
    at_home.complete().await;
    let at_office = lab.start(&office).await;
    at_office.complete().await;
    assert_eq!(mobile.carried(), 0, "the preferred uplink is used");
    let host = format!("{NAME}:{}", home.port());
    let readers = Readers::start(&lab.client, office.address(), &host);
    readers.are_answered().await;

    // It dies.
    fibre.stand(Way::Shut);
    readers.are_answered().await;
    assert!(mobile.carried() > 0);
    // It is there again, by its looks.
    fibre.stand(Way::Frozen);
    let (before, knocks) = (mobile.carried(), fibre.knocks());
    eventually("it is tried, and tried again", async || (fibre.knocks() > knocks + 1).then_some(())).await;
    readers.are_answered().await;
    assert!(mobile.carried() > before);
    // It is well again, and preferred.
    let before = fibre.carried();
    fibre.stand(Way::Open);
    eventually("the preferred uplink is used again", async || (fibre.carried() > before + 10_000).then_some(())).await;
    readers.are_answered().await;

    // It freezes with everything that is under way on it.
    let before = mobile.carried();
    fibre.stand(Way::Frozen);
    eventually("the other one carries", async || (mobile.carried() > before + 10_000).then_some(())).await;
    readers.are_answered().await;
    // And with both uplinks dead, what is kept is served all the same.
    let failed = readers.end().await;
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    fibre.stand(Way::Shut);
    mobile.stand(Way::Shut);
    let missing = lab.client.get(office.address(), &host, "/nowhere/").await;
    assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(at_office.site().await["source"]["reachable"], false);
    let kept = lab.client.get(office.address(), &host, "/first/").await;
    assert_eq!(kept.status, StatusCode::OK);
    fibre.stand(Way::Open);
    eventually("all is well", async || (at_office.site().await["source"]["reachable"] == true).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_can_only_dial_out_lends_its_connection_over_the_uplink_that_works() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, office) = (lab.place("home"), lab.place("office"));
    let (fibre, mobile) = (Door::to(office.address()).await, Door::to(office.address()).await);
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
    origin.set_canonical(&site.canonical.to_string());
    let two_ways = Peer { addresses: vec![fibre.address, mobile.address], ..office.as_peer() };
    lab.seal(&home, 1, &lab.config(&home, vec![two_ways], site));
    let undialable = Peer { addresses: Vec::new(), ..home.as_peer() };
    lab.seal(&office, 1, &lab.config(&office, vec![undialable], mirror));
    let _at_home = lab.start(&home).await;
    let at_office = lab.start(&office).await;
    at_office.complete().await;
    assert_eq!(mobile.carried(), 0);
    let host = format!("{NAME}:{}", home.port());
    let asked = async |number: u32| {
        let answer = lab.client.get(office.address(), &host, &format!("/missing-{number}/")).await;
        (answer.status == StatusCode::NOT_FOUND).then_some(())
    };
    assert!(asked(0).await.is_some());
    fibre.stand(Way::Shut);
    eventually("the other uplink is used", async || asked(1).await.filter(|()| mobile.carried() > 0)).await;
    let before = fibre.carried();
    fibre.stand(Way::Open);
    eventually("the preferred uplink is used again", async || {
        // Nothing is lost on the way.
        assert!(asked(2).await.is_some());
        (fibre.carried() > before + 10_000).then_some(())
    })
    .await;
}
