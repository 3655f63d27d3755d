//! The signature on a Ghost webhook: what it proves, and for how long.
//!
//! Ghost signs with the secret of the webhook, as text: `X-Ghost-Signature: sha256=<hex>, t=<milliseconds>` where the
//! digest is HMAC-SHA256(secret, body followed by t in decimal). The time bounds replays; a replayed "site changed"
//! would only make us look again, so minutes of clock difference do no harm.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A webhook older (or newer) than this is refused. Ghost retries a lost delivery for about half a minute.
const MOST_AGE: Duration = Duration::from_secs(5 * 60);

/// The secret Ghost signs the webhooks of one site with.
pub(crate) struct HookSecret(Vec<u8>);

impl HookSecret {
    /// The secret as it stands in its file: text, surrounding white space left out. `None` when nothing is left.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Some(text.trim()).filter(|secret| !secret.is_empty()).map(|secret| Self(secret.as_bytes().to_vec()))
    }

    /// Begins to check `signature`, the value of `X-Ghost-Signature`, around `now` (time since the Unix epoch). What is
    /// no signature or too old is refused before any body is read.
    pub(crate) fn check(&self, signature: &str, now: Duration) -> Result<Check, SignatureError> {
        let (digest, time) = parse(signature).ok_or(SignatureError::Malformed)?;
        let signed = Duration::from_millis(time.parse().map_err(|_| SignatureError::Malformed)?);
        if now.abs_diff(signed) > MOST_AGE {
            return Err(SignatureError::Old);
        }
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        Ok(Check { mac, digest, time: time.to_owned() })
    }
}

/// A signature whose body is still to come. Takes the same memory however long that is.
pub(crate) struct Check {
    mac: Hmac<Sha256>,
    digest: [u8; 32],
    time: String,
}

impl Check {
    /// The next piece of the body.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.mac.update(piece);
    }

    /// Whether that body was signed with the secret.
    pub(crate) fn finish(mut self) -> Result<(), SignatureError> {
        self.mac.update(self.time.as_bytes());
        self.mac.verify_slice(&self.digest).map_err(|_| SignatureError::Wrong)
    }
}

fn parse(signature: &str) -> Option<([u8; 32], &str)> {
    let (digest, time) = signature.split_once(',')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest.trim().strip_prefix("sha256=")?, &mut bytes).ok()?;
    Some((bytes, time.trim().strip_prefix("t=")?))
}

/// Why a webhook was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("the signature is not of the form sha256=<hex>, t=<milliseconds>")]
    Malformed,
    #[error("the signature was not made with this site's webhook secret")]
    Wrong,
    #[error("the signature's time is more than five minutes off")]
    Old,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"event":"site.changed"}"#;

    fn secret() -> HookSecret {
        HookSecret::from_text("s3cret\n").unwrap()
    }

    fn signed(body: &[u8], time: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
        mac.update(body);
        mac.update(time.as_bytes());
        format!("sha256={}, t={time}", hex::encode(mac.finalize().into_bytes()))
    }

    fn check(secret: &HookSecret, body: &[u8], signature: &str, now: Duration) -> Result<(), SignatureError> {
        let mut check = secret.check(signature, now)?;
        body.chunks(7).for_each(|piece| check.update(piece));
        check.finish()
    }

    #[test]
    fn believes_ghost_and_nobody_else() {
        let now = Duration::from_millis(1_700_000_000_500);
        let good = signed(BODY, "1700000000000");
        assert_eq!(check(&secret(), BODY, &good, now), Ok(()));
        assert_eq!(check(&secret(), b"{}", &good, now), Err(SignatureError::Wrong));
        let other = HookSecret::from_text("other").unwrap();
        assert_eq!(check(&other, BODY, &good, now), Err(SignatureError::Wrong));
        assert_eq!(check(&secret(), BODY, &good, now + Duration::from_secs(301)), Err(SignatureError::Old));
        for bad in ["", "sha256=", "sha256=00, t=1", "t=1", &good[7..], &good.replace("t=", "t=-")] {
            assert_eq!(check(&secret(), BODY, bad, now), Err(SignatureError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn agrees_with_ghost() {
        // crypto.createHmac("sha256", "s3cret").update(`${body}${t}`).digest("hex") in Node
        let vector = "sha256=f2921f27dbfdd4367ab91ddd1c62836583e879c0a1740b497436bfef6d863f6a, t=1700000000000";
        assert_eq!(check(&secret(), BODY, vector, Duration::from_millis(1_700_000_000_000)), Ok(()));
    }
}
