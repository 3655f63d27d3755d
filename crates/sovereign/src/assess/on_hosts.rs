//! What runs on a host, as it is told to people.

use sovereign_engine::embedded::UnitState;
use sovereign_engine::incus::instances::Condition;
use sovereign_model::EdgeName;

use super::{Problem, UnitReport, problem};
use crate::gather::Gathered;

/// The edge of a host, and its applications.
pub(super) fn units(gathered: &Gathered, edge: &EdgeName, problems: &mut Vec<Problem>) -> Vec<UnitReport> {
    let mut units = Vec::new();
    if let Some(answer) = gathered.edges.get(edge) {
        let (state, pid) = match answer {
            Ok(status) => (UnitState::Healthy, i32::try_from(status.process).ok()),
            Err(_) => (UnitState::Unhealthy, None),
        };
        let (problem, confinement) = (answer.as_ref().err().cloned(), Some("systemd".to_owned()));
        units.push(UnitReport { pid, problem, confinement, ..report(edge.unit().to_string(), state) });
    }
    match gathered.instances.get(edge) {
        None => {}
        Some(Err(why)) => {
            let help = format!("sovereign host check {edge}");
            problems.push(problem(edge, why, Some(&help)));
        }
        Some(Ok(seen)) => {
            for (name, runs) in &seen.units {
                let (state, wrong) = match runs.current.as_ref().map(|current| &current.condition) {
                    Some(Condition::Well) => (UnitState::Healthy, None),
                    Some(Condition::Unwell(why)) => (UnitState::Unhealthy, Some(why.clone())),
                    Some(Condition::Stopped) | None => (UnitState::Stopped, Some("it does not run".to_owned())),
                };
                if let Some(why) = &wrong {
                    problems.push(problem(name, why, Some("sovereign up")));
                }
                let confinement = Some("container".to_owned());
                units.push(UnitReport { problem: wrong, confinement, ..report(name.to_string(), state) });
            }
            for foreign in &seen.foreign {
                let message = format!("instance {foreign} is in the stack's project and not of its making");
                problems.push(problem(edge, message, Some("move it into a project of its own")));
            }
        }
    }
    units
}

fn report(name: String, state: UnitState) -> UnitReport {
    UnitReport {
        name,
        state,
        pid: None,
        running_seconds: None,
        restarts: 0,
        memory_bytes: 0,
        cpu_ms: 0,
        confinement: None,
        problem: None,
    }
}
