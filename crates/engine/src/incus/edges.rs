//! An edge on a host: its files, its program, its service.

use std::path::Path;

use sovereign_hosts::systemd::{Account, Names};
use sovereign_hosts::{Access, Run, SshError};
use sovereign_model::edge_config::{EdgeConfig, PROTOCOL};
use sovereign_model::layout::on_host;
use sovereign_model::observed::{ConfigSeen, EdgeSeen, Primary, Provenance, UnitSeen, Written};
use sovereign_model::{Digest, EdgeName, SiteName};
use sovereign_runtime::control::ControlError;
use sovereign_runtime::signed;

use super::edge_seen::EdgeFiles;
use super::reach::Link;
use super::{IncusEngine, IncusEngineError, written};
use crate::apply::{Progress, Receipt};
use crate::certificate;
use crate::edge;
use crate::record;

/// A configuration of a thousand sites is smaller.
const LONGEST_CONFIG: usize = 8 << 20;

/// What there is of an edge on a host.
pub(super) struct EdgeLook {
    pub(super) seen: EdgeSeen,
    pub(super) unit: Option<UnitSeen>,
    pub(super) files: EdgeFiles,
    /// The newest primaries of sites that it has proof of.
    pub(super) primaries: Vec<(SiteName, Primary)>,
}

type Tell<'t> = &'t (dyn Fn(Progress) + Send + Sync);

