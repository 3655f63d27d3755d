//! The body of a response (and of a request passed on): whole in memory, or a stream.
//!
//! A whole body costs no allocation on the way out, which is the hot path. A stream is whatever else: an upstream's
//! body, a file, a rewritten body.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use sovereign_model::edge_rules::Limits;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::store::BodyFile;

/// What can go wrong while a body is on its way; the connection is cut, nothing else is left to do.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a message.
pub(crate) enum Body {
    /// All of it, `None` once sent or when there is none.
    Whole(Option<Bytes>),
    /// Comes as it comes.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// No body.
    pub(crate) const fn empty() -> Self {
        Self::Whole(None)
    }

    /// `bytes`, all of it.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Anything that streams.
    pub(crate) fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self::Stream(body.map_err(Into::into).boxed_unsync())
    }

    /// `bytes`, made for one reader: memory that is held until they are taken, and to be counted as a stream.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::stream(Full::new(bytes))
    }

    /// This, and then `next`.
    pub(crate) fn then(self, next: Self) -> Self {
        if matches!(self, Self::Whole(None)) {
            return next;
        }
        if matches!(next, Self::Whole(None)) {
            return self;
        }
        Self::stream(Chained { first: Some(self), next })
    }

    /// This, with an error a turn later: what came before it is sent first. Of an answer that breaks off a reader so gets
    /// the beginning. One who gets nothing at all may take the connection for an old one and ask again, in a write too.
    pub(crate) fn failing_late(self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes),
            Self::Stream(body) => Self::stream(FailingLate { body, error: None }),
        }
    }

    /// Keeps `held` for as long as there is something to send.
    pub(crate) fn holding(self, held: impl Send + 'static) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes),
            Self::Stream(body) => Self::stream(Holding { body, _held: Box::new(held) }),
        }
    }
}

struct Chained {
    /// `None` at its end.
    first: Option<Body>,
    next: Body,
}

impl HttpBody for Chained {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = &mut self.first {
            match ready!(Pin::new(first).poll_frame(cx)) {
                None => self.first = None,
                frame => return Poll::Ready(frame),
            }
        }
        Pin::new(&mut self.next).poll_frame(cx)
    }
}

struct FailingLate {
    body: UnsyncBoxBody<Bytes, BodyError>,
    /// To be told at the next turn.
    error: Option<BodyError>,
}

impl HttpBody for FailingLate {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                self.error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.error.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Holding {
    body: UnsyncBoxBody<Bytes, BodyError>,
    _held: Box<dyn Send>,
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::whole(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::whole(text.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// A reader's body: it must make progress, and end within its bound. One that does not breaks off.
pub(crate) struct Moving<B> {
    body: B,
    left: u64,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
}

/// A body went beyond its bound.
#[derive(Debug, thiserror::Error)]
#[error("the body is longer than the configuration allows")]
pub(crate) struct TooLong;

impl<B> Moving<B> {
    pub(crate) fn new(body: B, limits: &Limits) -> Self {
        let patience = Duration::from_secs(limits.body_within.into());
        Self { body, left: limits.body.0, patience, timer: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl<B> HttpBody for Moving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, left, patience, timer } = &mut *self;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            timer.as_mut().reset(Instant::now() + *patience);
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                match left.checked_sub(data.len() as u64) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(Some(Err(TooLong.into()))),
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a task sends, until it stops.
pub(crate) struct ChannelBody(pub(crate) mpsc::Receiver<Result<Bytes, BodyError>>);

impl HttpBody for ChannelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// How much of a file is in memory at a time.
const CHUNK: u64 = 64 << 10;

/// Bytes that can be read from any place, blocking.
pub(crate) trait ReadAt: Send + Sync + 'static {
    /// Exactly `length` bytes from `position` on.
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes>;
}

impl ReadAt for File {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut chunk = BytesMut::zeroed(length);
        self.read_exact_at(&mut chunk, position)?;
        Ok(chunk.freeze())
    }
}

impl ReadAt for BodyFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        BodyFile::read_at(self, position, length)
    }
}

/// A part of a file, read as the reader takes it: a slow reader holds one chunk of memory and no thread.
pub(crate) struct FileBody<F> {
    file: Arc<F>,
    left: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl<F: ReadAt> FileBody<F> {
    pub(crate) fn new(file: F, part: Range<u64>) -> Self {
        Self { file: Arc::new(file), left: part, reading: None }
    }
}

impl<F: ReadAt> HttpBody for FileBody<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let Self { file, left, reading } = &mut *self;
        let task = reading.get_or_insert_with(|| {
            let (file, at) = (file.clone(), left.start);
            let length = usize::try_from(CHUNK.min(left.end - left.start)).expect("a chunk is small");
            tokio::task::spawn_blocking(move || file.read_at(at, length))
        });
        let read = ready!(Pin::new(task).poll(cx)).map_err(BodyError::from).and_then(|read| read.map_err(Into::into));
        *reading = None;
        match &read {
            // Nothing more comes, although it should: break off rather than corrupt.
            Ok(chunk) if chunk.is_empty() => {
                left.start = left.end;
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
            }
            Ok(chunk) => left.start += chunk.len() as u64,
            Err(_) => left.start = left.end,
        }
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_error_is_told_a_turn_after_what_came_before_it() {
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(Ok(Bytes::from_static(b"half a p"))).unwrap();
        sender.try_send(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())).unwrap();
        let mut body = Body::stream(ChannelBody(receiver)).failing_late();
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await);
            assert!(!body.is_end_stream());
        }
        let kinds: Vec<_> = turns
            .iter()
            .map(|turn| match turn {
                Poll::Ready(Some(Ok(_))) => "data",
                Poll::Pending => "nothing yet",
                Poll::Ready(Some(Err(_))) => "error",
                Poll::Ready(None) => "end",
            })
            .collect();
        assert_eq!(kinds, ["data", "nothing yet", "error"]);
    }
}
