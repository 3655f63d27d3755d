//! From the declared stack to everything that must be true for it: certificates, edge configurations, units, mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sovereign_model::edge_config::{CertificateFiles, EdgeApp, EdgeConfig, EdgeSite, EpochProof, Peer, Source};
use sovereign_model::edge_rules::AccessLog;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Datacenter, Reach, Site, SiteSettings, UplinkAddress};
use sovereign_model::unit::{Confinement, Health, Replace, SocketSpec, UnitSpec};
use sovereign_model::{DatacenterName, Digest, DnsName, ImageName, SiteName, Stack, StackName, UnitName};

/// How long an edge may drain: long enough for a slow upload, short enough for an operator who waits.
const EDGE_STOP_GRACE_SECONDS: u32 = 30;

/// What the plan depends on and only the binary knows.
#[derive(Debug, Clone)]
pub struct World {
    /// The stack's state folder.
    pub state: StateFolder,
    /// The program that edges and the supervisor run, absolute.
    pub binary: PathBuf,
    /// Its digest.
    pub binary_digest: Digest,
    /// The key that configurations are verified with, in hex.
    pub trust: String,
    /// The digest of each image's lock.
    pub locks: BTreeMap<ImageName, Digest>,
    /// The public link key of each data center's edge, in hex.
    pub link_keys: BTreeMap<DatacenterName, String>,
    /// The file that holds the key of a site's publish notices, as its primary's edge can read it.
    pub webhook_keys: BTreeMap<SiteName, PathBuf>,
    /// The units of applications, as the services describe them.
    pub units: BTreeMap<UnitName, AppUnit>,
    /// Which primary each site has, counted; 1 where nothing is said.
    pub epochs: BTreeMap<SiteName, u64>,
    /// What makes edges believe each site's epoch before their configuration says it.
    pub epoch_proofs: BTreeMap<SiteName, EpochProof>,
    /// The hour, in unix seconds.
    pub now: u64,
}

/// A unit of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUnit {
    /// The site it works for.
    pub site: SiteName,
    /// Its description.
    pub spec: UnitSpec,
    /// The images that must be there before it runs.
    pub images: BTreeSet<ImageName>,
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
    /// A data center's edge without an identity.
    #[error("there is no link key for data center {datacenter}")]
    LinkKey {
        /// The data center.
        datacenter: DatacenterName,
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
    /// The binary that the supervisor must run.
    pub binary: Digest,
    /// The images that must be kept, each with the digest of its lock.
    pub images: BTreeMap<ImageName, Digest>,
    /// The data centers.
    pub datacenters: BTreeMap<DatacenterName, WantedDatacenter>,
    /// The sites that have a set-up.
    pub sites: BTreeMap<SiteName, WantedSite>,
    /// The hour this was computed for, in unix seconds.
    pub now: u64,
}

impl Wanted {
    /// The description of a unit: what an engine starts for a step that names the unit.
    pub fn unit(&self, datacenter: &DatacenterName, unit: &UnitName) -> Option<&WantedUnit> {
        self.datacenters.get(datacenter)?.units.get(unit)
    }
}

/// What must be true at a data center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedDatacenter {
    /// The certificate of its edge.
    pub certificate: WantedCertificate,
    /// The configuration of its edge.
    pub config: EdgeConfig,
    /// The digest of that configuration.
    pub config_digest: Digest,
    /// Which of the units is the edge.
    pub edge: UnitName,
    /// All units, the edge among them.
    pub units: BTreeMap<UnitName, WantedUnit>,
    /// The sites it mirrors.
    pub mirrors: BTreeSet<SiteName>,
}

/// What must be in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCertificate {
    /// The host names.
    pub names: BTreeSet<DnsName>,
    /// The addresses: loopback, and the fixed ones of the uplinks.
    pub addresses: BTreeSet<IpAddr>,
}

/// A unit that must run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedUnit {
    /// Its description.
    pub spec: UnitSpec,
    /// The digest of the description.
    pub digest: Digest,
    /// The images that must be there before it runs.
    pub images: BTreeSet<ImageName>,
}

