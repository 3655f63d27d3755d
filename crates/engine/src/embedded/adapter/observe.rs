//! Looking: everything asked at once, nothing changed.

use std::collections::BTreeMap;
use std::fs;

use sovereign_model::edge_config::PROTOCOL;
use sovereign_model::edge_status::EdgeStatus;
use sovereign_model::observed::{
    ConfigSeen, DatacenterSeen, EdgeSeen, ImageSeen, MirrorSeen, SiteSeen, SupervisorSeen, UnitSeen, UnitState,
};
use sovereign_model::stack::{App, EngineKind};
use sovereign_model::{DatacenterName, Digest, EdgeName, Observed};
use sovereign_runtime::signed;
use tokio::task::JoinSet;

use super::{EmbeddedEngine, EmbeddedError};
use crate::certificate;
use crate::edge;
use crate::embedded::{SupervisorStatus, UnitState as Kept, UnitStatus};
use crate::record::{self, Record};

impl EmbeddedEngine<'_> {
    pub(super) async fn look(&self) -> Result<Observed, EmbeddedError> {
        let mut asked = JoinSet::new();
        for name in self.places() {
            let (name, socket) = (name.clone(), self.parts.state.edge(name).control());
            asked.spawn(async move { (name, edge::ask(&socket).await) });
        }
        let supervisor = self.client.status().await?;
        let mut answers: BTreeMap<_, _> = asked.join_all().await.into_iter().collect();

        let mut seen = Observed::default();
        let mut datacenters: BTreeMap<DatacenterName, DatacenterSeen> = BTreeMap::new();
        for unit in supervisor.iter().flat_map(|status| &status.units) {
            datacenters.entry(unit.datacenter.clone()).or_default().units.insert(unit.name.clone(), unit_seen(unit));
        }
        let trust = self.parts.keys.config_signing().map_err(EmbeddedError::Keys)?.verifying_key();
        for name in self.places() {
            let answer = answers.remove(name).flatten();
            let primaries = answer.iter().flat_map(|status| edge::primaries(&self.parts.stack.name, status, &trust));
            primaries.for_each(|(site, primary)| seen.note_primary(&site, primary));
            let edge = EdgeSeen {
                config: self.edge(name, answer.as_ref())?,
                certificate: certificate::seen(
                    &certificate::Files::of(self.parts.state, &EdgeName::here(name)),
                    self.parts.keys,
                    self.parts.state,
                )?,
                mirrors: answer.map(|status| self.mirrors(name, &status)).unwrap_or_default(),
                drift: Vec::new(),
                lacks: Vec::new(),
            };
            if edge != EdgeSeen::default() {
                seen.edges.insert(EdgeName::here(name), edge);
            }
        }
        for site in self.parts.stack.sites.values().filter(|site| site.app == App::Ghost) {
            let unit = Self::unit_of(site)?;
            if let Some(unit) = datacenters.get_mut(&site.primary).and_then(|at| at.units.get_mut(&unit)) {
                unit.data_version = self.data_version(site);
            }
        }
        seen.supervisor = supervisor.as_ref().map(supervisor_seen).transpose()?;
        seen.datacenters = datacenters;
        if let Some(image) = sovereign_images::ghost::find(self.parts.images, self.parts.ghost)? {
            let lock = self.parts.ghost;
            seen.images.insert(lock.image.clone(), ImageSeen { lock: lock.digest(), content: image.digest });
        }
        self.sites(&mut seen)?;
        Ok(seen)
    }

    /// The data centers of this machine.
    fn places(&self) -> impl Iterator<Item = &DatacenterName> {
        let datacenters = self.parts.stack.datacenters.values();
        datacenters.filter(|datacenter| datacenter.engine == EngineKind::Embedded).map(|datacenter| &datacenter.name)
    }

    /// The configuration an edge serves, or would start with.
    fn edge(&self, name: &DatacenterName, answer: Option<&EdgeStatus>) -> Result<Option<ConfigSeen>, EmbeddedError> {
        let path = self.parts.state.edge(name).config();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EmbeddedError::File { path, source }),
        };
        let trust = self.parts.keys.config_signing().map_err(EmbeddedError::Keys)?.verifying_key();
        // A file that this stack's present key did not sign is as good as none: it is written anew. Its generation is
        // not believed, the running edge's is.
        let lies = signed::open(&trust, PROTOCOL, &bytes).ok();
        let serves = answer.map(|status| status.generation).unwrap_or(0);
        let generation = lies.as_ref().map_or(0, |opened| opened.generation).max(serves);
        let config = match (answer, &lies) {
            (_, None) => Digest::of(&bytes),
            (Some(status), Some(_)) => status.config_digest,
            (None, Some(opened)) => Digest::of(&opened.payload),
        };
        Ok(Some(ConfigSeen {
            generation,
            config,
            certificate: answer.and_then(|status| status.certificate),
            healthy: answer.is_some_and(|status| status.healthy),
            provenance: None,
        }))
    }

    fn mirrors(&self, name: &DatacenterName, status: &EdgeStatus) -> BTreeMap<sovereign_model::SiteName, MirrorSeen> {
        let edge = EdgeName::here(name);
        edge::mirrors(status, |site| record::filled(self.parts.state, &edge, site).exists())
    }

    /// Which sites were set up, and where. Every data center that has a folder is looked at, declared or not: data must
    /// not be overlooked because its data center was renamed.
    fn sites(&self, seen: &mut Observed) -> Result<(), EmbeddedError> {
        let all = self.parts.state.path().join("dc");
        let folders = fs::read_dir(&all).into_iter().flatten().flatten();
        let mut places: Vec<DatacenterName> =
            folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect();
        places.sort();
        for site in self.parts.stack.sites.values().filter(|site| site.app == App::Ghost) {
            // The declared primary first, should there be records at several places.
            let first = places.iter().filter(|place| **place == site.primary);
            let rest = places.iter().filter(|place| **place != site.primary);
            for place in first.chain(rest) {
                let at = EdgeName::here(place);
                let path = self.parts.state.set_up(&at, &site.name);
                let Some(record) = Record::read(&path)? else { continue };
                let webhook = record.webhooks == record::digest_of(&self.webhooks(site)?);
                let site_seen = SiteSeen { at, set_up: true, settings: record.settings, webhook };
                seen.sites.insert(site.name.clone(), site_seen);
                break;
            }
        }
        Ok(())
    }
}

