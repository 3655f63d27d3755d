//! The planner: compares, and writes down the difference as steps.
//!
//! The order, and why: images (slow, and nothing is touched yet), supervisor (starts everything else), what was changed on
//! hosts behind our back, certificates,
//! then whoever holds an address that another unit needs makes room, containers in the order of their dependencies (an
//! edge's configuration says where they are), each edge with its configuration, applications that are processes, set-up
//! and settings (they need the application), mirrors (they need everything), and last what was replaced and the units
//! that nothing declares any longer. Stopping a unit never removes its data.
//!
//! Of a host that is away nothing is known, so nothing is done there, and nothing that needs it; the plan says so. Of one
//! that is evacuated on purpose everything may be known, and nothing is done there either. A site that waits for a restore is
//! left as it is, and nobody is led to it anew.

mod obstacles;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sovereign_model::observed::{CertificateSeen, EdgeSeen, UnitState, Unrestored};
use sovereign_model::stack::SiteSettings;
use sovereign_model::unit::{Replace, Runs};
use sovereign_model::{DatacenterName, Digest, EdgeName, Observed, Step, StepId, UnitName};

use crate::desired::{Wanted, WantedDatacenter, WantedEdge, WantedSite, WantedUnit};
use crate::report::{Kept, Plan, Planned, Reason};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a certificate of the internal authority lasts: with a third of it left at the latest when the operator goes
/// away, and 400 days without them, it must not have ended, and clients accept at most 825 days.
pub const LEAF_LIFE: Duration = Duration::from_secs(800 * 24 * 60 * 60);

/// Makes the plan.
pub fn plan(want: &Wanted, seen: &Observed) -> Plan {
    let mut planner = Planner { want, seen, steps: Vec::new(), kept: Kept::default(), released: BTreeSet::new() };
    let obstacles = planner.obstacles();
    if obstacles.is_empty() {
        planner.run();
    }
    let (away, evacuated) = (planner.declared(&seen.away), planner.declared(&seen.evacuated));
    let unrestored = seen.unrestored.iter().filter(|(site, _)| want.sites.contains_key(*site));
    let unrestored: BTreeMap<_, _> = unrestored.map(|(site, why)| (site.clone(), why.clone())).collect();
    let waiting = unrestored.keys().cloned().collect();
    let plan = Plan {
        stack: want.stack.clone(),
        observed: seen.fingerprint(),
        steps: planner
            .steps
            .into_iter()
            .enumerate()
            .map(|(ordinal, (step, reason))| {
                let (id, at) = (StepId::new(ordinal, &step), place(want, &step));
                Planned { id, step, reason, at }
            })
            .collect(),
        obstacles,
        kept: planner.kept,
        away,
        evacuated,
        unrestored,
    };
    if plan.unrestored.is_empty() { plan } else { plan.sparing(&waiting, &BTreeSet::new(), want) }
}

/// The host where a step is done; `None` for this machine.
fn place(want: &Wanted, step: &Step) -> Option<EdgeName> {
    let at = match step {
        Step::PrepareImage { .. } | Step::StartSupervisor { .. } | Step::ReplaceSupervisor { .. } => return None,
        Step::MendHost { edge }
        | Step::IssueCertificate { edge, .. }
        | Step::ConfigureEdge { edge, .. }
        | Step::FillMirror { edge, .. } => edge.clone(),
        Step::RunUnit { datacenter, unit, .. }
        | Step::ReplaceUnit { datacenter, unit, .. }
        | Step::StopUnit { datacenter, unit }
        | Step::RetireUnit { datacenter, unit } => EdgeName::on(datacenter, want.unit(datacenter, unit)?.runs.host()?),
        Step::SetUpSite { site, .. } | Step::ApplySettings { site, .. } => want.sites.get(site)?.source.clone(),
    };
    Some(at).filter(|at| at.host.is_some())
}

struct Planner<'p> {
    want: &'p Wanted,
    seen: &'p Observed,
    steps: Vec<(Step, Reason)>,
    kept: Kept,
    /// Units that are stopped early because another one needs their address.
    released: BTreeSet<(&'p DatacenterName, &'p UnitName)>,
}

impl<'p> Planner<'p> {
    fn add(&mut self, step: Step, reason: Reason) {
        self.steps.push((step, reason));
    }

