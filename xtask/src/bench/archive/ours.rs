//! Our archive, the way an operator gets it: the release binary, a stack file with one static site, `sovereign up` once.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::contestant::Contestant;
use crate::run::read;
use crate::stack::{Stack, free_ports};

pub(super) struct Ours {
    program: PathBuf,
    stack: Stack,
}

impl Ours {
    /// Brings the stack up, which makes its keys, and down again: nothing of it runs beside what is measured.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn declare(program: &Path, home: &Path, data: &Path) -> Result<Self> {
        let [port] = free_ports()?;
        let stack = Stack::up(program, home, &stack_file(data, port))?;
        read(stack.command().arg("down"))?;
        Ok(Self { program: program.to_owned(), stack })
    }

    fn folder(&self) -> PathBuf {
        self.stack.state().join("archive")
    }
}

fn stack_file(data: &Path, port: u16) -> String {
    format!(
        r#"version = 1

[stack]
name = "bench"

[[datacenter]]
name = "home"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {port}

[[site]]
name = "bench"
app = "static"
folder = {data:?}
canonical = "localhost"
primary = "home"
"#
    )
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        "sovereign"
    }

    fn version(&self) -> Result<String> {
        Ok(read(Command::new(&self.program).arg("--version"))?.trim().to_owned())
    }

    fn forget(&mut self) -> Result<()> {
        match fs::remove_dir_all(self.folder()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn init(&self) -> Option<Command> {
        None
    }

    fn backup(&mut self) -> Command {
        let mut command = self.stack.command();
        command.args(["backup", "--json"]);
        command
    }

    fn restore(&self, to: &Path, only: Option<&str>) -> Result<Command> {
        let mut command = self.stack.command();
        command.args(["restore", "bench", "--to"]).arg(to);
        if let Some(only) = only {
            command.arg("--path").arg(format!("files/{only}"));
        }
        Ok(command)
    }

    fn restored(&self, to: &Path, only: Option<&str>) -> PathBuf {
        let files = to.join("files");
        only.map_or_else(|| files.clone(), |only| files.join(only))
    }

    fn check(&self) -> Command {
        let mut command = self.stack.command();
        command.args(["archive", "check", "--read-data"]);
        command
    }

    fn archive(&self) -> PathBuf {
        self.folder().join("repository")
    }

    /// The stages of a backup of the site, on the clock.
    fn told(&self, said: &str) -> Vec<(String, f64)> {
        let Ok(said) = serde_json::from_str::<Value>(said) else { return Vec::new() };
        let stage = |stage: &Value| {
            let name = stage["stage"].as_str()?.strip_suffix(" bench")?;
            Some((name.to_owned(), stage["seconds"].as_f64()?))
        };
        said["stages"].as_array().into_iter().flatten().filter_map(stage).collect()
    }
}
