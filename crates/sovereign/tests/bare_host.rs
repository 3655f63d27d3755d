//! A bare host becomes ready, is killed at every step meanwhile, and is given back: with a real Incus in it. Then three of
//! a data center become one cluster, lose two, and are given back one after the other.
//!
//! Hosts are containers of an Incus of our own. Where none can run, that is said.
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
const STEPS: [&str; 8] = [
    "say on the host whose it is ...",
    "let the stack's keys in ...",
    "install Incus, a name server and their tools ...",
    "raise what the kernel gives to containers ...",
    "filter what comes in ...",
    "join the other hosts of the data center ...",
    "make the storage pool ...",
    "make the restricted project ...",
];

const PACKAGES: &str = STEPS[2];
const JOIN: &str = STEPS[5];

/// A lab of three hosts; gone when this is dropped.
struct Bare {
    _incusd: Incusd,
    home: tempfile::TempDir,
    /// What the lab has written for whoever wants to get in.
    folder: PathBuf,
    /// The address of the first.
    address: String,
}

impl Bare {
    /// Why there can be none here.
    fn missing() -> Option<String> {
        let programs = ["mmdebstrap", "ssh", "/usr/sbin/nft"];
        let lacking = programs.into_iter().find(|program| Command::new(program).arg("--version").output().is_err());
        Incusd::missing().or_else(|| lacking.map(|program| format!("there is no {program} here")))
    }

    fn start(hosts: usize) -> Self {
        let (incusd, home) = (Incusd::start(), tempfile::tempdir().unwrap());
        let socket = incusd.socket();
        let hosts = hosts.to_string();
        let up = ["up", "--datacenters", "1", "--hosts", &hosts, "--json", "--incus", socket.to_str().unwrap()];
        let output = lab(home.path(), &up);
        let made: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert!(output.status.success(), "{output:?}");
        let folder = Path::new(made["stack_file"].as_str().unwrap()).parent().unwrap().to_owned();
        let address = made["hosts"][0]["address"].as_str().unwrap().to_owned();
        Self { _incusd: incusd, home, folder, address }
    }

