//! `sovereign recover`: from an empty machine, a copy of the archive and the 24 words to a stack that `up` brings up.
//!
//! Each thing is put in its place whole, the seed and the stack file before the sites, and never over another one: what
//! is there already is what a run before has brought, or the operator's. So a run that was cut off is run again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sovereign_archive::copy::{self, CopyError};
use sovereign_archive::{Archive, ArchiveError, Password, Snapshot, Subject};
use sovereign_keys::{Passphrase, Purpose, RootSeed, SeedError, SeedFile, WorkingKeys};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Site};
use sovereign_model::{SiteName, StackName, file};

use super::backup::short;
use super::seed::read_words;
use crate::backup::{self, Ghost, Proof, Record, label};
use crate::cli::RecoverArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Cell, Page, Progress, Report, StageTime, Table, figures};
use crate::places::Places;
use crate::restore::swap::{Intent, Origin};
use crate::restore::{self, Folder};
use crate::secrets;
use crate::world::unix_seconds;

/// What is back.
#[derive(Debug, Serialize)]
pub(crate) struct Recovered {
    stack: StackName,
    fingerprint: String,
    stack_file: PathBuf,
    state: PathBuf,
    archive: PathBuf,
    back: Vec<Row>,
    /// What is not, and why.
    remarks: Vec<String>,
    stages: Vec<StageTime>,
    /// How long it took: what an operator waits before `up`.
    seconds: f64,
    now_unix: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    of: String,
    snapshot: String,
    /// What was written after that is lost.
    taken_unix: i64,
    files: u64,
    bytes: u64,
    /// What a look into the database said, where there was something to look with.
    examined: Option<String>,
}

impl Report for Recovered {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["OF", "SNAPSHOT", ">TAKEN", ">FILES", ">SIZE", "LOOKED INTO"]);
        for row in &self.back {
            let taken = u64::try_from(row.taken_unix).unwrap_or_default();
            table.row([
                Cell::from(&row.of),
                short(&row.snapshot).into(),
                format!("{} ago", figures::seconds(self.now_unix.saturating_sub(taken))).into(),
                row.files.into(),
                figures::bytes(row.bytes).into(),
                row.examined.as_deref().unwrap_or_default().into(),
            ]);
        }
        page.table(&table);
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        page.line(format_args!("the stack file is {}", self.stack_file.display()));
        page.line(format_args!("the state is in {}, the archive in {}", self.state.display(), self.archive.display()));
        let took = figures::duration(Duration::from_secs_f64(self.seconds));
        page.line(format_args!("stack {} is back after {took} (fingerprint {})", self.stack, self.fingerprint));
        page.help("`sovereign up` brings it up");
    }
}

/// Why nothing, or not all, comes back.
#[derive(Debug, thiserror::Error)]
enum RecoverError {
    #[error("nothing in {} says which stack's archive it is", .folder.display())]
    NoName { folder: PathBuf },
    #[error("these are 24 good words, but as those of stack {stack} they do not open the archive in {}", .folder.display())]
    OtherWords { stack: StackName, folder: PathBuf },
    #[error("the archive in {} has no snapshot of a stack's state that can be read", .folder.display())]
    NoState { folder: PathBuf },
    #[error("the archive's stack file is that of stack {found}, not of {expected}")]
    OtherStack { found: StackName, expected: StackName },
    #[error("there is another stack file already: {}", .path.display())]
    StackFileThere { path: PathBuf },
    #[error("the stack file in the archive has problems: {0}")]
    BadStackFile(String),
    #[error("cannot {action} {}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

impl Reason for RecoverError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoName { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoName { .. } => {
                "say it with `--name`: every secret follows from the words and the stack's name".to_owned()
            }
            Self::OtherWords { stack, .. } => format!(
                "are they this stack's, and is {stack} its name (`--name`)? `sovereign seed show` printed them once"
            ),
            Self::NoState { .. } => "is it the right folder? `restic` lists what is in it: docs/archive.md".to_owned(),
            Self::OtherStack { found, .. } => format!("`--name {found}`"),
            Self::StackFileThere { path } => format!(
                "nothing is written over it: move {} away, or name another place with `--stack FILE`",
                path.display()
            ),
            Self::BadStackFile(_) => "a newer `sovereign` may have written it: use that one".to_owned(),
            Self::File { .. } => return None,
        })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoverError {
    let path = path.to_owned();
    move |source| RecoverError::File { action, path, source }
}

