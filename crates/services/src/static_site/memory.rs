//! What is in which file, remembered: gigabytes are not read again at every run.
//!
//! Promise: what is remembered of a file holds as long as the file system says that nobody wrote to it. That is told by the
//! time at which its inode changed, which no program can set back; a file that changed a moment before it was read could
//! change once more at what counts as the same time, so it is read again.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;
use sovereign_runtime::file::{self, FileError};

/// A file system may count time in steps of two seconds (FAT).
const SAME_TIME: Duration = Duration::from_secs(2);

/// What was read of files.
#[derive(Debug, Default)]
pub struct Memory {
    known: BTreeMap<PathBuf, Read>,
    /// What of it was of use, or is new, in this run.
    used: BTreeMap<PathBuf, Read>,
}

/// A file that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Read {
    stamp: Stamp,
    content: Digest,
}

/// What is another one after every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// When its inode changed: seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let (device, inode, length) = (file.dev(), file.ino(), file.len());
        Self { device, inode, length, changed: (file.ctime(), file.ctime_nsec()) }
    }

    /// Whether what changes from now on has another stamp.
    fn is_settled(&self) -> bool {
        let changed =
            u64::try_from(self.changed.0).ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        changed.is_some_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|since| since > SAME_TIME))
    }
}

impl Memory {
    /// What was kept at `path`; nothing when that cannot be read.
    pub fn open(path: &Path) -> Self {
        let kept = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { known: kept.unwrap_or_default(), used: BTreeMap::new() }
    }

    /// Keeps at `path` what was asked for in this run, and nothing else.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// Never: numbers and digests are JSON.
    pub fn keep(self, path: &Path) -> Result<(), FileError> {
        if self.used == self.known {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.used).expect("numbers and digests are JSON");
        file::replace(path, &text, 0o600)
    }

    /// What is in a file, and what the file system says of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn digest(&mut self, path: &Path) -> io::Result<(Digest, Metadata)> {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let stamp = Stamp::of(&before);
        if let Some(read) = self.known.get(path).filter(|read| read.stamp == stamp) {
            self.used.insert(path.to_owned(), *read);
            return Ok((read.content, before));
        }
        let is_settled = stamp.is_settled();
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut hash)?;
        let content = Digest::from_bytes(hash.finalize().into());
        let after = file.metadata()?;
        if is_settled && Stamp::of(&after) == stamp {
            self.used.insert(path.to_owned(), Read { stamp, content });
        }
        Ok((content, after))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_nobody_wrote_to_is_not_read_again() {
        let root = tempfile::tempdir().unwrap();
        let [page, kept] = ["page", "kept"].map(|name| root.path().join(name));
        fs::write(&page, "one").unwrap();
        let look = || {
            let mut memory = Memory::open(&kept);
            let (content, _) = memory.digest(&page).unwrap();
            let is_known = memory.used.contains_key(&page);
            memory.keep(&kept).unwrap();
            (content, is_known)
        };
        assert_eq!(look(), (Digest::of("one"), false), "it changed just now");
        let began = Instant::now();
        while look() != (Digest::of("one"), true) {
            assert!(began.elapsed() < 10 * SAME_TIME);
            std::thread::sleep(SAME_TIME / 20);
        }
        // What is remembered is taken for true, whatever it is.
        let text = fs::read_to_string(&kept).unwrap();
        fs::write(&kept, text.replace(&Digest::of("one").hex(), &Digest::of("two").hex())).unwrap();
        assert_eq!(look(), (Digest::of("two"), true));
        // Another content of the same length, the old time of change put back.
        let modified = fs::metadata(&page).unwrap().modified().unwrap();
        fs::write(&page, "six").unwrap();
        File::options().write(true).open(&page).unwrap().set_modified(modified).unwrap();
        assert_eq!(look(), (Digest::of("six"), false));
        fs::write(&kept, "{").unwrap();
        assert_eq!(look().0, Digest::of("six"));
    }
}
