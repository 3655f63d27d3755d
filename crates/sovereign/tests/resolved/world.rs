//! The world above a domain, at DNS's own port on loopback: a root and a registry, both Debian's Knot, both signed; and
//! a resolver, Debian's `unbound`, that is told where the root is and which key it has, and finds out everything else.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::eventually;

const ROOT: &str = "127.0.0.132";
const REGISTRY: &str = "127.0.0.133";
const RESOLVER: &str = "127.0.0.134";

/// Where `dns drift` begins.
pub(crate) const ROOT_SERVER: &str = "127.0.0.132:53";

const PATIENCE: Duration = Duration::from_secs(20);

/// A resolver that does not answer within this is asked again by whoever asked it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Why there can be none here.
pub(crate) fn missing() -> Option<String> {
    for program in ["/usr/sbin/unbound", "/usr/sbin/unbound-control", "/usr/sbin/keymgr"] {
        if fs::metadata(program).is_err() {
            return Some(format!("there is no {program} here"));
        }
    }
    let taken = |ip: &&str| TcpListener::bind((*ip, 53)).is_err();
    let other = [ROOT, REGISTRY, RESOLVER].into_iter().find(taken);
    other.map(|ip| format!("port 53 of {ip} is somebody else's, or not for this user"))
}

/// A process that ends when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Knot with one zone, which it signs.
struct Knot {
    zone: &'static str,
    folder: TempDir,
    _process: Running,
}

impl Knot {
    fn start(ip: &str, zone: &'static str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        fs::write(folder.path().join("zone"), text).unwrap();
        let conf = format!(
            "server:\n    rundir: \"{path}\"\n    listen: {ip}@53\n    udp-workers: 1\n    tcp-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n    storage: \"{path}\"\n\
             policy:\n  - id: one-key\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n\
             zone:\n  - domain: {zone}\n    file: \"{path}/zone\"\n    zonefile-sync: -1\n    \
             zonefile-load: difference-no-serial\n    journal-content: all\n    dnssec-signing: on\n    \
             dnssec-policy: one-key\n"
        );
        fs::write(folder.path().join("knot.conf"), conf).unwrap();
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("--config").arg(folder.path().join("knot.conf")).stdout(Stdio::null());
        let process = Running(command.spawn().expect("knotd runs"));
        let knot = Self { zone, folder, _process: process };
        eventually(&format!("{zone} is served at {ip}"), PATIENCE, || {
            let said = kdig(ip, &[zone, "SOA", "+short", "+dnssec", "+timeout=1", "+retry=0"]);
            said.contains("SOA 13 ").then_some(())
        });
        knot
    }

    /// Other words in the zone, signed and served when this returns.
    fn says(&self, text: &str) {
        fs::write(self.folder.path().join("zone"), text).unwrap();
        let mut knotc = Command::new("/usr/sbin/knotc");
        knotc.arg("--socket").arg(self.folder.path().join("knot.sock")).args(["--blocking", "zone-reload", self.zone]);
        let told = knotc.output().unwrap();
        assert!(told.status.success(), "{told:?}");
    }

    /// The digest of its key as the zone above has it, without its owner.
    fn ds(&self) -> String {
        let mut keymgr = Command::new("/usr/sbin/keymgr");
        keymgr.arg("--config").arg(self.folder.path().join("knot.conf")).args([self.zone, "ds"]);
        let said = String::from_utf8(keymgr.output().unwrap().stdout).unwrap();
        let line = said.lines().find(|line| line.contains(" 13 2 ")).unwrap_or_else(|| panic!("{said}"));
        line.split_once(' ').unwrap().1.to_owned()
    }
}

fn kdig(ip: &str, args: &[&str]) -> String {
    let asked = Command::new("kdig").arg(format!("@{ip}")).args(args).output().expect("kdig runs");
    String::from_utf8(asked.stdout).unwrap()
}

/// Root, registry and resolver.
pub(crate) struct World {
    registry: Knot,
    _root: Knot,
    folder: TempDir,
    _resolver: Running,
}

