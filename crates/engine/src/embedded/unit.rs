//! One unit's life: started when its turn comes, watched, started again when it dies, replaced when its description
//! changes, stopped when asked. Each unit has a task that runs [`UnitTask::run`].

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use sovereign_model::unit::{Replace, UnitSpec};
use sovereign_model::{Digest, UnitName};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::channel;
use super::child::{self, Child, Exit};
use super::health;
use super::house::House;
use super::ledger::{Recorded, Role};
use super::listen::ListenError;
use super::logs;
use super::proc;
use super::shim::{Confined, Instruction, Report};
use super::status::UnitState;

/// How long the shim may take, handing over a large folder included.
const SHIM_PATIENCE: Duration = Duration::from_secs(120);

/// What is wanted of a unit.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) spec: Rc<UnitSpec>,
    pub(crate) digest: Digest,
    pub(crate) run: bool,
    /// Raised by each restart the operator asks for.
    pub(crate) round: u64,
}

/// A process of the unit that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    spec: Rc<UnitSpec>,
    digest: Digest,
    round: u64,
    since: Instant,
    well: bool,
}

impl Running {
    /// A process an earlier supervisor left.
    pub(crate) fn adopt(recorded: &Recorded, spec: &Rc<UnitSpec>) -> Option<Self> {
        let child = Child::adopt(&recorded.identity)?;
        let since = proc::age(&recorded.identity).and_then(|age| Instant::now().checked_sub(age));
        Some(Self {
            child,
            spec: Rc::clone(spec),
            digest: recorded.digest,
            round: recorded.round,
            since: since.unwrap_or_else(Instant::now),
            well: false,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    pub(crate) async fn stop(&self) -> Exit {
        self.child.stop(grace(&self.spec)).await
    }

    fn is(&self, wish: &Wish) -> bool {
        self.digest == wish.digest && self.round == wish.round
    }
}

fn grace(spec: &UnitSpec) -> Duration {
    Duration::from_secs(spec.stop_grace_seconds.into())
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("{0}")]
    Shim(String),
}

trait While<T> {
    fn to(self, action: &'static str) -> Result<T, StartError>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn to(self, action: &'static str) -> Result<T, StartError> {
        self.map_err(|source| StartError::Io { action, source: source.into() })
    }
}

/// The task of a unit.
pub(crate) struct UnitTask {
    name: UnitName,
    house: Rc<House>,
    wish: watch::Receiver<Wish>,
    backoff: Backoff,
    next_try: Option<Instant>,
    /// A description whose process did not become well, so that the old one goes on.
    refused: Option<(Digest, u64)>,
}

/// How watching a process ended.
enum Watched {
    Ended(Exit),
    Unwell(String),
    WishChanged,
}

impl UnitTask {
    pub(crate) fn new(name: UnitName, house: Rc<House>, wish: watch::Receiver<Wish>) -> Self {
        let timing = &house.timing;
        let backoff = Backoff::new(timing.first_pause, timing.longest_pause, timing.well_after);
        Self { name, house, wish, backoff, next_try: None, refused: None }
    }

    /// Lives until the wish's sender is gone and nothing runs any more.
    pub(crate) async fn run(mut self, adopted: Option<Running>) {
        let mut running = adopted;
        if let Some(process) = &running {
            self.show_process(process, UnitState::Starting);
        }
        loop {
            let wish = self.wish.borrow_and_update().clone();
            running = match running {
                None if !wish.run => {
                    self.forget_processes(Role::Current);
                    self.show_stopped();
                    if self.wish.changed().await.is_err() {
                        return;
                    }
                    self.backoff.reset();
                    self.next_try = None;
                    None
                }
                None => self.start_in_turn(&wish).await,
                Some(process) if !wish.run => {
                    self.stop(process).await;
                    None
                }
                Some(process) if process.is(&wish) || self.refused == Some((wish.digest, wish.round)) => {
                    self.watch(process).await
                }
                Some(process) => self.replace(process, &wish).await,
            };
        }
    }

    /// Waits for its turn, then starts a process. `None` when the wish changed meanwhile or it did not start.
    async fn start_in_turn(&mut self, wish: &Wish) -> Option<Running> {
        if let Some(at) = self.next_try {
            self.house.show(&self.name, |status| status.state = UnitState::Pausing);
            tokio::select! {
                () = sleep_until(at) => {}
                _ = self.wish.changed() => {
                    self.wish.mark_changed();
                    // What changed may be what was wrong.
                    self.backoff.reset();
                    self.next_try = None;
                    return None;
                }
            }
        }
        if let Some(first) = self.house.first_unwell(&wish.spec.after) {
            self.house.show(&self.name, |status| {
                status.state = UnitState::Waiting;
                status.problem = Some(format!("waits for {first}"));
            });
            let house = Rc::clone(&self.house);
            tokio::select! {
                () = house.until(|_| house.first_unwell(&wish.spec.after).is_none()) => {}
                _ = self.wish.changed() => {
                    self.wish.mark_changed();
                    return None;
                }
            }
        }
        self.next_try = None;
        match self.start(wish, Role::Current).await {
            Ok(process) => {
                self.refused = None;
                self.show_process(&process, UnitState::Starting);
                self.house.show(&self.name, |status| status.refused = None);
                Some(process)
            }
            Err(error) => {
                self.pause(Duration::ZERO, error.to_string(), None);
                None
            }
        }
    }

    /// Watches a process until it ends, is not well for too long (then it is stopped), or the wish changes.
    async fn watch(&mut self, mut process: Running) -> Option<Running> {
        match self.watch_until(&mut process).await {
            Watched::WishChanged => {
                self.wish.mark_changed();
                Some(process)
            }
            Watched::Ended(exit) => {
                tracing::warn!(unit = %self.name, %exit, "ended by itself");
                self.count_restart();
                self.pause(process.since.elapsed(), format!("ended: {exit}"), Some(exit));
                None
            }
            Watched::Unwell(problem) => {
                tracing::warn!(unit = %self.name, %problem, "not well for too long, started again");
                let exit = process.stop().await;
                self.count_restart();
                self.pause(process.since.elapsed(), problem, Some(exit));
                None
            }
        }
    }

    async fn watch_until(&mut self, process: &mut Running) -> Watched {
        let timing = self.house.timing.clone();
        let watched_since = Instant::now();
        let mut failures = 0;
        loop {
            let wait = if process.well && failures == 0 { timing.check_often } else { timing.check_soon };
            // The first look comes at once: an adopted process is mostly well already.
            let wait = if watched_since.elapsed() < timing.check_soon { Duration::from_millis(5) } else { wait };
            let check = async {
                sleep(wait).await;
                health::check(&process.spec.health, process.child.pid(), timing.check_patience).await
            };
            let verdict = tokio::select! {
                biased;
                exit = process.child.ended() => return Watched::Ended(exit),
                _ = self.wish.changed() => return Watched::WishChanged,
                verdict = check => verdict,
            };
            match verdict {
                Ok(()) => {
                    failures = 0;
                    process.well = true;
                    self.house.show(&self.name, |status| {
                        status.state = UnitState::Healthy;
                        status.problem = None;
                    });
                }
                Err(problem) => {
                    failures += 1;
                    let hopeless = if process.well {
                        failures >= timing.failures
                    } else {
                        watched_since.elapsed() >= timing.start_patience
                    };
                    if hopeless {
                        return Watched::Unwell(problem);
                    }
                    let state = if process.well { UnitState::Unhealthy } else { UnitState::Starting };
                    self.house.show(&self.name, |status| {
                        status.state = state;
                        status.problem = Some(problem);
                    });
                }
            }
        }
    }

    async fn replace(&mut self, old: Running, wish: &Wish) -> Option<Running> {
        tracing::info!(unit = %self.name, from = %old.digest.short(), to = %wish.digest.short(), "is replaced");
        self.house.show(&self.name, |status| {
            status.state = UnitState::Replacing;
            status.restarts = 0;
        });
        self.note(self.house.record(&self.name, |entry| entry.restarts = 0));
        self.backoff.reset();
        self.next_try = None;
        match wish.spec.replace {
            Replace::StopFirst => {
                self.stop(old).await;
                self.house.release_sockets();
                None
            }
            Replace::Beside => Some(self.replace_beside(old, wish).await),
        }
    }

    /// Starts the new process on the same sockets, and lets the old one go when the new one is well. Until then the
    /// old one serves.
    async fn replace_beside(&mut self, old: Running, wish: &Wish) -> Running {
        let mut new = match self.start(wish, Role::Incoming).await {
            Ok(new) => new,
            Err(error) => return self.keep_old(old, wish, error.to_string()),
        };
        let house = Rc::clone(&self.house);
        let patience = house.timing.start_patience;
        let becomes_well = async {
            let mut last = String::new();
            let well = timeout(patience, async {
                loop {
                    match health::check(&new.spec.health, new.child.pid(), house.timing.check_patience).await {
                        Ok(()) => return,
                        Err(problem) => last = problem,
                    }
                    sleep(house.timing.check_soon).await;
                }
            });
            let outcome = well.await;
            outcome.map_err(|_| format!("the new process was not well within {patience:?}: {last}"))
        };
        let outcome = tokio::select! {
            biased;
            exit = new.child.ended() => Err(format!("the new process ended: {exit}")),
            _ = self.wish.changed() => {
                // Whatever is wanted now starts from the process that serves.
                self.wish.mark_changed();
                new.stop().await;
                self.forget_processes(Role::Incoming);
                return old;
            }
            outcome = becomes_well => outcome,
        };
        if let Err(problem) = outcome {
            new.stop().await;
            self.forget_processes(Role::Incoming);
            return self.keep_old(old, wish, problem);
        }
        new.well = true;
        self.refused = None;
        self.note(self.house.record(&self.name, |entry| {
            for process in &mut entry.processes {
                process.role = match process.role {
                    Role::Incoming => Role::Current,
                    Role::Current | Role::Leaving => Role::Leaving,
                };
            }
        }));
        self.show_process(&new, UnitState::Healthy);
        self.house.show(&self.name, |status| {
            status.problem = None;
            status.refused = None;
        });
        see_off(Rc::clone(&self.house), self.name.clone(), old);
        new
    }

    fn keep_old(&mut self, old: Running, wish: &Wish, problem: String) -> Running {
        tracing::warn!(unit = %self.name, %problem, "the new description does not run; the old process goes on");
        self.refused = Some((wish.digest, wish.round));
        self.show_process(&old, if old.well { UnitState::Healthy } else { UnitState::Unhealthy });
        self.house.show(&self.name, |status| status.refused = Some(problem));
        old
    }

    async fn stop(&self, process: Running) {
        self.house.show(&self.name, |status| status.state = UnitState::Stopping);
        let exit = process.stop().await;
        self.forget_processes(Role::Current);
        self.house.show(&self.name, |status| status.last_exit = Some(exit.to_string()));
    }

    /// Starts a process of the wished description: a shim that is written down, then told what to become.
    async fn start(&self, wish: &Wish, role: Role) -> Result<Running, StartError> {
        let spec = &wish.spec;
        let sockets = self.house.sockets(spec)?;
        let log = logs::open(&self.house.state.logs(&self.name)).to("open the log")?;
        crate::file::private_folder(&self.house.root_folder()).to("make a folder")?;
        let (here, there) = channel::pair().to("make a channel")?;
        let child = self.start_shim(there).to("start the shim")?;
        let mut recorded = Recorded {
            identity: child.identity().clone(),
            digest: wish.digest,
            round: wish.round,
            role,
            confined: None,
        };
        let user = if spec.confinement.own_user { self.house.user(&self.name) } else { None };
        let write_down = self.house.record(&self.name, |entry| {
            entry.processes.retain(|process| process.role != role);
            entry.processes.push(recorded.clone());
        });
        let temporary = self.house.temporary_folder(&self.name);
        let instruction = Instruction::of(spec, user, self.house.root_folder(), temporary);
        let instructed = async {
            write_down.to("write the process down")?;
            let descriptors: Vec<_> = std::iter::once(log.as_fd()).chain(sockets.iter().map(OwnedFd::as_fd)).collect();
            channel::send(&here, &instruction, &descriptors).to("instruct the shim")?;
            timeout(SHIM_PATIENCE, report(here))
                .await
                .unwrap_or_else(|_| Err(StartError::Shim(format!("the shim took longer than {SHIM_PATIENCE:?}"))))
        };
        let confined = match instructed.await {
            Ok(confined) => confined,
            Err(problem) => {
                // It has become nothing: without an instruction it ends by itself, and must be collected.
                child.stop(Duration::ZERO).await;
                self.forget_processes(role);
                return Err(problem);
            }
        };
        recorded.confined = Some(confined.clone());
        self.note(self.house.record(&self.name, |entry| {
            entry.processes.retain(|process| process.role != role);
            entry.processes.push(recorded);
        }));
        self.house.show(&self.name, |status| {
            status.confinement = Some(confined.to_string());
            status.confined = Some(confined);
        });
        Ok(Running {
            child,
            spec: Rc::clone(spec),
            digest: wish.digest,
            round: wish.round,
            since: Instant::now(),
            well: false,
        })
    }

    fn start_shim(&self, link: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.house.program.path);
        command.arg("shim").env_clear().current_dir("/").stdin(Stdio::from(link)).stdout(Stdio::null());
        // Dropping the handle neither ends nor collects the process; `Child` does both.
        Child::open(command.spawn()?.id())
    }

    fn pause(&mut self, ran: Duration, problem: String, exit: Option<Exit>) {
        self.forget_processes(Role::Current);
        let pause = self.backoff.after(ran);
        self.next_try = Some(Instant::now() + pause);
        self.house.show(&self.name, |status| {
            status.state = UnitState::Pausing;
            status.problem = Some(problem);
            status.running = None;
            status.pid = None;
            status.running_seconds = None;
            status.next_try_ms = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            if let Some(exit) = exit {
                status.last_exit = Some(exit.to_string());
            }
        });
    }

    fn count_restart(&self) {
        self.house.show(&self.name, |status| status.restarts += 1);
        self.note(self.house.record(&self.name, |entry| entry.restarts += 1));
    }

    fn show_process(&self, process: &Running, state: UnitState) {
        self.house.show(&self.name, |status| {
            status.state = state;
            status.running = Some(process.digest);
            status.pid = Some(process.child.pid());
            status.next_try_ms = None;
            status.sockets.clone_from(&process.spec.sockets);
        });
    }

    fn show_stopped(&self) {
        self.house.show(&self.name, |status| {
            status.state = UnitState::Stopped;
            status.problem = None;
            status.running = None;
            status.pid = None;
            status.running_seconds = None;
            status.next_try_ms = None;
            status.confinement = None;
            status.confined = None;
            status.refused = None;
        });
        self.house.release_sockets();
        // Empty already when the unit had a `/tmp` of its own.
        drop(std::fs::remove_dir_all(self.house.temporary_folder(&self.name)));
    }

    fn forget_processes(&self, role: Role) {
        let is_noted = |entry: &super::ledger::Entry| entry.processes.iter().any(|process| process.role == role);
        if self.house.ledger.borrow().units().get(&self.name).is_some_and(is_noted) {
            let forget = |entry: &mut super::ledger::Entry| entry.processes.retain(|process| process.role != role);
            self.note(self.house.record(&self.name, forget));
        }
    }

    /// A ledger that cannot be written (a full disk) must not stop what runs.
    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::error!(unit = %self.name, %error, "the ledger cannot be written");
        }
    }
}

