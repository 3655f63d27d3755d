//! What an image contains: a list with one line for each file, link and folder, whose SHA-256 digest names the image.
//!
//! The list is sorted by path and says nothing about owners and times, so equal contents have equal digests wherever
//! and whenever they were made. It is kept beside the image: comparing it with the disk names each wrong file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use crate::ImageError;
use crate::error::At as _;

/// Everything below an image's root, by path relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contents(BTreeMap<String, Entry>);

/// One thing in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Entry {
    Folder,
    File { sha256: Digest, bytes: u64, executable: bool },
    Link { target: String },
}

/// A difference between an image and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, relative to the image's root.
    pub path: PathBuf,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// In which way a path of an image is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// It should be there and is not.
    Missing,
    /// It is there and should not be.
    Unexpected,
    /// Its bytes, its kind, its target or its executability differ.
    Changed,
}

impl Contents {
    /// Reads everything below `root`, and makes files read-only and everything readable by all users when `seal` is
    /// set. `advance` is told how many files are done, of how many.
    pub(crate) fn of(root: &Path, seal: bool, advance: impl Fn(usize, usize) + Sync) -> Result<Self, ImageError> {
        let mut contents = Self::default();
        let mut files = Vec::new();
        contents.walk(root, "", seal, &mut files)?;
        contents.0.extend(hash_all(root, files, seal, advance)?);
        Ok(contents)
    }

    fn walk(&mut self, root: &Path, inside: &str, seal: bool, files: &mut Vec<String>) -> Result<(), ImageError> {
        let folder = root.join(inside);
        if seal {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).at("change the mode of", &folder)?;
        }
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let entry = entry.at("list", &folder)?;
            let path = entry.path();
            let foreign = |reason| ImageError::Content { path: path.clone(), reason };
            let name = entry.file_name().into_string().map_err(|_| foreign("its name is not UTF-8"))?;
            let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            let kind = entry.file_type().at("look at", &path)?;
            if kind.is_dir() {
                self.walk(root, &name, seal, files)?;
                self.0.insert(name, Entry::Folder);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).at("read", &path)?;
                let target = target.into_os_string().into_string().map_err(|_| foreign("its target is not UTF-8"))?;
                self.0.insert(name, Entry::Link { target });
            } else if kind.is_file() {
                files.push(name);
            } else {
                return Err(foreign("it is neither a file nor a folder nor a link"));
            }
        }
        Ok(())
    }

    /// The list as it is stored: one JSON array for each path, sorted.
    pub(crate) fn to_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for line in &self.0 {
            serde_json::to_writer(&mut lines, &line).expect("writing to memory does not fail");
            lines.push(b'\n');
        }
        lines
    }

    /// Reads a stored list.
    pub(crate) fn from_lines(lines: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::Deserializer::from_slice(lines).into_iter::<(String, Entry)>().collect::<Result<_, _>>().map(Self)
    }

    /// The digest that names the image.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.to_lines())
    }

    /// The number of files, and their bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(files, sum), entry| match entry {
            Entry::File { bytes, .. } => (files + 1, sum + bytes),
            Entry::Folder | Entry::Link { .. } => (files, sum),
        })
    }

    /// What differs when `found` is on disk and `self` should be, sorted by path.
    pub(crate) fn faults(&self, found: &Self) -> Vec<Fault> {
        let fault = |path: &String, kind| Fault { path: PathBuf::from(path), kind };
        let mut faults: Vec<_> = self
            .0
            .iter()
            .filter_map(|(path, entry)| match found.0.get(path) {
                None => Some(fault(path, FaultKind::Missing)),
                Some(other) if other != entry => Some(fault(path, FaultKind::Changed)),
                Some(_) => None,
            })
            .collect();
        let unexpected = found.0.keys().filter(|path| !self.0.contains_key(*path));
        faults.extend(unexpected.map(|path| fault(path, FaultKind::Unexpected)));
        faults.sort_by(|a, b| a.path.cmp(&b.path));
        faults
    }
}

/// Hashes files on all processors.
fn hash_all(
    root: &Path,
    files: Vec<String>,
    seal: bool,
    advance: impl Fn(usize, usize) + Sync,
) -> Result<Vec<(String, Entry)>, ImageError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Ok(Vec::with_capacity(files.len())));
    let work = || {
        let mut mine = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        let outcome = loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = files.get(index) else { break Ok(mine) };
            if index.is_multiple_of(512) {
                advance(index, files.len());
            }
            match hash_one(&root.join(name), seal, &mut buffer) {
                Ok(entry) => mine.push((name.clone(), entry)),
                Err(error) => break Err(error),
            }
        };
        let mut results = results.lock().expect("no worker panics");
        match (&mut *results, outcome) {
            (Ok(all), Ok(mine)) => all.extend(mine),
            (all @ Ok(_), Err(error)) => *all = Err(error),
            (Err(_), _) => {}
        }
    };
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(8));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    advance(files.len(), files.len());
    results.into_inner().expect("no worker panics")
}

fn hash_one(path: &Path, seal: bool, buffer: &mut [u8]) -> Result<Entry, ImageError> {
    let mut file = fs::File::open(path).at("read", path)?;
    let executable = file.metadata().at("look at", path)?.permissions().mode() & 0o111 != 0;
    if seal {
        let mode = if executable { 0o555 } else { 0o444 };
        file.set_permissions(fs::Permissions::from_mode(mode)).at("change the mode of", path)?;
    }
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    loop {
        let read = file.read(buffer).at("read", path)?;
        if read == 0 {
            return Ok(Entry::File { sha256: Digest::from_bytes(hasher.finalize().into()), bytes, executable });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn contents(root: &Path) -> Contents {
        Contents::of(root, false, |_, _| {}).unwrap()
    }

    #[test]
    fn the_digest_depends_on_contents_only() {
        let make = |order: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in order {
                fs::create_dir_all(folder.path().join("sub")).unwrap();
                fs::write(folder.path().join("sub").join(name), name).unwrap();
            }
            symlink("sub/a", folder.path().join("link")).unwrap();
            folder
        };
        let (one, two) = (make(&["a", "b"]), make(&["b", "a"]));
        assert_eq!(contents(one.path()).digest(), contents(two.path()).digest());
        fs::set_permissions(two.path().join("sub/a"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(contents(one.path()).digest(), contents(two.path()).digest());
    }

    #[test]
    fn a_list_reads_what_it_writes_and_names_each_fault() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["changed", "missing", "same"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let before = contents(folder.path());
        assert_eq!(Contents::from_lines(&before.to_lines()).unwrap(), before);
        assert_eq!(before.size(), (3, 18));
        fs::write(folder.path().join("changed"), "CHANGED").unwrap();
        fs::remove_file(folder.path().join("missing")).unwrap();
        fs::write(folder.path().join("new"), "").unwrap();
        let faults = before.faults(&contents(folder.path()));
        let faults: Vec<_> = faults.iter().map(|fault| (fault.path.to_str().unwrap(), fault.kind)).collect();
        let expected =
            [("changed", FaultKind::Changed), ("missing", FaultKind::Missing), ("new", FaultKind::Unexpected)];
        assert_eq!(faults, expected);
    }

    #[test]
    fn sealing_makes_files_read_only_and_readable_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
        for (name, mode) in [("text", 0o600), ("program", 0o700)] {
            fs::write(folder.path().join(name), "").unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        Contents::of(folder.path(), true, |_, _| {}).unwrap();
        assert_eq!((mode("text"), mode("program"), mode("")), (0o444, 0o555, 0o755));
    }
}
