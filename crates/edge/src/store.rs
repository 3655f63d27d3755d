//! The kept pages: one plain file each, an index in memory, and in memory too the bodies that readers ask for most.
//!
//! Promise: what [`Store::get`] finds is whole. A page is written beside, synced and renamed, so a process that dies at
//! any moment leaves the old page or the new one; a file whose checksums do not hold is a miss. Nothing is ever evicted
//! but pages under made-up queries, whose number is bounded, and media that a site's budget has no room for, where the
//! operator wants that (`space`): a mirror must stay complete.
//!
//! ```text
//!   <folder>/<first two hex digits>/<sha-256 of site and target>    one record: head, then body (see `record`)
//!   <folder>/tmp/<process>-<number>                                 being written
//! ```
//!
//! Durability: the bytes of a page are on disk before its name is. The names are synced by [`Store::sync`], which may be
//! called once for many pages; a power loss before that costs a fetch, never a torn page. Confirmations by the source
//! that change no field live in memory only: after a restart such a page is as old as its last fetch.
//!
//! All calls but those on an [`Entry`], [`Store::get`], [`Store::ticket`], [`Store::keys`], [`Store::stats`] and
//! [`Store::invalidate`] do blocking file I/O. While one edge takes over from another, both have the folder open: each
//! trusts its own index only as far as the file's checksum, so the worst is a page fetched once more.

mod entry;
mod ledger;
mod memory;
mod record;
mod space;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use sovereign_model::SiteName;
use tracing::warn;

use crate::policy::{Selection, Terms};
use crate::room::Stamp;
use crate::route::{Key, Target};
pub use entry::{Awake, BodyFile, Content, Entry};
pub(crate) use ledger::Known;
use ledger::Taken;
use memory::Memory;
pub use record::{RecordError, decode as decode_head, encode as encode_head};
pub(crate) use space::Account;
use space::Space;
pub use writer::Writer;

/// An unfinished page that was not written to for so long will not be finished: fetches give up much earlier.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How much a store may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of bodies held in memory.
    pub memory: u64,
    /// The longest body that is held in memory; longer ones are read from their file.
    pub memory_body: u64,
    /// Pages under made-up queries, per site: those that no page of the site is known to link to, whatever they are
    /// called. The oldest go first.
    pub incidental: usize,
}

impl Limits {
    /// More memory where there is more: an eighth of the machine's, up to 256 MiB, which is ten thousand pages. A page
    /// that lies in memory costs a quarter of one that is read from its file.
    pub fn of_this_machine() -> Self {
        let machine = rustix::system::sysinfo();
        let installed = (machine.totalram as u64).saturating_mul(machine.mem_unit.into());
        let least = Self::default();
        Self { memory: (installed / 8).clamp(least.memory, 256 << 20), ..least }
    }
}

impl Default for Limits {
    /// 32 MiB of bodies up to 256 KiB: the pages, styles and scripts of a usual site.
    fn default() -> Self {
        Self { memory: 32 << 20, memory_body: 256 << 10, incidental: 1024 }
    }
}

/// What the store cannot do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A record is not whole, or not the one that was expected. It is no longer in the index.
    #[error("the kept page in {} cannot be used", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: RecordError,
    },
    /// The site may not take as much room, or the disk does not have it.
    #[error("there is no room for a body of {length} bytes")]
    NoRoom {
        /// As far as that is known.
        length: u64,
    },
    /// While the page was fetched, all pages of its site were removed.
    #[error("the pages of the site were removed while this one was fetched")]
    Overtaken,
}

impl StoreError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk of the edge's store; pages are served and not kept until then".to_owned())
            }
            Self::Io { path, .. } => Some(format!("check that the edge may read and write {}", path.display())),
            Self::Overtaken => None,
            Self::NoRoom { .. } => Some("`sovereign status` says what takes how much".to_owned()),
            Self::Record { .. } => {
                Some("nothing: the page is fetched again; if it happens often, check the disk".to_owned())
            }
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// All about a page but its body.
#[derive(Debug, Clone)]
pub struct Head {
    /// What it is kept under.
    pub key: Key,
    /// Its status.
    pub status: StatusCode,
    /// Its fields, as [`crate::policy::storable_fields`] leaves them.
    pub fields: HeaderMap,
    /// On which terms it is kept.
    pub terms: Terms,
    /// What requests it is the answer to.
    pub selection: Selection,
}

