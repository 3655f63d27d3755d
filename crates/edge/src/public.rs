//! Certificates of public authorities: one for each name, shown to readers who ask for it.
//!
//! Promise: what cannot be used costs nobody anything. A file that is missing, damaged, for another name or over is not
//! shown, and the stack's own certificate is, as it was before there was any other; the other names are not touched by it.
//! They change by a reload, which closes no connection.
//!
//! Left out: whether an authority is one that readers believe in. Whoever brings a certificate has seen to that.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sovereign_model::edge_status::PublicCertificate;
use sovereign_model::layout::public_file;
use sovereign_model::{Digest, DnsName};
use sovereign_runtime::certificate;
use sovereign_runtime::file::read_foreign;
use tracing::warn;

/// A key and a chain of a few certificates have a few kilobytes.
const LONGEST_FILE: u64 = 1 << 20;

/// Why a certificate is not shown.
#[derive(Debug, thiserror::Error)]
enum Unusable {
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
struct Ready {
    key: Arc<CertifiedKey>,
    ends: SystemTime,
}

/// Those that an edge has.
#[derive(Debug, Default)]
pub(crate) struct PublicCertificates {
    ready: HashMap<String, Ready>,
    told: BTreeMap<DnsName, PublicCertificate>,
}

impl PublicCertificates {
    /// Those for `names` in `folder`.
    pub(crate) fn load<'n>(
        folder: Option<&Path>,
        names: impl Iterator<Item = &'n DnsName>,
        provider: &CryptoProvider,
    ) -> Self {
        let mut all = Self::default();
        let Some(folder) = folder else { return all };
        for name in names {
            let bytes = match read_foreign(&folder.join(public_file(name)), LONGEST_FILE) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    all.refuse(name, Digest::of([]), &Unusable::Read(error));
                    continue;
                }
            };
            let file = Digest::of(&bytes);
            match ready(name, &bytes, provider) {
                Ok(certificate) => {
                    let ends = certificate.ends.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
                    let told = PublicCertificate { file, ends_unix: Some(ends), problem: None };
                    all.told.insert(name.clone(), told);
                    all.ready.insert(name.as_str().to_owned(), certificate);
                }
                Err(why) => all.refuse(name, file, &why),
            }
        }
        all
    }

    fn refuse(&mut self, name: &DnsName, file: Digest, why: &Unusable) {
        warn!(%name, error = why as &dyn std::error::Error, "a certificate of a public authority is not used");
        let problem = Some(match std::error::Error::source(why) {
            Some(source) => format!("{why}: {source}"),
            None => why.to_string(),
        });
        self.told.insert(name.clone(), PublicCertificate { file, ends_unix: None, problem });
    }

    /// What there is, for whoever asks.
    pub(crate) fn told(&self) -> BTreeMap<DnsName, PublicCertificate> {
        self.told.clone()
    }
}

fn ready(name: &DnsName, file: &[u8], provider: &CryptoProvider) -> Result<Ready, Unusable> {
    let chain = CertificateDer::pem_slice_iter(file).collect::<Result<Vec<_>, _>>().map_err(Unusable::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(file).map_err(Unusable::Pem)?;
    let leaf = chain.first().ok_or(Unusable::Empty)?;
    let ends = certificate::facts(leaf).ok_or(Unusable::NoEnd)?.not_after;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|_| Unusable::Empty)?;
    let server = ServerName::try_from(name.as_str()).map_err(|_| Unusable::OtherName)?;
    verify_server_name(&parsed, &server).map_err(|_| Unusable::OtherName)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(Unusable::Key)?;
    Ok(Ready { key: Arc::new(key), ends })
}

/// Chooses what a reader is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The stack's own, for all names and addresses.
    pub(crate) own: Arc<CertifiedKey>,
    pub(crate) public: Arc<PublicCertificates>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives names in lower case, as ours are.
        let public = hello.server_name().and_then(|name| self.public.ready.get(name));
        // One that is over helps nobody, and who trusts the stack's own authority still comes in.
        let public = public.filter(|public| SystemTime::now() < public.ends);
        Some(public.map_or(&self.own, |public| &public.key).clone())
    }
}
