//! Copies of the archive: what each is called, and where it lies.
//!
//! Part of the stack file.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use crate::interval::Interval;
use crate::name::{CopyName, DatacenterName, DnsName};

/// A copy of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArchiveCopy {
    /// Its name, unique in the stack.
    pub name: CopyName,
    /// Where it lies.
    pub at: CopyPlace,
    /// What it consists of.
    pub format: CopyFormat,
}

/// What a copy consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyFormat {
    /// The archive's own files.
    #[default]
    Restic,
    /// A chain of duplicity's for each site, made from what was restored.
    Duplicity {
        /// How long increments go on from one full backup.
        full: Interval,
    },
}

/// Where a copy lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyPlace {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// On a disk that is not always there.
    Disk {
        /// The UUID of its file system.
        uuid: DiskUuid,
        /// The folder on it: relative, below where it is mounted.
        folder: PathBuf,
    },
    /// On a host that speaks SFTP.
    Sftp(SftpPlace),
    /// At a data center.
    Datacenter(DatacenterName),
}

impl fmt::Display for CopyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Disk { uuid, folder } => write!(f, "{} on disk {uuid}", folder.display()),
            Self::Sftp(place) => write!(f, "{}", place.address),
            Self::Datacenter(datacenter) => write!(f, "data center {datacenter}"),
        }
    }
}

/// A folder of a host that speaks SFTP, and how one gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SftpPlace {
    /// User, host, port and folder.
    pub address: SftpAddress,
    /// The file with the key that opens it.
    pub key: PathBuf,
    /// The host's public key, as `ssh-keyscan` prints it: kind and key.
    pub host_key: HostKey,
}

/// Why a text is not the address of a folder over SFTP, a disk's UUID, or a host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NotAPlace {
    /// What was given.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
}

/// `user@host:port/folder`. The folder begins at the host's root, or after `/~/` at the user's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct SftpAddress {
    user: String,
    host: String,
    port: u16,
    folder: String,
}

impl SftpAddress {
    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A host name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of its SSH server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As the host understands it: absolute, or relative to the user's home.
    pub fn folder(&self) -> &str {
        self.folder.strip_prefix("/~/").unwrap_or(&self.folder)
    }
}

/// The port of SSH.
const SSH: u16 = 22;

impl FromStr for SftpAddress {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let parsed = || {
            let (login, folder) = text.split_once('/')?;
            let (user, place) = login.rsplit_once('@')?;
            let (host, port) = if let Some(rest) = place.strip_prefix('[') {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?;
                (host, rest.strip_prefix(':').or((rest.is_empty()).then_some("")))
            } else {
                let (host, port) = place.split_once(':').map_or((place, Some("")), |(host, port)| (host, Some(port)));
                host.parse::<DnsName>().ok()?;
                (host, port)
            };
            let port = match port? {
                "" if !place.ends_with(':') => SSH,
                port => port.parse().ok().filter(|port| *port != 0)?,
            };
            let folder = format!("/{}", folder.trim_end_matches('/'));
            let is_inside = !folder.trim_start_matches("/~").trim_matches('/').is_empty();
            let steps_up = folder.split('/').any(|part| part == "..");
            // The first character would make it an option of ssh's; that is refused here and there.
            let is_user = !user.is_empty()
                && !user.starts_with('-')
                && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte));
            let is_text = folder.chars().all(|c| !c.is_control());
            (is_user && is_inside && !steps_up && is_text).then(|| Self {
                user: user.to_owned(),
                host: host.to_owned(),
                port,
                folder,
            })
        };
        parsed().ok_or_else(|| NotAPlace { text: text.to_owned(), what: "a folder of an SFTP host" })
    }
}

impl fmt::Display for SftpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, folder } = self;
        let port = if *port == SSH { String::new() } else { format!(":{port}") };
        if host.contains(':') {
            write!(f, "{user}@[{host}]{port}{folder}")
        } else {
            write!(f, "{user}@{host}{port}{folder}")
        }
    }
}

impl From<SftpAddress> for String {
    fn from(address: SftpAddress) -> Self {
        address.to_string()
    }
}

/// The UUID of a file system, as `/dev/disk/by-uuid` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct DiskUuid(String);

impl DiskUuid {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DiskUuid {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let right = (4..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && text.bytes().any(|byte| byte != b'-');
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAPlace { text: text.to_owned(), what: "the UUID of a file system" })
        }
    }
}

impl fmt::Display for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DiskUuid> for String {
    fn from(uuid: DiskUuid) -> Self {
        uuid.0
    }
}

/// The public key of an SSH host: kind and key, without a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct HostKey(String);

impl HostKey {
    /// As `known_hosts` has it after the host's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKey {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let mut parts = text.split(' ').filter(|part| !part.is_empty());
        let wrong = || NotAPlace { text: text.to_owned(), what: "a host's public key" };
        let (Some(kind), Some(key)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let is_kind = kind.len() < 64
            && ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| kind.starts_with(begin))
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.@".contains(&byte));
        let is_key = key.starts_with("AAAA")
            && (40..4096).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        let is_comment = parts.all(|part| part.chars().all(|c| !c.is_control()));
        if is_kind && is_key && is_comment { Ok(Self(format!("{kind} {key}"))) } else { Err(wrong()) }
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sftp_address_is_read_and_written() {
        let read = |text: &str| {
            let address: SftpAddress = text.parse().unwrap();
            assert_eq!(address.to_string().parse::<SftpAddress>().unwrap(), address, "{text}");
            (address.user().to_owned(), address.host().to_owned(), address.port(), address.folder().to_owned())
        };
        let is =
            |user: &str, host: &str, port, folder: &str| (user.to_owned(), host.to_owned(), port, folder.to_owned());
        assert_eq!(read("me@nas.example.org/srv/archive"), is("me", "nas.example.org", 22, "/srv/archive"));
        assert_eq!(read("me@nas:2222/srv/a b/ü/"), is("me", "nas", 2222, "/srv/a b/ü"));
        assert_eq!(read("me@192.0.2.1/~/archive"), is("me", "192.0.2.1", 22, "archive"));
        assert_eq!(read("me@[2001:db8::1]:2222/archive"), is("me", "2001:db8::1", 2222, "/archive"));
        assert_eq!(read("me@[2001:db8::1]/archive"), is("me", "2001:db8::1", 22, "/archive"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for wrong in [
            "nas/srv",
            "me@nas",
            "me@nas/",
            "me@nas/~/",
            "me@nas:0/srv",
            "me@nas:/srv",
            "me@nas:70000/srv",
            "me@/srv",
            "@nas/srv",
            "-oProxyCommand=x@nas/srv",
            "me@-nas/srv",
            "me@nas/srv/../..",
            "me@[nas]/srv",
            "me@2001:db8::1/x",
            "me@nas/a\nb",
            "me@[::1]22/x",
            "m e@nas/x",
            "",
        ] {
            assert!(wrong.parse::<SftpAddress>().is_err(), "{wrong}");
        }
        for wrong in ["", "abc", "../../etc", "----", "sda1"] {
            assert!(wrong.parse::<DiskUuid>().is_err(), "{wrong}");
        }
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
        assert_eq!(
            format!("ssh-ed25519 {key} root@nas").parse::<HostKey>().unwrap().as_str(),
            format!("ssh-ed25519 {key}")
        );
        for wrong in
            ["", key, "ssh-ed25519", "nas ssh-ed25519 AAAA", "ssh-ed25519 AAAA", &format!("ssh-ed25519\n{key} {key}")]
        {
            assert!(wrong.parse::<HostKey>().is_err(), "{wrong}");
        }
    }
}
