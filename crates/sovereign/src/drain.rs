//! Whether readers can do without data centers: what names would lead to, asked of the rules by which name servers answer.
//! Pure.
//!
//! A name server that would have nobody left to name names those that are taken out all the same: a name that leads nowhere
//! helps nobody. So taking out the last one has no effect, and is refused unless the operator insists.

use std::collections::{BTreeMap, BTreeSet};

use sovereign_dns::away::Place;
use sovereign_dns::zone::{World, answering};
use sovereign_model::names::Names;
use sovereign_model::{DatacenterName, DnsName, EdgeName, Stack};

/// Sites that would have nobody else to serve them, each with the name servers that would see it so; none of them where
/// it follows from the stack file.
pub(crate) type Stranded = BTreeMap<String, BTreeSet<EdgeName>>;

/// The sites whose readers would be sent to data centers that are `drained` nevertheless. `views` are the addresses that
/// each name server leaves out because they do not answer; what is in a data center that is taken out is not asked.
pub(crate) fn stranded(
    stack: &Stack,
    drained: &BTreeSet<DatacenterName>,
    views: &BTreeMap<EdgeName, BTreeSet<Place>>,
) -> Stranded {
    let names = Names::of(stack);
    let would_lead_there = |site: &sovereign_model::names::Site, away: &BTreeSet<Place>| {
        let world = World { away: away.clone(), drained: drained.clone(), ..World::default() };
        let led_to = answering(&names, site, &world);
        !led_to.is_empty() && led_to.iter().all(|(place, _)| drained.contains(place))
    };
    let mut all = Stranded::new();
    for site in stack.sites.values() {
        let named = sovereign_model::names::Site::from(site);
        if would_lead_there(&named, &BTreeSet::new()) {
            all.insert(site.name.to_string(), BTreeSet::new());
            continue;
        }
        let staying = views.iter().filter(|(at, _)| !drained.contains(&at.datacenter));
        let seers: BTreeSet<_> =
            staying.filter(|(_, away)| would_lead_there(&named, away)).map(|(at, _)| at.clone()).collect();
        if !seers.is_empty() {
            all.insert(site.name.to_string(), seers);
        }
    }
    all
}

/// Names of sites in domains that somebody else answers for, who does not hear of any of this.
pub(crate) fn answered_elsewhere(stack: &Stack, datacenters: &[DatacenterName]) -> BTreeSet<DnsName> {
    let ours = |name: &DnsName| {
        let within = |domain: &&sovereign_model::stack::Domain| {
            sovereign_model::dns_record::is_within(name.as_str(), domain.name.as_str())
        };
        stack.domains.values().filter(within).any(|domain| domain.provider.is_none())
    };
    let there = stack.sites.values().filter(|site| site.datacenters().any(|place| datacenters.contains(place)));
    there.flat_map(|site| site.all_names()).filter(|name| !ours(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "cable"
address = "198.51.100.1"
listen = 8444
[[datacenter]]
name = "cabin"
[[datacenter.uplink]]
name = "lte"
address = "203.0.113.9"
reach = "outbound-only"
listen = 8445
[[domain]]
name = "example.org"
registrar = "r"
[[domain]]
name = "example.net"
registrar = "q"
provider = "p"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.net"]
primary = "home"
mirrors = ["office", "cabin"]
[[site]]
name = "shop"
app = "ghost"
canonical = "shop.example.org"
primary = "home"
mirrors = ["cabin"]
"#;

    fn stack() -> Stack {
        sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap()
    }

    fn drained(names: &[&str]) -> BTreeSet<DatacenterName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn who_is_the_only_one_that_readers_are_led_to_is_named_with_the_sites() {
        let stack = stack();
        let none = BTreeMap::new();
        let sites = |names: &[&str]| stranded(&stack, &drained(names), &none).into_keys().collect::<Vec<_>>();
        assert_eq!(sites(&["office"]), [""; 0]);
        // A mirror that can only dial out is nobody that a name leads to.
        assert_eq!(sites(&["home"]), ["shop"]);
        assert_eq!(sites(&["home", "office"]), ["blog", "shop"]);
        // Nobody is led there anyway.
        assert_eq!(sites(&["cabin"]), [""; 0]);
    }

    #[test]
    fn what_name_servers_that_stay_hold_for_dead_serves_nobody() {
        let stack = stack();
        let at = |name: &str| name.parse::<EdgeName>().unwrap();
        let dead = |name: &str, address: &str| BTreeSet::from([(name.parse().unwrap(), address.parse().unwrap())]);
        let views = BTreeMap::from([
            (at("home/atlas"), dead("office", "198.51.100.1")),
            (at("cabin/rhea"), dead("office", "198.51.100.1")),
        ]);
        // What the one that is taken out sees does not count: perhaps its line is why it is.
        let all = stranded(&stack, &drained(&["home"]), &views);
        assert_eq!(all["blog"], BTreeSet::from([at("cabin/rhea")]));
        assert_eq!(stranded(&stack, &drained(&["office"]), &views), Stranded::new());
    }

    #[test]
    fn names_that_others_answer_for_are_told_apart() {
        let told = answered_elsewhere(&stack(), &["office".parse().unwrap()]);
        assert_eq!(told.iter().map(DnsName::as_str).collect::<Vec<_>>(), ["www.example.net"]);
    }
}
