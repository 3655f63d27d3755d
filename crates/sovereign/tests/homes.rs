//! Data centers as operators have them: an office that everybody reaches, a home behind a router that forwards ports, and a
//! cabin that can only dial out. What is written at home and in the cabin is read by everybody whom lines let in, and by those
//! who are at home there; a line that closes, dies or moves is noticed, followed and named.
//!
//! The machine of the test reaches all hosts over SSH, as an operator does who is at home or dials into it; as a reader it
//! knows public addresses only. Run by `cargo xtask prove homes`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "homes/lan.rs"]
mod lan;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lan::Device;
use serde_json::Value;
use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, missing, timed};
use support::{At, Operator, eventually, names};

const TESTS: &[Test<Incusd>] = &[("homes_serve_as_far_as_their_lines_allow", story)];

/// Written at home, kept by all.
const LEAF: &str = "leaf.homes.test";
/// Written in the cabin, kept by the office.
const DIARY: &str = "diary.homes.test";

const PATIENCE: Duration = Duration::from_secs(60);
/// Within which a data center that is gone must have left the answers.
const OUT_OF_ANSWERS: Duration = Duration::from_secs(10);
/// Within which an address that changed must be in the answers.
const FOLLOWED: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let asked = std::env::args().any(|argument| argument == "--ignored");
    let lacking = || {
        let needed =
            ["/usr/sbin/dnsmasq", "/usr/sbin/unbound"].into_iter().find(|program| fs::metadata(program).is_err());
        missing().or_else(|| needed.map(|program| format!("there is no {program} here")))
    };
    let (tests, missing) = if asked { (TESTS, lacking()) } else { (&[][..], None) };
    harness::main(tests, missing.as_deref(), Incusd::start)
}

/// What an operator writes of the sites and the domain.
const DECLARED: &str = r#"
[[domain]]
name = "homes.test"
registrar = "nobody"

[[site]]
name = "leaf"
app = "static"
folder = "leaf"
canonical = "leaf.homes.test"
primary = "home"
mirrors = ["office", "cabin"]

[[site]]
name = "diary"
app = "static"
folder = "diary"
canonical = "diary.homes.test"
primary = "cabin"
mirrors = ["office"]
"#;

struct World {
    operator: Operator,
    lab: Lab,
}

impl World {
    fn host(&self, datacenter: &str) -> &Host {
        self.lab.hosts.iter().find(|host| host.datacenter == datacenter).unwrap()
    }

    fn address(&self, datacenter: &str) -> Ipv4Addr {
        self.host(datacenter).address.parse().unwrap()
    }

    /// Where the router of home is to the world.
    fn home(&self) -> Ipv4Addr {
        let status = self.lab.json(&["status"]);
        let routers = status["routers"].as_array().unwrap();
        let home = routers.iter().find(|router| router["datacenter"] == "home").unwrap();
        home["address"].as_str().unwrap().parse().unwrap()
    }

    fn read(&self, name: &str, address: Ipv4Addr, path: &str, text: &str) {
        let at = At(SocketAddr::new(address.into(), 443));
        eventually(&format!("{name}{path} at {address} says {text}"), PATIENCE, || {
            let page = self.operator.curl(name, at, path, &["--max-time", "5"]);
            (page.status == 200 && page.text().contains(text)).then_some(())
        });
    }

    /// Waits until a name server gives these addresses to the world; how long that took.
    fn answered(&self, server: Ipv4Addr, name: &str, wanted: &[Ipv4Addr]) -> Duration {
        let began = Instant::now();
        let wanted: BTreeSet<Ipv4Addr> = wanted.iter().copied().collect();
        eventually(&format!("{server} gives {wanted:?} for {name}"), PATIENCE, || {
            (names::addresses(&server.to_string(), name)? == wanted).then(|| began.elapsed())
        })
    }

    /// `dc check`: its exit code, and what it says.
    fn check(&self) -> (Option<i32>, String) {
        let ran = self.operator.run(&["dc", "check"]);
        (ran.code(), ran.stdout())
    }

    /// Waits until `dc check` finds everything open.
    fn all_open(&self) {
        let mut said = String::new();
        let open = || {
            let (code, now) = self.check();
            said = now;
            (code == Some(0) && said.contains("all are open")).then_some(())
        };
        eventually("everything is open", PATIENCE, open);
        assert!(said.contains("not tried: cabin lab: it can only dial out"), "{said}");
    }
}

