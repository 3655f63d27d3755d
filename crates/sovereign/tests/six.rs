//! The whole life of a stack on six hosts: two data centers of three, each of them one cluster of Incus. Run by
//! `cargo xtask prove six`, which takes its figures.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap fails the test; figures are worth seeing"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Lab, add, another, missing, timed, up_with};
use support::staff::Staff;
use support::{At, Curled, Operator, Readers, debian, eventually};

const TESTS: &[Test<Incusd>] = &[("six_hosts_live_through_everything", story)];

/// What readers ask for.
const AUTHORITY: &str = "blog.six.test";

/// A first start of everything on a busy machine, and a cluster that finds its members again.
const PATIENCE: Duration = Duration::from_secs(180);

/// For finding that nothing has to change.
const MUST: Duration = Duration::from_secs(5);

/// In which order hosts come back from a power cut of everything. The one with the application is the last.
const ORDER: [&str; 6] = ["office-2", "home-3", "office-1", "office-3", "home-2", "home-1"];

/// The host whose clock is wrong then.
const WRONG: &str = "office-1";

fn main() -> ExitCode {
    let asked = std::env::args().any(|argument| argument == "--ignored");
    let (tests, missing) = if asked { (TESTS, missing()) } else { (&[][..], None) };
    harness::main(tests, missing.as_deref(), Incusd::start)
}

struct World {
    operator: Operator,
    lab: Lab,
}

impl World {
    fn edges(&self) -> Vec<At> {
        self.lab.hosts.iter().map(support::hosts::Host::edge).collect()
    }

    fn edge(&self, host: &str) -> At {
        self.lab.hosts.iter().find(|each| each.name == host).unwrap().edge()
    }

    fn status(&self, edge: At, path: &str) -> u16 {
        self.operator.curl(AUTHORITY, edge, path, &["--max-time", "10"]).status
    }

    /// Waits until every edge has a page.
    fn read_everywhere(&self, path: &str) {
        for edge in self.edges() {
            eventually(&format!("{path} at {edge:?}"), PATIENCE, || (self.status(edge, path) == 200).then_some(()));
        }
    }

    /// Waits until the application itself answers through an edge.
    fn application(&self, edge: At) {
        let answers = || (self.status(edge, "/ghost/api/admin/site/") == 200).then_some(());
        eventually(&format!("the application at {edge:?}"), PATIENCE, answers);
    }

    fn publish(&self, staff: &Staff<'_>, slug: &str) {
        staff.publish(&format!("Of {slug}"), slug, "<p>Early this year.</p>");
        self.read_everywhere(&format!("/{slug}/"));
    }
}

fn story(incusd: &Incusd) {
    let (operator, cache) = debian::operator();
    let lab = timed("six bare hosts", || Lab::with_hosts(incusd, "six", 2, 3));
    operator.write("stack.toml", &fs::read_to_string(lab.folder.join("stack.toml")).unwrap());
    for role in ["site", "database"] {
        timed(role, || debian::lock(&operator, &cache, role));
    }
    let before: Vec<String> = lab.hosts.iter().map(|host| lab.inventory(host)).collect();
    for host in &lab.hosts {
        timed(&host.name, || add(&operator, &lab, host));
    }
    let world = World { operator, lab };
    let World { operator, lab } = &world;
    let first = timed("first up", || operator.json(&["up", "--yes"]));
    assert!(first["backup"].to_string().contains("the dump is complete"), "{first:#}");
    eprintln!("{:#}\n{}", first["stages"], first["asked"]);
    world.read_everywhere("/");

    // Written through the edge that is farthest from the application.
    let staff = Staff::log_in(operator, AUTHORITY, world.edge("office-3"));
    timed("a page at six edges", || world.publish(&staff, "geese"));
    nothing_has_to_change(operator);
    memory(lab);
    let program = replaced(&world, &staff);
    world.publish(&staff, "replaced");

    primary_without_power(&world, &staff, &program);
    timed("a primary data center comes back by itself", || {
        lab.run(&["heal"]);
        world.application(world.edge("office-3"));
    });
    world.publish(&staff, "back");
    without_a_quorum(&world, &program);
    cold_boot(&world);
    world.publish(&staff, "booted");
    while_it_boots(&world, &program);

    restored(operator);
    timed("down --purge", || operator.run(&["down", "--purge", "--with-archive", "--yes"]).success());
    assert!(!operator.state().exists());
    for (host, before) in lab.hosts.iter().zip(before) {
        assert_eq!(lab.inventory(host), before, "{} is as it was", host.name);
    }
}

