use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::facts::{Incus, Protocol};
use crate::ready::{FILTER_UNIT, PORT};

const SERVICE: &str = "sovereign-shop.edge.home.0123456789ab.service";
const ALIAS: &str = "sovereign-shop.edge.home.service";
const BEFORE: &str = "sovereign-shop.edge.home.ba9876543210.service";
const EDGE: &str = "/var/lib/sovereign/shop/home/edge";
const AGENT: &str = "/var/lib/sovereign/shop/home/agent";
const NAME_SERVER: &str = "/var/lib/sovereign/shop/home/name-server";
const RENEWER: &str = "/var/lib/sovereign/shop/home/renewer";
const MANAGEMENT: &str = "ssh-ed25519 AAAA sovereign:shop:management";

fn program() -> (PathBuf, Digest) {
    let digest = Digest::of("program");
    (sovereign_model::layout::on_host::program(&digest), digest)
}

fn wanted() -> Wanted {
    let file = |name: &str, text: &str| UnitFile { name: name.to_owned(), text: text.to_owned() };
    Wanted {
        host: "home/atlas".to_owned(),
        units: vec![
            file(FILTER_UNIT.0, FILTER_UNIT.1),
            file(SERVICE, "[Service]\nProtectHome=yes\nProtectSystem=strict\n"),
            file("sovereign-instances.service", "[Unit]\n"),
        ],
        may_lack: BTreeSet::from(["sovereign-instances.service".to_owned()]),
        services: vec![Service {
            unit: "edge@home".to_owned(),
            name: SERVICE.to_owned(),
            alias: ALIAS.to_owned(),
            program: program(),
        }],
        sockets: vec!["0.0.0.0:443".parse().unwrap(), "[::1]:9100".parse().unwrap()],
        authorized: Authorized {
            management: MANAGEMENT.to_owned(),
            recovery: "ssh-ed25519 BBBB sovereign:shop:recovery".to_owned(),
        },
        comments: "sovereign:shop:".to_owned(),
        state: "/var/lib/sovereign/shop".into(),
        edge: EDGE.into(),
        agent: AGENT.into(),
        name_server: NAME_SERVER.into(),
        renewer: RENEWER.into(),
        asked: Vec::new(),
        open_before: Some(vec![listener(Protocol::Tcp, 8080, None, "wiki")]),
        peers: BTreeSet::new(),
        instances: Some("table inet sovereign_instances {}\n".to_owned()),
    }
}

fn listener(protocol: Protocol, port: u16, address: Option<&str>, owner: &str) -> Listener {
    Listener { protocol, port, address: address.map(|a| a.parse().unwrap()), owners: vec![owner.to_owned()] }
}

fn facts() -> Facts {
    Facts {
        ssh_port: Some(22),
        address: Some("192.0.2.8".parse().unwrap()),
        listeners: Some(vec![
            listener(Protocol::Tcp, 22, None, "sshd"),
            listener(Protocol::Tcp, 443, None, "systemd"),
            listener(Protocol::Tcp, 9100, Some("::1"), "sovereign"),
            listener(Protocol::Tcp, 8080, None, "wiki"),
            listener(Protocol::Tcp, 5432, Some("127.0.0.1"), "postgres"),
            listener(Protocol::Tcp, 53, Some("10.64.0.1"), "dnsmasq"),
            listener(Protocol::Udp, 67, None, "dnsmasq"),
            listener(Protocol::Udp, 68, None, "dhclient"),
        ]),
        incus: Some(Incus { version: "6.0.4".to_owned(), ..Incus::default() }),
        ..Facts::default()
    }
}

/// What the script says of a host that is as it should be.
fn said() -> String {
    said_by(&facts(), &wanted())
}

