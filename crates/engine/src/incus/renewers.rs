//! The renewer on a host, beside its edge and the name server: its configuration, the key it signs with, its service.
//!
//! It has a user of its own, who reads nothing of theirs: each has a folder that its group may enter, with a socket in it that
//! answers what a renewer may ask.

use std::path::Path;

use sovereign_hosts::systemd::Account;
use sovereign_hosts::{Access, Run, SshError};
use sovereign_model::EdgeName;
use sovereign_model::layout::on_host;
use sovereign_model::renewer_config::PROTOCOL;
use sovereign_model::unit::UnitSpec;
use sovereign_runtime::signed;

use super::reach::Link;
use super::{IncusEngine, IncusEngineError};
use crate::apply::{Progress, Receipt};

/// For root to write, and for the renewer to read.
const READABLE: Access<'static> = Access { mode: 0o640, owner: "root:sovereign-renewer" };

/// It is never given anything newer: another configuration is another renewer.
const GENERATION: u64 = 1;

impl IncusEngine<'_> {
    /// The folder of the socket that a renewer asks a daemon at, which runs as `user`; where there is a renewer.
    pub(super) async fn prepare_renewal(
        &self,
        name: &EdgeName,
        link: &Link,
        user: &str,
        folder: &Path,
    ) -> Result<(), SshError> {
        if !self.parts.wanted.renewers.contains_key(name) {
            return Ok(());
        }
        let run = Run::script("make the folder of a renewer's socket", include_str!("renewal.sh"));
        let run = run.arg(on_host::RENEWER_USER).arg(user).arg(folder);
        link.connection.succeed(&run).await.map(drop)
    }

    /// Has the renewer run as it is described, in the place of the one before.
    pub(super) async fn run_renewer(
        &self,
        name: &EdgeName,
        unit: &UnitSpec,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let wanted = self.parts.wanted.renewers.get(name);
        let wanted = wanted.ok_or_else(|| IncusEngineError::Undeclared { what: unit.name.to_string() })?;
        let link = self.parts.reach.link(name).await?;
        let folder = self.on_host().renewer(&name.datacenter);
        let own = ["run", "certificates"];
        link.prepare(on_host::RENEWER_USER, folder.path(), "0700", &own).await.map_err(failed)?;
        // The key first: a configuration names it.
        let key = self.parts.keys.renewer_key(name).map_err(IncusEngineError::Keys)?.private_pem;
        let path = folder.key(&wanted.config.key);
        link.connection.put_bytes(&path, key.expose().as_bytes(), READABLE).await.map_err(failed)?;
        let payload = serde_json::to_string(&wanted.config).expect("a configuration serializes to JSON");
        let signing = self.parts.keys.config_signing().map_err(IncusEngineError::Keys)?;
        let sealed = signed::seal(&signing, PROTOCOL, GENERATION, payload);
        let path = folder.config(&wanted.config_digest);
        link.connection.put_bytes(&path, sealed.as_bytes(), READABLE).await.map_err(failed)?;
        let receipt = self.run_on_host(name, link, unit, Account::renewer(), &link.renewer, tell).await?;
        let tidy = Run::script("remove older configurations", include_str!("tidy_configs.sh")).arg(folder.path());
        link.connection.succeed(&tidy).await.map_err(failed)?;
        Ok(receipt)
    }
}
