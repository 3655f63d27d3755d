//! A confined program that is run once, to its end, and not kept: for looking at what is not to be trusted.
//!
//! It is confined by the same [`super::shim`] as a unit: it sees its paths, the system's libraries, and nothing of the
//! stack's state. On a machine that can do that neither by a root folder of its own nor by Landlock, it is ended at once.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use sovereign_model::layout::StateFolder;

use super::channel;
use super::shim::{Instruction, Report};

/// The most that is taken of what it says.
const LONGEST_WORD: u64 = 64 << 10;

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
    /// It failed.
    #[error("{program} failed ({status}): {said}", program = .program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        said: String,
    },
}

/// Runs it to its end and returns what it said.
///
/// # Errors
/// When it cannot be started, takes too long, or ends with another code than 0.
pub fn run(state: &StateFolder, once: &Once) -> Result<String, OnceError> {
    let failed = |source| OnceError::Start { program: once.program.clone(), source };
    let root = state.run().join("once");
    crate::file::private_folder(&root).map_err(failed)?;
    let temporary = state.run().join("tmp").join("once");
    let mut said = File::from(
        rustix::fs::memfd_create("once", rustix::fs::MemfdFlags::CLOEXEC).map_err(io::Error::from).map_err(failed)?,
    );
    let (here, there) = channel::pair().map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("shim").env_clear().current_dir("/").stdin(Stdio::from(there)).stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
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
        temporary,
    };
    let started = channel::send(&here, &instruction, &[said.as_fd()]).and_then(|()| until_started(&here));
    if let Err(error) = started {
        let _ = child.kill(); // it may have ended by itself
        let _ = child.wait();
        return Err(failed(error));
    }
    let ended = wait(child.id(), once.patience);
    if !ended.as_ref().is_ok_and(|ended| *ended) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    if !ended.map_err(failed)? {
        return Err(OnceError::Slow { program: once.program.clone(), patience: once.patience });
    }
    let mut bytes = Vec::new();
    said.rewind().and_then(|()| said.take(LONGEST_WORD).read_to_end(&mut bytes)).map_err(failed)?;
    let said = String::from_utf8_lossy(&bytes).into_owned();
    if status.success() {
        return Ok(said);
    }
    let last: String = said.chars().filter(|c| !c.is_control() || *c == '\n').take(2000).collect();
    Err(OnceError::Failed { program: once.program.clone(), status, said: last.trim().to_owned() })
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

/// Whether the process ended in time.
fn wait(id: u32, patience: Duration) -> io::Result<bool> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
