//! In which order hosts are upgraded, and what is left to do on each. Pure.

use std::collections::BTreeSet;

use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::record::HostId;
use sovereign_hosts::upgrade::{Booted, Pending};
use sovereign_model::{EdgeName, Stack};

/// The command, as a note on a host has it.
pub(crate) const COMMAND: &str = "sovereign host upgrade";

/// The order: data centers where nothing is written first, the hosts of one after the other, and of each the one with the
/// applications last. So what an upgrade breaks shows where the least is lost.
pub(crate) fn order(stack: &Stack, hosts: BTreeSet<HostId>) -> Vec<HostId> {
    let mut ordered: Vec<HostId> = hosts.into_iter().collect();
    ordered.sort_by_cached_key(|id| {
        let edge = EdgeName::on(&id.datacenter, &id.host);
        let is_primary = stack.sites.values().any(|site| site.primary == id.datacenter);
        let has_applications = stack.sites.values().any(|site| site.place(stack) == edge);
        (is_primary, id.datacenter.clone(), has_applications, id.host.clone())
    });
    ordered
}

/// What is left to do on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Todo {
    /// Whether there are packages.
    pub(crate) packages: bool,
    /// Why it boots again; nothing when it need not, as far as that is known before packages are upgraded.
    pub(crate) reboot: Vec<String>,
    /// Whether a run before this one was stopped while the host was out.
    pub(crate) unfinished: bool,
}

impl Todo {
    /// What follows from what was seen. `forced` is that every host boots again.
    pub(crate) fn new(pending: &Pending, booted: &Booted, note: Option<&Evacuation>, forced: bool) -> Self {
        let asked = (forced && booted.reasons.is_empty()).then(|| "asked for".to_owned());
        Self {
            packages: !pending.packages.is_empty(),
            reboot: booted.reasons.iter().cloned().chain(asked).collect(),
            unfinished: note.is_some_and(|note| note.command == COMMAND),
        }
    }

    /// Whether the host can be passed over.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.packages && self.reboot.is_empty() && !self.unfinished
    }
}

/// Whether an operator took the host out; then it is upgraded, and stays out.
pub(crate) fn stays_out(note: Option<&Evacuation>) -> bool {
    note.is_some_and(|note| note.command != COMMAND)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use proptest::prelude::*;
    use sovereign_hosts::upgrade::Upgradable;
    use sovereign_model::file;

    use super::*;

    /// A stack of data centers with so many hosts each; the site is written at one of them.
    fn stack(hosts: &[usize], primary: usize) -> Stack {
        let mut text = "version = 1\n[stack]\nname = \"demo\"\n".to_owned();
        for (at, count) in hosts.iter().enumerate() {
            write!(text, "[[datacenter]]\nname = \"d{at}\"\nengine = \"incus\"\n").unwrap();
            write!(text, "[[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.{at}\"\nport = 443\n").unwrap();
            for host in 0..*count {
                // The first that is declared has the applications, and is not the first by name.
                let name = (host + 1) % count;
                write!(text, "[[datacenter.host]]\nname = \"h{name}\"\naddress = \"192.0.{at}.{}\"\n", 8 + host)
                    .unwrap();
            }
        }
        write!(
            text,
            "[[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"d{primary}\"\n"
        )
        .unwrap();
        file::parse("stack.toml", &text, Path::new("/")).unwrap()
    }

    fn all(hosts: &[usize]) -> BTreeSet<HostId> {
        let ids =
            hosts.iter().enumerate().flat_map(|(at, count)| (0..*count).map(move |host| format!("d{at}/h{host}")));
        ids.map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn where_nothing_is_written_comes_first_and_the_applications_last() {
        let ordered = order(&stack(&[2, 3], 0), all(&[2, 3]));
        let ordered: Vec<_> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["d1/h0", "d1/h1", "d1/h2", "d0/h0", "d0/h1"]);
    }

    proptest! {
        #[test]
        fn every_host_has_one_turn_and_data_centers_do_not_mix(
            hosts in proptest::collection::vec(1_usize..4, 1..5), primary: prop::sample::Index, chosen: [bool; 16],
        ) {
            let primary = primary.index(hosts.len());
            let stack = stack(&hosts, primary);
            let some: BTreeSet<HostId> = all(&hosts).into_iter().zip(chosen).filter(|(_, is)| *is).map(|(id, _)| id).collect();
            let ordered = order(&stack, some.clone());
            prop_assert_eq!(ordered.iter().cloned().collect::<BTreeSet<_>>(), some.clone());
            prop_assert_eq!(ordered.len(), some.len());
            let mut turns: Vec<_> = ordered.iter().map(|id| &id.datacenter).collect();
            turns.dedup();
            prop_assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), turns.len());
            let primary = format!("d{primary}");
            if let Some(at) = ordered.iter().position(|id| id.datacenter.as_str() == primary) {
                prop_assert!(ordered[at..].iter().all(|id| id.datacenter.as_str() == primary));
                let place = stack.sites.values().next().unwrap().place(&stack);
                let last = ordered.iter().position(|id| EdgeName::on(&id.datacenter, &id.host) == place);
                prop_assert!(last.is_none_or(|last| last == ordered.len() - 1));
            }
        }
    }

    #[test]
    fn what_is_left_follows_from_what_is_seen() {
        let (nothing, fresh) = (Pending::default(), Booted { boot: "1".to_owned(), ..Booted::default() });
        let (name, to) = ("curl".to_owned(), "2".to_owned());
        let some = Pending { packages: vec![Upgradable { name, from: None, to }], brought: false };
        let old = Booted { reasons: vec!["another kernel".to_owned()], ..fresh.clone() };
        let note = |command| Evacuation::new("ann@laptop".to_owned(), command, 0);
        assert!(Todo::new(&nothing, &fresh, None, false).is_nothing());
        assert!(Todo::new(&some, &fresh, None, false).packages);
        assert_eq!(Todo::new(&nothing, &old, None, true).reboot, ["another kernel"]);
        assert_eq!(Todo::new(&nothing, &fresh, None, true).reboot, ["asked for"]);
        // A run that was killed is finished; what an operator took out stays out.
        assert!(!Todo::new(&nothing, &fresh, Some(&note(COMMAND)), false).is_nothing());
        let aside = note("sovereign host evacuate");
        assert!(Todo::new(&nothing, &fresh, Some(&aside), false).is_nothing());
        assert!(stays_out(Some(&aside)) && !stays_out(Some(&note(COMMAND))) && !stays_out(None));
    }
}
