//! What a lab consists of: decided before anything is made, written down, and read again by whoever removes it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sovereign_incus::{InstanceName, NetworkName, PoolName, ProjectName};
use sovereign_model::stack::Reach;
use sovereign_model::{DatacenterName, Digest, HostName};
use sovereign_runtime::file;

use crate::error::LabError;
use crate::fault::Fault;
use crate::name::LabName;

/// The version of the record.
const VERSION: u32 = 1;

/// What data centers are called, in this order; the first two as in every new stack file.
const DATACENTERS: [&str; 8] = ["home", "office", "cabin", "rack", "barn", "loft", "depot", "harbour"];

/// More hosts than a machine carries.
const MOST_HOSTS: usize = 16;

/// The last part of a first host's address.
const FIRST_HOST: u8 = 11;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The lab's name.
    pub name: LabName,
    /// How many data centers: 1 to 8.
    pub datacenters: usize,
    /// How many hosts in each: 1 to 16.
    pub hosts: usize,
    /// Data centers behind a router that has their address and forwards the ports of a site and a name server.
    pub forwarded: Vec<String>,
    /// Data centers that can only dial out.
    pub outbound_only: Vec<String>,
}

impl Shape {
    /// This many data centers, and hosts in each, all reached directly.
    pub fn new(name: LabName, datacenters: usize, hosts: usize) -> Self {
        Self { name, datacenters, hosts, forwarded: Vec::new(), outbound_only: Vec::new() }
    }

    fn reach(&self, datacenter: &str) -> Reach {
        let is_in = |names: &[String]| names.iter().any(|name| name == datacenter);
        if is_in(&self.outbound_only) {
            Reach::OutboundOnly
        } else if is_in(&self.forwarded) {
            Reach::Forwarded
        } else {
            Reach::Direct
        }
    }
}

/// A lab as it is written down in its folder, in `lab.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    pub(crate) version: u32,
    /// Its name.
    pub name: LabName,
    /// Whose Incus it is on, as it was reached.
    pub incus: PathBuf,
    /// The project that its hosts are in.
    pub project: ProjectName,
    /// The pool that they are stored in.
    pub pool: PoolName,
    /// The image that they were made from.
    pub image: Digest,
    /// Its data centers.
    pub datacenters: Vec<LabDatacenter>,
    /// What was broken on purpose.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// A data center of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabDatacenter {
    /// Its name.
    pub name: DatacenterName,
    /// Its network.
    pub bridge: NetworkName,
    /// The address of this machine in it, which is the way out.
    pub gateway: Ipv4Addr,
    /// How a connection from another data center comes in.
    pub reach: Reach,
    /// How often its router was given another address.
    #[serde(default)]
    pub(crate) address_changes: u8,
    /// Its hosts.
    pub hosts: Vec<LabHost>,
}

/// A host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabHost {
    /// Its name, in all of the lab.
    pub name: HostName,
    /// What it is in Incus.
    pub instance: InstanceName,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Lab {
    /// Decides what the lab is going to consist of.
    ///
    /// # Errors
    /// When that many were not thought of.
    pub(crate) fn plan(shape: &Shape, block: u8, incus: &Path, image: Digest) -> Result<Self, LabError> {
        let Shape { name, datacenters, hosts, forwarded, outbound_only } = shape;
        if !(1..=DATACENTERS.len()).contains(datacenters) || !(1..=MOST_HOSTS).contains(hosts) {
            return Err(LabError::Shape { most_datacenters: DATACENTERS.len(), most_hosts: MOST_HOSTS });
        }
        let known = &DATACENTERS[..*datacenters];
        if let Some(unknown) = forwarded.iter().chain(outbound_only).find(|name| !known.contains(&name.as_str())) {
            let known = known.iter().map(ToString::to_string).collect();
            return Err(LabError::Unknown { name: unknown.clone(), known });
        }
        let made = "names made of a lab's name are names";
        let datacenters = DATACENTERS.iter().zip(1u8..).take(*datacenters).map(|(datacenter, number)| LabDatacenter {
            name: datacenter.parse().expect(made),
            bridge: format!("{name}br{number}").parse().expect(made),
            gateway: Ipv4Addr::new(10, block, number, 1),
            reach: shape.reach(datacenter),
            address_changes: 0,
            hosts: (0u8..)
                .take(*hosts)
                .map(|at| LabHost {
                    name: format!("{datacenter}-{}", at + 1).parse().expect(made),
                    instance: format!("{datacenter}-{}", at + 1).parse().expect(made),
                    address: Ipv4Addr::new(10, block, number, FIRST_HOST + at),
                })
                .collect(),
        });
        Ok(Self {
            version: VERSION,
            name: name.clone(),
            incus: incus.to_owned(),
            project: format!("lab-{name}").parse().expect(made),
            pool: format!("lab-{name}").parse().expect(made),
            image,
            datacenters: datacenters.collect(),
            faults: Vec::new(),
        })
    }

    /// The lab written down in a folder; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer program.
    pub fn read(folder: &Path) -> Result<Option<Self>, LabError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }

        let path = record(folder);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LabError::File { action: "read", path, source }),
            Ok(text) => text,
        };
        let damaged = |source| LabError::Damaged { path: path.clone(), source };
        let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > VERSION {
            return Err(LabError::Newer { path });
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Writes it down.
    ///
    /// # Panics
    /// Never: a lab is JSON.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(self).expect("a lab serializes to JSON");
        let path = record(folder);
        file::replace(&path, &text, 0o600).map_err(|error| LabError::File {
            action: "write",
            path: error.path,
            source: error.source,
        })
    }

    /// All hosts, with their data centers.
    pub fn hosts(&self) -> impl Iterator<Item = (&LabDatacenter, &LabHost)> {
        self.datacenters.iter().flat_map(|datacenter| datacenter.hosts.iter().map(move |host| (datacenter, host)))
    }

    /// How many hosts there are.
    pub fn size(&self) -> usize {
        self.datacenters.iter().map(|datacenter| datacenter.hosts.len()).sum()
    }

    /// Whether it is what is asked for.
    pub(crate) fn is(&self, shape: &Shape) -> bool {
        let same = |datacenter: &LabDatacenter| {
            datacenter.hosts.len() == shape.hosts && datacenter.reach == shape.reach(datacenter.name.as_str())
        };
        self.name == shape.name && self.datacenters.len() == shape.datacenters && self.datacenters.iter().all(same)
    }
}

