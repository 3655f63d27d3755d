//! What an edge says to another of the pages of a site: the answer to `list` (see `peers`), and how it is read.
//!
//! | asked with `Accept` | answer |
//! |---|---|
//! | `application/vnd.sovereign.known+json` | `[["/a.png",300000,"media"],["/",null,"page"],...]` |
//! | anything else: an older edge | `["/a.png","/",...]` |
//!
//! The length of a page that nobody has fetched yet is `null`.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::room::Kind;
use crate::route::Target;
use crate::store::Known;
use crate::upstream::mime::content_type;

const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.sovereign.known+json");
const OLDER_TYPE: HeaderValue = HeaderValue::from_static("application/json");

type Line = (Target, Option<u64>, Kind);

/// Says in a question that lengths are understood.
pub(crate) fn accept(fields: &mut HeaderMap) {
    fields.insert(ACCEPT, TYPE);
}

/// The answer to a question with these fields, and its content type.
pub(crate) fn encode(asked: &HeaderMap, known: Vec<Known>) -> (HeaderValue, String) {
    let (kind, text) = if asked.get(ACCEPT) == Some(&TYPE) {
        let lines: Vec<Line> = known.into_iter().map(|Known { target, length, kind }| (target, length, kind)).collect();
        (TYPE, serde_json::to_string(&lines))
    } else {
        let targets: Vec<_> = known.into_iter().map(|known| known.target).collect();
        (OLDER_TYPE, serde_json::to_string(&targets))
    };
    (kind, text.unwrap_or_else(|_| "[]".to_owned()))
}

/// Reads an answer; `None` when it is not one.
pub(crate) fn decode(fields: &HeaderMap, text: &[u8]) -> Option<Vec<Known>> {
    if fields.get(CONTENT_TYPE) == Some(&TYPE) {
        let lines: Vec<Line> = serde_json::from_slice(text).ok()?;
        return Some(lines.into_iter().map(|(target, length, kind)| Known { target, length, kind }).collect());
    }
    let targets: Vec<Target> = serde_json::from_slice(text).ok()?;
    Some(targets.into_iter().map(|target| Known { kind: guess(&target), length: None, target }).collect())
}

/// What lies behind an address that nobody has asked for yet, by its name: without an extension it is a page.
pub(crate) fn guess(target: &Target) -> Kind {
    let name = target.path().rsplit('/').next().unwrap_or_default();
    if name.contains('.') { Kind::of_type(content_type(name)) } else { Kind::Page }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(target: &str, length: Option<u64>, kind: Kind) -> Known {
        Known { target: Target::parse(target).unwrap(), length, kind }
    }

    fn of_type(kind: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, kind)])
    }

    #[test]
    fn lengths_reach_whoever_understands_them_and_targets_everybody() {
        let all = vec![known("/", None, Kind::Page), known("/a.png", Some(300_000), Kind::Media)];
        let mut asked = HeaderMap::new();
        accept(&mut asked);
        let (kind, text) = encode(&asked, all.clone());
        assert_eq!(text, r#"[["/",null,"page"],["/a.png",300000,"media"]]"#);
        assert_eq!(decode(&of_type(kind), text.as_bytes()), Some(all.clone()));

        // An older edge asks without, and reads a list of targets.
        let (kind, text) = encode(&HeaderMap::new(), all);
        assert_eq!(serde_json::from_str::<Vec<Target>>(&text).unwrap().len(), 2);
        // An older edge answers so to whoever asks; what it says still reads, and names say what is what.
        let older = vec![known("/", None, Kind::Page), known("/a.png", None, Kind::Media)];
        assert_eq!(decode(&of_type(kind), text.as_bytes()), Some(older));
    }

    #[test]
    fn names_say_what_is_what() {
        let guess = |target| guess(&Target::parse(target).unwrap());
        for page in ["/", "/about", "/v1.2/about/", "/a.css?v=1", "/rss.xml", "/f.woff2", "/A.HTML"] {
            assert_eq!(guess(page), Kind::Page, "{page}");
        }
        for media in ["/a.png", "/a.PNG?v=1", "/talk.mp4", "/paper.pdf", "/data.bin"] {
            assert_eq!(guess(media), Kind::Media, "{media}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_is_read_or_not(text in "\\PC{0,60}|[\\[\\]\",/a-z0-9 ]{0,60}", newer in any::<bool>()) {
            let fields = of_type(if newer { TYPE } else { OLDER_TYPE });
            if let Some(known) = decode(&fields, text.as_bytes()) {
                let mut asked = HeaderMap::new();
                accept(&mut asked);
                let (kind, said) = encode(&asked, known.clone());
                prop_assert_eq!(decode(&of_type(kind), said.as_bytes()), Some(known));
            }
        }
    }
}
