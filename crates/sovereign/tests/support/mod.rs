//! An operator in a sandbox: a home of their own, a cleared environment, the real binary, and outside tools to judge it.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub(crate) mod debian;
pub(crate) mod hosts;
pub(crate) mod leaf;
pub(crate) mod leaf_on_hosts;
pub(crate) mod names;
pub(crate) mod staff;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where an edge is: a port of this machine, or an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At(pub(crate) SocketAddr);

impl From<u16> for At {
    fn from(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl From<SocketAddr> for At {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// As a URL has it, with the port that goes without saying.
fn with_port(authority: &str) -> String {
    if authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") }
}

/// An operator with an empty home.
pub(crate) struct Operator {
    home: tempfile::TempDir,
    cache: Option<PathBuf>,
    pub(crate) home_port: u16,
    pub(crate) office_port: u16,
}

impl Operator {
    /// With a home of their own and two ports that nothing else uses.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("sovereign-e2e-").tempdir().unwrap();
        let [home_port, office_port] = free_ports();
        Self { home, cache: None, home_port, office_port }
    }

    /// Shares built images with other runs: `$SOVEREIGN_E2E_CACHE`, else a folder beside the build's output.
    pub(crate) fn with_shared_images(mut self) -> Self {
        let cache = std::env::var_os("SOVEREIGN_E2E_CACHE")
            .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"), PathBuf::from);
        fs::create_dir_all(&cache).unwrap();
        self.cache = Some(cache);
        self
    }

    /// What is shared with other runs.
    pub(crate) fn shared(&self) -> PathBuf {
        self.cache.as_ref().expect("with_shared_images").join("sovereign")
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home().join("state")
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.home().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The program under test: `$SOVEREIGN_E2E_PROGRAM`, for figures of a release build, else what was just built.
    pub(crate) fn program() -> PathBuf {
        std::env::var_os("SOVEREIGN_E2E_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_sovereign").into()).into()
    }

    /// The command, ready to run: nothing of the surrounding environment but PATH and what finds the trust roots.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Self::program());
        command
            .args(args)
            .current_dir(self.home())
            .env_clear()
            .env("HOME", self.home())
            .env("SOVEREIGN_STATE", self.state())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        const PASSED: &[&str] = &[
            "PATH",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NO_PROXY",
            "RUST_LOG",
            "APT_CONFIG",
        ];
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(cache) = &self.cache {
            command.env("XDG_CACHE_HOME", cache);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran { args: args.join(" "), output: self.command(args).output().unwrap() }
    }

    /// Runs a command that something is typed into.
    pub(crate) fn typed(&self, args: &[&str], words: &str) -> Output {
        let mut command = self.command(args);
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that refuses before it reads them is not waited for.
        let _ = running.stdin.take().unwrap().write_all(words.as_bytes());
        running.wait_with_output().unwrap()
    }

    /// Runs a command until it begins a stage, and kills it there.
    pub(crate) fn kill_at(&self, args: &[&str], stage: &str) {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            said.push(line);
            if said.last().is_some_and(|line| line.starts_with(stage)) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.last().is_some_and(|line| line.starts_with(stage)), "{}", said.join("\n"));
    }

    /// Up, and the words are on paper: what an operator does once.
    pub(crate) fn up(&self) -> Ran {
        let ran = self.run(&["up", "--yes"]).success();
        if !self.state().join("seed/words-seen.json").exists() {
            self.verify_words();
        }
        ran
    }

    /// Types the words in again.
    pub(crate) fn verify_words(&self) {
        let paper = self.home().join("words");
        fs::write(&paper, self.run(&["seed", "show"]).success().stdout()).unwrap();
        let typed = self.command(&["seed", "verify"]).stdin(fs::File::open(&paper).unwrap()).output().unwrap();
        assert!(typed.status.success(), "{}", String::from_utf8_lossy(&typed.stderr));
        fs::remove_file(&paper).unwrap();
    }

    /// Where a test counts snapshots itself.
    pub(crate) fn up_without_backup(&self) -> Ran {
        self.run(&["up", "--yes", "--no-backup"]).success()
    }

    /// As [`Operator::run`], so much later: `+7h`, say.
    pub(crate) fn run_later(&self, later: &str, args: &[&str]) -> Ran {
        let now = self.command(args);
        let mut command = Command::new("faketime");
        command.args(["-f", later]).arg(Self::program()).args(args).current_dir(self.home()).env_clear();
        command.envs(now.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        Ran { args: args.join(" "), output: command.output().unwrap() }
    }

    /// `--json` of a command that may end with any exit code.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], args].concat());
        serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    pub(crate) fn authority(&self) -> PathBuf {
        let path = self.home().join("ca.pem");
        if !path.exists() {
            fs::write(&path, self.run(&["ca", "show"]).success().stdout()).unwrap();
        }
        path
    }

    /// `curl` of a path, with `host:port` in the URL and the connection going to `connect`.
    pub(crate) fn curl(&self, url_authority: &str, connect: impl Into<At>, path: &str, more: &[&str]) -> Curled {
        let At(connect) = connect.into();
        let authority = self.authority();
        let body = self.home().join(format!("body-{}", unique()));
        let head = self.home().join(format!("head-{}", unique()));
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(&authority)
            .args(["--connect-to", &format!("{}:{connect}", with_port(url_authority)), "--output"])
            .arg(&body)
            .arg("--dump-header")
            .arg(&head)
            .args(["--write-out", "%{http_code}"])
            .args(more)
            .arg(format!("https://{url_authority}{path}"))
            .env_remove("CURL_CA_BUNDLE");
        let output = command.output().unwrap();
        Curled {
            exit: output.status.code(),
            status: String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0),
            head: fs::read_to_string(&head).unwrap_or_default(),
            body: fs::read(&body).unwrap_or_default(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Ids of all processes of this operator's stack: those whose command line or working folder lies in its state.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let state = self.state().to_string_lossy().into_owned();
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&state) || cwd.starts_with(&state) {
                found.insert(pid);
            }
        }
        found
    }

    /// The process id of a unit as `status` reports it; `None` while it does not run.
    pub(crate) fn pid_now(&self, unit: &str) -> Option<i32> {
        let status = self.json(&["status"]);
        find_unit(&status, unit).and_then(|unit| unit["pid"].as_i64()).and_then(|pid| i32::try_from(pid).ok())
    }

    /// The process id of a unit that runs.
    #[track_caller]
    pub(crate) fn pid(&self, unit: &str) -> i32 {
        self.pid_now(unit).unwrap_or_else(|| panic!("{unit} does not run"))
    }

    /// The process id of a unit once it has another one than `before` and all is well.
    #[track_caller]
    pub(crate) fn replaced(&self, unit: &str, before: i32) -> i32 {
        eventually(&format!("{unit} with another process"), Duration::from_secs(60), || {
            let pid = self.pid_now(unit).filter(|pid| *pid != before)?;
            (self.run(&["status"]).code() == Some(0)).then_some(pid)
        })
    }
}

impl Drop for Operator {
    #[expect(clippy::print_stderr, reason = "whoever asked for a failed test's state is told where it is")]
    fn drop(&mut self) {
        if std::env::var_os("SOVEREIGN_E2E_KEEP").is_some() {
            eprintln!("kept: {}", self.home().display());
            let kept = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
            let _ = kept.keep();
            return;
        }
        let _ = self.command(&["down", "--purge", "--with-archive", "--yes"]).output();
        for pid in self.processes() {
            kill(pid, "KILL");
        }
    }
}

fn find_unit<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) if map.get("name").and_then(Value::as_str) == Some(name) && map.contains_key("pid") => {
            Some(value)
        }
        Value::Object(map) => map.values().find_map(|value| find_unit(value, name)),
        Value::Array(list) => list.iter().find_map(|value| find_unit(value, name)),
        _ => None,
    }
}

