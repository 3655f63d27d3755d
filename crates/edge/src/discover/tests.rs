//! Pages like Ghost's, and anything at all.

use proptest::prelude::*;

use super::*;

fn found(kind: Kind, base: &str, body: &str) -> String {
    let base = Target::parse(base).unwrap();
    let canonical = "https://blog.localhost:8443".parse().unwrap();
    let links = links(kind, &base, &canonical, &EdgeApp::Ghost, body.as_bytes());
    links.iter().map(Target::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn html() {
    let page = r##"<!DOCTYPE html><html><head>
<link rel="stylesheet" type=text/css href="/assets/built/screen.css?v=1ab2">
<link rel=canonical href=https://blog.localhost:8443/hello/>
<LINK REL='alternate' HREF='https://blog.localhost:8443/rss/'/>
<meta property="og:image" content="https://blog.localhost:8443/content/images/a&amp;b.png">
<meta name="twitter:url" content="https://blog.localhost:8443/hello/#top">
<meta name="description" content="/not/an/address">
<style>@import "more.css"; body { background: URL( '/bg.png' ) } .x { src: url(data:font/woff2;base64,AA==) }</style>
<script src="/assets/a.js"></script><script>var x = "<a href='/in/script'>";</script>
<!-- <a href="/in/comment"> -->
</head><body style="background:url(&quot;/body.png&quot;)">
<a href="../about/">About</a> <a href="?page=2">Next</a> <a href="#here">Here</a> <a href="">Self</a>
<a href="//blog.localhost:8443/protocol-relative/">p</a> <a href="//other.example/x">o</a>
<a href="http://blog.localhost:8443/plain/">http</a> <a href="https://blog.localhost:84431/no">no</a>
<a href="mailto:a@blog.localhost">m</a> <a href="javascript:void(0)">j</a>
<a href="/ghost/#/editor">admin</a> <a href="/members/?x">members</a> <a href="/p/1234/">preview</a>
<a href="/../../etc/passwd">out</a> <a href="/a//b">twice</a> <a href="/caf&#233; au lait/">space</a>
<img src=/content/images/x.jpg srcset="/content/images/size/w300/x.jpg 300w, /content/images/size/w600/x.jpg 600w,/y,z.jpg" loading="lazy">
<video poster=/v.png><source src="/v.mp4"></video><broken href="/broken
"##;
    insta::assert_snapshot!(found(Kind::Html, "/hello/", page));
}

#[test]
fn css() {
    let sheet = r#"@import 'a.css'; @import url("b.css") screen; @font-face { src: url(../fonts/f.woff2?v=1) format("woff2"), url("https://blog.localhost:8443/g.woff") }
.x { background: image-set(url(/i.png) 1x) } .y { background: url(https://other.example/z.png) } .z { background: url("unclosed "#;
    insta::assert_snapshot!(found(Kind::Css, "/assets/built/screen.css?v=1", sheet));
}

#[test]
fn sitemap() {
    let sitemap = r#"<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="//blog.localhost:8443/sitemap.xsl"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>https://blog.localhost:8443/one/</loc>
<image:image><image:loc> https://blog.localhost:8443/content/images/1.png </image:loc></image:image></url></urlset>"#;
    insta::assert_snapshot!(found(Kind::Xml, "/sitemap-posts.xml", sitemap));
}

#[test]
fn feed() {
    let feed = r#"<rss><channel><title>x</title><link>https://blog.localhost:8443/</link>
<atom:link href="https://blog.localhost:8443/rss/" rel="self"/><item><link>https://blog.localhost:8443/two/</link>
<guid isPermaLink="false">0123</guid><media:content url="https://blog.localhost:8443/content/images/2.png"/>
<content:encoded><![CDATA[<p><a href="https://blog.localhost:8443/three/">3</a></p>]]></content:encoded>
<description>&lt;a href=&quot;https://blog.localhost:8443/four/&quot;&gt;</description></item></channel></rss>"#;
    insta::assert_snapshot!(found(Kind::Xml, "/rss/", feed));
}

#[test]
fn seeds_are_mirrored() {
    for app in [EdgeApp::Ghost, EdgeApp::Static] {
        assert!(seeds(&app).iter().all(|seed| is_mirrored(&app, seed)));
    }
}

proptest! {
    #[test]
    fn never_panics_and_stays_at_home(
        body in "(<|>|=|\"|'|&|;|/|href|src|srcset|url\\(|@import|<!--|<style|<loc>|&#x|https://blog.localhost:8443|\\.\\./|[a-z0-9 ,?#%]|\\PC){0,60}",
        base in "/([a-z]{1,3}/){0,3}",
    ) {
        let base = Target::parse(&base).unwrap();
        let canonical = "https://blog.localhost:8443".parse().unwrap();
        for kind in [Kind::Html, Kind::Css, Kind::Xml] {
            for target in links(kind, &base, &canonical, &EdgeApp::Ghost, body.as_bytes()) {
                prop_assert!(is_mirrored(&EdgeApp::Ghost, &target));
                prop_assert_eq!(Target::parse(target.as_str()), Ok(target));
            }
        }
    }

    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let canonical = "https://blog.localhost:8443".parse().unwrap();
        for kind in [Kind::Html, Kind::Css, Kind::Xml] {
            links(kind, &Target::parse("/").unwrap(), &canonical, &EdgeApp::Static, &body);
        }
    }
}
