//! A Ghost's data: which files it is, a copy of its database that holds still, whether such a copy is sound, and
//! one table of it.
//!
//! The scripts run in the image's node, confined by whoever runs them: [`dump_arguments`], [`examine_arguments`],
//! [`table_arguments`], [`compare_arguments`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const DUMP: &str = include_str!("assets/dump.cjs");
const EXAMINE: &str = include_str!("assets/examine.cjs");
const TABLE: &str = include_str!("assets/table.cjs");
const COMPARE: &str = include_str!("assets/compare.cjs");

/// The name of the copy in its folder.
pub const DUMP_FILE: &str = "ghost.db";

/// The database of the Ghost in `folder`.
pub fn database(folder: &Path) -> PathBuf {
    folder.join("data").join("ghost.db")
}

/// The folder with images, themes, and all else that people uploaded.
pub fn content(folder: &Path) -> PathBuf {
    folder.join("content")
}

/// The image that the Ghost in `folder` was last started from; `None` when it is not there any more. A newer program
/// may be about to replace it by another.
pub fn image(folder: &Path) -> Option<PathBuf> {
    let app = fs::read_link(folder.join("current")).ok()?;
    let image = app.parent()?;
    image.join("node/bin/node").is_file().then(|| image.to_owned())
}

/// What tells one state of a database from another: SQLite raises the counter with every transaction, and the file
/// system its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stamp {
    counter: u32,
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// SQLite's file format: the header, and where the file change counter is in it.
const MAGIC: &[u8] = b"SQLite format 3\0";
const COUNTER: std::ops::Range<usize> = 24..28;

/// The stamp of a database that lies where others may write; `None` while a transaction is being written, and for
/// what is no database.
///
/// # Errors
/// When the file cannot be looked at.
pub fn stamp(database: &Path) -> io::Result<Option<Stamp>> {
    let before = database.symlink_metadata()?;
    let head = sovereign_runtime::file::read_foreign(database, 100)?;
    let journal = ["-journal", "-wal"].iter().any(|end| {
        let mut beside = database.as_os_str().to_owned();
        beside.push(end);
        Path::new(&beside).symlink_metadata().is_ok()
    });
    let counter = head.get(COUNTER).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let (true, false, Some(counter)) = (head.starts_with(MAGIC), journal, counter) else { return Ok(None) };
    Ok(Some(Stamp {
        counter,
        size: before.size(),
        inode: before.ino(),
        modified: (before.mtime(), before.mtime_nsec()),
        changed: (before.ctime(), before.ctime_nsec()),
    }))
}

/// Arguments for the image's node: copy `database` to `to`, as it is at one moment.
pub fn dump_arguments(image: &Path, database: &Path, to: &Path) -> Vec<String> {
    arguments(DUMP, [&image.join("app"), database, to])
}

/// Arguments for the image's node: say whether the database at `file` is sound. The answer is a [`Examined`] in JSON.
pub fn examine_arguments(image: &Path, file: &Path) -> Vec<String> {
    arguments(EXAMINE, [&image.join("app"), file])
}

/// Arguments for the image's node: write a table of the database at `file` to `to`, as SQL that makes it again. The answer
/// is a [`Table`] in JSON.
pub fn table_arguments(image: &Path, file: &Path, table: &str, to: &Path) -> Vec<String> {
    arguments(TABLE, [&image.join("app"), file, Path::new(table), to])
}

/// Arguments for the image's node: compare two databases, and write a [`Compared`] in JSON into the file `to`.
pub fn compare_arguments(image: &Path, older: &Path, newer: &Path, to: &Path) -> Vec<String> {
    arguments(COMPARE, [&image.join("app"), older, newer, to])
}

fn arguments<const N: usize>(script: &str, paths: [&Path; N]) -> Vec<String> {
    let fixed = ["-e", script, "--"].map(str::to_owned);
    fixed.into_iter().chain(paths.map(|path| path.display().to_string())).collect()
}

/// What was found in a database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Examined {
    /// Whether SQLite finds nothing wrong with it.
    pub sound: bool,
    /// How many posts and pages it has.
    pub posts: u64,
    /// How many people write on it.
    pub users: u64,
    /// What SQLite complains about.
    #[serde(default)]
    pub found: Vec<String>,
}

/// What became of a table that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Table {
    /// How many rows were written; `None` where there is no such table.
    #[serde(default)]
    pub rows: Option<u64>,
    /// The tables there are, then.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// What is different between two databases. It comes from what is not to be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compared {
    /// Posts.
    pub posts: Changes,
    /// Pages.
    pub pages: Changes,
    /// Members, by name and address.
    pub members: Changes,
    /// Tags.
    pub tags: Changes,
}

/// What became of things of one kind, by title: at most some thousand of each are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// They are there now.
    pub added: Titles,
    /// They are different now.
    pub changed: Titles,
    /// They are there no more.
    pub removed: Titles,
}

/// Some titles, and how many there are in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Titles {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub titles: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ghost::{Home, layout, sample};

    #[test]
    fn the_image_of_a_ghost_is_the_one_it_was_laid_out_for() {
        let folder = tempfile::tempdir().unwrap();
        let (site, old) = (folder.path().join("site"), folder.path().join("old"));
        assert_eq!(image(&site), None, "nothing runs yet");
        sample::with_home(|home| {
            layout(&Home { folder: &site, image: &old, ..*home }).write().unwrap();
        });
        assert_eq!(image(&site), None, "it is gone");
        fs::create_dir_all(old.join("node/bin")).unwrap();
        fs::write(old.join("node/bin/node"), "").unwrap();
        assert_eq!(image(&site), Some(old));
    }

    #[test]
    fn a_transaction_shows_in_the_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let mut bytes = [MAGIC, &[0; 84]].concat();
        std::fs::write(&path, &bytes).unwrap();
        let first = stamp(&path).unwrap().unwrap();
        assert_eq!(stamp(&path).unwrap().unwrap(), first);
        bytes[COUNTER.end - 1] = 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_ne!(stamp(&path).unwrap().unwrap(), first);
        std::fs::write(folder.path().join("x.db-journal"), "").unwrap();
        assert_eq!(stamp(&path).unwrap(), None, "a transaction is under way");
    }

    #[test]
    fn what_is_no_database_has_no_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(stamp(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        stamp(&path).unwrap_err();
    }
}
