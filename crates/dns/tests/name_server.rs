//! A name server beside an agent, with Debian's Knot on loopback, asked by others' tools: `kdig`, `delv`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sovereign_dns::LoadError;
use sovereign_dns::agent;
use sovereign_dns::knot::driver::{DriverError, What};
use sovereign_dns::name_server::{self, NameServerError, Options};
use sovereign_keys::{Purpose, RootSeed, WorkingKeys, ZoneKey};
use sovereign_model::agent_config::{self, AgentConfig, Watched};
use sovereign_model::agent_status::{AgentStatus, Sight, Standing};
use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_config::{NameServerConfig, PROTOCOL};
use sovereign_model::name_server_status::{Away, NameServerStatus, WhyAway};
use sovereign_model::names::{Domain, Names, Place, Site, Uplink};
use sovereign_model::stack::{Location, Mail, UplinkAddress};
use sovereign_model::{Digest, DnsName, DnsRecord, StackName};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Commands, ControlError, Refusal, Request, Server as ControlServer, request_async};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::signed;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use common::{Authority, Manner, NAME, PATIENCE, RULES, Server};

const VIENNA: &str = "127.0.0.1";
const DENVER: &str = "127.0.0.2";
const BOTH: &[&str] = &[VIENNA, DENVER];
/// In Austria and in the United States in the tables below.
const AUSTRIA: &str = "203.0.113.0/24";
const STATES: &str = "192.88.99.0/24";

const WWW: &str = "www.example.org";
/// The key that the operator signs with.
const OPERATOR: [u8; 32] = [7; 32];

/// A folder with all that a name server in Vienna needs.
struct Stage {
    folder: TempDir,
    key: ZoneKey,
    options: Options,
    config: NameServerConfig,
    listen: SocketAddr,
}

/// A port that nobody has, neither for UDP nor for TCP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = tcp.local_addr().unwrap();
        if UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
}

