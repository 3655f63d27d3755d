//! From the declared stack to everything that must be true for it: certificates, edge configurations, units, mirrors.

mod agent;
mod edge;
mod name_server;
mod renewer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use sovereign_model::agent_config::AgentConfig;
use sovereign_model::edge_config::{EdgeApp, EdgeConfig, EdgeSite, EpochProof, Source};
use sovereign_model::layout::{StateFolder, on_host};
use sovereign_model::name_server_config::NameServerConfig;
use sovereign_model::observed::Primary;
use sovereign_model::renewer_config::RenewerConfig;
use sovereign_model::stack::{App, EngineKind, Site, SiteSettings};
use sovereign_model::unit::{Runs, UnitSpec};
use sovereign_model::{
    AuthorityName, DatacenterName, Digest, DnsName, EdgeName, ImageName, ProviderName, SecondaryName, SiteName, Stack,
    StackName, UnitName,
};

use self::edge::{EdgeAt, edge_peer};

/// What the plan depends on and only the binary knows.
#[derive(Debug, Clone)]
pub struct World {
    /// The stack's state folder.
    pub state: StateFolder,
    /// The program that the supervisor and the edges of this machine run, absolute.
    pub binary: PathBuf,
    /// Its digest.
    pub binary_digest: Digest,
    /// The key that configurations are verified with, in hex.
    pub trust: String,
    /// The certificate of the stack's own authority, and those that declared ones begin from which are not every machine's,
    /// PEM: what agents check certificates with.
    pub authority: String,
    /// Of these those of declared authorities: by them edges check what other edges pass on.
    pub public_roots: String,
    /// The digest of each image's lock.
    pub locks: BTreeMap<ImageName, Digest>,
    /// The public link key of each edge, in hex.
    pub link_keys: BTreeMap<EdgeName, String>,
    /// The tag of the key of each domain that the stack answers for itself, where name servers do.
    pub zone_keys: BTreeMap<DnsName, u16>,
    /// The tags of those that are to take their place, where keys are exchanged.
    pub coming_zone_keys: BTreeMap<DnsName, u16>,
    /// The digest of each secondary's key, where name servers answer for a domain.
    pub transfer_keys: BTreeMap<SecondaryName, Digest>,
    /// What each renewer signs with, by the edges that they stand beside.
    pub renewer_keys: BTreeMap<EdgeName, RenewerKey>,
    /// The certificates that those of an authority begin from, PEM, of those that are not every machine's.
    pub authority_roots: BTreeMap<AuthorityName, String>,
    /// The digest of what the stack proves itself with at each provider that it can tell.
    pub provider_secrets: BTreeMap<ProviderName, Digest>,
    /// The file that holds the key of a site's publish notices, as its primary's edge can read it.
    pub webhook_keys: BTreeMap<SiteName, PathBuf>,
    /// The digest of the files of each static site that is on a host.
    pub files: BTreeMap<SiteName, Digest>,
    /// The units of applications, as the services describe them.
    pub units: BTreeMap<UnitName, AppUnit>,
    /// Which primary each site has, counted; 1 where nothing is said.
    pub epochs: BTreeMap<SiteName, u64>,
    /// What makes edges believe each site's epoch before their configuration says it.
    pub epoch_proofs: BTreeMap<SiteName, EpochProof>,
    /// The data centers that are taken out of answers on purpose.
    pub drained: BTreeSet<DatacenterName>,
    /// The data centers whose applications are being worked on.
    pub maintained: BTreeSet<DatacenterName>,
    /// The hour, in unix seconds.
    pub now: u64,
}

/// What a renewer signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewerKey {
    /// The public key, in hex.
    pub public: String,
    /// The management machine's word for it, likewise.
    pub warrant: String,
}

/// A unit of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUnit {
    /// The site it works for.
    pub site: SiteName,
    /// Its description.
    pub runs: Runs,
    /// The images that must be there before it runs.
    pub images: BTreeSet<ImageName>,
    /// The version of the application, where an older one cannot work with what a newer one has written.
    pub data_version: Option<String>,
}

