//! The internal certificate authority: what a stack's edges are trusted by where no public one can vouch for them.
//!
//! Promise: one seed, stack and epoch give one certificate, bit for bit, so that a machine that trusts it goes on
//! trusting it after a recovery. Hence a fixed validity, a serial number taken from the key, and signatures without
//! randomness (RFC 6979).
//!
//! Left out on purpose: name constraints (RFC 5280 section 4.2.1.10). Whoever trusts the certificate has it in a trust
//! store, and would have to put it there anew each time the stack gets another domain. The key never leaves the
//! management machine.

use std::fmt;

use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest as _, Sha256};
use sovereign_model::StackName;
use time::OffsetDateTime;
use time::macros::datetime;
use zeroize::Zeroizing;

use crate::derive::DerivedSecret;

/// Before the first stack, and long after the last machine of today: a date that no clock or restore changes.
const NOT_BEFORE: OffsetDateTime = datetime!(2025-01-01 0:00 UTC);
pub(crate) const NOT_AFTER: OffsetDateTime = datetime!(2055-01-01 0:00 UTC);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate cannot be encoded.
    #[error("the certificate cannot be encoded")]
    Encode(#[source] rcgen::Error),
    /// It names nothing that could be reached.
    #[error("a certificate needs at least one name or address")]
    NoNames,
    /// It would end before it begins, or outlive its authority.
    #[error("a certificate cannot be valid from {from} for {lifetime:?}; the CA ends at {}", NOT_AFTER)]
    Lifetime {
        /// Its beginning.
        from: OffsetDateTime,
        /// Its length.
        lifetime: std::time::Duration,
    },
}

impl CaError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Lifetime { .. } => Some("check this machine's clock".into()),
            Self::Encode(_) | Self::NoNames => None,
        }
    }
}

/// The internal certificate authority of a stack, ready to sign. `Debug` shows only its name.
pub struct Ca {
    name: String,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, CaKey>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({})", self.name)
    }
}

impl Ca {
    /// The authority of `stack` in `epoch`, from its derived secret.
    pub fn new(stack: &StackName, epoch: u32, secret: &DerivedSecret) -> Result<Self, CaError> {
        let key = CaKey::from_secret(secret);
        // After a rotation both may be trusted for a while, and people must be able to tell them apart.
        let name = match epoch {
            1 => format!("Sovereign Stack {stack} CA"),
            later => format!("Sovereign Stack {stack} CA {later}"),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.not_before = NOT_BEFORE;
        params.not_after = NOT_AFTER;
        params.serial_number = Some(serial(&Sha256::digest(key.der_bytes())));
        // It signs leaves only: no further authority below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(CaError::Encode)?;
        Ok(Self { name, certificate, issuer: Issuer::new(params, key) })
    }

    /// The name that trust stores show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, CaKey> {
        &self.issuer
    }
}

/// A positive number of at most 20 bytes (RFC 5280 section 4.1.2.2) from random or hashed bytes.
pub(crate) fn serial(bytes: &[u8]) -> SerialNumber {
    let mut number = bytes[..16].to_vec();
    number[0] = number[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&number)
}

/// The first of HMAC-SHA256(secret, "p256 scalar 0"), "p256 scalar 1", ... that is a private key: not zero, and below the
/// order of the curve. All but one in four billion times it is the first.
pub(crate) fn p256_key(secret: &DerivedSecret) -> SigningKey {
    (0..=u32::MAX)
        .find_map(|attempt| {
            let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(secret.expose()).expect("HMAC takes any key");
            mac.update(format!("p256 scalar {attempt}").as_bytes());
            let candidate = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
            SigningKey::from_slice(&*candidate).ok()
        })
        .expect("one of four billion candidates is below the order")
}

/// A P-256 key that signs without randomness (RFC 6979), which rcgen's own keys cannot.
pub(crate) struct CaKey {
    key: SigningKey,
    /// The public point, uncompressed (SEC 1 section 2.3.3).
    public: Vec<u8>,
}

impl CaKey {
    pub(crate) fn from_secret(secret: &DerivedSecret) -> Self {
        let key = p256_key(secret);
        let public = key.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Self { key, public }
    }

    /// The private key as a number, for the test vectors.
    #[cfg(test)]
    pub(crate) fn scalar(&self) -> [u8; 32] {
        self.key.to_bytes().into()
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.key.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(stack: &str, epoch: u32) -> Ca {
        Ca::new(&stack.parse().unwrap(), epoch, &DerivedSecret::new(Zeroizing::new([5; 32]))).unwrap()
    }

    #[test]
    fn the_certificate_is_the_same_every_time() {
        insta::assert_snapshot!(ca("shop", 1).pem());
        assert_eq!(ca("shop", 1).pem(), ca("shop", 1).pem());
        assert_ne!(ca("shop", 1).pem(), ca("blog", 1).pem());
        assert_eq!(ca("shop", 2).name(), "Sovereign Stack shop CA 2");
    }

    #[test]
    fn debug_shows_only_the_name() {
        assert_eq!(format!("{:?}", ca("shop", 1)), "Ca(Sovereign Stack shop CA)");
    }
}
