//! Looking whether a copy is what the archive is, without a key.

use super::place::{FileKind, FileName, Place};
use super::{CopyError, list, read_right};
use crate::place::lock_for_copies;
use crate::repository::Archive;
use crate::take::{Seen, Watch};

use super::folder::Folder;

/// What a look at a copy found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyChecked {
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The names of the snapshots that it lists.
    pub snapshots: Vec<String>,
    /// What the archive has and the copy has not, or not in this length.
    pub missing: Vec<FileName>,
    /// What was read and is not what its name says.
    pub damaged: Vec<FileName>,
}

/// Looks at a copy by itself; with `read_data` every file of it is read and compared with its name. `watch` is told how
/// many bytes were read.
///
/// # Errors
/// When the copy is not there, or cannot be listed. A file that cannot be read is damaged.
pub fn check(there: &dyn Place, read_data: bool, watch: &Watch) -> Result<CopyChecked, CopyError> {
    match there.read(&FileName::Config) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CopyError::Missing { place: there.location() });
        }
        Err(error) => return Err(CopyError::place("read", FileName::Config, there)(error)),
    }
    let (files, _) = list(there)?;
    let all =
        || files.iter().flat_map(|(kind, files)| files.iter().map(|(sum, size)| (FileName::Named(*kind, *sum), size)));
    let mut checked =
        CopyChecked { files: all().count() as u64, bytes: all().map(|(_, size)| size).sum(), ..CopyChecked::default() };
    checked.snapshots =
        files.get(&FileKind::Snapshot).into_iter().flat_map(|all| all.keys().map(hex::encode)).collect();
    if read_data {
        watch(Seen::Total(checked.bytes));
        let mut read = 0;
        for (name, size) in all() {
            if !matches!(read_right(there, &name), Ok(Some(_))) {
                checked.damaged.push(name);
            }
            read += size;
            watch(Seen::Stored(read));
        }
    }
    Ok(checked)
}

impl Archive {
    /// The same, and compares it with this archive.
    ///
    /// # Errors
    /// As [`check`], or when the archive here cannot be listed.
    pub fn check_copy(&self, there: &dyn Place, read_data: bool, watch: &Watch) -> Result<CopyChecked, CopyError> {
        let mut checked = check(there, read_data, watch)?;
        let (here, there) = (list(&Folder::new(self.folder()))?.0, list(there)?.0);
        checked.missing =
            super::plan::plan(&here, &there, &Default::default()).send.into_iter().map(|(name, _)| name).collect();
        Ok(checked)
    }

    /// Puts files of a copy right from what is here, where that is what it was; the number of those.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn mend_copy(&self, there: &dyn Place, damaged: &[FileName]) -> Result<u64, CopyError> {
        let _no_copies = lock_for_copies(self.folder())?;
        let here = Folder::new(self.folder());
        let mut mended = 0;
        for name in damaged {
            if let Ok(Some(content)) = read_right(&here, name) {
                there.write(name, &content).map_err(CopyError::place("write", name, there))?;
                mended += 1;
            }
        }
        there.settle().map_err(CopyError::place("sync", "the folder", there))?;
        Ok(mended)
    }
}
