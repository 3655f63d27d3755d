//! Whether what an authority sent is what was asked for. Nothing else is ever stored, or served.
//!
//! A chain must begin from a root that is believed in: one of the authority's own where the stack file names them, else
//! one of the machine's. That is stricter than TLS needs of a server, and as strict as its readers are: agents that look
//! at an edge believe in the same roots, and would count a data center for dead that shows anything else.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::server::VerifierBuilderError;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sovereign_model::DnsName;
use sovereign_runtime::certificate;

use crate::moment::Moment;
use crate::x509::{self, Facts};

/// Roots that cannot be believed in.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It is no certificate.
    #[error("the roots cannot be read")]
    Unreadable(#[source] pem::Error),
    /// It is one that cannot be used.
    #[error("a root cannot be used")]
    Unusable(#[source] TlsError),
    /// There is none.
    #[error("there is no root")]
    None,
    /// A verifier cannot be made of them.
    #[error("the roots cannot be used")]
    Verifier(#[source] VerifierBuilderError),
}

impl RootsError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::None => {
                "install the package ca-certificates, or name the file with the authority's own as `roots`".into()
            }
            _ => "`roots` is a file with one or more `-----BEGIN CERTIFICATE-----`".into(),
        })
    }
}

/// The roots of a text in PEM.
///
/// # Errors
/// When it holds no root that can be used.
pub fn roots_of(text: &str) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        roots.add(certificate.map_err(RootsError::Unreadable)?).map_err(RootsError::Unusable)?;
    }
    if roots.is_empty() { Err(RootsError::None) } else { Ok(roots) }
}

/// The roots that this machine believes in; none when it has no such file.
pub fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&certificate::public_roots()).flatten());
    roots
}

/// Why what an authority sent is not stored.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// It is no chain of certificates.
    #[error("it is no certificate")]
    Unreadable,
    /// The key cannot be read.
    #[error("its key cannot be read")]
    Key(#[source] TlsError),
    /// It belongs to another key.
    #[error("it belongs to another key")]
    OtherKey(#[source] TlsError),
    /// It does not begin from a root that is believed in, is for another name, has ended or not begun.
    #[error("it cannot be believed in")]
    Unbelievable(#[source] TlsError),
}

impl Misfit {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        let Self::Unbelievable(TlsError::InvalidCertificate(why)) = self else { return None };
        match why {
            rustls::CertificateError::UnknownIssuer => Some(
                "when the authority has a new root, add its certificate to the file that `roots` names; without `roots`, \
                 upgrade the package ca-certificates"
                    .into(),
            ),
            rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. }
            | rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. } => Some("`timedatectl` says whether the clock is right".into()),
            _ => None,
        }
    }
}

/// Says which certificates fit.
#[derive(Debug)]
pub struct Check(Arc<WebPkiServerVerifier>);

impl Check {
    /// One that believes in these roots.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(roots: RootCertStore) -> Result<Self, RootsError> {
        if roots.is_empty() {
            return Err(RootsError::None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        verifier.build().map(Self).map_err(RootsError::Verifier)
    }

    /// What the first certificate of `chain` says, when the chain is whole, for `name`, valid now, and belongs to `key`
    /// (PEM both).
    ///
    /// # Errors
    /// When it does not fit.
    pub fn fits(&self, chain: &str, key: &str, name: &DnsName, now: Moment) -> Result<Facts, Misfit> {
        belongs(chain, key)?;
        self.believes(chain, name, now)
    }

    /// The same of one whose key is not known here.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn believes(&self, chain: &str, name: &DnsName, now: Moment) -> Result<Facts, Misfit> {
        let certificates = certificates(chain).ok_or(Misfit::Unreadable)?;
        let (leaf, rest) = certificates.split_first().ok_or(Misfit::Unreadable)?;
        let facts = x509::facts(leaf).ok_or(Misfit::Unreadable)?;
        // Names of this kind are such names.
        let server = ServerName::try_from(name.as_str().to_owned()).map_err(|_| Misfit::Unreadable)?;
        let now = UnixTime::since_unix_epoch(now.since(Moment::LONG_AGO));
        self.0.verify_server_cert(leaf, rest, &server, &[], now).map_err(Misfit::Unbelievable)?;
        Ok(facts)
    }
}

