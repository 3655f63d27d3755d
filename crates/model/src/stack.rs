//! What an operator declares, checked: a [`Stack`] in memory is valid.
//!
//! Made only by the parser of the stack file. The fields are public because the value is plain data; whoever changes
//! one after parsing owns the consequences (tests do).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::archive_copy::ArchiveCopy;
use crate::authority::Authority;
use crate::dns_record::{DnsRecord, RecordSet};
use crate::edge_name::EdgeName;
use crate::edge_rules::{EdgeRules, Proxy, Room};
use crate::interval::Interval;
use crate::keep_rules::KeepRules;
use crate::name::{DatacenterName, DnsName, HostName, InvalidName, Origin, SecondaryName, SiteName, StackName};
use crate::network::Network;
use crate::provider::Provider;
use crate::secondary::Secondary;

/// Everything one operator declares, in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stack {
    /// Its name: the state folder and every derived secret depend on it.
    pub name: StackName,
    /// The places, by name. Never empty.
    pub datacenters: BTreeMap<DatacenterName, Datacenter>,
    /// The registered DNS names.
    pub domains: BTreeMap<DnsName, Domain>,
    /// Name servers of others that have copies of zones, in the order of the file.
    pub secondaries: Vec<Secondary>,
    /// Providers of DNS that are told what domains are to have, in the order of the file.
    pub providers: Vec<Provider>,
    /// The websites, by name.
    pub sites: BTreeMap<SiteName, Site>,
    /// The encrypted backup repository.
    pub archive: Archive,
    /// What holds for all edges.
    pub edge: EdgeRules,
    /// Who issues certificates by ACME, the preferred first. None: the stack's own authority issues all.
    pub authorities: Vec<Authority>,
}

impl Stack {
    /// All edges that are on hosts of their own.
    pub fn edges_on_hosts(&self) -> impl Iterator<Item = EdgeName> {
        let datacenters = self.datacenters.values().filter(|datacenter| datacenter.engine == EngineKind::Incus);
        datacenters.flat_map(Datacenter::edges)
    }

    /// The edges that have an agent beside them: those on hosts, where there is another data center to watch.
    pub fn agents(&self) -> impl Iterator<Item = EdgeName> {
        self.edges_on_hosts().filter(|_| self.datacenters.len() > 1)
    }
}

/// A place with hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Datacenter {
    /// Its name.
    pub name: DatacenterName,
    /// What application instances run on here.
    pub engine: EngineKind,
    /// Its machines. Never empty: an embedded data center has one host, this machine.
    pub hosts: Vec<Host>,
    /// Where it is, for answers by geography.
    pub location: Option<Location>,
    /// The jurisdiction it is under, as an ISO 3166-1 alpha-2 code in upper case.
    pub jurisdiction: Option<String>,
    /// How the world reaches it. Never empty; the first is the preferred one.
    pub uplinks: Vec<Uplink>,
    /// Another proxy in front of its edge.
    pub proxy: Option<Proxy>,
    /// The TCP port on loopback where its edge tells its figures.
    pub metrics: Option<u16>,
    /// The networks that its own people and things are in: asked from there, its name server leads to its hosts themselves.
    pub lan: Vec<Network>,
}

impl Datacenter {
    /// The TCP port readers connect to.
    ///
    /// # Panics
    /// Never for a parsed stack: a data center has at least one uplink.
    pub fn port(&self) -> u16 {
        self.uplinks.first().expect("a parsed data center has an uplink").port
    }

    /// Where its edges listen on this machine, each place once, the preferred uplink's first.
    pub fn listen(&self) -> Vec<SocketAddr> {
        each_once(self.uplinks.iter().map(Uplink::listen))
    }

    /// Where its edges listen for plain HTTP, to point readers to HTTPS; each place once.
    pub fn listen_http(&self) -> Vec<SocketAddr> {
        each_once(self.uplinks.iter().filter_map(Uplink::listen_http))
    }

    /// Its edges, in the order of its hosts.
    pub fn edges(&self) -> Vec<EdgeName> {
        match self.engine {
            EngineKind::Embedded => vec![EdgeName::here(&self.name)],
            EngineKind::Incus => self.hosts.iter().map(|host| EdgeName::on(&self.name, &host.name)).collect(),
        }
    }

    /// Where this machine reaches an edge of it: over loopback when the engine is embedded, else at its host's address.
    ///
    /// # Panics
    /// Never for a parsed stack: a data center has at least one uplink.
    pub fn reached(&self, edge: &EdgeName) -> SocketAddr {
        let host = self.hosts.iter().find(|host| edge.host.as_ref() == Some(&host.name));
        match host.and_then(|host| host.address) {
            Some(address) => SocketAddr::new(address, self.loopback().port()),
            None => self.loopback(),
        }
    }

