//! The configuration an edge is given: one value per edge and generation. A data center has one edge on each host.
//!
//! It crosses a process boundary inside the signed envelope of the `runtime` crate, so every change here is a change
//! of protocol: bump [`PROTOCOL`] and keep reading the one before. Paths are absolute.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::edge_name::EdgeName;
use crate::edge_rules::{EdgeRules, Proxy, Room};
use crate::name::{DatacenterName, DnsName, HostName, Origin, SiteName, StackName};
use crate::stack::{AdminReach, MirrorRules};

/// The version of this format.
pub const PROTOCOL: u32 = 1;

/// All that an edge needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EdgeConfig {
    /// Whose edge this is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there, for people who tell apart the edges of one data center.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Certificate chain and key, both PEM files. One certificate carries all names, the loopback addresses too.
    pub certificate: CertificateFiles,
    /// The folder with certificates of public authorities, a file for each name ([`crate::layout::public_file`]), each
    /// shown in the place of the other where its name is asked for. What lies there is not named one by one: certificates
    /// are renewed without another configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_certificates: Option<PathBuf>,
    /// Whose certificates are taken when another edge passes them on; `None` for nobody's, and then none are passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_authorities: Option<PublicAuthorities>,
    /// The folder of the store; the edge owns everything in it.
    pub store: PathBuf,
    /// This edge's identity on links: an Ed25519 key, PKCS#8 PEM.
    pub link_key: PathBuf,
    /// All other edges, also those on other hosts of the same data center. Where several could answer, the first is
    /// asked first.
    pub peers: Vec<Peer>,
    /// The sites served here.
    pub sites: Vec<EdgeSite>,
    /// Limits, and what is written down.
    #[serde(default)]
    pub rules: EdgeRules,
    /// Where the access log is written.
    #[serde(default)]
    pub access_log: Option<PathBuf>,
    /// Another proxy in front.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// The port that readers who come over plain HTTP are pointed to.
    #[serde(default = "https_port")]
    pub https_port: u16,
}

fn https_port() -> u16 {
    443
}

/// Authorities that readers believe in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PublicAuthorities {
    /// The roots that were declared, PEM.
    pub roots: String,
    /// Whether those that the edge's machine believes in count too.
    pub machine: bool,
}

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CertificateFiles {
    /// Leaf first, then intermediates.
    pub chain: PathBuf,
    /// PKCS#8, mode 0600.
    pub key: PathBuf,
}

/// Another edge, as seen over a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Its Ed25519 public key, 64 hex digits: the only thing a link trusts. No two edges have the same.
    pub public_key: String,
    /// Where it can be dialled, in order of preference; empty when it can only dial out.
    pub addresses: Vec<SocketAddr>,
    /// Which of the addresses that it dials from agents are told, because its data center's change; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
}

/// Which addresses are learned of a peer that dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learned {
    /// Those that readers everywhere can reach: what comes from another one came through a router or a tunnel of ours.
    Public,
    /// All: the data center that learns is itself at an address that only its own network reaches, in a lab say.
    Any,
}

impl Learned {
    /// Whether `address` is one of them.
    pub fn takes(self, address: IpAddr) -> bool {
        self == Self::Any || is_public(address)
    }
}

/// Whether readers everywhere can reach an address: none of a private network (RFC 1918, RFC 4193), of address translation
/// at a provider (RFC 6598), of one link or of one machine.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let translated = first == 100 && second & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || translated)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local())
        }
    }
}

impl Peer {
    /// Which edge it is.
    pub fn edge(&self) -> EdgeName {
        EdgeName { datacenter: self.datacenter.clone(), host: self.host.clone() }
    }
}

impl EdgeConfig {
    /// Which edge it is.
    pub fn edge(&self) -> EdgeName {
        EdgeName { datacenter: self.datacenter.clone(), host: self.host.clone() }
    }
}