fn said_by(facts: &Facts, wanted: &Wanted) -> String {
    let (path, digest) = program();
    let (path, digest) = (path.display().to_string(), digest.hex());
    let mut text = String::from("Welcome to atlas!\nsovereign-audit\t1\ntable\tinet sovereign\ntable\tbridge incus\n");
    for (key, more) in [("loaded", " "), ("wanted", "   ")] {
        let _ = writeln!(text, "{key}\tinet sovereign\ttable inet sovereign {{");
        let _ = writeln!(text, "{key}\tinet sovereign\t{more}tcp dport 22 accept\n{key}\tinet sovereign\t}}");
    }
    text.push_str("compares\tyes\n");
    for (file, rules) in wanted.rules(facts) {
        for line in rules.lines() {
            let _ = writeln!(text, "at-boot\t{file}\t{line}");
        }
    }
    let show = |unit: &str, active: &str, enabled: &str| {
        format!(
            "show\t{unit}\tFragmentPath=/etc/systemd/system/{unit}\nshow\t{unit}\tDropInPaths=\n\
             show\t{unit}\tNeedDaemonReload=no\nshow\t{unit}\tActiveState={active}\nshow\t{unit}\tUnitFileState={enabled}\n"
        )
    };
    for line in FILTER_UNIT.1.lines() {
        let _ = writeln!(text, "text\t{}\t{line}", FILTER_UNIT.0);
    }
    for line in ["[Service]", "ProtectHome=yes", "ProtectSystem=strict"] {
        let _ = writeln!(text, "text\t{SERVICE}\t{line}");
    }
    let _ = writeln!(text, "text\t{BEFORE}\t[Service]\nlink\t{ALIAS} /etc/systemd/system/{SERVICE}");
    text += &(show(FILTER_UNIT.0, "active", "enabled") + &show(SERVICE, "active", "enabled"));
    text += &(show(BEFORE, "inactive", "disabled") + &format!("runs\t{SERVICE} {digest} {path}\n"));
    let folder = path.trim_end_matches("/sovereign");
    for line in [
        "755 root root d /opt/sovereign",
        &format!("755 root root d {folder}"),
        &format!("755 root root f {path}"),
        "755 root root d /etc/sovereign",
        "644 root root f /etc/sovereign/host.json",
        "755 root root d /var/lib/sovereign",
        "755 root root d /var/lib/sovereign/shop",
        "755 root root d /var/lib/sovereign/shop/home",
        &format!("750 root sovereign d {EDGE}"),
        &format!("640 root sovereign f {EDGE}/key.pem"),
        &format!("700 sovereign sovereign d {EDGE}/store"),
        "755 root root d /root/.ssh",
        "600 root root f /root/.ssh/authorized_keys",
    ] {
        let _ = writeln!(text, "file\t{line}");
    }
    let _ = writeln!(text, "program\t{digest} {path}\nauthorized\t# me\nauthorized\t{MANAGEMENT}");
    text + "authorized\tssh-ed25519 BBBB sovereign:shop:recovery\nend\n"
}

fn told(facts: &Facts, text: &str, wanted: &Wanted) -> String {
    let (_, found) = inside(facts, &Seen::parse(text.as_bytes()).unwrap(), wanted);
    found
        .iter()
        .map(|Finding { verdict, subject, sentence, .. }| format!("{verdict} | {subject} | {sentence}\n"))
        .collect()
}

