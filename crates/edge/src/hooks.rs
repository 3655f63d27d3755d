//! Webhooks: the application says that the site changed.
//!
//! Answered as soon as the signature is checked and the pages are marked; fetching them again is the keeper's. Which
//! event it was does not matter: Ghost's `site.changed` comes with every change that readers can see, and does not
//! name pages. So the body is only checked, piece by piece: before the signature holds, it is a stranger's.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tracing::warn;

use crate::body::{Body, BodyError};
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
    let refused = |error| {
        warn!(site = %site.name(), %error, "a webhook is refused");
        pages::text(StatusCode::FORBIDDEN, "The webhook's signature does not hold.")
    };
    let Some(signature) = request.headers().get("x-ghost-signature").and_then(|value| value.to_str().ok()) else {
        return pages::text(StatusCode::UNAUTHORIZED, "The webhook is not signed.");
    };
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut check = match secret.check(signature, since_epoch) {
        Ok(check) => check,
        Err(error) => return refused(error),
    };
    let mut body = Limited::new(request.into_body(), MOST_BYTES);
    let read = async {
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                check.update(&data);
            }
        }
        Ok::<_, BodyError>(())
    };
    let Ok(Ok(())) = tokio::time::timeout(WITHIN, read).await else {
        return pages::text(StatusCode::PAYLOAD_TOO_LARGE, "The webhook's body is too large or too slow.");
    };
    if let Err(error) = check.finish() {
        return refused(error);
    }
    edge.site_changed(site);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    pages::own(response)
}
