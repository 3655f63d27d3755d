use proptest::prelude::*;

use super::*;
use crate::facts::Asked;

const ASKED: Asked = Asked { before: 1_000_000.0, after: 1_000_001.0 };

/// A bare Debian 12, as the script tells it.
const GOOD: &str = concat!(
    "Welcome to atlas!\n",
    "sovereign-facts\t1\nclock\t1000000.5\nuid\t0\narchitecture\tx86_64\nkernel\t6.1.0-37-amd64\nos-id\tdebian\n",
    "os-version\t12\nos-codename\tbookworm\nos-name\tDebian GNU/Linux 12 (bookworm)\ncores\t4\nmemory-kib\t8152376\n",
    "disk-free\t52428800000\nsystemd\tyes\nvirtualization\tnone\nclock-synchronized\tyes\nuser-namespaces\tyes\n",
    "cgroup2\tyes\nnftables\tyes\noverlay\tyes\nbtrfs\tyes\ninotify-instances\t128\n",
    "disks\t{\"blockdevices\": [{\"name\":\"sda\",\"path\":\"/dev/sda\",\"size\":64000000000,\"type\":\"disk\",",
    "\"ro\":false,\"fstype\":null,\"pttype\":\"gpt\",\"mountpoints\":[null],\"children\":[{\"path\":\"/dev/sda1\",",
    "\"size\":63000000000,\"type\":\"part\",\"pttype\":\"gpt\",\"fstype\":\"ext4\",\"mountpoints\":[\"/\"]}]},",
    "{\"name\":\"sdb\",\"path\":\"/dev/sdb\",\"size\":\"500000000000\",\"type\":\"disk\",\"ro\":\"0\",\"fstype\":null},",
    "{\"name\":\"sdc\",\"path\":\"/dev/sdc\",\"size\":8000000000,\"type\":\"disk\",\"ro\":false,\"fstype\":\"ext4\"},",
    "{\"name\":\"loop0\",\"path\":\"/dev/loop0\",\"size\":1,\"type\":\"loop\",\"ro\":false}]}\n",
    "device\t/dev/sda\ndevice\t/dev/sdb\ndevice\t/dev/sdc\nsees-ports\tyes\nlistens\ttcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=400,fd=3))\n",
    "listens\tudp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=1,fd=3))\n",
    "ssh-connection\t192.0.2.1 40000 192.0.2.8 22\nend\n"
);

fn required() -> Requirements {
    Requirements {
        stack: "shop".parse().unwrap(),
        seed: "d1638f767c1259aa68167667c4d42a2a".to_owned(),
        datacenter: "home".parse().unwrap(),
        host: "atlas".parse().unwrap(),
        disk: None,
        others: ["borea".parse().unwrap()].into(),
    }
}

fn told(text: &str, required: &Requirements) -> String {
    let found = findings(&Facts::parse(text.as_bytes(), ASKED).unwrap(), required);
    let lines = found.iter().map(|Finding { verdict, subject, sentence, help }| {
        let help = help.as_ref().map_or_else(String::new, |help| format!("\n    {help}"));
        format!("{verdict:?}: {subject}: {sentence}{help}\n")
    });
    lines.collect()
}

fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

