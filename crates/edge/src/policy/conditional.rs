//! Conditional requests for a kept page (RFC 9110 section 13).

use http::{HeaderMap, header};

use super::terms::http_date;

/// Whether the reader has the page already: `If-None-Match` decides where present, else `If-Modified-Since`.
pub(super) fn unchanged(request: &HeaderMap, kept: &HeaderMap) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let tag = kept.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
        return request.get_all(header::IF_NONE_MATCH).iter().any(|field| {
            let field = field.as_bytes().trim_ascii();
            field == b"*" || tag.is_some_and(|tag| tags(field).any(|candidate| opaque(candidate) == tag))
        });
    }
    let date = |headers: &HeaderMap, name| headers.get(name).and_then(|date| http_date(date.as_bytes()));
    // Most requests have no such field, and a date takes long to read.
    let Some(since) = date(request, header::IF_MODIFIED_SINCE) else { return false };
    date(kept, header::LAST_MODIFIED).is_some_and(|modified| modified <= since)
}

/// Whether a range may be cut from the kept page: `If-Range` is absent or names exactly this page. A weak tag never
/// does (RFC 9110 section 13.1.5).
pub(super) fn same_representation(request: &HeaderMap, kept: &HeaderMap) -> bool {
    let Some(wanted) = request.get(header::IF_RANGE).map(|field| field.as_bytes().trim_ascii()) else { return true };
    let held = if wanted.starts_with(b"\"") {
        kept.get(header::ETAG)
    } else if wanted.starts_with(b"W/") {
        None
    } else {
        kept.get(header::LAST_MODIFIED)
    };
    held.is_some_and(|held| held.as_bytes() == wanted)
}

/// The tag without its weakness: the weak comparison of RFC 9110 section 8.8.3.2.
fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tags of a list. A comma may stand inside a tag, so splitting follows the quotes.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
}
