//! Real pages of Ghost's own themes under another name of the site: every card, every spelling of the origin, every
//! theme, judged by Python's own parsers.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CANONICAL, FAR, HOME, OFFICE, Staff};
use crate::support::{Curled, Operator, eventually};

/// Ghost's own themes, and what only their pages ask for. Ends with the one that was there at first.
const THEMES: [(&str, &str); 2] = [("casper", "/assets/built/casper.js"), ("source", "/assets/built/source.js")];

/// What is compared: pages, feeds, sitemaps, texts, and an answer that is no page.
const PATHS: [&str; 9] = [
    "/cards/",
    "/",
    "/tag/news/",
    "/about/",
    "/rss/",
    "/sitemap.xml",
    "/sitemap-posts.xml",
    "/robots.txt",
    "/llms.txt",
];

/// A post with every kind of card is published, and read under both names in every theme.
pub(super) fn pages_are_equal_but_for_the_origin(operator: &Operator, staff: &Staff<'_>, image: &str) {
    let post = json!({
        "title": "Cards", "slug": "cards", "status": "published", "tags": ["News"], "feature_image": image,
        "lexical": lexical(image).to_string(), "codeinjection_head": head(),
    });
    staff.call("POST", "/ghost/api/admin/posts/", Some(&json!({ "posts": [post] }))).is(201);
    for (theme, script) in THEMES {
        staff.call("PUT", &format!("/ghost/api/admin/themes/{theme}/activate/"), Some(&json!({}))).ok();
        let folder = operator.home().join(theme);
        fs::create_dir(&folder).unwrap();
        let mut kinds = String::new();
        for (number, path) in PATHS.iter().enumerate() {
            let (own, other) = eventually(&format!("{path} in {theme} at both"), Duration::from_secs(20), || {
                let near = operator.curl(CANONICAL, HOME, path, &[]).ok();
                let far = operator.curl(CANONICAL, OFFICE, path, &[]).ok();
                let other = operator.curl(FAR, OFFICE, path, &[]).ok();
                let kind = far.header("content-type").unwrap_or_default();
                let is_of_theme = !kind.contains("html") || far.text().contains(script);
                let equal = near.body == far.body && other.text().replace(FAR, CANONICAL).len() == far.text().len();
                (is_of_theme && equal).then_some((far, other))
            });
            fs::write(folder.join(format!("{number}.own")), &own.body).unwrap();
            fs::write(folder.join(format!("{number}.other")), &other.body).unwrap();
            writeln!(kinds, "{number} {}", other.header("content-type").unwrap()).unwrap();
            heads_are_honest(operator, path, &own, &other);
        }
        fs::write(folder.join("kinds"), kinds).unwrap();
        let judged = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/renamed/judge.py"))
            .arg(&folder)
            .args([CANONICAL, FAR])
            .output()
            .unwrap();
        assert!(judged.status.success(), "{theme}: {}", String::from_utf8_lossy(&judged.stderr));
        let data: u32 = String::from_utf8_lossy(&judged.stdout).trim().parse().unwrap();
        assert!(data >= 2, "{theme}: {data} scripts of data were read");
    }
}

