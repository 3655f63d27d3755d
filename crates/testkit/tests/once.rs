//! A program that is run once, confined: it sees what it was given, and nothing of the stack.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sovereign_testkit::wait;

/// A shell's script, to be run by [`sovereign_engine::embedded::once`] in a process that knows `shim`.
fn command(state: &Path, own: &Path, patience: &str, script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.arg("once").args([state, own]).args([patience, script]);
    command
}

fn once(state: &Path, own: &Path, patience: &str, script: &str) -> Output {
    command(state, own, patience, script).output().unwrap()
}

fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (state, own) = (folder.path().join("state"), folder.path().join("own"));
    fs::create_dir_all(&own).unwrap();
    (folder, state, own)
}

/// The process id that a script wrote into a file.
async fn written(file: &Path) -> i32 {
    wait::until("a process id in the file", async || fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

/// Waits until a process is gone.
async fn gone(pid: i32) {
    let state = async || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest).trim_start();
        (state.is_empty() || state.starts_with(['Z', 'X'])).then_some(())
    };
    wait::until("the end of the process", state).await;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_sees_its_own_folder_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let (state, own) = (folder.path().join("state"), folder.path().join("own"));
    fs::create_dir_all(state.join("keys")).unwrap();
    fs::create_dir_all(&own).unwrap();
    fs::write(state.join("keys/ca.json"), "a secret").unwrap();
    fs::write(own.join("data"), "some data").unwrap();
    let script = format!(
        "cat {own}/data; echo more > {own}/made || echo cannot write; cat {state}/keys/ca.json; ls {state}; true",
        own = own.display(),
        state = state.display()
    );
    let ran = once(&state, &own, "20", &script);
    let said = text(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", text(&ran.stderr));
    assert!(said.contains("some data") && !said.contains("cannot write"), "{said}");
    assert!(!said.contains("a secret") && !said.contains("keys\n"), "{said}");
    assert_eq!(fs::read_to_string(own.join("made")).unwrap(), "more\n");
}

#[test]
fn one_that_fails_or_takes_too_long_is_no_answer() {
    let (_folder, state, own) = folders();
    let failed = once(&state, &own, "20", "echo why >&2; exit 3");
    assert!(!failed.status.success() && text(&failed.stderr).contains("why"), "{}", text(&failed.stderr));
    let slow = once(&state, &own, "1", "sleep 600");
    assert!(!slow.status.success() && text(&slow.stderr).contains("Slow"), "{}", text(&slow.stderr));
}

#[test]
fn an_answer_is_told_from_complaints() {
    let (_folder, state, own) = folders();
    let ran = once(&state, &own, "20", "echo a warning >&2; echo the answer; echo another >&2");
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), "the answer\n");
    // As long as a pipe, and no byte longer.
    let ran = once(&state, &own, "20", "head -c 65536 /dev/zero");
    assert_eq!((ran.status.success(), ran.stdout.len()), (true, 65_536), "{}", text(&ran.stderr));
}

#[test]
fn of_many_complaints_the_last_are_kept() {
    let (_folder, state, own) = folders();
    let script = "echo the first >&2; yes noise | head -c 3000000 >&2; echo the last >&2; exit 3";
    let said = text(&once(&state, &own, "20", script).stderr);
    assert!(said.contains("Failed") && said.contains("the last"), "{said}");
    assert!(!said.contains("the first") && said.len() < 20_000, "{} bytes", said.len());
}

#[test]
fn one_that_does_not_stop_talking_is_ended() {
    let (_folder, state, own) = folders();
    let began = Instant::now();
    let ran = once(&state, &own, "20", "yes");
    assert!(!ran.status.success() && text(&ran.stderr).contains("Talkative"), "{}", text(&ran.stderr));
    assert!(began.elapsed() < Duration::from_secs(15), "it was let talk for {:?}", began.elapsed());
}

#[tokio::test]
async fn what_it_started_ends_with_it() {
    let (_folder, state, own) = folders();
    let file = own.join("pid");
    for (patience, end) in [("1", "sleep 600"), ("20", "exit 3"), ("20", "true")] {
        let began = Instant::now();
        let script = format!("sleep 600 & echo $! > {}; {end}", file.display());
        once(&state, &own, patience, &script);
        assert!(began.elapsed() < Duration::from_secs(15), "{end}: it was waited for, {:?}", began.elapsed());
        gone(written(&file).await).await;
        fs::remove_file(&file).unwrap();
    }
}

#[tokio::test]
async fn it_ends_with_whoever_started_it() {
    let (_folder, state, own) = folders();
    let file = own.join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", file.display());
    let mut starter = command(&state, &own, "600", &script).spawn().unwrap();
    let pid = written(&file).await;
    starter.kill().unwrap();
    starter.wait().unwrap();
    gone(pid).await;
}
