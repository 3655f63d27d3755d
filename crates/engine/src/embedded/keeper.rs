//! The keeper: a small process beside the supervisor that holds the same listening sockets and nothing else.
//!
//! Promise: when the supervisor dies without having said so, the keeper starts it again at once and gives it the
//! sockets; when the keeper dies, the supervisor starts a new one ([`Keeper`]) and gives it the sockets. So killing
//! either, whatever units die with it, never closes a listening socket: a reader's connection waits in the queue
//! instead of being refused.
//!
//! Why a process of its own: a socket lives as long as somebody holds it, and units may die at the same moment as
//! the supervisor. Why so little in it: what does almost nothing has almost no way to fail, and needs almost no
//! memory. Each side knows the other's death from the end of their channel, so neither has to be the other's parent.
//!
//! Left out: supervision. The keeper never looks at units.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::channel;

/// What a supervisor tells its keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Hold the descriptor that comes with this message under a name.
    Keep(String),
    /// Let go of it.
    Drop(String),
    /// Say what is held.
    List,
    /// End: the supervisor ends on purpose, or has another keeper.
    Leave,
    /// End, with a failure: the supervisor cannot run at all, and there is nothing to keep.
    GiveUp,
}

/// What a keeper answers to [`Order::List`].
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// One descriptor, beside this message.
    Kept(String),
    /// That was all.
    End {
        /// The keeper's process id.
        pid: u32,
    },
}

/// How this program is started again in each of its parts.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The program.
    pub(crate) path: PathBuf,
    /// Arguments that lead to the supervisor's entry, without the part to play.
    pub(crate) args: Vec<OsString>,
}

/// Which part a process of `sovereign supervise` plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The keeper, which starts a supervisor. What an operator or systemd starts.
    Keeper,
    /// A keeper for the supervisor at the other end of standard input.
    Relief,
    /// The supervisor, with its keeper at the other end of standard input.
    Supervisor,
    /// None of them: has the supervisor rest and waits for its end. For systemd, when the machine goes down.
    Rest,
}

impl Part {
    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Relief => "relief",
            Self::Supervisor => "supervisor",
            Self::Rest => "rest",
        }
    }
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Keeper, Self::Relief, Self::Supervisor, Self::Rest]
            .into_iter()
            .find(|part| part.word() == text)
            .ok_or_else(|| format!("{text:?} is none of keeper, relief, supervisor, rest"))
    }
}

impl Program {
    fn start(&self, part: Part, link: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(&self.args).arg("--part").arg(part.word()).stdin(Stdio::from(link));
        command.spawn()
    }

    /// Becomes the supervisor of this program, with `link` to its keeper.
    pub(crate) fn become_supervisor(&self, link: &OwnedFd) -> io::Error {
        if let Err(errno) = rustix::stdio::dup2_stdin(link) {
            return errno.into();
        }
        Command::new(&self.path).args(&self.args).arg("--part").arg(Part::Supervisor.word()).exec()
    }
}

/// The lock that says that a stack has a keeper: a second one would start a second supervisor.
#[derive(Debug)]
pub(crate) struct OnlyOne {
    file: File,
    held: bool,
}

