//! Breaking a lab on purpose: links cut or slowed down, power taken away. All of it is undone by [`heal`].
//!
//! What networks lose is lost on this machine, which is the internet between data centers: by one table of nftables for
//! each lab, made anew from all faults whenever one comes or goes, so that no rule is ever left behind.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sovereign_incus::Client;
use sovereign_incus::instance::Status;
use sovereign_model::{DatacenterName, HostName};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::error::LabError;
use crate::host;
use crate::shape::{Lab, LabHost};

/// Tools of the machine's keeper are not on everybody's path.
const NFT: &str = "/usr/sbin/nft";

/// A data center or a host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// All of a data center.
    Datacenter(DatacenterName),
    /// One host.
    Host(HostName),
}

impl Target {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Datacenter(name) => name.as_str(),
            Self::Host(name) => name.as_str(),
        }
    }
}

/// Something that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing passes between the two; without a second one, between the first and everybody, this machine included.
    Cut {
        /// The one.
        one: Target,
        /// The other.
        other: Option<Target>,
    },
    /// No more than this passes to it, and from it, in a second.
    Slow {
        /// Which.
        one: Target,
        /// How much passes.
        kilobytes_per_second: u32,
    },
    /// A host has no power.
    Dead {
        /// Which.
        host: HostName,
    },
}

impl Fault {
    /// Whether it is that this host has no power.
    pub(crate) fn is_power_of(&self, host: &LabHost) -> bool {
        matches!(self, Self::Dead { host: dead } if *dead == host.name)
    }

    /// Whether a target is the one or the other of it, or a host without power in it.
    fn concerns(&self, lab: &Lab, target: &Target) -> bool {
        match self {
            Self::Cut { one, other } => one == target || other.as_ref() == Some(target),
            Self::Slow { one, .. } => one == target,
            Self::Dead { host } => lab.hosts_of(target).iter().any(|each| each.name == *host),
        }
    }
}

impl Lab {
    /// What in the lab is called so.
    ///
    /// # Errors
    /// When nothing is.
    pub fn target(&self, name: &str) -> Result<Target, LabError> {
        if let Some(datacenter) = self.datacenters.iter().find(|datacenter| datacenter.name.as_str() == name) {
            return Ok(Target::Datacenter(datacenter.name.clone()));
        }
        if let Some((_, host)) = self.hosts().find(|(_, host)| host.name.as_str() == name) {
            return Ok(Target::Host(host.name.clone()));
        }
        let known = self.datacenters.iter().map(|datacenter| datacenter.name.to_string());
        let known = known.chain(self.hosts().map(|(_, host)| host.name.to_string())).collect();
        Err(LabError::Unknown { name: name.to_owned(), known })
    }

    /// The hosts that are meant.
    pub fn hosts_of(&self, target: &Target) -> Vec<&LabHost> {
        let is_meant = |datacenter: &DatacenterName, host: &HostName| match target {
            Target::Datacenter(name) => name == datacenter,
            Target::Host(name) => name == host,
        };
        self.hosts().filter(|(at, host)| is_meant(&at.name, &host.name)).map(|(_, host)| host).collect()
    }
}

/// Breaks something. What was broken in the same way before is broken anew.
///
/// # Errors
/// When it cannot be broken: without root, say.
pub async fn inflict(incus: &Client, lab: &mut Lab, folder: &Path, fault: Fault) -> Result<(), LabError> {
    lab.faults.retain(|other| !is_same(other, &fault));
    lab.faults.push(fault.clone());
    lab.write(folder)?;
    if let Fault::Dead { host } = &fault {
        let within = incus.in_project(lab.project.clone());
        for host in lab.hosts_of(&Target::Host(host.clone())) {
            host::power_off(&within, host).await?;
        }
        return Ok(());
    }
    apply(lab).await
}

fn is_same(fault: &Fault, other: &Fault) -> bool {
    match (fault, other) {
        (Fault::Slow { one, .. }, Fault::Slow { one: other, .. }) => one == other,
        (fault, other) => fault == other,
    }
}

