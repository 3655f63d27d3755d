use std::path::Path;

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

/// All files, as they are on disk.
fn shown(world: &World) -> String {
    let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
    let orders = Orders::new(&stack);
    let setup = Setup {
        stack: &stack,
        world,
        listen: &["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()],
        identity: "vienna",
        geography: Some(Geography { orders: &orders, table: Path::new("/lib/knot/nearest.mmdb") }),
    };
    let all = files(&setup, Path::new("/lib/knot"), Path::new("/lib/knot/generation-1"));
    assert_eq!(all, files(&setup, Path::new("/lib/knot"), Path::new("/lib/knot/generation-1")));
    all.iter().map(|(name, text)| format!("== {}\n{text}", name.display())).collect()
}

fn without(name: &str) -> World {
    let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
    let mut world = World::default();
    world.away = public_addresses(&stack.datacenters[&name.parse().unwrap()], &world);
    world
}

#[test]
fn the_files_of_a_name_server() {
    insta::assert_snapshot!(shown(&World::default()));
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
