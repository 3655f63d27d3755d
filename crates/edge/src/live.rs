//! The live path: what belongs to one reader goes through to the source and back, untouched and unkept.
//!
//! Both bodies stream, so an upload or a download of any size takes constant memory, and events arrive as they are
//! sent. WebSockets are spliced through, bytes for bytes; over a link they are extended CONNECT requests (RFC 8441), and
//! what browser and application say to each other in `Sec-WebSocket-*` fields travels with them.
//!
//! Under another name of the site two things are changed in each direction, or staff could not sign in there: the
//! application compares `Origin` with its own URL, and its answers carry its own URL. What a browser sends back from
//! such an answer (an edited post with its pictures, say) is turned back, or the other name would end up in the
//! database and on every mirror.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sovereign_model::edge_config::EdgeApp;
use tracing::{debug, warn};

use crate::body::Body;
use crate::edge::Edge;
use crate::fetch::is_away;
use crate::generation::Site;
use crate::health::Failure;
use crate::pages::{Absence, Lacking};
use crate::policy::{self, CacheStatus, Via, Why};
use crate::rewrite::{self, Rewriter};
use crate::route::{Class, Route};
use crate::upstream::UpstreamError;
use crate::{discover, pages, peers, read, rename};

/// Ghost names the pages that an edit changed; every edge between it and the reader has seen it by then.
const X_CACHE_INVALIDATE: HeaderName = HeaderName::from_static("x-cache-invalidate");

/// The one protocol that connections are switched to.
const WEBSOCKET: &str = "websocket";

/// Passes `request` of `reader` through to the source of `site`; says so when the source is away.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    route: &Route,
    request: Request<Body>,
    reader: IpAddr,
) -> Response<Body> {
    let (method, fields) = (request.method().clone(), request.headers().clone());
    match through(edge, site, route, request, reader).await {
        Ok(response) => response,
        Err(error) => sorry(edge, site, route, (&method, &fields), reader, &error).await,
    }
}

/// The same for another edge, at one that stands beside the source's; `None` when nobody has acted on the request.
pub(crate) async fn beside(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    route: &Route,
    request: Request<Body>,
    reader: IpAddr,
) -> Option<Response<Body>> {
    let (method, fields) = (request.method().clone(), request.headers().clone());
    match through(edge, site, route, request, reader).await {
        Ok(response) => Some(response),
        // Another edge has no other answer.
        Err(error) if error.is_absence() && !site.config.maintenance => None,
        Err(error) => Some(sorry(edge, site, route, (&method, &fields), reader, &error).await),
    }
}

async fn through(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    route: &Route,
    request: Request<Body>,
    reader: IpAddr,
) -> Result<Response<Body>, UpstreamError> {
    if site.standing.is_superseded(site.config.epoch) && !request.method().is_safe() {
        warn!(site = %site.name(), "a write is refused: there is a newer primary");
        return Ok(pages::source_away(Absence::Away, request.headers(), Lacking::WriteElsewhere));
    }
    if site.config.maintenance {
        return Err(UpstreamError::Maintained);
    }
    let Some(exchange) = edge.exchange(reader) else { return Ok(pages::too_many_at_once()) };
    let passed = pass(edge, site, route, request, reader).await;
    match &passed {
        Err(error) if error.is_of_too_long_a_body() => {}
        Err(error) if error.is_absence() => {
            let error = error.in_full();
            if site.standing.source_failed(Failure::Refused, error.clone()) {
                warn!(site = %site.name(), %error, "the source is away: kept pages are served");
            }
        }
        Err(error) => debug!(site = %site.name(), error = %error.in_full(), "a passed-through request broke off"),
        Ok(_) => {}
    }
    passed.map(|response| response.map(|body| body.holding(exchange)))
}

