//! Webhooks: the application says that the site changed.
//!
//! Answered as soon as the signature is checked and the pages are marked; fetching them again is the keeper's. Which
//! event it was does not matter: Ghost's `site.changed` comes with every change that readers can see, and does not
//! name pages.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tracing::warn;

use crate::body::Body;
use crate::edge::Edge;
use crate::generation::Site;
use crate::pages;

/// A post with all its fields, both before and after the change, and a lot of room.
const MOST_BYTES: usize = 16 << 20;
/// Ghost gives up after 2 s.
const WITHIN: Duration = Duration::from_secs(10);

/// Takes a webhook for `site`, received at `now`.
pub(crate) async fn receive(
    edge: &Arc<Edge>,
    site: &Site,
    request: Request<Incoming>,
    now: SystemTime,
) -> Response<Body> {
    let Some(secret) = &site.hook_secret else {
        return pages::text(StatusCode::NOT_FOUND, "No webhooks are taken for this site.");
    };
    let signature = request.headers().get("x-ghost-signature").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Some(signature) = signature else {
        return pages::text(StatusCode::UNAUTHORIZED, "The webhook is not signed.");
    };
    let body = tokio::time::timeout(WITHIN, Limited::new(request.into_body(), MOST_BYTES).collect()).await;
    let Ok(Ok(body)) = body else {
        return pages::text(StatusCode::PAYLOAD_TOO_LARGE, "The webhook's body is too large or too slow.");
    };
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Err(error) = secret.check(&body.to_bytes(), &signature, since_epoch) {
        warn!(site = %site.name(), %error, "a webhook is refused");
        return pages::text(StatusCode::FORBIDDEN, "The webhook's signature does not hold.");
    }
    edge.site_changed(site);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
