//! A mirror listens to the edges of its primary, for as long as there are links: what changed there is fetched again.
//!
//! It is the edge with the application that speaks first. Those beside it repeat what they hear to other data centers, some
//! of whose edges may have no link to the first; whoever has one does not heed the others.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use tracing::debug;

use crate::body::Body;
use crate::edge::Edge;
use crate::fetch::{self, away};
use crate::generation::Site;
use crate::notice::{LONGEST_LINE, Notice, What};
use crate::peers;
use crate::route::{Key, Target};
use crate::upstream::link::Link;
use crate::upstream::{Upstream, UpstreamError};

/// A peer that cannot be listened to is asked again after this long, doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Listens for notices about `sites` over a link.
pub(crate) async fn listen(edge: &Arc<Edge>, link: &Arc<Link>, sites: &[Arc<Site>]) {
    let mut retry = FIRST_RETRY;
    loop {
        match link.send(peers::question_for_changes()).await {
            Ok(response) if response.status() == StatusCode::OK => {
                retry = FIRST_RETRY;
                let spoken_of = peers::spoken_of(response.headers(), sites);
                notices(edge, link, response.into_body(), sites, &spoken_of).await;
            }
            Ok(response) => debug!(status = %response.status(), "a peer gives no notices"),
            Err(error) => {
                debug!(error = %error.in_full(), "a peer cannot be listened to");
                if error.is_absence() {
                    for site in sites {
                        lost(edge, site, link, &error, retry == FIRST_RETRY).await;
                    }
                }
            }
        }
        // A peer that we cannot dial lends us a connection.
        let _ = tokio::time::timeout(retry, link.lent()).await;
        retry = LONGEST_RETRY.min(retry * 2);
    }
}

/// There is nobody at the other end of `link`; `now`: any more.
async fn lost(edge: &Arc<Edge>, site: &Arc<Site>, link: &Arc<Link>, error: &UpstreamError, now: bool) {
    match &site.upstream {
        Upstream::Link(edges) if edges.lead_there_without(link) => {
            if edges.is_source(link)
                && let Ok(front) = Target::parse("/")
            {
                if now {
                    // What was said last may have been missed, and was not heeded from others.
                    site.standing.request_pass(false);
                }
                // Whether the application can be reached through another edge shows when somebody tries.
                fetch::ask(edge, site, &Key::new(site.name().clone(), front), None).await;
            }
        }
        _ => away(site, error),
    }
}

/// Hears notices about `sites` until the stream ends. It opens with one about all that it is about, `spoken_of`.
async fn notices(edge: &Arc<Edge>, link: &Arc<Link>, mut body: Body, sites: &[Arc<Site>], spoken_of: &[Arc<Site>]) {
    let heeded = |site: &Arc<Site>| match &site.upstream {
        Upstream::Link(edges) => edges.is_to_be_heard(link),
        _ => false,
    };
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                // It opens the stream: whatever happened before it may have been missed.
                spoken_of.iter().filter(|site| heeded(site)).for_each(|site| edge.hear_notice(site, What::Anything));
            } else if let Some(Notice { site: name, what }) = Notice::parse(&line)
                && let Some(site) = sites.iter().find(|site| *site.name() == name).filter(|site| heeded(site))
            {
                // That anything may be another one is told with the change itself.
                if site.is_written_beside && what != What::Anything {
                    edge.tell(site, what.clone());
                }
                edge.hear_notice(site, what);
            }
        }
        if pending.len() > LONGEST_LINE {
            return;
        }
    }
}
