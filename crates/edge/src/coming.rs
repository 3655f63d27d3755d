//! A long body on its way into the store, for readers who want it now.
//!
//! Everyone reads from the file that is being written, at their own pace: a slow reader holds up neither the writing
//! nor the others, and the memory it takes is one chunk. When the source breaks off, so do the readers' answers.

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
    file: std::sync::Arc<crate::store::BodyFile>,
    progress: watch::Receiver<Progress>,
}

/// How far the writing is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    complete: bool,
}

/// The writing side. Dropped before [`finish`](Self::finish): the body broke off.
pub(crate) struct Pace(watch::Sender<Progress>);

impl Pace {
    /// So many bytes can be read now.
    pub(crate) fn reach(&self, written: u64) {
        self.0.send_replace(Progress { written, complete: false });
    }

    /// That was all.
    pub(crate) fn finish(&self, written: u64) {
        self.0.send_replace(Progress { written, complete: true });
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
        let (sender, progress) = watch::channel(Progress { written: file.length(), complete: false });
        Ok(Some((Self { status, fields, length, file: file.into(), progress }, Pace(sender))))
    }

    /// The body from its beginning, as it comes.
    pub(crate) fn body(&self) -> Body {
        let (sender, receiver) = mpsc::channel(1);
        let (file, mut progress) = (self.file.clone(), self.progress.clone());
        tokio::spawn(async move {
            let mut position = 0;
            loop {
                let Progress { written, complete } = *progress.borrow_and_update();
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
                if complete {
                    return;
                }
                if progress.changed().await.is_err() {
                    let broken = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    let _ = sender.send(Err(broken.into())).await;
                    return;
                }
            }
        });
        Body::stream(ChannelBody(receiver))
    }
}
