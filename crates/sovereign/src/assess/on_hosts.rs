//! What runs on a host, as it is told to people.

use sovereign_engine::embedded::UnitState;
use sovereign_engine::incus::instances::{Condition, Runs};
use sovereign_engine::incus::usage::Usage;
use sovereign_model::{EdgeName, UnitName};

use super::{Problem, UnitReport, problem};
use crate::gather::{Away, Gathered};

/// The edge of a host, and its applications. Of a host that does not answer nothing is known but that.
pub(super) fn units(gathered: &Gathered, edge: &EdgeName, problems: &mut Vec<Problem>) -> Vec<UnitReport> {
    let seen = match gathered.hosts.get(edge) {
        None => return Vec::new(),
        Some(Err(away)) => {
            problems.push(silent(edge, away));
            return Vec::new();
        }
        Some(Ok(seen)) => seen,
    };
    let mut units = vec![edge_unit(gathered, edge, &seen.usage, problems)];
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

fn silent(edge: &EdgeName, away: &Away) -> Problem {
    let check = format!("sovereign host check {edge}");
    problem(edge, &away.why, Some(away.help.as_ref().unwrap_or(&check)))
}

fn edge_unit(gathered: &Gathered, edge: &EdgeName, usage: &Usage, problems: &mut Vec<Problem>) -> UnitReport {
    let unit = edge.unit();
    let answer = gathered.edges.get(edge).and_then(|answer| answer.as_ref().ok());
    let (state, wrong) = match (answer, gathered.edges.get(edge), usage.edge) {
        (Some(status), ..) if !status.healthy => (UnitState::Unhealthy, Some("it is not healthy".to_owned())),
        (Some(_), ..) => (UnitState::Healthy, None),
        (None, _, None) => (UnitState::Stopped, Some("it does not run".to_owned())),
        (None, Some(Err(why)), Some(_)) => (UnitState::Unhealthy, Some(why.clone())),
        (None, _, Some(_)) => (UnitState::Unhealthy, Some("it does not answer".to_owned())),
    };
    if let Some(why) = &wrong {
        problems.push(problem(&unit, why, Some(&format!("sovereign logs {unit}"))));
    }
    UnitReport {
        pid: answer.and_then(|status| i32::try_from(status.process).ok()),
        running_seconds: usage.running_seconds(usage.edge.and_then(|edge| edge.since)),
        restarts: usage.edge.map(|edge| edge.restarts),
        memory_bytes: usage.edge.map(|edge| edge.used.memory_bytes),
        cpu_ms: usage.edge.map(|edge| edge.used.cpu_ms),
        ..report(edge, &unit, state, "systemd", wrong)
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
