//! The keeper of a site: sees to it that every page is kept, and kept fresh, without any reader asking.
//!
//! ```text
//!            ┌──────────── a change, a request, the source is back ─────────────┐
//!            ▼                                                                  │
//!  pass: seeds ─▶ pages they link to ─▶ ... ─▶ all pages kept so far ─▶ ended ─▶ wait (sweep, or retry)
//!                                                                               │  ▲
//!                                      a change whose pages are known ─▶ round: only these
//! ```
//!
//! A pass asks for a page only when its copy is not fresh or the source was away, and conditionally. The front page and
//! what it lists come first, media last: what has no room for all is to have its pages. The source is asked by at most a
//! few questions at a time: an application with one thread has readers too; and for what nobody said had changed, only as
//! fast as [`pace`] allows.
//!
//! Promise: a page is removed only when the source said that it is gone, twice, or once after it said that the site
//! changed; and a pass that would remove more than a tenth of a site removes nothing and says so, because a broken
//! primary must not erase its mirrors. The page of a post goes at once when its application says so and then does not
//! have it.
//!
//! A mirror's keeper also listens for notices over the links to the primary's edges. Each time that link stands anew,
//! everything is checked, as notices may have been missed.

mod look;
mod pace;
mod pass;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header;
use sovereign_model::edge_config::Source;
use sovereign_model::edge_status::PassReason;
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;
use crate::generation::{Generation, Partner, Site};
use crate::mirror;
use crate::store::Entry;
use pass::Pass;

/// How often everything is looked at, changes or none: covers lost webhooks.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// After a pass that could not finish, the next begins after this long, doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Starts the keepers of all sites of `generation`; they end with `token`.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Generation, token: &CancellationToken) {
    for site in generation.sites.values() {
        let (edge, site, token) = (edge.clone(), site.clone(), token.clone());
        tokio::spawn(async move { token.run_until_cancelled(keep(&edge, &site)).await });
    }
    for Partner { datacenter, link, .. } in &generation.peers {
        let from_there =
            |site: &&Arc<Site>| matches!(&site.config.source, Source::Link(source) if source == datacenter);
        let sites: Vec<_> = generation.sites.values().filter(from_there).cloned().collect();
        if !sites.is_empty() {
            let (edge, link, token) = (edge.clone(), link.clone(), token.clone());
            tokio::spawn(async move { token.run_until_cancelled(mirror::listen(&edge, &link, &sites)).await });
        }
    }
}

/// Whether a page may be another one after the site changed: texts are; images, fonts and versioned files are not.
pub(crate) fn changes_with_the_site(entry: &Entry) -> bool {
    if entry.key().target.is_versioned() {
        return false;
    }
    let fields = entry.fields();
    let Some(kind) = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return true };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/") || kind.ends_with("xml") || kind.ends_with("json")
}

async fn keep(edge: &Arc<Edge>, site: &Arc<Site>) {
    if !site.upstream.is_local() {
        // Whatever was known from a time as primary.
        site.standing.news.links().doubt();
    }
    // A new configuration is no reason for haste.
    let whole = site.standing.last_pass().is_some_and(|last| last.complete);
    let mut reason = if whole { PassReason::Sweep } else { PassReason::Fill };
    let mut retry = FIRST_RETRY;
    loop {
        let changes = site.standing.changes();
        let last = Pass::new(edge, site, reason).run(changes).await;
        let finished = last.is_some();
        let complete = last.as_ref().is_some_and(|last| last.complete);
        site.standing.finish_pass(last);
        if !finished {
            reason = PassReason::Change;
            continue;
        }
        // A source on trial is asked until it is known to be well.
        let complete = complete && !site.standing.source_is_doubtful();
        let pause = if complete { SWEEP_EVERY } else { retry };
        retry = if complete { FIRST_RETRY } else { LONGEST_RETRY.min(retry * 2) };
        reason = next_pass(edge, site, changes, Instant::now() + pause).await;
    }
}

/// Waits for a reason to look at everything, `until` then at the latest; fetches what is new meanwhile. `changes`: as
/// many were seen to by the last pass.
async fn next_pass(edge: &Arc<Edge>, site: &Arc<Site>, changes: u64, mut until: Instant) -> PassReason {
    loop {
        let sweep = site.standing.news.sweep_due().filter(|_| site.upstream.is_local());
        let end = sweep.map_or(until, |sweep| sweep.min(until));
        match tokio::time::timeout_at(end.into(), woken(site, changes)).await {
            Ok(Some(reason)) => return reason,
            Ok(None) => {
                if !Pass::round(edge, site, changes).await {
                    until = until.min(Instant::now() + FIRST_RETRY);
                }
            }
            Err(_) if site.standing.source_is_away() => return PassReason::Fill,
            Err(_) => return PassReason::Sweep,
        }
    }
}

/// Waits for something to do; `None`: a change whose pages are known.
async fn woken(site: &Site, changes: u64) -> Option<PassReason> {
    loop {
        if site.standing.changes() != changes {
            return Some(PassReason::Change);
        }
        if site.standing.take_request() {
            return Some(PassReason::Fill);
        }
        if site.standing.news.is_waiting() {
            return None;
        }
        let away = site.standing.source_is_away();
        site.standing.woken().await;
        if away && !site.standing.source_is_away() {
            return Some(PassReason::Fill);
        }
    }
}
