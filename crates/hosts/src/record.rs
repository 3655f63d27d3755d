//! What the management machine remembers of hosts: where they are, their pinned keys, how far each is.
//!
//! A host is written down before anything is done on it and removed after everything was undone, so that there is
//! always a way back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sovereign_model::ssh::{HostKey, SshAddress};
use sovereign_model::{DatacenterName, HostName};

use crate::evacuation::Evacuation;
use crate::facts::Listener;

/// The format of the file.
const VERSION: u32 = 1;

/// A host of a data center, written `home/atlas`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostId {
    /// The data center.
    pub datacenter: DatacenterName,
    /// The host's name in it.
    pub host: HostName,
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.datacenter, self.host)
    }
}

/// The text is no host of a data center.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a data center and a host, like home/atlas")]
pub struct NotAHost(String);

impl FromStr for HostId {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let parsed = || {
            let (datacenter, host) = text.split_once('/')?;
            Some(Self { datacenter: datacenter.parse().ok()?, host: host.parse().ok()? })
        };
        parsed().ok_or_else(|| NotAHost(text.to_owned()))
    }
}

impl TryFrom<String> for HostId {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        text.parse()
    }
}

impl From<HostId> for String {
    fn from(id: HostId) -> Self {
        id.to_string()
    }
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Known {
    /// Where it is.
    pub address: SshAddress,
    /// Its pinned key.
    pub host_key: HostKey,
    /// Its address in its own network, where the other hosts of its data center reach it.
    #[serde(default)]
    pub network_address: Option<IpAddr>,
    /// The disk that was given to it.
    #[serde(default)]
    pub disk: Option<String>,
    /// What listened before it was made ready, and stays open. `None`: a program that did not write it down did that.
    #[serde(default)]
    pub open_before: Option<Vec<Listener>>,
    /// The step that is under way, or was when a run was killed.
    #[serde(default)]
    pub under_way: Option<String>,
    /// When it was ready last.
    #[serde(default)]
    pub ready_unix: Option<u64>,
    /// That this machine evacuated it. What lies on the host itself is what counts, as long as it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuated: Option<Evacuation>,
}

/// All hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// By data center and name.
    pub hosts: BTreeMap<HostId, Known>,
}

impl Default for Record {
    fn default() -> Self {
        Self { version: VERSION, hosts: BTreeMap::new() }
    }
}

/// The record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer program wrote it.
    #[error("{} has format {found}; this program knows up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is not what this program writes.
    #[error("cannot understand {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RecordError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer sovereign with this stack".to_owned()),
            Self::Malformed { path, .. } => Some(format!(
                "move {} away and run `sovereign host add` for each host again: what is done there is seen",
                path.display()
            )),
            Self::Io { .. } => None,
        }
    }
}

impl Record {
    /// The addresses of the other hosts of a data center.
    pub fn peers(&self, id: &HostId) -> BTreeSet<IpAddr> {
        let others = self.hosts.iter().filter(|(other, _)| other.datacenter == id.datacenter && *other != id);
        others.filter_map(|(_, known)| known.network_address.or_else(|| known.address.host().parse().ok())).collect()
    }

    /// Reads it; no file is no hosts.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Preamble {
            version: u32,
        }
        let path = path.to_owned();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(RecordError::Io { path, source }),
        };
        match serde_json::from_slice::<Preamble>(&text) {
            Ok(Preamble { version }) if version > VERSION => Err(RecordError::Newer { path, found: version }),
            _ => serde_json::from_slice(&text).map_err(|source| RecordError::Malformed { path, source }),
        }
    }

    /// Changes it, on disk when this returns. The caller holds the stack's lock.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) -> Result<(), RecordError> {
        let mut record = Self::read(path)?;
        change(&mut record);
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|source| RecordError::Malformed { path: path.to_owned(), source })?;
        sovereign_runtime::file::replace(path, &text, 0o600)
            .map_err(|error| RecordError::Io { path: error.path, source: error.source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_remembered_and_a_newer_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json");
        assert_eq!(Record::read(&path).unwrap(), Record::default());
        let id: HostId = "home/atlas".parse().unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
        let known = Known {
            address: "root@192.0.2.8".parse().unwrap(),
            host_key: key.parse().unwrap(),
            network_address: Some("10.0.0.8".parse().unwrap()),
            disk: Some("/dev/sdb".to_owned()),
            under_way: Some("packages".to_owned()),
            ready_unix: None,
            open_before: None,
            evacuated: None,
        };
        Record::change(&path, |record| drop(record.hosts.insert(id.clone(), known.clone()))).unwrap();
        assert_eq!(Record::read(&path).unwrap().hosts, [(id.clone(), known)].into());
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap());
        Record::change(&path, |record| drop(record.hosts.remove(&id))).unwrap();
        assert!(Record::read(&path).unwrap().hosts.is_empty());

        std::fs::write(&path, "{\"version\":2,\"cities\":{}}").unwrap();
        assert!(matches!(Record::read(&path), Err(RecordError::Newer { found: 2, .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(Record::change(&path, |_| {}).unwrap_err().help().is_some());
        for wrong in ["atlas", "home/", "/atlas", "home/a/b", "Home/atlas"] {
            assert!(wrong.parse::<HostId>().is_err(), "{wrong}");
        }
    }
}
