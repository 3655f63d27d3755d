//! Certificates of a public authority, Debian's pebble, proven by a name server of the stack's own, Debian's Knot: got at
//! `up`, shown by edges, renewed while people read, kept when every authority is away. Judged by OpenSSL and curl.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

#[path = "support/load.rs"]
mod load;
// Also the one of the certificates' own tests.
#[path = "../../certs/tests/world/pebble.rs"]
mod pebble;
mod renewed;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use load::Load;
use pebble::{Pebble, Trust, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber};
use serde_json::Value;
use sovereign_keys::{Purpose, RootSeed, WorkingKeys};
use sovereign_model::layout::StateFolder;
use sovereign_model::name_server_config::{NameServerConfig, PROTOCOL};
use sovereign_model::names::Names;
use sovereign_model::{DnsName, file};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Request, request};
use sovereign_runtime::signed;
use support::{Operator, eventually};

const PATIENCE: Duration = Duration::from_secs(30);
const WWW: &str = "www.example.org";
/// The authority issues nothing for it.
const BLOCKED: &str = "www.blocked.org";

/// The program as a name server, where the stack looks for one on this machine, until it is dropped.
struct NameServer {
    child: Child,
    listen: SocketAddr,
}

impl NameServer {
    /// The one beside the edge of a data center.
    fn start(operator: &Operator, at: &str) -> Self {
        let text = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
        let stack = file::parse("stack.toml", &text, operator.home()).unwrap();
        let folder = StateFolder::new(operator.state()).name_server(&at.parse().unwrap());
        fs::create_dir_all(folder.control().parent().unwrap()).unwrap();
        let names = Names::of(&stack);
        let domains: Vec<DnsName> = names.domains.iter().map(|domain| domain.name.clone()).collect();
        let purposes: Vec<Purpose> = domains.iter().cloned().map(Purpose::Zone).collect();
        let working = WorkingKeys::imagined(&stack.name, &purposes, &RootSeed::generate());
        let mut keys = BTreeMap::new();
        for domain in domains {
            let key = working.zone_key(&domain).unwrap();
            fs::write(folder.key(&domain, key.tag()), key.private_pem().expose()).unwrap();
            keys.insert(domain, key.tag());
        }
        let listen = free_port();
        let config = NameServerConfig {
            stack: stack.name,
            datacenter: at.parse().unwrap(),
            host: None,
            folder: folder.path().to_owned(),
            listen: vec![listen],
            names,
            keys,
            coming_keys: BTreeMap::new(),
            drained: BTreeSet::new(),
            transfer_keys: BTreeMap::new(),
            lan: None,
        };
        let signing = SigningKey::from_bytes(&[7; 32]);
        let sealed = signed::seal(&signing, PROTOCOL, 1, serde_json::to_string(&config).unwrap());
        let path = folder.path().join("config.json");
        fs::write(&path, sealed).unwrap();
        let trust: String = signing.verifying_key().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let child = Command::new(Operator::program())
            .arg("name-server")
            .arg("--config")
            .arg(path)
            .arg("--control")
            .arg(folder.control())
            .args(["--trust", &trust])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the name server is well", PATIENCE, || {
            let told = request(&folder.control(), &Request::new("status"), Duration::from_secs(5)).ok()?;
            (told["healthy"] == true).then_some(())
        });
        Self { child, listen }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // Its Knot dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority that is not asked, and that readers believe in all the same.
struct Elsewhere(CertifiedIssuer<'static, KeyPair>);

impl Elsewhere {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "elsewhere");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate that was issued so many days ago, and its key, in files.
    fn issued(&self, operator: &Operator, name: &str, ago: u64, serial: u8) -> [String; 2] {
        let day = Duration::from_secs(86_400);
        let begins = SystemTime::now() - day * u32::try_from(ago).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (begins.into(), (begins + day * 90).into());
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        let files = [("elsewhere.pem", chain), ("elsewhere-key.pem", key.serialize_pem())];
        files.map(|(file, text)| operator.write(file, &text).to_string_lossy().into_owned())
    }
}

/// Two sites at two data centers; the second is called `other`.
fn stack(operator: &Operator, other: &str, authorities: &[(&str, SocketAddr)]) {
    let place = |name: &str, port: u16| {
        format!(
            "[[datacenter]]\nname = \"{name}\"\nengine = \"embedded\"\n[[datacenter.uplink]]\nname = \"loopback\"\n\
             address = \"127.0.0.1\"\nport = {port}\nreach = \"direct\"\n"
        )
    };
    let site = |name: &str, canonical: &str| {
        format!(
            "[[site]]\nname = \"{name}\"\napp = \"static\"\nfolder = \"public\"\ncanonical = \"{canonical}\"\n\
             primary = \"home\"\nmirrors = [\"office\"]\n"
        )
    };
    let domain = |name: &str| format!("[[domain]]\nname = \"{name}\"\nregistrar = \"r\"\n");
    let authority = |(name, at): &(&str, SocketAddr)| {
        format!(
            "[[authority]]\nname = \"{name}\"\ndirectory = \"https://127.0.0.1:{}/dir\"\nroots = \"roots.pem\"\n",
            at.port()
        )
    };
    let text = [
        "version = 1\n[stack]\nname = \"certified\"\n".to_owned(),
        place("home", operator.home_port),
        place("office", operator.office_port),
        domain("example.org"),
        domain("blocked.org"),
        site("leaf", WWW),
        site("other", other),
        authorities.iter().map(authority).collect(),
    ];
    operator.write("stack.toml", &text.concat());
}

