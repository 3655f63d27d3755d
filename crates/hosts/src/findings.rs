//! What is in the way on a host. Pure: facts and requirements in, findings out, all of them at once.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use sovereign_model::{DatacenterName, HostName, StackName};

use crate::facts::{Facts, Incus, Listener, Member};
use crate::marker::{Found, Marker};
use crate::ready::ClusterError;

const GIB: u64 = 1 << 30;
/// Incus, a site with its database and our own daemons have room in it, and none to spare.
const LEAST_MEMORY: u64 = GIB;
/// Below it every site more is felt.
const GOOD_MEMORY: u64 = 2 * GIB;
/// Packages, and a new generation of images beside the old one.
const LEAST_FREE: u64 = 4 * GIB;
/// The same with sites' data in a loop file on the same disk.
const LEAST_FREE_WITH_LOOP: u64 = 8 * GIB;
/// What a host that is ready needs beside sites' data: packages, upgrades of them, logs.
const LEAST_FREE_READY: u64 = 2 * GIB;
/// Seconds. Signatures, leases and certificates are judged by the clock.
const CLOCK_IS_WRONG: f64 = 60.0;
/// Seconds. Nothing breaks by it, but something is not right.
const CLOCK_IS_OFF: f64 = 5.0;
/// The ports that a host serves on.
const PORTS: [u16; 3] = [53, 80, 443];
/// The oldest Incus that is driven.
const OLDEST_INCUS: (u32, u32) = (6, 0);
/// Incus' word for a member that was emptied on purpose. Whether it answers is not said then.
const EVACUATED: &str = "Evacuated";
/// The releases of Debian whose packages are known.
const RELEASES: [&str; 2] = ["12", "13"];

/// What a host must be.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Whose it is to be.
    pub stack: StackName,
    /// Which stack of that name: the fingerprint of its root seed.
    pub seed: String,
    /// Where.
    pub datacenter: DatacenterName,
    /// Under which name.
    pub host: HostName,
    /// The disk for sites' data; `None` is a file on the disk there is.
    pub disk: Option<String>,
    /// The other hosts of the data center that are to be in one cluster with it.
    pub others: BTreeSet<HostName>,
}

impl Requirements {
    /// Whether a marker says that the host is the one that it is to be.
    pub fn is_ours(&self, marker: &Marker) -> bool {
        let Marker { protocol: _, stack, seed, datacenter, host, done: _ } = marker;
        *stack == self.stack && *seed == self.seed && *datacenter == self.datacenter && *host == self.host
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, but somebody should know.
    Warning,
    /// With this the host is not taken.
    Refusal,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub sentence: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        verdict: Verdict,
        subject: &'static str,
        sentence: impl fmt::Display,
        help: impl Into<Option<String>>,
    ) {
        self.0.push(Finding { verdict, subject, sentence: sentence.to_string(), help: help.into() });
    }

    fn fine(&mut self, subject: &'static str, sentence: impl fmt::Display) {
        self.add(Verdict::Fine, subject, sentence, None);
    }

    fn warn(&mut self, subject: &'static str, sentence: impl fmt::Display, help: impl fmt::Display) {
        self.add(Verdict::Warning, subject, sentence, help.to_string());
    }

    fn refuse(&mut self, subject: &'static str, sentence: impl fmt::Display, help: impl fmt::Display) {
        self.add(Verdict::Refusal, subject, sentence, help.to_string());
    }
}

/// Everything that was looked at, in the order that people read it in.
pub fn findings(facts: &Facts, required: &Requirements) -> Vec<Finding> {
    let ours = match &facts.marker {
        Some(Found::Marker(marker)) if required.is_ours(marker) => Some(marker),
        _ => None,
    };
    let mut all = Findings(Vec::new());
    owner(facts, required, &mut all);
    system(facts, &mut all);
    kernel(facts, &mut all);
    room(facts, required, ours, &mut all);
    clock(facts, &mut all);
    disk(facts, required, ours, &mut all);
    ports(facts, ours.is_some(), &mut all);
    managers(facts, &mut all);
    incus(facts, ours.is_some(), &mut all);
    if ours.is_some() {
        cluster(facts, required, &mut all);
    }
    all.0
}

/// Whether nothing is in the way.
pub fn is_taken(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Refusal)
}

