//! What is rewritten, what is not, and the properties that hold for all pages.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::prelude::*;

use super::*;

fn rewriter(from: &str, to: &str) -> Rewriter {
    Rewriter::new(&from.parse().unwrap(), &to.parse().unwrap())
}

fn rewrite(from: &str, to: &str, text: &str) -> String {
    String::from_utf8(rewriter(from, to).whole(&Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
}

const HOME: &str = "https://blog.localhost:8443";
const OFFICE: &str = "https://blog.localhost:8444";
const SHORT: &str = "https://example.org";

#[test]
fn every_spelling() {
    let text = r#"
https://blog.localhost:8443/
http://blog.localhost:8443
<a href="//blog.localhost:8443/x">  url(//blog.localhost:8443/y)  srcset="a 1x,//blog.localhost:8443/z 2x"
{"url":"https:\/\/blog.localhost:8443\/about\/"}
share?u=https%3A%2F%2Fblog.localhost%3A8443%2Fabout%2F&v=https%3a%2f%2fblog.localhost%3a8443
nested?u=%3Fu%3Dhttps%253A%252F%252Fblog.localhost%253A8443%252F
"https:\u002F\u002Fblog.localhost:8443\u002Fabout"
"{\"u\":\"https:\\/\\/blog.localhost:8443\\/\",\"v\":\"https:\\\/\\\/blog.localhost:8443\\\/\"}"
https:&#x2F;&#x2F;blog.localhost:8443&#x2F; https&#58;&#47;&#47;blog.localhost&#58;8443
webcal://blog.localhost:8443/cal.ics HTTPS://BLOG.LocalHost:8443/
See https://blog.localhost:8443. And (https://blog.localhost:8443): “https://blog.localhost:8443”
https://blog.localhost:8443?x#y https://blog.localhost:8443%22
"#;
    insta::assert_snapshot!(rewrite(HOME, OFFICE, text), @r#"

    https://blog.localhost:8444/
    http://blog.localhost:8444
    <a href="//blog.localhost:8444/x">  url(//blog.localhost:8444/y)  srcset="a 1x,//blog.localhost:8444/z 2x"
    {"url":"https:\/\/blog.localhost:8444\/about\/"}
    share?u=https%3A%2F%2Fblog.localhost%3A8444%2Fabout%2F&v=https%3a%2f%2fblog.localhost%3a8444
    nested?u=%3Fu%3Dhttps%253A%252F%252Fblog.localhost%253A8444%252F
    "https:\u002F\u002Fblog.localhost:8444\u002Fabout"
    "{\"u\":\"https:\\/\\/blog.localhost:8444\\/\",\"v\":\"https:\\\/\\\/blog.localhost:8444\\\/\"}"
    https:&#x2F;&#x2F;blog.localhost:8444&#x2F; https&#58;&#47;&#47;blog.localhost&#58;8444
    webcal://blog.localhost:8444/cal.ics HTTPS://blog.localhost:8444/
    See https://blog.localhost:8444. And (https://blog.localhost:8444): “https://blog.localhost:8444”
    https://blog.localhost:8444?x#y https://blog.localhost:8444%22
    "#);
}

#[test]
fn other_hosts_are_left_alone() {
    for text in [
        "https://blog.localhost:84431/",
        "https://blog.localhost:844/",
        "https://blog.localhost/",
        "https://blog.localhost.evil/",
        "https://blog.localhost:8443.evil/",
        "https://blog.localhost:8443@evil.example/",
        "https://blog.localhost:8443%40evil.example/",
        "https://blog.localhost:8443-x",
        "https://www.blog.localhost:8443/",
        "https://xblog.localhost:8443/",
        "https://evil.example//blog.localhost:8443/",
        "https://user@blog.localhost:8443/",
        "blog.localhost:8443",
        "mailto:a@blog.localhost:8443",
        "",
    ] {
        assert_eq!(rewrite(HOME, OFFICE, text), text);
    }
    for text in [
        "https://example.org:8443/",
        "https://example.org%3A8443/",
        "https://example.org.evil/",
        "https://example.organic/",
        "https://example.org@evil/",
        "https://www.example.org/",
    ] {
        assert_eq!(rewrite(SHORT, HOME, text), text);
    }
}

#[test]
fn a_port_comes_and_goes() {
    let text = r"https://example.org/ https%3A%2F%2Fexample.org%2F https%3a%2f%2fexample.org https:\/\/example.org\/";
    let there = rewrite(SHORT, HOME, text);
    insta::assert_snapshot!(there, @r"https://blog.localhost:8443/ https%3A%2F%2Fblog.localhost%3A8443%2F https%3a%2f%2fblog.localhost%3a8443 https:\/\/blog.localhost:8443\/");
    assert_eq!(rewrite(HOME, SHORT, &there), text);
}

#[test]
fn fields_of_answers_and_requests() {
    let mut answer = HeaderMap::from_iter([
        (header::LOCATION, HeaderValue::from_static("https://blog.localhost:8443/a/")),
        (header::LINK, HeaderValue::from_static("<https://blog.localhost:8443/b/>; rel=canonical")),
        (header::ETAG, HeaderValue::from_static("\"1\"")),
        (header::CONTENT_LENGTH, HeaderValue::from_static("9")),
    ]);
    let there = rewriter(HOME, OFFICE);
    there.response_fields(&mut answer, true);
    assert_eq!(answer[header::LOCATION], "https://blog.localhost:8444/a/");
    assert_eq!(answer[header::LINK], "<https://blog.localhost:8444/b/>; rel=canonical");
    assert!(!answer.contains_key(header::CONTENT_LENGTH));
    let tag = answer[header::ETAG].to_str().unwrap().to_owned();
    assert!(tag.starts_with("W/\"1-") && tag.ends_with('"'), "{tag}");

    let mut request = HeaderMap::from_iter([
        (header::ORIGIN, HeaderValue::from_static("https://blog.localhost:8444")),
        (header::REFERER, HeaderValue::from_static("https://blog.localhost:8444/ghost/")),
        (header::IF_NONE_MATCH, HeaderValue::try_from(format!("\"x\", {tag}")).unwrap()),
    ]);
    rewriter(OFFICE, HOME).request_fields(&mut request);
    assert_eq!(request[header::ORIGIN], "https://blog.localhost:8443");
    assert_eq!(request[header::REFERER], "https://blog.localhost:8443/ghost/");
    assert_eq!(request[header::IF_NONE_MATCH], "\"x\", W/\"1\"");
}

/// What becomes of a cookie for `domain`, set at `https://shop.example.org` and asked for as `other`.
fn cookie(domain: &str, other: &str) -> String {
    let cookie = format!("s=a=b; Path=/; {domain}Secure; HttpOnly");
    let mut answer = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::try_from(cookie).unwrap())]);
    answer.append(header::SET_COOKIE, HeaderValue::from_static("plain=1"));
    rewriter("https://shop.example.org", other).response_fields(&mut answer, false);
    let mut cookies = answer.get_all(header::SET_COOKIE).iter();
    let first = cookies.next().unwrap().to_str().unwrap().to_owned();
    assert_eq!(cookies.next().unwrap(), "plain=1");
    first
}

#[test]
fn cookies_are_for_the_name_that_was_asked() {
    let own = "s=a=b; Path=/; Secure; HttpOnly";
    for domain in ["Domain=shop.example.org; ", "domain=.Shop.Example.Org ; ", "Domain=example.org; "] {
        assert_eq!(cookie(domain, "https://shop.example.net"), own, "{domain}");
    }
    assert_eq!(cookie("", "https://shop.example.net"), own);
    // Both names are in it, or neither is: then nobody could set it before.
    assert!(cookie("Domain=example.org; ", "https://www.example.org").contains("Domain=example.org"));
    assert!(cookie("Domain=evil.example; ", "https://shop.example.net").contains("Domain=evil.example"));
    assert!(cookie("Domain=hop.example.org; ", "https://shop.example.net").contains("Domain=hop"));
}

#[test]
fn kinds_of_text() {
    let applies = |kind: &str| {
        let name: HeaderName = header::CONTENT_TYPE;
        applies_to(&HeaderMap::from_iter([(name, HeaderValue::from_str(kind).unwrap())]))
    };
    for kind in [
        "text/html; charset=utf-8",
        "application/rss+xml",
        "TEXT/CSS",
        "application/ld+json",
        "image/svg+xml",
        "application/x-www-form-urlencoded",
    ] {
        assert!(applies(kind), "{kind}");
    }
    for kind in [
        "image/png",
        "application/octet-stream",
        "font/woff2",
        "application/pdf",
        "multipart/form-data; boundary=x",
        "",
    ] {
        assert!(!applies(kind), "{kind}");
    }
}

/// Pieces of which pages are made: spellings, near misses, parts of both, and anything.
fn page(host: &'static str, port: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let colon = if port.is_empty() { "" } else { ":" };
    let encoded = if port.is_empty() { "" } else { "%3A" };
    let spelled = vec![
        format!("https://{host}{colon}{port}"),
        format!("\"//{host}{colon}{port}/"),
        format!(r"https:\/\/{host}{colon}{port}\/"),
        format!("https%3A%2F%2F{host}{encoded}{port}%2F"),
        format!("https:&#x2F;&#x2F;{host}{colon}{port}"),
        format!("//{host}"),
        host.to_owned(),
        format!("https://{host}.evil"),
        format!("{colon}{port}1"),
    ];
    let part = prop_oneof![
        4 => proptest::sample::select(spelled).prop_map(String::into_bytes),
        2 => "[ -~]{0,12}".prop_map(String::into_bytes),
        2 => proptest::sample::select(vec!["/", ":", ".", "%", "\"", " ", "@", "\\/", "%2F", "8"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn in_pieces(rewriter: &Rewriter, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut stream = rewriter.stream();
    let mut out = Vec::new();
    let mut rest = text;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        out.extend_from_slice(&stream.push(piece));
        rest = after;
    }
    out.extend_from_slice(&stream.finish());
    out
}

proptest! {
    #[test]
    fn cuts_do_not_matter(text in page("blog.localhost", "8443"), cuts in proptest::collection::vec(1usize..40, 1..6)) {
        let rewriter = rewriter(HOME, SHORT);
        let whole = rewriter.whole(&Bytes::from(text.clone()));
        prop_assert_eq!(in_pieces(&rewriter, &text, &cuts), whole.to_vec());
    }

    #[test]
    fn cuts_do_not_matter_without_a_port(text in page("example.org", ""), cuts in proptest::collection::vec(1usize..40, 1..6)) {
        let rewriter = rewriter(SHORT, HOME);
        let whole = rewriter.whole(&Bytes::from(text.clone()));
        prop_assert_eq!(in_pieces(&rewriter, &text, &cuts), whole.to_vec());
    }

    /// Whatever ends with a line goes out with it.
    #[test]
    fn lines_are_not_held_back(text in page("blog.localhost", "8443"), before in page("blog.localhost", "8443")) {
        let rewriter = rewriter(HOME, SHORT);
        let text = [&before[..], &text[..], b"\n"].concat();
        let mut stream = rewriter.stream();
        let mut out = stream.push(&text[..before.len()]).to_vec();
        out.extend_from_slice(&stream.push(&text[before.len()..]));
        prop_assert_eq!(&out, &rewriter.whole(&Bytes::from(text)));
        prop_assert!(stream.finish().is_empty());
    }

    /// Nothing is left of the origin, and the way back gives the same bytes.
    #[test]
    fn there_and_back(text in page("blog.localhost", "8443")) {
        let text = Bytes::from(text);
        let (there, back) = (rewriter(HOME, "https://m.example.net:9"), rewriter("https://m.example.net:9", HOME));
        let rewritten = there.whole(&text);
        prop_assert_eq!(there.whole(&rewritten), rewritten.clone());
        prop_assert_eq!(back.whole(&rewritten), text);
    }

    #[test]
    fn other_bytes_pass(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = Bytes::from(text);
        prop_assert_eq!(rewriter(HOME, OFFICE).whole(&text), text);
    }
}
