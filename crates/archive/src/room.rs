//! Room on a disk: asked for before something is written, so that it is never filled.
//!
//! The archive lies on the disk of the sites more often than not, and a site whose disk is full stops. So a run that
//! does not fit is refused before it begins, and ends when others take the room meanwhile.

use std::path::Path;
use std::{fs, io};

use crate::copy::Free;
use crate::error::ArchiveError;
use crate::repository::Archive;

/// What stays free: twice what an edge leaves (256 MiB), so that a backup ends well before pages are no longer kept
/// and a database can no longer be written.
const RESERVE: u64 = 512 << 20;
/// Of a disk on which that would be much: a part of it.
const PART: u64 = 20;

/// Whether `bytes` can be written in `folder` and a reserve is left.
///
/// # Errors
/// When not, with all figures; or when the file system does not say.
pub fn room_for(folder: &Path, bytes: u64) -> Result<(), ArchiveError> {
    let Free { free, all } = free_in(folder).map_err(ArchiveError::file("look at the file system of", folder))?;
    let reserve = reserve_of(all);
    if free.saturating_sub(reserve) >= bytes {
        return Ok(());
    }
    Err(ArchiveError::NoRoom { folder: folder.to_owned(), bytes, free, reserve })
}

/// How much room the file system has that a folder is on.
pub(crate) fn free_in(folder: &Path) -> io::Result<Free> {
    let disk = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Free { free: bytes(disk.f_bavail), all: bytes(disk.f_blocks) })
}

/// How much of a file system of this size is left alone.
pub(crate) fn reserve_of(all: u64) -> u64 {
    RESERVE.min(all / PART)
}

impl Archive {
    /// How many bytes all files of the archive have, and how many are free where they lie.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn size(&self) -> Result<(u64, u64), ArchiveError> {
        fn of(folder: &Path) -> io::Result<u64> {
            let mut bytes = 0;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                bytes += if metadata.is_dir() { of(&entry.path())? } else { metadata.len() };
            }
            Ok(bytes)
        }
        let folder = self.folder();
        let looked = of(folder).and_then(|bytes| Ok((bytes, free_in(folder)?.free)));
        looked.map_err(ArchiveError::file("look at", folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_fits_and_all_of_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        room_for(folder.path(), 1).unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let refused = room_for(folder.path(), disk.f_blocks * disk.f_frsize);
        assert!(matches!(refused, Err(ArchiveError::NoRoom { .. })), "{refused:?}");
    }
}
