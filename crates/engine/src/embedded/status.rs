//! What a supervisor says about itself and its units, as it travels over the control socket.

use serde::{Deserialize, Serialize};
use sovereign_model::unit::SocketSpec;
use sovereign_model::{DatacenterName, Digest, UnitName};

use super::proc::Usage;
use super::shim::Confined;

/// A supervisor and all it keeps running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    /// Its process id.
    pub pid: u32,
    /// When this program image took over, in nanoseconds since 1970: another one after each restart or replacement.
    pub incarnation: u64,
    /// The program's version.
    pub version: String,
    /// What it uses.
    pub usage: Usage,
    /// The process that holds its sockets when it dies; `None` while one is being started.
    pub keeper: Option<KeeperStatus>,
    /// Its units, by name.
    pub units: Vec<UnitStatus>,
}

/// The keeper of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// Its process id.
    pub pid: u32,
    /// What it uses.
    pub usage: Usage,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Its name.
    pub name: UnitName,
    /// Where it belongs.
    pub datacenter: DatacenterName,
    /// How it is.
    pub state: UnitState,
    /// What is wrong, for people.
    pub problem: Option<String>,
    /// The description that is wanted.
    pub wanted: Digest,
    /// The description that runs.
    pub running: Option<Digest>,
    /// Its main process.
    pub pid: Option<i32>,
    /// How long that runs, in seconds.
    pub running_seconds: Option<u64>,
    /// How often it was started again because it died or was not well, since it was described like this.
    pub restarts: u32,
    /// How its last process ended.
    pub last_exit: Option<String>,
    /// When it will be tried again, in milliseconds.
    pub next_try_ms: Option<u64>,
    /// How it is kept apart, for people: `user+mounts+landlock`, `landlock`, `none (without ...)`.
    pub confinement: Option<String>,
    /// The same, in parts.
    pub confined: Option<Confined>,
    /// What its processes use.
    pub usage: Usage,
    /// Where it listens.
    pub sockets: Vec<SocketSpec>,
    /// Why its newest description does not run although the one before does.
    pub refused: Option<String>,
}

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Waits for units it comes after.
    Waiting,
    /// Runs and was not well yet.
    Starting,
    /// Runs and is well.
    Healthy,
    /// Runs, was well, and is not now.
    Unhealthy,
    /// A new process is being started beside or in place of the old one.
    Replacing,
    /// Died, and is tried again after a pause.
    Pausing,
    /// Was asked to end.
    Stopping,
    /// Does not run, as wanted.
    Stopped,
}

impl UnitStatus {
    /// Whether it runs as wanted and is well.
    pub fn is_well(&self) -> bool {
        self.state == UnitState::Healthy && self.running == Some(self.wanted) && self.refused.is_none()
    }
}
