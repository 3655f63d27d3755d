//! The agent on a host, beside its edge: its configuration, its service.
//!
//! It has a user of its own, who reads neither the edge's keys nor its pages. Its configuration is a file that its
//! description names by what is in it, so that the agent before, which is kept, finds what it was given.

use sovereign_hosts::systemd::Account;
use sovereign_hosts::{Access, Run};
use sovereign_model::EdgeName;
use sovereign_model::agent_config::PROTOCOL;
use sovereign_model::layout::on_host;
use sovereign_model::unit::UnitSpec;
use sovereign_runtime::signed;

use super::{IncusEngine, IncusEngineError};
use crate::apply::{Progress, Receipt};

/// For root to write, and for the agent to read.
const READABLE: Access<'static> = Access { mode: 0o640, owner: "root:sovereign-agent" };

/// The folder of its socket: the name server asks it, as a member of its group.
const RUN_MODE: &str = "0750";

/// It is never given anything newer: another configuration is another agent.
const GENERATION: u64 = 1;

impl IncusEngine<'_> {
    /// Has the agent run as it is described, in the place of the one before.
    pub(super) async fn run_agent(
        &self,
        name: &EdgeName,
        unit: &UnitSpec,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let wanted = self.parts.wanted.agents.get(name);
        let wanted = wanted.ok_or_else(|| IncusEngineError::Undeclared { what: unit.name.to_string() })?;
        let link = self.parts.reach.link(name).await?;
        let folder = self.on_host().agent(&name.datacenter);
        link.prepare(on_host::AGENT_USER, folder.path(), RUN_MODE, &["run"]).await.map_err(failed)?;
        let publishes = wanted.config.publishes.as_ref();
        self.bring_provider_secrets(name, link, &folder, publishes).await?;
        let payload = serde_json::to_string(&wanted.config).expect("a configuration serializes to JSON");
        let key = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?;
        let sealed = signed::seal(&key, PROTOCOL, GENERATION, payload);
        let path = folder.config(&wanted.config_digest);
        link.connection.put_bytes(&path, sealed.as_bytes(), READABLE).await.map_err(failed)?;
        let receipt = self.run_on_host(name, link, unit, Account::agent(), &link.agent, tell).await?;
        let tidy = Run::script("remove older configurations", include_str!("tidy_configs.sh")).arg(folder.path());
        link.connection.succeed(&tidy).await.map_err(failed)?;
        self.remove_older_provider_secrets(name, link, &folder, publishes).await?;
        Ok(receipt)
    }
}