/// What is answered instead of what could not be had.
async fn sorry(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    route: &Route,
    (method, fields): (&Method, &HeaderMap),
    reader: IpAddr,
    error: &UpstreamError,
) -> Response<Body> {
    if error.is_of_too_long_a_body() {
        return pages::too_long();
    }
    let kept = match &route.class {
        Class::Live { copy: Some(key) } | Class::Read { key, .. } => Some(key),
        _ => None,
    };
    if let Some(key) = kept {
        let asked = read::Asked { method, fields, route, reader, peer: false };
        if let Some(response) = read::stand_in(edge, site, key, &asked).await {
            return response;
        }
    }
    let lacking = match method.is_safe() {
        false if error.is_absence() => Lacking::Write,
        false => Lacking::WriteInDoubt,
        true if site.standing.is_private() => Lacking::Private,
        true if kept.is_some() => Lacking::Page,
        true => Lacking::Own,
    };
    pages::source_away(site.absence(), fields, lacking)
}

async fn pass(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
    route: &Route,
    mut request: Request<Body>,
    reader: IpAddr,
) -> Result<Response<Body>, UpstreamError> {
    let why = if request.method().is_safe() { Why::Bypass } else { Why::Method };
    let upgrade = wanted_upgrade(&request);
    let over_link = request.extensions().get::<Protocol>().is_some();
    let from_reader = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let rewriter = site.rewriter(route);
    let mut outgoing = outgoing(request, site, reader, &edge.generation().via);
    if let Some(rewriter) = &rewriter {
        let back = Rewriter::new(&route.origin, &site.config.canonical);
        outgoing = rename::request(&back, outgoing);
        debug_assert_eq!(rewriter.to(), &route.origin);
    }
    match upgrade {
        Some(protocol) if site.upstream.is_local() => {
            outgoing.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            outgoing.headers_mut().insert(header::UPGRADE, protocol);
        }
        Some(_) => {
            *outgoing.method_mut() = Method::CONNECT;
            outgoing.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        }
        None => {}
    }
    if !site.upstream.is_local() {
        peers::address(&mut outgoing, site, peers::Purpose::Live, Some(reader));
    }
    let safe = why == Why::Bypass;
    let whole = rewriter.as_ref().and_then(|_| without_range(&outgoing));
    let began = Instant::now();
    let mut response = site.upstream.send(outgoing).await?;
    if let Some(whole) = whole
        && response.status() == StatusCode::PARTIAL_CONTENT
        && rewrite::applies_to(response.headers())
    {
        // A part of a text lies elsewhere once it is rewritten: all of it instead, as RFC 9110 section 14.2 allows.
        response = site.upstream.send(whole).await?;
    }
    if why == Why::Bypass {
        // The time of a write is that of its upload.
        edge.counters.source_took(began.elapsed());
    }
    // Another edge's word that its source is away is no sign that it is there.
    if !is_away(response.status()) {
        site.standing.source_answered();
    }
    if !safe && matches!(site.config.app, EdgeApp::Upstream(_)) {
        invalidate(edge, site, route, &response);
    }
    let switched = match (site.upstream.is_local(), response.status()) {
        (true, status) => status == StatusCode::SWITCHING_PROTOCOLS,
        // The other edge says it in HTTP/2's words.
        (false, status) => from_reader.is_some() && status == StatusCode::OK,
    };
    if switched {
        return Ok(match from_reader {
            Some(from_reader) => splice(edge, from_reader, response, over_link),
            None => pages::text(StatusCode::BAD_GATEWAY, "The site switched protocols without being asked."),
        });
    }
    if over_link && response.status().is_success() {
        // Over a link success would mean that it has switched.
        return Ok(pages::text(StatusCode::BAD_GATEWAY, "The site does not speak WebSocket here."));
    }
    policy::strip_hop_by_hop(response.headers_mut());
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        // An application that is just starting says that, and not when to come back.
        response.headers_mut().entry(header::RETRY_AFTER).or_insert_with(pages::retry_after);
    }
    if let Some(dropped) = response.headers_mut().remove(X_CACHE_INVALIDATE)
        && site.upstream.is_local()
    {
        // A second messenger beside the webhook, and a faster one.
        edge.hear_answer(site, &route.target, dropped.to_str().unwrap_or_default());
    }
    let status = CacheStatus::Forwarded { why, status: Some(response.status()), stored: false, collapsed: false };
    response.headers_mut().insert(policy::CACHE_STATUS, status.value());
    Ok(match rewriter {
        Some(rewriter) => rename::response(&rewriter, response),
        None => response,
    })
}

