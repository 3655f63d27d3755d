//! Hosts over SSH, from the command line, against an sshd of this machine. Whatever it says of itself, nothing is made on
//! it: each test looks only.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::process::Stdio;

use sovereign_testkit::sshd::{Sshd, key};
use support::Operator;

/// The stack as `up` writes it first, without starting any of it.
fn operator() -> Operator {
    let operator = Operator::new();
    let sample = include_str!("../../model/src/file/default.toml");
    operator.write("stack.toml", sample);
    operator
}

fn add<'a>(address: &'a str, server: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["host", "add", address, "--datacenter", "home", "--name", "atlas", "--identity", server, "--dry-run"];
    [&base, more].concat()
}

#[test]
fn a_host_is_looked_at_only_when_its_key_was_confirmed_and_nothing_is_done_by_looking() {
    let (operator, mut server) = (operator(), Sshd::start(""));
    let (address, identity) = (server.address().to_string(), server.at("ours").display().to_string());
    let fingerprint = server.host_key().fingerprint().to_string();

    // Nobody is there to be asked; `--yes` is no answer to whether a key is the right one.
    let asked = operator.run(&add(&address, &identity, &["--yes"]));
    assert_eq!(asked.code(), Some(2), "{asked:?}");
    assert!(asked.stderr().contains(&format!("--fingerprint {fingerprint}")), "{asked:?}");

    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let wrong = operator.run(&add(&address, &identity, &["--fingerprint", other]));
    assert_eq!(wrong.code(), Some(1), "{wrong:?}");
    assert!(wrong.stderr().contains(other) && wrong.stderr().contains(&fingerprint), "{wrong:?}");

    // Everything at once, for people and for machines.
    let looked = operator.json(&add(&address, &identity, &["--fingerprint", &fingerprint]));
    let found = looked.get("findings").unwrap_or(&looked["error"]["problems"]).as_array().unwrap();
    let subjects: Vec<&str> = found.iter().filter_map(|finding| finding["subject"].as_str()).collect();
    for subject in ["owner", "architecture", "system", "memory", "clock", "storage"] {
        assert!(subjects.contains(&subject), "{subject} in {looked}");
    }
    let shown = operator.run(&add(&address, &identity, &["--fingerprint", &fingerprint, "--disk", "/dev/none"]));
    assert_eq!(shown.code(), Some(1), "{shown:?}");
    assert!(shown.stderr().contains("there is no disk /dev/none"), "{shown:?}");

    // Looking leaves nothing behind, here or there.
    let listed = operator.run(&["host", "list"]).success();
    assert!(listed.stdout().contains("there are no hosts"), "{listed:?}");
    assert_eq!(fs::read_to_string(server.at("authorized")).unwrap().lines().count(), 1);

    // A key that it does not let in, and a host that is another one by now.
    key(&server.at("stranger"));
    let stranger = server.at("stranger").display().to_string();
    let refused = operator.run(&add(&address, &stranger, &["--fingerprint", &fingerprint]));
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr().contains("authorized_keys"), "{refused:?}");
    server.change_host_key();
    let changed = operator.run(&add(&address, &identity, &["--fingerprint", &fingerprint]));
    assert_eq!(changed.code(), Some(1), "{changed:?}");
    let now = server.host_key().fingerprint().to_string();
    assert!(changed.stderr().contains(&now) && changed.stderr().contains(&fingerprint), "{changed:?}");
}

#[test]
fn a_host_that_was_pinned_and_has_another_key_is_told_nothing() {
    let (operator, mut server) = (operator(), Sshd::start(""));
    let address = server.address().to_string();
    let key = server.host_key();
    let record = format!(
        "{{\"version\":1,\"hosts\":{{\"home/atlas\":{{\"address\":\"{address}\",\"host-key\":\"{}\",\"under-way\":\
         \"packages\"}}}}}}",
        key.as_str()
    );
    // The seed of the stack.
    let identity = server.at("ours").display().to_string();
    operator.run(&add(&address, &identity, &["--fingerprint", &key.fingerprint().to_string()]));
    operator.write("state/hosts/hosts.json", &record);
    let listed = operator.run(&["host", "list"]).success();
    assert!(listed.stdout().contains("stopped at packages"), "{listed:?}");

    // What is let in is the key of the stack.
    let check = operator.run(&["host", "check"]);
    assert_eq!(check.code(), Some(3), "{check:?}");
    assert!(check.stdout().contains("lets none of our keys in"), "{check:?}");
    let ours = std::process::Command::new("ssh-keygen")
        .args(["-y", "-f"])
        .arg(operator.state().join("keys/hosts.ssh"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    fs::write(server.at("authorized"), ours.stdout).unwrap();
    let check = operator.json(&["host", "check", "home/atlas"]);
    let said = check["hosts"][0]["findings"].to_string();
    assert!(said.contains("no mark of this stack"), "{check}");
    assert_eq!(check["hosts"][0]["facts"]["uid"], rustix::process::geteuid().as_raw(), "{check}");

    server.change_host_key();
    let now = server.host_key().fingerprint().to_string();
    let check = operator.run(&["host", "check"]);
    assert_eq!(check.code(), Some(3), "{check:?}");
    let pinned = key.fingerprint().to_string();
    assert!(check.stdout().contains(&now) && check.stdout().contains(&pinned), "{check:?}");
    let other = operator.run(&add(&address, &identity, &["--fingerprint", &now]));
    assert_eq!(other.code(), Some(2), "{other:?}");
    assert!(other.stderr().contains("--forget"), "{other:?}");

    // It is gone for good: it can be forgotten, and only then may its keys go.
    server.kill();
    let gone = operator.run(&["host", "check"]);
    assert!(gone.stdout().contains("cannot reach"), "{gone:?}");
    let purge = operator.run(&["down", "--purge", "--yes"]);
    assert_eq!(purge.code(), Some(1), "{purge:?}");
    assert!(purge.stderr().contains("home/atlas"), "{purge:?}");
    let unknown = operator.run(&["host", "remove", "home/other", "--yes"]);
    assert_eq!(unknown.code(), Some(2), "{unknown:?}");
    operator.run(&["host", "remove", "home/atlas", "--forget", "--yes"]).success();
    assert!(operator.run(&["host", "list"]).success().stdout().contains("there are no hosts"));
    operator.run(&["down", "--purge", "--yes"]).success();
}
