//! `cargo xtask fuzz`: the targets of `fuzz/`, driven by libFuzzer with coverage guidance on a stable toolchain.
//!
//! `cargo fuzz` wants a nightly compiler for one flag. What guides a fuzzer are LLVM's coverage counters, and those a
//! stable compiler adds too when it is asked to run the pass: [`Front::Counters`]. What is left out: the address
//! sanitizer, as the workspace denies `unsafe`.
//!
//! The committed seeds lie in `fuzz/corpus/<target>/`; what a run finds beside them goes to `target/fuzz/`, so that
//! the next run begins where the last one ended. An input that breaks a promise is written to `target/fuzz/found/`:
//! fix the fault, and commit the input as a seed.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::compiler::Front;
use crate::run::{Deadline, cargo, root, run, say, target};
use crate::tiers::Tally;

/// How long each target runs when nothing is said.
const BRIEFLY: Duration = Duration::from_secs(8);
/// And before a release.
pub(crate) const LONG: Duration = Duration::from_secs(5 * 60);

/// For building the driver, when nothing is built yet.
const BUILD_BUDGET: Duration = Duration::from_secs(10 * 60);
/// An input that keeps a target busy for this long is a finding.
const SLOW_SECONDS: u32 = 10;
/// Memory of one target, in megabytes.
const MEMORY: u32 = 2048;

/// `fuzz [--seconds N] [TARGET...]`.
///
/// # Errors
/// When the arguments are wrong or the driver cannot be built. Findings are in the exit code.
pub(crate) fn fuzz(args: &[&str]) -> Result<ExitCode> {
    let (seconds, chosen) = match args {
        ["--seconds", seconds, chosen @ ..] => (Duration::from_secs(seconds.parse().context("--seconds")?), chosen),
        chosen => (BRIEFLY, chosen),
    };
    let tally = drive(seconds, chosen)?;
    say(format!("{} targets held, {} broke", tally.passed, tally.failed));
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the driver and runs the chosen targets, all when none is named, each for `time`, as many at once as there
/// are processors.
///
/// # Errors
/// When the driver cannot be built, or there is no such target.
pub(crate) fn drive(time: Duration, chosen: &[&str]) -> Result<Tally> {
    let driver = build()?;
    let all = targets()?;
    if let Some(unknown) = chosen.iter().find(|name| all.iter().all(|target| target != **name)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let todo: Vec<&String> = all.iter().filter(|name| chosen.is_empty() || chosen.contains(&name.as_str())).collect();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers.min(todo.len()) {
            scope.spawn(|| {
                while let Some(name) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(&driver, name, time);
                    let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match outcome {
                        Ok(figures) => {
                            tally.passed += 1;
                            say(format!("{name:<14} held   {figures}"));
                        }
                        Err(error) => {
                            tally.failed += 1;
                            say(format!("{name:<14} BROKE  {error:#}"));
                        }
                    }
                }
            });
        }
    });
    Ok(tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The names of the targets: the folders of seeds, of which each target has one.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/corpus");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<OsString> {
    let mut build = cargo(["build", "--locked", "--package=sovereign-fuzz", "--features=driver", "--bin=fuzz"]);
    run(Front::Counters.of(&mut build)?, Deadline::after(BUILD_BUDGET))?;
    // A later build without counters puts its own file there.
    let built = target().join("debug/fuzz");
    Ok(built.into_os_string())
}

/// Runs one target; what libFuzzer says in the end.
fn one(driver: &OsString, name: &str, time: Duration) -> Result<String> {
    let learned = target().join("fuzz").join(name);
    let found = target().join("fuzz/found");
    for folder in [&learned, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let seeds = root().join("fuzz/corpus").join(name);
    let output = Command::new(driver)
        .env("FUZZ_TARGET", name)
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-timeout={SLOW_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/{name}-", found.display()))
        .args(["-print_final_stats=1", "-use_value_profile=1", "-verbosity=1"])
        .args([&learned, &seeds])
        .stdin(Stdio::null())
        .output()
        .context("cannot run the driver")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let from = said.lines().position(|line| line.contains("panicked at") || line.contains("ERROR")).unwrap_or(0);
        bail!("{}", said.lines().skip(from).take(40).collect::<Vec<_>>().join("\n"));
    }
    let figure = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim).to_owned();
    let covered = said.lines().rev().find_map(|line| line.split_once(" cov: ")).map(|(_, rest)| rest);
    let covered = covered.and_then(|rest| rest.split(' ').next()).unwrap_or("0");
    ensure!(covered != "0", "the driver was built without coverage counters");
    let runs = figure("stat::number_of_executed_units:");
    let rate = figure("stat::average_exec_per_sec:");
    Ok(format!("{covered:>5} places reached, {runs:>9} runs, {rate:>7} per second"))
}
