//! One kept page, as the index holds it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::record::Shape;
use super::{Head, lock};
use crate::policy::{Selection, Terms};
use crate::room::{Kind, Stamp};
use crate::route::Key;

/// A kept page: its head, and its body if that is in memory. Reading it does no I/O.
#[derive(Debug)]
pub struct Entry {
    key: Key,
    status: StatusCode,
    /// Slimmer than a map: most entries sleep.
    fields: Box<[(HeaderName, HeaderValue)]>,
    selection: Selection,
    shape: Shape,
    standing: Mutex<Standing>,
    body: Mutex<Option<Bytes>>,
    /// Whether the body was asked for since the memory's hand last passed.
    asked_for: AtomicBool,
    /// Whether the file's body was checked since opening.
    verified: AtomicBool,
    kind: Kind,
    /// When a reader last got it, or it was fetched: a [`Stamp`].
    read: AtomicU32,
    /// The same as its file says.
    remembered: AtomicU32,
}

/// What changes about an entry without its content changing.
#[derive(Debug, Clone, Copy)]
struct Standing {
    terms: Terms,
    stale: bool,
}

impl Entry {
    pub(super) fn new(head: Head, shape: Shape, read: Stamp) -> Self {
        Self {
            key: head.key,
            kind: Kind::of(&head.fields),
            read: AtomicU32::new(read.0),
            remembered: AtomicU32::new(read.0),
            status: head.status,
            fields: head.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            selection: head.selection,
            shape,
            standing: Mutex::new(Standing { terms: head.terms, stale: false }),
            body: Mutex::default(),
            asked_for: AtomicBool::new(false),
            verified: AtomicBool::new(false),
        }
    }

    /// What it is kept under.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its fields, as a map of the caller's own.
    pub fn fields(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.fields.len() + 6);
        for (name, value) in &self.fields {
            map.append(name.clone(), value.clone());
        }
        map
    }

    /// What requests it is the answer to.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// On which terms it is kept.
    pub fn terms(&self) -> Terms {
        lock(&self.standing).terms
    }

    /// Whether something changed at the site since it was fetched.
    pub fn is_stale(&self) -> bool {
        lock(&self.standing).stale
    }

    /// The length of its body in bytes.
    pub fn length(&self) -> u64 {
        self.shape.body_length
    }

    /// Its body, if that is in memory.
    pub fn in_memory(&self) -> Option<Bytes> {
        let body = lock(&self.body).clone();
        if body.is_some() {
            self.asked_for.store(true, Ordering::Relaxed);
        }
        body
    }

    /// What it is for the room it takes.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// A reader gets it.
    pub(crate) fn note_read(&self, now: SystemTime) {
        let now = Stamp::at(now).0;
        // Written once a minute, so that readers of one page do not pull its line from each other's caches.
        if self.read.load(Ordering::Relaxed) < now {
            self.read.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn last_read(&self) -> Stamp {
        Stamp(self.read.load(Ordering::Relaxed))
    }

    /// What its file is to say about when it was read; `None` when that is near enough to what it says already.
    pub(super) fn take_unremembered(&self, near: u32) -> Option<Stamp> {
        let read = self.read.load(Ordering::Relaxed);
        let remembered = self.remembered.load(Ordering::Relaxed);
        (read >= remembered.saturating_add(near)).then(|| {
            self.remembered.store(read, Ordering::Relaxed);
            Stamp(read)
        })
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Marks it stale; whether it was not before.
    pub(super) fn mark_stale(&self) -> bool {
        !std::mem::replace(&mut lock(&self.standing).stale, true)
    }

    pub(super) fn confirm(&self, terms: Terms, stale: bool) {
        *lock(&self.standing) = Standing { terms, stale };
    }

    pub(super) fn same_fields(&self, fields: &HeaderMap) -> bool {
        self.fields.len() == fields.len() && self.fields() == *fields
    }

    pub(super) fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Relaxed)
    }

    pub(super) fn set_verified(&self) {
        self.verified.store(true, Ordering::Relaxed);
    }

    pub(super) fn swap_body(&self, body: Option<Bytes>) -> Option<Bytes> {
        std::mem::replace(&mut lock(&self.body), body)
    }

    pub(super) fn take_asked_for(&self) -> bool {
        self.asked_for.swap(false, Ordering::Relaxed)
    }
}

/// A body, ready to be sent.
#[derive(Debug)]
pub enum Content {
    /// Whole, in memory.
    Memory(Bytes),
    /// In its file, checked.
    File(BodyFile),
}

/// A body in an open file; it stays readable when the page is replaced or removed.
#[derive(Debug)]
pub struct BodyFile {
    pub(super) file: File,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl BodyFile {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// At most `most` bytes from `position` on: fewer only at the end, none beyond it. Blocks.
    pub fn read_at(&self, position: u64, most: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::zeroed(left.min(most));
        self.file.read_exact_at(&mut chunk, self.offset.saturating_add(position))?;
        Ok(chunk.freeze())
    }

    /// Exactly `length` bytes from `position` on, of a body that has grown since. Blocks.
    pub(crate) fn read_written_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut chunk = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut chunk, self.offset.saturating_add(position))?;
        Ok(chunk.freeze())
    }
}
