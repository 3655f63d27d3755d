//! Listening sockets that a process is given when it starts, by name: the protocol of systemd's sd_listen_fds(3).
//!
//! The descriptors are 3, 4, 5 ...; `LISTEN_FDS` says how many, `LISTEN_FDNAMES` their names (joined by colons), and
//! `LISTEN_PID`, where it is set, for which process they are meant. Any kind of descriptor can be passed this way, not
//! only listening sockets: [`take`] gives it as it is.
//!
//! * The **receiving** side: [`take_listener`], [`take_listeners`], [`take_unix_listener`], [`take`]. Each descriptor can be taken once, and is
//!   closed on exec from the first question on, so that it does not leak into children. The variables stay in this
//!   process's environment, because removing one is not sound once threads run; children of ours get a cleared one.
//! * The **giving** side: [`Handover`]. It does not set `LISTEN_PID`, since the number is not known before the child
//!   exists; a shim that the child runs first sets it to its own when it matters ([`LISTEN_PID`]).
//!
//! `Handover` stands on the crate `command-fds`, which wraps the renumbering after `fork` in a safe interface.

use std::collections::BTreeMap;
use std::env;
use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::io::FdFlags;
use rustix::net::AddressFamily;

/// How many descriptors are passed.
pub const LISTEN_FDS: &str = "LISTEN_FDS";
/// Their names, joined by colons.
pub const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
/// The process they are meant for.
pub const LISTEN_PID: &str = "LISTEN_PID";

/// The first passed descriptor: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// More than a host has sockets, less than descriptors: a wrong number is noticed before it is used.
const MOST: usize = 512;

/// A socket was not passed as it should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketsError {
    /// A variable does not read as sd_listen_fds(3) says.
    #[error("{variable}={value:?} cannot be understood")]
    Variable {
        /// Which.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The sockets are for another process.
    #[error("the passed sockets are meant for process {meant}, this is {this}")]
    OtherProcess {
        /// The process in `LISTEN_PID`.
        meant: u32,
        /// This process.
        this: u32,
    },
    /// The numbers of descriptors and of names differ.
    #[error("{descriptors} sockets are passed with {names} names")]
    Count {
        /// `LISTEN_FDS`.
        descriptors: usize,
        /// Parts of `LISTEN_FDNAMES`.
        names: usize,
    },
    /// The descriptor is not open in this process.
    #[error("the passed socket {name:?} (descriptor {descriptor}) is not open")]
    NotOpen {
        /// Its name.
        name: String,
        /// Its number.
        descriptor: RawFd,
    },
    /// No socket of that name is passed, or it was taken already.
    #[error("no socket {name:?} is passed (passed and not yet taken: {})", if left.is_empty() { "none".into() } else { left.join(", ") })]
    NotPassed {
        /// The name asked for.
        name: String,
        /// The names that could be.
        left: Vec<String>,
    },
    /// A socket of another kind, or one that does not listen.
    #[error("the passed socket {name:?} is not a listening {kind} socket")]
    Kind {
        /// Its name.
        name: String,
        /// What it should be.
        kind: &'static str,
    },
    /// A name that `LISTEN_FDNAMES` cannot carry.
    #[error("{name:?} cannot be a socket's name (1 to 255 printable ASCII characters, no colon)")]
    Name {
        /// The name.
        name: String,
    },
}

impl SocketsError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotPassed { .. } | Self::OtherProcess { .. } | Self::NotOpen { .. } => Some(
                "daemons of a stack are started by its supervisor, which passes their sockets: use `sovereign up`"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// What the environment says is passed: the names of descriptors 3, 4, 5 ... in order.
///
/// # Errors
/// When the variables contradict each other, cannot be understood, or are meant for another process.
pub fn announced(variable: impl Fn(&str) -> Option<String>, this: u32) -> Result<Vec<String>, SocketsError> {
    let Some(count) = variable(LISTEN_FDS) else { return Ok(Vec::new()) };
    if let Some(value) = variable(LISTEN_PID) {
        match value.parse() {
            Ok(meant) if meant == this => {}
            Ok(meant) => return Err(SocketsError::OtherProcess { meant, this }),
            Err(_) => return Err(SocketsError::Variable { variable: LISTEN_PID, value }),
        }
    }
    let Some(descriptors) = count.parse().ok().filter(|count| *count <= MOST) else {
        return Err(SocketsError::Variable { variable: LISTEN_FDS, value: count });
    };
    if descriptors == 0 {
        return Ok(Vec::new());
    }
    let names: Vec<String> = variable(LISTEN_FDNAMES).unwrap_or_default().split(':').map(str::to_owned).collect();
    if names.len() != descriptors {
        return Err(SocketsError::Count { descriptors, names: names.len() });
    }
    Ok(names)
}

type Passed = Mutex<Vec<(String, OwnedFd)>>;

/// The passed descriptors that nobody has taken yet.
fn passed() -> Result<&'static Passed, SocketsError> {
    static PASSED: OnceLock<Result<Passed, SocketsError>> = OnceLock::new();
    PASSED.get_or_init(own_passed).as_ref().map_err(Clone::clone)
}

fn own_passed() -> Result<Passed, SocketsError> {
    let names =
        announced(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()), std::process::id())?;
    let mut owned = Vec::with_capacity(names.len());
    for (descriptor, name) in (FIRST..).zip(names) {
        let not_open = || SocketsError::NotOpen { name: name.clone(), descriptor };
        PathBuf::from(format!("/proc/self/fd/{descriptor}")).read_link().map_err(|_| not_open())?;
        #[expect(unsafe_code, reason = "the only way to own an inherited descriptor")]
        // SAFETY: the descriptor is open (checked above), and was so before this process opened anything: whoever set
        // LISTEN_FDS gave it to us. This function runs once per process, so that nothing else here owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(descriptor) };
        rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(|_| not_open())?;
        owned.push((name, fd));
    }
    Ok(Mutex::new(owned))
}

