//! A folder of Knot's for each process: two run beside each other while one takes over, and neither may write where the
//! other reads.
//!
//! ```text
//!  knot/4711.lock   held while process 4711 lives
//!  knot/4711/       Knot's folder; removed at the end, or by the next one when nobody holds the lock any more
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::{info, warn};

/// What locks are called, after the name of what they lock.
const LOCK: &str = "lock";

/// There is no folder.
#[derive(Debug, thiserror::Error)]
#[error("the name server's folder {} cannot be written", path.display())]
pub struct RoomError {
    /// Which.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// A folder that is this process' own, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    _lock: File,
}

impl Room {
    /// A new folder in `all`. Those of processes that are gone are removed.
    pub(super) fn take(all: &Path) -> Result<Self, RoomError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RoomError { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(all).map_err(failed(all))?;
        remove_left(all).map_err(failed(all))?;
        // Several in one process: tests.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => std::process::id().to_string(),
            more => format!("{}-{more}", std::process::id()),
        };
        let path = all.join(name);
        let lock = lock(&path.with_extension(LOCK))
            .and_then(|lock| lock.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "another process has it")));
        let lock = lock.map_err(failed(&path))?;
        DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The lock, unless somebody has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn remove_left(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        if let Some(_held) = lock(&path)? {
            info!(folder = %path.display(), "a name server that is gone left this");
            remove(&path.with_extension(""));
        }
    }
    Ok(())
}

/// The folder first: as long as there is a lock, somebody knows that there may be a folder.
fn remove(path: &Path) {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let removed = gone(fs::remove_dir_all(path)).and_then(|()| gone(fs::remove_file(path.with_extension(LOCK))));
    if let Err(error) = removed {
        warn!(%error, folder = %path.display(), "a folder of Knot's cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_have_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("knot");
        let living = Room::take(&all).unwrap();
        fs::write(living.path().join("file"), "x").unwrap();
        let left = all.join("999999999");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("file"), "x").unwrap();
        fs::write(left.with_extension(LOCK), "").unwrap();
        let next = Room::take(&all).unwrap();
        assert!(living.path().join("file").exists() && next.path() != living.path());
        assert!(!left.exists() && !left.with_extension(LOCK).exists());
        drop((living, next));
        assert_eq!(fs::read_dir(&all).unwrap().count(), 0);
    }
}
