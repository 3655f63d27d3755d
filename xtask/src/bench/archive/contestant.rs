//! Who is compared: a program that backs one folder up into one archive.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// A program with an archive and a home of its own. Its commands are run to their end, one at a time.
pub(super) trait Contestant {
    fn name(&self) -> &'static str;

    fn version(&self) -> Result<String>;

    /// Removes its archive, and what it remembers of it.
    ///
    /// # Errors
    /// When that cannot be removed.
    fn forget(&mut self) -> Result<()>;

    /// Makes an empty archive, where that is a command of its own.
    fn init(&self) -> Option<Command>;

    /// Backs the data up.
    fn backup(&mut self) -> Command;

    /// Restores the newest backup, or one path of it, into the folder `to`, which is not there yet.
    ///
    /// # Errors
    /// When what it needs before cannot be made.
    fn restore(&self, to: &Path, only: Option<&str>) -> Result<Command>;

    /// Where in `to` that lies then.
    fn restored(&self, to: &Path, only: Option<&str>) -> PathBuf;

    /// Reads all data of the archive.
    fn check(&self) -> Command;

    /// The folder that its archive is in.
    fn archive(&self) -> PathBuf;

    /// What is worth saying of what a command has said: parts of it with their time in seconds.
    fn told(&self, _: &str) -> Vec<(String, f64)> {
        Vec::new()
    }
}