impl IncusEngine<'_> {
    /// What there is of an edge, of the unit that it runs as, and what it knows.
    pub(super) async fn look_at_edge(&self, name: &EdgeName, link: &Link) -> Result<EdgeLook, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let unit = self.edge_unit(name)?;
        let folder = self.on_host().edge(&name.datacenter);
        let begins = format!("{}.", Names::base(&self.parts.stack.name, &unit.name));
        let look = Run::script("look at its edge", concat!(include_str!("look.sh"), include_str!("look_filter.sh")))
            .arg(folder.path())
            .arg(begins);
        let (said, status) = tokio::join!(link.connection.succeed(&look), edge::ask(&link.control));
        let files = EdgeFiles::parse(&String::from_utf8_lossy(&said.map_err(failed)?));
        let (config, mut primaries) = self.config_seen(name, link, &files, status.as_ref()).await?;
        if let Some(status) = &status {
            let trust = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?.verifying_key();
            primaries.extend(edge::primaries(&self.parts.stack.name, status, &trust));
        }
        let seen = EdgeSeen {
            config,
            certificate: self.certificate_seen(name, &files)?,
            mirrors: status.as_ref().map(|status| self.mirrors(name, status)).unwrap_or_default(),
            drift: Vec::new(),
            lacks: Vec::new(),
        };
        let is_well = status.is_some_and(|status| status.healthy);
        let unit = files.unit(&self.parts.stack.name, &unit.name, Some(unit), is_well);
        Ok(EdgeLook { seen, unit, files, primaries })
    }

    fn mirrors(
        &self,
        name: &EdgeName,
        status: &sovereign_model::edge_status::EdgeStatus,
    ) -> std::collections::BTreeMap<sovereign_model::SiteName, sovereign_model::observed::MirrorSeen> {
        edge::mirrors(status, |site| record::filled(self.parts.state, name, site).exists())
    }

    /// The configuration that an edge serves, or would start with, and the primaries that what lies there names.
    async fn config_seen(
        &self,
        name: &EdgeName,
        link: &Link,
        files: &EdgeFiles,
        status: Option<&sovereign_model::edge_status::EdgeStatus>,
    ) -> Result<(Option<ConfigSeen>, Vec<(SiteName, Primary)>), IncusEngineError> {
        if files.digest("config.json").is_none() {
            return Ok((None, Vec::new()));
        }
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let path = self.on_host().edge(&name.datacenter).config();
        let Some(bytes) = link.connection.get_file(&path, LONGEST_CONFIG).await.map_err(failed)? else {
            return Ok((None, Vec::new()));
        };
        let trust = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?.verifying_key();
        // What this stack's present key did not sign is written anew. Its generation is not believed, the running edge's is.
        let lies = signed::open(&trust, PROTOCOL, &bytes).ok();
        let signed_here = lies.is_some();
        let serves = status.map_or(0, |status| status.generation);
        let generation = lies.as_ref().map_or(0, |opened| opened.generation).max(serves);
        let wanted = self.parts.wanted.edges.get(name);
        let config = match (status, &lies) {
            _ if wanted.is_some_and(|wanted| !files.has_all(&wanted.config)) => Digest::of(&bytes),
            (_, None) => Digest::of(&bytes),
            (Some(status), Some(_)) => status.config_digest,
            (None, Some(opened)) => Digest::of(&opened.payload),
        };
        let written = written::read(self.parts.state, name)?;
        let primaries = lies.map(|opened| edge::configured_primaries(&opened.payload)).unwrap_or_default();
        let seen = ConfigSeen {
            generation,
            config,
            provenance: provenance(&bytes, signed_here, written),
            certificate: status.and_then(|status| status.certificate),
            healthy: status.is_some_and(|status| status.healthy),
        };
        Ok((Some(seen), primaries))
    }

    /// The certificate on the host, when it is the one that was issued here.
    fn certificate_seen(
        &self,
        name: &EdgeName,
        files: &EdgeFiles,
    ) -> Result<Option<sovereign_model::observed::CertificateSeen>, IncusEngineError> {
        let here = certificate::Files::of(self.parts.state, name);
        let same = |path: &Path| {
            let there = files.digest(path.file_name()?.to_str()?)?;
            (Digest::of(std::fs::read(path).ok()?) == there).then_some(())
        };
        if same(&here.chain).and(same(&here.key)).is_none() {
            return Ok(None);
        }
        Ok(certificate::seen(&here, self.parts.keys, self.parts.state)?)
    }

    /// Issues a certificate and lays it ready on the host.
    pub(super) async fn issue(
        &self,
        name: &EdgeName,
        wanted: certificate::Wanted<'_>,
    ) -> Result<Receipt, IncusEngineError> {
        let here = certificate::Files::of(self.parts.state, name);
        certificate::issue(&here, wanted, self.parts.keys, self.parts.state, self.parts.now)?;
        let link = self.parts.reach.link(name).await?;
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        self.prepare(name, link).await.map_err(failed)?;
        let there = self.on_host().edge(&name.datacenter);
        // The key first: a chain whose key is missing would be taken for one that is ready.
        link.connection.put_file(&here.key, &there.key(), READABLE).await.map_err(failed)?;
        link.connection.put_file(&here.chain, &there.chain(), READABLE).await.map_err(failed)?;
        Ok(Receipt::default())
    }

    /// The user of edges, and the folders of this one.
    async fn prepare(&self, name: &EdgeName, link: &Link) -> Result<(), SshError> {
        let folder = self.on_host().edge(&name.datacenter);
        link.prepare(on_host::USER, folder.path(), "0700", &["store", "run", "log"]).await?;
        self.prepare_renewal(name, link, on_host::USER, &folder.renewal()).await
    }

    /// Writes an edge's configuration, and has it read that when it runs.
    pub(super) async fn configure(
        &self,
        name: &EdgeName,
        generation: u64,
        config: &EdgeConfig,
        tell: Tell<'_>,
    ) -> Result<Receipt, IncusEngineError> {
        let link = self.parts.reach.link(name).await?;
        let note = self.write_edge(name, link, generation, config, tell).await?;
        self.reload(name, link).await?;
        self.tidy_files(name, link, config).await?;
        Ok(Receipt { note, ..Receipt::default() })
    }

    /// Has an edge that runs read its configuration.
    async fn reload(&self, name: &EdgeName, link: &Link) -> Result<(), IncusEngineError> {
        match edge::reload(&link.control).await {
            Ok(()) => Ok(()),
            // It starts with this configuration.
            Err(error) if error.nobody_listens() => Ok(()),
            // Through a forwarded socket the connection is made before it is known that nobody listens. And one that is
            // about to be replaced may not be able to read it; its successor will.
            Err(source) if edge::ask(&link.control).await.is_none() || is_refusal(&source) => {
                let unit = self.look_at_edge(name, link).await?.unit;
                let wanted = self.edge_unit(name)?.digest();
                if unit.is_none_or(|unit| {
                    unit.spec != wanted || unit.state == sovereign_model::observed::UnitState::Stopped
                }) {
                    return Ok(());
                }
                Err(IncusEngineError::Edge { host: name.clone(), source: Box::new(source) })
            }
            Err(source) => Err(IncusEngineError::Edge { host: name.clone(), source: Box::new(source) }),
        }
    }

    async fn write_edge(
        &self,
        name: &EdgeName,
        link: &Link,
        generation: u64,
        config: &EdgeConfig,
        tell: Tell<'_>,
    ) -> Result<Option<String>, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let keys = self.parts.keys;
        self.prepare(name, link).await.map_err(failed)?;
        let put = async |path: &Path, bytes: &[u8]| link.connection.put_bytes(path, bytes, READABLE).await;
        let identity = keys.link_key(name).map_err(IncusEngineError::Keys)?;
        put(&config.link_key, identity.private_pem.expose().as_bytes()).await.map_err(failed)?;
        for site in &config.sites {
            if let Some(path) = &site.webhook_key {
                let key = keys.webhook_key(&site.site).map_err(IncusEngineError::Keys)?;
                put(path, key.expose().as_bytes()).await.map_err(failed)?;
            }
        }
        // Before the configuration that names them.
        let sent = self.put_files(name, link, config, tell).await?;
        let payload = serde_json::to_string(config).expect("a configuration serializes to JSON");
        let key = keys.config_signing().map_err(IncusEngineError::Keys)?;
        let written = Written { generation, config: Digest::of(&payload) };
        let sealed = signed::seal(&key, PROTOCOL, generation, payload);
        // Killed in between, this machine knows both, whichever of them lies there.
        written::begin(self.parts.state, name, written)?;
        put(&self.on_host().edge(&name.datacenter).config(), sealed.as_bytes()).await.map_err(failed)?;
        written::finish(self.parts.state, name, written)?;
        Ok(sent)
    }

    /// Has the edge run as it is described, in the place of the one before.
    pub(super) async fn run_edge(&self, name: &EdgeName, tell: Tell<'_>) -> Result<Receipt, IncusEngineError> {
        let link = self.parts.reach.link(name).await?;
        let unit = self.edge_unit(name)?;
        // One that was there before there was a renewer has no such folder yet, and does not start without.
        let renewal = self.on_host().edge(&name.datacenter).renewal();
        let prepared = self.prepare_renewal(name, link, on_host::USER, &renewal).await;
        prepared.map_err(|source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) })?;
        self.ready(name, link, tell).await?;
        self.run_on_host(name, link, unit, Account::edge(), &link.control, tell).await
    }

    /// Before an edge starts: its configuration must be one that it believes. It is not when there is none, or when the
    /// key that signs configurations was rotated.
    async fn ready(&self, name: &EdgeName, link: &Link, tell: Tell<'_>) -> Result<(), IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let path = self.on_host().edge(&name.datacenter).config();
        let there = link.connection.get_file(&path, LONGEST_CONFIG).await.map_err(failed)?;
        let trust = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?.verifying_key();
        if there.is_some_and(|bytes| signed::open(&trust, PROTOCOL, &bytes).is_ok()) {
            return Ok(());
        }
        let wanted = self.parts.wanted.edges.get(name);
        let wanted = wanted.ok_or_else(|| IncusEngineError::Undeclared { what: format!("the edge of {name}") })?;
        self.write_edge(name, link, 1, &wanted.config, tell).await.map(drop)
    }
}

