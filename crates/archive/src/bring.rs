//! Bringing a copy of an archive to the place where it is used: file by file, so that a run that was killed goes on.
//!
//! Files of a repository never change once they are written, and are named by what is in them. So one that is there and
//! has the right size was brought before. The configuration comes last: without it the folder is no archive.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::ArchiveError;
use crate::place;
use crate::repository::Archive;
use crate::room::room_for;

/// What a repository consists of beside its configuration.
const FOLDERS: [&str; 4] = ["data", "index", "keys", "snapshots"];

impl Archive {
    /// Copies it into the folder `to`, which is empty, or has what a run before has brought. `seen` is told of how many
    /// bytes how many are there.
    ///
    /// # Errors
    /// When something else is there, there is no room, or it cannot be read or written.
    pub fn bring_to(&self, to: &Path, seen: &dyn Fn(u64, u64)) -> Result<(), ArchiveError> {
        let mut files = Vec::new();
        for folder in FOLDERS {
            list(self.folder(), Path::new(folder), &mut files)?;
        }
        place::may_take(to, &FOLDERS)?;
        DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(ArchiveError::file("make", to))?;
        let _lock = place::lock(to)?;
        place::sweep(to);
        let is_there = |(file, size): &&(PathBuf, u64)| {
            to.join(file).symlink_metadata().is_ok_and(|there| there.is_file() && there.len() == *size)
        };
        let (there, missing): (Vec<_>, Vec<_>) = files.iter().partition(is_there);
        let size = |files: &[&(PathBuf, u64)]| files.iter().map(|(_, size)| size).sum::<u64>();
        let (mut done, all) = (size(&there), size(&there) + size(&missing));
        room_for(to, size(&missing))?;
        for (file, size) in missing {
            self.bring_one(file, to)?;
            done += size;
            seen(done, all);
        }
        self.bring_one(Path::new(place::CONFIG), to)
    }

    fn bring_one(&self, file: &Path, to: &Path) -> Result<(), ArchiveError> {
        let (from, place) = (self.folder().join(file), to.join(file));
        let mut beside = place.clone().into_os_string();
        beside.push(place::UNFINISHED);
        let beside = PathBuf::from(beside);
        let folder = place.parent().unwrap_or(to);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(ArchiveError::file("make", folder))?;
        let copied = fs::copy(&from, &beside).and_then(|_| File::open(&beside)?.sync_all());
        copied.and_then(|()| fs::rename(&beside, &place)).map_err(ArchiveError::file("write", &place))?;
        place::sync_names(folder).map_err(ArchiveError::file("sync", folder))
    }
}

/// Files below a folder of the archive, with their sizes. Those that were never finished are none of it.
fn list(archive: &Path, folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), ArchiveError> {
    let place = archive.join(folder);
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::file("read", &place)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(ArchiveError::file("read", &place))?;
        let metadata = entry.metadata().map_err(ArchiveError::file("look at", entry.path()))?;
        let name = entry.file_name();
        if metadata.is_dir() {
            list(archive, &folder.join(&name), files)?;
        } else if metadata.is_file() && !place::is_unfinished(&name.to_string_lossy()) {
            files.push((folder.join(&name), metadata.len()));
        }
    }
    Ok(())
}
