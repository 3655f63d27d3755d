//! The name server on a host, beside its edge and the agent: its configuration, the keys of its zones, its service.
//!
//! It has a user of its own, the only one beside root that reads the keys; the agent, which talks to the world, does not.
//! A key's file is named by its tag: one that was exchanged is another file, and the name server before finds its own. Once
//! the next one is well, keys that it was not brought are removed.

use std::path::PathBuf;

use sovereign_hosts::{Access, Run};
use sovereign_model::EdgeName;
use sovereign_model::layout::on_host;
use sovereign_model::name_server_config::PROTOCOL;
use sovereign_model::unit::UnitSpec;
use sovereign_runtime::signed;

use super::{IncusEngine, IncusEngineError, Link};
use crate::apply::{Progress, Receipt};

/// For root to write, and for the name server to read.
const READABLE: Access<'static> = Access { mode: 0o640, owner: "root:sovereign-names" };

/// It is never given anything newer: another configuration is another name server.
const GENERATION: u64 = 1;

impl IncusEngine<'_> {
    /// Has the name server run as it is described, in the place of the one before.
    pub(super) async fn run_name_server(
        &self,
        name: &EdgeName,
        unit: &UnitSpec,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let wanted = self.parts.wanted.name_servers.get(name);
        let wanted = wanted.ok_or_else(|| IncusEngineError::Undeclared { what: unit.name.to_string() })?;
        let link = self.parts.reach.link(name).await?;
        let folder = self.on_host().name_server(&name.datacenter);
        link.prepare(on_host::NAME_SERVER_USER, folder.path(), "0700", &["run", "knot"]).await.map_err(failed)?;
        self.prepare_renewal(name, link, on_host::NAME_SERVER_USER, &folder.renewal()).await.map_err(failed)?;
        // The keys first: a configuration names them.
        let mut brought = Vec::new();
        for domain in wanted.config.keys.keys() {
            let current = self.parts.keys.zone_key(domain).map_err(IncusEngineError::Keys)?;
            for key in std::iter::once(current).chain(self.parts.keys.coming_zone_key(domain)) {
                let (path, pem) = (folder.key(domain, key.tag()), key.private_pem());
                link.connection.put_bytes(&path, pem.expose().as_bytes(), READABLE).await.map_err(failed)?;
                brought.push(path);
            }
        }
        for (secondary, digest) in &wanted.config.transfer_keys {
            let declared = wanted.config.names.secondaries.iter().find(|declared| declared.name == *secondary);
            let undeclared = || IncusEngineError::Undeclared { what: format!("secondary {secondary}") };
            let key = self.parts.keys.transfer_key(declared.ok_or_else(undeclared)?).map_err(IncusEngineError::Keys)?;
            let path = folder.transfer_key(secondary, digest);
            link.connection.put_bytes(&path, key.knot().expose().as_bytes(), READABLE).await.map_err(failed)?;
            brought.push(path);
        }
        let payload = serde_json::to_string(&wanted.config).expect("a configuration serializes to JSON");
        let signing = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?;
        let sealed = signed::seal(&signing, PROTOCOL, GENERATION, payload);
        let path = folder.config(&wanted.config_digest);
        link.connection.put_bytes(&path, sealed.as_bytes(), READABLE).await.map_err(failed)?;
        let account = self.name_server_account(name);
        let receipt = self.run_on_host(name, link, unit, account, &link.name_server, tell).await?;
        let tidy = Run::script("remove older configurations", include_str!("tidy_configs.sh")).arg(folder.path());
        link.connection.succeed(&tidy).await.map_err(failed)?;
        self.tidy_keys(name, link, &brought).await?;
        Ok(receipt)
    }

    /// Removes the keys of a name server on a host, but for those.
    pub(super) async fn tidy_keys(
        &self,
        name: &EdgeName,
        link: &Link,
        kept: &[PathBuf],
    ) -> Result<(), IncusEngineError> {
        let folder = self.on_host().name_server(&name.datacenter);
        let tidy = Run::script("remove keys of before", include_str!("tidy_keys.sh")).arg(folder.path());
        let tidy = kept.iter().fold(tidy, |tidy, path| tidy.arg(path));
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        link.connection.succeed(&tidy).await.map_err(failed)?;
        Ok(())
    }
}