    fn run(&mut self) {
        let want = self.want;
        self.images();
        if want.supervised {
            self.supervisor();
        }
        let edges: Vec<_> = want.edges.iter().filter(|(edge, _)| !self.is_away(edge)).collect();
        for (name, _) in &edges {
            let drift = self.seen.edges.get(name).map(|seen| seen.drift.clone()).unwrap_or_default();
            if !drift.is_empty() {
                self.add(Step::MendHost { edge: (*name).clone() }, Reason::Drifted(drift));
            }
        }
        let mut renewed = BTreeSet::new();
        for (name, edge) in &edges {
            if self.certificate(name, edge) {
                renewed.insert(*name);
            }
        }
        self.release_addresses();
        self.applications(|runs| matches!(runs, Runs::Instance(_)));
        for (name, edge) in edges {
            self.edge(name, edge, renewed.contains(name));
        }
        self.applications(|runs| matches!(runs, Runs::Unit(_)));
        for (site, wanted) in &want.sites {
            if !self.is_away(&wanted.source) {
                self.site(site, wanted);
            }
        }
        self.mirrors();
        self.replaced();
        self.undeclared();
    }

    /// Whether nothing is known of the host that an edge is on, or nothing is to be done there.
    fn is_away(&self, edge: &EdgeName) -> bool {
        self.seen.away.contains_key(edge) || self.seen.evacuated.contains_key(edge)
    }

    fn declared(&self, hosts: &BTreeMap<EdgeName, String>) -> BTreeMap<EdgeName, String> {
        let wanted = hosts.iter().filter(|(edge, _)| self.want.edges.contains_key(edge));
        wanted.map(|(edge, why)| (edge.clone(), why.clone())).collect()
    }

    /// All units of one kind that are no edges.
    fn applications(&mut self, of_kind: impl Fn(&Runs) -> bool) {
        let want = self.want;
        let edges: BTreeSet<&UnitName> = want.edges.values().map(|edge| &edge.unit).collect();
        for (name, datacenter) in &want.datacenters {
            for (unit, wanted) in in_order(datacenter, &edges) {
                let host = wanted.runs.host().map(|host| EdgeName::on(name, host));
                if of_kind(&wanted.runs) && !host.is_some_and(|host| self.is_away(&host)) {
                    self.unit(name, unit, wanted);
                }
            }
        }
    }

    fn images(&mut self) {
        for (image, lock) in &self.want.images {
            let reason = match self.seen.images.get(image) {
                Some(seen) if seen.lock == *lock => {
                    self.kept.images += 1;
                    continue;
                }
                Some(_) => Reason::Changed,
                None => Reason::Absent,
            };
            self.add(Step::PrepareImage { image: image.clone(), lock: *lock }, reason);
        }
    }

    fn supervisor(&mut self) {
        let binary = self.want.binary;
        match &self.seen.supervisor {
            None => self.add(Step::StartSupervisor { binary }, Reason::NotRunning),
            Some(seen) if seen.binary != binary => self.add(Step::ReplaceSupervisor { binary }, Reason::OtherBinary),
            Some(_) => self.kept.supervisor = true,
        }
    }

    /// Stops first whoever holds an address of this machine that is another unit's now: a socket has one owner.
    fn release_addresses(&mut self) {
        let mut holders: BTreeMap<SocketAddr, (&'p DatacenterName, &'p UnitName)> = BTreeMap::new();
        for (datacenter, seen) in &self.seen.datacenters {
            for (name, unit) in &seen.units {
                holders.extend(unit.sockets.iter().map(|address| (*address, (datacenter, name))));
            }
        }
        let want = self.want;
        for (datacenter, wanted) in &want.datacenters {
            for (name, unit) in &wanted.units {
                for socket in unit.runs.sockets().iter().filter(|_| unit.runs.host().is_none()) {
                    let Some(&holder) = holders.get(&socket.address) else { continue };
                    if holder != (datacenter, name) && self.released.insert(holder) {
                        let (datacenter, unit) = (holder.0.clone(), holder.1.clone());
                        self.add(Step::StopUnit { datacenter, unit }, Reason::AddressNeeded { by: name.clone() });
                    }
                }
            }
        }
    }

    /// Whether a certificate is issued.
    fn certificate(&mut self, name: &EdgeName, wanted: &WantedEdge) -> bool {
        let seen = self.seen.edges.get(name).and_then(|seen| seen.certificate.as_ref());
        let Some(reason) = self.why_certificate(wanted, seen) else { return false };
        let step = Step::IssueCertificate {
            edge: name.clone(),
            names: wanted.certificate.names.clone(),
            addresses: wanted.certificate.addresses.clone(),
            not_after: self.want.now + LEAF_LIFE.as_secs(),
        };
        self.add(step, reason);
        true
    }

