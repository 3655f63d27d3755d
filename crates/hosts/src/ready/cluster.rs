//! The hosts of one data center as one Incus cluster.
//!
//! ```text
//!  first host      second host               third host
//!  alone      ──▶  the first begins a    ──▶ joins, let in by
//!                  cluster, this one joins   any that is in it
//! ```
//!
//! Promise: which way a host takes is decided from what all of them say, and not from what this machine remembers. There
//! are never two clusters in a data center because one host did not answer: then it is waited for. What lets a host in
//! goes from one to the other over standard streams, is of use for ten minutes, and is replaced by the next try.
//!
//! Left out: hosts of other data centers. A cluster wants its members near each other.

use std::fmt;
use std::net::IpAddr;

use sovereign_model::HostName;

use super::{Change, HAS_DATA, Ready, ReadyError, Step, change, one_at_a_time};
use crate::connection::Connection;
use crate::error::SshError;
use crate::facts::{Facts, Incus};

/// Where Incus hears other hosts of its data center.
pub const PORT: u16 = 8443;
/// The exit code of what needs the cluster's database, and gets no answer from it.
const NO_QUORUM: i32 = 4;

/// Another host of the data center.
#[derive(Debug)]
pub struct Neighbour {
    /// Its name.
    pub name: HostName,
    /// The connection and what was found there; why there is none, when it does not answer.
    pub reached: Result<(Connection, Facts), SshError>,
}

/// A host can become no member, or stop being one.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// More than half of the members that decide are away.
    #[error("the cluster of data center {datacenter} has no quorum: most of {members} do not answer")]
    NoQuorum {
        /// The data center.
        datacenter: String,
        /// All hosts of it.
        members: String,
    },
    /// Nobody knows whether there is a cluster.
    #[error("{hosts} did not answer, and might have a cluster that this host belongs into")]
    Silent {
        /// The other hosts of the data center.
        hosts: String,
    },
    /// There are two.
    #[error("{host} is in another cluster than {others}")]
    Split {
        /// The host.
        host: String,
        /// The others.
        others: String,
    },
    /// It was reached in a way that says nothing of its network.
    #[error("{host} was reached at {address}, where no other host reaches it")]
    NoAddress {
        /// The host.
        host: String,
        /// Its own end of the connection.
        address: String,
    },
}

impl ClusterError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoQuorum { .. } => {
                "bring them back; when they are gone for good: stop Incus on one that is left, `incus admin \
                 cluster recover-from-quorum-loss` there, and start it again"
                    .to_owned()
            }
            Self::Silent { .. } => {
                "run it again when they are back; one that is gone for good: `sovereign host remove --forget`"
                    .to_owned()
            }
            Self::Split { host, .. } => {
                format!("`sovereign host remove {host}`, then add it again: it joins the others")
            }
            Self::NoAddress { .. } => "add it by its address in the data center's network".to_owned(),
        })
    }
}

/// How a host comes to be in the cluster of its data center.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// There is no other host yet.
    Alone,
    /// It is in it.
    Member,
    /// This one of the others lets it in.
    Join(usize),
    /// This one of the others begins a cluster, and lets it in.
    Begin(usize),
}

/// Decides it. Pure. Neighbours that did not answer have no facts.
fn way(
    datacenter: &str,
    own: &HostName,
    incus: &Incus,
    others: &[(&HostName, Option<&Facts>)],
) -> Result<Way, ClusterError> {
    let names =
        |names: &mut dyn Iterator<Item = &HostName>| names.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let no_quorum = || {
        let members = names(&mut [own].into_iter().chain(others.iter().map(|(name, _)| *name)));
        Err(ClusterError::NoQuorum { datacenter: datacenter.to_owned(), members })
    };
    let of = |at: usize| others[at].1.and_then(|facts| facts.incus.as_ref());
    let clustered: Vec<usize> = (0..others.len()).filter(|at| of(*at).is_some_and(|incus| incus.clustered)).collect();
    let answering = clustered.iter().copied().find(|at| of(*at).is_some_and(|incus| incus.members.is_some()));
    if incus.clustered {
        let Some(members) = &incus.members else { return no_quorum() };
        // By its own word: theirs may be of before a run that was killed had it join.
        return match answering.filter(|at| !members.contains_key(others[*at].0.as_str())) {
            None => Ok(Way::Member),
            Some(_) => Err(ClusterError::Split {
                host: format!("{datacenter}/{own}"),
                others: names(&mut clustered.iter().map(|at| others[*at].0)),
            }),
        };
    }
    if let Some(at) = answering {
        return Ok(Way::Join(at));
    }
    if !clustered.is_empty() {
        return no_quorum();
    }
    let mut silent = others.iter().filter(|(_, facts)| facts.is_none()).map(|(name, _)| *name).peekable();
    if silent.peek().is_some() {
        return Err(ClusterError::Silent { hosts: names(&mut silent) });
    }
    let ready = (0..others.len()).find(|at| of(*at).is_some_and(|incus| incus.pools.contains("sovereign")));
    Ok(ready.map_or(Way::Alone, Way::Begin))
}

