//! Rules that every plan keeps, checked on the finished plan without asking the planner.

use std::collections::BTreeSet;

use sovereign_model::observed::UnitState;
use sovereign_model::{DatacenterName, Digest, EdgeName, ImageName, Observed, SiteName, Step, StepId, UnitName};

use crate::desired::{Wanted, WantedUnit};
use crate::report::Plan;
use crate::simulate::simulate;

/// A rule that a plan breaks: a mistake in the planner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A step would remove data. No step may.
    #[error("step {0} removes data")]
    RemovesData(StepId),
    /// The same change twice.
    #[error("step {0} is in the plan twice")]
    Twice(StepId),
    /// Steps in spite of an obstacle.
    #[error("the plan has steps and obstacles")]
    StepsDespiteObstacles,
    /// A unit that nothing describes, or by another description.
    #[error("{0} is not described like this")]
    UnknownUnit(UnitName),
    /// A unit is started before the supervisor.
    #[error("{0} starts before the supervisor")]
    NoSupervisor(UnitName),
    /// A unit is started before its image is there.
    #[error("{unit} starts before image {image} is there")]
    NoImage {
        /// The unit.
        unit: UnitName,
        /// The image.
        image: ImageName,
    },
    /// A unit is started before one that it waits for.
    #[error("{unit} starts before {before}")]
    TooEarly {
        /// The unit.
        unit: UnitName,
        /// The one it waits for.
        before: UnitName,
    },
    /// A unit is started at an address that another one holds.
    #[error("{unit} starts while {holder} holds its address")]
    AddressHeld {
        /// The unit.
        unit: UnitName,
        /// Who holds the address.
        holder: UnitName,
    },
    /// An edge is started without configuration or certificate.
    #[error("{0} starts without configuration or certificate")]
    EdgeNotReady(UnitName),
    /// A declared unit is stopped and not started again.
    #[error("{0} is declared, and stopped for good")]
    StopsDeclared(UnitName),
    /// A configuration whose generation is not higher than the one before.
    #[error("the configuration of the edge of {0} does not count up")]
    Generation(EdgeName),
    /// A site is set up while one of its units is not well.
    #[error("site {0} is set up before it runs")]
    SetUpTooEarly(SiteName),
    /// Settings before the set-up.
    #[error("settings of site {0} before its set-up")]
    SettingsTooEarly(SiteName),
    /// A mirror without an edge to keep it.
    #[error("the mirror of site {site} at {edge} is filled before the edge runs")]
    MirrorTooEarly {
        /// The site.
        site: SiteName,
        /// The edge that is to keep it.
        edge: EdgeName,
    },
    /// What a unit has replaced is ended while an edge may still lead to it.
    #[error("what {0} has replaced is ended before every edge knows the new one")]
    RetiredTooEarly(UnitName),
}

/// Everything that is wrong with a plan for `want`, made when `seen` was seen. Empty for every plan of this crate.
pub fn lint(plan: &Plan, want: &Wanted, seen: &Observed) -> Vec<Violation> {
    let mut lint = Lint { want, seen: seen.clone(), violations: Vec::new() };
    if !plan.obstacles.is_empty() && !plan.steps.is_empty() {
        lint.violations.push(Violation::StepsDespiteObstacles);
    }
    let mut contents = BTreeSet::new();
    for planned in &plan.steps {
        if removes_data(&planned.step) {
            lint.violations.push(Violation::RemovesData(planned.id));
        }
        if !contents.insert(Digest::of_value(&planned.step)) {
            lint.violations.push(Violation::Twice(planned.id));
        }
        lint.before(&planned.step);
        simulate(&planned.step, want, &mut lint.seen);
    }
    lint.stopped_for_good(plan);
    lint.violations
}

/// Spelled out for each kind of step, so that a new kind cannot come in without an answer.
fn removes_data(step: &Step) -> bool {
    match step {
        Step::PrepareImage { .. }
        | Step::StartSupervisor { .. }
        | Step::ReplaceSupervisor { .. }
        | Step::MendHost { .. }
        | Step::IssueCertificate { .. }
        | Step::ConfigureEdge { .. }
        | Step::RunUnit { .. }
        | Step::ReplaceUnit { .. }
        | Step::StopUnit { .. }
        | Step::RetireUnit { .. }
        | Step::SetUpSite { .. }
        | Step::ApplySettings { .. }
        | Step::FillMirror { .. } => false,
    }
}

struct Lint<'l> {
    want: &'l Wanted,
    /// The world as it is when the next step begins.
    seen: Observed,
    violations: Vec<Violation>,
}

