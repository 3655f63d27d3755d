use std::path::Path;

use proptest::prelude::*;
use sovereign_model::Stack;
use sovereign_model::dns_record::parse_zone;

use super::*;

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
[[datacenter.uplink]]
name = "cable"
address = "dynamic"
listen = 8444
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "dsl"
address = "198.51.100.7"
port = 9443
[[datacenter]]
name = "cabin"
[[datacenter.uplink]]
name = "lte"
address = "203.0.113.9"
port = 10443
reach = "outbound-only"
[[domain]]
name = "example.org"
registrar = "r"
records = ["@ 60 TXT \"some-service=1\"", "shop CNAME shops.example.net."]
[[domain]]
name = "example.net"
registrar = "q"
provider = "p"
mail = "elsewhere"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.org", "blog.example.net", "elsewhere.example"]
primary = "home"
mirrors = ["office", "cabin"]
[[site]]
name = "lone"
app = "ghost"
canonical = "lone.example.org"
primary = "home"
"#;

fn stack() -> Stack {
    sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap()
}

fn names() -> Names {
    Names::of(&stack())
}

fn of(name: &str) -> Domain {
    Domain::from(&stack().domains[&name.parse().unwrap()])
}

fn name(datacenter: &str) -> DatacenterName {
    datacenter.parse().unwrap()
}

