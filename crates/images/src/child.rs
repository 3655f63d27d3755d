//! Programs the build calls: started, waited for, killed when the build is given up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use crate::ImageError;
use crate::error::At as _;

/// How much of a failed program's words goes into the error.
const LINES: usize = 12;

/// Runs a program to its end and gives its output.
pub(crate) fn run(step: &'static str, command: &mut Command) -> Result<Output, ImageError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| not_started(command, source))?;
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    check(step, output.status, || last_lines(&String::from_utf8_lossy(said)))?;
    Ok(output)
}

/// A program that runs beside the build. Dropped before its end, it is killed.
pub(crate) struct Running {
    step: &'static str,
    child: Child,
    /// Where its words go: into a file, since nobody reads a pipe meanwhile.
    words: PathBuf,
}

impl Running {
    pub(crate) fn start(step: &'static str, command: &mut Command, words: &Path) -> Result<Self, ImageError> {
        let stderr = File::create(words).at("create", words)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let child = child.map_err(|source| not_started(command, source))?;
        Ok(Self { step, child, words: words.to_owned() })
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Result<(), ImageError> {
        let status = self.child.wait().at("wait for", &self.words)?;
        check(self.step, status, || last_lines(&fs::read_to_string(&self.words).unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn not_started(command: &Command, source: std::io::Error) -> ImageError {
    ImageError::Start { program: PathBuf::from(command.get_program()), source }
}

pub(crate) fn check(step: &'static str, status: ExitStatus, output: impl FnOnce() -> String) -> Result<(), ImageError> {
    if status.success() { Ok(()) } else { Err(ImageError::Step { step, status, output: output() }) }
}

/// The end of what a program said, without control characters.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.join("\n").chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
