//! Certificates of public authorities: which names have one, until when, and whether edges show it. What is in the way of
//! a renewal is no trouble before the last days, since it is tried again by itself.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use sovereign_model::edge_status::{EdgeStatus, PublicCertificate};
use sovereign_model::{DnsName, EdgeName, Stack};
use sovereign_runtime::certificate::is_newer;

use super::{DAY, Problem, Said, problem};
use crate::certificates::known::{KnownName, Stored};
use crate::gather::Gathered;
use crate::output::figures;

const RENEW: &str = "`sovereign cert renew` tries again now, `sovereign cert list` says what was tried";

/// A name, and its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CertificateReport {
    /// The name.
    pub(crate) name: DnsName,
    #[serde(flatten)]
    pub(crate) known: KnownName,
    /// The edges that answer and do not show it.
    pub(crate) not_shown_by: Vec<EdgeName>,
}

/// What is known of each name, and what of it needs attention.
pub(super) fn judge(stack: &Stack, gathered: &Gathered, now: u64, said: &mut Said) -> Vec<CertificateReport> {
    let mut behind: BTreeMap<&EdgeName, Vec<&DnsName>> = BTreeMap::new();
    let reports: Vec<_> = gathered
        .public
        .names
        .iter()
        .map(|(name, known)| {
            said.problems.extend(trouble(name, known, now));
            let not_shown_by = answering(stack, gathered, name).filter(|(_, status)| {
                let told = status.public_certificates.get(name).filter(|told| told.problem.is_none());
                known.certificate.as_ref().is_some_and(|stored| !is_shown(stored, told))
            });
            let not_shown_by: Vec<&EdgeName> = not_shown_by.map(|(edge, _)| edge).collect();
            for edge in &not_shown_by {
                behind.entry(edge).or_default().push(name);
            }
            let not_shown_by = not_shown_by.into_iter().cloned().collect();
            CertificateReport { name: name.clone(), known: known.clone(), not_shown_by }
        })
        .collect();
    for (edge, names) in behind {
        let which = match &names[..] {
            [one] => format!("the certificate for {one}"),
            [first, rest @ ..] => format!("the certificates for {first} and {} more", rest.len()),
            [] => continue,
        };
        let message = format!("readers are not shown {which} that is stored here");
        let help = "`sovereign cert renew` brings it, `sovereign up` makes the edge look for it";
        said.problems.push(lasting(problem(edge.unit(), message, Some(help))));
    }
    for (name, why) in &gathered.public.left {
        // Names that lead nowhere in the world.
        if !name.as_str().ends_with(".localhost") {
            let message = "no authority is asked for a certificate: readers are shown the stack's own";
            said.warnings.push(problem(name, message, Some(why.help())));
        }
    }
    reports
}

/// Whether an edge shows what is stored, or a newer one that it had from another edge: the next run brings that back.
fn is_shown(stored: &Stored, told: Option<&PublicCertificate>) -> bool {
    let Some(file) = stored.file else { return true };
    told.is_some_and(|told| told.file == file || is_newer_than(stored, told))
}

fn is_newer_than(stored: &Stored, told: &PublicCertificate) -> bool {
    let moment = |unix| UNIX_EPOCH.checked_add(Duration::from_secs(unix)).unwrap_or(UNIX_EPOCH);
    told.begins_unix.is_some_and(|begins| is_newer(moment(begins), moment(stored.begins_unix)))
}

fn trouble(name: &DnsName, KnownName { certificate, waits, unreadable }: &KnownName, now: u64) -> Option<Problem> {
    if let Some(why) = unreadable {
        let message = format!("what is known of its certificate cannot be read: {why}");
        return Some(lasting(problem(name, message, Some("`sovereign cert list` says more"))));
    }
    let why = waits.as_ref().map(|waits| format!(": {}", waits.why.join("; "))).unwrap_or_default();
    match certificate {
        None => {
            let message = format!("it has no certificate of a public authority{why}");
            Some(lasting(problem(name, message, Some(RENEW))))
        }
        Some(Stored { late: true, ends_unix, .. }) => {
            let left = match ends_unix.saturating_sub(now) {
                0 => "has ended".to_owned(),
                left if left < 2 * DAY => format!("ends in {}", figures::seconds(left)),
                left => format!("ends in {} days", left / DAY),
            };
            Some(lasting(problem(name, format!("its certificate {left} and was not renewed{why}"), Some(RENEW))))
        }
        Some(_) => None,
    }
}

