//! Bringing a stack back from an archive and its 24 words, piece by piece: what `recover` does, and a drill of it
//! elsewhere.
//!
//! Promise: each thing is put in its place whole, and never over another one. Where the newest snapshot is damaged, the one
//! before it comes back, and that is said.

mod error;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_archive::copy::{self, CopyError, Place};
use sovereign_archive::{Archive, ArchiveError, Password, Snapshot, Subject};
use sovereign_keys::{Purpose, RootSeed, WorkingKeys};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use sovereign_model::{SiteName, StackName, file};

use crate::backup::{self, Ghost, Proof, Record};
use crate::certificates::back;
use crate::context::Context;
use crate::debian;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::Progress;
use crate::places::Places;
use crate::restore::swap::{Intent, Origin};
use crate::restore::{self, Folder, Form};
use crate::secrets;
use crate::world::unix_seconds;
pub(crate) use error::{RecoverError, failed};

/// One thing that is back.
#[derive(Debug, Serialize)]
pub(crate) struct Back {
    pub(crate) of: String,
    pub(crate) snapshot: String,
    /// What was written after that is lost.
    pub(crate) taken_unix: i64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// What a look into the database said, where there was something to look with.
    pub(crate) examined: Option<String>,
}

/// What opens the archive of a stack with these words.
///
/// # Errors
/// When no key can be derived.
pub(crate) fn password(stack: &StackName, seed: &RootSeed) -> Result<Password, Failure> {
    let keys = WorkingKeys::imagined(stack, [&Purpose::Archive], seed);
    Ok(Password::new(keys.archive_password()?.expose().to_owned()))
}

/// Opens the archive in a folder, or a copy of it that was mounted to be read only.
///
/// # Errors
/// When it cannot be opened, least of all with these words.
pub(crate) fn open(folder: &Path, known: &Path, password: &Password, stack: &StackName) -> Result<Archive, Failure> {
    match Archive::open(folder, known, password) {
        // A disk that was mounted so that nothing happens to it.
        Err(ArchiveError::File { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            open_copy(Arc::new(copy::Folder::new(folder)), known, password, stack)
        }
        other => other.map_err(|error| refused(error, stack)),
    }
}

/// Opens a copy that is only read, wherever it is.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_copy(
    place: Arc<dyn Place>,
    known: &Path,
    password: &Password,
    stack: &StackName,
) -> Result<Archive, Failure> {
    Archive::open_copy(place, known, password).map_err(|error| match error {
        CopyError::Archive(error) => refused(error, stack),
        CopyError::Missing { place } => RecoverError::NoArchive { place }.into(),
        other => other.into(),
    })
}

fn refused(error: ArchiveError, stack: &StackName) -> Failure {
    match error {
        ArchiveError::WrongKey { folder } => RecoverError::OtherWords { stack: stack.clone(), folder }.into(),
        other => other.into(),
    }
}

/// Puts the stack file in its place; a file that is there must be the same.
///
/// # Errors
/// When another one is there, or it is none of this stack's.
pub(crate) fn put_stack_file(places: &Places, scratch: &Path, stack: &StackName) -> Result<PathBuf, Failure> {
    let from = scratch.join("stack.toml");
    let text = fs::read_to_string(&from).map_err(failed("read", &from))?;
    let there = match places.named_stack_file() {
        Some(named) => Some(named.to_owned()).filter(|named| named.exists()),
        None => places.usual_stack_files().into_iter().find(|path| path.exists()),
    };
    if let Some(path) = there {
        let same = fs::read_to_string(&path).is_ok_and(|found| found == text);
        return if same { Ok(path) } else { Err(RecoverError::StackFileThere { path }.into()) };
    }
    let path = places.named_stack_file().map_or_else(|| places.default_stack_file(), Path::to_owned);
    let whole = absolute(&path).map_err(failed("find", &path))?;
    let base = whole.parent().unwrap_or(Path::new("/"));
    let parsed = file::parse("stack.toml", &text, base)
        .map_err(|problems| RecoverError::BadStackFile(problems.render(file::Style::Plain)))?;
    if parsed.name != *stack {
        return Err(RecoverError::OtherStack { found: parsed.name, expected: stack.clone() }.into());
    }
    fs::create_dir_all(base).map_err(failed("make", base))?;
    // Nobody sees half of it, and one that appeared meanwhile stays.
    let mut beside = whole.clone().into_os_string();
    beside.push(".recovered");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text).map_err(failed("write", &beside))?;
    let linked = fs::hard_link(&beside, &whole).map_err(failed("write", &whole));
    fs::remove_file(&beside).map_err(failed("remove", &beside))?;
    linked?;
    Ok(path)
}

