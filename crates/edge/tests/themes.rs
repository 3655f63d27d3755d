//! Real pages under other names: what Ghost's own themes render, by `themes/ORIGIN.md`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use sovereign_edge::rewrite::Rewriter;

const CANONICAL: &str = "https://blog.localhost:8443";
/// Shorter and longer names, with a port and without.
const OTHERS: [&str; 5] = [
    "https://blog.localhost:8444",
    "https://b.ch",
    "https://b.ch:9",
    "https://a-very-long-name-indeed.of-a-mirror.somewhere.example.org",
    "https://2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:18443",
];

const PAGES: [(&str, &[u8]); 8] = [
    ("casper-home.html", include_bytes!("themes/casper-home.html")),
    ("casper-cards.html", include_bytes!("themes/casper-cards.html")),
    ("casper-missing.html", include_bytes!("themes/casper-missing.html")),
    ("source-home.html", include_bytes!("themes/source-home.html")),
    ("source-cards.html", include_bytes!("themes/source-cards.html")),
    ("feed.xml", include_bytes!("themes/feed.xml")),
    ("sitemap-posts.xml", include_bytes!("themes/sitemap-posts.xml")),
    ("llms.txt", include_bytes!("themes/llms.txt")),
];

fn rewriter(from: &str, to: &str) -> Rewriter {
    Rewriter::new(&from.parse().unwrap(), &to.parse().unwrap())
}

fn in_pieces(rewriter: &Rewriter, text: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut stream = rewriter.stream();
    let (mut out, mut rest) = (Vec::new(), text);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        out.extend_from_slice(&stream.push(piece));
        rest = after;
    }
    out.extend_from_slice(&stream.finish());
    out
}

/// The page as it should be under the other name, by plain replacement: what must stay is put aside and back.
fn expected(page: &str, other: &str) -> String {
    const STAYS: [&str; 3] = [" and blog.localhost:8443", "x.blog.localhost:8443", "blog.localhost:8443.evil"];
    let authority = other.strip_prefix("https://").unwrap();
    let aside = |text: &str, at: usize| text.replace(STAYS[at], &format!("\u{1}{at}\u{2}"));
    let back = |text: String, at: usize| text.replace(&format!("\u{1}{at}\u{2}"), STAYS[at]);
    let put_aside = (0..STAYS.len()).fold(page.to_owned(), |text, at| aside(&text, at));
    let replaced = put_aside
        .replace("blog.localhost:8443", authority)
        .replace("blog.localhost%3A8443", &authority.replace(':', "%3A"));
    (0..STAYS.len()).fold(replaced, back)
}

#[test]
fn pages_are_equal_but_for_the_origin() {
    for (name, page) in PAGES {
        let text = std::str::from_utf8(page).unwrap();
        assert!(text.contains("blog.localhost:8443"), "{name} spells its origin");
        for other in OTHERS {
            let rewritten = rewriter(CANONICAL, other).whole(&Bytes::from_static(page));
            let rewritten = std::str::from_utf8(&rewritten).unwrap();
            for (number, (here, there)) in rewritten.lines().zip(expected(text, other).lines()).enumerate() {
                assert_eq!(here, there, "{name}:{} under {other}", number + 1);
            }
            assert_eq!(rewritten, expected(text, other), "{name} under {other}");
        }
    }
}

#[test]
fn the_way_back_gives_the_same_bytes() {
    for (name, page) in PAGES {
        for other in OTHERS {
            let there = rewriter(CANONICAL, other).whole(&Bytes::from_static(page));
            assert!(rewriter(other, CANONICAL).whole(&there) == page, "{name} to {other} and back");
        }
    }
}

/// Pieces of one size cut every spelling at every place, as the sizes go by.
#[test]
fn pieces_of_every_size_give_the_same_page() {
    let longest = "https%3A%2F%2Fblog.localhost%3A8443".len() + 12;
    for (name, page) in PAGES {
        for other in [OTHERS[1], OTHERS[4]] {
            let rewriter = rewriter(CANONICAL, other);
            let whole = rewriter.whole(&Bytes::from_static(page));
            for size in 1..=longest {
                assert!(in_pieces(&rewriter, page, &[size]) == whole, "{name} to {other} in pieces of {size}");
            }
        }
    }
}

