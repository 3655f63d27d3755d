//! Putting right what was changed on a host behind our back.

use sovereign_hosts::ready::{self, Change};
use sovereign_hosts::systemd::Account;
use sovereign_model::EdgeName;

use super::edge_seen::EdgeFiles;
use super::{IncusEngine, IncusEngineError, drift};
use crate::apply::{Progress, Receipt};

impl IncusEngine<'_> {
    /// What of an edge is not as it was made.
    pub(super) fn drift_of_edge(&self, name: &EdgeName, files: &EdgeFiles) -> Result<Vec<String>, IncusEngineError> {
        Ok(drift::of_unit(files, &self.parts.stack.name, self.edge_unit(name)?, Account::edge()))
    }

    /// Puts all that was changed on a host right: first what may come in, then what passes between instances, then units of
    /// its own.
    pub(super) async fn mend(
        &self,
        name: &EdgeName,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, IncusEngineError> {
        let link = self.parts.reach.link(name).await?;
        let files = self.look_at_edge(name, link).await?.files;
        if let (Some(openings), Some(port)) = (self.parts.openings.get(name), files.ssh_port) {
            tell(Progress::Doing("packet filter".to_owned()));
            let failed = |source| IncusEngineError::Ready { host: name.clone(), source: Box::new(source) };
            let change = ready::filter_again(&link.connection, &openings.rules(port)).await.map_err(failed)?;
            if change == Change::Done {
                // They stay when somebody comes in anew.
                let newcomer = self.parts.reach.newcomer(name).await?;
                let kept = ready::keep_rules(&newcomer).await.map_err(failed);
                newcomer.close().await;
                kept?;
            }
        }
        let instances = self.instances(name, link).await?;
        let failed = |source| IncusEngineError::Instances { host: name.clone(), source: Box::new(source) };
        instances.filter_again().await.map_err(failed)?;
        if !self.drift_of_edge(name, &files)?.is_empty() {
            self.run_edge(name, tell).await?;
        }
        let companions = self.look_beside(name, link).await?;
        let agent = self.parts.wanted.unit(&name.datacenter, &name.agent()).and_then(|unit| unit.runs.as_unit());
        if let Some(unit) = agent.filter(|_| !companions.agent.drift.is_empty()) {
            self.run_agent(name, unit, tell).await?;
        }
        let described = self.parts.wanted.unit(&name.datacenter, &name.name_server());
        let described = described.and_then(|unit| unit.runs.as_unit());
        if let Some(unit) = described.filter(|_| !companions.name_server.drift.is_empty()) {
            self.run_name_server(name, unit, tell).await?;
        }
        let described = self.parts.wanted.unit(&name.datacenter, &name.renewer());
        let described = described.and_then(|unit| unit.runs.as_unit());
        if let Some(unit) = described.filter(|_| !companions.renewer.drift.is_empty()) {
            self.run_renewer(name, unit, tell).await?;
        }
        Ok(Receipt::default())
    }
}
