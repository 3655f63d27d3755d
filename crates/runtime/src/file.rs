//! Replacing a file whole: written beside, made durable, renamed. And reading one that is not to be trusted.
//!
//! Promise: after a crash at any point the path holds the old content or the new one. A reader that opens the path
//! never sees a half-written file. Left behind by a crash, at worst: a hidden `.<name>.<pid>.<n>.new` beside it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// A file could not be replaced; the old one is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct FileError {
    /// The file that was to be replaced.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        let folder = self.path.parent()?.display();
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some(format!("free some space on the file system of {folder}"))
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some(format!("make {folder} writable for this user"))
            }
            io::ErrorKind::NotFound => Some(format!("create the folder {folder}")),
            _ => None,
        }
    }
}

/// Gives `path` the content `bytes` and exactly the permission bits `mode`, atomically and durably.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError { path: path.to_owned(), source };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidFilename)));
    };
    // "config.json" has the parent "", which names no folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let beside = folder.join(beside_name(&name.to_string_lossy()));
    let written = write_new(&beside, bytes, mode).and_then(|()| fs::rename(&beside, path));
    if let Err(source) = written {
        // Best effort: the error that matters is the one above.
        let _ = fs::remove_file(&beside);
        return Err(failed(source));
    }
    // The rename itself is durable only when its folder is.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads at most `most` bytes of a file that somebody with fewer rights may have put there: a symbolic link is not
/// followed, and whatever is no plain file (a pipe that nobody writes to, say) is an error instead of a long wait.
///
/// # Errors
/// What the file system says; `NotFound` when nothing is there.
pub fn read_foreign(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A name of its own for every call in every process, so that two writers never share a file.
pub(crate) fn beside_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}.{count}.new", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn content_and_mode_are_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_leaves_no_file_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_somebody_else_put_there_is_read_only_when_it_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), "12345").unwrap();
        assert_eq!(read_foreign(&path("plain"), 3).unwrap(), b"123");
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        for planted in ["link", "pipe", "."] {
            assert_ne!(read_foreign(&path(planted), 3).unwrap_err().kind(), io::ErrorKind::NotFound, "{planted}");
        }
        assert_eq!(read_foreign(&path("gone"), 3).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_missing_folder_is_named_in_the_help() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace(&folder.path().join("a/b"), b"x", 0o600).unwrap_err();
        assert!(error.help().unwrap().contains("/a"), "{:?}", error.help());
    }
}
