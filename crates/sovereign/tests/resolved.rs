//! What a resolver of the world makes of the stack's name servers when something is broken: one that begins at the root,
//! checks signatures and keeps what it heard. A data center dies while people read, again and again; the line between both
//! is cut; a name server says nothing; the registry has another key; the zone gets another one. Run by `cargo xtask prove names`, which takes its
//! figures.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap fails the test; figures are worth seeing"
)]

#[path = "resolved/readers.rs"]
mod readers;
mod support;
#[path = "resolved/world.rs"]
mod world;

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use readers::{Asking, Reading, Try};
use serde_json::{Value, json};
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, missing, timed};
use support::{Operator, debian, eventually, leaf_on_hosts, names};
use world::{Answer, ROOT_SERVER, World, ask, ask_with};

const DOMAIN: &str = "example.org";
/// What readers ask for.
const AUTHORITY: &str = "www.example.org";
const PAGE: &str = "https://www.example.org/about.html";

const PATIENCE: Duration = Duration::from_secs(120);

/// How many deaths figures are taken of, where nothing else is said: `SOVEREIGN_E2E_DEATHS`.
const DEATHS: usize = 20;
/// Within which a data center that died must have left the answers of the other's name server.
const OUT_OF_ANSWERS: Duration = Duration::from_secs(10);
/// How long resolvers keep an address of a site.
const KEPT: Duration = Duration::from_secs(30);
/// Who waits longer for a page has noticed something.
const NOTICED: Duration = Duration::from_secs(1);
/// How long nothing may go wrong any more before it is believed to be over.
const CALM: Duration = Duration::from_secs(3);
/// So many lookups, each of a resolver that knows nothing, while a name server says nothing.
const LOOKUPS: usize = 20;

/// Two data centers of one host each, what is above their domain, and who asks.
struct Scene {
    operator: Operator,
    lab: Lab,
    world: World,
}

impl Scene {
    fn set(incusd: &Incusd) -> Self {
        let (operator, _) = debian::operator();
        let lab = timed("two bare hosts", || Lab::up(incusd, "resolved", 2));
        let declared = fs::read_to_string(lab.folder.join("stack.toml")).unwrap();
        let (hosts, _) = declared.split_once("\n[[site]]").unwrap();
        let domain = format!("\n[[domain]]\nname = \"{DOMAIN}\"\nregistrar = \"nobody\"\n");
        operator.write("stack.toml", &(hosts.to_owned() + &leaf_on_hosts::declare(&operator, AUTHORITY) + &domain));
        for host in &lab.hosts {
            timed(&host.name, || add(&operator, &lab, host));
        }
        timed("first up", || operator.run(&["up", "--yes", "--no-backup"]).success());
        let scene = Self { world: World::start(&registered(&operator, |digest| digest)), operator, lab };
        scene.is_whole();
        scene
    }

    /// Waits until everybody has heard that everybody lives.
    fn is_whole(&self) {
        for host in &self.lab.hosts {
            names::back(&self.lab, host, AUTHORITY);
        }
    }

    /// After what was broken was mended. Agents that are started anew hold nothing against anybody: who dies again soon is
    /// left out for longer each time.
    fn mended(&self) {
        self.lab.run(&["heal"]);
        for host in &self.lab.hosts {
            let read = || self.operator.curl(AUTHORITY, host.edge(), "/", &["--max-time", "5"]).status == 200;
            eventually(&format!("{} is read", host.name), PATIENCE, || read().then_some(()));
        }
        for host in &self.lab.hosts {
            self.lab.says(host, "systemctl restart 'sovereign-*.agent-*.service'");
        }
        self.is_whole();
    }

    fn address(host: &Host) -> Ipv4Addr {
        host.address.parse().unwrap()
    }

    /// The resolver has nothing to say but this.
    #[track_caller]
    fn resolves(&self, hosts: &[&Host]) {
        self.world.forget();
        let answer = ask(AUTHORITY, "A");
        let addresses = hosts.iter().map(|host| Self::address(host)).collect();
        assert!(answer.status == "NOERROR" && answer.is_validated && answer.addresses == addresses, "{answer:?}");
    }

