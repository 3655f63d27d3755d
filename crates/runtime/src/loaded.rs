//! The signed configuration of a daemon, read once when it starts: another one is another unit.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::VerifyingKey;
use crate::signed::{self, SignedError};

/// There is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The envelope is not one of ours.
    #[error("{} is refused", path.display())]
    Signed {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: SignedError,
    },
    /// What was signed is not a configuration of such a daemon.
    #[error("{} is not a configuration of {whose}", path.display())]
    Payload {
        /// Its file.
        path: PathBuf,
        /// Whose it was to be.
        whose: &'static str,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

impl LoadError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Signed { source, .. } => source.help(),
            Self::Read { .. } | Self::Payload { .. } => Some("`sovereign up` writes the configuration anew".into()),
        }
    }
}

/// The configuration of `whose` in this file, signed with this key, and the text that was signed.
///
/// # Errors
/// When it is not that.
pub fn load<T: DeserializeOwned>(
    path: &Path,
    trust: &VerifyingKey,
    protocol: u32,
    whose: &'static str,
) -> Result<(T, String), LoadError> {
    let file = || path.to_owned();
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: file(), source })?;
    let opened = signed::open(trust, protocol, &bytes);
    let payload = opened.map_err(|source| LoadError::Signed { path: file(), source })?.payload;
    let config = serde_json::from_str(&payload).map_err(|source| LoadError::Payload { path: file(), whose, source })?;
    Ok((config, payload))
}
