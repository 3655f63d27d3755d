//! The forms that derived secrets take. Pure: one secret always gives one password, one key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::derive::DerivedSecret;
use crate::secret::SecretText;

/// Crockford's base 32, lower case: digits and letters without i, l, o and u, which are misread or misheard.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Groups of a password, and characters of a group: 25 characters of 5 bits, 125 bits.
const GROUPS: usize = 5;

/// A password that a person can type: five groups of five, `8f3kd-...`, from the first 125 bits.
pub fn owner_password(secret: &DerivedSecret) -> SecretText {
    typeable(secret.expose())
}

fn typeable(bytes: &[u8; 32]) -> SecretText {
    let mut text = String::with_capacity(GROUPS * (GROUPS + 1));
    for at in 0..GROUPS * GROUPS {
        if at != 0 && at % GROUPS == 0 {
            text.push('-');
        }
        let first_bit = at * 5;
        let pair = u16::from_be_bytes([bytes[first_bit / 8], bytes[first_bit / 8 + 1]]);
        let five = (pair >> (11 - first_bit % 8)) & 0x1f;
        text.push(char::from(ALPHABET[usize::from(five)]));
    }
    SecretText::new(text)
}

/// A password of the same form that nothing leads to: for somebody else than the operator.
///
/// # Panics
/// Never on Linux, which gives random numbers once it has booted.
pub fn random_password() -> SecretText {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("Linux gives random numbers once it has booted");
    typeable(&bytes)
}

/// The archive's password: the secret as 64 hex digits.
pub fn archive_password(secret: &DerivedSecret) -> SecretText {
    webhook_key(secret)
}

/// The key of a webhook's signature: 64 hex digits, used as the text it is.
pub fn webhook_key(secret: &DerivedSecret) -> SecretText {
    SecretText::new(hex::encode(secret.expose()))
}

/// The Ed25519 key (RFC 8032) whose private part is the secret.
pub fn signing_key(secret: &DerivedSecret) -> SigningKey {
    SigningKey::from_bytes(secret.expose())
}

/// The identity of a data center's edges on links.
pub struct LinkKey {
    /// The private key: PKCS#8 (RFC 8410 section 7), PEM.
    pub private_pem: SecretText,
    /// The public key: 64 hex digits.
    pub public_hex: String,
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey({})", self.public_hex)
    }
}

/// An Ed25519 private key in PKCS#8 is always these bytes and then the 32 of the key (RFC 8410 section 10.3). Without
/// the public key, which not every reader accepts there.
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The link key whose private part is the secret.
pub fn link_key(secret: &DerivedSecret) -> LinkKey {
    let mut der = Zeroizing::new([0; 48]);
    der[..16].copy_from_slice(&PKCS8_ED25519);
    der[16..].copy_from_slice(secret.expose());
    // 48 bytes are 64 characters: exactly one line of PEM (RFC 7468 section 2).
    let base64 = Zeroizing::new(STANDARD.encode(*der));
    LinkKey {
        private_pem: SecretText::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *base64)),
        public_hex: hex::encode(signing_key(secret).verifying_key().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(bytes: [u8; 32]) -> DerivedSecret {
        DerivedSecret::new(Zeroizing::new(bytes))
    }

    #[test]
    fn other_software_reads_the_link_key() {
        let key = link_key(&secret([9; 32]));
        let read = rcgen::KeyPair::from_pem(key.private_pem.expose()).unwrap();
        assert_eq!(hex::encode(read.public_key_raw()), key.public_hex);
    }

    proptest! {
        #[test]
        fn a_password_keeps_the_first_125_bits(bytes: [u8; 32]) {
            let password = owner_password(&secret(bytes));
            let groups: Vec<&str> = password.expose().split('-').collect();
            prop_assert!(groups.len() == 5 && groups.iter().all(|group| group.len() == 5), "{groups:?}");
            let mut bits = groups.concat().bytes().fold(String::new(), |bits, character| {
                let five = ALPHABET.iter().position(|known| *known == character).unwrap();
                bits + &format!("{five:05b}")
            });
            let mut expected: String = bytes[..16].iter().map(|byte| format!("{byte:08b}")).collect();
            expected.truncate(125);
            bits.truncate(125);
            prop_assert_eq!(bits, expected);
        }
    }
}
