//! A blog as Ghost's usual theme shows one: posts with neighbours, lists, archives of tags, a feed, a sitemap; and what
//! Ghost says when one of them changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::origin::{Origin, Page};

/// Posts on one page of a list.
const PER_PAGE: usize = 25;
const IN_FEED: usize = 15;

#[derive(Clone)]
pub struct Post {
    pub number: usize,
    pub title: String,
    pub text: String,
    pub tag: String,
}

/// Posts, the newest last.
pub struct Blog {
    pub posts: Vec<Post>,
    tags: usize,
    /// How often something was saved.
    saved: usize,
    pub cache_control: &'static str,
}

impl Post {
    pub fn path(&self) -> String {
        format!("/post-{}/", self.number)
    }
}

impl Blog {
    pub fn new(posts: usize, tags: usize) -> Self {
        let mut blog = Self { posts: Vec::new(), tags, saved: 0, cache_control: "public, max-age=0" };
        (0..posts).for_each(|_| drop(blog.write()));
        blog
    }

    /// A new post; what Ghost says.
    pub fn write(&mut self) -> String {
        let number = self.posts.last().map_or(0, |post| post.number) + 1;
        let tag = format!("tag-{}", number % self.tags);
        let text = format!("<p>{}</p>", "What it says. ".repeat(60));
        self.posts.push(Post { number, title: format!("Post {number}"), text, tag });
        let current = self.fields(self.posts.len() - 1);
        said("post.published", current, json!({}))
    }

    /// Another end to the text of a post; what Ghost says.
    pub fn edit_text(&mut self, at: usize) -> String {
        let before = self.posts[at].text.clone();
        self.posts[at].text.push_str("<p>More.</p>");
        self.saved += 1;
        said("post.published.edited", self.fields(at), json!({ "html": before, "updated_at": "before" }))
    }

    /// Another title for a post; what Ghost says.
    pub fn rename(&mut self, at: usize) -> String {
        let before = self.posts[at].title.clone();
        self.posts[at].title.push('!');
        self.saved += 1;
        said("post.published.edited", self.fields(at), json!({ "title": before, "updated_at": "before" }))
    }

    /// A post less; what Ghost says, twice about one thing.
    pub fn delete(&mut self, at: usize) -> [String; 2] {
        let mut fields = self.fields(at);
        fields.as_object_mut().unwrap().remove("url");
        self.posts.remove(at);
        ["post.unpublished", "post.deleted"].map(|event| said(event, json!({}), fields.clone()))
    }

    fn fields(&self, at: usize) -> Value {
        let post = &self.posts[at];
        let saved = format!("2026-11-25T{:02}:{:02}:00.000Z", self.saved / 60 % 24, self.saved % 60);
        json!({
            "id": post.number.to_string(), "slug": format!("post-{}", post.number), "status": "published",
            "title": post.title, "html": post.text, "url": format!("{{origin}}{}", post.path()),
            "published_at": saved, "updated_at": saved,
            "tags": [{ "slug": post.tag, "visibility": "public", "url": format!("{{origin}}/tag/{}/", post.tag) }],
            "authors": [{ "slug": "owner", "url": "{origin}/author/owner/" }],
        })
    }

    /// All pages as they are now.
    pub fn pages(&self) -> BTreeMap<String, String> {
        let mut pages = BTreeMap::new();
        let newest_first: Vec<&Post> = self.posts.iter().rev().collect();
        let mut list = |base: &str, posts: &[&Post]| {
            let count = posts.len().div_ceil(PER_PAGE).max(1);
            for (n, part) in posts.chunks(PER_PAGE).enumerate() {
                let mut body = format!("<title>{base}</title>");
                part.iter().for_each(|post| card(&mut body, post));
                if n + 1 < count {
                    write!(body, "<a href=\"{base}page/{}/\">older</a>", n + 2).unwrap();
                }
                let path = if n == 0 { base.to_owned() } else { format!("{base}page/{}/", n + 1) };
                pages.insert(path, page(&body));
            }
        };
        list("/", &newest_first);
        list("/author/owner/", &newest_first);
        for tag in 0..self.tags {
            let tag = format!("tag-{tag}");
            let tagged: Vec<&Post> = newest_first.iter().filter(|post| post.tag == tag).copied().collect();
            list(&format!("/tag/{tag}/"), &tagged);
        }
        for (at, post) in self.posts.iter().enumerate() {
            let mut body = format!("<h1>{}</h1>{}<a href=\"/tag/{}/\">tag</a>", post.title, post.text, post.tag);
            body.push_str("<a href=\"/author/owner/\">owner</a>");
            let before = at.checked_sub(1).and_then(|before| self.posts.get(before));
            for neighbour in [before, self.posts.get(at + 1)].into_iter().flatten() {
                card(&mut body, neighbour);
            }
            pages.insert(post.path(), page(&body));
        }
        pages.insert("/about/".to_owned(), page("<p>about</p>"));
        let mut feed = "<rss><channel><link>{origin}/</link>".to_owned();
        for post in newest_first.iter().take(IN_FEED) {
            let (title, text) = (&post.title, &post.text);
            let link = format!("{{origin}}{}", post.path());
            write!(feed, "<item><title>{title}</title><link>{link}</link><x><![CDATA[{text}]]></x></item>").unwrap();
        }
        pages.insert("/rss/".to_owned(), format!("{feed}</channel></rss>"));
        let mut map = "<urlset>".to_owned();
        self.posts.iter().for_each(|post| write!(map, "<loc>{{origin}}{}</loc>", post.path()).unwrap());
        pages.insert("/sitemap-posts.xml".to_owned(), format!("{map}</urlset>"));
        pages.insert(
            "/sitemap.xml".to_owned(),
            format!("<loc>{{origin}}/sitemap-posts.xml</loc><!-- {} -->", self.posts.len()),
        );
        pages
    }

    /// Makes the application show the blog as it is now; which pages are other ones than before.
    pub fn show(&self, origin: &Origin, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let pages = self.pages();
        for (path, body) in &pages {
            if before.get(path) != Some(body) {
                let kind = if body.starts_with("<!doctype") { "text/html" } else { "application/xml" };
                origin.put(path, Page::of(kind, self.cache_control, body.clone()));
            }
        }
        before.keys().filter(|path| !pages.contains_key(*path)).for_each(|path| origin.remove(path));
        pages
    }
}

fn said(event: &str, current: Value, previous: Value) -> String {
    json!({ "event": event, "post": { "current": current, "previous": previous } }).to_string()
}

fn card(body: &mut String, post: &Post) {
    write!(body, "<article><a href=\"{}\">{}</a></article>", post.path(), post.title).unwrap();
}

fn page(body: &str) -> String {
    format!("<!doctype html><a href=\"/\">home</a><a href=\"/about/\">about</a>{body}")
}
