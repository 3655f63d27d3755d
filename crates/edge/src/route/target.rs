//! Request targets in one safe, canonical form.
//!
//! Promise: two spellings that an origin would treat alike give the same [`Target`], and a spelling that two servers
//! in a row could read differently (which is how caches are poisoned and admin pages stolen) gives no target at all.
//!
//! Refused, because nothing honest needs them: dot segments, plain or encoded, with path parameters too (`/..;/`);
//! empty segments (`//`); encoded slashes, backslashes, NUL and other control characters; bytes outside ASCII.
//! Made equal (RFC 3986 section 6.2.2): encoded unreserved characters are decoded, hex digits are upper case.
//! The query is kept byte for byte. [`Target::shared`] is what a page is kept under and asked for on everybody's behalf:
//! without the parameters that no page depends on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest target: what fits easily into one store record, and more than any page's address needs.
const LONGEST: usize = 2048;

/// Parameters that no page depends on: campaigns' and other sites' marks (`ref` is what Ghost appends to links to other
/// sites), and what Ghost's scripts in the browser say after a sign-in.
const IGNORED_PARAMETERS: &[&str] = &[
    "ref", "fbclid", "gclid", "dclid", "msclkid", "yclid", "igshid", "mc_cid", "mc_eid", "action", "success", "stripe",
];

/// A path and perhaps a query, in canonical form; begins with `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(Arc<str>);

/// Why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not in origin form (RFC 9112 section 3.2.1).
    #[error("the target does not begin with a slash")]
    NotAPath,
    /// Longer than 2048 bytes.
    #[error("the target is too long")]
    TooLong,
    /// A control character, a space, a backslash or a byte outside ASCII.
    #[error("the target contains a byte that is not allowed in a URI")]
    Byte,
    /// `%` without two hex digits.
    #[error("the target contains a broken percent-encoding")]
    Encoding,
    /// An encoded slash, backslash or control character in the path.
    #[error("the path hides a separator or a control character")]
    Hidden,
    /// `//`, `/./`, `/../` or a disguise of them.
    #[error("the path has an empty or dot segment")]
    Segment,
}

impl Target {
    /// The canonical form of `text`, a path with an optional query. A fragment is not part of a request target.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        if text.len() > LONGEST {
            return Err(BadTarget::TooLong);
        }
        if text
            .bytes()
            .any(|byte| !(0x21..0x7f).contains(&byte) || matches!(byte, b'\\' | b'#' | b'"' | b'<' | b'>' | b'`'))
        {
            return Err(BadTarget::Byte);
        }
        if !text.starts_with('/') {
            return Err(BadTarget::NotAPath);
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let canonical = match canonical_path(path)? {
            Cow::Borrowed(_) => text.into(),
            Cow::Owned(path) => query.map_or_else(|| path.as_str().into(), |query| format!("{path}?{query}").into()),
        };
        Ok(Self(canonical))
    }

    /// The same page, asked for on everybody's behalf: without parameters that only scripts in a reader's browser read,
    /// so that a link that somebody appended them to finds the kept page.
    pub fn shared(&self) -> Self {
        let Some(query) = self.query() else { return self.clone() };
        let mut shared = self.path().to_owned();
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty() && !is_ignored(pair)) {
            shared.push(separator);
            shared.push_str(pair);
            separator = '&';
        }
        Self(shared.into())
    }

    /// Path and query, as sent to the site's source.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `?`.
    pub fn path(&self) -> &str {
        self.0.split_once('?').map_or(&*self.0, |(path, _)| path)
    }

    /// What stands after the `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.split_once('?').map(|(_, query)| query)
    }

    /// The same path without a query; `None` when there is none to drop.
    pub fn without_query(&self) -> Option<Self> {
        self.query().map(|_| Self(self.path().into()))
    }

    /// Whether the query is a version (`?v=…`): such content is replaced by another address, never changed.
    pub fn is_versioned(&self) -> bool {
        self.query().is_some_and(|query| query.split('&').any(|pair| pair.len() > 2 && pair.starts_with("v=")))
    }

    /// Whether the target has a query other than a version: such addresses are kept when readers ask for them, and not
    /// looked for.
    pub fn is_incidental(&self) -> bool {
        self.query().is_some() && !self.is_versioned()
    }

    /// Whether the path is `prefix` or lies below it. `prefix` ends with a slash; letters compare without case, as
    /// Ghost's router does.
    pub fn is_under(&self, prefix: &str) -> bool {
        is_under(self.path(), prefix)
    }

    /// Whether some service may take the path for one under `prefix`: routers of Java services look at segments without
    /// their parameters (`/admin;a=b/`, RFC 3986 section 3.3).
    pub fn may_be_under(&self, prefix: &str) -> bool {
        self.is_under(prefix) || is_under(&without_parameters(self.path()), prefix)
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    let (path, prefix) = (path.as_bytes(), prefix.as_bytes());
    let bare = prefix.strip_suffix(b"/").unwrap_or(prefix);
    path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) || path.eq_ignore_ascii_case(bare)
}

fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    Cow::Owned(segments.collect::<Vec<_>>().join("/"))
}

fn canonical_path(path: &str) -> Result<Cow<'_, str>, BadTarget> {
    let canonical = if path.contains('%') { Cow::Owned(decoded(path)?) } else { Cow::Borrowed(path) };
    let mut segments = canonical.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or_default();
        let last = segments.peek().is_none();
        if matches!(name, "." | "..") || (name.is_empty() && !(last && segment.is_empty())) {
            return Err(BadTarget::Segment);
        }
    }
    Ok(canonical)
}

/// The path with nothing encoded that need not be.
fn decoded(path: &str) -> Result<String, BadTarget> {
    let mut canonical = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            canonical.push(char::from(byte));
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(BadTarget::Encoding) };
        rest = after;
        let byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
        match byte {
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(BadTarget::Hidden),
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => canonical.push(char::from(byte)),
            _ => {
                canonical.push('%');
                canonical.push(char::from(high.to_ascii_uppercase()));
                canonical.push(char::from(low.to_ascii_uppercase()));
            }
        }
    }
    Ok(canonical)
}

fn is_ignored(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or(pair);
    name.starts_with("utm_") || IGNORED_PARAMETERS.contains(&name)
}

fn hex_digit(byte: u8) -> Result<u8, BadTarget> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(BadTarget::Encoding)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for Target {
    type Error = BadTarget;

    fn try_from(text: String) -> Result<Self, BadTarget> {
        Self::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_path_are_one_target() {
        let target = |text| Target::parse(text).map(|target| target.as_str().to_owned());
        assert_eq!(target("/%61bout/"), Ok("/about/".into()));
        assert_eq!(target("/caf%c3%a9/"), Ok("/caf%C3%A9/".into()));
        assert_eq!(target("/members/?token=x&action=signin"), Ok("/members/?token=x&action=signin".into()));
    }

    #[test]
    fn what_only_browsers_read_does_not_make_another_page() {
        let shared = |text| Target::parse(text).map(|target| target.shared().as_str().to_owned());
        assert_eq!(shared("/?utm_source=x&fbclid=1"), Ok("/".into()));
        assert_eq!(shared("/a/?v=1&ref=other.example"), Ok("/a/?v=1".into()));
        assert_eq!(shared("/a?"), Ok("/a".into()));
        assert_eq!(shared("/a?&b&&c=1"), Ok("/a?b&c=1".into()));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (text, why) in [
            ("/ghost/..;/x.css", BadTarget::Segment),
            ("/a/../ghost/", BadTarget::Segment),
            ("/a/%2e%2E/ghost/", BadTarget::Segment),
            ("/./", BadTarget::Segment),
            ("/..", BadTarget::Segment),
            ("//evil.example/", BadTarget::Segment),
            ("/a//b", BadTarget::Segment),
            ("/;x/", BadTarget::Segment),
            ("/ghost%2fapi", BadTarget::Hidden),
            ("/a%00.css", BadTarget::Hidden),
            ("/a%5cb", BadTarget::Hidden),
            ("/a%0d%0ab", BadTarget::Hidden),
            ("/a\\b", BadTarget::Byte),
            ("/a b", BadTarget::Byte),
            ("/é", BadTarget::Byte),
            ("/a#b", BadTarget::Byte),
            ("/%", BadTarget::Encoding),
            ("/%zz", BadTarget::Encoding),
            ("*", BadTarget::NotAPath),
            ("", BadTarget::NotAPath),
        ] {
            assert_eq!(Target::parse(text), Err(why), "{text}");
        }
        assert_eq!(Target::parse(&format!("/{}", "a".repeat(LONGEST))), Err(BadTarget::TooLong));
    }

    #[test]
    fn prefixes_compare_without_case_and_by_segment() {
        let under = |path, prefix| Target::parse(path).unwrap().is_under(prefix);
        assert!(under("/GHOST/api/", "/ghost/"));
        assert!(under("/ghost", "/ghost/"));
        assert!(under("/%67host/?x", "/ghost/"));
        assert!(!under("/ghosts/", "/ghost/"));
    }

    #[test]
    fn parameters_of_segments_hide_nothing() {
        let target = Target::parse("/admin;jsessionid=1/users;x").unwrap();
        assert!(target.may_be_under("/admin/") && target.may_be_under("/admin/users/"));
        assert!(!target.is_under("/admin/"));
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(text in "\\PC{0,40}|/[-a-zA-Z0-9%/.;?&=~]{0,40}|/[ -~]{0,20}") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(target.as_str()), Ok(target.clone()));
                prop_assert_eq!(target.shared().shared(), target.shared());
                prop_assert!(target.as_str().parse::<http::Uri>().is_ok());
                prop_assert!(!target.path().contains("//") && !target.path().contains("/../"));
            }
        }
    }
}
