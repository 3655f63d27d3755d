//! What our own prunes took out of an archive: a list beside it, added to before each file is removed.
//!
//! It tells a copy what may go there too. What is not here any more and not on the list is missing, and a copy keeps it
//! (see [`crate::copy`]). The list lies in the archive's folder, so that a folder which lost its files lost it as well.
//!
//! ```text
//!  sovereign removed 1
//!  data 5f0c...
//!  snapshots 91ab...
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::copy::place::{FileKind, FileName, sum_of_name};

const FIRST_LINE: &str = "sovereign removed 1";

fn path(archive: &Path) -> PathBuf {
    archive.join("sovereign.removed")
}

/// The list, open for more.
#[derive(Debug)]
pub(crate) struct Removed(File);

impl Removed {
    pub(crate) fn open(archive: &Path) -> io::Result<Self> {
        let path = path(archive);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(format!("{FIRST_LINE}\n").as_bytes())?;
        }
        Ok(Self(file))
    }

    /// Adds a name, for good: what is on the list may be there still, but not the other way round.
    pub(crate) fn note(&mut self, name: &FileName) -> io::Result<()> {
        let FileName::Named(kind, sum) = name else { return Ok(()) };
        // A line that a crash cut off ends here.
        self.0.write_all(format!("\n{} {}\n", kind.folder(), hex::encode(sum)).as_bytes())?;
        self.0.sync_data()
    }
}

/// What is on the list; nothing when there is none, or one that a newer program wrote.
pub(crate) fn read(archive: &Path) -> io::Result<BTreeSet<FileName>> {
    let text = match fs::read_to_string(path(archive)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Ok(BTreeSet::new());
    }
    let name = |line: &str| {
        let (folder, id) = line.split_once(' ')?;
        let kind = FileKind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
        Some(FileName::Named(kind, sum_of_name(id)?))
    };
    Ok(lines.filter_map(name).collect())
}

/// Ends the list: every copy there is has done what it says.
pub(crate) fn clear(archive: &Path) -> io::Result<()> {
    match fs::remove_file(path(archive)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_and_a_line_that_was_cut_off_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), BTreeSet::new());
        let names = [FileName::Named(FileKind::Pack, [7; 32]), FileName::Named(FileKind::Snapshot, [8; 32])];
        let mut removed = Removed::open(folder.path()).unwrap();
        removed.note(&names[0]).unwrap();
        let file = path(folder.path());
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], b"\nindex 0707"].concat()).unwrap();
        Removed::open(folder.path()).unwrap().note(&names[1]).unwrap();
        assert_eq!(read(folder.path()).unwrap(), BTreeSet::from(names));
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("removed 1", "removed 2")).unwrap();
        assert_eq!(read(folder.path()).unwrap(), BTreeSet::new(), "nothing is known");
        clear(folder.path()).unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), BTreeSet::new());
    }
}