impl World {
    /// With these lines about a domain at the registry.
    pub(crate) fn start(lines: &str) -> Self {
        let registry = Knot::start(REGISTRY, "org.", &registry(lines));
        let root = format!(
            ". 60 SOA a.root. h.root. 1 60 60 60 60\n. 60 NS a.root.\na.root. 60 A {ROOT}\n\
             org. 60 NS a.org.\na.org. 60 A {REGISTRY}\norg. 60 {}\n",
            registry.ds()
        );
        let root = Knot::start(ROOT, ".", &root);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        fs::write(folder.path().join("hints"), format!(". 60 NS a.root.\na.root. 60 A {ROOT}\n")).unwrap();
        fs::write(folder.path().join("resolv.conf"), format!("nameserver {RESOLVER}\n")).unwrap();
        fs::write(folder.path().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        // What is not said is as unbound has it: nothing is answered that has expired, nothing is fetched before it does.
        let conf = format!(
            "server:\n  interface: {RESOLVER}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
             directory: \"{path}\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  do-ip6: no\n  \
             do-not-query-localhost: no\n  root-hints: \"{path}/hints\"\n  trust-anchor: \". {anchor}\"\n  \
             module-config: \"validator iterator\"\nremote-control:\n  control-enable: yes\n  \
             control-interface: \"{path}/control\"\n  control-use-cert: no\n",
            anchor = root.ds()
        );
        fs::write(folder.path().join("unbound.conf"), conf).unwrap();
        let mut unbound = Command::new("/usr/sbin/unbound");
        unbound.arg("-d").arg("-c").arg(folder.path().join("unbound.conf")).stdout(Stdio::null());
        let resolver = Running(unbound.spawn().expect("unbound runs"));
        let world = Self { registry, _root: root, folder, _resolver: resolver };
        eventually("the resolver believes the root", PATIENCE, || {
            let answer = ask("org", "SOA");
            answer.is_validated.then_some(())
        });
        world
    }

    /// Other lines about the domain at the registry, and the resolver knows nothing of before.
    pub(crate) fn register(&self, lines: &str) {
        self.registry.says(&registry(lines));
        self.forget();
    }

    /// The resolver forgets all answers; which servers did not answer it, it remembers.
    pub(crate) fn forget(&self) {
        self.control(&["flush_zone", "."]);
    }

    /// It forgets everything.
    pub(crate) fn forget_all(&self) {
        self.control(&["flush_infra", "all"]);
        self.forget();
    }

    fn control(&self, args: &[&str]) {
        let mut control = Command::new("/usr/sbin/unbound-control");
        let told = control.arg("-c").arg(self.folder.path().join("unbound.conf")).args(args).output().unwrap();
        assert!(told.status.success(), "{told:?}");
    }

    /// A folder with what stands in `/etc` of a machine whose resolver this is, and no other.
    pub(crate) fn etc(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn registry(lines: &str) -> String {
    format!("org. 60 SOA a.org. h.org. 1 60 60 60 60\norg. 60 NS a.org.\na.org. 60 A {REGISTRY}\n{lines}\n")
}

/// What the resolver said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// As DNS calls it, `NOERROR` say; nothing when it did not answer.
    pub(crate) status: String,
    /// It says that signatures lead from the root to it.
    pub(crate) is_validated: bool,
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    pub(crate) took: Duration,
}

/// Asks the resolver, once.
pub(crate) fn ask(name: &str, kind: &str) -> Answer {
    ask_with(name, kind, &[])
}

/// The same, with more flags.
pub(crate) fn ask_with(name: &str, kind: &str, more: &[&str]) -> Answer {
    let began = Instant::now();
    let within = format!("+timeout={}", ANSWERS_WITHIN.as_secs());
    let said = kdig(RESOLVER, &[&[name, kind, "+dnssec", "+retry=0", &*within], more].concat());
    let took = began.elapsed();
    let word = |before: &str| said.split_once(before).map(|(_, rest)| rest.split(';').next().unwrap_or_default());
    let address = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        (words.next() == Some("A")).then(|| words.next()?.parse().ok())?
    };
    Answer {
        status: word("status: ").unwrap_or_default().to_owned(),
        is_validated: word("Flags: ").is_some_and(|flags| flags.split(' ').any(|flag| flag == "ad")),
        addresses: said.lines().filter_map(address).collect(),
        took,
    }
}