fn bad(facts: &Facts, text: &str, wanted: &Wanted) -> String {
    told(facts, text, wanted).lines().filter(|line| !line.starts_with("fine")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn files_of_sites_are_as_they_were_sent() {
    let files = format!("{EDGE}/files");
    let more = format!(
        "file\t750 root sovereign d {files}\nfile\t750 root sovereign d {files}/leaf\nfile\t750 root sovereign d {files}/leaf/1f\nend\n"
    );
    let right = said().replace("end\n", &more);
    assert_eq!(bad(&facts(), &right, &wanted()), "");
    let changed = right.replace("end\n", &format!("changed\t{files}/leaf/1f\nend\n"));
    assert_eq!(
        bad(&facts(), &changed, &wanted()),
        format!("drift | files | the files in {files}/leaf/1f are not as they were sent\n")
    );
    let open =
        right.replace(&format!("750 root sovereign d {files}/leaf\n"), &format!("755 root root d {files}/leaf\n"));
    assert_eq!(
        bad(&facts(), &open, &wanted()),
        format!("drift | files | {files}/leaf is 0755 root:root, and should be 0750 root:sovereign\n")
    );
}

#[test]
fn certificates_of_public_authorities_are_read_by_root_and_edges_alone() {
    let public = format!("{EDGE}/public");
    let more =
        format!("file\t750 root sovereign d {public}\nfile\t640 root sovereign f {public}/www.example.org.pem\nend\n");
    let right = said().replace("end\n", &more);
    assert_eq!(bad(&facts(), &right, &wanted()), "");
    let open = right.replace(&format!("640 root sovereign f {public}"), &format!("644 root sovereign f {public}"));
    assert_eq!(
        bad(&facts(), &open, &wanted()),
        format!(
            "drift | files | {public}/www.example.org.pem is 0644 root:sovereign, and should be 0640 root:sovereign\n"
        )
    );
}

#[test]
fn a_host_as_it_should_be() {
    insta::assert_snapshot!(told(&facts(), &said(), &wanted()));
}

/// Each thing that somebody might change is named, and nothing else is.
#[test]
fn what_was_changed_is_named() {
    let at = |from: &str, to: &str| {
        let text = said();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let more = |line: &str| at("end\n", &format!("{line}\nend\n"));
    let cases = [
        ("rules", at("loaded\tinet sovereign\t tcp dport 22", "loaded\tinet sovereign\t tcp dport 4444")),
        ("a table less", said().replace("loaded\tinet sovereign\t", "nothing\tinet sovereign\t")),
        ("a table more", more("loaded\tinet sovereign_more\ttable")),
        ("another's table", more("table\tinet filter")),
        (
            "rules for the next start",
            at(
                "        tcp dport 80 accept\n",
                "        tcp dport 80 accept\nat-boot\t/etc/sovereign/nftables.conf\ttcp dport 4444 accept\n",
            ),
        ),
        ("no rules for the next start", said().replace("at-boot\t/etc/sovereign/instances.nft", "nothing\t")),
        ("no comparison", at("compares\tyes\n", "")),
        ("a weaker unit", at("ProtectHome=yes", "ProtectHome=no")),
        (
            "no unit",
            at(&format!("text\t{}", FILTER_UNIT.0), "nothing\tx")
                .replace(&format!("text\t{}\t", FILTER_UNIT.0), "nothing\tx"),
        ),
        (
            "a drop-in",
            at(
                &format!("show\t{SERVICE}\tDropInPaths="),
                &format!("show\t{SERVICE}\tDropInPaths=/etc/systemd/system/{SERVICE}.d/x.conf"),
            ),
        ),
        (
            "not reloaded",
            at(&format!("show\t{SERVICE}\tNeedDaemonReload=no"), &format!("show\t{SERVICE}\tNeedDaemonReload=yes")),
        ),
        (
            "from elsewhere",
            at(
                &format!("FragmentPath=/etc/systemd/system/{SERVICE}"),
                &format!("FragmentPath=/run/systemd/system/{SERVICE}"),
            ),
        ),
        (
            "a unit more",
            more("text\tsovereign-more.service\t[Service]\nshow\tsovereign-more.service\tActiveState=active"),
        ),
        (
            "the one before runs",
            at(&format!("show\t{BEFORE}\tActiveState=inactive"), &format!("show\t{BEFORE}\tActiveState=active")),
        ),
        (
            "stopped",
            at(&format!("show\t{SERVICE}\tActiveState=active"), &format!("show\t{SERVICE}\tActiveState=failed")),
        ),
        ("another description", said().replace(SERVICE, "sovereign-shop.edge.home.aaaaaaaaaaaa.service")),
        ("another program", at(&format!("runs\t{SERVICE} "), &format!("runs\t{SERVICE} 00"))),
        ("a program changed", at("program\t", "program\t00")),
        (
            "a key opened",
            at(&format!("640 root sovereign f {EDGE}/key.pem"), &format!("644 root sovereign f {EDGE}/key.pem")),
        ),
        (
            "a key given away",
            at(&format!("640 root sovereign f {EDGE}/key.pem"), &format!("640 ann sovereign f {EDGE}/key.pem")),
        ),
        (
            "a key linked",
            at(&format!("640 root sovereign f {EDGE}/key.pem"), &format!("640 root sovereign l {EDGE}/key.pem")),
        ),
        ("no state", said().lines().filter(|line| !line.contains(EDGE)).map(|line| format!("{line}\n")).collect()),
        ("writable for others", at("755 root root d /opt/sovereign", "777 root root d /opt/sovereign")),
        ("somebody else's key", more("authorized\tssh-rsa CCCC ann@laptop")),
        ("a key of our name", more(&format!("authorized\t{}", MANAGEMENT.replace("AAAA", "DDDD")))),
        ("our key gone", at(&format!("authorized\t{MANAGEMENT}\n"), "")),
    ];
    let told: String =
        cases.iter().map(|(what, text)| format!("# {what}\n{}", bad(&facts(), text, &wanted()))).collect();
    insta::assert_snapshot!(told);
}

/// Another unit of the host's own, beside the edge.
#[test]
fn what_was_changed_of_an_agent_or_a_name_server_is_named() {
    let beside = |text: &str| text.replace(".edge.", ".agent.").replace(EDGE, AGENT);
    let (service, alias) = (beside(SERVICE), beside(ALIAS));
    let mut wanted = wanted();
    wanted.units.push(UnitFile { name: service.clone(), text: "[Service]\n".to_owned() });
    wanted.services.push(Service {
        unit: "agent@home".to_owned(),
        name: service.clone(),
        alias: alias.clone(),
        program: program(),
    });
    let (path, digest) = (program().0.display().to_string(), program().1.hex());
    let more = format!(
        "text\t{service}\t[Service]\nlink\t{alias} /etc/systemd/system/{service}\nruns\t{service} {digest} {path}\n\
         show\t{service}\tFragmentPath=/etc/systemd/system/{service}\nshow\t{service}\tActiveState=active\n\
         text\t{}\t[Service]\nshow\t{}\tActiveState=inactive\n\
         file\t750 root sovereign-agent d {AGENT}\nfile\t640 root sovereign-agent f {AGENT}/config-0123456789ab.json\n\
         file\t750 sovereign-agent sovereign-agent d {AGENT}/run\n\
         file\t750 root sovereign-names d {NAME_SERVER}\nfile\t640 root sovereign-names f {NAME_SERVER}/key-a.pem\n\
         file\t700 sovereign-names sovereign-names d {NAME_SERVER}/knot\n\
         file\t700 sovereign-names sovereign-names d {NAME_SERVER}/run\n\
         file\t2750 sovereign-names sovereign-renewer d {NAME_SERVER}/renewal\n\
         file\t2750 sovereign sovereign-renewer d {EDGE}/renewal\n\
         file\t750 root sovereign-renewer d {RENEWER}\nfile\t640 root sovereign-renewer f {RENEWER}/key-a.pem\n\
         file\t700 sovereign-renewer sovereign-renewer d {RENEWER}/certificates\nend\n",
        beside(BEFORE),
        beside(BEFORE),
    );
    let right = said().replace("end\n", &more);
    let at = |from: &str, to: &str| {
        assert!(right.contains(from), "{from}");
        bad(&facts(), &right.replacen(from, to, 1), &wanted)
    };
    assert_eq!(at("end\n", "end\n"), "");
    assert_eq!(
        at(&format!("show\t{service}\tActiveState=active"), &format!("show\t{service}\tActiveState=failed")),
        format!("drift | units | {service} is failed\n")
    );
    assert_eq!(
        at(&format!("640 root sovereign-agent f {AGENT}"), &format!("660 root sovereign-agent f {AGENT}")),
        format!(
            "drift | files | {AGENT}/config-0123456789ab.json is 0660 root:sovereign-agent, and should be 0640 \
             root:sovereign-agent\n"
        )
    );
    assert_eq!(
        at(&format!("640 root sovereign-names f {NAME_SERVER}"), &format!("644 root sovereign-names f {NAME_SERVER}")),
        format!(
            "drift | files | {NAME_SERVER}/key-a.pem is 0644 root:sovereign-names, and should be 0640 root:sovereign-names\n"
        )
    );
    assert_eq!(
        at(
            &format!("2750 sovereign sovereign-renewer d {EDGE}"),
            &format!("2755 sovereign sovereign-renewer d {EDGE}")
        ),
        format!(
            "drift | files | {EDGE}/renewal is 2755 sovereign:sovereign-renewer, and should be 2750 \
             sovereign:sovereign-renewer\n"
        )
    );
    assert_eq!(
        bad(&facts(), &right.replace(&service, &beside(BEFORE)), &wanted),
        format!("drift | units | agent@home runs as {}, and is described as {service}\n", beside(BEFORE))
    );
}

#[test]
fn what_listens_is_named() {
    let with = |listener: Listener| {
        let mut facts = facts();
        facts.listeners.as_mut().unwrap().push(listener);
        facts
    };
    let member = |address: &str, peers: &[&str]| {
        let incus =
            Incus { version: "6.0.4".to_owned(), clustered: true, api_address: address.to_owned(), ..Incus::default() };
        let wanted = Wanted { peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(), ..wanted() };
        let facts = with(listener(Protocol::Tcp, PORT, Some("192.0.2.8"), "incusd"));
        (Facts { incus: Some(incus), ..facts }, wanted)
    };
    let without = |port: u16| {
        let mut facts = facts();
        facts.listeners.as_mut().unwrap().retain(|listener| listener.port != port);
        facts
    };
    let names = |listeners: &[(Protocol, &str)]| {
        let mut facts = facts();
        let more = listeners.iter().map(|(protocol, owner)| listener(*protocol, 53, Some("192.0.2.8"), owner));
        facts.listeners.as_mut().unwrap().extend(more);
        facts
    };
    let asked = || Wanted { asked: vec!["192.0.2.8:53".parse().unwrap()], ..wanted() };
    let cases = [
        ("a name server", names(&[(Protocol::Udp, "knotd"), (Protocol::Tcp, "knotd")]), asked()),
        ("half a name server", names(&[(Protocol::Udp, "knotd")]), asked()),
        ("another in its place", names(&[(Protocol::Udp, "named"), (Protocol::Tcp, "named")]), asked()),
        ("a name server that nobody wants", names(&[(Protocol::Udp, "knotd")]), wanted()),
        ("a port", with(listener(Protocol::Tcp, 4444, None, "nc")), wanted()),
        ("a port for names", with(listener(Protocol::Udp, 53, None, "dnsmasq")), wanted()),
        ("a passing port", with(listener(Protocol::Udp, 40_000, None, "dig")), wanted()),
        ("another on the edge's", with(listener(Protocol::Tcp, 443, None, "nginx")), wanted()),
        ("no edge", without(443), wanted()),
        ("nobody knows", Facts { listeners: None, ..facts() }, wanted()),
        ("not written down", facts(), Wanted { open_before: None, ..wanted() }),
        ("no Incus", Facts { incus: None, ..facts() }, wanted()),
        ("a member", member("192.0.2.8:8443", &["192.0.2.9"]).0, member("", &["192.0.2.9"]).1),
        ("a member everywhere", member(":8443", &["192.0.2.9"]).0, member("", &["192.0.2.9"]).1),
        ("a member alone", member("192.0.2.8:8443", &[]).0, wanted()),
    ];
    let told: String = cases
        .iter()
        .map(|(what, facts, wanted)| format!("# {what}\n{}", bad(facts, &said_by(facts, wanted), wanted)))
        .collect();
    insta::assert_snapshot!(told);
}

#[test]
fn what_answers_is_compared() {
    let answers = |open: &[u16], untried| Answers { open: open.iter().copied().collect(), tried: 1051, untried };
    let cases = [
        ("as it should be", answers(&[22, 443, 8080], 0)),
        ("one more", answers(&[22, 443, 4444], 0)),
        ("no edge", answers(&[22], 0)),
        ("nothing", answers(&[], 0)),
        ("not all", answers(&[22, 443], 7)),
    ];
    let told = cases.iter().map(|(what, answers)| {
        let found = outside(answers, &facts(), &wanted(), 22);
        let lines = found
            .iter()
            .map(|Finding { verdict, subject, sentence, .. }| format!("{verdict} | {subject} | {sentence}\n"));
        format!("# {what}\n{}", lines.collect::<String>())
    });
    insta::assert_snapshot!(told.collect::<String>());
}

#[test]
fn a_scan_finds_who_listens() {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [open, shut] = [&listening, &closed].map(|listener| listener.local_addr().unwrap());
    drop(closed);
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ports = BTreeSet::from([open, shut].map(|address: SocketAddr| address.port()));
    let answers = runtime.block_on(scan(open.ip(), ports, &turns));
    assert_eq!(answers, Answers { open: BTreeSet::from([open.port()]), tried: 2, untried: 0 });
}

/// The script on this machine, which need be no host: what it says is read, and an end that is missing is noticed.
#[test]
fn the_script_speaks_to_the_parser() {
    let rules: String = wanted().rules(&facts()).into_values().collect();
    let mut command = Command::new("sh");
    command.args(["-c", &super::script(), "sovereign", "/nonexistent/state", "/nonexistent/state/edge"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let seen = Seen::parse(&output.stdout).unwrap();
    // Where it may have a network of its own, nft says what it makes of the rules, and of both tables.
    if let Some(wanted) = seen.wanted {
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["inet sovereign", "inet sovereign_instances"]);
        assert!(wanted["inet sovereign"].iter().any(|line| line.contains("tcp dport 8080 accept")), "{wanted:?}");
    }
    for end in 0..output.stdout.len() {
        assert!(Seen::parse(&output.stdout[..end]).is_err() || output.stdout[end..].iter().all(|byte| *byte == b'\n'));
    }
}

proptest! {
    #[test]
    fn nothing_that_a_host_says_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..2000_usize) {
        let mut text = said().into_bytes();
        let at = at.min(text.len());
        text.splice(at..at, bytes);
        if let Ok(seen) = Seen::parse(&text) {
            inside(&facts(), &seen, &wanted());
        }
    }
}
