//! The root seed and everything that is derived from it.
//!
//! ```text
//!  24 words ──BIP-39──▶ 64-byte seed ──HKDF(stack / purpose / epoch)──▶ 32-byte secret ──▶ password, key, CA ...
//!  seed/root.json                      keys/epochs.json                 keys/<purpose>.json
//!  (recovery, rotation)                                                 (daily work)
//! ```
//!
//! Promise: the same words, stack and epochs give the same secrets, bit for bit, on any machine and in ten lines of
//! Python (docs/secrets.md has the recipe, and a test holds it to this code). Secrets are never shown by `Debug`, are
//! wiped from memory when dropped, and are written only to files of mode 0600 in folders of mode 0700. Files carry a
//! version; newer ones are refused with advice.
//!
//! What others have made and given, for providers of DNS, is only read here ([`given`]).
//!
//! What is left out: where passphrases come from (the binary asks), other secrets of others (Ghost's own keys), money.

pub mod ca;
mod derive;
mod file;
pub mod given;
pub mod leaf;
mod purpose;
mod secret;
mod seed;
mod seed_file;
mod transfer_key;
mod typed;
#[cfg(test)]
mod vectors;
mod words;
mod working;
mod zone_key;

pub use ca::{Ca, CaError};
pub use derive::{DerivedSecret, Fingerprint};
pub use file::FileError;
pub use leaf::{Leaf, LeafFacts, issue_leaf};
pub use purpose::{Epochs, InvalidPurpose, Purpose};
pub use secret::{Passphrase, SecretText};
pub use seed::RootSeed;
pub use seed_file::{SeedError, SeedFile, StoredSeed};
pub use transfer_key::TransferKey;
pub use typed::{
    LinkKey, SshKey, archive_password, database_password, link_key, owner_password, random_password, signing_key,
    ssh_key, webhook_key,
};
pub use words::{UnknownWord, WordsError};
pub use working::{KeysError, Owner, WorkingKeys};
pub use zone_key::{Dnskey, Ds, ZoneKey, next_zone_epoch};

pub use ed25519_dalek::SigningKey;
