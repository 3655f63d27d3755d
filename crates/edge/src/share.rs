//! How much of what is scarce one subscriber may hold at a time: connections, exchanges with an application, answers
//! that are not taken.
//!
//! Counted by address, IPv6 by /64: that is what one subscriber has, and 2^64 addresses would be 2^64 shares. Memory is
//! bounded by what is held: an address that holds nothing is not remembered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Shares of one kind.
#[derive(Clone, Default)]
pub(crate) struct Shares {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of them, given back when dropped.
pub(crate) struct Share {
    of: Shares,
    subscriber: IpAddr,
}

impl Shares {
    /// One for `address`, unless it has `most` already.
    pub(crate) fn take(&self, address: IpAddr, most: usize) -> Option<Share> {
        let subscriber = subscriber(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.entry(subscriber) {
            Entry::Occupied(count) if *count.get() >= most => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(place) => drop(place.insert(1)),
        }
        Some(Share { of: self.clone(), subscriber })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = held.entry(self.subscriber) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Who an address belongs to: itself, or its /64.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_has_its_part_and_others_theirs() {
        let shares = Shares::default();
        let take = |address: &str| shares.take(address.parse().unwrap(), 2);
        let held = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("2001:db8::3").is_none(), "the same /64");
        assert!(take("2001:db8:0:1::3").is_some() && take("192.0.2.1").is_some());
        drop(held);
        assert!(take("2001:db8::3").is_some());
        assert!(shares.held.lock().unwrap().is_empty(), "who holds nothing is not remembered");
    }
}