/// The binary is told by the folder it was started from, which is named by its digest; else by its bytes.
fn supervisor_seen(status: &SupervisorStatus) -> Result<SupervisorSeen, EmbeddedError> {
    let program = format!("/proc/{}/exe", status.pid);
    let named = fs::read_link(&program).ok().and_then(|path| {
        let folder = path.parent()?.file_name()?.to_str()?;
        format!("sha256:{folder}").parse().ok()
    });
    let binary = match named {
        Some(digest) => digest,
        None => Digest::of(fs::read(&program).map_err(EmbeddedError::file(&program))?),
    };
    Ok(SupervisorSeen { binary, version: status.version.clone() })
}

fn unit_seen(unit: &UnitStatus) -> UnitSeen {
    let state = match unit.state {
        Kept::Healthy => UnitState::Healthy,
        Kept::Stopped => UnitState::Stopped,
        Kept::Pausing => {
            let why = unit.problem.clone().or_else(|| unit.last_exit.clone());
            UnitState::Failed(why.unwrap_or_else(|| "it dies again and again".to_owned()))
        }
        Kept::Waiting | Kept::Starting | Kept::Unhealthy | Kept::Replacing | Kept::Stopping => UnitState::Unhealthy,
    };
    UnitSeen {
        state,
        spec: unit.running.unwrap_or(unit.wanted),
        sockets: unit.sockets.iter().map(|socket| socket.address).collect(),
        superseded: false,
        data_version: None,
    }
}
