//! One kept page, as the index holds it.
//!
//! Most pages sleep: their body is in a file, and their fields are held as slim as they can be. One that readers ask for
//! is awake ([`Awake`]): its body is in memory, and beside it the head of the answer that most of them get. What changes
//! about a page without its content changing (its [`Terms`], whether it is stale, its `Date`) is swapped as one value. So
//! a hit takes no lock here, formats no field that does not change with every answer, and parses none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::Head;
use super::record::Shape;
use crate::policy::{self, Selection, Terms};
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
    standing: ArcSwap<Standing>,
    awake: ArcSwapOption<Awake>,
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
#[derive(Debug, Clone)]
struct Standing {
    terms: Terms,
    stale: bool,
    /// When the source says that it made the page, as readers are told.
    date: Option<HeaderValue>,
}

impl Standing {
    fn new(terms: Terms, stale: bool) -> Self {
        let date = terms.dated.and_then(|dated| HeaderValue::try_from(httpdate::fmt_http_date(dated)).ok());
        Self { terms, stale, date }
    }
}

/// What is in memory of a page that readers ask for.
#[derive(Debug)]
pub struct Awake {
    /// The whole body.
    pub body: Bytes,
    /// The fields of an answer with it, as [`policy::whole`] makes them, with places for `Age`, `Date` and `Cache-Status`.
    pub head: HeaderMap,
}

/// The same fields with all their values in one piece of memory of their own. As they come, they are slices of whatever
/// was read from the source at once, and would keep all of that; and an answer that takes a share of each has to write to
/// one place in memory instead of many, which other cores write to as well.
fn in_one_piece(fields: &HeaderMap) -> Box<[(HeaderName, HeaderValue)]> {
    let piece: Bytes = fields.values().flat_map(HeaderValue::as_bytes).copied().collect::<Vec<u8>>().into();
    let mut end = 0;
    let slim = |(name, value): (&HeaderName, &HeaderValue)| {
        let start = end;
        end += value.len();
        let slice = HeaderValue::from_maybe_shared(piece.slice(start..end)).unwrap_or_else(|_| value.clone());
        (name.clone(), slice)
    };
    fields.iter().map(slim).collect()
}

impl Entry {
    pub(super) fn new(head: Head, shape: Shape, read: Stamp) -> Self {
        Self {
            key: head.key,
            kind: Kind::of(&head.fields),
            read: AtomicU32::new(read.0),
            remembered: AtomicU32::new(read.0),
            status: head.status,
            fields: in_one_piece(&head.fields),
            selection: head.selection,
            shape,
            standing: ArcSwap::from_pointee(Standing::new(head.terms, false)),
            awake: ArcSwapOption::empty(),
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
        self.standing.load().terms
    }

    /// Whether something changed at the site since it was fetched.
    pub fn is_stale(&self) -> bool {
        self.standing.load().stale
    }

    /// The `Date` of its answers, if the source has given it one.
    pub fn date(&self) -> Option<HeaderValue> {
        self.standing.load().date.clone()
    }

    /// The length of its body in bytes.
    pub fn length(&self) -> u64 {
        self.shape.body_length
    }

    /// What readers get at once, if it is awake; it stays so for as long as it is asked for.
    pub fn awake(&self) -> Option<Arc<Awake>> {
        let awake = self.awake.load_full()?;
        // Looked at first: a page that everybody asks for would be written to by every core for nothing.
        if !self.asked_for.load(Ordering::Relaxed) {
            self.asked_for.store(true, Ordering::Relaxed);
        }
        Some(awake)
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
        !self.standing.rcu(|standing| Standing { stale: true, ..Standing::clone(standing) }).stale
    }

    pub(super) fn confirm(&self, terms: Terms, stale: bool) {
        self.standing.store(Arc::new(Standing::new(terms, stale)));
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

    /// Its body comes into memory. Whether it was not there before.
    pub(super) fn wake(&self, body: Bytes) -> bool {
        let mut head = policy::whole(self.status, self.fields(), Some(self.length()));
        // Places for what every answer sets anew: a copy of this map has room for its fields and no more.
        for name in [header::AGE, header::DATE, policy::CACHE_STATUS] {
            head.insert(name, HeaderValue::from_static(""));
        }
        self.awake.swap(Some(Arc::new(Awake { body, head }))).is_none()
    }

    /// Its body goes out of memory; readers who have it keep it to the end.
    pub(super) fn sleep(&self) {
        self.awake.store(None);
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
