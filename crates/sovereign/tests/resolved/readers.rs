//! Who goes through the resolver while something is broken: one who asks it for addresses, and people who read the site
//! with `curl`, each time with a lookup and a connection of their own.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::world::{Answer, World, ask};
use crate::support::Operator;

/// So many people, and how often each of them reads: twenty times a second all together.
const READERS: usize = 4;
const READ_EVERY: Duration = Duration::from_millis(200);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Until then `curl` has a connection, or has tried all addresses; half of it is for the first of two.
const CONNECTS_WITHIN: &str = "3";
const READS_WITHIN: &str = "5";

/// Has a program believe that it is on a machine with another `/etc`.
const WITH_ETC: &str = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                        mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\"";

/// One try of anything.
#[derive(Debug)]
pub(crate) struct Try<T> {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) got: T,
}

impl<T> Try<T> {
    pub(crate) fn of(work: impl FnOnce() -> T) -> Self {
        let began = Instant::now();
        let got = work();
        Self { began, ended: Instant::now(), got }
    }

    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }

    /// What is left of the time until the next one.
    fn pause(&self, every: Duration) {
        std::thread::sleep(every.saturating_sub(self.began.elapsed()));
    }
}

/// One who asks the resolver for a name again and again.
pub(crate) struct Asking {
    stop: Arc<AtomicBool>,
    newest: Arc<Mutex<Answer>>,
    thread: JoinHandle<Vec<Try<Answer>>>,
}

impl Asking {
    pub(crate) fn start(name: &'static str) -> Self {
        let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Answer::default())));
        let thread = std::thread::spawn({
            let (stop, newest) = (Arc::clone(&stop), Arc::clone(&newest));
            move || {
                let mut tries = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Try::of(|| ask(name, "A"));
                    newest.lock().unwrap().clone_from(&asked.got);
                    asked.pause(ASK_EVERY);
                    tries.push(asked);
                }
                tries
            }
        });
        Self { stop, newest, thread }
    }

    /// What it was told last.
    pub(crate) fn newest(&self) -> Answer {
        self.newest.lock().unwrap().clone()
    }

    pub(crate) fn stop(self) -> Vec<Try<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The page was read; or what `curl` says instead, and when it had an address and a connection.
pub(crate) type Read = Result<(), String>;

/// People who read a page again and again.
pub(crate) struct Reading {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Try<Read>>>>,
}

impl Reading {
    pub(crate) fn start(operator: &Operator, world: &World, url: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reader = |_| {
            let (stop, etc, authority) = (Arc::clone(&stop), world.etc(), operator.authority());
            std::thread::spawn(move || {
                let mut tries = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let read = Try::of(|| read(&etc, &authority, url));
                    read.pause(READ_EVERY);
                    tries.push(read);
                }
                tries
            })
        };
        Self { threads: (0..READERS).map(reader).collect(), stop }
    }

    /// All tries, whose ever.
    pub(crate) fn stop(self) -> Vec<Try<Read>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }

    /// Every one had the page; how long the slowest took.
    #[track_caller]
    pub(crate) fn stop_without_failure(self) -> Duration {
        let tries = self.stop();
        let failed: Vec<&String> = tries.iter().filter_map(|read| read.got.as_ref().err()).collect();
        assert!(tries.len() > READERS && failed.is_empty(), "of {}: {failed:#?}", tries.len());
        tries.iter().map(Try::took).max().unwrap_or_default()
    }
}

/// `curl` of a page of a site whose name it looks up as any program does.
fn read(etc: &Path, authority: &Path, url: &str) -> Read {
    let mut curl = Command::new("unshare");
    curl.args(["--mount", "sh", "-c", WITH_ETC]).arg(etc).args(["curl", "--silent", "--show-error", "--noproxy", "*"]);
    curl.arg("--cacert").arg(authority).args(["--connect-timeout", CONNECTS_WITHIN, "--max-time", READS_WITHIN]);
    let told = "%{http_code}, address after %{time_namelookup} s, connected after %{time_connect} s";
    curl.args(["--output", "/dev/null", "--write-out", told, url]).env_remove("CURL_CA_BUNDLE");
    let output = curl.output().unwrap();
    let [said, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    if said.starts_with("200,") { Ok(()) } else { Err(format!("{said}: {error}")) }
}
