//! A network of addresses, as operators write it: `192.168.1.0/24`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    /// The first.
    first: IpAddr,
    /// In how many bits they are alike: at least one.
    bits: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// It is not an address, a slash and a number of bits.
    #[error("{0:?} is not a network")]
    Senseless(String),
    /// It is every address there is.
    #[error("{0:?} is every address")]
    Everything(String),
    /// It begins with an address in the midst of it.
    #[error("{text:?} begins in the midst of a network")]
    Amid {
        /// What was written.
        text: String,
        /// The network that the address is in.
        network: Network,
    },
}

impl Network {
    /// Whether an address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && first_of(address, self.bits) == self.first
    }
}

/// The first address of those that are in `bits` bits like this one.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    let gone = |width: u32| width.saturating_sub(bits.into());
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(gone(32)).unwrap_or(0)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(gone(128)).unwrap_or(0)).into(),
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let parsed = || {
            let (address, bits) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let is_number = bits.bytes().all(|byte| byte.is_ascii_digit());
            let bits: u8 = bits.parse().ok().filter(|_| is_number)?;
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
        };
        let (address, bits) = parsed().ok_or_else(|| InvalidNetwork::Senseless(text.to_owned()))?;
        if bits == 0 {
            return Err(InvalidNetwork::Everything(text.to_owned()));
        }
        let network = Self { first: first_of(address, bits), bits };
        if network.first == address {
            Ok(network)
        } else {
            Err(InvalidNetwork::Amid { text: text.to_owned(), network })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_are_read_and_others_are_not() {
        let network = |text: &str| text.parse::<Network>();
        for good in ["192.168.1.0/24", "10.0.0.0/8", "192.0.2.7/32", "fd00:1::/64", "2001:db8::1/128", "128.0.0.0/1"] {
            assert_eq!(network(good).unwrap().to_string(), good);
        }
        for bad in ["192.168.1.0", "192.168.1.0/33", "fd00::/129", "192.168.1/24", "192.168.1.0/+24", "a/8", "", "/8"] {
            assert_eq!(network(bad), Err(InvalidNetwork::Senseless(bad.to_owned())));
        }
        assert!(matches!(network("::/0"), Err(InvalidNetwork::Everything(_))));
        let Err(InvalidNetwork::Amid { network, .. }) = network("192.168.1.5/24") else { panic!() };
        assert_eq!(network.to_string(), "192.168.1.0/24");
    }

    #[test]
    fn addresses_of_the_other_kind_are_in_none() {
        let network: Network = "128.0.0.0/1".parse().unwrap();
        assert!(network.contains("192.168.1.1".parse().unwrap()) && !network.contains("ffff::1".parse().unwrap()));
        let lan: Network = "192.168.1.0/24".parse().unwrap();
        assert!(lan.contains("192.168.1.255".parse().unwrap()) && !lan.contains("192.168.2.0".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_network_that_an_address_is_in_contains_it(address: IpAddr, bits in 1..=32u8, text: String) {
            let network: Network = format!("{}/{bits}", first_of(address, bits)).parse().unwrap();
            prop_assert!(network.contains(address));
            let _ = text.parse::<Network>();
        }
    }
}
