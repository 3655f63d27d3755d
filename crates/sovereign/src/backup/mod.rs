//! From what is declared to what is archived: which data a site has, a source that hands it out, a proof afterwards.

pub(crate) mod copies;
#[cfg(test)]
mod coverage;
pub(crate) mod due;
mod ghost;
pub(crate) mod growth;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod keep;
pub(crate) mod label;
mod on_host;
mod record;
mod upstream;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sovereign_archive::entry::{Entry, Kind, TreePath};
use sovereign_archive::manifest::Manifest;
use sovereign_archive::{Archive, ArchiveError, Contents, Line, Offer, Password, Root, Seen, Subject, Taken, room_for};
use sovereign_engine::embedded::talk::{Talk, reading, talk};
use sovereign_model::CopyName;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::debian;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::output::Progress;
use crate::restore;
use crate::secrets;
use crate::world::unix_seconds;
use on_host::OnHost;

pub(crate) use ghost::{DATABASE, Ghost, compare as compare_ghosts};
pub(crate) use on_host::{Aside, DUMP, compare_dumps, examine_dump};
pub(crate) use record::{Proof, Record, Trouble};

/// A source that keeps the backup waiting for so long is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How soon it is looked again whether the archive is free.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What a source may have said before it is heard.
const PIPE: usize = 1 << 20;
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
    /// The operator, or the service that asked for it, stopped it.
    #[error("the backup was stopped; nothing half is left of it")]
    Stopped,
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
            Self::File { .. } | Self::Stopped | Self::Senseless(_) => None,
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
    let remembered = declared.state.keys().join("archive-key.json");
    Ok(Password::new(keys.archive_password()?.expose().to_owned()).remembered_in(remembered))
}

/// What says which archive the stack uses.
pub(crate) fn known(declared: &Declared) -> PathBuf {
    known_in(&declared.state)
}

/// The same, by the state folder.
pub(crate) fn known_in(state: &StateFolder) -> PathBuf {
    state.archive().join("repository.json")
}

/// Opens the archive that there is.
///
/// # Errors
/// When there is none, it is another one than before, or it cannot be opened.
pub(crate) fn open(context: &Context, declared: &Declared) -> Result<Archive, Failure> {
    Ok(Archive::open(&repository(declared), &known(declared), &password(context, declared)?)?)
}

/// Opens the archive, or a copy of it.
///
/// # Errors
/// As [`open`] and [`copies::open`].
pub(crate) fn open_from(context: &Context, declared: &Declared, copy: Option<&CopyName>) -> Result<Archive, Failure> {
    copy.map_or_else(|| open(context, declared), |copy| copies::open(context, declared, copy))
}

/// Opens the archive, which is made the first time.
///
/// # Errors
/// When it is another one than before, or it cannot be made or opened.
pub(crate) fn open_or_create(context: &Context, declared: &Declared) -> Result<Archive, Failure> {
    Ok(open_or_create_with(declared, &password(context, declared)?)?)
}

fn open_or_create_with(declared: &Declared, password: &Password) -> Result<Archive, ArchiveError> {
    // What is known of the archive lies there, wherever the archive itself does.
    let folder = declared.state.archive();
    make(&folder).map_err(|source| ArchiveError::File { action: "make", path: folder, source })?;
    let folder = repository(declared);
    let archive = Archive::open_or_create(&folder, &known(declared), password)?;
    let labelled = label::write(&folder, &declared.stack.name);
    labelled.map_err(|source| ArchiveError::File { action: "write the stack's name in", path: folder, source })?;
    import::sweep(&declared.state);
    Ok(archive)
}