/// The second run, and what it asks hosts for: the same of each, however many there are.
fn nothing_has_to_change(operator: &Operator) {
    for _ in 0..3 {
        let began = Instant::now();
        let done = operator.json(&["up", "--yes", "--no-backup"]);
        let took = began.elapsed();
        assert_eq!(done["steps"], 0, "{done:#}");
        let asked = done["asked"].as_object().unwrap_or_else(|| panic!("{done:#}"));
        let count = |of: &str| asked.values().map(|host| host[of].as_u64().unwrap()).collect::<Vec<_>>();
        let (commands, requests) = (count("commands"), count("requests"));
        eprintln!("nothing has to change: {took:.1?}; commands {commands:?}, requests to Incus {requests:?}");
        assert!(took < MUST, "{took:?}");
        assert_eq!(asked.len(), 6, "{asked:?}");
        assert!(commands.iter().all(|commands| *commands <= 10), "{asked:?}");
        assert!(requests.iter().skip(1).all(|requests| *requests <= 8), "no application is there: {asked:?}");
    }
}

/// What our processes hold on each host, the share of what they have in common counted once.
fn memory(lab: &Lab) {
    let script = "for process in /proc/[0-9]*; do \
                  case $(readlink $process/exe) in /opt/sovereign/*) cat $process/smaps_rollup ;; esac; done \
                  | awk '/^Pss:/ { sum += $2 } END { print sum }'";
    for host in &lab.hosts {
        let kilobytes: u64 = lab.says(host, script).trim().parse().unwrap();
        eprintln!("ours on {}: {:.1} MB", host.name, kilobytes as f64 * 1024.0 / 1e6);
        assert!(kilobytes > 1000, "nothing of ours runs on {}", host.name);
    }
}

/// Somebody who writes as fast as answers come. The longest time without a success, and how often it was refused.
fn written_meanwhile<T>(staff: &Staff<'_>, work: impl FnOnce() -> T) -> (T, Duration, usize) {
    let body = json!({ "posts": [{ "title": "A draft" }] });
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut last, mut longest, mut refused) = (Instant::now(), Duration::ZERO, 0);
            while !is_done.load(Ordering::Relaxed) {
                if staff.call("POST", "/ghost/api/admin/posts/?source=html", Some(&body)).status == 201 {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                } else {
                    refused += 1;
                }
            }
            (longest.max(last.elapsed()), refused)
        });
        let done = work();
        is_done.store(true, Ordering::Relaxed);
        let (longest, refused) = writer.join().unwrap();
        (done, longest, refused)
    })
}

/// Our own binary first, then the database with the application, while people read at every edge and write at one.
fn replaced(world: &World, staff: &Staff<'_>) -> PathBuf {
    let World { operator, lab } = world;
    let program = another(operator);
    let readers = Readers::start(operator, AUTHORITY, &world.edges(), "/geese/");
    let run = || timed("six edges replaced", || up_with(&program, operator));
    let ((code, said), pause, refused) = written_meanwhile(staff, run);
    assert_eq!(code, Some(0), "{said}");
    for host in &lab.hosts {
        assert!(said.contains(&format!("replace edge-{}@{}", host.name, host.datacenter)), "{said}");
    }
    eprintln!("write pause while edges are replaced: {} ms, refused: {refused}", pause.as_millis());

    operator.run(&["rotate", "database/blog"]).success();
    let run = || timed("database and Ghost replaced", || up_with(&program, operator));
    let ((code, said), pause, refused) = written_meanwhile(staff, run);
    assert_eq!(code, Some(0), "{said}");
    for unit in ["database-blog@home", "ghost-blog@home"] {
        assert!(said.contains(&format!("replace {unit}")), "{said}");
    }
    eprintln!("write pause while database and Ghost are replaced: {} ms, refused: {refused}", pause.as_millis());
    readers.stop_without_failure();
    program
}

/// Everything is read at the mirror, and a write is refused in words.
fn primary_without_power(world: &World, staff: &Staff<'_>, program: &std::path::Path) {
    let World { operator, lab } = world;
    lab.run(&["kill", "home"]);
    for host in ["office-1", "office-2", "office-3"] {
        for path in ["/", "/rss/", "/geese/", "/replaced/"] {
            operator.curl(AUTHORITY, world.edge(host), path, &[]).ok();
        }
    }
    let write = json!({ "posts": [{ "title": "No" }] });
    let refused = staff.call("POST", "/ghost/api/admin/posts/?source=html", Some(&write));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let (code, said) = timed("up without a data center", || up_with(program, operator));
    assert_eq!(code, Some(3), "{said}");
    for host in ["home-1", "home-2", "home-3"] {
        assert!(said.contains(&format!("left out: home/{host}")), "{said}");
    }
}