impl OnlyOne {
    /// Tries to be the only keeper of the stack whose run folder this is.
    pub(crate) fn try_in(folder: &Path) -> io::Result<Self> {
        let path = folder.join("keeper.lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut one = Self { file, held: false };
        one.retry();
        Ok(one)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Tries again: the keeper before may be gone now.
    fn retry(&mut self) {
        let operation = FlockOperation::NonBlockingLockExclusive;
        self.held = self.held || rustix::fs::flock(&self.file, operation).is_ok();
    }
}

/// Runs as a keeper until told to leave. `link` leads to a running supervisor, or is `None` to start one.
pub(crate) fn keep(program: &Program, link: Option<OwnedFd>, mut one: OnlyOne) -> io::Result<()> {
    // Orphans of a dead supervisor come here instead of to a container's first process, which may not collect them.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut kept: BTreeMap<String, OwnedFd> = BTreeMap::new();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30), Duration::from_secs(60));
    let mut link = link;
    loop {
        let current = match link.take() {
            Some(current) => current,
            None => {
                let (here, there) = channel::pair()?;
                if let Err(error) = program.start(Part::Supervisor, there) {
                    tracing::error!(%error, program = %program.path.display(), "the supervisor does not start");
                }
                // Failing to start ends the channel too, and is met below like a death.
                here
            }
        };
        let started = Instant::now();
        match serve(&current, &mut kept, &mut one) {
            Ended::Leave => return Ok(()),
            Ended::GiveUp => return Err(io::Error::other("the supervisor cannot run; its log says why")),
            Ended::Gone => {}
        }
        let pause = backoff.after(started.elapsed());
        tracing::warn!(?pause, "the supervisor is gone; another one is started");
        std::thread::sleep(pause);
        reap();
    }
}

enum Ended {
    Leave,
    GiveUp,
    Gone,
}

fn serve(link: &OwnedFd, kept: &mut BTreeMap<String, OwnedFd>, one: &mut OnlyOne) -> Ended {
    loop {
        wait_readable(link, one);
        reap();
        let (order, descriptors) = match channel::receive::<Order>(link) {
            Ok(Some(message)) => message,
            Ok(None) => return Ended::Gone,
            Err(error) => {
                // A supervisor of a later version may know more orders; the sockets are still worth keeping.
                tracing::warn!(%error, "an order of the supervisor was not understood");
                continue;
            }
        };
        match order {
            Order::Keep(name) => kept.extend(descriptors.into_iter().next().map(|fd| (name, fd))),
            Order::Drop(name) => drop(kept.remove(&name)),
            Order::List => {
                for (name, descriptor) in kept.iter() {
                    // A supervisor that dies meanwhile is noticed at the next message.
                    drop(channel::send(link, &Answer::Kept(name.clone()), &[descriptor.as_fd()]));
                }
                drop(channel::send(link, &Answer::End { pid: std::process::id() }, &[]));
            }
            Order::Leave => return Ended::Leave,
            Order::GiveUp => return Ended::GiveUp,
        }
    }
}

/// Waits for a message, collecting children that ended about once a minute.
fn wait_readable(link: &OwnedFd, one: &mut OnlyOne) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        let pause = Timespec { tv_sec: if one.is_held() { 60 } else { 1 }, tv_nsec: 0 };
        match poll(&mut [PollFd::new(link, PollFlags::IN)], Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {
                reap();
                one.retry();
            }
            Ok(_) | Err(_) => return,
        }
    }
}

fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// The supervisor's side: its keeper, at the other end of a channel.
#[derive(Debug)]
pub(crate) struct Keeper {
    link: OwnedFd,
    pid: u32,
    /// Set when this process is its parent.
    child: Option<Child>,
}

impl Keeper {
    /// The keeper at the other end of `link`, and what it holds.
    pub(crate) fn at(link: OwnedFd) -> io::Result<(Self, BTreeMap<String, OwnedFd>)> {
        channel::send(&link, &Order::List, &[])?;
        let mut held = BTreeMap::new();
        loop {
            let (answer, descriptors) =
                channel::receive::<Answer>(&link)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            match answer {
                Answer::Kept(name) => held.extend(descriptors.into_iter().next().map(|fd| (name, fd))),
                Answer::End { pid } => return Ok((Self { link, pid, child: None }, held)),
            }
        }
    }

    /// Starts a keeper and gives it all of `held`.
    pub(crate) fn start<'a>(program: &Program, held: impl Iterator<Item = (&'a str, &'a OwnedFd)>) -> io::Result<Self> {
        let (here, there) = channel::pair()?;
        let child = program.start(Part::Relief, there)?;
        let keeper = Self { link: here, pid: child.id(), child: Some(child) };
        for (name, descriptor) in held {
            keeper.keep(name, descriptor)?;
        }
        Ok(keeper)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn link(&self) -> &OwnedFd {
        &self.link
    }

    pub(crate) fn keep(&self, name: &str, descriptor: &OwnedFd) -> io::Result<()> {
        channel::send(&self.link, &Order::Keep(name.to_owned()), &[descriptor.as_fd()])
    }

    pub(crate) fn forget(&self, name: &str) -> io::Result<()> {
        channel::send(&self.link, &Order::Drop(name.to_owned()), &[])
    }

    /// Sends it away. As its parent, this ends it: it has nothing that would be lost, and might be stuck.
    pub(crate) fn dismiss(mut self) {
        // One that is dead already has left.
        drop(channel::send(&self.link, &Order::Leave, &[]));
        if let Some(child) = &mut self.child {
            drop(child.kill());
        }
        self.collect();
    }

    /// Has it end and say that the supervisor cannot run.
    pub(crate) fn give_up(self) {
        drop(channel::send(&self.link, &Order::GiveUp, &[]));
    }

    /// Collects a dead keeper.
    pub(crate) fn collect(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.wait());
        }
    }
}