fn owner(facts: &Facts, required: &Requirements, all: &mut Findings) {
    match facts.uid {
        Some(0) => {}
        _ => all.refuse(
            "user",
            "the user that was logged in is not root",
            "name root: `sovereign host add root@ADDRESS`",
        ),
    }
    match &facts.marker {
        None => all.fine("owner", "no stack has it"),
        Some(Found::Marker(marker)) if required.is_ours(marker) => {
            all.fine("owner", format_args!("it is {} of data center {}", required.host, required.datacenter));
        }
        Some(Found::Marker(Marker { stack, seed, datacenter, host, .. })) => {
            let same = *stack == required.stack && *seed == required.seed;
            let whose = if same { "this stack" } else { "another stack" };
            all.refuse(
                "owner",
                format_args!("it is host {host} of data center {datacenter} of {whose} ({stack})"),
                "`sovereign host remove` with the stack that has it, then add it here",
            );
        }
        Some(Found::Newer(protocol)) => all.refuse(
            "owner",
            format_args!(
                "a newer sovereign made it ready (protocol {protocol}; this one knows {})",
                crate::marker::PROTOCOL
            ),
            "use the newer sovereign with this host",
        ),
        Some(Found::Nonsense) => all.refuse(
            "owner",
            format_args!("{} is there and nobody understands it", crate::marker::MARKER),
            format_args!("look at it on the host; when it is of no use, remove it: `rm {}`", crate::marker::MARKER),
        ),
    }
}

fn system(facts: &Facts, all: &mut Findings) {
    let architecture = facts.architecture.as_str();
    if architecture == "x86_64" {
        all.fine("architecture", architecture);
    } else {
        let is = if architecture.is_empty() { "unknown" } else { architecture };
        all.refuse("architecture", format_args!("{is}: there is no sovereign for it yet"), "use a host of x86_64");
    }
    let system = &facts.system;
    let name = if system.name.is_empty() { "unknown" } else { &system.name };
    if system.id == "debian" && RELEASES.contains(&system.version.as_str()) {
        all.fine("system", name);
    } else {
        all.refuse("system", format_args!("{name}: only Debian 12 and 13 are known"), "install Debian 12 or 13 on it");
    }
    if !facts.systemd {
        all.refuse("system", "systemd does not run it", "boot it with systemd, Debian's usual init");
    }
}

fn kernel(facts: &Facts, all: &mut Findings) {
    let features = facts.features;
    let needed = [
        (
            features.user_namespaces,
            "user namespaces",
            "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000",
        ),
        (features.cgroup2, "control groups of version 2", "boot without systemd.unified_cgroup_hierarchy=0"),
        (features.nftables, "nftables", "boot Debian's own kernel: linux-image-amd64"),
        (features.overlay, "the overlay file system", "boot Debian's own kernel: linux-image-amd64"),
        (features.btrfs, "the btrfs file system", "boot Debian's own kernel: linux-image-amd64"),
    ];
    if needed.iter().all(|(there, ..)| *there) {
        all.fine("kernel", &facts.kernel);
    }
    for (_, what, help) in needed.iter().filter(|(there, ..)| !there) {
        all.refuse("kernel", format_args!("{} lacks {what}", facts.kernel), help);
    }
}

fn room(facts: &Facts, required: &Requirements, ours: Option<&Marker>, all: &mut Findings) {
    match facts.memory {
        None => all.warn("memory", "how much there is cannot be seen", "look with `free -h`; 2 GiB are good"),
        // What the kernel keeps for itself is not counted.
        Some(memory) if memory < LEAST_MEMORY / 10 * 9 => {
            all.refuse(
                "memory",
                gib(memory),
                "use a host with 1 GiB at least, 2 GiB or more for sites with a database",
            );
        }
        Some(memory) if memory < GOOD_MEMORY / 10 * 9 => {
            all.warn("memory", gib(memory), "enough for one site; give it 2 GiB or more for several");
        }
        Some(memory) => all.fine("memory", gib(memory)),
    }
    let least = match required.disk {
        _ if ours.is_some_and(has_storage) => LEAST_FREE_READY,
        Some(_) => LEAST_FREE,
        None => LEAST_FREE_WITH_LOOP,
    };
    match facts.disk_free {
        None => all.warn("free disk", "how much there is cannot be seen", "look with `df -h /var/lib`"),
        Some(free) if free < least => all.refuse(
            "free disk",
            format_args!("{} below /var/lib, {} are needed", gib(free), gib(least)),
            "free some space there, or name a disk of its own with --disk",
        ),
        Some(free) => all.fine("free disk", format_args!("{} below /var/lib", gib(free))),
    }
}

/// Whether its place for sites' data is made.
fn has_storage(marker: &Marker) -> bool {
    marker.done.iter().any(|step| step == "storage")
}

