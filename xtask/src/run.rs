//! Running other programs: shown, timed, stopped when they take too long.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Says something to whoever runs the task.
pub(crate) fn say(text: impl Display) {
    // A closed stdout ends nothing: the exit code is the answer.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout").to_owned()
}

/// The folder for what is built.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The `cargo` that runs this task, in the root of the checkout.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Until when something may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub(crate) fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Runs a program whose output goes where ours goes.
///
/// # Errors
/// When it cannot be started, does not end with 0, or does not end in time; then it is killed, children included.
pub(crate) fn run(command: &mut Command, deadline: Deadline) -> Result<()> {
    watch(command, deadline, |_| {})
}

/// Like [`run`], and every line of its stdout is also given to `line`.
///
/// # Errors
/// As [`run`].
pub(crate) fn watch(command: &mut Command, deadline: Deadline, mut line: impl FnMut(&str)) -> Result<()> {
    let shown = shown(command);
    say(format!("$ {shown}"));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let (sender, lines) = mpsc::channel();
    // Ends when the pipe closes. Not joined: a stray grandchild may keep the pipe open after the child was killed.
    thread::spawn(move || {
        for text in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&text).into_owned()).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(deadline.left()) {
            Ok(text) => {
                say(&text);
                line(&text);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_family(&mut child);
                bail!("`{shown}` went over the time budget and was stopped");
            }
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

/// Runs a quick program for its stdout.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{shown}`"))?;
    ensure!(
        output.status.success(),
        "`{shown}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program lies: on the `PATH`, or where servers and the tools of the machine's keeper are, which is not on
/// everybody's.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Kills a child and what it started. A process group of its own would be simpler and would lose Ctrl-C.
fn kill_family(child: &mut Child) {
    for id in family(child.id()).into_iter().rev() {
        if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = child.wait();
}

/// A process and all that it started, parents first.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(children(parent));
        next += 1;
    }
    family
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}
