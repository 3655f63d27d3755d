use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::ask::walk::Delegation;

/// What is done to what was seen, and what that is called.
type Change = (&'static str, fn(&mut Seen));

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "u"
address = "192.0.2.1"
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "u"
address = "198.51.100.7"
listen = 8444
[[domain]]
name = "example.org"
registrar = "Example Registrar"
records = ["@ TXT \"some-service=1\"", "@ CAA 0 issue \"letsencrypt.org\""]
[[domain]]
name = "example.net"
registrar = "Other Registrar"
provider = "Example DNS"
records = ["@ MX 10 Mx.example.com."]
[[site]]
name = "blog"
app = "ghost"
canonical = "example.org"
names = ["www.example.net"]
primary = "home"
mirrors = ["office"]
"#;

const DS: &str = "19865 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A";
const OTHER_DS: &str = "7 13 2 00124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A";
const KEY: &str = "257 3 13 /xGUKyg/9gowcO/R3Y4ScjhP7VuWS8MWZ6csnZm2mV5HqxC6MNNKPchxVSY0deqvww4+b8jJdN9fz2nhFCcUJw==";

fn wanted(domain: &str) -> Wanted {
    let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
    let signed = Signed { ds: DS.to_owned(), dnskey: KEY.to_owned() };
    Wanted::of(&stack, &stack.domains[&domain.parse().unwrap()], (domain == "example.org").then_some(signed))
}

/// What is seen when everything is as it is wanted.
fn right(wanted: &Wanted) -> Seen {
    let own = wanted.name_servers.iter().map(|server| (server.name.to_string(), server.addresses.clone()));
    let provided = [("ns1.example.com".to_owned(), BTreeSet::from(["203.0.113.1".parse().unwrap()]))];
    let mut servers: BTreeMap<String, BTreeSet<IpAddr>> = own.collect();
    if servers.is_empty() {
        servers.extend(provided);
    }
    let mut sets: BTreeMap<Set, BTreeSet<String>> = wanted
        .questions()
        .into_iter()
        .map(|set| (set.clone(), wanted.sets.get(&set).cloned().unwrap_or_default()))
        .collect();
    let apex_ns = (wanted.domain.to_string(), "NS".to_owned());
    sets.insert(apex_ns, servers.keys().map(|name| format!("{name}.")).collect());
    let keys = wanted.signed.as_ref().map(|signed| (19865, "13".to_owned(), signed.dnskey.clone()));
    let zone =
        SaidZone { serial: 1_790_000_000, keys: Some(keys.into_iter().collect()), sets, unanswered: BTreeSet::new() };
    let said = |(name, addresses): (&String, &BTreeSet<IpAddr>)| SeenServer {
        name: name.clone(),
        address: *addresses.first().unwrap(),
        said: Said::Zone(zone.clone()),
    };
    let answers = servers.iter().map(said).collect();
    let ds = wanted.signed.iter().map(|signed| signed.ds.clone()).collect();
    let parent = Parent::Delegated(Delegation { parent: "org".to_owned(), servers, with_glue: true, ds: Some(ds) });
    Seen { parent, servers: answers }
}

#[test]
fn a_secondary_that_lags_behind_or_is_not_known_is_its_owners_and_the_registrars_to_put_right() {
    let more = "[[secondary]]\nname = \"friend\"\naddresses = [\"203.0.113.53\"]\n\
                [[secondary]]\nname = \"other\"\naddresses = [\"203.0.113.54\"]\nhost = \"ns1.other.example\"\n";
    let stack = sovereign_model::parse("stack.toml", &format!("{STACK}{more}"), Path::new("/")).unwrap();
    let wanted = Wanted::of(&stack, &stack.domains[&"example.org".parse().unwrap()], None);
    let told = |change: fn(&mut Seen)| {
        let mut seen = right(&wanted);
        delegation(&mut seen).ds = Some(BTreeSet::new());
        // Who is called by a name elsewhere has no glue here.
        delegation(&mut seen).servers.insert("ns1.other.example".to_owned(), BTreeSet::new());
        change(&mut seen);
        let drifts = compare(&wanted, &seen);
        let line = |drift: &Drift| format!("{} {}: {}. {}", drift.severity, drift.place, drift.what, drift.help());
        drifts.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told(|_| ()), "");
    let order: Vec<String> = right(&wanted).servers.into_iter().map(|server| server.name).collect();
    assert_eq!(order, ["ns-friend.example.org", "ns-home.example.org", "ns-office.example.org", "ns1.other.example"]);
    insta::assert_snapshot!(told(|seen| {
        zone(seen, 0).serial -= 1;
        delegation(seen).servers.remove("ns1.other.example");
        delegation(seen).servers.remove("ns-friend.example.org");
    }));
    insta::assert_snapshot!(told(|seen| {
        zone(seen, 1).serial -= 1;
        seen.servers[0].said = Said::NotMine("refused".to_owned());
        seen.servers[3].said = Said::Nothing("no answer within 1.5 s".to_owned());
    }));
}

fn delegation(seen: &mut Seen) -> &mut Delegation {
    let Parent::Delegated(delegation) = &mut seen.parent else { panic!("it is delegated") };
    delegation
}

fn zone(seen: &mut Seen, index: usize) -> &mut SaidZone {
    let Said::Zone(zone) = &mut seen.servers[index].said else { panic!("it answers") };
    zone
}

fn set<'s>(seen: &'s mut Seen, index: usize, owner: &str, kind: &str) -> &'s mut BTreeSet<String> {
    zone(seen, index).sets.get_mut(&(owner.to_owned(), kind.to_owned())).unwrap()
}

