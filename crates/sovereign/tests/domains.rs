//! A world of name servers on loopback, all of them Knot: a root, a registry, the stack's two and an old provider's. What is
//! said of it by `dns drift` and `dns adopt`, and when `check` stops.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "domains/exchanged.rs"]
mod exchanged;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const ROOT: &str = "127.0.0.102";
const REGISTRY: &str = "127.0.0.103";
const OTHER_REGISTRY: &str = "127.0.0.104";
const HOME: &str = "127.0.0.111";
const OFFICE: &str = "127.0.0.112";
const PROVIDER: &str = "127.0.0.121";

const PATIENCE: Duration = Duration::from_secs(20);

/// The words of docs/secrets.md, and the key that follows from them.
const WORDS: &str = "hamster diagram private dutch cause delay private meat slide toddler razor book \
                     happy fancy gospel tennis maple dilemma loan word shrug inflict delay length";
const DS: &str = "19865 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A";
const KEY: &str = "257 3 13 /xGUKyg/9gowcO/R3Y4ScjhP7VuWS8MWZ6csnZm2mV5HqxC6MNNKPchxVSY0deqvww4+b8jJdN9fz2nhFCcUJw==";
const OTHER_DS: &str = "7 13 2 00124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A";

const STACK: &str = r#"version = 1
[stack]
name = "demo"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "u"
address = "127.0.0.111"
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "u"
address = "127.0.0.112"
listen = 8444
[[domain]]
name = "example.org"
registrar = "Example Registrar"
records = ['@ TXT "some-service=0123"']
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.org"]
primary = "home"
mirrors = ["office"]
"#;

/// One that nobody has at any of the addresses.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind((ROOT, 0)).unwrap().local_addr().unwrap().port();
        let is_free = |ip: &str| TcpListener::bind((ip, port)).is_ok() && UdpSocket::bind((ip, port)).is_ok();
        if [ROOT, REGISTRY, OTHER_REGISTRY, HOME, OFFICE, PROVIDER].into_iter().all(is_free) {
            return port;
        }
    }
}

/// A Knot with one zone, until it is dropped.
struct Knot {
    _folder: TempDir,
    process: Child,
}

