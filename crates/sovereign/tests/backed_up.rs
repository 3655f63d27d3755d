//! Backups at every `up` and by the clock, and what is said when they fail, with the real binary.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::leaf::operator_with_site;
use support::{Ran, eventually, kill, noise, process};

fn answer(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn snapshots(backup: &Value) -> Vec<(&str, bool)> {
    let rows = backup["snapshots"].as_array().unwrap_or_else(|| panic!("{backup}"));
    rows.iter().map(|row| (row["of"].as_str().unwrap(), row["unchanged"] == true)).collect()
}

/// What `status` says, without the figures.
fn complaints(status: &Value) -> Vec<String> {
    let problems = status["problems"].as_array().unwrap_or_else(|| panic!("{status}"));
    let said = |problem: &Value| format!("{}: {}", problem["subject"], problem["message"]).replace('"', "");
    problems.iter().map(said).collect()
}

#[test]
fn every_run_backs_up_and_the_clock_does_it_too() {
    let operator = operator_with_site();
    let first = operator.json(&["up", "--yes"]);
    assert_eq!(snapshots(&first["backup"]), [("leaf", false), ("(state)", false)], "{first}");
    let copy = &first["backup"]["copies"][0];
    assert_eq!((&copy["copy"], &copy["outcome"]), (&"office".into(), &"in-step".into()), "{first}");
    let status = operator.json(&["status"]);
    assert_eq!(
        (complaints(&status).len(), &status["problems"][0]["subject"]),
        (1, &Value::from("root seed")),
        "{status}"
    );
    operator.verify_words();
    let status = operator.json(&["status"]);
    assert_eq!(status["well"], true, "{status}");
    assert!(status["archive"].as_array().unwrap().iter().all(|backed| backed["whole_seconds"].is_u64()), "{status}");

    // Nothing to do: said at once, then backed up.
    fs::write(operator.home().join("public/new.html"), "new").unwrap();
    let second = operator.run(&["up", "--yes"]).success().stdout();
    let (done, saved) = second.split_once("Backed up").unwrap();
    assert!(done.starts_with("nothing has to change") && saved.contains("1 file"), "{second}");
    let third = operator.json(&["up", "--yes"]);
    assert_eq!(snapshots(&third["backup"]), [("leaf", true), ("(state)", true)], "{third}");
    assert_eq!(operator.json(&["up", "--yes", "--no-backup"])["backup"], Value::Null);

    // A change: backed up before it, and what it changed of the state after it.
    let file = operator.home().join("stack.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("other.localhost", "another.localhost")).unwrap();
    let changed = operator.json(&["up", "--yes"]);
    assert!(changed["steps"].as_u64().unwrap() > 0, "{changed}");
    assert_eq!(snapshots(&changed["backup"]), [("leaf", true), ("(state)", false)], "{changed}");

    assert_eq!(support::not_in_the_list_of_what_is_saved(&operator), Vec::<String>::new());

    // By the clock.
    let idle = operator.run(&["tick"]).success().stdout();
    assert!(["5 h", "6 h"].iter().any(|left| idle.starts_with(&format!("nothing is due for {left}"))), "{idle}");
    let seven = answer(&operator.run_later("+7h", &["--json", "tick"]).success());
    assert_eq!(snapshots(&seven["backup"]), [("leaf", true), ("(state)", true)], "{seven}");
    assert_eq!(seven["proven"], Value::Array(Vec::new()), "{seven}");
    let status = answer(&operator.run_later("+19h", &["--json", "status"]).exits(3));
    let late = "leaf: its newest proven backup is 12 h 00 min old, and one is due every 6h";
    assert!(complaints(&status).iter().any(|said| said == late), "{status}");
    let week = answer(&operator.run_later("+8d", &["--json", "tick"]).success());
    let files = support::files(&operator.home().join("public")).len();
    assert_eq!(
        (week["proven"][0]["of"].as_str(), week["proven"][0]["files"].as_u64()),
        (Some("leaf"), Some(files as u64))
    );
    assert_eq!(week["proven"].as_array().unwrap().len(), 2, "{week}");
}

#[test]
fn a_backup_that_fails_is_said_until_one_goes_well() {
    let operator = operator_with_site();
    operator.up();
    let config = operator.state().join("archive/repository/config");
    let aside = operator.state().join("archive/repository/aside");
    fs::rename(&config, &aside).unwrap();
    let late = operator.run_later("+7h", &["tick"]).exits(1);
    assert!(late.stderr().contains("the archive that this stack uses is not in"), "{late:?}");
    let status = operator.json(&["status"]);
    assert_eq!((status["well"].as_bool(), complaints(&status).len()), (Some(false), 2), "{status}");
    assert!(complaints(&status)[0].starts_with("leaf: its backup fails since"), "{status}");
    // The site is served as before.
    let up = operator.run(&["up", "--yes"]).exits(1);
    assert!(up.stdout().contains("nothing has to change") && up.stdout().contains("leaf: not backed up"), "{up:?}");
    let name = format!("leaf.localhost:{}", operator.home_port);
    operator.curl(&name, operator.office_port, "/about.html", &[]).ok();

    fs::rename(&aside, &config).unwrap();
    operator.up();
    assert_eq!(operator.json(&["status"])["well"], true);
}

#[test]
fn an_interrupted_backup_leaves_nothing_half() {
    let operator = operator_with_site();
    operator.up();
    let before = operator.json(&["archive", "list"])["snapshots"].as_array().unwrap().len();
    fs::write(operator.home().join("public/large.bin"), noise(1, 60_000_000)).unwrap();
    let running = operator.command(&["backup"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let home = operator.home().to_string_lossy().into_owned();
    let source = || process(["archive-source", &home]);
    eventually("the site is read", Duration::from_secs(20), source);
    kill(running.id().try_into().unwrap(), "INT");
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("nothing half is left of it"), "{said}");
    assert_eq!(source(), None);
    assert_eq!(operator.json(&["archive", "list"])["snapshots"].as_array().unwrap().len(), before);
    assert_eq!(snapshots(&operator.json(&["backup"]))[0], ("leaf", false));
}

#[test]
fn another_stack_in_the_same_place_begins_an_archive_of_its_own() {
    let operator = operator_with_site();
    operator.up();
    operator.run(&["down", "--purge", "--yes"]).success();
    let again = operator.run(&["up", "--yes"]).success();
    assert!(again.stderr().contains("an archive that was made with other words was here"), "{again:?}");
    let kept = fs::read_dir(operator.state()).unwrap().flatten().map(|entry| entry.path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains("archive-before-")).collect();
    assert!(kept.len() == 1 && kept[0].join("repository/config").is_file(), "{kept:?}");
    operator.run(&["down", "--purge", "--yes"]).success();
    assert!(kept[0].join("repository/config").is_file(), "it outlives another purge");
    operator.run(&["down", "--purge", "--with-archive", "--yes"]);
}
