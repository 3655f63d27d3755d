//! Webhooks: the application says that the site changed, and what.
//!
//! Answered as soon as the signature is checked and the pages are marked; fetching them again is the keeper's. Before
//! the signature holds, the body is a stranger's: it is kept as far as there is memory for all bodies together, and
//! what is not kept is checked piece by piece all the same. Such a body means that everything may have changed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::sync::SemaphorePermit;
use tracing::warn;

use crate::body::{Body, BodyError};
use crate::concern::Event;
use crate::edge::Edge;
use crate::generation::Site;
use crate::pages;

/// A post with all its fields, both before and after the change, its revisions, and a lot of room.
const MOST_BYTES: usize = 16 << 20;
/// Bodies that are kept at a time, in pieces of [`PIECE`].
pub(crate) const MEMORY: usize = 16;
const PIECE: usize = 1 << 20;
/// Ghost gives up after 2 s.
const WITHIN: Duration = Duration::from_secs(10);

/// Takes a webhook for `site`, received at `now`.
pub(crate) async fn receive(
    edge: &Arc<Edge>,
    site: &Arc<Site>,
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
    let mut kept = Kept::new(edge);
    let read = async {
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                check.update(&data);
                kept.add(&data);
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
    edge.hear(site, &kept.event());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    pages::own(response)
}

/// A body, as long as there is memory for it.
struct Kept<'a> {
    edge: &'a Edge,
    bytes: Option<Vec<u8>>,
    memory: Vec<SemaphorePermit<'a>>,
}

impl<'a> Kept<'a> {
    fn new(edge: &'a Edge) -> Self {
        Self { edge, bytes: Some(Vec::new()), memory: Vec::new() }
    }

    fn add(&mut self, data: &[u8]) {
        let Some(bytes) = &mut self.bytes else { return };
        while bytes.len() + data.len() > self.memory.len() * PIECE {
            match self.edge.hook_memory.try_acquire() {
                Ok(piece) => self.memory.push(piece),
                Err(_) => {
                    self.bytes = None;
                    self.memory.clear();
                    return;
                }
            }
        }
        bytes.extend_from_slice(data);
    }

    fn event(&self) -> Event {
        self.bytes.as_deref().map_or(Event::Other, Event::parse)
    }
}
