//! How a request gets to the operator's door of a Ghost: over its unix socket where Ghost is a process of this machine,
//! and by other ways where it is not.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;

use super::connection::Connection;

/// An answer in the making.
pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<Answered, DoorError>> + Send + 'a>>;

/// A way to the operator's door of one Ghost. Shown, it says where that is.
pub trait Door: fmt::Debug + Send + Sync {
    /// Posts `body`, JSON, to `path`. An answer of any status is not an error here; what is in it is a stranger's.
    fn post<'a>(&'a self, path: &'a str, body: Vec<u8>) -> Posting<'a>;
}

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The body, JSON as Ghost says.
    pub body: Bytes,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answered({}, {} bytes)", self.status, self.body.len()) // keys and links are in it
    }
}

/// Nothing came back.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak to Ghost")]
pub struct DoorError {
    source: Box<dyn Error + Send + Sync>,
    help: Option<String>,
}

impl DoorError {
    /// Because of this, and what the operator should do.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>, help: Option<String>) -> Self {
        Self { source: source.into(), help }
    }

    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        self.help.clone()
    }
}

impl Door for Connection {
    fn post<'a>(&'a self, path: &'a str, body: Vec<u8>) -> Posting<'a> {
        Box::pin(async move {
            let request = Request::post(path)
                .header(header::HOST, "ghost")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
                .expect("paths are made of controller names");
            let answer = self.send(request).await.map_err(|error| {
                let help = error.help();
                DoorError::new(error, help)
            })?;
            let (parts, body) = answer.into_parts();
            Ok(Answered { status: parts.status, body })
        })
    }
}
