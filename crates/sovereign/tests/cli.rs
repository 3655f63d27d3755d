//! The command line as scripts see it: streams, exit codes, JSON. Nothing is started.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::pipe;
use std::process::{Command, Output};

use serde_json::Value;

/// The binary in an empty home and an empty environment.
fn sovereign(home: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sovereign"));
    command.args(args).current_dir(home.path()).env_clear().env("HOME", home.path());
    command
}

fn run(home: &tempfile::TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = sovereign(home, args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_answer_goes_to_stdout_and_the_conversation_to_stderr() {
    let home = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&home, &["schema"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(serde_json::from_str::<Value>(&stdout).unwrap().is_object());

    let (code, stdout, stderr) = run(&home, &["check"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    insta::assert_snapshot!(stderr.replace(&home.path().display().to_string(), "HOME"), @r"
    error: there is no stack file: neither stack.toml nor HOME/.config/sovereign/stack.toml
    help: `sovereign up` writes one to go by; `--stack FILE` names another
    ");
}

#[test]
fn with_json_there_is_one_object_whatever_happens() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("bad.toml"), "version = 1\nnome = 3\n").unwrap();
    for (args, code, command) in [
        (&["--json", "schema"][..], 0, "schema"),
        (&["--json", "check"], 2, "check"),
        (&["check", "--json", "--stack", "bad.toml"], 2, "check"),
        (&["--json", "no-such-command"], 2, "sovereign"),
    ] {
        let (ended, stdout, _) = run(&home, args);
        let object: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout}"));
        assert_eq!(
            (ended, &object["version"], &object["command"]),
            (Some(code), &1.into(), &command.into()),
            "{args:?}"
        );
        assert_eq!(object["error"].is_object(), code != 0, "{args:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut child = sovereign(&home, &["completions", "zsh"]).stdout(writer).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = sovereign(&home, &["schema"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the answer"));
}

#[test]
fn a_lab_without_an_incus_says_which_package_it_takes() {
    let home = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&home, &["lab", "up", "--incus", "/nonexistent/unix.socket"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(stderr, @r"
    error: cannot reach Incus at /nonexistent/unix.socket
      cause: No such file or directory (os error 2)
    help: install Incus (Debian 12: package incus-base from bookworm-backports) and start it
    ");
    assert!(!home.path().join(".local").exists(), "nothing was begun");

    let (code, _, stderr) = run(&home, &["lab", "down", "--yes"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(stderr, @r"
    error: there is no lab lab
    help: `sovereign lab up` makes one
    ");
    assert_eq!(run(&home, &["lab", "up", "--name", "Not A Name"]).0, Some(2));
}

#[test]
fn a_site_that_is_declared_here_does_not_move_and_what_to_write_is_said() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("stack.toml"), include_str!("../../model/src/file/default.toml")).unwrap();
    let (code, stdout, stderr) = run(&home, &["site", "move", "blog", "--yes"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    insta::assert_snapshot!(stderr, @r#"
    error: site blog is declared on this machine, at home
    help: declare first where it is to be: `engine = "incus"` and a [[datacenter.host]] for home, or another such data center as `primary` of site blog; see docs/hosts.md
    "#);
    assert!(!home.path().join(".local").exists(), "nothing was made");
}

/// The key of a domain follows from the words that docs/secrets.md goes by, and so does the number there.
#[test]
fn a_registrar_is_told_the_digest_of_the_key_that_follows_from_the_words() {
    use std::io::Write as _;
    use std::process::Stdio;

    let home = tempfile::tempdir().unwrap();
    let domains = "[[domain]]\nname = \"example.org\"\nregistrar = \"Example Registrar\"\n\
                   [[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nprovider = \"Some Provider\"\n";
    let stack = include_str!("../../model/src/file/default.toml").replace("name = \"my-stack\"", "name = \"demo\"");
    assert!(stack.contains("name = \"demo\""), "{stack}");
    std::fs::write(home.path().join("stack.toml"), stack + domains).unwrap();
    let (code, stdout, stderr) = run(&home, &["dns", "ds"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("there is no root seed") && stderr.contains("help:"), "{stderr}");

    let words = "hamster diagram private dutch cause delay private meat slide toddler razor book \
                 happy fancy gospel tennis maple dilemma loan word shrug inflict delay length";
    let mut restoring = sovereign(&home, &["seed", "restore"]).stdin(Stdio::piped()).spawn().unwrap();
    restoring.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    assert!(restoring.wait().unwrap().success());
    let ds = "19865 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A";
    assert!(include_str!("../../../docs/secrets.md").contains(ds));
    let (code, stdout, _) = run(&home, &["dns", "ds"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains(&format!("example.org. IN DS {ds}\n")) && !stdout.contains("example.net"), "{stdout}");
    let (_, stdout, _) = run(&home, &["dns", "ds", "example.org", "--json"]);
    let told = serde_json::from_str::<Value>(&stdout).unwrap()["domains"][0].clone();
    assert_eq!((&told["registrar"], &told["ds"]["key_tag"]), (&"Example Registrar".into(), &19865.into()));
    assert_eq!(told["ds"]["digest"].as_str().unwrap(), &ds[11..]);

    let (code, _, stderr) = run(&home, &["dns", "ds", "example.net"]);
    assert!(code == Some(2) && stderr.contains("ask Some Provider"), "{stderr}");
}