/// Length, tag, parts and `HEAD` are those of the page that this reader gets.
fn heads_are_honest(operator: &Operator, path: &str, own: &Curled, other: &Curled) {
    let length = other.header("content-length").map(|length| length.parse::<usize>().unwrap());
    assert_eq!(length, Some(other.body.len()), "{path}: {}", other.head);
    let tag = other.header("etag").unwrap();
    assert_ne!(own.header("etag").unwrap(), tag, "{path}");
    let links = own.header("link").map(|link| link.replace(CANONICAL, FAR));
    assert_eq!(other.header("link"), links, "{path}");
    let lasting = |answer: &Curled| {
        let moment = ["age:", "date:", "cache-status:"];
        let lines = answer.head.lines().filter(|line| !moment.iter().any(|field| line.starts_with(field)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let head = operator.curl(FAR, OFFICE, path, &["--head"]).ok();
    assert_eq!(lasting(&head), lasting(other), "{path}: HEAD says what GET says");
    let known = format!("If-None-Match: {tag}");
    operator.curl(FAR, OFFICE, path, &["--header", &known]).is(304);
    let part = operator.curl(FAR, OFFICE, path, &["--range", "50-149"]).is(206);
    let (first, last) = (50, other.body.len().min(150));
    assert_eq!(part.body, other.body[first..last], "{path}");
    let place = format!("bytes {first}-{}/{}", last - 1, other.body.len());
    assert_eq!(part.header("content-range"), Some(place), "{path}");
}

/// What an author puts into a page's head by hand.
fn head() -> String {
    let escaped = format!(r"https:\/\/{}", CANONICAL);
    format!(
        r#"<link rel="alternate" hreflang="en" href="https://{CANONICAL}/"><meta property="og:url" content="https://{CANONICAL}/cards/">
<style>body {{ --own: url(//{CANONICAL}/q.png); background: url("https://{CANONICAL}/r.png") }}</style>
<script type="application/ld+json">{{"@context":"https://schema.org","@id":"{escaped}\/#me","url":"https://{CANONICAL}/"}}</script>"#
    )
}

/// Markup by hand, with the origin in every spelling that an author's tools write.
fn markup() -> String {
    let encoded = CANONICAL.replace(':', "%3A");
    format!(
        r#"<script type="application/json" id="data">{{"a":"https:\/\/{CANONICAL}\/x","b":"https://{CANONICAL}/y","c":"\u002f\u002f{CANONICAL}/z"}}</script>
<script>window.where = ["https:\/\/{CANONICAL}\/about\/", "//{CANONICAL}/rss/"];</script>
<div style="background:url(//{CANONICAL}/a.png)">x</div><div style='background-image:url("https://{CANONICAL}/b.png")'>y</div>
<a href="https://social.example/share?u=https%3A%2F%2F{encoded}%2Fcards%2F&amp;t=x">share</a>
<a href="https:&#x2F;&#x2F;{CANONICAL}&#x2F;cards&#x2F;">entities</a> <a href="//{CANONICAL}/rss/">plain</a>
<img srcset="https://{CANONICAL}/a.png 1x, //{CANONICAL}/b.png 2x,https://{CANONICAL}/c.png 3x" src="//{CANONICAL}/a.png" alt="">
<a href="https://x.{CANONICAL}/">another host</a>"#
    )
}

/// Every kind of card that can carry an address, in the form that Ghost's editor keeps.
fn lexical(image: &str) -> Value {
    let own = format!("https://{CANONICAL}");
    let text = |text: String| json!({ "type": "extended-text", "version": 1, "text": text, "detail": 0, "format": 0, "mode": "normal", "style": "" });
    let link = json!({ "type": "link", "version": 1, "direction": "ltr", "format": "", "indent": 0, "rel": null, "target": null,
                       "title": null, "url": format!("{own}/about/"), "children": [text("an own link".into())] });
    let picture = |row: u8| json!({ "row": row, "fileName": "a.png", "src": image, "width": 2000, "height": 1500 });
    let thumbnail = json!({ "icon": format!("{own}/favicon.ico"), "title": "Own", "description": "My own", "author": null,
                            "publisher": "Me", "thumbnail": image });
    let children = json!([
        { "type": "paragraph", "version": 1, "direction": "ltr", "format": "", "indent": 0,
          "children": [text("Words with ".into()), link, text(format!(" at {own}/ and {CANONICAL}."))] },
        { "type": "image", "version": 1, "src": image, "width": 2000, "height": 1500, "title": "", "alt": "a",
          "caption": format!("<a href=\"{own}/\">caption</a>"), "cardWidth": "wide", "href": format!("{own}/about/") },
        { "type": "gallery", "version": 1, "caption": "", "images": [picture(0), picture(0), picture(1)] },
        { "type": "bookmark", "version": 1, "url": format!("{own}/"), "caption": "", "metadata": thumbnail },
        { "type": "html", "version": 1, "html": markup() },
        { "type": "codeblock", "version": 1, "code": format!("curl {own}/ # <a href=\"//{CANONICAL}/\">"),
          "language": "sh", "caption": "" },
        { "type": "embed", "version": 1, "url": format!("{own}/"), "embedType": "rich", "metadata": {}, "caption": "",
          "html": format!("<iframe src=\"{own}/rss/\" title=\"x\"></iframe>") },
        { "type": "toggle", "version": 1, "heading": "Toggle", "content": format!("<p><a href=\"{own}/\">in</a></p>") },
        { "type": "file", "version": 1, "src": format!("{own}/content/files/a.txt"), "fileTitle": "A", "fileCaption": "",
          "fileName": "a.txt", "fileSize": 10 },
        { "type": "audio", "version": 1, "src": format!("{own}/content/media/a.mp3"), "title": "A", "duration": 10,
          "mimeType": "audio/mpeg", "thumbnailSrc": image },
        { "type": "video", "version": 1, "src": format!("{own}/content/media/a.mp4"), "caption": "", "fileName": "a.mp4",
          "mimeType": "video/mp4", "width": 640, "height": 360, "duration": 3, "thumbnailSrc": image,
          "customThumbnailSrc": "", "thumbnailWidth": 640, "thumbnailHeight": 360, "cardWidth": "regular", "loop": false },
        { "type": "button", "version": 1, "buttonText": "Go", "alignment": "center", "buttonUrl": format!("{own}/about/") },
        { "type": "callout", "version": 1, "calloutText": format!("<p>See <a href=\"{own}/\">here</a></p>"),
          "calloutEmoji": "", "backgroundColor": "blue" },
        { "type": "markdown", "version": 1, "markdown": format!("[md]({own}/about/) `{own}/`") },
    ]);
    json!({ "root": { "type": "root", "version": 1, "direction": "ltr", "format": "", "indent": 0, "children": children } })
}
