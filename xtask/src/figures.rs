//! The figures of docs/benchmarks.md: tests that print tables, run on the release binary.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::run::{Deadline, cargo, watch};
use crate::tiers::Tally;
use crate::{dist, needs};

/// Cold and warm `up` by stage, and how fast nothing is found to change.
pub(crate) fn up(deadline: Deadline) -> Result<Tally> {
    measured("figures", "how_long_up_takes", deadline)
}

/// What all of our own processes hold while idle.
pub(crate) fn memory(deadline: Deadline) -> Result<Tally> {
    measured("figures", "how_much_memory_our_processes_hold", deadline)
}

/// Requests that fail during a deploy: none may.
pub(crate) fn load(deadline: Deadline) -> Result<Tally> {
    measured("load", "no_reader_of_ghost_notices_a_deploy", deadline)
}

/// Requests that fail while a backup is made: none may.
pub(crate) fn backup_under_load(program: &Path, deadline: Option<Deadline>) -> Result<Tally> {
    let deadline = deadline.unwrap_or_else(|| Deadline::after(UNDER_LOAD));
    run_on(program, "load", "no_reader_notices_a_backup", deadline)
}

/// Building the test included.
const UNDER_LOAD: Duration = Duration::from_secs(20 * 60);

/// From an author's change to every mirror: on a site that renders a page in 35 ms, and with a real Ghost.
pub(crate) fn publish(deadline: Deadline) -> Result<Tally> {
    let mut sum = told(test("sovereign-edge", "publish", "how_"), deadline)?;
    let real = measured("figures", "how_soon_a_post_of_ghost_is_everywhere", deadline)?;
    sum.passed += real.passed;
    sum.failed += real.failed;
    sum.ignored += real.ignored;
    Ok(sum)
}

/// Every Debian image, locked anew and built twice.
pub(crate) fn images(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    let mut command = test("sovereign-images", "debian", "every_role_");
    if let Some(path) = needs::apt_config()? {
        command.env("APT_CONFIG", path);
    }
    told(command, deadline)
}

/// A lab of two data centers with three hosts each.
pub(crate) fn lab(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    let mut command = test("sovereign-lab", "six", "six_hosts");
    command.envs(needs::apt_config()?.map(|path| ("APT_CONFIG", path)));
    told(command, deadline)
}

/// Hosts of one data center in a cluster; a site's instances, and its data taken over from a Ghost with SQLite; a site
/// that moves to a host; hosts that are taken out and upgraded; a Ghost that is upgraded there; a data center that is lost.
pub(crate) fn hosts(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    let mut tally = Tally::default();
    for (binary, name) in [
        ("bare_host", "three_hosts"),
        ("instances", ""),
        ("moved", ""),
        ("hosts_upgraded", ""),
        ("upgraded", ""),
        ("lost", ""),
    ] {
        let mut command = test("sovereign", binary, name);
        command.envs(needs::apt_config()?.map(|path| ("APT_CONFIG", path)));
        tally.add(told(command, deadline)?);
    }
    Ok(tally)
}

/// What an answer of a name server costs beside others; what a resolver of the world makes of the stack's name servers when
/// data centers die; thirteen months of certificates with nobody there.
pub(crate) fn names(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    needs::ensure_names()?;
    let mut tally = told(test("sovereign-dns", "name_server", "cost::"), deadline)?;
    tally.add(told(test("sovereign", "public_certificates", "renewed::year::"), deadline)?);
    let mut command = test("sovereign", "resolved", "");
    command.envs(needs::apt_config()?.map(|path| ("APT_CONFIG", path)));
    tally.add(told(command, deadline)?);
    Ok(tally)
}

/// A stack on two data centers of three hosts, from bare hosts to nothing again.
pub(crate) fn six(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    let mut command = test("sovereign", "six", "six_hosts");
    command.envs(needs::apt_config()?.map(|path| ("APT_CONFIG", path)));
    told(command, deadline)
}

/// Data centers behind routers and such that can only dial out, and people at home there.
pub(crate) fn homes(deadline: Deadline) -> Result<Tally> {
    needs::ensure()?;
    needs::ensure_names()?;
    let mut command = test("sovereign", "homes", "");
    command.envs(needs::apt_config()?.map(|path| ("APT_CONFIG", path)));
    told(command, deadline)
}

/// Planning for large stacks.
pub(crate) fn plan(deadline: Deadline) -> Result<Tally> {
    let mut example = cargo(["run", "--release", "--locked", "--package=sovereign-plan", "--example=scale"]);
    watch(&mut example, deadline, |_| {})?;
    Ok(Tally::ONE)
}

fn measured(binary: &str, test: &str, deadline: Deadline) -> Result<Tally> {
    run_on(&program()?, binary, test, deadline)
}

fn run_on(program: &Path, binary: &str, test: &str, deadline: Deadline) -> Result<Tally> {
    let mut command = self::test("sovereign", binary, test);
    command.arg("--exact").env(PROGRAM, program);
    told(command, deadline)
}

/// Ignored tests of a package whose names begin with `name`, one after the other.
fn test(package: &str, binary: &str, name: &str) -> Command {
    let mut command = cargo(["test", "--locked", "--package", package]);
    command.args(["--test", binary, "--", "--ignored", "--nocapture", "--test-threads=1", name]);
    command
}

fn told(mut command: Command, deadline: Deadline) -> Result<Tally> {
    let tally = Cell::new(Tally::default());
    let ended = watch(&mut command, deadline, |line| {
        let mut sum = tally.get();
        sum.add_line(line);
        tally.set(sum);
    });
    match (ended, tally.get()) {
        (Err(error), Tally { failed: 0, .. }) => Err(error),
        (_, tally) => Ok(tally),
    }
}

/// Names the program whose figures are taken; the tests read it too.
const PROGRAM: &str = "SOVEREIGN_E2E_PROGRAM";

/// The one named by the environment, else the release binary of this checkout.
pub(crate) fn program() -> Result<PathBuf> {
    std::env::var_os(PROGRAM).map_or_else(dist::dist, |path| Ok(path.into()))
}