/// A finished run of the binary.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) args: String,
    pub(crate) output: Output,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "sovereign {}\n--- stdout\n{}\n--- stderr\n{}",
            self.args,
            self.stdout(),
            self.stderr()
        );
        self
    }
}

/// What curl brought back.
#[derive(Debug)]
pub(crate) struct Curled {
    pub(crate) exit: Option<i32>,
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) error: String,
}

impl Curled {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.is(200)
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}{}\n{}", self.error, self.head, self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// Readers who ask again and again until told to stop, and count what was not a 200.
pub(crate) struct Readers {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(u64, Vec<Miss>)>,
}

impl Readers {
    /// One new TLS connection per request, about twenty a second, alternating between the given edges.
    pub(crate) fn start(operator: &Operator, host: &str, edges: &[impl Into<At> + Copy], path: &str) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let authority = operator.authority();
        let urls: Vec<_> = edges
            .iter()
            .map(|edge| {
                let At(address) = (*edge).into();
                let port = address.port();
                (format!("https://{host}:{port}{path}"), format!("{host}:{port}:{address}"))
            })
            .collect();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let (mut asked, mut failed) = (0, Vec::new());
                for (url, connect) in urls.iter().cycle() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) || asked > 20_000 {
                        break;
                    }
                    let output = Command::new("curl")
                        .args(["--silent", "--show-error", "--max-time", "20", "--output", "/dev/null", "--cacert"])
                        .arg(&authority)
                        .args(["--write-out", "%{http_code}", "--connect-to", connect, url])
                        .env_remove("CURL_CA_BUNDLE")
                        .output()
                        .unwrap();
                    asked += 1;
                    if output.stdout != b"200" {
                        failed.push(Miss {
                            refused: output.status.code() == Some(CURL_CANNOT_CONNECT),
                            what: format!(
                                "{url}: {} {}",
                                String::from_utf8_lossy(&output.stdout),
                                String::from_utf8_lossy(&output.stderr)
                            ),
                        });
                    }
                }
                (asked, failed)
            }
        });
        Self { stop, thread }
    }

    /// Every request was answered with a 200.
    #[track_caller]
    pub(crate) fn stop_without_failure(self) {
        let (asked, missed) = self.stop();
        assert!(missed.is_empty(), "{} of {asked} requests failed: {missed:#?}", missed.len());
    }

    /// No connection was refused, and at most one request was cut off for each process that was killed in its midst.
    #[track_caller]
    pub(crate) fn stop_without_refusal(self, kills: usize) {
        let (asked, missed) = self.stop();
        assert!(missed.iter().all(|miss| !miss.refused), "of {asked} requests: {missed:#?}");
        assert!(missed.len() <= kills, "{} of {asked} requests cut off by {kills} kills: {missed:#?}", missed.len());
    }

    #[track_caller]
    fn stop(self) -> (u64, Vec<Miss>) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (asked, missed) = self.thread.join().unwrap();
        assert!(asked > 0, "the readers never asked");
        (asked, missed)
    }
}