/// The names of passed descriptors that nobody has taken yet, in order.
pub fn names() -> Result<Vec<String>, SocketsError> {
    let passed = passed()?.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(passed.iter().map(|(name, _)| name.clone()).collect())
}

/// Takes the passed descriptor `name`, whatever it is. Of several with one name, the first.
pub fn take(name: &str) -> Result<OwnedFd, SocketsError> {
    let mut passed = passed()?.lock().unwrap_or_else(PoisonError::into_inner);
    match passed.iter().position(|(found, _)| found == name) {
        Some(at) => Ok(passed.remove(at).1),
        None => {
            let left = passed.iter().map(|(name, _)| name.clone()).collect();
            Err(SocketsError::NotPassed { name: name.to_owned(), left })
        }
    }
}

/// Takes the passed TCP listener `name`. It does not block: ready for [`tokio::net::TcpListener::from_std`].
pub fn take_listener(name: &str) -> Result<TcpListener, SocketsError> {
    let listener = TcpListener::from(checked(take(name)?, name, "TCP", &[AddressFamily::INET, AddressFamily::INET6])?);
    let set = listener.set_nonblocking(true);
    set.map_err(|_| SocketsError::Kind { name: name.to_owned(), kind: "TCP" }).map(|()| listener)
}

/// Takes every passed TCP listener `name`, in order; there may be none.
pub fn take_listeners(name: &str) -> Result<Vec<TcpListener>, SocketsError> {
    let count = names()?.iter().filter(|passed| *passed == name).count();
    (0..count).map(|_| take_listener(name)).collect()
}

/// Takes the passed unix listener `name`. It does not block.
pub fn take_unix_listener(name: &str) -> Result<UnixListener, SocketsError> {
    let listener = UnixListener::from(checked(take(name)?, name, "unix", &[AddressFamily::UNIX])?);
    let set = listener.set_nonblocking(true);
    set.map_err(|_| SocketsError::Kind { name: name.to_owned(), kind: "unix" }).map(|()| listener)
}

fn checked(fd: OwnedFd, name: &str, kind: &'static str, families: &[AddressFamily]) -> Result<OwnedFd, SocketsError> {
    let listens = rustix::net::sockopt::socket_acceptconn(fd.as_fd()).unwrap_or(false);
    let family = rustix::net::sockopt::socket_domain(fd.as_fd());
    if listens && family.is_ok_and(|family| families.contains(&family)) {
        Ok(fd)
    } else {
        Err(SocketsError::Kind { name: name.to_owned(), kind })
    }
}

/// Descriptors to give to a child, by name.
#[derive(Debug, Default)]
pub struct Handover(Vec<(String, OwnedFd)>);

impl Handover {
    /// Nothing to give yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `descriptor` too, under `name`. The child has a duplicate of its own after [`attach`](Self::attach).
    pub fn with(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Result<Self, SocketsError> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if name.is_empty() || name.len() > 255 || !printable {
            return Err(SocketsError::Name { name: name.to_owned() });
        }
        self.0.push((name.to_owned(), descriptor.into()));
        Ok(self)
    }

    /// The variables that announce what is given.
    pub fn variables(&self) -> BTreeMap<&'static str, String> {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        BTreeMap::from([(LISTEN_FDS, names.len().to_string()), (LISTEN_FDNAMES, names.join(":"))])
    }

    /// Makes `command` pass the descriptors as 3, 4, 5 ... and announce them. Call after
    /// [`env_clear`](Command::env_clear), which would clear the announcement too. Works for spawning and for
    /// `CommandExt::exec`; for tokio's command, through `as_std_mut`. All other descriptors of ours are closed on exec.
    pub fn attach(self, command: &mut Command) {
        command.env_remove(LISTEN_PID).envs(self.variables());
        let mappings: Vec<FdMapping> =
            (FIRST..).zip(self.0).map(|(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).expect("the numbers 3, 4, 5 ... do not collide");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Vec<String>, SocketsError> {
        let variables: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        announced(|name| variables.get(name).map(|value| (*value).to_owned()), 77)
    }

    #[test]
    fn names_come_in_order() {
        assert_eq!(from(&[]), Ok(vec![]));
        assert_eq!(from(&[(LISTEN_FDS, "0")]), Ok(vec![]));
        let two = [(LISTEN_FDS, "2"), (LISTEN_FDNAMES, "https:control")];
        assert_eq!(from(&two), Ok(vec!["https".into(), "control".into()]));
    }

    #[test]
    fn sockets_of_another_process_are_not_taken() {
        let ours = [(LISTEN_FDS, "1"), (LISTEN_FDNAMES, "https"), (LISTEN_PID, "77")];
        assert_eq!(from(&ours), Ok(vec!["https".into()]));
        let theirs = [(LISTEN_FDS, "1"), (LISTEN_FDNAMES, "https"), (LISTEN_PID, "78")];
        assert_eq!(from(&theirs), Err(SocketsError::OtherProcess { meant: 78, this: 77 }));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for pairs in [
            &[(LISTEN_FDS, "-1")][..],
            &[(LISTEN_FDS, "many")],
            &[(LISTEN_FDS, "1000000")],
            &[(LISTEN_FDS, "2"), (LISTEN_FDNAMES, "one")],
            &[(LISTEN_FDS, "1"), (LISTEN_FDNAMES, "one"), (LISTEN_PID, "me")],
        ] {
            assert!(from(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_name_with_a_colon_cannot_be_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Handover::new().with("a:b", listener).is_err());
    }
}
