//! Whether a host may be taken out of its data center, and who serves meanwhile. Pure.

use std::collections::BTreeSet;

use sovereign_engine::incus::evacuated::Leaving;
use sovereign_incus::cluster::{Member, Status};
use sovereign_model::stack::{Datacenter, UplinkAddress};
use sovereign_model::{EdgeName, SiteName, Stack};

use crate::failure::Reason;
use crate::output::figures;

/// A host may not be taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kept {
    /// Most of those that decide would be away.
    #[error("{host} keeps the cluster of its data center in being, for these are away or may be: {}", .away.join(", "))]
    Quorum { host: EdgeName, away: Vec<String> },
    /// What moves has no room elsewhere.
    #[error("{instance} moves from {host} and has no room on another: it may use {}, and the freest has {}", figures::bytes(*.needs), figures::bytes(*.free))]
    NoRoom { host: EdgeName, instance: String, needs: u64, free: u64 },
    /// There is nowhere to move to.
    #[error("{instance} moves from {host}, and no other member of its cluster answers")]
    Nowhere { host: EdgeName, instance: String },
}

impl Reason for Kept {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Quorum { host, .. } => {
                let datacenter = &host.datacenter;
                format!(
                    "bring them back first; one that is gone for good: `sovereign host remove {datacenter}/NAME --forget`; one \
                     that is evacuated: `sovereign host restore {datacenter}/NAME`"
                )
            }
            Self::NoRoom { instance, .. } | Self::Nowhere { instance, .. } => {
                let (project, name) = instance.split_once('/').unwrap_or(("default", instance));
                format!("free some memory there, or stop it: `incus stop --project {project} {name}`")
            }
        })
    }
}

/// What becomes of the cluster while a host is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// There is none.
    None,
    /// It can be changed as before.
    Decides,
    /// This host alone decides, so until it is back nothing can be changed there. What runs goes on.
    Waits,
}

/// What may become of a cluster when a member goes. One that is evacuated may be switched off, so it does not count.
fn cluster(host: &EdgeName, leaving: &Leaving) -> Result<Cluster, Kept> {
    let Some(own) = &leaving.member else { return Ok(Cluster::None) };
    let voters: Vec<&Member> = leaving.members.iter().filter(|member| member.votes()).collect();
    let others = || voters.iter().filter(|voter| voter.server_name != *own);
    if others().count() == voters.len() {
        return Ok(Cluster::Decides);
    }
    let here = others().filter(|voter| voter.status == Status::Online).count();
    if here > voters.len() / 2 {
        return Ok(Cluster::Decides);
    }
    let away = others().filter(|voter| voter.status != Status::Online);
    let away: Vec<String> = away.map(|voter| voter.server_name.to_string()).collect();
    // Of two, or of three of which one was lost for good, one decides: without a word of the other.
    if away.is_empty() { Ok(Cluster::Waits) } else { Err(Kept::Quorum { host: host.clone(), away }) }
}

/// Whether what moves has room: the largest first, each where the most is free. `free` is the memory of the other members
/// that answer, as far as it is known.
fn room(host: &EdgeName, leaving: &Leaving, free: &[u64]) -> Result<(), Kept> {
    let mut moves: Vec<(&String, u64)> = leaving.moves.iter().map(|(name, needs)| (name, needs.unwrap_or(0))).collect();
    moves.sort_by_key(|(_, needs)| std::cmp::Reverse(*needs));
    let mut free = free.to_vec();
    for (instance, needs) in moves {
        let Some(most) = free.iter_mut().max() else {
            return Err(Kept::Nowhere { host: host.clone(), instance: instance.clone() });
        };
        let Some(left) = most.checked_sub(needs) else {
            return Err(Kept::NoRoom { host: host.clone(), instance: instance.clone(), needs, free: *most });
        };
        *most = left;
    }
    Ok(())
}

/// Whether a host may be taken out, and what becomes of its cluster.
///
/// # Errors
/// When the cluster would have no quorum, or what moves has no room.
pub(crate) fn judge(host: &EdgeName, leaving: &Leaving, free: &[u64]) -> Result<Cluster, Kept> {
    let cluster = cluster(host, leaving)?;
    room(host, leaving, free)?;
    Ok(cluster)
}

/// The sites that are written on a host, and the edges elsewhere that serve each.
pub(crate) fn sites_on<'s>(stack: &'s Stack, host: &EdgeName) -> Vec<(&'s SiteName, BTreeSet<EdgeName>)> {
    let here = stack.sites.values().filter(|site| site.place(stack) == *host);
    let served = here.map(|site| {
        let places = site.datacenters();
        let edges = places.filter_map(|place| stack.datacenters.get(place)).flat_map(Datacenter::edges);
        (&site.name, edges.filter(|edge| edge != host).collect())
    });
    served.collect()
}

