//! `Cache-Control` and its kin, parsed once.
//!
//! Strict where leniency could keep what must not be kept: directives compare without case, a doubled or broken
//! number counts as 0, quoted strings are skipped whole (RFC 9111 section 4.2.1 and 5.2).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// The directives that decide anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CacheControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) must_revalidate: bool,
    pub(super) public: bool,
    /// `s-maxage` was given, which is said to shared caches only.
    pub(super) shared: bool,
    pub(super) must_understand: bool,
    /// RFC 5861 section 3.
    pub(super) while_revalidating: Option<Duration>,
    /// Seconds; `s-maxage` if given, else `max-age`.
    pub(super) lifetime: Option<u64>,
}

impl CacheControl {
    /// All fields of this name; `None` when there is none.
    pub(super) fn parse(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        headers.contains_key(name).then(|| {
            let mut found = Self::default();
            let mut max_age = None;
            let mut s_maxage = None;
            let mut while_revalidating = None;
            for field in headers.get_all(name) {
                for (directive, argument) in directives(field.as_bytes()) {
                    match directive.to_ascii_lowercase().as_slice() {
                        b"no-store" => found.no_store = true,
                        // With field names these forbid only those fields; taken whole, which is always allowed.
                        b"no-cache" => found.no_cache = true,
                        b"private" => found.private = true,
                        b"must-revalidate" | b"proxy-revalidate" => found.must_revalidate = true,
                        b"public" => found.public = true,
                        b"must-understand" => found.must_understand = true,
                        b"stale-while-revalidate" => set_seconds(&mut while_revalidating, argument),
                        b"max-age" => set_seconds(&mut max_age, argument),
                        b"s-maxage" => set_seconds(&mut s_maxage, argument),
                        _ => {}
                    }
                }
            }
            found.shared = s_maxage.is_some();
            found.while_revalidating = while_revalidating.map(Duration::from_secs);
            found.lifetime = s_maxage.or(max_age);
            found
        })
    }
}

fn set_seconds(slot: &mut Option<u64>, argument: Option<&[u8]>) {
    let parsed = argument.map(|text| seconds(text).unwrap_or(0)).unwrap_or(0);
    *slot = Some(slot.map_or(parsed, |earlier: u64| earlier.min(parsed)));
}

/// Delta seconds (RFC 9111 section 1.2.2): digits only, larger than 2^31 is 2^31.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    const MOST: u64 = 1 << 31;
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(value.min(MOST))
}

/// The directives of one field value: name and argument, quotes taken off.
fn directives(field: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    split_outside_quotes(field).map(|part| match part.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let argument = part[at + 1..].trim_ascii();
            let bare = argument.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(argument);
            (part[..at].trim_ascii(), Some(bare))
        }
        None => (part.trim_ascii(), None),
    })
}

fn split_outside_quotes(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    field.split(move |byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn parse(value: &'static str) -> CacheControl {
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static(value))]);
        CacheControl::parse(&headers, &header::CACHE_CONTROL).unwrap()
    }

    #[test]
    fn directives_are_found_in_any_spelling() {
        assert!(parse("NO-STORE").no_store);
        assert!(parse("a=\"x, no-store\", Private").private);
        assert!(!parse("a=\"x, no-store\"").no_store);
        assert!(parse("a=\"\\\", b\", no-cache=\"set-cookie\"").no_cache);
        assert_eq!(parse("max-age=60, s-maxage=5").lifetime, Some(5));
        assert_eq!(parse("max-age=\"60\"").lifetime, Some(60));
        assert_eq!(parse("max-age=-1").lifetime, Some(0));
        assert_eq!(parse("max-age=1, max-age=60").lifetime, Some(1));
        assert_eq!(parse("max-age=99999999999999999999999").lifetime, Some(1 << 31));
        assert_eq!(parse("public").lifetime, None);
    }
}
