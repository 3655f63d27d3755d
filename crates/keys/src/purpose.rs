//! What a secret is for, and how often it has been rotated.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sovereign_model::{DnsName, EdgeName, SecondaryName, SiteName};

use crate::file::{self, Existing, FileError};

/// What a derived secret is for. Its text is part of the derivation: it never changes, once released.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Purpose {
    /// `owner-password/<site>`: the site owner's first password.
    OwnerPassword(SiteName),
    /// `webhook/<site>`: signs the messages with which a site tells its edge what was published.
    Webhook(SiteName),
    /// `database/<site>`: with which a site opens its database, where that is a server of its own.
    Database(SiteName),
    /// `ca`: the key of the internal certificate authority.
    Ca,
    /// `link/<data center>`, on hosts `link/<data center>/<host>`: the identity of an edge on links.
    Link(EdgeName),
    /// `config-signing`: signs what daemons are configured with.
    ConfigSigning,
    /// `archive`: opens the encrypted backups.
    Archive,
    /// `hosts`: opens the stack's hosts, for daily work.
    Hosts,
    /// `hosts-recovery`: opens them too, for whoever has nothing but the words.
    HostsRecovery,
    /// `zone/<domain>`: signs the domain's zone.
    Zone(DnsName),
    /// `renewer/<data center>/<host>`: signs what the renewer there says to the others.
    Renewer(EdgeName),
    /// `transfer/<secondary>`: with which a secondary gets zones, and is told that they have changed.
    Transfer(SecondaryName),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerPassword(site) => write!(f, "owner-password/{site}"),
            Self::Webhook(site) => write!(f, "webhook/{site}"),
            Self::Database(site) => write!(f, "database/{site}"),
            Self::Ca => f.write_str("ca"),
            Self::Link(edge) => write!(f, "link/{edge}"),
            Self::ConfigSigning => f.write_str("config-signing"),
            Self::Archive => f.write_str("archive"),
            Self::Hosts => f.write_str("hosts"),
            Self::HostsRecovery => f.write_str("hosts-recovery"),
            Self::Zone(domain) => write!(f, "zone/{domain}"),
            Self::Renewer(edge) => write!(f, "renewer/{edge}"),
            Self::Transfer(secondary) => write!(f, "transfer/{secondary}"),
        }
    }
}

/// The text names no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no secret {0:?}")]
pub struct InvalidPurpose(String);

impl InvalidPurpose {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(
            "secrets are: owner-password/<site>, webhook/<site>, database/<site>, ca, link/<data center>[/<host>], \
             config-signing, archive, hosts, hosts-recovery, zone/<domain>, transfer/<secondary>, \
             renewer/<data center>/<host>"
                .into(),
        )
    }
}

impl FromStr for Purpose {
    type Err = InvalidPurpose;

    fn from_str(text: &str) -> Result<Self, InvalidPurpose> {
        let invalid = || InvalidPurpose(text.to_owned());
        match text.split_once('/') {
            None if text == "ca" => Ok(Self::Ca),
            None if text == "config-signing" => Ok(Self::ConfigSigning),
            None if text == "archive" => Ok(Self::Archive),
            None if text == "hosts" => Ok(Self::Hosts),
            None if text == "hosts-recovery" => Ok(Self::HostsRecovery),
            Some(("owner-password", site)) => site.parse().map(Self::OwnerPassword).map_err(|_| invalid()),
            Some(("webhook", site)) => site.parse().map(Self::Webhook).map_err(|_| invalid()),
            Some(("database", site)) => site.parse().map(Self::Database).map_err(|_| invalid()),
            Some(("link", edge)) => edge.parse().map(Self::Link).map_err(|_| invalid()),
            Some(("zone", domain)) => domain.parse().map(Self::Zone).map_err(|_| invalid()),
            Some(("renewer", edge)) => edge.parse().map(Self::Renewer).map_err(|_| invalid()),
            Some(("transfer", secondary)) => secondary.parse().map(Self::Transfer).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Purpose {
    type Error = InvalidPurpose;

    fn try_from(text: String) -> Result<Self, InvalidPurpose> {
        text.parse()
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.to_string()
    }
}

/// The format of `epochs.json`.
const VERSION: u32 = 1;

/// How often each secret has been rotated: epoch 1 at first, one more with each rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    current: BTreeMap<Purpose, u32>,
    /// Of secrets that are not exchanged at once: what is to take their place. Whoever exchanges them keeps it.
    coming: BTreeMap<Purpose, u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochsFile {
    version: u32,
    epochs: BTreeMap<Purpose, u32>,
}

impl Epochs {
    /// The epoch of a purpose; 1 when it has never been rotated.
    pub fn of(&self, purpose: &Purpose) -> u32 {
        self.current.get(purpose).copied().unwrap_or(1)
    }

    /// The epoch that is to take its place, where it is being exchanged.
    pub fn coming(&self, purpose: &Purpose) -> Option<u32> {
        self.coming.get(purpose).copied()
    }

    /// Has a secret be exchanged for that of this epoch, which is used beside it until then. Not written.
    pub fn set_coming(&mut self, purpose: Purpose, epoch: u32) {
        self.coming.insert(purpose, epoch);
    }

    /// Has the secret of this epoch count. To be written before the one before is given up.
    pub fn settle(&mut self, purpose: &Purpose, epoch: u32) {
        self.coming.remove(purpose);
        self.current.insert(purpose.clone(), epoch);
    }

    /// Raises the epoch of a purpose and returns the new one. To be written before a secret of it is used.
    ///
    /// # Panics
    /// After four billion rotations.
    pub fn rotate(&mut self, purpose: &Purpose) -> u32 {
        let next = self.of(purpose).checked_add(1).expect("nobody rotates four billion times");
        self.current.insert(purpose.clone(), next);
        next
    }

    /// Reads `epochs.json`; a missing file means that nothing has been rotated.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        match file::read::<EpochsFile>(path, VERSION)? {
            None => Ok(Self::default()),
            Some(EpochsFile { epochs, .. }) if epochs.values().any(|epoch| *epoch == 0 || *epoch == u32::MAX) => {
                Err(FileError::malformed(path))
            }
            Some(EpochsFile { version: _, epochs }) => Ok(Self { current: epochs, coming: BTreeMap::new() }),
        }
    }

    /// Writes `epochs.json`, atomically and durably.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::write(path, &EpochsFile { version: VERSION, epochs: self.current.clone() }, Existing::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_survives_its_text() {
        let plain = ["ca", "config-signing", "archive", "hosts", "hosts-recovery"];
        let of_one = [
            "owner-password/blog",
            "webhook/blog",
            "database/blog",
            "link/home",
            "transfer/friend",
            "renewer/home/atlas",
        ];
        for text in of_one.into_iter().chain(plain) {
            assert_eq!(text.parse::<Purpose>().unwrap().to_string(), text);
        }
        for text in ["", "ca/", "ca/x", "webhook", "webhook/", "webhook/a/b", "webhook/A", "onion"] {
            assert!(text.parse::<Purpose>().is_err(), "{text}");
        }
    }

    #[test]
    fn epochs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epochs.json");
        let mut epochs = Epochs::read(&path).unwrap();
        assert_eq!((epochs.of(&Purpose::Ca), epochs.rotate(&Purpose::Ca)), (1, 2));
        epochs.write(&path).unwrap();
        let read = Epochs::read(&path).unwrap();
        assert_eq!((read.of(&Purpose::Ca), read.of(&Purpose::ConfigSigning)), (2, 1));
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r#"
        {
          "version": 1,
          "epochs": {
            "ca": 2
          }
        }
        "#);
    }
}
