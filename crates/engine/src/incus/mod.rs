//! The engine of data centers with hosts of their own: what steps mean there.
//!
//! ```text
//!  this machine ══ SSH, one connection a host ══▶ host ─┬─ systemd ── edge: a unit of the host's own
//!                                                      └─ Incus ──── applications, each in a container
//! ```
//!
//! Promise: hosts are looked at all at once, and one that does not answer delays no other and is reported; every step can
//! be repeated after being cut off anywhere; nothing of this listens on a host but its SSH server.
//!
//! | module | what it knows |
//! |---|---|
//! | [`reach`] | how a host is reached |
//! | [`lease`] | one run at a time on a host |
//! | `edges` | its edge: files, service |
//! | `agents` | the agent beside it, likewise |
//! | `name_servers` | the name server beside both, and the keys of its zones |
//! | `renewers` | the renewer beside them, and the key it signs with |
//! | `companions` | one look at all of them |
//! | `providers` | what an agent proves the stack with at providers of DNS |
//! | `site_files` | the files of static sites there |
//! | `host_unit` | a unit of its own: program, service |
//! | `written` | which configurations this machine wrote |
//! | [`evacuated`] | hosts that are emptied on purpose |
//! | `down` | how everything on it is stopped |
//! | `drift`, `mend` | what was changed on it behind our back, and put right again |
//! | [`instances`] | applications in its Incus |
//! | [`door`] | how a Ghost in a container is operated |
//! | [`logs`], [`access`] | what units have written, what was read at an edge |
//! | [`usage`] | what units use of the host |
//! | `newcomer` | how data comes into one |
//! | [`beside`] | data of a site beside the live one |
//!
//! Left out: making a bare host ready (the hosts' room), what applications need (services), where images come from.

pub mod access;
mod agents;
pub mod beside;
mod companions;
pub mod door;
mod down;
mod drift;
mod edge_seen;
mod edges;
mod error;
pub mod evacuated;
mod host_unit;
pub mod instances;
pub mod lease;
pub mod logs;
mod mend;
mod name_servers;
mod newcomer;
mod perform;
mod providers;
pub mod reach;
mod renewers;
mod site_files;
pub mod usage;
mod written;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures_util::future::join_all;
use sovereign_hosts::Connection;
use sovereign_hosts::ready::Openings;
use sovereign_keys::WorkingKeys;
use sovereign_model::instance::bridge;
use sovereign_model::layout::{StateFolder, on_host};
use sovereign_model::observed::{DatacenterSeen, EdgeSeen, Primary, SiteSeen, UnitSeen, UnitState};
use sovereign_model::stack::{App, Site};
use sovereign_model::unit::UnitSpec;
use sovereign_model::{Digest, EdgeName, FileSet, Observed, SiteName, Stack, UnitName};
use sovereign_plan::Wanted;
use sovereign_services::ghost;
use sovereign_services::secret::Secret;
use tokio::sync::Semaphore;

use companions::Companions;
use edges::EdgeLook;
pub(crate) use edges::READABLE;
pub use error::IncusEngineError;
use instances::{Condition, Contents, Instances};
pub use newcomer::{Newcomer, NewcomerError};
pub use reach::{Asked, Link, Reach};

use crate::record::{self, Record};

/// So many hosts are looked at at once.
const AT_ONCE: usize = 8;

/// An edge, the units of its host, and the primaries that the edge has proof of.
type HostLook = (EdgeSeen, Vec<(UnitName, UnitSeen)>, Vec<(SiteName, Primary)>);

/// What the engine is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is declared.
    pub stack: &'a Stack,
    /// What follows from it.
    pub wanted: &'a Wanted,
    /// The stack's state folder on this machine.
    pub state: &'a StateFolder,
    /// The stack's secrets.
    pub keys: &'a WorkingKeys,
    /// The hosts.
    pub reach: &'a Reach,
    /// The program that edges run, on this machine.
    pub program: &'a Path,
    /// What is in the files of instances.
    pub contents: &'a BTreeMap<UnitName, Contents>,
    /// The files of static sites that are on hosts.
    pub files: &'a BTreeMap<SiteName, FileSet>,
    /// What may come in on each host, where that was written down.
    pub openings: &'a BTreeMap<EdgeName, Openings>,
    /// The images that instances are made from, by the digest that Incus knows each by.
    pub images: &'a BTreeMap<Digest, RootFiles>,
    /// The hour.
    pub now: SystemTime,
}

