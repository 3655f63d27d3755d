//! From a snapshot to data that can take a site's place: restored beside it, counted, handed over, looked at.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use sovereign_archive::entry::TreePath;
use sovereign_archive::{Contents, room_for};

use super::Folder;
use super::swap::Part;
use crate::backup::{DATABASE, DUMP, Ghost};
use crate::failure::{Failure, Reason};
use crate::output::Stage;

/// A snapshot that nothing can be made of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// It is whole, and has no database.
    #[error("snapshot {snapshot} has no database in it")]
    NoDatabase {
        /// Which.
        snapshot: String,
    },
    /// Its database is that of a site on a host.
    #[error(
        "snapshot {snapshot} has its database as SQL of MariaDB, and a Ghost on this machine keeps its data in SQLite"
    )]
    Dump {
        /// Which.
        snapshot: String,
    },
    /// Its database is that of a site on this machine.
    #[error("snapshot {snapshot} has its database in SQLite, and a Ghost on a host keeps its data in MariaDB")]
    Sqlite {
        /// Which.
        snapshot: String,
    },
    /// Something of what was restored is not on the disk.
    #[error("of {of} files, folders and links in the snapshot {restored} were restored")]
    Short {
        /// What is there.
        restored: u64,
        /// What should be.
        of: u64,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StageError {
    /// About a file or folder.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

impl Reason for StageError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoDatabase { .. } => Some("`sovereign archive list` names others".to_owned()),
            Self::Dump { .. } | Self::Sqlite { .. } => {
                Some("`sovereign restore SITE --to FOLDER` brings all of it back".to_owned())
            }
            Self::Short { .. } => Some("`sovereign archive check --read-data` says what is damaged".to_owned()),
            Self::File { .. } => None,
        }
    }
}

/// What a site's database is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A file of SQLite: of a site on this machine.
    Sqlite,
    /// SQL of MariaDB: of a site on a host.
    Dump,
}

/// What is staged.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Restores a Ghost's snapshot into the folder where it is staged. Room for it is looked at first.
///
/// # Errors
/// When there is no room, or not all of it can be had as it was.
pub(crate) fn restore(
    contents: &Contents,
    snapshot: &str,
    form: Form,
    folder: &Folder,
    stage: &Stage,
) -> Result<Staged, Failure> {
    let manifest = contents.manifest();
    let there = |path: &str| TreePath::parse(path.as_bytes()).is_ok_and(|path| manifest.get(&path).is_some());
    let snapshot = || snapshot.to_owned();
    match (form, there(DATABASE), there(DUMP)) {
        (Form::Sqlite, true, _) | (Form::Dump, _, true) => {}
        (Form::Sqlite, false, true) => return Err(StageError::Dump { snapshot: snapshot() }.into()),
        (Form::Dump, true, false) => return Err(StageError::Sqlite { snapshot: snapshot() }.into()),
        (_, false, false) => return Err(StageError::NoDatabase { snapshot: snapshot() }.into()),
    }
    folder.begin()?;
    let to = folder.staged();
    room_for(to.parent().unwrap_or(&to), manifest.bytes())?;
    stage.expect_bytes(manifest.bytes());
    let restored = contents.restore(None, &to, &|bytes| stage.reach(bytes))?;
    let of = manifest.entries().len() as u64;
    if restored.entries != of {
        return Err(StageError::Short { restored: restored.entries, of }.into());
    }
    let (from, data) = (to.join("database"), to.join(Part::Data.name()));
    fs::rename(&from, &data).map_err(StageError::file("move", &from))?;
    Ok(Staged { files: restored.files, bytes: restored.bytes })
}

/// Hands what is staged to the site's user, and has its database looked at; what a look into it said.
///
/// # Errors
/// When the database is broken.
pub(crate) fn check(ghost: &Ghost<'_>, folder: &Folder) -> Result<String, Failure> {
    let staged = folder.staged();
    // As root; of anybody else, what was restored is their own already.
    if let Some(user) = ghost.user().filter(|_| rustix::process::geteuid().is_root()) {
        for part in [Part::Data, Part::Content].map(|part| staged.join(part.name())) {
            hand_over(&part, user).map_err(StageError::file("hand over", &part))?;
        }
    }
    let database = staged.join(Part::Data.name()).join(sovereign_services::ghost::data::DUMP_FILE);
    let examined = ghost.examine(&database)?;
    // Before anything takes its place: thousands of files.
    File::open(&staged).and_then(|open| Ok(rustix::fs::syncfs(open)?)).map_err(StageError::file("sync", &staged))?;
    Ok(examined)
}

/// Nobody else writes there yet, so no name leads elsewhere meanwhile; links themselves are handed over.
fn hand_over(path: &Path, user: u32) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user)?;
        }
    }
    lchown(path, Some(user), Some(user))
}
