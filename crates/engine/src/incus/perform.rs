//! Carrying out: what each step means on a host.

use std::collections::BTreeMap;

use sovereign_incus::image::Source;
use sovereign_model::stack::Site;
use sovereign_model::unit::Runs;
use sovereign_model::{DatacenterName, Digest, EdgeName, SiteName, Step, UnitName};
use sovereign_services::ghost::{self, Operator, Owner};
use sovereign_services::secret::Secret;

use super::instances::{Instances, InstancesError};
use super::newcomer::Newcomer;
use super::{IncusEngine, IncusEngineError, Link};
use crate::apply::{Progress, Receipt};
use crate::certificate;
use crate::edge::{self, NotFilled};
use crate::record::{self, Record};

type Tell<'t> = &'t (dyn Fn(Progress) + Send + Sync);

impl IncusEngine<'_> {
    /// Performs a step that belongs to a data center with hosts.
    ///
    /// # Errors
    /// When it cannot be done; doing it again goes on from there.
    pub async fn carry_out(&self, step: &Step, tell: Tell<'_>) -> Result<Receipt, IncusEngineError> {
        match step {
            Step::IssueCertificate { edge, names, addresses, not_after } => {
                self.issue(edge, certificate::Wanted { names, addresses, not_after: *not_after }).await
            }
            Step::MendHost { edge } => self.mend(edge, tell).await,
            Step::ConfigureEdge { edge, generation, config } => self.configure(edge, *generation, config, tell).await,
            Step::RunUnit { datacenter, unit, spec } | Step::ReplaceUnit { datacenter, unit, spec } => {
                self.run(step, datacenter, unit, *spec, tell).await
            }
            Step::StopUnit { datacenter, unit } => {
                // What nothing declares any more may be on any host; where it is not, nothing happens.
                for edge in self.parts.stack.edges_on_hosts().filter(|edge| edge.datacenter == *datacenter) {
                    let link = self.parts.reach.link(&edge).await?;
                    if [edge.agent(), edge.name_server(), edge.renewer()].contains(unit) {
                        link.remove_unit(&self.parts.stack.name, unit).await?;
                        if edge.name_server() == *unit {
                            self.tidy_keys(&edge, link, &[]).await?;
                        }
                    } else {
                        self.with_instances(&edge, link, unit, async |instances| instances.stop(unit).await).await?;
                    }
                }
                Ok(Receipt::default())
            }
            Step::RetireUnit { datacenter, unit } => {
                let (edge, link) = self.place_of(datacenter, unit).await?;
                self.with_instances(&edge, link, unit, async |instances| instances.retire(unit).await).await?;
                Ok(Receipt::default())
            }
            Step::SetUpSite { site, .. } => self.set_up(site, None).await,
            Step::ApplySettings { site, digest, .. } => self.set_up(site, Some(*digest)).await,
            Step::FillMirror { edge, site } => self.fill(edge, site, tell).await,
            // Of this machine.
            Step::PrepareImage { .. } | Step::StartSupervisor { .. } | Step::ReplaceSupervisor { .. } => {
                Err(IncusEngineError::Undeclared { what: step.to_string() })
            }
        }
    }
}

