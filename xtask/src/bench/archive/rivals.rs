//! The three that an operator would use instead, from Debian's packages, as their manuals have it.
//!
//! All encrypt with a passphrase that is in the environment. duplicity: GnuPG, symmetric; restic: the format of its time
//! (version 2), cache and all; borg: `repokey-blake2`, and zstd, which the others use too (it would take lz4 by itself,
//! which is faster and stores more). duplicity has no check of the archive alone: it restores and compares with the
//! folder (`verify --compare-data`), which reads all that the newest backup needs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::contestant::Contestant;
use crate::run::read;

const PASSPHRASE: &str = "correct horse battery staple";

fn first_line(program: &str) -> Result<String> {
    let said = read(Command::new(program).arg(if program == "restic" { "version" } else { "--version" }))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

fn removed(folders: &[PathBuf]) -> Result<()> {
    for folder in folders {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// duplicity, which keeps one full backup and what changed since.
pub(super) struct Duplicity {
    home: PathBuf,
    data: PathBuf,
}

impl Duplicity {
    pub(super) fn new(home: &Path, data: &Path) -> Self {
        Self { home: home.to_owned(), data: data.to_owned() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("duplicity");
        command.env("PASSPHRASE", PASSPHRASE).env("GNUPGHOME", self.home.join("gnupg")).env("HOME", &self.home);
        command
    }

    fn with_cache(&self, mut command: Command) -> Command {
        command.arg("--archive-dir").arg(self.home.join("cache"));
        command
    }

    fn url(&self) -> String {
        format!("file://{}", self.archive().display())
    }
}

impl Contestant for Duplicity {
    fn name(&self) -> &'static str {
        "duplicity"
    }

    fn version(&self) -> Result<String> {
        Ok(format!("{}, {}", first_line("duplicity")?, first_line("gpg")?))
    }

    fn forget(&mut self) -> Result<()> {
        removed(&[self.archive(), self.home.join("cache")])?;
        fs::create_dir_all(self.home.join("gnupg"))?;
        Ok(fs::set_permissions(self.home.join("gnupg"), std::os::unix::fs::PermissionsExt::from_mode(0o700))?)
    }

    fn init(&self) -> Option<Command> {
        None
    }

    fn backup(&mut self) -> Command {
        let mut command = self.with_cache(self.command());
        command.arg(&self.data).arg(self.url());
        command
    }

    fn restore(&self, to: &Path, only: Option<&str>) -> Result<Command> {
        let mut command = self.command();
        command.arg("restore");
        if let Some(only) = only {
            command.arg("--file-to-restore").arg(only);
        }
        command = self.with_cache(command);
        command.arg(self.url()).arg(to);
        Ok(command)
    }

    fn restored(&self, to: &Path, _: Option<&str>) -> PathBuf {
        to.to_owned()
    }

    fn check(&self) -> Command {
        let mut command = self.command();
        command.args(["verify", "--compare-data"]);
        command = self.with_cache(command);
        command.arg(self.url()).arg(&self.data);
        command
    }

    fn archive(&self) -> PathBuf {
        self.home.join("archive")
    }
}

impl Drop for Duplicity {
    fn drop(&mut self) {
        // GnuPG leaves a process behind for its next start.
        let mut command = Command::new("gpgconf");
        let _ = read(command.args(["--kill", "gpg-agent"]).env("GNUPGHOME", self.home.join("gnupg")));
    }
}

/// restic.
pub(super) struct Restic {
    home: PathBuf,
    data: PathBuf,
}

impl Restic {
    pub(super) fn new(home: &Path, data: &Path) -> Self {
        Self { home: home.to_owned(), data: data.to_owned() }
    }

    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new("restic");
        command.args(args).env("RESTIC_PASSWORD", PASSPHRASE).env("HOME", &self.home);
        command.arg("--repo").arg(self.archive()).arg("--cache-dir").arg(self.home.join("cache"));
        command
    }
}

impl Contestant for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn version(&self) -> Result<String> {
        first_line("restic")
    }

    fn forget(&mut self) -> Result<()> {
        removed(&[self.archive(), self.home.join("cache")])
    }

    fn init(&self) -> Option<Command> {
        Some(self.command(["init"]))
    }

    fn backup(&mut self) -> Command {
        let mut command = self.command(["backup"]);
        command.arg(&self.data);
        command
    }

    fn restore(&self, to: &Path, only: Option<&str>) -> Result<Command> {
        let mut command = self.command(["restore", "latest"]);
        command.arg("--target").arg(to);
        if let Some(only) = only {
            command.arg("--include").arg(self.data.join(only));
        }
        Ok(command)
    }

    /// Below the whole path of what was backed up.
    fn restored(&self, to: &Path, only: Option<&str>) -> PathBuf {
        let whole = self.data.strip_prefix("/").unwrap_or(&self.data);
        only.map_or_else(|| to.join(whole), |only| to.join(whole).join(only))
    }

    fn check(&self) -> Command {
        self.command(["check", "--read-data"])
    }

    fn archive(&self) -> PathBuf {
        self.home.join("archive")
    }
}

/// borg.
pub(super) struct Borg {
    home: PathBuf,
    data: PathBuf,
    /// How many backups there are: they go by their number.
    backups: u32,
}

impl Borg {
    pub(super) fn new(home: &Path, data: &Path) -> Self {
        Self { home: home.to_owned(), data: data.to_owned(), backups: 0 }
    }

    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new("borg");
        command.args(args).env("BORG_PASSPHRASE", PASSPHRASE).env("BORG_BASE_DIR", &self.home);
        command.env("BORG_REPO", self.archive()).env("HOME", &self.home);
        command
    }
}

impl Contestant for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn version(&self) -> Result<String> {
        first_line("borg")
    }

    fn forget(&mut self) -> Result<()> {
        self.backups = 0;
        removed(&[self.archive(), self.home.join(".cache"), self.home.join(".config")])
    }

    fn init(&self) -> Option<Command> {
        Some(self.command(["init", "--encryption=repokey-blake2"]))
    }

    fn backup(&mut self) -> Command {
        self.backups += 1;
        let mut command = self.command(["create", "--compression=zstd"]);
        command.arg(format!("::{}", self.backups)).arg(".").current_dir(&self.data);
        command
    }

    /// Into the folder that it is started in.
    fn restore(&self, to: &Path, only: Option<&str>) -> Result<Command> {
        fs::create_dir(to)?;
        let mut command = self.command(["extract"]);
        command.arg(format!("::{}", self.backups)).args(only).current_dir(to);
        Ok(command)
    }

    fn restored(&self, to: &Path, only: Option<&str>) -> PathBuf {
        to.join(only.unwrap_or_default())
    }

    fn check(&self) -> Command {
        self.command(["check", "--verify-data"])
    }

    fn archive(&self) -> PathBuf {
        self.home.join("archive")
    }
}
