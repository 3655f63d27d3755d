//! Stopping everything of a stack on a host. Data stays.

use std::collections::BTreeSet;

use sovereign_hosts::systemd;
use sovereign_model::{EdgeName, StackName, UnitName};

use super::IncusEngineError;
use super::reach::Link;

impl Link {
    /// Stops a unit of the host's own, and removes it. Whether it was there.
    pub(super) async fn remove_unit(&self, stack: &StackName, unit: &UnitName) -> Result<bool, IncusEngineError> {
        let failed = |source| IncusEngineError::Unit { host: self.edge.clone(), source: Box::new(source) };
        systemd::remove(&self.connection, stack, unit).await.map_err(failed)
    }

    /// Stops the edge, its agent, the name server, the renewer and all applications; what ran.
    ///
    /// # Errors
    /// When the host does not obey. What was stopped stays so, and doing it again goes on.
    pub async fn stop_all(&self, stack: &StackName, edge: &EdgeName) -> Result<Vec<UnitName>, IncusEngineError> {
        let mut stopped = Vec::new();
        // Nobody is to be led here any more before nobody serves.
        for unit in [edge.renewer(), edge.name_server(), edge.agent(), edge.unit()] {
            if self.remove_unit(stack, &unit).await? {
                stopped.push(unit);
            }
        }
        let incus = |source| IncusEngineError::Incus { host: edge.clone(), source: Box::new(source) };
        let instances = self.instances(stack).await.map_err(incus)?;
        let failed = |source| IncusEngineError::Instances { host: edge.clone(), source: Box::new(source) };
        let units = instances.look().await.map_err(failed)?.units;
        let described = units.values().filter_map(|runs| runs.current.as_ref());
        let needed: BTreeSet<_> = described.flat_map(|current| current.spec.after.clone()).collect();
        // What others need stops last.
        let (last, first): (Vec<_>, Vec<_>) = units.into_keys().partition(|unit| needed.contains(unit));
        for unit in first.into_iter().chain(last) {
            instances.stop(&unit).await.map_err(failed)?;
            stopped.push(unit);
        }
        Ok(stopped)
    }
}