/// What lets a host into a cluster, once. It has no `Debug` form.
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Ready<'_> {
    /// Makes the host a member, if there are others.
    pub(super) async fn cluster(&self) -> Result<Change, ReadyError> {
        if self.neighbours.is_empty() {
            return Ok(Change::Nothing);
        }
        // A run that was killed may have begun it, and its work is waited for before anybody looks.
        self.host.succeed(&one_at_a_time("wait for a run before this one", "true")).await?;
        let facts = Facts::gather(self.host).await?;
        let incus = facts.incus.clone().unwrap_or_default();
        let others: Vec<_> =
            self.neighbours.iter().map(|n| (&n.name, n.reached.as_ref().ok().map(|(_, facts)| facts))).collect();
        let (own, datacenter) = (&self.required.host, self.required.datacenter.as_str());
        let (at, begins) = match way(datacenter, own, &incus, &others)? {
            Way::Alone | Way::Member => return Ok(Change::Nothing),
            Way::Join(at) => (at, false),
            Way::Begin(at) => (at, true),
        };
        let Neighbour { name, reached: Ok((neighbour, found)) } = &self.neighbours[at] else {
            return Ok(Change::Nothing);
        };
        let here = address(&format!("{datacenter}/{own}"), facts.address)?;
        if begins {
            let there = address(&format!("{datacenter}/{name}"), found.address)?;
            let script = one_at_a_time("begin a cluster", include_str!("cluster_begin.sh"));
            neighbour.succeed(&script.args([name.as_str(), &there])).await?;
        }
        let Token(token) = self.invited(neighbour, name).await?;
        let disk = self.required.disk.as_deref().unwrap_or_default();
        let (may, size) = self.place();
        let script = concat!(include_str!("place.sh"), include_str!("cluster_join.sh"));
        let join = one_at_a_time(&Step::Cluster.to_string(), script);
        let join = join.args([disk, may, &size, own.as_str(), &here]).input(format!("{token}\n"));
        let ended = self.host.run(&join).await?;
        match ended.code {
            0 => Ok(change(&ended.stdout)),
            HAS_DATA => Err(ReadyError::HasData { host: format!("{datacenter}/{own}"), said: ended.said() }),
            code => Err(failed(self.host, Step::Cluster.to_string(), code, ended.said())),
        }
    }

    /// What a neighbour lets this host in with.
    async fn invited(&self, neighbour: &Connection, name: &HostName) -> Result<Token, ReadyError> {
        let (own, datacenter) = (&self.required.host, self.required.datacenter.as_str());
        let action = format!("let {own} into its cluster");
        let ended = neighbour.run(&one_at_a_time(&action, include_str!("cluster_invite.sh")).arg(own.as_str())).await?;
        let token = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        match ended.code {
            // It becomes a line of YAML.
            0 if !token.is_empty()
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte)) =>
            {
                Ok(Token(token))
            }
            // Its answer is no part of what is told: it may be what lets somebody in.
            0 => Err(failed(neighbour, action, 0, "it is not understood".to_owned())),
            NO_QUORUM => {
                let others = self.neighbours.iter().map(|neighbour| &neighbour.name);
                let members: Vec<_> = others.chain([own]).map(ToString::to_string).collect();
                Err(ClusterError::NoQuorum { datacenter: datacenter.to_owned(), members: members.join(", ") }.into())
            }
            HAS_DATA => Err(ReadyError::HasData { host: format!("{datacenter}/{name}"), said: ended.said() }),
            code => Err(failed(neighbour, action, code, ended.said())),
        }
    }
}

fn failed(host: &Connection, action: String, code: i32, said: String) -> ReadyError {
    SshError::Failed { host: host.address().clone(), action, code, said }.into()
}

/// Where the others reach it, as Incus writes it.
fn address(host: &str, own: Option<IpAddr>) -> Result<String, ClusterError> {
    match own {
        Some(IpAddr::V4(ip)) if !ip.is_loopback() && !ip.is_link_local() => Ok(format!("{ip}:{PORT}")),
        Some(IpAddr::V6(ip)) if !ip.is_loopback() && !ip.is_unicast_link_local() => Ok(format!("[{ip}]:{PORT}")),
        other => {
            let address = other.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
            Err(ClusterError::NoAddress { host: host.to_owned(), address })
        }
    }
}

/// How a host is taken out of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// Whether what is on it may go.
    pub purge: bool,
    /// Whether it is not there any more: then the cluster forgets it.
    pub gone: bool,
}