/// What a store holds of one site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pages.
    pub kept: usize,
    /// Of these, marked stale and not refreshed yet.
    pub stale: usize,
    /// Bytes of bodies.
    pub bytes: u64,
    /// When the page that was confirmed longest ago was.
    pub oldest: Option<SystemTime>,
    /// When the page that was confirmed last was.
    pub newest: Option<SystemTime>,
}

/// What opening a store found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Pages in the index.
    pub kept: usize,
    /// Files that were not whole or not understood, and were removed; or could not be read.
    pub dropped: usize,
}

/// Names of invalidated pages that are remembered for fetches under way; beyond it, all of them count as overtaken.
const MOST_NAMED: usize = 1024;

/// The kept pages of all sites of an edge.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    limits: Limits,
    opened: Opened,
    index: RwLock<Index>,
    memory: Memory,
    /// Held while a file gets or loses its name and the index follows, so that the two agree. Never while serving.
    placing: Mutex<()>,
    /// Tells this process's unfinished files from another's.
    process: String,
    /// Numbers for files being written.
    next: AtomicU64,
    /// Shard folders with renames that are not synced yet.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    space: Space,
}

#[derive(Debug, Default)]
struct Index {
    entries: HashMap<Key, Arc<Entry>>,
    sites: BTreeMap<SiteName, SiteIndex>,
}

#[derive(Debug, Default)]
struct SiteIndex {
    /// How often pages were invalidated: a page whose fetch began before the last time is stale when it arrives.
    generation: u64,
    /// The generation in which pages were last invalidated by what they are, not by name.
    changed: u64,
    /// Pages that were invalidated by name, and in which generation.
    named: BTreeMap<Target, u64>,
    /// The generation in which all pages were removed: a page whose fetch began before is not kept at all.
    removed: u64,
    /// Pages under made-up queries, oldest first. May name pages that are gone.
    incidental: VecDeque<Key>,
    /// Addresses with a query that the site's own pages link to.
    linked: HashSet<Target>,
    /// Bytes of bodies.
    taken: Taken,
}

/// When the source was asked, counted in invalidations of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Index {
    fn take(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(key)?;
        if let Some(site) = self.sites.get_mut(&key.site) {
            site.taken.subtract(entry.kind(), entry.length());
        }
        Some(entry)
    }

    fn generation(&self, site: &SiteName) -> u64 {
        self.sites.get(site).map_or(0, |site| site.generation)
    }

    /// Whether the page was invalidated after its source was asked.
    fn is_overtaken(&self, key: &Key, ticket: Ticket) -> bool {
        self.sites.get(&key.site).is_some_and(|site| {
            site.changed > ticket.0 || site.named.get(&key.target).is_some_and(|generation| *generation > ticket.0)
        })
    }
}

