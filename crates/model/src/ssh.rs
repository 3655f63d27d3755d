//! Machines that are reached over SSH: their addresses and their keys.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::name::DnsName;

/// The port of SSH.
const SSH: u16 = 22;

/// Why a text is not the address of a machine, of a folder on one, a disk's UUID, or a host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NotAPlace {
    /// What was given.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
}

/// `user@host:port`. The port may be left out; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshAddress {
    user: String,
    host: String,
    port: u16,
}

impl SshAddress {
    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A host name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of its SSH server.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for SshAddress {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let parsed = || {
            let (user, place) = text.rsplit_once('@')?;
            let (host, port) = if let Some(rest) = place.strip_prefix('[') {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?;
                (host, rest.strip_prefix(':').or((rest.is_empty()).then_some("")))
            } else {
                let (host, port) = place.split_once(':').map_or((place, Some("")), |(host, port)| (host, Some(port)));
                host.parse::<DnsName>().ok()?;
                (host, port)
            };
            let port = match port? {
                "" if !place.ends_with(':') => SSH,
                port => port.parse().ok().filter(|port| *port != 0)?,
            };
            // The first character would make it an option of ssh's; that is refused here and there.
            let is_user = !user.is_empty()
                && !user.starts_with('-')
                && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte));
            is_user.then(|| Self { user: user.to_owned(), host: host.to_owned(), port })
        };
        parsed().ok_or_else(|| NotAPlace { text: text.to_owned(), what: "a user and a machine like root@192.0.2.8" })
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port } = self;
        let port = if *port == SSH { String::new() } else { format!(":{port}") };
        if host.contains(':') { write!(f, "{user}@[{host}]{port}") } else { write!(f, "{user}@{host}{port}") }
    }
}

impl TryFrom<String> for SshAddress {
    type Error = NotAPlace;

    fn try_from(text: String) -> Result<Self, NotAPlace> {
        text.parse()
    }
}

impl From<SshAddress> for String {
    fn from(address: SshAddress) -> Self {
        address.to_string()
    }
}

/// The public key of an SSH host: kind and key, without a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey(String);

impl HostKey {
    /// As `known_hosts` has it after the host's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of key it is: `ssh-ed25519`, say.
    pub fn kind(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        let key = self.0.rsplit(' ').next().and_then(|key| STANDARD.decode(key).ok());
        Fingerprint(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key.unwrap_or_default()))))
    }
}

impl FromStr for HostKey {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let mut parts = text.split(' ').filter(|part| !part.is_empty());
        let wrong = || NotAPlace { text: text.to_owned(), what: "a host's public key" };
        let (Some(kind), Some(key)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let is_kind = kind.len() < 64
            && ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| kind.starts_with(begin))
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.@".contains(&byte));
        let is_key = key.starts_with("AAAA") && (40..4096).contains(&key.len()) && STANDARD.decode(key).is_ok();
        let is_comment = parts.all(|part| part.chars().all(|c| !c.is_control()));
        if is_kind && is_key && is_comment { Ok(Self(format!("{kind} {key}"))) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for HostKey {
    type Error = NotAPlace;

    fn try_from(text: String) -> Result<Self, NotAPlace> {
        text.parse()
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.0
    }
}

/// The fingerprint of a host's key as OpenSSH shows it: `SHA256:` and 43 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let digest = text.strip_prefix("SHA256:").and_then(|rest| STANDARD_NO_PAD.decode(rest).ok());
        match digest {
            Some(digest) if digest.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(NotAPlace { text: text.to_owned(), what: "a fingerprint like SHA256:<43 characters>" }),
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAPlace;

    fn try_from(text: String) -> Result<Self, NotAPlace> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for (text, user, host, port) in [
            ("root@192.0.2.8", "root", "192.0.2.8", 22),
            ("root@atlas:2222", "root", "atlas", 2222),
            ("me@[2001:db8::1]:2222", "me", "2001:db8::1", 2222),
            ("me@[2001:db8::1]", "me", "2001:db8::1", 22),
        ] {
            let address: SshAddress = text.parse().unwrap();
            assert_eq!((address.user(), address.host(), address.port()), (user, host, port));
            assert_eq!(address.to_string(), text);
        }
        for wrong in ["atlas", "@atlas", "root@", "-o@atlas", "root@-atlas", "root@a:0", "root@a:", "root@a b", ""] {
            assert!(wrong.parse::<SshAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_has_the_fingerprint_that_openssh_shows() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
        assert_eq!(
            format!("ssh-ed25519 {key} root@nas").parse::<HostKey>().unwrap().as_str(),
            format!("ssh-ed25519 {key}")
        );
        for wrong in
            ["", key, "ssh-ed25519", "nas ssh-ed25519 AAAA", "ssh-ed25519 AAAA", &format!("ssh-ed25519\n{key} {key}")]
        {
            assert!(wrong.parse::<HostKey>().is_err(), "{wrong}");
        }
        // By `ssh-keygen -lf`.
        let key: HostKey = format!("ssh-ed25519 {key}").parse().unwrap();
        assert_eq!(key.kind(), "ssh-ed25519");
        assert_eq!(key.fingerprint(), "SHA256:U7FAmGSTR/w6PucVTk/B3jtoPfti0Er+wvDEX28tbao".parse().unwrap());
        for wrong in ["", "SHA256:", "MD5:00:11", "SHA256:AAAA", "SHA256:!"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
