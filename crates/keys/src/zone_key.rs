//! The key that signs a zone, derived from the root seed: the same on every name server, so that each signs by itself and
//! resolvers believe all of them (RFC 8901 calls it model 1 with one key).
//!
//! One key signs keys and records (a combined signing key, CSK), by ECDSA P-256 with SHA-256 (RFC 6605).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::pkcs8::EncodePrivateKey as _;
use sha2::{Digest as _, Sha256};
use sovereign_model::DnsName;
use zeroize::Zeroizing;

use crate::ca::p256_key;
use crate::derive::DerivedSecret;
use crate::secret::SecretText;

/// RFC 6605 section 5: ECDSAP256SHA256.
const ALGORITHM: u8 = 13;
/// RFC 4034 section 2.1: a zone key, and a secure entry point.
const FLAGS: u16 = 257;
/// RFC 4034 section 2.1.2: always 3.
const PROTOCOL: u8 = 3;
/// RFC 4509: SHA-256.
const DIGEST: u8 = 2;

/// The key that signs a zone.
pub struct ZoneKey {
    secret: SecretKey,
    /// What a DNSKEY record says, on the wire (RFC 4034 section 2.1).
    data: Vec<u8>,
}

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZoneKey({})", self.tag())
    }
}

impl ZoneKey {
    pub(crate) fn from_secret(secret: &DerivedSecret) -> Self {
        let secret = SecretKey::from(p256_key(secret));
        let point = secret.public_key().to_sec1_bytes();
        let mut data = FLAGS.to_be_bytes().to_vec();
        // RFC 6605 section 4: the point without the byte that says it is uncompressed.
        data.extend([PROTOCOL, ALGORITHM]);
        data.extend(&point[1..]);
        Self { secret, data }
    }

    /// The private key as name servers take it in: PKCS#8 (RFC 5958), PEM.
    ///
    /// # Panics
    /// Never: a key of this curve has such a form.
    pub fn private_pem(&self) -> SecretText {
        let der = self.secret.to_pkcs8_der().expect("a P-256 key has a PKCS#8 form");
        let base64 = Zeroizing::new(STANDARD.encode(der.as_bytes()));
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in base64.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        SecretText::new(pem)
    }

    /// What its DNSKEY record says, in the presentation format (RFC 4034 section 2.2).
    pub fn dnskey(&self) -> String {
        format!("{FLAGS} {PROTOCOL} {ALGORITHM} {}", STANDARD.encode(&self.data[4..]))
    }

    /// Its tag (RFC 4034 appendix B).
    pub fn tag(&self) -> u16 {
        let sum: u32 = self
            .data
            .iter()
            .enumerate()
            .map(|(at, byte)| if at % 2 == 0 { u32::from(*byte) << 8 } else { u32::from(*byte) })
            .sum();
        u16::try_from((sum + (sum >> 16)) & 0xFFFF).unwrap_or_default()
    }

    /// What the DS record says that the registry has of it, in the presentation format (RFC 4034 section 5.3).
    pub fn ds(&self, domain: &DnsName) -> String {
        let mut hash = Sha256::new();
        for label in domain.as_str().split('.') {
            // A label has 63 bytes at most (RFC 1035 section 2.3.4).
            hash.update([u8::try_from(label.len()).unwrap_or_default()]);
            hash.update(label);
        }
        hash.update([0]);
        hash.update(&self.data);
        format!("{} {ALGORITHM} {DIGEST} {}", self.tag(), hex::encode_upper(hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6605 section 6.1.
    #[test]
    fn tag_and_digest_are_those_of_the_standard() {
        let private = "GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=";
        let secret = SecretKey::from_slice(&STANDARD.decode(private).unwrap()).unwrap();
        let point = secret.public_key().to_sec1_bytes();
        let mut data = vec![1, 1, 3, 13];
        data.extend(&point[1..]);
        let key = ZoneKey { secret, data };
        assert_eq!(
            key.dnskey(),
            "257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA=="
        );
        let domain = "example.net".parse().unwrap();
        assert_eq!(key.tag(), 55648);
        assert_eq!(key.ds(&domain), "55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17");
    }
}
