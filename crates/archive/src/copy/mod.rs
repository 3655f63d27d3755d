//! Copies of an archive in other places, made without a key: files are listed here and there, and what is missing there
//! is sent.
//!
//! ```text
//!  here ── hash ──▶ keys, packs ▶ indexes ▶ snapshots ──▶ there       each beside, made to last, renamed
//!                   snapshots ◀ indexes ◀ packs                       removed there: what our own prune removed here
//! ```
//!
//! Promise: a copy is a repository at every moment, and each snapshot that it lists is whole, whatever is killed
//! whenever. A file is sent only when it is what its name says: damage here stays here, and is named. What is missing
//! here and was not removed by a prune of ours stays there: a folder that was emptied, or is another one, takes no copy
//! along. A place is begun in an empty folder only, and from then on holds this archive and no other. One file at a time
//! is in memory.
//!
//! Left out: which copies there are and when they are due.

pub(crate) mod backend;
mod check;
mod disk;
mod error;
mod folder;
pub(crate) mod place;
pub(crate) mod plan;
mod sftp;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use check::{CopyChecked, check};
pub use disk::{Disks, Unplugged};
pub use error::CopyError;
pub use folder::Folder;
pub use place::{FileKind, FileName, Free, LABEL, Listed, Place};
pub use sftp::{Login, Sftp};

use crate::chunk::Sum;
use crate::error::ArchiveError;
use crate::place::lock_for_copies;
use crate::removed;
use crate::repository::Archive;
use crate::room::reserve_of;
use crate::take::{Seen, Watch};
use plan::{Files, Plan, plan};

/// How much is sent between two looks at the room that is left.
const BETWEEN_LOOKS: u64 = 64 << 20;

/// What a copy has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many files were sent.
    pub files_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// How many files were removed there.
    pub files_removed: u64,
    /// The names of the snapshots that it lists now.
    pub snapshots: Vec<String>,
    /// Files here that are not what they were: not sent, and what may need them is not either.
    pub damaged: Vec<FileName>,
    /// Files that are there and missing here, and that no prune removed: they stay.
    pub kept: Vec<FileName>,
}

impl Copied {
    /// Whether it is what the archive is.
    pub fn is_in_step(&self) -> bool {
        self.damaged.is_empty() && self.kept.is_empty()
    }
}

/// Whether a copy was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was, so it must be there.
    Known,
    /// Not that anybody knows: it is begun where nothing is.
    Unknown,
}

/// An archive as copies are made from it: its folder, which loses nothing meanwhile.
pub struct Original {
    folder: Folder,
    path: PathBuf,
    is_stopped: Box<dyn Fn() -> bool>,
    _lock: File,
}

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Original({})", self.path.display())
    }
}

impl Original {
    pub(crate) fn of(path: &Path) -> Result<Self, ArchiveError> {
        Ok(Self {
            folder: Folder::new(path),
            path: path.to_owned(),
            is_stopped: Box::new(|| false),
            _lock: lock_for_copies(path)?,
        })
    }

    /// The same; a copy ends before the next file once this says so.
    #[must_use]
    pub fn until(self, is_stopped: impl Fn() -> bool + 'static) -> Self {
        Self { is_stopped: Box::new(is_stopped), ..self }
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Brings the copy at a place in step with this archive.
    ///
    /// # Errors
    /// When the place cannot be used, has something else in it, or too little room. What was sent by then stays, and is
    /// not sent again.
    pub fn copy_to(&self, there: &dyn Place, before: Before, watch: &Watch) -> Result<Copied, CopyError> {
        let removed =
            removed::read(self.folder()).map_err(ArchiveError::file("read what was pruned from", self.folder()))?;
        begin(&self.folder, there, before)?;
        label(&self.folder, there)?;
        let (files, unfinished) = list(there)?;
        let plan = plan(&list(&self.folder)?.0, &files, &removed);
        make_sure_of_room(there, plan.bytes())?;
        for name in &unfinished {
            there.discard(name).map_err(CopyError::place("remove what is unfinished of", name, there))?;
        }
        watch(Seen::Total(plan.bytes()));
        let mut copied = Copied { kept: plan.kept.clone(), ..Copied::default() };
        self.send(there, &plan, &mut copied, watch)?;
        if copied.damaged.is_empty() {
            remove(there, &plan, &mut copied)?;
        }
        let listed = there.list(FileKind::Snapshot).map_err(CopyError::place("list", "the snapshots", there))?;
        copied.snapshots = listed.files.keys().map(hex::encode).collect();
        Ok(copied)
    }

    fn send(&self, there: &dyn Place, plan: &Plan, copied: &mut Copied, watch: &Watch) -> Result<(), CopyError> {
        let settle = || there.settle().map_err(CopyError::place("sync", "the folder", there));
        let (mut sent, mut looked, mut last) = (0, 0, None);
        for (name, size) in &plan.send {
            if (self.is_stopped)() {
                return Err(CopyError::Stopped);
            }
            let kind = if let FileName::Named(kind, _) = name { Some(*kind) } else { None };
            if kind != last {
                settle()?;
                if !copied.damaged.is_empty() {
                    // What comes next may refer to what was not sent.
                    return Ok(());
                }
                last = kind;
            }
            if sent - looked >= BETWEEN_LOOKS {
                make_sure_of_room(there, plan.bytes().saturating_sub(sent))?;
                looked = sent;
            }
            match read_right(&self.folder, name) {
                Ok(Some(content)) => {
                    there.write(name, &content).map_err(CopyError::place("write", name, there))?;
                    copied.files_sent += 1;
                    copied.bytes_sent += content.len() as u64;
                }
                // What a bad disk does not give is as good as damaged: the others can still be saved.
                Ok(None) | Err(_) => copied.damaged.push(*name),
            }
            sent += size;
            watch(Seen::Stored(sent));
        }
        settle()
    }

    /// Ends the list of what prunes removed, when every copy there is, is in step.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn all_copies_are_in_step(&self) -> Result<(), ArchiveError> {
        removed::clear(self.folder()).map_err(ArchiveError::file("end the list of what was pruned from", self.folder()))
    }
}

