//! Carrying out: what each step means on this machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sovereign_images as images;
use sovereign_model::edge_config::EdgeConfig;
use sovereign_model::{DatacenterName, Digest, EdgeName, SiteName, Step, UnitName};
use sovereign_runtime::control::ControlError;
use sovereign_services::ghost::{self, Operator, Owner};
use sovereign_services::secret::Secret;
use tokio::sync::mpsc;

use super::{EmbeddedEngine, EmbeddedError};
use crate::apply::{Count, Part, Progress, Receipt, Unit};
use crate::certificate;
use crate::edge::{self, NotFilled};
use crate::embedded::logs::LogReader;
use crate::embedded::{UnitState, UnitStatus};
use crate::record::{self, Record};

/// A unit that has died this often in a row will not come up by waiting.
const MOST_RESTARTS: u32 = 3;

/// The last lines of a log that are worth showing with a failure.
const LOG_LINES: usize = 8;

type Tell<'t> = &'t (dyn Fn(Progress) + Send + Sync);

impl EmbeddedEngine<'_> {
    pub(super) async fn carry_out(&self, step: &Step, tell: Tell<'_>) -> Result<Receipt, EmbeddedError> {
        match step {
            Step::PrepareImage { lock, .. } => {
                Self::same(step, *lock, self.parts.ghost.digest())?;
                self.prepare_image(tell).await
            }
            Step::StartSupervisor { .. } => {
                self.client.start(self.parts.program, &self.parts.arguments).await?;
                Ok(Receipt::default())
            }
            Step::ReplaceSupervisor { .. } => {
                self.client.replace(self.parts.program).await?;
                Ok(Receipt::default())
            }
            Step::IssueCertificate { edge, names, addresses, not_after } => {
                let wanted = certificate::Wanted { names, addresses, not_after: *not_after };
                let files = certificate::Files::of(self.parts.state, edge);
                certificate::issue(&files, wanted, self.parts.keys, self.parts.state, self.parts.now)?;
                Ok(Receipt::default())
            }
            Step::ConfigureEdge { edge, generation, config } => {
                self.configure(&edge.datacenter, *generation, config).await
            }
            Step::RunUnit { datacenter, unit, spec } | Step::ReplaceUnit { datacenter, unit, spec } => {
                self.run_unit(step, datacenter, unit, *spec, tell).await
            }
            Step::StopUnit { unit, .. } => {
                self.client.remove(unit).await?;
                Ok(Receipt::default())
            }
            Step::SetUpSite { datacenter, site } => self.set_up(datacenter, site, None).await,
            Step::ApplySettings { datacenter, site, digest, .. } => self.set_up(datacenter, site, Some(*digest)).await,
            Step::FillMirror { edge, site } => self.fill(&edge.datacenter, site, tell).await,
            // A process here is replaced whole.
            Step::RetireUnit { .. } | Step::MendHost { .. } => Ok(Receipt::default()),
        }
    }

    async fn prepare_image(&self, tell: Tell<'_>) -> Result<Receipt, EmbeddedError> {
        let (store, options) = (self.parts.images.clone(), self.parts.options.clone());
        let lock = self.parts.ghost.clone();
        let (sender, mut events) = mpsc::unbounded_channel();
        let build =
            tokio::task::spawn_blocking(move || images::ghost::prepare(&store, &lock, &options, &Relay(sender)));
        // Ends when the build drops its end, with it or by panicking.
        while let Some(progress) = events.recv().await {
            tell(progress);
        }
        let (_, receipt) = build.await.map_err(|_| EmbeddedError::CutOff)??;
        let fetched = receipt.fetched.into_iter().map(|fetched| (fetched.host, fetched.bytes)).collect();
        Ok(Receipt { note: None, fetched })
    }

    async fn configure(
        &self,
        datacenter: &DatacenterName,
        generation: u64,
        config: &EdgeConfig,
    ) -> Result<Receipt, EmbeddedError> {
        self.write_edge(datacenter, config, generation)?;
        let socket = self.parts.state.edge(datacenter).control();
        match edge::reload(&socket).await {
            Ok(()) => Ok(Receipt::default()),
            // It starts with this configuration.
            Err(error) if error.nobody_listens() => Ok(Receipt::default()),
            // An edge that is about to be replaced may not be able to read it; its successor will.
            Err(ControlError::Refused { .. }) if self.is_to_be_replaced(datacenter).await? => Ok(Receipt::default()),
            Err(source) => Err(EmbeddedError::Edge { datacenter: datacenter.clone(), source }),
        }
    }

    async fn is_to_be_replaced(&self, datacenter: &DatacenterName) -> Result<bool, EmbeddedError> {
        let Some(wanted) = self.parts.wanted.edges.get(&EdgeName::here(datacenter)) else { return Ok(false) };
        let status = self.client.unit(&wanted.unit).await?;
        let runs = status.and_then(|status| status.running);
        Ok(runs != self.parts.wanted.unit(datacenter, &wanted.unit).map(|unit| unit.digest))
    }

    async fn run_unit(
        &self,
        step: &Step,
        datacenter: &DatacenterName,
        name: &UnitName,
        spec: Digest,
        tell: Tell<'_>,
    ) -> Result<Receipt, EmbeddedError> {
        let unit = self.parts.wanted.unit(datacenter, name);
        let unit = unit.ok_or_else(|| EmbeddedError::Undeclared { what: name.to_string() })?;
        Self::same(step, spec, unit.digest)?;
        match self.ghost_of(name) {
            Some(site) => self.ready_ghost(site)?,
            None => self.ready_edge(datacenter)?,
        }
        let described = unit.runs.as_unit().ok_or_else(|| EmbeddedError::Undeclared { what: name.to_string() })?;
        self.client.apply(described).await?;
        let began = Instant::now();
        let status = self
            .client
            .wait_well(name, |status| {
                tell(Progress::Doing(state_text(status)));
                gave_up(status)
            })
            .await?;
        match status {
            Some(status) if status.is_well() => {
                Ok(Receipt::note(format!("well after {:.1} s", began.elapsed().as_secs_f64())))
            }
            status => Err(self.not_well(name, status)),
        }
    }

    fn not_well(&self, unit: &UnitName, status: Option<UnitStatus>) -> EmbeddedError {
        let problem = status.and_then(|status| status.refused.or(status.problem).or(status.last_exit));
        let tail = LogReader::tail(&self.parts.state.logs(unit), LOG_LINES).and_then(|mut log| log.read_new());
        let log = String::from_utf8_lossy(&tail.unwrap_or_default()).trim_end().to_owned();
        let problem = problem.unwrap_or_else(|| "the supervisor does not know it".to_owned());
        EmbeddedError::NotWell { unit: unit.clone(), problem, log }
    }

    /// Stops a unit, for its data to be replaced, and waits until it has ended. Where it does not run there is nothing to
    /// do.
    ///
    /// # Errors
    /// When the supervisor does not do it.
    pub async fn halt(&self, unit: &UnitName) -> Result<(), EmbeddedError> {
        match self.known(unit).await? {
            Some(_) => Ok(self.client.stop(unit).await?),
            None => Ok(()),
        }
    }

    /// Starts a unit that was stopped, as it was described last, and waits until it is well; false where it is not one
    /// that runs.
    ///
    /// # Errors
    /// When it does not become well in time.
    pub async fn revive(&self, unit: &UnitName, patience: Duration) -> Result<bool, EmbeddedError> {
        let Some(status) = self.known(unit).await? else { return Ok(false) };
        if matches!(status.state, UnitState::Stopped | UnitState::Stopping) {
            self.client.restart(unit).await?;
        }
        let status = match tokio::time::timeout(patience, self.client.wait_well(unit, gave_up)).await {
            Ok(status) => status?,
            Err(_) => self.client.unit(unit).await?,
        };
        match status {
            Some(status) if status.is_well() => Ok(true),
            status => Err(self.not_well(unit, status)),
        }
    }

    /// Whether the supervisor has a unit of this name, running or not.
    ///
    /// # Errors
    /// When the supervisor does not say.
    pub async fn has(&self, unit: &UnitName) -> Result<bool, EmbeddedError> {
        Ok(self.known(unit).await?.is_some())
    }

    /// Has the supervisor stop a unit and forget it, where it has it. Its data stays.
    ///
    /// # Errors
    /// When it does not do it.
    pub async fn dismiss(&self, unit: &UnitName) -> Result<(), EmbeddedError> {
        if self.has(unit).await? { Ok(self.client.remove(unit).await?) } else { Ok(()) }
    }

    async fn known(&self, unit: &UnitName) -> Result<Option<UnitStatus>, EmbeddedError> {
        let status = self.client.status().await?;
        Ok(status.and_then(|status| status.units.into_iter().find(|known| known.name == *unit)))
    }

    /// Sets a site up, settings included; `settings` is the digest to remember once they are applied.
    async fn set_up(
        &self,
        datacenter: &DatacenterName,
        name: &SiteName,
        settings: Option<Digest>,
    ) -> Result<Receipt, EmbeddedError> {
        let site = self.site(name)?;
        let folder = self.parts.state.site(datacenter, name);
        let password = self.parts.keys.owner_password(name).map_err(EmbeddedError::Keys)?;
        let owner = Owner {
            name: site.settings.title.clone().unwrap_or_else(|| name.to_string()),
            email: ghost::owner_email(&site.canonical),
            password: Secret::new(password.expose()),
        };
        let webhooks = self.webhooks(site)?;
        let done = ghost::setup(&Operator::of(folder.path()), site, &owner, &webhooks, None)
            .await
            .map_err(|source| EmbeddedError::Ghost { site: name.clone(), source })?;
        let path = self.parts.state.set_up(&EdgeName::here(datacenter), name);
        let before = Record::read(&path)?.and_then(|record| record.settings);
        let note = (!done.changed.is_empty()).then(|| done.changed.join(", "));
        Record::new(&webhooks, done, settings.or(before)).write(&path)?;
        Ok(Receipt { note, fetched: BTreeMap::new() })
    }

    async fn fill(
        &self,
        datacenter: &DatacenterName,
        site: &SiteName,
        tell: Tell<'_>,
    ) -> Result<Receipt, EmbeddedError> {
        let socket = self.parts.state.edge(datacenter).control();
        let mark = record::filled(self.parts.state, &EdgeName::here(datacenter), site);
        edge::fill(&socket, site, &mark, tell).await.map_err(|error| match error {
            NotFilled::Edge(why) => {
                EmbeddedError::NotFilled { datacenter: datacenter.clone(), site: site.clone(), why }
            }
            NotFilled::Mark(source) => EmbeddedError::File { path: mark.clone(), source },
        })
    }
}

