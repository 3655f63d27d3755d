//! From a kept page and a reader's request to the head of the answer.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::conditional::{same_representation, unchanged};
use super::range::{Wanted, wanted};

/// The page an answer is made from, as this reader sees it (after rewriting, if the reader came by another name).
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its status.
    pub status: StatusCode,
    /// The fields of an answer with all of it, as [`whole`] makes them.
    pub fields: &'a HeaderMap,
    /// Its length in bytes; `None` while it is not known (rewritten on the way): then no ranges are offered.
    pub length: Option<u64>,
}

/// The head of an answer, and which bytes follow.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// All fields but those of the moment (`Age`, `Date`, `Cache-Status`).
    pub fields: HeaderMap,
    /// What follows.
    pub span: Span,
}

/// Which bytes of the page follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// None.
    Nothing,
    /// All.
    Whole,
    /// These.
    Part(Range<u64>),
}

/// The fields of an answer with a whole page of that many bytes: made once and used for every reader who gets it.
pub fn whole(status: StatusCode, mut fields: HeaderMap, length: Option<u64>) -> HeaderMap {
    match length {
        Some(length) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            if status == StatusCode::OK {
                fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            }
        }
        None => {
            fields.remove(header::CONTENT_LENGTH);
            fields.remove(header::ACCEPT_RANGES);
        }
    }
    fields
}

/// The answer to a `GET` or `HEAD` for `subject`.
pub fn respond(method: &Method, request: &HeaderMap, subject: &Subject<'_>) -> Reply {
    let ok = subject.status == StatusCode::OK;
    if ok && unchanged(request, subject.fields) {
        return Reply { status: StatusCode::NOT_MODIFIED, fields: confirming(subject.fields), span: Span::Nothing };
    }
    let mut fields = subject.fields.clone();
    let Some(length) = subject.length.filter(|_| ok) else {
        return Reply { status: subject.status, fields, span: span(method, Span::Whole) };
    };
    // RFC 9110 section 14.2: `Range` has a meaning with GET only.
    let range = request
        .get(header::RANGE)
        .filter(|_| method == Method::GET && same_representation(request, subject.fields))
        .map_or(Wanted::Whole, |field| wanted(field.as_bytes(), length));
    match range {
        Wanted::Whole => Reply { status: subject.status, fields, span: span(method, Span::Whole) },
        Wanted::Part(part) => {
            let place = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            fields.insert(header::CONTENT_RANGE, visible(place));
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
            Reply { status: StatusCode::PARTIAL_CONTENT, fields, span: Span::Part(part) }
        }
        Wanted::Outside => {
            let mut fields = HeaderMap::with_capacity(2);
            fields.insert(header::CONTENT_RANGE, visible(format!("bytes */{length}")));
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            Reply { status: StatusCode::RANGE_NOT_SATISFIABLE, fields, span: Span::Nothing }
        }
    }
}

fn span(method: &Method, span: Span) -> Span {
    if method == Method::HEAD { Span::Nothing } else { span }
}

fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and ASCII letters")
}

/// The fields of a 304: those that describe the cached copy (RFC 9110 section 15.4.5), none that describe a body.
fn confirming(fields: &HeaderMap) -> HeaderMap {
    let mut confirming = fields.clone();
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
    ] {
        confirming.remove(name);
    }
    confirming
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn ask(method: Method, request: &[(&'static str, &'static str)], length: Option<u64>) -> String {
        let kept = fields(&[
            ("etag", "W/\"a,b\""),
            ("last-modified", "Thu, 01 Jan 1970 00:10:00 GMT"),
            ("content-type", "text/html"),
        ]);
        let kept = whole(StatusCode::OK, kept, length);
        say(&respond(&method, &fields(request), &Subject { status: StatusCode::OK, fields: &kept, length }))
    }

    fn say(reply: &Reply) -> String {
        let field = |name| reply.fields.get(name).map_or("-", |value: &HeaderValue| value.to_str().unwrap());
        let [length, range, kind] = [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::CONTENT_TYPE].map(field);
        format!("{} {:?} length {length} range {range} type {kind}", reply.status.as_u16(), reply.span)
    }

    #[test]
    fn stories() {
        let get = |request: &[(&'static str, &'static str)]| ask(Method::GET, request, Some(100));
        let lines = [
            get(&[]),
            ask(Method::HEAD, &[], Some(100)),
            ask(Method::HEAD, &[("range", "bytes=0-1")], Some(100)),
            ask(Method::GET, &[("range", "bytes=0-1")], None),
            get(&[("if-none-match", "\"x\", \"a,b\"")]),
            get(&[("if-none-match", "*")]),
            get(&[("if-none-match", "\"a\""), ("if-modified-since", "Thu, 01 Jan 1970 00:10:00 GMT")]),
            get(&[("if-modified-since", "Thu, 01 Jan 1970 00:10:00 GMT")]),
            get(&[("if-modified-since", "Thu, 01 Jan 1970 00:09:59 GMT")]),
            get(&[("if-modified-since", "yesterday")]),
            get(&[("range", "bytes=10-19")]),
            get(&[("range", "bytes=100-")]),
            get(&[("range", "bytes=0-1,5-6")]),
            get(&[("range", "bytes=0-1"), ("if-range", "W/\"a,b\"")]),
            get(&[("range", "bytes=0-1"), ("if-range", "\"a,b\"")]),
            get(&[("range", "bytes=0-1"), ("if-range", "Thu, 01 Jan 1970 00:10:00 GMT")]),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        200 Whole length 100 range - type text/html
        200 Nothing length 100 range - type text/html
        200 Nothing length 100 range - type text/html
        200 Whole length - range - type text/html
        304 Nothing length - range - type -
        304 Nothing length - range - type -
        200 Whole length 100 range - type text/html
        304 Nothing length - range - type -
        200 Whole length 100 range - type text/html
        200 Whole length 100 range - type text/html
        206 Part(10..20) length 10 range bytes 10-19/100 type text/html
        416 Nothing length 0 range bytes */100 type -
        200 Whole length 100 range - type text/html
        200 Whole length 100 range - type text/html
        200 Whole length 100 range - type text/html
        206 Part(0..2) length 2 range bytes 0-1/100 type text/html
        ");
    }

    #[test]
    fn a_redirect_is_never_unchanged() {
        let kept = fields(&[("etag", "\"1\""), ("location", "/a/")]);
        let subject = Subject { status: StatusCode::MOVED_PERMANENTLY, fields: &kept, length: Some(0) };
        let reply = respond(&Method::GET, &fields(&[("if-none-match", "\"1\"")]), &subject);
        assert_eq!((reply.status, reply.span), (StatusCode::MOVED_PERMANENTLY, Span::Whole));
    }
}
