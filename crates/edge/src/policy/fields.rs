//! Which header fields travel, in each direction.
//!
//! A reader's claims about who they are (`X-Forwarded-For` and its many kin) never pass: the application behind trusts
//! them. What belongs to one connection ends with it (RFC 9110 section 7.6.1).

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sovereign_model::Origin;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What this gateway is called in `Surrogate-Control`.
pub(super) const SURROGATE: &str = "sovereign";

/// Fields of one connection, whether `Connection` lists them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Fields by which a request claims to be somebody else's, to be for another page, or to use another method.
/// Some application somewhere believes each of them. Beside these, all that begin with [`FORWARDED_BY`].
const CLAIMS: [&str; 24] = [
    "forwarded",
    "forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-originating-ip",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-override-url",
    "x-url-scheme",
    "x-scheme",
    "front-end-https",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "proxy",
];
const FORWARDED_BY: &str = "x-forwarded";

/// Fields of an answer that are not kept: they are made anew for every answer, or say nothing to readers.
const NOT_KEPT: [HeaderName; 8] = [
    header::AGE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::SET_COOKIE,
    header::VIA,
    super::CACHE_STATUS,
    HeaderName::from_static("x-cache-invalidate"),
    HeaderName::from_static("x-powered-by"),
];

/// Removes what belongs to one connection, and what `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Turns a reader's request fields into those sent to the site's source.
pub fn forward_request(headers: &mut HeaderMap, reader: IpAddr, canonical: &Origin) {
    strip_hop_by_hop(headers);
    remove(headers, |name| is_claim(name.as_str()));
    headers.insert(FORWARDED_FOR, text(&reader.to_canonical().to_string()));
    pin(headers, canonical);
}

fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<_> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in &unwanted {
        headers.remove(name);
    }
}

/// Gateways that hand fields over as variables (CGI, WSGI) make `_` and `-` one: so do we.
fn is_claim(name: &str) -> bool {
    let name = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) };
    name.starts_with(FORWARDED_BY) || CLAIMS.contains(&&*name)
}

/// The fields of the edge's own question for a page everybody gets: no credentials, no encoding, and, with the fields
/// of a kept answer as `validators`, conditional.
pub fn request_fields(canonical: &Origin, validators: Option<&HeaderMap>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    pin(&mut headers, canonical);
    if let Some(kept) = validators {
        if let Some(tag) = kept.get(header::ETAG) {
            headers.insert(header::IF_NONE_MATCH, tag.clone());
        } else if let Some(date) = kept.get(header::LAST_MODIFIED) {
            headers.insert(header::IF_MODIFIED_SINCE, date.clone());
        }
    }
    headers
}

/// Fields of a reader's request that its page must not depend on: credentials, and what asks for a part, for another
/// encoding or for an answer to a condition, all of which the edge itself sees to.
const READERS_OWN: [HeaderName; 17] = [
    header::COOKIE,
    header::AUTHORIZATION,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ACCEPT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::UPGRADE_INSECURE_REQUESTS,
    // Who asks and where from: services are known to write these into pages without saying so with `Vary`.
    header::USER_AGENT,
    header::REFERER,
    header::ORIGIN,
    header::FROM,
];

/// What of a reader's request a service may see that is asked for a page everybody gets: it may select by any of it, and
/// says so with `Vary`. Nothing that says who asks, and no field of private making (`X-…`): a service that reflects one
/// of those without a word would hand one reader's page to all.
pub fn forwarded_fields(request: &HeaderMap) -> HeaderMap {
    let mut headers = request.clone();
    strip_hop_by_hop(&mut headers);
    remove(&mut headers, |name| {
        is_claim(name.as_str()) || name.as_str().starts_with("x-") || READERS_OWN.contains(name)
    });
    headers.remove(header::HOST);
    headers.insert(
        HeaderName::from_static("surrogate-capability"),
        HeaderValue::from_static("sovereign=\"Surrogate/1.0\""),
    );
    headers
}

