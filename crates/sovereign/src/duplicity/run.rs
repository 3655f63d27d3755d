//! Duplicity, started and listened to.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context as Hasher, SHA1_FOR_LEGACY_USE_ONLY};
use rustix::event::{PollFd, PollFlags, Timespec};
use sovereign_engine::embedded::once::Once;
use sovereign_engine::embedded::talk::{Talk, talk};
use sovereign_model::layout::StateFolder;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::chain::{self, Moment, Set};
use super::log::Log;
use super::{Address, DuplicityError};
use crate::output::printable;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/bin/duplicity";
/// How long it may take to end after it has said why it must: the one of Debian 12 goes on for ever after it has found a
/// damaged volume.
const GRACE: Duration = Duration::from_secs(5);
/// How soon it is noticed that it is to end.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// A manifest has some 200 bytes per volume and some 50 per changed file.
const LONGEST_MANIFEST: u64 = 256 << 20;
/// Bytes that are hashed at a time.
const PIECE: usize = 256 << 10;
/// The one thing it does that needs no passphrase.
const STATUS: &str = "collection-status";
/// What it is told of itself: where its own files lie does not depend on where it is run.
const NAME: &str = "import";

/// Duplicity, and an archive for it to read.
pub(crate) struct Duplicity<'a> {
    state: &'a StateFolder,
    address: &'a Address,
    /// Ours, for its own files.
    scratch: &'a Path,
    /// The operator's own keys, when the archive is encrypted to one of them.
    keyring: Option<&'a Path>,
    time: Option<&'a Moment>,
    /// Ends it.
    stop: &'a CancellationToken,
    /// What is kept in the archive, when it is ours to write.
    data: Option<&'a Path>,
    passphrase: Option<Zeroizing<String>>,
    is_encrypted: bool,
}

/// An archive as duplicity tells of it.
#[derive(Debug)]
pub(crate) struct Status {
    /// How many full backups it has.
    pub(crate) full: usize,
    /// How many increments.
    pub(crate) increments: usize,
    /// Whether it is encrypted.
    pub(crate) is_encrypted: bool,
}

/// What a look at every volume found.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The moment that will be restored.
    pub(crate) state: Moment,
    /// How many volumes are what their manifests say.
    pub(crate) volumes: usize,
    /// The bytes of those that are there.
    pub(crate) bytes: u64,
    /// What is damaged, and not needed for what is asked.
    pub(crate) damaged: Vec<String>,
}

