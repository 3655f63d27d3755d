//! What the name servers of a lab's hosts answer, asked from outside by Debian's `kdig`, and judged by `delv`.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::hosts::{Host, Lab};
use super::{Operator, eventually};

/// A domain of the stack's own name servers.
pub(crate) const DOMAIN: &str = "deployed.test";

/// What an operator writes of it.
pub(crate) fn declare() -> String {
    format!("\n[[domain]]\nname = \"{DOMAIN}\"\nregistrar = \"nobody\"\n")
}

/// The addresses that a name server gives for a name, if it answers with a signature. Asked twice, as resolvers do.
pub(crate) fn addresses(server: &str, name: &str) -> Option<BTreeSet<Ipv4Addr>> {
    let mut kdig = Command::new("kdig");
    kdig.arg(format!("@{server}")).args([name, "A", "+dnssec", "+short", "+time=1", "+retry=1"]);
    let said = String::from_utf8(kdig.output().unwrap().stdout).unwrap();
    let is_signed = said.lines().any(|line| line.starts_with("A 13 "));
    is_signed.then(|| said.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether what a name server signs ends within that time from now, and not before; nothing when it does not answer.
pub(crate) fn signed_within(host: &Host, name: &str, life: Duration) -> Option<bool> {
    let mut kdig = Command::new("kdig");
    kdig.arg(format!("@{}", host.address)).args([name, "A", "+dnssec", "+short", "+time=1", "+retry=0"]);
    let said = String::from_utf8(kdig.output().unwrap().stdout).unwrap();
    let line = said.lines().find(|line| line.starts_with("A 13 "))?;
    let ends: u64 = line.split(' ').nth(4)?.parse().ok()?;
    let hour = |offset: i64| {
        let mut date = Command::new("date");
        date.args(["--utc", &format!("--date={offset} seconds"), "+%Y%m%d%H%M%S"]);
        String::from_utf8(date.output().unwrap().stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    Some(ends > hour(0) && ends <= hour(life.as_secs() as i64))
}

fn all(lab: &Lab) -> BTreeSet<Ipv4Addr> {
    lab.hosts.iter().map(|host| host.address.parse().unwrap()).collect()
}

/// Every name server gives the addresses of all data centers, by UDP and TCP, and who checks signatures from the DS record
/// on believes it; also that a name is not there.
pub(crate) fn answer(operator: &Operator, lab: &Lab, names: &[&str]) {
    let told = operator.json(&["dns", "ds", DOMAIN]);
    let ds = &told["domains"][0]["ds"];
    let anchor = operator.home().join("anchor");
    let line = format!("trust-anchors {{ {DOMAIN}. static-ds {} 13 2 {}; }};\n", ds["key_tag"], ds["digest"]);
    fs::write(&anchor, line).unwrap();
    for host in &lab.hosts {
        for name in names {
            back(lab, host, name);
        }
        let none = format!("nothing.{DOMAIN}");
        let asked = names.iter().map(|name| (*name, "; fully validated"));
        for (name, wanted) in asked.chain([(&*none, "; negative response, fully validated")]) {
            for how in ["+notcp", "+tcp"] {
                let mut delv = Command::new("delv");
                delv.arg(format!("@{}", host.address)).args(["-a", anchor.to_str().unwrap()]);
                let said = delv.args([&format!("+root={DOMAIN}"), name, "A", how]).output().unwrap();
                let said =
                    [&said.stdout, &said.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
                assert!(said.contains(wanted), "{name} {how} at {}: {said}", host.name);
            }
        }
    }
}

/// Waits until a name server gives the addresses of all data centers.
pub(crate) fn back(lab: &Lab, host: &Host, name: &str) {
    eventually(&format!("{} gives all addresses of {name}", host.name), Duration::from_secs(60), || {
        (addresses(&host.address, name)? == all(lab)).then_some(())
    });
}

/// Waits until a name server gives all addresses of a name but those of `lost`.
pub(crate) fn without(lab: &Lab, host: &Host, lost: &Host, name: &str) {
    let lost: Ipv4Addr = lost.address.parse().unwrap();
    let others: BTreeSet<Ipv4Addr> = all(lab).into_iter().filter(|address| *address != lost).collect();
    eventually(&format!("{} leaves {lost} out of {name}", host.name), Duration::from_secs(60), || {
        (addresses(&host.address, name)? == others).then_some(())
    });
}

/// Nobody answers there.
pub(crate) fn silent(lab: &Lab) {
    for host in &lab.hosts {
        for how in ["+notcp", "+tcp"] {
            let mut kdig = Command::new("kdig");
            let asked =
                kdig.arg(format!("@{}", host.address)).args([DOMAIN, "SOA", how, "+time=1", "+retry=0"]).output();
            assert!(!String::from_utf8_lossy(&asked.unwrap().stdout).contains("HEADER"), "{} {how}", host.name);
        }
    }
}

/// Asks a name server again and again, from before another data center's power is cut.
pub(crate) struct Watch(JoinHandle<Instant>);

impl Watch {
    /// For answers that do not name `lost` any more.
    pub(crate) fn begin(lab: &Lab, asked: &Host, lost: &Host, name: &str) -> Self {
        back(lab, asked, name);
        let [server, lost, name] = [&asked.address, &lost.address, name].map(|text| text.to_owned());
        let lost: Ipv4Addr = lost.parse().unwrap();
        Self(std::thread::spawn(move || {
            eventually(&format!("{name} without {lost}"), Duration::from_secs(60), || {
                (!addresses(&server, &name)?.contains(&lost)).then(Instant::now)
            })
        }))
    }

    /// How long after `cut` that was.
    pub(crate) fn took(self, cut: Instant) -> Duration {
        self.0.join().unwrap().duration_since(cut)
    }
}

/// Resolvers that ask all name servers again and again while these are replaced.
pub(crate) struct Resolvers {
    stop: Arc<AtomicBool>,
    asking: Vec<JoinHandle<(usize, usize)>>,
}

impl Resolvers {
    pub(crate) fn start(lab: &Lab, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asking = lab.hosts.iter().map(|host| {
            let (stop, server, name) = (Arc::clone(&stop), host.address.clone(), name.to_owned());
            std::thread::spawn(move || {
                let (mut asked, mut failed) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    asked += 1;
                    failed += usize::from(addresses(&server, &name).is_none());
                    std::thread::sleep(Duration::from_millis(100));
                }
                (asked, failed)
            })
        });
        Self { asking: asking.collect(), stop }
    }

    /// None of them was left without an answer.
    #[expect(clippy::print_stderr, reason = "figures are shown")]
    pub(crate) fn stop_without_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        for asking in self.asking {
            let (asked, failed) = asking.join().unwrap();
            eprintln!("questions for names: {asked}, without an answer: {failed}");
            assert!(asked > 10 && failed == 0, "{failed} of {asked}");
        }
    }
}
