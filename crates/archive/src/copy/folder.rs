//! A place that is a folder of this machine, on whatever disk.
//!
//! Promise: no symbolic link below the folder is followed, neither for reading nor for writing: a disk that was elsewhere
//! may have any put on it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::error::CopyError;
use super::place::{FileKind, FileName, Free, LARGEST_FILE, Listed, Place};
use crate::folder::open_named;
use crate::place::{UNFINISHED, sync_names};
use crate::room::free_in;

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Folders whose names have changed.
    changed: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    /// The one at `path`, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), changed: Mutex::default() }
    }

    /// Whether it and the archive do not lie in each other.
    ///
    /// # Errors
    /// When they do.
    pub fn lies_apart_from(&self, archive: &Path) -> Result<(), CopyError> {
        // What is not there yet lies where its folder does.
        let real = |path: &Path| {
            let mut ancestors = path.ancestors();
            let there =
                ancestors.find_map(|there| Some((fs::canonicalize(there).ok()?, path.strip_prefix(there).ok()?)));
            there.map_or_else(|| path.to_owned(), |(there, rest)| there.join(rest))
        };
        let (copy, archive) = (real(&self.path), real(archive));
        if copy.starts_with(&archive) || archive.starts_with(&copy) {
            return Err(CopyError::Itself { place: self.location() });
        }
        Ok(())
    }

    /// Where a file is.
    pub(crate) fn at(&self, name: &FileName) -> PathBuf {
        self.path.join(name.path())
    }

    fn beside(&self, name: &FileName) -> PathBuf {
        self.path.join(name.path() + UNFINISHED)
    }

    fn note(&self, file: &Path) {
        let folder = file.parent().unwrap_or(&self.path).to_owned();
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
    }
}

/// A folder, and no link to one.
fn is_folder(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no folder", path.display())))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_folder(folder),
        other => other,
    }
}

/// Makes names last, where that can be said: some network file systems have no word for it.
fn settle(folder: &Path) -> io::Result<()> {
    match sync_names(folder) {
        Err(error)
            if [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS]
                .iter()
                .any(|no| error.raw_os_error() == Some(no.raw_os_error())) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn note_all(folder: &Path, listed: &mut Listed) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            listed.note(&entry.file_name().to_string_lossy(), entry.metadata()?.len());
        }
    }
    Ok(())
}

impl Place for Folder {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        // restic wants a folder for its locks, too.
        for name in FileKind::ALL.map(FileKind::folder).into_iter().chain(["locks"]) {
            make(&self.path.join(name))?;
        }
        settle(&self.path)
    }

    fn list(&self, kind: FileKind) -> io::Result<Listed> {
        let mut listed = Listed::default();
        let folder = self.path.join(kind.folder());
        match is_folder(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // That the folder itself is gone, with its disk, is another matter.
                is_folder(&self.path)?;
                return Ok(listed);
            }
            other => other?,
        }
        if kind != FileKind::Pack {
            note_all(&folder, &mut listed)?;
            return Ok(listed);
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name().len() == 2 {
                note_all(&entry.path(), &mut listed)?;
            }
        }
        Ok(listed)
    }

    fn read(&self, name: &FileName) -> io::Result<Vec<u8>> {
        let path = self.at(name);
        let bytes = sovereign_runtime::file::read_foreign(&path, LARGEST_FILE + 1)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "no file of a repository is so large"));
        }
        Ok(bytes)
    }

    fn read_part(&self, name: &FileName, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        open_named(&self.at(name))?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write(&self, name: &FileName, content: &[u8]) -> io::Result<()> {
        let (path, beside) = (self.at(name), self.beside(name));
        if let (FileName::Named(FileKind::Pack, _), Some(folder)) = (name, path.parent())
            && is_folder(folder).is_err()
        {
            make(folder)?;
            self.note(folder);
        }
        remove(&beside)?;
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        written().inspect_err(|_| {
            let _ = remove(&beside); // the error that matters is the other one
        })?;
        self.note(&path);
        Ok(())
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        let path = self.at(name);
        remove(&path)?;
        self.note(&path);
        Ok(())
    }

    fn discard(&self, name: &FileName) -> io::Result<()> {
        remove(&self.beside(name))
    }

    fn settle(&self) -> io::Result<()> {
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        changed.iter().try_for_each(|folder| settle(folder))
    }

    fn room(&self) -> io::Result<Option<Free>> {
        free_in(&self.path).map(Some)
    }
}
