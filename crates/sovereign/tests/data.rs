//! The data of a service that the operator runs: written to a file, read in again, and whatever can go wrong on the way.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Operator, Ran, alive, eventually, kill};

/// Programs that fail, each in its own way: the site, and its `dump` or `load`.
const SITES: &[(&str, &str, &str)] = &[
    ("absent", "dump", r#"["no-such-program"]"#),
    ("forbidden", "dump", r#"["./forbidden"]"#),
    ("fails", "dump", r#"["sh", "-c", "echo half; echo 'the disk is on fire' >&2; exit 3"]"#),
    ("killed", "dump", r#"["sh", "-c", "echo half; kill -9 $$"]"#),
    ("silent", "dump", r#"["true"]"#),
    ("clean", "dump", r#"["sh", "-c", "cat; env; pwd"]"#),
    ("large", "dump", r#"["head", "--bytes=3000000", "/dev/zero"]"#),
    ("slow", "dump", r#"["sh", "-c", "echo half; sleep 1000 & echo $! > sleeper; wait"]"#),
    ("none", "dump", "[]"),
    ("lazy", "load", r#"["head", "--bytes=0"]"#),
    ("refuses", "load", r#"["sh", "-c", "cat > taken; echo 'no such table' >&2; exit 1"]"#),
    ("takes", "load", r#"["sh", "-c", "cat > taken; echo 1 row"]"#),
];

fn stack(operator: &Operator, sites: &str) -> String {
    format!(
        r#"version = 1

[stack]
name = "shop"

[[datacenter]]
name = "home"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}

[[datacenter]]
name = "office"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}
{sites}"#,
        operator.home_port, operator.office_port
    )
}

fn operator_with_bad_programs() -> Operator {
    let operator = Operator::new();
    let mut sites = String::new();
    for (name, key, command) in SITES {
        sites.push_str(&format!(
            "\n[[site]]\nname = \"{name}\"\napp = \"upstream\"\naddress = \"127.0.0.1:9\"\n{key} = {command}\n\
             canonical = \"{name}.localhost\"\nprimary = \"home\"\n"
        ));
    }
    sites
        .push_str("\n[[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.localhost\"\nprimary = \"home\"\n");
    sites.push_str(
        "\n[[site]]\nname = \"www\"\napp = \"static\"\nfolder = \".\"\ncanonical = \"www.localhost\"\nprimary = \"home\"\n",
    );
    operator.write("stack.toml", &stack(&operator, &sites));
    operator.write("forbidden", "#!/bin/sh\necho data\n");
    operator
}

#[track_caller]
fn says(ran: &Ran, expected: &[&str]) {
    for expected in expected {
        assert!(ran.stderr().contains(expected), "{expected:?} is said:\n{}", ran.stderr());
    }
}

/// Names in the operator's home that a dump may have left.
fn left(operator: &Operator) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(operator.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("dump"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_dump_that_fails_leaves_the_one_before() {
    let operator = operator_with_bad_programs();
    operator.write("old.dump", "the one before");
    for (site, expected) in [
        ("absent", &["cannot start no-such-program", "whole path"][..]),
        ("forbidden", &["cannot start ./forbidden", "chmod +x ./forbidden"]),
        ("fails", &["sh: the disk is on fire", "sh ended with code 3: the disk is on fire"]),
        ("killed", &["sh was ended by signal 9"]),
        ("silent", &["true ended well and wrote nothing"]),
    ] {
        let ran = operator.run(&["site", "dump", site, "--to", "old.dump"]).exits(1);
        says(&ran, expected);
        assert_eq!(fs::read_to_string(operator.home().join("old.dump")).unwrap(), "the one before");
        assert_eq!(left(&operator), ["old.dump"], "{site}");
    }
    // Not for a program, or for none that is known: said before anything is begun.
    says(
        &operator.run(&["site", "dump", "blog"]).exits(2),
        &["blog is Ghost", "`sovereign backup` and `sovereign restore`"],
    );
    says(&operator.run(&["site", "load", "www", "--from", "old.dump"]).exits(2), &["folder of files", "copy "]);
    says(&operator.run(&["site", "dump", "none"]).exits(2), &["no `dump` for site none", "docs/services.md"]);
    says(&operator.run(&["site", "dump", "nobody"]).exits(2), &["declares no site nobody"]);
    says(&operator.run(&["--json", "site", "dump", "large", "--to", "-"]).exits(2), &["no room for a JSON object"]);
    says(&operator.run(&["site", "dump", "large", "--to", "no/such/folder"]).exits(1), &["cannot write"]);
    says(&operator.run(&["site", "dump", "large", "--to", "."]).exits(1), &["is not a file"]);
    assert_eq!(left(&operator), ["old.dump"]);
}

#[test]
fn a_dump_is_whole_private_and_has_a_checksum() {
    let operator = operator_with_bad_programs();
    let report = operator.json(&["site", "dump", "large"]);
    assert_eq!((&report["site"], &report["bytes"]), (&"large".into(), &3_000_000.into()));
    assert_eq!((&report["datacenter"], &report["file"]), (&"home".into(), &"large.dump".into()));
    assert_eq!(left(&operator), ["large.dump", "large.dump.sha256"]);
    let checked =
        Command::new("sha256sum").args(["--check", "large.dump.sha256"]).current_dir(operator.home()).output();
    assert!(checked.as_ref().unwrap().status.success(), "{checked:?}");
    let sum = fs::read_to_string(operator.home().join("large.dump.sha256")).unwrap();
    assert!(sum.starts_with(report["sha256"].as_str().unwrap()));
    for name in left(&operator) {
        assert_eq!(fs::metadata(operator.home().join(&name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }

    // To standard output: the data and nothing else.
    let ran = operator.run(&["site", "dump", "large", "--to", "-"]).success();
    assert_eq!(ran.stdout().len(), 3_000_000);
    // A few variables, no input, and the stack file's folder.
    let output = operator.command(&["site", "dump", "clean", "--to", "-"]).env("SECRET", "x").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let known = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.contains(&"HOME") && names.iter().all(|name| known.contains(name)), "{said}");
    assert_eq!(Path::new(said.lines().last().unwrap()), fs::canonicalize(operator.home()).unwrap());

    // No room: said, with nothing left.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = operator.command(&["site", "dump", "large", "--to", "-"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("No space left") && said.contains("free some space"), "{said}");
}

#[test]
fn ctrl_c_ends_the_program_and_what_it_started() {
    let operator = operator_with_bad_programs();
    let command = || {
        let mut command = operator.command(&["site", "dump", "slow"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for signal in ["INT", "TERM"] {
        let _ = fs::remove_file(operator.home().join("sleeper"));
        let child = command();
        let sleeper: i32 = eventually("the program has begun", Duration::from_secs(10), || {
            fs::read_to_string(operator.home().join("sleeper")).ok()?.trim().parse().ok()
        });
        assert!(alive(sleeper));
        kill(i32::try_from(child.id()).unwrap(), signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        eventually("what it started is gone", Duration::from_secs(10), || (!alive(sleeper)).then_some(()));
        assert_eq!(left(&operator), Vec::<String>::new());
    }
}

#[test]
fn only_whole_data_is_loaded() {
    let operator = operator_with_bad_programs();
    operator.run(&["site", "dump", "large"]).success();
    let load =
        |site: &str, more: &[&str]| operator.run(&[&["site", "load", site, "--from", "large.dump"], more].concat());
    let taken = operator.home().join("taken");
    says(&load("takes", &[]).exits(2), &["Replace all data of site takes", "--yes"]);
    assert!(!taken.exists(), "nobody said yes");
    says(&load("refuses", &["--yes"]).exits(1), &["sh: no such table", "sh ended with code 1: no such table"]);
    says(&load("lazy", &["--yes"]).exits(1), &["head ended well and read only 0 of 3000000 bytes"]);
    let ran = load("takes", &["--yes"]).success();
    assert_eq!(fs::metadata(&taken).unwrap().len(), 3_000_000);
    says(&ran, &["sh: 1 row"]);
    assert!(ran.stdout().contains("the edge at home was not told: it does not run"), "{}", ran.stdout());

    fs::remove_file(&taken).unwrap();
    let dump = operator.home().join("large.dump");
    File::options().write(true).open(&dump).unwrap().set_len(2_999_999).unwrap();
    says(&load("takes", &["--yes"]).exits(1), &["cut off, or changed"]);
    fs::write(&dump, "").unwrap();
    says(&load("takes", &["--yes"]).exits(1), &["large.dump is empty"]);
    fs::write(&dump, "by hand").unwrap();
    fs::remove_file(operator.home().join("large.dump.sha256")).unwrap();
    says(&load("takes", &["--yes"]).exits(1), &["no checksum beside it", "sha256sum large.dump > large.dump.sha256"]);
    fs::remove_file(&dump).unwrap();
    says(&load("takes", &["--yes"]).exits(1), &["cannot read large.dump", "No such file"]);
    assert!(!taken.exists(), "nothing of all that reached the program");
    // The way out that was named.
    fs::write(&dump, "by hand").unwrap();
    let sum = File::create(operator.home().join("large.dump.sha256")).unwrap();
    Command::new("sha256sum").arg("large.dump").current_dir(operator.home()).stdout(sum).status().unwrap();
    load("takes", &["--yes"]).success();
    assert_eq!(fs::read_to_string(&taken).unwrap(), "by hand");
}

/// The wiki of `data/wiki.py`, running.
struct Wiki {
    child: Child,
    port: u16,
}

impl Wiki {
    fn start(operator: &Operator) -> Self {
        let program = operator.write("wiki.py", include_str!("data/wiki.py"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new("python3")
            .arg(&program)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Wiki {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sql(operator: &Operator, statements: &str) {
    let program = "import sqlite3, sys; sqlite3.connect('wiki.db').executescript(sys.argv[1])";
    let status = Command::new("python3").args(["-c", program, statements]).current_dir(operator.home()).status();
    assert!(status.unwrap().success());
}

#[test]
fn yesterdays_wiki_comes_back_and_every_mirror_shows_it() {
    let operator = Operator::new();
    sql(&operator, "CREATE TABLE page (path TEXT PRIMARY KEY, text TEXT); INSERT INTO page VALUES ('/', 'yesterday');");
    let wiki = Wiki::start(&operator);
    let site = format!(
        "\n[[site]]\nname = \"wiki\"\napp = \"upstream\"\naddress = \"127.0.0.1:{}\"\n\
         dump = [\"python3\", \"wiki.py\", \"dump\"]\nload = [\"python3\", \"wiki.py\", \"load\"]\n\
         canonical = \"wiki.localhost\"\nprimary = \"home\"\nmirrors = [\"office\"]\n",
        wiki.port
    );
    operator.write("stack.toml", &stack(&operator, &site));
    operator.up();
    let name = format!("wiki.localhost:{}", operator.home_port);
    let shown = |port| operator.curl(&name, port, "/", &[]).ok().text();
    assert_eq!(shown(operator.office_port), "yesterday");
    operator.run(&["site", "dump", "wiki"]).success();

    // A mistake, which every edge may keep for an hour once it has seen it.
    sql(&operator, "UPDATE page SET text = 'spoilt';");
    let told = operator.json(&["site", "load", "wiki", "--from", "wiki.dump", "--yes"]);
    assert_eq!(told["told"], serde_json::json!(["home", "office"]), "{told}");
    assert_eq!(shown(operator.home_port), "yesterday");
    sql(&operator, "UPDATE page SET text = 'today';");
    for port in [operator.home_port, operator.office_port] {
        assert_eq!(shown(port), "yesterday", "a promise of an hour is believed");
    }
    operator.run(&["site", "dump", "wiki", "--to", "today.dump"]).success();
    operator.run(&["site", "load", "wiki", "--from", "today.dump", "--yes"]).success();
    for port in [operator.home_port, operator.office_port] {
        eventually("what was loaded is shown", Duration::from_secs(10), || (shown(port) == "today").then_some(()));
    }

    // From the archive: what `dump` writes is backed up, and not again while it is the same.
    let backup = || {
        let backup = operator.json(&["backup", "wiki"]);
        (backup["snapshots"][0]["unchanged"] == true, backup["snapshots"][0]["bytes_read"].as_u64().unwrap())
    };
    assert!(matches!(backup(), (false, 1..)));
    let said = operator.run(&["restore", "wiki", "--yes"]).exits(2).stderr();
    assert!(said.contains("site load wiki --from FOLDER/data.dump"), "a way out: {said}");
    assert_eq!(backup(), (true, 0));
    sql(&operator, "UPDATE page SET text = 'lost';");
    let to = operator.home().join("restored");
    operator.run(&["restore", "wiki", "--to", to.to_str().unwrap()]).success();
    let dump = to.join("data.dump");
    operator.run(&["site", "load", "wiki", "--from", dump.to_str().unwrap(), "--yes"]).success();
    assert_eq!(shown(operator.home_port), "today");
}
