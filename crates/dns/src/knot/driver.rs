//! Drives Knot: writes what it is given, has it checked, and starts or reloads it, only when something changed.
//!
//! ```text
//!  the same as current? ──yes──▶ nothing is done, but for a reload each day, or when the clock was set, that renews
//!        │ no                     signatures
//!        ▼
//!  written beside ─▶ keys brought ─▶ checked ─▶ current leads there ─▶ Knot reloads (or is started)
//!        └───────────────┴──────────────┴── refused: removed, and what is current stays
//! ```
//!
//! Knot is a child of this process: it is stopped by it and with it, and when it dies that is known at once.
//!
//! A generation is a folder; `current` is a symbolic link to one, which is replaced in one step: killed at any moment, what
//! is current is whole. The one before is kept for the operator to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use sovereign_model::DnsName;
use sovereign_runtime::file::replace;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ask::Ask;
use super::error::{DriverError, What};
use super::files::{CONF, Setup, files, zone_file};
use super::process::Process;
use super::table;

/// The link to the generation that is served.
const CURRENT: &str = "current";
/// What generations are called, before their number.
const GENERATION: &str = "generation-";
/// Signatures by geography are made when they are loaded and live for 14 days.
const RENEWED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A clock that has moved so much more or less than time has passed was set.
const SET: Duration = Duration::from_secs(60);
/// None of Knot's tools takes longer; a second is much.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Where Debian has Knot and its tools. A unit of a host has no `PATH` of its own.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Knot answers on its control socket once it has read its configuration, and has its zones soon after.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// Knot stops in a fraction of a second, unless the machine is overwhelmed.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// It is asked so often whether it does.
const BETWEEN: Duration = Duration::from_millis(50);

/// A domain's key, brought by whoever may hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its tag (RFC 4034 appendix B).
    pub tag: u16,
    /// The private key: PKCS#8, PEM.
    pub file: PathBuf,
}

/// What stays the same while it runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Knot's folder, which is only its own.
    pub folder: PathBuf,
    /// The keys of the domains: one each, two where it is being exchanged. All of them sign.
    pub keys: BTreeMap<DnsName, Vec<Key>>,
    /// The program that is Knot, and its arguments; which configuration is added to them.
    pub program: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// Nothing: Knot serves this already.
    Unchanged,
    /// Knot was told to load it.
    Reloaded,
    /// Knot did not run, and was started.
    Started,
}

/// When Knot loaded, and what this machine's clock said then.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    at: Instant,
    clock: SystemTime,
}

impl Loaded {
    /// After a day; and after the clock was set: signatures begin and end by the hour that it was taken for. A machine
    /// without a clock of its own starts in another year, and knows better soon.
    fn is_due(&self, now: Instant, clock: SystemTime) -> bool {
        let passed = now.duration_since(self.at);
        let expected = self.clock + passed;
        let set_by = clock.duration_since(expected).unwrap_or_else(|behind| behind.duration());
        passed >= RENEWED_EVERY || set_by >= SET
    }
}

/// Drives one Knot.
#[derive(Debug)]
pub struct Driver {
    options: Options,
    /// When Knot loaded the last time, as far as this process knows.
    loaded: Option<Loaded>,
    knot: Option<Process>,
}

impl Driver {
    /// For this Knot, which does not run yet.
    pub fn new(options: Options) -> Self {
        Self { options, loaded: None, knot: None }
    }

    /// The process id of Knot, while it runs.
    pub fn process(&mut self) -> Option<u32> {
        self.knot.as_mut().and_then(Process::id)
    }

    /// Waits until Knot ends; for ever where none runs. May be given up and called again.
    pub async fn ended(&mut self) -> ExitStatus {
        let Some(knot) = &mut self.knot else { return std::future::pending().await };
        let ended = knot.ended().await;
        self.knot = None;
        ended
    }

    /// Whether signatures are to be renewed.
    pub fn is_due(&self, now: Instant) -> bool {
        self.loaded.is_none_or(|loaded| loaded.is_due(now, SystemTime::now()))
    }

    /// Ends Knot, if it runs: nobody listens any more.
    pub async fn stop(&mut self) {
        if let Some(mut knot) = self.knot.take() {
            knot.stop(STOPS_WITHIN).await;
        }
    }

