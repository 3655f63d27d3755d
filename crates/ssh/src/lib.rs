//! OpenSSH's client, called in one way only, whoever needs it.
//!
//! Promise: the host is the one whose key was given, or it is not talked to; no configuration file, key or agent is used
//! but what is named here; nothing is asked on a terminal and nothing forwarded; of the environment ssh sees where
//! programs and its user's home are.
//!
//! Left out: what is said to the host. SFTP is spoken in the archive, commands are given in the room of hosts.

mod complaint;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use sovereign_model::ssh::{HostKey, SshAddress};

pub use complaint::{Complaint, Why};

/// What the host is called in the file with its key, whatever its address.
const ALIAS: &str = "pinned";

/// How to get to a host.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where it is, and who logs in.
    pub address: SshAddress,
    /// Its key.
    pub host_key: HostKey,
    /// What it lets in.
    pub keys: Keys,
    /// A file that names the host's key, written by [`Login::write_known_hosts`].
    pub known_hosts: PathBuf,
}

/// The keys that a host may let in.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Files with private keys. When there are none, the agent may show all that it has.
    pub files: Vec<PathBuf>,
    /// The socket of an agent. It is asked for signatures here, and never forwarded.
    pub agent: Option<PathBuf>,
}

/// What holds for every conversation.
const OPTIONS: [&str; 10] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "GlobalKnownHostsFile=/dev/null",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PreferredAuthentications=publickey",
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
];

impl Login {
    /// Writes down the host's key for ssh.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn write_known_hosts(&self) -> io::Result<()> {
        let line = format!("{ALIAS} {}\n", self.host_key.as_str());
        if std::fs::read_to_string(&self.known_hosts).is_ok_and(|there| there == line) {
            return Ok(());
        }
        sovereign_runtime::file::replace(&self.known_hosts, line.as_bytes(), 0o600).map_err(|error| error.source)
    }

    /// An `ssh` to the host: with some options more, and with what is to be run there.
    pub fn ssh<O, R>(&self, options: impl IntoIterator<Item = O>, run: impl IntoIterator<Item = R>) -> Command
    where
        O: Into<OsString>,
        R: Into<OsString>,
    {
        let mut command = program("ssh");
        command.args(["-F", "none", "-T"]);
        for option in OPTIONS.map(OsString::from).into_iter().chain(self.own_options()) {
            command.arg("-o").arg(option);
        }
        for key in &self.keys.files {
            command.arg("-i").arg(literal(key));
        }
        command.args(options.into_iter().map(Into::into));
        command.args(["-p", &self.address.port().to_string(), "-l", self.address.user(), "--", self.address.host()]);
        command.args(run.into_iter().map(Into::into));
        command
    }

    fn own_options(&self) -> Vec<OsString> {
        let with_path = |option: &str, path: &Path| {
            let mut text = OsString::from(option);
            text.push(quoted(&literal(path)));
            text
        };
        let agent = self.keys.agent.as_deref().filter(|socket| socket.is_absolute());
        // An agent that has many keys would be refused before it comes to the right one.
        let only_files = if agent.is_none() || !self.keys.files.is_empty() { "yes" } else { "no" };
        vec![
            format!("HostKeyAlias={ALIAS}").into(),
            format!("HostKeyAlgorithms={}", algorithms(&self.host_key)).into(),
            with_path("UserKnownHostsFile=", &self.known_hosts),
            format!("IdentitiesOnly={only_files}").into(),
            agent.map_or_else(|| "IdentityAgent=none".into(), |socket| with_path("IdentityAgent=", socket)),
        ]
    }
}

/// How a host proves that it has a key. Asked for by name, so that a host that has another one too shows this one.
fn algorithms(key: &HostKey) -> &str {
    // The kind of an RSA key is also the name of an algorithm of before, with SHA-1.
    if key.kind() == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256" } else { key.kind() }
}

/// A program of OpenSSH's, which finds programs and its user's home in the environment, and nothing else: least of all
/// an agent.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("LANG", "C.UTF-8");
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Why a program of OpenSSH's could not be started.
pub fn not_started(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no ssh on this machine (openssh-client)"),
        _ => error,
    }
}

/// A path for ssh, which puts other things where a percent sign is.
pub fn literal(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes().iter();
    OsString::from_vec(bytes.flat_map(|byte| if *byte == b'%' { vec![b'%'; 2] } else { vec![*byte] }).collect())
}

/// A value for ssh, which takes options apart at spaces.
fn quoted(value: &OsStr) -> OsString {
    let escaped = value.as_bytes().iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    });
    OsString::from_vec([b'"'].into_iter().chain(escaped).chain([b'"']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(folder: &Path, keys: Keys) -> Login {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
        Login {
            address: "root@[2001:db8::1]:2222".parse().unwrap(),
            host_key: key.parse().unwrap(),
            keys,
            known_hosts: folder.join("known \"%h"),
        }
    }

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_key_is_written_once_and_named_in_a_way_that_ssh_understands() {
        let folder = tempfile::tempdir().unwrap();
        let login = login(folder.path(), Keys { files: vec!["/k%d".into()], agent: None });
        login.write_known_hosts().unwrap();
        login.write_known_hosts().unwrap();
        assert!(std::fs::read_to_string(&login.known_hosts).unwrap().starts_with("pinned ssh-ed25519 AAAA"));
        let words = words(&login.ssh(["-s"], ["sftp"]));
        let file = format!("UserKnownHostsFile=\"{}/known \\\"%%h\"", folder.path().display());
        for word in
            [file.as_str(), "IdentityAgent=none", "IdentitiesOnly=yes", "HostKeyAlgorithms=ssh-ed25519", "/k%%d"]
        {
            assert!(words.iter().any(|there| there == word), "{word} in {words:?}");
        }
        let end = ["-s", "-p", "2222", "-l", "root", "--", "2001:db8::1", "sftp"];
        assert_eq!(words[words.len() - end.len()..], end);
    }

    #[test]
    fn an_agent_shows_all_its_keys_only_when_no_file_is_named() {
        let said = |keys| words(&login(Path::new("/"), keys).ssh([""; 0], [""; 0])).join(" ");
        let agent = Some(PathBuf::from("/run/agent"));
        assert!(said(Keys { files: vec![], agent: agent.clone() }).contains("IdentitiesOnly=no"));
        let both = said(Keys { files: vec!["/k".into()], agent });
        assert!(both.contains("IdentitiesOnly=yes") && both.contains("IdentityAgent=\"/run/agent\""), "{both}");
        // Such a value would name a variable.
        assert!(said(Keys { files: vec![], agent: Some("$X".into()) }).contains("IdentityAgent=none"));
    }
}
