//! What an agent on a host proves the stack with at providers of DNS: brought there, and taken away when it is not the one.

use sovereign_hosts::{Access, Run};
use sovereign_keys::given;
use sovereign_model::EdgeName;
use sovereign_model::layout::AgentFolder;
use sovereign_model::provider::Publishes;

use super::reach::Link;
use super::{IncusEngine, IncusEngineError};

/// For the agent alone: the name server, which is in its group, has no business with it.
const SECRET: Access<'static> = Access { mode: 0o600, owner: "sovereign-agent:sovereign-agent" };

impl IncusEngine<'_> {
    /// Brings what the agent on a host is told to prove itself with.
    pub(super) async fn bring_provider_secrets(
        &self,
        name: &EdgeName,
        link: &Link,
        folder: &AgentFolder,
        publishes: Option<&Publishes>,
    ) -> Result<(), IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        for (provider, digest) in publishes.into_iter().flat_map(|publishes| &publishes.secrets) {
            let path = self.parts.state.provider_secret(provider);
            let secret = given::read(&path).map_err(|source| IncusEngineError::File { path: path.clone(), source })?;
            // It was there when the plan was made.
            let secret = secret.ok_or_else(|| IncusEngineError::Undeclared { what: format!("provider {provider}") })?;
            let there = folder.provider_secret(provider, digest);
            link.connection.put_bytes(&there, secret.expose().as_bytes(), SECRET).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes away what it was told before and is not any more.
    pub(super) async fn remove_older_provider_secrets(
        &self,
        name: &EdgeName,
        link: &Link,
        folder: &AgentFolder,
        publishes: Option<&Publishes>,
    ) -> Result<(), IncusEngineError> {
        let secrets = publishes.into_iter().flat_map(|publishes| &publishes.secrets);
        let kept = secrets.map(|(provider, digest)| folder.provider_secret(provider, digest));
        let tidy = Run::script("remove older secrets", include_str!("tidy_secrets.sh")).arg(folder.path()).args(kept);
        let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
        link.connection.succeed(&tidy).await.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    /// The script on this machine, which need be no host.
    #[test]
    fn what_is_not_named_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (kept, old) = ("provider-a-1.secret", ["provider-a-2.secret", "provider-b-1.secret"]);
        for name in old.iter().chain([&kept, &"config-1.json"]) {
            fs::write(path(name), name).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("tidy_secrets.sh"), "sovereign"]).arg(folder.path());
        assert!(command.arg(path(kept)).status().unwrap().success());
        assert!(path(kept).exists() && path("config-1.json").exists() && !old.iter().any(|name| path(name).exists()));
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("tidy_secrets.sh"), "sovereign"]).arg(folder.path());
        assert!(command.status().unwrap().success() && !path(kept).exists());
    }
}
