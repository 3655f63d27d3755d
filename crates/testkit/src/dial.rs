//! Connections to an Incus that do more, or less, than connect.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use sovereign_incus::{Dial, Dialing, Stream, UnixSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Connections that are counted: each is one request.
#[derive(Debug)]
pub struct Counting {
    /// The server's.
    pub socket: UnixSocket,
    /// So many.
    pub count: Arc<AtomicUsize>,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Dial for Counting {
    fn dial(&self) -> Dialing<'_> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.socket.dial()
    }
}

/// A connection that breaks when this much was sent.
#[derive(Debug)]
pub struct Breaking {
    /// The server's.
    pub socket: PathBuf,
    /// So many bytes.
    pub after: usize,
}

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bad connection")
    }
}

impl Dial for Breaking {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let stream = UnixStream::connect(&self.socket).await?;
            Ok(Box::new(Limited { stream, left: self.after }) as Box<dyn Stream>)
        })
    }
}

struct Limited {
    stream: UnixStream,
    left: usize,
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = bytes.len().min(self.left);
        if most == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(written)) = written {
            self.left -= written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
