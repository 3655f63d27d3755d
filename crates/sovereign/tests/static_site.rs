//! The smallest site, from declaration to purge: two data centers, a folder of files, the real binary.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::leaf::{self, operator_with_site};
use support::{Readers, alive, kill};

#[test]
fn declared_read_mirrored_and_removed() {
    let operator = operator_with_site();
    let (home, office) = (operator.home_port, operator.office_port);

    operator.run(&["check"]).success();
    operator.run(&["plan"]).exits(3);
    assert!(!operator.state().join("bin").exists(), "planning must not change anything");
    operator.up();
    operator.run(&["plan"]).success();
    operator.run(&["status"]).success();

    let started = Instant::now();
    let again = operator.up();
    assert!(again.stdout().contains("nothing has to change"), "{again:?}");
    eprintln!("time to \"nothing has to change\": {:?}", started.elapsed());

    let canonical = format!("leaf.localhost:{home}");
    let far = format!("leaf.localhost:{office}");
    for path in ["/", "/about.html", "/style.css", "/leaf.svg"] {
        let near = operator.curl(&canonical, home, path, &[]).ok();
        let mirrored = operator.curl(&canonical, office, path, &[]).ok();
        assert_eq!(near.body, mirrored.body, "{path} byte for byte under the canonical name");
        for name in [far.clone(), format!("other.localhost:{office}")] {
            let renamed = operator.curl(&name, office, path, &[]).ok();
            assert!(!renamed.text().contains(&canonical), "{path} under {name} leads back to {canonical}");
            assert_eq!(renamed.text().replace(&name, &canonical), near.text(), "{path} under {name}");
        }
    }
    operator.curl(&canonical, home, "/missing.html", &[]).is(404);

    let files_before_down: BTreeSet<_> = operator.processes();
    assert!(files_before_down.len() >= 3, "supervisor and two edges: {files_before_down:?}");
    operator.run(&["down"]).success();
    assert_eq!(operator.processes(), BTreeSet::new(), "processes left behind");
    for port in [home, office] {
        std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
    }
    operator.up();
    operator.curl(&canonical, office, "/about.html", &[]).ok();
    operator.run(&["down", "--purge", "--with-archive", "--yes"]).success();
    assert!(
        !operator.state().exists() || fs::read_dir(operator.state()).unwrap().next().is_none(),
        "state left behind"
    );
    assert!(operator.home().join("public/index.html").exists(), "the operator's own files stay");
}

#[test]
fn no_reader_notices_that_processes_are_killed() {
    let operator = operator_with_site();
    let (home, office) = (operator.home_port, operator.office_port);
    operator.up();
    let readers = Readers::start(&operator, "leaf.localhost", &[home, office], "/");

    let edge = operator.pid("edge@home");
    kill(edge, "KILL");
    operator.replaced("edge@home", edge);

    let before = operator.processes();
    let supervisors: Vec<_> = before
        .iter()
        .copied()
        .filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).split('\0').any(|word| word.contains("supervise"))
        })
        .collect();
    assert!(!supervisors.is_empty(), "{before:?}");
    let kills = 1 + supervisors.len();
    for supervisor in supervisors {
        let edge = operator.pid("edge@office");
        kill(supervisor, "KILL");
        kill(edge, "KILL");
        operator.replaced("edge@office", edge);
        assert!(!alive(supervisor));
    }
    readers.stop_without_refusal(kills);
}

#[test]
fn a_run_killed_at_any_moment_is_finished_by_the_next() {
    let operator = operator_with_site();
    let url = format!("leaf.localhost:{}", operator.home_port);
    // Each round kills later: from before the first step until a run ends by itself.
    for wait in (0..).map(|round| Duration::from_millis(20 + round * 60)) {
        let mut run = operator.command(&["up", "--yes"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + wait;
        let ended = loop {
            if let Some(status) = run.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if let Some(status) = ended {
            assert!(status.success(), "a run after a kill failed");
            break;
        }
        run.kill().unwrap();
        run.wait().unwrap();
    }
    operator.up();
    operator.run(&["status"]).success();
    operator.curl(&url, operator.office_port, "/about.html", &[]).ok();
}

#[test]
fn the_number_of_a_primary_outlives_an_older_state() {
    let operator = operator_with_site();
    operator.up();
    let file = operator.state().join("primaries.json");
    let number = || {
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        read["epochs"]["leaf"].as_u64().unwrap()
    };
    let (before, at_home) = (fs::read(&file).unwrap(), leaf::stack(&operator));
    assert_eq!(number(), 1);
    // Declared elsewhere, it gets the next one: no two places have the same.
    let at_office = at_home.replace("primary = \"home\"", "primary = \"office\"");
    let at_office = at_office.replace("mirrors = [\"office\"]", "mirrors = [\"home\"]");
    operator.write("stack.toml", &at_office);
    operator.up();
    assert_eq!(number(), 2);

    // A machine that knows what it knew before that: edges tell it.
    fs::write(&file, &before).unwrap();
    assert!(operator.up().stdout().contains("nothing has to change"));
    assert_eq!(number(), 2);
    // With the stack file of before, too, it does not take the site away from where it is written.
    fs::write(&file, &before).unwrap();
    operator.write("stack.toml", &at_home);
    let refused = operator.run(&["up", "--yes"]).exits(1);
    let said = "declared at home, but it is written at office since number 2";
    assert!(refused.stdout().contains(said) || refused.stderr().contains(said), "{refused:?}");
    operator.run(&["plan"]).exits(1);
    assert_eq!(number(), 1, "nothing is written down");
    operator.write("stack.toml", &at_office);
    assert!(operator.up().stdout().contains("nothing has to change"));
}

#[test]
fn a_taken_port_is_found_before_anything_starts() {
    let operator = operator_with_site();
    let taken = std::net::TcpListener::bind(("127.0.0.1", operator.office_port)).unwrap();
    let ran = operator.run(&["up", "--yes"]).exits(1);
    assert!(ran.stderr().contains(&operator.office_port.to_string()), "{ran:?}");
    assert!(ran.stderr().contains(&std::process::id().to_string()), "the owner is named: {ran:?}");
    assert_eq!(operator.processes(), BTreeSet::new());
    drop(taken);
    operator.up();
}

#[test]
fn secrets_are_read_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    fn walk(folder: &Path, found: &mut Vec<(String, u32)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                walk(&entry.path(), found);
            } else if kind.is_file() {
                found.push((entry.path().display().to_string(), entry.metadata().unwrap().permissions().mode()));
            }
        }
    }
    let operator = operator_with_site();
    operator.up();
    for folder in ["seed", "keys"] {
        let mut files = Vec::new();
        walk(&operator.state().join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} is empty");
        for (path, mode) in files {
            assert_eq!(mode & 0o077, 0, "{path} is {mode:o}");
        }
    }
    let mode = fs::metadata(operator.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let words = operator.run(&["seed", "show"]).success().stdout();
    let words: Vec<_> = words.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
    assert!(words.len() >= 24, "{words:?}");
    for pid in operator.processes() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(&words[..4].join(" ")), "{pid}/{file}");
        }
    }
}