    fn reading(&self) -> Reading {
        Reading::start(&self.operator, &self.world, PAGE)
    }

    /// What differs between the world and the stack file.
    fn drift(&self) -> Value {
        self.operator.json(&["dns", "drift", "--root", ROOT_SERVER])["domains"][0]["drift"].clone()
    }
}

/// What a registry has of the domain, as `dns ds` says it, with another digest perhaps.
fn registered(operator: &Operator, digest: impl FnOnce(String) -> String) -> String {
    let told = operator.json(&["dns", "ds", DOMAIN]);
    let told = &told["domains"][0];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{told:#}")).to_owned();
    let mut lines = String::new();
    for server in told["name_servers"].as_array().unwrap() {
        let (name, address) = (text(&server["name"]), text(&server["addresses"][0]));
        writeln!(lines, "{DOMAIN}. 60 NS {name}.\n{name}. 60 A {address}").unwrap();
    }
    let digest = digest(text(&told["ds"]["digest"]));
    lines + &format!("{DOMAIN}. 60 DS {} 13 2 {digest}", told["ds"]["key_tag"])
}

/// What was seen of a death.
struct Death {
    /// Until the other name server did not name the dead one any more.
    named: Duration,
    /// Until the resolver did not.
    resolved: Duration,
    /// Until the first who came afterwards had read the page.
    first: Duration,
    /// Until nobody failed any more, or noticed.
    unnoticed: Duration,
    reads: usize,
    /// When they began, and why.
    failed: Vec<(Duration, String)>,
    slowest: Duration,
}

/// A data center has no power and is not to be reached, while the resolver has kept its address for `age`.
fn death(scene: &Scene, lost: &Host, other: &Host, age: Duration) -> Death {
    let Scene { lab, world, .. } = scene;
    world.forget_all();
    scene.resolves(&[lost, other]);
    let (asking, reading) = (Asking::start(AUTHORITY), scene.reading());
    // Not a condition: what matters is how long the answer has been kept.
    std::thread::sleep(age);
    let watch = names::Watch::begin(lab, other, lost, AUTHORITY);
    let died = Instant::now();
    lab.run(&["cut", &lost.datacenter]);
    lab.run(&["kill", &lost.datacenter]);
    let named = watch.took(died);
    let is_clean = |answer: &Answer| {
        answer.status == "NOERROR" && answer.is_validated && answer.addresses == [Scene::address(other)].into()
    };
    eventually("the resolver names the living", PATIENCE, || is_clean(&asking.newest()).then_some(()));
    std::thread::sleep(CALM);
    let (asked, reads) = (asking.stop(), reading.stop());
    let last_bad = asked.iter().rposition(|each| !is_clean(&each.got)).unwrap();
    let resolved = asked.get(last_bad + 1).expect("the newest one was clean").ended - died;

    let after = || reads.iter().filter(|read| read.ended > died);
    let first = after().filter(|read| read.began > died && read.got.is_ok()).map(|read| read.ended).min();
    let noticed = after().filter(|read| read.got.is_err() || read.took() > NOTICED).map(|read| read.ended).max();
    Death {
        named,
        resolved,
        first: first.expect("somebody has read it") - died,
        unnoticed: noticed.map_or(Duration::ZERO, |ended| ended - died),
        reads: after().count(),
        failed: after()
            .filter_map(|read| Some((read.began.saturating_duration_since(died), read.got.as_ref().err()?.clone())))
            .collect(),
        slowest: after().map(Try::took).max().unwrap_or_default(),
    }
}

/// The middle one and the longest, for people.
fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let middle = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2;
    format!("{:.1} s | {:.1} s", middle.as_secs_f64(), times[times.len() - 1].as_secs_f64())
}