/// What the first certificate of `chain` says, when it is one and belongs to `key`, whatever it is worth.
///
/// # Errors
/// When it does not.
pub fn belongs(chain: &str, key: &str) -> Result<Facts, Misfit> {
    let certificates = certificates(chain).ok_or(Misfit::Unreadable)?;
    let facts = certificates.first().and_then(|leaf| x509::facts(leaf)).ok_or(Misfit::Unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| Misfit::Key(TlsError::General("it is no private key in PEM".into())))?;
    CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
        TlsError::InconsistentKeys(_) => Misfit::OtherKey(error),
        other => Misfit::Key(other),
    })?;
    Ok(facts)
}

/// All certificates of a text in PEM; `None` when one cannot be read, or something else is among them.
pub(crate) fn certificates(chain: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().ok().filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    struct Issued {
        root: String,
        chain: String,
        key: String,
    }

    /// A name that no other authority has.
    fn hex_of(key: &KeyPair) -> String {
        key.public_key_raw()[1..9].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn issue(name: &str) -> Issued {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, hex_of(&KeyPair::generate().unwrap()));
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (at(NOW as i64), at(NOW as i64 + 1000));
        let chain = params.signed_by(&key, &authority).unwrap().pem();
        Issued { root: authority.pem(), chain, key: key.serialize_pem() }
    }

    #[test]
    fn a_certificate_fits_only_its_key_its_name_its_time_and_a_root_that_is_believed_in() {
        let (good, other) = (issue("blog.example"), issue("blog.example"));
        let name: DnsName = "blog.example".parse().unwrap();
        let check = Check::new(roots_of(&good.root).unwrap()).unwrap();
        let fits = |chain: &str, key: &str, name: &DnsName, now| check.fits(chain, key, name, Moment::at(now));
        let facts = fits(&good.chain, &good.key, &name, NOW + 1).unwrap();
        assert_eq!((facts.not_before, facts.not_after), (Moment::at(NOW), Moment::at(NOW + 1000)));

        assert!(matches!(fits(&good.chain, &other.key, &name, NOW + 1), Err(Misfit::OtherKey(_))));
        let strange = "www.example".parse().unwrap();
        assert!(matches!(fits(&good.chain, &good.key, &strange, NOW + 1), Err(Misfit::Unbelievable(_))));
        for (chain, key, now) in [
            (&good.chain, &good.key, NOW - 1),
            (&good.chain, &good.key, NOW + 1001),
            (&other.chain, &other.key, NOW + 1),
        ] {
            let misfit = fits(chain, key, &name, now).unwrap_err();
            assert!(matches!(misfit, Misfit::Unbelievable(_)) && misfit.help().is_some(), "{misfit:?}");
        }
        let cut = &good.chain[..good.chain.len() / 2];
        for nothing in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", cut] {
            assert!(matches!(fits(nothing, &good.key, &name, NOW), Err(Misfit::Unreadable)), "{nothing}");
        }
        assert!(matches!(fits(&good.chain, "", &name, NOW), Err(Misfit::Key(_))));
    }

    #[test]
    fn roots_that_are_none_are_an_error_with_help() {
        for text in ["", "no certificate"] {
            assert!(roots_of(text).unwrap_err().help().is_some());
        }
        assert!(Check::new(RootCertStore::empty()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_an_authority_sends_is_read_without_harm(body in "[ -~\n]{0,200}") {
            let good = issue("blog.example");
            let check = Check::new(roots_of(&good.root).unwrap()).unwrap();
            let name = "blog.example".parse().unwrap();
            let wrapped = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            for text in [&body, &wrapped, &format!("{}{body}", good.chain), &format!("{body}\n{}", good.chain)] {
                let _ = check.fits(text, &good.key, &name, Moment::at(NOW + 1));
            }
        }
    }
}