/// `recover`.
pub(crate) fn run(context: &Context, args: &RecoverArgs) -> Result<Recovered, Failure> {
    let places = context.places()?;
    let folder = absolute(&args.archive).map_err(failed("find", &args.archive))?;
    let stack = args.name.clone().or_else(|| label::read(&folder));
    let stack = stack.ok_or_else(|| RecoverError::NoName { folder: folder.clone() })?;
    let seed = read_words(context)?;
    let state = StateFolder::new(places.state(&stack));
    let passphrase = new_passphrase(context, args, &stack, &state, &seed)?;
    // What comes before is the operator's time.
    let began = Instant::now();
    let progress = context.output.progress();
    let password = password(&stack, &seed)?;
    let known = backup::known_in(&state);
    let archive = open(&folder, &known, &password, &stack)?;
    sovereign_engine::state::prepare(&state, &stack, env!("CARGO_PKG_VERSION"))?;
    let _lock = secrets::lock(&state, "recover")?;

    let mut recovery = Recovery { context, archive, state, progress, back: Vec::new(), remarks: Vec::new() };
    let scratch = recovery.state_part(&folder)?;
    let stack_file = put_stack_file(&places, &scratch, &stack)?;
    SeedFile::at(&recovery.state.seed(), stack.clone()).restore(&seed, passphrase.as_ref())?;
    secrets::note_words_seen(&recovery.state, &seed.fingerprint(&stack))?;
    recovery.put_state(&scratch)?;
    remove(&scratch)?;

    let declared = Declared::load(context)?;
    let place = recovery.bring_archive(&declared, &known, &password)?;
    recovery.bring_images(&declared);
    for site in declared.stack.sites.values() {
        recovery.site(&declared, site)?;
    }
    recovery.name_undeclared(&declared)?;
    let Recovery { state, progress, back, remarks, .. } = recovery;
    Ok(Recovered {
        fingerprint: seed.fingerprint(&stack).to_string(),
        stack,
        stack_file,
        state: state.path().to_owned(),
        archive: place,
        back,
        remarks,
        stages: progress.times(),
        seconds: began.elapsed().as_secs_f64(),
        now_unix: unix_seconds(SystemTime::now()),
    })
}

/// The passphrase for the seed's file, asked for before anything is done; a seed that is there has one, or none.
fn new_passphrase(
    context: &Context,
    args: &RecoverArgs,
    stack: &StackName,
    state: &StateFolder,
    seed: &RootSeed,
) -> Result<Option<Passphrase>, Failure> {
    match SeedFile::at(&state.seed(), stack.clone()).open() {
        Ok(stored) if !stored.is(seed) => Err(SeedError::Exists { path: state.seed() }.into()),
        Ok(stored) if !stored.is_encrypted() => Ok(None),
        Ok(_) => Ok(Some(secrets::passphrase(context, args.passphrase_file.as_deref())?)),
        Err(SeedError::Missing { .. }) => Ok(secrets::new_passphrase(context, args.passphrase_file.as_deref())?),
        Err(error) => Err(error.into()),
    }
}

fn password(stack: &StackName, seed: &RootSeed) -> Result<Password, Failure> {
    let keys = WorkingKeys::imagined(stack, [&Purpose::Archive], seed);
    Ok(Password::new(keys.archive_password()?.expose().to_owned()))
}

fn open(folder: &Path, known: &Path, password: &Password, stack: &StackName) -> Result<Archive, Failure> {
    let wrong = |error: ArchiveError| match error {
        ArchiveError::WrongKey { folder } => RecoverError::OtherWords { stack: stack.clone(), folder }.into(),
        other => Failure::from(other),
    };
    match Archive::open(folder, known, password) {
        // A disk that was mounted so that nothing happens to it.
        Err(ArchiveError::File { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let copy = Archive::open_copy(Arc::new(copy::Folder::new(folder)), known, password);
            copy.map_err(|error| match error {
                CopyError::Archive(error) => wrong(error),
                other => other.into(),
            })
        }
        other => other.map_err(wrong),
    }
}

/// Puts the stack file in its place; a file that is there must be the same.
fn put_stack_file(places: &Places, scratch: &Path, stack: &StackName) -> Result<PathBuf, Failure> {
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

fn remove(folder: &Path) -> Result<(), RecoverError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn make(folder: &Path) -> Result<(), RecoverError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))
}

