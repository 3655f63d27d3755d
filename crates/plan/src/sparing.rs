//! A plan that leaves the data of some sites alone: what can be done though they could not be backed up.

use std::collections::BTreeSet;

use sovereign_model::{SiteName, Step, UnitName};

use crate::desired::Wanted;
use crate::report::{Plan, Planned};

impl Plan {
    /// The plan without the steps that work on the data of `sites`, and without those that need them done. A site that
    /// is in `as_before` too has the program that its data was last used with: starting that again is no such step.
    ///
    /// The ids stay those of the whole plan.
    #[must_use]
    pub fn sparing(&self, sites: &BTreeSet<SiteName>, as_before: &BTreeSet<SiteName>, want: &Wanted) -> Self {
        let works_on = |planned: &&Planned| {
            let site = match &planned.step {
                Step::RunUnit { unit, .. } => site_of(unit, want).filter(|site| !as_before.contains(*site)),
                Step::ReplaceUnit { unit, .. } => site_of(unit, want),
                Step::SetUpSite { site, .. } | Step::ApplySettings { site, .. } | Step::FillMirror { site, .. } => {
                    Some(site)
                }
                // No data of a site is written by these: stopping a unit keeps its data.
                Step::PrepareImage { .. }
                | Step::StartSupervisor { .. }
                | Step::ReplaceSupervisor { .. }
                | Step::MendHost { .. }
                | Step::IssueCertificate { .. }
                | Step::ConfigureEdge { .. }
                | Step::StopUnit { .. }
                | Step::RetireUnit { .. } => None,
            };
            site.is_some_and(|site| sites.contains(site))
        };
        let steps = self.steps.iter().filter(|planned| !works_on(planned)).cloned().collect();
        Self { steps, ..self.clone() }
    }
}

/// The site whose application a unit is.
fn site_of<'w>(unit: &UnitName, want: &'w Wanted) -> Option<&'w SiteName> {
    want.sites.iter().find(|(_, site)| site.units.contains(unit)).map(|(name, _)| name)
}
