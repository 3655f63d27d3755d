//! Three hosts of one data center: one is taken out on purpose and brought back, then all are upgraded and booted again, one
//! after the other, while people read. It is killed half-way, and refused where it would cost too much.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, missing};
use support::{Operator, debian, eventually};

const AUTHORITY: &str = "blog.rounds.test";

/// A first start of everything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Somebody's own container, which needs nothing of its host. $1: what its image is called. It is made at home-3.
const WANDERER: &str = "\
set -e
image=$(incus image list --project sovereign -f csv -c F | head -n 1)
incus -q image export --project sovereign \"$image\" /root/wanderer < /dev/null > /dev/null
incus -q image import /root/wanderer* --alias wanderer < /dev/null > /dev/null
incus -q launch wanderer wanderer -s sovereign --no-profiles --target home-3 -c limits.memory=64MiB < /dev/null";

/// A mirror of the host's own, with a newer package than the host has, after which Debian asks for a boot.
const MIRROR: &str = "\
set -e
mkdir -p /srv/mirror/goose/DEBIAN
cd /srv/mirror
printf '#!/bin/sh\necho goose > /run/reboot-required.pkgs\ntouch /run/reboot-required\n' > goose/DEBIAN/postinst
chmod 755 goose/DEBIAN/postinst
for version in 1 2; do
    printf 'Package: goose\nVersion: %s\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: goose\n' $version \
        > goose/DEBIAN/control
    dpkg-deb --build goose goose_$version.deb
done
dpkg --install goose_1.deb
rm /run/reboot-required*
{ dpkg-deb -f goose_2.deb; printf 'Filename: ./goose_2.deb\nSize: %s\nSHA256: %s\n' \
    \"$(stat -c %s goose_2.deb)\" \"$(sha256sum < goose_2.deb | cut -d ' ' -f 1)\"; } > Packages
echo 'deb [trusted=yes] file:/srv/mirror ./' > /etc/apt/sources.list";

/// What lies on a host and says that it is evacuated.
const NOTE: &str = "test -e /etc/sovereign/evacuated.json && echo yes || echo no";

/// When process 1 began: another moment after each boot.
const BOOT: &str = "sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20";

/// Readers as browsers are: they know all addresses, and go on to the next where nobody listens.
struct Browsers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Duration, Vec<String>)>,
}

impl Browsers {
    fn start(operator: &Operator, hosts: &[Host]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (authority, url) = (operator.authority(), format!("https://{AUTHORITY}/"));
        // Each begins with another one.
        let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
        let orders = (0..addresses.len()).map(|first| {
            let (before, from) = addresses.split_at(first);
            format!("{AUTHORITY}:443:{}", [from, before].concat().join(","))
        });
        let orders: Vec<String> = orders.collect();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut asked, mut slowest, mut failed) = (0, Duration::ZERO, Vec::new());
                for order in orders.iter().cycle() {
                    if stop.load(Ordering::Relaxed) || asked > 20_000 {
                        break;
                    }
                    let began = Instant::now();
                    let mut curl = Command::new("curl");
                    curl.args(["--silent", "--show-error", "--max-time", "20", "--output", "/dev/null", "--cacert"]);
                    curl.arg(&authority).args(["--write-out", "%{http_code}", "--resolve", order, &url]);
                    let output = curl.env_remove("CURL_CA_BUNDLE").output().unwrap();
                    asked += 1;
                    slowest = slowest.max(began.elapsed());
                    if output.stdout != b"200" {
                        failed.push(format!("{order}: {}", String::from_utf8_lossy(&output.stderr)));
                    }
                }
                (asked, slowest, failed)
            }
        });
        Self { stop, thread }
    }

    #[track_caller]
    fn stop_without_failure(self, meanwhile: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, slowest, failed) = self.thread.join().unwrap();
        assert!(asked > 0 && failed.is_empty(), "{meanwhile}: {} of {asked} failed: {failed:#?}", failed.len());
        eprintln!("{meanwhile}: {asked} reads, none failed, the slowest took {slowest:.1?}");
    }
}

/// What `status` finds wrong with what serves; backups and words of the seed are another story's.
fn wrong(operator: &Operator) -> Vec<String> {
    let ran = operator.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&ran.stdout()).unwrap();
    let problems = status["problems"].as_array().unwrap().iter();
    let text = |problem: &Value| format!("{}: {}", problem["subject"], problem["message"]);
    problems
        .map(text)
        .filter(|text| !text.contains("backup") && !text.contains("root seed") && !text.contains("archive"))
        .collect()
}

