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

/// What a site opens its database with: 64 hex digits.
pub fn database_password(secret: &DerivedSecret) -> SecretText {
    webhook_key(secret)
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

/// A key that opens hosts over SSH.
pub struct SshKey {
    /// The private key in OpenSSH's own format, without a passphrase: what every version of its client reads.
    pub private_pem: SecretText,
    /// The public key as a line of `authorized_keys`.
    pub public_line: String,
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshKey({})", self.public_line)
    }
}

const SSH_ED25519: &[u8] = b"ssh-ed25519";
/// A private key without a passphrase is padded to so much.
const SSH_BLOCK: usize = 8;
/// Characters of a line of PEM, as OpenSSH writes it.
const SSH_LINE: usize = 70;

/// The SSH key whose private part is the secret. `comment` tells people what it is for; it is in both parts.
///
/// # Panics
/// Never: no part is four gigabytes long.
pub fn ssh_key(secret: &DerivedSecret, comment: &str) -> SshKey {
    fn text(into: &mut Vec<u8>, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("no part is so long");
        into.extend(length.to_be_bytes());
        into.extend(part);
    }
    let public = signing_key(secret).verifying_key();
    let mut blob = Vec::new();
    text(&mut blob, SSH_ED25519);
    text(&mut blob, public.as_bytes());
    // openssh/PROTOCOL.key. Two equal numbers tell a reader that a passphrase was right; there is none. Room for all
    // of it at once, so that no copy is left where the vector was before it grew.
    let mut private = Zeroizing::new(Vec::with_capacity(512 + comment.len()));
    private.extend([0; 8]);
    text(&mut private, SSH_ED25519);
    text(&mut private, public.as_bytes());
    private.extend(64_u32.to_be_bytes());
    private.extend(secret.expose());
    private.extend(public.as_bytes());
    text(&mut private, comment.as_bytes());
    let padding = private.len().next_multiple_of(SSH_BLOCK) - private.len();
    private.extend((1..).take(padding));
    let mut all = Zeroizing::new(Vec::with_capacity(1024 + comment.len()));
    all.extend(b"openssh-key-v1\0");
    text(&mut all, b"none");
    text(&mut all, b"none");
    text(&mut all, b"");
    all.extend(1_u32.to_be_bytes());
    text(&mut all, &blob);
    text(&mut all, &private);
    let base64 = Zeroizing::new(STANDARD.encode(&*all));
    let mut pem = String::with_capacity(2 * base64.len() + 128);
    pem.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in base64.as_bytes().chunks(SSH_LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    let public_line = format!("ssh-ed25519 {} {comment}", STANDARD.encode(blob));
    SshKey { private_pem: SecretText::new(pem), public_line }
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

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn openssh_reads_the_ssh_key() {
        use std::os::unix::fs::OpenOptionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        for comment in ["sovereign:shop:management", "", "x", "1234567"] {
            let key = ssh_key(&secret([7; 32]), comment);
            let path = folder.path().join(format!("key{}", comment.len()));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            std::io::Write::write_all(&mut file, key.private_pem.expose().as_bytes()).unwrap();
            let Ok(output) = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
                return eprintln!("skipped: ssh-keygen cannot be run");
            };
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), key.public_line.trim(), "{output:?}");
            assert!(!format!("{key:?}").contains("PRIVATE"));
        }
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