impl Archive {
    /// Whether this archive's copy is at a place.
    ///
    /// # Errors
    /// When none is, or another one's.
    pub fn is_copied_to(&self, there: &dyn Place) -> Result<(), CopyError> {
        is_copy(&Folder::new(self.folder()), there)
    }
}

fn is_copy(here: &Folder, there: &dyn Place) -> Result<(), CopyError> {
    let ours = here.read(&FileName::Config).map_err(CopyError::place("read", FileName::Config, here))?;
    match there.read(&FileName::Config) {
        Ok(config) if config == ours => Ok(()),
        Ok(_) => Err(CopyError::Another { place: there.location() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CopyError::Missing { place: there.location() }),
        Err(error) => Err(CopyError::place("read", FileName::Config, there)(error)),
    }
}

/// Sees that there is a copy of this archive, and begins one where there is nothing.
fn begin(here: &Folder, there: &dyn Place, before: Before) -> Result<(), CopyError> {
    match is_copy(here, there) {
        Err(CopyError::Missing { .. }) => {}
        other => return other,
    }
    if before == Before::Known {
        return Err(CopyError::Gone { place: there.location() });
    }
    let is_ours = |name: &String| {
        // What is made before the configuration, by a run that was killed then.
        FileKind::ALL.iter().any(|kind| kind.folder() == name) || name == "locks" || name.starts_with("config-tmp-")
    };
    match there.names() {
        Ok(names) if names.iter().all(is_ours) => {}
        Ok(_) => return Err(CopyError::Occupied { place: there.location() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(CopyError::place("list", "the folder", there)(error)),
    }
    there.prepare().map_err(CopyError::place("make", "a repository", there))?;
    let (files, _) = list(there)?;
    if files.values().any(|files| !files.is_empty()) {
        return Err(CopyError::Occupied { place: there.location() });
    }
    // First of all, so that the place is taken: an archive without snapshots is one.
    let ours = here.read(&FileName::Config).map_err(CopyError::place("read", FileName::Config, here))?;
    there.write(&FileName::Config, &ours).map_err(CopyError::place("write", FileName::Config, there))?;
    there.settle().map_err(CopyError::place("sync", "the folder", there))
}

/// Whoever has nothing but a copy must find the stack's name on it.
fn label(here: &Folder, there: &dyn Place) -> Result<(), CopyError> {
    let ours = match here.read(&FileName::Label) {
        Ok(ours) => ours,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CopyError::place("read", FileName::Label, here)(error)),
    };
    if there.read(&FileName::Label).is_ok_and(|theirs| theirs == ours) {
        return Ok(());
    }
    there.write(&FileName::Label, &ours).map_err(CopyError::place("write", FileName::Label, there))
}

/// All files, and those that are unfinished.
pub(crate) fn list(place: &dyn Place) -> Result<(Files, Vec<FileName>), CopyError> {
    let (mut files, mut unfinished) = (Files::new(), Vec::new());
    // Snapshots first: whatever a backup adds meanwhile, all that a listed one needs is listed after it.
    for kind in FileKind::ALL.into_iter().rev() {
        let listed = place.list(kind).map_err(CopyError::place("list", kind.folder(), place))?;
        unfinished.extend(listed.unfinished.into_iter().map(|sum: Sum| FileName::Named(kind, sum)));
        files.insert(kind, listed.files);
    }
    Ok((files, unfinished))
}

fn make_sure_of_room(there: &dyn Place, bytes: u64) -> Result<(), CopyError> {
    if bytes == 0 {
        return Ok(());
    }
    let room = there.room().map_err(CopyError::place("look at", "the file system", there))?;
    let Some(Free { free, all }) = room else { return Ok(()) };
    let reserve = reserve_of(all);
    if free.saturating_sub(reserve) >= bytes {
        return Ok(());
    }
    Err(CopyError::NoRoom { place: there.location(), bytes, free, reserve })
}

/// Reads a file, and makes sure that it is what it was; `None` when it is not.
pub(crate) fn read_right(place: &dyn Place, name: &FileName) -> io::Result<Option<Vec<u8>>> {
    let content = place.read(name)?;
    Ok(name.is_right(&content).then_some(content))
}

fn remove(there: &dyn Place, plan: &Plan, copied: &mut Copied) -> Result<(), CopyError> {
    let mut last = None;
    for name in &plan.remove {
        let kind = if let FileName::Named(kind, _) = name { Some(*kind) } else { None };
        if kind != last {
            there.settle().map_err(CopyError::place("sync", "the folder", there))?;
            last = kind;
        }
        there.remove(name).map_err(CopyError::place("remove", name, there))?;
        copied.files_removed += 1;
    }
    there.settle().map_err(CopyError::place("sync", "the folder", there))
}

#[cfg(test)]
mod tests;