/// Data centers die in turns, at all ages of what the resolver keeps.
fn deaths(scene: &Scene) {
    let count = std::env::var("SOVEREIGN_E2E_DEATHS").map_or(DEATHS, |count| count.parse().unwrap());
    let [home, office] = &scene.lab.hosts[..] else { panic!("two hosts") };
    let mut seen = Vec::new();
    for round in 0..count {
        let (lost, other) = if round % 2 == 0 { (home, office) } else { (office, home) };
        // In steps of eleven all seconds of thirty come once, and neighbours lie far apart.
        let age = Duration::from_secs(11 * round as u64 % KEPT.as_secs());
        let death = death(scene, lost, other, age);
        let Death { named, resolved, first, unnoticed, reads, failed, slowest } = &death;
        eprintln!(
            "death {}: {} with its address kept for {age:?}: out of answers after {named:.1?}, of the resolver's after \
             {resolved:.1?}; read after {first:.1?}, unnoticed after {unnoticed:.1?}; {} of {reads} failed, the slowest \
             took {slowest:.1?}",
            round + 1,
            lost.datacenter,
            failed.len()
        );
        for (began, why) in failed {
            eprintln!("  failed, begun after {began:.1?}: {why}");
        }
        seen.push(death);
        scene.mended();
    }
    let row = |what: &str, of: fn(&Death) -> Duration| {
        eprintln!("| {what} | {} |", shown(seen.iter().map(of).collect()));
    };
    eprintln!("\n| from a death | median | worst of {count} |\n|---|---:|---:|");
    row("until the other name server leaves it out (must: 10 s)", |death| death.named);
    row("until the resolver does, which keeps addresses for 30 s (must: 40 s)", |death| death.resolved);
    row("until the first `curl` that began afterwards has the page", |death| death.first);
    row("until no `curl` fails or takes more than a second", |death| death.unnoticed);
    row("the slowest `curl`", |death| death.slowest);
    let sum = |of: fn(&Death) -> usize| seen.iter().map(of).sum::<usize>();
    eprintln!("failed reads: {} of {}", sum(|death| death.failed.len()), sum(|death| death.reads));
    for Death { named, resolved, .. } in &seen {
        assert!(*named <= OUT_OF_ANSWERS && *resolved <= OUT_OF_ANSWERS + KEPT, "{named:?}, {resolved:?}");
    }
}

/// Nothing passes between the two: each leads to itself, and both are read.
fn parted(scene: &Scene) {
    let Scene { operator, lab, .. } = scene;
    let [home, office] = &lab.hosts[..] else { panic!("two hosts") };
    let reading = scene.reading();
    lab.run(&["cut", "home", "office"]);
    names::without(lab, home, office, AUTHORITY);
    names::without(lab, office, home, AUTHORITY);
    for host in [home, office] {
        for path in ["/", "/about.html", "/style.css"] {
            operator.curl(AUTHORITY, host.edge(), path, &[]).ok();
        }
    }
    for _ in 0..LOOKUPS {
        scene.world.forget();
        let answer = ask(AUTHORITY, "A");
        assert!(answer.status == "NOERROR" && answer.is_validated && answer.addresses.len() == 1, "{answer:?}");
    }
    scene.mended();
    let slowest = reading.stop_without_failure();
    eprintln!("cut off from each other: no read failed, the slowest took {slowest:.1?}");
}

