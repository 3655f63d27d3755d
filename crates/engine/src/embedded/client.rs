//! The command line's side of the supervisor.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sovereign_model::UnitName;
use sovereign_model::unit::UnitSpec;
use sovereign_runtime::control::{ControlError, Request, request_async};

use super::keeper::OnlyOne;
use super::ledger::{Ledger, LedgerError};
use super::logs;
use super::proc::Identity;
use super::status::{SupervisorStatus, UnitStatus};
use super::unit::Running;
use sovereign_model::layout::StateFolder;

/// How long the supervisor may take for an answer it has at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a supervisor may take to come up, or to go when all units have stopped.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a keeper may take to start another supervisor in place of one that was killed: its longest pause, and some.
const RESTART_PATIENCE: Duration = Duration::from_secs(45);
/// How long stopping may take: the longest grace and some more.
const STOP_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two looks at something that is about to happen.
const LOOK: Duration = Duration::from_millis(20);

/// A supervisor that can be asked.
#[derive(Debug, Clone)]
pub struct Client {
    state: StateFolder,
}

/// The supervisor did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It could not be asked, or refused.
    #[error("the supervisor did not {action}")]
    Control {
        /// What was asked.
        action: &'static str,
        /// Why not.
        source: ControlError,
    },
    /// It answered something else than its protocol says.
    #[error("the supervisor's answer is not understood")]
    Answer(#[source] serde_json::Error),
    /// It could not be started.
    #[error("cannot start the supervisor {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It was started and does not answer.
    #[error("the supervisor does not come up; the end of its log:\n{log}")]
    NotUp {
        /// The last lines of its log.
        log: String,
    },
    /// What it left running when it was killed cannot be ended.
    #[error("cannot end what a killed supervisor left running")]
    LeftBehind(#[source] LedgerError),
    /// It has stopped its units and does not end.
    #[error("process {pid} of the supervisor does not end")]
    NotGone {
        /// The process.
        pid: i32,
    },
}

impl ClientError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Control { source, .. } => source.help(),
            Self::Answer(_) => Some("`sovereign up` replaces a supervisor of another version".to_owned()),
            Self::NotUp { .. } | Self::NotGone { .. } => Some("`sovereign logs supervisor` shows more".to_owned()),
            Self::LeftBehind(error) => error.help(),
            Self::Start { .. } => None,
        }
    }

    /// Whether there is no supervisor.
    pub fn nobody_listens(&self) -> bool {
        matches!(self, Self::Control { source, .. } if source.nobody_listens())
    }
}

impl Client {
    /// The supervisor of the stack in `state`, running or not.
    pub fn of(state: StateFolder) -> Self {
        Self { state }
    }

    /// What runs; `None` when no supervisor does.
    ///
    /// # Errors
    /// When one runs and does not answer.
    pub async fn status(&self) -> Result<Option<SupervisorStatus>, ClientError> {
        match self.ask("answer", Request::new("status"), PATIENCE).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.nobody_listens() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts the supervisor, unless one runs: `program` with `args` (`supervise --state <folder>`), in a session of
    /// its own, with nothing of this process's environment. Returns when it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self, program: &Path, args: &[OsString]) -> Result<SupervisorStatus, ClientError> {
        if let Some(status) = self.status().await? {
            return Ok(status);
        }
        let failed = |source| ClientError::Start { program: program.to_owned(), source };
        crate::state::create(&self.state).map_err(failed)?;
        let log: File = logs::open(&self.log_folder()).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let mut keeper = command.spawn().map_err(failed)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = self.status().await? {
                return Ok(status);
            }
            // One that ends well has found another, which is about to start a supervisor.
            let died = keeper.try_wait().map_err(failed)?.is_some_and(|status| !status.success());
            if died || Instant::now() > deadline {
                return Err(self.not_up());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has a unit run as described. Returns at once; says whether anything changes.
    ///
    /// # Errors
    /// A refusal names, for instance, who has the unit's port.
    pub async fn apply(&self, spec: &UnitSpec) -> Result<bool, ClientError> {
        #[derive(Deserialize)]
        struct Applied {
            changed: bool,
        }
        let spec = serde_json::to_value(spec).map_err(ClientError::Answer)?;
        let applied: Applied = self.ask("run the unit", Request::new("apply").with("unit", spec), PATIENCE).await?;
        Ok(applied.changed)
    }

    /// How a unit is now; `None` when the supervisor does not know it.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub async fn unit(&self, unit: &UnitName) -> Result<Option<UnitStatus>, ClientError> {
        let status: SupervisorStatus = self.ask("answer", Request::new("status"), PATIENCE).await?;
        Ok(status.units.into_iter().find(|status| status.name == *unit))
    }

    /// Waits until a unit runs as wanted and is well, or until `give_up` says so of its state; shows each look to it.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub async fn wait_well(
        &self,
        unit: &UnitName,
        mut give_up: impl FnMut(&UnitStatus) -> bool,
    ) -> Result<Option<UnitStatus>, ClientError> {
        loop {
            match self.unit(unit).await? {
                Some(status) if !status.is_well() && !give_up(&status) => tokio::time::sleep(LOOK * 2).await,
                end => return Ok(end),
            }
        }
    }

    /// Stops a unit; returns when it has.
    ///
    /// # Errors
    /// When the supervisor does not know it or does not answer.
    pub async fn stop(&self, unit: &UnitName) -> Result<(), ClientError> {
        self.name_unit("stop the unit", "stop", unit, STOP_PATIENCE).await
    }

