//! A bare host becomes ready, is killed at every step meanwhile, and is given back: with a real Incus in it.
//!
//! The host is a container of an Incus of our own. Where none can run, that is said.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use sovereign_testkit::incusd::Incusd;
use support::{Operator, Ran, eventually};

/// The steps, as they are told when they begin.
const STEPS: [&str; 7] = [
    "say on the host whose it is ...",
    "let the stack's keys in ...",
    "install Incus and its tools ...",
    "raise what the kernel gives to containers ...",
    "make the storage pool ...",
    "make the restricted project ...",
    "filter what comes in ...",
];

const PACKAGES: &str = STEPS[2];

/// A lab of one host; gone when this is dropped.
struct Bare {
    _incusd: Incusd,
    home: tempfile::TempDir,
    /// What the lab has written for whoever wants to get in.
    folder: PathBuf,
    address: String,
}

impl Bare {
    /// Why there can be none here.
    fn missing() -> Option<String> {
        let programs = ["mmdebstrap", "ssh", "/usr/sbin/nft"];
        let lacking = programs.into_iter().find(|program| Command::new(program).arg("--version").output().is_err());
        Incusd::missing().or_else(|| lacking.map(|program| format!("there is no {program} here")))
    }

    fn start() -> Self {
        let (incusd, home) = (Incusd::start(), tempfile::tempdir().unwrap());
        let socket = incusd.socket();
        let up = ["up", "--datacenters", "1", "--hosts", "1", "--json", "--incus", socket.to_str().unwrap()];
        let output = lab(home.path(), &up);
        let made: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert!(output.status.success(), "{output:?}");
        let folder = Path::new(made["stack_file"].as_str().unwrap()).parent().unwrap().to_owned();
        let address = made["hosts"][0]["address"].as_str().unwrap().to_owned();
        Self { _incusd: incusd, home, folder, address }
    }

    /// What a shell on the host says.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.folder.join("ssh_config")).args(["home-1", script]).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All that a test can tell apart of what was there before.
    fn inventory(&self) -> String {
        self.says(
            "dpkg-query -W -f '${Package}\\n' | sort; cat /root/.ssh/authorized_keys; \
             cd / && find etc/apt etc/sysctl.d etc/systemd/system etc/sovereign var/lib/incus var/lib/sovereign \
             var/cache/sovereign-packages -type f 2> /dev/null | sort; nft list tables 2> /dev/null || true",
        )
    }

    fn fingerprint(&self) -> String {
        let line = self.says("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
        line.split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        lab(self.home.path(), &["down", "--yes"]);
    }
}

/// `sovereign lab`, with what hosts start from kept where the lab's own tests keep it.
fn lab(home: &Path, args: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(Operator::program());
    command.arg("lab").args(args).args(["--name", "bare"]).current_dir(home).env_clear().env("HOME", home);
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("XDG_CACHE_HOME", &cache);
    command.env("XDG_DATA_HOME", cache.join("data"));
    command.envs(std::env::var_os("APT_CONFIG").map(|file| ("APT_CONFIG", file)));
    command.output().unwrap()
}

struct Adding<'a> {
    operator: &'a Operator,
    target: String,
    identity: String,
    fingerprint: String,
}

impl Adding<'_> {
    fn arguments(&self) -> Vec<&str> {
        let place = ["--datacenter", "home", "--name", "atlas", "--identity", &self.identity];
        [&["host", "add", &self.target], &place[..], &["--fingerprint", &self.fingerprint, "--yes"]].concat()
    }

    fn run(&self) -> Ran {
        self.operator.run(&self.arguments())
    }

    /// Kills it when it begins a step.
    fn kill_at(&self, step: &str) {
        let mut child = self.operator.command(&self.arguments()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            said.push(line);
            if said.last().is_some_and(|line| line == step) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said.last().map(String::as_str), Some(step), "{}", said.join("\n"));
    }
}

