//! The supervisor: keeps units running and answers on its control socket.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | `status` | | [`SupervisorStatus`] |
//! | `apply` | `unit`: a unit's description | `{"changed": bool}`; at once, the unit starts meanwhile |
//! | `stop` | `unit`: a name | `{}` when it has stopped; it stays known and stopped |
//! | `remove` | `unit`: a name | `{}` when it has stopped and is forgotten |
//! | `restart` | `unit`: a name | `{}` at once |
//! | `replace` | `program`: a path | `{}`, then this process becomes that program; units are not touched |
//! | `rest` | | `{}` when all units have stopped; then supervisor and keeper end; the next start brings units back |
//! | `shutdown` | | `{}` when all units have stopped; then supervisor and keeper end, and forget them |
//!
//! SIGTERM and SIGINT mean `rest`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fd::AsFd as _;
use serde_json::{Value, json};
use sovereign_model::UnitName;
use sovereign_model::unit::UnitSpec;
use sovereign_runtime::control::{Commands, Refusal, Request, Server};
use sovereign_runtime::lifecycle::Lifecycle;
use sovereign_runtime::socket::SocketError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::child;
use super::client::{Client, ClientError};
use super::house::{House, Timing};
use super::keeper::{Keeper, Program};
use super::ledger::{Entry, Ledger, LedgerError, Role};
use super::logs;
use super::proc::{self, Usage};
use super::status::{KeeperStatus, SupervisorStatus, UnitState, UnitStatus};
use super::unit::{Running, UnitTask, Wish, see_off};
use sovereign_model::layout::StateFolder;

/// The supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Its control socket cannot be bound; most likely another one runs.
    #[error("cannot open the supervisor's control socket")]
    Control(#[source] SocketError),
    /// What an earlier supervisor wrote cannot be used.
    #[error("cannot take over from the supervisor before")]
    Ledger(#[source] LedgerError),
    /// The running one does not rest.
    #[error("cannot have the supervisor stop everything")]
    Rest(#[source] Box<ClientError>),
    /// The machine refuses something basic.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl SuperviseError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Control(error) => error.help(),
            Self::Ledger(error) => error.help(),
            Self::Rest(error) => error.help(),
            Self::Io { .. } => None,
        }
    }
}

fn io_error(action: &'static str) -> impl FnOnce(std::io::Error) -> SuperviseError {
    move |source| SuperviseError::Io { action, source }
}

/// A request on its way to the main task, with where the answer goes.
type Asked = (Request, oneshot::Sender<Result<Value, Refusal>>);

/// The control socket's side: hands every request to the main task.
struct Desk(mpsc::Sender<Asked>);

impl Commands for Desk {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        let going = || Refusal::new("the supervisor is ending");
        let (answer, answered) = oneshot::channel();
        self.0.send((request, answer)).await.map_err(|_| going())?;
        answered.await.map_err(|_| going())?
    }
}

/// Runs as the supervisor whose keeper is at the other end of `link`.
pub(crate) fn supervise(
    state: StateFolder,
    program: Program,
    timing: Timing,
    link: OwnedFd,
) -> Result<(), SuperviseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io_error("start the runtime"))?;
    let tasks = tokio::task::LocalSet::new();
    match tasks.block_on(&runtime, Supervisor::start_and_serve(state, program, timing, link))? {
        Outcome::Ended => Ok(()),
        Outcome::Become(next, link) => {
            // Tasks and their descriptors go with the process image; processes of units do not.
            Err(SuperviseError::Io { action: "become the new program", source: next.become_supervisor(&link) })
        }
    }
}

/// Has the supervisor that runs stop everything until its next start.
pub(crate) fn rest(state: StateFolder) -> Result<(), SuperviseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io_error("start the runtime"))?;
    runtime.block_on(Client::of(state).rest()).map_err(|error| SuperviseError::Rest(Box::new(error)))
}

enum Outcome {
    Ended,
    Become(Program, OwnedFd),
}

enum Next {
    GoOn,
    End { forget: bool, answer: Option<oneshot::Sender<Result<Value, Refusal>>> },
    Become(Program),
}

struct Supervisor {
    house: Rc<House>,
    wishes: BTreeMap<UnitName, watch::Sender<Wish>>,
    incarnation: u64,
}

