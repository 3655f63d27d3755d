//! Hosts that are evacuated on purpose: which they are, and how one becomes it and stops being it.
//!
//! ```text
//!  note on the host ─▶ our instances stop ─▶ Incus empties the member ─▶ (maintenance) ─▶ Incus fills it ─▶ ours start ─▶ no note
//!  who, what ran       where their data is    all else moves, or stops
//! ```
//!
//! Promise: it is known wherever an operator looks from, as long as the host or another member of its cluster answers, and
//! on the machine that did it in any case. Our instances stay where their data is: a volume of a local pool does not move
//! with an instance, and an empty one would take its place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use sovereign_hosts::evacuation::Evacuation;
use sovereign_incus::cluster::{Anywhere, Member, Status};
use sovereign_incus::{Client, IncusError, MemberName, instance};
use sovereign_model::{EdgeName, StackName, UnitName};
use tokio::time::timeout;

use super::IncusEngineError;
use super::reach::{Link, PROJECT, Reach};
use crate::apply::Progress;

/// A host that does not say so quickly whether it is evacuated delays nobody further.
const NOTE: Duration = Duration::from_secs(5);
/// A cluster that has just lost a member takes its time to answer; that a host is away is told meanwhile.
const OTHERS: Duration = Duration::from_secs(5);

type Tell<'t> = &'t (dyn Fn(Progress) + Send + Sync);

/// For how long a host is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Until somebody brings it back.
    UntilRestored,
    /// While it boots: what has nowhere else to be starts with it again, whether or not anybody is there to see it.
    OneBoot,
}

/// What would become of what is on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaving {
    /// The stack's units that run, in the order in which they are started again: they stop.
    pub stops: Vec<UnitName>,
    /// Other instances that stop, since what they need is on this host only.
    pub others_stop: Vec<String>,
    /// Other instances that move to another member, and the memory each may use, in bytes, where that is limited.
    pub moves: Vec<(String, Option<u64>)>,
    /// The members of the cluster; none where the host is alone.
    pub members: Vec<Member>,
    /// This host among them.
    pub member: Option<MemberName>,
}

/// The hosts that are evacuated, of those that `reach` leads to. A host that was not reached is asked for at the other
/// members of its cluster.
pub async fn evacuated(reach: &Reach) -> BTreeMap<EdgeName, Evacuation> {
    let looks = reach.edges().map(async |edge| {
        // A host that answers knows best.
        let noted = match reach.opened(edge) {
            Some(link) => timeout(NOTE, Evacuation::read(&link.connection)).await.ok().and_then(Result::ok),
            None => None,
        };
        (edge.clone(), noted)
    });
    let mut all = BTreeMap::new();
    let mut silent = BTreeSet::new();
    for (edge, noted) in join_all(looks).await {
        match noted {
            Some(noted) => drop(noted.map(|noted| all.insert(edge, noted))),
            None => drop(silent.insert(edge)),
        }
    }
    for edge in silent {
        let known = reach.remembered(&edge).cloned();
        let known = match known {
            Some(known) => Some(known),
            None => said_by_others(reach, &edge).await.then(Evacuation::by_hand),
        };
        all.extend(known.map(|known| (edge, known)));
    }
    all
}

/// Whether another member of its cluster says that a host is evacuated.
async fn said_by_others(reach: &Reach, edge: &EdgeName) -> bool {
    let others = reach.edges().filter(|other| other.datacenter == edge.datacenter && *other != edge);
    for link in others.filter_map(|other| reach.opened(other)) {
        let asked = async { link.incus().await?.members().await };
        let Ok(Ok(members)) = timeout(OTHERS, asked).await else { continue };
        let host = edge.host.as_ref().map(|host| host.as_str());
        let member = members.iter().find(|member| Some(member.server_name.as_str()) == host);
        if let Some(member) = member {
            return member.status == Status::Evacuated;
        }
    }
    false
}

impl Link {
    fn incus_failed(&self) -> impl Fn(IncusError) -> IncusEngineError {
        let host = self.edge.clone();
        move |source| IncusEngineError::Incus { host: host.clone(), source: Box::new(source) }
    }

