//! What on a host is not as it was made: found by digests, in the look that every run begins with. Pure.
//!
//! Left out: what takes a host long to say (what programs are, who owns files), and what others have put beside ours; both
//! are an audit's.

use std::collections::BTreeMap;

use sovereign_hosts::ready::{self, Openings};
use sovereign_hosts::systemd::{self, Account};
use sovereign_model::unit::UnitSpec;
use sovereign_model::{Digest, StackName};

use super::edge_seen::EdgeFiles;

/// Where the rules for packets lie: a host's own, and those between its instances.
const RULES: &str = "/etc/sovereign/nftables.conf";
const INSTANCES_RULES: &str = "/etc/sovereign/instances.nft";

/// What of a unit is not as it was made, in sentences. Of one that is described otherwise the plan says so anyway.
pub(super) fn of_unit(seen: &EdgeFiles, stack: &StackName, unit: &UnitSpec, account: Account<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if !seen.is_current(stack, unit) {
        return all;
    }
    let files = systemd::files(stack, unit, account);
    for file in &files {
        differs(seen, &file.name, &Digest::of(&file.text), &mut all);
    }
    for socket in files.iter().filter(|file| file.name.ends_with(".socket")) {
        let state = seen.sockets.get(&socket.name).map_or("not there", String::as_str);
        if seen.texts.contains_key(&socket.name) && state != "active" {
            all.push(format!("{} is {state}", socket.name));
        }
    }
    all
}

/// What of the packet filter is not: by `openings`, what may come in, where that was written down; and by `instances`, the
/// rules between instances, where there are any.
pub(super) fn of_filter(seen: &EdgeFiles, openings: Option<&Openings>, instances: Option<&str>) -> Vec<String> {
    let mut wanted: BTreeMap<&str, Digest> = BTreeMap::new();
    if let (Some(openings), Some(port)) = (openings, seen.ssh_port) {
        let (unit, text) = ready::FILTER_UNIT;
        wanted.extend([(RULES, Digest::of(openings.rules(port))), (unit, Digest::of(text))]);
    }
    if let Some(rules) = instances {
        let (unit, text) = super::instances::FILTER_UNIT;
        wanted.extend([(INSTANCES_RULES, Digest::of(rules)), (unit, Digest::of(text))]);
    }
    let mut all = Vec::new();
    for (name, digest) in wanted {
        differs(seen, name, &digest, &mut all);
    }
    // Where nft cannot say what it makes of the files an audit tells that it was not compared.
    if seen.made.is_some_and(|made| seen.loaded != Some(made)) {
        all.push("the packet filter that is in effect is another than in its files".to_owned());
    }
    all
}

