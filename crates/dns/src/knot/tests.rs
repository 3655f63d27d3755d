use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sovereign_model::SecondaryName;
use sovereign_model::names::{Lan, Names};

use super::files::{Geography, Setup, files};
use crate::geography::nearest::Orders;
use crate::zone::{World, public_addresses};

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "vienna"
location = { latitude = 48.2, longitude = 16.4 }
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[datacenter.uplink]]
name = "fibre6"
address = "2001:db8::1"
listen = 8443
[[datacenter]]
name = "denver"
location = { latitude = 39.7, longitude = -105.0 }
[[datacenter.uplink]]
name = "dsl"
address = "198.51.100.7"
listen = 9443
[[domain]]
name = "example.org"
registrar = "r"
[[domain]]
name = "example.net"
registrar = "r"
provider = "p"
[[secondary]]
name = "friend"
addresses = ["203.0.113.53", "2001:db8::53"]
[[secondary]]
name = "other"
addresses = ["203.0.113.54"]
host = "ns1.other.example"
notify = ["203.0.113.55:5353"]
key = "theirs"
algorithm = "hmac-sha512"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.net"]
primary = "vienna"
mirrors = ["denver"]
[[site]]
name = "lone"
app = "ghost"
canonical = "lone.example.org"
primary = "denver"
"#;

fn names() -> Names {
    Names::of(&sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap())
}

fn transfer_keys() -> BTreeMap<SecondaryName, PathBuf> {
    let key = |name: &str| (name.parse().unwrap(), Path::new("/lib").join(name).with_extension("conf"));
    [key("friend"), key("other")].into()
}

/// All files, as they are on disk.
fn shown(world: &World) -> String {
    shown_with(world, None)
}

