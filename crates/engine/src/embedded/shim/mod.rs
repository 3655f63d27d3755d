//! The step between the supervisor and a unit's program: it gives up what the unit shall not have, then becomes it.
//!
//! Promise: the program runs in a session of its own, with exactly the environment, descriptors and paths its
//! description names, and never sees more than that because something was not possible on this machine: what could
//! not be done is reported, and shown by `status`. The report is sent before `exec`; a closed channel after it
//! means that `exec` has happened.
//!
//! It runs as a program of its own (`sovereign shim`), single-threaded, because user ids and Landlock belong to
//! threads, and because nothing that allocates may run between `fork` and `exec` of a program with threads. Its
//! instruction comes over standard input, a socket, so that no argument and no environment variable carries it.
//!
//! Left out: cgroups. Memory and processor are not limited.

mod fence;
mod ownership;
mod root;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use sovereign_model::unit::UnitSpec;

use super::channel;

/// What the shim is told. Beside it travel the log file and the listening sockets, in this order; to what is run once,
/// something to write answers to, something for complaints, and something to read questions from when it is asked any.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instruction {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) working_dir: PathBuf,
    pub(crate) socket_names: Vec<String>,
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    /// The TCP ports it may connect to, when not to all.
    pub(crate) connect: Option<Vec<u16>>,
    /// Whether the unit gets a root folder of its own.
    pub(crate) own_root: bool,
    /// The user and group the unit gets when this runs as root.
    pub(crate) user: Option<u32>,
    /// An empty folder: where the unit's own root is put together, in its own mount namespace.
    pub(crate) root: PathBuf,
    /// The unit's temporary folder where it cannot have a `/tmp` of its own.
    pub(crate) temporary: PathBuf,
    /// Whether it is run once, for an answer, and ends with whoever started it. A unit outlives its supervisor.
    #[serde(default)]
    pub(crate) once: bool,
}

impl Instruction {
    pub(crate) fn of(spec: &UnitSpec, user: Option<u32>, root: PathBuf, temporary: PathBuf) -> Self {
        Self {
            program: spec.program.clone(),
            args: spec.args.clone(),
            env: spec.env.clone(),
            working_dir: spec.working_dir.clone(),
            socket_names: spec.sockets.iter().map(|socket| socket.name.clone()).collect(),
            read: spec.confinement.read.clone(),
            write: spec.confinement.write.clone(),
            connect: spec.confinement.connect.clone(),
            own_root: spec.confinement.own_user,
            user,
            root,
            temporary,
            once: false,
        }
    }
}

/// What the shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Confined(Confined),
    Failed(String),
}

/// How far a unit is kept apart from the rest of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// Its own user id, when it has one.
    pub user: Option<u32>,
    /// Whether it sees a root folder of its own with nothing but its paths and the system's libraries.
    pub mounts: bool,
    /// Whether Landlock keeps it to its paths and ports.
    pub landlock: bool,
    /// What was asked for and is not possible here, and why.
    pub missing: Vec<String>,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("user", self.user.is_some()), ("mounts", self.mounts), ("landlock", self.landlock)];
        let have: Vec<&str> = parts.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        f.write_str(&if have.is_empty() { "none".to_owned() } else { have.join("+") })?;
        if self.missing.is_empty() { Ok(()) } else { write!(f, " (without {})", self.missing.join("; ")) }
    }
}

/// Why a program could not be started as described.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The channel to the supervisor failed, or this was not started by it.
    #[error("no instruction from a supervisor on standard input")]
    Channel(#[source] io::Error),
    /// A step before the program's start failed.
    #[error("cannot {action}")]
    Step {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ShimError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Channel(_) => Some("`shim` is started by the supervisor; use `sovereign up`".to_owned()),
            Self::Step { .. } => None,
        }
    }
}

/// Names what was being done when an error came up.
trait While<T> {
    fn to(self, action: impl Into<String>) -> Result<T, ShimError>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn to(self, action: impl Into<String>) -> Result<T, ShimError> {
        self.map_err(|source| ShimError::Step { action: action.into(), source: source.into() })
    }
}

/// Takes the instruction from standard input and becomes the program. Returns `Ok` only when the supervisor went
/// away before it gave one: then there is nothing to do.
///
/// # Errors
/// When the program cannot be started; the supervisor has been told the same.
pub fn exec() -> Result<(), ShimError> {
    super::descriptors::shed_inherited();
    let link = super::descriptors::take_stdin().map_err(ShimError::Channel)?;
    let Some((instruction, descriptors)) = channel::receive::<Instruction>(&link).map_err(ShimError::Channel)? else {
        return Ok(());
    };
    let error = match start(instruction, descriptors, &link) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // The supervisor may have gone meanwhile; its successor sees this process end.
    drop(channel::send(&link, &Report::Failed(crate::causes::with_causes(&error)), &[]));
    Err(error)
}