impl Knot {
    fn start(ip: &str, port: u16, zone: &str, text: &str, hands_out: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("zone"), text).unwrap();
        let acl = if hands_out { "\n    acl: [all]" } else { "" };
        let conf = format!(
            "server:\n    rundir: \"{path}\"\n    listen: {ip}@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n    storage: \"{path}\"\n\
             acl:\n  - id: all\n    action: transfer\n    address: 127.0.0.0/8\n\
             zone:\n  - domain: {zone}\n    file: \"{path}/zone\"{acl}\n"
        );
        std::fs::write(folder.path().join("knot.conf"), conf).unwrap();
        let mut command = Command::new("knotd");
        command.arg("--config").arg(folder.path().join("knot.conf"));
        let process = command.stdout(Stdio::null()).spawn().expect("knotd runs");
        let knot = Self { _folder: folder, process };
        let began = Instant::now();
        while kdig(ip, port, zone, "SOA").is_empty() {
            assert!(began.elapsed() < PATIENCE, "{zone} is not served at {ip}:{port}");
            sleep(Duration::from_millis(20));
        }
        knot
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kdig(ip: &str, port: u16, name: &str, kind: &str) -> String {
    let (at, port) = (format!("@{ip}"), port.to_string());
    let asked =
        Command::new("kdig").args([&*at, "-p", &*port, "+short", "+timeout=1", "+retry=0", name, kind]).output();
    let text = String::from_utf8(asked.expect("kdig runs").stdout).unwrap();
    if text.starts_with(";;") { String::new() } else { text }
}

/// The management machine, and the port that the world answers at.
struct World {
    home: TempDir,
    port: u16,
    _root: Knot,
}

impl World {
    fn new() -> Self {
        let (home, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(home.path().join("stack.toml"), STACK).unwrap();
        let root = format!(
            ". 60 SOA a.root. h.root. 1 60 60 60 60\n. 60 NS a.root.\na.root. 60 A {ROOT}\n\
             org. 60 NS a.org.\na.org. 60 A {REGISTRY}\nnet. 60 NS a.net.\na.net. 60 A {OTHER_REGISTRY}\n"
        );
        let _root = Knot::start(ROOT, port, ".", &root, false);
        let world = Self { home, port, _root };
        let mut restoring = world.command(&["seed", "restore"]).stdin(Stdio::piped()).spawn().unwrap();
        restoring.stdin.take().unwrap().write_all(WORDS.as_bytes()).unwrap();
        assert!(restoring.wait().unwrap().success());
        world
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sovereign"));
        command.args(args).current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// The registry, with these lines about the domain.
    fn registry(&self, lines: &str) -> Knot {
        let zone =
            format!("org. 60 SOA a.org. h.org. 1 60 60 60 60\norg. 60 NS a.org.\na.org. 60 A {REGISTRY}\n{lines}\n");
        Knot::start(REGISTRY, self.port, "org.", &zone, false)
    }

    /// The domain's zone as the stack file wants it, with its key.
    fn zone(&self) -> String {
        let (code, text, stderr) = self.run(&["dns", "show", "example.org"]);
        assert_eq!(code, Some(0), "{stderr}");
        format!("{text}example.org. 60 IN DNSKEY {KEY}\n")
    }

    fn own(&self, ip: &str, zone: &str) -> Knot {
        Knot::start(ip, self.port, "example.org.", zone, false)
    }

    /// What differs, the worst first, and the exit code.
    fn drift(&self) -> (Option<i32>, Vec<Value>) {
        let root = format!("{ROOT}:{}", self.port);
        let (code, stdout, stderr) = self.run(&["dns", "drift", "--root", &root, "--json"]);
        let answer: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        (code, answer["domains"][0]["drift"].as_array().unwrap().clone())
    }

    fn adopt(&self, more: &[&str]) -> (Option<i32>, Value) {
        let root = format!("{ROOT}:{}", self.port);
        let args = [&["dns", "adopt", "example.org", "--root", &root, "--json"], more].concat();
        let (code, stdout, stderr) = self.run(&args);
        (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}")))
    }

    fn say(&self, domain: &str) {
        let text = STACK.replace("records = ['@ TXT \"some-service=0123\"']", domain);
        std::fs::write(self.home.path().join("stack.toml"), text).unwrap();
    }
}

fn kinds(drift: &[Value]) -> Vec<&str> {
    drift.iter().map(|each| each["what"].as_str().unwrap()).collect()
}

/// What a registry says when all is right.
fn delegated(ds: &str) -> String {
    format!(
        "example.org. 60 NS ns-home.example.org.\nexample.org. 60 NS ns-office.example.org.\n\
         ns-home.example.org. 60 A {HOME}\nns-office.example.org. 60 A {OFFICE}\nexample.org. 60 DS {ds}"
    )
}

#[test]
fn what_differs_from_the_stack_file_is_found_and_nothing_else() {
    let world = World::new();
    let zone = world.zone();
    let registry = world.registry(&delegated(DS));
    let (home, office) = (world.own(HOME, &zone), world.own(OFFICE, &zone));
    assert_eq!(world.drift(), (Some(0), Vec::new()), "all is right");

    // What the registry has.
    drop(registry);
    let registry = world.registry(&format!(
        "example.org. 60 NS ns-home.example.org.\nns-home.example.org. 60 A 127.0.0.99\nexample.org. 60 DS {OTHER_DS}"
    ));
    let (code, drift) = world.drift();
    assert_eq!((code, kinds(&drift)), (Some(3), vec!["digest-wrong", "glue", "server-missing"]));
    assert_eq!(drift[0]["severity"], "vanishes");
    assert!(drift[0]["help"].as_str().unwrap().ends_with(DS), "{}", drift[0]);
    assert_eq!(drift[1]["found"], serde_json::json!(["127.0.0.99"]));
    assert_eq!(drift[2]["server"], "ns-office.example.org");
    let (code, text, _) = world.run(&["dns", "drift", "example.org", "--root", &format!("{ROOT}:{}", world.port)]);
    assert!(code == Some(3) && text.contains("vanishes  registrar Example Registrar: org has a DS record"), "{text}");
    drop(registry);
    let _registry = world.registry(&delegated(DS));

    // An older zone without a text, and a server that has another domain.
    drop((home, office));
    let serial = zone.split_whitespace().skip_while(|word| *word != "SOA").nth(3).unwrap();
    let older = (serial.parse::<u32>().unwrap() - 17 * 86_400).to_string();
    let without: Vec<&str> = zone.lines().filter(|line| !line.contains("some-service")).collect();
    let home = world.own(HOME, &without.join("\n").replace(serial, &older));
    let other = "example.net. 60 SOA a.net. h.net. 1 60 60 60 60\nexample.net. 60 NS a.net.\n";
    let lame = Knot::start(OFFICE, world.port, "example.net.", other, false);
    let (code, drift) = world.drift();
    assert_eq!((code, kinds(&drift)), (Some(3), vec!["lame", "differs"]));
    assert_eq!(drift[0]["place"]["name-servers"][0]["name"], "ns-office.example.org");
    assert_eq!((&drift[1]["owner"], &drift[1]["kind"]), (&"example.org".into(), &"TXT".into()));
    drop(lame);
    let office = world.own(OFFICE, &zone);
    let (_, drift) = world.drift();
    assert_eq!(kinds(&drift), ["differs", "behind"]);
    assert_eq!((&drift[1]["serial"], &drift[1]["newest"]), (&older.parse().unwrap(), &serial.parse().unwrap()));
    drop(home);

    // One that says nothing, and one whose zone has no key.
    drop(office);
    let silent = (UdpSocket::bind((OFFICE, world.port)).unwrap(), TcpListener::bind((OFFICE, world.port)).unwrap());
    let unsigned: Vec<&str> = zone.lines().filter(|line| !line.contains("DNSKEY")).collect();
    let home = world.own(HOME, &unsigned.join("\n"));
    let (_, drift) = world.drift();
    assert_eq!(kinds(&drift), ["key-missing", "silent"]);
    drop((home, silent));
}

/// Data centers that are dead leave the answers, and that is right; all of them never do.
#[test]
fn any_of_a_sites_addresses_are_right() {
    let world = World::new();
    let zone = world.zone();
    let _registry = world.registry(&delegated(DS));
    let is_office = |line: &&str| line.contains("example.org. 30 IN A 127.0.0.112");
    let alone: Vec<&str> = zone.lines().filter(|line| !is_office(line)).collect();
    assert_eq!(zone.lines().count() - alone.len(), 2, "{zone}");
    let (home, _office) = (world.own(HOME, &alone.join("\n")), world.own(OFFICE, &zone));
    assert_eq!(world.drift(), (Some(0), Vec::new()));
    drop(home);
    let none: Vec<&str> = zone.lines().filter(|line| !line.starts_with("www.")).collect();
    let _home = world.own(HOME, &none.join("\n"));
    let (code, drift) = world.drift();
    assert_eq!((code, kinds(&drift)), (Some(3), vec!["differs"]));
    assert_eq!(drift[0]["owner"], "www.example.org");
}

/// One data center, and a friend in place of the other.
#[test]
fn a_friends_name_server_is_the_second_one_and_its_owner_is_told_what_a_knot_takes() {
    let world = World::new();
    let (before, rest) = STACK.split_once("[[datacenter]]\nname = \"office\"").unwrap();
    let alone =
        format!("{before}{}", &rest[rest.find("[[domain]]").unwrap()..]).replace("mirrors = [\"office\"]\n", "");
    let write = |text: &str| std::fs::write(world.home.path().join("stack.toml"), text).unwrap();
    let warnings = || {
        let (code, stdout, stderr) = world.run(&["check", "--json"]);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()["warnings"].as_array().unwrap().clone()
    };
    write(&alone);
    let [few] = &warnings()[..] else { panic!("one warning") };
    assert_eq!(few["message"], "example.org has 1 of the 2 name servers that a domain needs");
    write(&format!("{alone}[[secondary]]\nname = \"friend\"\naddresses = [\"{PROVIDER}\"]\n"));
    assert_eq!(warnings(), Vec::<Value>::new());

    let (code, stdout, stderr) = world.run(&["dns", "secondary", "friend", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    // As docs/secrets.md has it.
    assert_eq!(told["secret"], "CwOnqeHEDMzto5Tmz7mzNjZEVHVDjiP3YyNgmtdITMA=");
    let conf = world.home.path().join("knot.conf");
    std::fs::write(&conf, told["knot"].as_str().unwrap()).unwrap();
    let checked = Command::new("knotc").arg("--config").arg(&conf).arg("conf-check").output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let (code, _, stderr) = world.run(&["dns", "secondary", "fiend"]);
    assert!(code == Some(2) && stderr.contains("its secondaries are: friend"), "{stderr}");

    // A copy that is behind, and one that is not.
    let zone = world.zone();
    let _registry = world.registry(&delegated(DS).replace("office", "friend").replace(OFFICE, PROVIDER));
    let _home = world.own(HOME, &zone);
    let serial = zone.split_whitespace().skip_while(|word| *word != "SOA").nth(3).unwrap();
    let older = (serial.parse::<u32>().unwrap() - 1).to_string();
    let friend = world.own(PROVIDER, &zone.replace(serial, &older));
    let (code, drift) = world.drift();
    assert_eq!((code, kinds(&drift)), (Some(3), vec!["behind"]));
    assert_eq!(drift[0]["place"]["secondary"]["secondary"], "friend");
    drop(friend);
    let _friend = world.own(PROVIDER, &zone);
    assert_eq!(world.drift(), (Some(0), Vec::new()));
}

/// What a provider publishes, in its own words.
const OLD: &str = r#"$ORIGIN example.org.
$TTL 600
@ SOA ns1.provider.org. h.provider.org. 1 60 60 60 60
@ NS ns1.provider.org.
@ A 203.0.113.1
www CNAME example.org.
@ MX 10 mx.provider.org.
@ TXT "some-service=0123"
old TXT "it's old"
selector1._domainkey CNAME selector1.provider.org.
"#;

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn nothing_that_was_published_vanishes_unless_somebody_says_so() {
    let world = World::new();
    // Its server is called by a name of another registry's, so that its address has to be found first.
    let net =
        format!("net. 60 SOA a.net. h.net. 1 60 60 60 60\nnet. 60 NS a.net.\nns1.provider.net. 60 A {PROVIDER}\n");
    let _net = Knot::start(OTHER_REGISTRY, world.port, "net.", &net, false);
    let delegation = format!("example.org. 60 NS ns1.provider.net.\nexample.org. 60 DS {OTHER_DS}");
    let _registry = world.registry(&delegation);
    std::fs::write(world.home.path().join("old.zone"), OLD).unwrap();

    // By a file: all of it, and what the registry has.
    let (code, seen) = world.adopt(&["--zone-file", "old.zone"]);
    assert_eq!(code, Some(3), "{seen}");
    let drop_all = ["@ DS", "@ MX", "old TXT", "selector1._domainkey CNAME"];
    assert_eq!(texts(&seen["drop"]), drop_all);
    assert_eq!((&seen["loses_mail"], &seen["foreign_ds"]), (&true.into(), &true.into()));
    assert_eq!(seen["replaced"].as_array().unwrap().len(), 2);
    assert_eq!(seen["same"].as_array().unwrap().len(), 1);
    let (code, text, _) = world.run(&[
        "dns",
        "adopt",
        "example.org",
        "--zone-file",
        "old.zone",
        "--root",
        &format!("{ROOT}:{}", world.port),
    ]);
    assert!(code == Some(3) && text.contains("\"old 600 TXT \\\"it's old\\\"\","), "{text}");

    // Until somebody decides.
    let (code, _, stderr) = world.run(&["check"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("--> stack.toml:16:8") && stderr.contains("example.org. MX would vanish: 10 mx"),
        "{stderr}"
    );
    assert!(stderr.contains("help: keep it: `records = ['@ 600 MX 10 mx.provider.org.']`, or let it go"), "{stderr}");
    assert!(stderr.contains("4 problems in stack.toml"), "{stderr}");
    for command in ["plan", "up"] {
        let (code, _, again) = world.run(&[command]);
        assert_eq!((code, again), (Some(2), stderr.clone()), "{command}");
    }
    let keep: Vec<String> = texts(&seen["keep"]).iter().map(|text| Value::from(*text).to_string()).collect();
    assert_eq!(keep.len(), 3);
    world.say(&format!("records = ['@ TXT \"some-service=0123\"', {}]\ndrop = [\"@ DS\"]", keep.join(", ")));
    let (code, _, stderr) = world.run(&["check"]);
    assert_eq!(code, Some(0), "{stderr}");
    world.say(&format!("records = ['@ TXT \"some-service=0123\"']\ndrop = {}", Value::from(drop_all.to_vec())));
    assert_eq!(world.run(&["check"]).0, Some(0));

    // By a transfer, which is the same.
    world.say("records = ['@ TXT \"some-service=0123\"']");
    let provider = Knot::start(PROVIDER, world.port, "example.org.", OLD, true);
    let server = SocketAddr::new(PROVIDER.parse().unwrap(), world.port).to_string();
    let (_, transferred) = world.adopt(&["--server", &server]);
    assert_eq!(transferred["source"], format!("a transfer from {server}"));
    for group in ["same", "new", "replaced", "vanishing", "drop", "keep"] {
        assert_eq!(transferred[group], seen[group], "{group}");
    }

    // By the usual names, without the one that nobody guesses; found from the root, where no server is named.
    drop(provider);
    let _provider = Knot::start(PROVIDER, world.port, "example.org.", OLD, false);
    for more in [&["--server", &*server][..], &[]] {
        let (code, guessed) = world.adopt(more);
        assert_eq!(code, Some(3), "{guessed}");
        assert_eq!(texts(&guessed["drop"]), ["@ DS", "@ MX", "selector1._domainkey CNAME"], "{guessed}");
        assert!(texts(&guessed["remarks"]).iter().any(|remark| remark.contains("usual names")), "{guessed}");
    }

    // Going over, seen from the registry: the old key first.
    let (_, drift) = world.drift();
    assert!(kinds(&drift).contains(&"delegated-elsewhere") && kinds(&drift).contains(&"digest-of-before"), "{drift:?}");

    // Where a provider goes on answering, it is the provider's to put right.
    world.say("provider = \"Example DNS\"\nrecords = ['@ TXT \"some-service=0123\"', '@ MX 10 mx.provider.org.']");
    let (code, drift) = world.drift();
    assert_eq!((code, &drift[0]["what"]), (Some(3), &"key-missing".into()), "{drift:?}");
    assert!(drift.iter().all(|each| each["place"]["provider"]["provider"] == "Example DNS"), "{drift:?}");
    let differing: Vec<String> =
        drift[1..].iter().map(|each| format!("{} {}", each["owner"], each["kind"]).replace('"', "")).collect();
    assert_eq!(differing, ["example.org A", "example.org NS", "www.example.org A", "www.example.org AAAA"]);
}

#[test]
fn what_is_no_zone_of_the_domain_is_refused() {
    let world = World::new();
    let file = |text: &str| std::fs::write(world.home.path().join("old.zone"), text).unwrap();
    let root = format!("{ROOT}:{}", world.port);
    let adopt = |more: &[&str]| world.run(&[&["dns", "adopt", "example.org", "--root", &root], more].concat());
    for (text, why) in [
        ("@ A 1.2.3", "is not a zone file of example.org"),
        ("$INCLUDE /etc/passwd", "is not a zone file of example.org"),
        ("example.net. A 192.0.2.1", "has no record of example.org"),
    ] {
        file(text);
        let (code, _, stderr) = adopt(&["--zone-file", "old.zone"]);
        assert!(code == Some(2) && stderr.contains(why), "{text}: {stderr}");
    }
    assert!(!Path::new(&world.home.path().join(".local/share/sovereign/demo/adopted.json")).exists());
    // Nobody answers for `org`, so there is nobody to ask.
    let (code, _, stderr) = adopt(&[]);
    assert!(code == Some(1) && stderr.contains("nobody above answers") && stderr.contains("--zone-file"), "{stderr}");
}
