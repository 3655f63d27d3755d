//! Answers that a reader does not take.
//!
//! HTTP/2 lets a reader ask for much, allow nothing to be sent, and keep the connection alive with pings: every answer
//! would hold its file, or its exchange with the application, for ever. So a streamed answer is given up when the reader
//! has not taken what is ready for [`PATIENCE`]. An answer that waits for its source is never given up: events may be
//! hours apart.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::body::{Body, BodyError};
use crate::share::Share;

/// A chunk has at most some 400 kB: 7 kB/s are enough to take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives `body` to a reader who must take it; `share` is held until that is done.
pub(crate) fn taken(body: Body, share: Share) -> Body {
    within(PATIENCE, body, share)
}

fn within(patience: Duration, body: Body, share: impl Send + 'static) -> Body {
    let state = Arc::new(Mutex::new(State { body: Some((body, Box::new(share))), offered: Some(Instant::now()) }));
    let watch = tokio::spawn(watch(patience, state.clone())).abort_handle();
    Body::stream(Taken { state, watch })
}

struct State {
    /// `None` once given up or at the end.
    body: Option<(Body, Box<dyn Send>)>,
    /// Since when the reader could take something; `None` while the source has nothing to give.
    offered: Option<Instant>,
}

struct Taken {
    state: Arc<Mutex<State>>,
    watch: AbortHandle,
}

/// Gives the body up when nothing was taken for `patience`.
async fn watch(patience: Duration, state: Arc<Mutex<State>>) {
    loop {
        let next = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match state.offered {
                Some(since) if now.duration_since(since) >= patience => {
                    state.body = None;
                    return;
                }
                Some(since) => since + patience,
                None => now + patience,
            }
        };
        sleep_until(next).await;
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((body, _)) = &mut state.body else {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        };
        let polled = Pin::new(body).poll_frame(cx);
        state.offered = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.body.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.body.as_ref().map_or_else(SizeHint::default, |(body, _)| body.size_hint())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::body::ChannelBody;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_is_not_taken_is_given_up_and_what_is_awaited_is_not() {
        let (sender, receiver) = mpsc::channel(8);
        let (share, held) = mpsc::channel::<()>(1);
        let mut body = within(SHORT, Body::stream(ChannelBody(receiver)), held);
        // The source has nothing for long.
        let waited = tokio::time::timeout(SHORT * 5, body.frame()).await;
        assert!(waited.is_err() && !share.is_closed());
        sender.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
        sender.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        // Now it is the reader who does not come back.
        share.closed().await;
        assert!(sender.is_closed(), "nothing is held any more");
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_begins_to_take_is_given_up() {
        let (sender, receiver) = mpsc::channel(1);
        let _body = within(SHORT, Body::stream(ChannelBody(receiver)), ());
        sender.closed().await;
    }
}
