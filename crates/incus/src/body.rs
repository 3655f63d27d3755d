//! Bodies of requests: pieces in memory and files, sent as they are read. No file is ever in memory as a whole.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use hyper::body::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::IncusError;

/// How much of a file is read at a time.
const CHUNK: usize = 256 << 10;

/// A body of known length.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pieces: VecDeque<Piece>,
    left: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    File { file: File, left: u64 },
}

impl Body {
    /// With these bytes after what is there.
    pub(crate) fn with(mut self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        self.left += bytes.len() as u64;
        self.pieces.push_back(Piece::Bytes(bytes));
        self
    }

    /// With what is in an open file after what is there.
    pub(crate) fn with_file(mut self, Readable { file, length }: Readable) -> Self {
        self.left += length;
        self.pieces.push_back(Piece::File { file, left: length });
        self
    }
}

/// A file to send, and how long it was when it was opened.
#[derive(Debug)]
pub(crate) struct Readable {
    pub(crate) file: File,
    pub(crate) length: u64,
}

impl Readable {
    pub(crate) async fn open(path: &Path) -> Result<Self, IncusError> {
        let failed = |source| IncusError::File { path: PathBuf::from(path), source };
        let file = File::open(path).await.map_err(failed)?;
        let about = file.metadata().await.map_err(failed)?;
        if !about.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")));
        }
        Ok(Self { file, length: about.len() })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        loop {
            match body.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::File { left: 0, .. }) => {
                    body.pieces.pop_front();
                }
                Some(Piece::File { file, left }) => {
                    let room = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                    let mut chunk = vec![0; room];
                    let mut into = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(file).poll_read(cx, &mut into))?;
                    let read = into.filled().len();
                    if read == 0 {
                        let cut =
                            io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent");
                        return Poll::Ready(Some(Err(cut)));
                    }
                    chunk.truncate(read);
                    *left -= read as u64;
                    body.left -= read as u64;
                    return Poll::Ready(Some(Ok(Frame::data(chunk.into()))));
                }
                Some(Piece::Bytes(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    body.pieces.pop_front();
                    body.left -= bytes.len() as u64;
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_and_files_come_in_order_and_have_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        std::fs::write(&path, vec![b'x'; CHUNK + 3]).unwrap();
        let body = Body::default().with("head").with_file(Readable::open(&path).await.unwrap()).with("").with("tail");
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some((CHUNK + 11) as u64));
        let all = body.collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), CHUNK + 11);
        assert!(all.starts_with(b"headx") && all.ends_with(b"xtail"));
    }

    #[tokio::test]
    async fn a_file_that_shrinks_while_it_is_sent_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shrinks");
        std::fs::write(&path, "1234").unwrap();
        let body = Body::default().with_file(Readable::open(&path).await.unwrap());
        std::fs::write(&path, "1").unwrap();
        assert_eq!(body.collect().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let error = Readable::open(folder.path()).await.unwrap_err();
        assert!(matches!(error, IncusError::File { .. }));
        assert!(Readable::open(&folder.path().join("gone")).await.is_err());
    }
}
