//! What stands beside an edge on its host, the agent, the name server and the renewer: one look at all of them.

use sovereign_hosts::Run;
use sovereign_hosts::ready::OF_NAME_SERVERS;
use sovereign_hosts::systemd::{Account, Names};
use sovereign_model::observed::UnitSeen;
use sovereign_model::{EdgeName, UnitName};

use super::edge_seen::EdgeFiles;
use super::reach::Link;
use super::{IncusEngine, IncusEngineError, drift};
use crate::edge;

/// The line between what is said of one and of the next.
const NEXT: &str = "\nnext\n";
/// The looks, one after the other: `look.sh` as a function, and what it is asked.
const SCRIPT: &str = concat!("look() (\n", include_str!("look.sh"), ")\n", include_str!("look_beside.sh"));

/// A unit beside an edge, wanted or not.
#[derive(Debug, Default)]
pub(super) struct Companion {
    pub(super) unit: Option<UnitSeen>,
    /// What of it is not as it was made.
    pub(super) drift: Vec<String>,
}

/// What there is beside an edge.
#[derive(Debug, Default)]
pub(super) struct Companions {
    pub(super) agent: Companion,
    pub(super) name_server: Companion,
    pub(super) renewer: Companion,
    /// The packages that a name server needs and that are not installed.
    pub(super) lacks: Vec<String>,
}

impl IncusEngine<'_> {
    /// Who the name server on a host runs as.
    pub(super) fn name_server_account(&self, name: &EdgeName) -> Account<'static> {
        Account::name_server(self.parts.stack.agents().any(|agent| agent == *name))
    }

    /// Looks at what stands beside the edge on a host.
    pub(super) async fn look_beside(&self, name: &EdgeName, link: &Link) -> Result<Companions, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        let stack = &self.parts.stack.name;
        let (state, units) = (self.on_host(), [name.agent(), name.name_server(), name.renewer()]);
        let begins = |unit| format!("{}.", Names::base(stack, unit));
        let look = Run::script("look at what is beside its edge", SCRIPT)
            .args([state.agent(&name.datacenter).path(), begins(&units[0]).as_ref()])
            .args([state.name_server(&name.datacenter).path(), begins(&units[1]).as_ref()])
            .args([state.renewer(&name.datacenter).path(), begins(&units[2]).as_ref()])
            .args(OF_NAME_SERVERS);
        let asked = (edge::is_well(&link.agent), edge::is_well(&link.name_server), edge::is_well(&link.renewer));
        let (said, agent_is_well, name_server_is_well, renewer_is_well) =
            tokio::join!(link.connection.succeed(&look), asked.0, asked.1, asked.2);
        let said = said.map_err(failed)?;
        let said = String::from_utf8_lossy(&said);
        let [agent, name_server, renewer] = parts(&said).map(EdgeFiles::parse);
        let mut companions = Companions {
            agent: self.companion(name, &units[0], &agent, Account::agent(), agent_is_well),
            name_server: self.companion(
                name,
                &units[1],
                &name_server,
                self.name_server_account(name),
                name_server_is_well,
            ),
            renewer: self.companion(name, &units[2], &renewer, Account::renewer(), renewer_is_well),
            lacks: renewer.lacks.clone(),
        };
        companions.name_server.drift.extend(self.keys_that_are_gone(name, &name_server));
        companions.renewer.drift.extend(self.renewer_key_that_is_gone(name, &renewer));
        Ok(companions)
    }

    fn companion(
        &self,
        name: &EdgeName,
        unit: &UnitName,
        files: &EdgeFiles,
        account: Account<'_>,
        is_well: bool,
    ) -> Companion {
        let stack = &self.parts.stack.name;
        let wanted = self.parts.wanted.unit(&name.datacenter, unit).and_then(|unit| unit.runs.as_unit());
        let drift = wanted.map(|wanted| drift::of_unit(files, stack, wanted, account)).unwrap_or_default();
        Companion { unit: files.unit(stack, unit, wanted, is_well), drift }
    }

    /// Whether a unit runs as it is described. Of one that does not the plan says so anyway.
    fn is_described(&self, name: &EdgeName, unit: &UnitName, files: &EdgeFiles) -> bool {
        let described = self.parts.wanted.unit(&name.datacenter, unit).and_then(|unit| unit.runs.as_unit());
        described.is_some_and(|described| files.is_current(&self.parts.stack.name, described))
    }

    /// Keys of zones that the name server that runs was given.
    fn keys_that_are_gone(&self, name: &EdgeName, files: &EdgeFiles) -> Vec<String> {
        let wanted = self.parts.wanted.name_servers.get(name);
        let Some(wanted) = wanted.filter(|_| self.is_described(name, &name.name_server(), files)) else {
            return Vec::new();
        };
        let folder = self.on_host().name_server(&name.datacenter);
        let keys = wanted.config.keys.iter().chain(&wanted.config.coming_keys);
        let keys = keys.map(|(domain, tag)| folder.key(domain, *tag));
        keys.filter(|key| !files.has(key)).map(|key| format!("{} is gone", key.display())).collect()
    }

    /// The key that the renewer that runs was given.
    fn renewer_key_that_is_gone(&self, name: &EdgeName, files: &EdgeFiles) -> Option<String> {
        let wanted = self.parts.wanted.renewers.get(name);
        let wanted = wanted.filter(|_| self.is_described(name, &name.renewer(), files))?;
        let key = self.on_host().renewer(&name.datacenter).key(&wanted.config.key);
        (!files.has(&key)).then(|| format!("{} is gone", key.display()))
    }
}

/// What is said of each.
fn parts(said: &str) -> [&str; 3] {
    let mut parts = said.splitn(3, NEXT);
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The script on this machine, which need be no host.
    #[test]
    fn the_looks_are_told_apart_and_packages_are_of_the_last() {
        let folder = tempfile::tempdir().unwrap();
        for (below, file) in
            [("agent", "config.json"), ("name-server", "key-example.org-7.pem"), ("renewer", "key-0123.pem")]
        {
            std::fs::create_dir(folder.path().join(below)).unwrap();
            std::fs::write(folder.path().join(below).join(file), below).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sovereign"]);
        for unit in ["agent", "name-server", "renewer"] {
            command.arg(folder.path().join(unit)).arg(format!("sovereign-shop.{unit}."));
        }
        let output = command.args(["dpkg", "no-such-package"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        let [agent, name_server, renewer] = parts(&said).map(EdgeFiles::parse);
        assert!(agent.digest("config.json").is_some() && name_server.digest("config.json").is_none(), "{said}");
        assert!(name_server.has("/elsewhere/key-example.org-7.pem".as_ref()) && name_server.lacks.is_empty(), "{said}");
        assert!(renewer.has("/elsewhere/key-0123.pem".as_ref()) && agent.lacks.is_empty(), "{said}");
        assert_eq!(renewer.lacks, ["no-such-package"]);
    }
}
