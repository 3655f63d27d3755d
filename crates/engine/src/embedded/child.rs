//! One process of a unit, held by a process descriptor (pidfd_open(2)), so that no signal ever reaches another
//! process that was given its id.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::proc::Identity;

/// Has the runtime watch a descriptor for being readable.
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "unsound only for types whose descriptor can change; this one owns a single one")]
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// It was the child of an earlier supervisor, and only its parent is told.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::from_named_raw(*number) {
                Some(Signal::KILL) => f.write_str("killed (SIGKILL)"),
                Some(Signal::TERM) => f.write_str("terminated (SIGTERM)"),
                Some(Signal::SEGV) => f.write_str("crashed (SIGSEGV)"),
                Some(Signal::ABORT) => f.write_str("aborted (SIGABRT)"),
                _ => write!(f, "signal {number}"),
            },
            Self::Unknown => f.write_str("ended (not seen by this supervisor)"),
        }
    }
}

/// A running process of a unit, leader of a session of its own.
#[derive(Debug)]
pub(crate) struct Child {
    identity: Identity,
    pidfd: AsyncFd<OwnedFd>,
    exit: OnceCell<Exit>,
}

impl Child {
    /// A process that was just started and has not been waited for.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = i32::try_from(pid).map_err(|_| gone())?;
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid).ok_or_else(gone)?, PidfdFlags::empty())?;
        let identity = Identity::of(pid).ok_or_else(gone)?;
        Ok(Self { identity, pidfd: readable(pidfd)?, exit: OnceCell::new() })
    }

    /// A process an earlier supervisor left, if it still runs.
    pub(crate) fn adopt(identity: &Identity) -> Option<Self> {
        let child = Self::open(u32::try_from(identity.pid).ok()?).ok()?;
        (child.identity == *identity).then_some(child)
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// Waits for its end, and ends what it left behind in its session. Can be waited for again.
    pub(crate) async fn ended(&self) -> Exit {
        if let Some(exit) = self.exit.get() {
            return *exit;
        }
        // Readable when it has ended. An error can only mean that the runtime is shutting down.
        drop(self.pidfd.readable().await);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (_, Some(number)) => Exit::Signal(number),
                _ => Exit::Unknown,
            },
            // Not our child.
            Ok(None) | Err(_) => Exit::Unknown,
        };
        self.end_orphans();
        *self.exit.get_or_init(|| exit)
    }

    fn end_orphans(&self) {
        for pid in self.identity.orphans() {
            if let Some(pid) = Pid::from_raw(pid) {
                // Gone by itself is as good.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Asks it to end, and after `grace` ends it.
    pub(crate) async fn stop(&self, grace: Duration) -> Exit {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::TERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.ended()).await {
            return exit;
        }
        tracing::warn!(pid = self.pid(), ?grace, "did not stop in time and is killed");
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.ended().await
    }
}
