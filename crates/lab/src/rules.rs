//! What this machine does to packets between data centers: one table of nftables for each lab, made anew from all that is
//! declared and broken whenever that changes, so that no rule is ever left behind.
//!
//! It plays the internet, which loses what is cut, and the [routers](crate::routers) that data centers are behind. Hosts of a
//! data center behind a router are reached by this machine all the same: the operator's machine is at home there.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use sovereign_model::stack::Reach;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::error::LabError;
use crate::fault::{Fault, Target};
use crate::routers::Routers;
use crate::shape::{Lab, LabDatacenter};

/// Tools of the machine's keeper are not on everybody's path.
const NFT: &str = "/usr/sbin/nft";

/// Whether there are any rules: without them nothing is needed to lay networks.
pub(crate) fn has_rules(lab: &Lab) -> bool {
    let is_direct = |datacenter: &LabDatacenter| datacenter.reach == Reach::Direct;
    !lab.datacenters.iter().all(is_direct) || !lab.faults.iter().all(|fault| matches!(fault, Fault::Dead { .. }))
}

/// Removes every rule of a lab's.
pub(crate) async fn forget(lab: &Lab) -> Result<(), LabError> {
    if has_rules(lab) { tell(&clean(lab)).await } else { Ok(()) }
}

/// Makes the rules what the lab says.
pub(crate) async fn apply(lab: &Lab) -> Result<(), LabError> {
    tell(&rules(lab)).await
}

async fn tell(text: &str) -> Result<(), LabError> {
    let failed = |source| LabError::Program { program: "nft", source };
    let mut command = Command::new(NFT);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut nft = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(text.as_bytes()).await.map_err(failed)?;
    }
    let ended = nft.wait_with_output().await.map_err(failed)?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(LabError::Ended { program: "nft", status: ended.status, said })
}

fn table(lab: &Lab) -> String {
    format!("lab_{}", lab.name.as_str().replace('-', "_"))
}

/// Takes all rules of the lab away; whether there are any or not.
fn clean(lab: &Lab) -> String {
    ["inet", "bridge"]
        .map(|family| {
            let table = table(lab);
            format!("add table {family} {table}\ndelete table {family} {table}\n")
        })
        .concat()
}

/// What nftables is told: all rules of the lab, in place of those that were there.
fn rules(lab: &Lab) -> String {
    let table = table(lab);
    let mut routed = String::new();
    let mut bridged = String::new();
    for fault in &lab.faults {
        match fault {
            // Of a closed port its router knows.
            Fault::Dead { .. } | Fault::Closed { .. } => {}
            Fault::Cut { one, other: Some(other) } => {
                for (from, to) in [(one, other), (other, one)] {
                    let rule = format!("ip saddr {} ip daddr {} drop\n", addresses(lab, from), addresses(lab, to));
                    routed.push_str(&rule);
                    bridged.push_str(&rule);
                }
            }
            Fault::Cut { one, other: None } => {
                let both = both_ways(&addresses(lab, one), "drop");
                routed.push_str(&both);
                // Hosts of a data center that is cut off still have each other.
                if matches!(one, Target::Host(_)) {
                    bridged.push_str(&both);
                }
            }
            Fault::Slow { one, kilobytes_per_second: rate } => {
                // What a second's rest lets through at once: a few packets, or nothing would ever start.
                let burst = (rate / 10).max(16);
                let limit = format!("limit rate over {rate} kbytes/second burst {burst} kbytes drop");
                routed.push_str(&both_ways(&addresses(lab, one), &limit));
            }
        }
    }
    let Routers { filter, inward, outward, nowhere } = Routers::of(lab);
    let mut text = clean(lab);
    let chain = |name: &str, kind: &str, rules: &str| {
        if rules.is_empty() {
            String::new()
        } else {
            format!("chain {name} {{ type {kind}; policy accept;\n{rules}}}\n")
        }
    };
    let filters = [
        ("through", "forward", format!("{routed}{filter}{nowhere}")),
        ("to", "output", format!("{routed}{nowhere}")),
        ("from", "input", routed),
    ];
    let mut chains =
        filters.map(|(name, hook, rules)| chain(name, &format!("filter hook {hook} priority -5"), &rules)).concat();
    for (name, hook) in [("inward", "prerouting priority dstnat"), ("inward_from_here", "output priority -100")] {
        chains.push_str(&chain(name, &format!("nat hook {hook}"), &inward));
    }
    chains.push_str(&chain("outward", "nat hook postrouting priority srcnat", &outward));
    // Writing to a text does not fail.
    if !chains.is_empty() {
        let _ = write!(text, "table inet {table} {{\n{chains}}}\n");
    }
    let within = chain("within", "filter hook forward priority -5", &bridged);
    if !within.is_empty() {
        let _ = write!(text, "table bridge {table} {{\n{within}}}\n");
    }
    text
}

fn both_ways(addresses: &str, verdict: &str) -> String {
    format!("ip saddr {addresses} {verdict}\nip daddr {addresses} {verdict}\n")
}

/// The addresses of a target as nftables has them: one, or a network.
fn addresses(lab: &Lab, target: &Target) -> String {
    match target {
        Target::Datacenter(name) => {
            let named = lab.datacenters.iter().find(|datacenter| datacenter.name == *name);
            named.map(LabDatacenter::network).unwrap_or_default()
        }
        Target::Host(_) => lab.hosts_of(target).first().map_or(Ipv4Addr::UNSPECIFIED, |host| host.address).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sovereign_model::Digest;

    use super::*;
    use crate::shape::Shape;

    #[test]
    fn all_rules_come_from_all_faults() {
        let shape = Shape::new("my-lab".parse().unwrap(), 2, 2);
        let mut lab = Lab::plan(&shape, 96, Path::new("/socket"), Digest::of("image")).unwrap();
        assert!(!has_rules(&lab));
        assert_eq!(rules(&lab).matches("chain").count(), 0, "none are left: {}", rules(&lab));
        let target = |name: &str| lab.target(name).unwrap();
        lab.faults = vec![
            Fault::Cut { one: target("home"), other: Some(target("office-2")) },
            Fault::Cut { one: target("home-1"), other: None },
            Fault::Slow { one: target("office"), kilobytes_per_second: 100 },
            Fault::Dead { host: "home-2".parse().unwrap() },
        ];
        insta::assert_snapshot!(rules(&lab));
    }

    #[test]
    fn routers_are_played_where_data_centers_are_behind_one() {
        let shape = Shape {
            forwarded: vec!["home".to_owned()],
            outbound_only: vec!["office".to_owned()],
            ..Shape::new("my-lab".parse().unwrap(), 3, 1)
        };
        let mut lab = Lab::plan(&shape, 96, Path::new("/socket"), Digest::of("image")).unwrap();
        assert!(has_rules(&lab));
        insta::assert_snapshot!(rules(&lab));
        let as_it_was = rules(&lab);
        lab.faults = vec![Fault::Closed { datacenter: "home".parse().unwrap(), port: 80 }];
        let closed = rules(&lab);
        assert!(
            as_it_was.contains("tcp dport 80 dnat") && !closed.contains("dport 80 ") && closed.contains("dport 443")
        );
        lab.datacenters[0].address_changes = 1;
        let moved = rules(&lab);
        assert!(
            !moved.contains("10.96.0.1 ") && moved.contains("10.96.0.9 ") && moved.contains("snat ip to 10.96.0.2")
        );
    }
}
