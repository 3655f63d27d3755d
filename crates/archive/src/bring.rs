//! Bringing a copy of an archive to the place where it is used: file by file, so that a run that was killed goes on.
//!
//! Files of a repository never change once they are written, and are named by what is in them. So one that is there and
//! has the right size was brought before. The configuration comes last: without it the folder is no archive. What is
//! damaged is brought as it is, and what a bad disk does not give is left out: what does not need it can still be restored.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::io::Errno;

use crate::copy::plan::plan;
use crate::copy::{self, CopyError, FileKind, FileName, Folder, Place};
use crate::error::ArchiveError;
use crate::place;
use crate::repository::Archive;
use crate::room::room_for;

impl Archive {
    /// Copies it into the folder `to`, which is empty, or has what a run before has brought. `seen` is told of how many
    /// bytes how many are there. Gives the files that the disk with this one cannot read.
    ///
    /// # Errors
    /// When something else is there, there is no room, or it cannot be read otherwise or written.
    pub fn bring_to(&self, to: &Path, seen: &dyn Fn(u64, u64)) -> Result<Vec<FileName>, CopyError> {
        let here = &*self.place;
        let (files, _) = copy::list(here)?;
        let names: Vec<&str> = FileKind::ALL.map(FileKind::folder).into_iter().chain(["locks"]).collect();
        place::may_take(to, &names)?;
        DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(ArchiveError::file("make", to))?;
        let _lock = place::lock(to)?;
        place::sweep(to);
        let there = Folder::new(to);
        there.prepare().map_err(CopyError::place("make", "a repository", &there))?;
        let missing = plan(&files, &copy::list(&there)?.0, &BTreeSet::new());
        let all = files.values().flat_map(|files| files.values()).sum::<u64>();
        let mut done = all - missing.bytes();
        room_for(to, missing.bytes())?;
        let mut unreadable = Vec::new();
        for (name, size) in &missing.send {
            match bring_one(here, &there, name) {
                Err(CopyError::Place { source, .. }) if source.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    unreadable.push(*name);
                }
                brought => brought?,
            }
            done += size;
            seen(done, all);
        }
        there.settle().map_err(CopyError::place("sync", "the folder", &there))?;
        bring_one(here, &there, &FileName::Config)?;
        there.settle().map_err(CopyError::place("sync", "the folder", &there))?;
        Ok(unreadable)
    }
}

fn bring_one(here: &dyn Place, there: &Folder, name: &FileName) -> Result<(), CopyError> {
    let content = here.read(name).map_err(CopyError::place("read", name, here))?;
    // What cannot be written here is no matter of a bad disk there.
    there.write(name, &content).map_err(|source| ArchiveError::file("write", there.at(name))(source).into())
}