    /// Makes Knot serve this.
    ///
    /// # Errors
    /// When it cannot be written, Knot refuses it, or does not run. What was served before is served on.
    pub async fn bring(&mut self, setup: &Setup<'_>, now: Instant) -> Result<Brought, DriverError> {
        let folder = &self.options.folder.clone();
        for part in ["", "run", "db"] {
            let path = folder.join(part);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| DriverError::Folder { path, source })?;
        }
        let current = current(folder);
        if current.as_ref().is_some_and(|root| files(setup, folder, root).iter().all(|file| is_there(root, file))) {
            if !self.is_due(now) && self.runs().await? {
                return Ok(Brought::Unchanged);
            }
            return self.load(setup, now).await;
        }
        let next = next_generation(folder)?;
        let checked = self.write_and_check(setup, &next).await;
        let led = match checked {
            Ok(()) => lead(folder, &next),
            Err(error) => Err(error),
        };
        if let Err(error) = led {
            remove(&next);
            return Err(error);
        }
        let brought = match self.load(setup, now).await {
            Ok(brought) => brought,
            Err(error) => {
                if let Some(before) = &current {
                    lead(folder, before)?;
                    // Best effort: it refused, so it still has what it had.
                    let _ = self.load(setup, now).await;
                    remove(&next);
                }
                // It is not known what it has.
                self.loaded = None;
                return Err(error);
            }
        };
        info!(generation = %next.display(), ?brought, "the name server has new zones");
        let (kept, old): (Vec<_>, Vec<_>) = generations(folder)?
            .into_iter()
            .partition(|generation| *generation == next || Some(generation) == current.as_ref());
        old.iter().for_each(|generation| remove(generation));
        if let Err(error) = table::remove_unused(folder, &kept) {
            warn!(%error, "tables of addresses cannot be removed");
        }
        Ok(brought)
    }

    async fn write_and_check(&self, setup: &Setup<'_>, root: &Path) -> Result<(), DriverError> {
        for (name, text) in files(setup, &self.options.folder, root) {
            let path = root.join(name);
            let parent = path.parent().unwrap_or(root);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|source| DriverError::Folder { path: parent.to_owned(), source })?;
            replace(&path, text.as_bytes(), 0o600)?;
        }
        // The configuration first: Knot's other tools read it, and what it refers to.
        let conf = root.join(CONF);
        let judged = run("knotc", [OsStr::new("--config"), conf.as_os_str(), OsStr::new("conf-check")]).await?;
        refused_unless_well(&judged, || What::Configuration)?;
        for domain in &setup.names.domains {
            let (origin, zone) = (domain.name.as_str(), root.join(zone_file(domain)));
            let judged = run("kzonecheck", [OsStr::new("--origin"), origin.as_ref(), zone.as_os_str()]).await?;
            refused_unless_well(&judged, || What::Zone(domain.name.clone()))?;
            // Without it the module for geography cannot sign, and is not loaded.
            self.bring_keys(&conf, &domain.name).await?;
        }
        Ok(())
    }

    async fn bring_keys(&self, conf: &Path, domain: &DnsName) -> Result<(), DriverError> {
        let keys = self.options.keys.get(domain).ok_or_else(|| DriverError::NoKey { domain: domain.clone() })?;
        let wanted: BTreeSet<String> = keys.iter().map(|key| key.tag.to_string()).collect();
        let there = tags(&known_keys(conf, domain).await?);
        // Beside one that nobody brought none is put.
        let is_missing = |key: &&Key| there.is_subset(&wanted) && !there.contains(&key.tag.to_string());
        for key in keys.iter().filter(is_missing) {
            let mut import: Vec<String> = vec!["import-pem".into(), key.file.display().to_string()];
            // Since long ago, and not by the clock: one that is ahead would have it sign from then on only.
            let said = ["algorithm=13", "ksk=yes", "zsk=yes", "created=1", "publish=1", "ready=1", "active=1"];
            import.extend(said.map(str::to_owned));
            let imported = keymgr(conf, domain, import).await?;
            refused_unless_well(&imported, || What::Key(domain.clone()))?;
        }
        // What a file has is not what its name says.
        let known = known_keys(conf, domain).await?;
        if known.len() == wanted.len() && tags(&known) == wanted {
            return Ok(());
        }
        let wanted = wanted.into_iter().collect::<Vec<_>>().join(" and ");
        Err(DriverError::OtherKey { domain: domain.clone(), wanted, found: known.join("; ") })
    }

    /// Has Knot load what is current, or starts it.
    async fn load(&mut self, setup: &Setup<'_>, now: Instant) -> Result<Brought, DriverError> {
        let brought = if self.runs().await? {
            let reloaded = self.ask().of(&["reload"]).await?;
            refused_unless_well(&reloaded, || What::Reload)?;
            Brought::Reloaded
        } else {
            self.start(setup).await?;
            Brought::Started
        };
        self.loaded = Some(Loaded { at: now, clock: SystemTime::now() });
        Ok(brought)
    }

    /// Starts Knot, and waits until it has all zones.
    async fn start(&mut self, setup: &Setup<'_>) -> Result<(), DriverError> {
        // One that runs, and does not answer.
        self.stop().await;
        let conf = self.options.folder.join(CURRENT).join(CONF);
        let (program, arguments) = self
            .options
            .program
            .split_first()
            .ok_or_else(|| DriverError::Run { program: String::new(), source: io::ErrorKind::NotFound.into() })?;
        let started = Process::start(program, arguments, &conf);
        let mut knot = started.map_err(|source| DriverError::Run { program: program.clone(), source })?;
        let asked = self.ask();
        let has_all = async {
            loop {
                let serials = asked.serials().await?;
                if setup.names.domains.iter().all(|domain| serials.contains_key(&domain.name))
                    && asked.answers().await?
                {
                    return Ok::<(), DriverError>(());
                }
                sleep(BETWEEN).await;
            }
        };
        let refused = |said: String| DriverError::Refused { what: What::Start, said };
        let is_up = tokio::select! {
            is_up = timeout(STARTS_WITHIN, has_all) => {
                is_up.unwrap_or_else(|_| Err(refused("it was started, and does not have its zones".to_owned())))
            }
            ended = knot.ended() => Err(refused(knot.said(ended).await)),
        };
        match is_up {
            Ok(()) => self.knot = Some(knot),
            Err(error) => {
                knot.stop(STOPS_WITHIN).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether it was started, and answers.
    async fn runs(&mut self) -> Result<bool, DriverError> {
        Ok(self.process().is_some() && self.ask().answers().await?)
    }

    /// Knot's control socket, to be asked beside this.
    pub fn ask(&self) -> Ask {
        Ask { control: self.options.folder.join("run/knot.sock") }
    }
}

/// The generation that `current` leads to.
fn current(folder: &Path) -> Option<PathBuf> {
    let led = fs::read_link(folder.join(CURRENT)).ok()?;
    Some(folder.join(led)).filter(|generation| generation.is_dir())
}

fn is_there(root: &Path, (name, text): (&PathBuf, &String)) -> bool {
    fs::read(root.join(name)).is_ok_and(|there| there == text.as_bytes())
}

fn generations(folder: &Path) -> Result<Vec<PathBuf>, DriverError> {
    let failed = |source| DriverError::Folder { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(failed)?.filter_map(Result::ok).map(|entry| entry.path());
    Ok(entries.filter(|path| number(path).is_some()).collect())
}

fn number(generation: &Path) -> Option<u64> {
    generation.file_name()?.to_str()?.strip_prefix(GENERATION)?.parse().ok()
}

/// A folder that nothing has been written to, whoever was killed before.
fn next_generation(folder: &Path) -> Result<PathBuf, DriverError> {
    let newest = generations(folder)?.iter().filter_map(|path| number(path)).max();
    Ok(folder.join(format!("{GENERATION}{}", newest.map_or(1, |newest| newest.saturating_add(1)))))
}

/// Makes `current` lead there, in one step.
fn lead(folder: &Path, generation: &Path) -> Result<(), DriverError> {
    let beside = folder.join(format!(".{CURRENT}"));
    let name = generation.file_name().unwrap_or_default();
    let _ = fs::remove_file(&beside); // left by whoever was killed
    let led = symlink(name, &beside).and_then(|()| fs::rename(&beside, folder.join(CURRENT)));
    let led = led.and_then(|()| fs::File::open(folder)?.sync_all());
    led.map_err(|source| DriverError::Folder { path: folder.join(CURRENT), source })
}

fn remove(generation: &Path) {
    match fs::remove_dir_all(generation) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%error, "{} cannot be removed", generation.display());
        }
        _ => {}
    }
}