/// A resolver that knows nothing looks up the site again and again, and believes each answer.
fn looked_up(world: &World, when: &str) {
    world.forget_all();
    let mut times = Vec::new();
    for _ in 0..LOOKUPS {
        world.forget();
        let answer = ask(AUTHORITY, "A");
        assert!(answer.status == "NOERROR" && answer.is_validated, "{answer:?}");
        times.push(answer.took);
    }
    times.sort_unstable();
    let (middle, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("{LOOKUPS} lookups from nothing {when}: median {middle:.1?}, slowest {slowest:.1?}");
}

/// One name server takes questions and says nothing, which is the worst that it can do.
fn one_name_server_is_silent(scene: &Scene) {
    let Scene { lab, world, .. } = scene;
    let [home, office] = &lab.hosts[..] else { panic!("two hosts") };
    let reading = scene.reading();
    lab.says(
        home,
        "nft 'add table inet silent; add chain inet silent input { type filter hook input priority -10; }; \
         add rule inet silent input meta l4proto { tcp, udp } th dport 53 drop'",
    );
    looked_up(world, "while a name server is silent");
    lab.says(home, "nft delete table inet silent");
    world.forget_all();
    scene.resolves(&[home, office]);
    let slowest = reading.stop_without_failure();
    eprintln!("without one name server: no read failed, the slowest took {slowest:.1?}");
}

/// A library that gives a program another clock; a host of a lab has this machine's, like every container.
const CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Its name server and Knot, which is given no surroundings, live four years ago from their next start on.
const WRONG_CLOCK: &str = "set -e
echo -4y > /usr/lib/clock.txt
cat > /usr/lib/clock.env <<'.'
LD_PRELOAD=/usr/lib/clock.so
FAKETIME_TIMESTAMP_FILE=/usr/lib/clock.txt
FAKETIME_NO_CACHE=1
FAKETIME_DISABLE_SHM=1
DONT_FAKE_MONOTONIC=1
FAKETIME_DONT_FAKE_MONOTONIC=1
NO_FAKE_STAT=1
.
mv /usr/sbin/knotd /usr/sbin/knotd-right
printf '#!/bin/sh\\nset -a; . /usr/lib/clock.env\\nexec /usr/sbin/knotd-right \"$@\"\\n' > /usr/sbin/knotd
chmod 755 /usr/sbin/knotd
cd /etc/systemd/system
unit=$(readlink sovereign-*.name-server-*.service | xargs basename)
mkdir $unit.d
printf '[Service]\\nEnvironmentFile=/usr/lib/clock.env\\n' > $unit.d/clock.conf
systemctl daemon-reload
systemctl restart $unit
";
const RIGHT_CLOCK: &str = "set -e
mv /usr/sbin/knotd-right /usr/sbin/knotd
rm -r /etc/systemd/system/sovereign-*.name-server-*.service.d
systemctl daemon-reload
systemctl restart 'sovereign-*.name-server-*.service'
rm /usr/lib/clock.*
";

/// A name server that has just started lives in another year, as one does on a machine without a clock of its own: what it
/// signs is good for nobody, and resolvers ask the other. Then its clock is set.
fn one_name_server_has_a_wrong_clock(scene: &Scene) {
    let Scene { lab, world, .. } = scene;
    let [home, office] = &lab.hosts[..] else { panic!("two hosts") };
    let reading = scene.reading();
    lab.puts(home, "cat > /usr/lib/clock.so", &fs::read(CLOCK).unwrap());
    lab.puts(home, "sh -s", WRONG_CLOCK.as_bytes());
    let is_signed_today = || names::signed_within(home, AUTHORITY, Duration::from_secs(14 * 86_400));
    eventually("it signs in another year", PATIENCE, || (is_signed_today() == Some(false)).then_some(()));
    looked_up(world, "while a name server signs in another year");
    lab.says(home, "echo +0 > /usr/lib/clock.txt");
    let set = Instant::now();
    eventually("it signs anew", PATIENCE, || (is_signed_today() == Some(true)).then_some(()));
    eprintln!("signed anew {:.1?} after its clock was set", set.elapsed());
    lab.puts(home, "sh -s", RIGHT_CLOCK.as_bytes());
    world.forget_all();
    scene.resolves(&[home, office]);
    let slowest = reading.stop_without_failure();
    eprintln!("with a wrong clock: no read failed, the slowest took {slowest:.1?}");
}

/// The registry has the digest of no key of ours: who checks does not answer, and `dns drift` says why.
fn another_key_at_the_registry(scene: &Scene) {
    let Scene { operator, lab, world } = scene;
    assert_eq!(scene.drift(), json!([]));
    world.register(&registered(operator, |digest| format!("0000{}", &digest[4..])));
    let refused = ask(AUTHORITY, "A");
    assert!(refused.status == "SERVFAIL" && refused.addresses.is_empty(), "{refused:?}");
    // The same without signatures being checked: it is they.
    assert_eq!(ask_with(AUTHORITY, "A", &["+cdflag"]).status, "NOERROR");
    let drift = scene.drift();
    let found = (&drift[0]["what"], &drift[0]["severity"]);
    assert_eq!(found, (&json!("digest-wrong"), &json!("vanishes")), "{drift:#}");
    world.register(&registered(operator, |digest| digest));
    scene.resolves(&lab.hosts.iter().collect::<Vec<_>>());
    assert_eq!(scene.drift(), json!([]));
}

/// What a registry has of the domain, with the digest of the key that is to come beside that of the one there is, or in its
/// place.
fn registered_anew(operator: &Operator, keep: bool) -> String {
    let told = operator.json(&["dns", "ds", DOMAIN]);
    let record = &told["domains"][0]["coming"]["records"][0];
    let coming = record.as_str().unwrap_or_else(|| panic!("{told:#}")).replace(" IN ", " 60 ");
    let lines = registered(operator, |digest| digest);
    let kept: Vec<&str> = lines.lines().filter(|line| keep || !line.contains(" DS ")).collect();
    format!("{}\n{coming}", kept.join("\n"))
}

/// The key of the zone is exchanged for the next one. Whoever checks signatures goes on believing, whatever was kept of the
/// step before; only that the waits are over is said before its time.
fn the_key_is_exchanged(scene: &Scene) {
    let Scene { operator, lab, world } = scene;
    let (reading, hosts) = (scene.reading(), lab.hosts.iter().collect::<Vec<_>>());
    let awaits = |what: &str| {
        // By what is kept of the step before, and by nothing.
        for _ in 0..2 {
            let answer = ask(AUTHORITY, "A");
            assert!(answer.status == "NOERROR" && answer.is_validated, "{what}: {answer:?}");
            scene.resolves(&hosts);
        }
        // A name server that has been replaced may answer for some seconds more.
        eventually(&format!("{what} is awaited"), PATIENCE, || {
            let told = operator.json(&["dns", "drift", "--root", ROOT_SERVER]);
            let domain = &told["domains"][0];
            assert_eq!(domain["drift"], json!([]), "{told:#}");
            (domain["exchange"]["awaits"] == what).then(|| domain["exchange"].clone())
        })
    };
    let time_passes = || {
        let path = operator.state().join("zone-keys.json");
        let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (name, value) in kept["under-way"][DOMAIN].as_object_mut().unwrap() {
            if let Some(unix) = value.as_u64().filter(|_| name.ends_with("-since-unix")) {
                *value = (unix - 100_000).into();
            }
        }
        fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
    };
    let up = || timed("up", || operator.run(&["up", "--yes", "--no-backup"]).success());
    let keys = |number: &str| {
        for host in &lab.hosts {
            let files = lab.says(host, "find /var/lib/sovereign -name 'key-*.pem' | wc -l");
            assert_eq!(files.trim(), number, "{}", host.name);
        }
    };
    operator.run(&["rotate", &format!("zone/{DOMAIN}")]).success();
    awaits("both-keys");
    up();
    keys("2");
    scene.is_whole();
    awaits("one-key-forgotten");
    time_passes();
    awaits("new-digest");
    world.register(&registered_anew(operator, true));
    awaits("old-alone-forgotten");
    time_passes();
    awaits("old-digest-gone");
    world.register(&registered_anew(operator, false));
    awaits("old-digest-forgotten");
    time_passes();
    assert_eq!(awaits("last-look")["over"], true);
    up();
    keys("1");
    scene.is_whole();
    scene.resolves(&hosts);
    assert_eq!(scene.drift(), json!([]));
    let slowest = reading.stop_without_failure();
    eprintln!("the key of the zone was exchanged: no read failed, the slowest took {slowest:.1?}");
}

#[test]
#[ignore = "half an hour long: `cargo xtask prove names`"]
fn a_resolver_finds_the_living() {
    assert_eq!(missing().or_else(world::missing), None);
    let incusd = Incusd::start();
    let scene = Scene::set(&incusd);
    scene.resolves(&scene.lab.hosts.iter().collect::<Vec<_>>());
    another_key_at_the_registry(&scene);
    the_key_is_exchanged(&scene);
    parted(&scene);
    one_name_server_is_silent(&scene);
    one_name_server_has_a_wrong_clock(&scene);
    deaths(&scene);
}
