//! A long body on its way into the store, for readers who want it now.
//!
//! Everyone reads from the file that is being written, at their own pace: a slow reader holds up neither the writing
//! nor the others, and the memory it takes is one chunk. When the source breaks off, so do the readers' answers.
//!
//! When there is no room for the rest of it, the rest goes from the source to the readers who are there, at the pace of
//! the slowest ([`Pace::spill`]). Whoever comes later asks for itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::{mpsc, watch};

use crate::body::{Body, BodyError, ChannelBody};
use crate::store::{StoreError, Writer};

/// How much a reader is given at once.
const CHUNK: usize = 64 << 10;

/// A page whose head is known and whose body is being written.
pub(crate) struct Coming {
    pub(crate) status: StatusCode,
    /// As they will be kept.
    pub(crate) fields: HeaderMap,
    /// The length the source has announced.
    pub(crate) length: Option<u64>,
    file: Arc<crate::store::BodyFile>,
    progress: watch::Receiver<Progress>,
    readers: Readers,
}

/// The readers who are there, should the body be spilled; `None` once it is.
type Readers = Arc<Mutex<Option<Vec<mpsc::Sender<Bytes>>>>>;

/// How far the writing is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    /// The rest does not get into the file.
    spilled: bool,
    complete: bool,
}

/// The writing side. Dropped before [`finish`](Self::finish): the body broke off.
pub(crate) struct Pace {
    progress: watch::Sender<Progress>,
    readers: Readers,
}

impl Pace {
    /// So many bytes can be read now.
    pub(crate) fn reach(&self, written: u64) {
        self.progress.send_modify(|progress| progress.written = written);
    }

    /// That was all.
    pub(crate) fn finish(&self, written: u64) {
        self.progress.send_modify(|progress| (progress.written, progress.complete) = (written, true));
    }

    /// The rest is not written any more.
    pub(crate) fn spill(self) -> Spill {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.progress.send_modify(|progress| progress.spilled = true);
        Spill { progress: self.progress, readers: readers.unwrap_or_default() }
    }
}

/// What goes past the file. Dropped before [`finish`](Self::finish): the body broke off.
pub(crate) struct Spill {
    progress: watch::Sender<Progress>,
    readers: Vec<mpsc::Sender<Bytes>>,
}

impl Spill {
    /// Gives the next bytes to all who are still there; whether anybody is.
    pub(crate) async fn give(&mut self, chunk: Bytes) -> bool {
        for reader in std::mem::take(&mut self.readers) {
            if reader.send(chunk.clone()).await.is_ok() {
                self.readers.push(reader);
            }
        }
        !self.readers.is_empty()
    }

    /// That was all.
    pub(crate) fn finish(self) {
        self.progress.send_modify(|progress| progress.complete = true);
    }
}

impl Coming {
    /// For the page that `writer` writes; `None` while its body is short enough to be in memory.
    pub(crate) fn begin(
        writer: &Writer,
        status: StatusCode,
        fields: HeaderMap,
        length: Option<u64>,
    ) -> Result<Option<(Self, Pace)>, StoreError> {
        let Some(file) = writer.written()? else { return Ok(None) };
        let (sender, progress) = watch::channel(Progress { written: file.length(), ..Progress::default() });
        let readers = Readers::new(Mutex::new(Some(Vec::new())));
        let pace = Pace { progress: sender, readers: readers.clone() };
        Ok(Some((Self { status, fields, length, file: file.into(), progress, readers }, pace)))
    }

    /// The body from its beginning, as it comes; `None` when a part of it has gone past the file already.
    pub(crate) fn body(&self) -> Option<Body> {
        let (past, mut rest) = mpsc::channel(1);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.push(past);
        let (sender, receiver) = mpsc::channel(1);
        let (file, mut progress) = (self.file.clone(), self.progress.clone());
        tokio::spawn(async move {
            let mut position = 0;
            loop {
                let Progress { written, spilled, complete } = *progress.borrow_and_update();
                while position < written {
                    let length = usize::try_from(written - position).unwrap_or(CHUNK).min(CHUNK);
                    let file = file.clone();
                    let read = tokio::task::spawn_blocking(move || file.read_written_at(position, length)).await;
                    let chunk = read.map_err(BodyError::from).and_then(|read| read.map_err(BodyError::from));
                    let failed = chunk.is_err();
                    position += length as u64;
                    // The reader has left, or there is nothing more to be had.
                    if sender.send(chunk).await.is_err() || failed {
                        return;
                    }
                }
                if spilled {
                    while let Some(chunk) = rest.recv().await {
                        if sender.send(Ok(chunk)).await.is_err() {
                            return;
                        }
                    }
                }
                if complete || (spilled && progress.borrow().complete) {
                    return;
                }
                if progress.changed().await.is_err() {
                    let broken = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    let _ = sender.send(Err(broken.into())).await;
                    return;
                }
            }
        });
        Some(Body::stream(ChannelBody(receiver)))
    }
}
