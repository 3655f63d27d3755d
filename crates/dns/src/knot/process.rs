//! Knot as a child of this process: what it says goes into this process' log, and its last words are kept.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::driver::PATH;

/// So many lines are kept of what it says.
const LAST: usize = 5;
/// What it said before it ended is there at once, unless somebody else holds its standard error.
const WORDS_WITHIN: Duration = Duration::from_secs(1);

/// A Knot that was started. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    words: Option<JoinHandle<VecDeque<String>>>,
}

impl Process {
    pub(super) fn start(program: &str, arguments: &[String], conf: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).args([OsStr::new("--config"), conf.as_os_str()]);
        command.env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let words = child.stderr.take().map(|stderr| tokio::spawn(listen(stderr)));
        Ok(Self { child, words })
    }

    /// Its process id, while it runs.
    pub(super) fn id(&mut self) -> Option<u32> {
        // Collected, if it has ended: its id is nobody's then.
        let _ = self.child.try_wait();
        self.child.id()
    }

    /// Waits until it ends. May be given up and called again.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        // A child that cannot be waited for was waited for by somebody else: it has ended.
        self.child.wait().await.unwrap_or_else(|_| ExitStatus::from_raw(0))
    }

    /// How it ended, and what it said last.
    pub(super) async fn said(&mut self, ended: ExitStatus) -> String {
        let words = match self.words.take() {
            Some(words) => timeout(WORDS_WITHIN, words).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => VecDeque::new(),
        };
        let lines = std::iter::once(format!("it ended with {ended}")).chain(words);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Tells it to stop; what has not ended `within` is killed.
    pub(super) async fn stop(&mut self, within: Duration) {
        if let Some(id) = self.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            // It has not been collected, so the id is its own.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            if timeout(within, self.child.wait()).await.is_err() {
                warn!(?within, "Knot has not stopped, and is killed");
                let _ = self.child.kill().await;
            }
        }
    }
}

async fn listen(stderr: ChildStderr) -> VecDeque<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = VecDeque::with_capacity(LAST);
    while let Ok(Some(line)) = lines.next_line().await {
        warn!("Knot: {line}");
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}
