//! Reading a folder that somebody with fewer rights writes in, without ever leaving it.
//!
//! Promise: no symbolic link below the folder is followed, neither for a file nor for a folder on the way to it, and
//! opening never waits (for somebody to write into a pipe, say). Each step opens one name in a folder that is open
//! already, so nobody can exchange a folder for a link in between.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::entry::{ALL_MODES, Entry, Kind, LONGEST_PATH, Moment, TreePath};
use crate::wire::Cause;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What is listed: an entry, or why there is none.
pub(crate) enum Found {
    Entry(Entry),
    Unlisted(Cause, String, String),
    /// A pipe, socket or device.
    LeftOut,
}

impl Found {
    pub(crate) fn unlisted(path: &TreePath, error: &io::Error) -> Self {
        Self::Unlisted(cause(error), path.to_string(), error.to_string())
    }
}

/// What an error says about trying again. That a name leads nowhere any more, or to something else than a moment ago,
/// is a change; all else (no permission, a bad disk, too many open files) stays as it is.
pub(crate) fn cause(error: &io::Error) -> Cause {
    let changes = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO, Errno::STALE];
    let is_change = error.raw_os_error().is_some_and(|raw| changes.iter().any(|errno| errno.raw_os_error() == raw));
    if is_change || error.kind() == io::ErrorKind::NotFound { Cause::Changed } else { Cause::Unreadable }
}

/// Opens a folder that the operator named: on the way to it links are followed.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// Tells `tell` of everything in the open `folder` that is known as `path`, in the order of a walk. What `leave_out`
/// says yes to is passed over, with all that is in it.
///
/// # Errors
/// Those of `tell`.
pub(crate) fn walk<E>(
    folder: impl AsFd,
    path: &TreePath,
    leave_out: &dyn Fn(&TreePath) -> bool,
    tell: &mut dyn FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let names = match names(&folder) {
        Ok(names) => names,
        Err(error) => return tell(Found::unlisted(path, &error)),
    };
    for name in names {
        let inner = match path.join(&name) {
            Ok(inner) => inner,
            Err(error) => {
                tell(Found::Unlisted(Cause::Unreadable, path.to_string(), error.to_string()))?;
                continue;
            }
        };
        if leave_out(&inner) {
            continue;
        }
        let name = OsStr::from_bytes(&name);
        let found = match look(&folder, name, inner.clone()) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                tell(Found::LeftOut)?;
                continue;
            }
            // Removed since its name was read: it is no part of this folder any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                tell(Found::unlisted(&inner, &error))?;
                continue;
            }
        };
        let is_folder = found.kind == Kind::Folder;
        tell(Found::Entry(found))?;
        if is_folder {
            match rustix::fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(inside) => walk(inside, &inner, leave_out, tell)?,
                Err(error) => tell(Found::unlisted(&inner, &io::Error::from(error)))?,
            }
        }
    }
    Ok(())
}

fn names(folder: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What lies under a name; `None` for what is no data.
pub(crate) fn look(folder: impl AsFd, name: &OsStr, path: TreePath) -> io::Result<Option<Entry>> {
    let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File { size: stat.st_size.try_into().unwrap_or(u64::MAX) },
        FileType::Symlink => {
            // That it is no link any more is told as a change.
            let target = rustix::fs::readlinkat(&folder, name, Vec::with_capacity(LONGEST_PATH))
                .map_err(|errno| if errno == Errno::INVAL { Errno::STALE } else { errno })?;
            Kind::Link { target: CStr::to_bytes(&target).to_vec() }
        }
        _ => return Ok(None),
    };
    entry(path, kind, &stat).map(Some)
}

/// The entry of something that is looked at.
pub(crate) fn entry(path: TreePath, kind: Kind, stat: &Stat) -> io::Result<Entry> {
    let entry = Entry {
        path,
        kind,
        mode: stat.st_mode & ALL_MODES,
        modified: moment(stat.st_mtime, stat.st_mtime_nsec),
        changed: moment(stat.st_ctime, stat.st_ctime_nsec),
        user: stat.st_uid,
        group: stat.st_gid,
        inode: stat.st_ino,
    };
    entry.checked().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn moment(seconds: i64, nanoseconds: impl TryInto<u32>) -> Moment {
    Moment { seconds, nanoseconds: nanoseconds.try_into().unwrap_or(u32::MAX) }
}

/// Opens the file that `names` lead to from the open `folder`.
///
/// # Errors
/// When there is none, it is no plain file, or a link is on the way.
pub(crate) fn open_file<'n>(folder: impl AsFd, names: impl Iterator<Item = &'n [u8]>) -> io::Result<File> {
    let mut names = names.peekable();
    let mut inside: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let here = inside.as_ref().map_or(folder.as_fd(), AsFd::as_fd);
        let name = OsStr::from_bytes(name);
        if names.peek().is_some() {
            inside = Some(rustix::fs::openat(here, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
            continue;
        }
        return plain(rustix::fs::openat(here, name, FILE | OFlags::NOFOLLOW, Mode::empty())?);
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

/// A file that the operator named.
pub(crate) fn open_named(path: &Path) -> io::Result<File> {
    plain(rustix::fs::open(path, FILE | OFlags::NOFOLLOW, Mode::empty())?)
}

fn plain(descriptor: OwnedFd) -> io::Result<File> {
    let file = File::from(descriptor);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "it is no plain file any more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_one() {
        for errno in [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE] {
            assert_eq!(cause(&errno.into()), Cause::Changed, "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::PERM, Errno::IO, Errno::MFILE] {
            assert_eq!(cause(&errno.into()), Cause::Unreadable, "{errno}");
        }
    }
}
