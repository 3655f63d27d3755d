//! Copies in another format: for each site a chain of duplicity's, as the first stack kept it, beside our archive.
//!
//! ```text
//!  newest proven snapshot ── restored, every chunk compared ──▶ scratch ── duplicity ──▶ FOLDER/sites/<site>
//!                                                                 │                             │
//!                                                                 └────── byte for byte ── restored again
//! ```
//!
//! Promise: what a chain gives back is what the snapshot has, or it is said that it does not. Duplicity looks at times to
//! the second: what changes twice within one, it takes for unchanged; then all of it is added anew.
//!
//! Left out: removing old chains.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sovereign_archive::{Subject, room_for};
use sovereign_model::interval::Interval;
use zeroize::Zeroizing;

use crate::backup::{self, BackupError, Record, Run, Scratch};
use crate::duplicity::{Address, Duplicity};
use crate::exit::Exit;
use crate::failure::{Failure, Reason};

/// Below the folder of the archive; holds what is restored.
pub(crate) const SCRATCH: &str = "chain";

/// A chain is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// It was there and is not.
    #[error("the chain that was in {0} is not there")]
    Gone(String),
    /// It gives back something else.
    #[error("what duplicity gives back of {0} is not what was put in")]
    Differs(String),
    /// It is no archive of ours.
    #[error("copy {0} is a chain of duplicity's, and no copy of the archive's own files")]
    NotOurs(String),
}

impl Reason for ChainError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotOurs(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Gone(_) => {
                "is the right disk mounted there? `sovereign archive copy NAME --anew` begins a new one".to_owned()
            }
            Self::Differs(_) => "the disk may be bad; look at it before anything else".to_owned(),
            Self::NotOurs(_) => "`sovereign import duplicity:///FOLDER/sites/SITE SITE` reads it".to_owned(),
        })
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The snapshots that the chains have as their newest state now.
    pub(super) snapshots: Vec<String>,
}

/// Adds to the chains in a folder what they do not have yet. `known` are the snapshots that they have.
///
/// # Errors
/// When one cannot be added to; those before it have been.
pub(super) fn keep(
    run: &Run<'_>,
    folder: &Path,
    full: Interval,
    known: &[String],
    anew: bool,
) -> Result<Kept, Failure> {
    let passphrase = backup::password(run.context, run.declared)?;
    let passphrase = Zeroizing::new(passphrase.expose().to_owned());
    let mut kept = Kept::default();
    for (of, proof) in Record::read(&run.declared.state).proofs {
        let Some(subject) = subject(&of) else { continue };
        let to = match &subject {
            Subject::Site(site) => folder.join("sites").join(site.as_str()),
            _ => folder.join("state"),
        };
        let before = size(&to);
        if known.contains(&proof.snapshot) {
            if before.0 == 0 && !anew {
                return Err(ChainError::Gone(to.display().to_string()).into());
            }
            if before.0 > 0 {
                kept.snapshots.push(proof.snapshot);
                continue;
            }
        }
        let stage = run.progress.stage(format!("keep {of} with duplicity"));
        one(run, &proof.snapshot, &to, full, &passphrase)?;
        stage.finish();
        let after = size(&to);
        kept.files += after.0.saturating_sub(before.0);
        kept.bytes += after.1.saturating_sub(before.1);
        kept.snapshots.push(proof.snapshot);
    }
    Ok(kept)
}

fn one(
    run: &Run<'_>,
    snapshot: &str,
    to: &Path,
    full: Interval,
    passphrase: &Zeroizing<String>,
) -> Result<(), Failure> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let scratch = Scratch::named(&run.declared.state, SCRATCH)?;
    let contents = run.archive.contents(&run.archive.find(snapshot)?)?;
    // What is put in, and what comes out again.
    room_for(&scratch.folder, contents.manifest().bytes().saturating_mul(2))?;
    let data = scratch.folder.join("files");
    contents.restore(None, &data, &|_| {})?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(at(to))?;
    room_for(to, contents.manifest().bytes())?;
    let address = Address::Folder(fs::canonicalize(to).map_err(at(to))?);
    let state = &run.declared.state;
    let duplicity = Duplicity::keeping(state, &address, &data, &scratch.folder, passphrase.clone(), run.stop)?;
    duplicity.keep(full.duration())?;
    for attempt in 0.. {
        let again = scratch.folder.join(format!("again-{attempt}"));
        duplicity.restore(&again)?;
        if is_same(&data, &again).map_err(at(&again))? {
            return Ok(());
        }
        if attempt > 0 {
            break;
        }
        duplicity.keep_full()?;
        backup::remove(&again).map_err(at(&again))?;
    }
    Err(ChainError::Differs(to.display().to_string()).into())
}

/// Sites and the stack's state have chains.
fn subject(of: &str) -> Option<Subject> {
    if of == Subject::State.to_string() { Some(Subject::State) } else { of.parse().ok().map(Subject::Site) }
}

/// How many files are in a folder, and their bytes.
fn size(folder: &Path) -> (u64, u64) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(|metadata| metadata.is_file()).fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.len()))
}

/// Whether two folders have the same files and links in them.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let names = |folder: &Path| -> io::Result<Vec<PathBuf>> {
        let mut names =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into())).collect::<io::Result<Vec<PathBuf>>>()?;
        names.sort();
        Ok(names)
    };
    let all = names(one)?;
    if all != names(other)? {
        return Ok(false);
    }
    for name in all {
        let (one, other) = (one.join(&name), other.join(&name));
        let (kind, as_well) = (one.symlink_metadata()?.file_type(), other.symlink_metadata()?.file_type());
        let same = match (kind.is_dir(), kind.is_symlink()) {
            _ if kind != as_well => false,
            (true, _) => is_same(&one, &other)?,
            (_, true) => fs::read_link(&one)? == fs::read_link(&other)?,
            _ => have_the_same(&one, &other)?,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn have_the_same(one: &Path, other: &Path) -> io::Result<bool> {
    use std::io::Read as _;
    const PIECE: u64 = 256 << 10;
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut here, mut there) = (Vec::new(), Vec::new());
    loop {
        here.clear();
        there.clear();
        one.by_ref().take(PIECE).read_to_end(&mut here)?;
        other.by_ref().take(PIECE).read_to_end(&mut there)?;
        if here != there {
            return Ok(false);
        }
        if here.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_the_same_when_all_in_them_is() {
        let make = |text: &str, link: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("a")).unwrap();
            fs::write(folder.path().join("a/b"), text).unwrap();
            std::os::unix::fs::symlink(link, folder.path().join("l")).unwrap();
            folder
        };
        let one = make("text", "/etc");
        let same = |other: &tempfile::TempDir| is_same(one.path(), other.path()).unwrap();
        assert!(same(&make("text", "/etc")));
        assert!(!same(&make("test", "/etc")) && !same(&make("text.", "/etc")) && !same(&make("text", "/usr")));
        let more = make("text", "/etc");
        fs::write(more.path().join("a/c"), "").unwrap();
        assert!(!same(&more));
    }
}