fn differs(seen: &EdgeFiles, name: &str, wanted: &Digest, all: &mut Vec<String>) {
    match seen.texts.get(name) {
        Some(found) if found == wanted => {}
        Some(_) => all.push(format!("{name} was changed")),
        None => all.push(format!("{name} is gone")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use sovereign_hosts::systemd::Names;
    use sovereign_model::unit::{Confinement, Health, Replace, SocketSpec};

    use super::*;
    use crate::incus::instances::FILTER_UNIT;

    fn unit() -> UnitSpec {
        UnitSpec {
            name: "edge-atlas@home".parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: Some("atlas".parse().unwrap()),
            program: "/opt/sovereign/sovereign".into(),
            args: vec!["edge".to_owned()],
            env: BTreeMap::new(),
            working_dir: "/var/lib/sovereign/shop".into(),
            sockets: vec![SocketSpec { name: "https".to_owned(), address: "0.0.0.0:443".parse().unwrap() }],
            confinement: Confinement::default(),
            health: Health::Control { socket: "/var/lib/sovereign/shop/control.sock".into() },
            after: Vec::new(),
            stop_grace_seconds: 10,
            replace: Replace::Beside,
            inputs: BTreeMap::new(),
        }
    }

    struct Host {
        stack: StackName,
        unit: UnitSpec,
        openings: Openings,
        rules: &'static str,
    }

    impl Host {
        fn new() -> Self {
            let openings = Openings { before: Vec::new(), peers: BTreeSet::new() };
            Self { stack: "shop".parse().unwrap(), unit: unit(), openings, rules: "rules between instances" }
        }

        /// What the script says where all is as it was made.
        fn said(&self) -> String {
            let service = Names::of(&self.stack, &self.unit).service();
            let mut said = format!("current /etc/systemd/system/{service}\nssh-port 22\n");
            let mut text = |name: &str, text: &str| {
                let digest = Digest::of(text);
                writeln!(said, "text {}  {name}", digest.hex()).unwrap();
            };
            for file in systemd::files(&self.stack, &self.unit, Account::edge()) {
                text(&file.name, &file.text);
            }
            text(RULES, &self.openings.rules(22));
            text(INSTANCES_RULES, self.rules);
            for (name, content) in [ready::FILTER_UNIT, FILTER_UNIT] {
                text(name, content);
            }
            let (socket, rules) = (Names::of(&self.stack, &self.unit).socket("https"), Digest::of("rules").hex());
            write!(said, "socket active {socket}\nservice active {service}\nloaded {rules}\nmade {rules}\n").unwrap();
            said
        }

        fn drift(&self, said: &str) -> Vec<String> {
            let seen = EdgeFiles::parse(said);
            let mut all = of_unit(&seen, &self.stack, &self.unit, Account::edge());
            all.extend(of_filter(&seen, Some(&self.openings), Some(self.rules)));
            all
        }
    }

    #[test]
    fn a_host_as_it_was_made_has_nothing_to_mend() {
        let host = Host::new();
        assert_eq!(host.drift(&host.said()), Vec::<String>::new());
        // What a host cannot say, or nobody wrote down, is an audit's.
        let cannot = host.said().lines().filter(|line| !line.starts_with("made ")).collect::<Vec<_>>().join("\n");
        assert_eq!(host.drift(&cannot), Vec::<String>::new());
        let bare = format!("current none\nloaded {0}\nmade {0}\n", Digest::of("rules").hex());
        assert_eq!(of_filter(&EdgeFiles::parse(&bare), None, None), Vec::<String>::new());
    }

    #[test]
    fn whatever_was_changed_stopped_or_removed_is_named() {
        let host = Host::new();
        let said = host.said();
        let names = Names::of(&host.stack, &host.unit);
        let other = Digest::of("edited").hex();
        for name in [&names.service(), &names.socket("https"), RULES, INSTANCES_RULES, "sovereign-nftables.service"] {
            let line = said.lines().find(|line| line.ends_with(&format!("  {name}"))).unwrap();
            let edited = said.replace(line, &format!("text {other}  {name}"));
            assert_eq!(host.drift(&edited), [format!("{name} was changed")]);
            let gone = said.replace(&format!("{line}\n"), "");
            assert_eq!(host.drift(&gone), [format!("{name} is gone")], "{name}");
        }
        let socket = names.socket("https");
        let stopped = said.replace(&format!("socket active {socket}"), &format!("socket inactive {socket}"));
        assert_eq!(host.drift(&stopped), [format!("{socket} is inactive")]);
        let loaded = format!("loaded {}", Digest::of("rules").hex());
        let rules = said.replace(&loaded, &format!("loaded {other}"));
        assert_eq!(host.drift(&rules), ["the packet filter that is in effect is another than in its files"]);
        // SSH at another port needs other rules.
        assert_eq!(host.drift(&said.replace("ssh-port 22", "ssh-port 2222")), [format!("{RULES} was changed")]);
    }

    #[test]
    fn an_edge_of_another_description_is_the_plans_business() {
        let host = Host::new();
        let service = Names::of(&host.stack, &host.unit).service();
        let other = host.said().replace(&service, "sovereign-shop.edge-atlas.home.0123456789ab.service");
        assert_eq!(host.drift(&other), Vec::<String>::new());
    }
}
