//! The far side: lists a site's data and hands out the bytes of files, and can do nothing else.
//!
//! Promise: only what lies below the named roots is read, no link in them is followed, nothing is written; a file
//! comes exactly as it was listed or with a word why not. What the other side says is parsed like any stranger's bytes.
//!
//! Left out: making a database hold still (whoever starts this has it dumped first), and how the two sides are
//! connected.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use crate::entry::{Kind, TreePath};
use crate::folder::{self, Found};
use crate::wire::{Ask, Cause, PIECE, Tell, VERSION, Wanted, WireError, send_data};

/// A folder or file of this machine, and the name it has in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name: one without slashes.
    pub name: TreePath,
    /// Where it lies.
    pub path: PathBuf,
}

/// What a source hands out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The roots. Each name once.
    pub roots: Vec<Root>,
    /// What is passed over, by its path in the archive, with all that is in it.
    pub without: Vec<TreePath>,
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A root is not there.
    #[error("cannot read {path}", path = .path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A root has a name that cannot be, or that another one has.
    #[error("{0} cannot be the name of a root, or is one already")]
    Name(TreePath),
    /// The other side.
    #[error("cannot go on talking to the management machine")]
    Wire(#[source] WireError),
}

enum Opened {
    Folder(OwnedFd),
    File,
}

/// Serves `offer` until the other side has had enough.
///
/// # Errors
/// When a root cannot be opened at all, or the connection breaks.
pub fn serve(offer: &Offer, from: &mut impl io::Read, to: &mut impl Write) -> Result<(), SourceError> {
    let mut roots = Vec::new();
    for root in &offer.roots {
        if root.name.parent().is_some() {
            return Err(SourceError::Name(root.name.clone()));
        }
        let failed = |source| SourceError::Root { path: root.path.clone(), source };
        let metadata = std::fs::metadata(&root.path).map_err(failed)?;
        let opened =
            if metadata.is_dir() { Opened::Folder(folder::open(&root.path).map_err(failed)?) } else { Opened::File };
        roots.push((root, opened));
    }
    roots.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    if let Some(pair) = roots.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
        return Err(SourceError::Name(pair[0].0.name.clone()));
    }
    let broken = |source| SourceError::Wire(WireError::Io(source));
    while let Some(ask) = Ask::receive(from).map_err(SourceError::Wire)? {
        match ask {
            Ask::Hello(_) => Tell::Hello(VERSION).send(to).map_err(broken)?,
            Ask::List => list(offer, &roots, to).map_err(broken)?,
            Ask::Read(wanted) => hand_out(&roots, &wanted, to).map_err(broken)?,
            Ask::Quit => break,
        }
        to.flush().map_err(broken)?;
    }
    Ok(())
}

fn list(offer: &Offer, roots: &[(&Root, Opened)], to: &mut impl Write) -> io::Result<()> {
    let (mut count, mut left_out) = (0, 0);
    let mut tell = |found: Found| match found {
        Found::Entry(entry) => {
            count += 1;
            Tell::Entry(entry).send(to)
        }
        Found::Unlisted(cause, path, why) => Tell::Unlisted(cause, path, why).send(to),
        Found::LeftOut => {
            left_out += 1;
            Ok(())
        }
    };
    let leave_out = |path: &TreePath| offer.without.contains(path);
    for (root, opened) in roots {
        match opened {
            Opened::Folder(open) => {
                let stat = rustix::fs::fstat(open)?;
                match folder::entry(root.name.clone(), Kind::Folder, &stat) {
                    Ok(entry) => tell(Found::Entry(entry))?,
                    Err(error) => tell(Found::unlisted(&root.name, &error))?,
                }
                folder::walk(open, &root.name, &leave_out, &mut tell)?;
            }
            Opened::File => {
                let found = folder::open_named(&root.path).and_then(|file| {
                    let stat = rustix::fs::fstat(&file)?;
                    let size = stat.st_size.try_into().unwrap_or(u64::MAX);
                    folder::entry(root.name.clone(), Kind::File { size }, &stat)
                });
                match found {
                    Ok(entry) => tell(Found::Entry(entry))?,
                    Err(error) => tell(Found::unlisted(&root.name, &error))?,
                }
            }
        }
    }
    Tell::ListEnd(count, left_out).send(to)
}

fn open(roots: &[(&Root, Opened)], path: &TreePath) -> io::Result<File> {
    let mut names = path.names();
    let name = names.next().unwrap_or_default();
    let root = roots.iter().find(|(root, _)| root.name.as_bytes() == name);
    match root {
        Some((_, Opened::Folder(open))) => folder::open_file(open, names),
        Some((root, Opened::File)) if path.parent().is_none() => folder::open_named(&root.path),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

/// Sends a file, or why it cannot be had as it was listed.
fn hand_out(roots: &[(&Root, Opened)], wanted: &Wanted, to: &mut impl Write) -> io::Result<()> {
    let changed = |why: &str| Tell::FileFault(Cause::Changed, why.to_owned());
    let file = match open(roots, &wanted.path) {
        Ok(file) => file,
        Err(error) => return Tell::FileFault(folder::cause(&error), format!("it cannot be opened: {error}")).send(to),
    };
    let_it_settle(wanted);
    if !is_as_listed(&file, wanted)? {
        return changed("it changed after it was listed").send(to);
    }
    let mut left = wanted.size;
    let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(usize::MAX))];
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match (&file).read(&mut piece[..most]) {
            Ok(0) => return changed("it became shorter while it was read").send(to),
            Ok(count) => {
                send_data(&piece[..count], to)?;
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Tell::FileFault(folder::cause(&error), format!("it cannot be read: {error}")).send(to);
            }
        }
    }
    if is_as_listed(&file, wanted)? { Tell::FileEnd.send(to) } else { changed("it changed while it was read").send(to) }
}

/// File systems keep time in steps of some milliseconds. A file that changes twice within one looks the same to the
/// next backup, so one that changed just now is read when its step is over: any later change shows.
fn let_it_settle(wanted: &Wanted) {
    const STEP: Duration = Duration::from_millis(50);
    let seconds = u64::try_from(wanted.changed.seconds).unwrap_or_default();
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, wanted.changed.nanoseconds);
    // In the future by this clock: nothing that waiting would change.
    if let Some(more) = changed.elapsed().ok().and_then(|age| STEP.checked_sub(age)) {
        std::thread::sleep(more);
    }
}

fn is_as_listed(file: &File, wanted: &Wanted) -> io::Result<bool> {
    let stat: Stat = rustix::fs::fstat(file)?;
    let size = stat.st_size.try_into().unwrap_or(u64::MAX);
    let now = folder::entry(wanted.path.clone(), Kind::File { size }, &stat);
    Ok(now.is_ok_and(|now| {
        (now.size(), now.modified, now.changed, now.inode)
            == (wanted.size, wanted.modified, wanted.changed, wanted.inode)
    }))
}
