//! How a server is reached: something that opens a stream to its unix socket.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that is being opened.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Opens streams to one server. Its `Display` says where to, for messages: `/var/lib/incus/unix.socket`, `atlas`.
pub trait Dial: fmt::Debug + fmt::Display + Send + Sync {
    /// A new stream. Its caller gives up when it has waited long enough.
    fn dial(&self) -> Dialing<'_>;
}

/// The unix socket of an Incus on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket(PathBuf);

impl UnixSocket {
    /// The socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where Debian's package puts it.
    pub fn debian() -> Self {
        Self::new("/var/lib/incus/unix.socket")
    }
}

impl fmt::Display for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Dial for UnixSocket {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async { Ok(Box::new(UnixStream::connect(&self.0).await?) as Box<dyn Stream>) })
    }
}
