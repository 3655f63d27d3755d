//! What `/proc` says about processes and about who listens where (proc(5)).
//!
//! Everything here is a guess the moment it is read; a process is told from a later one with the same id by its
//! [`Identity`].

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process, told apart from every other one this machine has run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start.
    pub(crate) start: u64,
    /// Which boot.
    pub(crate) boot: String,
}

impl Identity {
    /// Of a process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid).filter(Stat::lives)?;
        Some(Self { pid, start: stat.start, boot: boot_id()? })
    }

    /// Whether this very process still runs; a zombie does not.
    pub(crate) fn lives(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Processes of the session this process led that outlived it. Empty while it lives, and when its id has been
    /// given to another.
    pub(crate) fn orphans(&self) -> Vec<i32> {
        if boot_id().as_ref() != Some(&self.boot) || Stat::of(self.pid).is_some_and(|stat| stat.lives()) {
            return Vec::new();
        }
        let of_session = |pid: &i32| Stat::of(*pid).is_some_and(|s| s.session == self.pid && s.lives());
        all_pids().filter(|pid| *pid != self.pid).filter(of_session).collect()
    }
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    state: char,
    session: i32,
    start: u64,
    cpu_ticks: u64,
}

impl Stat {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            session: fields.get(3)?.parse().ok()?,
            start: number(19)?,
            cpu_ticks: number(11)? + number(12)?,
        })
    }

    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory, in bytes; what processes share is counted in each.
    pub rss_bytes: u64,
    /// Memory it uses alone, and its part of what it shares with others, in bytes: these can be added up. The same as
    /// [`rss_bytes`](Self::rss_bytes) where it cannot be told.
    #[serde(default)]
    pub pss_bytes: u64,
    /// Processor time since its start, in milliseconds.
    pub cpu_ms: u64,
}

impl Usage {
    /// Of a process and of all that run in its session.
    pub(crate) fn of_session(leader: i32) -> Self {
        all_pids()
            .filter(|pid| *pid == leader || Stat::of(*pid).is_some_and(|stat| stat.session == leader))
            .map(Self::of)
            .fold(Self::default(), |sum, one| Self {
                rss_bytes: sum.rss_bytes + one.rss_bytes,
                pss_bytes: sum.pss_bytes + one.pss_bytes,
                cpu_ms: sum.cpu_ms + one.cpu_ms,
            })
    }

    /// Of one process; nothing when it is gone.
    pub(crate) fn of(pid: i32) -> Self {
        let ticks = Stat::of(pid).map_or(0, |stat| stat.cpu_ticks);
        let pages = fs::read_to_string(format!("/proc/{pid}/statm"))
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        let rss_bytes = pages * rustix::param::page_size() as u64;
        Self {
            rss_bytes,
            pss_bytes: proportional(pid).unwrap_or(rss_bytes),
            cpu_ms: ticks * 1000 / rustix::param::clock_ticks_per_second().max(1),
        }
    }
}

/// `Pss` of `/proc/<pid>/smaps_rollup` (proc_pid_smaps(5)), in bytes.
fn proportional(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// How long ago a process started, as far as the clock of this machine tells.
pub(crate) fn age(identity: &Identity) -> Option<Duration> {
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_ascii_whitespace().next()?.parse().ok()?;
    let started = identity.start as f64 / rustix::param::clock_ticks_per_second() as f64;
    Duration::try_from_secs_f64(uptime - started).ok()
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortOwner {
    /// Its process id.
    pub pid: i32,
    /// Its program's name.
    pub program: String,
}

/// Who listens on `address`, or on the same port of all addresses. `None` when nobody does, or when the process
/// belongs to another user and this one may not look.
pub fn port_owner(address: SocketAddr) -> Option<PortOwner> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listeners(&text))
        .filter(|(listens, _)| overlaps(*listens, address))
        .map(|(_, inode)| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    all_pids().find_map(|pid| {
        descriptor_of(pid, |target| inodes.iter().any(|inode| inode == target))?;
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        Some(PortOwner { pid, program })
    })
}

/// Where these processes listen for TCP; those of other users that this one may not look at are left out.
pub fn listens(pids: &[i32]) -> BTreeSet<SocketAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let all = tables.iter().flat_map(|table| listeners(table));
    let is_theirs = |inode: u64| {
        let socket = format!("socket:[{inode}]");
        pids.iter().any(|pid| descriptor_of(*pid, |target| target == socket).is_some())
    };
    all.filter(|(_, inode)| is_theirs(*inode)).map(|(address, _)| address).collect()
}

/// The number a process knows the listening socket of exactly this address by.
pub(crate) fn listening_descriptor(pid: i32, address: SocketAddr) -> Option<i32> {
    let tables = fs::read_to_string("/proc/net/tcp").ok()? + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let (_, inode) = listeners(&tables).into_iter().find(|(listens, _)| *listens == address)?;
    let wanted = format!("socket:[{inode}]");
    descriptor_of(pid, |target| target == wanted)
}

fn descriptor_of(pid: i32, wanted: impl Fn(&str) -> bool) -> Option<i32> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        if wanted(target.to_str()?) { entry.file_name().to_str()?.parse().ok() } else { None }
    })
}

fn overlaps(listens: SocketAddr, wanted: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    listens.port() == wanted.port() && (listens.ip() == wanted.ip() || any(listens) || any(wanted))
}

/// Address and inode of each listening socket in a table of `/proc/net`.
fn listeners(table: &str) -> Vec<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let inode = fields.get(9)?.parse().ok()?;
            (*fields.get(3)? == LISTEN).then_some((parse_address(fields.get(1)?)?, inode))
        })
        .collect()
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's byte order, the port as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
        .map(|at| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let ip = match words?.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(*v4)),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_a_later_one_with_its_id_would_be_another() {
        let me = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(me.lives());
        assert!(!Identity { start: me.start + 1, ..me.clone() }.lives());
        assert!(!Identity { boot: "another".to_owned(), ..me }.lives());
        assert!(Usage::of(std::process::id().cast_signed()).rss_bytes > 0);
    }

    #[test]
    fn a_program_name_may_look_like_fields() {
        let text = "7 (a) b (c) S 1 7 5 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 4711 0 0";
        assert_eq!(Stat::parse(text).unwrap(), Stat { state: 'S', session: 5, start: 4711, cpu_ticks: 42 });
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn the_owner_of_a_port_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let owner = port_owner(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            assert_eq!(owner.pid, std::process::id().cast_signed());
        }
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        if cfg!(target_endian = "little") {
            assert_eq!(parse_address("0100007F:1F90").unwrap(), "127.0.0.1:8080".parse().unwrap());
            let loopback = parse_address("00000000000000000000000001000000:0050").unwrap();
            assert_eq!(loopback, "[::1]:80".parse().unwrap());
        }
        assert_eq!(parse_address("0100:1F90:1"), None);
    }
}
