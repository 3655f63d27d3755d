//! A server that runs, and where it is asked.

use std::any::Any;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::site::Site;
use crate::run::{family, which};
use crate::stack::{Ended, wait_for};

/// What a server is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Our edge.
    Ours,
    /// One of the four, keeping an origin's answers.
    Cache,
    /// One of the four, serving files.
    Files,
    /// What the machine itself costs.
    Limit,
}

/// A server; it ends when dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) role: Role,
    /// Its port for plain HTTP.
    pub(super) plain: Option<u16>,
    /// Its port for TLS.
    pub(super) tls: Option<u16>,
    /// The port for the asset alone, where that is another.
    pub(super) asset: Option<u16>,
    /// The process that has started all others of it.
    pub(super) root: u32,
    pub(super) folder: PathBuf,
    pub(super) _running: Box<dyn Any>,
}

impl Server {
    /// Whether it has the ten thousand pages.
    pub(super) fn has_pages(&self) -> bool {
        self.role != Role::Limit
    }

    /// Whether there is an origin behind it that can die.
    pub(super) fn has_origin(&self) -> bool {
        matches!(self.role, Role::Ours | Role::Cache)
    }

    /// Whether it is one of the four that an operator would install instead.
    pub(super) fn is_rival(&self) -> bool {
        matches!(self.role, Role::Cache | Role::Files)
    }

    /// All its processes.
    pub(super) fn processes(&self) -> Vec<u32> {
        family(self.root)
    }

    /// A folder for what belongs to it.
    pub(super) fn scratch(&self) -> &Path {
        &self.folder
    }
}

/// A server's own folder.
pub(super) fn folder(site: &Site, name: &str) -> Result<PathBuf> {
    let folder = site.scratch.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Starts a program that stays in the foreground, with what it says in a file, and waits for its port.
pub(super) fn spawn(mut command: Command, folder: &Path, port: u16) -> Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    if let Err(error) = wait_for(port) {
        drop(Ended(child));
        let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
        return Err(error).with_context(|| format!("{command:?} says: {said}"));
    }
    if let Some(status) = child.try_wait()? {
        anyhow::bail!("{command:?} ended with {status}; somebody else has its port");
    }
    Ok(child)
}

/// A program that is to serve, in a session of its own as daemons are: the kernel divides processors among sessions, and
/// who shares one with the load generator would have less than others.
pub(super) fn daemon(program: &str) -> Result<Command> {
    let file = which(program).with_context(|| format!("{program} is not installed"))?;
    let mut command = Command::new("setsid");
    command.arg(file);
    Ok(command)
}

/// A program of a package.
pub(super) fn installed(program: &str) -> Result<Command> {
    Ok(Command::new(which(program).with_context(|| format!("{program} is not installed"))?))
}

/// The first line that a program says about itself, on whatever it says it.
pub(super) fn version(program: &str, arg: &str) -> Result<String> {
    let output = installed(program)?.arg(arg).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
}