/// What a reader who believes `roots` is shown for a name at a port: the serial number; an error when they do not believe.
fn shown(operator: &Operator, roots: &str, name: &str, port: u16) -> Result<String, String> {
    shown_at(operator, roots, name, port, SystemTime::now())
}

/// The same, by a reader's clock.
fn shown_at(operator: &Operator, roots: &str, name: &str, port: u16, now: SystemTime) -> Result<String, String> {
    let roots = operator.home().join(roots);
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name, "-verify_hostname", name])
        .args(["-attime", &now, "-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(roots)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !client.status.success() {
        return Err(String::from_utf8_lossy(&client.stderr).into_owned());
    }
    let leaf = operator.write("leaf.pem", &String::from_utf8_lossy(&client.stdout));
    let serial = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(leaf).output().unwrap();
    Ok(String::from_utf8(serial.stdout).unwrap().trim().to_owned())
}

fn name<'v>(list: &'v Value, name: &str) -> &'v Value {
    list["names"].get(name).unwrap_or_else(|| panic!("{list:#}"))
}

/// Where the certificate of [`WWW`] lies that was stored as number `number`.
fn stored(operator: &Operator, number: u32) -> [PathBuf; 2] {
    let folder = operator.state().join("certificates/names").join(WWW).join(number.to_string());
    ["chain.pem", "key.pem"].map(|file| folder.join(file))
}