/// The binary left out something that the stack needs: a mistake in the program, not in the stack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteWorld {
    /// No unit works for a site that needs one.
    #[error("no unit was described for site {site}")]
    Unit {
        /// The site.
        site: SiteName,
    },
    /// A unit's site or data center is not the declared one.
    #[error("unit {unit} is not for a site that is written where it belongs")]
    StrayUnit {
        /// The unit.
        unit: UnitName,
    },
    /// An image without a lock.
    #[error("there is no lock for image {image}")]
    Lock {
        /// The image.
        image: ImageName,
    },
    /// An edge without an identity.
    #[error("there is no link key for the edge of {edge}")]
    LinkKey {
        /// The edge.
        edge: EdgeName,
    },
    /// A domain whose name servers have no key.
    #[error("there is no key for the zone of {domain}")]
    ZoneKey {
        /// The domain.
        domain: DnsName,
    },
    /// A secondary that could not prove itself.
    #[error("there is no key for the transfers of {secondary}")]
    TransferKey {
        /// The secondary.
        secondary: SecondaryName,
    },
    /// A renewer that nobody would hear.
    #[error("there is no key for the renewer of {edge}")]
    RenewerKey {
        /// The edge that it stands beside.
        edge: EdgeName,
    },
    /// A static site on a host, without what is in its folder.
    #[error("it is not known which files site {site} has")]
    Files {
        /// The site.
        site: SiteName,
    },
    /// A site without a key for its publish notices.
    #[error("there is no webhook key for site {site}")]
    WebhookKey {
        /// The site.
        site: SiteName,
    },
}

/// Everything that must be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose it is.
    pub stack: StackName,
    /// The binary that the supervisor and edges must run.
    pub binary: Digest,
    /// Whether anything runs on this machine, so that a supervisor must.
    pub supervised: bool,
    /// The images that must be kept, each with the digest of its lock.
    pub images: BTreeMap<ImageName, Digest>,
    /// The data centers.
    pub datacenters: BTreeMap<DatacenterName, WantedDatacenter>,
    /// Their edges.
    pub edges: BTreeMap<EdgeName, WantedEdge>,
    /// The agents, by the edges that they stand beside.
    pub agents: BTreeMap<EdgeName, WantedAgent>,
    /// The name servers, likewise.
    pub name_servers: BTreeMap<EdgeName, WantedNameServer>,
    /// The renewers, likewise.
    pub renewers: BTreeMap<EdgeName, WantedRenewer>,
    /// The sites that have a set-up.
    pub sites: BTreeMap<SiteName, WantedSite>,
    /// The primary of every site, as its edges are told.
    pub primaries: BTreeMap<SiteName, Primary>,
    /// The hour this was computed for, in unix seconds.
    pub now: u64,
}

impl Wanted {
    /// The description of a unit: what an engine starts for a step that names the unit.
    pub fn unit(&self, datacenter: &DatacenterName, unit: &UnitName) -> Option<&WantedUnit> {
        self.datacenters.get(datacenter)?.units.get(unit)
    }

    /// Whether a unit of this name is wanted anywhere.
    pub fn declares(&self, unit: &UnitName) -> bool {
        self.datacenters.values().any(|datacenter| datacenter.units.contains_key(unit))
    }
}

/// What must be true at a data center.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedDatacenter {
    /// All units, edges among them.
    pub units: BTreeMap<UnitName, WantedUnit>,
}

/// What must be true of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedEdge {
    /// Its certificate.
    pub certificate: WantedCertificate,
    /// Its configuration.
    pub config: EdgeConfig,
    /// The digest of that configuration.
    pub config_digest: Digest,
    /// The unit it runs as.
    pub unit: UnitName,
    /// The sites it mirrors.
    pub mirrors: BTreeSet<SiteName>,
}

/// What must be true of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedAgent {
    /// The unit it runs as.
    pub unit: UnitName,
    /// Its configuration, which the unit's description names by its digest.
    pub config: AgentConfig,
    /// That digest.
    pub config_digest: Digest,
}

/// What must be true of a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedNameServer {
    /// The unit it runs as.
    pub unit: UnitName,
    /// Its configuration, which the unit's description names by its digest.
    pub config: NameServerConfig,
    /// That digest.
    pub config_digest: Digest,
}

/// What must be true of a renewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRenewer {
    /// The unit it runs as.
    pub unit: UnitName,
    /// Its configuration, which the unit's description names by its digest.
    pub config: RenewerConfig,
    /// That digest.
    pub config_digest: Digest,
}

/// What must be in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCertificate {
    /// The host names.
    pub names: BTreeSet<DnsName>,
    /// The addresses: the one it is reached at from here, and the fixed ones of the uplinks.
    pub addresses: BTreeSet<IpAddr>,
}

/// A unit that must run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedUnit {
    /// Its description.
    pub runs: Runs,
    /// The digest of the description.
    pub digest: Digest,
    /// The images that must be there before it runs.
    pub images: BTreeSet<ImageName>,
    /// The version of the application, where an older one cannot work with what a newer one has written.
    pub data_version: Option<String>,
}

impl WantedUnit {
    /// A daemon of ours, which needs no image.
    fn of_unit(spec: UnitSpec) -> Self {
        let runs = Runs::Unit(spec);
        Self { digest: runs.digest(), runs, images: BTreeSet::new(), data_version: None }
    }
}