impl Lint<'_> {
    fn before(&mut self, step: &Step) {
        match step {
            Step::RunUnit { datacenter, unit, spec } | Step::ReplaceUnit { datacenter, unit, spec } => {
                match self.want.unit(datacenter, unit) {
                    Some(wanted) if wanted.digest == *spec => self.start(datacenter, unit, wanted),
                    _ => self.violations.push(Violation::UnknownUnit(unit.clone())),
                }
            }
            Step::ConfigureEdge { edge, generation, .. } => {
                let config = self.seen.edges.get(edge).and_then(|seen| seen.config.as_ref());
                if config.is_some_and(|config| config.generation >= *generation) {
                    self.violations.push(Violation::Generation(edge.clone()));
                }
            }
            Step::SetUpSite { datacenter, site } => {
                let units = self.want.sites.get(site).map(|site| &site.units);
                let healthy = |unit: &UnitName| self.healthy(datacenter, unit);
                if !units.is_some_and(|units| units.iter().all(healthy)) {
                    self.violations.push(Violation::SetUpTooEarly(site.clone()));
                }
            }
            Step::ApplySettings { site, .. } => {
                if !self.seen.sites.get(site).is_some_and(|site| site.set_up) {
                    self.violations.push(Violation::SettingsTooEarly(site.clone()));
                }
            }
            Step::FillMirror { edge, site } => {
                let unit = self.want.edges.get(edge).map(|wanted| &wanted.unit);
                if !unit.is_some_and(|unit| self.healthy(&edge.datacenter, unit)) {
                    let (site, edge) = (site.clone(), edge.clone());
                    self.violations.push(Violation::MirrorTooEarly { site, edge });
                }
            }
            // Somebody may still be sent to what it has replaced.
            Step::RetireUnit { datacenter, unit } => {
                let is_new = self.want.unit(datacenter, unit).map(|wanted| wanted.digest)
                    == self.seen.unit(datacenter, unit).map(|seen| seen.spec);
                let stale = self.want.edges.iter().filter(|(name, _)| !self.is_left_alone(name));
                let mut stale = stale.filter(|(name, wanted)| {
                    let config = self.seen.edges.get(*name).and_then(|seen| seen.config.as_ref());
                    config.map(|config| config.config) != Some(wanted.config_digest)
                });
                if !is_new || stale.next().is_some() {
                    self.violations.push(Violation::RetiredTooEarly(unit.clone()));
                }
            }
            Step::PrepareImage { .. }
            | Step::StartSupervisor { .. }
            | Step::ReplaceSupervisor { .. }
            | Step::MendHost { .. }
            | Step::IssueCertificate { .. }
            | Step::StopUnit { .. } => {}
        }
    }

    fn is_left_alone(&self, edge: &EdgeName) -> bool {
        self.seen.away.contains_key(edge) || self.seen.evacuated.contains_key(edge)
    }

    fn start(&mut self, datacenter: &DatacenterName, unit: &UnitName, wanted: &WantedUnit) {
        let here = wanted.runs.host().is_none();
        if here && self.seen.supervisor.as_ref().is_none_or(|supervisor| supervisor.binary != self.want.binary) {
            self.violations.push(Violation::NoSupervisor(unit.clone()));
        }
        for image in &wanted.images {
            if self.seen.images.get(image).map(|seen| seen.lock) != self.want.images.get(image).copied() {
                self.violations.push(Violation::NoImage { unit: unit.clone(), image: image.clone() });
            }
        }
        for before in wanted.runs.after() {
            if !self.healthy(datacenter, before) {
                self.violations.push(Violation::TooEarly { unit: unit.clone(), before: before.clone() });
            }
        }
        let addresses: BTreeSet<_> =
            wanted.runs.sockets().iter().filter(|_| here).map(|socket| socket.address).collect();
        for (other_datacenter, seen) in &self.seen.datacenters {
            for (holder, other) in &seen.units {
                if (other_datacenter, holder) != (datacenter, unit) && !other.sockets.is_disjoint(&addresses) {
                    self.violations.push(Violation::AddressHeld { unit: unit.clone(), holder: holder.clone() });
                }
            }
        }
        let edge = self.want.edges.iter().find(|(_, edge)| edge.unit == *unit).map(|(name, _)| name);
        let ready = |edge| self.seen.edges.get(edge).is_some_and(|s| s.config.is_some() && s.certificate.is_some());
        if edge.is_some_and(|edge| !ready(edge)) {
            self.violations.push(Violation::EdgeNotReady(unit.clone()));
        }
    }

    fn stopped_for_good(&mut self, plan: &Plan) {
        for planned in &plan.steps {
            if let Step::StopUnit { datacenter, unit } = &planned.step
                && self.want.unit(datacenter, unit).is_some()
                && !self.healthy(datacenter, unit)
            {
                self.violations.push(Violation::StopsDeclared(unit.clone()));
            }
        }
    }

    fn healthy(&self, datacenter: &DatacenterName, unit: &UnitName) -> bool {
        self.seen.unit(datacenter, unit).is_some_and(|unit| unit.state == UnitState::Healthy)
    }
}