impl IncusEngine<'_> {
    /// The host of a unit, and the way to it.
    async fn place_of(
        &self,
        datacenter: &DatacenterName,
        unit: &UnitName,
    ) -> Result<(EdgeName, &Link), IncusEngineError> {
        let undeclared = || IncusEngineError::Undeclared { what: unit.to_string() };
        let wanted = self.parts.wanted.unit(datacenter, unit).ok_or_else(undeclared)?;
        let edge = EdgeName::on(datacenter, wanted.runs.host().ok_or_else(undeclared)?);
        let link = self.parts.reach.link(&edge).await?;
        Ok((edge, link))
    }

    async fn run(
        &self,
        step: &Step,
        datacenter: &DatacenterName,
        unit: &UnitName,
        spec: Digest,
        tell: Tell<'_>,
    ) -> Result<Receipt, IncusEngineError> {
        let undeclared = || IncusEngineError::Undeclared { what: step.to_string() };
        let wanted = self.parts.wanted.unit(datacenter, unit).filter(|wanted| wanted.digest == spec);
        let wanted = wanted.ok_or_else(undeclared)?;
        match &wanted.runs {
            Runs::Unit(unit) => {
                let host = EdgeName::on(datacenter, unit.host.as_ref().ok_or_else(undeclared)?);
                if unit.name == host.agent() {
                    self.run_agent(&host, unit, tell).await
                } else if unit.name == host.name_server() {
                    self.run_name_server(&host, unit, tell).await
                } else if unit.name == host.renewer() {
                    self.run_renewer(&host, unit, tell).await
                } else {
                    self.run_edge(&host, tell).await
                }
            }
            Runs::Instance(spec) => {
                let (edge, link) = self.place_of(datacenter, unit).await?;
                let contents = self.parts.contents.get(unit).ok_or_else(undeclared)?;
                let files = self.parts.images.get(&spec.fingerprint).ok_or_else(undeclared)?;
                let incus = |source| IncusEngineError::Incus { host: edge.clone(), source: Box::new(source) };
                let image = Source::described(&files.metadata, &files.rootfs, spec.fingerprint).await.map_err(incus)?;
                let began = std::time::Instant::now();
                let run = async |instances: &Instances<'_, _>| instances.run(spec, contents, &image, tell).await;
                self.with_instances(&edge, link, unit, run).await?;
                Ok(Receipt::note(format!("well after {:.1} s", began.elapsed().as_secs_f64())))
            }
        }
    }

    /// Does something with the instances of a host, for a unit.
    async fn with_instances<T>(
        &self,
        edge: &EdgeName,
        link: &Link,
        unit: &UnitName,
        act: impl AsyncFnOnce(&Instances<'_, sovereign_hosts::Connection>) -> Result<T, InstancesError>,
    ) -> Result<T, IncusEngineError> {
        let instances = self.instances(edge, link).await?;
        let failed =
            |source| IncusEngineError::Instance { unit: unit.clone(), host: edge.clone(), source: Box::new(source) };
        act(&instances).await.map_err(failed)
    }

    /// Sets a site up, settings included; `settings` is the digest to remember once they are applied.
    async fn set_up(&self, name: &SiteName, settings: Option<Digest>) -> Result<Receipt, IncusEngineError> {
        let site = self.site(name)?;
        let operator = self.operator(site).await?;
        let password = self.parts.keys.owner_password(name).map_err(IncusEngineError::Keys)?;
        let owner = Owner {
            name: site.settings.title.clone().unwrap_or_else(|| name.to_string()),
            email: ghost::owner_email(&site.canonical),
            password: Secret::new(password.expose()),
        };
        let webhooks = self.webhooks(site)?;
        let done = ghost::setup(&operator, site, &owner, &webhooks, None)
            .await
            .map_err(|source| IncusEngineError::Ghost { site: name.clone(), source: Box::new(source) })?;
        let path = self.parts.state.set_up(&site.place(self.parts.stack), name);
        let before = Record::read(&path)?.and_then(|record| record.settings);
        let note = (!done.changed.is_empty()).then(|| done.changed.join(", "));
        Record::new(&webhooks, done, settings.or(before)).write(&path)?;
        Ok(Receipt { note, fetched: BTreeMap::new() })
    }

    /// The operator's door of a site's Ghost.
    ///
    /// # Errors
    /// When its host is not reached, or no Ghost runs there.
    pub async fn operator(&self, site: &Site) -> Result<Operator, IncusEngineError> {
        self.parts.reach.operator(self.parts.stack, site).await
    }

    /// The instance of a site's Ghost, as data comes to it; `None` where there is none.
    ///
    /// # Errors
    /// When its host is not reached.
    pub async fn newcomer(&self, site: &Site) -> Result<Option<Newcomer>, IncusEngineError> {
        let undeclared = || IncusEngineError::Undeclared { what: format!("site {}", site.name) };
        let host = site.host(self.parts.stack).ok_or_else(undeclared)?;
        let edge = EdgeName::on(&site.primary, &host.name);
        let link = self.parts.reach.link(&edge).await?;
        let unit = ghost::ghost_unit(site, &site.primary).map_err(|_| undeclared())?;
        link.newcomer(&self.parts.stack.name, &unit).await
    }

    async fn fill(&self, edge: &EdgeName, site: &SiteName, tell: Tell<'_>) -> Result<Receipt, IncusEngineError> {
        let link = self.parts.reach.link(edge).await?;
        let mark = record::filled(self.parts.state, edge, site);
        edge::fill(&link.control, site, &mark, tell).await.map_err(|error| match error {
            NotFilled::Edge(why) => IncusEngineError::NotFilled { host: edge.clone(), site: site.clone(), why },
            NotFilled::Mark(source) => IncusEngineError::File { path: mark.clone(), source },
        })
    }
}