impl Store {
    /// Opens the store in `folder`, made if needed: heads are read and checked, bodies when they are first used.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        let scratch = folder.join("tmp");
        make_folder(&scratch)?;
        clear(&scratch)?;
        let mut store = Self {
            folder: folder.to_owned(),
            limits,
            opened: Opened::default(),
            index: RwLock::default(),
            memory: Memory::new(limits.memory),
            placing: Mutex::default(),
            process: name_of_this_process(),
            next: AtomicU64::new(0),
            unsynced: Mutex::default(),
            space: Space::default(),
        };
        store.scan()?;
        Ok(store)
    }

    fn scan(&mut self) -> Result<(), StoreError> {
        let mut opened = Opened::default();
        let mut entries = Vec::new();
        for shard in list(&self.folder)?.into_iter().filter(|path| is_shard(path)) {
            for path in list(&shard)? {
                match record::read_head(&path) {
                    Ok((head, shape)) if record::path(&self.folder, &head.key) == path => {
                        let read = fs::metadata(&path).and_then(|file| file.modified());
                        entries.push(Entry::new(head, shape, read.map_or(Stamp::default(), Stamp::at)));
                    }
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    // A bad sector, say: the other pages are as good as before.
                    Err(error @ StoreError::Io { .. }) => {
                        warn!(%error, "a kept page cannot be read, and is left where it is");
                        opened.dropped += 1;
                    }
                    Ok(_) | Err(_) => {
                        remove_file(&path)?;
                        opened.dropped += 1;
                    }
                }
            }
        }
        entries.sort_by_key(|entry| entry.terms().fetched);
        opened.kept = entries.len();
        self.opened = opened;
        for entry in entries {
            self.admit(Arc::new(entry));
        }
        Ok(())
    }

    /// What opening found.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The page kept under `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.read_index().entries.get(key).cloned()
    }

    /// The variant of the page kept under `key` that is the answer to `request`.
    pub fn select(&self, key: &Key, request: &HeaderMap) -> Option<Arc<Entry>> {
        let first = self.get(key)?;
        if first.selection().fits(request) {
            return Some(first);
        }
        self.get(&variant(key, first.selection(), request)).filter(|entry| entry.selection().fits(request))
    }

    /// Where the answer to `request` is to be kept that depends on `selection`. The first answer to a page is its first
    /// variant, and what does not depend on the same fields takes its place.
    pub fn place(&self, key: &Key, selection: &Selection, request: &HeaderMap) -> Key {
        match self.get(key) {
            Some(first) if first.selection().same_fields(selection) && !first.selection().fits(request) => {
                variant(key, selection, request)
            }
            _ => key.clone(),
        }
    }

    /// The body of a page, from memory or from its file; a short one is held in memory from then on. The first use of a
    /// file checks it whole.
    ///
    /// A page that was replaced meanwhile by another fetch is an error: look it up again.
    pub fn read(&self, entry: &Arc<Entry>) -> Result<Content, StoreError> {
        let content = self.glance(entry)?;
        if let Content::Memory(bytes) = &content {
            self.memory.hold(entry, bytes);
        }
        Ok(content)
    }

    /// Like [`Store::read`], for work that nobody waits for: what is held in memory stays what readers ask for.
    pub fn glance(&self, entry: &Arc<Entry>) -> Result<Content, StoreError> {
        if let Some(awake) = entry.awake() {
            return Ok(Content::Memory(awake.body.clone()));
        }
        self.load(entry).inspect_err(|_| {
            // A page that replaces another has its file in place first: whoever looks it up again is to find the new one.
            drop(lock(&self.placing));
            self.forget(entry);
        })
    }

    fn load(&self, entry: &Entry) -> Result<Content, StoreError> {
        let path = record::path(&self.folder, entry.key());
        let body = record::open_body(&path, entry.shape())?;
        if entry.length() <= self.limits.memory_body {
            return Ok(Content::Memory(record::read_body(&path, &body, entry.shape())?));
        }
        if !entry.is_verified() {
            record::verify_body(&path, &body, entry.shape())?;
            entry.set_verified();
        }
        Ok(Content::File(body))
    }

    /// To be taken before the source is asked, and handed in with its answer: what is invalidated in between is stale
    /// when it arrives, what is removed in between is not kept.
    pub fn ticket(&self, site: &SiteName) -> Ticket {
        Ticket(self.read_index().generation(site))
    }

    /// Begins to write a page. Nothing is visible before [`Writer::commit`]; a dropped writer leaves nothing.
    pub fn begin(self: &Arc<Self>, ticket: Ticket, head: Head) -> Writer {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("tmp").join(format!("{}-{number}", self.process));
        Writer::new(Arc::clone(self), path, head, ticket)
    }

    /// The source confirmed the page: it gets new terms and fields, and is no longer marked stale. Written to disk only
    /// when a field changed.
    pub fn refresh(
        self: &Arc<Self>,
        ticket: Ticket,
        entry: &Arc<Entry>,
        fields: HeaderMap,
        terms: Terms,
    ) -> Result<Arc<Entry>, StoreError> {
        if entry.same_fields(&fields) {
            let index = self.read_index();
            entry.confirm(terms, index.is_overtaken(entry.key(), ticket));
            return Ok(Arc::clone(entry));
        }
        let (key, selection) = (entry.key().clone(), entry.selection().clone());
        let head = Head { key, status: entry.status(), fields, terms, selection };
        let mut writer = self.begin(ticket, head);
        match self.glance(entry)? {
            Content::Memory(bytes) => writer.write(&bytes)?,
            Content::File(body) => writer.copy(&body)?,
        }
        writer.commit()
    }

    /// Removes a page, from disk too. Whether there was one.
    pub fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let placing = lock(&self.placing);
        let Some(entry) = self.write_index().take(key) else { return Ok(false) };
        let path = record::path(&self.folder, key);
        remove_file(&path)?;
        drop(placing);
        self.memory.release(&entry);
        lock(&self.unsynced).extend(path.parent().map(Path::to_owned));
        Ok(true)
    }

    /// Removes all pages of a site: it became private, or is no longer served here. How many there were. Fetches under
    /// way are not kept when they arrive.
    pub fn remove_site(&self, site: &SiteName) -> Result<usize, StoreError> {
        let keys = self.keys(site);
        let mut index = self.write_index();
        let state = index.sites.entry(site.clone()).or_default();
        state.generation += 1;
        state.removed = state.generation;
        drop(index);
        self.forget_all_known(site);
        let mut removed = 0;
        for key in keys {
            removed += usize::from(self.remove(&key)?);
        }
        Ok(removed)
    }

    /// Remembers across restarts whether a site is closed to the public. To be said before its pages are removed: a
    /// process that is killed in the midst of that must not serve what is left when it starts again.
    pub fn set_closed(&self, site: &SiteName, closed: bool) -> Result<(), StoreError> {
        let mark = self.closed_mark(site);
        if closed {
            let made = File::create(&mark).and_then(|file| file.sync_all());
            made.and_then(|()| File::open(&self.folder)?.sync_all()).map_err(StoreError::io("mark", &mark))
        } else {
            remove_file(&mark)
        }
    }

    /// Whether a site was closed to the public when that was last known.
    pub fn is_closed(&self, site: &SiteName) -> bool {
        self.closed_mark(site).exists()
    }

    fn closed_mark(&self, site: &SiteName) -> PathBuf {
        self.folder.join(format!("closed-{site}"))
    }

    /// Remembers across restarts what was learned of a site's newest primary.
    pub fn set_newer_epoch(&self, site: &SiteName, text: &str) -> Result<(), StoreError> {
        let path = self.epoch_file(site);
        sovereign_runtime::file::replace(&path, text.as_bytes(), 0o600)
            .map_err(|error| StoreError::io("write", &path)(io::Error::other(error)))
    }

    /// What was remembered, as it lies there.
    pub fn newer_epoch(&self, site: &SiteName) -> Option<String> {
        fs::read_to_string(self.epoch_file(site)).ok()
    }

    fn epoch_file(&self, site: &SiteName) -> PathBuf {
        self.folder.join(format!("epoch-{site}"))
    }

    /// Marks those pages of a site stale that `concerns` picks; they are kept and served until refreshed. Pages whose
    /// fetch is under way will be stale when they arrive. How many were marked.
    pub fn invalidate(&self, site: &SiteName, mut concerns: impl FnMut(&Entry) -> bool) -> usize {
        let mut index = self.write_index();
        let state = index.sites.entry(site.clone()).or_default();
        state.generation += 1;
        state.changed = state.generation;
        // All that they said is said now.
        state.named.clear();
        let concerned = index.entries.values().filter(|entry| &entry.key().site == site && concerns(entry));
        concerned.filter(|entry| entry.mark_stale()).count()
    }

    /// The same for pages whose addresses are known: fetches of other pages that are under way are not touched.
    pub fn invalidate_named(&self, site: &SiteName, targets: &[Target]) -> usize {
        let mut index = self.write_index();
        let state = index.sites.entry(site.clone()).or_default();
        state.generation += 1;
        if state.named.len() + targets.len() > MOST_NAMED {
            state.changed = state.generation;
            state.named.clear();
        }
        state.named.extend(targets.iter().map(|target| (target.clone(), state.generation)));
        let first = targets.iter().map(|target| Key::new(site.clone(), target.clone()));
        let variants = first.flat_map(|first| (0..=Key::MOST_VARIANTS).map(move |variant| first.variant(variant)));
        let kept = variants.filter_map(|key| index.entries.get(&key));
        kept.filter(|entry| entry.mark_stale()).count()
    }

    /// What is held of a site.
    pub fn stats(&self, site: &SiteName) -> Stats {
        let index = self.read_index();
        let mut stats = Stats::default();
        for entry in index.entries.values().filter(|entry| &entry.key().site == site) {
            let fetched = entry.terms().fetched;
            stats.kept += 1;
            stats.stale += usize::from(entry.is_stale());
            stats.bytes += entry.length();
            stats.oldest = Some(stats.oldest.map_or(fetched, |oldest| oldest.min(fetched)));
            stats.newest = Some(stats.newest.map_or(fetched, |newest| newest.max(fetched)));
        }
        stats
    }

    /// The keys of a site's pages, in order.
    pub fn keys(&self, site: &SiteName) -> Vec<Key> {
        let mut keys: Vec<_> = self.read_index().entries.keys().filter(|key| &key.site == site).cloned().collect();
        keys.sort();
        keys
    }

    /// What of a site's pages `wanted` picks.
    pub fn targets(&self, site: &SiteName, mut wanted: impl FnMut(&Target) -> bool) -> Vec<Target> {
        let index = self.read_index();
        let first = index.entries.keys().filter(|key| &key.site == site && key.variant == 0);
        first.map(|key| &key.target).filter(|target| wanted(target)).cloned().collect()
    }

    /// A page of the site links to `target`: a page under it is no made-up one.
    pub fn note_linked(&self, site: &SiteName, target: &Target) {
        if target.query().is_none() || self.is_linked(site, target) {
            return;
        }
        let mut index = self.write_index();
        let state = index.sites.entry(site.clone()).or_default();
        state.incidental.retain(|key| key.target != *target || key.variant > 0);
        state.linked.insert(target.clone());
    }

    /// Whether a page of the site is known to link to `target`.
    pub fn is_linked(&self, site: &SiteName, target: &Target) -> bool {
        self.read_index().sites.get(site).is_some_and(|state| state.linked.contains(target))
    }

    /// All pages of the site were looked at: `linked` are the addresses with a query that they link to, and no others.
    pub fn settle_linked(&self, site: &SiteName, linked: HashSet<Target>) -> Result<(), StoreError> {
        let mut guard = self.write_index();
        let index = &mut *guard;
        let state = index.sites.entry(site.clone()).or_default();
        let unlinked = |key: &&Key| state.linked.contains(&key.target) && !linked.contains(&key.target);
        let first = index.entries.keys().filter(|key| key.site == *site && key.variant == 0);
        let mut fallen: Vec<_> = first.filter(unlinked).cloned().collect();
        fallen.sort();
        state.linked = linked;
        state.incidental.extend(fallen);
        let surplus = self.surplus(index, site);
        drop(guard);
        for key in surplus {
            self.remove(&key)?;
        }
        Ok(())
    }

    /// Makes the names of all pages written so far safe against power loss.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut folders = std::mem::take(&mut *lock(&self.unsynced));
        while let Some(folder) = folders.pop_first() {
            if let Err(source) = File::open(&folder).and_then(|folder| folder.sync_all()) {
                let mut unsynced = lock(&self.unsynced);
                unsynced.extend(folders);
                unsynced.insert(folder.clone());
                return Err(StoreError::Io { doing: "sync", path: folder, source });
            }
        }
        Ok(())
    }

    /// Puts a record that is complete in `written` in its place, on disk and in the index.
    fn install(&self, written: &Path, entry: Entry, ticket: Ticket) -> Result<Arc<Entry>, StoreError> {
        let path = record::path(&self.folder, entry.key());
        let shard = path.parent().expect("a record lies in a shard").to_owned();
        let entry = Arc::new(entry);
        if !shard.exists() {
            make_folder(&shard)?;
            lock(&self.unsynced).insert(self.folder.clone());
        }
        let placing = lock(&self.placing);
        if self.read_index().sites.get(&entry.key().site).is_some_and(|site| site.removed > ticket.0) {
            return Err(StoreError::Overtaken);
        }
        fs::rename(written, &path).map_err(StoreError::io("move a page to", &path))?;
        let mut index = self.write_index();
        if index.is_overtaken(entry.key(), ticket) {
            entry.mark_stale();
        }
        let replaced = insert(&mut index, &entry);
        let surplus = self.surplus(&mut index, &entry.key().site);
        drop(index);
        drop(placing);
        if let Some(replaced) = replaced {
            self.memory.release(&replaced);
        }
        lock(&self.unsynced).insert(shard);
        for key in surplus {
            self.remove(&key)?;
        }
        Ok(entry)
    }

    fn admit(&self, entry: Arc<Entry>) {
        // Until the first pass has looked: a mirror that starts without its source must not lose a style sheet.
        if entry.key().target.is_versioned() {
            self.note_linked(&entry.key().site, &entry.key().target);
        }
        insert(&mut self.write_index(), &entry);
    }

    /// Pages under made-up queries beyond the limit, taken off the list.
    fn surplus(&self, index: &mut Index, site: &SiteName) -> Vec<Key> {
        let Some(site) = index.sites.get_mut(site) else { return Vec::new() };
        let over = site.incidental.len().saturating_sub(self.limits.incidental);
        site.incidental.drain(..over).collect()
    }

    /// Drops a page from the index whose file proved unusable, unless it was replaced meanwhile.
    fn forget(&self, entry: &Arc<Entry>) {
        let mut index = self.write_index();
        if index.entries.get(entry.key()).is_some_and(|current| Arc::ptr_eq(current, entry)) {
            index.take(entry.key());
        }
        drop(index);
        self.memory.release(entry);
    }

    fn read_index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What these locks guard is whole after every single change, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn variant(key: &Key, selection: &Selection, request: &HeaderMap) -> Key {
    key.variant(1 + selection.place(request, Key::MOST_VARIANTS))
}

fn insert(index: &mut Index, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
    let key = entry.key();
    let replaced = index.entries.insert(key.clone(), Arc::clone(entry));
    let site = index.sites.entry(key.site.clone()).or_default();
    if let Some(replaced) = &replaced {
        site.taken.subtract(replaced.kind(), replaced.length());
    }
    site.taken.add(entry.kind(), entry.length());
    let made_up = key.target.query().is_some() && !site.linked.contains(&key.target);
    if replaced.is_none() && (made_up || key.variant > 0) {
        site.incidental.push_back(key.clone());
    }
    replaced
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(StoreError::io("list", folder))).collect()
}

fn is_shard(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && path.is_dir()
}

/// Removes what processes left that died while they wrote. Another edge may be writing at this moment: what changed
/// lately stays.
fn clear(scratch: &Path) -> Result<(), StoreError> {
    for path in list(scratch)? {
        let age = fs::metadata(&path).and_then(|file| file.modified()).map(|modified| modified.elapsed());
        if matches!(age, Ok(Ok(age)) if age > ABANDONED) {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Process ids repeat, in containers even at once; together with the time they do not.
fn name_of_this_process() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", std::process::id(), since.as_nanos())
}

/// For this user only: a private site's pages are nobody else's business.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("make", path))
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