/// Undoes what is broken about a target, or everything. Says what was undone.
///
/// # Errors
/// When it cannot be undone; the rest is.
pub async fn heal(
    incus: &Client,
    lab: &mut Lab,
    folder: &Path,
    target: Option<&Target>,
) -> Result<Vec<Fault>, LabError> {
    let is_meant = |fault: &Fault| target.is_none_or(|target| fault.concerns(lab, target));
    let (healed, left): (Vec<Fault>, Vec<Fault>) = lab.faults.clone().into_iter().partition(is_meant);
    // The network first: what comes back finds it whole. Written down last, so that what fails is tried again.
    let whole = Lab { faults: left, ..lab.clone() };
    apply(&whole).await?;
    let within = incus.in_project(lab.project.clone());
    for (_, host) in lab.hosts().filter(|(_, host)| healed.iter().any(|fault| fault.is_power_of(host))) {
        if within.instance_state(&host.instance).await?.status != Status::Running {
            within.start(&host.instance).await?;
        }
    }
    *lab = whole;
    lab.write(folder)?;
    Ok(healed)
}

/// Removes every rule of a lab's.
pub(crate) async fn forget(lab: &Lab) -> Result<(), LabError> {
    if lab.faults.iter().all(|fault| matches!(fault, Fault::Dead { .. })) {
        return Ok(());
    }
    apply(&Lab { faults: Vec::new(), ..lab.clone() }).await
}

async fn apply(lab: &Lab) -> Result<(), LabError> {
    let failed = |source| LabError::Program { program: "nft", source };
    let mut command = Command::new(NFT);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut nft = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules(lab).as_bytes()).await.map_err(failed)?;
    }
    let ended = nft.wait_with_output().await.map_err(failed)?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(LabError::Ended { program: "nft", status: ended.status, said })
}

/// What nftables is told: all rules of the lab, in place of those that were there.
fn rules(lab: &Lab) -> String {
    let table = format!("lab_{}", lab.name.as_str().replace('-', "_"));
    let mut routed = String::new();
    let mut bridged = String::new();
    for fault in &lab.faults {
        match fault {
            Fault::Dead { .. } => {}
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
    let mut text = format!(
        "add table inet {table}\ndelete table inet {table}\nadd table bridge {table}\ndelete table bridge {table}\n"
    );
    let chain = |name: &str, hook: &str, rules: &str| {
        format!("chain {name} {{ type filter hook {hook} priority -5; policy accept;\n{rules}}}\n")
    };
    // Writing to a text does not fail.
    if !routed.is_empty() {
        let chains: String = [("through", "forward"), ("to", "output"), ("from", "input")]
            .map(|(name, hook)| chain(name, hook, &routed))
            .concat();
        let _ = write!(text, "table inet {table} {{\n{chains}}}\n");
    }
    if !bridged.is_empty() {
        let _ = write!(text, "table bridge {table} {{\n{}}}\n", chain("within", "forward", &bridged));
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
            let gateway = lab.datacenters.iter().find(|datacenter| datacenter.name == *name).map(|at| at.gateway);
            let [a, b, c, _] = gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Target::Host(_) => lab.hosts_of(target).first().map_or(Ipv4Addr::UNSPECIFIED, |host| host.address).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use sovereign_model::Digest;

    use super::*;
    use crate::name::LabName;
    use crate::shape::Shape;

    fn lab() -> Lab {
        let shape = Shape { name: "my-lab".parse::<LabName>().unwrap(), datacenters: 2, hosts: 2 };
        Lab::plan(&shape, 96, Path::new("/socket"), Digest::of("image")).unwrap()
    }

    #[test]
    fn all_rules_come_from_all_faults() {
        let mut lab = lab();
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
    fn names_are_those_of_data_centers_and_hosts() {
        let lab = lab();
        assert_eq!(lab.hosts_of(&lab.target("office").unwrap()).len(), 2);
        assert_eq!(lab.hosts_of(&lab.target("office-2").unwrap())[0].address, Ipv4Addr::new(10, 96, 2, 12));
        let error = lab.target("offic").unwrap_err();
        assert_eq!(error.help().unwrap(), "it has home, office, home-1, home-2, office-1, office-2");
    }

    #[test]
    fn what_concerns_a_target_is_told() {
        let lab = lab();
        let home = lab.target("home").unwrap();
        let dead = Fault::Dead { host: "home-2".parse().unwrap() };
        assert!(dead.concerns(&lab, &home) && dead.concerns(&lab, &lab.target("home-2").unwrap()));
        assert!(!dead.concerns(&lab, &lab.target("home-1").unwrap()));
        let cut = Fault::Cut { one: lab.target("office").unwrap(), other: Some(home.clone()) };
        assert!(cut.concerns(&lab, &home));
    }
}