/// Takes a host out of the cluster that one of its neighbours is in. Nothing happens when it is not in it, or there is
/// none.
///
/// # Errors
/// When something is on it that may not go, when the cluster has no quorum, or when no neighbour answers.
pub async fn leave(
    (datacenter, host): (&str, &HostName),
    neighbours: &[Neighbour],
    leaving: Leaving,
) -> Result<Change, ReadyError> {
    let reached = || neighbours.iter().filter_map(|neighbour| neighbour.reached.as_ref().ok());
    let in_one = |facts: &Facts| facts.incus.as_ref().is_some_and(|incus| incus.clustered);
    let answers = |facts: &Facts| facts.incus.as_ref().is_some_and(|incus| incus.members.is_some());
    let names = || neighbours.iter().map(|neighbour| neighbour.name.to_string()).collect::<Vec<_>>().join(", ");
    let no_quorum =
        || ClusterError::NoQuorum { datacenter: datacenter.to_owned(), members: format!("{host}, {}", names()) };
    let Some((neighbour, _)) = reached().find(|(_, facts)| in_one(facts) && answers(facts)) else {
        return match reached().any(|(_, facts)| in_one(facts)) {
            true => Err(no_quorum().into()),
            false if reached().count() < neighbours.len() => Err(ClusterError::Silent { hosts: names() }.into()),
            false => Ok(Change::Nothing),
        };
    };
    let action = format!("take {host} out of the cluster");
    let (may, how) = (if leaving.purge { "purge" } else { "keep" }, if leaving.gone { "gone" } else { "there" });
    let script = one_at_a_time(&action, include_str!("cluster_leave.sh")).args([host.as_str(), may, how]);
    let ended = neighbour.run(&script).await?;
    match ended.code {
        0 => Ok(change(&ended.stdout)),
        NO_QUORUM => Err(no_quorum().into()),
        HAS_DATA => Err(ReadyError::HasData { host: format!("{datacenter}/{host}"), said: ended.said() }),
        code => Err(failed(neighbour, action, code, ended.said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Member;

    fn incus(members: Option<&[&str]>, clustered: bool) -> Incus {
        let members = members.map(|names| names.iter().map(|name| ((*name).to_owned(), Member::default())).collect());
        Incus { clustered, members, pools: ["sovereign".to_owned()].into(), ..Incus::default() }
    }

    /// Which way `own` takes beside hosts that did not answer, or say what they are.
    fn told(own: &Incus, others: &[(&str, Option<Incus>)]) -> String {
        let named: Vec<(HostName, Option<Facts>)> = others
            .iter()
            .map(|(name, incus)| {
                (name.parse().unwrap(), incus.clone().map(|incus| Facts { incus: Some(incus), ..Facts::default() }))
            })
            .collect();
        let others: Vec<_> = named.iter().map(|(name, facts)| (name, facts.as_ref())).collect();
        match way("home", &"c".parse().unwrap(), own, &others) {
            Ok(way) => format!("{way:?}"),
            Err(error) => {
                assert!(error.help().is_some());
                error.to_string()
            }
        }
    }

    #[test]
    fn there_is_one_cluster_in_a_data_center_whoever_is_silent() {
        let (bare, alone, in_ab) = (Incus::default(), incus(None, false), incus(Some(&["a", "b"]), true));
        let stuck = incus(None, true);
        assert_eq!(told(&bare, &[("a", Some(alone.clone()))]), "Begin(0)");
        // One whose own way was cut off before it had a pool is no beginning.
        assert_eq!(told(&bare, &[("a", Some(bare.clone()))]), "Alone");
        assert_eq!(told(&bare, &[("a", Some(bare.clone())), ("b", Some(alone.clone()))]), "Begin(1)");
        assert_eq!(told(&bare, &[("a", None), ("b", Some(in_ab.clone()))]), "Join(1)");
        assert_eq!(told(&bare, &[("a", Some(stuck.clone())), ("b", Some(in_ab.clone()))]), "Join(1)");
        let silent = "a did not answer, and might have a cluster that this host belongs into";
        assert_eq!(told(&bare, &[("a", None), ("b", Some(alone.clone()))]), silent);
        let none = "the cluster of data center home has no quorum: most of c, a, b do not answer";
        assert_eq!(told(&bare, &[("a", None), ("b", Some(stuck.clone()))]), none);
        // It is a member already.
        let in_abc = incus(Some(&["a", "b", "c"]), true);
        assert_eq!(told(&in_abc, &[("a", None), ("b", Some(in_abc.clone()))]), "Member");
        assert_eq!(told(&in_abc, &[("a", None), ("b", None)]), "Member");
        assert_eq!(told(&stuck, &[("a", None), ("b", Some(stuck.clone()))]), none);
        assert_eq!(told(&incus(Some(&["c"]), true), &[("a", Some(in_ab))]), "home/c is in another cluster than a");
        assert_eq!(told(&incus(Some(&["c"]), true), &[("a", Some(alone))]), "Member");
    }

    #[test]
    fn only_an_address_that_others_reach_is_taken() {
        for (ip, expected) in [("192.0.2.8", Some("192.0.2.8:8443")), ("2001:db8::8", Some("[2001:db8::8]:8443"))] {
            assert_eq!(address("home/a", ip.parse().ok()).ok().as_deref(), expected);
        }
        for ip in ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "nonsense"] {
            assert!(matches!(address("home/a", ip.parse().ok()), Err(ClusterError::NoAddress { .. })), "{ip}");
        }
    }
}