    /// What would become of what is on the host. Changes nothing.
    ///
    /// # Errors
    /// When its Incus does not answer, or says what cannot be understood.
    pub async fn leaving(&self, stack: &StackName) -> Result<Leaving, IncusEngineError> {
        let failed = |source| IncusEngineError::Instances { host: self.edge.clone(), source: Box::new(source) };
        let (client, member) = self.member().await.map_err(self.incus_failed())?;
        let instances = self.instances(stack).await.map_err(self.incus_failed())?;
        let ours = instances.that_run().await.map_err(failed)?;
        let (anywhere, pools, members) =
            tokio::try_join!(client.instances_anywhere(), client.pools(), client.members())
                .map_err(self.incus_failed())?;
        let shared: BTreeSet<&str> =
            pools.iter().filter(|pool| is_shared(&pool.driver)).map(|pool| pool.name.as_str()).collect();
        let mut leaving = Leaving { members, member: member.clone(), ..Leaving::default() };
        let is_ours = |other: &Anywhere| other.project == PROJECT && ours.iter().any(|(_, name)| *name == other.name);
        leaving.stops = ours.iter().map(|(unit, _)| unit.clone()).collect();
        for other in anywhere.iter().filter(|other| {
            let is_here = member.as_ref().is_none_or(|member| member.as_str() == other.location);
            is_here && other.status == instance::Status::Running && !is_ours(other)
        }) {
            let name = format!("{}/{}", other.project, other.name);
            if member.is_some() && moves(other, &shared) {
                let memory = other.expanded_config.get("limits.memory").and_then(|limit| bytes(limit));
                leaving.moves.push((name, memory));
            } else {
                leaving.others_stop.push(name);
            }
        }
        Ok(leaving)
    }

