//! From what is declared to what is archived: which data a site has, a source that hands it out, a proof afterwards.

mod ghost;
pub(crate) mod keep;
mod record;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sovereign_archive::entry::{Entry, TreePath};
use sovereign_archive::{Archive, ArchiveError, Line, Offer, Password, Root, Seen, Subject, Taken, room_for};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::output::Progress;
use crate::secrets;
use crate::world::unix_seconds;

pub(crate) use record::{Proof, Record};

/// A source that keeps the backup waiting for so long is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is tried again when files change while they are read.
const ATTEMPTS: u32 = 3;

/// Something about a backup that is not the archive's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A file of ours.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image is gone that the site's tools are in.
    #[error("the image of Ghost is not there any more")]
    NoImage,
    /// What was restored from the snapshot that was just made is broken.
    #[error("the database that was restored from the archive is broken: {0}")]
    Broken(String),
    /// A tool did not say what it should.
    #[error("cannot understand what was said about the database")]
    Senseless(#[source] serde_json::Error),
}

impl Reason for BackupError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoImage => Some("`sovereign up` builds it".to_owned()),
            Self::Broken(_) => Some(
                "the database of the site may be broken too: look at `sovereign logs`, and keep older snapshots"
                    .to_owned(),
            ),
            Self::File { .. } | Self::Senseless(_) => None,
        }
    }
}

/// Where the repository of a stack lies.
pub(crate) fn repository(declared: &Declared) -> PathBuf {
    declared.stack.archive.folder.clone().unwrap_or_else(|| declared.state.archive().join("repository"))
}

/// What opens it.
///
/// # Errors
/// When the working key is missing and the root seed cannot be opened.
pub(crate) fn password(context: &Context, declared: &Declared) -> Result<Password, Failure> {
    let keys = secrets::open(context, &declared.stack, &declared.state)?;
    Ok(Zeroizing::new(keys.archive_password()?.expose().to_owned()))
}

/// What says which archive the stack uses.
fn known(declared: &Declared) -> PathBuf {
    declared.state.archive().join("repository.json")
}

/// Opens the archive that there is.
///
/// # Errors
/// When there is none, it is another one than before, or it cannot be opened.
pub(crate) fn open(context: &Context, declared: &Declared) -> Result<Archive, Failure> {
    Ok(Archive::open(&repository(declared), &known(declared), &password(context, declared)?)?)
}

/// Opens the archive, which is made the first time.
///
/// # Errors
/// When it is another one than before, or it cannot be made or opened.
pub(crate) fn open_or_create(context: &Context, declared: &Declared) -> Result<Archive, Failure> {
    let password = password(context, declared)?;
    // What is known of the archive lies there, wherever the archive itself does.
    let folder = declared.state.archive();
    make(&folder).map_err(|source| BackupError::File { path: folder, source })?;
    Ok(Archive::open_or_create(&repository(declared), &known(declared), &password)?)
}

/// A snapshot that was taken, and its proof or why there is none.
pub(crate) struct Backed {
    pub(crate) taken: Taken,
    pub(crate) proof: Result<Proof, Failure>,
}

/// Backs one site up; `None` when there is no way to.
///
/// # Errors
/// When it could not be backed up whole: then there is no snapshot.
pub(crate) fn site(
    context: &Context,
    declared: &Declared,
    archive: &Archive,
    progress: &Progress,
    site: &Site,
) -> Result<Option<Backed>, Failure> {
    let subject = Subject::Site(site.name.clone());
    match &site.app {
        App::Upstream { .. } => Ok(None),
        App::Static { folder } => {
            let offer = offer([("files", folder.clone())]);
            one(declared, archive, progress, &subject, &mut || Ok(offer.clone()), &|_| Ok(None)).map(Some)
        }
        App::Ghost => {
            let ghost = ghost::Ghost::of(context, declared, site)?;
            let mut prepare = || {
                ghost.dump(progress)?;
                Ok(ghost.offer())
            };
            let examine = |scratch: &Path| ghost.examine(scratch).map(Some);
            one(declared, archive, progress, &subject, &mut prepare, &examine).map(Some)
        }
    }
}

/// Backs up what the management machine knows of the stack. Not the root seed: the words are on paper.
///
/// # Errors
/// As [`site`].
pub(crate) fn state(declared: &Declared, archive: &Archive, progress: &Progress) -> Result<Backed, Failure> {
    let state = &declared.state;
    let parts = [
        ("stack.toml", declared.file.clone()),
        ("state.json", state.state_file()),
        ("epochs.json", secrets::epochs_file(state)),
        ("journal", state.journal()),
        ("ca", state.ca()),
    ];
    let there = parts.into_iter().filter(|(_, path)| path.exists()).collect::<Vec<_>>();
    let offer = offer(there);
    one(declared, archive, progress, &Subject::State, &mut || Ok(offer.clone()), &|_| Ok(None))
}