/// Whether the site can be written.
fn is_written(operator: &Operator, lab: &Lab) -> Option<()> {
    (operator.curl(AUTHORITY, lab.edge("home"), "/ghost/api/admin/site/", &[]).status == 200).then_some(())
}

#[test]
#[ignore = "six minutes long: `cargo xtask prove hosts`"]
fn hosts_are_taken_out_and_upgraded_while_people_read() {
    if let Some(why) = missing() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let began = Instant::now();
    let note = |what: &str| eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let incusd = Incusd::start();
    let (operator, cache) = debian::operator();
    let lab = Lab::with_hosts(&incusd, "rounds", 1, 3);
    operator.write("stack.toml", &fs::read_to_string(lab.folder.join("stack.toml")).unwrap());
    for role in ["site", "database"] {
        debian::lock(&operator, &cache, role);
    }
    for host in &lab.hosts {
        add(&operator, &lab, host);
    }
    // Before anything is on them they can be upgraded all the same.
    let early = operator.run(&["host", "upgrade", "--dry-run"]).success();
    assert!(early.stdout().contains("nothing is newer"), "{early:?}");
    operator.up_without_backup().success();
    eventually("all is well", PATIENCE, || wrong(&operator).is_empty().then_some(()));
    let [home_1, home_2, home_3] = &lab.hosts[..] else { panic!("there are three") };
    lab.says(home_3, WANDERER);
    note("three hosts serve");

    evacuated(&operator, &lab);
    note("a host was out and is back");

    // One has a mirror of its own, and boots since Debian says so; the others are not touched.
    lab.says(home_3, MIRROR);
    let boots: Vec<String> = lab.hosts.iter().map(|host| lab.says(host, BOOT)).collect();
    let own = operator.run(&["host", "upgrade", "--yes"]).success();
    assert!(own.stdout().contains("home/home-3: 1 package upgraded, booted again, all is well"), "{own:?}");
    assert!(
        !own.stdout().contains("home/home-1:") && !own.stderr().contains("home/home-3 reaches no mirror"),
        "{own:?}"
    );
    let now: Vec<String> = lab.hosts.iter().map(|host| lab.says(host, BOOT)).collect();
    assert!(now[..2] == boots[..2] && now[2] != boots[2], "{boots:?} {now:?}");
    assert_eq!(lab.says(home_3, "dpkg-query -W -f '${Version}' goose"), "2");
    note("one host had a mirror of its own");

    // Two have an older Incus, as Debian's updates find it; and one of them an edge that does not run.
    let current = lab.says(home_2, "dpkg-query -W -f '${Version}' incus-base");
    let age = "sed -i '/^Package: incus-base$/,/^$/s/^Version: .*/Version: 6.0.4-0/' /var/lib/dpkg/status";
    for host in [home_1, home_2] {
        lab.says(host, age);
    }
    let dry = operator.run(&["host", "upgrade", "--dry-run"]).exits(3);
    for said in ["incus-base", "6.0.4-0", &current, "home/home-2, home/home-1", "reaches no mirror", "is a container"] {
        assert!(dry.stdout().contains(said), "{said}: {dry:?}");
    }
    let edge = lab.says(
        home_3,
        "systemctl list-units --plain --no-legend 'sovereign-*.service' | awk '/edge/ { print $1; exit }'",
    );
    let (edge, sockets) =
        (edge.trim(), "systemctl --no-legend --plain list-units --all 'sovereign-*.socket' | cut -d ' ' -f 1");
    lab.says(home_3, &format!("systemctl stop --job-mode=ignore-dependencies $({sockets}); systemctl stop {edge}"));
    let unwell = operator.run(&["host", "upgrade", "--yes"]).exits(1);
    assert!(unwell.stderr().contains("not everything is well"), "{unwell:?}");
    assert_eq!(lab.says(home_2, "dpkg-query -W -f '${Version}' incus-base"), "6.0.4-0");
    lab.says(home_3, &format!("systemctl start $({sockets}) {edge}"));
    eventually("all is well again", PATIENCE, || wrong(&operator).is_empty().then_some(()));

    // Killed while the first of them boots, it goes on.
    let boots: Vec<String> = lab.hosts.iter().map(|host| lab.says(host, BOOT)).collect();
    let browsers = Browsers::start(&operator, &lab.hosts);
    let upgrade = ["host", "upgrade", "home/home-1", "home/home-2", "--reboot", "--yes"];
    operator.kill_at(&upgrade, "boot home/home-2 ...");
    note("killed while a host boots");
    let done = operator.json(&["host", "upgrade", "--reboot", "--yes"]);
    browsers.stop_without_failure("upgraded and booted again");
    note("three hosts are upgraded");
    let hosts: Vec<&str> = done["hosts"].as_array().unwrap().iter().map(|row| row["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["home/home-2", "home/home-3", "home/home-1"], "the applications come last: {done}");
    assert!(done["hosts"].as_array().unwrap().iter().all(|row| row["rebooted"] == true), "{done}");
    for (host, boot) in lab.hosts.iter().zip(boots) {
        assert_ne!(lab.says(host, BOOT), boot, "{} has booted", host.name);
        assert_eq!(lab.says(host, "dpkg-query -W -f '${Version}' incus-base"), current);
        assert_eq!(lab.says(host, NOTE).trim(), "no");
    }
    assert_eq!(lab.says(home_1, "incus list wanderer -f csv -c sL").trim(), "RUNNING,home-3");
    eventually("it is written", PATIENCE, || is_written(&operator, &lab));
    assert_eq!(wrong(&operator), Vec::<String>::new());
    let again = operator.run(&["host", "upgrade"]).success();
    assert!(again.stdout().contains("nothing is newer"), "{again:?}");
}

fn evacuated(operator: &Operator, lab: &Lab) {
    let [home_1, home_2, _] = &lab.hosts[..] else { panic!("there are three") };
    let place = || lab.says(home_1, "incus list wanderer -f csv -c sL").trim().to_owned();
    // It is said what becomes of everything, and nothing is done by looking.
    let dry = operator.run(&["host", "evacuate", "home/home-1", "--dry-run"]).success();
    for said in
        ["ghost-blog@home", "database-blog@home", "nobody can write", "home/home-2, home/home-3", "line lab leads"]
    {
        assert!(dry.stdout().contains(said), "{said}: {dry:?}");
    }
    assert_eq!(lab.says(home_1, NOTE).trim(), "no");

    // What needs nothing of its host moves, and comes back. With one out of three, no other may go.
    let moved = operator.run(&["host", "evacuate", "home/home-3", "--yes"]).success();
    assert!(moved.stderr().contains("moves to another host: default/wanderer"), "{moved:?}");
    assert!(place().starts_with("RUNNING,") && place() != "RUNNING,home-3", "{}", place());
    let kept = operator.run(&["host", "evacuate", "home/home-2", "--yes"]).exits(1);
    assert!(kept.stderr().contains("keeps the cluster of its data center in being"), "{kept:?}");
    assert_eq!(lab.says(home_2, NOTE).trim(), "no");
    operator.run(&["host", "restore", "home/home-3"]).success();
    assert_eq!(place(), "RUNNING,home-3");

    // The host with the applications, killed half-way: what ran is known, and the same command finishes it.
    let browsers = Browsers::start(operator, &lab.hosts);
    let evacuate = ["host", "evacuate", "home/home-1", "--yes"];
    operator.kill_at(&evacuate, "evacuate home/home-1 ...");
    operator.run(&evacuate).success();
    browsers.stop_without_failure("evacuated");
    let running = "incus list --project sovereign -f csv -c s | sort -u";
    assert_eq!(lab.says(home_1, running).trim(), "STOPPED");
    // It is named, no problem, and left alone; switched off, too. It does not start by itself when it is on again.
    assert_eq!(wrong(operator), Vec::<String>::new());
    let plan = operator.run(&["plan"]).success();
    assert!(plan.stdout().contains("left alone: home/home-1: evacuated on purpose by"), "{plan:?}");
    lab.run(&["kill", "home-1"]);
    // It led the cluster, which looks for another leader for a moment.
    eventually("the others go on", PATIENCE, || wrong(operator).is_empty().then_some(()));
    let up = operator.up_without_backup().success();
    assert!(up.stdout().contains("left alone: home/home-1"), "{up:?}");
    lab.run(&["heal"]);
    eventually("it is on again", PATIENCE, || {
        operator.run(&["host", "check", "home/home-1", "--json"]).stdout().contains("answers over SSH").then_some(())
    });
    assert_eq!(lab.says(home_1, running).trim(), "STOPPED");
    operator.run(&["host", "restore", "home/home-1"]).success();
    eventually("it is written", PATIENCE, || is_written(operator, lab));
    eventually("all is well", PATIENCE, || wrong(operator).is_empty().then_some(()));
    let again = operator.run(&["host", "restore", "home/home-1"]).success();
    assert!(again.stdout().contains("there was nothing to do"), "{again:?}");
}
