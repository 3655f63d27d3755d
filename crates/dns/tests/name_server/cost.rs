//! What an answer costs: Knot as a name server of the stack has it (signatures, geography, cookies, limits), beside Knot
//! with nothing but the same zone, signed, and beside PowerDNS with its bind backend, signed too. All on loopback, in turns,
//! in the other order each second round, asked by `dnsperf` at one pace, so that the machine is not full.
//!
//! Answers to loopback are never limited, also where the limits are on: it is looked up whose question it is, and no
//! more. What is read is processor time, that of the name server's own process included.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sovereign_dns::zone::{World, zone};
use sovereign_model::agent_status::Standing;

use crate::common::PATIENCE;
use crate::stage::{BOTH, Stage, StandIn, WWW, ask, free_port};

/// Names of sites beside the two that the stage has.
const NAMES: usize = 1000;
const ROUNDS: usize = 5;
const SECONDS: u32 = 3;
/// Questions a second: a fraction of what any of them answers, and many times what a site sees.
const PACE: u32 = 20_000;
/// What ours may cost beside plain Knot, where we want to be.
const AIM: f64 = 1.2;

/// What is asked.
struct Case {
    what: &'static str,
    flags: &'static [&'static str],
    is_there: bool,
}

/// A network in the United States, as a resolver tells it (RFC 7871): IPv4, 24 bits of 8.8.8.0.
const FROM_STATES: &str = "8:00011800080808";

const CASES: &[Case] = &[
    Case { what: "an address, signed", flags: &["-D"], is_there: true },
    Case { what: "the same for a reader in a country", flags: &["-D", "-E", FROM_STATES], is_there: true },
    Case { what: "an address without signatures", flags: &[], is_there: true },
    Case { what: "that a name is not there, signed", flags: &["-D"], is_there: false },
];

/// A server beside ours, until it is dropped.
struct Rival {
    name: &'static str,
    at: SocketAddr,
    process: Child,
}

