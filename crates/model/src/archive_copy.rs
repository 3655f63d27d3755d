//! Copies of the archive: what each is called, and where it lies.
//!
//! Part of the stack file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use crate::interval::Interval;
use crate::name::{CopyName, DatacenterName};
use crate::ssh::{HostKey, NotAPlace, SshAddress};

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

/// `user@host:port/folder`. The folder begins at the host's root, or after `/~/` at the user's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct SftpAddress {
    server: SshAddress,
    folder: String,
}

impl SftpAddress {
    /// The SSH server, and who logs in.
    pub fn server(&self) -> &SshAddress {
        &self.server
    }

    /// As the host understands it: absolute, or relative to the user's home.
    pub fn folder(&self) -> &str {
        self.folder.strip_prefix("/~/").unwrap_or(&self.folder)
    }
}

impl FromStr for SftpAddress {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let parsed = || {
            let (server, folder) = text.split_once('/')?;
            let server = server.parse().ok()?;
            let folder = format!("/{}", folder.trim_end_matches('/'));
            let is_inside = !folder.trim_start_matches("/~").trim_matches('/').is_empty();
            let steps_up = folder.split('/').any(|part| part == "..");
            let is_text = folder.chars().all(|c| !c.is_control());
            (is_inside && !steps_up && is_text).then_some(Self { server, folder })
        };
        parsed().ok_or_else(|| NotAPlace { text: text.to_owned(), what: "a folder of an SFTP host" })
    }
}

impl fmt::Display for SftpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.server, self.folder)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sftp_address_is_read_and_written() {
        let read = |text: &str| {
            let address: SftpAddress = text.parse().unwrap();
            assert_eq!(address.to_string().parse::<SftpAddress>().unwrap(), address, "{text}");
            let server = address.server();
            (server.user().to_owned(), server.host().to_owned(), server.port(), address.folder().to_owned())
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
    }
}
