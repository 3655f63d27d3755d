//! A request that can be taken back, whatever its method, when the peer says that it has not acted on it.
//!
//! While the edge at the other end of a link is replaced, its connection ends between two requests: one that was just
//! handed to it was never sent, or was sent and comes back unread. The client library gives neither back. Of a body as
//! much is remembered as a form has; of a long upload that much has gone is lost, and its author has to send it again.

use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// How much of a body is remembered: more than a post without pictures has.
const REMEMBERED: usize = 256 << 10;

/// What is left of a request when it was handed out.
pub(super) struct Unsent {
    head: Parts,
    body: Shared,
}

type Shared = Arc<Mutex<Remembered>>;

/// A body, and what was read from it; `None` once that is too much.
struct Remembered {
    rest: Body,
    read: Option<VecDeque<Bytes>>,
    bytes: usize,
}

fn lock(body: &Shared) -> MutexGuard<'_, Remembered> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unsent {
    /// Hands out `request` in a form whose body can be taken back.
    pub(super) fn hand_out(request: Request<Body>) -> (Request<Body>, Self) {
        let (head, rest) = request.into_parts();
        let end = rest.is_end_stream();
        let body = Arc::new(Mutex::new(Remembered { rest, read: Some(VecDeque::new()), bytes: 0 }));
        let out = if end { Body::empty() } else { Body::stream(Handed(body.clone())) };
        (Request::from_parts(head.clone(), out), Self { head, body })
    }

    /// The request as it was, unless too much of its body has been read.
    pub(super) fn take_back(self) -> Option<Request<Body>> {
        let mut body = lock(&self.body);
        let read = body.read.take()?;
        let rest = std::mem::replace(&mut body.rest, Body::empty());
        drop(body);
        let whole = if read.is_empty() { rest } else { Body::stream(Again { read, rest }) };
        Some(Request::from_parts(self.head, whole))
    }
}

/// Whether `error` says that the peer has not acted on the request: it was never sent, was above the last stream that
/// the peer's GOAWAY names (RFC 9113 section 6.8), or was refused as a stream (section 8.7).
pub(super) fn was_not_acted_on(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        let reason = error.reason();
        (error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR))
            || (error.is_reset() && error.is_remote() && reason == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// A body that remembers what is read from it.
struct Handed(Shared);

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut body = lock(&self.0);
        let Remembered { rest, read, bytes } = &mut *body;
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            *bytes += frame.data_ref().map_or(REMEMBERED, Bytes::len); // trailers are not sent twice
            match frame.data_ref() {
                Some(data) if *bytes < REMEMBERED => read.iter_mut().for_each(|read| read.push_back(data.clone())),
                _ => *read = None,
            }
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).rest.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).rest.is_end_stream()
    }
}

/// What was read already, then the rest.
struct Again {
    read: VecDeque<Bytes>,
    rest: Body,
}

impl HttpBody for Again {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.read.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.read.iter().map(|data| data.len() as u64).sum::<u64>();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn upload(bytes: usize) -> Request<Body> {
        Request::post("/upload").body(Body::own(vec![b'a'; bytes].into())).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_taken_back_with_what_was_read_from_it() {
        let (out, unsent) = Unsent::hand_out(upload(1000));
        assert_eq!(out.body().size_hint().exact(), Some(1000));
        assert_eq!(out.into_body().collect().await.unwrap().to_bytes().len(), 1000);
        let (again, unsent) = Unsent::hand_out(unsent.take_back().unwrap());
        assert_eq!((again.uri().path(), again.method().as_str()), ("/upload", "POST"));
        assert_eq!(again.body().size_hint().exact(), Some(1000));
        drop(again);
        let body = unsent.take_back().unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), vec![b'a'; 1000]);
    }

    #[tokio::test]
    async fn a_long_body_that_was_read_from_is_not_remembered() {
        let (out, unsent) = Unsent::hand_out(upload(REMEMBERED));
        out.into_body().collect().await.unwrap();
        assert!(unsent.take_back().is_none());
    }
}
