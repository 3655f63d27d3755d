//! The edges of a site's primary data center: one of them has the application on its host, the others are beside it.
//!
//! ```text
//!  known where it is ─▶ that edge ──────────────── its answer
//!       │                  └ away, or "elsewhere" ─▶ the others, in order ─▶ passed on from there, or a kept page
//!       └ not known ─▶ all are asked whether it is there
//! ```
//!
//! An edge that has no application answers "elsewhere" ([`peers`]), unless it may pass the question on and somebody
//! answers it. A data center's own edges never ask each other to pass anything on, and what was passed on is not passed on
//! again: no question goes in a circle, and none over more than two links.
//!
//! Promise: a request goes on to the next edge only when nobody has acted on it, so that a write arrives once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use sovereign_model::SiteName;
use sovereign_model::name::DatacenterName;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::UpstreamError;
use super::link::Link;
use crate::body::Body;
use crate::peers::{self, SourceIs};

/// Where the application is, is a small question: an edge that takes longer is not asked for more than it.
const SAY_WITHIN: Duration = Duration::from_secs(2);
/// How long it is believed that nobody knows.
const BELIEVE_NOWHERE: Duration = Duration::from_secs(1);
/// No place in the list.
const UNKNOWN: usize = usize::MAX;

/// Marks an answer that is another edge's kept page: the source, at this data center, was not reached.
#[derive(Debug, Clone)]
pub(crate) struct SecondHand(pub(crate) String);

/// The ways to where a site is written.
pub(crate) struct Edges {
    site: SiteName,
    datacenter: DatacenterName,
    /// In order of preference; at least one.
    links: Vec<Arc<Link>>,
    /// Which of them has the application, as far as is known.
    source: AtomicUsize,
    /// When that was last asked.
    asked: Mutex<Option<Instant>>,
}

impl Edges {
    pub(crate) fn new(site: SiteName, datacenter: DatacenterName, links: Vec<Arc<Link>>) -> Arc<Self> {
        // Of one there is nothing to be found out.
        let source = if links.len() == 1 { 0 } else { UNKNOWN };
        Arc::new(Self { site, datacenter, links, source: AtomicUsize::new(source), asked: Mutex::default() })
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        if self.source.load(Ordering::Relaxed) == UNKNOWN {
            self.find().await;
        }
        let mut last = None;
        for (at, link) in self.order() {
            let (error, back) = match link.offer(request).await {
                Ok((mut response, unsent)) => match peers::take_word(&mut response) {
                    Some(SourceIs::Elsewhere) => {
                        self.is_not_at(at);
                        (UpstreamError::NoSource { datacenter: self.datacenter.to_string() }, unsent.take_back())
                    }
                    Some(SourceIs::Away) => {
                        self.is_not_at(at);
                        response.extensions_mut().insert(SecondHand(self.datacenter.to_string()));
                        return Ok(response);
                    }
                    Some(SourceIs::Beside) => {
                        self.is_not_at(at);
                        return Ok(response);
                    }
                    Some(SourceIs::Here) | None => return Ok(response),
                },
                Err((error, back)) => (error, back),
            };
            let Some(back) = back else { return Err(error) };
            request = back;
            // What a peer says is worth more than that another cannot be reached.
            if last.is_none() || matches!(error, UpstreamError::NoSource { .. }) {
                last = Some(error);
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::NoSource { datacenter: self.datacenter.to_string() }))
    }

    /// The application may have been there once.
    fn is_not_at(&self, at: usize) {
        if self.links.len() > 1 {
            let _ = self.source.compare_exchange(at, UNKNOWN, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether all that `link` leads to can be asked for in another way, as far as is known.
    pub(crate) fn lead_there_without(&self, link: &Arc<Link>) -> bool {
        self.links.iter().any(|other| !Arc::ptr_eq(other, link) && !other.is_away())
    }

    /// Whether what is said over `link` of changes is to be heeded: the others say the same as the application's edge, and
    /// count where that one cannot be heard.
    pub(crate) fn is_to_be_heard(&self, link: &Arc<Link>) -> bool {
        self.is_source(link)
            || self.links.get(self.source.load(Ordering::Relaxed)).is_none_or(|source| source.is_away())
    }

    /// Whether `link` leads to where the application is.
    pub(crate) fn is_source(&self, link: &Arc<Link>) -> bool {
        self.links.get(self.source.load(Ordering::Relaxed)).is_some_and(|source| Arc::ptr_eq(source, link))
    }

    /// Where to ask: where the application is, then in order of preference; last what is away.
    fn order(&self) -> Vec<(usize, &Arc<Link>)> {
        let source = self.source.load(Ordering::Relaxed);
        let mut order: Vec<_> = self.links.iter().enumerate().collect();
        order.sort_by_key(|(at, link)| (link.is_away(), *at != source));
        order
    }

    /// Asks all edges that are not away, at once, whether they have the application.
    async fn find(&self) {
        let mut asked = self.asked.lock().await;
        let recently = asked.is_some_and(|at| at.elapsed() < BELIEVE_NOWHERE);
        if recently || self.source.load(Ordering::Relaxed) != UNKNOWN {
            return;
        }
        let mut asking = JoinSet::new();
        for (at, link) in self.links.iter().enumerate().filter(|(_, link)| !link.is_away()) {
            let (link, question) = (link.clone(), peers::question_where(&self.site));
            asking.spawn(async move { (at, link.send(question).await) });
        }
        let here = async {
            while let Some(said) = asking.join_next().await {
                if let Ok((at, Ok(mut answer))) = said
                    && peers::take_word(&mut answer) == Some(SourceIs::Here)
                {
                    self.source.store(at, Ordering::Relaxed);
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(SAY_WITHIN, here).await;
        // Whoever has not answered yet may turn out to be away.
        asking.detach_all();
        *asked = Some(Instant::now());
    }
}
