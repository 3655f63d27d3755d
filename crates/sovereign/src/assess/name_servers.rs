//! What the name servers answer, and what they hold back. Whether each runs its unit says.

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_model::name_server_status::{Away, NameServerStatus, WhyAway, ZoneStatus};
use sovereign_model::{DnsName, EdgeName};

use super::{Said, problem};
use crate::gather::Gathered;

/// Signatures by geography are made every day; a name server that has made none for so long is not driven any more.
const SIGNED_WITHIN: u64 = 3 * 86_400;

/// A name server, as it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NameServerReport {
    /// The host it is on.
    pub(crate) at: EdgeName,
    /// The domains that it answers for.
    pub(crate) zones: Vec<ZoneReport>,
    /// Why it answers nobody, when it does so on purpose.
    pub(crate) silent: Option<String>,
    /// Which addresses it leaves out of answers.
    pub(crate) left_out: Vec<Away>,
    /// Whether the agent doubts what it sees, so that nothing is left out.
    pub(crate) fails_open: bool,
    /// How old what it knows of geography is, in seconds; `None` when all are told of all data centers.
    pub(crate) geography_seconds: Option<u64>,
}

/// A domain that is answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ZoneReport {
    /// Its name.
    pub(crate) domain: DnsName,
    /// The number of its state; `None` while it is not answered for.
    pub(crate) serial: Option<u32>,
    /// How long ago it was loaded last.
    pub(crate) signed_seconds: Option<u64>,
}

impl NameServerReport {
    /// The data centers whose addresses are left out, and why.
    pub(crate) fn without(&self) -> String {
        let why = |why: WhyAway| match why {
            WhyAway::Dead => "dead",
            WhyAway::Drained => "taken out",
        };
        let each: BTreeSet<_> =
            self.left_out.iter().map(|away| format!("{} ({})", away.datacenter, why(away.why))).collect();
        each.into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// What each of those that answer says, and what of it needs attention. What is so because a host is evacuated on purpose is no
/// trouble.
pub(super) fn judge(gathered: &Gathered, now: u64, said: &mut Said) -> Vec<NameServerReport> {
    let told = gathered.name_servers.iter().filter_map(|(at, status)| Some((at, status.as_ref().ok()?)));
    told.map(|(at, status)| {
        let report = report(at, status, now);
        if !gathered.evacuated.contains_key(at) {
            worry(at, status, &report, said);
        }
        report
    })
    .collect()
}

fn report(at: &EdgeName, status: &NameServerStatus, now: u64) -> NameServerReport {
    let zone = |zone: &ZoneStatus| ZoneReport {
        domain: zone.domain.clone(),
        serial: zone.serial,
        signed_seconds: zone.signed_unix.map(|unix| now.saturating_sub(unix)),
    };
    NameServerReport {
        at: at.clone(),
        zones: status.zones.iter().map(zone).collect(),
        silent: status.silent.clone(),
        left_out: status.away.clone(),
        fails_open: status.fails_open,
        geography_seconds: status.geography.as_ref().map(|geography| now.saturating_sub(geography.of_unix)),
    }
}

fn worry(at: &EdgeName, status: &NameServerStatus, report: &NameServerReport, said: &mut Said) {
    let unit = at.name_server();
    let logs = format!("sovereign logs {unit}");
    if let Some(why) = &report.silent {
        said.problems.push(problem(&unit, format!("it answers nobody: {why}"), Some(&logs)));
    } else {
        for zone in &report.zones {
            let trouble = match (zone.serial, zone.signed_seconds) {
                (None, _) => "is not answered for",
                (_, Some(seconds)) if seconds > SIGNED_WITHIN => "has signatures that nobody renews",
                _ => continue,
            };
            said.problems.push(problem(&unit, format!("{} {trouble}", zone.domain), Some(&logs)));
        }
    }
    if let Some(why) = &status.last_error {
        let message = format!("it answers what it did before, and not what it should: {why}");
        said.problems.push(problem(&unit, message, Some(&logs)));
    }
    if let Some(why) = &status.agent_error {
        let message = format!("it leaves no data center out, since it cannot ask its agent: {why}");
        said.problems.push(problem(&unit, message, Some(&format!("sovereign logs {}", at.agent()))));
    }
    if let Some(why) = &status.geography_error {
        let message = format!("it cannot tell who is nearest to whom by what is newest: {why}");
        let help = "see that Debian's package tor-geoipdb is on the host";
        said.warnings.push(problem(&unit, message, Some(help)));
    }
}

#[cfg(test)]
mod tests {
    use sovereign_hosts::evacuation::Evacuation;
    use sovereign_model::Digest;

    use super::*;
    use crate::assess::tests::{stack, well};

    const NOW: u64 = 1_800_000_000;

    fn status() -> NameServerStatus {
        NameServerStatus {
            healthy: true,
            draining: false,
            version: "0.1.0".to_owned(),
            process: 7,
            knot: Some(8),
            stack: "demo".parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: Some("atlas".parse().unwrap()),
            config_digest: Digest::of("a configuration"),
            silent: None,
            seen_unix: Some(NOW),
            agent_error: None,
            fails_open: false,
            away: Vec::new(),
            geography: None,
            geography_error: None,
            listen: Vec::new(),
            zones: vec![ZoneStatus {
                domain: "example.org".parse().unwrap(),
                serial: Some(NOW as u32),
                signed_unix: Some(NOW - 60),
            }],
            challenges: Vec::new(),
            last_error: None,
        }
    }

    fn said(status: NameServerStatus, aside: bool) -> (NameServerReport, Vec<String>) {
        let at: EdgeName = "home/atlas".parse().unwrap();
        let mut gathered = well(&stack());
        gathered.name_servers.insert(at.clone(), Ok(status));
        if aside {
            let note = Evacuation::new("ann@laptop".to_owned(), "sovereign host evacuate", NOW - 600);
            gathered.evacuated.insert(at, note);
        }
        let mut said = Said { problems: Vec::new(), warnings: Vec::new() };
        let mut reports = judge(&gathered, NOW, &mut said);
        assert!(said.problems.iter().chain(&said.warnings).all(|problem| problem.help.is_some()));
        let told = said.problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.message));
        let warned = said.warnings.iter().map(|problem| format!("warning: {}: {}", problem.subject, problem.message));
        (reports.remove(0), told.chain(warned).collect())
    }

