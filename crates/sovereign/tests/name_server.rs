//! The program as a name server: how it ends, and Knot with it. What it answers is tested where it lives, in `dns`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sovereign_keys::{Purpose, RootSeed, WorkingKeys};
use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_config::{NameServerConfig, PROTOCOL};
use sovereign_model::name_server_status::NameServerStatus;
use sovereign_model::names::{Domain, Names, Place, Uplink};
use sovereign_model::stack::{Mail, UplinkAddress};
use sovereign_model::{DnsName, StackName};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Request, request};
use sovereign_runtime::signed;

const PATIENCE: Duration = Duration::from_secs(30);

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

/// Writes what a name server is given; where it listens.
fn write_config(folder: &Path) -> SocketAddr {
    let (stack, domain): (StackName, DnsName) = ("shop".parse().unwrap(), "example.org".parse().unwrap());
    let keys = WorkingKeys::imagined(&stack, &[Purpose::Zone(domain.clone())], &RootSeed::generate());
    let key = keys.zone_key(&domain).unwrap();
    fs::write(NameServerFolder::new(folder).key(&domain, key.tag()), key.private_pem().expose()).unwrap();
    let listen = free_port();
    let config = NameServerConfig {
        stack,
        datacenter: "home".parse().unwrap(),
        host: None,
        folder: folder.to_owned(),
        listen: vec![listen],
        names: Names {
            issuers: None,
            places: vec![Place {
                name: "home".parse().unwrap(),
                location: None,
                jurisdiction: None,
                uplinks: vec![Uplink { name: "isp".to_owned(), address: UplinkAddress::Fixed(listen.ip()) }],
            }],
            domains: vec![Domain {
                name: domain.clone(),
                secondaries: Vec::new(),
                mail: Mail::None,
                records: Vec::new(),
            }],
            secondaries: Vec::new(),
            sites: Vec::new(),
        },
        keys: BTreeMap::from([(domain, key.tag())]),
        coming_keys: BTreeMap::new(),
        transfer_keys: BTreeMap::new(),
        lan: None,
        drained: BTreeSet::new(),
    };
    let text = serde_json::to_string(&config).unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    fs::write(folder.join("config.json"), signed::seal(&key, PROTOCOL, 1, text)).unwrap();
    listen
}

fn name_server(folder: &Path, trust: [u8; 32]) -> Command {
    let trust = SigningKey::from_bytes(&trust).verifying_key();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sovereign"));
    command.arg("name-server").arg("--config").arg(folder.join("config.json"));
    command.arg("--control").arg(folder.join("control.sock")).arg("--agent").arg(folder.join("agent.sock"));
    command.args(["--trust", &hex(trust.as_bytes())]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until it answers; its Knot.
fn knot(folder: &Path, child: &mut Child) -> u32 {
    let began = Instant::now();
    loop {
        let told = request(&folder.join("control.sock"), &Request::new("status"), Duration::from_secs(5)).ok();
        let status: Option<NameServerStatus> = told.map(|told| serde_json::from_value(told).unwrap());
        if let Some(status) = status.filter(|status| status.healthy && status.process == child.id()) {
            return status.knot.unwrap();
        }
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(process: u32, listen: SocketAddr) {
    let began = Instant::now();
    // A process that nobody waits for yet has a folder, and no command line.
    let lives = || fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty());
    while lives() || TcpStream::connect(listen).is_ok() {
        assert!(began.elapsed() < PATIENCE, "Knot lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(process: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

#[test]
fn whatever_ends_a_name_server_ends_its_knot_and_the_next_one_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let listen = write_config(folder);

    let mut child = name_server(folder, [7; 32]).spawn().unwrap();
    let first = knot(folder, &mut child);
    kill(child.id(), "-9");
    child.wait().unwrap();
    is_gone(first, listen);
    assert_eq!(fs::read_dir(folder.join("knot")).unwrap().count(), 2, "a killed one leaves its folder and its lock");

    let mut child = name_server(folder, [7; 32]).spawn().unwrap();
    let second = knot(folder, &mut child);
    assert_eq!(fs::read_dir(folder.join("knot")).unwrap().count(), 2, "and the next one removes them");
    kill(child.id(), "-TERM");
    assert!(child.wait().unwrap().success());
    is_gone(second, listen);
    assert_eq!(fs::read_dir(folder.join("knot")).unwrap().count(), 0);
    assert!(!folder.join("control.sock").exists());
}

#[test]
fn a_configuration_of_somebody_else_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path());
    let Output { status, stderr, .. } = name_server(folder.path(), [8; 32]).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is refused") && said.contains("help: "), "{said}");
}
