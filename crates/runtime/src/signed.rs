//! The signed envelope: how a daemon knows that its configuration comes from the operator, whole and unchanged.
//!
//! ```json
//! {"protocol":1,"generation":7,"payload":"<JSON text>","signature":"<128 hex digits>"}
//! ```
//!
//! The signature is Ed25519 (RFC 8032) over
//!
//! ```text
//! "sovereign-stack signed config" 0x00 | protocol, 4 bytes big-endian | generation, 8 bytes big-endian | payload
//! ```
//!
//! so that it means nothing in any other place where the same key might sign. The payload is kept as text and not as a
//! JSON value, because a signature over a value needs a canonical form of JSON, and there is no good one.
//!
//! A short statement that travels by itself is signed by [`attest`], in a domain of its own.
//!
//! Promise: [`open`] accepts exactly the bytes that [`seal`] made, not merely an equivalent JSON text. What is left to
//! the caller: refusing a generation older than the one it serves, and a payload that is meant for another daemon.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// What the signature's text begins with, so that it cannot be mistaken for another kind of message.
const DOMAIN: &[u8] = b"sovereign-stack signed config\0";

/// The same for statements.
const STATEMENT: &[u8] = b"sovereign-stack signed statement\0";

/// Nothing we write comes near this size, and a daemon should not have to hold more in memory to find out.
pub const MOST_BYTES: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    protocol: u32,
    generation: u64,
    payload: String,
    signature: String,
}

/// What was in an envelope whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The version of the payload's format: the newest one this program reads, or the one before.
    pub protocol: u32,
    /// Which configuration this is, counted by the management machine.
    pub generation: u64,
    /// The configuration itself, JSON text.
    pub payload: String,
}

/// Why an envelope was refused. The configuration that is served stays.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The file is not an envelope, or not byte for byte the one that was written.
    #[error("not a signed configuration as this program writes them")]
    Malformed {
        /// Where the JSON went wrong; `None` when it is good JSON in another form than ours.
        source: Option<serde_json::Error>,
    },
    /// Larger than any configuration.
    #[error("a configuration of {bytes} bytes; at most {MOST_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Written for a newer or a much older program.
    #[error("the configuration has format {found}, this program reads up to {newest}")]
    Protocol {
        /// The envelope's.
        found: u32,
        /// The newest one this program reads.
        newest: u32,
    },
    /// Signed with another key, or changed after signing.
    #[error("the signature is not the trusted key's")]
    Signature,
    /// The text is not an Ed25519 public key.
    #[error("{text:?} is not an Ed25519 public key (64 hex digits)")]
    Trust {
        /// What was given.
        text: String,
    },
}

impl SignedError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Protocol { found, newest } if found > newest => {
                Some("a newer `sovereign` wrote it: run `sovereign up` with that one, it brings the daemons along".into())
            }
            Self::Protocol { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => {
                Some("run `sovereign up`: it writes the configuration again".into())
            }
            Self::Signature => Some(
                "somebody else's stack, or a changed file: run `sovereign up` from the management machine to write it again"
                    .into(),
            ),
            Self::Trust { .. } => None,
        }
    }
}

/// Signs `payload` as configuration number `generation` in format `protocol`. The result is a file's whole content.
pub fn seal(key: &SigningKey, protocol: u32, generation: u64, payload: impl Into<String>) -> String {
    let payload = payload.into();
    let signature = hex::encode(key.sign(&message(protocol, generation, &payload)).to_bytes());
    text_of(&Envelope { protocol, generation, payload, signature })
}

/// Reads what [`seal`] wrote, if `trust` signed it and its format is `newest` or the one before.
pub fn open(trust: &VerifyingKey, newest: u32, bytes: &[u8]) -> Result<Opened, SignedError> {
    if bytes.len() > MOST_BYTES {
        return Err(SignedError::TooLarge { bytes: bytes.len() });
    }
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|source| SignedError::Malformed { source: Some(source) })?;
    let Envelope { protocol, generation, payload, signature } = &envelope;
    if !accepts(newest, *protocol) {
        return Err(SignedError::Protocol { found: *protocol, newest });
    }
    let mut raw = [0; Signature::BYTE_SIZE];
    hex::decode_to_slice(signature, &mut raw).map_err(|_| SignedError::Signature)?;
    trust
        .verify_strict(&message(*protocol, *generation, payload), &Signature::from_bytes(&raw))
        .map_err(|_| SignedError::Signature)?;
    // JSON has many spellings of one value, and hex has two; the signature covers the value, this covers the spelling.
    if text_of(&envelope).as_bytes() != bytes || hex::encode(raw) != *signature {
        return Err(SignedError::Malformed { source: None });
    }
    let Envelope { protocol, generation, payload, .. } = envelope;
    Ok(Opened { protocol, generation, payload })
}

/// What an envelope says of itself, whoever made it. Nothing of it is to be believed.
pub fn claims(bytes: &[u8]) -> Option<(u64, String)> {
    let Envelope { generation, payload, .. } = serde_json::from_slice(bytes).ok()?;
    Some((generation, payload))
}

