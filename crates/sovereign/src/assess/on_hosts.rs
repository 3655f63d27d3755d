//! What runs on a host, as it is told to people.

use sovereign_engine::embedded::UnitState;
use sovereign_engine::incus::instances::{Condition, Runs};
use sovereign_engine::incus::usage::Usage;
use sovereign_model::{EdgeName, UnitName};

use super::{Problem, UnitReport, problem};
use crate::gather::{Away, Gathered};

/// The edge of a host, its agent, its name server, its renewer, and its applications. Of a host that does not answer nothing is known but that. What is so because
/// the host is evacuated on purpose is no problem.
pub(super) fn units(gathered: &Gathered, edge: &EdgeName, problems: &mut Vec<Problem>) -> Vec<UnitReport> {
    if !gathered.evacuated.contains_key(edge) {
        return found(gathered, edge, problems);
    }
    let units = found(gathered, edge, &mut Vec::new()).into_iter();
    units.map(|unit| UnitReport { problem: None, ..unit }).collect()
}

fn found(gathered: &Gathered, edge: &EdgeName, problems: &mut Vec<Problem>) -> Vec<UnitReport> {
    let seen = match gathered.hosts.get(edge) {
        None => return Vec::new(),
        Some(Err(away)) => {
            problems.push(silent(edge, away));
            return Vec::new();
        }
        Some(Ok(seen)) => seen,
    };
    let answer = gathered.edges.get(edge).map(|answer| answer.as_ref().map(|status| (status.process, status.healthy)));
    let mut units = vec![own_unit(edge, &edge.unit(), answer.map(owned), &seen.usage, problems)];
    if let Some(answer) = gathered.agents.get(edge) {
        let providers = answer.iter().flat_map(|status| &status.providers);
        for (provider, why) in providers.filter_map(|(provider, why)| Some((provider, why.as_ref()?))) {
            problems.push(problem(edge, format!("cannot tell provider {provider} who lives: {why}"), None::<&str>));
        }
        let answer = answer.as_ref().map(|status| (status.process, status.healthy));
        units.push(own_unit(edge, &edge.agent(), Some(owned(answer)), &seen.usage, problems));
    }
    if let Some(answer) = gathered.name_servers.get(edge) {
        let answer = answer.as_ref().map(|status| (status.process, status.healthy));
        units.push(own_unit(edge, &edge.name_server(), Some(owned(answer)), &seen.usage, problems));
    }
    if let Some(answer) = gathered.renewers.get(edge) {
        let answer = answer.as_ref().map(|status| (status.process, status.healthy));
        units.push(own_unit(edge, &edge.renewer(), Some(owned(answer)), &seen.usage, problems));
    }
    match &seen.instances {
        Err(away) => problems.push(silent(edge, away)),
        Ok(instances) => {
            let rows = instances.units.iter().map(|(name, runs)| instance(edge, name, runs, &seen.usage, problems));
            units.extend(rows);
            for foreign in &instances.foreign {
                let message = format!("instance {foreign} is in the stack's project and not of its making");
                problems.push(problem(edge, message, Some("move it into a project of its own")));
            }
        }
    }
    units
}

fn owned(answer: Result<(u32, bool), &String>) -> Answer {
    answer.map_err(String::clone)
}

fn silent(edge: &EdgeName, away: &Away) -> Problem {
    let check = format!("sovereign host check {edge}");
    problem(edge, &away.why, Some(away.help.as_ref().unwrap_or(&check)))
}

/// What a daemon of the host's own says: its process, and whether it is well. Or why it does not.
type Answer = Result<(u32, bool), String>;

/// A unit of the host's own.
fn own_unit(
    edge: &EdgeName,
    unit: &UnitName,
    answer: Option<Answer>,
    usage: &Usage,
    problems: &mut Vec<Problem>,
) -> UnitReport {
    let service = usage.services.get(unit);
    let (state, wrong) = match (&answer, service) {
        (Some(Ok((_, false))), _) => (UnitState::Unhealthy, Some("it is not healthy".to_owned())),
        (Some(Ok(_)), _) => (UnitState::Healthy, None),
        (_, None) => (UnitState::Stopped, Some("it does not run".to_owned())),
        (Some(Err(why)), Some(_)) => (UnitState::Unhealthy, Some(why.clone())),
        (None, Some(_)) => (UnitState::Unhealthy, Some("it does not answer".to_owned())),
    };
    if let Some(why) = &wrong {
        problems.push(problem(unit, why, Some(&format!("sovereign logs {unit}"))));
    }
    UnitReport {
        pid: answer.and_then(|answer| i32::try_from(answer.ok()?.0).ok()),
        running_seconds: usage.running_seconds(service.and_then(|service| service.since)),
        restarts: service.map(|service| service.restarts),
        memory_bytes: service.map(|service| service.used.memory_bytes),
        cpu_ms: service.map(|service| service.used.cpu_ms),
        ..report(edge, unit, state, "systemd", wrong)
    }
}

