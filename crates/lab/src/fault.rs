//! Breaking a lab on purpose: links cut or slowed down, power taken away. All of it is undone by [`heal`].
//!
//! What networks lose is lost on this machine, which is the internet between data centers: see [`rules`](crate::rules).

use std::path::Path;

use serde::{Deserialize, Serialize};
use sovereign_incus::Client;
use sovereign_incus::instance::Status;
use sovereign_model::{DatacenterName, HostName};

use crate::error::LabError;
use crate::host;
use crate::rules::apply;
use crate::shape::{Lab, LabHost};

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
    /// A router does not forward a port any more.
    Closed {
        /// The data center behind it.
        datacenter: DatacenterName,
        /// Which, by TCP and UDP.
        port: u16,
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
            Self::Closed { datacenter, .. } => matches!(target, Target::Datacenter(name) if name == datacenter),
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sovereign_model::Digest;

    use super::*;
    use crate::shape::Shape;

    fn lab() -> Lab {
        let shape = Shape::new("my-lab".parse().unwrap(), 2, 2);
        Lab::plan(&shape, 96, Path::new("/socket"), Digest::of("image")).unwrap()
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
        let closed = Fault::Closed { datacenter: "home".parse().unwrap(), port: 53 };
        assert!(closed.concerns(&lab, &home) && !closed.concerns(&lab, &lab.target("office").unwrap()));
    }
}
