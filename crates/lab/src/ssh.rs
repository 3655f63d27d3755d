//! Whether a host lets us in: asked of OpenSSH, with the key that the host is known by.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sovereign_ssh::{Keys, Login};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::error::LabError;
use crate::keys::{self, Folder};
use crate::shape::LabHost;

/// Between two looks at a host that is starting.
const PAUSE: Duration = Duration::from_millis(100);

/// For one look: far more than a machine that is there needs, a busy one too.
const LOOK: Duration = Duration::from_secs(5);

/// For an SSH session on a host that says it speaks SSH.
const SESSION: Duration = Duration::from_secs(20);

/// Whether something speaks SSH at an address right now.
pub(crate) async fn speaks(address: Ipv4Addr) -> bool {
    let look = async {
        let mut stream = TcpStream::connect((address, 22)).await?;
        let mut begin = [0; 4];
        stream.read_exact(&mut begin).await?;
        Ok::<_, io::Error>(&begin == b"SSH-")
    };
    matches!(timeout(LOOK, look).await, Ok(Ok(true)))
}

/// Waits until a host lets us in.
///
/// # Errors
/// When it does not within `patience`.
pub(crate) async fn reach(folder: &Path, host: &LabHost, patience: Duration) -> Result<(), LabError> {
    let until = Instant::now() + patience;
    while !speaks(host.address).await {
        if Instant::now() > until {
            return Err(LabError::Silent { host: host.name.clone(), address: host.address, waited: patience });
        }
        sleep(PAUSE).await;
    }
    run(folder, host, "true").await
}

/// How to get to a host, known by the key that was made for it.
fn login(folder: &Path, host: &LabHost) -> Result<Login, LabError> {
    let place = Folder::new(folder);
    let path = keys::public(&place.host_key(host));
    let text = keys::read(&path)?;
    let strange =
        || LabError::File { action: "understand", path: path.clone(), source: io::ErrorKind::InvalidData.into() };
    let host_key = text.trim().parse().map_err(|_| strange())?;
    let address = format!("root@{}", host.address).parse().map_err(|_| strange())?;
    let keys = Keys { files: vec![place.key()], agent: None };
    Ok(Login { address, host_key, keys, known_hosts: place.host_known(host) })
}

/// Has a host run something.
pub(crate) async fn run(folder: &Path, host: &LabHost, line: &str) -> Result<(), LabError> {
    let login = login(folder, host)?;
    let write = |source| LabError::File { action: "write", path: login.known_hosts.clone(), source };
    login.write_known_hosts().map_err(write)?;
    let mut ssh = Command::from(login.ssh([""; 0], [line]));
    ssh.stdin(Stdio::null()).kill_on_drop(true);
    let silent = || LabError::Silent { host: host.name.clone(), address: host.address, waited: SESSION };
    let ended = timeout(SESSION, ssh.output()).await.map_err(|_| silent())?;
    let ended = ended.map_err(|source| LabError::Program { program: "ssh", source })?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(LabError::Refused { host: host.name.clone(), address: host.address, said })
}
