//! Where a repository's files lie: the port, and the names of files.
//!
//! Each file but the configuration is called by the SHA-256 of what is in it, so that anyone can tell, without a key,
//! whether it is what it was. An adapter lists, reads, writes and removes files, and knows nothing of what they mean.
//!
//! ```text
//!  config   keys/<id>   data/<id[..2]>/<id>   index/<id>   snapshots/<id>
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use sha2::{Digest as _, Sha256};

use crate::chunk::Sum;
use crate::place::UNFINISHED;

/// The largest file that is read into memory. Ours have 8 MiB; restic makes packs of 128 MiB where it is told to.
pub(crate) const LARGEST_FILE: u64 = 512 << 20;
/// The file that says whose archive it is. Other programs that read repositories pass over names they do not know.
pub const LABEL: &str = "sovereign.json";
/// What a file of a repository is for. In this order a copy gets them: whatever a file refers to is there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// The key to the repository, locked with a password.
    Key,
    /// Data.
    Pack,
    /// What is in which pack.
    Index,
    /// A snapshot.
    Snapshot,
}

impl FileKind {
    /// Each of them, in order.
    pub const ALL: [Self; 4] = [Self::Key, Self::Pack, Self::Index, Self::Snapshot];

    /// Its folder in a repository.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Pack => "data",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
        }
    }

    /// In words: `1 pack`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Pack => "pack",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
        }
    }
}

/// The name of a repository's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// What makes a folder a repository.
    Config,
    /// Whose it is, in the clear; not every one has it.
    Label,
    /// Any other file: what it is for, and the SHA-256 of what is in it.
    Named(FileKind, Sum),
}

impl FileName {
    /// Its path in a repository.
    pub fn path(&self) -> String {
        match self {
            Self::Config => "config".to_owned(),
            Self::Label => LABEL.to_owned(),
            Self::Named(kind, sum) => {
                let id = hex::encode(sum);
                match kind {
                    FileKind::Pack => format!("data/{}/{id}", &id[..2]),
                    _ => format!("{}/{id}", kind.folder()),
                }
            }
        }
    }

    /// Whether this is what the file was when it was named. Configuration and label have no name to go by.
    pub fn is_right(&self, content: &[u8]) -> bool {
        match self {
            Self::Config | Self::Label => true,
            Self::Named(_, sum) => Sha256::digest(content).as_slice() == sum,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Label => f.write_str("label"),
            Self::Named(kind, sum) => write!(f, "{} {}", kind.word(), &hex::encode(sum)[..8]),
        }
    }
}

/// The id that a file's name says; `None` for what is no file of a repository.
pub(crate) fn sum_of_name(name: &str) -> Option<Sum> {
    let lower = name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut sum = Sum::default();
    (name.len() == 64 && lower && hex::decode_to_slice(name, &mut sum).is_ok()).then_some(sum)
}

/// The files of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// How long each is.
    pub files: BTreeMap<Sum, u64>,
    /// Those of which a part was written once, beside them.
    pub unfinished: Vec<Sum>,
}

impl Listed {
    /// Takes down what a folder has.
    pub(crate) fn note(&mut self, name: &str, size: u64) {
        if let Some(sum) = sum_of_name(name) {
            self.files.insert(sum, size);
        } else if let Some(sum) = name.strip_suffix(UNFINISHED).and_then(sum_of_name) {
            self.unfinished.push(sum);
        }
    }
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// What may still be written.
    pub free: u64,
    /// How much there is in all.
    pub all: u64,
}

/// A folder with a repository in it, or for one.
///
/// Every path is one of [`FileName::path`].
pub trait Place: fmt::Debug + Send + Sync {
    /// Where that is, for people.
    fn location(&self) -> String;

    /// The names of what is in the folder itself; `NotFound` when there is no folder.
    ///
    /// # Errors
    /// When it cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes the folder, where it is not there, and the folders in it.
    ///
    /// # Errors
    /// When it cannot be made.
    fn prepare(&self) -> io::Result<()>;

    /// All files of a kind.
    ///
    /// # Errors
    /// When not all can be listed: a part of the list is none.
    fn list(&self, kind: FileKind) -> io::Result<Listed>;

    /// A whole file, of at most [`LARGEST_FILE`].
    ///
    /// # Errors
    /// `NotFound` when it is not there; when it cannot be read.
    fn read(&self, name: &FileName) -> io::Result<Vec<u8>>;

    /// Exactly `length` bytes of a file, from `offset` on.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be read.
    fn read_part(&self, name: &FileName, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes a file whole or not at all: beside it, made to last, and then renamed. One that is there is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&self, name: &FileName, content: &[u8]) -> io::Result<()>;

    /// Removes a file; one that is not there is removed already.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, name: &FileName) -> io::Result<()>;

    /// Removes what was written of a file beside it and never finished.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard(&self, name: &FileName) -> io::Result<()>;

    /// Makes the names of all that was written or removed last.
    ///
    /// # Errors
    /// When that cannot be done.
    fn settle(&self) -> io::Result<()>;

    /// How much room there is; `None` when the place does not say.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn room(&self) -> io::Result<Option<Free>>;

    /// Whether each question takes long, so that it is better to ask for much at once.
    fn is_far(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_files_are_and_what_is_in_them() {
        let sum: Sum = Sha256::digest(b"abc").into();
        let id = hex::encode(sum);
        let name = |kind| FileName::Named(kind, sum);
        assert_eq!(name(FileKind::Pack).path(), format!("data/ba/{id}"));
        assert_eq!(name(FileKind::Snapshot).path(), format!("snapshots/{id}"));
        assert!(name(FileKind::Key).is_right(b"abc") && !name(FileKind::Key).is_right(b"abd"));
        let mut listed = Listed::default();
        for (other, size) in [("README", 1), ("ABCD", 2), (id.to_uppercase().as_str(), 3), (&id[..63], 4), ("-tmp-", 5)]
        {
            listed.note(other, size);
        }
        assert_eq!(listed, Listed::default());
        listed.note(&id, 6);
        listed.note(&format!("{id}-tmp-"), 7);
        assert_eq!(listed, Listed { files: [(sum, 6)].into(), unfinished: vec![sum] });
    }
}
