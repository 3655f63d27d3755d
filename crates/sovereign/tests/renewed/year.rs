//! Thirteen months with nobody there: the management machine has got certificates, and is away from then on. The hour of two
//! renewers, two edges, the authority and all readers is moved on, by days or to the next turn; the first renewer is dead for weeks, and
//! its name server with it.
//!
//! Edges are started here, as their engine starts them: it gives a unit no surroundings that could move its clock. Name servers keep
//! the hour of the machine: what they sign is nothing that the authority or a reader here looks at.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sovereign_certs::Moment;
use sovereign_model::layout::StateFolder;
use sovereign_model::{DnsName, EdgeName};
use sovereign_runtime::control::{Request, request};
use sovereign_runtime::sockets::Handover;

use super::authority::Authority;
use super::{Clock, PATIENCE, Renewer, SHOP, Setting, declared, keys};
use crate::pebble::{Trust, free_port};
use crate::support::{Operator, eventually, kill};
use crate::{NameServer, WWW, shown_at, stack};

const DAY: u64 = 86_400;
/// Thirteen, in days.
const MONTHS: u64 = 396;
/// What the authority issues lasts so long.
const LIFE: Duration = Duration::from_secs(90 * DAY);
/// From one look of the readers to the next, where nothing is due before.
const STRIDE: Duration = Duration::from_secs(3 * DAY);
/// In these days the first renewer is dead, and its name server. Certificates of 90 days are renewed for the second time within them.
const DEAD: Range<u64> = 110..145;
const NAMES: [&str; 2] = [WWW, SHOP];

/// The hour of everybody but name servers.
struct Hour {
    clock: Clock,
    /// What processes read it from.
    file: PathBuf,
}

impl Hour {
    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    /// From now on it is a minute after `moment`, for edges as for the others.
    fn just_after(&self, moment: Moment) {
        self.clock.just_after(moment);
        // Read at any time: never half a file.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("+{}", self.clock.ahead())).unwrap();
        fs::rename(&next, &self.file).unwrap();
    }
}

/// An edge in the hour of the test, until it is dropped.
struct Edge(Child);

