//! How often one address may try a password: a token bucket per address.
//!
//! Only attempts count (sign-in, set-up, password reset), never reading or editing. An IPv6 reader is counted by /64,
//! which is what one subscriber has. Memory is bounded: full buckets are forgotten, and when too many addresses are
//! at it at once the fullest half is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::share::subscriber;

/// Attempts in a row: people mistype, password managers retry.
const BURST: f64 = 10.0;
/// One more attempt per this much time: 14,400 guesses a day, hopeless against any password.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses remembered at most: about 1 MB.
const MOST_ADDRESSES: usize = 16_384;

/// The buckets of all addresses.
#[derive(Default)]
pub(crate) struct Attempts {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn tokens_at(&self, now: Instant) -> f64 {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        (self.tokens + refilled).min(BURST)
    }
}

impl Attempts {
    /// Counts an attempt of `address` at `now`. Refused: how long until the next one is allowed.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES {
            forget(&mut buckets, now);
        }
        let bucket = buckets.entry(subscriber(address)).or_insert(Bucket { tokens: BURST, at: now });
        let tokens = bucket.tokens_at(now);
        if tokens < 1.0 {
            return Err(REFILL.mul_f64(1.0 - tokens));
        }
        *bucket = Bucket { tokens: tokens - 1.0, at: now };
        Ok(())
    }
}

fn forget(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    buckets.retain(|_, bucket| bucket.tokens_at(now) < BURST);
    if buckets.len() >= MOST_ADDRESSES {
        let mut levels: Vec<_> = buckets.values().map(|bucket| bucket.tokens_at(now)).collect();
        let middle = levels.len() / 2;
        let (_, median, _) = levels.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        buckets.retain(|_, bucket| bucket.tokens_at(now) < median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_refill() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let guesser = "203.0.113.7".parse().unwrap();
        for _ in 0..10 {
            attempts.take(guesser, start).unwrap();
        }
        let wait = attempts.take(guesser, start).unwrap_err();
        assert!(wait <= REFILL, "{wait:?}");
        attempts.take(guesser, start + REFILL).unwrap();
        attempts.take(guesser, start + REFILL).unwrap_err();
        attempts.take("203.0.113.8".parse().unwrap(), start).unwrap();
    }

    #[test]
    fn neighbours_in_a_64_share_a_bucket() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for host in 0..10 {
            attempts.take(format!("2001:db8::{host}").parse().unwrap(), now).unwrap();
        }
        attempts.take("2001:db8::ffff".parse().unwrap(), now).unwrap_err();
        attempts.take("2001:db8:0:1::1".parse().unwrap(), now).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for n in 0..(MOST_ADDRESSES as u32 * 2) {
            attempts.take(IpAddr::V4(n.into()), now).unwrap();
        }
        assert!(attempts.buckets.lock().unwrap().len() <= MOST_ADDRESSES);
    }
}