fn start(mut instruction: Instruction, descriptors: Vec<OwnedFd>, link: &OwnedFd) -> Result<Infallible, ShimError> {
    let mut descriptors = descriptors.into_iter();
    let mut output = || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    let log = output().to("find the log file")?;
    let complaints = instruction.once.then(&mut output).transpose().to("find where complaints go")?;
    let questions = if instruction.once { descriptors.next() } else { None };
    rustix::stdio::dup2_stdout(&log).to("write to the log")?;
    rustix::stdio::dup2_stderr(complaints.as_ref().unwrap_or(&log)).to("write to the log")?;
    if let Some(questions) = &questions {
        rustix::stdio::dup2_stdin(questions).to("read questions")?;
    }
    drop((log, complaints, questions));
    rustix::process::setsid().to("start a session")?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .to("switch core dumps off")?;
    let sockets = descriptors.collect();
    let passed = super::descriptors::place_from_three(sockets).to("pass the listening sockets on")?;
    if !passed.is_empty() {
        let env = &mut instruction.env;
        env.insert("LISTEN_FDS".to_owned(), passed.len().to_string());
        env.insert("LISTEN_FDNAMES".to_owned(), instruction.socket_names.join(":"));
        env.insert("LISTEN_PID".to_owned(), std::process::id().to_string());
    }
    for path in instruction.read.iter().chain(&instruction.write) {
        path.symlink_metadata().to(format!("find {}", path.display()))?;
    }
    if !instruction.read.contains(&instruction.program) {
        instruction.read.push(instruction.program.clone());
    }
    let confined = confine(&mut instruction)?;
    if instruction.once {
        // After the change of the user, which undoes it (prctl(2)). Whoever died before is found out by the report.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).to("end with who started it")?;
    }
    channel::send(link, &Report::Confined(confined), &[]).map_err(ShimError::Channel)?;
    let mut program = Command::new(&instruction.program);
    program.args(&instruction.args).env_clear().envs(&instruction.env).current_dir(&instruction.working_dir);
    Err(program.exec()).to(format!("execute {}", instruction.program.display()))
}

fn confine(instruction: &mut Instruction) -> Result<Confined, ShimError> {
    let mut confined = Confined::default();
    if let Some(user) = instruction.user.filter(|_| rustix::process::geteuid().is_root()) {
        match root::own_namespace() {
            Ok(()) => {
                confined.missing.extend(leave_network(instruction));
                ownership::give(instruction, user)?;
                root::enter(instruction)?;
                become_user(user)?;
                confined.user = Some(user);
                confined.mounts = true;
            }
            // Without a root folder of its own another user could not even reach its paths below the operator's
            // private folders, so the two come together.
            Err(error) => {
                instruction.user = None;
                confined.missing.push(format!("user and mounts: {error}"));
            }
        }
    } else if instruction.own_root {
        // Landlock lets a process connect to every unix socket that its user may: the supervisor's, a session's bus, an
        // agent with keys. In a root folder of its own there are none.
        let is_root = rustix::process::geteuid().is_root();
        let own = if is_root { root::own_namespace() } else { root::own_user_namespace() };
        let entered = own.map_err(|error| error.to_string()).and_then(|()| {
            let missing = leave_network(instruction);
            root::enter(instruction).map_err(|error| crate::causes::with_causes(&error))?;
            Ok(missing)
        });
        match entered {
            Ok(missing) => {
                confined.mounts = true;
                confined.missing.extend(missing);
            }
            // What was mounted so far is seen by nobody else and goes away with the unit.
            Err(why) => confined.missing.push(format!("mounts: {why}")),
        }
    }
    if !confined.mounts {
        let temporary = instruction.temporary.display().to_string();
        crate::file::private_folder(&instruction.temporary).to(format!("make {temporary}"))?;
        instruction.env.entry("TMPDIR".to_owned()).or_insert(temporary);
        instruction.write.push(instruction.temporary.clone());
    }
    if rustix::process::geteuid().is_root() {
        drop_capabilities().to("give up capabilities")?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::thread::set_no_new_privs(true).to("give up gaining privileges")?;
    match fence::raise(instruction, confined.mounts) {
        Ok(missing) => {
            confined.landlock = true;
            confined.missing.extend(missing);
        }
        Err(why) => confined.missing.push(format!("landlock: {why}")),
    }
    Ok(confined)
}

/// What is run once has nobody to talk to but who started it. Landlock knows of TCP alone; what this leaves has no
/// network at all. Says why it is not left.
fn leave_network(instruction: &Instruction) -> Option<String> {
    let left = if instruction.once { root::own_network() } else { Ok(()) };
    left.err().map(|error| format!("network: {error}"))
}

/// What root may do beyond others, given up for the program that follows, but for reading and writing other users'
/// files: an edge that runs as root connects to the socket of a unit with a user of its own. (With the others, memory
/// of any process could be read in spite of Landlock: `CAP_PERFMON` is enough on newer kernels.)
fn drop_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().iter().filter(|one| *one != CapabilitySet::DAC_OVERRIDE) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn become_user(user: u32) -> Result<(), ShimError> {
    let (uid, gid) = (rustix::process::Uid::from_raw(user), rustix::process::Gid::from_raw(user));
    rustix::thread::set_thread_groups(&[]).to("give up groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).to("change the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).to("change the user")
}
