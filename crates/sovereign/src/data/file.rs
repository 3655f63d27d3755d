//! Files of data: written beside and put in place whole, with a checksum as sha256sum(1) writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use super::DataError;
use crate::output::Output;

/// Only for whoever made it: what is in it is everything that the service knows.
const MODE: u32 = 0o600;
/// Bytes that are hashed at a time.
const PIECE: usize = 256 << 10;

/// Where a dump goes.
pub(crate) enum Sink {
    /// A file.
    File(NewFile),
    /// Our standard output.
    Stdout(Output),
}

impl Sink {
    /// Some more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(output) => {
                let failed = |source| DataError::File { action: "write to", path: "standard output".into(), source };
                output.stream(bytes).map_err(failed)
            }
        }
    }
}

/// A file that is being written, beside the place it is meant for. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    beside: PathBuf,
    place: PathBuf,
}

impl NewFile {
    /// Begins a file that will lie at `place`.
    pub(crate) fn begin(place: &Path) -> Result<Self, DataError> {
        // A link is followed, and stays one.
        let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
        if fs::metadata(&place).is_ok_and(|there| !there.is_file()) || place.file_name().is_none() {
            return Err(DataError::NotAFile { path: place });
        }
        let beside = with_suffix(&place, &format!(".partial-{}", std::process::id()));
        let opened = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside);
        let file = opened.map_err(|source| DataError::File { action: "write", path: beside.clone(), source })?;
        Ok(Self { file, beside, place })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// The file is whole: puts it and its checksum in place. Gives the place.
    pub(crate) fn keep(self, digest: Digest) -> Result<PathBuf, DataError> {
        let sums = with_suffix(&self.place, ".sha256");
        let mut sum = Self::begin(&sums)?;
        sum.write(line(digest, &self.place).as_bytes())?;
        self.file.sync_all().and_then(|()| sum.file.sync_all()).map_err(|source| self.failed(source))?;
        // Without the old sum first: no moment has a file with a sum that is another's.
        match fs::remove_file(&sums) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(sum.failed(source)),
            _ => {}
        }
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::rename(&self.beside, &self.place)
            .and_then(|()| fs::rename(&sum.beside, &sums))
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|source| self.failed(source))?;
        Ok(self.place.clone())
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::File { action: "write", path: self.place.clone(), source }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // In its place already, or left for nobody.
        let _ = fs::remove_file(&self.beside);
    }
}

/// A file that is whole, open at its beginning.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The file; a copy of its descriptor shares its position.
    pub(crate) file: File,
    /// Its bytes.
    pub(crate) length: u64,
    /// Their digest.
    pub(crate) digest: Digest,
}

impl Checked {
    /// Reads the file at `path` and compares; `reach` is told how far it is, of how much.
    pub(crate) fn open(path: &Path, mut reach: impl FnMut(u64, u64)) -> Result<Self, DataError> {
        let failed = |source| DataError::File { action: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let there = file.metadata().map_err(failed)?;
        if !there.is_file() {
            return Err(DataError::NotAFile { path: path.to_owned() });
        }
        if there.len() == 0 {
            return Err(DataError::Empty { path: path.to_owned() });
        }
        let expected = expected(path)?;
        let (mut hasher, mut length, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
        loop {
            let read = file.read(&mut piece).map_err(failed)?;
            if read == 0 {
                break;
            }
            hasher.update(&piece[..read]);
            length += read as u64;
            reach(length, there.len());
        }
        let digest = Digest::from_bytes(hasher.finalize().into());
        if digest != expected {
            return Err(DataError::WrongChecksum { path: path.to_owned() });
        }
        file.rewind().map_err(failed)?;
        Ok(Self { file, length, digest })
    }
}

/// The digest that lies beside the file.
fn expected(path: &Path) -> Result<Digest, DataError> {
    let sums = with_suffix(path, ".sha256");
    let text = match fs::read_to_string(&sums) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(DataError::NoChecksum { path: path.to_owned() });
        }
        Err(source) => return Err(DataError::File { action: "read", path: sums, source }),
    };
    let digits = text.trim_start_matches('\\').get(..64).unwrap_or_default().to_ascii_lowercase();
    format!("sha256:{digits}").parse().map_err(|_| DataError::WrongChecksum { path: path.to_owned() })
}

/// A line of sha256sum(1), which escapes what would end a line.
fn line(digest: Digest, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let escaped = name.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r");
    let mark = if escaped == name { "" } else { r"\" };
    format!("{mark}{}  {escaped}\n", digest.hex())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn written(place: &Path, text: &str) -> PathBuf {
        let mut file = NewFile::begin(place).unwrap();
        file.write(text.as_bytes()).unwrap();
        file.keep(Digest::of(text)).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_whole_or_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("wiki.dump");
        written(&place, "first");
        let mut second = NewFile::begin(&place).unwrap();
        second.write(b"sec").unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "first");
        drop(second);
        assert_eq!(names(folder.path()), ["wiki.dump", "wiki.dump.sha256"]);
        written(&place, "third");
        assert_eq!(Checked::open(&place, |_, _| ()).unwrap().digest, Digest::of("third"));
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["wiki.dump", "wiki.dump.sha256"]);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path(), Path::new("/dev/null"), Path::new("/")] {
            assert!(matches!(NewFile::begin(place), Err(DataError::NotAFile { .. })), "{}", place.display());
        }
        let (link, target) = (folder.path().join("newest"), folder.path().join("today"));
        fs::write(&target, "before").unwrap();
        symlink(&target, &link).unwrap();
        written(&link, "after");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "after");
    }

    #[test]
    fn only_what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("wiki.dump");
        written(&place, "everything");
        let open = || Checked::open(&place, |_, _| ());
        assert_eq!(open().unwrap().length, 10);
        fs::write(&place, "everythin").unwrap();
        assert!(matches!(open(), Err(DataError::WrongChecksum { .. })), "cut off");
        fs::write(&place, "").unwrap();
        assert!(matches!(open(), Err(DataError::Empty { .. })));
        fs::write(&place, "everything").unwrap();
        for sum in ["", "abc  wiki.dump\n", "\u{e4}\u{e4}"] {
            fs::write(with_suffix(&place, ".sha256"), sum).unwrap();
            assert!(matches!(open(), Err(DataError::WrongChecksum { .. })), "{sum:?}");
        }
        fs::remove_file(with_suffix(&place, ".sha256")).unwrap();
        assert!(matches!(open(), Err(DataError::NoChecksum { .. })));
        assert!(matches!(Checked::open(folder.path(), |_, _| ()), Err(DataError::NotAFile { .. })));
    }

    #[test]
    fn a_line_is_one_that_sha256sum_understands() {
        let zeros = Digest::from_bytes([0; 32]);
        assert_eq!(line(zeros, Path::new("/a/b.dump")), format!("{}  b.dump\n", "0".repeat(64)));
        assert_eq!(line(zeros, Path::new("/a/b\\\n")), format!("\\{}  b\\\\\\n\n", "0".repeat(64)));
    }
}
