//! A name server in Vienna, with all that it needs and all that asks it.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sovereign_dns::name_server::{self, NameServerError, Options};
use sovereign_keys::{Purpose, RootSeed, WorkingKeys, ZoneKey};
use sovereign_model::agent_status::{AgentStatus, Sight, Standing};
use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_config::{NameServerConfig, PROTOCOL};
use sovereign_model::name_server_status::NameServerStatus;
use sovereign_model::names::{Domain, Names, Place, Site, Uplink};
use sovereign_model::stack::{Location, Mail, UplinkAddress};
use sovereign_model::{Digest, DnsName, StackName};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Commands, ControlError, Refusal, Request, Server, request_async};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::signed;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::common::PATIENCE;

pub const VIENNA: &str = "127.0.0.1";
pub const DENVER: &str = "127.0.0.2";
pub const BOTH: &[&str] = &[VIENNA, DENVER];
/// In Austria and in the United States in the tables below.
pub const AUSTRIA: &str = "203.0.113.0/24";
pub const STATES: &str = "192.88.99.0/24";

pub const WWW: &str = "www.example.org";
/// The key that the operator signs with.
pub const OPERATOR: [u8; 32] = [7; 32];

/// A folder with all that a name server in Vienna needs.
pub struct Stage {
    pub folder: TempDir,
    pub key: ZoneKey,
    pub options: Options,
    pub config: NameServerConfig,
    pub listen: SocketAddr,
}

/// A port that nobody has, neither for UDP nor for TCP.
pub fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = tcp.local_addr().unwrap();
        if UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
}

pub fn names() -> Names {
    let place = |name: &str, latitude, longitude, address: &str| Place {
        name: name.parse().unwrap(),
        location: Some(Location { latitude, longitude }),
        jurisdiction: None,
        uplinks: vec![Uplink { name: "isp".to_owned(), address: UplinkAddress::Fixed(address.parse().unwrap()) }],
    };
    Names {
        issuers: None,
        places: vec![place("denver", 39.7, -105.0, DENVER), place("vienna", 48.2, 16.4, VIENNA)],
        domains: vec![Domain {
            name: "example.org".parse().unwrap(),
            secondaries: Vec::new(),
            mail: Mail::None,
            records: Vec::new(),
        }],
        secondaries: Vec::new(),
        sites: vec![Site {
            names: vec!["example.org".parse().unwrap(), WWW.parse().unwrap()],
            datacenters: vec!["vienna".parse().unwrap(), "denver".parse().unwrap()],
        }],
    }
}

impl Stage {
    pub fn new() -> Self {
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
            coming_keys: BTreeMap::new(),
            transfer_keys: BTreeMap::new(),
            lan: None,
            drained: BTreeSet::new(),
        };
        let geography = ["geoip", "geoip6"].map(|name| folder.path().join(name));
        fs::write(&geography[0], "3227017984,3227018239,US\n3405803776,3405804031,AT\n").unwrap();
        fs::write(&geography[1], "2001:db9::,2001:db9:ffff:ffff:ffff:ffff:ffff:ffff,US\n").unwrap();
        let options = Options {
            config: folder.path().join("config.json"),
            trust: SigningKey::from_bytes(&OPERATOR).verifying_key(),
            control: own.path().join("control.sock"),
            renewal: Some(folder.path().join("renewal.sock")),
            agent: Some(folder.path().join("agent.sock")),
            geography,
            knot: vec!["knotd".to_owned()],
        };
        Self { folder, key, options, config, listen }
    }

    pub fn start(&self) -> Daemon {
        self.sign(&OPERATOR);
        let lifecycle = Lifecycle::new(Duration::from_secs(10));
        let task = tokio::spawn(name_server::serve(self.options.clone(), lifecycle.clone()));
        Daemon { control: self.options.control.clone(), lifecycle, task }
    }

    pub fn sign(&self, by: &[u8; 32]) {
        let text = serde_json::to_string(&self.config).unwrap();
        fs::write(&self.options.config, signed::seal(&SigningKey::from_bytes(by), PROTOCOL, 1, text)).unwrap();
    }

    /// What `kdig` says, and nothing else, sorted.
    pub async fn ask(&self, from: Option<&str>, name: &str, kind: &str) -> Vec<String> {
        ask(self.listen, from, name, kind).await
    }

    /// Waits until it answers so; how long that took.
    pub async fn answers(&self, from: Option<&str>, name: &str, kind: &str, wanted: &[&str]) -> Duration {
        answers(self.listen, from, name, kind, wanted).await
    }

    /// What BIND's validator says, with the domain's own key as its anchor.
    pub fn validated(&self, name: &str) -> String {
        self.validated_at(self.listen, name)
    }

    /// The same of a server that has a copy.
    pub fn validated_at(&self, server: SocketAddr, name: &str) -> String {
        let anchor = self.folder.path().join("anchor");
        let public = self.key.dnskey().public_key;
        fs::write(&anchor, format!("trust-anchors {{ example.org. static-key 257 3 13 \"{public}\"; }};\n")).unwrap();
        let (ip, port) = (format!("@{}", server.ip()), server.port().to_string());
        let anchor = anchor.display().to_string();
        let delv = Command::new("delv").args([&*ip, "-p", &*port, "-a", &*anchor, "+root=example.org", name]).output();
        let said = delv.expect("delv runs");
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
    }

    /// Whether nobody is there, as resolvers learn at once.
    pub fn is_refused(&self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect(self.listen).unwrap();
        socket.send(&question(1)).unwrap();
        let refused = socket.recv(&mut [0; 512]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        refused && TcpStream::connect(self.listen).is_err()
    }
}