impl Supervisor {
    async fn start_and_serve(
        state: StateFolder,
        program: Program,
        timing: Timing,
        link: OwnedFd,
    ) -> Result<Outcome, SuperviseError> {
        crate::state::create(&state).map_err(io_error("make the state folder"))?;
        let (keeper, kept) = Keeper::at(link).map_err(io_error("talk to the keeper"))?;
        let opened = Server::bind(&crate::state::supervisor_socket(&state))
            .map_err(SuperviseError::Control)
            .and_then(|server| Ok((server, Ledger::open(&state.run()).map_err(SuperviseError::Ledger)?)));
        let (server, ledger) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // A keeper with nothing to keep has no reason to try again, and its end tells who waits.
                if kept.is_empty() {
                    keeper.give_up();
                }
                return Err(error);
            }
        };
        let of_another_program = !same_program(keeper.pid());
        let house = Rc::new(House::new(state, program, timing, ledger, keeper, kept));
        let incarnation = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let mut supervisor = Self { house, wishes: BTreeMap::new(), incarnation };
        supervisor.adopt();
        if of_another_program {
            supervisor.house.renew_keeper().map_err(io_error("start a keeper"))?;
        }
        supervisor.serve(server).await
    }

    /// Takes over what an earlier supervisor left running.
    fn adopt(&mut self) {
        let entries = self.house.ledger.borrow().units().clone();
        for (name, entry) in entries {
            let spec = Rc::new(entry.spec.clone());
            let (current, others): (Vec<_>, Vec<_>) =
                entry.processes.iter().partition(|process| process.role == Role::Current);
            for recorded in others {
                if let Some(process) = Running::adopt(recorded, &spec) {
                    see_off(Rc::clone(&self.house), name.clone(), process);
                }
            }
            let adopted = current.into_iter().find_map(|recorded| Some((Running::adopt(recorded, &spec)?, recorded)));
            self.house.put(UnitStatus { restarts: entry.restarts, ..unknown(&entry.spec) });
            if let Some((process, recorded)) = &adopted {
                tracing::info!(unit = %name, pid = process.pid(), "adopted");
                self.house.recover_sockets(&spec, process.pid());
                self.house.show(&name, |status| {
                    status.confinement = recorded.confined.as_ref().map(ToString::to_string);
                    status.confined.clone_from(&recorded.confined);
                });
            }
            self.employ(&entry, adopted.map(|(process, _)| process));
        }
        self.house.release_sockets();
    }

    /// Gives a unit its task.
    fn employ(&mut self, entry: &Entry, adopted: Option<Running>) {
        let spec = Rc::new(entry.spec.clone());
        let wish = Wish { digest: spec.digest(), spec, run: entry.run, round: entry.round };
        let (sender, receiver) = watch::channel(wish);
        let name = entry.spec.name.clone();
        let task = UnitTask::new(name.clone(), Rc::clone(&self.house), receiver);
        self.wishes.insert(name, sender);
        tokio::task::spawn_local(task.run(adopted));
    }

    async fn serve(mut self, server: Server) -> Result<Outcome, SuperviseError> {
        let lifecycle = Lifecycle::new(Duration::from_secs(1));
        let (desk, mut requests) = mpsc::channel(16);
        let control = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { server.serve(Arc::new(Desk(desk)), &lifecycle).await }
        });
        tokio::task::spawn_local(rotate_logs(Rc::clone(&self.house)));
        tokio::task::spawn_local(guard_keeper(Rc::clone(&self.house)));
        let mut terminate = signal(SignalKind::terminate()).map_err(io_error("listen to signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("listen to signals"))?;
        loop {
            let next = tokio::select! {
                _ = terminate.recv() => Next::End { forget: false, answer: None },
                _ = interrupt.recv() => Next::End { forget: false, answer: None },
                Some((request, answer)) = requests.recv() => self.take(&request, answer),
            };
            match next {
                Next::GoOn => {}
                Next::Become(program) => {
                    let keeper = self.house.keeper.borrow();
                    let Some(keeper) = keeper.as_ref() else { continue };
                    let link = keeper.link().try_clone().map_err(io_error("keep the channel to the keeper"))?;
                    return Ok(Outcome::Become(program, link));
                }
                Next::End { forget, answer } => {
                    self.stop_all(forget).await;
                    if let Some(keeper) = self.house.keeper.borrow_mut().take() {
                        keeper.dismiss();
                    }
                    if let Some(answer) = answer {
                        // A client that no longer listens needs no answer.
                        drop(answer.send(Ok(json!({}))));
                    }
                    // The answer is written by the control task; then its socket's name is removed.
                    lifecycle.stop();
                    drop(lifecycle.run().await);
                    drop(control.await);
                    return Ok(Outcome::Ended);
                }
            }
        }
    }

    fn take(&mut self, request: &Request, answer: oneshot::Sender<Result<Value, Refusal>>) -> Next {
        let done = match request.command.as_str() {
            "status" => serde_json::to_value(self.status()).map_err(|error| Refusal::because(&error, None)),
            "apply" => request.field("unit").and_then(|spec| self.apply(spec)),
            "restart" => request.field("unit").and_then(|unit| self.restart(&unit)),
            "stop" | "remove" => {
                let forget = request.command == "remove";
                match request.field("unit").and_then(|unit| self.stop(&unit, forget)) {
                    Ok(stopped) => {
                        tokio::task::spawn_local(async move { drop(answer.send(stopped.await)) });
                        return Next::GoOn;
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            "replace" => match request.field::<PathBuf>("program").and_then(|path| self.next_program(path)) {
                Ok(program) => {
                    drop(answer.send(Ok(json!({}))));
                    return Next::Become(program);
                }
                Err(refusal) => Err(refusal),
            },
            "rest" => return Next::End { forget: false, answer: Some(answer) },
            "shutdown" => return Next::End { forget: true, answer: Some(answer) },
            _ => Err(request.unknown()),
        };
        drop(answer.send(done));
        Next::GoOn
    }

    fn apply(&mut self, spec: UnitSpec) -> Result<Value, Refusal> {
        let name = spec.name.clone();
        let known = self.house.ledger.borrow().units().get(&name).cloned();
        if known.as_ref().is_some_and(|entry| entry.run && entry.spec == spec) {
            if !self.gave_up(&name) {
                return Ok(json!({ "changed": false }));
            }
            // What was wrong may have been mended outside the description since.
            self.restart(&name)?;
            return Ok(json!({ "changed": true }));
        }
        // A taken address is the most likely reason for a refusal, and it is known now.
        self.house.sockets(&spec).map_err(|error| Refusal::because(&error, error.help()))?;
        if known.is_some() && !self.wishes.contains_key(&name) {
            return Err(Refusal::new(format!("{name} is just being removed")).help("try again in a moment"));
        }
        let round = known.as_ref().map_or(0, |entry| entry.round);
        let processes = known.map_or_else(Vec::new, |entry| entry.processes);
        let entry = Entry { spec, run: true, round, restarts: 0, processes };
        self.write(|units| {
            units.insert(name.clone(), entry.clone());
        })?;
        match self.wishes.get(&name) {
            Some(wish) => {
                let spec = Rc::new(entry.spec);
                let digest = spec.digest();
                self.house.show(&name, |status| {
                    status.wanted = digest;
                    status.restarts = 0;
                });
                wish.send_replace(Wish { digest, spec, run: true, round });
            }
            None => {
                self.house.put(unknown(&entry.spec));
                self.employ(&entry, None);
            }
        }
        Ok(json!({ "changed": true }))
    }

    /// Whether a unit's present description does not run.
    fn gave_up(&self, unit: &UnitName) -> bool {
        let status = self.house.board().remove(unit);
        status.is_some_and(|status| status.state == UnitState::Pausing || status.refused.is_some())
    }

    fn restart(&self, unit: &UnitName) -> Result<Value, Refusal> {
        let wish = self.wish(unit)?;
        self.write(|units| {
            if let Some(entry) = units.get_mut(unit) {
                entry.round += 1;
                entry.run = true;
                entry.restarts = 0;
            }
        })?;
        self.house.show(unit, |status| {
            status.refused = None;
            status.restarts = 0;
        });
        wish.send_modify(|wish| {
            wish.round += 1;
            wish.run = true;
        });
        Ok(json!({}))
    }

    fn stop(
        &mut self,
        unit: &UnitName,
        forget: bool,
    ) -> Result<impl Future<Output = Result<Value, Refusal>> + use<>, Refusal> {
        self.wish(unit)?;
        self.write(|units| {
            if let Some(entry) = units.get_mut(unit) {
                entry.run = false;
            }
        })?;
        self.wish(unit)?.send_modify(|wish| wish.run = false);
        if forget {
            // Without its sender, the task ends when nothing runs any more.
            self.wishes.remove(unit);
        }
        let (house, unit) = (Rc::clone(&self.house), unit.clone());
        Ok(async move {
            house.until(|board| board.get(&unit).is_none_or(|status| status.state == UnitState::Stopped)).await;
            if forget {
                house.remove(&unit);
                let forgotten = house.ledger.borrow_mut().write(|units| drop(units.remove(&unit)));
                forgotten.map_err(|error| Refusal::because(&error, None))?;
            }
            Ok(json!({}))
        })
    }

    fn wish(&self, unit: &UnitName) -> Result<&watch::Sender<Wish>, Refusal> {
        self.wishes
            .get(unit)
            .ok_or_else(|| Refusal::new(format!("there is no unit {unit}")).help("`sovereign status` lists the units"))
    }

    fn write(&self, change: impl FnOnce(&mut BTreeMap<UnitName, Entry>)) -> Result<(), Refusal> {
        self.house.ledger.borrow_mut().write(change).map_err(|error| {
            Refusal::because(&error, Some("free some space on the file system of the state folder".to_owned()))
        })
    }

    fn next_program(&self, path: PathBuf) -> Result<Program, Refusal> {
        if let Err(error) = rustix::fs::access(&path, rustix::fs::Access::EXEC_OK) {
            return Err(Refusal::new(format!("cannot execute {}: {error}", path.display())));
        }
        if self.house.keeper.borrow().is_none() {
            return Err(Refusal::new("a keeper is just being started; try again"));
        }
        Ok(Program { path, args: self.house.program.args.clone() })
    }

    /// Stops all units, each after those that come after it. `forget`: they are not wanted again.
    async fn stop_all(&self, forget: bool) {
        let wanted = self.house.ledger.borrow().units().clone();
        loop {
            let board = self.house.board();
            let runs = |unit: &UnitName| board.get(unit).is_some_and(|status| status.state != UnitState::Stopped);
            let running: BTreeSet<&UnitName> = wanted.keys().filter(|unit| runs(unit)).collect();
            if running.is_empty() {
                break;
            }
            let needed: BTreeSet<&UnitName> = running
                .iter()
                .flat_map(|unit| &wanted[*unit].spec.after)
                .filter(|unit| running.contains(unit))
                .collect();
            let free: BTreeSet<&UnitName> = running.difference(&needed).copied().collect();
            // A circle of units that come after each other stops all at once.
            let wave = if free.is_empty() { &running } else { &free };
            for unit in wave {
                if let Some(wish) = self.wishes.get(*unit) {
                    wish.send_modify(|wish| wish.run = false);
                }
            }
            let stopped = |board: &BTreeMap<UnitName, UnitStatus>| {
                // One that was just being removed is gone altogether.
                wave.iter().all(|unit| board.get(*unit).is_none_or(|status| status.state == UnitState::Stopped))
            };
            self.house.until(stopped).await;
        }
        let written = self.house.ledger.borrow_mut().write(|units| {
            if forget {
                units.clear();
            }
        });
        if let Err(error) = written {
            tracing::error!(%error, "the ledger cannot be written");
        }
    }

    fn status(&self) -> SupervisorStatus {
        let mut units: Vec<UnitStatus> = self.house.board().into_values().collect();
        let ledger = self.house.ledger.borrow();
        for status in &mut units {
            let Some(pid) = status.pid else { continue };
            status.usage = Usage::of_session(pid);
            let recorded = ledger
                .units()
                .get(&status.name)
                .and_then(|entry| entry.processes.iter().find(|process| process.identity.pid == pid));
            status.running_seconds = recorded.and_then(|process| proc::age(&process.identity)).map(|age| age.as_secs());
        }
        let usage_of = |pid: u32| i32::try_from(pid).map(Usage::of).unwrap_or_default();
        let keeper = self.house.keeper.borrow();
        SupervisorStatus {
            pid: std::process::id(),
            incarnation: self.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            usage: usage_of(std::process::id()),
            keeper: keeper.as_ref().map(|keeper| KeeperStatus { pid: keeper.pid(), usage: usage_of(keeper.pid()) }),
            units,
        }
    }
}

/// A unit of which nothing is known but its description.
fn unknown(spec: &UnitSpec) -> UnitStatus {
    UnitStatus {
        name: spec.name.clone(),
        datacenter: spec.datacenter.clone(),
        state: UnitState::Starting,
        problem: None,
        wanted: spec.digest(),
        running: None,
        pid: None,
        running_seconds: None,
        restarts: 0,
        last_exit: None,
        next_try_ms: None,
        confinement: None,
        confined: None,
        usage: Usage::default(),
        sockets: spec.sockets.clone(),
        refused: None,
    }
}

/// Whether a process runs the program this one runs.
fn same_program(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path: String| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(format!("/proc/{pid}/exe")) == identity("/proc/self/exe".to_owned())
}

/// Starts another keeper whenever the present one is gone.
async fn guard_keeper(house: Rc<House>) {
    loop {
        let link = house.keeper.borrow().as_ref().and_then(|keeper| keeper.link().as_fd().try_clone_to_owned().ok());
        let watched = link.and_then(|link| child::readable(link).ok());
        if let Some(link) = watched {
            // A keeper says nothing unasked: readable means gone.
            drop(link.readable().await);
        }
        let Some(mut old) = house.keeper.borrow_mut().take() else { return };
        tracing::warn!(pid = old.pid(), "the keeper is gone; another one is started");
        old.collect();
        while let Err(error) = house.renew_keeper() {
            tracing::error!(%error, "no keeper starts; sockets would not survive the supervisor now");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn rotate_logs(house: Rc<House>) {
    loop {
        tokio::time::sleep(house.timing.log_check).await;
        let folders = std::fs::read_dir(crate::state::log_folders(&house.state)).into_iter().flatten().flatten();
        for folder in folders {
            if let Err(error) = logs::rotate(&folder.path(), logs::MOST_BYTES) {
                tracing::error!(%error, log = %folder.path().display(), "a log cannot be rotated");
            }
        }
    }
}
