//! Asking a daemon: one connection, one request, one answer.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::MOST_LINE;
use super::message::{Refusal, Request, parse_response};
use crate::socket::{self, SocketError};

/// A daemon gave no answer, or a no.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody could be asked.
    #[error("the daemon cannot be asked")]
    Connect(#[source] SocketError),
    /// The connection broke before the answer was there.
    #[error("the daemon on {} broke off", socket.display())]
    Broken {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the daemon on {} gave no answer in {timeout:?}", socket.display())]
    Timeout {
        /// Its socket.
        socket: PathBuf,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The request is longer than a line may be.
    #[error("a request of {bytes} bytes; a line has at most {MOST_LINE}")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// The answer is not one of this protocol.
    #[error("what {} answered is not understood", socket.display())]
    NotAnAnswer {
        /// Its socket.
        socket: PathBuf,
    },
    /// The daemon said no.
    #[error("the daemon refused")]
    Refused(#[source] Refusal),
}

impl ControlError {
    /// Whether nothing runs there.
    pub fn nobody_listens(&self) -> bool {
        matches!(self, Self::Connect(error) if error.nobody_listens())
    }

    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.help(),
            Self::Refused(refusal) => refusal.help.clone(),
            Self::Broken { .. } | Self::Timeout { .. } => Some("`sovereign logs` shows what it was doing".into()),
            Self::TooLong { .. } | Self::NotAnAnswer { .. } => None,
        }
    }

    fn of_io(socket: &Path, timeout: Duration, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout { socket: socket.to_owned(), timeout },
            _ => Self::Broken { socket: socket.to_owned(), source },
        }
    }
}

/// Asks the daemon behind `socket`, blocking, and waits for the answer at most `timeout` all in all.
pub fn request(socket: &Path, request: &Request, timeout: Duration) -> Result<Value, ControlError> {
    let line = line_to_send(request)?;
    let stream = socket::connect(socket).map_err(ControlError::Connect)?;
    let answer = exchange(stream, &line, timeout).map_err(|source| ControlError::of_io(socket, timeout, source))?;
    read_answer(socket, &answer)
}

fn exchange(mut stream: UnixStream, line: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    stream.set_write_timeout(Some(at_least_one_tick(timeout)))?;
    stream.write_all(line)?;
    let mut reader = BufReader::new(stream);
    let mut answer = Vec::new();
    // A timeout counts from one read to the next; an answer that trickles in must not stretch it.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        reader.get_ref().set_read_timeout(Some(at_least_one_tick(left)))?;
        let arrived = match reader.fill_buf() {
            Ok(arrived) => arrived,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (taken, complete) = match arrived.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (arrived.len(), arrived.is_empty()),
        };
        reader.by_ref().take(taken as u64).read_to_end(&mut answer)?;
        if complete || answer.len() > MOST_LINE {
            return Ok(answer);
        }
    }
}

/// A zero timeout means "for ever" to the kernel.
fn at_least_one_tick(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

/// Asks the daemon behind `socket` on the current tokio runtime, and waits at most `timeout` all in all.
pub async fn request_async(socket: &Path, request: &Request, timeout: Duration) -> Result<Value, ControlError> {
    let line = line_to_send(request)?;
    let asked = async {
        let mut stream = socket::connect_async(socket).await.map_err(ControlError::Connect)?;
        let exchanged = async {
            stream.write_all(&line).await?;
            let mut answer = Vec::new();
            let most = MOST_LINE as u64 + 1;
            tokio::io::BufReader::new(stream).take(most).read_until(b'\n', &mut answer).await?;
            Ok(answer)
        };
        exchanged.await.map_err(|source| ControlError::of_io(socket, timeout, source))
    };
    let answer = tokio::time::timeout(timeout, asked)
        .await
        .map_err(|_| ControlError::Timeout { socket: socket.to_owned(), timeout })??;
    read_answer(socket, &answer)
}

fn line_to_send(request: &Request) -> Result<Vec<u8>, ControlError> {
    let line = request.to_line();
    if line.len() > MOST_LINE { Err(ControlError::TooLong { bytes: line.len() }) } else { Ok(line) }
}

fn read_answer(socket: &Path, line: &[u8]) -> Result<Value, ControlError> {
    if line.is_empty() {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(ControlError::Broken { socket: socket.to_owned(), source });
    }
    match parse_response(line) {
        Some(answer) => answer.map_err(ControlError::Refused),
        None => Err(ControlError::NotAnAnswer { socket: socket.to_owned() }),
    }
}
