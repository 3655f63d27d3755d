//! Debian's Knot, driven on loopback, and asked by others' tools: `kdig`, `delv`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures, and a skipped test says so")]

#[path = "knot/rollover.rs"]
mod rollover;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sovereign_dns::geography::nearest::Orders;
use sovereign_dns::geography::{IPV4_FILE, IPV6_FILE, Source, compile};
use sovereign_dns::knot::driver::{Brought, Driver, Key, Options};
use sovereign_dns::knot::files::{Geography, Setup};
use sovereign_dns::knot::{DriverError, What, table};
use sovereign_dns::zone::{World, public_addresses};
use sovereign_keys::{Purpose, RootSeed, WorkingKeys, ZoneKey};
use sovereign_model::names::{Lan, Names};
use sovereign_model::{DnsName, DnsRecord};
use tempfile::TempDir;

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "vienna"
location = { latitude = 48.2, longitude = 16.4 }
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[datacenter.uplink]]
name = "fibre6"
address = "2001:db8::1"
listen = 8443
[[datacenter]]
name = "denver"
location = { latitude = 39.7, longitude = -105.0 }
[[datacenter.uplink]]
name = "dsl"
address = "198.51.100.7"
listen = 9443
[[domain]]
name = "example.org"
registrar = "r"
records = ["@ TXT \"some-service=1\"", "static A 203.0.113.5"]
[[domain]]
name = "example.net"
registrar = "r"
mail = "elsewhere"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.org", "example.net"]
primary = "vienna"
mirrors = ["denver"]
"#;

/// From Austria and from the United States in the table below; from nowhere.
const AUSTRIA: &str = "203.0.113.0/24";
const STATES: &str = "192.88.99.0/24";
const STATES6: &str = "2001:db9::/48";
const NOWHERE: &str = "10.0.0.0/24";

const VIENNA: &str = "192.0.2.1";
const DENVER: &str = "198.51.100.7";

const PATIENCE: Duration = Duration::from_secs(20);

/// A Knot of a test, until it is dropped.
struct Server {
    /// First: it ends Knot before the folder goes.
    driver: Driver,
    folder: TempDir,
    names: Names,
    lan: Option<Lan>,
    orders: Orders,
    table: PathBuf,
    key: ZoneKey,
    listen: SocketAddr,
    options: Options,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that nobody has, neither for UDP nor for TCP.
fn free_port(ip: IpAddr) -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let place = tcp.local_addr().unwrap();
        if UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
}

impl Server {
    fn new() -> Self {
        // Whatever its folder is called.
        let folder = tempfile::Builder::new().prefix("a \"b\\c ").tempdir().unwrap();
        let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
        let names = Names::of(&stack);
        let orders = Orders::new(&names);
        let number = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
        let range = |from, code| format!("{},{},{code}\n", number(from), number(from) + 255);
        let ipv4 = range("192.88.99.0", "US") + &range("203.0.113.0", "AT");
        let ipv6 = "2001:db9::,2001:db9:ffff:ffff:ffff:ffff:ffff:ffff,US\n";
        let source = |file, text| Source { file: Path::new(file), text: Cursor::new(text) };
        let table = folder.path().join("nearest.mmdb");
        let bytes = compile(&orders, source("geoip", &*ipv4), source("geoip6", ipv6), 1_790_000_000).unwrap();
        std::fs::write(&table, bytes).unwrap();

        let purposes: Vec<Purpose> = stack.domains.keys().cloned().map(Purpose::Zone).collect();
        let working = WorkingKeys::imagined(&stack.name, &purposes, &RootSeed::generate());
        let mut keys = BTreeMap::new();
        for domain in stack.domains.keys() {
            let key = working.zone_key(domain).unwrap();
            let file = folder.path().join(format!("{domain}.pem"));
            std::fs::write(&file, key.private_pem().expose()).unwrap();
            keys.insert(domain.clone(), vec![Key { tag: key.tag(), file }]);
        }
        let key = working.zone_key(&"example.org".parse().unwrap()).unwrap();
        let home = folder.path().join("knot");
        let options = Options { folder: home, keys, program: vec!["knotd".to_owned()] };
        let driver = Driver::new(options.clone());
        Self { folder, names, lan: None, orders, table, key, listen: free_port(LOOPBACK), options, driver }
    }

