//! From the root seed to one 32-byte secret per purpose and epoch.
//!
//! ```text
//! HKDF-SHA256 (RFC 5869)
//!   input key  the 64-byte BIP-39 seed of the 24 words and an empty passphrase
//!   salt       "sovereign-stack/v1"
//!   info       "<stack> / <purpose> / <epoch>"
//!   length     32
//! ```
//!
//! The BIP-39 *seed* and not its entropy is the input, because every tool that reads 24 words gives it: the recipe in
//! docs/secrets.md needs no list of words. The info text cannot be read in two ways: no stack name, purpose or number
//! contains a space.

use std::fmt;

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sovereign_model::StackName;
use zeroize::Zeroizing;

use crate::purpose::Purpose;
use crate::seed::RootSeed;

const SALT: &[u8] = b"sovereign-stack/v1";

/// 32 secret bytes for one purpose in one epoch. Never shown by `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct DerivedSecret(Zeroizing<[u8; 32]>);

impl DerivedSecret {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DerivedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedSecret(hidden)")
    }
}

/// Tells root seeds apart without giving anything of them away: 16 bytes derived like a secret, but public.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl RootSeed {
    /// The secret of `stack` for `purpose` in `epoch`.
    pub fn derive(&self, stack: &StackName, purpose: &Purpose, epoch: u32) -> DerivedSecret {
        self.expand(&format!("{stack} / {purpose} / {epoch}"))
    }

    /// The public name of this seed in `stack`.
    pub fn fingerprint(&self, stack: &StackName) -> Fingerprint {
        Fingerprint(hex::encode(&self.expand(&format!("{stack} / fingerprint / 1")).expose()[..16]))
    }

    fn expand(&self, info: &str) -> DerivedSecret {
        let mut secret = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(SALT), self.bip39())
            .expand(info.as_bytes(), &mut *secret)
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        DerivedSecret(secret)
    }
}
