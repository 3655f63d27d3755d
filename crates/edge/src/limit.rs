//! How often one address may do something: a token bucket per address.
//!
//! Two kinds are counted. Attempts at a password (sign-in, set-up, password reset) are few, whatever the operator says.
//! Requests of any kind have the rate of the configuration. An IPv6 reader is counted by /64, which is what one
//! subscriber has. Memory is bounded: full buckets are forgotten, and when too many addresses are at it at once the
//! fullest half is.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sovereign_model::edge_rules::Limits;

use crate::share::subscriber;

/// Addresses remembered at most: about 1 MB.
const MOST_ADDRESSES: usize = 16_384;
/// Locks that the addresses are spread over, so that every core can count at once.
const SHARDS: usize = 16;

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// At once.
    burst: f64,
    /// Over time, per second.
    per_second: f64,
}

impl Rate {
    /// People mistype, password managers retry: ten in a row, then one every six seconds. That is 14,400 guesses a day,
    /// hopeless against any password.
    pub(crate) const ATTEMPTS: Self = Self { burst: 10.0, per_second: 1.0 / 6.0 };

    /// Requests, as the configuration says.
    pub(crate) fn of_requests(limits: &Limits) -> Self {
        let per_second = f64::from(limits.requests_per_address);
        Self { burst: per_second * f64::from(Limits::BURST), per_second }
    }
}

/// The buckets of all addresses, all of one rate.
#[derive(Default)]
pub(crate) struct Buckets {
    shards: [Mutex<HashMap<IpAddr, Bucket>>; SHARDS],
    spread: std::hash::RandomState,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn tokens_at(&self, now: Instant, rate: Rate) -> f64 {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + refilled).min(rate.burst)
    }
}

impl Buckets {
    /// Counts one of `address` at `now`. Refused: how long until the next one is allowed.
    pub(crate) fn take(&self, rate: Rate, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = subscriber(address);
        let shard = self.spread.hash_one(address) as usize % SHARDS;
        let mut buckets = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES / SHARDS {
            forget(&mut buckets, rate, now);
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: rate.burst, at: now });
        let tokens = bucket.tokens_at(now, rate);
        if tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - tokens) / rate.per_second));
        }
        *bucket = Bucket { tokens: tokens - 1.0, at: now };
        Ok(())
    }
}

fn forget(buckets: &mut HashMap<IpAddr, Bucket>, rate: Rate, now: Instant) {
    buckets.retain(|_, bucket| bucket.tokens_at(now, rate) < rate.burst);
    if buckets.len() >= MOST_ADDRESSES / SHARDS {
        let mut levels: Vec<_> = buckets.values().map(|bucket| bucket.tokens_at(now, rate)).collect();
        let middle = levels.len() / 2;
        let (_, median, _) = levels.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        buckets.retain(|_, bucket| bucket.tokens_at(now, rate) < median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::ATTEMPTS;
    const REFILL: Duration = Duration::from_secs(6);

    #[test]
    fn a_burst_then_one_per_refill() {
        let attempts = Buckets::default();
        let start = Instant::now();
        let guesser = "203.0.113.7".parse().unwrap();
        for _ in 0..10 {
            attempts.take(RATE, guesser, start).unwrap();
        }
        let wait = attempts.take(RATE, guesser, start).unwrap_err();
        assert!(wait <= REFILL, "{wait:?}");
        // A moment more, since a sixth is not exact in binary.
        let refilled = start + REFILL + Duration::from_millis(1);
        attempts.take(RATE, guesser, refilled).unwrap();
        attempts.take(RATE, guesser, refilled).unwrap_err();
        attempts.take(RATE, "203.0.113.8".parse().unwrap(), start).unwrap();
    }

    #[test]
    fn neighbours_in_a_64_share_a_bucket() {
        let attempts = Buckets::default();
        let now = Instant::now();
        for host in 0..10 {
            attempts.take(RATE, format!("2001:db8::{host}").parse().unwrap(), now).unwrap();
        }
        attempts.take(RATE, "2001:db8::ffff".parse().unwrap(), now).unwrap_err();
        attempts.take(RATE, "2001:db8:0:1::1".parse().unwrap(), now).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Buckets::default();
        let now = Instant::now();
        for n in 0..(MOST_ADDRESSES as u32 * 2) {
            attempts.take(RATE, IpAddr::V4(n.into()), now).unwrap();
        }
        let held: usize = attempts.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= MOST_ADDRESSES);
    }

    #[test]
    fn requests_have_the_rate_of_the_configuration() {
        let limits = Limits { requests_per_address: 100, ..Limits::default() };
        let (requests, rate, now) = (Buckets::default(), Rate::of_requests(&limits), Instant::now());
        let reader = "203.0.113.7".parse().unwrap();
        let taken = (0..1000).filter(|_| requests.take(rate, reader, now).is_ok()).count();
        assert_eq!(taken, 400, "four seconds' worth at once");
        let taken = (0..1000).filter(|_| requests.take(rate, reader, now + Duration::from_secs(1)).is_ok()).count();
        assert_eq!(taken, 100);
    }
}