/// A site with a set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSite {
    /// Where it is written.
    pub primary: DatacenterName,
    /// The units that serve it there.
    pub units: BTreeSet<UnitName>,
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
    let mut served: BTreeMap<&DatacenterName, Vec<EdgeSite>> = BTreeMap::new();
    let mut links: BTreeMap<&DatacenterName, BTreeSet<&DatacenterName>> = BTreeMap::new();
    let mut mirrors: BTreeMap<&DatacenterName, BTreeSet<SiteName>> = BTreeMap::new();
    let mut sites = BTreeMap::new();
    let mut units = units_by_site(stack, world)?;
    let mut app_units: BTreeMap<&DatacenterName, BTreeMap<UnitName, WantedUnit>> = BTreeMap::new();

    for site in stack.sites.values() {
        let at_primary = edge_site(site, world)?;
        for mirror in &site.mirrors {
            let source = Source::Link(site.primary.clone());
            served.entry(mirror).or_default().push(EdgeSite {
                source,
                webhook_key: None,
                mirrors: Vec::new(),
                ..at_primary.clone()
            });
            links.entry(mirror).or_default().insert(&site.primary);
            links.entry(&site.primary).or_default().insert(mirror);
            mirrors.entry(mirror).or_default().insert(site.name.clone());
        }
        served.entry(&site.primary).or_default().push(at_primary);
        if site.app == App::Ghost {
            let units = units.remove(&site.name).ok_or_else(|| IncompleteWorld::Unit { site: site.name.clone() })?;
            let wanted = WantedSite {
                primary: site.primary.clone(),
                units: units.keys().cloned().collect(),
                settings: site.settings.clone(),
                settings_digest: Digest::of_value(&site.settings),
            };
            sites.insert(site.name.clone(), wanted);
            app_units.entry(&site.primary).or_default().extend(units);
        }
    }

    let mut datacenters = BTreeMap::new();
    for (name, datacenter) in &stack.datacenters {
        let sites = served.remove(name).unwrap_or_default();
        let peers = links.remove(name).unwrap_or_default();
        let peers = peers.into_iter().map(|peer| edge_peer(stack, world, peer)).collect::<Result<Vec<_>, _>>()?;
        let mut units = app_units.remove(name).unwrap_or_default();
        let edge = edge_unit(datacenter, &sites, world);
        let edge_name = edge.name.clone();
        units.insert(edge_name.clone(), WantedUnit { digest: edge.digest(), spec: edge, images: BTreeSet::new() });
        let certificate = certificate(datacenter, &sites);
        let config = edge_config(stack, datacenter, sites, peers, world)?;
        let wanted = WantedDatacenter {
            certificate,
            config_digest: Digest::of_value(&config),
            config,
            edge: edge_name,
            units,
            mirrors: mirrors.remove(name).unwrap_or_default(),
        };
        datacenters.insert(name.clone(), wanted);
    }

    let needed = datacenters.values().flat_map(|datacenter| datacenter.units.values()).flat_map(|unit| &unit.images);
    let images = needed.map(|image| lock(image, world)).collect::<Result<_, _>>()?;
    Ok(Wanted { stack: stack.name.clone(), binary: world.binary_digest, images, datacenters, sites, now: world.now })
}

fn lock(image: &ImageName, world: &World) -> Result<(ImageName, Digest), IncompleteWorld> {
    let lock = world.locks.get(image).ok_or_else(|| IncompleteWorld::Lock { image: image.clone() })?;
    Ok((image.clone(), *lock))
}

type UnitsBySite<'s> = BTreeMap<&'s SiteName, BTreeMap<UnitName, WantedUnit>>;

fn units_by_site<'s>(stack: &'s Stack, world: &World) -> Result<UnitsBySite<'s>, IncompleteWorld> {
    let mut units = UnitsBySite::new();
    for (name, AppUnit { site, spec, images }) in &world.units {
        let declared = stack
            .sites
            .get(site)
            .filter(|declared| declared.app == App::Ghost && declared.primary == spec.datacenter && spec.name == *name);
        let site = declared.ok_or_else(|| IncompleteWorld::StrayUnit { unit: name.clone() })?;
        let wanted = WantedUnit { digest: spec.digest(), spec: spec.clone(), images: images.clone() };
        units.entry(&site.name).or_default().insert(name.clone(), wanted);
    }
    Ok(units)
}

/// A site as its primary's edge serves it.
fn edge_site(site: &Site, world: &World) -> Result<EdgeSite, IncompleteWorld> {
    let (app, source, webhook_key) = match &site.app {
        App::Ghost => {
            let key = world.webhook_keys.get(&site.name);
            let key = key.ok_or_else(|| IncompleteWorld::WebhookKey { site: site.name.clone() })?;
            let socket = world.state.site(&site.primary, &site.name).ghost_socket();
            (EdgeApp::Ghost, Source::Unix(socket), Some(key.clone()))
        }
        App::Static { folder } => (EdgeApp::Static, Source::Folder(folder.clone()), None),
        App::Upstream { address, mirror, data: _ } => (EdgeApp::Upstream(mirror.clone()), Source::Tcp(*address), None),
    };
    Ok(EdgeSite {
        site: site.name.clone(),
        canonical: site.canonical.clone(),
        names: std::iter::once(site.canonical.host()).chain(&site.names).cloned().collect(),
        app,
        source,
        mirrors: site.mirrors.clone(),
        admin: site.admin,
        webhook_key,
        epoch: world.epochs.get(&site.name).copied().unwrap_or(1),
        room: site.room,
        hsts_days: site.hsts_days,
        epoch_proof: world.epoch_proofs.get(&site.name).cloned(),
    })
}