#[test]
fn a_zone_has_what_the_stack_file_says() {
    let names = names();
    let learned = BTreeMap::from([((name("home"), "cable".to_owned()), ["192.0.2.200".parse().unwrap()].into())]);
    let world = World { learned, ..World::default() };
    insta::assert_snapshot!(zone(&names, &of("example.org"), 7, &world), @r#"
    example.org. 300 IN SOA ns-home.example.org. hostmaster.example.org. 7 3600 600 1209600 300
    _dmarc.example.org. 3600 IN TXT "v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s"
    example.org. 30 IN A 192.0.2.1
    example.org. 30 IN A 192.0.2.200
    example.org. 30 IN A 198.51.100.7
    example.org. 30 IN AAAA 2001:db8::1
    example.org. 3600 IN MX 0 .
    example.org. 86400 IN NS ns-home.example.org.
    example.org. 86400 IN NS ns-office.example.org.
    example.org. 60 IN TXT "some-service=1"
    example.org. 60 IN TXT "v=spf1 -all"
    lone.example.org. 30 IN A 192.0.2.1
    lone.example.org. 30 IN A 192.0.2.200
    lone.example.org. 30 IN AAAA 2001:db8::1
    ns-home.example.org. 86400 IN A 192.0.2.1
    ns-home.example.org. 86400 IN AAAA 2001:db8::1
    ns-office.example.org. 86400 IN A 198.51.100.7
    shop.example.org. 3600 IN CNAME shops.example.net.
    www.example.org. 30 IN A 192.0.2.1
    www.example.org. 30 IN A 192.0.2.200
    www.example.org. 30 IN A 198.51.100.7
    www.example.org. 30 IN AAAA 2001:db8::1
    "#);
    let elsewhere = records(&names, &of("example.net"), &World::default());
    let lines: Vec<String> = elsewhere.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    blog.example.net. 30 IN A 192.0.2.1
    blog.example.net. 30 IN A 198.51.100.7
    blog.example.net. 30 IN AAAA 2001:db8::1
    ");
    assert!(names.domain(&"example.net".parse().unwrap()).is_none(), "a provider answers for it");
}

#[test]
fn a_secondary_is_a_name_server_with_glue_only_within_the_domain() {
    let more = "[[secondary]]\nname = \"friend\"\naddresses = [\"203.0.113.53\"]\n\
                [[secondary]]\nname = \"other\"\naddresses = [\"203.0.113.54\"]\nhost = \"ns1.other.example\"\n\
                [[domain]]\nname = \"alone.example\"\nregistrar = \"r\"\nsecondaries = []\n";
    let stack = sovereign_model::parse("stack.toml", &format!("{STACK}{more}"), Path::new("/")).unwrap();
    let names = Names::of(&stack);
    let all = |domain: &str| {
        let domain = names.domain(&domain.parse().unwrap()).unwrap();
        let zone = zone(&names, domain, 7, &World::default());
        let of_servers = |record: &&DnsRecord| record.kind == "NS" || record.owner.starts_with("ns");
        zone.records.iter().filter(of_servers).map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(all("example.org"), @r"
    example.org. 86400 IN NS ns-friend.example.org.
    example.org. 86400 IN NS ns-home.example.org.
    example.org. 86400 IN NS ns-office.example.org.
    example.org. 86400 IN NS ns1.other.example.
    ns-friend.example.org. 86400 IN A 203.0.113.53
    ns-home.example.org. 86400 IN A 192.0.2.1
    ns-home.example.org. 86400 IN AAAA 2001:db8::1
    ns-office.example.org. 86400 IN A 198.51.100.7
    ");
    insta::assert_snapshot!(all("alone.example"), @r"
    alone.example. 86400 IN NS ns-home.alone.example.
    alone.example. 86400 IN NS ns-office.alone.example.
    ns-home.alone.example. 86400 IN A 192.0.2.1
    ns-home.alone.example. 86400 IN AAAA 2001:db8::1
    ns-office.alone.example. 86400 IN A 198.51.100.7
    ");
    let servers = name_servers(&names, &"example.org".parse().unwrap());
    let last = serde_json::to_value(servers.last()).unwrap();
    assert_eq!(last["secondary"], "other");
    assert_eq!(last["addresses"][0], "203.0.113.54");
}

#[test]
fn what_is_away_is_not_answered_unless_everything_is() {
    let (names, domain) = (names(), of("example.org"));
    let home = [(name("home"), "192.0.2.1".parse().unwrap()), (name("home"), "2001:db8::1".parse().unwrap())];
    let mut world = World { away: home.into(), ..World::default() };
    let addresses = |world: &World, owner: &str| -> Vec<String> {
        let all = zone(&names, &domain, 1, world).records;
        let of = all.into_iter().filter(|record| record.owner == owner && matches!(record.kind.as_str(), "A" | "AAAA"));
        of.map(|record| record.data).collect()
    };
    assert_eq!(addresses(&world, "www.example.org"), ["198.51.100.7"]);
    assert_eq!(addresses(&world, "lone.example.org"), ["192.0.2.1", "2001:db8::1"], "it is nowhere else");
    assert_eq!(addresses(&world, "ns-home.example.org"), ["192.0.2.1", "2001:db8::1"], "glue never changes");
    world.away.insert((name("office"), "198.51.100.7".parse().unwrap()));
    assert_eq!(addresses(&world, "www.example.org"), ["192.0.2.1", "198.51.100.7", "2001:db8::1"]);
}

#[test]
fn what_is_taken_out_on_purpose_is_answered_before_the_dead_are() {
    let (names, site) = (names(), &names().sites[0]);
    let there = |world: &World| -> Vec<String> {
        answering(&names, site, world).iter().map(|(_, address)| address.to_string()).collect()
    };
    let mut world = World { drained: [name("home")].into(), ..World::default() };
    assert_eq!(there(&world), ["198.51.100.7"]);
    world.away.insert((name("office"), "198.51.100.7".parse().unwrap()));
    assert_eq!(there(&world), ["192.0.2.1", "2001:db8::1"]);
    world.away.insert((name("home"), "192.0.2.1".parse().unwrap()));
    assert_eq!(there(&world), ["2001:db8::1"]);
    world.away.insert((name("home"), "2001:db8::1".parse().unwrap()));
    assert_eq!(there(&world).len(), 3);
}

#[test]
fn challenges_are_in_the_zone_that_they_are_for() {
    let texts = BTreeSet::from(["b-2".to_owned(), "a_1".to_owned()]);
    let challenges =
        BTreeMap::from([("www.example.org".parse().unwrap(), texts.clone()), ("example.net".parse().unwrap(), texts)]);
    let made = zone(&names(), &of("example.org"), 7, &World { challenges, ..World::default() });
    let lines: Vec<String> = made.records.iter().map(ToString::to_string).collect();
    let found: Vec<&String> = lines.iter().filter(|line| line.contains("_acme-challenge")).collect();
    assert_eq!(
        found,
        ["_acme-challenge.www.example.org. 10 IN TXT \"a_1\"", "_acme-challenge.www.example.org. 10 IN TXT \"b-2\"",]
    );
}

fn away() -> impl Strategy<Value = BTreeSet<(DatacenterName, IpAddr)>> {
    let places = [("home", "192.0.2.1"), ("home", "2001:db8::1"), ("home", "192.0.2.200"), ("office", "198.51.100.7")];
    let places: Vec<_> =
        places.iter().map(|(datacenter, address)| (name(datacenter), address.parse().unwrap())).collect();
    proptest::sample::subsequence(places, 0..=4).prop_map(|away| away.into_iter().collect())
}

proptest! {
    #[test]
    fn a_zone_is_sound_whoever_is_away(away in away(), serial in any::<u32>(), learns in any::<bool>()) {
        let (names, domain) = (names(), of("example.org"));
        let cable = ((name("home"), "cable".to_owned()), BTreeSet::from(["192.0.2.200".parse().unwrap()]));
        let world = World { learned: learns.then_some(cable).into_iter().collect(), away, ..World::default() };
        let made = zone(&names, &domain, serial, &world);
        prop_assert_eq!(&made, &zone(&names, &domain, serial, &world));

        let mut read = parse_zone(&made.to_string(), &domain.name).unwrap();
        prop_assert_eq!(&read, &made.records, "it is read as what it is");
        prop_assert_eq!(made.records.iter().filter(|record| record.kind == "SOA").count(), 1);
        prop_assert!(made.records.iter().all(|record| record.is_within(&domain.name)));
        for (index, record) in made.records.iter().enumerate() {
            for other in &made.records[index + 1..] {
                let same = (&record.owner, &record.kind) == (&other.owner, &other.kind);
                prop_assert!(!same || record.ttl == other.ttl && record.data != other.data);
                prop_assert!(record.owner != other.owner || (record.kind != "CNAME" && other.kind != "CNAME"));
            }
        }
        read.retain(|record| record.owner == "www.example.org");
        prop_assert!(!read.is_empty(), "some address is always answered");
        let dead = |record: &DnsRecord| {
            world.away.iter().any(|(_, address)| address.to_string() == record.data)
        };
        prop_assert!(read.iter().all(dead) || !read.iter().any(dead), "the dead are answered with all or not at all");
    }
}

#[test]
fn only_declared_authorities_may_issue_for_domains_with_sites_and_whom_the_operator_allows() {
    let caa = |more: &str| -> Vec<String> {
        let text =
            format!("{}{more}", STACK.replace("\"shop CNAME", "\"@ CAA 0 issue \\\"other.example\\\"\", \"shop CNAME"));
        let names = Names::of(&sovereign_model::parse("stack.toml", &text, Path::new("/")).unwrap());
        let domain = |name: &str| names.domain(&name.parse().unwrap()).unwrap();
        let bare = zone(&names, domain("bare.example"), 1, &World::default());
        assert!(bare.records.iter().all(|record| record.kind != "CAA"), "it has no site");
        let zone = zone(&names, domain("example.org"), 1, &World::default());
        zone.records.iter().filter(|record| record.kind == "CAA").map(|record| record.data.clone()).collect()
    };
    let bare = "[[domain]]\nname = \"bare.example\"\nregistrar = \"r\"\n";
    let own = "[[authority]]\nname = \"own\"\ndirectory = \"https://ca.example/dir\"\n";
    let (other, wild) = (r#"0 issue "other.example""#, r#"0 issuewild ";""#);
    assert_eq!(caa(bare), [other]);
    assert_eq!(caa(&format!("{bare}{own}")), [r#"0 issue ";""#, other, wild]);
    let known = format!("{bare}{own}[[authority]]\nname = \"letsencrypt\"\n");
    assert_eq!(caa(&known), [r#"0 issue "letsencrypt.org""#, other, wild]);
}
