//! The routers that data centers are behind, as the rules of this machine play them: one address for all hosts, a way in for
//! the ports of sites and names to the first of them, and none for anybody else.
//!
//! As most routers at homes they lead nobody back in who asks for the public address from within, and a router that has
//! another address by now knows nothing of what went over the one before.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use sovereign_model::stack::Reach;

use crate::error::LabError;
use crate::fault::Fault;
use crate::rules::apply;
use crate::shape::{Lab, LabDatacenter};

/// What a router forwards to the first host: sites and the name server.
pub const FORWARDED: [u16; 3] = [53, 80, 443];

/// What routers do to packets, as rules for three places.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routers {
    /// For what this machine passes on.
    pub(crate) filter: String,
    /// For where packets go.
    pub(crate) inward: String,
    /// For where they seem to come from.
    pub(crate) outward: String,
    /// What of the internet is nowhere: for what this machine passes on, and what it sends.
    pub(crate) nowhere: String,
}

impl Routers {
    pub(crate) fn of(lab: &Lab) -> Self {
        let mut routers = Self::default();
        // Writing to a text does not fail.
        for datacenter in lab.datacenters.iter().filter(|datacenter| datacenter.reach != Reach::Direct) {
            let (inside, public) = (datacenter.network(), datacenter.public());
            // What passes within a network is no business of its router's, also where a machine has bridges ask these rules.
            let out = format!("ip saddr {inside} ip daddr != {inside}");
            let _ = writeln!(routers.outward, "{out} snat ip to {public}");
            let dialled = "ct state established ct direction original";
            let _ = writeln!(routers.filter, "{out} {dialled} ct reply ip daddr != {public} drop");
            if let (Reach::Forwarded, Some(first)) = (datacenter.reach, datacenter.hosts.first()) {
                let from = format!("ip saddr != {inside} ip daddr {public}");
                let closed = |port| Fault::Closed { datacenter: datacenter.name.clone(), port };
                for port in FORWARDED.into_iter().filter(|port| !lab.faults.contains(&closed(*port))) {
                    for over in ["tcp", "udp"] {
                        let _ = writeln!(routers.inward, "{from} {over} dport {port} dnat ip to {}", first.address);
                    }
                }
                let led = format!("ip daddr {inside} ct status dnat");
                let _ = writeln!(routers.filter, "{led} ct original ip daddr != {public} drop\n{led} accept");
            }
            let _ = writeln!(routers.filter, "ip saddr != {inside} ip daddr {inside} ct state new drop");
            routers.nowhere = format!("ip daddr {} drop\n", datacenter.internet());
        }
        routers
    }
}

impl Lab {
    /// A data center whose router forwards ports.
    ///
    /// # Errors
    /// When there is none of that name, or it has no such router.
    pub fn forwarding(&self, name: &str) -> Result<&LabDatacenter, LabError> {
        let found = &self.datacenters[self.routed(name)?];
        if found.reach == Reach::Forwarded { Ok(found) } else { Err(LabError::NotRouted { name: name.to_owned() }) }
    }

    /// Which of the data centers has a router and that name.
    fn routed(&self, name: &str) -> Result<usize, LabError> {
        let known = || self.datacenters.iter().map(|datacenter| datacenter.name.to_string()).collect();
        let at = self.datacenters.iter().position(|datacenter| datacenter.name.as_str() == name);
        let at = at.ok_or_else(|| LabError::Unknown { name: name.to_owned(), known: known() })?;
        let is_routed = self.datacenters[at].reach != Reach::Direct;
        if is_routed { Ok(at) } else { Err(LabError::NotRouted { name: name.to_owned() }) }
    }
}

/// Gives a router another address, as providers do by night: what went over the one before ends. Says which.
///
/// # Errors
/// When the data center has no router, or this cannot be done: without root, say.
pub async fn readdress(lab: &mut Lab, folder: &Path, name: &str) -> Result<Ipv4Addr, LabError> {
    let at = lab.routed(name)?;
    let datacenter = &mut lab.datacenters[at];
    datacenter.address_changes = datacenter.address_changes.wrapping_add(1);
    let public = datacenter.public();
    lab.write(folder)?;
    apply(lab).await?;
    Ok(public)
}

#[cfg(test)]
mod tests {
    use sovereign_model::Digest;

    use super::*;
    use crate::shape::Shape;

    #[test]
    fn what_has_no_router_is_told() {
        let shape = Shape {
            forwarded: vec!["home".to_owned()],
            outbound_only: vec!["office".to_owned()],
            ..Shape::new("my-lab".parse().unwrap(), 3, 1)
        };
        let lab = Lab::plan(&shape, 96, Path::new("/socket"), Digest::of("image")).unwrap();
        assert_eq!(lab.forwarding("home").unwrap().public(), Ipv4Addr::new(10, 96, 0, 1));
        assert!(lab.routed("office").is_ok());
        for name in ["office", "cabin"] {
            assert!(matches!(lab.forwarding(name), Err(LabError::NotRouted { .. })), "{name}");
        }
        assert!(matches!(lab.routed("rack"), Err(LabError::Unknown { .. })));
    }
}