/// A site with a set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSite {
    /// Where it is written.
    pub primary: DatacenterName,
    /// The units that serve it there.
    pub units: BTreeSet<UnitName>,
    /// The edge that has it from them.
    pub source: EdgeName,
    /// Its settings.
    pub settings: SiteSettings,
    /// Their digest.
    pub settings_digest: Digest,
}

/// Computes what must be true for `stack` in `world`.
///
/// # Errors
/// When `world` lacks something that the stack needs.
pub fn desired(stack: &Stack, world: &World) -> Result<Wanted, IncompleteWorld> {
    let mut served: BTreeMap<EdgeName, Vec<EdgeSite>> = BTreeMap::new();
    let mut links: BTreeMap<&DatacenterName, BTreeSet<&DatacenterName>> = BTreeMap::new();
    let mut mirrored: BTreeMap<EdgeName, BTreeSet<SiteName>> = BTreeMap::new();
    let mut sites = BTreeMap::new();
    let mut app_units = units_by_site(stack, world)?;
    let mut datacenters: BTreeMap<DatacenterName, WantedDatacenter> =
        stack.datacenters.keys().map(|name| (name.clone(), WantedDatacenter::default())).collect();

    for site in stack.sites.values() {
        let units = app_units.remove(&site.name).unwrap_or_default();
        let primary = &stack.datacenters[&site.primary];
        let edges = primary.edges();
        let source = site.place(stack);
        let mut at_source = edge_site(stack, site, &units, world)?;
        if edges.len() > 1 {
            at_source.mirrors.push(site.primary.clone());
            links.entry(&site.primary).or_default().insert(&site.primary);
        }
        let others = site.mirrors.iter().flat_map(|mirror| stack.datacenters[mirror].edges());
        for edge in edges.into_iter().filter(|edge| *edge != source).chain(others) {
            let link = Source::Link(site.primary.clone());
            // Who comes to another host of the primary data center is led on to the application.
            let mirrors = if edge.datacenter == site.primary { at_source.mirrors.clone() } else { Vec::new() };
            let mirror = EdgeSite { source: link, webhook_key: None, mirrors, ..at_source.clone() };
            served.entry(edge.clone()).or_default().push(mirror);
            mirrored.entry(edge).or_default().insert(site.name.clone());
        }
        for mirror in &site.mirrors {
            links.entry(mirror).or_default().insert(&site.primary);
            links.entry(&site.primary).or_default().insert(mirror);
        }
        served.entry(source.clone()).or_default().push(at_source);
        if site.app == App::Ghost {
            if units.is_empty() {
                return Err(IncompleteWorld::Unit { site: site.name.clone() });
            }
            let wanted = WantedSite {
                primary: site.primary.clone(),
                units: units.keys().cloned().collect(),
                source,
                settings: site.settings.clone(),
                settings_digest: Digest::of_value(&site.settings),
            };
            sites.insert(site.name.clone(), wanted);
            datacenters.entry(site.primary.clone()).or_default().units.extend(units);
        }
    }

    let mut agents = BTreeMap::new();
    for edge in stack.agents() {
        let (wanted, spec) = agent::agent(stack, world, &edge, &served);
        let units = &mut datacenters.entry(edge.datacenter.clone()).or_default().units;
        units.insert(wanted.unit.clone(), WantedUnit::of_unit(spec));
        agents.insert(edge, wanted);
    }
    let mut name_servers = BTreeMap::new();
    for edge in stack.name_servers() {
        let (wanted, spec) = name_server::name_server(stack, world, &edge)?;
        let units = &mut datacenters.entry(edge.datacenter.clone()).or_default().units;
        units.insert(wanted.unit.clone(), WantedUnit::of_unit(spec));
        name_servers.insert(edge, wanted);
    }
    let mut renewers = BTreeMap::new();
    for edge in stack.renewers() {
        let (wanted, spec) = renewer::renewer(stack, world, &edge)?;
        let units = &mut datacenters.entry(edge.datacenter.clone()).or_default().units;
        units.insert(wanted.unit.clone(), WantedUnit::of_unit(spec));
        renewers.insert(edge, wanted);
    }
    let mut edges = BTreeMap::new();
    for (name, datacenter) in &stack.datacenters {
        let linked = links.remove(name).unwrap_or_default();
        for edge in datacenter.edges() {
            let sites = served.remove(&edge).unwrap_or_default();
            let peers = linked.iter().flat_map(|peer| stack.datacenters[*peer].edges()).filter(|peer| *peer != edge);
            let peers = peers.map(|peer| edge_peer(stack, world, &edge, &peer)).collect::<Result<Vec<_>, _>>()?;
            let at = EdgeAt::new(stack, datacenter, &edge, world);
            let spec = at.unit(&sites);
            let unit = edge.unit();
            datacenters.entry(name.clone()).or_default().units.insert(unit.clone(), WantedUnit::of_unit(spec));
            let certificate = at.certificate(&sites);
            let config = at.config(stack, sites, peers)?;
            let mirrors = mirrored.remove(&edge).unwrap_or_default();
            let config_digest = Digest::of_value(&config);
            edges.insert(edge, WantedEdge { certificate, config_digest, config, unit, mirrors });
        }
    }

    let needed = datacenters.values().flat_map(|datacenter| datacenter.units.values()).flat_map(|unit| &unit.images);
    let images = needed.map(|image| lock(image, world)).collect::<Result<_, _>>()?;
    let supervised = stack.datacenters.values().any(|datacenter| datacenter.engine == EngineKind::Embedded);
    let primaries = stack.sites.values().map(|site| {
        let (epoch, at) = (epoch_of(site, world), site.primary.clone());
        (site.name.clone(), Primary { epoch, at })
    });
    let primaries = primaries.collect();
    let (stack, binary) = (stack.name.clone(), world.binary_digest);
    Ok(Wanted {
        stack,
        binary,
        supervised,
        images,
        datacenters,
        edges,
        agents,
        name_servers,
        renewers,
        sites,
        primaries,
        now: world.now,
    })
}

