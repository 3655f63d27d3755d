//! Tests that change the machine they run on: networks with address translation between them, disks that are full,
//! clocks that jump. So they run on a machine of their own, in namespaces: whatever happens to them, nothing is left.
//!
//! They have a harness of their own, because the usual one cannot say at run time that a test was ignored. Where
//! namespaces or programs are missing that is said; as root and with `CI=true` it is a failure.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stdout, reason = "this is a test harness; figures are worth seeing")]

#[path = "machine/clock.rs"]
mod clock;
mod common;
#[path = "machine/disk.rs"]
mod disk;
#[path = "machine/nat.rs"]
mod nat;
#[path = "machine/network.rs"]
mod network;

use std::os::unix::process::CommandExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Set where the machine is our own.
const OWN: &str = "SOVEREIGN_OWN_MACHINE";

const TESTS: &[(&str, fn())] = &[
    ("a_primary_behind_address_translation_is_mirrored_and_its_address_changes", nat::home_behind_nat),
    ("a_mirror_behind_address_translation_follows_and_its_address_changes", nat::office_behind_nat),
    ("a_full_disk_costs_readers_nothing_and_tears_nothing", disk::full),
    ("a_clock_that_jumps_changes_nothing_for_readers", clock::jumps),
];

fn main() -> ExitCode {
    if std::env::var_os("TRUST").is_some() {
        common::process::play();
        return ExitCode::SUCCESS;
    }
    let wanted = wanted();
    if std::env::var_os(OWN).is_none() {
        let missing = missing();
        if missing.is_none() {
            let error =
                own_machine("exec \"$0\" \"$@\"").arg(std::env::current_exe().unwrap()).args(arguments()).exec();
            panic!("{error}");
        }
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && rustix::process::geteuid().is_root();
        let reason = missing.unwrap_or_default();
        return if must {
            report(&wanted, |_| Err(reason.clone()))
        } else {
            report(&wanted, |_| Ok(Some(reason.clone())))
        };
    }
    report(&wanted, |test| catch_unwind(test).map(|()| None).map_err(|_| "it panicked".to_owned()))
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1)
}

/// The tests that the command line asks for, in the usual harness's words.
fn wanted() -> Vec<(&'static str, fn())> {
    let (mut filters, mut skipped, mut exact) = (Vec::new(), Vec::new(), false);
    let mut words = arguments();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => skipped.extend(words.next()),
            "--exact" => exact = true,
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let fits = |name: &str, filter: &String| if exact { name == filter } else { name.contains(filter.as_str()) };
    let asked = |name: &str| filters.is_empty() || filters.iter().any(|filter| fits(name, filter));
    let wanted = TESTS.iter().filter(|(name, _)| asked(name) && !skipped.iter().any(|filter| fits(name, filter)));
    wanted.copied().collect()
}

/// `script` on a machine of our own: networks, mounts and processes that end with it.
fn own_machine(script: &str) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]);
    command.arg(format!("mount -t tmpfs none /run; ip link set lo up; {script}")).env(OWN, "1");
    // Tools of the machine's keeper are not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Why the tests cannot run here.
fn missing() -> Option<String> {
    for program in ["unshare", "ip", "nft", "mount", "faketime"] {
        let path = std::env::var("PATH").unwrap_or_default();
        let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
        if !folders.map(|folder| Path::new(folder).join(program)).any(|file| file.is_file()) {
            return Some(format!("there is no {program} here"));
        }
    }
    let tried = own_machine("nft list ruleset").stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    (!tried.status.success()).then(|| format!("no namespaces for this user: {said}"))
}

/// Runs tests and tells in the usual harness's words. `run`: what failed, or why it was not run.
fn report(tests: &[(&'static str, fn())], run: impl Fn(fn()) -> Result<Option<String>, String>) -> ExitCode {
    println!("\nrunning {} tests", tests.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in tests {
        match run(*test) {
            Ok(None) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Some(reason)) => {
                ignored += 1;
                println!("test {name} ... ignored, {reason}");
            }
            Err(reason) => {
                failed += 1;
                println!("test {name} ... FAILED: {reason}");
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = TESTS.len() - tests.len();
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {filtered} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
