//! The exchange of a zone's key, step by step, beside a registry that signs too: judged by Debian's `unbound`, by those that
//! know nothing yet, and by those that keep what they were told before the step.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sovereign_dns::knot::driver::{Driver, Key, Options};
use sovereign_dns::zone::World;
use sovereign_keys::{Purpose, RootSeed, WorkingKeys, ZoneKey};
use sovereign_model::DnsName;
use tempfile::TempDir;

use super::{LOOPBACK, PATIENCE, Server, free_port};

/// A process that ends when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn kdig(port: u16, args: &[&str]) -> String {
    let mut asked = Command::new("kdig");
    asked.args(["@127.0.0.1", "-p", &port.to_string(), "+timeout=5", "+retry=0"]).args(args);
    String::from_utf8(asked.output().expect("kdig runs").stdout).unwrap()
}

/// The zone above: a Knot that signs by itself.
struct Registry {
    folder: TempDir,
    port: u16,
    _process: Running,
}

impl Registry {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port(LOOPBACK).port());
        let path = folder.path().display().to_string();
        let conf = format!(
            "server:\n    rundir: \"{path}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n    storage: \"{path}\"\n\
             policy:\n  - id: one-key\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n\
             zone:\n  - domain: org.\n    file: \"{path}/zone\"\n    zonefile-sync: -1\n    \
             zonefile-load: difference-no-serial\n    journal-content: all\n    dnssec-signing: on\n    \
             dnssec-policy: one-key\n"
        );
        std::fs::write(folder.path().join("knot.conf"), conf).unwrap();
        std::fs::write(folder.path().join("zone"), Self::zone(&[])).unwrap();
        let mut command = Command::new("knotd");
        command.arg("--config").arg(folder.path().join("knot.conf")).stdout(Stdio::null());
        let process = Running(command.spawn().expect("knotd runs"));
        eventually("the registry", || {
            kdig(port, &["org", "SOA", "+short", "+dnssec"]).contains("SOA 13 ").then_some(())
        });
        Self { folder, port, _process: process }
    }

    fn zone(keys: &[&ZoneKey]) -> String {
        let domain = "example.org".parse().unwrap();
        let ds: String = keys.iter().map(|key| format!("example.org. 60 DS {}\n", key.ds(&domain))).collect();
        format!(
            "org. 60 SOA a.org. h.org. 1 60 60 60 60\norg. 60 NS a.org.\na.org. 60 A 127.0.0.1\nexample.org. 60 NS ns.example.org.\nns.example.org. 60 A 127.0.0.1\n{ds}"
        )
    }

    /// Has DS records of these keys.
    fn has(&self, keys: &[&ZoneKey]) {
        std::fs::write(self.folder.path().join("zone"), Self::zone(keys)).unwrap();
        let told = Command::new("knotc")
            .arg("--socket")
            .arg(self.folder.path().join("knot.sock"))
            .args(["--blocking", "zone-reload", "org"])
            .output();
        assert!(told.unwrap().status.success());
        eventually("the DS records", || {
            (kdig(self.port, &["example.org", "DS", "+short"]).lines().count() == keys.len()).then_some(())
        });
    }

    fn key(&self) -> String {
        kdig(self.port, &["org", "DNSKEY", "+short"]).lines().next().unwrap().to_owned()
    }
}

/// A resolver that checks signatures, and knows nothing yet.
struct Resolver {
    port: u16,
    _folder: TempDir,
    _process: Running,
}

