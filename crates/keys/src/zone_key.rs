//! The key that signs a zone, derived from the root seed: the same on every name server, so that each signs by itself and
//! resolvers believe all of them (RFC 8901 calls it model 1 with one key).
//!
//! One key signs keys and records (a combined signing key, CSK), by ECDSA P-256 with SHA-256 (RFC 6605).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::pkcs8::EncodePrivateKey as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sovereign_model::{DnsName, StackName};
use zeroize::Zeroizing;

use crate::ca::p256_key;
use crate::derive::DerivedSecret;
use crate::purpose::Purpose;
use crate::secret::SecretText;
use crate::seed::RootSeed;

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

    /// What its DNSKEY record says.
    pub fn dnskey(&self) -> Dnskey {
        let public_key = STANDARD.encode(&self.data[4..]);
        Dnskey { flags: FLAGS, protocol: PROTOCOL, algorithm: ALGORITHM, public_key }
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

    /// What the DS record says that the registry has of it.
    pub fn ds(&self, domain: &DnsName) -> Ds {
        let mut hash = Sha256::new();
        for label in domain.as_str().split('.') {
            // A label has 63 bytes at most (RFC 1035 section 2.3.4).
            hash.update([u8::try_from(label.len()).unwrap_or_default()]);
            hash.update(label);
        }
        hash.update([0]);
        hash.update(&self.data);
        let digest = hex::encode_upper(hash.finalize());
        Ds { key_tag: self.tag(), algorithm: ALGORITHM, digest_type: DIGEST, digest }
    }
}

/// The epoch of a zone's next key: the first after `newest` whose key has another tag than that of epoch `current`. Whoever
/// checks signatures finds keys by their tags, and files of keys are named by them.
pub fn next_zone_epoch(seed: &RootSeed, stack: &StackName, domain: &DnsName, current: u32, newest: u32) -> u32 {
    let purpose = Purpose::Zone(domain.clone());
    let tag = |epoch| ZoneKey::from_secret(&seed.derive(stack, &purpose, epoch)).tag();
    let taken = tag(current);
    // Two of sixteen bits are seldom the same, and never often in a row.
    (newest.saturating_add(1)..u32::MAX).find(|epoch| tag(*epoch) != taken).unwrap_or(newest)
}

/// The content of a DNSKEY record; as text in the presentation format (RFC 4034 section 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dnskey {
    /// 257: it signs the zone, and the parent points to it.
    pub flags: u16,
    /// 3, always.
    pub protocol: u8,
    /// 13: ECDSA P-256 with SHA-256.
    pub algorithm: u8,
    /// The public key, in base 64.
    pub public_key: String,
}

impl fmt::Display for Dnskey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.flags, self.protocol, self.algorithm, self.public_key)
    }
}

/// The content of a DS record; as text in the presentation format (RFC 4034 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ds {
    /// Which key it means, roughly.
    pub key_tag: u16,
    /// The key's: 13, ECDSA P-256 with SHA-256.
    pub algorithm: u8,
    /// 2: SHA-256, the one that all must know (RFC 8624 section 3.3).
    pub digest_type: u8,
    /// The digest of the domain and its key, in hex digits.
    pub digest: String,
}

impl fmt::Display for Ds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.key_tag, self.algorithm, self.digest_type, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

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
            key.dnskey().to_string(),
            "257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA=="
        );
        let domain = "example.net".parse().unwrap();
        assert_eq!(key.tag(), 55648);
        assert_eq!(
            key.ds(&domain).to_string(),
            "55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17"
        );
    }

    /// Of 65,536 tags some are the same soon: among 1,200 keys the odds against it are 59,000 to 1.
    #[test]
    fn the_next_key_has_another_tag() {
        let seed = RootSeed::from_entropy(Zeroizing::new([3; 32]));
        let (stack, domain) = ("shop".parse().unwrap(), "example.org".parse().unwrap());
        let purpose = Purpose::Zone(DnsName::clone(&domain));
        let tag = |epoch| ZoneKey::from_secret(&seed.derive(&stack, &purpose, epoch)).tag();
        assert_eq!(next_zone_epoch(&seed, &stack, &domain, 1, 1), 2);
        assert_eq!(next_zone_epoch(&seed, &stack, &domain, 1, 5), 6);
        let mut known = std::collections::BTreeMap::new();
        let same = (1..1_200).find_map(|epoch| Some((known.insert(tag(epoch), epoch)?, epoch)));
        let (one, other) = same.expect("two keys with one tag");
        assert_eq!(next_zone_epoch(&seed, &stack, &domain, one, other - 1), other + 1);
    }

    /// BIND's own tool makes the same record of our key.
    #[test]
    fn bind_makes_the_same_ds_of_it() {
        let key = ZoneKey::from_secret(&DerivedSecret::new(Zeroizing::new([7; 32])));
        for name in ["example.org", "a.b.xn--bcher-kva.example"] {
            let domain = name.parse().unwrap();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "{name}. 3600 IN DNSKEY {}", key.dnskey()).unwrap();
            let made = Command::new("dnssec-dsfromkey").args(["-2", "-f"]).arg(file.path()).arg(name).output();
            let made = made.expect("dnssec-dsfromkey runs");
            let line = format!("{name}. IN DS {}", key.ds(&domain));
            assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), line, "{made:?}");
        }
    }

    /// OpenSSL reads the private key, and knows the public one by it.
    #[test]
    fn openssl_reads_the_private_key() {
        let key = ZoneKey::from_secret(&DerivedSecret::new(Zeroizing::new([7; 32])));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(key.private_pem().expose().as_bytes()).unwrap();
        let read =
            Command::new("openssl").args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(file.path()).output();
        let read = read.expect("openssl runs");
        let point = STANDARD.decode(key.dnskey().public_key).unwrap();
        assert!(read.stdout.ends_with(&point) && !format!("{key:?}").contains("PRIVATE"), "{read:?}");
    }
}
