//! The Incus of a host: its unix socket, brought here by the connection to the host. Its API listens on no port.

use sovereign_engine::incus::reach::incus_of;
use sovereign_hosts::record::HostId;
use sovereign_hosts::{Connection, Finding, SshError, Verdict};
use sovereign_incus::{Client, IncusError, Patience};
use sovereign_model::EdgeName;

/// A client of it.
async fn client(host: &Connection, id: &HostId) -> Result<Result<Client, IncusError>, SshError> {
    let incus = incus_of(host, &EdgeName::on(&id.datacenter, &id.host)).await?;
    Ok(Client::connect(incus, Patience::default(), &[]).await)
}

/// Whether it answers over SSH and can do what is asked of it.
pub(super) async fn look(host: &Connection, id: &HostId) -> Result<Finding, SshError> {
    let looked = match client(host, id).await? {
        Ok(client) => client.server().await,
        Err(error) => Err(error),
    };
    let (verdict, sentence, help) = match looked {
        Ok(server) => {
            let version = server.environment.server_version;
            (Verdict::Fine, format!("Incus {version} answers over SSH and can do what is asked of it"), None)
        }
        Err(error) => (Verdict::Refusal, error.to_string(), error.help()),
    };
    Ok(Finding { verdict, subject: "incus api", sentence, help })
}
