//! Who listens on a host, as `ss` tells it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// On which address; `None` is all of them.
    pub address: Option<IpAddr>,
    /// The programs that have it; empty when that cannot be seen.
    pub owners: Vec<String>,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A TCP socket that listens.
    Tcp,
    /// A UDP socket.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Listener {
    /// Whether it can be reached from this machine only.
    pub fn is_private(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }

    /// From a line of `ss -H -lntup`:
    /// `tcp LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=1,fd=3))`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let protocol = match fields.next()? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        let (address, port) = fields.nth(3)?.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let address = address.split('%').next()?.trim_matches(['[', ']']);
        let address = match address {
            "*" => None,
            text => Some(text.parse::<IpAddr>().ok()?).filter(|address| !address.is_unspecified()),
        };
        let users = line.split_once("users:(").map_or("", |(_, users)| users);
        // What stands in quotes: every second piece.
        let owners = users.split('"').skip(1).step_by(2).filter(|name| !name.is_empty()).take(8);
        let mut owners: Vec<String> =
            owners.map(|name| name.chars().filter(|c| !c.is_control()).take(40).collect()).collect();
        owners.dedup();
        Some(Self { protocol, port, address, owners })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ss_are_understood() {
        let read = |line: &str| {
            Listener::parse(line).map(|l| (l.protocol, l.port, l.address.map(|a| a.to_string()), l.owners.join("+")))
        };
        let is = |protocol, port, address: &str, owners: &str| {
            Some((protocol, port, (!address.is_empty()).then(|| address.to_owned()), owners.to_owned()))
        };
        assert_eq!(
            read("tcp LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=9,fd=6),(\"nginx\",pid=8,fd=6))"),
            is(Protocol::Tcp, 80, "", "nginx")
        );
        let resolved = "udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=1,fd=3))";
        assert_eq!(read(resolved), is(Protocol::Udp, 53, "127.0.0.53", "systemd-resolve"));
        assert_eq!(read("tcp LISTEN 0 128 [::]:22 [::]:*"), is(Protocol::Tcp, 22, "", ""));
        assert_eq!(read("tcp   LISTEN 0      5     [::1]:631     [::]:*"), is(Protocol::Tcp, 631, "::1", ""));
        assert_eq!(read("tcp LISTEN 0 5 *:443 *:*"), is(Protocol::Tcp, 443, "", ""));
        for other in ["", "tcp", "icmp6 UNCONN 0 0 *:58 *:*", "tcp LISTEN 0 0 nonsense 0", "tcp LISTEN 0 0 1.2.3:99 x"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