/// An image on this machine: both archives that Incus makes an instance from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFiles {
    /// What describes it.
    pub metadata: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
}

/// The engine of a stack's data centers that have hosts of their own.
#[derive(Debug)]
pub struct IncusEngine<'a> {
    parts: Parts<'a>,
}

impl<'a> IncusEngine<'a> {
    /// An engine of these parts. Nothing is opened yet.
    pub fn new(parts: Parts<'a>) -> Self {
        Self { parts }
    }

    /// The state folder of the stack on every host.
    fn on_host(&self) -> StateFolder {
        on_host::state(&self.parts.stack.name)
    }

    fn site(&self, name: &SiteName) -> Result<&'a Site, IncusEngineError> {
        let site = self.parts.stack.sites.get(name);
        site.ok_or_else(|| IncusEngineError::Undeclared { what: format!("site {name}") })
    }

    /// Where a Ghost tells of changes, and how it signs that.
    fn webhooks(&self, site: &Site) -> Result<ghost::Webhooks, IncusEngineError> {
        let key = self.parts.keys.webhook_key(&site.name).map_err(IncusEngineError::Keys)?;
        Ok(ghost::Webhooks {
            target: ghost::webhook_url_at(site, SocketAddrV4::new(bridge::HOST, site.edge_port)),
            key: Secret::new(key.expose()),
        })
    }

    fn edge_unit(&self, name: &EdgeName) -> Result<&'a UnitSpec, IncusEngineError> {
        let unit = self.parts.wanted.unit(&name.datacenter, &name.unit());
        let unit = unit.and_then(|unit| unit.runs.as_unit());
        unit.ok_or_else(|| IncusEngineError::Undeclared { what: format!("the edge of {name}") })
    }

    /// Looks at every host, at all of them at once. Those that do not answer are told as away.
    ///
    /// # Errors
    /// When something here cannot be read, or a host says what cannot be understood.
    pub async fn look(&self) -> Result<Observed, IncusEngineError> {
        let turns = Semaphore::new(AT_ONCE);
        let edges: Vec<EdgeName> = self.parts.stack.edges_on_hosts().collect();
        let looks = edges.iter().map(async |edge| {
            let _turn = turns.acquire().await; // never closed
            (edge, self.look_at(edge).await)
        });
        let mut seen = Observed::default();
        for (edge, looked) in join_all(looks).await {
            match looked {
                Ok((edge_seen, units, primaries)) => {
                    primaries.into_iter().for_each(|(site, primary)| seen.note_primary(&site, primary));
                    if edge_seen != Default::default() {
                        seen.edges.insert(edge.clone(), edge_seen);
                    }
                    let datacenter = seen.datacenters.entry(edge.datacenter.clone()).or_default();
                    datacenter.units.extend(units);
                }
                Err(IncusEngineError::Host { source, .. }) => {
                    seen.away.insert(edge.clone(), crate::causes::with_causes(&source));
                }
                Err(IncusEngineError::LeftOut { why, .. }) => drop(seen.away.insert(edge.clone(), why)),
                // Whether it answers by and by or not: what this run sees of the host is the same all along.
                Err(error) if error.is_silence() => {
                    self.parts.reach.leave_out(edge, &error);
                    seen.away.insert(edge.clone(), crate::causes::with_causes(&error));
                }
                Err(error) => return Err(error),
            }
        }
        // Of what was emptied on purpose it does not matter whether it answers.
        for (edge, note) in evacuated::evacuated(self.parts.reach).await {
            seen.away.remove(&edge);
            seen.evacuated.insert(edge, note.text());
        }
        seen.datacenters.retain(|_, datacenter| *datacenter != DatacenterSeen::default());
        self.sites(&mut seen)?;
        Ok(seen)
    }

    /// Takes over what other management machines wrote: from now on it is known here, and `seen` says so. Whether
    /// anything was.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn take_over(&self, seen: &mut Observed) -> Result<bool, IncusEngineError> {
        let mut any = false;
        for (edge, edge_seen) in &mut seen.edges {
            let provenance = edge_seen.config.as_mut().and_then(|config| config.provenance.as_mut());
            let Some(provenance) = provenance.filter(|provenance| !provenance.is_ours()) else { continue };
            written::finish(self.parts.state, edge, provenance.lies)?;
            provenance.written = vec![provenance.lies];
            any = true;
        }
        Ok(any)
    }

    async fn look_at(&self, name: &EdgeName) -> Result<HostLook, IncusEngineError> {
        let link = self.parts.reach.link(name).await?;
        let looks = (self.look_at_edge(name, link), self.look_beside(name, link), self.look_at_instances(link));
        let (edge, companions, instances) = tokio::join!(looks.0, looks.1, looks.2);
        let EdgeLook { seen: mut edge, unit, files, primaries } = edge?;
        let ((mut units, rules), Companions { agent, name_server, renewer, lacks }) = (instances?, companions?);
        edge.drift = drift::of_filter(&files, self.parts.openings.get(name), rules.as_deref());
        edge.drift.extend(self.drift_of_edge(name, &files)?);
        edge.drift.extend(agent.drift);
        edge.drift.extend(name_server.drift);
        edge.drift.extend(renewer.drift);
        edge.lacks = lacks;
        units.extend(unit.map(|unit| (name.unit(), unit)));
        units.extend(agent.unit.map(|unit| (name.agent(), unit)));
        units.extend(name_server.unit.map(|unit| (name.name_server(), unit)));
        units.extend(renewer.unit.map(|unit| (name.renewer(), unit)));
        Ok((edge, units, primaries))
    }

    /// Its instances, and the rules for packets between them, when there are any.
    async fn look_at_instances(
        &self,
        link: &Link,
    ) -> Result<(Vec<(UnitName, UnitSeen)>, Option<String>), IncusEngineError> {
        let seen = link.look(&self.parts.stack.name).await?;
        // What is beside for a while belongs to the run that made it, and to the next one of its kind.
        let units = seen.units.into_iter().filter(|(unit, _)| !ghost::is_beside(unit)).filter_map(|(unit, runs)| {
            let current = runs.current?;
            let state = match current.condition {
                Condition::Well => UnitState::Healthy,
                Condition::Unwell(_) => UnitState::Unhealthy,
                // Its host may be booting: what nothing declares any more is not over while it starts with that.
                Condition::Stopped if current.starts && !self.parts.wanted.declares(&unit) => UnitState::Unhealthy,
                Condition::Stopped => UnitState::Stopped,
            };
            let superseded = runs.superseded.iter().any(|superseded| superseded.is_running);
            let (spec, data_version) = (current.digest, current.spec.data_version);
            Some((unit, UnitSeen { state, spec, sockets: Default::default(), superseded, data_version }))
        });
        Ok((units.collect(), seen.rules))
    }

    /// The instances of a host.
    async fn instances<'l>(
        &'l self,
        name: &EdgeName,
        link: &'l Link,
    ) -> Result<Instances<'l, Connection>, IncusEngineError> {
        let failed = |source| IncusEngineError::Incus { host: name.clone(), source: Box::new(source) };
        link.instances(&self.parts.stack.name).await.map_err(failed)
    }

    /// Which sites were set up, and where.
    fn sites(&self, seen: &mut Observed) -> Result<(), IncusEngineError> {
        let ghosts = self.parts.stack.sites.values().filter(|site| site.app == App::Ghost);
        let hosts: Vec<EdgeName> = self.parts.stack.edges_on_hosts().collect();
        for site in ghosts {
            // The declared place first, should there be records at several.
            let declared = site.place(self.parts.stack);
            for at in std::iter::once(&declared).chain(&hosts).filter(|at| at.host.is_some()) {
                let Some(record) = Record::read(&self.parts.state.set_up(at, &site.name))? else { continue };
                let webhook = record.webhooks == record::digest_of(&self.webhooks(site)?);
                let site_seen = SiteSeen { at: at.clone(), set_up: true, settings: record.settings, webhook };
                seen.sites.insert(site.name.clone(), site_seen);
                break;
            }
        }
        Ok(())
    }
}