fn warnings(status: &Value) -> String {
    let all = status["warnings"].as_array().unwrap_or_else(|| panic!("{status:#}"));
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    all.iter().map(|warning| format!("{}: {}\n", text(warning, "subject"), text(warning, "message"))).collect()
}

/// What somebody on a network is told by whom.
fn asked_on_lan(device: &Device, server: &str, name: &str) -> String {
    let said = device.run("kdig", &[&format!("@{server}"), name, "A", "+dnssec", "+short", "+time=2"]);
    String::from_utf8(said.stdout).unwrap()
}

#[expect(clippy::print_stderr, reason = "figures are shown")]
fn story(incusd: &Incusd) {
    let operator = Operator::new().with_shared_images();
    let shape = ["--datacenters", "3", "--hosts", "1", "--forwarded", "home", "--outbound-only", "cabin"];
    let lab = timed("three bare hosts", || Lab::of_shape(incusd, "homes", &shape));
    let made = fs::read_to_string(lab.folder.join("stack.toml")).unwrap();
    operator.write("stack.toml", &(made.split("[[site]]").next().unwrap().to_owned() + DECLARED));
    operator.write("leaf/index.html", "<!doctype html><p>Leaf one</p>");
    operator.write("diary/index.html", "<!doctype html><p>Diary one</p>");
    for host in &lab.hosts {
        timed(&host.name, || add(&operator, &lab, host));
    }
    timed("first up", || operator.up_without_backup());
    let world = World { operator, lab };
    let World { operator, lab } = &world;
    let [home, office, cabin] = [world.home(), world.address("office"), world.address("cabin")];

    // The world reads at home's router and at the office; who is in the cabin reads there.
    for at in [home, office, cabin] {
        world.read(LEAF, at, "/", "Leaf one");
    }
    for at in [office, cabin] {
        world.read(DIARY, at, "/", "Diary one");
    }
    for server in [home, office] {
        world.answered(server, LEAF, &[home, office]);
        world.answered(server, DIARY, &[office]);
    }
    let status = operator.json(&["status"]);
    assert!(warnings(&status).contains("cabin: it can only dial out"), "{status:#}");
    assert!(warnings(&status).contains("diary is written there"), "{status:#}");
    world.all_open();

    timed("names on their own networks", || on_lans(&world));
    timed("a forward is taken away", || closed(&world, home, office));

    // Whoever dies leaves the answers of the others, behind a router or not.
    for (dead, asked, left) in [("home", office, office), ("office", home, home)] {
        lab.run(&["kill", dead]);
        let took = world.answered(asked, LEAF, &[left]);
        eprintln!("{dead} out of the answers of the other name server: {:.1} s", took.as_secs_f64());
        assert!(took <= OUT_OF_ANSWERS, "{took:?}");
        world.read(LEAF, left, "/", "Leaf one");
        world.read(LEAF, cabin, "/", "Leaf one");
        lab.run(&["heal"]);
        timed(&format!("{dead} is back"), || {
            for server in [home, office] {
                world.answered(server, LEAF, &[home, office]);
            }
        });
    }
    world.all_open();

    timed("an address that changes", || moves(&world, office));
    timed("down --purge", || operator.run(&["down", "--purge", "--with-archive", "--yes"]).success());
}

/// At home nobody is led back in, and everybody is led to what is there all the same, once their resolver was told.
fn on_lans(world: &World) {
    let World { operator, lab } = world;
    let authority = operator.authority();
    let url = format!("https://{LEAF}/");
    for (number, name) in [(1, "home"), (3, "cabin")] {
        let host = world.host(name);
        let mut device = Device::beside(host, &format!("homesbr{number}"));
        let said = asked_on_lan(&device, &host.address, LEAF);
        assert!(said.starts_with(&format!("{}\nA 13 3 30 ", host.address)), "led to the host, signed: {said}");
        assert!(!asked_on_lan(&device, &host.address, "nothing.homes.test").contains("10."));
        if name == "home" {
            let public = ["--resolve", &format!("{LEAF}:443:{}", world.home())];
            device.reads(&authority, &url, &public).expect_err("its router leads nobody back in");
            // The site that is not there leads where it leads everybody.
            let said = asked_on_lan(&device, &host.address, DIARY);
            assert!(said.starts_with(&world.address("office").to_string()), "{said}");
        }
        let told = operator.json(&["dns", "lan", name]);
        let text = |of: &str| told[of].as_str().unwrap_or_else(|| panic!("{told:#}")).to_owned();
        let conf = operator.home().join(format!("resolver-{name}"));
        let (program, args, text): (_, &[&str], _) = match name {
            // As routers are shipped: what leads to private addresses is taken for an attack, unless it is told otherwise.
            "home" => {
                let as_shipped =
                    "no-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\nstop-dns-rebind\nuser=root\n";
                ("/usr/sbin/dnsmasq", &["--keep-in-foreground", "-C"], as_shipped.to_owned() + &text("dnsmasq"))
            }
            _ => {
                // The lab's domain is below one that it takes for nobody's.
                let as_shipped = "server:\n  interface: 127.0.0.1\n  access-control: 127.0.0.0/8 allow\n  username: \"\"\n  \
                     chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  private-address: 10.0.0.0/8\n  \
                     local-zone: \"test.\" nodefault\n";
                ("/usr/sbin/unbound", &["-d", "-c"], as_shipped.to_owned() + &text("unbound"))
            }
        };
        device.resolve(program, args, &conf, &text);
        let read = device.reads(&authority, &url, &[]);
        assert!(read.as_ref().is_ok_and(|page| page.contains("Leaf one")), "{name}: {read:?}");
    }
    // Whoever asks from elsewhere is told what the world is told.
    let elsewhere = Device::beside(world.host("office"), "homesbr2");
    let said = asked_on_lan(&elsewhere, &world.home().to_string(), LEAF);
    assert!(said.contains(&world.home().to_string()) && !said.contains(&lab.hosts[0].address), "{said}");
}