fn names() -> Names {
    let place = |name: &str, latitude, longitude, address: &str| Place {
        name: name.parse().unwrap(),
        location: Some(Location { latitude, longitude }),
        jurisdiction: None,
        uplinks: vec![Uplink { name: "isp".to_owned(), address: UplinkAddress::Fixed(address.parse().unwrap()) }],
    };
    Names {
        places: vec![place("denver", 39.7, -105.0, DENVER), place("vienna", 48.2, 16.4, VIENNA)],
        domains: vec![Domain { name: "example.org".parse().unwrap(), mail: Mail::None, records: Vec::new() }],
        sites: vec![Site {
            names: vec!["example.org".parse().unwrap(), WWW.parse().unwrap()],
            datacenters: vec!["vienna".parse().unwrap(), "denver".parse().unwrap()],
        }],
    }
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = NameServerFolder::new(folder.path());
        let (stack, domain): (StackName, DnsName) = ("shop".parse().unwrap(), "example.org".parse().unwrap());
        let working = WorkingKeys::imagined(&stack, &[Purpose::Zone(domain.clone())], &RootSeed::generate());
        let key = working.zone_key(&domain).unwrap();
        fs::write(own.key(&domain, key.tag()), key.private_pem().expose()).unwrap();
        let listen = free_port();
        let config = NameServerConfig {
            stack,
            datacenter: "vienna".parse().unwrap(),
            host: Some("atlas".parse().unwrap()),
            folder: folder.path().to_owned(),
            listen: vec![listen],
            names: names(),
            keys: BTreeMap::from([(domain, key.tag())]),
            drained: BTreeSet::new(),
        };
        let geography = ["geoip", "geoip6"].map(|name| folder.path().join(name));
        fs::write(&geography[0], "3227017984,3227018239,US\n3405803776,3405804031,AT\n").unwrap();
        fs::write(&geography[1], "2001:db9::,2001:db9:ffff:ffff:ffff:ffff:ffff:ffff,US\n").unwrap();
        let options = Options {
            config: folder.path().join("config.json"),
            trust: SigningKey::from_bytes(&OPERATOR).verifying_key(),
            control: own.path().join("control.sock"),
            agent: folder.path().join("agent.sock"),
            geography,
            knot: vec!["knotd".to_owned()],
        };
        Self { folder, key, options, config, listen }
    }

    fn start(&self) -> Daemon {
        self.sign(&OPERATOR);
        let lifecycle = Lifecycle::new(Duration::from_secs(10));
        let task = tokio::spawn(name_server::serve(self.options.clone(), lifecycle.clone()));
        Daemon { control: self.options.control.clone(), lifecycle, task }
    }

    fn sign(&self, by: &[u8; 32]) {
        let text = serde_json::to_string(&self.config).unwrap();
        fs::write(&self.options.config, signed::seal(&SigningKey::from_bytes(by), PROTOCOL, 1, text)).unwrap();
    }

    /// What `kdig` says, and nothing else, sorted.
    async fn ask(&self, from: Option<&str>, name: &str, kind: &str) -> Vec<String> {
        let mut kdig = tokio::process::Command::new("kdig");
        kdig.arg(format!("@{}", self.listen.ip())).args(["-p", &self.listen.port().to_string(), "+short"]);
        kdig.args(["+timeout=1", "+retry=0"]).args(from.map(|from| format!("+subnet={from}")));
        let said = kdig.args([name, kind]).output().await.expect("kdig runs").stdout;
        let mut lines: Vec<String> = String::from_utf8(said).unwrap().lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with(";;"));
        lines.sort();
        lines
    }

    /// Waits until it answers so; how long that took.
    async fn answers(&self, from: Option<&str>, name: &str, kind: &str, wanted: &[&str]) -> Duration {
        let began = Instant::now();
        loop {
            let found = self.ask(from, name, kind).await;
            if found == wanted {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{name} {kind} from {from:?}: waited for {wanted:?}, and is {found:?}");
        }
    }

    /// What BIND's validator says, with the domain's own key as its anchor.
    fn validated(&self, name: &str) -> String {
        let anchor = self.folder.path().join("anchor");
        let public = self.key.dnskey().public_key;
        fs::write(&anchor, format!("trust-anchors {{ example.org. static-key 257 3 13 \"{public}\"; }};\n")).unwrap();
        let (ip, port) = (format!("@{}", self.listen.ip()), self.listen.port().to_string());
        let anchor = anchor.display().to_string();
        let delv = Command::new("delv").args([&*ip, "-p", &*port, "-a", &*anchor, "+root=example.org", name]).output();
        let said = delv.expect("delv runs");
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
    }

    /// Whether nobody is there, as resolvers learn at once.
    fn is_refused(&self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect(self.listen).unwrap();
        socket.send(&question(1)).unwrap();
        let refused = socket.recv(&mut [0; 512]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        refused && TcpStream::connect(self.listen).is_err()
    }
}

/// A name server in this process.
struct Daemon {
    control: PathBuf,
    lifecycle: Lifecycle,
    task: JoinHandle<Result<Drained, NameServerError>>,
}

impl Daemon {
    async fn tell(&self, request: Request) -> Result<Value, ControlError> {
        request_async(&self.control, &request, Duration::from_secs(15)).await
    }

    /// Waits until it is so.
    async fn is(&self, what: &str, so: impl Fn(&NameServerStatus) -> bool) -> NameServerStatus {
        let began = Instant::now();
        loop {
            let told = self.tell(Request::new("status")).await.ok();
            let status: Option<NameServerStatus> = told.map(|told| serde_json::from_value(told).unwrap());
            if let Some(status) = status.as_ref().filter(|status| so(status)) {
                return status.clone();
            }
            assert!(!self.task.is_finished(), "it has ended");
            assert!(began.elapsed() < PATIENCE, "waited until {what}, and it is {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.lifecycle.stop();
        assert_eq!(self.task.await.unwrap().unwrap(), Drained::Quiet);
    }
}

/// An agent that sees what it is told.
#[derive(Clone)]
struct StandIn(Arc<Mutex<AgentStatus>>);

impl Commands for StandIn {
    async fn answer(&self, _: Request) -> Result<Value, Refusal> {
        Ok(serde_json::to_value(&*self.0.lock().unwrap()).unwrap())
    }
}

impl StandIn {
    /// All that the agent of Vienna watches.
    fn start(stage: &Stage, vienna: Standing, denver: Standing) -> Self {
        let sight = |datacenter: &str, address: &str| Sight {
            datacenter: datacenter.parse().unwrap(),
            at: "isp".to_owned(),
            address: SocketAddr::new(address.parse().unwrap(), 443),
            standing: Standing::Unknown,
            counted_on: true,
            since_unix: 0,
            latency_us: None,
            last_error: None,
            deaths: 0,
        };
        let status = AgentStatus {
            healthy: true,
            draining: false,
            version: "0".to_owned(),
            process: 1,
            stack: "shop".parse().unwrap(),
            datacenter: "vienna".parse().unwrap(),
            host: None,
            config_digest: Digest::of(""),
            fails_open: false,
            watched: vec![sight("vienna", "10.0.0.1"), sight("denver", DENVER)],
        };
        let agent = Self(Arc::new(Mutex::new(status)));
        agent.sees(vienna, denver);
        let control = ControlServer::take_over(&stage.options.agent).unwrap();
        let served = agent.clone();
        tokio::spawn(async move { control.serve(Arc::new(served), &Lifecycle::new(Duration::ZERO)).await });
        agent
    }

    fn sees(&self, vienna: Standing, denver: Standing) {
        let mut status = self.0.lock().unwrap();
        (status.watched[0].standing, status.watched[1].standing) = (vienna, denver);
        status.fails_open = [vienna, denver] == [Standing::Dead; 2];
    }
}

#[tokio::test]
async fn what_a_real_agent_sees_die_leaves_the_answers_and_a_broken_data_center_is_silent() {
    let stage = Stage::new();
    let authority = Authority::new("ours");
    let tls = authority.server(NAME);
    let home = Server::start(tls.clone(), Manner::Edge).await;
    let away = Server::start_at(SocketAddr::new(DENVER.parse().unwrap(), 0), tls.clone(), Manner::Edge).await;
    let watched = |datacenter: &str, address| Watched {
        datacenter: datacenter.parse().unwrap(),
        at: "isp".to_owned(),
        address,
        name: Some(NAME.parse().unwrap()),
        public: false,
    };
    let config = AgentConfig {
        stack: "shop".parse().unwrap(),
        datacenter: "vienna".parse().unwrap(),
        host: Some("atlas".parse().unwrap()),
        authority: authority.pem.clone(),
        watched: vec![watched("vienna", home.address), watched("denver", away.address)],
    };
    let file = stage.folder.path().join("agent.json");
    let text = serde_json::to_string(&config).unwrap();
    fs::write(&file, signed::seal(&SigningKey::from_bytes(&OPERATOR), agent_config::PROTOCOL, 1, text)).unwrap();
    let (trust, control) = (stage.options.trust, stage.options.agent.clone());
    let agent_lives = Lifecycle::new(Duration::from_secs(5));
    let agent = agent::Options { config: file, trust, control, rules: RULES };
    let agent = tokio::spawn(agent::serve(agent, agent_lives.clone()));

    let daemon = stage.start();
    stage.answers(None, WWW, "A", BOTH).await;
    let status = daemon.is("the agent is heard", |status| status.seen_unix.is_some()).await;
    assert!(status.healthy && status.away.is_empty() && status.agent_error.is_none(), "{status:#?}");
    stage.answers(Some(STATES), WWW, "A", &[DENVER]).await;

    let address = away.kill().await;
    let died = stage.answers(None, WWW, "A", &[VIENNA]).await;
    stage.answers(Some(STATES), WWW, "A", &[VIENNA]).await;
    let status = daemon.is("it is away", |status| !status.away.is_empty()).await;
    let denver: IpAddr = DENVER.parse().unwrap();
    let dead = Away { datacenter: "denver".parse().unwrap(), address: denver, why: WhyAway::Dead };
    assert_eq!(status.away, [dead]);
    let away = Server::start_at(address, tls.clone(), Manner::Edge).await;
    let back = stage.answers(None, WWW, "A", BOTH).await;
    eprintln!("a death was answered after {died:?}, a return after {back:?}");
    assert!(died < Duration::from_secs(4) && back < Duration::from_secs(4));

    // Its own data center is broken, and the other one is not.
    let address = home.kill().await;
    let status = daemon.is("it is silent", |status| status.silent.is_some()).await;
    daemon.is("Knot is gone", |status| status.knot.is_none()).await;
    assert!(status.healthy && stage.is_refused(), "{status:#?}");
    assert!(daemon.tell(challenge(json!({WWW: ["a"]}))).await.unwrap_err().help().is_some());
    // Both are: it rather doubts what it sees.
    let other = away.kill().await;
    stage.answers(None, WWW, "A", BOTH).await;
    assert!(daemon.is("it speaks", |status| status.silent.is_none()).await.fails_open);
    let _away = Server::start_at(other, tls.clone(), Manner::Edge).await;
    daemon.is("it is silent again", |status| status.silent.is_some() && status.knot.is_none()).await;
    let _home = Server::start_at(address, tls, Manner::Edge).await;
    stage.answers(None, WWW, "A", BOTH).await;
    assert!(stage.validated(WWW).contains("; fully validated"));

    // The agent goes: what it saw last holds.
    agent_lives.stop();
    agent.await.unwrap().unwrap();
    let status = daemon.is("the agent is missed", |status| status.agent_error.is_some()).await;
    assert!(status.healthy && status.seen_unix.is_some());
    daemon.stop().await;
}

fn challenge(set: Value) -> Request {
    Request::new("challenge").with("set", set)
}

#[tokio::test]
async fn a_challenge_is_answered_for_as_long_as_it_is_set() {
    let stage = Stage::new();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    let name = format!("_acme-challenge.{WWW}");
    let began = Instant::now();
    daemon.tell(challenge(json!({WWW: ["one", "two"], "example.org": ["three"]}))).await.unwrap();
    eprintln!("published after {:?}", began.elapsed());
    // Nobody waits: it was there when it was said to be.
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"one\"", "\"two\""]);
    assert_eq!(stage.ask(None, "_acme-challenge.example.org", "TXT").await, ["\"three\""]);
    assert_eq!(daemon.is("it is told", |status| status.challenges.len() == 2).await.zones.len(), 1);

    let refused = daemon.tell(challenge(json!({"www.example.net": ["a"], WWW: ["a b"]}))).await.unwrap_err();
    let ControlError::Refused(refusal) = refused else { panic!("{refused}") };
    assert!(
        refusal.message.contains("www.example.net") && refusal.message.contains("no challenge")
            || refusal.message.contains("not a challenge"),
        "{refusal}"
    );
    assert!(daemon.tell(Request::new("challenge").with("set", "all")).await.is_err());
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"one\"", "\"two\""], "what is refused changes nothing");

    daemon.tell(challenge(json!({WWW: ["four"]}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"four\""]);
    assert_eq!(stage.ask(None, "_acme-challenge.example.org", "TXT").await, [""; 0]);
    daemon.tell(challenge(json!({}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, [""; 0]);
    assert!(stage.validated(WWW).contains("; fully validated"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_challenge_that_does_not_go_with_the_zone_is_taken_back() {
    let mut stage = Stage::new();
    // The operator leads this name elsewhere: it cannot have texts of its own.
    let mut alias = DnsRecord::new(&WWW.parse().unwrap(), 300, "CNAME", "elsewhere.example.");
    alias.owner = format!("_acme-challenge.{WWW}");
    stage.config.names.domains[0].records.push(alias);
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    let refused = daemon.tell(challenge(json!({WWW: ["a"], "example.org": ["b"]}))).await.unwrap_err();
    assert!(refused.help().is_some(), "{refused}");
    let status = daemon.is("it is well again", |status| status.healthy).await;
    assert!(status.challenges.is_empty());
    assert_eq!(stage.ask(None, WWW, "A").await, BOTH);
    daemon.stop().await;
}

#[tokio::test]
async fn knot_is_started_again_when_it_dies_and_ends_with_the_name_server() {
    let mut stage = Stage::new();
    stage.config.drained.insert("denver".parse().unwrap());
    // Debian's package is not installed.
    fs::remove_file(&stage.options.geography[1]).unwrap();
    let agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    let status = daemon.is("it is ready", |status| status.healthy).await;
    assert_eq!(status.away.iter().map(|away| away.why).collect::<Vec<_>>(), [WhyAway::Drained]);
    let why = status.geography_error.unwrap();
    assert!(status.geography.is_none() && why.contains("geoip6") && why.contains("tor-geoipdb"), "{why}");
    stage.answers(None, WWW, "A", &[VIENNA]).await;

    let first = status.knot.unwrap();
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    let took = stage.answers(None, WWW, "A", &[VIENNA]).await;
    eprintln!("Knot was killed, and answered again after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let second = daemon.is("there is another", |status| status.knot.is_some_and(|knot| knot != first)).await;
    assert!(second.healthy && second.zones.iter().all(|zone| zone.serial.is_some() && zone.signed_unix.is_some()));

    // An agent that was started anew knows nothing yet: who was dead is not answered again for that.
    agent.sees(Standing::Alive, Standing::Dead);
    daemon.is("it is dead", |status| status.away.iter().any(|away| away.why == WhyAway::Dead)).await;
    agent.sees(Standing::Unknown, Standing::Unknown);
    agent.0.lock().unwrap().stack = "other".parse().unwrap();
    let status = daemon.is("it is a stranger's", |status| status.agent_error.is_some()).await;
    assert!(status.away.iter().any(|away| away.why == WhyAway::Dead));

    let knot = stage.folder.path().join("knot");
    assert!(fs::read_dir(&knot).unwrap().count() > 0);
    daemon.stop().await;
    assert!(stage.is_refused() && !stage.options.control.exists());
    assert_eq!(fs::read_dir(&knot).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_served_is_not_begun_with() {
    let mut stage = Stage::new();
    let refused = async |stage: &Stage| {
        let refused = name_server::serve(stage.options.clone(), Lifecycle::new(Duration::ZERO)).await.unwrap_err();
        assert!(refused.help().is_some(), "{refused}");
        assert!(!stage.options.control.exists() && stage.is_refused());
        refused
    };
    stage.sign(&[8; 32]);
    let foreign = refused(&stage).await;
    assert!(matches!(foreign, NameServerError::Config(LoadError::Signed { .. })), "{foreign}");
    let text = fs::read(&stage.options.config).unwrap();
    for damaged in [&text[..text.len() / 2], b"", b"{}"] {
        fs::write(&stage.options.config, damaged).unwrap();
        refused(&stage).await;
    }
    let unknown =
        serde_json::to_string(&stage.config).unwrap().replace("\"drained\"", "\"drain\"").replacen('{', "{\"x\":1,", 1);
    let sealed = signed::seal(&SigningKey::from_bytes(&OPERATOR), PROTOCOL, 1, unknown);
    fs::write(&stage.options.config, sealed).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Config(LoadError::Payload { .. })));
    fs::remove_file(&stage.options.config).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Config(LoadError::Read { .. })));
    // A key that is not there; then another one than the registry knows is in its place.
    let good = stage.config.clone();
    let (domain, tag) = good.keys.iter().next().unwrap();
    let other = tag.wrapping_add(1);
    stage.config.keys.insert(domain.clone(), other);
    stage.sign(&OPERATOR);
    assert!(matches!(refused(&stage).await, NameServerError::Knot(DriverError::Refused { what: What::Key(_), .. })));
    let folder = NameServerFolder::new(stage.folder.path());
    fs::copy(folder.key(domain, *tag), folder.key(domain, other)).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Knot(DriverError::OtherKey { .. })));
    stage.config = good;
    // There is no Knot.
    stage.sign(&OPERATOR);
    stage.options.knot = vec!["/nonexistent/knotd".to_owned()];
    assert!(matches!(refused(&stage).await, NameServerError::Knot(_)));
    stage.options.knot = vec!["false".to_owned()];
    let ended = refused(&stage).await;
    assert!(ended.to_string().contains("it ended with exit status: 1"), "{ended}");
}

/// A question for the addresses of `www.example.org`.
fn question(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\0\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01"].concat()
}

/// What came of questions.
#[derive(Default)]
struct Asked {
    asked: u32,
    lost: u32,
    /// Until the answer that took longest was there.
    longest: Duration,
}

impl Asked {
    fn count(&mut self, began: Instant, is_answered: bool) {
        self.asked += 1;
        match is_answered {
            true => self.longest = self.longest.max(began.elapsed()),
            false => self.lost += 1,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Asks from a new socket each time, at most a thousand times a second, until it is told to stop.
fn ask_by_udp(place: SocketAddr, stop: &AtomicBool) -> Asked {
    let mut all = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(place).unwrap();
        let mut answer = [0; 512];
        let sent = socket.send(&question(all.asked as u16));
        let is_well = sent.and_then(|_| socket.recv(&mut answer)).is_ok_and(|size| size > 40 && answer[3] & 15 == 0);
        all.count(began, is_well);
    }
    all
}

/// The same over connections.
fn ask_by_tcp(place: SocketAddr, stop: &AtomicBool) -> Asked {
    let mut all = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let ask = || {
            let mut stream = TcpStream::connect(place)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let question = question(all.asked as u16);
            stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat())?;
            stream.read_exact(&mut [0; 40])
        };
        let is_well = ask().is_ok();
        all.count(began, is_well);
    }
    all
}

#[tokio::test]
async fn one_takes_over_from_another_while_both_answer() {
    const TIMES: u32 = 3;
    let stage = Stage::new();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let mut before = stage.start();
    let first = before.is("it is ready", |status| status.healthy).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = [ask_by_udp, ask_by_udp, ask_by_tcp].map(|ask| {
        let (stop, place) = (stop.clone(), stage.listen);
        std::thread::spawn(move || ask(place, &stop))
    });
    let mut knot = first.knot;
    for _ in 0..TIMES {
        let next = stage.start();
        // The control socket is the new one's as soon as it answers.
        let status = next.is("it took over", |status| status.knot.is_some() && status.knot != knot).await;
        assert!(status.healthy && !status.draining);
        knot = status.knot;
        assert_eq!(fs::read_dir(stage.folder.path().join("knot")).unwrap().count(), 4, "two folders, two locks");
        before.stop().await;
        before = next;
        stage.answers(Some(AUSTRIA), WWW, "A", &[VIENNA]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let all = asking.map(|asking| asking.join().unwrap());
    for (by, Asked { asked, lost, longest }) in ["UDP", "UDP", "TCP"].into_iter().zip(all) {
        eprintln!("{TIMES} replacements, by {by}: {lost} of {asked} were lost, the longest answer took {longest:?}");
        // What waits in the sockets of a Knot that stops goes with it: of whoever asks, one question is under way.
        assert!(asked > 50 && lost <= TIMES, "{lost} of {asked} by {by}");
    }
    assert!(Path::new(&stage.options.control).exists());
    before.stop().await;
}