fn gave_up(status: &UnitStatus) -> bool {
    status.refused.is_some() || (status.state == UnitState::Pausing && status.restarts >= MOST_RESTARTS)
}

fn state_text(status: &UnitStatus) -> String {
    match status.state {
        UnitState::Waiting => "waits for others",
        UnitState::Starting => "starts",
        UnitState::Healthy => "is well",
        UnitState::Unhealthy => "does not answer",
        UnitState::Replacing => "takes over",
        UnitState::Pausing => "died, is started again soon",
        UnitState::Stopping => "stops",
        UnitState::Stopped => "is stopped",
    }
    .to_owned()
}

/// Carries a build's events out of its thread.
struct Relay(mpsc::UnboundedSender<Progress>);

impl images::Progress for Relay {
    fn report(&self, event: images::Event<'_>) {
        let progress = match event {
            images::Event::Started { stage } => Progress::Part(stage_text(stage), Part::Begun),
            images::Event::Advanced { stage, done, total, unit, .. } => {
                let of = match unit {
                    images::Unit::Bytes => Unit::Bytes,
                    images::Unit::Packages => Unit::Things("packages"),
                    images::Unit::Files => Unit::Things("files"),
                };
                Progress::Part(stage_text(stage), Part::Counted(Count { done, total, of }))
            }
            images::Event::Finished { stage, .. } => Progress::Part(stage_text(stage), Part::Done),
            images::Event::Note { message } => Progress::Doing(message.to_owned()),
        };
        // Whoever stopped listening has gone on.
        let _ = self.0.send(progress);
    }
}

fn stage_text(stage: images::Stage) -> &'static str {
    match stage {
        images::Stage::Resolve => "ask the mirror",
        images::Stage::Download => "download",
        images::Stage::Gather => "check what is kept",
        images::Stage::Install => "install dependencies",
        images::Stage::Compile => "compile SQLite",
        images::Stage::Trim => "trim to what runs",
        images::Stage::Seal => "hash and seal",
    }
}
