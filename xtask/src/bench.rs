//! `cargo xtask bench`: this program beside what an operator would use instead, on this machine, in one run.
//!
//! Promise: who is compared is measured in turns, in the other order each second round, so that nobody always has the
//! quieter machine; what is shown are medians; what the project demands is judged by the program, and a must that is
//! missed is in the exit code.

mod archive;
mod edge;
mod usage;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::run::target;
pub(crate) use archive::prove as archive;
pub(crate) use edge::{bare, prove as edge};

/// `bench NAME ...`.
///
/// # Errors
/// When there is no such benchmark, or something cannot be started or measured.
pub(crate) fn command(args: &[&str]) -> Result<ExitCode> {
    let tally = match args {
        ["edge", options @ ..] => edge::command(options)?,
        ["archive", options @ ..] => archive::command(options)?,
        _ => bail!("there are two benchmarks: `cargo xtask bench edge` and `cargo xtask bench archive`"),
    };
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether `only`, beginnings of names, takes this one in; an empty one takes all.
fn takes(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|only| name.starts_with(only.as_str()))
}

/// A folder for everything that is written, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = target().join("tmp").join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a benchmark leaves is no reason for it to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}