    async fn bring(&mut self, world: &World) -> Result<Brought, DriverError> {
        self.bring_at(world, Instant::now()).await
    }

    async fn bring_at(&mut self, world: &World, now: Instant) -> Result<Brought, DriverError> {
        let setup = Setup {
            names: &self.names,
            world,
            listen: &[self.listen],
            transfer_keys: &BTreeMap::new(),
            datacenter: &"vienna".parse().unwrap(),
            lan: self.lan.as_ref(),
            geography: Some(Geography { orders: &self.orders, table: &self.table }),
        };
        self.driver.bring(&setup, now).await
    }

    /// Whoever is away.
    fn without(&self, names: &[&str]) -> World {
        let mut world = World::default();
        for name in names {
            let place = self.names.place(&name.parse().unwrap()).unwrap();
            world.away.extend(public_addresses(place, &world));
        }
        world
    }

    /// What `kdig` says, and nothing else, sorted.
    fn ask(&self, from: &str, name: &str, kind: &str) -> Vec<String> {
        let (ip, port) = (format!("@{}", self.listen.ip()), self.listen.port().to_string());
        let subnet = format!("+subnet={from}");
        let asked = Command::new("kdig").args([&*ip, "-p", &*port, &*subnet, "+short", name, kind]).output();
        let text = String::from_utf8(asked.expect("kdig runs").stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Waits until it answers so; how long that took.
    fn answers(&self, from: &str, name: &str, kind: &str, wanted: &[&str]) -> Duration {
        let began = Instant::now();
        loop {
            let found = self.ask(from, name, kind);
            if found == wanted {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{name} {kind} from {from}: waited for {wanted:?}, and it is {found:?}"
            );
        }
    }

    /// What BIND's validator says, with the domain's own key as its anchor.
    fn validated(&self, name: &str, kind: &str) -> String {
        let anchor = self.folder.path().join("anchor");
        let dnskey = self.key.dnskey();
        let public = &dnskey.public_key;
        std::fs::write(&anchor, format!("trust-anchors {{ example.org. static-key 257 3 13 \"{public}\"; }};\n"))
            .unwrap();
        let (ip, port) = (format!("@{}", self.listen.ip()), self.listen.port().to_string());
        let asked = Command::new("delv")
            .args([&*ip, "-p", &*port, "-a", &*anchor.display().to_string(), "+root=example.org", name, kind])
            .output()
            .expect("delv runs");
        String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr)
    }

    /// Answers with something in them, those without, and names that are not there: all signed.
    fn assert_signed(&self) {
        for (name, kind, wanted) in [
            ("www.example.org", "A", "; fully validated"),
            ("example.org", "TXT", "; fully validated"),
            ("example.org", "AAAA", "; fully validated"),
            ("example.org", "NS", "; fully validated"),
            ("static.example.org", "A", "; fully validated"),
            ("static.example.org", "AAAA", "; negative response, fully validated"),
            ("www.example.org", "TXT", "; negative response, fully validated"),
            ("nothing.example.org", "A", "; negative response, fully validated"),
        ] {
            let said = self.validated(name, kind);
            assert!(said.contains(wanted), "{name} {kind}: {said}");
        }
    }

    /// A zone of the operator's own making, to be broken.
    fn add_record(&mut self, owner: &str, kind: &str, data: &str) {
        let name: DnsName = owner.parse().unwrap();
        let domain = self.names.domains.iter_mut().find(|domain| domain.name.as_str() == "example.org");
        domain.unwrap().records.push(DnsRecord::new(&name, 300, kind, data));
    }
}

/// Asks again and again, from a place in Austria, until it is told to stop: how many it asked, and how many got no answer
/// or a wrong one.
fn stream(place: SocketAddr, stop: &AtomicBool) -> (u64, u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(place).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut asked, mut lost) = (0_u64, 0);
    let mut answer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        let id = asked as u16;
        let question = question(id, b"");
        socket.send(&question).unwrap();
        // Answered without an error, and with something in it.
        let is_well = socket.recv(&mut answer).is_ok_and(|size| {
            size > question.len() && answer[..2] == id.to_be_bytes() && answer[3] & 15 == 0 && answer[7] > 0
        });
        lost += u64::from(!is_well);
    }
    (asked, lost)
}