    /// What a shell on the first host says.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.nth_says(1, script)
    }

    /// What a shell on one of them says.
    #[track_caller]
    fn nth_says(&self, host: usize, script: &str) -> String {
        let mut command = Command::new("ssh");
        let name = format!("home-{host}");
        command.arg("-F").arg(self.folder.join("ssh_config")).args([&name, script]).stdin(Stdio::null());
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
        self.nth_fingerprint(1)
    }

    fn nth_fingerprint(&self, host: usize) -> String {
        let line = self.nth_says(host, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
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
    name: &'a str,
    target: String,
    identity: String,
    fingerprint: String,
}

impl Adding<'_> {
    fn arguments(&self) -> Vec<&str> {
        let place = ["--datacenter", "home", "--name", self.name, "--identity", &self.identity];
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
    let host = Bare::start(1);
    let before = host.inventory();
    let operator = Operator::new();
    operator.write("stack.toml", include_str!("../../model/src/file/default.toml"));
    let (target, identity) = (format!("root@{}", host.address), host.folder.join("key").display().to_string());
    let adding = Adding { operator: &operator, name: "atlas", target, identity, fingerprint: host.fingerprint() };

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

#[test]
#[ignore = "three minutes long: `cargo xtask prove hosts`"]
fn three_hosts_become_a_cluster_and_are_given_back_as_they_were() {
    if let Some(why) = Bare::missing() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let hosts = Bare::start(3);
    let before = hosts.inventory();
    let operator = Operator::new();
    operator.write("stack.toml", include_str!("../../model/src/file/default.toml"));
    three_become_one_cluster(&hosts, &operator);
    assert_eq!(hosts.inventory(), before);
}

/// What `host check` finds of clusters: its exit code, and for each host what it says.
fn clusters(operator: &Operator) -> (Option<i32>, Vec<String>) {
    let ran = operator.run(&["host", "check", "--json"]);
    let checked: Value = serde_json::from_str(&ran.stdout()).unwrap();
    let hosts = checked["hosts"].as_array().unwrap().iter().map(|host| {
        let findings = host["findings"].as_array().unwrap().iter();
        let of = findings.filter(|finding| ["cluster", "connection"].contains(&finding["subject"].as_str().unwrap()));
        of.map(|finding| finding["sentence"].as_str().unwrap()).collect::<Vec<_>>().join("; ")
    });
    (ran.code(), hosts.collect())
}

fn three_become_one_cluster(hosts: &Bare, operator: &Operator) {
    let block = hosts.address.rsplit_once('.').unwrap().0.to_owned();
    let address = |host: usize| format!("{block}.{}", 10 + host);
    let adding = |host: usize, name| Adding {
        operator,
        name,
        target: format!("root@{}", address(host)),
        identity: hosts.folder.join("key").display().to_string(),
        fingerprint: hosts.nth_fingerprint(host),
    };
    let began = std::time::Instant::now();
    adding(1, "atlas").run().success();
    assert!(!hosts.says("ss -Hlnt").contains(":8443"), "alone it has nobody to hear");
    let second = adding(2, "borea");
    second.kill_at(JOIN);
    second.run().success();
    let third = adding(3, "ceres");
    third.run().success();
    eprintln!("three hosts are a cluster after {:?}", began.elapsed());
    let together = "members that answer: atlas, borea, ceres".to_owned();
    assert_eq!(clusters(operator), (Some(0), vec![together; 3]));
    for host in 1..=3 {
        // Each hears the others on its own address, and nobody else there is heard.
        let own = format!("{}:8443", address(host));
        assert_eq!(hosts.nth_says(host, "ss -Hlnt | awk '$4 ~ /:8443$/ { print $4 }'").trim(), own);
        let outside = std::net::TcpStream::connect_timeout(&own.parse().unwrap(), Duration::from_secs(2));
        assert!(outside.is_err(), "{own} answers to the world");
        let rules = hosts.nth_says(host, "nft list chain inet sovereign input; cat /etc/sovereign/nftables.conf");
        for other in 1..=3 {
            let rule = format!("ip saddr {} accept", address(other));
            assert_eq!(rules.matches(&rule).count(), if other == host { 0 } else { 2 }, "{rules}");
        }
    }
    // One pool and one project, with a place on each host; and nothing that would let somebody in.
    let pool = hosts.says(
        "for host in atlas borea ceres; do incus storage show sovereign --target $host | grep '^ *source:'; done",
    );
    assert_eq!(pool.lines().count(), 3, "{pool}");
    assert_eq!(hosts.nth_says(2, "incus project get sovereign restricted; incus cluster list-tokens -f csv"), "true\n");
    let again = third.run().success();
    assert!(again.stdout().contains("there was nothing to do"), "{again:?}");

    // What is on a member keeps it.
    hosts.says("incus -q storage volume create sovereign data --target borea --project sovereign");
    let kept = operator.run(&["host", "remove", "home/borea", "--yes"]);
    assert!(kept.code() == Some(1) && kept.stderr().contains("volume data is still there"), "{kept:?}");

    // Two of three have no power: the one that is left says so, and nobody waits for long.
    for host in ["home-2", "home-3"] {
        let killed = lab(hosts.home.path(), &["kill", host]);
        assert!(killed.status.success(), "{killed:?}");
    }
    let (code, said) = clusters(operator);
    assert_eq!((code, said.len()), (Some(3), 3), "{said:?}");
    let alone = eventually("a cluster without a quorum", Duration::from_secs(120), || {
        let ran = adding(1, "atlas").run();
        ran.stderr().contains("no quorum").then_some(ran)
    });
    assert!(alone.code() == Some(1) && alone.stderr().contains("recover-from-quorum-loss"), "{alone:?}");
    let healed = lab(hosts.home.path(), &["heal"]);
    assert!(healed.status.success(), "{healed:?}");
    eventually("a cluster that is whole", Duration::from_secs(240), || (clusters(operator).0 == Some(0)).then_some(()));

    // One burned; the others forget it. The last one goes like the first.
    let killed = lab(hosts.home.path(), &["kill", "home-3"]);
    assert!(killed.status.success(), "{killed:?}");
    operator.run(&["host", "remove", "home/ceres", "--forget", "--yes"]).success();
    assert_eq!(hosts.says("incus cluster list -f csv | cut -d, -f1 | sort"), "atlas\nborea\n");
    assert!(!hosts.says("cat /etc/sovereign/nftables.conf").contains(&address(3)), "it is let in no more");
    operator.run(&["host", "remove", "home/borea", "--purge", "--yes"]).success();
    operator.run(&["host", "remove", "home/atlas", "--yes"]).success();
    eprintln!("and are none any more after {:?}", began.elapsed());
}
