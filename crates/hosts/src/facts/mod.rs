//! What a host is: gathered by one script over one connection, parsed as a stranger's words.
//!
//! The script prints lines of a key, a tab and a value, from `sovereign-facts 1` to `end`. What it cannot find out it
//! leaves out, and so is unknown here: [`findings`](crate::findings::findings) says what that means. Gathering changes
//! nothing on the host.

mod disk;
mod listener;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use disk::Disk;
pub use listener::{Listener, Protocol};
pub use parse::NotFacts;

use crate::connection::Connection;
use crate::error::SshError;
use crate::marker::Found;
use crate::run::Run;

/// A host has less to say.
const LONGEST_ANSWER: usize = 1 << 20;
/// Disks that sleep have to wake up, and a busy Incus to answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is known of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// Who we are there: 0 is root.
    pub uid: Option<u32>,
    /// As the kernel calls it: `x86_64`.
    pub architecture: String,
    /// The operating system.
    pub system: System,
    /// The kernel's release.
    pub kernel: String,
    /// How many processors.
    pub cores: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of it that nobody uses.
    pub memory_available: Option<u64>,
    /// Bytes free where Incus keeps what it keeps.
    pub disk_free: Option<u64>,
    /// Whether systemd runs it.
    pub systemd: bool,
    /// What it runs in, by systemd: `none`, `kvm`, `lxc`.
    pub virtualization: String,
    /// What the kernel can do.
    pub features: Features,
    /// How many inotify instances a user may have.
    pub inotify_instances: Option<u64>,
    /// By how many seconds its clock is fast (or slow, when negative), at least: what the time of the conversation can
    /// explain is not counted.
    pub clock_off: Option<f64>,
    /// Whether it says that its clock is kept right by others.
    pub clock_synchronized: Option<bool>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Who listens; `None` when that cannot be seen there.
    pub listeners: Option<Vec<Listener>>,
    /// Its own address that this connection came in on: one of its network, whatever leads to it from here.
    pub address: Option<IpAddr>,
    /// The port of its SSH server that this connection came in on.
    pub ssh_port: Option<u16>,
    /// What else manages things there: `docker`, `kubernetes`, `lxd`, `proxmox`.
    pub managers: BTreeSet<String>,
    /// What else filters packets there: `ufw`, `firewalld`.
    pub firewalls: BTreeSet<String>,
    /// The tables of nftables, `inet filter` say.
    pub tables: BTreeSet<String>,
    /// Installed packages that concern us, and their versions.
    pub packages: BTreeMap<String, String>,
    /// An Incus that was started once.
    pub incus: Option<Incus>,
    /// Whose it is.
    #[serde(skip)]
    pub marker: Option<Found>,
}

/// An operating system, as `/etc/os-release` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// `debian`.
    pub id: String,
    /// `12`.
    pub version: String,
    /// `bookworm`.
    pub codename: String,
    /// For people.
    pub name: String,
}

/// What a kernel can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// User namespaces: containers without rights of root's.
    pub user_namespaces: bool,
    /// Control groups, version 2.
    pub cgroup2: bool,
    /// Packet filters by nftables.
    pub nftables: bool,
    /// The overlay file system.
    pub overlay: bool,
    /// The btrfs file system.
    pub btrfs: bool,
}

/// An Incus server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Incus {
    /// Its version.
    pub version: String,
    /// Where its API listens beside the socket; empty when nowhere.
    pub api_address: String,
    /// Whether it is in a cluster.
    pub clustered: bool,
    /// The members of that cluster, itself included. `None` when its database does not say.
    pub members: Option<BTreeMap<String, Member>>,
    /// Its storage pools.
    pub pools: BTreeSet<String>,
    /// Its projects.
    pub projects: BTreeSet<String>,
}

/// A member of a cluster, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Member {
    /// Where the others reach it.
    pub url: String,
    /// How it is, in Incus' word: `Online`.
    pub status: String,
}

impl Facts {
    /// Asks a host.
    ///
    /// # Errors
    /// When it does not answer, or says what cannot be understood.
    pub async fn gather(connection: &Connection) -> Result<Self, SshError> {
        let run = Run::new("say what it is", "sh").arg("-s").input(include_str!("facts.sh"));
        let before = now();
        let answer = connection.succeed(&run.answers_at_most(LONGEST_ANSWER).within(PATIENCE)).await?;
        let asked = Asked { before, after: now() };
        let nonsense =
            |error: NotFacts| SshError::Nonsense { host: connection.address().clone(), why: error.to_string() };
        Self::parse(&answer, asked).map_err(nonsense)
    }

    /// The disk of that name or path.
    pub fn disk(&self, path: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.path == path)
    }
}

/// Between which times on this machine a host was asked, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Before the question.
    pub before: f64,
    /// After the answer.
    pub after: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