/// For root to write, and for edges to read.
pub(crate) const READABLE: Access<'static> = Access { mode: 0o640, owner: "root:sovereign" };

/// Where a file comes from; `None` for what is no configuration, which says nothing of anybody's.
fn provenance(bytes: &[u8], signed: bool, written: Vec<Written>) -> Option<Provenance> {
    let (generation, payload) = signed::claims(bytes)?;
    Some(Provenance { lies: Written { generation, config: Digest::of(payload) }, signed, written })
}

fn is_refusal(error: &ControlError) -> bool {
    matches!(error, ControlError::Refused { .. })
}

#[cfg(test)]
mod tests {
    use sovereign_keys::{Purpose, RootSeed, WorkingKeys};

    use super::*;

    #[test]
    fn what_lies_on_a_host_is_told_apart_by_its_number_its_content_and_its_key() {
        let stack = "shop".parse().unwrap();
        let [ours, theirs] = [(); 2].map(|()| {
            let keys = WorkingKeys::imagined(&stack, &[Purpose::ConfigSigning], &RootSeed::generate());
            keys.config_signing().unwrap()
        });
        let written = |generation, payload: &str| Written { generation, config: Digest::of(payload) };
        let lies = |key, generation, payload: &str| {
            let bytes = signed::seal(key, PROTOCOL, generation, payload).into_bytes();
            let signed = signed::open(&ours.verifying_key(), PROTOCOL, &bytes).is_ok();
            provenance(&bytes, signed, vec![written(4, "mine")]).unwrap()
        };
        assert!(lies(&ours, 4, "mine").is_ours());
        assert!(!lies(&ours, 5, "mine").is_ours());
        assert!(!lies(&ours, 4, "other").is_ours());
        // A key that was rotated here since: still what was written here.
        let before = lies(&theirs, 4, "mine");
        assert!(before.is_ours() && !before.signed);
        assert_eq!(lies(&theirs, 5, "other").lies, written(5, "other"));
        // What is damaged is written anew.
        let whole = signed::seal(&ours, PROTOCOL, 4, "mine");
        for bytes in [&whole.as_bytes()[..whole.len() / 2], b"", b"{}"] {
            assert_eq!(provenance(bytes, false, Vec::new()), None);
        }
    }
}
