//! From a host's words to [`Facts`].

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Asked, Facts, Incus, Listener, Member, disk};
use crate::marker::Found;
use crate::ready::PORT;

/// The first line. A shell may print things of its own before it.
const FIRST: &str = "sovereign-facts\t1";
/// The last line, by which a text that was cut off is known.
const LAST: &str = "end";
/// More of one kind are not believed.
const MOST: usize = 1000;
/// Longer texts are cut: names and versions are not.
const LONGEST_TEXT: usize = 200;

/// The text is not what the script prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFacts {
    /// It does not begin as it should.
    #[error("its answer does not begin with {FIRST:?}")]
    Beginning,
    /// It was cut off.
    #[error("its answer ends in the middle")]
    CutOff,
    /// A value is not what it can be.
    #[error("it says {value:?} where {key} belongs")]
    Value {
        /// What it should be.
        key: &'static str,
        /// What it is.
        value: String,
    },
}

impl Facts {
    /// Reads what the script printed.
    ///
    /// # Errors
    /// When it was not printed by the script, or not all of it.
    pub fn parse(answer: &[u8], asked: Asked) -> Result<Self, NotFacts> {
        let text = String::from_utf8_lossy(answer);
        let mut lines = text.lines();
        if !lines.any(|line| line == FIRST) {
            return Err(NotFacts::Beginning);
        }
        let mut facts = Self::default();
        let mut listeners = Vec::new();
        let mut sees_ports = false;
        let mut devices = BTreeSet::new();
        for line in lines {
            if line == LAST {
                listeners.sort();
                listeners.dedup();
                facts.listeners = sees_ports.then_some(listeners);
                facts.disks.retain(|disk| devices.contains(disk.path.as_str()));
                return Ok(facts);
            }
            let Some((key, value)) = line.split_once('\t') else { continue };
            match key {
                "sees-ports" => sees_ports = value == "yes",
                "device" if devices.len() < MOST => drop(devices.insert(value)),
                "listens" if listeners.len() < MOST => listeners.extend(Listener::parse(value)),
                _ => facts.note(key, value, asked)?,
            }
        }
        Err(NotFacts::CutOff)
    }

    fn note(&mut self, key: &str, value: &str, asked: Asked) -> Result<(), NotFacts> {
        match key {
            "uid" => self.uid = Some(number("uid", value)?),
            "architecture" => self.architecture = short(value),
            "kernel" => self.kernel = short(value),
            "os-id" => self.system.id = short(value),
            "os-version" => self.system.version = short(value),
            "os-codename" => self.system.codename = short(value),
            "os-name" => self.system.name = short(value),
            "cores" => self.cores = value.parse().ok(),
            "memory-kib" => self.memory = value.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)),
            "memory-available-kib" => {
                self.memory_available = value.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
            }
            "disk-free" => self.disk_free = value.parse().ok(),
            "systemd" => self.systemd = value == "yes",
            "virtualization" => self.virtualization = short(value),
            "clock" => self.clock_off = Some(off(number("clock", value)?, asked)?),
            "clock-synchronized" => self.clock_synchronized = ["yes", "no"].contains(&value).then_some(value == "yes"),
            "user-namespaces" => self.features.user_namespaces = value == "yes",
            "cgroup2" => self.features.cgroup2 = value == "yes",
            "nftables" => self.features.nftables = value == "yes",
            "overlay" => self.features.overlay = value == "yes",
            "btrfs" => self.features.btrfs = value == "yes",
            "inotify-instances" => self.inotify_instances = value.parse().ok(),
            "disks" if !value.is_empty() => {
                let wrong = || NotFacts::Value { key: "a list of disks", value: short(value) };
                self.disks = disk::parse(value).ok_or_else(wrong)?;
            }
            // The client's address and port, then ours.
            "ssh-connection" => {
                let mut ours = value.split(' ').skip(2);
                self.address = ours.next().and_then(|address| address.parse().ok());
                self.ssh_port = ours.next().and_then(|port| port.parse().ok());
            }
            "manager" if self.managers.len() < MOST => drop(self.managers.insert(short(value))),
            "firewall" if self.firewalls.len() < MOST => drop(self.firewalls.insert(short(value))),
            "table" if self.tables.len() < MOST => drop(self.tables.insert(short(value))),
            "package" if self.packages.len() < MOST => {
                if let Some((name, version)) = value.split_once(' ') {
                    self.packages.insert(short(name), short(version));
                }
            }
            "incus-server" => {
                let incus = self.incus.get_or_insert_default();
                let server = serde_json::from_str::<Server>(value).unwrap_or_default();
                incus.version = short(&server.environment.server_version);
                incus.api_address = short(&server.config.address);
                // A certificate is left where joining was cut off.
                incus.clustered = server.environment.server_clustered.unwrap_or(incus.clustered);
            }
            "incus-clustered" => self.incus.get_or_insert_default().clustered = value == "yes",
            "incus-members" => {
                let members = serde_json::from_str::<Vec<ServerMember>>(value).ok();
                let member = |member: ServerMember| {
                    (short(&member.server_name), Member { url: short(&member.url), status: short(&member.status) })
                };
                let members = members.map(|members| members.into_iter().take(MOST).map(member).collect());
                self.incus.get_or_insert_default().members = members;
            }
            "incus-pools" => self.incus.get_or_insert_default().pools = names(value),
            "incus-projects" => self.incus.get_or_insert_default().projects = names(value),
            "marker" => self.marker = Some(Found::parse(value)),
            _ => {}
        }
        Ok(())
    }
}

/// What concerns us of Incus' word about itself.
#[derive(Debug, Default, Deserialize)]
struct Server {
    #[serde(default)]
    environment: ServerEnvironment,
    #[serde(default)]
    config: ServerConfig,
}

#[derive(Debug, Default, Deserialize)]
struct ServerEnvironment {
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    server_clustered: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ServerMember {
    server_name: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
struct ServerConfig {
    #[serde(rename = "core.https_address", default)]
    address: String,
}

impl Incus {
    /// Whether its API listens on this address, on the port of clusters, and on no other.
    pub fn listens_on(&self, ip: IpAddr) -> bool {
        self.api_address.parse() == Ok(SocketAddr::from((ip, PORT)))
    }

    /// Whether somebody made something of it: a pool or a project beside the one there always is.
    pub fn is_in_use(&self) -> bool {
        self.clustered || !self.pools.is_empty() || self.projects.iter().any(|project| project != "default")
    }
}

fn names(value: &str) -> BTreeSet<String> {
    value.split(' ').filter(|name| !name.is_empty()).take(MOST).map(short).collect()
}

fn short(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect::<String>().trim().to_owned()
}

fn number<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T, NotFacts> {
    value.parse().map_err(|_| NotFacts::Value { key, value: short(value) })
}

/// How far a clock is off at least, when it showed `clock` at some time between question and answer.
fn off(clock: f64, asked: Asked) -> Result<f64, NotFacts> {
    if !clock.is_finite() {
        return Err(NotFacts::Value { key: "clock", value: clock.to_string() });
    }
    Ok(if clock < asked.before {
        clock - asked.before
    } else if clock > asked.after {
        clock - asked.after
    } else {
        0.0
    })
}