/// The lines of its data center whose address is the host's own: whoever is sent there finds nobody while it is off.
pub(crate) fn lines_to<'s>(stack: &'s Stack, host: &EdgeName) -> Vec<&'s str> {
    let Some(datacenter) = stack.datacenters.get(&host.datacenter) else { return Vec::new() };
    let Some(declared) = host.host.as_ref().and_then(|name| datacenter.host(name)) else { return Vec::new() };
    let Some(own) = declared.address.map(UplinkAddress::Fixed) else { return Vec::new() };
    datacenter.uplinks.iter().filter(|line| line.address == own).map(|line| line.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use sovereign_model::file;

    use super::*;

    fn member(name: &str, role: &str, status: Status) -> Member {
        let member = serde_json::json!({"server_name": name, "roles": [role], "status": "Online"});
        Member { status, ..serde_json::from_value(member).unwrap() }
    }

    fn of(members: Vec<Member>) -> Leaving {
        Leaving { members, member: Some("a".parse().unwrap()), ..Leaving::default() }
    }

    fn host() -> EdgeName {
        "home/a".parse().unwrap()
    }

    #[test]
    fn the_last_that_keeps_a_quorum_stays() {
        let (on, off) =
            (|name| member(name, "database", Status::Online), |name| member(name, "database", Status::Offline));
        let aside = member("c", "database", Status::Evacuated);
        let standby = |name| member(name, "database-standby", Status::Online);
        assert_eq!(cluster(&host(), &Leaving::default()), Ok(Cluster::None));
        assert_eq!(cluster(&host(), &of(vec![on("a"), on("b"), on("c")])), Ok(Cluster::Decides));
        for away in [off("c"), aside] {
            let refused = cluster(&host(), &of(vec![on("a"), on("b"), away])).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "home/a keeps the cluster of its data center in being, for these are away or may be: c"
            );
            assert!(refused.help().unwrap().contains("host restore home/NAME"));
        }
        // Of two one decides: the other can go, and while the one is away everything waits.
        assert_eq!(cluster(&host(), &of(vec![on("a"), standby("b")])), Ok(Cluster::Waits));
        assert_eq!(cluster(&host(), &of(vec![standby("a"), on("b")])), Ok(Cluster::Decides));
    }

    proptest! {
        /// What may go leaves most of those that decide, or there is but one.
        #[test]
        fn whoever_may_go_leaves_a_majority(states: [bool; 5], voters in 1_usize..5) {
            let names = ["a", "b", "c", "d", "e"];
            let members: Vec<_> = names.iter().zip(states).enumerate().map(|(at, (name, on))| {
                let (on, role) = (on || at == 0, if at < voters { "database" } else { "" });
                member(name, role, if on { Status::Online } else { Status::Offline })
            }).collect();
            let left = members.iter().skip(1).filter(|member| member.votes() && member.status == Status::Online).count();
            match cluster(&host(), &of(members)) {
                Ok(Cluster::Decides) => prop_assert!(left * 2 > voters),
                Ok(_) => prop_assert!(left == voters - 1),
                Err(_) => prop_assert!(left * 2 <= voters && left < voters - 1),
            }
        }
    }

    #[test]
    fn what_moves_needs_room_and_what_stops_does_not() {
        let moves = |sizes: &[u64]| Leaving {
            moves: sizes.iter().map(|size| (format!("default/m{size}"), Some(*size))).collect(),
            ..of(Vec::new())
        };
        assert_eq!(room(&host(), &moves(&[]), &[]), Ok(()));
        assert_eq!(room(&host(), &moves(&[3, 5, 4]), &[8, 5]), Ok(()));
        let Kept::NoRoom { instance, free: 3, .. } = room(&host(), &moves(&[4, 5, 5]), &[8, 5]).unwrap_err() else {
            panic!("the last has no room")
        };
        assert_eq!(instance, "default/m4");
        let nowhere = room(&host(), &moves(&[1]), &[]).unwrap_err();
        assert!(nowhere.help().unwrap().contains("incus stop --project default m1"));
        // A limit that is not said is no reason to refuse.
        let unknown = Leaving { moves: vec![("default/x".to_owned(), None)], ..of(Vec::new()) };
        assert_eq!(room(&host(), &unknown, &[1]), Ok(()));
    }

    #[test]
    fn who_serves_meanwhile_and_who_is_sent_to_nobody() {
        let text = "version = 1\n[stack]\nname = \"demo\"\n[[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
                    [[datacenter.uplink]]\nname = \"isp\"\naddress = \"192.0.2.8\"\nport = 443\nhttp = 80\n\
                    [[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.8\"\n\
                    [[datacenter.host]]\nname = \"borea\"\naddress = \"192.0.2.9\"\n\
                    [[datacenter]]\nname = \"office\"\nengine = \"incus\"\n\
                    [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.8\"\nport = 443\n\
                    [[datacenter.host]]\nname = \"ceres\"\naddress = \"192.0.2.10\"\n\
                    [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"home\"\n\
                    mirrors = [\"office\"]\n";
        let stack = file::parse("stack.toml", text, Path::new("/")).unwrap();
        let (atlas, borea) = ("home/atlas".parse().unwrap(), "home/borea".parse().unwrap());
        let sites = sites_on(&stack, &atlas);
        let edges: Vec<_> = sites[0].1.iter().map(ToString::to_string).collect();
        assert_eq!((sites[0].0.as_str(), edges), ("blog", vec!["home/borea".to_owned(), "office/ceres".to_owned()]));
        assert!(sites_on(&stack, &borea).is_empty());
        assert_eq!((lines_to(&stack, &atlas), lines_to(&stack, &borea)), (vec!["isp"], vec![]));
    }
}