    /// Empties the host. `note` is on it from the beginning, with all that ran before; doing it again goes on.
    ///
    /// # Errors
    /// When the host does not obey: it is known what ran.
    pub async fn evacuate(
        &self,
        stack: &StackName,
        mut note: Evacuation,
        absence: Absence,
        tell: Tell<'_>,
    ) -> Result<Evacuation, IncusEngineError> {
        let host_failed = |source| IncusEngineError::Host { host: self.edge.clone(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: self.edge.clone(), source: Box::new(source) };
        let (client, member) = self.member().await.map_err(self.incus_failed())?;
        let instances = self.instances(stack).await.map_err(self.incus_failed())?;
        // What a run before this one stopped is to run again, too.
        let before = Evacuation::read(&self.connection).await.map_err(host_failed)?;
        let ran = instances.that_run().await.map_err(failed)?;
        note.ran = before.map(|before| before.ran).unwrap_or_default();
        for (_, name) in ran {
            if !note.ran.iter().any(|known| known == name.as_str()) {
                note.ran.push(name.to_string());
            }
        }
        note.write(&self.connection).await.map_err(host_failed)?;
        let leaving = self.leaving(stack).await?;
        instances.set_aside(absence == Absence::OneBoot, tell).await.map_err(failed)?;
        // A member that Incus has emptied starts nothing at boot.
        let is_for_incus = absence == Absence::UntilRestored || !leaving.moves.is_empty();
        if let Some(member) = member
            && is_for_incus
            && self.status(client, member).await? != Some(Status::Evacuated)
        {
            tell(Progress::Doing("move what can".to_owned()));
            client.evacuate(member).await.map_err(self.incus_failed())?;
        }
        Ok(note)
    }

    /// Brings back what the host had. It is not evacuated any more when this returns.
    ///
    /// # Errors
    /// When the host does not obey, or what ran on it does not become well: then it is still evacuated.
    pub async fn restore(&self, stack: &StackName, tell: Tell<'_>) -> Result<(), IncusEngineError> {
        let host_failed = |source| IncusEngineError::Host { host: self.edge.clone(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: self.edge.clone(), source: Box::new(source) };
        let (client, member) = self.member().await.map_err(self.incus_failed())?;
        let note = Evacuation::read(&self.connection).await.map_err(host_failed)?;
        if let Some(member) = member
            && self.status(client, member).await? == Some(Status::Evacuated)
        {
            tell(Progress::Doing("bring back what moved".to_owned()));
            client.restore(member).await.map_err(self.incus_failed())?;
        }
        if let Some(note) = note {
            let instances = self.instances(stack).await.map_err(self.incus_failed())?;
            instances.take_back(&note.ran, tell).await.map_err(failed)?;
            Evacuation::remove(&self.connection).await.map_err(host_failed)?;
        }
        Ok(())
    }

    async fn status(&self, client: &Client, own: &MemberName) -> Result<Option<Status>, IncusEngineError> {
        let members = client.members().await.map_err(self.incus_failed())?;
        Ok(members.into_iter().find(|member| member.server_name == *own).map(|member| member.status))
    }

    /// Whether the cluster says that the host is evacuated, whoever said so to it.
    ///
    /// # Errors
    /// When its Incus does not answer.
    pub async fn is_emptied(&self) -> Result<bool, IncusEngineError> {
        let (client, member) = self.member().await.map_err(self.incus_failed())?;
        match member {
            Some(member) => Ok(self.status(client, member).await? == Some(Status::Evacuated)),
            None => Ok(false),
        }
    }

    /// The members of its cluster, as it sees them; none where it is alone.
    ///
    /// # Errors
    /// When its Incus does not answer.
    pub async fn members(&self) -> Result<Vec<Member>, IncusEngineError> {
        async { self.incus().await?.members().await }.await.map_err(self.incus_failed())
    }
}

/// Whether a pool of this driver is the same on all hosts.
fn is_shared(driver: &str) -> bool {
    ["ceph", "cephfs", "cephobject", "lvmcluster", "linstor", "truenas"].contains(&driver)
}

/// Whether Incus moves an instance when its member is emptied, as its own rules have it: what uses a part of the host, or
/// a volume that is there only, is stopped.
fn moves(instance: &Anywhere, shared: &BTreeSet<&str>) -> bool {
    match instance.expanded_config.get("cluster.evacuate").map(String::as_str) {
        None | Some("" | "auto") => {}
        Some("migrate" | "live-migrate") => return true,
        Some(_) => return false,
    }
    instance.expanded_devices.values().all(|device| {
        let is = |key: &str| device.get(key).map(String::as_str);
        match is("type") {
            Some("disk") => is("path") == Some("/") || is("pool").is_some_and(|pool| shared.contains(pool)),
            Some("nic") => is("network").is_some() || is("nictype").is_some_and(|kind| kind == "bridged"),
            Some("none") | None => true,
            Some(_) => false,
        }
    })
}

/// A limit of memory as Incus writes it; `None` for a share of the host's.
fn bytes(limit: &str) -> Option<u64> {
    let digits = limit.find(|c: char| !c.is_ascii_digit()).unwrap_or(limit.len());
    let number: u64 = limit[..digits].parse().ok()?;
    let unit = match limit[digits..].trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_bound_to_its_host_stops_and_all_else_moves() {
        let root = json!({"type": "disk", "path": "/", "pool": "sovereign"});
        let told = |config: serde_json::Value, device: serde_json::Value| {
            let instance = json!({"name": "c1", "expanded_config": config,
                "expanded_devices": {"root": root, "device": device}});
            moves(&serde_json::from_value(instance).unwrap(), &["far"].into())
        };
        let nothing = json!({"type": "none"});
        assert!(told(json!({}), nothing.clone()));
        assert!(told(json!({}), json!({"type": "nic", "network": "sovereign0"})));
        assert!(told(json!({}), json!({"type": "disk", "pool": "far", "source": "data", "path": "/srv"})));
        assert!(!told(json!({}), json!({"type": "disk", "pool": "sovereign", "source": "data", "path": "/srv"})));
        assert!(!told(json!({}), json!({"type": "disk", "source": "/srv", "path": "/srv"})));
        assert!(!told(json!({}), json!({"type": "gpu"})));
        assert!(!told(json!({"cluster.evacuate": "stop"}), nothing.clone()));
        assert!(told(json!({"cluster.evacuate": "migrate"}), json!({"type": "gpu"})));
    }

    #[test]
    fn limits_are_read_in_all_their_units() {
        assert_eq!(bytes("536870912"), Some(512 << 20));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("2GB"), Some(2_000_000_000));
        for none in ["50%", "", "MiB", "99999999999GiB"] {
            assert_eq!(bytes(none), None, "{none}");
        }
    }
}