impl<'a> Duplicity<'a> {
    /// Looks for the program, and for the archive where that can be done without it.
    pub(crate) fn new(
        state: &'a StateFolder,
        address: &'a Address,
        scratch: &'a Path,
        keyring: Option<&'a Path>,
        time: Option<&'a Moment>,
        stop: &'a CancellationToken,
    ) -> Result<Self, DuplicityError> {
        if !Path::new(PROGRAM).is_file() {
            return Err(DuplicityError::NotInstalled);
        }
        if let Address::Folder(folder) = address {
            // Duplicity makes one that is not there.
            fs::read_dir(folder).map_err(|source| DuplicityError::Folder { path: folder.clone(), source })?;
        }
        for own in ["cache", "gpg", "tmp"] {
            let path = scratch.join(own);
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|source| DuplicityError::Scratch { path, source })?;
        }
        Ok(Self { state, address, scratch, keyring, time, stop, data: None, passphrase: None, is_encrypted: false })
    }

    /// The same for an archive of our own in a folder, in which `data` is kept.
    pub(crate) fn keeping(
        state: &'a StateFolder,
        archive: &'a Address,
        data: &'a Path,
        scratch: &'a Path,
        passphrase: Zeroizing<String>,
        stop: &'a CancellationToken,
    ) -> Result<Self, DuplicityError> {
        let reading = Self::new(state, archive, scratch, None, None, stop)?;
        Ok(Self { data: Some(data), passphrase: Some(passphrase), is_encrypted: true, ..reading })
    }

    /// Adds the data to the archive: as an increment, unless the last full backup is older than that. What a run that was
    /// killed has left half is removed first.
    pub(crate) fn keep(&self, full_after: Option<Duration>) -> Result<(), DuplicityError> {
        let Some(data) = self.data else { return Ok(()) };
        let after = full_after.map(|after| format!("--full-if-older-than={}s", after.as_secs()));
        self.run_with(&["cleanup", "--force"], None, None)?;
        let options: Vec<&str> = ["--allow-source-mismatch"].into_iter().chain(after.as_deref()).collect();
        self.run_with(&options, Some(data), None).map(drop)
    }

    /// Adds all of the data anew.
    pub(crate) fn keep_full(&self) -> Result<(), DuplicityError> {
        self.run_with(&["full", "--allow-source-mismatch"], self.data, None).map(drop)
    }

    /// Which sets there are.
    pub(crate) fn status(&mut self) -> Result<Status, DuplicityError> {
        let log = self.run(STATUS, None)?;
        let full = log.sets.iter().filter(|set| set.full).count();
        if full == 0 {
            return Err(DuplicityError::Nothing(self.address.to_string()));
        }
        self.is_encrypted = log.sets.iter().any(|set| set.encrypted);
        Ok(Status { full, increments: log.sets.len() - full, is_encrypted: self.is_encrypted })
    }

    /// What opens the archive, from now on.
    pub(crate) fn unlock(&mut self, passphrase: Zeroizing<String>) {
        self.passphrase = Some(passphrase);
    }

    /// Makes manifests and lists of files readable, which shows whether the passphrase is the right one.
    pub(crate) fn lists(&self) -> Result<(), DuplicityError> {
        self.run("list-current-files", None).map(drop)
    }

    /// Finds what the asked state consists of, and compares every volume in the archive's folder with its manifest. `seen`
    /// is told how many bytes of how many. Elsewhere duplicity compares those that it reads.
    pub(crate) fn check(&self, seen: &dyn Fn(u64, u64)) -> Result<Checked, DuplicityError> {
        let sets = self.sets()?;
        let chain = chain::at(&sets, self.time);
        let Some(last) = chain.last() else {
            let first = sets.iter().map(|set| &set.at).min_by_key(|at| at.to_string());
            return Err(match self.time {
                Some(time) => DuplicityError::TooEarly { time: time.clone(), first: first.cloned() },
                None => DuplicityError::Nothing(self.address.to_string()),
            });
        };
        let mut checked = Checked { state: last.at.clone(), volumes: 0, bytes: 0, damaged: Vec::new() };
        let Address::Folder(folder) = self.address else { return Ok(checked) };
        let there = files(folder)?;
        let there: BTreeMap<_, _> =
            there.iter().filter_map(|(file, bytes)| Some((chain::volume(file)?, (file, *bytes)))).collect();
        let (mut damaged, mut volumes) = (Vec::<(&Set, String)>::new(), Vec::new());
        for set in &sets {
            for (number, sum) in &set.volumes {
                match there.get(&(set.name.as_str(), *number)) {
                    Some((file, bytes)) => volumes.push((set, *file, *bytes, sum)),
                    None => damaged.push((set, format!("{}.vol{number} is missing", set.name))),
                }
            }
        }
        let total = volumes.iter().map(|(_, _, bytes, _)| bytes).sum();
        for (set, file, bytes, sum) in volumes {
            if self.stop.is_cancelled() {
                return Err(DuplicityError::Stopped);
            }
            let path = folder.join(file);
            let found = sha1(&path).map_err(|source| DuplicityError::Folder { path, source })?;
            if found == *sum {
                checked.volumes += 1;
            } else {
                damaged.push((set, format!("{} is not what its manifest says", printable(file))));
            }
            checked.bytes += bytes;
            seen(checked.bytes, total);
        }
        let is_good = |set: &&&Set| damaged.iter().all(|(bad, _)| bad != *set);
        let good = chain.iter().take_while(is_good).count();
        checked.damaged = damaged.iter().map(|(_, what)| what.clone()).collect();
        if good == chain.len() {
            return Ok(checked);
        }
        let before = chain.iter().take_while(is_good).last().map(|set| set.at.clone());
        Err(DuplicityError::Damaged { files: checked.damaged, before })
    }

    /// Restores into a folder that is not there yet. Gives duplicity's warnings.
    pub(crate) fn restore(&self, to: &Path) -> Result<Vec<String>, DuplicityError> {
        Ok(self.run("restore", Some(to))?.warnings)
    }

    /// From the manifests that duplicity has made readable.
    fn sets(&self) -> Result<Vec<Set>, DuplicityError> {
        let folder = self.scratch.join("cache").join(NAME);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DuplicityError::Scratch { path, source }
        };
        let mut sets = Vec::new();
        for (name, _) in files(&folder)?.into_iter().filter(|(name, _)| name.ends_with(".manifest")) {
            let path = folder.join(&name);
            let mut text = Vec::new();
            let file = File::open(&path).map_err(failed(&path))?;
            file.take(LONGEST_MANIFEST).read_to_end(&mut text).map_err(failed(&path))?;
            sets.extend(Set::parse(&name, &String::from_utf8_lossy(&text)));
        }
        Ok(sets)
    }

    fn run(&self, action: &str, to: Option<&Path>) -> Result<Log, DuplicityError> {
        self.run_with(&[action], None, to)
    }

    fn run_with(&self, action: &[&str], from: Option<&Path>, to: Option<&Path>) -> Result<Log, DuplicityError> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or(io::ErrorKind::InvalidFilename.into());
        let named = |part: &str| text(&self.scratch.join(part)).map_err(DuplicityError::Run);
        let mut args: Vec<String> = action.iter().map(|word| (*word).to_owned()).collect();
        args.extend(["--log-fd=1".to_owned(), format!("--name={NAME}")]);
        args.extend([format!("--archive-dir={}", named("cache")?), format!("--tempdir={}", named("tmp")?)]);
        if action != [STATUS] && !self.is_encrypted {
            args.push("--no-encryption".to_owned());
        }
        args.extend((self.keyring.is_some() && self.passphrase.is_none()).then(|| "--use-agent".to_owned()));
        if to.is_some() {
            args.push("--do-not-restore-ownership".to_owned());
            args.extend(self.time.map(|time| format!("--time={time}")));
        }
        args.extend(from.map(text).transpose().map_err(DuplicityError::Run)?);
        args.push(self.address.url());
        args.extend(to.map(text).transpose().map_err(DuplicityError::Run)?);
        let mut running = self.start(args).map_err(DuplicityError::Run)?;
        let log = running.listen(self.stop).map_err(DuplicityError::Run)?;
        if self.stop.is_cancelled() {
            running.kill();
            return Err(DuplicityError::Stopped);
        }
        let place = self.address.to_string();
        let of = |error| DuplicityError::of(error, log.file.as_deref(), &place);
        if let Some(error) = &log.error {
            running.kill();
            return Err(of(error));
        }
        match running.ended().map_err(DuplicityError::Run)? {
            None => Ok(log),
            Some(said) => Err(DuplicityError::Failed(said)),
        }
    }

    fn start(&self, args: Vec<String>) -> io::Result<Running> {
        let home = self.keyring.map_or_else(|| self.scratch.join("gpg"), Path::to_owned);
        let (process, from, mut to) = match (self.address, self.keyring) {
            (Address::Folder(folder), None) => {
                // Confined programs get a few variables; this is one more, and no secret.
                let variable = format!("GNUPGHOME={}", home.display());
                let program = [variable, "LC_ALL=C.UTF-8".to_owned(), PROGRAM.to_owned()];
                let once = Once {
                    program: "/usr/bin/env".into(),
                    args: program.into_iter().chain(args).collect(),
                    working_dir: self.scratch.to_owned(),
                    read: vec![self.data.map_or_else(|| fs::canonicalize(folder), |data| Ok(data.to_owned()))?],
                    write: [self.scratch.to_owned()].into_iter().chain(self.data.map(|_| folder.clone())).collect(),
                    user: None,
                    patience: Duration::MAX,
                };
                let (talk, from, to) = talk(self.state, &once)?;
                (Process::Confined(talk), from, to)
            }
            _ => {
                let (from, its_words) = io::pipe()?;
                let (its_questions, to) = io::pipe()?;
                // Without a terminal to ask on, it reads the passphrase from its standard input. It ends with this process.
                let mut command = Command::new("/usr/bin/setsid");
                command
                    .args(["setpriv", "--pdeathsig", "KILL", PROGRAM])
                    .args(args)
                    .env("GNUPGHOME", home)
                    .env("LC_ALL", "C.UTF-8");
                command.env_remove("PASSPHRASE").env_remove("SIGN_PASSPHRASE").env_remove("LANGUAGE");
                command.stdin(its_questions).stdout(its_words).stderr(Stdio::null());
                (Process::Plain(command.spawn()?), from, to)
            }
        };
        if let Some(passphrase) = &self.passphrase {
            // It is asked for again where it is confirmed. One that was not read is nobody's business: the pipe ends with us.
            for _ in 0..4 {
                let _ = to.write_all(passphrase.as_bytes()).and_then(|()| to.write_all(b"\n"));
            }
        }
        Ok(Running { process, from })
    }
}

