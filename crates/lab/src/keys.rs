//! Keys: one pair that opens every host of a lab, one pair for each host to be known by. Made by OpenSSH.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::LabError;
use crate::shape::{Lab, LabHost};

/// Where things of a lab's lie in its folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The private key that opens every host.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// What the hosts' keys are, in OpenSSH's format.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.0.join("known_hosts")
    }

    /// How OpenSSH reaches the hosts by their names.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.0.join("ssh_config")
    }

    /// The stack file for the lab.
    pub(crate) fn stack_file(&self) -> PathBuf {
        self.0.join("stack.toml")
    }

    /// The one of them that a host is known by, for us.
    pub(crate) fn host_known(&self, host: &LabHost) -> PathBuf {
        self.0.join("hosts").join(format!("{}.known", host.name))
    }

    /// A host's own private key.
    pub(crate) fn host_key(&self, host: &LabHost) -> PathBuf {
        self.0.join("hosts").join(host.name.as_str())
    }
}

/// The public half of a private key's file.
pub(crate) fn public(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

/// Makes what is missing, and writes down who has which.
pub(crate) async fn make(folder: &Path, lab: &Lab) -> Result<(), LabError> {
    make_folder(&folder.join("hosts"))?;
    let place = Folder::new(folder);
    make_pair(&place.key(), &format!("lab {}", lab.name)).await?;
    let mut known = String::new();
    for (_, host) in lab.hosts() {
        let key = place.host_key(host);
        make_pair(&key, host.name.as_str()).await?;
        known.push_str(&format!("{} {}", host.address, read(&public(&key))?));
    }
    write(&place.known_hosts(), &known)?;
    write(&place.ssh_config(), &ssh_config(folder, lab))
}

/// Makes a folder for nobody else's eyes; it may be there.
pub(crate) fn make_folder(path: &Path) -> Result<(), LabError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed("make", path, source))
}

async fn make_pair(key: &Path, comment: &str) -> Result<(), LabError> {
    if key.exists() && public(key).exists() {
        return Ok(());
    }
    // One that is half there would be asked about.
    match fs::remove_file(key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", key, error)),
        _ => {}
    }
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(key);
    let ended = command.kill_on_drop(true).output().await;
    let ended = ended.map_err(|source| LabError::Program { program: "ssh-keygen", source })?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(LabError::Ended { program: "ssh-keygen", status: ended.status, said })
}

pub(crate) fn read(path: &Path) -> Result<String, LabError> {
    fs::read_to_string(path).map_err(|source| failed("read", path, source))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    sovereign_runtime::file::replace(path, text.as_bytes(), 0o600).map_err(|error| failed("write", path, error.source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> LabError {
    LabError::File { action, path: path.to_owned(), source }
}

/// So that `ssh -F ssh_config home-1` is enough.
fn ssh_config(folder: &Path, lab: &Lab) -> String {
    let place = Folder::new(folder);
    let entry = |name: &str, address: Ipv4Addr| format!("Host {name}\n  HostName {address}\n");
    let hosts: String = lab.hosts().map(|(_, host)| entry(host.name.as_str(), host.address)).collect();
    // Quoted: a folder may have spaces in its name.
    let (key, known) = (place.key(), place.known_hosts());
    format!(
        "{hosts}Host *\n  User root\n  IdentityFile \"{}\"\n  IdentitiesOnly yes\n  UserKnownHostsFile \"{}\"\n  \
         StrictHostKeyChecking yes\n",
        key.display(),
        known.display()
    )
}