/// The same; `None` when another run works on it.
///
/// # Errors
/// As [`open_or_create`].
pub(crate) fn open_if_free(context: &Context, declared: &Declared) -> Result<Option<Archive>, Failure> {
    match open_or_create_with(declared, &password(context, declared)?) {
        Err(ArchiveError::Locked) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

/// The same, waiting for another run that works on it, as long as that may take.
///
/// # Errors
/// As [`open_or_create`]; that it is locked when the run was stopped or `patience` is at an end.
pub(crate) fn open_when_free(
    context: &Context,
    declared: &Declared,
    progress: &Progress,
    stop: &CancellationToken,
    patience: Duration,
) -> Result<Archive, Failure> {
    let password = password(context, declared)?;
    let deadline = Instant::now() + patience;
    let mut stage = None;
    loop {
        match open_or_create_with(declared, &password) {
            Err(ArchiveError::Locked) if !stop.is_cancelled() && Instant::now() < deadline => {
                stage.get_or_insert_with(|| progress.stage("wait for another run on the archive"));
                std::thread::sleep(LOOK_AGAIN);
            }
            outcome => {
                stage.map(crate::output::Stage::finish);
                return Ok(outcome?);
            }
        }
    }
}

/// Writes down what went wrong, for `status`. That it cannot be written is seen there too: nothing is proven then.
pub(crate) fn note_failure(declared: &Declared, of: impl IntoIterator<Item = Subject>, failure: &Failure) {
    let since_unix = unix_seconds(SystemTime::now());
    for subject in of {
        let trouble = Trouble { since_unix, message: failure.chain().join(": "), help: failure.help() };
        let _ = make(&declared.state.archive()).map(|()| Record::note_failure(&declared.state, &subject, trouble));
    }
}

/// A snapshot that was taken, and its proof or why there is none.
pub(crate) struct Backed {
    pub(crate) taken: Taken,
    pub(crate) proof: Result<Proof, Failure>,
}

/// A part of what the management machine knows of the stack.
pub(crate) struct StatePart {
    /// Its name in a snapshot.
    pub(crate) name: &'static str,
    /// What it is, for the list of all that is kept.
    #[cfg_attr(not(test), expect(dead_code, reason = "a page of the documentation is made from it"))]
    what: &'static str,
    /// Where it lies.
    path: fn(&Declared) -> PathBuf,
}

/// Where a snapshot of the state has the locks.
pub(crate) const LOCKS: &str = "locks";

/// All that is backed up of it. Not the root seed: the words are on paper.
pub(crate) const STATE_PARTS: &[StatePart] = &[
    StatePart {
        name: "stack.toml",
        what: "the stack file, and each of its earlier versions",
        path: |of| of.file.clone(),
    },
    StatePart {
        name: LOCKS,
        what: "which images were chosen: the locks beside the stack file",
        path: |of| debian::locks(&of.file),
    },
    StatePart { name: "state.json", what: "formats and epochs of the state", path: |of| of.state.state_file() },
    StatePart {
        name: "epochs.json",
        what: "which secrets were rotated how often",
        path: |of| secrets::epochs_file(&of.state),
    },
    StatePart {
        name: "zone-keys.json",
        what: "how far zones are whose keys are exchanged, and which epochs their keys had",
        path: |of| of.state.zone_keys(),
    },
    StatePart {
        name: "primaries.json",
        what: "how often each site has got another primary",
        path: |of| of.state.primaries(),
    },
    StatePart {
        name: "datacenters.json",
        what: "which data centers are taken out of answers, and which are worked on",
        path: |of| of.state.datacenters(),
    },
    StatePart {
        name: "adopted.json",
        what: "what the domains published before they were taken over",
        path: |of| of.state.adopted(),
    },
    StatePart {
        name: "hosts.json",
        what: "which hosts there are, and their pinned keys",
        path: |of| of.state.hosts_record(),
    },
    StatePart { name: "journal", what: "the journal of the last runs", path: |of| of.state.journal() },
    StatePart {
        name: "certificates",
        what: "certificates of public authorities, their keys, the accounts, and what was tried",
        path: |of| of.state.certificates(),
    },
    StatePart {
        name: "providers",
        what: "what providers of DNS gave the stack to prove itself with",
        path: |of| of.state.providers(),
    },
    StatePart { name: "ca", what: "the certificate of the internal authority", path: |of| of.state.ca() },
];

/// One run over an archive that is open.
pub(crate) struct Run<'r> {
    pub(crate) context: &'r Context,
    pub(crate) declared: &'r Declared,
    pub(crate) archive: &'r Archive,
    pub(crate) progress: &'r Progress,
    /// Ends it; nothing half is left.
    pub(crate) stop: &'r CancellationToken,
}

impl Run<'_> {
    /// Backs one site up; `None` when there is no way to.
    ///
    /// # Errors
    /// When it could not be backed up whole: then there is no snapshot.
    pub(crate) fn site(&self, site: &Site) -> Result<Option<Backed>, Failure> {
        let subject = Subject::Site(site.name.clone());
        match &site.app {
            App::Upstream { .. } if !site.is_backed_up() => Ok(None),
            App::Upstream { data, .. } => {
                self.one(&subject, &mut || upstream::dump(self, site, data).map(Has::Here), &|_| Ok(None)).map(Some)
            }
            App::Static { folder } => {
                let offer = offer([("files", folder.clone())]);
                self.one(&subject, &mut || Ok(Has::Here(offer.clone())), &|_| Ok(None)).map(Some)
            }
            App::Ghost if site.host(&self.declared.stack).is_some() => {
                restore::must_be_whole(&self.declared.state, site)?;
                let mut prepare = || {
                    let mut there = OnHost::of(self.declared, site)?;
                    there.prepare(self.progress, self.stop)?;
                    Ok(Has::There(Box::new(there)))
                };
                self.one(&subject, &mut prepare, &|scratch| self.look(site, scratch)).map(Some)
            }
            App::Ghost => {
                hosts::data_is_here(&self.declared.stack, site, "backed up")?;
                restore::must_be_whole(&self.declared.state, site)?;
                let ghost = Ghost::of(self.context, self.declared, site)?;
                let mut prepare = || {
                    ghost.dump(self.progress)?;
                    Ok(Has::Here(ghost.offer()))
                };
                self.one(&subject, &mut prepare, &|scratch| self.look(site, scratch)).map(Some)
            }
        }
    }

    /// Backs up what the management machine knows of the stack. Not the root seed: the words are on paper.
    ///
    /// # Errors
    /// As [`Run::site`].
    pub(crate) fn state(&self) -> Result<Backed, Failure> {
        let parts = STATE_PARTS.iter().map(|part| (part.name, (part.path)(self.declared)));
        let offer = offer(parts.filter(|(_, path)| path.exists()));
        self.one(&Subject::State, &mut || Ok(Has::Here(offer.clone())), &|_| Ok(None))
    }

    /// Backs up what the stack's applications run; `None` when nothing is built yet.
    ///
    /// # Errors
    /// As [`Run::site`].
    pub(crate) fn images(&self) -> Result<Option<Backed>, Failure> {
        let Some(offer) = images::what(self)? else { return Ok(None) };
        self.one(&Subject::Images, &mut || Ok(Has::Here(offer.clone())), &|_| Ok(None)).map(Some)
    }

    fn one<'d>(
        &self,
        subject: &Subject,
        prepare: &mut dyn FnMut() -> Result<Has<'d>, Failure>,
        examine: &Examine<'_>,
    ) -> Result<Backed, Failure> {
        let mut attempt = 1;
        let taken = loop {
            let taken = self.take(subject, self.start(subject, &prepare()?)?);
            if self.stop.is_cancelled() {
                return Err(BackupError::Stopped.into());
            }
            match taken {
                Err(ArchiveError::Source(error)) if error.may_pass() && attempt < ATTEMPTS => attempt += 1,
                other => break other?,
            }
        };
        let proof = self.prove(subject, &taken, examine);
        Ok(Backed { taken, proof })
    }

    fn start(&self, subject: &Subject, has: &Has<'_>) -> Result<(Source, Line), Failure> {
        match has {
            Has::Here(offer) => {
                let started = start_source(&self.declared.state, offer);
                let failed = |source| ArchiveError::File {
                    action: "start the source of",
                    path: subject.to_string().into(),
                    source,
                };
                started.map(|(talk, line)| (Source::Here(talk), line)).map_err(|error| failed(error).into())
            }
            Has::There(there) => there.start().map(|(talk, line)| (Source::There(talk), line)),
        }
    }

    fn take(&self, subject: &Subject, (source, line): (Source, Line)) -> Result<Taken, ArchiveError> {
        let stage = Arc::new(self.progress.stage(format!("back up {subject}")));
        let told = Arc::clone(&stage);
        let watch: sovereign_archive::Watch = Arc::new(move |seen| match seen {
            Seen::Listed(_) => {}
            Seen::Total(bytes) => told.expect_bytes(bytes),
            Seen::Stored(bytes) => told.reach(bytes),
            Seen::Comparing => told.note("comparing"),
        });
        let source = Ending::with(source, self.stop);
        let record = Record::read(&self.declared.state);
        let host = self.declared.stack.name.as_str();
        let taken = self.archive.take(subject, host, record.proven(subject), line, &watch);
        if let Some(complaints) = source.end().filter(|complaints| !complaints.is_empty()) {
            tracing::warn!("the source of {subject}: {complaints}");
        }
        drop(watch);
        if taken.is_ok() {
            Arc::into_inner(stage).map(crate::output::Stage::finish);
        }
        taken
    }

    /// Restores every new file, compares it with what was read, has what needs it examined, and writes down that it was.
    fn prove(&self, subject: &Subject, taken: &Taken, examine: &Examine<'_>) -> Result<Proof, Failure> {
        let stage = self.progress.stage(format!("restore and compare {subject}"));
        let bytes = taken.read.keys().filter_map(|path| taken.manifest.get(path)).map(|entry| entry.size()).sum();
        if bytes > 0 {
            stage.expect_bytes(bytes);
        }
        let scratch = Scratch::new(&self.declared.state)?;
        let wanted = database_of(&taken.manifest);
        // One file is there at a time.
        let largest =
            taken.read.keys().chain(&wanted).filter_map(|path| taken.manifest.get(path)).map(Entry::size).max();
        room_for(&scratch.folder, largest.unwrap_or_default())?;
        let contents = &taken.contents;
        let mut files = taken.read.iter().map(|(path, sum)| (path, Some(sum)));
        let restored = contents.prove(&mut files, &scratch.folder.join("files"), &|bytes| stage.reach(bytes))?;
        let examined = self.examine(contents, wanted.as_ref(), &scratch, examine)?;
        stage.finish();
        let before = Record::read(&self.declared.state).proofs.remove(&subject.to_string());
        let verified_unix = unix_seconds(SystemTime::now());
        // All of it was new.
        let is_whole = restored.files == taken.manifest.files();
        let proof = Proof {
            snapshot: taken.snapshot.id.clone(),
            taken_unix: taken.snapshot.taken_unix,
            verified_unix,
            files: restored.files,
            bytes: restored.bytes,
            examined,
            whole_unix: if is_whole { Some(verified_unix) } else { before.and_then(|before| before.whole_unix) },
        };
        Record::note(&self.declared.state, subject, proof.clone())?;
        Ok(proof)
    }

    /// Restores all of the newest proven snapshot of a subject and compares it, and writes down that it was; `None` when
    /// no snapshot of it is proven. `site` is the one that the subject is.
    ///
    /// # Errors
    /// When something in it is not what it was.
    pub(crate) fn whole(&self, subject: &Subject, site: Option<&Site>) -> Result<Option<Proof>, Failure> {
        let Some(proof) = Record::read(&self.declared.state).proofs.remove(&subject.to_string()) else {
            return Ok(None);
        };
        let stage = self.progress.stage(format!("restore and compare all of {subject}"));
        let contents = self.archive.contents(&self.archive.find(&proof.snapshot)?)?;
        let manifest = contents.manifest();
        stage.expect_bytes(manifest.bytes());
        let scratch = Scratch::new(&self.declared.state)?;
        let files = || manifest.entries().iter().filter(|entry| matches!(entry.kind, Kind::File { .. }));
        room_for(&scratch.folder, files().map(Entry::size).max().unwrap_or_default())?;
        let seen = |bytes| stage.reach(bytes);
        let restored =
            contents.prove(&mut files().map(|entry| (&entry.path, None)), &scratch.folder.join("files"), &seen)?;
        let ghost = site.filter(|site| site.app == App::Ghost);
        let look = |scratch: &Path| ghost.map_or(Ok(None), |site| self.look(site, scratch));
        let examined = self.examine(&contents, database_of(manifest).as_ref(), &scratch, &look)?;
        stage.finish();
        let whole_unix = Some(unix_seconds(SystemTime::now()));
        let proof = Proof { files: restored.files, bytes: restored.bytes, examined, whole_unix, ..proof };
        Record::note(&self.declared.state, subject, proof.clone())?;
        Ok(Some(proof))
    }

    /// Looks into a site's database that came from the archive, in whichever form it is there.
    fn look(&self, site: &Site, scratch: &Path) -> Result<Option<String>, Failure> {
        let dump = scratch.join(DUMP);
        let found = if dump.symlink_metadata().is_ok() {
            on_host::examine(&dump)
        } else {
            Ghost::of(self.context, self.declared, site)?.examine(&scratch.join(DATABASE))
        };
        found.map(Some)
    }

    fn examine(
        &self,
        contents: &Contents,
        database: Option<&TreePath>,
        scratch: &Scratch,
        examine: &Examine<'_>,
    ) -> Result<Option<String>, Failure> {
        let Some(database) = database else { return Ok(None) };
        let folder = scratch.folder.join("examined");
        contents.prove(&mut std::iter::once((database, None)), &folder, &|_| {})?;
        examine(&folder)
    }
}