fn edge_peer(stack: &Stack, world: &World, name: &DatacenterName) -> Result<Peer, IncompleteWorld> {
    let mut addresses = Vec::new();
    for uplink in stack.datacenters[name].uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly) {
        let address = uplink.loopback();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(Peer { datacenter: name.clone(), public_key: link_key(world, name)?.to_owned(), addresses })
}

fn link_key<'w>(world: &'w World, name: &DatacenterName) -> Result<&'w str, IncompleteWorld> {
    let key = world.link_keys.get(name);
    key.map(String::as_str).ok_or_else(|| IncompleteWorld::LinkKey { datacenter: name.clone() })
}

fn certificate(datacenter: &Datacenter, sites: &[EdgeSite]) -> WantedCertificate {
    let fixed = datacenter.uplinks.iter().filter_map(|uplink| match uplink.address {
        UplinkAddress::Fixed(ip) => Some(ip),
        UplinkAddress::Dynamic => None,
    });
    WantedCertificate {
        names: sites.iter().flat_map(|site| site.names.iter().cloned()).collect(),
        addresses: fixed.chain([datacenter.loopback().ip()]).collect(),
    }
}

fn edge_config(
    stack: &Stack,
    datacenter: &Datacenter,
    sites: Vec<EdgeSite>,
    peers: Vec<Peer>,
    world: &World,
) -> Result<EdgeConfig, IncompleteWorld> {
    let folder = world.state.edge(&datacenter.name);
    Ok(EdgeConfig {
        stack: stack.name.clone(),
        datacenter: datacenter.name.clone(),
        certificate: CertificateFiles { chain: folder.chain(), key: folder.key() },
        store: folder.store(),
        link_key: folder.link_key(link_key(world, &datacenter.name)?),
        peers,
        sites,
        rules: stack.edge.clone(),
        access_log: (stack.edge.access_log != AccessLog::Off).then(|| folder.access_log()),
        proxy: datacenter.proxy.clone(),
        https_port: datacenter.port(),
    })
}

/// The edge as a unit. Its configuration is no input: it is reloaded, not restarted.
fn edge_unit(datacenter: &Datacenter, sites: &[EdgeSite], world: &World) -> UnitSpec {
    let folder = world.state.edge(&datacenter.name);
    let argument = |path: PathBuf| path.to_string_lossy().into_owned();
    let content = sites.iter().filter_map(|site| match &site.source {
        Source::Folder(folder) => Some(folder.clone()),
        Source::Unix(socket) => socket.parent().map(PathBuf::from),
        Source::Tcp(_) | Source::Link(_) => None,
    });
    let keys = sites.iter().filter_map(|site| site.webhook_key.clone());
    let keys = keys.filter(|key| !key.starts_with(folder.path()));
    UnitSpec {
        name: UnitName::at("edge", &datacenter.name).expect("a label and a data center's name form a unit's name"),
        datacenter: datacenter.name.clone(),
        host: None,
        program: world.binary.clone(),
        args: vec![
            "edge".to_owned(),
            "--config".to_owned(),
            argument(folder.config()),
            "--control".to_owned(),
            argument(folder.control()),
            "--trust".to_owned(),
            world.trust.clone(),
        ],
        env: BTreeMap::new(),
        working_dir: folder.path().to_owned(),
        sockets: edge_sockets(datacenter),
        confinement: Confinement {
            // The folder rather than the files: they are replaced by renaming.
            read: std::iter::once(folder.path().to_owned()).chain(keys).chain(content).collect(),
            write: vec![folder.store(), folder.run(), folder.log()],
            own_user: false,
            connect: None,
        },
        health: Health::Control { socket: folder.control() },
        after: Vec::new(),
        stop_grace_seconds: EDGE_STOP_GRACE_SECONDS,
        replace: Replace::Beside,
        inputs: BTreeMap::from([("binary".to_owned(), world.binary_digest)]),
    }
}

/// Where the edge listens: for readers and peers, for readers who come over plain HTTP, for Prometheus.
fn edge_sockets(datacenter: &Datacenter) -> Vec<SocketSpec> {
    let named = |name: &'static str| move |address| SocketSpec { name: name.to_owned(), address };
    let metrics = datacenter.metrics.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let https = datacenter.listen().into_iter().map(named("https"));
    let http = datacenter.listen_http().into_iter().map(named("http"));
    https.chain(http).chain(metrics.map(named("metrics"))).collect()
}
