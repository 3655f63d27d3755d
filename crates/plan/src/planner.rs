//! The planner: compares, and writes down the difference as steps.
//!
//! The order, and why: images (slow, and nothing is touched yet), supervisor (starts everything else), certificates,
//! then whoever holds an address that another unit needs makes room, each edge with its configuration, applications in
//! the order of their dependencies, set-up and settings (they need the application), mirrors (they need everything),
//! and last the units that nothing declares any longer. Stopping a unit never removes its data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sovereign_model::observed::{CertificateSeen, DatacenterSeen, UnitState};
use sovereign_model::stack::SiteSettings;
use sovereign_model::{DatacenterName, Digest, Observed, Step, StepId, UnitName};

use crate::desired::{Wanted, WantedDatacenter, WantedSite, WantedUnit};
use crate::report::{Kept, Obstacle, Plan, Planned, Reason};

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
    Plan {
        stack: want.stack.clone(),
        observed: seen.fingerprint(),
        steps: planner
            .steps
            .into_iter()
            .enumerate()
            .map(|(ordinal, (step, reason))| Planned { id: StepId::new(ordinal, &step), step, reason })
            .collect(),
        obstacles,
        kept: planner.kept,
    }
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

    fn obstacles(&self) -> Vec<Obstacle> {
        let sites = self.want.sites.iter().filter_map(|(site, want)| Some((site, want, self.seen.sites.get(site)?)));
        sites
            .filter(|(_, want, seen)| want.primary != seen.primary)
            .map(|(site, want, seen)| Obstacle::DataElsewhere {
                site: site.clone(),
                declared: want.primary.clone(),
                found: seen.primary.clone(),
            })
            .collect()
    }

    fn run(&mut self) {
        let want = self.want;
        self.images();
        self.supervisor();
        let mut renewed = BTreeSet::new();
        for (name, datacenter) in &want.datacenters {
            if self.certificate(name, datacenter) {
                renewed.insert(name);
            }
        }
        self.release_addresses();
        for (name, datacenter) in &want.datacenters {
            self.edge(name, datacenter, renewed.contains(name));
        }
        for (name, datacenter) in &want.datacenters {
            for (unit, wanted) in in_order(datacenter) {
                self.unit(name, unit, wanted);
            }
        }
        for (site, wanted) in &want.sites {
            self.site(site, wanted);
        }
        self.mirrors();
        self.undeclared();
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

    /// Stops first whoever holds an address that is another unit's now: a socket has one owner.
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
                for socket in &unit.spec.sockets {
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
    fn certificate(&mut self, name: &DatacenterName, wanted: &WantedDatacenter) -> bool {
        let seen = self.seen.datacenters.get(name).and_then(|seen| seen.certificate.as_ref());
        let Some(reason) = self.why_certificate(wanted, seen) else { return false };
        let step = Step::IssueCertificate {
            datacenter: name.clone(),
            names: wanted.certificate.names.clone(),
            addresses: wanted.certificate.addresses.clone(),
            not_after: self.want.now + LEAF_LIFE.as_secs(),
        };
        self.add(step, reason);
        true
    }

    fn why_certificate(&mut self, wanted: &WantedDatacenter, seen: Option<&CertificateSeen>) -> Option<Reason> {
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
    fn edge(&mut self, name: &'p DatacenterName, wanted: &'p WantedDatacenter, renewed: bool) {
        let unit = &wanted.edge;
        let wanted_unit = &wanted.units[unit];
        let seen = self.seen.datacenters.get(name);
        let runs = self.runs(name, unit);
        let configure = self.why_configure(wanted, seen, renewed, runs).map(|reason| {
            let generation = seen.and_then(|seen| seen.edge.as_ref()).map_or(0, |edge| edge.generation) + 1;
            (
                Step::ConfigureEdge { datacenter: name.clone(), generation, config: Box::new(wanted.config.clone()) },
                reason,
            )
        });
        let well_and_replaced = self.seen.unit(name, unit).is_some_and(|seen| {
            seen.state == UnitState::Healthy
                && seen.spec != wanted_unit.digest
                && !self.released.contains(&(name, unit))
        });
        if well_and_replaced && seen.is_some_and(|seen| seen.edge.is_some()) {
            self.unit(name, unit, wanted_unit);
            self.steps.extend(configure);
        } else {
            self.steps.extend(configure);
            self.unit(name, unit, wanted_unit);
        }
    }

    fn why_configure(
        &mut self,
        wanted: &WantedDatacenter,
        seen: Option<&DatacenterSeen>,
        renewed: bool,
        runs: bool,
    ) -> Option<Reason> {
        let Some(edge) = seen.and_then(|seen| seen.edge.as_ref()) else { return Some(Reason::Absent) };
        if edge.config != wanted.config_digest {
            return Some(Reason::Changed);
        }
        let ready = seen.and_then(|seen| seen.certificate.as_ref()).map(|certificate| certificate.chain);
        let other = edge.certificate.is_some() && edge.certificate != ready;
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
        for (name, wanted) in &self.want.datacenters {
            let seen = self.seen.datacenters.get(name).map(|seen| &seen.mirrors);
            for site in &wanted.mirrors {
                let reason = match seen.and_then(|mirrors| mirrors.get(site)) {
                    Some(mirror) if mirror.complete => {
                        self.kept.mirrors += 1;
                        continue;
                    }
                    Some(_) => Reason::Incomplete,
                    None => Reason::Absent,
                };
                self.add(Step::FillMirror { datacenter: name.clone(), site: site.clone() }, reason);
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

/// The applications of a data center, each after those it waits for.
fn in_order(datacenter: &WantedDatacenter) -> Vec<(&UnitName, &WantedUnit)> {
    fn visit<'w>(
        name: &'w UnitName,
        units: &'w BTreeMap<UnitName, WantedUnit>,
        seen: &mut BTreeSet<&'w UnitName>,
        order: &mut Vec<(&'w UnitName, &'w WantedUnit)>,
    ) {
        let Some(unit) = units.get(name) else { return };
        if seen.insert(name) {
            unit.spec.after.iter().for_each(|before| visit(before, units, seen, order));
            order.push((name, unit));
        }
    }
    let (mut seen, mut order) = (BTreeSet::from([&datacenter.edge]), Vec::new());
    datacenter.units.keys().for_each(|name| visit(name, &datacenter.units, &mut seen, &mut order));
    order
}