impl Resolver {
    fn start(registry: &Registry, server: &Server) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port(LOOPBACK).port());
        let path = folder.path().display().to_string();
        let conf = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
             directory: \"{path}\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  do-ip6: no\n  \
             do-not-query-localhost: no\n  trust-anchor: \"org. DNSKEY {anchor}\"\n  \
             module-config: \"validator iterator\"\nremote-control:\n  control-enable: no\n\
             stub-zone:\n  name: org.\n  stub-addr: 127.0.0.1@{above}\n\
             stub-zone:\n  name: example.org.\n  stub-addr: 127.0.0.1@{below}\n",
            anchor = registry.key(),
            above = registry.port,
            below = server.listen.port(),
        );
        std::fs::write(folder.path().join("unbound.conf"), conf).unwrap();
        let mut unbound = Command::new("/usr/sbin/unbound");
        unbound.arg("-d").arg("-c").arg(folder.path().join("unbound.conf")).stdout(Stdio::null());
        let process = Running(unbound.spawn().expect("unbound runs"));
        eventually("the resolver", || kdig(port, &["org", "SOA", "+short"]).contains("a.org.").then_some(()));
        Self { port, _folder: folder, _process: process }
    }

    /// Whether it believes what it is told of a name.
    fn believes(&self, name: &str, kind: &str) -> bool {
        let said = kdig(self.port, &[name, kind, "+dnssec"]);
        let flags = said.lines().find_map(|line| line.split_once("Flags:")?.1.split(';').next());
        flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "ad"))
    }

    /// Of the domain: answers that depend on who asks, others, and what is not there. Each name is asked for once.
    fn believes_all(&self, step: &str) -> bool {
        let there = [("www.example.org", "A"), ("example.org", "TXT"), ("static.example.org", "A")];
        let absent = format!("nothing-{step}.example.org");
        there.into_iter().chain([(&*absent, "A")]).all(|(name, kind)| self.believes(name, kind))
    }
}

impl Server {
    /// Has it be signed with these keys, by a Knot that knows of no others, as a host's next one does.
    async fn sign_with(&mut self, keys: &[&ZoneKey]) {
        self.driver.stop().await;
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let file = |key: &ZoneKey| -> PathBuf { self.folder.path().join(format!("{}.pem", key.tag())) };
        let brought = keys.iter().map(|key| {
            std::fs::write(file(key), key.private_pem().expose()).unwrap();
            Key { tag: key.tag(), file: file(key) }
        });
        let mut options = Options { folder: folder.join("knot"), ..self.options.clone() };
        options.keys.insert("example.org".parse().unwrap(), brought.collect());
        self.driver = Driver::new(options);
        self.bring(&World::default()).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_checks_signatures_believes_each_step_of_an_exchange_whatever_they_keep() {
    let mut server = Server::new();
    let name = "s".parse().unwrap();
    let domain = "example.org".parse().unwrap();
    let purpose = [Purpose::Zone(DnsName::clone(&domain))];
    let key = || WorkingKeys::imagined(&name, &purpose, &RootSeed::generate()).zone_key(&domain).unwrap();
    let old = key();
    let new = std::iter::repeat_with(key).find(|new| new.tag() != old.tag()).unwrap();
    let registry = Registry::start();
    let steps: [(&str, &[&ZoneKey], &[&ZoneKey]); 5] = [
        ("before", &[&old], &[&old]),
        ("both-sign", &[&old, &new], &[&old]),
        ("new-digest", &[&old, &new], &[&old, &new]),
        ("old-digest-gone", &[&old, &new], &[&new]),
        ("old-key-gone", &[&new], &[&new]),
    ];
    let mut known: Option<Resolver> = None;
    for (step, keys, digests) in steps {
        server.sign_with(keys).await;
        registry.has(digests);
        let shown = server.ask("127.0.0.0/24", "example.org", "DNSKEY");
        assert_eq!(shown.len(), keys.len(), "{step}: {shown:?}");
        if let Some(known) = known {
            assert!(known.believes_all(step), "{step}: by one that keeps what was before");
        }
        let fresh = Resolver::start(&registry, &server);
        assert!(fresh.believes_all(step), "{step}");
        known = Some(fresh);
    }
    // And it is no matter of course: a digest of the key that has left leads nobody to anything.
    registry.has(&[&old]);
    let fresh = Resolver::start(&registry, &server);
    assert!(
        !fresh.believes("www.example.org", "A") && kdig(fresh.port, &["www.example.org", "A"]).contains("SERVFAIL")
    );
}
