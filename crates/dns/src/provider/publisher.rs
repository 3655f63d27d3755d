//! The agent's part: one follower for each provider, which tells it who lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sovereign_model::agent_config::AgentConfig;
use sovereign_model::agent_status::{AgentStatus, Standing};
use sovereign_model::dns_record::is_within;
use sovereign_model::layout::AgentFolder;
use sovereign_model::names::Names;
use sovereign_model::provider::{Provider, Publishes};
use sovereign_model::{DatacenterName, DnsName, EdgeName, ProviderName};
use sovereign_runtime::control::Refusal;
use tokio::time::sleep;
use tracing::{info, warn};

use super::publish::{ByName, Desk, Edit, Pace};
use super::tell::{ByCrate, TellError, Teller};
use super::{ADDRESSES, Change, addresses};
use crate::away::{REMEMBERED, Seen};
use crate::zone::{ADDRESS_TTL, World};

/// Why each provider could not be told the last time, where it could not.
pub(crate) type Standings = Mutex<BTreeMap<ProviderName, Option<String>>>;

/// One for each provider that this agent tells. What it cannot be told with is said in `standings`.
pub(crate) fn followers(
    config: &AgentConfig,
    folder: &AgentFolder,
    standings: &Arc<Standings>,
) -> Vec<Follower<ByCrate>> {
    let Some(publishes) = &config.publishes else { return Vec::new() };
    let mut followers = Vec::new();
    for provider in &publishes.providers {
        let path = publishes.secrets.get(&provider.name).map(|digest| folder.provider_secret(&provider.name, digest));
        let secret = path.map_or_else(|| Ok(String::new()), fs::read_to_string);
        let teller = match secret {
            Ok(secret) => ByCrate::new(provider, &secret).map_err(|error| words(&error, provider)),
            Err(error) => Err(error.to_string()),
        };
        let error = match teller {
            Ok(teller) => {
                followers.push(Follower::new(config, publishes, provider.clone(), teller, standings.clone()));
                None
            }
            Err(error) => {
                warn!(provider = %provider.name, error, "it cannot be told who lives");
                Some(error)
            }
        };
        standings.lock().unwrap_or_else(PoisonError::into_inner).insert(provider.name.clone(), error);
    }
    followers
}

fn words(error: &TellError, provider: &Provider) -> String {
    let Refusal { message, help } = Refusal::because(error, error.help(provider));
    help.map_or_else(|| message.clone(), |help| format!("{message}; {help}"))
}

/// Tells one provider who lives.
pub(crate) struct Follower<T> {
    provider: Provider,
    names: Names,
    own: EdgeName,
    order: Vec<EdgeName>,
    drained: BTreeSet<DatacenterName>,
    teller: T,
    standings: Arc<Standings>,
}

impl<T: Teller> Follower<T> {
    fn new(
        config: &AgentConfig,
        publishes: &Publishes,
        provider: Provider,
        teller: T,
        standings: Arc<Standings>,
    ) -> Self {
        let mut names = publishes.names.clone();
        names.domains.retain(|domain| publishes.told.get(&domain.name) == Some(&provider.name));
        let (order, drained) = (publishes.order.clone(), publishes.drained.clone());
        Self { provider, names, own: config.edge(), order, drained, teller, standings }
    }

    /// For as long as it is run.
    pub(crate) async fn follow(self, pace: Pace, status: impl Fn() -> AgentStatus) {
        let began = Instant::now();
        let mut desk = Desk::new(pace, began);
        let mut seen: Option<Seen> = None;
        loop {
            sleep(pace.second).await;
            let (status, now) = (status(), Instant::now());
            let sees = Seen::new(&self.own.datacenter, &status, seen.as_ref(), now);
            desk.sees(&addresses(&self.names, &self.world(&sees)), now);
            let before = before(&self.order, &self.own, &status, &sees);
            seen = Some(sees);
            // An agent that has just started knows nobody to be dead: it would put back who is.
            let knows = !status.watched.iter().any(|sight| sight.standing == Standing::Unknown);
            if (knows || began.elapsed() >= REMEMBERED) && desk.is_due(before, now) {
                let error = self.tell(&mut desk).await.err().map(|error| words(&error, &self.provider));
                if let Some(error) = &error {
                    warn!(provider = %self.provider.name, error, "it was not told who lives");
                    desk.failed(Instant::now());
                }
                let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
                standings.insert(self.provider.name.clone(), error);
            }
        }
    }

    fn world(&self, seen: &Seen) -> World {
        World {
            learned: seen.met().map(|(uplink, addresses)| (uplink.clone(), addresses.clone())).collect(),
            away: seen.dead(),
            drained: self.drained.clone(),
            challenges: BTreeMap::new(),
        }
    }