    /// Stops a unit and forgets it; returns when it has.
    ///
    /// # Errors
    /// When the supervisor does not know it or does not answer.
    pub async fn remove(&self, unit: &UnitName) -> Result<(), ClientError> {
        self.name_unit("remove the unit", "remove", unit, STOP_PATIENCE).await
    }

    /// Has a unit's process replaced by a new one, the way its description says. Returns at once.
    ///
    /// # Errors
    /// When the supervisor does not know it or does not answer.
    pub async fn restart(&self, unit: &UnitName) -> Result<(), ClientError> {
        self.name_unit("restart the unit", "restart", unit, PATIENCE).await
    }

    /// Has the supervisor become `program`, units untouched. Returns when the new one answers.
    ///
    /// # Errors
    /// When it refuses, or the new one does not come up.
    pub async fn replace(&self, program: &Path) -> Result<SupervisorStatus, ClientError> {
        let before: SupervisorStatus = self.ask("answer", Request::new("status"), PATIENCE).await?;
        let request = Request::new("replace").with("program", program.display().to_string());
        match self.ask::<Value>("become the new program", request, PATIENCE).await {
            // The answer may be lost as it changes.
            Ok(_) | Err(ClientError::Control { source: ControlError::Broken { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match self.status().await {
                Ok(Some(status)) if status.incarnation != before.incarnation => return Ok(status),
                Ok(_) | Err(ClientError::Control { .. }) if Instant::now() < deadline => {}
                Ok(_) => return Err(self.not_up()),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops all units, the supervisor and its keeper, and forgets the units; returns when nothing of them is left, and
    /// which units there were. Units whose supervisor and keeper were killed are ended too.
    ///
    /// # Errors
    /// When it does not answer or does not end.
    pub async fn shutdown(&self) -> Result<Vec<UnitName>, ClientError> {
        self.end("shutdown").await
    }

    /// The same, but the next supervisor starts the units again: for a machine that goes down.
    ///
    /// # Errors
    /// When it does not answer or does not end.
    pub async fn rest(&self) -> Result<(), ClientError> {
        self.end("rest").await.map(drop)
    }

    fn not_up(&self) -> ClientError {
        let lines = logs::LogReader::tail(&self.log_folder(), 10).and_then(|mut reader| reader.read_new());
        ClientError::NotUp { log: String::from_utf8_lossy(&lines.unwrap_or_default()).trim_end().to_owned() }
    }

    async fn end(&self, command: &str) -> Result<Vec<UnitName>, ClientError> {
        let restarted = Instant::now() + RESTART_PATIENCE;
        let status = loop {
            match self.status().await {
                Ok(Some(status)) => break status,
                // Killed while it was being asked.
                Ok(None) | Err(ClientError::Control { source: ControlError::Broken { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
            match OnlyOne::try_in(&self.state.run()) {
                // No keeper either. Holding its lock keeps another from starting meanwhile.
                Ok(one) if one.is_held() => return self.end_left_behind(one).await,
                // The supervisor was killed; its keeper is about to start another.
                Ok(_) if Instant::now() < restarted => tokio::time::sleep(LOOK).await,
                Ok(_) => return Err(self.not_up()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(source) => return Err(ClientError::LeftBehind(LedgerError::Io { path: self.state.run(), source })),
            }
        };
        let units = status.units.into_iter().map(|unit| unit.name).collect();
        let pids = [Some(status.pid), status.keeper.map(|keeper| keeper.pid)];
        let processes: Vec<Identity> =
            pids.into_iter().flatten().filter_map(|pid| Identity::of(i32::try_from(pid).ok()?)).collect();
        match self.ask::<Value>("stop everything", Request::new(command), STOP_PATIENCE).await {
            // The answer may be lost as it ends.
            Ok(_) | Err(ClientError::Control { source: ControlError::Broken { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + START_PATIENCE;
        while let Some(process) = processes.iter().find(|process| process.lives()) {
            if Instant::now() > deadline {
                return Err(ClientError::NotGone { pid: process.pid });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(units)
    }

    /// Ends what a supervisor left running when it and its keeper were killed, and forgets it.
    async fn end_left_behind(&self, _only: OnlyOne) -> Result<Vec<UnitName>, ClientError> {
        let mut ledger = Ledger::open(&self.state.run()).map_err(ClientError::LeftBehind)?;
        let left = ledger.units().iter().flat_map(|(name, entry)| {
            let spec = Rc::new(entry.spec.clone());
            entry.processes.iter().filter_map(move |process| Some((name.clone(), Running::adopt(process, &spec)?)))
        });
        let mut ended = Vec::new();
        for (name, process) in left.collect::<Vec<_>>() {
            process.stop().await;
            ended.push(name);
        }
        let path = self.state.run();
        ledger.write(BTreeMap::clear).map_err(|source| ClientError::LeftBehind(LedgerError::Io { path, source }))?;
        Ok(ended)
    }

    /// Where the supervisor's own log lies, like a unit's.
    pub fn log_folder(&self) -> PathBuf {
        crate::state::log_folders(&self.state).join("supervisor")
    }

    async fn name_unit(
        &self,
        action: &'static str,
        command: &str,
        unit: &UnitName,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let request = Request::new(command).with("unit", unit.as_str());
        self.ask::<Value>(action, request, patience).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        action: &'static str,
        request: Request,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let answer = request_async(&crate::state::supervisor_socket(&self.state), &request, patience)
            .await
            .map_err(|source| ClientError::Control { action, source })?;
        serde_json::from_value(answer).map_err(ClientError::Answer)
    }
}
