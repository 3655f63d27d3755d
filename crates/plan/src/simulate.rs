//! What the world looks like after a step that succeeded.

use sovereign_model::observed::{
    CertificateSeen, EdgeSeen, ImageSeen, MirrorSeen, SiteSeen, SupervisorSeen, UnitSeen, UnitState,
};
use sovereign_model::{DatacenterName, Digest, Observed, SiteName, Step, UnitName};

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
        Step::IssueCertificate { datacenter, names, addresses, not_after } => {
            let (names, addresses) = (names.clone(), addresses.clone());
            let chain = Digest::of_value(&(&names, &addresses, not_after));
            let certificate = CertificateSeen { chain, names, addresses, not_after: *not_after };
            seen.datacenters.entry(datacenter.clone()).or_default().certificate = Some(certificate);
        }
        Step::ConfigureEdge { datacenter, generation, config } => {
            let wanted = want.datacenters.get(datacenter);
            let runs = wanted.is_some_and(|wanted| running(seen, datacenter, &wanted.edge));
            let config = match wanted {
                Some(wanted) if wanted.config == **config => wanted.config_digest,
                _ => Digest::of_value(config),
            };
            let datacenter = seen.datacenters.entry(datacenter.clone()).or_default();
            let certificate = datacenter.certificate.as_ref().map(|ready| ready.chain).filter(|_| runs);
            datacenter.edge = Some(EdgeSeen { generation: *generation, config, certificate, healthy: runs });
        }
        Step::RunUnit { datacenter, unit, spec } | Step::ReplaceUnit { datacenter, unit, spec } => {
            let wanted = want.unit(datacenter, unit);
            let sockets = wanted.iter().flat_map(|unit| &unit.spec.sockets).map(|socket| socket.address).collect();
            let is_edge = want.datacenters.get(datacenter).is_some_and(|wanted| wanted.edge == *unit);
            let fresh = !running(seen, datacenter, unit) || matches!(step, Step::ReplaceUnit { .. });
            let datacenter = seen.datacenters.entry(datacenter.clone()).or_default();
            datacenter.units.insert(unit.clone(), UnitSeen { state: UnitState::Healthy, spec: *spec, sockets });
            if let Some(edge) = datacenter.edge.as_mut().filter(|_| is_edge) {
                edge.healthy = true;
                if fresh {
                    edge.certificate = datacenter.certificate.as_ref().map(|ready| ready.chain);
                }
            }
        }
        Step::StopUnit { datacenter, unit } => {
            let is_edge = want.datacenters.get(datacenter).is_some_and(|wanted| wanted.edge == *unit);
            if let Some(datacenter) = seen.datacenters.get_mut(datacenter) {
                datacenter.units.remove(unit);
                if let Some(edge) = datacenter.edge.as_mut().filter(|_| is_edge) {
                    edge.healthy = false;
                    edge.certificate = None;
                }
            }
        }
        Step::SetUpSite { datacenter, site } => {
            let site = site_seen(seen, site, datacenter);
            site.set_up = true;
            site.webhook = true;
        }
        Step::ApplySettings { datacenter, site, digest, .. } => {
            site_seen(seen, site, datacenter).settings = Some(*digest);
        }
        Step::FillMirror { datacenter, site } => {
            let mirrors = &mut seen.datacenters.entry(datacenter.clone()).or_default().mirrors;
            let mirror = mirrors.entry(site.clone()).or_default();
            *mirror = MirrorSeen { complete: true, pages_kept: mirror.pages_known, ..mirror.clone() };
        }
    }
}

/// Whether a unit runs, well or not.
pub(crate) fn running(seen: &Observed, datacenter: &DatacenterName, unit: &UnitName) -> bool {
    seen.unit(datacenter, unit).is_some_and(|unit| unit.state != UnitState::Stopped)
}

fn site_seen<'s>(seen: &'s mut Observed, site: &SiteName, datacenter: &DatacenterName) -> &'s mut SiteSeen {
    seen.sites.entry(site.clone()).or_insert_with(|| SiteSeen {
        primary: datacenter.clone(),
        set_up: false,
        settings: None,
        webhook: false,
    })
}
