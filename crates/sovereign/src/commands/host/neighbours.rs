//! The other hosts of a data center: reached at once, told of each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sovereign_hosts::ready::{Change, Neighbour, keep_rules, let_in};
use sovereign_hosts::record::{HostId, Record};
use sovereign_hosts::{Connection, Facts, Finding, Login, Verdict};
use tokio::task::JoinSet;

use crate::declared::Declared;
use crate::failure::Failure;
use crate::secrets::HostKeys;

/// The other hosts of a data center, and how to log in to each.
pub(super) struct Neighbours {
    logins: Vec<(HostId, Login)>,
    /// What each says; one that does not answer delays no other.
    pub(super) all: Vec<Neighbour>,
}

impl Neighbours {
    /// Reaches all others of the host's data center.
    pub(super) async fn reach(
        declared: &Declared,
        keys: &HostKeys,
        record: &Record,
        id: &HostId,
    ) -> Result<Self, Failure> {
        let mut logins = Vec::new();
        for (other, known) in &record.hosts {
            if other.datacenter == id.datacenter && other != id {
                logins.push((other.clone(), super::login(declared, other, known, super::ours(keys))?));
            }
        }
        let mut reaching = JoinSet::new();
        for (other, login) in logins.clone() {
            let sockets = declared.places.sockets();
            reaching.spawn(async move {
                let reached = async {
                    let host = Connection::open(login, &sockets, super::PATIENCE).await?;
                    let facts = Facts::gather(&host).await?;
                    Ok((host, facts))
                };
                Neighbour { name: other.host, reached: reached.await }
            });
        }
        let mut all = reaching.join_all().await;
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { logins, all })
    }

    /// Those that do not answer.
    pub(super) fn silent(&self) -> Vec<Finding> {
        let silent = self.all.iter().filter_map(|neighbour| Some((&neighbour.name, neighbour.reached.as_ref().err()?)));
        let finding = |(name, error): (&_, &sovereign_hosts::SshError)| Finding {
            verdict: Verdict::Warning,
            subject: "neighbours",
            sentence: format!("{name} does not let this host in yet: {error}"),
            help: Some(format!("run `sovereign host add` for {name} again when it is back")),
        };
        silent.map(finding).collect()
    }

    /// Has those that answer let in the hosts of the data center. `addresses` says, for each, which others there are.
    pub(super) async fn introduce(
        &self,
        declared: &Declared,
        addresses: impl Fn(&HostId) -> BTreeSet<IpAddr>,
    ) -> Result<bool, Failure> {
        let mut changed = false;
        for (id, login) in &self.logins {
            let reached = self.all.iter().find(|neighbour| neighbour.name == id.host);
            let Some(Ok((host, _))) = reached.map(|neighbour| neighbour.reached.as_ref()) else { continue };
            if let_in(host, &addresses(id)).await? == Change::Done {
                let newcomer = super::connect(declared, login.clone()).await?;
                keep_rules(&newcomer).await?;
                newcomer.close().await;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Ends all connections.
    pub(super) async fn close(self) {
        for (host, _) in self.all.into_iter().filter_map(|neighbour| neighbour.reached.ok()) {
            host.close().await;
        }
    }
}