/// Puts the locks of images beside the stack file. One that is there already stays.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn put_locks(scratch: &Path, stack_file: &Path) -> Result<(), Failure> {
    let (from, to) = (scratch.join(backup::LOCKS), debian::locks(stack_file));
    let entries = match fs::read_dir(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", &from))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", &from))?;
        let place = to.join(entry.file_name());
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || place.symlink_metadata().is_ok() {
            continue;
        }
        let text = fs::read(entry.path()).map_err(failed("read", &entry.path()))?;
        fs::create_dir_all(&to).map_err(failed("make", &to))?;
        sovereign_runtime::file::replace(&place, &text, 0o644)
            .map_err(|error| failed("write", &place)(error.source))?;
    }
    Ok(())
}

/// Removes a folder, where there is one.
///
/// # Errors
/// When it stays.
pub(crate) fn remove(folder: &Path) -> Result<(), RecoverError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Makes a folder for this user alone, where there is none.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make(folder: &Path) -> Result<(), RecoverError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))
}

/// A recovery under way. The stack is locked.
pub(crate) struct Recovery<'a> {
    context: &'a Context,
    archive: Archive,
    pub(crate) state: StateFolder,
    pub(crate) progress: Progress,
    /// What is back by now.
    pub(crate) back: Vec<Back>,
    /// What is not, and why.
    pub(crate) remarks: Vec<String>,
}

impl<'a> Recovery<'a> {
    /// One out of `archive`, into the state folder `state`.
    pub(crate) fn new(context: &'a Context, archive: Archive, state: StateFolder) -> Self {
        let progress = context.output.progress();
        Self { context, archive, state, progress, back: Vec::new(), remarks: Vec::new() }
    }

    /// The snapshots of a subject, the newest first.
    fn snapshots(&self, subject: &Subject) -> Result<Vec<Snapshot>, Failure> {
        let all = self.archive.inventory()?.snapshots;
        let mut of_it: Vec<_> = all.into_iter().filter(|snapshot| snapshot.subject.as_ref() == Some(subject)).collect();
        of_it.reverse();
        Ok(of_it)
    }