/// The database in a snapshot, or its dump, if it has one.
fn database_of(manifest: &Manifest) -> Option<TreePath> {
    let there = |path: &&str| TreePath::parse(path.as_bytes()).ok().filter(|path| manifest.get(path).is_some());
    [DATABASE, DUMP].iter().find_map(there)
}

/// Where the data is.
enum Has<'d> {
    /// On this machine, in these folders.
    Here(Offer),
    /// On a host.
    There(Box<OnHost<'d>>),
}

/// What hands the data out.
enum Source {
    /// A process of this machine.
    Here(Talk),
    /// One of a host.
    There(sovereign_hosts::Talk),
}

impl Source {
    fn end(self) -> String {
        match self {
            Self::Here(talk) => talk.end(),
            Self::There(talk) => talk.end(),
        }
    }
}

/// A source that ends with this value, or earlier when the run is stopped.
struct Ending {
    source: Arc<Mutex<Option<Source>>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Ending {
    fn with(source: Source, stop: &CancellationToken) -> Self {
        let source = Arc::new(Mutex::new(Some(source)));
        let (watched, stop) = (Arc::clone(&source), stop.clone());
        let watcher = tokio::spawn(async move {
            stop.cancelled().await;
            drop(taken(&watched));
        });
        Self { source, watcher }
    }

    /// Ends it, if it has not ended. Returns its complaints, unless it was stopped.
    fn end(self) -> Option<String> {
        taken(&self.source).map(Source::end)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.watcher.abort();
        drop(taken(&self.source));
    }
}

fn taken(source: &Mutex<Option<Source>>) -> Option<Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn offer<N: AsRef<str>>(roots: impl IntoIterator<Item = (N, PathBuf)>) -> Offer {
    let root = |(name, path): (N, PathBuf)| Root {
        name: TreePath::parse(name.as_ref().as_bytes()).expect("names of ours are names"),
        path,
    };
    Offer { roots: roots.into_iter().map(root).collect(), without: Vec::new() }
}

/// Looks at what was restored into a folder.
type Examine<'a> = dyn Fn(&Path) -> Result<Option<String>, Failure> + 'a;

/// This program as a source, in a process that can read what is offered and nothing else.
fn start_source(state: &StateFolder, offer: &Offer) -> io::Result<(Talk, Line)> {
    let (mut args, mut read) = (vec!["archive-source".to_owned()], Vec::new());
    for Root { name, path } in &offer.roots {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // Of a root folder of its own only what lies on the way is there, and no link.
        let path = fs::canonicalize(path).map_err(named)?;
        let text = path.to_str().ok_or_else(|| named(io::Error::other("it is no text")))?;
        args.extend(["--root".to_owned(), format!("{name}={text}")]);
        read.push(path);
    }
    let (source, from, to) = talk(state, &reading(args, read))?;
    // Fewer turns between the two; where it is not granted the usual size does.
    let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE);
    Ok((source, Line::patient(from, to, PATIENCE)))
}

/// A folder that goes away with whatever was restored into it. Whoever makes one has the archive open, or the stack locked:
/// there is one of each name at a time.
pub(crate) struct Scratch {
    pub(crate) folder: PathBuf,
}

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(state: &StateFolder) -> Result<Self, BackupError> {
        Self::named(state, "scratch")
    }

    /// An empty one of its own name, which nobody else uses at the same time.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn named(state: &StateFolder, name: &str) -> Result<Self, BackupError> {
        Self::in_folder(&state.archive(), name)
    }

    /// The same in a folder of ours.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn in_folder(folder: &Path, name: &str) -> Result<Self, BackupError> {
        let folder = folder.join(name);
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
