//! The end of an HTTP/1.1 connection whose reader may still be sending.
//!
//! A request can be answered before its body has come: it is too long, the source is away. A connection that is closed
//! while bytes arrive is reset by the kernel, and a reset takes the answer away from a reader who has not read it yet.
//! So the writing half is closed first, and what still comes is read and thrown away, for a moment.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A reader notices an answer within a round trip or two, and stops.
const PATIENCE: Duration = Duration::from_secs(2);
/// Thrown away at a time.
const CHUNK: usize = 16 << 10;

/// Whether a connection has had a request with a body, the only ones that can be answered early.
#[derive(Debug, Clone, Default)]
pub(crate) struct HadBody(Arc<AtomicBool>);

impl HadBody {
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that is closed without taking the last answer away.
pub(crate) struct Lingering<S> {
    inner: S,
    had_body: HadBody,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(crate) fn new(inner: S, had_body: HadBody) -> Self {
        Self { inner, had_body, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, had_body, closing } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *inner).poll_shutdown(cx))?;
            if !had_body.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let patience = closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        let mut thrown_away = [0; CHUNK];
        // Asked each time: who sends without end must not keep this task to itself.
        while patience.as_mut().poll(cx).is_pending() {
            let mut into = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(&mut *inner).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                // Whatever ends it, the answer is out.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_early_answer_arrives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let noted = HadBody::default();
        noted.note();
        let closing = tokio::spawn(async move {
            let mut socket = Lingering::new(socket, noted);
            socket.write_all(b"too long").await.unwrap();
            socket.shutdown().await.unwrap();
        });
        for _ in 0..64 {
            reader.write_all(&[b'x'; 16 << 10]).await.unwrap();
        }
        let mut said = String::new();
        reader.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "too long");
        drop(reader);
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn who_never_stops_sending_is_not_waited_for() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let noted = HadBody::default();
        noted.note();
        let sending = tokio::spawn(async move { while theirs.write_all(&[b'x'; 512]).await.is_ok() {} });
        let mut ours = Lingering::new(ours, noted);
        tokio::time::timeout(PATIENCE * 5, ours.shutdown()).await.unwrap().unwrap();
        drop(ours);
        sending.await.unwrap();
    }
}
