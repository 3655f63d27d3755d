//! The operator's program, running.

use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinHandle;

use super::DataError;
use super::words::Words;
use crate::environment::{Environment, names};
use crate::output::Output;

/// What the program gets of this process's environment, and nothing else.
const HANDED_ON: [&str; 5] = [names::PATH, names::HOME, names::LANG, names::TZ, names::TMPDIR];
/// How long a program that was told to end may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long the words of a program that has ended are waited for: somebody it started may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a program ended that did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// A running program. Dropped before its end, it is killed with everything that it started.
pub(crate) struct Child {
    program: String,
    child: tokio::process::Child,
    group: Option<Pid>,
    words: Vec<JoinHandle<Option<String>>>,
}

impl Child {
    /// Starts `command` in `folder`, its standard output for us.
    pub(crate) fn writing(
        command: &[String],
        folder: &Path,
        environment: &Environment,
        output: &Output,
    ) -> Result<(Self, ChildStdout), DataError> {
        let mut child = Self::start(command, folder, environment, Stdio::null(), output)?;
        let stdout = child.child.stdout.take().expect("it was asked for");
        Ok((child, stdout))
    }

    /// Starts `command` in `folder` with `data` as its standard input; what it writes is words.
    pub(crate) fn reading(
        command: &[String],
        folder: &Path,
        environment: &Environment,
        data: File,
        output: &Output,
    ) -> Result<Self, DataError> {
        let mut child = Self::start(command, folder, environment, data.into(), output)?;
        let stdout = child.child.stdout.take().expect("it was asked for");
        child.listen(stdout, output);
        Ok(child)
    }

    fn start(
        command: &[String],
        folder: &Path,
        environment: &Environment,
        stdin: Stdio,
        output: &Output,
    ) -> Result<Self, DataError> {
        let (program, arguments) = command.split_first().expect("an empty command was refused");
        let kept = HANDED_ON.iter().filter_map(|name| Some((name, environment.get(name)?)));
        let started = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(kept)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of its own, so that all that it starts can be ended with it.
            .process_group(0)
            .spawn();
        let not_started = |source| DataError::NotStarted { program: program.clone(), source };
        let mut child = started.map_err(not_started)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stderr = child.stderr.take().expect("it was asked for");
        let mut child = Self { program: program.clone(), child, group, words: Vec::new() };
        child.listen(stderr, output);
        Ok(child)
    }

    fn listen(&mut self, mut from: impl AsyncRead + Unpin + Send + 'static, output: &Output) {
        let name = Path::new(&self.program)
            .file_name()
            .map_or_else(|| self.program.clone(), |name| name.to_string_lossy().into_owned());
        let mut words = Words::new(output.clone(), name);
        self.words.push(tokio::spawn(async move {
            let mut bytes = vec![0; 4096];
            // A pipe that breaks says no more.
            while let Ok(length @ 1..) = from.read(&mut bytes).await {
                words.hear(&bytes[..length]);
            }
            words.end()
        }));
    }

    /// Waits for its end; an error unless it ended well.
    pub(crate) async fn end(&mut self) -> Result<(), DataError> {
        let lost = |source| DataError::NotStarted { program: self.program.clone(), source };
        let status = self.child.wait().await.map_err(lost)?;
        self.group = None;
        let mut last = None;
        for words in std::mem::take(&mut self.words) {
            let heard = tokio::time::timeout(LAST_WORDS, words).await;
            last = heard.ok().and_then(Result::ok).flatten().filter(|_| last.is_none()).or(last);
        }
        match how(status) {
            None => Ok(()),
            Some(how) => Err(DataError::Ended { program: self.program.clone(), how, last }),
        }
    }

    /// Tells it to end, with all that it started, and makes it.
    pub(crate) async fn stop(&mut self) -> DataError {
        self.signal(Signal::TERM);
        // Whatever is left of the group after that is killed when this is dropped.
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        DataError::Stopped { program: self.program.clone() }
    }

    /// What it is called in errors.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn how(status: ExitStatus) -> Option<Ended> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(Ended::Code(code)),
        (None, signal) => Some(Ended::Signal(signal.unwrap_or_default())),
    }
}
