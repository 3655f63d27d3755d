//! What an operator may say about edges: what a stranger may cost, what is written down, who stands in front.
//!
//! Part of the stack file and, as it is, of the configuration an edge is given. The defaults here are those of the file
//! format; a test compares them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::size::ByteSize;

/// What holds for every edge of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EdgeRules {
    /// What is written down of requests.
    pub access_log: AccessLog,
    /// What strangers may cost.
    pub limits: Limits,
}

/// What is written down of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    /// Nothing.
    Off,
    /// One line per request, the reader's address without its last part: /24 of IPv4, /48 of IPv6.
    #[default]
    Truncated,
    /// One line per request, with the whole address.
    Full,
}

/// What a stranger may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Open connections.
    pub connections: u32,
    /// Open connections of one address (IPv6: of one /64).
    pub connections_per_address: u32,
    /// Requests of one address (IPv6: of one /64) per second, over time; [`Limits::BURST`] seconds' worth at once.
    pub requests_per_address: u32,
    /// All fields of a request together.
    pub head: ByteSize,
    /// Seconds until a request's head must be there, and that a kept connection may be idle.
    pub head_within: u32,
    /// The longest body of a request.
    pub body: ByteSize,
    /// Seconds that a request's body may stand still.
    pub body_within: u32,
}

impl Limits {
    /// How many seconds' worth of requests one address may send at once: a page with all that belongs to it, for
    /// several readers behind one address.
    pub const BURST: u32 = 4;
}

impl Default for Limits {
    /// An idle connection takes some 40 kB, so 4096 take about 160 MB when somebody tries; 512 of them fit an office
    /// behind one address. Ghost's cookies and tokens take 2 kB of the head. A phone that changes cells is silent for
    /// ten seconds or so.
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 512,
            requests_per_address: 1000,
            head: ByteSize(32 << 10),
            head_within: 30,
            body: ByteSize(5_000_000_000),
            body_within: 60,
        }
    }
}

/// Another proxy that stands in front of a data center's edge and has the public port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Proxy {
    /// What it says to the edge.
    pub speaks: ProxySpeech,
    /// Its addresses: what a connection from anywhere else claims is not believed.
    pub from: Vec<IpAddr>,
}

/// What a proxy in front says to an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxySpeech {
    /// It passes TLS on untouched, after a header of the PROXY protocol (version 1 or 2) that names the reader.
    ProxyProtocol,
    /// It ends TLS itself and passes plain HTTP/1.1 on, naming the reader in `X-Forwarded-For`.
    Http,
}

/// What an edge does when a site takes more room than it was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// It lets nothing go: what has no room any more is passed through, and the operator is told well before.
    #[default]
    All,
    /// It lets images, video and the like go that were read least, and keeps every page.
    Budget,
}

/// How much room a site may take at each edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Room {
    /// What happens when it is used up.
    pub keep: Keep,
    /// Bytes of bodies; `None`: as much as the disk has.
    pub budget: Option<ByteSize>,
}
