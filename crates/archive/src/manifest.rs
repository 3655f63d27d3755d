//! A manifest: what a site's data consists of at one moment, in the order of a walk.
//!
//! Promise: a folder stands before what is in it, nothing stands there twice, every parent is a folder (and not a link
//! that somebody would walk through), and there is an end to it.

use crate::entry::{Entry, Kind, TreePath};

/// The most entries of one manifest. A million files are far beyond what a site has, and 300 MB of memory.
pub const MOST_ENTRIES: usize = 1_000_000;
/// All paths and link targets together, in bytes.
pub const MOST_TEXT: usize = 128 << 20;
/// All files together: 16 TiB.
pub const MOST_BYTES: u64 = 1 << 44;

/// Why a list of entries is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// It comes after one that should stand behind it, or a second time.
    #[error("{0} is out of order or there twice")]
    Order(TreePath),
    /// Its folder was not named before, or is none.
    #[error("{0} lies in no folder of the list")]
    Orphan(TreePath),
    /// Too much of something.
    #[error("the list has too many {0}")]
    TooMany(&'static str),
}

/// The list, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// In the order of a walk.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many bytes all files have.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }

    /// How many files there are.
    pub fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count() as u64
    }

    /// The entry at a path.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.path.cmp(path));
        found.ok().and_then(|index| self.entries.get(index))
    }
}

/// A list that is being made.
#[derive(Debug, Default)]
pub struct Listing {
    entries: Vec<Entry>,
    /// The folders that the next entry may lie in, outermost first.
    open: Vec<TreePath>,
    text: usize,
    bytes: u64,
}

impl Listing {
    /// Takes the next entry.
    ///
    /// # Errors
    /// When it does not belong there; the list is of no use then.
    pub fn push(&mut self, entry: Entry) -> Result<(), Disorder> {
        if self.entries.last().is_some_and(|last| last.path >= entry.path) {
            return Err(Disorder::Order(entry.path));
        }
        while self.open.last().is_some_and(|folder| !entry.path.is_in(folder)) {
            self.open.pop();
        }
        if entry.path.parent() != self.open.last().map(TreePath::as_bytes) {
            return Err(Disorder::Orphan(entry.path));
        }
        let target = if let Kind::Link { target } = &entry.kind { target.len() } else { 0 };
        self.text += entry.path.as_bytes().len() + target;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.entries.len() >= MOST_ENTRIES {
            return Err(Disorder::TooMany("entries"));
        }
        if self.text > MOST_TEXT {
            return Err(Disorder::TooMany("bytes in names"));
        }
        if self.bytes > MOST_BYTES {
            return Err(Disorder::TooMany("bytes in files"));
        }
        if entry.kind == Kind::Folder {
            self.open.push(entry.path.clone());
        }
        self.entries.push(entry);
        Ok(())
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends the list.
    pub fn finish(self) -> Manifest {
        Manifest { entries: self.entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{LONGEST_PATH, Moment};

    fn entry(path: &str, kind: Kind) -> Entry {
        let moment = Moment { seconds: 1, nanoseconds: 0 };
        let path = TreePath::parse(path.as_bytes()).unwrap();
        Entry { path, kind, mode: 0o644, modified: moment, changed: moment, user: 0, group: 0, inode: 1 }
    }

    fn file(path: &str) -> Entry {
        entry(path, Kind::File { size: 1 })
    }

    fn folder(path: &str) -> Entry {
        entry(path, Kind::Folder)
    }

    fn list(entries: impl IntoIterator<Item = Entry>) -> Result<Manifest, Disorder> {
        let mut listing = Listing::default();
        for entry in entries {
            listing.push(entry)?;
        }
        Ok(listing.finish())
    }

    #[test]
    fn a_walk_is_a_list() {
        let manifest = list([folder("a"), folder("a/b"), file("a/b/c"), file("a/d"), file("a-b"), file("z")]).unwrap();
        assert_eq!((manifest.files(), manifest.bytes()), (4, 4));
        assert!(manifest.get(&TreePath::parse(b"a/d").unwrap()).is_some());
        assert!(manifest.get(&TreePath::parse(b"a/e").unwrap()).is_none());
    }

    #[test]
    fn what_is_no_walk_is_refused() {
        let link = entry("a", Kind::Link { target: b"/etc".to_vec() });
        assert!(matches!(list([link, file("a/passwd")]), Err(Disorder::Orphan(_))), "through a link");
        assert!(matches!(list([file("a"), file("a/b")]), Err(Disorder::Orphan(_))), "through a file");
        assert!(matches!(list([file("a/b")]), Err(Disorder::Orphan(_))), "no parent");
        assert!(matches!(list([folder("a"), folder("b"), file("a/c")]), Err(Disorder::Order(_))), "parent closed");
        assert!(matches!(list([folder("a"), folder("a-b"), file("a-c/d")]), Err(Disorder::Orphan(_))), "a sibling's");
        assert!(matches!(list([file("a"), file("a")]), Err(Disorder::Order(_))), "twice");
        assert!(matches!(list([folder("a"), file("a/b"), folder("a")]), Err(Disorder::Order(_))), "twice");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let huge = |path| entry(path, Kind::File { size: MOST_BYTES });
        assert_eq!(list([huge("a"), huge("b")]).unwrap_err(), Disorder::TooMany("bytes in files"));
        let many = (0..=MOST_ENTRIES).map(|number| file(&format!("{number:07}")));
        assert_eq!(list(many).unwrap_err(), Disorder::TooMany("entries"));
        let talkative = |number| entry(&format!("{number:07}"), Kind::Link { target: vec![b'x'; LONGEST_PATH] });
        assert_eq!(list((0..).map(talkative)).unwrap_err(), Disorder::TooMany("bytes in names"));
    }
}