/// A question for the addresses of `www.example.org`, with the options of EDNS that are given.
fn question(id: u16, options: &[u8]) -> Vec<u8> {
    let mut question = [&id.to_be_bytes()[..], b"\0\0\0\x01\0\0\0\0\0\x01"].concat();
    question.extend(b"\x03www\x07example\x03org\0\0\x01\0\x01");
    question.extend(b"\0\0\x29\x04\xd0\0\0\0\0");
    question.extend((options.len() as u16).to_be_bytes());
    question.extend(options);
    question
}

/// So many questions are a flood.
const FLOOD: u16 = 2500;

/// So many of a flood of questions are answered in full; so many are told to ask by TCP.
fn flood(socket: &UdpSocket, options: &[u8]) -> (u16, u16) {
    let (mut full, mut truncated) = (0, 0);
    let mut answer = [0; 1500];
    for at_once in 0..FLOOD / 50 {
        for id in 0..50 {
            socket.send(&question(at_once * 50 + id, options)).unwrap();
        }
        // What is dropped never comes: nobody waits for it longer than it takes to answer.
        for _ in 0..50 {
            let Ok(_) = socket.recv(&mut answer) else { break };
            *(if answer[2] & 2 == 0 { &mut full } else { &mut truncated }) += 1;
        }
    }
    (full, truncated)
}

#[tokio::test]
async fn who_floods_is_limited_unless_a_cookie_proves_its_address() {
    // The machine itself is never limited over loopback, so this asks at another address of its own.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = socket.connect("192.0.2.1:53").and_then(|()| socket.local_addr());
    let Some(own) = own.ok().map(|own| own.ip()).filter(|ip| !ip.is_loopback()) else {
        return eprintln!("skipped: this machine has no address but those of loopback");
    };
    let mut server = Server::new();
    server.listen = free_port(own);
    server.bring(&World::default()).await.unwrap();
    server.answers(AUSTRIA, "www.example.org", "A", &[VIENNA]);
    let socket = UdpSocket::bind((own, 0)).unwrap();
    socket.connect(server.listen).unwrap();

    // First a cookie: what comes back ends with it.
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&question(1, b"\0\x0a\0\x08clientck")).unwrap();
    let mut answer = [0; 1500];
    let size = socket.recv(&mut answer).unwrap();
    let cookie = &answer[size - 28..size];
    assert!(cookie.starts_with(b"\0\x0a\0\x18clientck"), "{cookie:?}");

    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let began = Instant::now();
    let (full, truncated) = flood(&socket, b"");
    let seconds = began.elapsed().as_secs() as u16;
    // Whoever was quiet may ask for four seconds' worth at once.
    assert!(full <= 200 * (seconds + 6) && truncated > 50, "{full}, {truncated} in {seconds} s");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(flood(&socket, cookie), (FLOOD, 0));
    eprintln!(
        "of {FLOOD} questions in {seconds} s, {full} were answered and {truncated} told to ask by TCP; with a cookie all were answered"
    );
}