/// What `kdig` says of a server, and nothing else, sorted.
pub async fn ask(server: SocketAddr, from: Option<&str>, name: &str, kind: &str) -> Vec<String> {
    let mut kdig = tokio::process::Command::new("kdig");
    kdig.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "+short"]);
    kdig.args(["+timeout=1", "+retry=0"]).args(from.map(|from| format!("+subnet={from}")));
    let said = kdig.args([name, kind]).output().await.expect("kdig runs").stdout;
    let mut lines: Vec<String> = String::from_utf8(said).unwrap().lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with(";;"));
    lines.sort();
    lines
}

/// Waits until a server answers so; how long that took.
pub async fn answers(server: SocketAddr, from: Option<&str>, name: &str, kind: &str, wanted: &[&str]) -> Duration {
    let began = Instant::now();
    loop {
        let found = ask(server, from, name, kind).await;
        if found == wanted {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{name} {kind} from {from:?}: waited for {wanted:?}, and is {found:?}");
    }
}

/// A name server in this process.
pub struct Daemon {
    pub control: PathBuf,
    pub lifecycle: Lifecycle,
    pub task: JoinHandle<Result<Drained, NameServerError>>,
}

impl Daemon {
    pub async fn tell(&self, request: Request) -> Result<Value, ControlError> {
        request_async(&self.control, &request, Duration::from_secs(15)).await
    }

    /// Waits until it is so.
    pub async fn is(&self, what: &str, so: impl Fn(&NameServerStatus) -> bool) -> NameServerStatus {
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

    pub async fn stop(self) {
        self.lifecycle.stop();
        assert_eq!(self.task.await.unwrap().unwrap(), Drained::Quiet);
    }
}

/// An agent that sees what it is told.
#[derive(Clone)]
pub struct StandIn(pub Arc<Mutex<AgentStatus>>);

impl Commands for StandIn {
    async fn answer(&self, _: Request) -> Result<Value, Refusal> {
        Ok(serde_json::to_value(&*self.0.lock().unwrap()).unwrap())
    }
}

impl StandIn {
    /// All that the agent of Vienna watches.
    pub fn start(stage: &Stage, vienna: Standing, denver: Standing) -> Self {
        let sight = |datacenter: &str, address: &str| Sight {
            datacenter: datacenter.parse().unwrap(),
            at: "isp".to_owned(),
            address: SocketAddr::new(address.parse().unwrap(), 443),
            standing: Standing::Unknown,
            counted_on: true,
            since_unix: 0,
            latency_us: None,
            clock_ahead_seconds: None,
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
            providers: BTreeMap::new(),
        };
        let agent = Self(Arc::new(Mutex::new(status)));
        agent.sees(vienna, denver);
        let control = Server::take_over(stage.options.agent.as_ref().unwrap()).unwrap();
        let served = agent.clone();
        tokio::spawn(async move { control.serve(Arc::new(served), &Lifecycle::new(Duration::ZERO)).await });
        agent
    }

    pub fn sees(&self, vienna: Standing, denver: Standing) {
        let mut status = self.0.lock().unwrap();
        (status.watched[0].standing, status.watched[1].standing) = (vienna, denver);
        status.fails_open = [vienna, denver] == [Standing::Dead; 2];
    }
}

/// A question for the addresses of `www.example.org`.
pub fn question(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\0\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01"].concat()
}
