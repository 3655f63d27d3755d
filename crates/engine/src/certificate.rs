//! Certificates of the internal authority, issued for an edge and kept here.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sovereign_keys::{CaError, FileError, KeysError, LeafFacts, WorkingKeys, issue_leaf};
use sovereign_model::layout::StateFolder;
use sovereign_model::observed::CertificateSeen;
use sovereign_model::{Digest, DnsName, EdgeName};

/// Readers whose clocks are late must believe a new certificate too.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// A certificate cannot be issued or looked at.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A working key.
    #[error("a key is not to be had")]
    Keys(#[source] KeysError),
    /// The internal CA.
    #[error("no certificate can be issued")]
    Issue(#[source] CaError),
    /// A file of keys or certificates.
    #[error("a certificate cannot be kept")]
    KeyFile(#[source] FileError),
    /// A file of ours.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl CertificateError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Keys(error) => error.help(),
            Self::Issue(error) => error.help(),
            Self::KeyFile(error) => error.help(),
            Self::File { source, .. } => crate::file::help(source),
        }
    }
}

/// Where a certificate lies on this machine, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The chain, leaf first.
    pub(crate) chain: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

impl Files {
    /// Those of an edge.
    pub(crate) fn of(state: &StateFolder, edge: &EdgeName) -> Self {
        let (chain, key) = state.certificate(edge);
        Self { chain, key }
    }
}

/// What is in a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Its host names.
    pub(crate) names: &'a BTreeSet<DnsName>,
    /// Its addresses.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
    /// When it ends, in unix seconds.
    pub(crate) not_after: u64,
}

/// Issues a certificate, and lays it ready with its key.
pub(crate) fn issue(
    files: &Files,
    wanted: Wanted<'_>,
    keys: &WorkingKeys,
    state: &StateFolder,
    now: SystemTime,
) -> Result<(), CertificateError> {
    if let Some(folder) = files.chain.parent() {
        crate::file::private_folder(folder).map_err(CertificateError::file(folder))?;
    }
    write_authority(keys, state)?;
    let ca = keys.ca().map_err(CertificateError::Keys)?;
    let from = now - CLOCK_SLACK;
    let until = UNIX_EPOCH + Duration::from_secs(wanted.not_after);
    let names: Vec<_> = wanted.names.iter().cloned().collect();
    let addresses: Vec<_> = wanted.addresses.iter().copied().collect();
    let lifetime = until.duration_since(from).unwrap_or_default();
    let leaf = issue_leaf(&ca, &names, &addresses, from, lifetime).map_err(CertificateError::Issue)?;
    leaf.write(&files.chain, &files.key).map_err(CertificateError::KeyFile)
}

/// The certificate of the authority, for applications and readers. Not a secret.
fn write_authority(keys: &WorkingKeys, state: &StateFolder) -> Result<(), CertificateError> {
    let path = state.ca_certificate();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(CertificateError::file(folder))?;
    }
    let ca = keys.ca().map_err(CertificateError::Keys)?;
    sovereign_runtime::file::replace(&path, ca.pem().as_bytes(), 0o644)
        .map_err(|error| CertificateError::File { path: error.path, source: error.source })
}

/// The certificate that lies ready here; none when another authority issued it, or when its certificate is not there too.
pub(crate) fn seen(
    files: &Files,
    keys: &WorkingKeys,
    state: &StateFolder,
) -> Result<Option<CertificateSeen>, CertificateError> {
    let Some(facts) = LeafFacts::read(&files.chain, &files.key).map_err(CertificateError::KeyFile)? else {
        return Ok(None);
    };
    let ca = keys.ca().map_err(CertificateError::Keys)?;
    let told = fs::read(state.ca_certificate()).unwrap_or_default();
    if facts.issuer != Digest::of(ca.der()).hex() || told != ca.pem().as_bytes() {
        return Ok(None);
    }
    let chain = Digest::of(fs::read(&files.chain).map_err(CertificateError::file(&files.chain))?);
    let LeafFacts { names, addresses, not_after, .. } = facts;
    Ok(Some(CertificateSeen { chain, names, addresses, not_after }))
}
