//! Commands on a host.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sovereign_ssh::Complaint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connection::{Connection, NO_MASTER, keep_last, spawn};
use crate::error::SshError;
use crate::quote;

/// What a command may say unless more is expected.
const USUAL_ANSWER: usize = 1 << 20;
/// How long a command may take unless more is expected.
const USUAL_PATIENCE: Duration = Duration::from_secs(60);
/// The exit code of ssh itself. A command can have it too.
const OF_SSH: i32 = 255;

/// What a command finds on its standard input.
#[derive(Debug, Clone, Default)]
enum Input {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
    Written(Writes),
}

/// What writes a command's input as it is read, since it may be more than memory has room for.
#[derive(Clone)]
struct Writes(Arc<dyn Fn(PipeWriter) -> io::Result<()> + Send + Sync>);

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}

/// A command to be run on a host. Arguments reach the program as they are, whatever is in them; a secret has no place
/// among them, since other users of the host see them.
#[derive(Debug, Clone)]
pub struct Run {
    action: String,
    words: Vec<OsString>,
    input: Input,
    most: usize,
    patience: Duration,
    beside: bool,
}

impl Run {
    /// A program. `action` says what for, after "could not", in errors.
    pub fn new(action: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let words = vec![program.as_ref().to_owned()];
        Self {
            action: action.into(),
            words,
            input: Input::Nothing,
            most: USUAL_ANSWER,
            patience: USUAL_PATIENCE,
            beside: false,
        }
    }

    /// A script for `sh`, which finds what [`Run::arg`] adds as `$1` and so on.
    pub fn script(action: impl Into<String>, script: &str) -> Self {
        Self::new(action, "sh").arg("-c").arg(script).arg("sovereign")
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self
    }

    /// Several arguments more.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.words.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// What it finds on its standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// A file of this machine as its standard input.
    #[must_use]
    pub fn input_file(mut self, path: &Path) -> Self {
        self.input = Input::File(path.to_owned());
        self
    }

    /// What `write` writes as its standard input, in a thread of its own, while the command reads it.
    #[must_use]
    pub fn input_written(mut self, write: impl Fn(PipeWriter) -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.input = Input::Written(Writes(Arc::new(write)));
        self
    }

    /// The program and its arguments.
    pub(crate) fn words(&self) -> &[OsString] {
        &self.words
    }

    /// How many bytes it may answer.
    #[must_use]
    pub fn answers_at_most(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// Waits for no turn, and asks for no lease: for what keeps a lease while all turns are taken. One at a time.
    #[must_use]
    pub(crate) fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// All that it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// What it complained of, in a line or a few.
    pub fn said(&self) -> String {
        const LINES: usize = 4;
        let text = String::from_utf8_lossy(if self.stderr.is_empty() { &self.stdout } else { &self.stderr });
        let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect::<String>());
        let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return "it says nothing".to_owned();
        }
        lines[lines.len().saturating_sub(LINES)..].join("; ")
    }
}

impl Connection {
    /// Runs a command to its end, whatever its exit code.
    ///
    /// When it takes too long it is left alone, and may still be at work over there.
    ///
    /// # Errors
    /// When the connection ends, or the command takes too long or says too much.
    pub async fn run(&self, run: &Run) -> Result<Ended, SshError> {
        let here = |source| SshError::Here { action: format!("send a command to {}", self.address()), source };
        if run.words.iter().any(|word| word.as_bytes().contains(&0)) {
            return Err(here(io::Error::new(io::ErrorKind::InvalidInput, "no argument can have a NUL byte")));
        }
        let mut writing = None;
        let (stdin, bytes) = match &run.input {
            Input::Nothing => (Stdio::null(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes.as_slice())),
            Input::Written(Writes(write)) => {
                let ((reader, writer), write) = (io::pipe().map_err(here)?, Arc::clone(write));
                // It ends when nobody reads any more, at the latest.
                writing = Some(tokio::task::spawn_blocking(move || write(writer)));
                (Stdio::from(reader), None)
            }
            Input::File(path) => {
                let file = File::open(path)
                    .map_err(|source| SshError::Here { action: format!("read {}", path.display()), source })?;
                (Stdio::from(file), None)
            }
        };
        // Waiting for a turn is not the command's time. The semaphore is never closed.
        let _session = if run.beside { None } else { Some(self.sessions.acquire().await) };
        if !run.beside && !self.may_work() {
            return Err(self.lost(&run.action, "the lease on this host is not certain any more".to_owned()));
        }
        self.commands.fetch_add(1, Ordering::Relaxed);
        let work = async {
            let text = quote::command(run.words.iter().map(OsString::as_os_str));
            let mut child = spawn(self.ssh([text]), stdin).map_err(here)?;
            let (to, from, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let feed = async {
                if let (Some(mut to), Some(bytes)) = (to, bytes) {
                    // A command need not read all of its input, or any.
                    let _ = to.write_all(bytes).await;
                    let _ = to.shutdown().await;
                }
                Ok(())
            };
            let listen = async {
                let mut answer = Vec::new();
                if let Some(from) = from {
                    let limit = u64::try_from(run.most).unwrap_or(u64::MAX).saturating_add(1);
                    from.take(limit).read_to_end(&mut answer).await.map_err(here)?;
                }
                if answer.len() > run.most {
                    let (host, action) = (self.address().clone(), run.action.clone());
                    return Err(SshError::TooMuch { host, action, most: run.most });
                }
                Ok(answer)
            };
            let heed = async {
                let kept = Mutex::new(Vec::new());
                if let Some(complaints) = complaints {
                    keep_last(complaints, &kept).await;
                }
                Ok(kept.into_inner().unwrap_or_else(PoisonError::into_inner))
            };
            let ((), stdout, stderr) = tokio::try_join!(feed, listen, heed)?;
            let status = child.wait().await.map_err(here)?;
            Ok(Ended { code: status.code().unwrap_or(OF_SSH), stdout, stderr })
        };
        let Ok(ended) = timeout(run.patience, work).await else {
            let (host, action) = (self.address().clone(), run.action.clone());
            return Err(SshError::TimedOut { host, action, waited: run.patience });
        };
        let ended = ended?;
        if let Some(writing) = writing {
            match writing.await {
                // A command need not read all of its input.
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(SshError::Here { action: run.action.clone(), source: error });
                }
                _ => {}
            }
        }
        let nowhere = ended.stderr.windows(NO_MASTER.len()).any(|text| text == NO_MASTER.as_bytes());
        if ended.code == OF_SSH && (nowhere || !self.is_alive().await) {
            let said = Complaint::of(&ended.stderr).filter(|_| !nowhere);
            return Err(self.lost(&run.action, said.map_or_else(|| "it is closed".to_owned(), |said| said.line)));
        }
        Ok(ended)
    }

    /// Runs a command that must end well, and gives back what it wrote to standard output.
    ///
    /// # Errors
    /// As [`Connection::run`], or when its exit code is not 0: with its own words.
    pub async fn succeed(&self, run: &Run) -> Result<Vec<u8>, SshError> {
        let ended = self.run(run).await?;
        if ended.code == 0 {
            return Ok(ended.stdout);
        }
        let (host, action) = (self.address().clone(), run.action.clone());
        Err(SshError::Failed { host, action, code: ended.code, said: ended.said() })
    }
}
