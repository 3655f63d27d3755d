//! Which kind of answer a request may get, by application.

use std::net::IpAddr;

use http::{HeaderMap, Method, StatusCode, header};
use sovereign_model::edge_config::{EdgeApp, EdgeSite};
use sovereign_model::stack::AdminReach;

use super::{Asked, Class, Key, Refusal, Target, refuse, refuse_method};

/// Ghost's public read interface: lies below the admin's path, but readers' browsers ask it (site search).
const GHOST_CONTENT_API: &str = "/ghost/api/content/";
/// Ghost's admin interface and its API.
const GHOST_ADMIN: &str = "/ghost/";
/// Below these Ghost answers one reader, or changes something: members, the password page of a private site, previews,
/// unsubscribing, incoming mentions, the social web.
const GHOST_LIVE: &[&str] =
    &["/members/", "/private/", "/p/", "/unsubscribe/", "/webmentions/", "/.ghost/", "/.well-known/webfinger/"];

/// The class of a request for `target` of `site`.
pub(super) fn classify(site: &EdgeSite, asked: &Asked<'_>, target: &Target) -> Result<Class, Refusal> {
    match site.app {
        EdgeApp::Ghost => classify_ghost(site, asked, target),
        EdgeApp::Static => classify_static(site, asked, target),
        EdgeApp::Upstream(_) => Ok(classify_upstream(site, asked, target)),
    }
}

fn classify_ghost(site: &EdgeSite, asked: &Asked<'_>, target: &Target) -> Result<Class, Refusal> {
    if target.is_under(GHOST_ADMIN) && !target.is_under(GHOST_CONTENT_API) {
        return if admits(site.admin, asked.reader) {
            Ok(Class::Admin)
        } else {
            Err(refuse(StatusCode::FORBIDDEN, "The admin interface cannot be reached from here."))
        };
    }
    let reads = asked.method == Method::GET || asked.method == Method::HEAD;
    if !reads || !is_mirrored(&site.app, target) {
        return Ok(Class::Live { copy: None });
    }
    let key = Key::new(site.site.clone(), target.shared());
    if asked.headers.contains_key(header::AUTHORIZATION) || has_ghost_cookie(asked.headers) {
        return Ok(Class::Live { copy: Some(key) });
    }
    Ok(Class::Read { fallback: fallback(&key), key })
}

/// Files know neither readers nor queries.
fn classify_static(site: &EdgeSite, asked: &Asked<'_>, target: &Target) -> Result<Class, Refusal> {
    if asked.method != Method::GET && asked.method != Method::HEAD {
        return Err(refuse_method("This site can only be read.", "GET, HEAD"));
    }
    let target = target.without_query().unwrap_or_else(|| target.clone());
    Ok(Class::Read { key: Key::new(site.site.clone(), target), fallback: None })
}

/// Any service: what an answer depends on is what HTTP says, so the query is taken byte for byte, and a request that
/// names its reader is passed through unless a kept answer says that it is for everybody all the same.
fn classify_upstream(site: &EdgeSite, asked: &Asked<'_>, target: &Target) -> Class {
    let reads = asked.method == Method::GET || asked.method == Method::HEAD;
    if !reads || !is_mirrored(&site.app, target) || asks_to_upgrade(asked.headers) {
        return Class::Live { copy: None };
    }
    let key = Key::new(site.site.clone(), target.clone());
    if asked.headers.contains_key(header::AUTHORIZATION) || asked.headers.contains_key(header::COOKIE) {
        return Class::Live { copy: Some(key) };
    }
    Class::Read { key, fallback: None }
}

/// A WebSocket begins as a `GET` (RFC 6455 section 4.1), and events are asked for by their type: neither ends.
fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let events = |accept: &http::HeaderValue| accept.as_bytes().starts_with(b"text/event-stream");
    headers.contains_key(header::UPGRADE) || headers.get(header::ACCEPT).is_some_and(events)
}

fn fallback(key: &Key) -> Option<Key> {
    // An answer of the content API depends on its query: another one would be wrong, not old.
    let target = key.target.without_query().filter(|target| !target.is_under(GHOST_CONTENT_API))?;
    Some(Key::new(key.site.clone(), target))
}

/// Whether a page may be kept for everybody and belongs into a complete mirror.
pub fn is_mirrored(app: &EdgeApp, target: &Target) -> bool {
    match app {
        EdgeApp::Ghost => {
            target.is_under(GHOST_CONTENT_API)
                || !(target.is_under(GHOST_ADMIN) || GHOST_LIVE.iter().any(|prefix| target.is_under(prefix)))
        }
        EdgeApp::Static => true,
        EdgeApp::Upstream(rules) => !rules.never.iter().any(|path| target.may_be_under(path)),
    }
}

/// Whether any cookie is Ghost's own (`ghost-members-ssr`, `ghost-private`, `ghost-admin-api-session`,
/// `ghost-admin-toolbar` and their signatures). By prefix, so that one added by a later Ghost is not missed; a field
/// that is not text counts as one.
fn has_ghost_cookie(headers: &HeaderMap) -> bool {
    headers.get_all(header::COOKIE).iter().any(|field| {
        field.as_bytes().split(|byte| *byte == b';' || *byte == b',').any(|cookie| {
            let cookie = cookie.trim_ascii();
            cookie.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"ghost-"))
        })
    })
}

/// Whether a reader at this address may reach the admin interface.
pub fn admits(reach: AdminReach, reader: IpAddr) -> bool {
    let reader = reader.to_canonical();
    match reach {
        AdminReach::Public => true,
        AdminReach::Local => reader.is_loopback(),
        AdminReach::Lan => {
            reader.is_loopback()
                || match reader {
                    IpAddr::V4(address) => address.is_private() || address.is_link_local(),
                    IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
                }
        }
    }
}
