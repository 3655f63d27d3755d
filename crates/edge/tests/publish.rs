//! From an author's change to every mirror: which pages the application is asked for, how often, and how soon the
//! mirrors have them.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::blog::Blog;
use common::origin::Page;
use common::{Lab, NAME, Origin, Place, Running, eventually, within};
use http::StatusCode;
use sovereign_runtime::control::Request;

const MIRRORS: [&str; 3] = ["office", "cabin", "vault"];
const CHANGED: &str = r#"{"event":"site.changed"}"#;

/// A blog at home and at three mirrors.
struct Stage {
    lab: Lab,
    origin: Origin,
    blog: Blog,
    pages: BTreeMap<String, String>,
    home: Place,
    at_home: Running,
    mirrors: Vec<(Place, Running)>,
}

impl Stage {
    async fn set(blog: Blog) -> Self {
        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        let pages = blog.show(&origin, &BTreeMap::new());
        let (home, at_home, mirrors) = lab.many(&origin, &MIRRORS).await;
        let stage = Self { lab, origin, blog, pages, home, at_home, mirrors };
        stage.rest().await;
        stage
    }

    fn host(&self) -> String {
        format!("{NAME}:{}", self.home.port())
    }

    /// Nothing is left to be done anywhere.
    async fn rest(&self) {
        self.at_home.complete().await;
        for (_, edge) in &self.mirrors {
            edge.complete().await;
        }
    }

    /// The application shows the blog as it is now, and says so, in the order in which Ghost does.
    async fn say(&mut self, bodies: &[String]) -> BTreeSet<String> {
        let before = std::mem::take(&mut self.pages);
        self.pages = self.blog.show(&self.origin, &before);
        let own = format!("https://{}", self.host());
        assert_eq!(self.lab.hook(&self.home, CHANGED).await.status, StatusCode::NO_CONTENT);
        for body in bodies {
            let body = body.replace("{origin}", &own);
            assert_eq!(self.lab.hook(&self.home, &body).await.status, StatusCode::NO_CONTENT);
        }
        let all: BTreeSet<_> = before.keys().chain(self.pages.keys()).collect();
        all.into_iter().filter(|path| before.get(*path) != self.pages.get(*path)).cloned().collect()
    }

    /// Waits until every mirror keeps `path` as the application shows it now.
    async fn shown_everywhere(&self, path: &str) {
        for (place, _) in &self.mirrors {
            eventually(path, async || self.is_shown(place, path).await.then_some(())).await;
        }
    }