/// The request for all of what `request` wants a part of; `None` if it wants no part.
fn without_range(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.headers().contains_key(header::RANGE) || !request.body().is_end_stream() {
        return None;
    }
    let mut whole = Request::new(Body::empty());
    *whole.method_mut() = request.method().clone();
    *whole.uri_mut() = request.uri().clone();
    *whole.headers_mut() = request.headers().clone();
    whole.headers_mut().remove(header::RANGE);
    whole.headers_mut().remove(header::IF_RANGE);
    Some(whole)
}

/// A write that succeeded may have changed what its address, and the addresses it names, lead to (RFC 9111 section 4.4).
fn invalidate(edge: &Edge, site: &Site, route: &Route, response: &Response<Body>) {
    if !(response.status().is_success() || response.status().is_redirection()) {
        return;
    }
    let named = [header::LOCATION, header::CONTENT_LOCATION].map(|name| {
        let place = response.headers().get(name).and_then(|place| place.to_str().ok())?;
        discover::resolve(&route.target, &site.config.canonical, place)
    });
    let concerned: Vec<_> = named.into_iter().flatten().chain([route.target.clone()]).collect();
    edge.store.invalidate_named(site.name(), &concerned);
}

/// The request as the source gets it: the reader's, with its claims replaced by what we know.
fn outgoing(request: Request<Body>, site: &Site, reader: IpAddr, via: &Via) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    via.add(&mut parts.headers, parts.version);
    policy::forward_request(&mut parts.headers, reader, &site.config.canonical);
    peers::remove_claims(&mut parts.headers);
    // Answered by us when the body is first wanted (RFC 9110 section 10.1.1).
    parts.headers.remove(header::EXPECT);
    join_cookies(&mut parts.headers);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Request::from_parts(parts, body)
}

/// HTTP/2 may split cookies over several fields, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let cookies: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        fields.insert(header::COOKIE, joined);
    }
}

/// The WebSocket that a request asks for (RFC 6455 section 4.1).
fn wanted_upgrade(request: &Request<Body>) -> Option<HeaderValue> {
    let listed = request.headers().get_all(header::CONNECTION).iter().any(|field| {
        field.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let is_old = request.version() == Version::HTTP_11 || request.extensions().get::<Protocol>().is_some();
    let asks = listed && is_old && *request.method() == Method::GET;
    // Nothing else: over `h2c` a reader could ask the application for what is refused here.
    let protocol = request.headers().get(header::UPGRADE).filter(|_| asks)?;
    protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()).then(|| protocol.clone())
}

/// A peer's extended CONNECT for a WebSocket in the words in which a browser asks for one; everything else as it is.
pub(crate) fn in_old_words<B>(mut request: Request<B>) -> Request<B> {
    let asked = request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    if asked && *request.method() == Method::CONNECT {
        *request.method_mut() = Method::GET;
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
    request
}

/// Joins both connections once each side has switched.
fn splice(edge: &Edge, from_reader: OnUpgrade, mut response: Response<Body>, over_link: bool) -> Response<Body> {
    let from_source = hyper::upgrade::on(&mut response);
    edge.lifecycle().spawn(async move {
        let (Ok(reader), Ok(source)) = tokio::join!(from_reader, from_source) else { return };
        let (mut reader, mut source) = (TokioIo::new(reader), TokioIo::new(source));
        if let Err(error) = tokio::io::copy_bidirectional(&mut reader, &mut source).await {
            debug!(%error, "an upgraded connection broke off");
        }
    });
    let mut switched = Response::new(Body::empty());
    *switched.headers_mut() = std::mem::take(response.headers_mut());
    policy::strip_hop_by_hop(switched.headers_mut());
    if !over_link {
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        switched.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        switched.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
    switched
}