/// What is said when the world is changed so.
fn said(domain: &str, change: impl Fn(&mut Seen)) -> String {
    let wanted = wanted(domain);
    let mut seen = right(&wanted);
    change(&mut seen);
    let lines = compare(&wanted, &seen)
        .into_iter()
        .map(|drift| format!("{}, {}: {}\n  {}\n", drift.severity, drift.place, drift.what, drift.help()));
    lines.collect()
}

#[test]
fn nothing_is_said_when_all_is_right() {
    assert_eq!(said("example.org", |_| {}), "");
    assert_eq!(said("example.net", |_| {}), "");
}

#[test]
fn what_the_registry_has_is_compared() {
    let changes: [Change; 11] = [
        ("missing name server", |seen| {
            delegation(seen).servers.remove("ns-office.example.org");
        }),
        ("wrong glue", |seen| {
            let glue = delegation(seen).servers.get_mut("ns-home.example.org").unwrap();
            *glue = BTreeSet::from(["192.0.2.99".parse().unwrap()]);
        }),
        ("somebody else, too", |seen| {
            drop(delegation(seen).servers.insert("ns1.old.example".to_owned(), BTreeSet::new()))
        }),
        ("somebody else", |seen| {
            delegation(seen).servers = BTreeMap::from([("ns1.old.example".to_owned(), BTreeSet::new())]);
            delegation(seen).ds = Some(BTreeSet::new());
        }),
        ("somebody else who signs", |seen| {
            delegation(seen).servers = BTreeMap::from([("ns1.old.example".to_owned(), BTreeSet::new())]);
            delegation(seen).ds = Some(BTreeSet::from([OTHER_DS.to_owned()]));
        }),
        ("a digest too early", |seen| {
            delegation(seen).servers = BTreeMap::from([("ns1.old.example".to_owned(), BTreeSet::new())]);
        }),
        ("wrong digest", |seen| delegation(seen).ds = Some(BTreeSet::from([OTHER_DS.to_owned()]))),
        ("no digest", |seen| delegation(seen).ds = Some(BTreeSet::new())),
        ("another digest, too", |seen| {
            delegation(seen).ds.as_mut().unwrap().insert(OTHER_DS.to_owned());
        }),
        ("no key", |seen| zone(seen, 1).keys = Some(Vec::new())),
        ("not registered", |seen| seen.parent = Parent::NoSuchName { zone: "org".to_owned() }),
    ];
    let all: Vec<String> =
        changes.iter().map(|(title, change)| format!("{title}\n{}", said("example.org", change))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_servers_answer_is_compared() {
    let changes: [Change; 8] = [
        ("silent", |seen| seen.servers[0].said = Said::Nothing("no answer within 1.5 s".to_owned())),
        ("lame", |seen| seen.servers[1].said = Said::NotMine("refused".to_owned())),
        ("all silent", |seen| {
            for server in &mut seen.servers {
                server.said = Said::Nothing("no answer within 1.5 s".to_owned());
            }
        }),
        ("old serial", |seen| zone(seen, 0).serial -= 17 * 86_400),
        ("text missing at both", |seen| {
            for index in 0..2 {
                set(seen, index, "example.org", "TXT").retain(|text| !text.contains("some-service"));
            }
        }),
        ("another address", |seen| {
            set(seen, 0, "example.org", "A").insert("203.0.113.66".to_owned());
        }),
        ("no address", |seen| set(seen, 0, "example.org", "A").clear()),
        ("unanswered", |seen| {
            let set = ("example.org".to_owned(), "TXT".to_owned());
            zone(seen, 0).sets.remove(&set);
            zone(seen, 0).unanswered.insert(set);
        }),
    ];
    let all: Vec<String> =
        changes.iter().map(|(title, change)| format!("{title}\n{}", said("example.org", change))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_a_provider_answers_is_compared() {
    let changes: [Change; 6] = [
        ("a dead address is left out", |seen| {
            set(seen, 0, "www.example.net", "A").pop_first();
        }),
        ("something else is there", |seen| {
            set(seen, 0, "example.net", "TXT").insert("\"x\"".to_owned());
        }),
        ("another name", |seen| {
            *set(seen, 0, "www.example.net", "A") = BTreeSet::from([alias("Hosting.example.com.")]);
        }),
        ("signed once", |seen| delegation(seen).ds = Some(BTreeSet::from([OTHER_DS.to_owned()]))),
        ("other servers", |seen| {
            set(seen, 0, "example.net", "NS").insert("ns2.example.com.".to_owned());
        }),
        ("nobody above", |seen| seen.parent = Parent::Silent { zone: String::new() }),
    ];
    let all: Vec<String> =
        changes.iter().map(|(title, change)| format!("{title}\n{}", said("example.net", change))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_a_provider_that_is_told_does_not_have_is_for_the_stack_to_put_right() {
    let wanted = Wanted { told: true, ..wanted("example.net") };
    let help = |wanted: &Wanted, change: &dyn Fn(&mut Seen)| {
        let mut seen = right(wanted);
        change(&mut seen);
        compare(wanted, &seen).first().map(Drift::help)
    };
    let one_is_out = |seen: &mut Seen| {
        set(seen, 0, "www.example.net", "A").pop_first();
    };
    let puts_right = Some("`sovereign up` puts it right, and so does `sovereign tick`".to_owned());
    assert_eq!(help(&wanted, &one_is_out), puts_right);
    assert_eq!(help(&Wanted { living: true, ..wanted.clone() }, &one_is_out), None, "agents tell it who lives");
    let kept = help(&wanted, &|seen| {
        set(seen, 0, "example.net", "MX").insert("20 other.example.com.".to_owned());
    });
    assert!(kept.is_some_and(|kept| kept.starts_with("keep what is yours")));
    assert_eq!(help(&wanted, &|seen| set(seen, 0, "example.net", "MX").clear()), puts_right);
}

#[test]
fn a_wrong_digest_is_said_before_all_else() {
    let said = said("example.org", |seen| {
        set(seen, 0, "example.org", "TXT").clear();
        delegation(seen).servers.pop_first();
        delegation(seen).ds = Some(BTreeSet::from([OTHER_DS.to_owned()]));
    });
    assert!(said.starts_with("vanishes, registrar Example Registrar: org has a DS record, and not"), "{said}");
}

proptest! {
    #[test]
    fn any_of_a_sites_addresses_are_right_as_long_as_there_is_one(
        chosen in proptest::sample::subsequence(vec!["192.0.2.1", "198.51.100.7"], 0..=2), index in 0..2_usize
    ) {
        let addresses: BTreeSet<String> = chosen.iter().map(|&text| text.to_owned()).collect();
        let said = said("example.org", |seen| *set(seen, index, "example.org", "A") = addresses.clone());
        prop_assert_eq!(said.is_empty(), !chosen.is_empty(), "{}", said);
    }

    #[test]
    fn whatever_set_a_server_has_otherwise_is_said_once(index in any::<prop::sample::Index>()) {
        let wanted = wanted("example.org");
        let sets: Vec<Set> = wanted.sets.keys().cloned().collect();
        let (owner, kind) = index.get(&sets);
        let mut seen = right(&wanted);
        for index in 0..2 {
            set(&mut seen, index, owner, kind).insert("something else".to_owned());
        }
        let drifts = compare(&wanted, &seen);
        prop_assert_eq!(drifts.len(), 1);
        let is_it = matches!(&drifts[0].what, What::Differs { owner: found, kind: of, .. } if (found, of) == (owner, kind));
        prop_assert!(is_it, "{:?}", drifts);
        let Place::NameServers(servers) = &drifts[0].place else { panic!("the stack's own") };
        prop_assert_eq!(servers.len(), 2);
    }
}