/// Stops a process that was replaced, while its unit goes on.
pub(crate) fn see_off(house: Rc<House>, unit: UnitName, process: Running) {
    tokio::task::spawn_local(async move {
        let exit = process.stop().await;
        tracing::info!(%unit, pid = process.pid(), %exit, "the old process is gone");
        let forget = |entry: &mut super::ledger::Entry| {
            entry.processes.retain(|recorded| recorded.identity != *process.child.identity());
        };
        if let Err(error) = house.record(&unit, forget) {
            tracing::error!(%unit, %error, "the ledger cannot be written");
        }
        house.release_sockets();
    });
}

/// What the shim at the other end did. The end of the channel without a failure means that it became the program.
async fn report(link: OwnedFd) -> Result<Confined, StartError> {
    const ACTION: &str = "listen to the shim";
    rustix::io::ioctl_fionbio(&link, true).to(ACTION)?;
    let link = child::readable(link).to(ACTION)?;
    let mut confined = None;
    loop {
        let mut readable = link.readable().await.to(ACTION)?;
        match readable.try_io(channel::receive::<Report>) {
            Err(_not_yet) => {}
            Ok(message) => match message.to(ACTION)? {
                Some((Report::Confined(how), _)) => confined = Some(how),
                Some((Report::Failed(problem), _)) => return Err(StartError::Shim(problem)),
                None => return confined.ok_or_else(|| StartError::Shim("the shim died".to_owned())),
            },
        }
    }
}
