//! Sites that need more room than they have, at one and at two data centers: what is kept, what is let go, what readers
//! get all the same, and what is said of it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::origin::{CHUNK, Page};
use common::{Lab, NAME, Origin, Place, Running, eventually};
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sovereign_model::edge_config::{EdgeSite, Source};
use sovereign_model::edge_rules::{Keep, Room};
use sovereign_model::size::ByteSize;
use sovereign_runtime::control::Request;
use tokio::sync::Semaphore;

/// Of each picture of [`album`].
const PICTURE: usize = 300_000;
const PICTURES: [&str; 5] = [
    "/content/images/a.png",
    "/content/images/b.png",
    "/content/images/c.png",
    "/content/images/d.png",
    "/content/images/e.png",
];
/// What [`album`] has beside its pictures takes less than this.
const TEXTS: u64 = 50_000;

/// A blog with five pictures: 1.5 MB, and some text.
fn album(origin: &Origin) {
    let images: String = PICTURES.iter().map(|picture| format!("<img src={picture}>")).collect();
    origin.put("/", Page::html(&format!("<a href=/first/>First</a>{images}")));
    origin.put("/first/", Page::html(&format!("<p>{}</p>", "first ".repeat(5000))));
    for seed in ["/rss/", "/sitemap.xml", "/robots.txt", "/llms.txt", "/llms-full.txt", "/favicon.ico"] {
        origin.put(seed, Page::of("text/plain", "public, max-age=3600", seed));
    }
    for (number, picture) in (1..).zip(PICTURES) {
        origin.put(picture, Page::of("image/png", "public, max-age=31536000", vec![number; PICTURE]));
    }
}

fn room(keep: Keep, budget: u64) -> Room {
    Room { keep, budget: Some(ByteSize(budget)) }
}

fn number(site: &Value, name: &str) -> u64 {
    site[name].as_u64().unwrap_or_else(|| panic!("{name} of {site:#}"))
}

fn left_out(site: &Value) -> u64 {
    number(&site["room"], "left-out")
}

/// Waits until a pass has looked at everything and so many pages have no room.
async fn at_rest(running: &Running, without: u64) -> Value {
    eventually(&format!("{without} pages are left out"), async || {
        let site = running.site().await;
        let rests = site["pass"].is_null() && site["last-pass"]["complete"] == true && site["pages-stale"] == 0;
        (rests && left_out(&site) == without && site["last-pass"]["left-out"] == without).then_some(site)
    })
    .await
}

/// Another pass, from its beginning to its end.
async fn look_again(running: &Running) {
    let status = async || running.ask(Request::new("status")).await.unwrap();
    let ended = async || status().await["sites"][0]["last-pass"].clone();
    let before = ended().await;
    // Two that end within a second may look the same.
    eventually("another pass has ended", async || {
        running.ask(Request::new("fill").with("site", "blog")).await.unwrap();
        (ended().await != before).then_some(())
    })
    .await;
}

/// Questions to the source whose answer had a body.
async fn fetches(running: &Running) -> u64 {
    let traffic = running.ask(Request::new("status")).await.unwrap()["traffic"].clone();
    number(&traffic, "kept") + number(&traffic, "unkept")
}

struct Two {
    lab: Lab,
    origin: Origin,
    home: Place,
    office: Place,
    host: String,
}

