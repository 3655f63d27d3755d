//! The root seed in memory.

use std::fmt;

use bip39::Mnemonic;
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::SecretText;
use crate::words::{self, WordsError};

/// 256 bits from which every secret that the stack makes itself is derived. Known to people as 24 words (BIP-39,
/// English list). Never shown by `Debug`, wiped when dropped.
pub struct RootSeed {
    entropy: Zeroizing<[u8; 32]>,
    /// BIP-39's seed for the words and an empty passphrase: what derivation starts from. Kept, because it costs 2048
    /// rounds of PBKDF2.
    bip39: Zeroizing<[u8; 64]>,
}

impl RootSeed {
    /// A new one from the kernel's random numbers.
    ///
    /// # Panics
    /// When the kernel gives none: there is no safe way to go on.
    pub fn generate() -> Self {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *entropy).expect("Linux gives random numbers once it has booted");
        Self::from_entropy(entropy)
    }

    /// From 24 words, as a person types them.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let mut mnemonic = words::parse(text)?;
        let (mut padded, length) = mnemonic.to_entropy_array();
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&padded[..length]);
        padded.zeroize();
        mnemonic.zeroize();
        Ok(Self::from_entropy(entropy))
    }

    pub(crate) fn from_entropy(entropy: Zeroizing<[u8; 32]>) -> Self {
        let mut mnemonic = mnemonic(&entropy);
        let bip39 = Zeroizing::new(mnemonic.to_seed_normalized(""));
        mnemonic.zeroize();
        Self { entropy, bip39 }
    }

    /// The 24 words, separated by single spaces.
    pub fn words(&self) -> SecretText {
        let mut mnemonic = mnemonic(&self.entropy);
        let text = SecretText::new(mnemonic.to_string());
        mnemonic.zeroize();
        text
    }

    pub(crate) fn entropy(&self) -> &[u8; 32] {
        &self.entropy
    }

    pub(crate) fn bip39(&self) -> &[u8; 64] {
        &self.bip39
    }
}

fn mnemonic(entropy: &[u8; 32]) -> Mnemonic {
    Mnemonic::from_entropy(entropy).expect("BIP-39 has words for 256 bits")
}

impl fmt::Debug for RootSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSeed(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", RootSeed::from_entropy(Zeroizing::new([7; 32]))), "RootSeed(hidden)");
    }

    #[test]
    fn two_new_ones_differ() {
        assert_ne!(RootSeed::generate().entropy(), RootSeed::generate().entropy());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn words_bring_the_seed_back(entropy: [u8; 32]) {
            let seed = RootSeed::from_entropy(Zeroizing::new(entropy));
            let words = seed.words();
            prop_assert_eq!(words.expose().split(' ').count(), 24);
            let parsed = RootSeed::parse(words.expose()).unwrap();
            prop_assert_eq!(parsed.entropy(), &entropy);
        }
    }
}
