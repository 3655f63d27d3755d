//! Writing one page: beside, then in its place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::entry::BodyFile;
use super::{Entry, Head, Store, StoreError, Ticket, record, remove_file};

/// How much is copied at once.
const CHUNK: usize = 256 << 10;

/// A page being written. Short bodies are gathered in memory and written at once; longer ones go to a file as they
/// come.
#[derive(Debug)]
pub struct Writer {
    store: Arc<Store>,
    head: Head,
    encoded: Vec<u8>,
    ticket: Ticket,
    path: PathBuf,
    /// Made when the body outgrows memory, or at the end.
    file: Option<File>,
    /// The body so far, as long as it is short.
    gathered: Vec<u8>,
    length: u64,
    hash: Sha256,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, path: PathBuf, head: Head, ticket: Ticket) -> Self {
        let encoded = record::encode(&head);
        Self { store, head, encoded, ticket, path, file: None, gathered: Vec::new(), length: 0, hash: Sha256::new() }
    }

    /// Appends to the body.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let longest = self.store.limits.memory_body;
        self.hash.update(chunk);
        let position = self.length;
        self.length += chunk.len() as u64;
        if self.length <= longest {
            self.gathered.extend_from_slice(chunk);
            return Ok(());
        }
        let offset = record::body_offset(self.encoded.len());
        if self.file.is_none() {
            let file = self.create()?;
            file.write_all_at(&self.gathered, offset).map_err(StoreError::io("write", &self.path))?;
            self.gathered = Vec::new();
            self.file = Some(file);
        }
        let file = self.file.as_ref().expect("made above");
        file.write_all_at(chunk, offset + position).map_err(StoreError::io("write", &self.path))
    }

    /// The body as far as it has come, to be read while the rest is written; `None` while it is gathered in memory.
    /// Stays readable whatever becomes of the page. Its length is that of now.
    pub fn written(&self) -> Result<Option<BodyFile>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        let file = file.try_clone().map_err(StoreError::io("read", &self.path))?;
        Ok(Some(BodyFile { file, offset: record::body_offset(self.encoded.len()), length: self.length }))
    }

    /// Appends the body of another page.
    pub(super) fn copy(&mut self, body: &BodyFile) -> Result<(), StoreError> {
        let mut position = 0;
        while position < body.length() {
            let chunk = body.read_at(position, CHUNK).map_err(StoreError::io("read for", &self.path))?;
            position += chunk.len() as u64;
            self.write(&chunk)?;
        }
        Ok(())
    }

    /// The body is complete: the page becomes visible, in place of the one before it.
    pub fn commit(mut self) -> Result<Arc<Entry>, StoreError> {
        let digest = std::mem::take(&mut self.hash).finalize().into();
        let (prefix, shape) = record::seal(&self.encoded, self.length, digest);
        let mut front = Vec::with_capacity(prefix.len() + self.encoded.len() + self.gathered.len());
        front.extend_from_slice(&prefix);
        front.extend_from_slice(&self.encoded);
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = self.create()?;
                front.extend_from_slice(&self.gathered);
                file
            }
        };
        file.write_all_at(&front, 0).map_err(StoreError::io("write", &self.path))?;
        // Rename orders names, not bytes: without this a power loss could leave a name without its bytes.
        file.sync_data().map_err(StoreError::io("sync", &self.path))?;
        let entry = Entry::new(self.head.clone(), shape);
        entry.set_verified();
        let store = Arc::clone(&self.store);
        store.install(&self.path, entry, self.ticket)
    }

    fn create(&self) -> Result<File, StoreError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(StoreError::io("make", &self.path))
    }
}

impl Drop for Writer {
    /// Whatever was not moved to its place goes. A failure leaves a file that the next opening removes.
    fn drop(&mut self) {
        let _left_for_the_next_opening = remove_file(&self.path);
    }
}
