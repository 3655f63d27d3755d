//! Certificates that the internal CA issues: what an edge shows to readers, where no public authority vouches for it.
//!
//! A leaf has a random P-256 key, serves only for TLS servers, and is valid from and for as long as the caller says: no
//! clock is read here. What it says is kept beside it as [`LeafFacts`], so that "is it still good?" needs no reading of
//! X.509.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use serde::{Deserialize, Serialize};
use sovereign_model::DnsName;
use time::OffsetDateTime;

use crate::ca::{Ca, CaError, NOT_AFTER, serial};
use crate::file::{self, Existing, FileError};
use crate::secret::SecretText;

/// The format of the facts' file.
const VERSION: u32 = 1;

/// A certificate and its key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate, PEM. It is the whole chain: the CA itself is what readers trust already.
    pub chain_pem: String,
    /// The private key, PKCS#8, PEM.
    pub key_pem: SecretText,
    /// What the certificate says.
    pub facts: LeafFacts,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LeafFacts {
    version: u32,
    /// The host names it is for.
    pub names: BTreeSet<DnsName>,
    /// The addresses it is for.
    pub addresses: BTreeSet<IpAddr>,
    /// Valid from, in seconds since 1970-01-01 UTC.
    pub not_before: u64,
    /// Valid until, in seconds since 1970-01-01 UTC.
    pub not_after: u64,
    /// SHA-256 of the issuing CA's certificate, hex: another CA means another certificate.
    pub issuer: String,
}

impl LeafFacts {
    /// Whether the certificate is `ca`'s, for all of `names` and `addresses` and no others, and valid at `now` and for
    /// `margin` after it.
    pub fn serves(&self, ca: &Ca, names: &[DnsName], addresses: &[IpAddr], now: SystemTime, margin: Duration) -> bool {
        let valid = now >= instant(self.not_before) && now + margin < instant(self.not_after);
        valid
            && self.issuer == digest_of(ca)
            && self.names.iter().eq(&names.iter().cloned().collect::<BTreeSet<_>>())
            && self.addresses.iter().eq(&addresses.iter().copied().collect::<BTreeSet<_>>())
    }

    /// When the certificate ends.
    pub fn ends(&self) -> SystemTime {
        instant(self.not_after)
    }

    /// The facts of the leaf whose chain and key lie at `chain` and `key`; `None` when there is none, or none that can
    /// be used: a damaged one is no loss, because another is issued in its place.
    ///
    /// # Errors
    /// When the facts cannot be read, or a newer program wrote them.
    pub fn read(chain: &Path, key: &Path) -> Result<Option<Self>, FileError> {
        match file::read::<Self>(&facts_path(chain), VERSION) {
            Ok(facts) => Ok(facts.filter(|_| belong_together(chain, key))),
            Err(FileError::Malformed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a certificate lies at `chain`, and at `key` the key it was made for.
fn belong_together(chain: &Path, key: &Path) -> bool {
    let (Ok(chain), Ok(key)) = (std::fs::read_to_string(chain), std::fs::read_to_string(key).map(SecretText::new))
    else {
        return false;
    };
    let (Some(certificate), Ok(key)) = (first_certificate(&chain), KeyPair::from_pem(key.expose())) else {
        return false;
    };
    // A certificate holds its subject's public key exactly as the key tells it (RFC 5280 section 4.1).
    let public = key.subject_public_key_info();
    certificate.windows(public.len()).any(|part| part == public)
}

/// The first certificate of a chain in PEM (RFC 7468), decoded.
fn first_certificate(chain: &str) -> Option<Vec<u8>> {
    let (_, rest) = chain.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

fn instant(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

fn digest_of(ca: &Ca) -> String {
    sovereign_model::Digest::of(ca.der()).hex()
}

fn facts_path(chain: &Path) -> PathBuf {
    chain.with_extension("json")
}

impl Leaf {
    /// Writes key, chain, and the facts beside the chain (`chain.pem`, `chain.json`), each atomically, mode 0600. The
    /// facts come last: while they are missing, the leaf counts as not there.
    pub fn write(&self, chain: &Path, key: &Path) -> Result<(), FileError> {
        let facts = facts_path(chain);
        match std::fs::remove_file(&facts) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::Write { path: facts, source });
            }
            _ => {}
        }
        file::write_text(key, self.key_pem.expose().as_bytes(), Existing::Replace)?;
        file::write_text(chain, self.chain_pem.as_bytes(), Existing::Replace)?;
        file::write(&facts, &self.facts, Existing::Replace)
    }
}

/// Issues a certificate for `names` and `addresses`, valid from `not_before` for `lifetime`.
///
/// Give `not_before` an hour of slack for readers whose clocks are late, and keep `lifetime` at 398 days or less: some
/// readers refuse more.
pub fn issue_leaf(
    ca: &Ca,
    names: &[DnsName],
    addresses: &[IpAddr],
    not_before: SystemTime,
    lifetime: Duration,
) -> Result<Leaf, CaError> {
    if names.is_empty() && addresses.is_empty() {
        return Err(CaError::NoNames);
    }
    let from = OffsetDateTime::from(not_before).replace_nanosecond(0).expect("zero is a nanosecond");
    let until = time::Duration::try_from(lifetime).ok().and_then(|lifetime| from.checked_add(lifetime));
    let Some(until) = until.filter(|until| *until > from && *until <= NOT_AFTER) else {
        return Err(CaError::Lifetime { from, lifetime });
    };
    let (Ok(starts), Ok(ends)) = (u64::try_from(from.unix_timestamp()), u64::try_from(until.unix_timestamp())) else {
        return Err(CaError::Lifetime { from, lifetime });
    };

    let names: BTreeSet<DnsName> = names.iter().cloned().collect();
    let addresses: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    let mut params = CertificateParams::default();
    for name in &names {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str()).map_err(CaError::Encode)?));
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280 appendix A.1), and nobody reads it any more.
    params.distinguished_name.push(DnType::CommonName, "Sovereign Stack edge");
    params.not_before = from;
    params.not_after = until;
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("Linux gives random numbers once it has booted");
    params.serial_number = Some(serial(&random));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;

    let key = KeyPair::generate().map_err(CaError::Encode)?;
    let certificate = params.signed_by(&key, ca.issuer()).map_err(CaError::Encode)?;
    Ok(Leaf {
        chain_pem: certificate.pem(),
        key_pem: SecretText::new(key.serialize_pem()),
        facts: LeafFacts {
            version: VERSION,
            names,
            addresses,
            not_before: starts,
            not_after: ends,
            issuer: digest_of(ca),
        },
    })
}
