//! Telling those who run what an operator has decided beside the stack file: the part of a plan that does that, and whether
//! it may be carried out alone.
//!
//! Promise: nothing is started that does not run, and nobody is led to what is not there yet: where the stack file was
//! changed in ways that were not carried out, that is said, since who is told would hear of those too.

use std::collections::BTreeSet;

use sovereign_model::{Step, UnitName};

use crate::desired::Wanted;
use crate::report::{Plan, Planned, Reason};

/// Who is to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearer {
    /// Name servers, and agents that tell providers of DNS who lives.
    NameServers,
    /// Edges.
    Edges,
}

/// How a decision gets to those who run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// What of the plan tells them. The ids stay those of the whole plan.
    pub plan: Plan,
    /// Other changes that were not carried out yet.
    pub pending: Vec<Planned>,
}

/// The part of a whole `plan` that tells `hearers`.
pub fn telling(plan: &Plan, want: &Wanted, hearers: Hearer) -> Telling {
    let publish = want.agents.values().filter(|agent| agent.config.publishes.is_some()).map(|agent| &agent.unit);
    let answer: BTreeSet<&UnitName> = want.name_servers.values().map(|server| &server.unit).chain(publish).collect();
    let units: BTreeSet<&UnitName> = match hearers {
        Hearer::NameServers => answer.clone(),
        Hearer::Edges => want.edges.values().map(|edge| &edge.unit).collect(),
    };
    let tells = |planned: &Planned| match &planned.step {
        Step::ReplaceUnit { unit, .. } => units.contains(unit),
        Step::ConfigureEdge { .. } => hearers == Hearer::Edges && planned.reason != Reason::Absent,
        _ => false,
    };
    // What does not run, or was changed behind our back, is nobody's change of the stack file. Nor need another configuration
    // of an edge, or another name server, be one: it may be a decision that somebody who was away has not heard of yet. What
    // readers could be led to before it is there needs a certificate or a unit as well.
    let is_change = |planned: &Planned| {
        let changes = match &planned.step {
            Step::IssueCertificate { .. } => true,
            Step::RunUnit { unit, .. } | Step::ReplaceUnit { unit, .. } => !answer.contains(unit),
            _ => false,
        };
        changes && matches!(planned.reason, Reason::Absent | Reason::Changed)
    };
    let (steps, others): (Vec<_>, Vec<_>) = plan.steps.iter().cloned().partition(tells);
    Telling { plan: Plan { steps, ..plan.clone() }, pending: others.into_iter().filter(is_change).collect() }
}
