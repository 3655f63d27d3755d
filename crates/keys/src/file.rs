//! Private, versioned JSON files: mode 0600, replaced whole, never read when others could read them too.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// No file of ours is larger, and a hostile one should not fill the memory.
const MOST_BYTES: u64 = 1 << 20;

/// A private file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written. The old one is as it was.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read or change it.
    #[error("{} has mode {mode:03o}: others than its owner can get at the secret in it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its content is not what this program writes. The content itself is not repeated: it is secret.
    #[error("{}, line {line}, column {column}: not what this program writes", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1; 0 when the whole is at fault.
        line: usize,
        /// Where, counted from 1; 0 when the whole is at fault.
        column: usize,
    },
    /// Written by a newer program.
    #[error("{} has format {found}, this program reads up to {newest}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format this program reads.
        newest: u32,
    },
}

impl FileError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer `sovereign` that wrote it, or a later one".into()),
            Self::TooOpen { path, .. } => Some(format!("if nobody else has read it: chmod 600 {}", path.display())),
            Self::Malformed { .. } => {
                Some("bring the file back from a backup; the 24 words bring back every derived secret".into())
            }
            Self::Read { path, source } | Self::Write { path, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some(format!("{} must belong to this user", path.display())),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some disk space".into()),
                _ => None,
            },
        }
    }

    pub(crate) fn malformed(path: &Path) -> Self {
        Self::Malformed { path: path.to_owned(), line: 0, column: 0 }
    }
}

/// What every file begins with.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Reads the JSON file at `path` if its `version` is at most `newest`; `None` when there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, newest: u32) -> Result<Option<T>, FileError> {
    let Some(bytes) = read_private(path)? else { return Ok(None) };
    let malformed = |error: serde_json::Error| FileError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    };
    // The version first: in a newer file nothing else need be as we know it.
    let Version { version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    match version {
        0 => Err(FileError::malformed(path)),
        found if found > newest => Err(FileError::Newer { path: path.to_owned(), found, newest }),
        _ => serde_json::from_slice(&bytes).map(Some).map_err(malformed),
    }
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let about = file.metadata().map_err(failed)?;
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    if about.len() > MOST_BYTES {
        return Err(FileError::malformed(path));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(about.len() as usize + 1));
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Whether an existing file may be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Keep,
}

/// Writes `value` as the JSON file `path`, mode 0600, atomically and durably. With [`Existing::Keep`] an existing file is
/// an error of kind `AlreadyExists`. The folder is made (0700) when it is missing.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T, existing: Existing) -> Result<(), FileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer_pretty(&mut *bytes, value).expect("our file types serialize to JSON");
    bytes.push(b'\n');
    write_text(path, &bytes, existing)
}

/// Writes `bytes` as the file `path`, like [`write()`].
pub(crate) fn write_text(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidFilename)));
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let beside = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let flags = if existing == Existing::Keep { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    let written = write_new(&beside, bytes)
        .and_then(|()| Ok(rustix::fs::renameat_with(CWD, &beside, CWD, path, flags)?))
        .and_then(|()| File::open(folder)?.sync_all());
    written.map_err(|source| {
        // Best effort: the error that matters is the one we return.
        let _ = fs::remove_file(&beside);
        failed(source)
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left behind by a process of the same number that was killed here.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        version: u32,
        secret: String,
    }

    fn example() -> Example {
        Example { version: 1, secret: "s3cret".into() }
    }

    #[test]
    fn a_file_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/a.json");
        assert_eq!(read::<Example>(&path, 1).unwrap(), None);
        write(&path, &example(), Existing::Keep).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(read(&path, 1).unwrap(), Some(example()));
        let again = write(&path, &example(), Existing::Keep).unwrap_err();
        assert!(matches!(again, FileError::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
        write(&path, &example(), Existing::Replace).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_or_broken_or_open_file_is_refused_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let written = |text: &str| {
            write_text(&path, text.as_bytes(), Existing::Replace).unwrap();
            read::<Example>(&path, 1).unwrap_err()
        };
        assert!(matches!(written(r#"{"version":2,"surprise":true}"#), FileError::Newer { found: 2, newest: 1, .. }));
        for broken in
            ["", "{", r#"{"version":1,"secret":["s3cret"]}"#, r#"{"version":1,"s3cret":1}"#, r#"{"version":0}"#]
        {
            let error = written(broken);
            assert!(matches!(error, FileError::Malformed { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
        write(&path, &example(), Existing::Replace).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = read::<Example>(&path, 1).unwrap_err();
        assert!(matches!(error, FileError::TooOpen { mode: 0o640, .. }), "{error:?}");
        assert!(error.help().unwrap().contains("chmod 600"));
    }
}
