//! What the world looks like after a step that succeeded.

use sovereign_model::observed::{
    CertificateSeen, ConfigSeen, ImageSeen, MirrorSeen, SiteSeen, SupervisorSeen, UnitSeen, UnitState,
};
use sovereign_model::unit::{Replace, Runs};
use sovereign_model::{DatacenterName, Digest, EdgeName, Observed, SiteName, Step, UnitName};

use crate::desired::Wanted;

/// Changes `seen` as the success of `step` would. `want` is what the step's plan was made for: it describes the units.
///
/// Digests that only the real thing can have (an image's content, a certificate's chain) are stood for by the digest of what
/// they are made from.
pub fn simulate(step: &Step, want: &Wanted, seen: &mut Observed) {
    match step {
        Step::PrepareImage { image, lock } => {
            seen.images.insert(image.clone(), ImageSeen { lock: *lock, content: *lock });
        }
        Step::StartSupervisor { binary } | Step::ReplaceSupervisor { binary } => {
            seen.supervisor = Some(SupervisorSeen { binary: *binary, version: String::new() });
        }
        Step::MendHost { edge } => seen.edges.entry(edge.clone()).or_default().drift.clear(),
        Step::IssueCertificate { edge, names, addresses, not_after } => {
            let (names, addresses) = (names.clone(), addresses.clone());
            let chain = Digest::of_value(&(&names, &addresses, not_after));
            let certificate = CertificateSeen { chain, names, addresses, not_after: *not_after };
            seen.edges.entry(edge.clone()).or_default().certificate = Some(certificate);
        }
        Step::ConfigureEdge { edge, generation, config } => {
            let wanted = want.edges.get(edge);
            let runs = wanted.is_some_and(|wanted| running(seen, &edge.datacenter, &wanted.unit));
            let config = match wanted {
                Some(wanted) if wanted.config == **config => wanted.config_digest,
                _ => Digest::of_value(config),
            };
            let edge = seen.edges.entry(edge.clone()).or_default();
            let certificate = edge.certificate.as_ref().map(|ready| ready.chain).filter(|_| runs);
            edge.config =
                Some(ConfigSeen { generation: *generation, config, certificate, healthy: runs, provenance: None });
        }
        Step::RunUnit { datacenter, unit, spec } | Step::ReplaceUnit { datacenter, unit, spec } => {
            let wanted = want.unit(datacenter, unit);
            let sockets = wanted.iter().flat_map(|unit| unit.runs.sockets()).map(|socket| socket.address).collect();
            let replaces = matches!(step, Step::ReplaceUnit { .. });
            let fresh = !running(seen, datacenter, unit) || replaces;
            let beside = wanted.is_some_and(
                |unit| matches!(&unit.runs, Runs::Instance(instance) if instance.replace == Replace::Beside),
            );
            let state = UnitState::Healthy;
            let superseded = replaces && beside;
            let data_version = wanted.and_then(|unit| unit.data_version.clone());
            let unit_seen = UnitSeen { state, spec: *spec, sockets, superseded, data_version };
            seen.datacenters.entry(datacenter.clone()).or_default().units.insert(unit.clone(), unit_seen);
            let edge = edge_of(want, unit).and_then(|edge| seen.edges.get_mut(edge));
            if let Some(edge) = edge
                && let Some(config) = &mut edge.config
            {
                config.healthy = true;
                if fresh {
                    config.certificate = edge.certificate.as_ref().map(|ready| ready.chain);
                }
            }
        }
        Step::RetireUnit { datacenter, unit } => {
            let units = seen.datacenters.get_mut(datacenter).map(|datacenter| &mut datacenter.units);
            if let Some(unit) = units.and_then(|units| units.get_mut(unit)) {
                unit.superseded = false;
            }
        }
        Step::StopUnit { datacenter, unit } => {
            if let Some(datacenter) = seen.datacenters.get_mut(datacenter) {
                datacenter.units.remove(unit);
            }
            let edge = edge_of(want, unit).and_then(|edge| seen.edges.get_mut(edge));
            if let Some(config) = edge.and_then(|edge| edge.config.as_mut()) {
                config.healthy = false;
                config.certificate = None;
            }
        }
        Step::SetUpSite { datacenter, site } => {
            let site = site_seen(seen, want, site, datacenter);
            site.set_up = true;
            site.webhook = true;
        }
        Step::ApplySettings { datacenter, site, digest, .. } => {
            site_seen(seen, want, site, datacenter).settings = Some(*digest);
        }
        Step::FillMirror { edge, site } => {
            let mirrors = &mut seen.edges.entry(edge.clone()).or_default().mirrors;
            let mirror = mirrors.entry(site.clone()).or_default();
            *mirror = MirrorSeen { complete: true, pages_kept: mirror.pages_known, ..mirror.clone() };
        }
    }
}

/// The edge that a unit is.
fn edge_of<'w>(want: &'w Wanted, unit: &UnitName) -> Option<&'w EdgeName> {
    want.edges.iter().find(|(_, edge)| edge.unit == *unit).map(|(name, _)| name)
}

/// Whether a unit runs, well or not.
pub(crate) fn running(seen: &Observed, datacenter: &DatacenterName, unit: &UnitName) -> bool {
    seen.unit(datacenter, unit).is_some_and(|unit| unit.state != UnitState::Stopped)
}

fn site_seen<'s>(
    seen: &'s mut Observed,
    want: &Wanted,
    site: &SiteName,
    datacenter: &DatacenterName,
) -> &'s mut SiteSeen {
    let at = want.sites.get(site).map_or_else(|| EdgeName::here(datacenter), |wanted| wanted.source.clone());
    seen.sites.entry(site.clone()).or_insert_with(|| SiteSeen { at, set_up: false, settings: None, webhook: false })
}
