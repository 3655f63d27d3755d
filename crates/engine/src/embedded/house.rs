//! What the tasks of a supervisor share. Single-threaded: no borrow is held across an `await`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_model::UnitName;
use sovereign_model::unit::UnitSpec;
use tokio::sync::watch;

use super::keeper::{Keeper, Program};
use super::ledger::{Entry, Ledger};
use super::listen::{ListenError, Listeners};
use super::status::{UnitState, UnitStatus};
use super::users;
use sovereign_model::layout::StateFolder;

/// How patient a supervisor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between health checks of a unit that is not well yet.
    pub check_soon: Duration,
    /// Between health checks of a unit that is well.
    pub check_often: Duration,
    /// How long one check may take.
    pub check_patience: Duration,
    /// How long a new process may take to be well before it is started again.
    pub start_patience: Duration,
    /// How many checks in a row may fail before a unit that was well is started again.
    pub failures: u32,
    /// The first pause before a dead unit is started again; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A unit that ran this long is not failing at its start: its next pause is the first one again.
    pub well_after: Duration,
    /// Between looks at the sizes of logs.
    pub log_check: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            check_soon: Duration::from_millis(200),
            check_often: Duration::from_secs(5),
            check_patience: Duration::from_secs(5),
            start_patience: Duration::from_secs(180),
            failures: 6,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(60),
            well_after: Duration::from_secs(30),
            log_check: Duration::from_secs(15),
        }
    }
}

/// The supervisor's things.
pub(crate) struct House {
    pub(crate) state: StateFolder,
    pub(crate) program: Program,
    pub(crate) timing: Timing,
    pub(crate) ledger: RefCell<Ledger>,
    listeners: RefCell<Listeners>,
    pub(crate) keeper: RefCell<Option<Keeper>>,
    board: RefCell<BTreeMap<UnitName, UnitStatus>>,
    /// Raised at every change of the board.
    changes: watch::Sender<u64>,
}

impl House {
    pub(crate) fn new(
        state: StateFolder,
        program: Program,
        timing: Timing,
        ledger: Ledger,
        keeper: Keeper,
        kept: BTreeMap<String, OwnedFd>,
    ) -> Self {
        Self {
            state,
            program,
            timing,
            ledger: RefCell::new(ledger),
            listeners: RefCell::new(Listeners::from_kept(kept)),
            keeper: RefCell::new(Some(keeper)),
            board: RefCell::new(BTreeMap::new()),
            changes: watch::Sender::new(0),
        }
    }

    /// Changes what the board says of a unit.
    pub(crate) fn show(&self, unit: &UnitName, change: impl FnOnce(&mut UnitStatus)) {
        if let Some(status) = self.board.borrow_mut().get_mut(unit) {
            change(status);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn put(&self, status: UnitStatus) {
        self.board.borrow_mut().insert(status.name.clone(), status);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn remove(&self, unit: &UnitName) {
        self.board.borrow_mut().remove(unit);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn board(&self) -> BTreeMap<UnitName, UnitStatus> {
        self.board.borrow().clone()
    }

    /// Waits until the board satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&BTreeMap<UnitName, UnitStatus>) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.board.borrow()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Which of `units` is not well; a unit that is not known here is not waited for.
    pub(crate) fn first_unwell(&self, units: &[UnitName]) -> Option<UnitName> {
        let board = self.board.borrow();
        let unwell = |unit: &&UnitName| board.get(*unit).is_some_and(|status| status.state != UnitState::Healthy);
        units.iter().find(unwell).cloned()
    }

    /// Copies of the sockets of a description, bound now where they are not yet.
    pub(crate) fn sockets(&self, spec: &UnitSpec) -> Result<Vec<OwnedFd>, ListenError> {
        let mut listeners = self.listeners.borrow_mut();
        let keeper = self.keeper.borrow();
        let copy = |address| {
            let socket = listeners.get(address, keeper.as_ref())?;
            socket.try_clone().map_err(|source| ListenError::Refused { address, source })
        };
        spec.sockets.iter().map(|socket| socket.address).map(copy).collect()
    }

    /// Gets sockets back that only an adopted process still holds.
    pub(crate) fn recover_sockets(&self, spec: &UnitSpec, pid: i32) {
        let keeper = self.keeper.borrow();
        for socket in &spec.sockets {
            let taken = self.listeners.borrow_mut().take_from(pid, socket.address, keeper.as_ref());
            if let Err(error) = taken {
                tracing::warn!(%error, address = %socket.address, "held by its unit alone until that ends");
            }
        }
    }

    /// Lets go of sockets that no unit wants or uses.
    pub(crate) fn release_sockets(&self) {
        let ledger = self.ledger.borrow();
        let used = ledger.units().values().filter(|entry| entry.run || !entry.processes.is_empty());
        let wanted: BTreeSet<_> = used.flat_map(|entry| &entry.spec.sockets).map(|socket| socket.address).collect();
        self.listeners.borrow_mut().retain(&wanted, self.keeper.borrow().as_ref());
    }

    /// Starts a new keeper and gives it all sockets; the one before is dismissed.
    pub(crate) fn renew_keeper(&self) -> io::Result<()> {
        let listeners = self.listeners.borrow();
        let held = listeners.for_keeper();
        let new = Keeper::start(&self.program, held.iter().map(|(name, socket)| (name.as_str(), *socket)))?;
        if let Some(old) = self.keeper.borrow_mut().replace(new) {
            old.dismiss();
        }
        Ok(())
    }

    /// Changes a unit's entry in the ledger.
    pub(crate) fn record(&self, unit: &UnitName, change: impl FnOnce(&mut Entry)) -> io::Result<()> {
        self.ledger.borrow_mut().write(|units| {
            if let Some(entry) = units.get_mut(unit) {
                change(entry);
            }
        })
    }

    /// The user id for a unit, when this runs as root.
    pub(crate) fn user(&self, unit: &UnitName) -> Option<u32> {
        let root = rustix::process::geteuid().is_root();
        root.then(|| self.ledger.borrow_mut().user(unit, users::candidates(self.state.path(), unit))).flatten()
    }

    /// Where a unit's own root folder is put together; stays empty for everybody else.
    pub(crate) fn root_folder(&self) -> PathBuf {
        self.state.run().join("root")
    }

    /// The temporary folder of a unit that cannot have a `/tmp` of its own.
    pub(crate) fn temporary_folder(&self, unit: &UnitName) -> PathBuf {
        self.state.run().join("tmp").join(unit.as_str())
    }
}