    /// Tries `restore` on the snapshots of a subject, the newest first, until one can be had as it was.
    fn newest_whole<T>(
        &mut self,
        subject: &Subject,
        mut restore: impl FnMut(&Self, &Snapshot) -> Result<T, Failure>,
    ) -> Result<Option<(Snapshot, T)>, Failure> {
        let mut last = None;
        for snapshot in self.snapshots(subject)? {
            match restore(self, &snapshot) {
                Ok(restored) => return Ok(Some((snapshot, restored))),
                Err(failure) => {
                    let why = failure.chain().join(": ");
                    self.remarks.push(format!("snapshot {} of {subject} cannot be restored: {why}", snapshot.short()));
                    last = Some(failure);
                }
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Restores what the stack knew of itself, into a folder that is returned.
    ///
    /// # Errors
    /// When the archive has none that can be read.
    pub(crate) fn state_part(&mut self) -> Result<PathBuf, Failure> {
        let scratch = self.state.path().join("recovering");
        let restored = self.newest_whole(&Subject::State, |this, snapshot| {
            remove(&scratch)?;
            let restored = this.archive.contents(snapshot)?.restore(None, &scratch, &|_| {})?;
            Ok(restored)
        })?;
        let (snapshot, restored) =
            restored.ok_or_else(|| RecoverError::NoState { folder: self.archive.folder().to_owned() })?;
        self.back.push(Back {
            of: Subject::State.to_string(),
            snapshot: snapshot.id,
            taken_unix: snapshot.taken_unix,
            files: restored.files,
            bytes: restored.bytes,
            examined: None,
        });
        Ok(scratch)
    }

    /// Puts epochs, hosts, journal, what providers gave and public certificates where they belong. The CA follows from the words, and so do working keys.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn put_state(&self, scratch: &Path) -> Result<(), Failure> {
        // What is known of backups is written down there.
        make(&self.state.archive())?;
        let epochs = (scratch.join("epochs.json"), secrets::epochs_file(&self.state));
        let mut within = Vec::new();
        for (name, there) in [("journal", self.state.journal()), ("providers", self.state.providers())] {
            let folder = scratch.join(name);
            let files = match fs::read_dir(&folder) {
                Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(failed("read", &folder))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(failed("read", &folder)(error).into()),
            };
            within.extend(files.into_iter().map(|file| (file.path(), there.join(file.file_name()))));
        }
        let hosts = (scratch.join("hosts.json"), self.state.hosts_record());
        let primaries = (scratch.join("primaries.json"), self.state.primaries());
        let datacenters = (scratch.join("datacenters.json"), self.state.datacenters());
        let adopted = (scratch.join("adopted.json"), self.state.adopted());
        let zone_keys = (scratch.join("zone-keys.json"), self.state.zone_keys());
        for (from, to) in [epochs, zone_keys, hosts, primaries, datacenters, adopted].into_iter().chain(within) {
            let is_file = from.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_file || to.symlink_metadata().is_ok() {
                continue;
            }
            let text = fs::read(&from).map_err(failed("read", &from))?;
            make(to.parent().unwrap_or(self.state.path()))?;
            sovereign_runtime::file::replace(&to, &text, 0o600).map_err(|error| failed("write", &to)(error.source))?;
        }
        back::bring_back(&scratch.join("certificates"), &self.state)?;
        Ok(())
    }

    /// Sees to it that the archive lies where the stack file says, and that the stack knows it.
    ///
    /// # Errors
    /// When it cannot be copied or opened there.
    pub(crate) fn bring_archive(
        &mut self,
        declared: &Declared,
        known: &Path,
        password: &Password,
    ) -> Result<PathBuf, Failure> {
        let (from, to) = (self.archive.folder().to_owned(), backup::repository(declared));
        let real = |path: &Path| fs::canonicalize(path).ok();
        if real(&to).is_none() || real(&from) != real(&to) {
            if !to.join("config").is_file() {
                let stage = self.progress.stage("copy the archive to its place");
                let unreadable = self.archive.bring_to(&to, &|done, all| {
                    stage.expect_bytes(all);
                    stage.reach(done);
                })?;
                stage.finish();
                self.remarks.extend(unreadable.iter().map(|file| {
                    format!("{file} of the copy cannot be read: what needs it does not come back from here")
                }));
            }
            self.archive = Archive::open_or_create(&to, known, password)?;
        } else {
            self.archive.note(known)?;
        }
        Ok(to)
    }

    /// Where images are in the archive, nothing has to be fetched. Where that fails, `up` fetches and builds them.
    pub(crate) fn bring_images(&mut self, declared: &Declared) {
        match backup::images::bring_back(self.context, declared, &self.archive, &self.progress) {
            Ok(Some(brought)) => {
                let brought = brought.into_iter().map(|digest| format!("image {} is back", digest.short()));
                self.remarks.extend(brought);
            }
            Ok(None) => {}
            Err(failure) => {
                let why = failure.chain().join(": ");
                self.remarks.push(format!("images cannot be brought back, so `up` builds them: {why}"));
            }
        }
    }

    /// Brings a site back, as far as it can be.
    ///
    /// # Errors
    /// When no snapshot of it can be restored.
    pub(crate) fn site(&mut self, declared: &Declared, site: &Site) -> Result<(), Failure> {
        let name = &site.name;
        let row = match &site.app {
            App::Upstream { .. } => {
                let subject = Subject::Site(name.clone());
                self.remarks.push(if self.snapshots(&subject)?.is_empty() {
                    format!("site {name} is a service of yours: its data is yours to bring back")
                } else {
                    format!(
                        "site {name} is a service of yours: once it runs, `sovereign restore {name} --to FOLDER` and \
                         `sovereign site load {name} --from FOLDER/data.dump`"
                    )
                });
                None
            }
            App::Static { folder } => self.static_site(name, folder)?,
            App::Ghost if site.host(&declared.stack).is_some() => {
                self.remarks.push(format!(
                    "site {name} is on a host: what is on it is left as it is; where nothing of it is left, `sovereign \
                     restore {name}` brings it there from the archive; where the host is lost too, add another one first"
                ));
                None
            }
            App::Ghost => self.ghost(declared, site)?,
        };
        self.back.extend(row);
        Ok(())
    }

    fn no_snapshot(&mut self, name: &SiteName) {
        self.remarks.push(format!("the archive has no snapshot of site {name}: it begins empty"));
    }

    /// Restores it beside its folder, and takes the folder's place when that is empty or not there.
    fn static_site(&mut self, name: &SiteName, folder: &Path) -> Result<Option<Back>, Failure> {
        let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        if folder.symlink_metadata().is_ok() && !is_empty {
            self.remarks.push(format!("the folder of site {name} is there already: {}", folder.display()));
            return Ok(None);
        }
        let mut beside = folder.as_os_str().to_owned();
        beside.push(".recovered");
        let beside = PathBuf::from(beside);
        let stage = self.progress.stage(format!("restore {name}"));
        let restored = self.newest_whole(&Subject::Site(name.clone()), |this, snapshot| {
            remove(&beside)?;
            let contents = this.archive.contents(snapshot)?;
            make(beside.parent().unwrap_or(Path::new("/")))?;
            sovereign_archive::room_for(beside.parent().unwrap_or(Path::new("/")), contents.manifest().bytes())?;
            stage.expect_bytes(contents.manifest().bytes());
            Ok(contents.restore(None, &beside, &|bytes| stage.reach(bytes))?)
        })?;
        let Some((snapshot, restored)) = restored else {
            self.no_snapshot(name);
            return Ok(None);
        };
        let files = beside.join("files");
        fs::rename(&files, folder).map_err(failed("move", &files))?;
        remove(&beside)?;
        stage.finish();
        self.note(snapshot, Subject::Site(name.clone()), restored.files, restored.bytes, None).map(Some)
    }

    fn ghost(&mut self, declared: &Declared, site: &Site) -> Result<Option<Back>, Failure> {
        let (name, folder) = (&site.name, Folder::of(&declared.state, site));
        if let Some(intent) = folder.pending()? {
            folder.carry_out(&intent)?;
            self.remarks.push(format!("the data of site {name} is back since an earlier run, which was cut off"));
            return Ok(None);
        }
        if folder.is_live() {
            self.remarks.push(format!("site {name} has data already: nothing was put over it"));
            return Ok(None);
        }
        let stage = self.progress.stage(format!("restore {name}"));
        let context = self.context;
        let restored = self.newest_whole(&Subject::Site(name.clone()), |this, snapshot| {
            let contents = this.archive.contents(snapshot)?;
            let staged = restore::restore(&contents, snapshot.short(), Form::Sqlite, &folder, &stage)?;
            // On an empty machine there is nothing to look with before `up` has built it; Ghost looks then.
            let examined = match Ghost::of(context, declared, site) {
                Ok(ghost) => Some(restore::check(&ghost, &folder)?),
                Err(_) => None,
            };
            Ok((staged, examined))
        })?;
        let Some((snapshot, (staged, examined))) = restored else {
            self.no_snapshot(name);
            return Ok(None);
        };
        let origin = Origin::Snapshot { id: snapshot.id.clone(), taken_unix: snapshot.taken_unix };
        let intent = Intent::new(origin, 1, folder.changes(&folder.staged())?);
        folder.keep(&intent)?;
        folder.carry_out(&intent)?;
        stage.finish();
        self.note(snapshot, Subject::Site(name.clone()), staged.files, staged.bytes, examined).map(Some)
    }

    /// It was restored and compared: that is what a proof says.
    fn note(
        &self,
        snapshot: Snapshot,
        subject: Subject,
        files: u64,
        bytes: u64,
        examined: Option<String>,
    ) -> Result<Back, Failure> {
        let proof = Proof {
            snapshot: snapshot.id.clone(),
            taken_unix: snapshot.taken_unix,
            verified_unix: unix_seconds(SystemTime::now()),
            files,
            bytes,
            examined: examined.clone(),
            whole_unix: Some(unix_seconds(SystemTime::now())),
        };
        Record::note(&self.state, &subject, proof)?;
        let of = subject.to_string();
        Ok(Back { of, snapshot: snapshot.id, taken_unix: snapshot.taken_unix, files, bytes, examined })
    }

    /// Sites that the archive has, and the stack file has not any more.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub(crate) fn name_undeclared(&mut self, declared: &Declared) -> Result<(), Failure> {
        let snapshots = self.archive.inventory()?.snapshots;
        let mut names: Vec<_> = snapshots
            .into_iter()
            .filter_map(|snapshot| match snapshot.subject {
                Some(Subject::Site(name)) if !declared.stack.sites.contains_key(&name) => Some(name),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        self.remarks.extend(names.into_iter().map(|name| {
            format!("site {name} is in the archive and not in the stack file: `sovereign restore {name} --to FOLDER`")
        }));
        Ok(())
    }
}