    /// A host of it by its name.
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// Where this machine reaches its edge, when the engine is embedded: the preferred uplink's socket, over loopback.
    ///
    /// # Panics
    /// Never for a parsed stack: a data center has at least one uplink.
    pub fn loopback(&self) -> SocketAddr {
        self.uplinks.first().expect("a parsed data center has an uplink").loopback()
    }
}

pub(crate) fn each_once(places: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut each: Vec<SocketAddr> = Vec::new();
    for place in places {
        if !each.contains(&place) {
            each.push(place);
        }
    }
    each
}

/// What application instances run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Supervised processes on this machine: for trying out, tests and rehearsal.
    Embedded,
    /// An Incus on each host, for applications; edges are units of the hosts' own.
    Incus,
}

/// One machine of a data center.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its name, unique in the data center.
    pub name: HostName,
    /// How the management machine reaches it; `None` for this machine.
    pub address: Option<IpAddr>,
}

/// A point on the globe, in degrees (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Location {
    /// -90 to 90, north positive.
    pub latitude: f64,
    /// -180 to 180, east positive.
    pub longitude: f64,
}

/// Both are numbers: the parser lets no others in, and JSON has none.
impl Eq for Location {}

/// One internet connection of a data center.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// Its name (the provider's, say), unique in the data center.
    pub name: String,
    /// The address readers connect to.
    pub address: UplinkAddress,
    /// The TCP port for HTTPS that readers connect to, 443 unless said otherwise.
    pub port: u16,
    /// The TCP port that the edge listens on: the same, unless a proxy or router in front has the other one.
    pub local_port: u16,
    /// The TCP port for plain HTTP, where readers are pointed to HTTPS.
    pub http: Option<u16>,
    /// How a connection from outside comes in.
    pub reach: Reach,
}

impl Uplink {
    /// Where an edge on this machine listens for this uplink: at a loopback address itself, else at every address, since
    /// the address of an uplink may be a router's, or change.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.listening_address(), self.local_port)
    }

    /// Where an edge on this machine listens for plain HTTP, if it does.
    pub fn listen_http(&self) -> Option<SocketAddr> {
        self.http.map(|port| SocketAddr::new(self.listening_address(), port))
    }

    fn listening_address(&self) -> IpAddr {
        match self.address {
            UplinkAddress::Fixed(ip) if ip.is_loopback() => ip,
            UplinkAddress::Fixed(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            UplinkAddress::Fixed(IpAddr::V4(_)) | UplinkAddress::Dynamic => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Where this machine reaches an edge that listens for this uplink.
    pub fn loopback(&self) -> SocketAddr {
        let place = self.listen();
        let ip = match place.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, place.port())
    }
}

/// Whether the provider keeps the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkAddress {
    /// Always this one.
    Fixed(IpAddr),
    /// Changes; learned while running.
    Dynamic,
}

/// How a connection from outside comes in over an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The host has the public address.
    Direct,
    /// A router forwards the port to the host.
    Forwarded,
    /// Not at all: the data center can only dial out.
    OutboundOnly,
}

/// A registered DNS name: a third party to be kept at arm's length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// The registered name.
    pub name: DnsName,
    /// Who it is registered with.
    pub registrar: String,
    /// Who answers for it in DNS; `None` for the stack's own name servers.
    pub provider: Option<String>,
    /// Whose name servers have a copy of its zone, beside the stack's own. None where a provider answers.
    pub secondaries: Vec<SecondaryName>,
    /// The jurisdiction registrar and registry are under (ISO 3166-1 alpha-2, upper case).
    pub jurisdiction: Option<String>,
    /// Where mail for it goes.
    pub mail: Mail,
    /// The operator's own records, all within it.
    pub records: Vec<DnsRecord>,
    /// What it had before somebody else's answers became the stack's, and what is to go with them.
    pub drop: Vec<RecordSet>,
}

/// Where mail for a domain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mail {
    /// Nowhere, and its zone says so.
    None,
    /// Where the operator's own records say.
    Elsewhere,
}

/// The name that the name server of a data center has in a domain: in each domain its own, so that no domain depends on
/// another.
///
/// # Errors
/// When it would be longer than a name can be (RFC 1035 section 2.3.4).
pub fn name_server(datacenter: &DatacenterName, domain: &DnsName) -> Result<DnsName, InvalidName> {
    format!("ns-{datacenter}.{domain}").parse()
}

