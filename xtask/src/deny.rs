//! cargo-deny: licences, banned crates, sources; advisories where their database can be reached.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::{Deadline, cargo, root, run, say, target, which};

/// The version that is built when none is installed. Any other on the `PATH` will do.
const VERSION: &str = "0.20.2";

/// Licences, bans and sources: needs no network once the dependencies are there.
///
/// # Errors
/// When a rule of deny.toml is broken, or the tool cannot be had.
pub(crate) fn check(deadline: Deadline) -> Result<()> {
    // Builds load only what this platform needs; licences are judged for all.
    run(&mut cargo(["fetch", "--locked", "--quiet"]), deadline)?;
    run(deny(deadline)?.args(["--offline", "--log-level=error", "check", "bans", "licenses", "sources"]), deadline)
}

/// Known vulnerabilities. The database is a git repository somewhere else; `Ok(false)` when it is out of reach.
///
/// # Errors
/// When a dependency has a known vulnerability, or the tool cannot be had.
pub(crate) fn advisories(deadline: Deadline) -> Result<bool> {
    // A minute is plenty for a small repository and short enough for a machine without a way out.
    if let Err(error) = run(deny(deadline)?.args(["fetch", "db"]), Deadline::after(Duration::from_secs(60))) {
        say(format!("the advisory database is out of reach: {error:#}"));
        return Ok(false);
    }
    run(deny(deadline)?.args(["check", "--disable-fetch", "advisories"]), deadline).map(|()| true)
}

fn deny(deadline: Deadline) -> Result<Command> {
    let tool = match which("cargo-deny") {
        Some(tool) => tool,
        None => built(deadline)?,
    };
    let mut command = Command::new(tool);
    command.current_dir(root());
    Ok(command)
}

/// The tool below `target/`, built there the first time: a minute on two cores, without optimisation.
fn built(deadline: Deadline) -> Result<PathBuf> {
    let folder = target().join("tools");
    let tool = folder.join("bin/cargo-deny");
    if !tool.exists() {
        say(format!("cargo-deny is not installed; building {VERSION} into {}", folder.display()));
        let mut install =
            cargo(["install", "--quiet", "--locked", "--no-default-features", "cargo-deny", "--version", VERSION]);
        install
            .arg("--root")
            .arg(&folder)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        run(&mut install, deadline).context("cannot build cargo-deny")?;
    }
    Ok(tool)
}