fn epoch_of(site: &Site, world: &World) -> u64 {
    world.epochs.get(&site.name).copied().unwrap_or(1)
}

fn lock(image: &ImageName, world: &World) -> Result<(ImageName, Digest), IncompleteWorld> {
    let lock = world.locks.get(image).ok_or_else(|| IncompleteWorld::Lock { image: image.clone() })?;
    Ok((image.clone(), *lock))
}

type UnitsBySite<'s> = BTreeMap<&'s SiteName, BTreeMap<UnitName, WantedUnit>>;

fn units_by_site<'s>(stack: &'s Stack, world: &World) -> Result<UnitsBySite<'s>, IncompleteWorld> {
    let mut units = UnitsBySite::new();
    for (name, AppUnit { site, runs, images, data_version }) in &world.units {
        let declared = stack.sites.get(site).filter(|declared| {
            declared.app == App::Ghost && declared.primary == *runs.datacenter() && runs.name() == name
        });
        let site = declared.ok_or_else(|| IncompleteWorld::StrayUnit { unit: name.clone() })?;
        let (runs, images, data_version) = (runs.clone(), images.clone(), data_version.clone());
        let wanted = WantedUnit { digest: runs.digest(), runs, images, data_version };
        units.entry(&site.name).or_default().insert(name.clone(), wanted);
    }
    Ok(units)
}

/// A site as the edge serves it that has it from its application.
fn edge_site(
    stack: &Stack,
    site: &Site,
    units: &BTreeMap<UnitName, WantedUnit>,
    world: &World,
) -> Result<EdgeSite, IncompleteWorld> {
    let (app, source, webhook_key) = match &site.app {
        App::Ghost => {
            let key = world.webhook_keys.get(&site.name);
            let key = key.ok_or_else(|| IncompleteWorld::WebhookKey { site: site.name.clone() })?;
            let source = match site.host(stack) {
                None => Source::Unix(world.state.site(&site.primary, &site.name).ghost_socket()),
                Some(_) => {
                    let served = units.values().find_map(|unit| unit.runs.serves());
                    Source::Tcp(served.ok_or_else(|| IncompleteWorld::Unit { site: site.name.clone() })?.into())
                }
            };
            (EdgeApp::Ghost, source, Some(key.clone()))
        }
        App::Static { folder } => {
            let folder = match site.host(stack) {
                None => folder.clone(),
                // Other files are another folder: the edge goes from one to the next at once.
                Some(_) => {
                    let digest = world.files.get(&site.name);
                    let digest = digest.ok_or_else(|| IncompleteWorld::Files { site: site.name.clone() })?;
                    on_host::state(&stack.name).edge(&site.primary).files(&site.name).join(digest.hex())
                }
            };
            (EdgeApp::Static, Source::Folder(folder), None)
        }
        App::Upstream { address, mirror, data: _ } => (EdgeApp::Upstream(mirror.clone()), Source::Tcp(*address), None),
    };
    // Files of a folder have no application that could be worked on.
    let maintenance = app != EdgeApp::Static && world.maintained.contains(&site.primary);
    Ok(EdgeSite {
        maintenance,
        site: site.name.clone(),
        canonical: site.canonical.clone(),
        names: site.all_names().cloned().collect(),
        app,
        source,
        mirrors: site.mirrors.clone(),
        admin: site.admin,
        webhook_key,
        epoch: epoch_of(site, world),
        room: site.room,
        hsts_days: site.hsts_days,
        epoch_proof: world.epoch_proofs.get(&site.name).cloned(),
    })
}
