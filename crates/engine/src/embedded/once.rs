//! A confined program that is run once, to its end, and not kept: for looking at what is not to be trusted.
//!
//! It is confined by the same [`super::shim`] as a unit: it sees its paths, the system's libraries, no network, and
//! nothing of the stack's state. On a machine that can do that neither by a root folder of its own nor by Landlock, it is ended at once.
//!
//! Promise: what it says takes a bounded amount of memory and no disk, however much that is. Its answer (standard
//! output) is told from its complaints (standard error). With it, however it ends, end the processes of its group; when
//! this process is killed, it is killed too.
//!
//! Left out: processes that it put into a group of their own, and what it leaves behind when this process is killed.
//! They stay as confined as it was.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use sovereign_model::layout::StateFolder;

use super::channel;
use super::shim::{Instruction, Report};

/// The longest answer, and as much as a pipe holds at most unless its writer asks for more (pipe(7)): one read of so
/// much takes all that was written.
const LONGEST_ANSWER: usize = 64 << 10;
/// What is kept of complaints. The last ones say why it ended; a stack trace of node has some 2 KiB.
const LONGEST_COMPLAINT: usize = 4 << 10;

/// What to run.
#[derive(Debug, Clone)]
pub struct Once {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. Never a secret.
    pub args: Vec<String>,
    /// Its working folder.
    pub working_dir: PathBuf,
    /// What it may read.
    pub read: Vec<PathBuf>,
    /// The folders it may change. They are handed to `user`.
    pub write: Vec<PathBuf>,
    /// The user it becomes when this runs as root.
    pub user: Option<u32>,
    /// How long it may take.
    pub patience: Duration,
}

/// Why it came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// It could not be started as described.
    #[error("cannot start {program} confined", program = .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long, and was ended.
    #[error("{program} took longer than {} s", .patience.as_secs(), program = .program.display())]
    Slow {
        /// The program.
        program: PathBuf,
        /// How long it was given.
        patience: Duration,
    },
    /// It said more than any answer has, and was ended.
    #[error("{program} does not stop talking", program = .program.display())]
    Talkative {
        /// The program.
        program: PathBuf,
    },
    /// It failed.
    #[error("{program} failed ({status}): {said}", program = .program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its last complaints.
        said: String,
    },
}

/// Runs it to its end and returns its answer.
///
/// # Errors
/// When it cannot be started, takes too long, says too much, or ends with another code than 0.
pub fn run(state: &StateFolder, once: &Once) -> Result<String, OnceError> {
    let program = || once.program.clone();
    let failed = |source| OnceError::Start { program: program(), source };
    let (mut child, mut said) = start(state, once).map_err(failed)?;
    let ending = said.until_ended(child.id(), once.patience);
    end(&mut child);
    let status = child.wait().map_err(failed)?;
    let ending = ending.and_then(|ending| said.hear().map(|()| ending)).map_err(failed)?;
    let (answer, complaints) = (said.answer.kept, said.complaints.kept);
    match ending {
        Ending::Late => Err(OnceError::Slow { program: program(), patience: once.patience }),
        _ if answer.len() > LONGEST_ANSWER => Err(OnceError::Talkative { program: program() }),
        _ if status.success() => Ok(String::from_utf8_lossy(&answer).into_owned()),
        _ => Err(OnceError::Failed { program: program(), status, said: printable(&complaints) }),
    }
}

/// Complaints as people read them.
pub(super) fn printable(complaints: &[u8]) -> String {
    let said: String = String::from_utf8_lossy(complaints).chars().filter(|c| !c.is_control() || *c == '\n').collect();
    said.trim().to_owned()
}

/// Starts it, and hears it.
fn start(state: &StateFolder, once: &Once) -> io::Result<(Child, Said)> {
    let (answer, its_answer) = Pipe::new()?;
    let (complaints, its_complaints) = Pipe::new()?;
    let child = launch(state, once, &[its_answer.as_fd(), its_complaints.as_fd()])?;
    Ok((child, Said { answer, complaints }))
}

