//! What would make a run fail, found before anything starts.
//!
//! Promise: every problem is reported at once, each with its owner or its numbers; nothing is changed.
//!
//! Left out: what building an image needs (the images room looks at that) and whether the stack is sensible (the model).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sovereign_model::StateFolder;
use sovereign_model::unit::Health;
use sovereign_plan::Wanted;

use crate::embedded::{ListenError, SupervisorStatus, try_listen};

/// Room a stack's state needs to begin with: databases, logs, a first copy of the pages.
pub const STATE_BYTES: u64 = 200 * 1024 * 1024;
/// Memory an application server needs to start well (Ghost settles at about 200 MB and needs more while it boots).
pub const APPLICATION_BYTES: u64 = 300 * 1024 * 1024;
/// Memory an edge needs.
pub const EDGE_BYTES: u64 = 30 * 1024 * 1024;

/// Something that has to be mended first.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// An address cannot be listened on.
    #[error(transparent)]
    Address(#[from] ListenError),
    /// The file system is full or nearly so.
    #[error("{} has {} MB left, {} MB are needed", folder.display(), available >> 20, needed >> 20)]
    Disk {
        /// Where.
        folder: PathBuf,
        /// Bytes left.
        available: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// There is too little memory.
    #[error("{} MB of memory are available, {} MB are needed", available >> 20, needed >> 20)]
    Memory {
        /// Bytes available.
        available: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// A folder cannot be written to.
    #[error("cannot write to {}", folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Problem {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Address(error) => return error.help(),
            Self::Disk { folder, .. } => format!("free some space on the file system of {}", folder.display()),
            Self::Memory { .. } => "stop other programs, or declare fewer sites on this machine".to_owned(),
            Self::Unwritable { folder, .. } => {
                format!("make {} writable for this user, or name another state folder", folder.display())
            }
        })
    }
}

/// Everything that stands in the way of running here what is `wanted` with state in `state`. What `running` holds or runs
/// already is not asked for again.
pub fn check(wanted: &Wanted, state: &StateFolder, running: Option<&SupervisorStatus>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let units = || running.into_iter().flat_map(|status| &status.units);
    let ours: BTreeSet<SocketAddr> = units().flat_map(|unit| &unit.sockets).map(|socket| socket.address).collect();
    let mut needed = 0;
    let all = wanted.datacenters.values().flat_map(|datacenter| &datacenter.units);
    let here = all.filter_map(|(name, unit)| Some((name, unit.runs.as_unit().filter(|unit| unit.host.is_none())?)));
    for (name, unit) in here {
        for socket in unit.sockets.iter().filter(|socket| !ours.contains(&socket.address)) {
            problems.extend(try_listen(socket.address).err().map(Problem::from));
        }
        if !units().any(|running| running.name == *name && running.pid.is_some()) {
            needed += match unit.health {
                Health::HttpUnix { .. } => APPLICATION_BYTES,
                Health::Control { .. } | Health::Alive => EDGE_BYTES,
            };
        }
    }
    if let Some(available) = available_memory().filter(|available| *available < needed) {
        problems.push(Problem::Memory { available, needed });
    }
    let folder = existing(state.path());
    if let Err(errno) = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
        problems.push(Problem::Unwritable { folder: folder.to_owned(), source: errno.into() });
    }
    if let Ok(disk) = rustix::fs::statvfs(folder) {
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if available < STATE_BYTES {
            problems.push(Problem::Disk { folder: folder.to_owned(), available, needed: STATE_BYTES });
        }
    }
    problems
}

/// The nearest folder on the way up that exists: where a new one would be made.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

/// `MemAvailable` of `/proc/meminfo` (proc_meminfo(5)), in bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        assert!(available_memory().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_folder_that_is_to_be_made_is_looked_for_upwards() {
        assert_eq!(existing(Path::new("/proc/self/none/of/these")), Path::new("/proc/self"));
    }
}
