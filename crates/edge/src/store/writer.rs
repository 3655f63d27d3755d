//! Writing one page: beside, then in its place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::entry::BodyFile;
use super::space::Reservation;
use super::{Content, Entry, Head, Store, StoreError, Ticket, record, remove_file};
use crate::room::Stamp;

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
    /// The room it may take; `None` where that is that of the page it replaces.
    room: Option<Reservation>,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, path: PathBuf, head: Head, ticket: Ticket) -> Self {
        let encoded = record::encode(&head);
        let (gathered, hash) = (Vec::new(), Sha256::new());
        Self { store, head, encoded, ticket, path, file: None, gathered, length: 0, hash, room: None }
    }

    /// To take no more room than it was given.
    pub(crate) fn within(mut self, room: Reservation) -> Self {
        self.room = Some(room);
        self
    }

    /// Appends to the body. After an error the body is as before, and cannot become a page any more.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let length = self.length + chunk.len() as u64;
        if let Some(room) = &mut self.room {
            room.reach(length)?;
        }
        self.append(chunk, length)?;
        self.hash.update(chunk);
        self.length = length;
        Ok(())
    }

    fn append(&mut self, chunk: &[u8], length: u64) -> Result<(), StoreError> {
        if length <= self.store.limits.memory_body {
            self.gathered.extend_from_slice(chunk);
            return Ok(());
        }
        let position = self.length;
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

    /// How long the body is so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The body as far as it has come, to be read while the rest is written; `None` while it is gathered in memory.
    /// Stays readable whatever becomes of the page. Its length is that of now.
    pub fn written(&self) -> Result<Option<BodyFile>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        let file = file.try_clone().map_err(StoreError::io("read", &self.path))?;
        Ok(Some(BodyFile { file, offset: record::body_offset(self.encoded.len()), length: self.length }))
    }

    /// The body as far as it has come, for somebody to whom the rest is given by other means. Stays readable for as
    /// long as it is held.
    pub(crate) fn so_far(&self) -> Result<Content, StoreError> {
        Ok(match self.written()? {
            Some(file) => Content::File(file),
            None => Content::Memory(Bytes::copy_from_slice(&self.gathered)),
        })
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
        let entry = Entry::new(self.head.clone(), shape, Stamp::at(SystemTime::now()));
        entry.set_verified();
        let store = Arc::clone(&self.store);
        let entry = store.install(&self.path, entry, self.ticket)?;
        store.space.note_kept(entry.key());
        Ok(entry)
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
