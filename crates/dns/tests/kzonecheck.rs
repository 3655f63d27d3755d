//! Zones, judged by Knot's own checker.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use sovereign_dns::zone::{World, public_addresses, zone};
use sovereign_model::names::Names;

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[datacenter.uplink]]
name = "fibre6"
address = "2001:db8::1"
listen = 8443
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "dsl"
address = "198.51.100.7"
port = 9443
[[domain]]
name = "example.org"
registrar = "r"
records = [
    '@ 60 TXT "a; b" "c \" d"',
    'shop CNAME shops.example.net.',
    '_sip._tcp SRV 0 5 5060 sip.example.com.',
    '@ CAA 0 issue ";"',
    'sub NS ns.example.net.',
    'x TYPE65400 \# 3 010203',
]
[[domain]]
name = "example.net"
registrar = "r"
mail = "elsewhere"
records = ["@ MX 10 mx.example.com."]
[[authority]]
name = "letsencrypt"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.org", "a.b.c.example.org", "example.net"]
primary = "home"
mirrors = ["office"]
"#;

#[test]
fn knot_finds_nothing_wrong_with_a_zone() {
    let names = Names::of(&sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap());
    let home = names.place(&"home".parse().unwrap()).unwrap();
    let mut world = World::default();
    for away in [BTreeSet::new(), public_addresses(home, &world)] {
        world.away = away;
        for domain in &names.domains {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            write!(file, "{}", zone(&names, domain, 1, &world)).unwrap();
            let judged = Command::new("kzonecheck")
                .args(["--origin", domain.name.as_str(), "--verbose"])
                .arg(file.path())
                .output()
                .expect("kzonecheck runs");
            let said =
                format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
            assert!(judged.status.success() && !said.contains("warning"), "{}: {said}", domain.name);
        }
    }
}

#[test]
fn knot_finds_something_wrong_where_something_is() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "example.org. 300 IN NS ns.example.org.").unwrap();
    let judged = Command::new("kzonecheck").args(["--origin", "example.org"]).arg(file.path()).output().unwrap();
    assert!(!judged.status.success(), "a zone without a beginning passed");
}
