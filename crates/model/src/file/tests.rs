//! Tests of the stack file's parser.

use std::path::Path;

use super::*;
use crate::interval::Interval;
use crate::keep_rules::KeepRules;
use crate::stack::{AdminReach, App, Archive, Mail, Reach, UplinkAddress};

fn parse_here(text: &str) -> Result<Stack, Problems> {
    parse("stack.toml", text, Path::new("/srv/stack"))
}

fn messages(text: &str) -> Vec<String> {
    parse_here(text).expect_err("the file is wrong").problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn the_default_file_is_a_stack_of_two_data_centers_and_a_blog() {
    let stack = parse_here(default_file()).unwrap();
    assert_eq!(stack.name.as_str(), "my-stack");
    let [home, office] = ["home", "office"].map(|name| &stack.datacenters[&name.parse().unwrap()]);
    assert_eq!((home.port(), office.port()), (8443, 8444));
    assert_eq!(home.hosts[0].name.as_str(), "local");
    assert_eq!(home.uplinks[0].reach, Reach::Direct);
    assert_eq!(home.uplinks[0].address, UplinkAddress::Fixed("127.0.0.1".parse().unwrap()));
    let blog = &stack.sites[&"blog".parse().unwrap()];
    assert_eq!(blog.app, App::Ghost);
    assert_eq!(blog.canonical.to_string(), "https://blog.localhost:8443");
    assert_eq!(blog.admin, AdminReach::Public);
    assert_eq!(blog.mirrors.len(), 1);
}

#[test]
fn what_the_default_file_shows_in_comments_is_right_too() {
    // Prose lines are told from shown TOML by their `=` or `[`.
    let shown: String = default_file()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => format!("{rest}\n"),
            Some(_) => "\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    let stack = parse_here(&shown).unwrap();
    assert_eq!(stack.sites.len(), 2);
    assert_eq!(stack.sites[&"www".parse().unwrap()].app, App::Static { folder: "/srv/stack/public".into() });
    assert_eq!(stack.domains.len(), 1);
    assert_eq!(stack.archive.folder.as_deref(), Some(Path::new("/srv/archive")));
    assert_eq!(stack.archive.keep, KeepRules::default());
}

#[test]
fn rules_that_are_left_out_have_their_defaults() {
    let keep = |archive: &str| parse_here(&format!("{}\n{archive}", default_file())).map(|stack| stack.archive.keep);
    let default = KeepRules::default();
    for same in ["", "[archive]", "[archive]\nkeep = {}", "[archive.keep]"] {
        assert_eq!(keep(same).unwrap(), default, "{same}");
    }
    assert_eq!(keep("[archive]\nkeep = { daily = 0, last = 9 }").unwrap(), KeepRules { daily: 0, last: 9, ..default });
    let one = KeepRules { yearly: 1, ..KeepRules::NOTHING };
    let table = "[archive.keep]\nlast = 0\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 1";
    assert_eq!(keep(table).unwrap(), one);
}

#[test]
fn backups_have_their_hours_unless_others_are_named() {
    let archive = |text: &str| parse_here(&format!("{}\n{text}", default_file())).map(|stack| stack.archive);
    for same in ["", "[archive]", "[archive]\nevery = \"360m\"\nprove = \"weekly\""] {
        let copies = archive(same).unwrap().copies;
        assert_eq!(archive(same).unwrap(), Archive { copies, ..Archive::default() }, "{same}");
    }
    let never = archive("[archive]\nevery = \"never\"\nprove = \"1d\"").unwrap();
    assert_eq!((never.every, never.prove), (Interval::NEVER, Interval::seconds(86_400)));
    let problems = archive("[archive]\nevery = \"6 hours\"\nprove = \"1m\"").unwrap_err().problems;
    let said: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said, [r#""6 hours" is not an interval"#, r#""1m" is out of bounds"#]);
    assert!(problems.iter().all(|problem| problem.help.is_some()));
}

#[test]
fn every_problem_with_the_rules_is_reported() {
    let head = "version = 1\n[stack]\nname = \"a\"\n[[datacenter]]\nname = \"home\"\n[[datacenter.uplink]]\nname = \"a\"\n\
                address = \"127.0.0.1\"\nport = 8443\n";
    let problems = |keep: &str| -> Vec<(String, String)> {
        let problems = parse_here(&format!("{head}[archive]\nkeep = {keep}\n")).unwrap_err().problems;
        assert!(problems.iter().all(|problem| problem.line == 11 && problem.help.is_some()), "{problems:?}");
        problems.into_iter().map(|problem| (problem.text, problem.message)).collect()
    };
    let said = |text: &str, message: &str| (text.to_owned(), message.to_owned());
    assert_eq!(
        problems("{ last = -1, hourli = 3, daily = \"7\", weekly = 1.5, monthly = 10001 }"),
        [
            said("-1", "`last` is out of range: -1"),
            said("hourli", "unknown key `hourli` in keep"),
            said("\"7\"", "`daily` must be a whole number, found a string"),
            said("1.5", "`weekly` must be a whole number, found a float"),
            said("10001", "`monthly` is out of range: 10001"),
        ]
    );
    let none = "{ last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0 }";
    assert_eq!(problems(none), [said(none, "these rules would keep nothing")]);
    assert_eq!(problems("\"all\""), [said("\"all\"", "`keep` must be a table, found a string")]);
}

/// Two data centers, the first the primary of a site.
const HOME_AND_OFFICE: &str = "version = 1\n[stack]\nname = \"a\"\n\
    [[datacenter]]\nname = \"office\"\n[[datacenter.uplink]]\nname = \"a\"\naddress = \"127.0.0.1\"\nport = 8444\n\
    [[datacenter]]\nname = \"home\"\n[[datacenter.uplink]]\nname = \"a\"\naddress = \"127.0.0.1\"\nport = 8443\n\
    [[site]]\nname = \"www\"\napp = \"static\"\nfolder = \"public\"\ncanonical = \"www.localhost\"\nprimary = \"home\"\n";

#[test]
fn without_a_word_the_archive_is_copied_to_where_no_site_is_written() {
    let copies = |more: &str| -> Vec<String> {
        let stack = parse_here(&format!("{HOME_AND_OFFICE}{more}")).unwrap();
        stack.archive.copies.iter().map(|copy| format!("{}: {}", copy.name, copy.at)).collect()
    };
    assert_eq!(copies(""), ["office: data center office"]);
    assert_eq!(copies("[archive]\nfolder = \"/srv/archive\"\n"), ["office: data center office"]);
    assert_eq!(copies("[archive]\ncopy = []\n"), [""; 0]);
    assert_eq!(copies("[[archive.copy]]\nname = \"nas\"\nfolder = \"nas\"\n"), ["nas: /srv/stack/nas"]);
    let second =
        "[[site]]\nname = \"b\"\napp = \"static\"\nfolder = \"b\"\ncanonical = \"b.localhost\"\nprimary = \"office\"\n";
    assert_eq!(
        copies(second),
        ["office: data center office", "home: data center home"],
        "each site's is elsewhere too"
    );
    let alone = HOME_AND_OFFICE.replace(
        "[[datacenter]]\nname = \"office\"\n[[datacenter.uplink]]\nname = \"a\"\naddress = \"127.0.0.1\"\nport = 8444\n",
        "",
    );
    assert_eq!(parse_here(&alone).unwrap().archive.copies, []);
}

#[test]
fn every_problem_with_copies_is_reported() {
    let key = "host-key = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5\"";
    let problems = |copies: &[&str]| -> Vec<String> {
        let copies: Vec<_> = copies
            .iter()
            .enumerate()
            .map(|(index, copy)| format!("[[archive.copy]]\nname = \"c{index}\"\n{copy}\n"))
            .collect();
        let archive = format!("[archive]\nfolder = \"/srv/archive\"\n{}", copies.join(""));
        let problems = parse_here(&format!("{HOME_AND_OFFICE}{archive}")).unwrap_err().problems;
        assert!(problems.iter().all(|problem| problem.line > 19 && problem.help.is_some()), "{problems:#?}");
        problems.into_iter().map(|problem| problem.message).collect()
    };
    assert_eq!(problems(&[""]), ["this copy is nowhere"]);
    assert_eq!(
        problems(&["folder = \"/a\"\nsftp = \"me@nas/a\"", "disk = \"1234-ABCD\"", "folder = \"/a\"\nkey = \"/k\""]),
        [
            "this copy is in two places: `sftp` and `folder`",
            "a copy over SFTP needs `key`",
            "a copy over SFTP needs `host-key`",
            "a copy on a disk needs `folder`",
            "`key` is for a copy over SFTP",
        ]
    );
    assert_eq!(
        problems(&[
            "disk = \"1234-ABCD\"\nfolder = \"../a\"",
            "disk = \"sda1\"\nfolder = \"a\"",
            "datacenter = \"attic\"",
            &format!("sftp = \"me@nas\"\nkey = \"~/k\"\n{key}"),
            "folder = \"/srv/archive/copy\"",
            "folder = \"/b\"",
            "folder = \"/b\"",
            "folder = \"/c\"\ndisc = \"1234-ABCD\"",
        ]),
        [
            "\"../a\" is no folder on a disk",
            "\"sda1\" is not the UUID of a file system",
            "there is no data center `attic`",
            "\"me@nas\" is not a folder of an SFTP host",
            "`~` has no meaning here",
            "a copy and the archive cannot lie in each other",
            "the copy at /b is declared twice",
            "unknown key `disc` in [[archive.copy]]",
        ]
    );
    assert_eq!(
        problems(&[
            "datacenter = \"home\"\nformat = \"duplicity\"",
            "folder = \"/d\"\nfull = \"weekly\"",
            "folder = \"/e\"\nformat = \"duplicity\"\nfull = \"now and then\"",
            "folder = \"/f\"\nformat = \"borg\"",
        ])
        .len(),
        4
    );
    let twice = "[[archive.copy]]\nname = \"a\"\nfolder = \"/a\"\n[[archive.copy]]\nname = \"a\"\nfolder = \"/b\"\n";
    assert_eq!(messages(&format!("{HOME_AND_OFFICE}{twice}")), ["copy `a` is declared twice"]);
}

#[test]
fn a_site_of_any_kind_goes_to_hosts_by_one_word() {
    for app in
        ["app = \"static\"\nfolder = \"public\"", "app = \"upstream\"\naddress = \"192.0.2.9:3000\"", "app = \"ghost\""]
    {
        let on = |engine: &str, host: &str| {
            let text = format!(
                "version = 1\n[stack]\nname = \"shop\"\n[[datacenter]]\nname = \"home\"\nengine = \"{engine}\"\n\
                 [[datacenter.uplink]]\nname = \"fibre\"\naddress = \"192.0.2.1\"\n{host}[[site]]\nname = \"leaf\"\n\
                 {app}\ncanonical = \"leaf.test\"\nprimary = \"home\"\n"
            );
            parse_here(&text).unwrap().sites.remove(&"leaf".parse().unwrap()).unwrap()
        };
        let host = "[[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.1\"\n";
        assert_eq!(on("embedded", ""), on("incus", host), "{app}");
    }
}

const MISTAKES: &str = r##"version = 1
colour = "red"

[stack]
nmae = "shop"

[[datacenter]]
name = "home"
engine = "incus"
location = { latitude = 147.3, longitude = 8.5 }
jurisdiction = "Switzerland"
port = 8443

[[datacenter.uplink]]
name = "fibre"
address = "127.0.0.1:8443"
port = "8443"

[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "cable"
address = "127.0.0.1"
port = 8444
reach = "outbond-only"
[[datacenter.uplink]]
name = "cable"
address = "dynamic"
port = 99999

[[datacenter]]
name = "office"

[[domain]]
name = "example.org"
registrar = "A"
[[domain]]
name = "example.org"
registrar = ""

[[site]]
name = "Blog"
app = "ghost"
folder = "./files"
canonical = "blog_.example.org"
names = ["https://example.org", "example.org.", "b.example.org", "b.example.org", 7]
primary = "hmoe"
mirrors = ["office", "office", "attic"]
admin = true

[site.settings]
language = "e"
accent-color = "red"
timezone = "Europe/"
private = "no"

[[site]]
name = "www"
app = "static"
canonical = "b.example.org"
primary = "office"
mirrors = ["office"]

[archive]
folder = "~/archive"
"##;

#[test]
fn every_problem_is_reported_at_once() {
    insta::assert_snapshot!(parse_here(MISTAKES).unwrap_err());
}

#[test]
fn problems_are_json_too() {
    let problems = parse_here("version = 1\nverison = 2\n").unwrap_err();
    insta::assert_json_snapshot!(problems);
}

#[test]
fn colors_add_nothing_but_colors() {
    let problems = parse_here(MISTAKES).unwrap_err();
    let colored = problems.render(Style::Color);
    assert!(colored.contains("\x1b[1;31merror\x1b[0m"));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        rest = after.split_once('m').unwrap().1;
    }
    assert_eq!(plain + rest, problems.render(Style::Plain));
}

#[test]
fn broken_toml_is_reported_with_what_it_cannot_have_caused() {
    insta::assert_snapshot!(parse_here(
        "version = 1\n[stack]\nname = \"a\nnmae = 3\n\n[[site]]\nap = \"x\"\nname = \"b\" \"c\"\nname = \"b\"\n[stack]\n"
    )
    .unwrap_err());
}

#[test]
fn a_newer_file_is_only_called_newer() {
    insta::assert_snapshot!(parse_here("version = 2\nplanet = \"mars\"\n").unwrap_err(), @r#"
    error: this file has version 2 of the format, newer than this binary
     --> stack.toml:1:11
      |
    1 | version = 2
      |           ^
      = help: this sovereign reads version 1: use a newer sovereign

    error: 1 problem in stack.toml
    "#);
}

#[test]
fn an_empty_file_lacks_everything() {
    assert_eq!(messages(""), ["`version` is missing", "[stack] is missing", "[[datacenter]] is missing"]);
}

#[test]
fn two_data_centers_cannot_share_a_socket() {
    let file = |first: &str, second: &str| {
        format!(
            "version = 1\n[stack]\nname = \"s\"\n\
             [[datacenter]]\nname = \"a\"\n[[datacenter.uplink]]\nname = \"u\"\naddress = \"{first}\"\nport = 8443\n\
             [[datacenter]]\nname = \"b\"\n[[datacenter.uplink]]\nname = \"u\"\naddress = \"{second}\"\nport = 8443\n"
        )
    };
    let taken = ["port 8443 is used twice on this machine"];
    assert_eq!(messages(&file("127.0.0.1", "127.0.0.1")), taken);
    assert_eq!(messages(&file("dynamic", "127.0.0.1")), taken, "a wildcard takes the port everywhere");
    assert_eq!(messages(&file("192.0.2.1", "192.0.2.2")), taken, "both listen at the wildcard");
    assert!(parse_here(&file("127.0.0.1", "127.0.0.2")).is_ok());
    assert_eq!(messages(&file("0.0.0.0", "127.0.0.1"))[0], "nobody can connect to 0.0.0.0");
}

#[test]
fn a_mirror_needs_a_link() {
    let text = default_file().replace("port =", "reach = \"outbound-only\"\nport =");
    assert_eq!(messages(&text), ["`home` and `office` cannot reach each other: both can only dial out"]);
}

#[test]
fn a_misread_name_makes_no_other_name_unknown() {
    let text = default_file().replacen("name = \"home\"", "name = \"Home\"", 1);
    assert_eq!(messages(&text), [r#""Home" contains 'H'; allowed are a-z, 0-9 and '-'"#]);
}

#[test]
fn crlf_tabs_and_unicode_keep_their_columns() {
    let problems = parse_here("version = 1\r\n[stack]\r\n\tname = \"grüß\" # ö\r\n\tü = 1\r\n").unwrap_err().problems;
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column, p.text.as_str(), p.source.as_str())).collect();
    assert_eq!(places[0], (3, 9, "\"grüß\"", "\tname = \"grüß\" # ö"));
    assert_eq!((places[1].0, places[1].1), (4, 2));
}

/// The schema's patterns promise nothing that the parser refuses.
#[test]
fn what_matches_a_pattern_has_the_form() {
    use form::Form;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for form in
        [Form::Label { most: 63 }, Form::HostName, Form::Jurisdiction, Form::Language, Form::Timezone, Form::Color]
    {
        let pattern = form.pattern().unwrap();
        // The generator knows neither anchors nor the look-ahead that bounds the length.
        let bare = pattern.trim_start_matches('^').trim_end_matches('$');
        let bare = bare.split_once("$)").map_or(bare, |(_, rest)| rest);
        let texts = proptest::string::string_regex(bare).unwrap();
        runner
            .run(&texts, |text| {
                let short = text.len() <= 63;
                // Four numbers have the form of a host name too, and are refused as an address.
                let named = text.parse::<std::net::IpAddr>().is_err();
                proptest::prop_assert!(!short || !named || form.check(&text).is_ok(), "{form:?} {text:?}");
                Ok(())
            })
            .unwrap();
    }
}

/// The values that hold when nothing is said are written twice, in the format and in the type.
#[test]
fn the_defaults_of_the_format_are_those_of_its_types() {
    let small = "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\n\
                 [[datacenter.uplink]]\nname = \"u\"\naddress = \"127.0.0.1\"\n";
    let spelt_out = format!("{small}[edge]\n[edge.limits]\n");
    let rules = |text: &str| parse_here(text).unwrap().edge;
    assert_eq!(rules(small), crate::edge_rules::EdgeRules::default());
    assert_eq!(rules(&spelt_out), crate::edge_rules::EdgeRules::default());
}

#[test]
fn what_is_said_of_edges_must_make_sense() {
    let file = |datacenter: &str, uplink: &str, site: &str| {
        format!(
            "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\n{datacenter}\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\n{uplink}\n\
             [[site]]\nname = \"x\"\napp = \"ghost\"\ncanonical = \"x.example\"\nprimary = \"a\"\n{site}\n"
        )
    };
    assert_eq!(messages(&file("", "http = 443", "")), ["port 443 is used twice on this machine"]);
    assert_eq!(messages(&file("metrics = 443", "", "")), ["port 443 is used twice on this machine"]);
    assert_eq!(messages(&file("", "", "keep = \"budget\"")), ["`keep = \"budget\"` without a `budget`"]);
    assert_eq!(messages(&file("", "", "dump = [\"pg_dump\"]")), ["a `ghost` site has no `dump`"]);
    parse_here(&file("metrics = 9464", "http = 80\nlisten = 8443", "budget = \"1 GB\"")).unwrap();
}

#[test]
fn a_mirror_needs_a_line_that_one_of_the_two_can_dial() {
    let at = |name: &str, address: &str, reach: &str| {
        format!(
            "[[datacenter]]\nname = \"{name}\"\nengine = \"incus\"\n[[datacenter.uplink]]\nname = \"u\"\n\
             address = \"{address}\"\nreach = \"{reach}\"\n[[datacenter.host]]\nname = \"h\"\naddress = \"10.0.0.5\"\n"
        )
    };
    let site = "[[site]]\nname = \"x\"\napp = \"ghost\"\ncanonical = \"x.example\"\nprimary = \"home\"\nmirrors = [\"cabin\"]\n";
    let said = |[home, cabin]: [(&str, &str); 2]| {
        let places = at("home", home.0, home.1) + &at("cabin", cabin.0, cabin.1);
        let text = format!("version = 1\n[stack]\nname = \"s\"\n{places}{site}");
        parse_here(&text).map_or_else(|_| messages(&text).join("; "), |_| "good".to_owned())
    };
    let (changes, out, fixed) = (("dynamic", "forwarded"), ("dynamic", "outbound-only"), ("192.0.2.1", "forwarded"));
    let direct = ("dynamic", "direct");
    let why = |why: &str| format!("`home` and `cabin` cannot reach each other: {why}");
    assert_eq!(said([out, out]), why("both can only dial out"));
    assert_eq!(said([changes, changes]), why("the addresses of both change"));
    assert_eq!(said([changes, out]), why("one can only dial out, and the address of the other changes"));
    for pair in [[fixed, out], [changes, fixed], [out, direct], [direct, changes]] {
        assert_eq!(said(pair), "good");
    }
}

#[test]
fn networks_of_a_data_center_are_its_hosts_own() {
    let file = |lan: &str, uplink: &str| {
        format!(
            "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\nengine = \"incus\"\n{lan}\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\n{uplink}\n\
             [[datacenter.host]]\nname = \"h\"\naddress = \"192.168.1.5\"\n"
        )
    };
    let good = "lan = [\"192.168.1.0/24\", \"10.0.0.0/8\"]";
    let stack = parse_here(&file(good, "")).unwrap();
    assert_eq!(stack.datacenters.values().next().unwrap().lan.len(), 2);
    let bad = "lan = [\"192.168.1.5/24\", \"0.0.0.0/0\", \"192.168.1.0\"]";
    insta::assert_snapshot!(
        [
            messages(&file(bad, "")),
            messages(&file("lan = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", "")),
            messages(&file(good, "listen = 8443")),
        ]
        .concat()
        .join("\n"),
        @r#"
    "192.168.1.5/24" begins in the midst of a network
    "0.0.0.0/0" is every address
    "192.168.1.0" is not a network
    no host has an address in `lan`
    this network is there twice
    who is on the LAN asks a host for port 443, and its edge listens at 8443
    "#
    );
    let behind_a_proxy = format!("{good}\nproxy = {{ speaks = \"http\", from = [\"192.168.1.5\"] }}");
    parse_here(&file(&behind_a_proxy, "listen = 8443")).unwrap();
}

#[test]
fn records_of_the_operator_stand_beside_those_of_the_stack() {
    let file = |domain: &str| {
        format!(
            "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\n\
             [[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n{domain}\n\
             [[site]]\nname = \"x\"\napp = \"ghost\"\ncanonical = \"www.example.org\"\nprimary = \"a\"\n"
        )
    };
    let good =
        r#"records = ["@ TXT \"a; b\"", "shop 60 CNAME shops.example.net.", "www TXT beside", "sub NS ns.else."]"#;
    let stack = parse_here(&file(good)).unwrap();
    let domain = stack.domains.values().next().unwrap();
    assert_eq!((domain.records.len(), domain.mail), (4, Mail::None));
    let mail = |text: &str| parse_here(&file(text)).unwrap().domains.values().next().unwrap().mail;
    assert_eq!(mail(r#"records = ["@ MX 10 mx.example.net."]"#), Mail::Elsewhere);
    assert_eq!(mail(r#"records = ["@ TXT \"v=spf1 include:x.example -all\""]"#), Mail::Elsewhere);
    assert_eq!(mail(r#"records = ["old MX 10 mx.example.net."]"#), Mail::None);
    assert_eq!(mail("mail = \"elsewhere\""), Mail::Elsewhere);

    insta::assert_snapshot!(
        messages(&file(
            r#"mail = "none"
records = ["@ MX 10 mx.example.net.", "@ A 1.2.3", "t TXT half;lost", "@ SOA a. b. 1 2 3 4 5", "@ NS ns.else.",
    "example.net. A 192.0.2.1", "@ CNAME other.", "www A 192.0.2.1", "ns-a A 192.0.2.1", "x CNAME y", "x A 192.0.2.2",
    "d TXT one", "d TXT one", "b DNSKEY 257 3 13 AAAA", "e A 192.0.2.3", "e CNAME y", ""]"#
        ))
        .join("\n"),
        @r#"
        `mail = "none"` beside a record about mail, MX
        this is not a record of a zone file: expected IPv4 address
        what follows the `;` is a comment, and would be lost
        SOA records of `example.org` are kept by the stack
        NS records of `example.org` are kept by the stack
        `example.net` is not within `example.org`
        `example.org` cannot be another name for something
        `www.example.org` is a name of site `x`
        `ns-a.example.org` is the name server of data center `a`
        `x.example.org` is another name for something, and has records of its own
        this record is there twice
        DNSKEY records of `b.example.org` are kept by the stack
        `e.example.org` is another name for something, and has records of its own
        this cannot be empty
        "#
    );
    assert_eq!(
        messages(&file(r#"records = ["www NS ns.else.", "org NS x."]"#)),
        ["`www.example.org` of site `x` would be somebody else's to answer"]
    );
    let dropped = parse_here(&file(r#"drop = ["@ MX", "old txt"]"#)).unwrap();
    let dropped: Vec<String> =
        dropped.domains.values().flat_map(|domain| &domain.drop).map(ToString::to_string).collect();
    assert_eq!(dropped, ["example.org. MX", "old.example.org. TXT"]);
    assert_eq!(
        messages(&file(r#"drop = ["@ MX", "@ MX", "old", "old WHAT", "example.net. TXT"]"#)),
        [
            "this is there twice",
            "this is not a name and a type of records",
            "`WHAT` is not a type of records",
            "`example.net` is not within `example.org`"
        ]
    );
    let nested = "[[domain]]\nname = \"sub.example.org\"\nregistrar = \"r\"";
    assert_eq!(messages(&file(nested)), ["`sub.example.org` is within domain `example.org`"]);
}

#[test]
fn authorities_are_asked_in_the_order_of_the_file() {
    let file = |text: &str| {
        format!(
            "version = 1\n[stack]\nname = \"s\"\n[[datacenter]]\nname = \"a\"\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\n{text}\n"
        )
    };
    assert!(parse_here(&file("")).unwrap().authorities.is_empty());
    let good = r#"
[[authority]]
name = "own"
directory = "https://ca.example.org/dir"
roots = "ca.pem"
[[authority]]
name = "letsencrypt"
profile = "shortlived""#;
    let authorities = parse_here(&file(good)).unwrap().authorities;
    let names: Vec<&str> = authorities.iter().map(|authority| authority.name.as_str()).collect();
    assert_eq!(names, ["own", "letsencrypt"]);
    assert_eq!((authorities[0].roots.as_deref(), &authorities[0].caa), (Some(Path::new("/srv/stack/ca.pem")), &None));
    let caa = authorities[1].caa.as_ref().unwrap();
    assert_eq!((authorities[1].profile.as_deref(), caa.as_str()), (Some("shortlived"), "letsencrypt.org"));

    let bad = r#"
[[authority]]
name = "letsencrypt"
directory = "https://ca.example.org/dir"
[[authority]]
name = "own"
[[authority]]
name = "other"
directory = "http://ca.example.org/dir"
[[authority]]
name = "third"
directory = "https://acme-v02.api.letsencrypt.org/directory"
[[authority]]
name = "letsencrypt""#;
    insta::assert_snapshot!(
        messages(&file(bad)).join("\n"),
        @r#"
    what `directory` of "letsencrypt" is, is known
    `directory` is missing in [[authority]]
    "http://ca.example.org/dir" is not the address of a directory
    this authority is declared twice
    this authority is declared twice
    authority `letsencrypt` is declared twice
    "#
    );
}

#[test]
fn secondaries_are_told_apart_and_have_somebody_to_copy_from() {
    let file = |uplink: &str, text: &str| {
        format!(
            "version = 1\n[stack]\nname = \"shop\"\n[[datacenter]]\nname = \"home\"\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"{uplink}\"\n{text}\n"
        )
    };
    let friend = "[[secondary]]\nname = \"friend\"\naddresses = [\"203.0.113.53\", \"2001:db8::53\"]\n";
    let domains = "[[domain]]\nname = \"a.example\"\nregistrar = \"r\"\n\
                   [[domain]]\nname = \"b.example\"\nregistrar = \"r\"\nsecondaries = []\n\
                   [[domain]]\nname = \"c.example\"\nregistrar = \"r\"\nprovider = \"p\"\n";
    let stack = parse_here(&file("192.0.2.1", &format!("{friend}{domains}"))).unwrap();
    let known = &stack.secondaries[0];
    assert_eq!((known.key.as_str(), known.algorithm.as_str()), ("friend.shop", "hmac-sha256"));
    assert_eq!(known.server(&"a.example".parse().unwrap()).unwrap().as_str(), "ns-friend.a.example");
    let places: Vec<String> = known.notify.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["203.0.113.53:53", "[2001:db8::53]:53"]);
    let of_domains: Vec<usize> = stack.domains.values().map(|domain| domain.secondaries.len()).collect();
    assert_eq!(of_domains, [1, 0, 0]);

    let bad = r#"
[[secondary]]
name = "home"
addresses = ["203.0.113.53"]
key = "k.example"
[[secondary]]
name = "friend"
addresses = ["203.0.113.54", "0.0.0.0", "friend.example"]
key = "k.example"
algorithm = "hmac-md5"
[[secondary]]
name = "friend"
addresses = ["203.0.113.55"]
notify = ["203.0.113.55"]
[[domain]]
name = "a.example"
registrar = "r"
secondaries = ["freind", "friend", "friend"]
records = ["ns-friend A 203.0.113.9"]
[[domain]]
name = "b.example"
registrar = "r"
provider = "p"
secondaries = ["friend"]"#;
    insta::assert_snapshot!(messages(&file("192.0.2.1", bad)).join("\n"));
    insta::assert_snapshot!(messages(&file("dynamic", friend)).join("\n"));
    let taken = "[[domain]]\nname = \"a.example\"\nregistrar = \"r\"\nrecords = [\"ns-friend A 203.0.113.9\"]\n";
    assert_eq!(
        messages(&file("192.0.2.1", &format!("{friend}{taken}"))),
        ["`ns-friend.a.example` is the name server of secondary `friend`"]
    );
}

#[test]
fn providers_are_told_in_one_way_and_named_by_a_domain() {
    let file = |text: &str| {
        format!(
            "version = 1\n[stack]\nname = \"shop\"\n[[datacenter]]\nname = \"home\"\n\
             [[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\n{text}\n"
        )
    };
    let domain = |name: &str, provider: &str| {
        format!("[[domain]]\nname = \"{name}\"\nregistrar = \"r\"\nprovider = \"{provider}\"\n")
    };
    let domains = domain("a.example", "there") + &domain("b.example", "Somebody Else") + &domain("c.example", "desec");
    let there =
        "[[provider]]\nname = \"there\"\nkind = \"rfc2136\"\nserver = \"203.0.113.53:53\"\nkey = \"k.example\"\n";
    let desec = "[[provider]]\nname = \"desec\"\nkind = \"desec\"\n";
    let stack = parse_here(&file(&format!("{domains}{there}{desec}"))).unwrap();
    let told: Vec<_> = stack.domains.values().map(|domain| stack.told(domain).map(ToString::to_string)).collect();
    assert_eq!(told, [Some("there (rfc2136)".to_owned()), None, Some("desec (desec)".to_owned())]);

    let bad = r#"
[[provider]]
name = "tehre"
kind = "rfc2136"
algorithm = "hmac-md5"
[[provider]]
name = "desec"
kind = "cloudflare"
server = "203.0.113.53:53"
key = "k.example"
[[provider]]
name = "desec"
kind = "bind"
[[provider]]
name = "nobody"
kind = "desec"
token = "secret""#;
    insta::assert_snapshot!(messages(&file(&format!("{domains}{bad}"))).join("\n"));
}
