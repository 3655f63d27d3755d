//! The listening sockets a supervisor holds, each known by its address.
//!
//! Promise: an address is bound once and stays bound from then on until nobody wants it, across deaths of units, of
//! the supervisor and of the keeper. A refusal names who has the address.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::keeper::Keeper;
use super::proc::{self, PortOwner};

/// Connections that may wait while nobody accepts: a unit's restart under load must not refuse any.
const BACKLOG: i32 = 4096;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error("{address} is taken{}", owner_phrase(.owner.as_ref()))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Who has it, when this user may know.
        owner: Option<PortOwner>,
    },
    /// The kernel refuses.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

fn owner_phrase(owner: Option<&PortOwner>) -> String {
    owner.map(|owner| format!(" by {} (process {})", owner.program, owner.pid)).unwrap_or_default()
}

impl ListenError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Taken { owner: Some(owner), .. } => {
                format!("stop {} (process {}), or choose another port in the stack file", owner.program, owner.pid)
            }
            Self::Taken { owner: None, .. } => {
                "choose another port in the stack file; `ss -ltnp` as root shows who has this one".to_owned()
            }
            Self::Refused { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 are root's: choose a higher one in the stack file, or run as root".to_owned()
            }
            Self::Refused { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                "give an address of this machine; `ip address` lists them".to_owned()
            }
            Self::Refused { .. } => return None,
        })
    }
}

/// Binds and listens.
pub(crate) fn listen(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let open = || -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // Connections of an earlier run in TIME-WAIT do not stand in the way (socket(7)).
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|errno| match errno {
        rustix::io::Errno::ADDRINUSE => ListenError::Taken { address, owner: proc::port_owner(address) },
        errno => ListenError::Refused { address, source: errno.into() },
    })
}

/// Whether `address` could be listened on now.
///
/// # Errors
/// Who has it, or why not.
pub fn try_listen(address: SocketAddr) -> Result<(), ListenError> {
    listen(address).map(drop)
}

/// The sockets held now.
#[derive(Debug)]
pub(crate) struct Listeners {
    held: BTreeMap<SocketAddr, OwnedFd>,
}

impl Listeners {
    /// Those a keeper kept.
    pub(crate) fn from_kept(kept: BTreeMap<String, OwnedFd>) -> Self {
        let address = |(name, fd): (String, OwnedFd)| Some((name.parse().ok()?, fd));
        Self { held: kept.into_iter().filter_map(address).collect() }
    }

    /// Name for the keeper, and socket.
    pub(crate) fn for_keeper(&self) -> Vec<(String, &OwnedFd)> {
        self.held.iter().map(|(address, socket)| (address.to_string(), socket)).collect()
    }

    /// The socket of an address, bound now if it is not held.
    pub(crate) fn get(&mut self, address: SocketAddr, keeper: Option<&Keeper>) -> Result<&OwnedFd, ListenError> {
        if !self.held.contains_key(&address) {
            let socket = listen(address)?;
            self.hold(address, socket, keeper);
        }
        Ok(&self.held[&address])
    }

    /// Takes a copy of a listening socket out of a unit that has it: when supervisor and keeper died together, its
    /// units still serve. Where the kernel forbids it, the address is bound again when that unit has ended.
    pub(crate) fn take_from(&mut self, pid: i32, address: SocketAddr, keeper: Option<&Keeper>) -> io::Result<()> {
        if self.held.contains_key(&address) {
            return Ok(());
        }
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let number = proc::listening_descriptor(pid, address).ok_or_else(not_found)?;
        let process = Pid::from_raw(pid).ok_or_else(not_found)?;
        let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
        let socket = rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?;
        self.hold(address, socket, keeper);
        Ok(())
    }

    fn hold(&mut self, address: SocketAddr, socket: OwnedFd, keeper: Option<&Keeper>) {
        if let Some(keeper) = keeper {
            // A dead keeper is replaced by one that gets all that is held.
            drop(keeper.keep(&address.to_string(), &socket));
        }
        self.held.insert(address, socket);
    }

    /// Lets go of all but `wanted`.
    pub(crate) fn retain(&mut self, wanted: &BTreeSet<SocketAddr>, keeper: Option<&Keeper>) {
        self.held.retain(|address, _| {
            let keep = wanted.contains(address);
            if let (false, Some(keeper)) = (keep, keeper) {
                drop(keeper.forget(&address.to_string()));
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_names_its_owner() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.help().unwrap().contains(&std::process::id().to_string()), "{error}");
        assert!(matches!(error, ListenError::Taken { owner: Some(owner), .. }
            if owner.pid == std::process::id().cast_signed()));
    }

    #[test]
    fn a_socket_is_bound_once_and_let_go_when_nobody_wants_it() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut listeners = Listeners::from_kept(BTreeMap::new());
        listeners.get(free, None).unwrap();
        listeners.get(free, None).unwrap();
        listeners.retain(&BTreeSet::from([free]), None);
        std::net::TcpStream::connect(free).unwrap();
        listeners.retain(&BTreeSet::new(), None);
        assert!(std::net::TcpStream::connect(free).is_err());
    }
}