    fn why_certificate(&mut self, wanted: &WantedEdge, seen: Option<&CertificateSeen>) -> Option<Reason> {
        let Some(seen) = seen else { return Some(Reason::Absent) };
        if seen.names != wanted.certificate.names || seen.addresses != wanted.certificate.addresses {
            return Some(Reason::Changed);
        }
        let left = seen.not_after.saturating_sub(self.want.now);
        let days = left / DAY.as_secs();
        if left < LEAF_LIFE.as_secs() / 3 {
            return Some(Reason::Ending(days));
        }
        self.kept.certificates += 1;
        self.kept.first_end_days = Some(self.kept.first_end_days.map_or(days, |first| first.min(days)));
        None
    }

    /// An edge needs its configuration before it starts. One that is well and is replaced gets a new one afterwards: the
    /// new edge may know words, and may see folders, that the old one does not, and it can read the old configuration.
    fn edge(&mut self, name: &'p EdgeName, wanted: &'p WantedEdge, renewed: bool) {
        let unit = &wanted.unit;
        let Some(wanted_unit) = self.want.unit(&name.datacenter, unit) else { return };
        let seen = self.seen.edges.get(name);
        let runs = self.runs(&name.datacenter, unit);
        let config = seen.and_then(|seen| seen.config.as_ref());
        // Where a restore was cut off, no reader is led to what it has brought up.
        let is_arriving = |(site, waits): (_, &Unrestored)| {
            waits.is_arriving && self.want.sites.get(site).is_some_and(|site| site.source == *name)
        };
        let waits = config.is_some() && self.seen.unrestored.iter().any(is_arriving);
        let why = self.why_configure(wanted, seen, renewed, runs).filter(|_| !waits);
        let configure = why.map(|reason| {
            let written = config.and_then(|config| config.provenance.as_ref()?.newest_written());
            let generation = config.map_or(0, |config| config.generation).max(written.unwrap_or(0)) + 1;
            (Step::ConfigureEdge { edge: name.clone(), generation, config: Box::new(wanted.config.clone()) }, reason)
        });
        let well_and_replaced = self.seen.unit(&name.datacenter, unit).is_some_and(|seen| {
            seen.state == UnitState::Healthy
                && seen.spec != wanted_unit.digest
                && !self.released.contains(&(&name.datacenter, unit))
        });
        if well_and_replaced && config.is_some() {
            self.unit(&name.datacenter, unit, wanted_unit);
            self.steps.extend(configure);
        } else {
            self.steps.extend(configure);
            self.unit(&name.datacenter, unit, wanted_unit);
        }
    }

    fn why_configure(
        &mut self,
        wanted: &WantedEdge,
        seen: Option<&EdgeSeen>,
        renewed: bool,
        runs: bool,
    ) -> Option<Reason> {
        let Some(config) = seen.and_then(|seen| seen.config.as_ref()) else { return Some(Reason::Absent) };
        if config.config != wanted.config_digest {
            return Some(Reason::Changed);
        }
        let ready = seen.and_then(|seen| seen.certificate.as_ref()).map(|certificate| certificate.chain);
        let other = config.certificate.is_some() && config.certificate != ready;
        if runs && (renewed || other) {
            return Some(Reason::CertificateRenewed);
        }
        self.kept.edges += 1;
        None
    }

    /// Whether a unit runs when its turn comes.
    fn runs(&self, datacenter: &'p DatacenterName, unit: &'p UnitName) -> bool {
        let meant_to = self.seen.unit(datacenter, unit).is_some_and(|seen| seen.state != UnitState::Stopped);
        meant_to && !self.released.contains(&(datacenter, unit))
    }

    fn unit(&mut self, datacenter: &'p DatacenterName, name: &'p UnitName, wanted: &WantedUnit) {
        let spec: Digest = wanted.digest;
        let (datacenter_name, unit) = (datacenter.clone(), name.clone());
        let replace = Step::ReplaceUnit { datacenter: datacenter_name.clone(), unit: unit.clone(), spec };
        let run = Step::RunUnit { datacenter: datacenter_name, unit, spec };
        if self.released.contains(&(datacenter, name)) {
            return self.add(run, Reason::Changed);
        }
        match self.seen.unit(datacenter, name).map(|seen| (&seen.state, seen.spec == spec)) {
            None => self.add(run, Reason::Absent),
            Some((UnitState::Stopped, _)) => self.add(run, Reason::NotRunning),
            Some((_, false)) => self.add(replace, Reason::Changed),
            Some((UnitState::Failed(why), true)) => self.add(run, Reason::GivenUp(why.clone())),
            Some((UnitState::Unhealthy, true)) => self.add(run, Reason::NotWell),
            Some((UnitState::Healthy, true)) => self.kept.units += 1,
        }
    }