/// A router that lacks a rule is told which; one that lacks that for sites leaves the answers too.
fn closed(world: &World, home: Ipv4Addr, office: Ipv4Addr) {
    let lab = &world.lab;
    let inside = world.address("home");
    for (port, over) in [("53", ["UDP", "TCP"].as_slice()), ("80", &["TCP"]), ("443", &["TCP"])] {
        lab.run(&["close", "home", port]);
        let (code, said) = world.check();
        assert_eq!(code, Some(3), "{said}");
        for over in over {
            let rule = format!("on the router of lab: forward {over} port {port} to {inside} port {port}");
            assert!(said.contains(&rule), "{rule}: {said}");
        }
        assert_eq!(said.matches("help:").count(), over.len(), "nothing else is missing: {said}");
        if port == "443" {
            world.answered(office, LEAF, &[office]);
        }
        lab.run(&["heal"]);
        world.all_open();
    }
    world.answered(office, LEAF, &[home, office]);
}

/// Home's provider gives out another address from time to time. No registry knows it, and everybody follows.
fn moves(world: &World, office: Ipv4Addr) {
    let World { operator, lab } = world;
    let before = world.home();
    let declared = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    let fixed = format!("address = \"{before}\"");
    assert_eq!(declared.matches(&fixed).count(), 1, "{declared}");
    let declared = declared.replace(&fixed, "address = \"dynamic\"");
    operator.write("stack.toml", &declared);
    let refused = operator.run(&["check"]).exits(2);
    assert!(refused.stderr().contains("`home` and `cabin` cannot reach each other"), "nobody can dial: {refused:?}");
    operator.write("stack.toml", &declared.replace("\"office\", \"cabin\"", "\"office\""));
    operator.up_without_backup();
    let checked = operator.run(&["check"]).success();
    assert!(checked.stdout().contains("homes.test has 1 of the 2 name servers"), "{checked:?}");
    world.answered(office, LEAF, &[before, office]);
    let status = operator.json(&["status"]);
    assert!(warnings(&status).contains("home: its address changes"), "{status:#}");
    world.all_open();

    for _ in 0..2 {
        let moved: Ipv4Addr = lab.json(&["readdress", "home"])["address"].as_str().unwrap().parse().unwrap();
        let took = timed("an address is followed", || world.answered(office, LEAF, &[moved, office]));
        assert!(moved != before && took <= FOLLOWED, "{took:?}");
        world.read(LEAF, moved, "/", "Leaf one");
    }
    // What is written there comes to everybody, over links that were dialled anew.
    operator.write("leaf/index.html", "<!doctype html><p>Leaf two</p>");
    operator.write("diary/index.html", "<!doctype html><p>Diary two</p>");
    operator.up_without_backup();
    for at in [world.home(), office] {
        world.read(LEAF, at, "/", "Leaf two");
    }
    for at in [office, world.address("cabin")] {
        world.read(DIARY, at, "/", "Diary two");
    }
    world.all_open();
    // Its own people are led to it wherever it is to the world.
    let device = Device::beside(world.host("home"), "homesbr1");
    let said = asked_on_lan(&device, &world.host("home").address, LEAF);
    assert!(said.starts_with(&world.host("home").address), "{said}");
}