fn clock(facts: &Facts, all: &mut Findings) {
    const HELP: &str = "let it be kept right: `apt-get install systemd-timesyncd`, or set it with `date -s`";
    match facts.clock_off {
        None => all.warn("clock", "what it shows cannot be seen", HELP),
        Some(off) if off.abs() >= CLOCK_IS_OFF => {
            let sentence = format!("{} {}", span(off.abs()), if off > 0.0 { "fast" } else { "slow" });
            let verdict = if off.abs() >= CLOCK_IS_WRONG { Verdict::Refusal } else { Verdict::Warning };
            let help = format!("{HELP}; or is it this machine's clock that is wrong?");
            all.add(verdict, "clock", sentence, help);
        }
        // A container has the clock of the machine around it, and can do nothing about it.
        Some(_) if facts.clock_synchronized == Some(false) && facts.virtualization != "lxc" => {
            all.warn("clock", "right now, but nothing keeps it right", HELP);
        }
        Some(_) => all.fine("clock", "right"),
    }
}

fn disk(facts: &Facts, required: &Requirements, ours: Option<&Marker>, all: &mut Findings) {
    if ours.is_some_and(has_storage) {
        return all.fine("storage", "prepared");
    }
    let Some(path) = &required.disk else {
        return all.fine("storage", "on the disk there is, since no --disk is named");
    };
    let Some(disk) = facts.disk(path) else {
        let empty: Vec<_> = facts.disks.iter().filter(|disk| disk.holds.is_empty() && !disk.read_only).collect();
        let empty: Vec<_> = empty.iter().map(|disk| format!("{} ({})", disk.path, gib(disk.size))).collect();
        let help = if empty.is_empty() {
            "leave --disk out: a file is used".to_owned()
        } else {
            format!("empty ones: {}", empty.join(", "))
        };
        return all.refuse("storage", format_args!("there is no disk {path}"), help);
    };
    if disk.read_only {
        return all.refuse("storage", format_args!("{path} can only be read"), "name another disk");
    }
    if disk.holds.is_empty() {
        return all.fine("storage", format_args!("{path}, {}, empty", gib(disk.size)));
    }
    let holds = disk.holds.join("; ");
    if disk.holds.iter().any(|held| held.contains("mounted at")) {
        return all.refuse(
            "storage",
            format_args!("{path} is in use: {holds}"),
            "name another disk, or unmount what is on it",
        );
    }
    all.warn("storage", format_args!("{path} has data: {holds}"), "all of it would be lost: you are asked before");
}

fn ports(facts: &Facts, ours: bool, all: &mut Findings) {
    let Some(listeners) = &facts.listeners else {
        let help = "install iproute2 on it: `apt-get install iproute2`";
        return all.refuse("ports", "who listens cannot be seen", help);
    };
    let taken = listeners.iter().filter(|listener| PORTS.contains(&listener.port) && !listener.is_private());
    let taken: Vec<&Listener> = taken.filter(|listener| !(ours && is_own(listener))).collect();
    if taken.is_empty() {
        return all.fine("ports", "53, 80 and 443 are free");
    }
    for port in PORTS {
        let on_it: Vec<_> = taken.iter().filter(|listener| listener.port == port).collect();
        let owners: BTreeSet<&str> = on_it.iter().flat_map(|listener| &listener.owners).map(String::as_str).collect();
        let owners: Vec<&str> = owners.into_iter().collect();
        if on_it.is_empty() {
            continue;
        }
        // A name that the kernel cut.
        let unit = |owner: &&str| if *owner == "systemd-resolve" { "systemd-resolved" } else { owner }.to_owned();
        let units: Vec<String> = owners.iter().map(unit).collect();
        let (who, help) = if owners.is_empty() {
            ("somebody".to_owned(), format!("see who with `ss -lntup 'sport = :{port}'` on the host, and stop it"))
        } else {
            (
                owners.join(" and "),
                format!("stop it and keep it from starting: `systemctl disable --now {}`", units.join(" ")),
            )
        };
        all.refuse("ports", format_args!("{who} listens on port {port}"), help);
    }
}

/// Our own daemons, the Knot of a name server of ours, and the resolver that Incus runs on its own networks.
fn is_own(listener: &Listener) -> bool {
    let of = |name: &str| listener.owners.iter().any(|owner| owner == name);
    of("sovereign") || ((of("dnsmasq") || of("knotd")) && listener.address.is_some())
}

fn managers(facts: &Facts, all: &mut Findings) {
    for manager in &facts.managers {
        if manager == "docker" {
            all.warn(
                "other managers",
                "Docker is on it, which has packet filters of its own",
                "better not both on one host; what Docker runs is left alone",
            );
        } else {
            all.refuse(
                "other managers",
                format_args!("{manager} manages things on it"),
                "use a host of its own for the stack",
            );
        }
    }
    for firewall in &facts.firewalls {
        let help = format!("what {firewall} closes stays closed: open 80/tcp, 443/tcp, 443/udp and 53 there");
        all.warn("packet filter", format_args!("{firewall} is active"), help);
    }
}