/// A website.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// What serves it.
    pub app: App,
    /// The one address that links inside the site carry: canonical host name, and the primary's port.
    pub canonical: Origin,
    /// The TCP port that its primary's edge listens on: the canonical one, unless a proxy or router in front has that.
    pub edge_port: u16,
    /// Other host names it is served under in full, never redirected. Without the canonical one.
    pub names: Vec<DnsName>,
    /// The data center where it is written.
    pub primary: DatacenterName,
    /// Data centers with a complete read-only copy. Never contains the primary.
    pub mirrors: Vec<DatacenterName>,
    /// From where the admin interface may be reached.
    pub admin: AdminReach,
    /// How much room it may take at each edge.
    pub room: Room,
    /// For how many days browsers are told to use nothing but HTTPS (RFC 6797); 0 for not at all.
    pub hsts_days: u32,
    /// Title and the like, applied at every run when they changed.
    pub settings: SiteSettings,
}

impl Site {
    /// The host of its primary data center that its application runs on; `None` where that is this machine.
    pub fn host<'s>(&self, stack: &'s Stack) -> Option<&'s Host> {
        let primary = stack.datacenters.get(&self.primary)?;
        primary.hosts.first().filter(|_| primary.engine == EngineKind::Incus)
    }

    /// The edge that has it from its application.
    pub fn place(&self, stack: &Stack) -> EdgeName {
        EdgeName { datacenter: self.primary.clone(), host: self.host(stack).map(|host| host.name.clone()) }
    }

    /// All host names it is served under, the canonical one first.
    pub fn all_names(&self) -> impl Iterator<Item = &DnsName> {
        std::iter::once(self.canonical.host()).chain(&self.names)
    }

    /// The data centers that it is at, the primary first.
    pub fn datacenters(&self) -> impl Iterator<Item = &DatacenterName> {
        std::iter::once(&self.primary).chain(&self.mirrors)
    }

    /// Whether its data can be backed up: only its operator knows the data of a service that runs already.
    pub fn is_backed_up(&self) -> bool {
        match &self.app {
            App::Ghost | App::Static { .. } => true,
            App::Upstream { data, .. } => !data.dump.is_empty(),
        }
    }
}

/// What serves a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum App {
    /// Ghost.
    Ghost,
    /// A folder of files, absolute.
    Static {
        /// The folder.
        folder: PathBuf,
    },
    /// An HTTP service that the operator already runs.
    Upstream {
        /// Where it listens, as reached from the primary data center: plain HTTP.
        address: SocketAddr,
        /// What of it is mirrored.
        mirror: MirrorRules,
        /// How its data is written out and read in again.
        data: DataCommands,
    },
}

/// The operator's own commands that write the data of a service out and read it in again. Each is a program and its
/// arguments, run without a shell; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DataCommands {
    /// Writes the data to its standard output.
    pub dump: Vec<String>,
    /// Reads it from its standard input, in place of what is there.
    pub load: Vec<String>,
}

/// What mirrors keep of a service whose pages nobody here knows beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MirrorRules {
    /// Whether links are followed, so that pages are kept before anyone reads them.
    pub crawl: bool,
    /// The paths that following begins with.
    pub start: Vec<String>,
    /// Paths that are never kept, with everything below them. Each ends with a slash.
    pub never: Vec<String>,
}

/// From where a site's admin interface may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminReach {
    /// From anywhere.
    Public,
    /// From private addresses (RFC 1918, RFC 4193, link-local) and loopback.
    Lan,
    /// From this machine only.
    Local,
}

/// What the stack file says about a site's look; `None` leaves the application's own value alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteSettings {
    /// The site's title.
    pub title: Option<String>,
    /// The site's description.
    pub description: Option<String>,
    /// BCP 47 language tag.
    pub language: Option<String>,
    /// IANA time zone name.
    pub timezone: Option<String>,
    /// `#rrggbb`.
    pub accent_color: Option<String>,
    /// Whether readers need a password.
    pub private: Option<bool>,
}

/// The encrypted backup repository on the management machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// Where it is kept; `None` for the stack's state folder.
    pub folder: Option<PathBuf>,
    /// How often a backup is made.
    pub every: Interval,
    /// How often all of the newest backups is restored and compared.
    pub prove: Interval,
    /// Which snapshots stay when it is pruned.
    pub keep: KeepRules,
    /// Whether the images that applications run are backed up too.
    pub images: bool,
    /// Its copies, in the order of the file. Where the file says nothing, at a data center that is no site's primary.
    pub copies: Vec<ArchiveCopy>,
}

impl Default for Archive {
    /// Those of the file format; a test compares them.
    fn default() -> Self {
        Self {
            folder: None,
            every: Interval::seconds(6 * 3600),
            prove: Interval::seconds(7 * 86_400),
            keep: KeepRules::default(),
            images: false,
            copies: Vec::new(),
        }
    }
}