/// The same of a name server whose data center has a LAN.
fn shown_with(world: &World, lan: Option<Lan>) -> String {
    let names = names();
    let orders = Orders::new(&names);
    let setup = Setup {
        names: &names,
        world,
        listen: &["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()],
        datacenter: &"vienna".parse().unwrap(),
        lan: lan.as_ref(),
        transfer_keys: &transfer_keys(),
        geography: Some(Geography { orders: &orders, table: Path::new("/lib/knot/nearest.mmdb") }),
    };
    let all = files(&setup, Path::new("/lib/knot"), Path::new("/lib/knot/generation-1"));
    assert_eq!(all, files(&setup, Path::new("/lib/knot"), Path::new("/lib/knot/generation-1")));
    all.iter().map(|(name, text)| format!("== {}\n{text}", name.display())).collect()
}

fn without(name: &str) -> World {
    let mut world = World::default();
    world.away = public_addresses(names().place(&name.parse().unwrap()).unwrap(), &world);
    world
}

#[test]
fn the_files_of_a_name_server() {
    insta::assert_snapshot!(shown(&World::default()));
}

#[test]
fn the_owner_of_a_secondary_configures_the_other_side() {
    let names = names();
    let texts = names.secondaries.iter().map(|secondary| super::copy::conf(&names, secondary, "c2VjcmV0"));
    insta::assert_snapshot!(texts.collect::<Vec<_>>().join("---\n"));
}

#[test]
fn a_lan_is_led_to_hosts_for_sites_that_are_there() {
    let lan = Lan {
        networks: vec!["192.168.1.0/24".parse().unwrap(), "2001:db8:7::/64".parse().unwrap()],
        edges: ["192.168.1.5", "192.168.1.6", "2001:db8:7::5"].map(|ip| ip.parse().unwrap()).into(),
    };
    let text = shown_with(&World::default(), Some(lan.clone()));
    let only = |name: &str| text.split("== ").find_map(|file| file.strip_prefix(name)).unwrap_or_default().to_owned();
    insta::assert_snapshot!(only("lan/example.org.yaml\n"), @r#"
    example.org:
      - net: "192.168.1.0/24"
        A: [ "192.168.1.5", "192.168.1.6" ]
        AAAA: [ "2001:db8:7::5" ]
      - net: "2001:db8:7::/64"
        A: [ "192.168.1.5", "192.168.1.6" ]
        AAAA: [ "2001:db8:7::5" ]
    "#);
    let conf = only("knot.conf\n");
    assert!(conf.contains("module: [ mod-geoip/example.org_lan, mod-geoip/example.org ]"), "{conf}");
    // Where the others are gone nobody is nearer, and the LAN is what it is; taken out on purpose, it is led elsewhere too.
    let alone = shown_with(&without("denver"), Some(lan.clone()));
    assert!(alone.contains("module: [ mod-geoip/example.org_lan ]"), "{alone}");
    let drained = World { drained: BTreeSet::from(["vienna".parse().unwrap()]), ..World::default() };
    assert_eq!(shown_with(&drained, Some(lan)), shown(&drained));
}

#[test]
fn where_one_data_center_is_left_nothing_differs_by_geography() {
    let left = shown(&without("vienna"));
    assert!(!left.contains("mod-geoip") && !left.contains("answers/"), "{left}");
    assert!(left.contains("\nexample.org. 30 IN A 198.51.100.7\n") && !left.contains("30 IN A 192.0.2.1"), "{left}");
}

#[test]
fn when_all_look_dead_all_are_answered() {
    let mut world = without("vienna");
    world.away.extend(without("denver").away);
    assert_eq!(shown(&world), shown(&World::default()));
}

/// The addresses of a line `    A: [ "192.0.2.1" ]`.
fn addresses(line: &str) -> BTreeSet<IpAddr> {
    line.split('"').skip(1).step_by(2).map(|address| address.parse().unwrap()).collect()
}

proptest! {
    /// Of whoever is away and wherever a question comes from: nobody who is away is answered while somebody is there, and
    /// what is answered is of one data center, the first in the order that has an address of the kind.
    #[test]
    fn every_class_is_led_to_its_first_data_center_that_is_there(away in prop::collection::vec(any::<bool>(), 6)) {
        let three = ["vienna", "denver", "sydney"];
        let mut text = "version = 1\n[stack]\nname = \"s\"\n".to_owned();
        let places = [(48.2, 16.4), (39.7, -105.0), (-33.9, 151.2)];
        for (at, (name, (latitude, longitude))) in three.iter().zip(places).enumerate() {
            text += &format!(
                "[[datacenter]]\nname = \"{name}\"\nlocation = {{ latitude = {latitude:?}, longitude = {longitude:?} }}\n\
                 [[datacenter.uplink]]\nname = \"a\"\naddress = \"192.0.2.{at}\"\nlisten = {}\n\
                 [[datacenter.uplink]]\nname = \"b\"\naddress = \"2001:db8::{at}\"\nlisten = {}\n",
                8000 + at,
                9000 + at
            );
        }
        text += "[[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n[[site]]\nname = \"blog\"\napp = \"ghost\"\n\
                 canonical = \"example.org\"\nprimary = \"vienna\"\nmirrors = [\"denver\", \"sydney\"]\n";
        let names = Names::of(&sovereign_model::parse("stack.toml", &text, Path::new("/")).unwrap());
        let all = |name: &str| public_addresses(names.place(&name.parse().unwrap()).unwrap(), &World::default());
        let every: Vec<_> = three.iter().flat_map(|name| all(name)).collect();
        let away: BTreeSet<_> =
            every.iter().zip(&away).filter(|(_, is_away)| **is_away).map(|(place, _)| place.clone()).collect();
        let there: Vec<_> = every.iter().filter(|place| away.len() == every.len() || !away.contains(*place)).collect();
        let world = World { away: away.clone(), ..World::default() };
        let orders = Orders::new(&names);
        let domain = names.domain(&"example.org".parse().unwrap()).unwrap();
        let geography = Geography { orders: &orders, table: Path::new("/t") };
        let setup = Setup {
            names: &names,
            world: &world,
            listen: &[],
            datacenter: &"vienna".parse().unwrap(),
            lan: None,
            transfer_keys: &BTreeMap::new(),
            geography: Some(geography),
        };
        let Some(answers) = super::answers::answers(&setup, domain, &orders) else {
            let left: BTreeSet<_> = there.iter().map(|(name, _)| name).collect();
            prop_assert!(left.len() < 2);
            return Ok(());
        };
        let blocks: Vec<&str> = answers.split("  - geo: \"").skip(1).collect();
        prop_assert_eq!(blocks.len(), orders.classes().len());
        for (order, block) in orders.classes().iter().zip(blocks) {
            let class = order.to_string() + "\"";
            prop_assert!(block.starts_with(&class), "{}", block);
            for (kind, is_v4) in [("    A: ", true), ("    AAAA: ", false)] {
                let given = block.lines().find(|line| line.starts_with(kind)).map(addresses).unwrap_or_default();
                let of = |name: &str| -> BTreeSet<IpAddr> {
                    let its = there.iter().filter(|(place, ip)| place.as_str() == name && ip.is_ipv4() == is_v4);
                    its.map(|(_, ip)| *ip).collect()
                };
                let in_order = order.datacenters().iter().map(|name| of(name.as_str()));
                prop_assert_eq!(given, in_order.into_iter().find(|its| !its.is_empty()).unwrap_or_default());
            }
        }
    }
}