    fn site(&mut self, site: &sovereign_model::SiteName, wanted: &WantedSite) {
        let seen = self.seen.sites.get(site);
        let set_up = match seen {
            Some(seen) if seen.set_up && seen.webhook => None,
            Some(seen) if seen.set_up => Some(Reason::NoNotices),
            Some(_) | None => Some(Reason::Absent),
        };
        let applied = seen.and_then(|seen| seen.settings);
        let settings = match applied {
            Some(applied) if applied == wanted.settings_digest => None,
            Some(_) => Some(Reason::Changed),
            None if wanted.settings == SiteSettings::default() => None,
            None => Some(Reason::Absent),
        };
        if set_up.is_none() && settings.is_none() {
            self.kept.sites += 1;
        }
        if let Some(reason) = set_up {
            self.add(Step::SetUpSite { datacenter: wanted.primary.clone(), site: site.clone() }, reason);
        }
        if let Some(reason) = settings {
            let step = Step::ApplySettings {
                datacenter: wanted.primary.clone(),
                site: site.clone(),
                settings: wanted.settings.clone(),
                digest: wanted.settings_digest,
            };
            self.add(step, reason);
        }
    }

    fn mirrors(&mut self) {
        for (name, wanted) in &self.want.edges {
            let seen = self.seen.edges.get(name).map(|seen| &seen.mirrors);
            for site in &wanted.mirrors {
                let source_is_away = self.want.sites.get(site).is_some_and(|site| self.is_away(&site.source));
                if self.is_away(name) || source_is_away {
                    continue;
                }
                let reason = match seen.and_then(|mirrors| mirrors.get(site)) {
                    Some(mirror) if mirror.complete => {
                        self.kept.mirrors += 1;
                        continue;
                    }
                    Some(_) => Reason::Incomplete,
                    None => Reason::Absent,
                };
                self.add(Step::FillMirror { edge: name.clone(), site: site.clone() }, reason);
            }
        }
    }

    /// What was replaced beside its successor: whoever was sent to it has heard of that by now.
    fn replaced(&mut self) {
        for (datacenter, wanted) in &self.want.datacenters {
            for (unit, wanted) in &wanted.units {
                let Some(seen) = self.seen.unit(datacenter, unit) else { continue };
                if wanted.runs.host().is_some_and(|host| self.is_away(&EdgeName::on(datacenter, host))) {
                    continue;
                }
                let is_beside = matches!(&wanted.runs, Runs::Instance(instance) if instance.replace == Replace::Beside);
                let is_beside = is_beside && seen.state != UnitState::Stopped;
                if seen.superseded || (is_beside && seen.spec != wanted.digest) {
                    let step = Step::RetireUnit { datacenter: datacenter.clone(), unit: unit.clone() };
                    self.add(step, Reason::Replaced);
                }
            }
        }
    }

    fn undeclared(&mut self) {
        for (datacenter, seen) in &self.seen.datacenters {
            for (unit, state) in &seen.units {
                let over = state.state == UnitState::Stopped || self.released.contains(&(datacenter, unit));
                if !over && self.want.unit(datacenter, unit).is_none() {
                    let step = Step::StopUnit { datacenter: datacenter.clone(), unit: unit.clone() };
                    self.add(step, Reason::Undeclared);
                }
            }
        }
    }
}

/// The units of a data center that are no edges, each after those it waits for.
fn in_order<'w>(
    datacenter: &'w WantedDatacenter,
    edges: &BTreeSet<&'w UnitName>,
) -> Vec<(&'w UnitName, &'w WantedUnit)> {
    fn visit<'w>(
        name: &'w UnitName,
        units: &'w BTreeMap<UnitName, WantedUnit>,
        seen: &mut BTreeSet<&'w UnitName>,
        order: &mut Vec<(&'w UnitName, &'w WantedUnit)>,
    ) {
        let Some(unit) = units.get(name) else { return };
        if seen.insert(name) {
            unit.runs.after().iter().for_each(|before| visit(before, units, seen, order));
            order.push((name, unit));
        }
    }
    let (mut seen, mut order) = (edges.clone(), Vec::new());
    datacenter.units.keys().for_each(|name| visit(name, &datacenter.units, &mut seen, &mut order));
    order
}
