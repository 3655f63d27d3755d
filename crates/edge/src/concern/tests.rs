//! A small site as Ghost's usual theme links it, and what Ghost 6.65 really says about changes to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn target(path: &str) -> Target {
    Target::parse(path).unwrap()
}

/// Posts `/post-1/` (oldest) to `/post-6/`, two to a list, each linking to its neighbours; odd ones tagged news, even
/// ones tagged notes. `/about/` is in the navigation, so all pages link to it. `/post-2/` mentions `/post-5/`.
struct Blog {
    kept: Vec<Target>,
    links: Links,
}

const ORIGIN: &str = "https://blog.localhost:8443";

impl Blog {
    fn new() -> Self {
        let mut blog = Self { kept: Vec::new(), links: Links::default() };
        let post = |n: i32| (1..=6).contains(&n).then(|| format!("/post-{n}/"));
        let tag = |n: i32| if n % 2 == 1 { "/tag/news/" } else { "/tag/notes/" };
        let mut pages: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for n in 1..=6 {
            let mention = (n == 2).then(|| "/post-5/".to_owned());
            pages.insert(format!("/post-{n}/"), vec![post(n - 1), post(n + 1), Some(tag(n).to_owned()), mention]);
        }
        pages.insert("/".to_owned(), vec![post(6), post(5), Some("/page/2/".to_owned())]);
        pages.insert("/page/2/".to_owned(), vec![post(4), post(3), Some("/page/3/".to_owned())]);
        pages.insert("/page/3/".to_owned(), vec![post(2), post(1)]);
        pages.insert("/rss/".to_owned(), (1..=6).map(post).collect());
        pages.insert("/tag/news/".to_owned(), vec![post(5), post(3), Some("/tag/news/page/2/".to_owned())]);
        pages.insert("/tag/news/page/2/".to_owned(), vec![post(1)]);
        pages.insert("/tag/notes/".to_owned(), vec![post(6), post(4), post(2)]);
        pages.insert("/author/owner/".to_owned(), vec![post(6), post(5)]);
        pages.insert("/about/".to_owned(), vec![]);
        pages.insert("/sitemap.xml".to_owned(), vec![Some("/sitemap-posts.xml".to_owned())]);
        pages.insert("/sitemap-posts.xml".to_owned(), (1..=6).map(post).collect());
        for (page, links) in pages {
            let links = links.into_iter().flatten().chain(["/".to_owned(), "/about/".to_owned()]);
            blog.keep(&page, &links.collect::<Vec<_>>());
        }
        blog.links.record_feed(&target("/rss/"), Some(target("/post-6/")));
        for file in ["/llms.txt", "/robots.txt", "/content/images/a.png", "/assets/screen.css?v=1", "/post-3.md"] {
            blog.kept.push(target(file));
        }
        blog.kept.push(target("/ghost/api/content/posts/?key=1"));
        blog.kept.push(target("/post-3/?from=somewhere"));
        let kept = blog.kept.clone();
        blog.links.settle(|page| kept.contains(page));
        assert!(blog.links.is_complete());
        blog
    }

    fn keep(&mut self, page: &str, links: &[String]) {
        self.kept.push(target(page));
        let links: Vec<_> = links.iter().map(|link| target(link)).collect();
        self.links.record(&target(page), &links);
    }

    fn concern(&self, event: &Event) -> Concern {
        let canonical = &ORIGIN.parse().unwrap();
        concern(event, Site { canonical, kept: &self.kept, links: &self.links })
    }