fn instance(edge: &EdgeName, name: &UnitName, runs: &Runs, usage: &Usage, problems: &mut Vec<Problem>) -> UnitReport {
    let current = runs.current.as_ref();
    let (state, wrong) = match current.map(|current| &current.condition) {
        Some(Condition::Well) => (UnitState::Healthy, None),
        Some(Condition::Unwell(why)) => (UnitState::Unhealthy, Some(why.clone())),
        Some(Condition::Stopped) | None => (UnitState::Stopped, Some("it does not run".to_owned())),
    };
    let (runs, used) = match state {
        UnitState::Stopped => (None, None),
        _ => (current, current.and_then(|current| usage.instances.get(&current.instance))),
    };
    if let Some(why) = &wrong {
        problems.push(problem(name, why, Some("sovereign up")));
    }
    UnitReport {
        running_seconds: usage.running_seconds(runs.and_then(|current| current.started)),
        memory_bytes: used.map(|used| used.memory_bytes),
        cpu_ms: used.map(|used| used.cpu_ms),
        ..report(edge, name, state, "container", wrong)
    }
}

fn report(
    edge: &EdgeName,
    name: &UnitName,
    state: UnitState,
    confinement: &str,
    problem: Option<String>,
) -> UnitReport {
    UnitReport {
        name: name.to_string(),
        host: edge.host.clone(),
        state,
        pid: None,
        running_seconds: None,
        restarts: None,
        memory_bytes: None,
        cpu_ms: None,
        confinement: Some(confinement.to_owned()),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use sovereign_engine::incus::instances::{Current, Seen};
    use sovereign_engine::incus::usage::{ServiceUsage, Used};
    use sovereign_hosts::evacuation::Evacuation;
    use sovereign_model::{Digest, file};
    use sovereign_services::ghost::{self, Image, Placed};
    use sovereign_services::secret::Secret;

    use super::*;
    use crate::assess::tests::{told, well};
    use crate::gather::HostSeen;
    use crate::output::{Page, Report as _, Theme};

    const STACK: &str = "version = 1\n[stack]\nname = \"demo\"\n\
        [[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
        [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.7\"\nport = 443\nhttp = 80\n\
        [[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.8\"\n\
        [[datacenter]]\nname = \"office\"\nengine = \"incus\"\n\
        [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.8\"\nport = 443\nhttp = 80\n\
        [[datacenter.host]]\nname = \"boreas\"\naddress = \"192.0.2.9\"\n\
        [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"home\"\n\
        mirrors = [\"office\"]\n";
    const NOW: u64 = 1_800_000_000;

    fn runs(spec: sovereign_model::instance::InstanceSpec, condition: Condition) -> Runs {
        let current = Current {
            instance: spec.name.as_str().replace('@', "-").parse().unwrap(),
            digest: Digest::of("a description"),
            made: NOW - 7200,
            started: Some(NOW - 600),
            condition,
            starts: true,
            spec,
        };
        Runs { current: Some(current), superseded: Vec::new(), unfinished: Vec::new() }
    }

    /// A host that answers, with the site's instances.
    fn host(stack: &sovereign_model::Stack, ghost: Condition) -> HostSeen {
        let (site, image) = (&stack.sites[&"blog".parse().unwrap()], |name: &str| Image {
            name: name.parse().unwrap(),
            fingerprint: Digest::of(name),
        });
        let described = ghost::instances(&Placed {
            site,
            datacenter: &site.primary,
            host: &"atlas".parse().unwrap(),
            site_image: &image("debian-site"),
            database_image: &image("debian-database"),
            ghost_version: "6.65.0",
            ca_certificate: "a certificate",
            database_password: &Secret::new("a password"),
            edge: "10.64.0.1:443".parse().unwrap(),
        });
        let described = described.unwrap();
        let mut seen = Seen::default();
        let units = [(described.database.spec, Condition::Well), (described.ghost.spec, ghost)];
        seen.units.extend(units.map(|(spec, condition)| (spec.name.clone(), runs(spec, condition))));
        let used = |mib: u64| Used { memory_bytes: mib << 20, cpu_ms: 4000 };
        let instances = BTreeMap::from([
            ("database-blog-home".parse().unwrap(), used(120)),
            ("ghost-blog-home".parse().unwrap(), used(180)),
        ]);
        let edge = ServiceUsage { used: used(30), since: Some(NOW - 60), restarts: 2 };
        let services = BTreeMap::from([("edge-atlas@home".parse().unwrap(), edge)]);
        HostSeen { usage: Usage { now: Some(NOW), services, instances }, instances: Ok(seen) }
    }

    fn gathered(stack: &sovereign_model::Stack) -> Gathered {
        let mut gathered = well(stack);
        gathered.supervisor = None;
        for (old, new) in [("home", "home/atlas"), ("office", "office/boreas")] {
            let answer = gathered.edges.remove(&old.parse().unwrap()).unwrap();
            gathered.edges.insert(new.parse().unwrap(), answer);
        }
        gathered.hosts.insert("home/atlas".parse().unwrap(), Ok(host(stack, Condition::Well)));
        let edge = ServiceUsage { since: Some(NOW - 60), ..ServiceUsage::default() };
        let services = BTreeMap::from([("edge-boreas@office".parse().unwrap(), edge)]);
        let usage = Usage { now: Some(NOW), services, ..Usage::default() };
        gathered.hosts.insert("office/boreas".parse().unwrap(), Ok(HostSeen { usage, instances: Ok(Seen::default()) }));
        gathered
    }

    fn stack() -> sovereign_model::Stack {
        file::parse("stack.toml", STACK, Path::new("/")).unwrap()
    }

    #[test]
    fn what_runs_on_hosts_is_told_with_its_place_and_what_it_uses() {
        let stack = stack();
        let mut page = Page::new(Theme::PLAIN);
        crate::assess::assess(&stack, &gathered(&stack), NOW).show(&mut page);
        insta::assert_snapshot!(page.into_text());
    }

    #[test]
    fn a_host_that_does_not_answer_is_one_problem_and_nothing_is_made_up_of_it() {
        let stack = stack();
        let mut gathered = gathered(&stack);
        let edge: EdgeName = "office/boreas".parse().unwrap();
        let away = Away { why: "cannot reach root@192.0.2.9: no route".to_owned(), help: Some("see".to_owned()) };
        gathered.edges.insert(edge.clone(), Err(away.why.clone()));
        gathered.hosts.insert(edge.clone(), Err(away));
        assert_eq!(told(&stack, &gathered), ["office/boreas: cannot reach root@192.0.2.9: no route"]);
        assert!(units(&gathered, &edge, &mut Vec::new()).is_empty());
    }

    #[test]
    fn what_is_so_on_purpose_is_named_and_no_problem() {
        let stack = stack();
        let mut gathered = gathered(&stack);
        let edge: EdgeName = "home/atlas".parse().unwrap();
        // Its instances are stopped, and then it has no power; the mirror asks for its source in vain.
        gathered.hosts.insert(edge.clone(), Ok(host(&stack, Condition::Stopped)));
        let mirror = crate::assess::tests::site_at(&mut gathered, "office/boreas");
        mirror.source.reachable = Some(false);
        mirror.newest_fetch_unix = Some(NOW - 90_000);
        assert_eq!(told(&stack, &gathered).len(), 3, "{:?}", told(&stack, &gathered));
        let note = Evacuation::new("ann@laptop".to_owned(), "sovereign host evacuate", NOW - 600);
        gathered.evacuated.insert(edge.clone(), note);
        let off = Away { why: "cannot reach root@192.0.2.8: no route".to_owned(), help: None };
        for is_off in [false, true] {
            if is_off {
                gathered.edges.insert(edge.clone(), Err(off.why.clone()));
                gathered.hosts.insert(edge.clone(), Err(off.clone()));
            }
            let assessment = crate::assess::assess(&stack, &gathered, NOW);
            assert!(assessment.well, "{:?}", assessment.problems);
            let said: Vec<_> =
                assessment.warnings.iter().map(|said| format!("{}: {}", said.subject, said.message)).collect();
            let on_purpose = "home/atlas: evacuated on purpose by ann@laptop (`sovereign host evacuate`)";
            let blog = "blog: readers get kept pages and nobody can write: home/atlas is evacuated on purpose";
            assert_eq!(said, [on_purpose, blog]);
        }
        // Another host's problems are problems.
        gathered.edges.insert("office/boreas".parse().unwrap(), Err("the connection was closed".to_owned()));
        assert_eq!(told(&stack, &gathered), ["edge-boreas@office: the connection was closed"]);
    }

    #[test]
    fn each_thing_that_is_wrong_on_a_host_is_said_once() {
        let stack = stack();
        let mut gathered = gathered(&stack);
        let (home, office) = ("home/atlas".parse().unwrap(), "office/boreas".parse().unwrap());
        gathered.hosts.insert(home, Ok(host(&stack, Condition::Unwell("status 503".to_owned()))));
        // The host answers, its edge does not.
        gathered.edges.insert(office, Err("the connection was closed".to_owned()));
        let wrong = ["ghost-blog@home: status 503", "edge-boreas@office: the connection was closed"];
        assert_eq!(told(&stack, &gathered), wrong);
        gathered.hosts.get_mut(&"office/boreas".parse().unwrap()).unwrap().as_mut().unwrap().usage.services.clear();
        assert_eq!(told(&stack, &gathered)[1], "edge-boreas@office: it does not run");
    }
}