impl Rival {
    async fn start(name: &'static str, at: SocketAddr, mut command: Command, log: &Path) -> Self {
        let said = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let rival = Self { name, at, process: command.spawn().unwrap_or_else(|error| panic!("{name}: {error}")) };
        let began = Instant::now();
        while ask(at, None, WWW, "A").await != BOTH {
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "{name} does not answer: {}", said());
        }
        rival
    }

    async fn knot(stage: &Stage, text: &str) -> Self {
        let (folder, at) = (stage.folder.path().join("plain"), free_port());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("zone"), text).unwrap();
        let path = folder.display();
        let conf = format!(
            "server:\n    rundir: \"{path}\"\n    listen: {}@{}\nlog:\n  - target: stderr\n    any: error\n\
             database:\n    storage: \"{path}\"\npolicy:\n  - id: one-key\n    algorithm: ecdsap256sha256\n    \
             single-type-signing: on\nzone:\n  - domain: example.org\n    file: \"{path}/zone\"\n    zonefile-sync: -1\n    \
             zonefile-load: difference-no-serial\n    journal-content: all\n    dnssec-signing: on\n    \
             dnssec-policy: one-key\n",
            at.ip(),
            at.port()
        );
        fs::write(folder.join("knot.conf"), conf).unwrap();
        let mut knot = Command::new("knotd");
        knot.arg("--config").arg(folder.join("knot.conf"));
        Self::start("Knot, plain", at, knot, &folder.join("log")).await
    }

    /// A thread for each processor, each with a socket of its own.
    async fn power_dns(stage: &Stage, text: &str) -> Self {
        let (folder, at) = (stage.folder.path().join("power"), free_port());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("zone"), text).unwrap();
        let path = folder.display();
        let named = format!("zone \"example.org\" {{ type master; file \"{path}/zone\"; }};\n");
        fs::write(folder.join("named.conf"), named).unwrap();
        let threads = std::thread::available_parallelism().unwrap();
        let conf = format!(
            "launch=bind\nbind-config={path}/named.conf\nbind-dnssec-db={path}/dnssec.db\nlocal-address={}\n\
             local-port={}\nsocket-dir={path}\nreceiver-threads={threads}\nreuseport=yes\ndisable-syslog=yes\nloglevel=3\n",
            at.ip(),
            at.port()
        );
        fs::write(folder.join("pdns.conf"), conf).unwrap();
        let database = folder.join("dnssec.db");
        for words in [&["create-bind-db", database.to_str().unwrap()][..], &["secure-zone", "example.org"]] {
            let mut tool = Command::new("pdnsutil");
            let told = tool.arg(format!("--config-dir={path}")).args(words).output().expect("pdnsutil runs");
            assert!(told.status.success(), "{words:?}: {told:?}");
        }
        let mut server = Command::new("/usr/sbin/pdns_server");
        server.arg(format!("--config-dir={path}")).args(["--daemon=no", "--guardian=no"]);
        Self::start("PowerDNS", at, server, &folder.join("log")).await
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Time that the threads of a process were on a processor so far, in nanoseconds (the kernel's schedstat). None of these
/// servers ends a thread.
fn processor(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let times = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    times.sum()
}

/// Asks a server for some seconds; how many answers came, all of them right.
fn load(at: SocketAddr, case: &Case, questions: &Path) -> u64 {
    let mut dnsperf = Command::new("dnsperf");
    dnsperf.args(["-s", &at.ip().to_string(), "-p", &at.port().to_string(), "-c", "4", "-T", "1", "-q", "100"]);
    dnsperf.args(["-l", &SECONDS.to_string(), "-Q", &PACE.to_string()]).args(case.flags).arg("-d").arg(questions);
    let said = String::from_utf8(dnsperf.output().expect("dnsperf runs").stdout).unwrap();
    let line = |begin: &str| said.lines().find_map(|line| line.trim().strip_prefix(begin)).unwrap_or_default().trim();
    let count = |begin: &str| line(begin).split(' ').next()?.parse::<u64>().ok();
    let completed = count("Queries completed:").unwrap_or_else(|| panic!("{said}"));
    let code = if case.is_there { "NOERROR" } else { "NXDOMAIN" };
    let right = format!("{code} {completed} (100.00%)");
    assert!(completed > 0 && line("Response codes:") == right, "{}: {said}", case.what);
    completed
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The multi-threaded runtime lets the name server in this process go on while the generator is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long, with dnsperf and PowerDNS: `cargo xtask prove names`"]
async fn how_much_an_answer_costs() {
    let mut stage = Stage::new();
    stage.options.geography = ["/usr/share/tor/geoip", "/usr/share/tor/geoip6"].map(Into::into);
    let more = (0..NAMES).map(|number| format!("s{number}.example.org").parse().unwrap());
    stage.config.names.sites[0].names.extend(more);
    let names = &stage.config.names;
    let text = zone(names, &names.domains[0], 1, &World::default()).to_string();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    let status = daemon.is("it answers by geography", |status| status.healthy && status.geography.is_some()).await;
    stage.answers(None, WWW, "A", BOTH).await;
    // Whoever is in the United States is led to one of the two: the module is asked.
    assert_eq!(stage.ask(Some("8.8.8.0/24"), WWW, "A").await.len(), 1);
    let rivals = [Rival::knot(&stage, &text).await, Rival::power_dns(&stage, &text).await];
    let ours = vec![status.knot.unwrap(), std::process::id()];
    let servers: Vec<(&str, SocketAddr, Vec<u32>)> = std::iter::once(("sovereign", stage.listen, ours))
        .chain(rivals.iter().map(|rival| (rival.name, rival.at, vec![rival.process.id()])))
        .collect();

    let [there, missing] = ["there", "missing"].map(|name| stage.folder.path().join(name));
    let questions = |name: &str| (0..NAMES).map(|number| format!("{name}{number}.example.org A\n")).collect::<String>();
    fs::write(&there, questions("s")).unwrap();
    fs::write(&missing, questions("nothing")).unwrap();

    let mut costs = vec![vec![Vec::new(); servers.len()]; CASES.len()];
    for round in 0..ROUNDS {
        for (case, costs) in CASES.iter().zip(&mut costs) {
            let mut turns: Vec<usize> = (0..servers.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for at in turns {
                let (_, place, processes) = &servers[at];
                let used = || processes.iter().map(|pid| processor(*pid)).sum::<u64>();
                let before = used();
                let answers = load(*place, case, if case.is_there { &there } else { &missing });
                costs[at].push((used() - before) as f64 / 1e3 / answers as f64);
            }
        }
    }
    eprintln!(
        "\n{ROUNDS} rounds of {SECONDS} s at {PACE} questions a second, {NAMES} names at two data centers\n\
         \n| processor time for an answer | {} | beside plain Knot (aim: {AIM}) |\n|---|---:|---:|---:|---:|",
        servers.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" | ")
    );
    for (case, costs) in CASES.iter().zip(costs) {
        let costs: Vec<f64> = costs.into_iter().map(median).collect();
        let cells: Vec<String> = costs.iter().map(|cost| format!("{cost:.1} µs")).collect();
        eprintln!("| {} | {} | {:.2} |", case.what, cells.join(" | "), costs[0] / costs[1]);
    }
    daemon.stop().await;
}
