//! Everything Knot is given. Pure: the same inputs give the same files, so that whoever compares them knows whether there
//! is anything to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sovereign_model::names::{Domain, Lan, Names};
use sovereign_model::{DatacenterName, SecondaryName};

use super::{answers, conf, lan};
use crate::geography::nearest::Orders;
use crate::zone::{World, zone};

/// What the files are made of.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'s> {
    /// The domains, the sites and where they are.
    pub names: &'s Names,
    /// Who is counted on.
    pub world: &'s World,
    /// Where questions are taken, by UDP and TCP.
    pub listen: &'s [SocketAddr],
    /// Where this name server stands. So it is called when somebody asks which one it is (RFC 5001).
    pub datacenter: &'s DatacenterName,
    /// The data center's own networks.
    pub lan: Option<&'s Lan>,
    /// The files with the keys of secondaries, each a part of Knot's configuration.
    pub transfer_keys: &'s BTreeMap<SecondaryName, PathBuf>,
    /// Who is nearest to whom; `None` where all are told of all data centers.
    pub geography: Option<Geography<'s>>,
}

/// What a domain's answers differ by, and so which modules Knot has for it.
#[derive(Debug, Clone, Copy)]
pub struct Served<'s> {
    /// The domain.
    pub domain: &'s Domain,
    /// By whether a question comes from the data center's own networks.
    pub by_lan: bool,
    /// By geography.
    pub by_geography: bool,
}

/// What answers by geography need.
#[derive(Debug, Clone, Copy)]
pub struct Geography<'s> {
    /// For each country the order of the data centers.
    pub orders: &'s Orders,
    /// The file with the table of addresses, made with the same orders.
    pub table: &'s Path,
}

/// The name of the configuration's file.
pub const CONF: &str = "knot.conf";
/// The number that zone files carry; Knot counts by itself, from the time.
const SERIAL: u32 = 1;

/// The zone file of a domain, in a generation.
pub fn zone_file(domain: &Domain) -> PathBuf {
    Path::new("zones").join(format!("{}.zone", domain.name))
}

/// The file with a domain's answers by geography, in a generation.
pub fn answers_file(domain: &Domain) -> PathBuf {
    Path::new("answers").join(format!("{}.yaml", domain.name))
}

/// The file with a domain's answers to the data center's own networks, in a generation.
pub fn lan_file(domain: &Domain) -> PathBuf {
    Path::new("lan").join(format!("{}.yaml", domain.name))
}

/// All files of a generation that will lie in `generation`, in a folder of Knot's that is `home`: by their names there.
pub fn files(setup: &Setup<'_>, home: &Path, generation: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut served = Vec::new();
    for domain in &setup.names.domains {
        files.insert(zone_file(domain), zone(setup.names, domain, SERIAL, setup.world).to_string());
        let differing = setup.geography.and_then(|geography| answers::answers(setup, domain, geography.orders));
        let on_lan = lan::answers(setup, domain);
        served.push(Served { domain, by_lan: on_lan.is_some(), by_geography: differing.is_some() });
        files.extend(differing.map(|text| (answers_file(domain), text)));
        files.extend(on_lan.map(|text| (lan_file(domain), text)));
    }
    files.insert(CONF.into(), conf::conf(setup, &served, home, generation));
    files
}