/// The edges that serve a name and answer.
fn answering<'g>(
    stack: &Stack,
    gathered: &'g Gathered,
    name: &DnsName,
) -> impl Iterator<Item = (&'g EdgeName, &'g EdgeStatus)> {
    served_by(stack, name).into_iter().filter_map(|edge| {
        let (edge, status) = gathered.edges.get_key_value(&edge)?;
        Some((edge, status.as_ref().ok()?))
    })
}

/// Until when readers are shown a good certificate for a name, in seconds since 1970: where an edge has a newer one than is
/// stored here, as long as that is good.
pub(super) fn lasts(stack: &Stack, gathered: &Gathered, name: &DnsName, stored: &Stored) -> u64 {
    let shown = answering(stack, gathered, name).map(|(_, status)| {
        let newer = status.public_certificates.get(name).filter(|told| is_newer_than(stored, told));
        newer.and_then(|told| told.ends_unix).unwrap_or(stored.ends_unix)
    });
    shown.min().unwrap_or(stored.ends_unix)
}

/// Whether a host renews the certificate of a name by itself, and nothing is in the way: then that limits nothing. What the
/// renewers of other hosts would need for it is theirs.
pub(super) fn is_renewed_there(gathered: &Gathered, name: &DnsName) -> bool {
    let well = gathered.renewers.values().flatten().filter(|status| status.healthy);
    well.filter_map(|status| status.names.get(name)).any(|known| known.ends_unix.is_some() && known.why.is_empty())
}

/// What renewers could not do so far, each reason once.
pub(super) fn of_renewers(gathered: &Gathered, said: &mut Said) {
    for (at, status) in gathered.renewers.iter().filter_map(|(at, status)| Some((at, status.as_ref().ok()?))) {
        if gathered.evacuated.contains_key(at) {
            continue;
        }
        let unit = at.renewer();
        let mut told: Vec<&String> = Vec::new();
        for (name, known) in &status.names {
            for why in known.why.iter().filter(|why| !told.contains(why)).collect::<Vec<_>>() {
                told.push(why);
                let message = format!("it could not renew the certificate of {name}, and tries again: {why}");
                said.warnings.push(problem(&unit, message, Some(&format!("sovereign logs {unit}"))));
            }
        }
    }
}

/// The edges that serve a name.
fn served_by(stack: &Stack, name: &DnsName) -> Vec<EdgeName> {
    let sites = stack.sites.values().filter(|site| site.all_names().any(|other| other == name));
    sites.flat_map(|site| site.datacenters()).flat_map(|place| stack.datacenters[place].edges()).collect()
}

fn lasting(problem: Problem) -> Problem {
    Problem { lasting: true, ..problem }
}

#[cfg(test)]
mod tests {
    use sovereign_certs::wanted::Why;
    use sovereign_model::Digest;
    use sovereign_model::renewer_status::{RenewerStatus, Renewing};

    use super::*;
    use crate::assess::assess;
    use crate::assess::tests::{stack, told, well};
    use crate::certificates::known::Waits;

    const NOW: u64 = 1_800_000_000;

    fn known(ends: u64, late: bool) -> KnownName {
        let certificate = Stored {
            authority: "ca".parse().unwrap(),
            begins_unix: NOW - DAY,
            ends_unix: ends,
            due_unix: ends - 30 * DAY,
            late,
            file: Some(Digest::of("new")),
        };
        KnownName { certificate: Some(certificate), ..KnownName::default() }
    }

    fn gathered(known: KnownName) -> Gathered {
        let mut gathered = well(&stack());
        let name: DnsName = "blog.localhost".parse().unwrap();
        for edge in gathered.edges.values_mut() {
            let told = PublicCertificate {
                file: Digest::of("new"),
                begins_unix: Some(NOW - DAY),
                ends_unix: Some(NOW + DAY),
                problem: None,
            };
            edge.as_mut().unwrap().public_certificates.insert(name.clone(), told);
        }
        gathered.public.names.insert(name, known);
        gathered
    }

    #[test]
    fn a_certificate_that_is_good_and_shown_is_no_trouble_and_limits_how_long_nobody_is_needed() {
        let assessment = assess(&stack(), &gathered(known(NOW + 70 * DAY, false)), NOW);
        assert!(assessment.well, "{:?}", assessment.problems);
        let limit = assessment.unattended_until.unwrap();
        assert_eq!(limit.unix, NOW + 70 * DAY);
        assert!(limit.because.contains("blog.localhost") && limit.because.contains("ca"), "{limit:?}");
    }

