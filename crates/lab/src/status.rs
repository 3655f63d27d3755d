//! How a lab is right now.

use sovereign_incus::Client;
use sovereign_incus::instance;
use sovereign_model::{DatacenterName, HostName};
use std::net::Ipv4Addr;
use tokio::task::JoinSet;

use crate::error::LabError;
use crate::shape::Lab;
use crate::ssh;

/// How a lab is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its hosts, in their order.
    pub hosts: Vec<HostStatus>,
}

/// How a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStatus {
    /// Where it is.
    pub datacenter: DatacenterName,
    /// Which.
    pub name: HostName,
    /// Its address.
    pub address: Ipv4Addr,
    /// What Incus says of it; `None` when it is not there.
    pub power: Option<instance::Status>,
    /// Whether it speaks SSH to this machine.
    pub answers: bool,
}

impl HostStatus {
    /// Whether nothing is wrong with it.
    pub fn is_well(&self) -> bool {
        self.power == Some(instance::Status::Running) && self.answers
    }
}

/// Looks at all hosts at once.
///
/// # Errors
/// When Incus cannot be asked. That a host does not answer is no error.
pub async fn status(incus: &Client, lab: &Lab) -> Result<Status, LabError> {
    let instances = match incus.in_project(lab.project.clone()).instances().await {
        Err(error) if error.is_not_found() => Vec::new(),
        other => other?,
    };
    let mut looking = JoinSet::new();
    for (at, (_, host)) in lab.hosts().enumerate() {
        let address = host.address;
        looking.spawn(async move { (at, ssh::speaks(address).await) });
    }
    let mut answers = vec![false; lab.size()];
    while let Some(looked) = looking.join_next().await {
        if let Ok((at, speaks)) = looked {
            answers[at] = speaks;
        }
    }
    let hosts = lab.hosts().zip(answers).map(|((datacenter, host), answers)| HostStatus {
        datacenter: datacenter.name.clone(),
        name: host.name.clone(),
        address: host.address,
        power: instances.iter().find(|one| one.name == host.instance).map(|one| one.status.clone()),
        answers,
    });
    Ok(Status { hosts: hosts.collect() })
}