    #[test]
    fn who_answers_as_it_should_is_no_trouble_and_says_whom_it_leaves_out() {
        assert_eq!(said(status(), false).1, [""; 0]);
        let away = |datacenter: &str, address: &str, why| Away {
            datacenter: datacenter.parse().unwrap(),
            address: address.parse().unwrap(),
            why,
        };
        let (report, told) = said(
            NameServerStatus {
                away: vec![
                    away("office", "192.0.2.9", WhyAway::Dead),
                    away("office", "2001:db8::9", WhyAway::Dead),
                    away("rack", "192.0.2.10", WhyAway::Drained),
                ],
                ..status()
            },
            false,
        );
        // That it is dead those say that see it so.
        assert_eq!(told, [""; 0]);
        assert_eq!(report.without(), "office (dead), rack (taken out)");
        assert_eq!(report.zones[0].signed_seconds, Some(60));
    }

    #[test]
    fn each_thing_that_a_name_server_does_not_do_is_said() {
        let silent = NameServerStatus { silent: Some("on purpose".to_owned()), ..status() };
        assert_eq!(said(silent.clone(), false).1, ["name-server-atlas@home: it answers nobody: on purpose"]);
        assert_eq!(said(silent, true).1, [""; 0]);
        let zone = |serial, ago| NameServerStatus {
            zones: vec![ZoneStatus { domain: "example.org".parse().unwrap(), serial, signed_unix: Some(NOW - ago) }],
            ..status()
        };
        assert_eq!(said(zone(None, 1), false).1, ["name-server-atlas@home: example.org is not answered for"]);
        let nobody_renews = "name-server-atlas@home: example.org has signatures that nobody renews";
        assert_eq!(said(zone(Some(1), SIGNED_WITHIN + 1), false).1, [nobody_renews]);
        let all = NameServerStatus {
            last_error: Some("refused".to_owned()),
            agent_error: Some("it does not run".to_owned()),
            geography_error: Some("no such file".to_owned()),
            ..status()
        };
        assert_eq!(
            said(all, false).1,
            [
                "name-server-atlas@home: it answers what it did before, and not what it should: refused",
                "name-server-atlas@home: it leaves no data center out, since it cannot ask its agent: it does not run",
                "warning: name-server-atlas@home: it cannot tell who is nearest to whom by what is newest: no such file"
            ]
        );
    }
}
