//! The configuration a renewer is given: which certificates it renews, by whom, and its place in the order of all who could.
//! Every renewer of a stack has its own.
//!
//! It crosses a process boundary inside the signed envelope of the `runtime` crate, so every change here is a change of
//! protocol: bump [`PROTOCOL`] and keep reading the one before. Like an agent, a renewer does not read it again:
//! another one is another description of its unit, which replaces it. Beside it, which edges have a renewer, and for what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, HostName, StackName};
use crate::stack::Stack;

/// The version of this format.
pub const PROTOCOL: u32 = 1;

/// All that a renewer needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RenewerConfig {
    /// Whose renewer this is.
    pub stack: StackName,
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// On which host there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Its folder, absolute. What lies where in it, [`RenewerFolder`](crate::layout::RenewerFolder) says.
    pub folder: PathBuf,
    /// So many come before it in the order of all who renew.
    pub before: u32,
    /// So many there are.
    pub all: u32,
    /// What it renews: names that the edge beside it serves, each with its domain.
    pub names: BTreeMap<DnsName, DnsName>,
    /// Whom it asks, the preferred first.
    pub authorities: Vec<Asked>,
    /// The domains that the name server beside it answers for.
    pub domains: BTreeSet<DnsName>,
    /// The name servers of the world, that are to have an answer before an authority is told to look.
    pub name_servers: Vec<NameServer>,
    /// What it says is signed with, in its folder: this is the public key, 64 hex digits.
    pub key: String,
    /// The management machine's word for that key ([`warrant_statement`](crate::renewer_word::warrant_statement)).
    pub warrant: String,
}

impl RenewerConfig {
    /// The edge it stands beside.
    pub fn edge(&self) -> EdgeName {
        EdgeName { datacenter: self.datacenter.clone(), host: self.host.clone() }
    }
}

/// An authority, and what it is believed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    /// Which. Where its roots lie on the management machine is not said.
    pub authority: Authority,
    /// The certificates that its own begin from, PEM; `None` for those that machines believe in.
    pub roots: Option<String>,
}

/// A name server of the stack, or a secondary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NameServer {
    /// Where it is asked.
    pub at: SocketAddr,
    /// What it answers for.
    pub domains: BTreeSet<DnsName>,
}

impl Stack {
    /// The names that an edge serves and that public authorities are asked for, each with its domain.
    pub fn certified_at(&self, edge: &EdgeName) -> BTreeMap<DnsName, DnsName> {
        let sites = self.sites.values().filter(|site| site.datacenters().any(|place| *place == edge.datacenter));
        let names = sites.flat_map(|site| site.all_names()).filter(|_| !self.authorities.is_empty());
        let proven = names.filter_map(|name| {
            let domain = self.domain_of(name).filter(|domain| domain.provider.is_none())?;
            Some((name.clone(), domain.name.clone()))
        });
        proven.collect()
    }

    /// The edges that have a renewer beside them: those with a name server, where there is anything to renew. In the order
    /// in which their turn comes.
    pub fn renewers(&self) -> impl Iterator<Item = EdgeName> {
        self.name_servers().filter(|edge| !self.certified_at(edge).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_name_server_renews_what_its_edge_serves_and_they_prove() {
        let file = |authority: &str| {
            let place = |name: &str, host: &str, at: u8| {
                format!(
                    "[[datacenter]]\nname = \"{name}\"\nengine = \"incus\"\n[[datacenter.uplink]]\nname = \"u\"\n\
                     address = \"203.0.113.{at}\"\nport = 443\nhttp = 80\n[[datacenter.host]]\nname = \"{host}\"\n\
                     address = \"192.0.2.{at}\"\n"
                )
            };
            let text = format!(
                "version = 1\n[stack]\nname = \"s\"\n{}{}{}[[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n\
                 [[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nprovider = \"p\"\n[[site]]\nname = \"x\"\n\
                 app = \"ghost\"\ncanonical = \"example.org\"\nnames = [\"example.net\"]\nprimary = \"home\"\n\
                 mirrors = [\"office\"]\n{authority}",
                place("home", "atlas", 7),
                place("office", "boreas", 8),
                place("rack", "castor", 9),
            );
            crate::parse("stack.toml", &text, std::path::Path::new("/")).unwrap()
        };
        let renewers = |stack: &Stack| stack.renewers().map(String::from).collect::<Vec<_>>();
        assert!(renewers(&file("")).is_empty());
        let stack = file("[[authority]]\nname = \"letsencrypt\"\n");
        assert_eq!(renewers(&stack), ["home/atlas", "office/boreas"]);
        let name: DnsName = "example.org".parse().unwrap();
        assert_eq!(stack.certified_at(&"office/boreas".parse().unwrap()), BTreeMap::from([(name.clone(), name)]));
    }
}
