//! The embedded engine: units as supervised processes on this machine.
//!
//! | part | process | what it does |
//! |---|---|---|
//! | [`Part::Keeper`] | one, tiny | holds the listening sockets; starts the supervisor, and again when it dies |
//! | [`Part::Supervisor`] | one | starts units, checks, restarts and replaces them; answers on the control socket |
//! | [`shim`] | one per start of a unit | confines itself, then becomes the unit's program |
//! | [`Client`] | the command line | talks to the supervisor, starts one if need be |
//!
//! Promise: killing any of these processes, or any unit, or a unit and the supervisor at once, leaves nothing down
//! and closes no listening socket. Killing supervisor and keeper at once leaves the units serving; the next `up`, or
//! systemd where the service is installed, adopts them. After `shutdown` nothing is left: no process, no socket.

mod adapter;
mod backoff;
mod channel;
mod child;
mod client;
mod descriptors;
pub(crate) mod health;
mod house;
mod keeper;
mod ledger;
mod listen;
pub mod logs;
pub mod once;
mod proc;
pub mod service;
pub mod shim;
mod status;
mod supervisor;
pub mod talk;
mod unit;
mod users;

use std::ffi::OsString;
use std::path::PathBuf;

pub use adapter::{EmbeddedEngine, EmbeddedError, Parts};
pub use client::{Client, ClientError};
pub use house::Timing;
pub use keeper::Part;
use keeper::Program;
pub use ledger::LedgerError;
pub use listen::{ListenError, try_listen};
pub use proc::{PortOwner, Usage, listens, port_owner};
pub use status::{KeeperStatus, SupervisorStatus, UnitState, UnitStatus};
pub use supervisor::SuperviseError;

use sovereign_model::layout::StateFolder;

/// How `sovereign supervise` runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stack's state folder.
    pub state: StateFolder,
    /// The part this process plays.
    pub part: Part,
    /// The arguments that lead to this entry again, without `--part`: `supervise --state <folder>`.
    pub args: Vec<OsString>,
    /// How patient it is.
    pub timing: Timing,
}

/// The entry of `sovereign supervise`. To be called first in the process: before threads, and before anything is
/// opened.
///
/// # Errors
/// When it cannot run at all. What happens to units is in `status` and in their logs.
pub fn supervise(options: Options) -> Result<(), SuperviseError> {
    let Options { state, part, args, timing } = options;
    descriptors::shed_inherited();
    let io_error = |action| move |source| SuperviseError::Io { action, source };
    let program = Program { path: this_program(), args };
    let only_one = || {
        crate::state::create(&state).map_err(io_error("make the state folder"))?;
        keeper::OnlyOne::try_in(&state.run()).map_err(io_error("lock the state folder"))
    };
    if part == Part::Rest {
        return supervisor::rest(state);
    }
    if part == Part::Keeper {
        // Refused to a process that leads a group already, in a shell's foreground for instance; that is as good.
        let _ = rustix::process::setsid();
        let one = only_one()?;
        if !one.is_held() {
            // There is a keeper, and with it a supervisor, now or in a moment.
            return Ok(());
        }
        return keeper::keep(&program, None, one).map_err(io_error("keep sockets"));
    }
    let link = descriptors::take_stdin().map_err(io_error("find the other process on standard input"))?;
    match part {
        Part::Keeper | Part::Relief | Part::Rest => {
            let _ = rustix::process::setsid();
            keeper::keep(&program, Some(link), only_one()?).map_err(io_error("keep sockets"))
        }
        Part::Supervisor => supervisor::supervise(state, program, timing, link),
    }
}

/// The program this process runs, still to be found when its file has been replaced or removed meanwhile.
fn this_program() -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let running = PathBuf::from("/proc/self/exe");
    let identity = |path: &PathBuf| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    match std::fs::read_link(&running) {
        Ok(path) if identity(&path) == identity(&running) => path,
        _ => running,
    }
}
