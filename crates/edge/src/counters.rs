//! What an edge has done since it was started, counted.
//!
//! Plain numbers that only grow, one relaxed addition per event: no lock, no allocation, nothing to set up, and no core
//! waits for another. What was done with a request is read off the answer itself, from the `Cache-Status` that the
//! reader sees too, so that the figures and the answers cannot tell different stories. Bytes are counted where they pass
//! the network, TLS included.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use sovereign_model::edge_status::{LATENCY_BOUNDS_MS, Latency, Traffic};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fetch::Fetched;
use crate::lane::{Apart, LANES, lane};
use crate::policy::Outcome;

/// A number that only grows. Each thread adds to a part of its own.
#[derive(Debug, Default)]
pub(crate) struct Count([Apart<AtomicU64>; LANES]);

impl Count {
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        if more > 0 {
            self.0[lane()].0.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// TLS handshakes that ended well.
    pub(crate) handshakes: Count,
    /// Handshakes that failed or took too long.
    pub(crate) handshakes_failed: Count,
    /// Connections taken.
    pub(crate) connections: Count,
    /// Connections refused, because there were too many.
    pub(crate) connections_refused: Count,
    hits: Count,
    stale: Count,
    away: Count,
    misses: Count,
    passed: Count,
    own: Count,
    limited: Count,
    /// Questions of other edges.
    pub(crate) asked_by_edges: Count,
    kept: Count,
    confirmed: Count,
    unkept: Count,
    unanswered: Count,
    received: Count,
    sent: Count,
    latency: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than there are bounds, for what is beyond the last.
    buckets: [Count; LATENCY_BOUNDS_MS.len() + 1],
    microseconds: Count,
}

impl Counters {
    /// An answer to a reader.
    pub(crate) fn answered(&self, status: StatusCode, outcome: Option<Outcome>) {
        if outcome.is_none() && status == StatusCode::TOO_MANY_REQUESTS {
            self.limited.one();
        }
        let count = match outcome {
            Some(Outcome::Hit) => &self.hits,
            Some(Outcome::Stale) => &self.stale,
            Some(Outcome::SourceAway) => &self.away,
            Some(Outcome::Miss) => &self.misses,
            Some(Outcome::Passed) => &self.passed,
            None => &self.own,
        };
        count.one();
    }

    /// What came of a question to a source.
    pub(crate) fn fetched(&self, fetched: &Fetched) {
        let count = match fetched {
            Fetched::Kept { status, .. } if *status == http::StatusCode::NOT_MODIFIED => &self.confirmed,
            Fetched::Kept { .. } | Fetched::Coming(_) => &self.kept,
            Fetched::Unkept(_) => &self.unkept,
            Fetched::Failed(_) => &self.unanswered,
        };
        count.one();
    }

    /// A source began to answer after so long.
    pub(crate) fn source_took(&self, time: Duration) {
        let bucket = LATENCY_BOUNDS_MS.iter().position(|bound| time <= Duration::from_millis(*bound));
        self.latency.buckets[bucket.unwrap_or(LATENCY_BOUNDS_MS.len())].one();
        self.latency.microseconds.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The figures as they are now.
    pub(crate) fn now(&self) -> Traffic {
        Traffic {
            hits: self.hits.now(),
            stale: self.stale.now(),
            away: self.away.now(),
            misses: self.misses.now(),
            passed: self.passed.now(),
            own: self.own.now(),
            limited: self.limited.now(),
            asked_by_edges: self.asked_by_edges.now(),
            kept: self.kept.now(),
            confirmed: self.confirmed.now(),
            unkept: self.unkept.now(),
            unanswered: self.unanswered.now(),
            handshakes: self.handshakes.now(),
            handshakes_failed: self.handshakes_failed.now(),
            connections: self.connections.now(),
            connections_refused: self.connections_refused.now(),
            received_bytes: self.received.now(),
            sent_bytes: self.sent.now(),
            source_latency: Latency {
                buckets: self.latency.buckets.iter().map(Count::now).collect(),
                microseconds: self.latency.microseconds.now(),
            },
        }
    }
}

/// A connection whose bytes are counted.
pub(crate) struct Counted<S> {
    inner: S,
    counters: Arc<Counters>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }

    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.counters.sent.add(*bytes as u64);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        self.counters.received.add((into.filled().len() - before) as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let counters = Counters::default();
        for said in [
            "sovereign; hit; ttl=0",
            "sovereign; hit; ttl=-3",
            "sovereign; hit; ttl=-30; detail=source-away",
            "sovereign; fwd=uri-miss; fwd-status=200; stored",
            "sovereign; fwd=stale",
            "sovereign; fwd=bypass",
            "sovereign; fwd=method; fwd-status=201",
            "somebody else; hit",
        ] {
            let fields = [(HeaderName::from_static("cache-status"), HeaderValue::from_static(said))];
            let outcome = Outcome::of(&HeaderMap::from_iter(fields));
            counters.answered(StatusCode::OK, outcome);
            // The application's own is no refusal of ours.
            counters.answered(StatusCode::TOO_MANY_REQUESTS, outcome);
        }
        let limited = counters.now().limited;
        counters.answered(StatusCode::OK, None);
        counters.answered(StatusCode::TOO_MANY_REQUESTS, None);
        let now = counters.now();
        assert_eq!((now.hits, now.stale, now.away, now.misses, now.passed, now.own), (2, 2, 2, 4, 4, 4));
        assert_eq!((now.requests(), now.limited - limited), (18, 1));
    }

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let counters = Counters::default();
        for ms in [0, 1, 2, 90_000] {
            counters.source_took(Duration::from_millis(ms));
        }
        let latency = counters.now().source_latency;
        assert_eq!((latency.buckets.first(), latency.buckets.last()), (Some(&2), Some(&1)));
        assert_eq!((latency.count(), latency.microseconds), (4, 90_003_000));
    }

    #[tokio::test]
    async fn bytes_are_counted_in_both_directions() {
        let counters = Arc::new(Counters::default());
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Counted::new(ours, counters.clone());
        ours.write_all(b"hello").await.unwrap();
        theirs.write_all(b"hi").await.unwrap();
        let mut two = [0; 2];
        ours.read_exact(&mut two).await.unwrap();
        assert_eq!((counters.now().sent_bytes, counters.now().received_bytes), (5, 2));
    }
}
