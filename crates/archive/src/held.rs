//! A way into the repository on which snapshots are held back until they are known to be whole.
//!
//! The library writes a snapshot's file itself, at the end, and also when the source failed in between. Here that file
//! stays in memory until [`Held::let_in`]: whatever kills this process before leaves no snapshot, only chunks that
//! nothing refers to, which the next run finds and uses.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};
use std::sync::Arc;

/// The held ones, and the folder behind.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<dyn WriteBackend>,
    snapshots: Mutex<Vec<(Id, BytesList)>>,
}

impl Held {
    pub(crate) fn new(inner: Arc<dyn WriteBackend>) -> Self {
        Self { inner, snapshots: Mutex::default() }
    }

    /// Writes what is held.
    pub(crate) fn let_in(&self) -> RusticResult<()> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, bytes) in snapshots.drain(..) {
            self.inner.write_bytes(FileType::Snapshot, &id, false, bytes)?;
        }
        Ok(())
    }
}

impl ReadBackend for Held {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, of: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(of)
    }

    fn list(&self, of: FileType) -> RusticResult<Vec<Id>> {
        self.inner.list(of)
    }

    fn read_full(&self, of: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(of, id)
    }

    fn read_partial(&self, of: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(of, id, cacheable, offset, length)
    }

    fn warmup_path(&self, of: FileType, id: &Id) -> String {
        self.inner.warmup_path(of, id)
    }
}

impl WriteBackend for Held {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(&self, of: FileType, id: &Id, cacheable: bool, content: BytesList) -> RusticResult<()> {
        if of == FileType::Snapshot {
            self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).push((*id, content));
            return Ok(());
        }
        self.inner.write_bytes(of, id, cacheable, content)
    }

    fn remove(&self, of: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        self.inner.remove(of, id, cacheable)
    }
}
