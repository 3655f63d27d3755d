//! Whether a unit is well, asked over the protocol its users speak.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sovereign_model::unit::Health;
use sovereign_runtime::control::{self, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::causes::with_causes;

/// Asks process `pid` of a unit once. `Err` says what is wrong, for people.
pub(crate) async fn check(health: &Health, pid: i32, patience: Duration) -> Result<(), String> {
    let asked = async {
        match health {
            Health::Alive => Ok(()),
            Health::Control { socket } => ask_control(socket, pid, patience).await,
            Health::HttpUnix { socket, path, host } => ask_http(socket, path, host).await,
        }
    };
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

async fn ask_control(socket: &Path, pid: i32, patience: Duration) -> Result<(), String> {
    let status =
        control::request_async(socket, &Request::new("status"), patience).await.map_err(|error| with_causes(&error))?;
    // While two processes of the unit run side by side, the socket may still be the other one's.
    if status.get("process").and_then(Value::as_i64).is_some_and(|answered| answered != i64::from(pid)) {
        return Err("its control socket is still the old process's".to_owned());
    }
    if status.get("healthy") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(status.get("problem").and_then(Value::as_str).unwrap_or("it says that it is not well").to_owned())
}

async fn ask_http(socket: &Path, path: &str, host: &str) -> Result<(), String> {
    let stream = sovereign_runtime::socket::connect_async(socket).await.map_err(|error| with_causes(&error))?;
    ask_http_over(stream, path, host).await
}

/// `GET path`, HTTP/1.1 (RFC 9112), of which the status line alone is read.
pub(crate) async fn ask_http_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    host: &str,
) -> Result<(), String> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n");
    let mut start = [0; 12];
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.read_exact(&mut start).await
    };
    exchange.await.map_err(|error| with_causes(&error))?;
    let status = status_of(&start).ok_or("what it answers is not HTTP")?;
    if status < 500 { Ok(()) } else { Err(format!("answers {status}")) }
}

/// The status in `HTTP/1.1 200`.
fn status_of(start: &[u8]) -> Option<u16> {
    std::str::from_utf8(start).ok()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_anything_else_is_not() {
        assert_eq!(status_of(b"HTTP/1.1 200"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 503"), Some(503));
        assert_eq!(status_of(b"SSH-2.0-Open"), None);
        assert_eq!(status_of(&[0xff; 12]), None);
    }
}
