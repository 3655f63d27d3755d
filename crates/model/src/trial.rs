//! What an agent is asked to try, and what it heard: whether somebody at another place answers where readers and resolvers
//! knock. The command `try` of its control socket.
//!
//! Like its status it crosses a process boundary: a reader ignores fields it does not know.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::name::DnsName;

/// So much is tried at once.
pub const MOST_TRIALS: usize = 64;

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    /// HTTPS, by an edge of the stack.
    Https,
    /// Plain HTTP, where an edge points readers to HTTPS.
    Http,
    /// DNS over UDP.
    NamesUdp,
    /// DNS over TCP.
    NamesTcp,
}

impl Speech {
    /// Over which protocol, as routers call it.
    pub fn transport(self) -> &'static str {
        match self {
            Self::NamesUdp => "UDP",
            Self::Https | Self::Http | Self::NamesTcp => "TCP",
        }
    }
}

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trial {
    /// Where.
    pub at: SocketAddr,
    /// What should be spoken there.
    pub speaks: Speech,
    /// The name that is asked for: of a site, or of a domain in DNS; the address itself where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// Whether a certificate of a public authority is as good as one of the stack's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "heard", content = "says")]
pub enum Heard {
    /// The answer that belongs there.
    Ours,
    /// Somebody answers, and it is not what belongs there.
    Other(String),
    /// Whoever is at the address says that nobody listens.
    Refused,
    /// Nothing came back.
    Silent,
    /// A router on the way says that there is no way.
    Unreachable,
    /// There is no way there from where it was tried, at all: a host without IPv6, say.
    NoWay,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("answers"),
            Self::Other(says) => write!(f, "somebody else answers: {says}"),
            Self::Refused => f.write_str("refused"),
            Self::Silent => f.write_str("nothing comes back"),
            Self::Unreachable => f.write_str("a router says that there is no way"),
            Self::NoWay => f.write_str("no way there from here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_read_as_it_is_written() {
        for heard in [Heard::Ours, Heard::Other("it answers 502".to_owned()), Heard::Silent, Heard::NoWay] {
            let text = serde_json::to_string(&heard).unwrap();
            assert_eq!(serde_json::from_str::<Heard>(&text).unwrap(), heard, "{text}");
        }
        let trial =
            Trial { at: "[2001:db8::1]:53".parse().unwrap(), speaks: Speech::NamesUdp, name: None, public: false };
        let text = serde_json::to_string(&trial).unwrap();
        assert_eq!(text, r#"{"at":"[2001:db8::1]:53","speaks":"names-udp"}"#);
        assert_eq!(serde_json::from_str::<Trial>(&text).unwrap(), trial);
    }
}