async fn keymgr(conf: &Path, domain: &DnsName, arguments: Vec<String>) -> Result<Output, DriverError> {
    let of = ["--mono".to_owned(), "--config".to_owned(), conf.display().to_string(), domain.to_string()];
    run("keymgr", of.into_iter().chain(arguments)).await
}

/// The keys that Knot has for a domain, each on a line: what it calls it, its tag, and more.
async fn known_keys(conf: &Path, domain: &DnsName) -> Result<Vec<String>, DriverError> {
    let listed = keymgr(conf, domain, vec!["list".into()]).await?;
    refused_unless_well(&listed, || What::Key(domain.clone()))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// The tags of such lines.
fn tags(known: &[String]) -> BTreeSet<String> {
    known.iter().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

fn refused_unless_well(output: &Output, what: impl FnOnce() -> What) -> Result<(), DriverError> {
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    Err(DriverError::Refused { what: what(), said: said.join("\n").trim().to_owned() })
}

pub(super) async fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Output, DriverError> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(ended) => ended.map_err(|source| DriverError::Run { program: program.to_owned(), source }),
        Err(_) => Err(DriverError::Slow { program: program.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_renewed_each_day_and_when_the_clock_was_set() {
        let (at, clock) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let loaded = Loaded { at, clock };
        let is_due = |passed: u64, set: i64| {
            let told = clock + Duration::from_secs(passed);
            let by = Duration::from_secs(set.unsigned_abs());
            loaded.is_due(at + Duration::from_secs(passed), if set < 0 { told - by } else { told + by })
        };
        assert!(!is_due(0, 0) && !is_due(24 * 3600 - 1, 59) && !is_due(5, -59), "a clock that is slewed is not set");
        assert!(is_due(24 * 3600, 0) && is_due(1, 60) && is_due(1, -60) && is_due(0, 50 * 365 * 24 * 3600));
    }
}
