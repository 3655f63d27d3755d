//! A mirror listens to the edge of its primary, for as long as there is a link: what changed there is fetched again.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use tracing::debug;

use crate::body::Body;
use crate::edge::Edge;
use crate::fetch::away;
use crate::generation::Site;
use crate::notice::{LONGEST_LINE, Notice, What};
use crate::peers;
use crate::upstream::link::Link;

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
                notices(edge, response.into_body(), sites).await;
            }
            Ok(response) => debug!(status = %response.status(), "a peer gives no notices"),
            Err(error) => {
                debug!(error = %error.in_full(), "a peer cannot be listened to");
                if error.is_absence() {
                    sites.iter().for_each(|site| away(site, &error));
                }
            }
        }
        // A peer that we cannot dial lends us a connection.
        let _ = tokio::time::timeout(retry, link.lent()).await;
        retry = LONGEST_RETRY.min(retry * 2);
    }
}

async fn notices(edge: &Arc<Edge>, mut body: Body, sites: &[Arc<Site>]) {
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                // It opens the stream: whatever happened before it may have been missed.
                sites.iter().for_each(|site| edge.hear_notice(site, What::Anything));
            } else if let Some(Notice { site: name, what }) = Notice::parse(&line)
                && let Some(site) = sites.iter().find(|site| *site.name() == name)
            {
                edge.hear_notice(site, what);
            }
        }
        if pending.len() > LONGEST_LINE {
            return;
        }
    }
}