/// A site as an edge serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EdgeSite {
    /// Its name: with the path, the key of the store.
    pub site: SiteName,
    /// The origin that links inside the site carry.
    pub canonical: Origin,
    /// All host names it is served under, the canonical one first. A request's port does not choose the site; the
    /// origin a reader sees is `https://` and the `Host` field of the request.
    pub names: Vec<DnsName>,
    /// What the application is: decides cache rules and which paths are the admin's.
    pub app: EdgeApp,
    /// Where the site's content comes from.
    pub source: Source,
    /// The data centers that keep a copy: only their edges are answered over a link. The primary's own among them means
    /// the edges on its other hosts. Where the site is a copy itself this counts only in the primary data center: who may
    /// come to the application through this edge.
    pub mirrors: Vec<DatacenterName>,
    /// From where the admin interface may be reached.
    pub admin: AdminReach,
    /// File that holds the key of the webhook signature, hex; only at the primary.
    pub webhook_key: Option<PathBuf>,
    /// Which primary this is, counted: a higher epoch wins.
    pub epoch: u64,
    /// How much room it may take.
    #[serde(default)]
    pub room: Room,
    /// For how many days browsers are told to use nothing but HTTPS; 0 for not at all.
    #[serde(default)]
    pub hsts_days: u32,
    /// What makes other edges believe that epoch; an older management machine gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_proof: Option<EpochProof>,
    /// Its application is being worked on, and is not asked for anything: kept pages are served, and whoever needs the
    /// application is told so.
    #[serde(default, skip_serializing_if = "is_not")]
    pub maintenance: bool,
}

/// For what is written down only when it is so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_not(what: &bool) -> bool {
    !what
}

/// The management machine's word on an epoch, for edges whose configuration does not say it yet: a data center that was
/// cut off while another one became the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EpochProof {
    /// Where the site is written in that epoch.
    pub primary: DatacenterName,
    /// Over [`epoch_statement`], by the key that signs configurations; 128 hex digits.
    pub signature: String,
}

/// What is signed for an [`EpochProof`]. No name contains the separator, so that two statements never read the same.
pub fn epoch_statement(stack: &StackName, site: &SiteName, epoch: u64, primary: &DatacenterName) -> Vec<u8> {
    format!("primary of a site\0{stack}\0{site}\0{epoch}\0{primary}").into_bytes()
}

/// What the edge must know about an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeApp {
    /// Ghost: session cookies, `/ghost/`, `/members/`.
    Ghost,
    /// Files only.
    Static,
    /// Any HTTP service: what HTTP itself says about caching, and these rules.
    Upstream(MirrorRules),
}

/// Where a site's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An application on this host that listens on a unix socket, plain HTTP/1.1.
    Unix(PathBuf),
    /// A service that listens on a TCP port, plain HTTP/1.1.
    Tcp(SocketAddr),
    /// A folder of files on this host.
    Folder(PathBuf),
    /// The edges of the primary data center, over a link; of this one, where the application runs on another host.
    Link(DatacenterName),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it was written before hosts had names.
    const WITHOUT_HOSTS: &str = r#"{"stack":"shop","datacenter":"home","certificate":{"chain":"/e/chain.pem","key":"/e/key.pem"},"store":"/e/store","link-key":"/e/link.pem","peers":[{"datacenter":"office","public-key":"00","addresses":["192.0.2.1:443"]}],"sites":[],"rules":{"access-log":"truncated","limits":{"connections":4096,"connections-per-address":512,"requests-per-address":1000,"head":32768,"head-within":30,"body":5000000000,"body-within":60}},"access-log":null,"proxy":null,"https-port":443}"#;

    #[test]
    fn a_configuration_without_hosts_reads_and_is_written_as_before() {
        let config: EdgeConfig = serde_json::from_str(WITHOUT_HOSTS).unwrap();
        assert_eq!((&config.host, &config.peers[0].host), (&None, &None));
        assert_eq!((config.edge().to_string(), config.peers[0].edge().to_string()), ("home".into(), "office".into()));
        assert_eq!(serde_json::to_string(&config).unwrap(), WITHOUT_HOSTS);
    }

    #[test]
    fn an_edge_of_several_is_told_apart_by_its_host() {
        let mut config: EdgeConfig = serde_json::from_str(WITHOUT_HOSTS).unwrap();
        config.host = Some("atlas".parse().unwrap());
        config.peers[0].host = Some("boreas".parse().unwrap());
        assert_eq!(config.peers[0].edge().to_string(), "office/boreas");
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""datacenter":"home","host":"atlas""#), "{text}");
        assert_eq!(serde_json::from_str::<EdgeConfig>(&text).unwrap(), config);
    }

    #[test]
    fn only_what_readers_everywhere_reach_is_public() {
        for address in ["192.0.2.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            let address = address.parse().unwrap();
            assert!(!Learned::Public.takes(address) && Learned::Any.takes(address), "{address}");
        }
    }
}