/// curl(1), exit codes: failed to connect to host.
const CURL_CANNOT_CONNECT: i32 = 7;

/// A request without a 200.
#[derive(Debug)]
struct Miss {
    refused: bool,
    #[expect(dead_code, reason = "shown by Debug when a test fails")]
    what: String,
}

/// Waits for a condition, with a deadline that only a failure reaches.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal by number-free name, as an operator would.
pub(crate) fn kill(pid: i32, signal: &str) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
}

/// Every file below a folder with its bytes, every link with its target.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let place = entry.unwrap().path();
            let kind = place.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                todo.push(place);
                continue;
            }
            let bytes = if kind.is_symlink() {
                fs::read_link(&place).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&place).unwrap()
            };
            found.insert(place.strip_prefix(folder).unwrap().to_owned(), bytes);
        }
    }
    found
}

pub(crate) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Bytes that neither compress nor repeat.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// The process whose command line has both words in it.
pub(crate) fn process(words: [&str; 2]) -> Option<i32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        words.iter().all(|word| line.contains(word)).then_some(pid)
    })
}

/// What lies in the state folder and is in no row of docs/what-is-saved.md.
pub(crate) fn not_in_the_list_of_what_is_saved(operator: &Operator) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/what-is-saved.md")).unwrap();
    let places = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let listed: Vec<&str> = places.flat_map(|place| place.split('`').skip(1).step_by(2)).collect();
    assert!(listed.len() > 10, "{listed:?}");
    let fits = |name: &str, pattern: &str| match pattern.split_once('*') {
        Some((start, end)) => name.len() >= pattern.len() - 1 && name.starts_with(start) && name.ends_with(end),
        None => name == pattern,
    };
    let covers = |path: &Path, pattern: &str| {
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        let parts: Vec<_> = pattern.split('/').collect();
        names.len() >= parts.len() && names.iter().zip(&parts).all(|(name, part)| fits(name, part))
    };
    let state = operator.state();
    let (mut todo, mut missing) = (vec![state.clone()], Vec::new());
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if listed.iter().any(|pattern| covers(path.strip_prefix(&state).unwrap(), pattern)) {
                continue;
            }
            if path.is_dir() { todo.push(path) } else { missing.push(path.display().to_string()) }
        }
    }
    missing
}