#[tokio::test]
async fn readers_are_led_to_the_nearest_data_center_that_lives() {
    let mut server = Server::new();
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Started);
    let both = [VIENNA, DENVER];
    for name in ["www.example.org", "example.org", "example.net"] {
        server.answers(AUSTRIA, name, "A", &[VIENNA]);
        server.answers(STATES, name, "A", &[DENVER]);
        server.answers(STATES6, name, "A", &[DENVER]);
        server.answers(NOWHERE, name, "A", &both);
        // Who has IPv6 only is led where that leads, however far.
        server.answers(STATES, name, "AAAA", &["2001:db8::1"]);
    }
    server.answers(STATES, "example.org", "TXT", &["\"some-service=1\"", "\"v=spf1 -all\""]);
    server.answers(STATES, "static.example.org", "A", &["203.0.113.5"]);
    server.assert_signed();

    // An answer that holds for a network only says for which; one that holds for all says that.
    let scope = |name: &str, from: &str| {
        let (ip, port) = (format!("@{}", server.listen.ip()), server.listen.port().to_string());
        let asked = Command::new("kdig").args([&*ip, "-p", &*port, &format!("+subnet={from}"), name, "A"]).output();
        let text = String::from_utf8(asked.unwrap().stdout).unwrap();
        text.lines().find_map(|line| line.split("CLIENT-SUBNET: ").nth(1).map(str::to_owned)).unwrap_or(text)
    };
    assert_eq!(scope("www.example.org", AUSTRIA), "203.0.113.0/24/24");
    assert_eq!(scope("static.example.org", AUSTRIA), "203.0.113.0/24/0");

    // Nobody is asked twice, and Knot is left alone.
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Unchanged);
    let tomorrow = Instant::now() + Duration::from_secs(25 * 3600);
    assert_eq!(server.bring_at(&World::default(), tomorrow).await.unwrap(), Brought::Reloaded);

    // A data center dies, comes back, all die: under a stream of questions.
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let (stop, place) = (stop.clone(), server.listen);
        std::thread::spawn(move || stream(place, &stop))
    };
    let mut took = Vec::new();
    for _ in 0..5 {
        for (dead, wanted) in [(&["vienna"][..], &[DENVER][..]), (&[], &[VIENNA]), (&["vienna", "denver"], &[VIENNA])] {
            let began = Instant::now();
            let world = server.without(dead);
            let brought = server.bring(&world).await.unwrap();
            server.answers(AUSTRIA, "www.example.org", "A", wanted);
            if brought == Brought::Reloaded {
                took.push(began.elapsed());
            }
            if dead.len() == 1 {
                server.answers(NOWHERE, "example.org", "A", &[DENVER]);
                server.assert_signed_after_death();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (asked, lost) = asking.join().unwrap();
    took.sort();
    eprintln!(
        "{} changes took {:?} to {:?}; {asked} questions, {lost} lost",
        took.len(),
        took[0],
        took[took.len() - 1]
    );
    assert!(asked > 1000 && lost == 0, "{lost} of {asked} lost");
    server.answers(NOWHERE, "www.example.org", "A", &both);
    server.assert_signed();
}

impl Server {
    /// While the only data center with IPv6 is away.
    fn assert_signed_after_death(&self) {
        let said = self.validated("www.example.org", "A");
        assert!(said.contains("; fully validated") && said.contains(DENVER), "{said}");
        let said = self.validated("www.example.org", "AAAA");
        assert!(said.contains("; negative response, fully validated"), "{said}");
    }
}

#[tokio::test]
async fn a_lan_is_led_to_its_own_hosts_with_signatures_and_nobody_else_is() {
    let mut server = Server::new();
    let (lan, host) = ("127.0.0.0/8", "192.168.1.5");
    server.lan = Some(Lan { networks: vec![lan.parse().unwrap()], edges: vec![host.parse().unwrap()] });
    server.bring(&World::default()).await.unwrap();
    for name in ["www.example.org", "example.net"] {
        server.answers("127.0.0.1/32", name, "A", &[host]);
        server.answers(AUSTRIA, name, "A", &[VIENNA]);
        server.answers(STATES, name, "A", &[DENVER]);
        server.answers(NOWHERE, name, "A", &[VIENNA, DENVER]);
        // No host there has an address of this kind.
        server.answers("127.0.0.1/32", name, "AAAA", &["2001:db8::1"]);
    }
    // From loopback itself, without a word of where the reader is.
    let said = server.validated("www.example.org", "A");
    assert!(said.contains("; fully validated") && said.contains(host), "{said}");
    server.assert_signed();
    // However the others are, it is led there.
    server.bring(&server.without(&["denver"])).await.unwrap();
    server.answers("127.0.0.1/32", "www.example.org", "A", &[host]);
    server.answers(STATES, "www.example.org", "A", &[VIENNA]);
}

#[tokio::test]
async fn what_knot_refuses_is_never_loaded_and_what_was_served_is_served_on() {
    let mut server = Server::new();
    server.bring(&World::default()).await.unwrap();
    server.answers(AUSTRIA, "www.example.org", "A", &[VIENNA]);
    let home = server.folder.path().join("knot");
    let leads = || std::fs::read_link(home.join("current")).unwrap();
    let before = leads();

    // A record that is none, beside others.
    let good = server.names.clone();
    server.add_record("bad.example.org", "A", "not-an-address");
    let refused = server.bring(&World::default()).await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::Refused { what: What::Zone(_), .. }) && refused.help().is_some(),
        "{refused}"
    );
    // A name that is another's, and yet has something of its own.
    server.names = good.clone();
    server.add_record("www.example.org", "CNAME", "example.org.");
    assert!(server.bring(&World::default()).await.is_err());
    server.names = good;

    // A table that is cut off, or is none.
    let table = server.table.clone();
    let whole = std::fs::read(&table).unwrap();
    server.table = table.with_extension("damaged");
    for damaged in [&whole[..whole.len() / 2], b"", b"no table at all"] {
        std::fs::write(&server.table, damaged).unwrap();
        let refused = server.bring(&World::default()).await.unwrap_err();
        assert!(matches!(refused, DriverError::Refused { what: What::Configuration, .. }), "{refused}");
    }
    server.table = table;

    assert_eq!(leads(), before);
    server.answers(AUSTRIA, "www.example.org", "A", &[VIENNA]);
    server.assert_signed();
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Unchanged);

    // A domain that is new, and has no key, or one that is none.
    let mut domain = server.names.domain(&"example.net".parse().unwrap()).unwrap().clone();
    domain.name = "example.com".parse().unwrap();
    server.names.domains.push(domain.clone());
    let refused = server.bring(&World::default()).await.unwrap_err();
    assert!(matches!(&refused, DriverError::NoKey { .. }) && refused.help().is_some(), "{refused}");
    let file = server.folder.path().join("none.pem");
    std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\nbm9uZQ==\n-----END PRIVATE KEY-----\n").unwrap();
    let mut options = server.options.clone();
    options.keys.insert(domain.name, vec![Key { tag: 1, file }]);
    let running = std::mem::replace(&mut server.driver, Driver::new(options));
    let refused = server.bring(&World::default()).await.unwrap_err();
    assert!(matches!(&refused, DriverError::Refused { what: What::Key(_), .. }), "{refused}");
    server.driver = running;
    server.names.domains.pop();
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Unchanged);

    // Killed after it has written half of the next one: that is not taken for one.
    let half = home.join("generation-7/zones");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("example.org.zone"), "example.org. 3").unwrap();
    let world = server.without(&["vienna"]);
    assert_eq!(server.bring(&world).await.unwrap(), Brought::Reloaded);
    server.answers(AUSTRIA, "www.example.org", "A", &[DENVER]);
    assert_eq!(leads(), Path::new("generation-8"));
    assert!(!home.join("generation-7").exists() && home.join(&before).exists(), "the one before is kept");

    // Knot is killed: it is started again, and serves what it should.
    let pid = server.driver.process().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    assert!(!server.driver.ended().await.success());
    assert_eq!(server.bring(&world).await.unwrap(), Brought::Started);
    server.answers(AUSTRIA, "www.example.org", "A", &[DENVER]);
    assert!(server.validated("www.example.org", "A").contains("; fully validated"));

    // Another key than the registry knows would make the domain unreachable.
    let conf = home.join("current/knot.conf");
    let made = Command::new("keymgr").arg("-c").arg(&conf).args(["example.org", "generate", "algorithm=13"]).output();
    assert!(made.unwrap().status.success());
    let refused = server.bring(&World::default()).await.unwrap_err();
    assert!(matches!(&refused, DriverError::OtherKey { .. }) && refused.help().is_some(), "{refused}");
}