    /// Judged without making any edge ask for the page: what is kept, and nothing but that.
    async fn is_shown(&self, place: &Place, path: &str) -> bool {
        let answer = self.lab.client.get(place.address(), &self.host(), path).await;
        match self.pages.get(path) {
            Some(body) => answer.text() == body.replace("{origin}", &format!("https://{}", self.host())),
            None => answer.status == StatusCode::NOT_FOUND,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_that_changed_is_rendered_once_for_three_mirrors() {
    let mut stage = Stage::set(Blog::new(120, 10)).await;
    let total = stage.pages.len();

    for (what, change) in [
        ("a new post", (|blog| vec![blog.write()]) as fn(&mut Blog) -> Vec<String>),
        ("another", |blog| vec![blog.write()]),
        ("the text of an old post", |blog| vec![blog.edit_text(50)]),
        ("the title of an old post", |blog| vec![blog.rename(60)]),
        ("an old post is deleted", |blog| blog.delete(30).to_vec()),
        ("the newest post is deleted", |blog| {
            let last = blog.posts.len() - 1;
            blog.delete(last).to_vec()
        }),
    ] {
        let before = stage.origin.asked().len();
        let bodies = change(&mut stage.blog);
        let changed = stage.say(&bodies).await;
        stage.rest().await;
        // Before any reader asks.
        let asked = stage.origin.asked_since(before);
        let twice: Vec<_> = asked.iter().filter(|(_, count)| **count != 1).collect();
        assert!(twice.is_empty(), "{what}: {twice:?}");
        let asked: BTreeSet<_> = asked.into_keys().collect();
        let missed: Vec<_> = changed.difference(&asked).collect();
        assert!(missed.is_empty(), "{what}: {missed:?} of {changed:?}");
        // Lists and the neighbours of the newest post are looked at to be sure.
        let needless: Vec<_> = asked.difference(&changed).collect();
        assert!(needless.len() <= 12, "{what}: {needless:?}");
        assert!(asked.len() < total / 3, "{what}: {} of {total}", asked.len());
        eprintln!("{what}: {} of {total} pages are other ones, {} were asked for", changed.len(), asked.len());
        for path in &changed {
            stage.shown_everywhere(path).await;
        }
    }
    for path in stage.pages.keys() {
        assert!(stage.is_shown(&stage.mirrors[2].0, path).await, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_post_is_gone_from_every_mirror_within_seconds() {
    let mut stage = Stage::set(Blog::new(30, 3)).await;
    let path = stage.blog.posts[10].path();
    let keeps = async |edge: &Running| edge.site().await["pages-kept"].as_u64().unwrap();
    let kept = keeps(&stage.mirrors[0].1).await;
    let deleted = Instant::now();
    let bodies = stage.blog.delete(10);
    stage.say(&bodies).await;
    for (_, edge) in &stage.mirrors {
        eventually("the page is removed", async || (keeps(edge).await == kept - 1).then_some(())).await;
    }
    assert!(deleted.elapsed() < Duration::from_secs(3), "{:?}", deleted.elapsed());
    assert_eq!(
        stage.origin.asked().iter().filter(|asked| asked.target == path).count(),
        2,
        "kept once, confirmed once"
    );
    stage.origin.kill();
    for (place, _) in &stage.mirrors {
        let answer = stage.lab.client.get(place.address(), &stage.host(), &path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "nothing of it is left, source or none");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_without_particulars_concerns_everything() {
    let mut stage = Stage::set(Blog::new(20, 2)).await;
    let before = stage.origin.asked().len();
    let theme = Page::html("<p>another theme</p><a href=/>");
    for path in ["/about/", "/post-3/"] {
        stage.origin.put(path, theme.clone());
        stage.pages.insert(path.to_owned(), "<p>another theme</p><a href=/>".to_owned());
    }
    assert_eq!(stage.lab.hook(&stage.home, CHANGED).await.status, StatusCode::NO_CONTENT);
    // Whoever looks at once sees it at once.
    let page = stage.lab.client.get(stage.home.address(), &stage.host(), "/about/").await;
    assert!(page.text().contains("another theme"), "{}", page.text());
    for path in ["/about/", "/post-3/"] {
        stage.shown_everywhere(path).await;
    }
    stage.rest().await;
    let asked = stage.origin.asked_since(before);
    assert!(stage.pages.keys().all(|path| asked.contains_key(path)), "{asked:?}");

    // Two changes at once, one without particulars: the other does not explain both.
    stage.origin.put("/about/", Page::html("<p>yet another theme</p>"));
    stage.pages.insert("/about/".to_owned(), "<p>yet another theme</p>".to_owned());
    let renamed = stage.blog.rename(5);
    let before = stage.origin.asked().len();
    assert_eq!(stage.lab.hook(&stage.home, CHANGED).await.status, StatusCode::NO_CONTENT);
    assert_eq!(stage.lab.hook(&stage.home, &renamed).await.status, StatusCode::NO_CONTENT);
    assert_eq!(stage.lab.hook(&stage.home, CHANGED).await.status, StatusCode::NO_CONTENT);
    stage.shown_everywhere("/about/").await;
    assert!(stage.origin.asked_since(before).contains_key("/about/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_application_says_does_not_erase_the_site() {
    let mut stage = Stage::set(Blog::new(40, 4)).await;
    let keeps = async |edge: &Running| edge.site().await["pages-kept"].as_u64().unwrap();
    let kept = keeps(&stage.at_home).await;
    let bodies = stage.blog.delete(10);
    let gone: Vec<_> = stage.pages.keys().cloned().collect();
    let own = format!("https://{}", stage.host());
    // The theme is broken: no page is found any more.
    gone.iter().for_each(|path| stage.origin.remove(path));
    for body in [CHANGED, &bodies[0], &bodies[1]] {
        assert_eq!(stage.lab.hook(&stage.home, &body.replace("{origin}", &own)).await.status, StatusCode::NO_CONTENT);
    }
    eventually("the post is gone", async || (keeps(&stage.at_home).await == kept - 1).then_some(())).await;
    eventually("the rest was looked at", async || stage.at_home.site().await["pass"].is_null().then_some(())).await;
    assert_eq!(keeps(&stage.at_home).await, kept - 1, "its page, and no other");
    for (place, edge) in &stage.mirrors {
        eventually("the mirror follows", async || (keeps(edge).await == kept - 1).then_some(())).await;
        let answer = stage.lab.client.get(place.address(), &stage.host(), "/about/").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_is_closed_is_served_by_no_mirror() {
    let stage = Stage::set(Blog::new(10, 2)).await;
    let fields = vec![("location".into(), "/private/?r=%2F".into())];
    let closed = Page { status: 302, fields, body: Bytes::new(), chunks: None };
    stage.pages.keys().for_each(|path| stage.origin.put(path, closed.clone()));
    let before = Instant::now();
    assert_eq!(stage.lab.hook(&stage.home, CHANGED).await.status, StatusCode::NO_CONTENT);
    for (place, edge) in &stage.mirrors {
        eventually("the mirror knows", async || (edge.site().await["private"] == true).then_some(())).await;
        let page = stage.lab.client.get(place.address(), &stage.host(), "/post-3/").await;
        assert_eq!((page.status, page.field("location")), (StatusCode::FOUND, "/private/?r=%2F"));
        eventually("nothing is kept", async || (edge.site().await["pages-kept"] == 0).then_some(())).await;
    }
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_link_shows_is_found_by_the_sweep() {
    let mut stage = Stage::set(Blog::new(10, 2)).await;
    // The theme shows the newest title there, without a link.
    stage.origin.put("/about/", Page::html("<p>newest: post 11</p>"));
    let body = stage.blog.write();
    stage.say(&[body]).await;
    stage.pages.insert("/about/".to_owned(), "<p>newest: post 11</p>".to_owned());
    stage.shown_everywhere("/post-11/").await;
    stage.rest().await;
    let far = &stage.mirrors[2].0;
    assert!(!stage.is_shown(far, "/about/").await, "its page was not known to be concerned");
    // The sweep begins a quarter of a minute after the change.
    let swept = async || (stage.at_home.site().await["last-pass"]["reason"] == "sweep").then_some(());
    within(Duration::from_secs(60), "a sweep", swept).await;
    stage.shown_everywhere("/about/").await;
}

/// The time the application worked, of all the time that a sweep took.
async fn sweep(stage: &Stage, generation: u64) -> (Duration, Duration, usize) {
    let passes = async || stage.at_home.site().await["last-pass"]["finished-unix"].as_u64();
    let before = (passes().await, stage.at_home.site().await["last-pass"]["duration-ms"].as_u64());
    stage.origin.take_worked();
    let mut site = stage.lab.site(&stage.home, sovereign_model::edge_config::Source::Unix(stage.origin.socket.clone()));
    site.mirrors = MIRRORS.iter().map(|name| name.parse().unwrap()).collect();
    let peers = stage.mirrors.iter().map(|(place, _)| place.as_peer()).collect();
    stage.lab.seal(&stage.home, generation, &stage.lab.config(&stage.home, peers, site));
    let began = Instant::now();
    stage.at_home.ask(Request::new("reload")).await.unwrap();
    loop {
        let site = stage.at_home.site().await;
        let last = &site["last-pass"];
        let now = (last["finished-unix"].as_u64(), last["duration-ms"].as_u64());
        if now != before && last["reason"] == "sweep" && site["pass"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let (worked, at_once) = stage.origin.take_worked();
    (worked, took, at_once)
}

/// Pages that are asked for whenever they are looked at.
fn strict(mut blog: Blog) -> Blog {
    blog.cache_control = "public, max-age=0, must-revalidate";
    blog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_the_application_most_of_its_time() {
    let stage = Stage::set(strict(Blog::new(60, 3))).await;
    stage.origin.render_in(Duration::from_millis(10)).await;
    let before = stage.origin.asked().len();
    let (worked, took, at_once) = sweep(&stage, 2).await;
    let asked = stage.origin.asked_since(before);
    assert!(stage.pages.keys().all(|path| asked.get(path) == Some(&1)), "each page once: {asked:?}");
    let share = worked.as_secs_f64() / took.as_secs_f64();
    eprintln!("{} pages in {took:.1?}, the application worked {:.0} % of it", stage.pages.len(), share * 100.0);
    assert!(share <= 0.31, "{worked:?} of {took:?}");
    assert!(at_once <= 1, "one question at a time, {at_once}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_does_not_wait_for_a_sweep() {
    let mut stage = Stage::set(strict(Blog::new(60, 3))).await;
    stage.origin.render_in(Duration::from_millis(20)).await;
    let swept = stage.pages.len();
    let mut site = stage.lab.site(&stage.home, sovereign_model::edge_config::Source::Unix(stage.origin.socket.clone()));
    site.mirrors = MIRRORS.iter().map(|name| name.parse().unwrap()).collect();
    let peers = stage.mirrors.iter().map(|(place, _)| place.as_peer()).collect();
    stage.lab.seal(&stage.home, 2, &stage.lab.config(&stage.home, peers, site));
    stage.at_home.ask(Request::new("reload")).await.unwrap();
    eventually("a sweep is under way", async || {
        let site = stage.at_home.site().await;
        (site["pass"]["reason"] == "sweep" && site["pass"]["done"].as_u64() >= Some(3)).then_some(())
    })
    .await;
    let published = Instant::now();
    let body = stage.blog.write();
    stage.say(&[body]).await;
    stage.shown_everywhere("/post-61/").await;
    stage.shown_everywhere("/").await;
    let took = published.elapsed();
    let site = stage.at_home.site().await;
    assert!(!site["pass"].is_null(), "the sweep of {swept} pages goes on: {site}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

struct Figures {
    /// Until the post, the front page, the feed and the first page of its tag are at the mirror that has them last.
    fresh: Vec<Duration>,
    /// Until every page that is another one is everywhere.
    everywhere: Vec<Duration>,
    /// Pages that the application was asked for because of the first post. (A sweep follows.)
    asked: usize,
}

/// Posts that are published on a site of 1,000 that renders a page in 35 ms.
async fn published(times: usize) -> (Stage, Figures) {
    let mut stage = Stage::set(Blog::new(1000, 20)).await;
    stage.origin.render_in(Duration::from_millis(35)).await;
    let mut figures = Figures { fresh: Vec::new(), everywhere: Vec::new(), asked: 0 };
    let before = stage.origin.asked().len();
    for n in 0..times {
        let body = stage.blog.write();
        let published = Instant::now();
        let changed = stage.say(&[body]).await;
        let post = stage.blog.posts.last().unwrap().clone();
        for path in [post.path(), "/".to_owned(), "/rss/".to_owned(), format!("/tag/{}/", post.tag)] {
            stage.shown_everywhere(&path).await;
        }
        figures.fresh.push(published.elapsed());
        for path in &changed {
            stage.shown_everywhere(path).await;
        }
        figures.everywhere.push(published.elapsed());
        if n == 0 {
            stage.rest().await;
            figures.asked = stage.origin.asked_since(before).len();
        }
    }
    figures.fresh.sort();
    figures.everywhere.sort();
    (stage, figures)
}

fn middle(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_on_a_large_site_is_everywhere_soon() {
    let (_, figures) = published(5).await;
    eprintln!("fresh at the last of three mirrors after {:.2?}, everywhere {:.2?}", figures.fresh, figures.everywhere);
    assert!(middle(&figures.fresh) <= Duration::from_secs(2), "{:?}", figures.fresh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure: cargo xtask prove publish"]
async fn how_soon_a_post_is_everywhere() {
    let (stage, figures) = published(20).await;
    let Figures { fresh, everywhere, asked } = figures;
    eprintln!("\n1,000 posts, 35 ms a page, three mirrors; 20 posts published\n");
    eprintln!("| | median | longest |\n|---|---:|---:|");
    eprintln!("| post, home, feed and tag at the last mirror | {:.2?} | {:.2?} |", middle(&fresh), fresh[19]);
    eprintln!("| every page concerned at every mirror | {:.2?} | {:.2?} |", middle(&everywhere), everywhere[19]);
    eprintln!("\nThe first post concerned {asked} of {} pages.", stage.pages.len());
    assert!(middle(&fresh) <= Duration::from_secs(2), "{fresh:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure: cargo xtask prove publish"]
async fn how_long_a_sweep_takes() {
    let stage = Stage::set(strict(Blog::new(1000, 20))).await;
    stage.origin.render_in(Duration::from_millis(35)).await;
    let (worked, took, _) = sweep(&stage, 2).await;
    let share = worked.as_secs_f64() / took.as_secs_f64() * 100.0;
    eprintln!("\na sweep of {} pages of 35 ms: {took:.0?}, {share:.0} % of one core", stage.pages.len());
    assert!(share <= 31.0);
}
