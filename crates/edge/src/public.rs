//! Certificates of public authorities: one for each name, shown to readers who ask for it.
//!
//! Promise: what cannot be used costs nobody anything. A file that is missing, damaged, for another name or over is not
//! shown, and the stack's own certificate is, as it was before there was any other; the other names are not touched by it.
//! They change by a reload, or by what another edge passes on ([`crate::passed`]); neither closes a connection. Of what was
//! brought and what was passed on the newer one is shown.
//!
//! Left out: whether an authority is one that readers believe in. Whoever brings a certificate has seen to that, and so has
//! whoever takes one that is passed on.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sovereign_model::edge_config::EdgeConfig;
use sovereign_model::edge_status::PublicCertificate;
use sovereign_model::layout::{passed_on, public_file};
use sovereign_model::{Digest, DnsName};
use sovereign_runtime::certificate;
use sovereign_runtime::file::read_foreign;
use tracing::warn;

/// A key and a chain of a few certificates have a few kilobytes.
const LONGEST_FILE: u64 = 1 << 20;

/// Why a certificate is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is not PEM")]
    Pem(#[source] pem::Error),
    #[error("it holds no certificate")]
    Empty,
    #[error("its key cannot be used")]
    Key(#[source] rustls::Error),
    #[error("it is for another name")]
    OtherName,
    #[error("it has no end")]
    NoEnd,
}

/// One that can be shown.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) begins: SystemTime,
    pub(crate) ends: SystemTime,
}

impl Ready {
    /// Whether this is shown in the place of `other`.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        certificate::is_newer(self.begins, other.begins)
    }
}

/// What is shown now, and whoever changes that takes turns.
#[derive(Debug)]
pub(crate) struct Public {
    pub(crate) shown: ArcSwap<PublicCertificates>,
    pub(crate) taking: Mutex<()>,
}

impl Public {
    /// What there is by this configuration.
    pub(crate) fn load(config: &EdgeConfig, provider: &CryptoProvider) -> Self {
        let shown = ArcSwap::from_pointee(PublicCertificates::load(config, provider));
        Self { shown, taking: Mutex::default() }
    }
}

/// Those that an edge has.
#[derive(Debug, Default)]
pub(crate) struct PublicCertificates {
    ready: HashMap<String, Ready>,
    told: BTreeMap<DnsName, PublicCertificate>,
}

impl PublicCertificates {
    /// Those for the names of a configuration, where it says that they are.
    pub(crate) fn load(config: &EdgeConfig, provider: &CryptoProvider) -> Self {
        let mut all = Self::default();
        let folders = folders(config);
        for name in config.sites.iter().flat_map(|site| &site.names) {
            for folder in &folders {
                match read_foreign(&folder.join(public_file(name)), LONGEST_FILE) {
                    Ok(bytes) => all.offer(name, &bytes, provider),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => all.refuse(name, Digest::of([]), &Unusable::Read(error)),
                }
            }
        }
        all
    }

    /// One more file for a name.
    fn offer(&mut self, name: &DnsName, bytes: &[u8], provider: &CryptoProvider) {
        let file = Digest::of(bytes);
        match ready(name, bytes, provider) {
            Ok(ready) if self.of(name).is_some_and(|shown| !ready.precedes(shown)) => {}
            Ok(ready) => {
                let (begins, ends) = (unix(ready.begins), unix(ready.ends));
                let told = PublicCertificate { file, begins_unix: Some(begins), ends_unix: Some(ends), problem: None };
                self.told.insert(name.clone(), told);
                self.ready.insert(name.as_str().to_owned(), ready);
            }
            Err(why) => self.refuse(name, file, &why),
        }
    }

    /// The one for a name.
    pub(crate) fn of(&self, name: &DnsName) -> Option<&Ready> {
        self.ready.get(name.as_str())
    }

    fn refuse(&mut self, name: &DnsName, file: Digest, why: &Unusable) {
        warn!(%name, error = why as &dyn std::error::Error, "a certificate of a public authority is not used");
        if self.of(name).is_some() {
            return;
        }
        let problem = Some(match std::error::Error::source(why) {
            Some(source) => format!("{why}: {source}"),
            None => why.to_string(),
        });
        self.told.insert(name.clone(), PublicCertificate { file, begins_unix: None, ends_unix: None, problem });
    }

    /// What there is, for whoever asks.
    pub(crate) fn told(&self) -> BTreeMap<DnsName, PublicCertificate> {
        self.told.clone()
    }
}

/// The folders with certificates: what was brought comes first, so that it is shown where neither is newer.
fn folders(config: &EdgeConfig) -> Vec<PathBuf> {
    let passed = config.public_authorities.as_ref().map(|_| passed_on(&config.store));
    config.public_certificates.iter().cloned().chain(passed).collect()
}

/// The file of the certificate that is shown for a name, while it is good. Reads files.
pub(crate) fn file_of(config: &EdgeConfig, shown: &PublicCertificates, name: &DnsName) -> Option<String> {
    let told = shown.told.get(name).filter(|_| shown.of(name).is_some_and(|shown| SystemTime::now() < shown.ends))?;
    let files = folders(config).into_iter().map(|folder| folder.join(public_file(name)));
    let texts = files.filter_map(|file| String::from_utf8(read_foreign(&file, LONGEST_FILE).ok()?).ok());
    let mut texts = texts;
    texts.find(|text| Digest::of(text) == told.file)
}

/// The certificates in a file, without what else is in it.
pub(crate) fn certificates_in(file: &str) -> String {
    let mut is_within = false;
    let lines = file.lines().filter(|line| {
        is_within |= *line == "-----BEGIN CERTIFICATE-----";
        let is_kept = is_within;
        is_within &= *line != "-----END CERTIFICATE-----";
        is_kept
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What is in a file, made ready.
pub(crate) fn ready(name: &DnsName, file: &[u8], provider: &CryptoProvider) -> Result<Ready, Unusable> {
    let chain = CertificateDer::pem_slice_iter(file).collect::<Result<Vec<_>, _>>().map_err(Unusable::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(file).map_err(Unusable::Pem)?;
    let leaf = chain.first().ok_or(Unusable::Empty)?;
    let certificate::Facts { not_before: begins, not_after: ends, .. } =
        certificate::facts(leaf).ok_or(Unusable::NoEnd)?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|_| Unusable::Empty)?;
    let server = ServerName::try_from(name.as_str()).map_err(|_| Unusable::OtherName)?;
    verify_server_name(&parsed, &server).map_err(|_| Unusable::OtherName)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(Unusable::Key)?;
    Ok(Ready { key: Arc::new(key), begins, ends })
}

/// Chooses what a reader is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The stack's own, for all names and addresses.
    pub(crate) own: Arc<CertifiedKey>,
    pub(crate) public: Arc<Public>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.public.shown.load();
        // rustls gives names in lower case, as ours are.
        let public = hello.server_name().and_then(|name| shown.ready.get(name));
        // One that is over helps nobody, and who trusts the stack's own authority still comes in.
        let public = public.filter(|public| SystemTime::now() < public.ends);
        Some(public.map_or(&self.own, |public| &public.key).clone())
    }
}