    fn told(&self, body: &str) -> String {
        match self.concern(&Event::parse(body.as_bytes())) {
            Concern::Everything => "everything".to_owned(),
            Concern::Pages(scope) => {
                let shown = |target: &Target| {
                    if scope.own.contains(target) { format!("{target}!") } else { target.to_string() }
                };
                scope.targets.iter().map(shown).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn post(n: u32, current: &str, previous: &str) -> String {
    let tag = if n % 2 == 1 { "news" } else { "notes" };
    format!(
        r#"{{"event":"post.x","post":{{"current":{{"id":"{n}","slug":"post-{n}","url":"{ORIGIN}/post-{n}/",
        "status":"published","html":"<p>Text</p>","published_at":"2026-11-25T09:00:00.000Z",
        "updated_at":"2026-11-25T09:00:00.000Z",
        "tags":[{{"slug":"{tag}","url":"{ORIGIN}/tag/{tag}/"}}],"authors":[{{"slug":"owner","url":"{ORIGIN}/author/owner/"}}]
        {current}}},"previous":{{{previous}}}}}}}"#
    )
}

#[test]
fn stories() {
    let blog = Blog::new();
    let deleted = |n: u32, status: &str| {
        format!(
            r#"{{"event":"post.deleted","post":{{"current":{{}},"previous":{{"id":"{n}","slug":"post-{n}","status":"{status}",
            "tags":[{{"slug":"news"}}],"authors":[{{"slug":"owner","url":"{ORIGIN}/author/owner/"}}]}}}}}}"#
        )
    };
    let page = |status: &str, previous: &str| {
        format!(
            r#"{{"page":{{"current":{{"id":"9","slug":"about","url":"{ORIGIN}/about/","status":"{status}","html":"<p>x</p>"}},
            "previous":{{{previous}}}}}}}"#
        )
    };
    let tag = |previous: &str| {
        format!(
            r#"{{"tag":{{"current":{{"id":"t","slug":"news","url":"{ORIGIN}/tag/news/"}},"previous":{{{previous}}}}}}}"#
        )
    };
    let stories = [
        ("a new post", post(7, "", "")),
        ("a post of long ago", post(7, r#","published_at":"2020-01-01T00:00:00.000Z""#, "")),
        ("its text", post(3, "", r#""html":"<p>Text</p>","updated_at":"x""#)),
        ("how its text begins", post(3, "", r#""html":"<p>Other text</p>","updated_at":"x""#)),
        ("its title", post(3, "", r#""title":"x","updated_at":"x""#)),
        ("its tags", post(3, "", r#""tags":[{"slug":"notes"}]"#)),
        ("its address", post(3, r#","slug":"third","url":"https://blog.localhost:8443/third/""#, r#""slug":"post-3""#)),
        ("its date", post(3, "", r#""published_at":"2020-01-01T00:00:00.000Z""#)),
        ("a field of a later Ghost", post(3, "", r#""shape":"round""#)),
        ("unpublished", post(3, r#","status":"draft""#, r#""status":"published""#)),
        ("deleted", deleted(3, "published")),
        ("a draft is deleted", deleted(3, "draft")),
        ("a draft is saved", post(3, r#","status":"draft""#, r#""title":"x""#)),
        ("scheduled", post(8, r#","status":"scheduled""#, r#""status":"draft""#)),
        ("a page's text", page("published", r#""html":"<p>x</p>""#)),
        ("a page's title", page("published", r#""title":"x""#)),
        ("a page is withdrawn", page("draft", r#""status":"published""#)),
        ("a tag's description", tag(r#""description":"x""#)),
        ("a tag's name", tag(r#""name":"x""#)),
        (
            "a new tag",
            r#"{"tag":{"current":{"id":"t","slug":"new","url":"https://blog.localhost:8443/tag/new/"},"previous":{}}}"#
                .to_owned(),
        ),
        ("no particulars", r#"{"event":"site.changed"}"#.to_owned()),
        ("somebody else's address", post(7, r#","url":"https://other.example/post-7/""#, "")),
        ("no body", String::new()),
        ("another thing", r#"{"member":{"current":{},"previous":{}}}"#.to_owned()),
    ];
    let mut told = String::new();
    for (name, body) in stories {
        writeln!(told, "{name}: {}", blog.told(&body)).unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn what_ghost_says() {
    let bodies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/webhook");
    let mut names: Vec<_> = std::fs::read_dir(bodies).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut told = String::new();
    for path in names.iter().filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
        let event = Event::parse(&std::fs::read(path).unwrap());
        writeln!(told, "{}: {event:#?}", path.file_stem().unwrap().display()).unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn without_knowing_the_links_everything_is_concerned() {
    let mut blog = Blog::new();
    let edited = post(3, "", r#""title":"x""#);
    assert_ne!(blog.told(&edited), "everything");
    blog.links.doubt();
    assert_eq!(blog.told(&edited), "everything");
}

#[test]
fn links_follow_the_pages() {
    let mut blog = Blog::new();
    let to = |blog: &Blog, page: &str| blog.links.linking_to(&BTreeSet::from([target(page)]));
    assert!(to(&blog, "/post-5/").contains(&target("/post-2/")));
    blog.keep("/post-2/", &["/post-1/".to_owned()]);
    assert!(!to(&blog, "/post-5/").contains(&target("/post-2/")), "it says something else now");
    blog.links.forget(&target("/post-4/"));
    assert!(!to(&blog, "/post-5/").contains(&target("/post-4/")), "it is gone");
    assert!(blog.links.is_absent(&target("/post-4/")));
    assert_eq!(to(&blog, "/assets/screen.css?v=1"), BTreeSet::new(), "files are no pages");
    let before = to(&blog, "/post-6/");
    blog.links.settle(|_| true);
    assert_eq!(to(&blog, "/post-6/"), before);
}

proptest! {
    #[test]
    fn any_body_is_an_event(body in proptest::collection::vec(any::<u8>(), 0..400), tail in "\\PC{0,80}") {
        let blog = Blog::new();
        for body in [body, format!(r#"{{"post":{{"current":{{"id":"1","slug":"a",{tail}"#).into_bytes()] {
            prop_assert!(matches!(blog.concern(&Event::parse(&body)), Concern::Everything | Concern::Pages(_)));
        }
    }

    /// Whatever changed about a post: the more changed, the more pages are concerned, and its own always.
    #[test]
    fn what_links_to_a_post_shows_its_title(
        n in 1u32..=6,
        fields in proptest::collection::btree_set(
            proptest::sample::select(vec!["html", "lexical", "updated_at", "meta_title", "title", "feature_image", "visibility", "tags"]),
            1..4,
        ),
    ) {
        let blog = Blog::new();
        let values: Vec<_> = fields.iter().map(|field| {
            let value = if *field == "tags" { "[]" } else { r#""<p>Text</p>""# };
            format!(r#""{field}":{value}"#)
        }).collect();
        let event = Event::parse(post(n, "", &values.join(",")).as_bytes());
        let Concern::Pages(scope) = blog.concern(&event) else { panic!("everything for {fields:?}") };
        let own = target(&format!("/post-{n}/"));
        prop_assert!(scope.own.contains(&own) && scope.targets.first() == Some(&own), "{scope:?}");
        let set: BTreeSet<_> = scope.targets.iter().collect();
        prop_assert_eq!(set.len(), scope.targets.len(), "each once");
        prop_assert!(scope.own.is_subset(&scope.targets.iter().cloned().collect()));
        let text = ["html", "lexical", "updated_at", "meta_title"];
        if fields.iter().any(|field| !text.contains(field)) {
            for linking in blog.links.linking_to(&scope.own) {
                prop_assert!(set.contains(&linking), "{linking}");
            }
        } else {
            prop_assert!(!set.contains(&target(&format!("/post-{}/", if n == 1 { 2 } else { n - 1 }))), "{set:?}");
        }
        for always in ["/sitemap.xml", "/sitemap-posts.xml", "/llms.txt", "/ghost/api/content/posts/?key=1"] {
            prop_assert!(set.contains(&target(always)));
        }
        prop_assert!(!set.contains(&target("/robots.txt")) && !set.contains(&target("/content/images/a.png")));
    }
}
