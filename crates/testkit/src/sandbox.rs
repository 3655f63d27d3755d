//! A command line run apart from whoever runs the tests: a home of its own, an environment with nothing else in it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A place to run a program in. Removed with everything in it when dropped.
#[derive(Debug)]
pub struct Sandbox {
    folder: tempfile::TempDir,
    program: PathBuf,
}

/// What a run said, in full. Its `Display` is made for snapshots: the sandbox's folder is written `[SANDBOX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The answer.
    pub stdout: String,
    /// The conversation.
    pub stderr: String,
}

impl Sandbox {
    /// An empty one for `program` (`env!("CARGO_BIN_EXE_sovereign")`).
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn new(program: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("sovereign-").tempdir()?, program: program.into() })
    }

    /// Its folder: `HOME`, and the working directory of what runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.folder().join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, content)
    }

    /// The command, to be changed before it runs.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().current_dir(self.folder()).stdin(Stdio::null());
        command.env("HOME", self.folder()).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TZ", "UTC");
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> io::Result<Ran> {
        let output = self.command(args).output()?;
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.folder().display().to_string(), "[SANDBOX]");
        Ok(Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit code {code}")?,
            None => writeln!(f, "ended by a signal")?,
        }
        writeln!(f, "----- stdout -----\n{}\n----- stderr -----\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}