/// Signs `statement`; 128 hex digits. What it says is the caller's, its first words included: they keep kinds apart.
pub fn attest(key: &SigningKey, statement: &[u8]) -> String {
    hex::encode(key.sign(&[STATEMENT, statement].concat()).to_bytes())
}

/// Whether `signature` is what [`attest`] gave for `statement`, with the key that `trust` belongs to.
pub fn is_attested(trust: &VerifyingKey, statement: &[u8], signature: &str) -> bool {
    let mut raw = [0; Signature::BYTE_SIZE];
    hex::decode_to_slice(signature, &mut raw).is_ok()
        && trust.verify_strict(&[STATEMENT, statement].concat(), &Signature::from_bytes(&raw)).is_ok()
}

/// A public key as daemons get it on their command line: 64 hex digits.
pub fn parse_trust(text: &str) -> Result<VerifyingKey, SignedError> {
    let invalid = || SignedError::Trust { text: text.to_owned() };
    let mut raw = [0; 32];
    hex::decode_to_slice(text, &mut raw).map_err(|_| invalid())?;
    VerifyingKey::from_bytes(&raw).map_err(|_| invalid())
}

/// The rule for every format and protocol of the stack: a program reads its own and the one before.
pub(crate) fn accepts(newest: u32, found: u32) -> bool {
    found >= 1 && (found == newest || found.checked_add(1) == Some(newest))
}

fn message(protocol: u32, generation: u64, payload: &str) -> Vec<u8> {
    [DOMAIN, &protocol.to_be_bytes(), &generation.to_be_bytes(), payload.as_bytes()].concat()
}

fn text_of(envelope: &Envelope) -> String {
    let mut text = serde_json::to_string(envelope).expect("numbers and texts serialize to JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes(&[byte; 32])
    }

    #[test]
    fn the_envelope_on_disk_keeps_its_form() {
        insta::assert_snapshot!(seal(&key(1), 1, 7, r#"{"a":1}"#));
    }

    #[test]
    fn another_key_is_refused() {
        let text = seal(&key(1), 1, 1, "{}");
        let error = open(&key(2).verifying_key(), 1, text.as_bytes()).unwrap_err();
        assert!(matches!(error, SignedError::Signature), "{error:?}");
    }

    #[test]
    fn another_spelling_of_the_same_envelope_is_refused() {
        let text = seal(&key(1), 1, 1, "{}");
        let (head, signature) = text.split_at(text.find("\"signature\":").unwrap() + "\"signature\":".len());
        let shouted = format!("{head}{}", signature.to_uppercase());
        for other in [shouted, text.replace(',', ", "), text.trim_end().to_owned()] {
            let error = open(&key(1).verifying_key(), 1, other.as_bytes()).unwrap_err();
            assert!(matches!(error, SignedError::Malformed { source: None }), "{error:?}");
        }
    }

    #[test]
    fn a_format_is_read_by_its_own_version_and_the_next() {
        let text = seal(&key(1), 2, 1, "{}");
        let trust = key(1).verifying_key();
        assert!(open(&trust, 2, text.as_bytes()).is_ok());
        assert!(open(&trust, 3, text.as_bytes()).is_ok());
        for newest in [1, 4] {
            let error = open(&trust, newest, text.as_bytes()).unwrap_err();
            assert!(matches!(error, SignedError::Protocol { found: 2, .. }), "{error:?}");
            assert!(error.help().is_some());
        }
    }

    #[test]
    fn a_statement_holds_for_its_words_and_its_key_alone() {
        let trust = key(1).verifying_key();
        let signature = attest(&key(1), b"one");
        assert!(is_attested(&trust, b"one", &signature));
        assert!(!is_attested(&trust, b"two", &signature));
        assert!(!is_attested(&key(2).verifying_key(), b"one", &signature));
        for broken in ["", "00", &signature[1..], &signature.replace(|digit: char| digit.is_ascii_digit(), "0")] {
            assert!(!is_attested(&trust, b"one", broken), "{broken}");
        }
        // A configuration's signature is no statement's, whatever the statement says.
        let sealed = seal(&key(1), 1, 7, "{}");
        let envelope: Envelope = serde_json::from_str(&sealed).unwrap();
        assert!(!is_attested(&trust, &message(1, 7, "{}"), &envelope.signature));
    }

    #[test]
    fn a_trusted_key_is_64_hex_digits() {
        let key = key(3).verifying_key();
        assert_eq!(parse_trust(&hex::encode(key.as_bytes())).unwrap(), key);
        assert!(parse_trust("ab").is_err());
        assert!(parse_trust("").is_err());
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(generation: u64, payload in ".{0,200}") {
            let opened = open(&key(1).verifying_key(), 1, seal(&key(1), 1, generation, payload.clone()).as_bytes());
            prop_assert_eq!(opened.unwrap(), Opened { protocol: 1, generation, payload });
        }

        #[test]
        fn any_changed_byte_is_refused(payload in "[ -~]{0,60}", at: prop::sample::Index, flip in 1u8..=255) {
            let mut bytes = seal(&key(1), 1, 12, payload).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(open(&key(1).verifying_key(), 1, &bytes).is_err());
        }

        #[test]
        fn garbage_is_refused(bytes: Vec<u8>) {
            prop_assert!(open(&key(1).verifying_key(), 1, &bytes).is_err());
        }
    }
}