fn incus(facts: &Facts, ours: bool, all: &mut Findings) {
    let Some(incus) = &facts.incus else {
        let installed = ["incus", "incus-base"].iter().find_map(|name| facts.packages.get(*name));
        return match installed {
            Some(version) => version_of_incus(version, all),
            None => all.fine("incus", "not there yet"),
        };
    };
    if incus.clustered && !ours {
        let help = "use a host of its own, or take it out of that cluster: `incus cluster remove` on another member";
        return all.refuse("incus", "it is in a cluster of Incus that somebody else made", help);
    }
    if incus.is_in_use() && !ours {
        let help = "use a host of its own, or remove that Incus and its data: `apt-get purge incus-base`";
        return all.refuse("incus", "somebody else set up an Incus on it", help);
    }
    if incus.version.is_empty() {
        all.warn("incus", "it does not answer", "`systemctl status incus` on the host says why");
    } else {
        version_of_incus(&incus.version, all);
    }
    let is_for_members = incus.clustered && facts.address.is_some_and(|ip| incus.listens_on(ip));
    if !incus.api_address.is_empty() && !is_for_members {
        let help = "close it: `incus config unset core.https_address` on the host";
        all.warn("incus", format_args!("its API listens on {}", incus.api_address), help);
    }
}

/// Whether the hosts of a data center are what they were made together.
fn cluster(facts: &Facts, required: &Requirements, all: &mut Findings) {
    let Some(Incus { clustered: true, members, .. }) = &facts.incus else { return };
    let Requirements { datacenter, host, others, .. } = required;
    let Some(members) = members else {
        let help = ClusterError::NoQuorum { datacenter: datacenter.to_string(), members: String::new() }.help();
        // No refusal: adding a host again opens the others' packet filters for it, which may be what is amiss.
        return all.add(Verdict::Warning, "cluster", "it has no quorum: most of its members do not answer", help);
    };
    let names = |names: Vec<&str>| names.join(", ");
    // That this one answers is seen, whatever the others think.
    let is_away = |(name, member): &(&String, &Member)| {
        !["Online", EVACUATED].contains(&member.status.as_str()) && name.as_str() != host.as_str()
    };
    let away: Vec<&str> = members.iter().filter(is_away).map(|(name, _)| name.as_str()).collect();
    let is_known = |name: &str| name == host.as_str() || others.iter().any(|other| other.as_str() == name);
    let strange: Vec<&str> = members.keys().map(String::as_str).filter(|name| !is_known(name)).collect();
    let missing: Vec<&str> = others.iter().map(HostName::as_str).filter(|name| !members.contains_key(*name)).collect();
    if !strange.is_empty() {
        let help = "`sovereign host add` for one that is yours; `incus cluster remove --force` on this host for one that is gone";
        all.warn("cluster", format_args!("members that are no hosts of this stack: {}", names(strange)), help);
    }
    if !missing.is_empty() {
        let help = "run `sovereign host add` for them again";
        all.warn("cluster", format_args!("not in it: {}", names(missing)), help);
    }
    if away.is_empty() {
        let of = |is_evacuated: bool| {
            let of = members.iter().filter(|(_, member)| (member.status == EVACUATED) == is_evacuated);
            names(of.map(|(name, _)| name.as_str()).collect())
        };
        return match of(true).as_str() {
            "" => all.fine("cluster", format_args!("members that answer: {}", of(false))),
            evacuated => all
                .fine("cluster", format_args!("members that answer: {}; evacuated on purpose: {evacuated}", of(false))),
        };
    }
    let sentence = format!("{} of {} members do not answer: {}", away.len(), members.len(), names(away));
    let help = format!(
        "look again in a minute: one that is lost delays the heartbeats of others; gone for good: \
         `sovereign host remove {datacenter}/NAME --forget`"
    );
    all.warn("cluster", sentence, help);
}

fn version_of_incus(version: &str, all: &mut Findings) {
    // An epoch of Debian's comes before a colon.
    let number = version.rsplit(':').next().unwrap_or_default();
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let major = parts.next().flatten();
    let minor = parts.next().flatten().unwrap_or(0);
    match major {
        Some(major) if (major, minor) >= OLDEST_INCUS => all.fine("incus", number),
        _ => all.refuse(
            "incus",
            format_args!("{version} is too old: {}.{} or newer is driven", OLDEST_INCUS.0, OLDEST_INCUS.1),
            "take Debian's: `apt-get install incus-base` (on Debian 12 from bookworm-backports)",
        ),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
