//! The Incus of a host: its unix socket, brought here by the connection to the host. Its API listens on no port.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use sovereign_hosts::record::HostId;
use sovereign_hosts::{Connection, Finding, SshError, Verdict};
use sovereign_incus::{Client, Dial, Dialing, IncusError, Patience, UnixSocket};

/// Where Debian's package has it.
const SOCKET: &str = "/var/lib/incus/unix.socket";

/// A socket of this machine that leads to a host's.
#[derive(Debug)]
struct Forwarded {
    here: UnixSocket,
    host: HostId,
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Incus of {}", self.host)
    }
}

impl Dial for Forwarded {
    fn dial(&self) -> Dialing<'_> {
        self.here.dial()
    }
}

/// A client of it.
async fn client(host: &Connection, id: &HostId) -> Result<Result<Client, IncusError>, SshError> {
    let here = UnixSocket::new(host.forward(Path::new(SOCKET)).await?);
    Ok(Client::connect(Arc::new(Forwarded { here, host: id.clone() }), Patience::default(), &[]).await)
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
