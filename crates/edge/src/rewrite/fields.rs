//! Header fields of rewritten pages, and which pages are rewritten.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sovereign_model::{Digest, Origin};

use super::Rewriter;

/// Fields of answers that carry URLs of the site.
const IN_ANSWERS: [HeaderName; 7] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    header::LINK,
    header::REFRESH,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
];

/// Fields of requests by which an application tells its own pages from others: Ghost's admin compares `Origin`, and
/// WebDAV moves a file to where `Destination` says.
const IN_REQUESTS: [HeaderName; 3] = [header::ORIGIN, header::REFERER, HeaderName::from_static("destination")];

/// Fields about the exact bytes of a body: wrong once it is rewritten.
const ABOUT_BYTES: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
];

/// Whether an answer with these fields is text that can spell an origin: HTML, XML (feeds, sitemaps, SVG), CSS,
/// scripts, JSON, plain text, forms. An encoded body never is, nor one of several parts: files may be among them.
pub fn applies_to(headers: &HeaderMap) -> bool {
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return false;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || matches!(
            kind.as_str(),
            "application/xml"
                | "application/json"
                | "application/javascript"
                | "application/x-javascript"
                | "application/x-www-form-urlencoded"
        )
}

/// Sixteen hex digits for an origin, as part of an entity tag.
pub(super) fn mark(origin: &Origin) -> String {
    Digest::of(origin.to_string()).hex()[..16].to_owned()
}

impl Rewriter {
    /// The fields of an answer; `body_too` if its body is rewritten: then it gets an entity tag of its own, and loses
    /// what described the other bytes.
    pub fn response_fields(&self, headers: &mut HeaderMap, body_too: bool) {
        self.values(headers, &IN_ANSWERS);
        self.cookies(headers);
        if !body_too {
            return;
        }
        for name in &ABOUT_BYTES {
            headers.remove(name);
        }
        if let Some(tag) = headers.remove(header::ETAG).and_then(|tag| self.tag(&tag)) {
            headers.insert(header::ETAG, tag);
        }
    }

    /// The fields of a request that goes to the origin this one rewrites to: the reader's own origin and page, and the
    /// entity tags that the way back had marked.
    pub fn request_fields(&self, headers: &mut HeaderMap) {
        self.values(headers, &IN_REQUESTS);
        let marked = format!("-{}\"", self.rule.from_mark);
        for name in [header::IF_NONE_MATCH, header::IF_MATCH] {
            let plain: Vec<HeaderValue> = headers
                .get_all(&name)
                .iter()
                .filter_map(|tags| HeaderValue::try_from(tags.to_str().ok()?.replace(&marked, "\"")).ok())
                .collect();
            headers.remove(&name);
            for tags in plain {
                headers.append(&name, tags);
            }
        }
    }

    fn values(&self, headers: &mut HeaderMap, names: &[HeaderName]) {
        for name in names {
            if !headers.contains_key(name) {
                continue;
            }
            let rewritten: Vec<HeaderValue> = headers
                .get_all(name)
                .iter()
                .filter_map(|value| {
                    HeaderValue::from_maybe_shared(self.whole(&Bytes::copy_from_slice(value.as_bytes()))).ok()
                })
                .collect();
            headers.remove(name);
            for value in rewritten {
                headers.append(name, value);
            }
        }
    }

    /// Always weak: the promise of a strong tag was made for other bytes. `None` if the original is no entity tag.
    fn tag(&self, original: &HeaderValue) -> Option<HeaderValue> {
        let text = original.to_str().ok()?;
        let opaque = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
        HeaderValue::try_from(format!("W/\"{opaque}-{}\"", self.rule.mark)).ok()
    }
}