impl Edge {
    fn start(operator: &Operator, at: &EdgeName, port: u16, trust: &str, hour: &Hour) -> Self {
        let folder = StateFolder::new(operator.state()).edge(&at.datacenter);
        let mut libraries =
            fs::read_dir("/usr/lib").unwrap().map(|of| of.unwrap().path().join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|library| library.is_file()).expect("the package faketime brings it");
        // A program for development: that of a release is static, and nothing stands between it and its clock.
        let mut command = Command::new(env!("CARGO_BIN_EXE_sovereign"));
        command.arg("edge").arg("--config").arg(folder.config()).arg("--control").arg(folder.control());
        command.args(["--trust", trust]).current_dir(folder.path()).env_clear();
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &hour.file).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        Handover::new().with("https", listener).unwrap().attach(&mut command);
        let edge = Self(command.spawn().unwrap());
        eventually("the edge answers", PATIENCE, || {
            let told = request(&folder.control(), &Request::new("status"), Duration::from_secs(5)).ok()?;
            (told["process"] == edge.0.id()).then_some(())
        });
        edge
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends all that runs for the stack but its name servers.
fn end_engine(operator: &Operator) {
    eventually("the engine is gone", PATIENCE, || {
        let line = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_engine = |pid: &i32| !line(pid).contains("name-server");
        let left: Vec<String> = operator.processes().into_iter().filter(is_engine).map(|pid| pid.to_string()).collect();
        if left.is_empty() {
            return Some(());
        }
        let _ = Command::new("kill").arg("-KILL").args(left).stderr(Stdio::null()).status();
        None
    });
}

/// Has the name server of a data center and its Knot stand still, or go on.
fn name_server(operator: &Operator, at: &EdgeName, signal: &str) {
    let folder = StateFolder::new(operator.state()).name_server(&at.datacenter);
    let folder = folder.path().to_string_lossy().into_owned();
    for pid in operator.processes() {
        if fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(&folder) {
            kill(pid, signal);
        }
    }
}

/// What readers who believe the authority alone are shown for a name at this hour, at both edges. There is no hour in which one
/// does not believe what it sees.
fn read(operator: &Operator, name: &str, hour: &Hour) -> [String; 2] {
    [operator.home_port, operator.office_port].map(|port| {
        let now = hour.clock.now();
        shown_at(operator, "root.pem", name, port, now).unwrap_or_else(|why| panic!("{name} at {now:?}: {why}"))
    })
}

/// Waits until whoever lives knows the same certificate of a name, one that ends after `before`, and has nothing to do. When it
/// ends, and whose turn comes next.
fn settled(living: &[Renewer], name: &str, before: u64, hour: &Hour) -> (u64, Moment) {
    let name: DnsName = name.parse().unwrap();
    eventually("what is due is done, and known to whoever lives", 2 * PATIENCE, || {
        let all: Option<Vec<(u64, u64)>> = living
            .iter()
            .map(|renewer| {
                let known = renewer.status()?.names.remove(&name)?;
                Some((known.ends_unix?, known.turn_unix?))
            })
            .collect();
        let all = all?;
        let (ends, now) = (all.first()?.0, hour.now().seconds());
        let is_done = ends > before && all.iter().all(|(same, turn)| *same == ends && *turn > now);
        let next = all.iter().map(|(_, turn)| *turn).min()?;
        is_done.then_some((ends, Moment::at(next)))
    })
}

/// What was seen last of a name's certificate.
struct Seen {
    name: &'static str,
    serial: String,
    ends: u64,
}

#[test]
#[ignore = "takes minutes: cargo xtask prove names"]
fn in_thirteen_months_with_nobody_there_no_reader_is_ever_shown_what_is_over() {
    let operator = Operator::new();
    operator.write("public/index.html", "<!doctype html><title>Leaf</title><p>leaf");
    stack(&operator, SHOP, &[("ca", free_port())]);
    let [home, office] = ["home", "office"].map(|at| NameServer::start(&operator, at));
    let name_servers = [home.listen, office.listen];
    let hour = Hour { clock: Clock::default(), file: operator.home().join("hour") };
    let trust = Trust::new();
    let authority = Authority::start(&trust, &name_servers, &hour.clock, LIFE);
    let root = authority.root();
    let roots = format!("{}{root}", trust.root);
    operator.write("root.pem", &root);
    operator.write("roots.pem", &roots);
    stack(&operator, SHOP, &[("ca", authority.place)]);

    // The last that the management machine does.
    operator.run(&["up", "--yes", "--no-backup"]).success();
    assert_eq!(authority.issued(), NAMES.len());
    end_engine(&operator);
    let declared = declared(&operator);
    let edges: [EdgeName; 2] = ["home", "office"].map(|at| at.parse().unwrap());
    let keys = keys(&operator, &declared, &edges);
    let began = hour.now();
    hour.just_after(began);
    let trusted = hex::encode(keys.config_signing().unwrap().verifying_key().as_bytes());
    let ports = [operator.home_port, operator.office_port];
    let _running = [0, 1].map(|which| Edge::start(&operator, &edges[which], ports[which], &trusted, &hour));
    let (stack, clock) = (&declared, &hour.clock);
    let setting = Setting { operator: &operator, stack, keys: &keys, roots: &roots, name_servers, clock };
    let (first, second) = (|| setting.start(1, &edges[0]), setting.start(2, &edges[1]));
    let mut living = vec![second];

    let mut seen = NAMES.map(|name| Seen { name, serial: read(&operator, name, &hour)[0].clone(), ends: 0 });
    let (mut by_first, mut by_second, mut looks) = (0, 0, 0);
    loop {
        let day = hour.now().since(began).as_secs() / DAY;
        match (living.len(), DEAD.contains(&day)) {
            (1, false) => {
                name_server(&operator, &edges[0], "CONT");
                living.insert(0, first());
            }
            // Its host dies, but for the edge.
            (2, true) => {
                living.remove(0).stop();
                name_server(&operator, &edges[0], "STOP");
            }
            _ => {}
        }
        let turns = seen.each_mut().map(|seen| {
            let (ends, turn) = settled(&living, seen.name, 0, &hour);
            seen.ends = ends;
            turn
        });
        if day >= MONTHS {
            break;
        }
        // On to the next turn; the moment that it comes, nobody has done anything yet.
        hour.just_after(turns.into_iter().fold(hour.now().after(STRIDE), Moment::min));
        for (seen, turn) in seen.iter_mut().zip(turns) {
            read(&operator, seen.name, &hour);
            looks += 2;
            if turn > hour.now() {
                continue;
            }
            seen.ends = settled(&living, seen.name, seen.ends, &hour).0;
            let serial = eventually("both edges show the new one", PATIENCE, || {
                let [home, office] = read(&operator, seen.name, &hour);
                (home == office && home != seen.serial).then_some(home)
            });
            seen.serial = serial;
            let got: Vec<bool> = living.iter().map(|renewer| renewer.has_got(seen.name)).collect();
            let is_first = match got[..] {
                [true, false] => true,
                [true] => false,
                _ => panic!("{}: {got:?} of those who live", seen.name),
            };
            *(if is_first { &mut by_first } else { &mut by_second }) += 1;
            let who = if is_first { "first" } else { "second" };
            eprintln!("day {}: {} renewed by the {who}", hour.now().since(began).as_secs() / DAY, seen.name);
        }
    }
    eprintln!("{by_first} renewals by the first, {by_second} by the second; {looks} readers, none refused");
    assert_eq!(by_second, NAMES.len(), "each name once while the first was dead");
    assert!(by_first >= 4 * NAMES.len(), "{by_first}");
    assert_eq!(authority.issued(), NAMES.len() + by_first + by_second, "none twice");

    // Nobody renews any more: so readers and edges do live in this hour.
    living.into_iter().for_each(Renewer::stop);
    hour.just_after(Moment::at(seen.iter().map(|seen| seen.ends).max().unwrap()));
    for name in NAMES {
        for port in ports {
            let refused = shown_at(&operator, "root.pem", name, port, hour.clock.now()).unwrap_err();
            // What is over is shown no more: it is the stack's own instead.
            assert!(refused.contains("verify error") && !refused.contains("expired"), "{refused}");
        }
    }
}
