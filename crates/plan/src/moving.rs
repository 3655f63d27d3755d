//! A site that moves: what is done at its new place while its data is still at the old one.
//!
//! ```text
//!  applications ─▶ data goes over (not a step) ─▶ set-up ─▶ edge ─▶ the data is known to be there ─▶ the plan as ever
//! ```
//!
//! Promise: nothing here stops anything, and no edge but the one that gets the application hears of it. So readers go on
//! where they are until the data is at the new place.

use std::collections::BTreeSet;

use sovereign_model::{EdgeName, ImageName, Observed, SiteName, Step, UnitName};

use crate::desired::{Wanted, WantedSite};
use crate::planner::plan;
use crate::report::{Plan, Planned};

/// The plans of a move, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// Images that the applications are made from, and that are not there yet.
    pub images: Plan,
    /// The applications, empty.
    pub applications: Plan,
    /// The set-up of the site, with the data it has by then.
    pub set_up: Plan,
    /// The edge that has the site from them.
    pub edge: Plan,
}

/// What is left to be done for `site` to have its applications, set-up and edge at the place where it is declared, as if
/// it had no data anywhere; `None` when no such site is declared. Where other sites are in the way, these are obstacles
/// of each of the plans.
pub fn moving(want: &Wanted, seen: &Observed, site: &SiteName) -> Option<Moving> {
    let wanted = want.sites.get(site)?;
    let mut without = seen.clone();
    without.sites.remove(site);
    without.unrestored.remove(site);
    let all = plan(want, &without);
    let images = images_of(want, wanted);
    let only = |is_part: &dyn Fn(&Step) -> bool| {
        let steps: Vec<Planned> = all.steps.iter().filter(|planned| is_part(&planned.step)).cloned().collect();
        Plan { steps, observed: seen.fingerprint(), ..all.clone() }
    };
    Some(Moving {
        images: only(&|step| matches!(step, Step::PrepareImage { image, .. } if images.contains(image))),
        applications: only(&|step| runs(step).is_some_and(|unit| wanted.units.contains(unit))),
        set_up: only(&|step| match step {
            Step::SetUpSite { site: of, .. } | Step::ApplySettings { site: of, .. } => of == site,
            _ => false,
        }),
        edge: only(&|step| is_of_edge(step, &wanted.source)),
    })
}

fn images_of<'w>(want: &'w Wanted, site: &WantedSite) -> BTreeSet<&'w ImageName> {
    let units = site.units.iter().filter_map(|unit| want.unit(&site.primary, unit));
    units.flat_map(|unit| &unit.images).collect()
}

/// The unit that runs after a step.
fn runs(step: &Step) -> Option<&UnitName> {
    match step {
        Step::RunUnit { unit, .. } | Step::ReplaceUnit { unit, .. } => Some(unit),
        _ => None,
    }
}

fn is_of_edge(step: &Step, edge: &EdgeName) -> bool {
    match step {
        Step::IssueCertificate { edge: of, .. } | Step::ConfigureEdge { edge: of, .. } => of == edge,
        step => runs(step).is_some_and(|unit| *unit == edge.unit()),
    }
}