enum Process {
    Confined(Talk),
    Plain(Child),
}

struct Running {
    process: Process,
    from: PipeReader,
}

impl Running {
    /// Hears it to its end, or until it has said why it fails and does not end.
    fn listen(&mut self, stop: &CancellationToken) -> io::Result<Log> {
        let (mut log, mut some) = (Log::default(), vec![0; PIECE]);
        let mut failed: Option<Instant> = None;
        while !stop.is_cancelled() {
            if log.has_failed() && failed.get_or_insert_with(Instant::now).elapsed() > GRACE {
                break;
            }
            let mut polled = [PollFd::new(&self.from, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&LOOK_UP)) {
                Err(rustix::io::Errno::INTR) | Ok(0) => continue,
                other => other?,
            };
            match self.from.read(&mut some)? {
                0 => break,
                count => log.hear(&some[..count]),
            }
        }
        Ok(log)
    }

    /// Waits for its end. Says why it did not go well.
    fn ended(self) -> io::Result<Option<String>> {
        let (status, said) = match self.process {
            Process::Confined(talk) => talk.ended()?,
            Process::Plain(mut child) => (child.wait()?, String::new()),
        };
        let said: Vec<&str> = said.split_whitespace().collect();
        Ok((!status.success()).then(|| if said.is_empty() { status.to_string() } else { printable(&said.join(" ")) }))
    }

    /// It has said what there is to say.
    fn kill(self) {
        match self.process {
            Process::Confined(talk) => drop(talk.end()),
            Process::Plain(mut child) => {
                let _ = child.kill(); // it may have ended
                let _ = child.wait();
            }
        }
    }
}

/// The plain files in a folder, with their sizes.
fn files(folder: &Path) -> Result<Vec<(String, u64)>, DuplicityError> {
    let failed = |source| DuplicityError::Folder { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push((name, metadata.len()));
        }
    }
    Ok(files)
}

fn sha1(path: &Path) -> io::Result<String> {
    let (mut hasher, mut piece) = (Hasher::new(&SHA1_FOR_LEGACY_USE_ONLY), vec![0; PIECE]);
    let mut file = File::open(path)?;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(hasher.finish())),
            count => hasher.update(&piece[..count]),
        }
    }
}
