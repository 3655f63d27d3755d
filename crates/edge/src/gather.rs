//! HTTP/2 on its way to TLS: frames are gathered, and answers that are ready are not made to wait for a task.
//!
//! HTTP/2 writes a frame at a time and flushes after each: a page of 20 kB would be two writes to the socket and three TLS
//! records, one of them of nine bytes. So what it writes is gathered in front of TLS, and leaves when the connection has
//! nothing more to say for the moment, or 64 kB are together: records are full then, and one write carries the frames of
//! several streams. The price is one copy of what is sent, which is a small part of what a write to a socket costs.
//!
//! Promise: nothing is held back. [`Outlet::poll_send`] is called after each turn of the connection, and closing sends
//! first. A reader who takes nothing is written no more than before: a full gathering waits for the socket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gathered at most before it is sent: four full TLS records, and what rustls takes at a time.
const MOST: usize = 64 << 10;

/// Puts a gathering in front of `stream`: what HTTP/2 writes to, and what sends it.
pub(crate) fn gather<S>(stream: S) -> (Gathering<S>, Outlet<S>) {
    let state = Arc::new(Mutex::new(State { stream, gathered: Vec::new(), sent: 0 }));
    (Gathering { state: state.clone() }, Outlet { state })
}

/// The stream, as HTTP/2 sees it.
pub(crate) struct Gathering<S> {
    state: Arc<Mutex<State<S>>>,
}

/// The way out of what was gathered.
pub(crate) struct Outlet<S> {
    state: Arc<Mutex<State<S>>>,
}

/// Only ever used by the one task that serves the connection, so its lock is never waited for.
struct State<S> {
    stream: S,
    gathered: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
}

fn lock<S>(state: &Mutex<State<S>>) -> MutexGuard<'_, State<S>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.gathered.len() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered[self.sent..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        // Given back: a connection that lies idle holds nothing.
        self.gathered = Vec::new();
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    /// Sends what was gathered so far.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.state).poll_send(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.state).stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        if state.gathered.len() >= MOST {
            ready!(state.poll_send(cx))?;
        }
        if state.gathered.capacity() == 0 {
            state.gathered.reserve_exact(MOST);
        }
        let before = state.gathered.len();
        for piece in pieces {
            let room = MOST - state.gathered.len();
            state.gathered.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        Poll::Ready(Ok(state.gathered.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// HTTP/2 flushes after each frame; the outlet sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

/// Runs the answers of HTTP/2's streams: each at once, as far as it comes without waiting, and in a task of its own only
/// if that was not to its end. A kept page always comes to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtOnce;

impl<F> Executor<F> for AtOnce
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answer: F) {
        let mut answer = Box::pin(answer);
        // Whatever this wakes is looked at again by the task, which begins with a turn.
        if answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_leaves_with_the_outlet_and_not_before() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut gathering, outlet) = gather(ours);
        gathering.write_all(b"one ").await.unwrap();
        gathering.flush().await.unwrap();
        gathering.write_all(b"two").await.unwrap();
        let mut read = [0; 7];
        let early = tokio::time::timeout(Duration::from_millis(20), theirs.read(&mut read)).await;
        assert!(early.is_err(), "nothing is sent while the connection goes on");
        poll_fn(|cx| outlet.poll_send(cx)).await.unwrap();
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one two");
    }

    #[tokio::test]
    async fn a_reader_who_takes_nothing_is_waited_for() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (mut gathering, _outlet) = gather(ours);
        let text: Vec<u8> = (0..MOST * 3).map(|at| at as u8).collect();
        let expected = text.clone();
        let writing = tokio::spawn(async move {
            gathering.write_all(&text).await.unwrap();
            gathering.shutdown().await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writing.is_finished(), "no more than a gathering is held");
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_waits_gets_a_task() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (done, ended) = tokio::sync::oneshot::channel();
        AtOnce.execute(async move {
            receiver.await.unwrap();
            done.send(()).unwrap();
        });
        sender.send(()).unwrap();
        ended.await.unwrap();
    }
}
