//! Where peers dial from: agents ask, because the addresses of some data centers change.
//!
//! What counts is a connection whose other side has shown a peer's key, as long as it is open. It is told on the answer to
//! agents, to whoever asks: once a name server has it, it is in DNS. Of peers whose address nobody is to know nothing is
//! told, since their configuration does not say so.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use sovereign_model::DatacenterName;
use sovereign_model::edge_config::Peer;

use crate::tls::PeerKey;

type Counts = HashMap<(PeerKey, IpAddr), usize>;

/// The addresses that peers have open connections from.
#[derive(Default, Clone)]
pub(crate) struct Heard(Arc<Mutex<Counts>>);

/// One connection, until it is dropped.
pub(crate) struct From {
    heard: Heard,
    from: (PeerKey, IpAddr),
}

impl Heard {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer has dialled from this address.
    pub(crate) fn from(&self, peer: PeerKey, address: IpAddr) -> From {
        // An IPv4 address that came to a socket for both kinds is what it is.
        let from = (peer, address.to_canonical());
        *self.counts().entry(from).or_default() += 1;
        From { heard: self.clone(), from }
    }

    /// What is told of it: data center and address, each once.
    pub(crate) fn told(&self, peers: &[Peer]) -> Vec<HeaderValue> {
        if peers.iter().all(|peer| peer.learned.is_none()) {
            return Vec::new();
        }
        let counts = self.counts();
        let mut told: BTreeSet<(&DatacenterName, IpAddr)> = BTreeSet::new();
        for peer in peers {
            let (Some(learned), Ok(key)) = (peer.learned, PeerKey::of(peer)) else { continue };
            let addresses = counts.keys().filter(|(from, address)| *from == key && learned.takes(*address));
            told.extend(addresses.map(|(_, address)| (&peer.datacenter, *address)));
        }
        // Names and addresses are visible ASCII.
        told.iter().filter_map(|(datacenter, address)| format!("{datacenter} {address}").try_into().ok()).collect()
    }
}

impl Drop for From {
    fn drop(&mut self) {
        let mut counts = self.heard.counts();
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sovereign_model::edge_config::Learned;

    use super::*;

    fn peer(datacenter: &str, key: u8, learned: Option<Learned>) -> Peer {
        let public_key = hex::encode([key; 32]);
        Peer { datacenter: datacenter.parse().unwrap(), host: None, public_key, addresses: Vec::new(), learned }
    }

    #[test]
    fn an_address_is_told_for_as_long_as_somebody_with_the_key_is_there_and_of_nobody_who_hides() {
        let peers =
            [peer("home", 1, Some(Learned::Public)), peer("home", 2, Some(Learned::Public)), peer("cabin", 3, None)];
        let heard = Heard::default();
        let told = || heard.told(&peers).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let from =
            |index: usize, address: &str| heard.from(PeerKey::of(&peers[index]).unwrap(), address.parse().unwrap());
        assert_eq!(told(), [""; 0]);
        let first = from(0, "192.0.2.1");
        let second = from(1, "::ffff:192.0.2.1");
        let _hidden = from(2, "198.51.100.9");
        let _tunnel = from(0, "10.8.0.1");
        assert_eq!(told(), ["home 192.0.2.1"]);
        let new = from(0, "192.0.2.7");
        assert_eq!(told(), ["home 192.0.2.1", "home 192.0.2.7"]);
        drop(first);
        assert_eq!(told(), ["home 192.0.2.1", "home 192.0.2.7"], "the other edge is still there");
        drop(second);
        assert_eq!(told(), ["home 192.0.2.7"]);
        drop(new);
        assert_eq!(told(), [""; 0]);
    }
}
