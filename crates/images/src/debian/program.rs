//! Programs of Debian's that do the work, started with an environment of our making.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::DebianError;
use super::kept::Kept;
use super::names::Architecture;
use super::{apt, sources};
use crate::child::not_started;
use crate::error::At as _;
use crate::{Environment, ImageError};

/// What reaches these programs from the environment: where programs lie, which configuration apt reads, proxies, where
/// temporary files go.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "APT_CONFIG",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Where apt keeps the helper that fetches single files: no folder of `PATH`.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// A program with that environment, and words in English.
pub(super) fn command(program: impl AsRef<Path>, environment: &Environment) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().envs(environment.only(PASSED)).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Whether a program is in one of the folders of `PATH`, or of those where administrators' programs lie.
pub(super) fn is_there(program: &str, environment: &Environment) -> bool {
    let path = environment.get("PATH").unwrap_or_default();
    std::env::split_paths(path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// apt, working in a folder of its own on the operator's mirrors.
pub(super) struct Apt<'a> {
    folder: PathBuf,
    environment: &'a Environment,
}

/// What apt printed, and whether it was content.
pub(super) struct Said {
    pub(super) content: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl<'a> Apt<'a> {
    /// Prepares its folder.
    pub(super) fn new(
        kept: &Kept,
        architecture: &Architecture,
        environment: &'a Environment,
    ) -> Result<Self, ImageError> {
        let folder = kept.own(".apt")?;
        for inside in ["state/lists/partial", "cache/archives/partial", "log"] {
            kept.own(&format!(".apt/{inside}"))?;
        }
        let apt = Self { folder, environment };
        // Nothing is installed: so apt names all that a root file system needs.
        apt.write("state/status", "")?;
        apt.write("apt.conf", &sources::settings(&apt.folder, architecture))?;
        Ok(apt)
    }

    /// Writes a file of its folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), ImageError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).at("write", &path)
    }

    /// Where the indexes that it fetched lie.
    pub(super) fn lists(&self) -> PathBuf {
        self.folder.join("state/lists")
    }

    /// What this machine's own sources are, with nothing of ours.
    pub(super) fn machine(&self) -> Result<Vec<apt::Target>, ImageError> {
        let mut command = command("apt-get", self.environment);
        command.args(["indextargets", "--no-release-info", "--format", apt::TARGET_FORMAT, "Created-By: Packages"]);
        Ok(apt::targets(&finish(command, "apt-get")?.stdout))
    }

    /// Calls `apt-get` with our settings.
    pub(super) fn get(&self, arguments: &[&str]) -> Result<Said, ImageError> {
        self.call("apt-get", arguments)
    }

    /// Calls `apt-helper` with our settings.
    pub(super) fn helper<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Said, ImageError> {
        self.call(HELPER, arguments)
    }

    fn call<S: AsRef<std::ffi::OsStr>>(&self, program: &'static str, arguments: &[S]) -> Result<Said, ImageError> {
        let mut command = command(program, self.environment);
        command.arg("-c").arg(self.folder.join("apt.conf")).arg("-q").args(arguments);
        finish(command, program)
    }
}

fn finish(mut command: Command, program: &'static str) -> Result<Said, ImageError> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DebianError::ProgramMissing { program, package: "apt" }.into(),
        _ => not_started(&command, error),
    })?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { content: status.success(), stdout: text(stdout), stderr: text(stderr) })
}
