//! Who goes through the resolver while something is broken: one who asks it for addresses, and people who read the site
//! with `curl`, each time with a lookup and a connection of their own.

use std::path::{Path, PathBuf};
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

/// People who read a page again and again.
pub(crate) struct Reading {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Try<bool>>>>,
}

impl Reading {
    pub(crate) fn start(operator: &Operator, world: &World, url: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reader = |_| {
            let (stop, etc, authority) = (Arc::clone(&stop), world.etc(), operator.authority());
            std::thread::spawn(move || {
                let mut tries = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let read = Try::of(|| is_read(&etc, &authority, url));
                    read.pause(READ_EVERY);
                    tries.push(read);
                }
                tries
            })
        };
        Self { threads: (0..READERS).map(reader).collect(), stop }
    }

    /// All tries, whose ever.
    pub(crate) fn stop(self) -> Vec<Try<bool>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }

    /// Every one had the page; how long the slowest took.
    #[track_caller]
    pub(crate) fn stop_without_failure(self) -> Duration {
        let tries = self.stop();
        let failed = tries.iter().filter(|read| !read.got).count();
        assert!(tries.len() > READERS && failed == 0, "{failed} of {} failed", tries.len());
        tries.iter().map(Try::took).max().unwrap_or_default()
    }
}

/// Whether `curl` gets a page of a site whose name it looks up as any program does.
fn is_read(etc: &Path, authority: &PathBuf, url: &str) -> bool {
    let mut curl = Command::new("unshare");
    curl.args(["--mount", "sh", "-c", WITH_ETC]).arg(etc).args(["curl", "--silent", "--noproxy", "*", "--cacert"]);
    curl.arg(authority).args(["--connect-timeout", CONNECTS_WITHIN, "--max-time", READS_WITHIN]);
    curl.args(["--output", "/dev/null", "--write-out", "%{http_code}", url]);
    curl.env_remove("CURL_CA_BUNDLE").output().unwrap().stdout == b"200"
}