    /// Asks what is there, and changes what is not as it should be.
    async fn tell(&self, desk: &mut Desk) -> Result<(), TellError> {
        let mut there: ByName<BTreeSet<IpAddr>> = BTreeMap::new();
        for (domain, name) in self.all() {
            for kind in ADDRESSES {
                let seen = self.teller.seen(domain, name.as_str(), kind).await?;
                there
                    .entry(name.to_string())
                    .or_default()
                    .extend(seen.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
            }
        }
        let edits = desk.decide(&there, Instant::now());
        for (domain, name) in self.all() {
            let Some(edit) = edits.get(name.as_str()) else { continue };
            let seen = there.get(name.as_str()).cloned().unwrap_or_default();
            // What was begun may be there, whatever comes of the rest.
            desk.did(name.as_str(), edit, Instant::now());
            for change in changes(name, edit, &seen) {
                self.teller.change(domain, &change).await?;
            }
            info!(provider = %self.provider.name, %name, add = ?edit.add, remove = ?edit.remove, "told who lives");
        }
        Ok(())
    }

    /// The names that it is told of, each once.
    fn all(&self) -> BTreeSet<(&DnsName, &DnsName)> {
        let names = || self.names.sites.iter().flat_map(|site| &site.names);
        let of = |domain: &DnsName, name: &DnsName| is_within(name.as_str(), domain.as_str());
        let domains = self.names.domains.iter().map(|domain| &domain.name);
        domains.flat_map(|domain| names().filter(|name| of(domain, name)).map(move |name| (domain, name))).collect()
    }
}

/// Both types of addresses: first what is added, so that a name that loses all of one type has the other.
fn changes(name: &DnsName, edit: &Edit, seen: &BTreeSet<IpAddr>) -> Vec<Change> {
    let of = |kind: &str, all: &BTreeSet<IpAddr>| -> BTreeSet<String> {
        all.iter().filter(|ip| ip.is_ipv4() == (kind == "A")).map(ToString::to_string).collect()
    };
    let mut changes: Vec<Change> = Vec::new();
    for kind in ADDRESSES {
        let (seen, add, remove) = (of(kind, seen), of(kind, &edit.add), of(kind, &edit.remove));
        if add.is_empty() && remove.is_empty() {
            continue;
        }
        let then = seen.union(&add).filter(|ip| !remove.contains(*ip)).cloned().collect();
        changes.push(Change { owner: name.to_string(), kind: kind.to_owned(), ttl: ADDRESS_TTL, add, remove, then });
    }
    changes.sort_by_key(|change| change.add.is_empty());
    changes
}

/// How many come before this one that live, as far as it sees; `None` where its own data center is broken.
fn before(order: &[EdgeName], own: &EdgeName, status: &AgentStatus, seen: &Seen) -> Option<usize> {
    if seen.is_broken_here() {
        return None;
    }
    let dead = seen.dead();
    let lives = |edge: &&EdgeName| {
        let mut of = status.watched.iter().filter(|sight| sight.datacenter == edge.datacenter).peekable();
        let is_watched = of.peek().is_some() && edge.datacenter != own.datacenter;
        !is_watched || of.any(|sight| !dead.contains(&(edge.datacenter.clone(), sight.address.ip())))
    };
    Some(order.iter().take_while(|edge| *edge != own).filter(lives).count())
}

#[cfg(test)]
mod tests {
    use sovereign_model::Digest;
    use sovereign_model::agent_status::Sight;

    use super::*;

    fn status(standings: &[(&str, &str, Standing)]) -> AgentStatus {
        let sight = |&(datacenter, ip, standing): &(&str, &str, Standing)| Sight {
            datacenter: datacenter.parse().unwrap(),
            at: "isp".to_owned(),
            address: format!("{ip}:443").parse().unwrap(),
            standing,
            counted_on: standing != Standing::Dead,
            since_unix: 0,
            latency_us: None,
            clock_ahead_seconds: None,
            last_error: None,
            deaths: 0,
        };
        AgentStatus {
            healthy: true,
            draining: false,
            version: "0".to_owned(),
            process: 1,
            stack: "s".parse().unwrap(),
            datacenter: "office".parse().unwrap(),
            host: Some("b".parse().unwrap()),
            config_digest: Digest::of(""),
            fails_open: false,
            watched: standings.iter().map(sight).collect(),
            providers: BTreeMap::new(),
        }
    }

    #[test]
    fn who_lives_and_comes_before_is_counted() {
        use Standing::{Alive, Dead};
        let order = ["home/a", "home/b", "office/a", "office/b", "rack/a"].map(|edge| edge.parse().unwrap());
        let own: EdgeName = "office/b".parse().unwrap();
        let turn = |standings: &[(&str, &str, Standing)]| {
            let status = status(standings);
            before(&order, &own, &status, &Seen::new(&own.datacenter, &status, None, Instant::now()))
        };
        let office = ("office", "10.0.0.1", Alive);
        assert_eq!(turn(&[office, ("home", "192.0.2.1", Alive), ("rack", "192.0.2.9", Alive)]), Some(3));
        assert_eq!(turn(&[office, ("home", "192.0.2.1", Dead), ("rack", "192.0.2.9", Alive)]), Some(1));
        assert_eq!(turn(&[office, ("home", "192.0.2.1", Dead), ("home", "192.0.2.2", Alive)]), Some(3));
        assert_eq!(turn(&[office, ("rack", "192.0.2.9", Dead)]), Some(3), "one that nobody watches");
        let broken = [("office", "10.0.0.1", Dead), ("home", "192.0.2.1", Alive), ("rack", "192.0.2.9", Alive)];
        assert_eq!(turn(&broken), None);
    }

    #[test]
    fn what_is_added_comes_first() {
        let ips = |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let edit = Edit { add: ips(&["2001:db8::1"]), remove: ips(&["192.0.2.1"]) };
        let changes = changes(&"a.example".parse().unwrap(), &edit, &ips(&["192.0.2.1"]));
        let kinds: Vec<(&str, usize)> =
            changes.iter().map(|change| (change.kind.as_str(), change.then.len())).collect();
        assert_eq!(kinds, [("AAAA", 1), ("A", 0)]);
    }
}
