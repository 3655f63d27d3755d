//! Which edge: the one of a data center on this machine, or the one of a host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{DatacenterName, HostName, InvalidName, UnitName};

/// An edge of a stack, written `home` where the data center is this machine, and `home/atlas` on a host of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EdgeName {
    /// Where it stands.
    pub datacenter: DatacenterName,
    /// The host it runs on; `None` for this machine.
    pub host: Option<HostName>,
}

impl EdgeName {
    /// The one edge of an embedded data center.
    pub fn here(datacenter: &DatacenterName) -> Self {
        Self { datacenter: datacenter.clone(), host: None }
    }

    /// The edge on a host.
    pub fn on(datacenter: &DatacenterName, host: &HostName) -> Self {
        Self { datacenter: datacenter.clone(), host: Some(host.clone()) }
    }

    /// The unit it runs as.
    ///
    /// # Panics
    /// Never: a label and a data center's name form a unit's name.
    pub fn unit(&self) -> UnitName {
        self.unit_of("edge")
    }

    /// The unit that the agent beside it runs as.
    ///
    /// # Panics
    /// Never, as above.
    pub fn agent(&self) -> UnitName {
        self.unit_of("agent")
    }

    /// The unit that the name server beside it runs as.
    ///
    /// # Panics
    /// Never, as above.
    pub fn name_server(&self) -> UnitName {
        self.unit_of("name-server")
    }

    /// The unit that the renewer beside it runs as.
    ///
    /// # Panics
    /// Never, as above.
    pub fn renewer(&self) -> UnitName {
        self.unit_of("renewer")
    }

    fn unit_of(&self, daemon: &str) -> UnitName {
        let unit = match &self.host {
            None => daemon.to_owned(),
            Some(host) => format!("{daemon}-{host}"),
        };
        UnitName::at(&unit, &self.datacenter).expect("a label and a data center's name form a unit's name")
    }
}

impl fmt::Display for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => f.pad(self.datacenter.as_str()),
            Some(host) => f.pad(&format!("{}/{host}", self.datacenter)),
        }
    }
}

impl FromStr for EdgeName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            None => Ok(Self { datacenter: text.parse()?, host: None }),
            Some((datacenter, host)) => Ok(Self { datacenter: datacenter.parse()?, host: Some(host.parse()?) }),
        }
    }
}

impl TryFrom<String> for EdgeName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<EdgeName> for String {
    fn from(name: EdgeName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (text, unit) in [("home", "edge@home"), ("home/atlas", "edge-atlas@home")] {
            let name: EdgeName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.unit().as_str()), (text, unit));
            assert_eq!(name.agent().as_str(), unit.replace("edge", "agent"));
            assert_eq!(name.name_server().as_str(), unit.replace("edge", "name-server"));
            assert_eq!(name.renewer().as_str(), unit.replace("edge", "renewer"));
        }
        for wrong in ["", "/atlas", "home/", "home/a/b", "Home"] {
            assert!(wrong.parse::<EdgeName>().is_err(), "{wrong}");
        }
    }
}