/// The host with the application is there, and the others of its cluster are not: its Incus speaks for nobody. Its edge
/// serves, a run says so and leaves it in peace, and with one more host all is well.
fn without_a_quorum(world: &World, program: &std::path::Path) {
    let World { operator, lab } = world;
    lab.run(&["kill", "home"]);
    lab.run(&["heal", "home-1"]);
    let first = world.edge("home-1");
    eventually("an edge without its cluster", PATIENCE, || (world.status(first, "/geese/") == 200).then_some(()));
    let (code, said) = timed("up without a quorum", || up_with(program, operator));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("left out: home/home-1: ") && said.contains("the Incus of home/home-1"), "{said}");
    assert!(!said.contains("left out: office"), "{said}");
    lab.run(&["heal", "home-2"]);
    timed("a cluster with a quorum again", || world.application(first));
    lab.run(&["heal"]);
}

/// A library that gives a program another clock; a host of a lab has this machine's, like every container.
const CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// From its next start on the edge of a host lives in another year. So does nothing else there: Incus asks the kernel.
fn with_a_wrong_clock(lab: &Lab, host: &str) {
    let library = fs::read(CLOCK).unwrap();
    let host = lab.hosts.iter().find(|each| each.name == host).unwrap();
    lab.puts(host, "cat > /usr/lib/clock.so", &library);
    lab.says(
        host,
        "cd /etc/systemd/system; unit=$(readlink sovereign-*.edge-*.service | xargs basename); mkdir $unit.d; \
         printf '[Service]\\nEnvironment=LD_PRELOAD=/usr/lib/clock.so FAKETIME=-4y FAKETIME_DISABLE_SHM=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1\\n' \
         > $unit.d/clock.conf",
    );
}

/// No host has power; then one after the other has, in an order that suits nobody, one of them with a clock that is four
/// years late, and none has the internet.
fn cold_boot(world: &World) {
    let lab = &world.lab;
    with_a_wrong_clock(lab, WRONG);
    lab.run(&["kill", "home"]);
    lab.run(&["kill", "office"]);
    for host in ORDER {
        lab.run(&["heal", host]);
        let edge = world.edge(host);
        let read = || (world.status(edge, "/back/") == 200).then_some(());
        timed(&format!("{host} serves"), || eventually("an edge after a boot", PATIENCE, read));
    }
    let page = world.operator.curl(AUTHORITY, world.edge(WRONG), "/back/", &[]).ok();
    let right = world.operator.curl(AUTHORITY, world.edge("home-1"), "/back/", &[]).ok();
    let year = |page: &Curled| page.header("date").unwrap().split(' ').nth(3).unwrap().parse::<u32>().unwrap();
    assert!(year(&right) - year(&page) >= 3, "{} {}", page.head, right.head);
    let wrong = lab.hosts.iter().find(|each| each.name == WRONG).unwrap();
    lab.says(wrong, "rm -r /usr/lib/clock.so /etc/systemd/system/sovereign-*.service.d; systemctl daemon-reload");
    timed("the application after the last host", || world.edges().into_iter().for_each(|edge| world.application(edge)));
}

/// A run that meets an Incus which is starting instances waits for it, or leaves its host out.
fn while_it_boots(world: &World, program: &std::path::Path) {
    let World { operator, lab } = world;
    for _ in 0..3 {
        lab.run(&["kill", "home-1"]);
        lab.run(&["heal", "home-1"]);
        eventually("a run that finds all well", PATIENCE, || {
            let (code, said) = up_with(program, operator);
            assert!(matches!(code, Some(0 | 3)), "{code:?} {said}");
            (code == Some(0)).then_some(())
        });
    }
}

/// The newest snapshot, as restored by us and by Debian's restic.
fn restored(operator: &Operator) {
    let done = operator.json(&["backup"]);
    let blog = |row: &&Value| row["of"] == "blog";
    let row =
        done["snapshots"].as_array().and_then(|rows| rows.iter().find(blog)).unwrap_or_else(|| panic!("{done:#}"));
    assert!(row["examined"].as_str().unwrap().contains("the dump is complete"), "{done:#}");
    let [ours, theirs, password] = ["ours", "theirs", "password"].map(|name| operator.home().join(name));
    operator.run(&["restore", "blog", "--to", ours.to_str().unwrap()]).success();
    let dump = fs::read_to_string(ours.join("database/ghost.sql")).unwrap();
    for slug in ["geese", "replaced", "back", "booted"] {
        assert!(dump.contains(&format!("Of {slug}")), "{slug}");
    }
    fs::write(&password, operator.run(&["archive", "key", "--yes"]).success().stdout()).unwrap();
    let mut restic = Command::new("restic");
    restic.args(["--no-cache", "restore", "latest", "--path", "/sites/blog", "--target"]).arg(&theirs);
    restic.arg("--repo").arg(operator.state().join("archive/repository")).arg("--password-file").arg(&password);
    assert!(restic.output().unwrap().status.success());
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference"]).args([&ours, &theirs.join("sites/blog")]);
    let same = diff.output().unwrap();
    assert!(same.status.success(), "{same:?}");
}