fn offer(roots: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Offer {
    let root = |(name, path): (&'static str, PathBuf)| Root {
        name: TreePath::parse(name.as_bytes()).expect("names of ours are names"),
        path,
    };
    Offer { roots: roots.into_iter().map(root).collect(), without: Vec::new() }
}

/// Looks at what was restored into a folder.
type Examine<'a> = dyn Fn(&Path) -> Result<Option<String>, Failure> + 'a;

fn one(
    declared: &Declared,
    archive: &Archive,
    progress: &Progress,
    subject: &Subject,
    prepare: &mut dyn FnMut() -> Result<Offer, Failure>,
    examine: &Examine<'_>,
) -> Result<Backed, Failure> {
    let mut attempt = 1;
    let taken = loop {
        match take(declared, archive, progress, subject, &prepare()?) {
            Err(ArchiveError::Source(error)) if error.may_pass() && attempt < ATTEMPTS => attempt += 1,
            other => break other?,
        }
    };
    let proof = prove(declared, archive, progress, subject, &taken, examine);
    Ok(Backed { taken, proof })
}

fn take(
    declared: &Declared,
    archive: &Archive,
    progress: &Progress,
    subject: &Subject,
    offer: &Offer,
) -> Result<Taken, ArchiveError> {
    let stage = Arc::new(progress.stage(format!("back up {subject}")));
    let told = Arc::clone(&stage);
    let watch: sovereign_archive::Watch = Arc::new(move |seen| match seen {
        Seen::Listed(_) => {}
        Seen::Total(bytes) => told.expect_bytes(bytes),
        Seen::Stored(bytes) => told.reach(bytes),
        Seen::Comparing => told.note("comparing"),
    });
    let started = start_source(offer).map_err(|source| ArchiveError::File {
        action: "start the source of",
        path: subject.to_string().into(),
        source,
    })?;
    let Source { mut child, line } = started;
    let record = Record::read(&declared.state);
    let taken = archive.take(subject, declared.stack.name.as_str(), record.proven(subject), line, &watch);
    let _ = child.kill(); // most often it has ended already
    let _ = child.wait();
    drop(watch);
    if taken.is_ok() {
        Arc::into_inner(stage).map(crate::output::Stage::finish);
    }
    taken
}

struct Source {
    child: Child,
    line: Line,
}

/// This program as a source, in a process of its own.
fn start_source(offer: &Offer) -> io::Result<Source> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("archive-source");
    for Root { name, path } in &offer.roots {
        let mut argument = std::ffi::OsString::from(format!("{name}="));
        argument.push(path);
        command.arg("--root").arg(argument);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    match (child.stdout.take(), child.stdin.take()) {
        (Some(from), Some(to)) => Ok(Source { child, line: Line::patient(from, to, PATIENCE) }),
        _ => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
    }
}

/// Restores every new file, compares it with what was read, has what needs it examined, and writes down that it was.
fn prove(
    declared: &Declared,
    archive: &Archive,
    progress: &Progress,
    subject: &Subject,
    taken: &Taken,
    examine: &Examine<'_>,
) -> Result<Proof, Failure> {
    let stage = progress.stage(format!("restore and compare {subject}"));
    let bytes = taken.read.keys().filter_map(|path| taken.manifest.get(path)).map(|entry| entry.size()).sum();
    if bytes > 0 {
        stage.expect_bytes(bytes);
    }
    let scratch = Scratch::new(&declared.state)?;
    let wanted = TreePath::parse(ghost::DATABASE.as_bytes()).ok().filter(|path| taken.manifest.get(path).is_some());
    // One file is there at a time.
    let largest = taken.read.keys().chain(&wanted).filter_map(|path| taken.manifest.get(path)).map(Entry::size).max();
    room_for(&scratch.folder, largest.unwrap_or_default())?;
    let contents = archive.contents(&taken.snapshot)?;
    let mut files = taken.read.iter().map(|(path, sum)| (path, Some(sum)));
    let restored = contents.prove(&mut files, &scratch.folder.join("files"), &|bytes| stage.reach(bytes))?;
    let examined = match &wanted {
        Some(database) => {
            let folder = scratch.folder.join("examined");
            contents.prove(&mut std::iter::once((database, None)), &folder, &|_| {})?;
            examine(&folder)?
        }
        None => None,
    };
    stage.finish();
    let proof = Proof {
        snapshot: taken.snapshot.id.clone(),
        taken_unix: taken.snapshot.taken_unix,
        verified_unix: unix_seconds(SystemTime::now()),
        files: restored.files,
        bytes: restored.bytes,
        examined,
    };
    Record::note(&declared.state, subject, proof.clone())?;
    Ok(proof)
}

/// A folder that goes away with whatever was restored into it.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new(state: &StateFolder) -> Result<Self, BackupError> {
        let folder = state.archive().join("scratch");
        let failed = |source| BackupError::File { path: folder.clone(), source };
        remove(&folder).map_err(failed)?; // of a run that was killed
        make(&folder).map_err(failed)?;
        Ok(Self { folder })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(&self.folder); // the next run does it
    }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
