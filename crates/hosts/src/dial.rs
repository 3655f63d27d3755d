//! A port that a host reaches, as a stream: nothing listens on this machine for it, and nothing is left of it when the
//! stream is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::connection::{Connection, spawn};

/// A stream to a port. One that nobody listens on ends at once.
#[derive(Debug)]
pub struct Dialed {
    stream: Join<ChildStdout, ChildStdin>,
    /// Ends with the stream.
    _ssh: Child,
}

impl Connection {
    /// Has the host connect to a port of its own or of its neighbours.
    ///
    /// # Errors
    /// When ssh cannot be started. Whether somebody listens shows when the stream is read.
    pub fn dial(&self, to: SocketAddr) -> io::Result<Dialed> {
        let command = self.ssh_with(["-W".into(), to.to_string().into()], [""; 0]);
        let mut ssh = spawn(command, Stdio::piped())?;
        let (Some(from), Some(into)) = (ssh.stdout.take(), ssh.stdin.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Dialed { stream: join(from, into), _ssh: ssh })
    }
}

impl AsyncRead for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