/// Starts it with something to write answers to, something for complaints, and, where it is talked with, something to
/// read questions from.
pub(super) fn launch(state: &StateFolder, once: &Once, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
    let root = state.run().join("once");
    crate::file::private_folder(&root)?;
    let (here, there) = channel::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("shim").env_clear().current_dir("/").stdin(Stdio::from(there)).stdout(Stdio::null());
    let mut child = command.spawn()?;
    drop(command); // and with it the other end of the channel
    let instruction = Instruction {
        program: once.program.clone(),
        args: once.args.clone(),
        env: [("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin"), ("TZ", "UTC")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        working_dir: once.working_dir.clone(),
        socket_names: Vec::new(),
        read: once.read.clone(),
        write: once.write.clone(),
        connect: Some(Vec::new()),
        own_root: true,
        user: once.user,
        root,
        temporary: state.run().join("tmp").join("once"),
        once: true,
    };
    let started = channel::send(&here, &instruction, descriptors).and_then(|()| until_started(&here));
    if let Err(error) = started {
        end(&mut child);
        let _ = child.wait();
        return Err(error);
    }
    Ok(child)
}

/// Ends it, if it has not ended, and all of its group. It must not be collected yet: until then the group's id is
/// nobody else's.
pub(super) fn end(child: &mut Child) {
    // There may be no such group yet, or none any more.
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = group.map(|group| rustix::process::kill_process_group(group, Signal::KILL));
    let _ = child.kill();
}

/// What it says, as far as it is kept.
struct Said {
    answer: Pipe,
    complaints: Pipe,
}

enum Ending {
    /// It ended, or is to be ended because it has said enough.
    Heard,
    /// It had its time.
    Late,
}

impl Said {
    /// Takes down what it says until it has ended or must.
    fn until_ended(&mut self, id: u32, patience: Duration) -> io::Result<Ending> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ending::Late);
            }
            let left =
                Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
            let pipes = [&self.answer, &self.complaints].into_iter().filter_map(|pipe| pipe.from.as_ref());
            let mut polled: Vec<PollFd<'_>> = pipes.map(|from| PollFd::new(from, PollFlags::IN)).collect();
            polled.push(PollFd::new(&process, PollFlags::IN));
            match rustix::event::poll(&mut polled, Some(&left)) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ended = polled.last().is_some_and(|process| !process.revents().is_empty());
            self.hear()?;
            if ended || self.answer.kept.len() > LONGEST_ANSWER {
                return Ok(Ending::Heard);
            }
        }
    }

    /// Takes down what it has said since.
    fn hear(&mut self) -> io::Result<()> {
        self.answer.read()?;
        self.complaints.read()?;
        let surplus = self.complaints.kept.len().saturating_sub(LONGEST_COMPLAINT);
        self.complaints.kept.drain(..surplus);
        Ok(())
    }
}

/// The reading end of a pipe, and what was read.
pub(super) struct Pipe {
    /// `None` once nobody can write any more.
    from: Option<File>,
    pub(super) kept: Vec<u8>,
}

impl Pipe {
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&from, true)?; // of this end alone
        Ok((Self { from: Some(from.into()), kept: Vec::new() }, to))
    }

    /// Reads once, without waiting.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let Some(from) = &mut self.from else { return Ok(()) };
        let mut some = vec![0; LONGEST_ANSWER];
        match from.read(&mut some) {
            Ok(0) => self.from = None,
            Ok(length) => self.kept.extend_from_slice(&some[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The channel closes when the shim has become the program.
fn until_started(link: &OwnedFd) -> io::Result<()> {
    let mut confined = false;
    loop {
        match channel::receive::<Report>(link)? {
            Some((Report::Confined(how), _)) if how.mounts || how.landlock => confined = true,
            Some((Report::Confined(how), _)) => {
                return Err(io::Error::other(format!("it would not be confined: {how}")));
            }
            Some((Report::Failed(why), _)) => return Err(io::Error::other(why)),
            None if confined => return Ok(()),
            None => return Err(io::Error::other("the shim died")),
        }
    }
}