#[test]
fn a_page_without_the_origin_is_not_even_copied() {
    for (name, page) in PAGES {
        let page = Bytes::from_static(page);
        for from in [
            "https://blog.localhost",
            "https://blog.localhost:844",
            "https://blog.localhost:44",
            "https://localhost:8443",
            "https://log.localhost:8443",
            "https://evil.example",
        ] {
            let rewriter = rewriter(from, OTHERS[3]);
            assert_eq!(rewriter.whole(&page).as_ptr(), page.as_ptr(), "{name} from {from}");
            assert!(in_pieces(&rewriter, &page, &[7]) == page, "{name} from {from}");
        }
    }
}

/// One name may begin or end another: a page of one is not touched on behalf of the other.
#[test]
fn a_name_within_a_name_is_another_name() {
    let names = [
        "https://blog.example.org",
        "https://blog.example.organic",
        "https://example.org",
        "https://blog.example.org:8443",
        "https://my-blog.example.org",
        "https://blog.example.org.example.net",
    ];
    for own in names {
        for (name, page) in PAGES {
            let page = rewriter(CANONICAL, own).whole(&Bytes::from_static(page));
            for foreign in names.iter().filter(|foreign| **foreign != own) {
                let touched = rewriter(foreign, OTHERS[0]).whole(&page);
                assert!(touched == page, "{name} of {own} is touched on behalf of {foreign}");
            }
        }
    }
}

#[test]
fn json_in_pages_stays_json() {
    for (name, page) in PAGES.iter().filter(|(name, _)| name.ends_with("-cards.html")) {
        let original = scripts(std::str::from_utf8(page).unwrap());
        assert!(original.len() >= 3, "{name} has JSON-LD of Ghost and of its author, and data");
        for other in OTHERS {
            let rewritten = rewriter(CANONICAL, other).whole(&Bytes::from_static(page));
            let rewritten = scripts(std::str::from_utf8(&rewritten).unwrap());
            let renamed: Vec<Value> = original.iter().map(|value| renamed(value, other)).collect();
            assert_eq!(rewritten, renamed, "{name} under {other}");
        }
    }
}

/// What is in a page's scripts of data.
fn scripts(page: &str) -> Vec<Value> {
    let data = page.split("<script type=\"application/").skip(1);
    data.map(|script| {
        let text = script.split_once('>').unwrap().1.split("</script>").next().unwrap();
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    })
    .collect()
}

fn renamed(value: &Value, other: &str) -> Value {
    let authority = other.strip_prefix("https://").unwrap();
    match value {
        Value::String(text) => text.replace("//blog.localhost:8443", &format!("//{authority}")).into(),
        Value::Array(list) => list.iter().map(|value| renamed(value, other)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), renamed(value, other))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_give_the_same_page(
        page in proptest::sample::select(PAGES.to_vec()),
        other in proptest::sample::select(OTHERS.to_vec()),
        sizes in proptest::collection::vec(1usize..5000, 1..20),
    ) {
        let rewriter = rewriter(CANONICAL, other);
        let whole = rewriter.whole(&Bytes::from_static(page.1));
        prop_assert!(in_pieces(&rewriter, page.1, &sizes) == whole, "{} to {other}", page.0);
    }

    /// A text that ends after a line is given out with that line, or events would wait for one another.
    #[test]
    fn lines_are_not_held_back(
        page in proptest::sample::select(PAGES.to_vec()),
        other in proptest::sample::select(OTHERS.to_vec()),
    ) {
        let rewriter = rewriter(CANONICAL, other);
        let mut stream = rewriter.stream();
        let (mut so_far, mut out) = (0, Vec::new());
        for line in page.1.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            so_far += line.len();
            out.extend_from_slice(&stream.push(line));
            prop_assert_eq!(out.len(), rewriter.whole(&Bytes::from_static(&page.1[..so_far])).len());
        }
    }
}
