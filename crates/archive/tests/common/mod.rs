//! A site's folder, an archive, and lines between them.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sovereign_archive::entry::TreePath;
use sovereign_archive::wire::{Ask, Tell};
use sovereign_archive::{Archive, ArchiveError, Line, Offer, Password, Root, Subject, Taken, Watch, serve};

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn password() -> Password {
    Password::new("correct horse".to_owned())
}

pub(crate) fn subject() -> Subject {
    Subject::Site("blog".parse().unwrap())
}

pub(crate) fn quiet() -> Watch {
    Arc::new(|_| {})
}

/// Bytes that no compression and no deduplication makes less of.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(next());
    }
    bytes.truncate(count);
    bytes
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("content/images/a.png", &noise(1, 300_000));
        place.write("content/images/b.png", &noise(2, 20_000));
        place.write("content/empty", b"");
        place.write("content/na\u{ef}ve \"name\"", b"text");
        place.write("data/site.db", &noise(3, 500_000));
        std::os::unix::fs::symlink("../../etc/passwd", place.site().join("content/link")).unwrap();
        place
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.site().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    pub(crate) fn offer(&self) -> Offer {
        let root = |name: &str| Root { name: path(name), path: self.site().join(name) };
        Offer { roots: vec![root("content"), root("data")], without: Vec::new() }
    }

    /// What says which archive is used.
    pub(crate) fn known(&self) -> PathBuf {
        self.folder.path().join("repository.json")
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::open_or_create(&self.repository(), &self.known(), &password()).unwrap()
    }

    pub(crate) fn take(&self, archive: &Archive) -> Taken {
        self.try_take(archive, self.line()).unwrap()
    }

    /// As if the newest snapshot had been proven.
    pub(crate) fn try_take(&self, archive: &Archive, line: Line) -> Result<Taken, ArchiveError> {
        let proven = archive.newest(&subject())?.map(|newest| newest.id);
        archive.take(&subject(), "home", proven.as_deref(), line, &quiet())
    }

    pub(crate) fn take_after(&self, archive: &Archive, proven: Option<&str>) -> Taken {
        archive.take(&subject(), "home", proven, self.line(), &quiet()).unwrap()
    }

    /// To a source of this site, in a thread.
    pub(crate) fn line(&self) -> Line {
        self.line_that(usize::MAX, |_| {}).0
    }

    /// The same, ending after the source has said so many bytes, as if it had been killed; `before_file` is called
    /// whenever a file is asked for. Beside it how many bytes the source has said.
    pub(crate) fn line_that(
        &self,
        end_after: usize,
        before_file: impl Fn(&TreePath) + Send + 'static,
    ) -> (Line, Arc<AtomicUsize>) {
        let offer = self.offer();
        let (near, far) = UnixStream::pair().unwrap();
        let said = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&said);
        thread::spawn(move || {
            let mut from = Asks { inner: far.try_clone().unwrap(), ready: Vec::new(), before_file };
            let mut to = Mortal { inner: far.try_clone().unwrap(), left: end_after, said: counted };
            let _ = serve(&offer, &mut from, &mut to);
            let _ = far.shutdown(std::net::Shutdown::Both);
        });
        (Line::new(near.try_clone().unwrap(), near), said)
    }
}

/// Passes questions on one by one, and tells of files before they are opened.
struct Asks<F> {
    inner: UnixStream,
    ready: Vec<u8>,
    before_file: F,
}

impl<F: Fn(&TreePath)> Read for Asks<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            match Ask::receive(&mut self.inner) {
                Ok(Some(ask)) => {
                    if let Ask::Read(wanted) = &ask {
                        (self.before_file)(&wanted.path);
                    }
                    ask.send(&mut self.ready)?;
                }
                _ => return Ok(0),
            }
        }
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

/// Dies in the middle of a word.
struct Mortal {
    inner: UnixStream,
    left: usize,
    said: Arc<AtomicUsize>,
}

impl Write for Mortal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        let count = self.inner.write(&bytes[..bytes.len().min(self.left)])?;
        self.left -= count;
        self.said.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A source that says what it was told to, whatever it is asked: first `greeting`, then `list` to the request for it,
/// then `files` to every request for a file.
pub(crate) fn liar(greeting: Vec<u8>, list: Vec<u8>, files: Vec<u8>) -> Line {
    let (near, mut far) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        while let Ok(Some(ask)) = Ask::receive(&mut far) {
            let said = match ask {
                Ask::Hello(_) => &greeting,
                Ask::List => &list,
                Ask::Read(_) => &files,
                Ask::Quit => break,
            };
            if far.write_all(said).is_err() {
                break;
            }
        }
    });
    Line::new(near.try_clone().unwrap(), near)
}

pub(crate) fn bytes_of(tells: &[Tell]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for tell in tells {
        tell.send(&mut bytes).unwrap();
    }
    bytes
}

/// Every file and link below a folder, with what it holds.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let place = entry.unwrap().path();
            let name = place.strip_prefix(folder).unwrap().to_owned();
            let metadata = place.symlink_metadata().unwrap();
            if metadata.is_dir() {
                todo.push(place);
            } else if metadata.is_symlink() {
                found.push((name, fs::read_link(&place).unwrap().into_os_string().into_encoded_bytes()));
            } else {
                found.push((name, fs::read(&place).unwrap()));
            }
        }
    }
    found.sort();
    found
}