/// The application must believe it is asked under its own name, over TLS: it answers with permanent redirects else.
fn pin(headers: &mut HeaderMap, canonical: &Origin) {
    let authority = text(&canonical.authority());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(FORWARDED_HOST, authority.clone());
    headers.insert(header::HOST, authority);
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).expect("an address or a host name is visible ASCII")
}

/// The fields of an answer that are kept with it.
pub fn storable_fields(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    strip_hop_by_hop(&mut kept);
    for name in &NOT_KEPT {
        kept.remove(name);
    }
    kept
}

/// Brings a kept answer's fields up to date with a 304 (RFC 9111 section 3.2). Fields that describe the body's bytes
/// stay those of the body that is kept.
pub fn merge_not_modified(kept: &mut HeaderMap, confirmation: &HeaderMap) {
    let mut newer = storable_fields(confirmation);
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_RANGE] {
        newer.remove(name);
    }
    // A strong tag of another body (RFC 9111 section 4.3.4), and a digest of one.
    let strong = |tag: &&HeaderValue| tag.as_bytes().starts_with(b"\"");
    if newer.get(header::ETAG).filter(strong).is_some_and(|tag| kept.get(header::ETAG).is_some_and(|held| held != tag))
    {
        newer.remove(header::ETAG);
    }
    newer.remove("content-md5");
    for name in newer.keys() {
        kept.remove(name);
    }
    for (name, value) in &newer {
        kept.append(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_reader_cannot_claim_to_be_another() {
        let mut headers = fields(&[
            ("host", "blog.localhost:8444"),
            ("connection", "close, X-Trace"),
            ("x-trace", "1"),
            ("te", "trailers"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "10.0.0.1"),
            ("x-original-url", "/ghost/"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded-scheme", "http"),
            ("x-method-override", "DELETE"),
            ("cookie", "a=b"),
        ]);
        forward_request(
            &mut headers,
            "::ffff:192.0.2.1".parse().unwrap(),
            &"https://blog.localhost:8443".parse().unwrap(),
        );
        insta::assert_snapshot!(lines(&headers).join("\n"), @r"
        cookie: a=b
        host: blog.localhost:8443
        x-forwarded-for: 192.0.2.1
        x-forwarded-host: blog.localhost:8443
        x-forwarded-proto: https
        ");
    }

    #[test]
    fn own_questions_carry_a_validator() {
        let canonical = "https://blog.example.org".parse().unwrap();
        let kept = fields(&[("etag", "W/\"1\""), ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]);
        let headers = request_fields(&canonical, Some(&kept));
        assert_eq!(headers[header::IF_NONE_MATCH], "W/\"1\"");
        assert_eq!(headers[header::HOST], "blog.example.org");
        assert!(!headers.contains_key(header::IF_MODIFIED_SINCE));
    }

    #[test]
    fn a_confirmation_updates_fields() {
        let mut kept = fields(&[("etag", "W/\"1\""), ("content-type", "text/html"), ("x-a", "1"), ("x-b", "1")]);
        let newer = fields(&[
            ("etag", "W/\"2\""),
            ("content-type", "text/plain"),
            ("content-length", "0"),
            ("x-a", "2"),
            ("x-a", "3"),
            ("connection", "close"),
        ]);
        merge_not_modified(&mut kept, &newer);
        assert_eq!(lines(&kept), ["content-type: text/html", "etag: W/\"2\"", "x-a: 2", "x-a: 3", "x-b: 1"]);
    }

    #[test]
    fn a_shared_question_does_not_say_who_asks() {
        let mut request = HeaderMap::new();
        for name in
            ["user-agent", "referer", "origin", "from", "x-theme", "x-forwarded-for", "cookie", "accept-language"]
        {
            request.insert(name, HeaderValue::from_static("mine"));
        }
        let asked = forwarded_fields(&request);
        let names: Vec<_> = asked.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["accept-language", "surrogate-capability"]);
    }
}