impl LabDatacenter {
    /// The address that the other data centers see of it, when they do not see its hosts'.
    pub fn public(&self) -> Ipv4Addr {
        let [ten, block, number, _] = self.gateway.octets();
        // Each has a number of its own up to 8, and so in every step.
        Ipv4Addr::new(ten, block, 0, number + 8 * (self.address_changes % 31))
    }

    /// Where routers have their addresses.
    pub(crate) fn internet(&self) -> String {
        let [ten, block, ..] = self.gateway.octets();
        format!("{ten}.{block}.0.0/24")
    }

    /// Its network.
    pub(crate) fn network(&self) -> String {
        let [ten, block, number, _] = self.gateway.octets();
        format!("{ten}.{block}.{number}.0/24")
    }
}

/// Where a lab is written down.
pub(crate) fn record(folder: &Path) -> PathBuf {
    folder.join("lab.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(datacenters: usize, hosts: usize) -> Shape {
        Shape::new(LabName::default(), datacenters, hosts)
    }

    fn plan(datacenters: usize, hosts: usize) -> Result<Lab, LabError> {
        Lab::plan(&shape(datacenters, hosts), 96, Path::new("/run/incus.socket"), Digest::of("image"))
    }

    #[test]
    fn names_and_addresses_are_distinct() {
        let lab = plan(8, 16).unwrap();
        let all: std::collections::BTreeSet<_> = lab.hosts().map(|(_, host)| (&host.name, host.address)).collect();
        assert_eq!((all.len(), lab.size()), (128, 128));
        assert!(lab.datacenters.iter().all(|datacenter| datacenter.bridge.as_str().len() <= 15));
        let (home, first) = lab.hosts().next().unwrap();
        assert_eq!(format!("{} {} {}", home.bridge, first.name, first.address), "labbr1 home-1 10.96.1.11");
        assert!(lab.is(&shape(8, 16)) && !lab.is(&shape(8, 15)));
    }

    #[test]
    fn routers_have_addresses_of_their_own_however_often_they_change() {
        let mut lab = plan(8, 1).unwrap();
        let mut taken = std::collections::BTreeSet::new();
        for changes in 0..31 {
            for datacenter in &mut lab.datacenters {
                datacenter.address_changes = changes;
                assert!(taken.insert(datacenter.public()), "{}", datacenter.public());
            }
        }
    }

    #[test]
    fn more_than_was_thought_of_is_refused() {
        let nowhere = Shape { forwarded: vec!["cabin".to_owned()], ..shape(2, 1) };
        let planned = Lab::plan(&nowhere, 96, Path::new("/run/incus.socket"), Digest::of("image"));
        assert!(matches!(planned, Err(LabError::Unknown { .. })));
        for (datacenters, hosts) in [(0, 1), (1, 0), (9, 1), (1, 17)] {
            assert!(matches!(plan(datacenters, hosts), Err(LabError::Shape { .. })));
        }
    }

    #[test]
    fn what_is_written_down_is_read_again_and_what_is_newer_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lab::read(folder.path()).unwrap(), None);
        let lab = plan(2, 3).unwrap();
        lab.write(folder.path()).unwrap();
        assert_eq!(Lab::read(folder.path()).unwrap(), Some(lab));
        std::fs::write(record(folder.path()), "{\"version\": 2}").unwrap();
        assert!(matches!(Lab::read(folder.path()), Err(LabError::Newer { .. })));
        std::fs::write(record(folder.path()), "{\"version\": 1").unwrap();
        assert!(matches!(Lab::read(folder.path()), Err(LabError::Damaged { .. })));
    }
}
