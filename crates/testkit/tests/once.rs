//! A program that is run once, confined: it sees what it was given, and nothing of the stack.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a shell's script by [`sovereign_engine::embedded::once`], in a process that knows `shim`.
fn once(state: &Path, own: &Path, patience: &str, script: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_testbed");
    Command::new(program).arg("once").args([state, own]).args([patience, script]).output().unwrap()
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
    let folder = tempfile::tempdir().unwrap();
    let (state, own) = (folder.path().join("state"), folder.path().join("own"));
    fs::create_dir_all(&own).unwrap();
    let failed = once(&state, &own, "20", "echo why >&2; exit 3");
    assert!(!failed.status.success() && text(&failed.stderr).contains("why"), "{}", text(&failed.stderr));
    let slow = once(&state, &own, "1", "sleep 600");
    assert!(!slow.status.success() && text(&slow.stderr).contains("Slow"), "{}", text(&slow.stderr));
}