/// The first address in a country, by one of Debian's files.
fn somewhere_in(country: &str, file: &str) -> String {
    let text = std::fs::read_to_string(file).expect("Debian's tor-geoipdb is installed");
    let line = text.lines().find(|line| line.ends_with(&format!(",{country}"))).unwrap();
    let first = line.split(',').next().unwrap();
    first.parse::<u32>().map_or_else(|_| format!("{first}/128"), |number| format!("{}/32", Ipv4Addr::from(number)))
}

#[tokio::test]
async fn with_debians_table_every_country_is_led_to_the_nearest_and_a_move_is_followed() {
    let mut server = Server::new();
    let home = server.folder.path().join("knot");
    let debians = [IPV4_FILE, IPV6_FILE].map(Path::new);
    server.table = table::bring(&home, &server.orders, debians[0], debians[1]).unwrap();
    assert_eq!(table::bring(&home, &server.orders, debians[0], debians[1]).unwrap(), server.table);
    server.bring(&World::default()).await.unwrap();
    for (country, nearest) in [("DE", VIENNA), ("IN", VIENNA), ("MX", DENVER), ("NZ", DENVER)] {
        for file in [IPV4_FILE, IPV6_FILE] {
            server.answers(&somewhere_in(country, file), "www.example.org", "A", &[nearest]);
        }
    }
    let memory = std::fs::read_to_string(home.join("run/knot.pid")).unwrap();
    let memory = std::fs::read_to_string(Path::new("/proc").join(memory.trim()).join("status")).unwrap();
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("Knot has {kilobytes} kB in memory");
    assert!(kilobytes < 64 << 10, "{kilobytes} kB");

    // Debian's file is damaged: there is no new table, and the one that is there stays.
    let damaged = server.folder.path().join("geoip");
    std::fs::write(&damaged, "16777216,16777471,AU\n16777472,167").unwrap();
    let refused = table::bring(&home, &server.orders, &damaged, debians[1]).unwrap_err();
    assert!(refused.to_string().ends_with("geoip, line 2: this is not `first,last,country`"), "{refused}");
    assert!(refused.help().is_some_and(|help| help.contains("tor-geoipdb")));
    let refused = table::bring(&home, &server.orders, Path::new("/nonexistent"), debians[1]).unwrap_err();
    assert!(refused.to_string().contains("/nonexistent"), "{refused}");
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Unchanged);

    // A data center moves to the other side of the globe.
    let vienna = server.names.places.iter_mut().find(|place| place.name.as_str() == "vienna").unwrap();
    vienna.location = Some(sovereign_model::stack::Location { latitude: -36.8, longitude: 174.8 });
    server.orders = Orders::new(&server.names);
    let before =
        std::mem::replace(&mut server.table, table::bring(&home, &server.orders, debians[0], debians[1]).unwrap());
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Reloaded);
    for (country, nearest) in [("DE", DENVER), ("NZ", VIENNA)] {
        server.answers(&somewhere_in(country, IPV4_FILE), "www.example.org", "A", &[nearest]);
    }
    let alone = server.without(&["denver"]);
    assert!(before != server.table && before.exists(), "the generation before goes with it");
    assert_eq!(server.bring(&alone).await.unwrap(), Brought::Reloaded);
    assert_eq!(server.bring(&World::default()).await.unwrap(), Brought::Reloaded);
    assert!(!before.exists() && server.table.exists());
}