    #[test]
    fn one_that_is_missing_late_over_or_not_shown_is_said_with_what_is_in_the_way() {
        let stack = stack();
        let waits = Some(Waits { until_unix: NOW, why: vec!["authority ca cannot be reached".to_owned()] });
        let mut all = Vec::new();
        all.extend(told(&stack, &gathered(KnownName { waits: waits.clone(), ..KnownName::default() })));
        for ends in [NOW + 5 * DAY, NOW + DAY, NOW - 1] {
            all.extend(told(&stack, &gathered(KnownName { waits: waits.clone(), ..known(ends, true) })));
        }
        // In the way, and not in its last days.
        all.extend(told(&stack, &gathered(KnownName { waits, ..known(NOW + 20 * DAY, false) })));
        let mut behind = gathered(known(NOW + 70 * DAY, false));
        let office = behind.edges.get_mut(&"office".parse().unwrap()).unwrap().as_mut().unwrap();
        office.public_certificates.clear();
        all.extend(told(&stack, &behind));
        insta::assert_snapshot!(all.join("\n"), @r"
        blog.localhost: it has no certificate of a public authority: authority ca cannot be reached
        blog.localhost: its certificate ends in 5 days and was not renewed: authority ca cannot be reached
        blog.localhost: its certificate ends in 1 d 0 h and was not renewed: authority ca cannot be reached
        blog.localhost: its certificate has ended and was not renewed: authority ca cannot be reached
        edge@office: readers are not shown the certificate for blog.localhost that is stored here
        ");
    }

    #[test]
    fn an_edge_that_shows_a_newer_one_than_is_stored_is_no_trouble() {
        let mut ahead = gathered(known(NOW + 70 * DAY, false));
        let name: DnsName = "blog.localhost".parse().unwrap();
        let lasts = |gathered: &Gathered| assess(&stack(), gathered, NOW).unattended_until.unwrap().unix;
        for edge in ahead.edges.values_mut() {
            let shown = edge.as_mut().unwrap().public_certificates.get_mut(&name).unwrap();
            (shown.file, shown.begins_unix, shown.ends_unix) = (Digest::of("newer"), Some(NOW), Some(NOW + 90 * DAY));
        }
        assert!(assess(&stack(), &ahead, NOW).well);
        assert_eq!(lasts(&ahead), NOW + 90 * DAY, "at all of them");
        let office = ahead.edges.get_mut(&"office".parse().unwrap()).unwrap().as_mut().unwrap();
        office.public_certificates.get_mut(&name).unwrap().begins_unix = Some(NOW - DAY);
        assert_eq!(lasts(&ahead), NOW + 70 * DAY, "not everywhere");
    }

    #[test]
    fn what_a_host_renews_by_itself_limits_nothing_while_that_is_well() {
        let name: DnsName = "blog.localhost".parse().unwrap();
        let with = |healthy: bool, why: &[&str]| {
            let mut gathered = gathered(known(NOW + 70 * DAY, false));
            let renewing = Renewing {
                ends_unix: Some(NOW + 70 * DAY),
                turn_unix: Some(NOW + 40 * DAY),
                why: why.iter().map(|why| (*why).to_owned()).collect(),
            };
            let status = RenewerStatus {
                healthy,
                draining: false,
                version: "0.1.0".to_owned(),
                process: 9,
                stack: "demo".parse().unwrap(),
                datacenter: "home".parse().unwrap(),
                host: Some("atlas".parse().unwrap()),
                config_digest: Digest::of("a configuration"),
                names: BTreeMap::from([(name.clone(), renewing)]),
                last_error: None,
            };
            gathered.renewers.insert("home/atlas".parse().unwrap(), Ok(status));
            let assessment = assess(&stack(), &gathered, NOW);
            (assessment.unattended_until.map(|limit| limit.unix), assessment.warnings.len())
        };
        assert_eq!(with(true, &[]), (None, 0));
        assert_eq!(with(false, &[]), (Some(NOW + 70 * DAY), 0));
        assert_eq!(with(true, &["authority ca cannot be reached"]), (Some(NOW + 70 * DAY), 1));
        let mut away = gathered(known(NOW + 70 * DAY, false));
        away.renewers.insert("home/atlas".parse().unwrap(), Err("it does not run".to_owned()));
        assert!(assess(&stack(), &away, NOW).unattended_until.is_some());
    }

    #[test]
    fn names_that_nobody_is_asked_for_are_a_warning_unless_they_lead_nowhere() {
        let mut gathered = well(&stack());
        gathered.public.left.insert("www.example.org".parse().unwrap(), Why::Provider);
        gathered.public.left.insert("x.localhost".parse().unwrap(), Why::NoDomain);
        let assessment = assess(&stack(), &gathered, NOW);
        assert!(assessment.well);
        let warned: Vec<&str> = assessment.warnings.iter().map(|warning| warning.subject.as_str()).collect();
        assert_eq!(warned, ["www.example.org"]);
    }
}