/// A recovery under way. The stack is locked.
struct Recovery<'a> {
    context: &'a Context,
    archive: Archive,
    state: StateFolder,
    progress: Progress,
    back: Vec<Row>,
    remarks: Vec<String>,
}

impl Recovery<'_> {
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
    fn state_part(&mut self, folder: &Path) -> Result<PathBuf, Failure> {
        let scratch = self.state.path().join("recovering");
        let restored = self.newest_whole(&Subject::State, |this, snapshot| {
            remove(&scratch)?;
            let restored = this.archive.contents(snapshot)?.restore(None, &scratch, &|_| {})?;
            Ok(restored)
        })?;
        let (snapshot, restored) = restored.ok_or_else(|| RecoverError::NoState { folder: folder.to_owned() })?;
        self.back.push(Row {
            of: Subject::State.to_string(),
            snapshot: snapshot.id,
            taken_unix: snapshot.taken_unix,
            files: restored.files,
            bytes: restored.bytes,
            examined: None,
        });
        Ok(scratch)
    }

    /// Puts epochs and journal where they belong. The CA follows from the words, and so do working keys.
    fn put_state(&self, scratch: &Path) -> Result<(), Failure> {
        let epochs = (scratch.join("epochs.json"), secrets::epochs_file(&self.state));
        let journal = scratch.join("journal");
        let runs = match fs::read_dir(&journal) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(failed("read", &journal))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read", &journal)(error).into()),
        };
        let runs = runs.into_iter().map(|entry| (entry.path(), self.state.journal().join(entry.file_name())));
        for (from, to) in std::iter::once(epochs).chain(runs) {
            let is_file = from.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_file || to.symlink_metadata().is_ok() {
                continue;
            }
            let text = fs::read(&from).map_err(failed("read", &from))?;
            make(to.parent().unwrap_or(self.state.path()))?;
            sovereign_runtime::file::replace(&to, &text, 0o600).map_err(|error| failed("write", &to)(error.source))?;
        }
        Ok(())
    }

    /// Sees to it that the archive lies where the stack file says, and that the stack knows it.
    fn bring_archive(&mut self, declared: &Declared, known: &Path, password: &Password) -> Result<PathBuf, Failure> {
        let (from, to) = (self.archive.folder().to_owned(), backup::repository(declared));
        make(&self.state.archive())?;
        let real = |path: &Path| fs::canonicalize(path).ok();
        if real(&to).is_none() || real(&from) != real(&to) {
            if !to.join("config").is_file() {
                let stage = self.progress.stage("copy the archive to its place");
                self.archive.bring_to(&to, &|done, all| {
                    stage.expect_bytes(all);
                    stage.reach(done);
                })?;
                stage.finish();
            }
            self.archive = Archive::open_or_create(&to, known, password)?;
        } else {
            self.archive.note(known)?;
        }
        Ok(to)
    }

    /// Where images are in the archive, nothing has to be fetched. Where that fails, `up` fetches and builds them.
    fn bring_images(&mut self, declared: &Declared) {
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

    fn site(&mut self, declared: &Declared, site: &Site) -> Result<(), Failure> {
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
            App::Ghost => self.ghost(declared, site)?,
        };
        self.back.extend(row);
        Ok(())
    }

    fn no_snapshot(&mut self, name: &SiteName) {
        self.remarks.push(format!("the archive has no snapshot of site {name}: it begins empty"));
    }

    /// Restores it beside its folder, and takes the folder's place when that is empty or not there.
    fn static_site(&mut self, name: &SiteName, folder: &Path) -> Result<Option<Row>, Failure> {
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

    fn ghost(&mut self, declared: &Declared, site: &Site) -> Result<Option<Row>, Failure> {
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
            let staged = restore::restore(&contents, snapshot.short(), &folder, &stage)?;
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
    ) -> Result<Row, Failure> {
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
        Ok(Row { of, snapshot: snapshot.id, taken_unix: snapshot.taken_unix, files, bytes, examined })
    }

    /// Sites that the archive has, and the stack file has not any more.
    fn name_undeclared(&mut self, declared: &Declared) -> Result<(), Failure> {
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
