//! The key that a secondary gets zones with, derived from the root seed: nothing has to be exchanged again after a disaster.
//!
//! It is used as it is by TSIG (RFC 8945), which both sides call by the same name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sovereign_model::Digest;
use sovereign_model::secondary::Secondary;

use crate::derive::DerivedSecret;
use crate::secret::SecretText;

/// The key of a secondary's transfers.
pub struct TransferKey {
    /// The 32 bytes, in base 64, as name servers are configured with.
    pub secret: SecretText,
    knot: SecretText,
}

impl fmt::Debug for TransferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransferKey")
    }
}

/// The 32 bytes in base 64.
pub(crate) fn transfer_secret(secret: &DerivedSecret) -> SecretText {
    SecretText::new(STANDARD.encode(secret.expose()))
}

impl TransferKey {
    pub(crate) fn from_secret(secret: &DerivedSecret, secondary: &Secondary) -> Self {
        let secret = transfer_secret(secret);
        let Secondary { key, algorithm, .. } = secondary;
        let secret_text = secret.expose();
        let knot = format!("key:\n  - id: {key}\n    algorithm: {algorithm}\n    secret: {secret_text}\n");
        Self { secret, knot: SecretText::new(knot) }
    }

    /// As a part of Knot's configuration, which another one includes.
    pub fn knot(&self) -> &SecretText {
        &self.knot
    }

    /// What files with [`knot`](Self::knot) are told apart by. It gives nothing of 256 random bits away.
    pub fn digest(&self) -> Digest {
        Digest::of(self.knot.expose())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sovereign_model::StackName;
    use sovereign_model::secondary::TsigAlgorithm;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_key_is_a_part_of_knots_configuration_and_tells_nothing_of_itself() {
        let (name, stack): (_, StackName) = ("friend".parse().unwrap(), "demo".parse().unwrap());
        let key = Secondary::usual_key(&name, &stack);
        let secondary = Secondary {
            name,
            host: None,
            addresses: BTreeSet::new(),
            notify: Vec::new(),
            key,
            algorithm: TsigAlgorithm::HmacSha512,
        };
        let of = |byte| TransferKey::from_secret(&DerivedSecret::new(Zeroizing::new([byte; 32])), &secondary);
        insta::assert_snapshot!(of(1).knot().expose(), @r"
        key:
          - id: friend.demo
            algorithm: hmac-sha512
            secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
        ");
        assert_eq!(of(1).digest(), of(1).digest());
        assert_ne!(of(1).digest(), of(2).digest());
        assert!(!format!("{:?}", of(1)).contains("AQEB"));
    }
}