/// Only what is not fine.
fn trouble(changes: &[(&str, &str)], required: &Requirements) -> String {
    let mut fine = false;
    let told = told(&with(changes), required);
    let lines = told.lines().filter(|line| {
        if !line.starts_with("    ") {
            fine = line.starts_with("Fine");
        }
        !fine
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn marker(stack: &str, protocol: u32, done: &str) -> String {
    format!(
        "marker\t{{\"protocol\":{protocol},\"stack\":\"{stack}\",\"seed\":\"d1638f767c1259aa68167667c4d42a2a\",\
         \"datacenter\":\"home\",\"host\":\"atlas\",\"done\":[{done}]}}\nend\n"
    )
}

#[test]
fn a_bare_host_is_fine() {
    insta::assert_snapshot!(told(GOOD, &required()));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = with(&[
        ("uid\t0", "uid\t1000"),
        ("x86_64", "aarch64"),
        ("os-id\tdebian", "os-id\tubuntu"),
        ("GNU/Linux 12 (bookworm)", "that is none"),
        ("systemd\tyes", "systemd\tno"),
        ("user-namespaces\tyes", "user-namespaces\tno"),
        ("btrfs\tyes", "btrfs\tno"),
        ("8152376", "500000"),
        ("52428800000", "1000000000"),
        ("clock\t1000000.5", "clock\t996400"),
        ("0.0.0.0:22", "0.0.0.0:80"),
        ("\"sshd\",pid=400,fd=3", "\"nginx\",pid=400,fd=3"),
        ("127.0.0.53%lo:53", "0.0.0.0:53"),
        (
            "end\n",
            "manager\tkubernetes\nmanager\tdocker\nfirewall\tufw\nincus-projects\tdefault web \nincus-server\t\nend\n",
        ),
    ]);
    insta::assert_snapshot!(told(&text, &required()));
}

#[test]
fn whose_it_is_is_looked_at() {
    let said = |changes: &[(&str, &str)]| trouble(changes, &required());
    assert_eq!(said(&[("end\n", &marker("shop", 1, ""))]), "");
    insta::assert_snapshot!(
        [
            said(&[("end\n", &marker("other", 1, ""))]),
            said(&[("end\n", &marker("shop", 2, ""))]),
            said(&[("end\n", "marker\t{}\nend\n")]),
        ]
        .concat()
    );
    // Ours, what Incus has there is no stranger's.
    let ours = format!(
        "incus-pools\tsovereign \nincus-server\t{{\"environment\":{{\"server_version\":\"6.0.4\"}}}}\n{}",
        marker("shop", 1, "\"storage\"")
    );
    assert_eq!(said(&[("end\n", &ours)]), "");
    let open = ours.replace("}}\nmarker", "},\"config\":{\"core.https_address\":\":8443\"}}\nmarker");
    insta::assert_snapshot!(said(&[("end\n", &open)]));
}

#[test]
fn a_disk_is_taken_when_it_is_empty_and_asked_about_when_it_is_not() {
    let said = |disk: &str| {
        let told = told(GOOD, &Requirements { disk: Some(disk.to_owned()), ..required() });
        let mut lines = told.lines().skip_while(|line| !line.contains(": storage: "));
        let first = lines.next().unwrap_or_default().to_owned();
        let help = lines.next().filter(|line| line.starts_with("    ")).unwrap_or_default().to_owned();
        format!("{first}\n{help}\n")
    };
    insta::assert_snapshot!(["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"].map(said).concat());
    // What nobody can read is not empty.
    let unreadable = Facts::parse(with(&[("device\t/dev/sdb\n", "")]).as_bytes(), ASKED).unwrap();
    assert_eq!(unreadable.disk("/dev/sdb"), None);
}

#[test]
fn an_incus_that_is_too_old_is_refused_and_a_clock_that_is_a_little_off_is_told() {
    let old = [("end\n", "package\tincus-base 0.6-2\nend\n")];
    insta::assert_snapshot!(trouble(&old, &required()));
    assert_eq!(trouble(&[("end\n", "package\tincus 1:6.0.4-2+deb13u7\nend\n")], &required()), "");
    insta::assert_snapshot!(trouble(&[("clock\t1000000.5", "clock\t1000012")], &required()));
}

#[test]
fn a_disk_that_is_full_is_in_the_way_and_one_that_sites_have_filled_is_not() {
    let ready = marker("shop", 1, "\"storage\"");
    let free = |bytes: &str, marker: &str| trouble(&[("52428800000", bytes), ("end\n", marker)], &required());
    // Before there is a place for sites' data there must be room for it.
    assert!(free("5000000000", "end\n").starts_with("Refusal: free disk: 4.7 GiB below /var/lib, 8.0 GiB are needed"));
    assert_eq!(free("5000000000", &ready), "");
    assert!(free("1000000000", &ready).starts_with("Refusal: free disk: 0.9 GiB below /var/lib, 2.0 GiB are needed"));
}

#[test]
fn a_text_that_was_cut_off_is_known() {
    for end in 0..GOOD.len() {
        if GOOD.is_char_boundary(end) {
            let facts = Facts::parse(&GOOD.as_bytes()[..end], ASKED);
            assert!(facts.is_err() || GOOD[end..].trim().is_empty(), "{end}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_host_says_is_judged(
        keys in proptest::collection::vec((0..40_usize, ".{0,60}"), 0..30),
        bytes: Vec<u8>,
        disk in proptest::option::of("[a-z/]{0,20}"),
    ) {
        let _ = Facts::parse(&bytes, ASKED);
        // Lines with the keys of the script, and values of anything.
        let names: Vec<&str> = GOOD.lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect();
        let more = ["marker", "incus-server", "incus-pools", "package", "manager", "firewall", "table"];
        let mut text = String::from("sovereign-facts\t1\n");
        for (key, value) in keys {
            let key = names.iter().chain(&more).nth(key % (names.len() + more.len())).unwrap();
            text += &format!("{key}\t{value}\n");
        }
        text += "\nend\n";
        if let Ok(facts) = Facts::parse(text.as_bytes(), ASKED) {
            for finding in findings(&facts, &Requirements { disk, ..required() }) {
                prop_assert!(!finding.sentence.contains('\n') && finding.sentence.chars().all(|c| !c.is_control()));
            }
        }
    }
}

/// What is said of a member whose cluster says this.
fn member(members: &str) -> String {
    let server = r#"{"environment":{"server_version":"6.0.4","server_clustered":true},"config":{"core.https_address":"192.0.2.8:8443"}}"#;
    let lines = format!("incus-clustered\tyes\nincus-server\t{server}\n{members}");
    let text = GOOD.replace("end\n", &format!("{lines}{}", marker("shop", 1, "\"storage\"")));
    let told = told(&text, &required());
    told[told.find("Fine: incus").unwrap()..].to_owned()
}

#[test]
fn a_cluster_is_looked_at() {
    let of = |names: &[(&str, &str)]| {
        let members = names.iter().map(|(name, status)| format!(r#"{{"server_name":"{name}","status":"{status}"}}"#));
        member(&format!("incus-members\t[{}]\n", members.collect::<Vec<_>>().join(",")))
    };
    insta::assert_snapshot!(of(&[("atlas", "Online"), ("borea", "Online")]));
    insta::assert_snapshot!(of(&[("atlas", "Online"), ("borea", "Offline"), ("theirs", "Evacuated")]));
    assert!(
        of(&[("atlas", "Online"), ("borea", "Evacuated")])
            .ends_with("Fine: cluster: members that answer: atlas; evacuated on purpose: borea\n")
    );
    insta::assert_snapshot!(of(&[("atlas", "Online")]));
    insta::assert_snapshot!(member(""));
    // Somebody else's is not taken.
    let text = with(&[("end\n", "incus-clustered\tyes\nincus-server\t\nend\n")]);
    assert!(told(&text, &required()).contains("Refusal: incus: it is in a cluster of Incus that somebody else made"));
}