#[test]
fn a_bare_host_becomes_ready_whatever_is_killed_meanwhile_and_is_given_back_as_it_was() {
    if let Some(why) = Bare::missing() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let host = Bare::start();
    let before = host.inventory();
    let operator = Operator::new();
    operator.write("stack.toml", include_str!("../../model/src/file/default.toml"));
    let (target, identity) = (format!("root@{}", host.address), host.folder.join("key").display().to_string());
    let adding = Adding { operator: &operator, target, identity, fingerprint: host.fingerprint() };

    for step in STEPS {
        adding.kill_at(step);
        if step == PACKAGES {
            // What it began there goes on, and the next run waits for it.
            let mut child = operator.command(&adding.arguments()).stderr(Stdio::null()).spawn().unwrap();
            eventually("packages are unpacked", Duration::from_secs(120), || {
                (!host.says("pgrep -x dpkg || true").is_empty()).then_some(())
            });
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let listed = operator.run(&["host", "list"]).success();
        assert!(listed.stdout().contains("stopped at"), "{listed:?}");
    }
    let added = adding.run().success();
    assert!(added.stdout().contains("[[datacenter.host]]"), "{added:?}");
    let again = adding.run().success();
    assert!(again.stdout().contains("there was nothing to do"), "{again:?}");
    let checked = operator.json(&["host", "check"]);
    let findings = checked["hosts"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] == "fine"), "{checked}");
    let api = findings.iter().find(|finding| finding["subject"] == "incus api").unwrap();
    assert!(api["sentence"].as_str().unwrap().contains("answers over SSH"), "{api}");

    // Incus is fenced, and nothing of it listens.
    assert_eq!(host.says("incus project get sovereign restricted").trim(), "true");
    assert_eq!(host.says("incus config get core.https_address").trim(), "");
    assert!(!host.says("ss -Hlnt").contains(":8443"));
    let refused =
        host.says("incus -q create --empty x --project sovereign -c security.privileged=true 2>&1 || echo refused");
    assert!(refused.contains("refused"), "{refused}");
    // Only the key of the stack is needed by now, and what is dropped by hand is seen.
    let mut keys = host.says("cat /root/.ssh/authorized_keys");
    keys = keys.lines().filter(|line| line.contains(" sovereign:")).map(|line| format!("{line}\n")).collect();
    assert_eq!(keys.lines().count(), 2, "{keys}");
    host.says("nft delete table inet sovereign");
    let drift = operator.run(&["host", "check", "home/atlas"]);
    assert_eq!(drift.code(), Some(3), "{drift:?}");
    assert!(drift.stdout().contains("the rules for packets are gone"), "{drift:?}");
    adding.run().success();
    assert_eq!(operator.run(&["host", "check"]).code(), Some(0));

    // Another stack is told whose it is, and changes nothing.
    let other = Operator::new();
    other.write("stack.toml", &include_str!("../../model/src/file/default.toml").replace("my-stack", "other"));
    let taken = Adding { operator: &other, ..adding }.run();
    assert_eq!(taken.code(), Some(1), "{taken:?}");
    assert!(taken.stderr().contains("another stack (my-stack)"), "{taken:?}");
    // A management machine that has nothing but the words gets in.
    let words = operator.run(&["seed", "show"]).success().stdout();
    let new = Operator::new();
    new.write("stack.toml", include_str!("../../model/src/file/default.toml"));
    let mut restore = new.command(&["seed", "restore"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());
    host.says("sed -i '/:management$/d' /root/.ssh/authorized_keys");
    let target = format!("root@{}", host.address);
    let place = ["--datacenter", "home", "--name", "atlas", "--fingerprint"];
    let fingerprint = host.fingerprint();
    let recovered = [&["host", "add", &target], &place[..], &[&fingerprint, "--recover", "--yes"]].concat();
    new.run(&recovered).success();
    assert!(!new.state().join("keys/hosts-recovery.ssh").exists());
    assert_eq!(new.run(&["host", "check"]).code(), Some(0));

    // Data is a reason to stop; without it all is as it was.
    host.says("incus -q storage volume create sovereign data --project sovereign");
    let kept = new.run(&["host", "remove", "home/atlas", "--yes"]);
    assert_eq!(kept.code(), Some(1), "{kept:?}");
    assert!(kept.stderr().contains("volume data is still there"), "{kept:?}");
    new.run(&["host", "remove", "home/atlas", "--purge", "--yes"]).success();
    assert_eq!(host.inventory(), before);
}
