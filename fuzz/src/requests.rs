//! What readers send.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::OnceLock;

use http::{HeaderMap, Method, StatusCode, Uri};
use sovereign_edge::policy::{self, Span, Subject};
use sovereign_edge::proxied::{self, Header};
use sovereign_edge::route::{Asked, Class, Decision, Routes, Target};
use sovereign_model::edge_config::EdgeConfig;

/// A target in canonical form is a fixed point, and a URI of the same path and query.
pub(crate) fn target(data: &[u8]) {
    let Ok(target) = Target::parse(&crate::text(data)) else { return };
    assert_eq!(Target::parse(target.as_str()).as_ref(), Ok(&target));
    let uri: Uri = target.as_str().parse().expect("a target in canonical form is a URI");
    assert_eq!((uri.path(), uri.query()), (target.path(), target.query()));
    assert!(!target.path().split('/').any(|segment| matches!(segment, "." | "..")), "{target:?}");
    for shorter in [Some(target.shared()), target.without_query()].into_iter().flatten() {
        assert_eq!(Target::parse(shorter.as_str()).as_ref(), Ok(&shorter));
        assert_eq!(shorter.shared(), shorter.shared().shared());
    }
}

fn routes() -> &'static Routes {
    static ROUTES: OnceLock<Routes> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let site = |name: &str, app: &str, host: &str| {
            serde_json::json!({
                "site": name, "canonical": format!("https://{host}:8443"), "names": [host, format!("{name}.example.org")],
                "app": app, "source": {"unix": "/run/app.sock"}, "admin": "local", "webhook-key": null,
                "mirrors": [], "epoch": 1,
            })
        };
        let config = serde_json::json!({
            "stack": "demo", "datacenter": "home", "certificate": {"chain": "", "key": ""}, "store": PathBuf::new(),
            "link-key": "", "peers": [],
            "sites": [site("blog", "ghost", "blog.localhost"), site("files", "static", "files.localhost")],
        });
        let config: EdgeConfig = serde_json::from_value(config).expect("the configuration above is one");
        Routes::build(&config).expect("no name twice")
    })
}

/// A request's head, in lines as HTTP/1.1 has them: what belongs to one reader never has a shared class.
pub(crate) fn route(data: &[u8]) {
    let (line, rest) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(uri)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else { return };
    let headers = crate::fields(rest);
    let reader = IpAddr::V4(Ipv4Addr::new(192, 0, 2, if line.len().is_multiple_of(2) { 1 } else { 2 }));
    let asked = Asked { method: &method, uri: &uri, headers: &headers, reader };
    let Decision::Site(route) = routes().resolve(&asked) else { return };
    assert!(!route.target.path().starts_with("/.sovereign/"), "the edge's own paths go to no site");
    match &route.class {
        Class::Read { key, fallback } => {
            assert!(matches!(method, Method::GET | Method::HEAD), "{method}");
            assert!(route.site.site.as_str() == "files" || !headers.contains_key("authorization"));
            // Files know no sessions: everybody gets the same.
            assert!(route.site.site.as_str() == "files" || !has_session(&headers), "{headers:?}");
            for key in std::iter::once(key).chain(fallback) {
                assert_eq!(key.site, route.site.site);
                assert!(!key.target.is_under("/ghost/") || key.site.as_str() == "files", "{key:?}");
            }
        }
        Class::Live { .. } => {}
        Class::Admin => assert!(reader.is_loopback(), "the admin's reach is local"),
    }
}

/// Cookies that Ghost gives to staff, members and readers of private sites.
fn has_session(headers: &HeaderMap) -> bool {
    let cookies = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        matches!(name.trim(), "ghost-admin-api-session" | "ghost-members-ssr" | "ghost-private") && !value.is_empty()
    })
}

/// The word of a proxy in front: what is a header does not depend on where it was cut, nor on what follows.
pub(crate) fn proxied(data: &[u8]) {
    let whole = proxied::parse(data);
    for cut in 0..data.len().min(300) {
        match (proxied::parse(&data[..cut]), whole) {
            (Header::Begun, _) => {}
            (Header::Whole { length, reader }, _) => {
                assert!(length <= cut);
                assert_eq!(whole, Header::Whole { length, reader }, "what follows changes nothing");
            }
            (Header::Wrong, _) => assert_eq!(whole, Header::Wrong, "what was wrong stays so"),
        }
    }
}

/// Conditions and ranges: the span lies in the page, and the head says how long it is.
pub(crate) fn respond(data: &[u8]) {
    let (head, request) = data.split_at(data.len().min(3));
    let &[length, status, method] = head else { return };
    let length = u64::from(length) * 7;
    let status = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY][usize::from(status) % 3];
    let method = if method.is_multiple_of(2) { Method::GET } else { Method::HEAD };
    let mut page = HeaderMap::new();
    page.insert("etag", http::HeaderValue::from_static("\"abc\""));
    page.insert("last-modified", http::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
    let request = crate::fields(request);
    let whole = policy::whole(status, page.clone(), Some(length));
    let reply = policy::respond(&method, &request, &Subject { status, fields: &whole, length: Some(length) });
    let announced =
        reply.fields.get("content-length").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match reply.span {
        Span::Part(part) => {
            assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
            assert_eq!((reply.status, announced), (StatusCode::PARTIAL_CONTENT, Some(part.end - part.start)));
        }
        Span::Whole => assert_eq!((reply.status, announced, &method), (status, Some(length), &Method::GET)),
        Span::Nothing => assert_ne!(reply.status, StatusCode::PARTIAL_CONTENT, "{request:?}"),
    }
    let unknown = policy::whole(status, page, None);
    policy::respond(&method, &request, &Subject { status, fields: &unknown, length: None });
}