impl Two {
    fn new() -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        album(&origin);
        let (home, office) = (lab.place("home"), lab.place("office"));
        let host = format!("{NAME}:{}", home.port());
        let two = Self { lab, origin, home, office, host };
        two.origin.set_canonical(&format!("https://{}", two.host));
        two
    }

    fn seal(&self, generation: u64, at_home: Room, at_office: Room) {
        let site = EdgeSite { room: at_home, ..self.lab.site(&self.home, Source::Unix(self.origin.socket.clone())) };
        let source = Source::Link("home".parse().unwrap());
        let mirror = EdgeSite { source, webhook_key: None, room: at_office, ..site.clone() };
        self.lab.seal(&self.home, generation, &self.lab.config(&self.home, vec![self.office.as_peer()], site));
        self.lab.seal(&self.office, generation, &self.lab.config(&self.office, vec![self.home.as_peer()], mirror));
    }

    async fn get(&self, place: &Place, path: &str) -> common::client::Answer {
        self.lab.client.get(place.address(), &self.host, path).await
    }

    /// Every reader gets every picture, kept or not, and which of them came from the store.
    async fn pictures_kept(&self, place: &Place) -> Vec<&'static str> {
        let mut kept = Vec::new();
        for (number, picture) in (1..).zip(PICTURES) {
            let answer = self.get(place, picture).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, PICTURE), "{picture} at {}", place.name);
            assert!(answer.body.iter().all(|byte| *byte == number), "{picture} at {}", place.name);
            if answer.field("cache-status").contains("hit") {
                kept.push(picture);
            }
        }
        kept
    }

    /// Where the record of a page lies at the mirror.
    fn record(&self, target: &str) -> PathBuf {
        let name = hex::encode(Sha256::digest(format!("blog\0{target}")));
        self.office.folder.join("store").join(&name[..2]).join(name)
    }

    /// As if a page had last been read so long ago.
    fn read_ago(&self, target: &str, ago: Duration) {
        let file = std::fs::File::open(self.record(target)).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_keeps_all_lets_nothing_go_and_passes_the_rest_through() {
    let two = Two::new();
    two.seal(1, room(Keep::All, 1_000_000), room(Keep::All, 1_000_000));
    let at_home = two.lab.start(&two.home).await;
    let home = at_rest(&at_home, 2).await;
    let at_office = two.lab.start(&two.office).await;
    let office = at_rest(&at_office, 2).await;
    for site in [&home, &office] {
        assert_eq!(site["complete"], false, "two pictures are not there");
        assert!(number(site, "bytes") <= 1_000_000 && number(site, "bytes") > 900_000, "{site:#}");
        assert!((1_500_000..1_500_000 + TEXTS).contains(&number(site, "bytes-known")), "{site:#}");
        assert_eq!(number(&site["room"], "left-out-bytes"), 600_000);
        assert_eq!((&site["room"]["limit"], &site["room"]["keep"]), (&1_000_000.into(), &"all".into()));
    }
    // The mirror knew from its primary's list, and never asked for what it has no room for.
    let asked = PICTURES.map(|picture| two.origin.count(picture));
    let kept = two.pictures_kept(&two.office).await;
    for (picture, asked) in PICTURES.into_iter().zip(asked) {
        assert!(asked == 1 || (asked == 2 && kept.contains(&picture)), "{picture} was asked for {asked} times");
    }
    assert_eq!((kept.len(), two.pictures_kept(&two.home).await.len()), (3, 3));
    let gone = PICTURES.iter().find(|picture| !kept.contains(picture)).unwrap();
    let tail = two.lab.client.get_with(two.office.address(), &two.host, gone, &[("range", "bytes=299990-")]).await;
    assert!(tail.body.len() == 10 || tail.status == StatusCode::OK, "the application decides: {:?}", tail.status);

    // Nothing comes or goes by looking again, at either place, nor by a restart.
    let asked = two.origin.asked().len();
    for running in [&at_home, &at_office] {
        let before = fetches(running).await;
        look_again(running).await;
        at_rest(running, 2).await;
        assert_eq!(fetches(running).await, before);
    }
    assert_eq!(two.origin.asked().len(), asked);
    at_office.stop().await;
    let at_office = two.lab.start(&two.office).await;
    at_rest(&at_office, 2).await;
    let again = two.pictures_kept(&two.office).await;
    assert_eq!(again, kept, "what a restart finds stays");

    // A new page comes all the same, beyond the budget, and no picture goes for it.
    let long = "much to say ".repeat(20_000);
    two.origin.put("/long/", Page::html(&long));
    two.origin.put("/first/", Page::html("<a href=/long/>Long</a>"));
    changed(&two).await;
    for running in [&at_home, &at_office] {
        eventually("the page is kept", async || {
            let site = running.site().await;
            (site["pass"].is_null() && number(&site["room"], "page-bytes") > long.len() as u64).then_some(())
        })
        .await;
        let site = at_rest(running, 2).await;
        assert!(number(&site, "bytes") > 1_000_000, "{site:#}");
    }
    assert_eq!(two.pictures_kept(&two.office).await, kept);

    // Without its primary the mirror serves what it has, and says honestly what it has not.
    two.origin.kill();
    at_home.stop().await;
    eventually("the mirror knows", async || {
        two.get(&two.office, gone).await;
        (at_office.site().await["source"]["reachable"] == false).then_some(())
    })
    .await;
    for path in kept.iter().chain(&["/", "/first/", "/long/"]) {
        assert_eq!(two.get(&two.office, path).await.status, StatusCode::OK, "{path}");
    }
    let sorry = two.get(&two.office, gone).await;
    assert_eq!(sorry.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!sorry.field("retry-after").is_empty() && sorry.field("cache-control").contains("no-store"), "{sorry:?}");
}

/// The author has changed something, and the answer to that says so.
async fn changed(two: &Two) {
    let said = two.lab.client.post(two.home.address(), &two.host, "/ghost/api/admin/changed/", &[], Bytes::new()).await;
    assert_eq!(said.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_with_a_budget_lets_go_what_was_read_least() {
    let two = Two::new();
    let plenty = room(Keep::All, 10_000_000);
    two.seal(1, plenty, room(Keep::Budget, 10_000_000));
    let at_home = two.lab.start(&two.home).await;
    at_home.complete().await;
    let at_office = two.lab.start(&two.office).await;
    let site = at_office.complete().await;
    assert_eq!((left_out(&site), &site["bytes-known"]), (0, &site["bytes"]));
    at_office.stop().await;

    // Days later, all of them read but at different times, and the budget has become smaller.
    for (hours, picture) in [5, 1, 4, 2, 3].into_iter().zip(PICTURES) {
        two.read_ago(picture, HOUR * 24 * hours);
    }
    two.seal(2, plenty, room(Keep::Budget, 1_000_000));
    let at_office = two.lab.start(&two.office).await;
    let site = at_rest(&at_office, 2).await;
    assert!(number(&site, "bytes") <= 1_000_000);
    assert_eq!(site["complete"], false);
    assert!(number(&site, "bytes-known") > 1_500_000, "{site:#}");
    let gone = [PICTURES[0], PICTURES[2]];
    for picture in PICTURES {
        assert_eq!(two.record(picture).exists(), !gone.contains(&picture), "{picture}");
    }

    // A sweep leaves it at that; so does a restart with a full budget.
    let before = fetches(&at_office).await;
    look_again(&at_office).await;
    at_rest(&at_office, 2).await;
    assert_eq!(fetches(&at_office).await, before, "what was let go is not fetched again");
    at_office.stop().await;
    let at_office = two.lab.start(&two.office).await;
    at_rest(&at_office, 2).await;
    assert_eq!(fetches(&at_office).await, 0);
    let kept = two.pictures_kept(&two.office).await;
    assert_eq!(kept, [PICTURES[1], PICTURES[3], PICTURES[4]]);
    // That they were read is written down by the next look at the site.
    look_again(&at_office).await;
    for picture in kept {
        let read = std::fs::metadata(two.record(picture)).unwrap().modified().unwrap();
        assert!(read.elapsed().unwrap() < HOUR, "{picture}");
    }

    // A page needs the room of one more picture: a page is kept whatever happens. All were just read; one goes.
    let long = "much to say ".repeat(20_000);
    two.origin.put("/long/", Page::html(&long));
    two.origin.put("/first/", Page::html("<a href=/long/>Long</a>"));
    changed(&two).await;
    let site = at_rest(&at_office, 3).await;
    assert!(number(&site, "bytes") <= 1_000_000, "{site:#}");
    assert!(two.record("/long/").exists());
    assert_eq!(two.pictures_kept(&two.office).await.len(), 2);

    // Less than the pages take: they stay, and it is said that they are too much.
    two.seal(3, plenty, room(Keep::Budget, 100_000));
    at_office.ask(Request::new("reload")).await.unwrap();
    let site = at_rest(&at_office, 5).await;
    assert!(number(&site, "bytes") > 100_000 && site["bytes"] == site["room"]["page-bytes"], "{site:#}");
    assert!(two.pictures_kept(&two.office).await.is_empty());

    // Room again: everything comes back by itself.
    two.seal(4, plenty, room(Keep::Budget, 10_000_000));
    at_office.ask(Request::new("reload")).await.unwrap();
    let site = at_office.complete().await;
    assert_eq!((left_out(&site), &site["bytes-known"]), (0, &site["bytes"]));
    assert_eq!(two.pictures_kept(&two.office).await.len(), 5);
    // Only that edge was ever short of room.
    assert_eq!(at_home.site().await["complete"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_budget_without_leave_to_let_go_is_only_reported() {
    let two = Two::new();
    two.seal(1, room(Keep::All, 10_000_000), room(Keep::All, 10_000_000));
    let at_home = two.lab.start(&two.home).await;
    let before = at_home.complete().await;
    two.seal(2, room(Keep::All, 1000), room(Keep::All, 1000));
    at_home.ask(Request::new("reload")).await.unwrap();
    look_again(&at_home).await;
    let site = at_rest(&at_home, 0).await;
    assert_eq!((&site["bytes"], &site["complete"]), (&before["bytes"], &true.into()));
    assert_eq!(site["room"]["limit"], 1000);
    assert_eq!(two.pictures_kept(&two.home).await.len(), 5);
}

/// The files of a store that are being written.
fn unfinished(place: &Place) -> u64 {
    let files = std::fs::read_dir(place.folder.join("store/tmp")).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_outgrows_what_is_left_is_passed_on_and_takes_no_more_room() {
    let two = Two::new();
    // Everything fits, and some 600 kB are left.
    const BUDGET: u64 = 2_140_000;
    two.seal(1, room(Keep::All, BUDGET), room(Keep::All, BUDGET));
    let at_home = two.lab.start(&two.home).await;
    let before = at_home.complete().await;
    let at_office = two.lab.start(&two.office).await;
    at_office.complete().await;

    // 3 MB, and it says of itself only that it begins.
    let film: Bytes = (0..48 * CHUNK).map(|position| (position / 1000).to_le_bytes()[0]).collect::<Vec<_>>().into();
    let permits = Arc::new(Semaphore::new(0));
    two.origin.put("/film.mp4", Page::of("video/mp4", "public, max-age=0", film.clone()).in_chunks(&permits));
    let read = async |place: &Place| {
        let mut sender = two.lab.client.http1(place.address()).await;
        let asked = common::client::request(http::Method::GET, &two.host, "/film.mp4", &[], Bytes::new());
        let asking = tokio::spawn(async move { sender.send_request(asked).await.unwrap() });
        asking.await.unwrap()
    };
    // What fits into what is left, so that both are there when it turns out that the rest does not.
    permits.add_permits(8);
    let (first, second) = tokio::join!(read(&two.home), read(&two.home));
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(two.origin.count("/film.mp4"), 1, "one question for both");
    permits.add_permits(40);
    let (first, second) = tokio::join!(first.into_body().collect(), second.into_body().collect());
    assert_eq!(first.unwrap().to_bytes(), film);
    assert_eq!(second.unwrap().to_bytes(), film);
    assert_eq!(at_home.site().await["bytes"], before["bytes"]);
    eventually("nothing is left half written", async || (unfinished(&two.home) == 0).then_some(())).await;

    // Who comes later asks for itself, from either place; nobody tries to keep it again.
    permits.add_permits(10 * 48);
    for place in [&two.home, &two.office, &two.office] {
        let answer = two.get(place, "/film.mp4").await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, film.len()), "{}", place.name);
        assert_eq!(answer.body, film);
        eventually("nothing is left half written", async || (unfinished(place) == 0).then_some(())).await;
    }
    for running in [&at_home, &at_office] {
        assert!(number(&running.site().await, "bytes") <= BUDGET);
    }
    // A source that breaks off in the midst of it breaks its readers off, and nothing stays.
    let broken = Arc::new(Semaphore::new(8));
    two.origin.put("/broken.mp4", Page::of("video/mp4", "public, max-age=0", film).in_chunks(&broken));
    let half = {
        let mut sender = two.lab.client.http1(two.home.address()).await;
        let asked = common::client::request(http::Method::GET, &two.host, "/broken.mp4", &[], Bytes::new());
        let half = sender.send_request(asked).await.unwrap();
        broken.add_permits(10);
        half
    };
    eventually("it has outgrown what is left", async || (broken.available_permits() == 0).then_some(())).await;
    two.origin.kill();
    assert!(half.into_body().collect().await.is_err());
    eventually("nothing is left half written", async || (unfinished(&two.home) == 0).then_some(())).await;
}
