//! Pages: what is read in them, and what is written into them.

use bytes::Bytes;
use sovereign_edge::discover::{Kind, links};
use sovereign_edge::rewrite::Rewriter;
use sovereign_edge::route::Target;
use sovereign_model::Origin;
use sovereign_model::edge_config::EdgeApp;

fn origin(text: &str) -> Origin {
    text.parse().expect("an origin")
}

/// A page in pieces comes out as the page in one; the first byte says how long the pieces are.
pub(crate) fn rewrite(data: &[u8]) {
    let Some((&cut, page)) = data.split_first() else { return };
    let names = ["https://b.test", "https://b.test:8443", "https://elsewhere.example:8444"].map(origin);
    for (from, to) in [(0, 1), (1, 0), (1, 2)] {
        let rewriter = Rewriter::new(&names[from], &names[to]);
        let whole = rewriter.whole(&Bytes::copy_from_slice(page));
        let mut stream = rewriter.stream();
        let mut pieces = Vec::new();
        let mut rest = page;
        let mut step = usize::from(cut);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(step % 61 + 1));
            pieces.extend_from_slice(&stream.push(piece));
            rest = after;
            step = step.wrapping_mul(31).wrapping_add(7);
        }
        pieces.extend_from_slice(&stream.finish());
        assert_eq!(pieces, whole, "from {} to {}", names[from], names[to]);
    }
}

/// Links are in canonical form, each once, and none leads into what is not mirrored.
pub(crate) fn discover(data: &[u8]) {
    let Some((&kind, page)) = data.split_first() else { return };
    let kind = [Kind::Html, Kind::Css, Kind::Xml][usize::from(kind) % 3];
    let base = Target::parse("/a/b/?page=2").expect("a target");
    for app in [EdgeApp::Ghost, EdgeApp::Static] {
        let found = links(kind, &base, &origin("https://b.test:8443"), &app, page);
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        for target in found {
            assert_eq!(Target::parse(target.as_str()).as_ref(), Ok(&target));
            assert!(app == EdgeApp::Static || !target.is_under("/ghost/"), "{target:?}");
        }
    }
}
