//! Paths of the API: parts are encoded one by one, the query comes last.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

/// What is encoded in a part of a path: all but the unreserved characters of RFC 3986 section 2.3.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path below `/1.0`, and its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiPath {
    path: String,
    query: String,
}

impl ApiPath {
    /// `/1.0` itself.
    pub(crate) fn root() -> Self {
        Self { path: "/1.0".to_owned(), query: String::new() }
    }

    /// `/1.0/<collection>`.
    pub(crate) fn of(collection: &str) -> Self {
        Self::root().then(collection)
    }

    /// One part further down.
    pub(crate) fn then(mut self, part: &str) -> Self {
        self.path.push('/');
        self.path.extend(utf8_percent_encode(part, PART));
        self
    }

    /// `key=value` at the end of the query.
    pub(crate) fn with(self, key: &str, value: &str) -> Self {
        self.with_bytes(key, value.as_bytes())
    }

    /// The same for a value that need not be text: a path in an instance.
    pub(crate) fn with_bytes(mut self, key: &str, value: &[u8]) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(key);
        self.query.push('=');
        self.query.extend(percent_encode(value, NON_ALPHANUMERIC));
        self
    }

    /// What goes into the request line.
    pub(crate) fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// For messages: without the query, which is the client's own business.
impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// The last part of a path that the server named, without its query. Only that: the rest is known, and what a server
/// says is not asked for blindly.
pub(crate) fn last_part(path: &str) -> Option<&str> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let (_, last) = path.rsplit_once('/')?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (!last.is_empty() && last.len() <= 255 && !matches!(last, "." | "..") && last.bytes().all(is_plain)).then_some(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_and_queries_are_encoded() {
        let path = ApiPath::of("profiles").then("a b/c?d").with("project", "x&y").with_bytes("path", b"/srv/\xff");
        assert_eq!(path.target(), "/1.0/profiles/a%20b%2Fc%3Fd?project=x%26y&path=%2Fsrv%2F%FF");
        assert_eq!(path.to_string(), "/1.0/profiles/a%20b%2Fc%3Fd");
        assert_eq!(ApiPath::root().target(), "/1.0");
    }

    #[test]
    fn of_what_a_server_names_only_the_last_part_is_taken() {
        assert_eq!(last_part("/1.0/operations/0f-1a?project=sov"), Some("0f-1a"));
        assert_eq!(last_part("/1.0/instances/c/logs/exec-output/exec_1.stdout"), Some("exec_1.stdout"));
        for hostile in ["", "plain", "/1.0/operations/", "/1.0/..", "/a/b%2Fc", "/a/b\r\nc", "/1.0/?x=/y/z"] {
            assert_eq!(last_part(hostile), None, "{hostile:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_parts_are_the_target_is_one_word_of_ascii(parts in prop::collection::vec(".*", 0..4), value: Vec<u8>) {
            let path = parts.iter().fold(ApiPath::root(), |path, part| path.then(part)).with_bytes("path", &value);
            let target = path.target();
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()), "{target:?}");
            prop_assert_eq!(target.matches('?').count(), 1);
            prop_assert_eq!(target.matches('/').count(), 1 + parts.len());
            let uri: hyper::Uri = target.parse().unwrap();
            prop_assert!(uri.query().is_some());
        }

        #[test]
        fn any_text_can_be_looked_at(text in ".*") {
            if let Some(last) = last_part(&text) {
                prop_assert!(text.contains(last) && !last.contains('/'));
            }
        }
    }
}