#[test]
fn got_at_up_shown_renewed_under_load_and_kept_while_authorities_are_away() {
    let operator = Operator::new();
    let ports = [operator.home_port, operator.office_port];
    operator.write("public/index.html", "<!doctype html><title>Leaf</title><p>leaf");
    let trust = Trust::new();
    stack(&operator, BLOCKED, &[("away", free_port())]);
    let name_server = NameServer::start(&operator, "home");
    let authority = Pebble::start(&trust, name_server.listen);
    let root = authority.root();
    operator.write("root.pem", &root);
    let elsewhere = Elsewhere::new();
    operator.write("roots.pem", &format!("{}{root}{}", trust.root, elsewhere.0.pem()));
    stack(&operator, BLOCKED, &[("away", free_port()), ("second", authority.place)]);

    // The first is away, so the second issues; one name that it refuses stops no other.
    let began = Instant::now();
    let first = operator.up();
    eprintln!("the first `up`, with certificates: {:?}", began.elapsed());
    let said = first.stdout();
    assert!(said.contains(&format!("{WWW}: issued by second")), "{said}\n{}", authority.log());
    assert!(said.contains("authority away cannot be reached") && said.contains("rejectedIdentifier"), "{said}");
    let serials: Vec<_> = ports.iter().map(|port| shown(&operator, "root.pem", WWW, *port).unwrap()).collect();
    assert_eq!(serials[0], serials[1], "one certificate at all data centers");
    operator.authority();
    for port in ports {
        assert!(shown(&operator, "ca.pem", WWW, port).is_err(), "it is not the stack's own");
        shown(&operator, "ca.pem", BLOCKED, port).expect("the stack's own is shown where there is no other");
    }
    let listed = operator.run(&["--json", "cert", "list"]).exits(3);
    let listed: Value = serde_json::from_str(&listed.stdout()).unwrap();
    assert_eq!(name(&listed, WWW)["certificate"]["authority"], "second");
    let blocked = name(&listed, BLOCKED);
    assert!(
        blocked["certificate"].is_null() && blocked["waits"]["why"].to_string().contains("blocked.org"),
        "{listed:#}"
    );
    let status = operator.run(&["status"]).exits(3).stdout();
    assert!(status.contains(&format!("{BLOCKED}: it has no certificate of a public authority")), "{status}");
    assert!(status.contains("runs unattended for") && status.contains("from second ends"), "{status}");
    // Nobody else reads keys, here or at the edge.
    let ours = stored(&operator, 1)[1].clone();
    for key in [ours, operator.state().join("dc/home/edge/public").join(format!("{WWW}.pem"))] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
    }

    // They are in the archive, for a machine that must begin anew.
    let saved = operator.home().join("saved");
    operator.run(&["restore", "(state)", "--to", saved.to_str().unwrap()]).success();
    let [chain, _] = stored(&operator, 1);
    let within = chain.strip_prefix(operator.state()).unwrap();
    assert_eq!(fs::read(saved.join(within)).unwrap(), fs::read(&chain).unwrap());

    // The authority is asked once when it wants to renew what it has just issued. Then nothing is due, and nobody is asked.
    operator.up();
    let again = operator.run(&["--json", "up", "--yes"]).success();
    let again: Value = serde_json::from_str(&again.stdout()).unwrap();
    assert_eq!((&again["steps"], &again["certificates"]["names"]), (&0.into(), &serde_json::json!({})), "{again:#}");

    // Renewed while people read. They believe the authority only.
    let own = fs::read_to_string(operator.home().join("ca.pem")).unwrap();
    fs::write(operator.home().join("ca.pem"), &root).unwrap();
    let processes = operator.processes();
    let began = Instant::now();
    let load = Load::start(&operator, WWW, ports, "/");
    for _ in 0..2 {
        operator.run(&["cert", "renew", WWW]).success();
    }
    let borne = load.until(began.elapsed() + Duration::from_secs(1));
    eprintln!("renewed twice under load, the longest wait {:.1} of the usual:\n{borne}", borne.slowest());
    borne.without_failure();
    assert_eq!(operator.processes(), processes, "nothing was started anew");
    fs::write(operator.home().join("ca.pem"), own).unwrap();
    for (port, before) in ports.into_iter().zip(&serials) {
        assert_ne!(shown(&operator, "root.pem", WWW, port).unwrap(), *before);
    }

    // What was got elsewhere is taken in when it fits; here the one before.
    let [chain, key] = stored(&operator, 2).map(|path| path.to_string_lossy().into_owned());
    let other = stored(&operator, 3)[1].to_string_lossy().into_owned();
    let import = |key: &str, name: &str| {
        operator.run(&["cert", "import", name, "--chain", &chain, "--key", key, "--authority", "second"])
    };
    let newest = shown(&operator, "root.pem", WWW, ports[0]).unwrap();
    for (key, name, why) in [(&other, WWW, "another key"), (&key, BLOCKED, "does not fit")] {
        let refused = import(key, name).exits(1);
        assert!(refused.stderr().contains(why), "{refused:?}");
    }
    import(&key, "www.example.net").exits(2);
    assert_eq!(shown(&operator, "root.pem", WWW, ports[0]).unwrap(), newest);
    import(&key, WWW).success();
    assert_ne!(shown(&operator, "root.pem", WWW, ports[0]).unwrap(), newest);

    // What edges show that is newer comes back to a machine that knows less, say from an older archive, and stays there.
    let known = operator.state().join("certificates/names").join(BLOCKED);
    let mut newest = String::new();
    for (ago, serial) in [(10, 0x4a), (1, 0x4b)] {
        let _ = fs::remove_dir_all(operator.home().join("before"));
        let copied = Command::new("cp").arg("-a").arg(&known).arg(operator.home().join("before")).status().unwrap();
        assert!(copied.success());
        let [chain, key] = elsewhere.issued(&operator, BLOCKED, ago, serial);
        operator.run(&["cert", "import", BLOCKED, "--chain", &chain, "--key", &key, "--authority", "second"]).success();
        newest = shown(&operator, "roots.pem", BLOCKED, ports[0]).unwrap();
        assert!(newest.ends_with(&format!("{serial:X}")), "{newest}");
    }
    fs::remove_dir_all(&known).unwrap();
    fs::rename(operator.home().join("before"), &known).unwrap();
    let ticked = operator.run(&["tick"]);
    assert!(ticked.stdout().contains(&format!("{BLOCKED}: a newer one was brought back from home")), "{ticked:?}");
    for port in ports {
        assert_eq!(shown(&operator, "roots.pem", BLOCKED, port).unwrap(), newest);
    }
    let [chain, key] = elsewhere.issued(&operator, BLOCKED, 5, 0x4c);
    let refused = operator.run(&["cert", "import", BLOCKED, "--chain", &chain, "--key", &key, "--authority", "second"]);
    assert!(refused.exits(1).stderr().contains("was issued later"), "what is newer is not given up");

    // By the clock, in its last third, and brought to every edge.
    let before = shown(&operator, "root.pem", WWW, ports[1]).unwrap();
    let ticked = operator.run_later("+69d", &["tick"]);
    assert!(ticked.stdout().contains(&format!("{WWW}: issued by second")), "{ticked:?}");
    assert_ne!(shown(&operator, "root.pem", WWW, ports[1]).unwrap(), before);

    // Every authority is away, in its last days: no run fails, readers are served, and it is said.
    let served = shown(&operator, "root.pem", WWW, ports[0]).unwrap();
    drop(authority);
    let late = operator.run_later("+87d", &["up", "--yes", "--no-backup"]).success();
    assert!(late.stdout().contains(&format!("{WWW}: tried again in")), "{late:?}");
    assert!(late.stdout().contains("authority second cannot be reached"), "{late:?}");
    let status = operator.run_later("+87d", &["status"]).exits(3).stdout();
    assert!(status.contains(&format!("{WWW}: its certificate ends in 2 days and was not renewed")), "{status}");
    assert_eq!(shown(&operator, "root.pem", WWW, ports[0]).unwrap(), served);
}
