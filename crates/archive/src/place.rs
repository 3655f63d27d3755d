//! The folder that an archive lies in: made whole or not at all, used by one run at a time, free of what killed runs
//! left.
//!
//! ```text
//!  empty ──▶ new/ is made in it ──▶ new/config is there ──▶ the rest moves up ──▶ config moves up: an archive
//!    ▲             │ killed                │ killed                 │ killed
//!    └── removed ──┘                       └────────────────────────┴── the next run goes on moving
//! ```
//!
//! Deliberately not: a folder that has something else in it. It is the wrong one, or what a disk is not mounted on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::ArchiveError;

/// What makes a folder a repository; written last.
const CONFIG: &str = "config";
const LOCK: &str = "sovereign.lock";
const LOCK_FOR_COPIES: &str = "sovereign.copies.lock";
/// Where a repository is until it is whole.
const NEW: &str = "new";
/// How the library names a file until it is whole. Other programs' names go on after it.
pub(crate) const UNFINISHED: &str = "-tmp-";

/// Whether an archive lies there.
pub(crate) fn has_archive(folder: &Path) -> bool {
    folder.join(CONFIG).is_file()
}

/// Whether one may be made there.
///
/// # Errors
/// When something else is there.
pub(crate) fn may_become_one(folder: &Path) -> Result<(), ArchiveError> {
    if folder.join(NEW).join(CONFIG).is_file() {
        return Ok(());
    }
    may_take(folder, &[NEW])
}

/// Whether nothing is there but a lock, half a configuration, and these names.
///
/// # Errors
/// When something else is there.
pub(crate) fn may_take(folder: &Path, names: &[&str]) -> Result<(), ArchiveError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::file("read", folder)(error)),
    };
    for entry in entries {
        let name = entry.map_err(ArchiveError::file("read", folder))?.file_name();
        let is_half = name.to_str().is_some_and(is_unfinished);
        if name != LOCK && !is_half && !names.iter().any(|known| name == *known) {
            return Err(ArchiveError::Occupied { folder: folder.to_owned() });
        }
    }
    Ok(())
}

/// Makes the folder an archive. `init` makes one in a folder of its own; what it gives comes back unless a run before
/// this one had got so far. The lock is held.
///
/// # Errors
/// When something else is there, or it cannot be written.
pub(crate) fn make<T>(
    folder: &Path,
    init: impl FnOnce(&Path) -> Result<T, ArchiveError>,
) -> Result<Option<T>, ArchiveError> {
    may_become_one(folder)?;
    let new = folder.join(NEW);
    let made = if new.join(CONFIG).is_file() {
        None
    } else {
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::file("remove", &new)(error));
            }
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&new).map_err(ArchiveError::file("make", &new))?;
        Some(init(&new)?)
    };
    for entry in fs::read_dir(&new).map_err(ArchiveError::file("read", &new))? {
        let name = entry.map_err(ArchiveError::file("read", &new))?.file_name();
        if name != CONFIG {
            move_up(&new.join(&name), &folder.join(&name))?;
        }
    }
    sync(folder)?;
    move_up(&new.join(CONFIG), &folder.join(CONFIG))?;
    sync(folder)?;
    let _ = fs::remove_dir(&new); // empty, and in nobody's way
    Ok(made)
}

fn move_up(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    fs::rename(from, to).map_err(ArchiveError::file("move", from))
}

/// All of the file system: a new repository is hundreds of folders.
fn sync(folder: &Path) -> Result<(), ArchiveError> {
    let failed = ArchiveError::file("sync", folder);
    File::open(folder).and_then(|open| Ok(rustix::fs::syncfs(open)?)).map_err(failed)
}

/// Makes names in a folder last.
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes what runs that were killed have left half-written. The lock is held. What cannot be removed stays: it is in
/// nobody's way.
pub(crate) fn sweep(folder: &Path) {
    let of_data = fs::read_dir(folder.join("data")).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = ["index", "keys", "snapshots"].map(|name| folder.join(name));
    for within in of_data.chain(others).chain([folder.to_owned()]) {
        for entry in fs::read_dir(within).into_iter().flatten().flatten() {
            if is_unfinished(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    let _ = fs::remove_dir(folder.join(NEW)); // only when it is empty
}

fn is_unfinished(name: &str) -> bool {
    let id = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.strip_suffix(UNFINISHED).is_some_and(|name| name == CONFIG || id(name))
}

/// Taken for as long as the file is open; the kernel lets go of it when the process ends, however it ends. Other
/// programs do not know of it: restic only reads beside us.
pub(crate) fn lock(folder: &Path) -> Result<File, ArchiveError> {
    lock_by(&folder.join(LOCK))?.ok_or(ArchiveError::Locked)
}

/// The same for what copies are made of. Backups go on meanwhile, since they only add files; who removes or replaces
/// some takes this one, too.
pub(crate) fn lock_for_copies(folder: &Path) -> Result<File, ArchiveError> {
    lock_by(&folder.join(LOCK_FOR_COPIES))?.ok_or(ArchiveError::LockedForCopies)
}

/// `None` when another run has it.
fn lock_by(path: &Path) -> Result<Option<File>, ArchiveError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(ArchiveError::file("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(ArchiveError::file("lock", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Makes what the library would, as far as `until`: one killed there.
    fn init(new: &Path, until: usize) -> Result<u32, ArchiveError> {
        for name in ["data", "keys", "snapshots"].iter().take(until) {
            fs::create_dir(new.join(name)).unwrap();
        }
        if until > 3 {
            fs::write(new.join(CONFIG), "config").unwrap();
        }
        Ok(7)
    }

    #[test]
    fn an_archive_is_whole_or_not_there_wherever_its_making_is_killed() {
        for killed in 0..9 {
            let folder = tempfile::tempdir().unwrap();
            let (folder, new) = (folder.path(), folder.path().join(NEW));
            fs::create_dir(&new).unwrap();
            init(&new, killed.min(4)).unwrap();
            for name in ["data", "keys", "snapshots"].iter().take(killed.saturating_sub(5)) {
                fs::rename(new.join(name), folder.join(name)).unwrap();
            }
            assert!(!has_archive(folder), "{killed}");
            let made = make(folder, |new| init(new, 4)).unwrap();
            assert_eq!(made, (killed < 4).then_some(7), "{killed}: what is complete is not made again");
            assert_eq!(names(folder), ["config", "data", "keys", "snapshots"], "{killed}");
        }
    }

    #[test]
    fn nothing_is_made_where_something_else_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("holiday.jpg"), "").unwrap();
        let refused = make(folder.path(), |new| init(new, 4));
        assert!(matches!(refused, Err(ArchiveError::Occupied { .. })), "{refused:?}");
        assert_eq!(names(folder.path()), ["holiday.jpg"]);
    }

    #[test]
    fn what_the_library_left_half_written_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let id = "ab".repeat(32);
        let pack = folder.path().join("data/ab");
        fs::create_dir_all(&pack).unwrap();
        fs::create_dir(folder.path().join("index")).unwrap();
        let keep =
            [pack.join(&id), pack.join(format!("{id}-tmp-1234")), pack.join("mine-tmp-"), folder.path().join(CONFIG)];
        let gone = [
            pack.join(format!("{id}-tmp-")),
            folder.path().join("index").join(format!("{id}-tmp-")),
            folder.path().join("config-tmp-"),
        ];
        for file in keep.iter().chain(&gone) {
            fs::write(file, "x").unwrap();
        }
        sweep(folder.path());
        assert!(keep.iter().all(|file| file.exists()) && !gone.iter().any(|file| file.exists()));
    }
}
