//! From what was read to a [`Stack`]: what the tables of the format cannot say, chiefly how entries refer to each other.
//!
//! Entries are checked even when some of their keys are spoilt, so that all problems come out at once; a reference is
//! not called unknown while a name that it may mean could not be read.

mod archive;
mod authority;
mod domain;
mod edge;
mod lan;
mod provider;
mod secondary;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::problem::{Finding, ProblemKind};
use super::reader::{Node, Reader, closest};
use crate::name::{DatacenterName, DnsName, HostName, Origin, SiteName};
use crate::stack::{
    AdminReach, App, DataCommands, Datacenter, EngineKind, Host, Location, MirrorRules, Reach, Site, SiteSettings,
    Stack, Uplink, UplinkAddress,
};

/// The stack, or `None` when there are findings.
pub(super) fn stack(file: &Node, base: &Path, reader: &mut Reader) -> Option<Stack> {
    let mut check = Check { base, reader, listeners: BTreeMap::new() };
    let datacenters = check.datacenters(file.nodes("datacenter"));
    let name = file.node("stack").and_then(|node| node.parse("name"));
    let secondaries = check.secondaries(file.nodes("secondary"), name.as_ref(), &datacenters);
    let providers = check.providers(file.nodes("provider"), file.nodes("domain"));
    let domains = check.domains(file.nodes("domain"), file, &secondaries);
    let sites = check.sites(file.nodes("site"), &datacenters, file);
    let places = datacenters.keys().cloned().collect();
    let places = domain::Servers { datacenters: &places, secondaries: &secondaries };
    check.names_in_domains(file.nodes("domain"), &domains, &sites, &places);
    let archive = check.archive(file, &datacenters, &sites);
    let edge = check.edge_rules(file.node("edge"));
    let authorities = check.authorities(file.nodes("authority"));
    if !check.reader.findings.is_empty() {
        return None;
    }
    Some(Stack {
        name: name?,
        datacenters: datacenters.into_iter().filter_map(|(name, read)| Some((name, read.complete?))).collect(),
        domains,
        secondaries,
        providers,
        sites,
        archive,
        edge,
        authorities,
    })
}

struct Check<'c> {
    base: &'c Path,
    reader: &'c mut Reader,
    /// Who listens where on this machine, by port.
    listeners: BTreeMap<u16, Vec<Listener>>,
}

struct Listener {
    address: SocketAddr,
    span: Range<usize>,
    datacenter: usize,
    /// The key that says so.
    key: &'static str,
}

/// Whether edges of other data centers can dial a data center's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WayIn {
    /// They can.
    Known,
    /// Readers come in, at an address that no edge elsewhere knows beforehand.
    Changing,
    /// No uplink lets anyone in.
    None,
}

impl WayIn {
    fn of(engine: Option<EngineKind>, uplinks: &[Uplink]) -> Self {
        let mut open = uplinks.iter().filter(|uplink| uplink.reach != Reach::OutboundOnly).peekable();
        // A host that has the address itself is dialled where this machine reaches it; all on this machine, over loopback.
        let is_known = |uplink: &Uplink| {
            engine != Some(EngineKind::Incus)
                || uplink.reach == Reach::Direct
                || matches!(uplink.address, UplinkAddress::Fixed(_))
        };
        match (open.peek().is_some(), open.any(is_known)) {
            (_, true) => Self::Known,
            (true, false) => Self::Changing,
            (false, false) => Self::None,
        }
    }
}

/// A data center as other entries see it, even when it is not complete.
struct Declared {
    span: Range<usize>,
    complete: Option<Datacenter>,
    /// The port that readers use of its first uplink, and the one that its edge listens on.
    first_uplink: Option<(u16, u16)>,
    /// Whether others find a way in; only denied when all uplinks could be read.
    way_in: WayIn,
}

impl Check<'_> {
    fn find(&mut self, finding: Finding) {
        self.reader.findings.push(finding);
    }

    /// Reports a name that was taken before.
    fn unique<K: Ord>(&mut self, seen: &mut BTreeMap<K, Range<usize>>, key: K, what: &str, span: Range<usize>) -> bool {
        if let Some(first) = seen.get(&key) {
            let finding = Finding::new(ProblemKind::Duplicate, span, format!("{what} is declared twice"));
            self.find(finding.note(first.clone(), "first declared here").help("rename or remove one of them"));
            return false;
        }
        seen.insert(key, span);
        true
    }

    fn datacenters(&mut self, nodes: &[Node]) -> BTreeMap<DatacenterName, Declared> {
        let mut seen = BTreeMap::new();
        let mut all = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let engine = match node.text("engine") {
                Some("embedded") => Some(EngineKind::Embedded),
                Some("incus") => Some(EngineKind::Incus),
                _ => None,
            };
            let uplinks = self.uplinks(node, index, engine);
            let hosts = self.hosts(node, engine);
            let metrics = port(node, "metrics");
            if let Some(port) = metrics.filter(|_| engine == Some(EngineKind::Embedded)) {
                self.listener((Ipv4Addr::LOCALHOST, port).into(), node, "metrics", index);
            }
            let lan = self.lan(node, hosts.as_deref());
            let proxy = node.node("proxy").map(|node| self.proxy(node));
            let location = node.node("location").map(location);
            let Some(name) = node.parse::<DatacenterName>("name") else { continue };
            let span = node.span_of("name");
            if !self.unique(&mut seen, name.clone(), &format!("data center `{name}`"), span.clone()) {
                continue;
            }
            let first = node.nodes("uplink").first();
            let declared = Declared {
                span,
                first_uplink: first.and_then(|uplink| {
                    let port = port(uplink, "port")?;
                    Some((port, self::port(uplink, "listen").unwrap_or(port)))
                }),
                way_in: uplinks.as_ref().map_or(WayIn::Known, |all| WayIn::of(engine, all)),
                complete: match (engine, uplinks, hosts, location, proxy) {
                    (Some(engine), Some(uplinks), Some(hosts), None | Some(Some(_)), proxy) => Some(Datacenter {
                        name: name.clone(),
                        engine,
                        hosts,
                        location: location.flatten(),
                        jurisdiction: jurisdiction(node),
                        uplinks,
                        proxy: proxy.flatten(),
                        metrics,
                        lan,
                    }),
                    _ => None,
                },
            };
            all.insert(name, declared);
        }
        all
    }

    fn uplinks(&mut self, datacenter: &Node, index: usize, engine: Option<EngineKind>) -> Option<Vec<Uplink>> {
        let mut seen = BTreeMap::new();
        let nodes = datacenter.nodes("uplink");
        let mut uplinks = Vec::new();
        for node in nodes {
            if let Some(name) = node.owned("name") {
                self.unique(&mut seen, name.clone(), &format!("uplink `{name}`"), node.span_of("name"));
            }
            let address = match node.text("address") {
                Some("dynamic") => Some(UplinkAddress::Dynamic),
                Some(fixed) => fixed.parse().ok().map(UplinkAddress::Fixed),
                None => None,
            };
            if let Some(UplinkAddress::Fixed(ip)) = address {
                if ip.is_loopback() && engine == Some(EngineKind::Incus) {
                    let message = "a loopback address leads to no host";
                    let help = "write the address that readers connect to, or \"dynamic\"";
                    self.find(Finding::new(ProblemKind::Conflict, node.span_of("address"), message).help(help));
                }
                self.reachable_address(ip, node.span_of("address"));
            }
            let (Some(name), Some(address), Some(port), Some(reach)) =
                (node.owned("name"), address, port(node, "port"), reach(node))
            else {
                continue;
            };
            let (local_port, http) = (self::port(node, "listen").unwrap_or(port), self::port(node, "http"));
            let uplink = Uplink { name, address, port, local_port, http, reach };
            if engine == Some(EngineKind::Embedded) {
                self.listener(uplink.listen(), node, "port", index);
                if let Some(address) = uplink.listen_http() {
                    self.listener(address, node, "http", index);
                }
            }
            uplinks.push(uplink);
        }
        (!nodes.is_empty() && uplinks.len() == nodes.len()).then_some(uplinks)
    }

    fn reachable_address(&mut self, ip: IpAddr, span: Range<usize>) {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            let message = format!("nobody can connect to {ip}");
            let help = "write the address that readers connect to, or \"dynamic\"";
            self.find(Finding::new(ProblemKind::BadValue, span, message).help(help));
        }
    }

    /// Two edges of this machine cannot listen at the same place, and a wildcard takes a port at every address.
    fn listener(&mut self, address: SocketAddr, node: &Node, key: &'static str, datacenter: usize) {
        let written = if key == "port" && node.has("listen") { "listen" } else { key };
        let span = node.span_of(written);
        let others = self.listeners.entry(address.port()).or_default();
        let taken = others.iter().find(|other| {
            let overlap =
                other.address == address || other.address.ip().is_unspecified() || address.ip().is_unspecified();
            // Two uplinks of one data center may lead to one socket.
            let shared = other.datacenter == datacenter && other.key == key && address.ip().is_unspecified();
            overlap && !shared
        });
        let finding = taken.map(|other| {
            let message = format!("port {} is used twice on this machine", address.port());
            Finding::new(ProblemKind::Duplicate, span.clone(), message)
                .note(other.span.clone(), format!("{} already listens on it", shown(other.address)))
                .help("give each data center on this machine, and each purpose, a port of its own")
        });
        match finding {
            Some(finding) => self.find(finding),
            None => others.push(Listener { address, span, datacenter, key }),
        }
    }

    fn hosts(&mut self, datacenter: &Node, engine: Option<EngineKind>) -> Option<Vec<Host>> {
        let nodes = datacenter.nodes("host");
        let mut seen = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        let mut hosts = Vec::new();
        for node in nodes {
            let address = node.parse::<IpAddr>("address");
            if address.is_some() && engine == Some(EngineKind::Embedded) {
                let message = "a host of an embedded data center has no address";
                let help = "remove `address`: the engine \"embedded\" runs on this machine";
                self.find(Finding::new(ProblemKind::Conflict, node.span_of("address"), message).help(help));
            }
            if address.is_none() && !node.spoilt("address") && engine == Some(EngineKind::Incus) {
                let message = "`address` is missing in [[datacenter.host]]";
                let help = "add the address that `sovereign host add` was given: `address = \"192.0.2.8\"`";
                self.find(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(help));
            }
            if let Some(first) = address.and_then(|address| addresses.insert(address, node.span_of("address"))) {
                let finding =
                    Finding::new(ProblemKind::Duplicate, node.span_of("address"), "two hosts have one address");
                self.find(
                    finding.note(first, "first given here").help("each host is reached at an address of its own"),
                );
            }
            let Some(name) = node.parse::<HostName>("name") else { continue };
            if self.unique(&mut seen, name.clone(), &format!("host `{name}`"), node.span_of("name")) {
                hosts.push(Host { name, address });
            }
        }
        if nodes.is_empty() && engine == Some(EngineKind::Incus) {
            let message = "a data center with the engine \"incus\" has no host";
            let help = "`sovereign host add` makes one ready and prints its `[[datacenter.host]]`";
            self.find(Finding::new(ProblemKind::Missing, datacenter.span.clone(), message).help(help));
        } else if nodes.is_empty() {
            hosts.push(Host { name: "local".parse().expect("`local` is a label"), address: None });
        }
        (!hosts.is_empty()).then_some(hosts)
    }

    fn sites(
        &mut self,
        nodes: &[Node],
        datacenters: &BTreeMap<DatacenterName, Declared>,
        file: &Node,
    ) -> BTreeMap<SiteName, Site> {
        let names_known =
            !file.spoilt("datacenter") && file.nodes("datacenter").iter().all(|node| !node.spoilt("name"));
        let places = Places { datacenters, names_known };
        let mut seen = BTreeMap::new();
        let mut claims = BTreeMap::new();
        let mut sites = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let name = node.parse::<SiteName>("name");
            if let Some(name) = &name {
                self.unique(&mut seen, name.clone(), &format!("site `{name}`"), node.span_of("name"));
            }
            let label = name.as_ref().map_or_else(|| "another site".to_owned(), |name| format!("site `{name}`"));
            let owner = Owner { index, label };
            let app = self.app(node);
            let settings = self.settings(node, app.as_ref());
            let canonical = self.claim(&mut claims, node.text("canonical"), node.span_of("canonical"), &owner);
            let mut names = Vec::new();
            for text in node.texts("names") {
                names.extend(self.claim(&mut claims, Some(text.get_ref()), text.span(), &owner));
            }
            let primary = self.primary(node, &places);
            let mirrors = self.mirrors(node, &places);
            let admin = match node.text("admin") {
                Some("public") => Some(AdminReach::Public),
                Some("lan") => Some(AdminReach::Lan),
                Some("local") => Some(AdminReach::Local),
                _ => None,
            };
            let room = self.room(node);
            let hsts_days = node.integer("hsts").and_then(|days| days.try_into().ok()).unwrap_or_default();
            let ports = primary.as_ref().and_then(|name| datacenters.get(name)?.first_uplink);
            let (Some(name), Some(app), Some(canonical), Some((port, edge_port)), Some(primary), Some(admin)) =
                (name, app, canonical, ports, primary, admin)
            else {
                continue;
            };
            let canonical = Origin::https(canonical, port);
            let site =
                Site { name, app, canonical, edge_port, names, primary, mirrors, admin, room, hsts_days, settings };
            sites.insert(site.name.clone(), site);
        }
        sites
    }

    fn app(&mut self, node: &Node) -> Option<App> {
        let app = node.text("app")?;
        for (key, owner, purpose) in [
            ("folder", "static", "to serve its files"),
            ("address", "upstream", "to put a service that runs already behind the edges"),
            ("mirror", "upstream", "for a site whose pages are not known beforehand"),
            ("dump", "upstream", "for a service whose data only the operator knows how to write out"),
            ("load", "upstream", "for a service whose data only the operator knows how to read in"),
        ] {
            let written = node.text(key).is_some() || node.node(key).is_some() || !node.texts(key).is_empty();
            if app != owner && written {
                let message = format!("{} `{app}` site has no `{key}`", if app == "upstream" { "an" } else { "a" });
                let help = format!("remove `{key}`, or write `app = \"{owner}\"` {purpose}");
                self.find(Finding::new(ProblemKind::Conflict, node.span_of(key), message).help(help));
            }
        }
        match app {
            "ghost" => Some(App::Ghost),
            "static" => {
                let folder = self.folder(node);
                if folder.is_none() && !node.spoilt("folder") {
                    let message = "`folder` is missing in [[site]]";
                    let help = "a `static` site serves the files of a folder: add `folder = \"./public\"`";
                    self.find(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(help));
                }
                Some(App::Static { folder: folder? })
            }
            "upstream" => {
                let address = node.parse::<SocketAddr>("address");
                if address.is_none() && !node.spoilt("address") {
                    let message = "`address` is missing in [[site]]";
                    let help = "an `upstream` site is a service that runs already: add `address = \"127.0.0.1:3000\"`";
                    self.find(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(help));
                }
                let words = |key| node.texts(key).iter().map(|text| text.get_ref().clone()).collect();
                let data = DataCommands { dump: words("dump"), load: words("load") };
                Some(App::Upstream { address: address?, mirror: mirror_rules(node.node("mirror")), data })
            }
            _ => None,
        }
    }

    fn settings(&mut self, node: &Node, app: Option<&App>) -> SiteSettings {
        let Some(settings) = node.node("settings") else { return SiteSettings::default() };
        let kind = match app {
            Some(App::Static { .. }) => Some(("a `static` site", "its files say")),
            Some(App::Upstream { .. }) => Some(("an `upstream` site", "the service itself says")),
            Some(App::Ghost) | None => None,
        };
        if let Some((kind, who)) = kind {
            let message = format!("{kind} has no settings");
            let help = format!("remove [site.settings]: {who} how it looks");
            self.find(Finding::new(ProblemKind::Conflict, settings.span.clone(), message).help(help));
        }
        SiteSettings {
            title: settings.owned("title"),
            description: settings.owned("description"),
            language: settings.owned("language"),
            timezone: settings.owned("timezone"),
            accent_color: settings.owned("accent-color"),
            private: settings.flag("private"),
        }
    }

    /// Takes a host name for a site; each can be taken once.
    fn claim(
        &mut self,
        claims: &mut BTreeMap<DnsName, (Range<usize>, Owner)>,
        text: Option<&str>,
        span: Range<usize>,
        owner: &Owner,
    ) -> Option<DnsName> {
        let name: DnsName = text?.parse().ok()?;
        if let Some((first, holder)) = claims.get(&name) {
            let finding = Finding::new(ProblemKind::Duplicate, span, format!("host name `{name}` is used twice"));
            let (note, help) = if holder.index == owner.index {
                ("first used here".to_owned(), "remove one of them")
            } else {
                (
                    format!("it belongs to {}", holder.label),
                    "a host name leads to one site: remove it from one of the two",
                )
            };
            self.find(finding.note(first.clone(), note).help(help));
            return None;
        }
        claims.insert(name.clone(), (span, owner.clone()));
        Some(name)
    }

    fn primary(&mut self, node: &Node, places: &Places<'_>) -> Option<DatacenterName> {
        let name = node.parse::<DatacenterName>("primary")?;
        self.known(&name, node.span_of("primary"), places).then_some(name)
    }

    fn known(&mut self, name: &DatacenterName, span: Range<usize>, places: &Places<'_>) -> bool {
        if places.datacenters.contains_key(name) {
            return true;
        }
        if places.names_known {
            let help = match closest(name.as_str(), places.datacenters.keys().map(DatacenterName::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    let known: Vec<String> =
                        places.datacenters.keys().take(8).map(|name| format!("\"{name}\"")).collect();
                    format!("declare it with [[datacenter]], or write one of {}", known.join(", "))
                }
            };
            let message = format!("there is no data center `{name}`");
            self.find(Finding::new(ProblemKind::UnknownReference, span, message).help(help));
        }
        false
    }

    fn mirrors(&mut self, node: &Node, places: &Places<'_>) -> Vec<DatacenterName> {
        let primary = node.parse::<DatacenterName>("primary");
        let mut seen: BTreeMap<DatacenterName, Range<usize>> = BTreeMap::new();
        for text in node.texts("mirrors") {
            let Ok(name) = text.get_ref().parse::<DatacenterName>() else { continue };
            if Some(&name) == primary.as_ref() {
                let message = format!("`{name}` is the primary of this site and cannot be its mirror too");
                let finding = Finding::new(ProblemKind::Conflict, text.span(), message);
                let help = "the primary always has every page: remove it from `mirrors`";
                self.find(finding.note(node.span_of("primary"), "declared as primary here").help(help));
            } else if let Some(first) = seen.get(&name) {
                let finding =
                    Finding::new(ProblemKind::Duplicate, text.span(), format!("mirror `{name}` is listed twice"));
                self.find(finding.note(first.clone(), "first listed here").help("remove one of them"));
            } else if self.known(&name, text.span(), places) {
                self.linkable(primary.as_ref(), &name, text, places);
                seen.insert(name, text.span());
            }
        }
        // In the order of the file: it is the operator's order of preference.
        let mut mirrors: Vec<(usize, DatacenterName)> =
            seen.into_iter().map(|(name, span)| (span.start, name)).collect();
        mirrors.sort();
        mirrors.into_iter().map(|(_, name)| name).collect()
    }

    /// A mirror is filled over a link, and a link needs one side that can be dialled.
    fn linkable(
        &mut self,
        primary: Option<&DatacenterName>,
        mirror: &DatacenterName,
        text: &Spanned<String>,
        places: &Places<'_>,
    ) {
        let closed = |name: &DatacenterName| places.datacenters.get(name).filter(|at| at.way_in != WayIn::Known);
        let Some(primary) = primary else { return };
        if let (Some(first), Some(second)) = (closed(primary), closed(mirror)) {
            let why = match (first.way_in, second.way_in) {
                (WayIn::None, WayIn::None) => "both can only dial out",
                (WayIn::Changing, WayIn::Changing) => "the addresses of both change",
                _ => "one can only dial out, and the address of the other changes",
            };
            let message = format!("`{primary}` and `{mirror}` cannot reach each other: {why}");
            let finding = Finding::new(ProblemKind::Conflict, text.span(), message);
            let help = "one of the two needs an uplink with an address that stays, and whose `reach` is \"direct\" or \
                        \"forwarded\"";
            self.find(finding.note(first.span.clone(), format!("`{primary}` is declared here")).help(help));
        }
    }

    fn folder(&self, node: &Node) -> Option<PathBuf> {
        node.text("folder").map(|folder| self.absolute(folder))
    }

    /// A relative path starts at the folder of the stack file.
    fn absolute(&self, path: &str) -> PathBuf {
        self.base.join(path).components().filter(|part| *part != Component::CurDir).collect()
    }
}

/// A site that takes host names.
#[derive(Clone)]
struct Owner {
    index: usize,
    label: String,
}

struct Places<'d> {
    datacenters: &'d BTreeMap<DatacenterName, Declared>,
    /// Whether all names of data centers could be read: only then is another name unknown.
    names_known: bool,
}

/// What the format's defaults say where nothing is written.
fn mirror_rules(node: Option<&Node>) -> MirrorRules {
    let texts = |key| node.map_or(&[][..], |node| node.texts(key)).iter().map(|text| text.get_ref().clone());
    MirrorRules {
        crawl: node.and_then(|node| node.flag("crawl")).unwrap_or(true),
        start: if node.is_some() { texts("start").collect() } else { vec!["/".to_owned()] },
        never: texts("never").map(|path| format!("{}/", path.trim_end_matches('/'))).collect(),
    }
}

fn location(node: &Node) -> Option<Location> {
    Some(Location { latitude: node.number("latitude")?, longitude: node.number("longitude")? })
}

fn jurisdiction(node: &Node) -> Option<String> {
    node.text("jurisdiction").map(str::to_ascii_uppercase)
}

fn port(node: &Node, key: &str) -> Option<u16> {
    node.integer(key).and_then(|port| port.try_into().ok())
}

fn reach(node: &Node) -> Option<Reach> {
    match node.text("reach")? {
        "direct" => Some(Reach::Direct),
        "forwarded" => Some(Reach::Forwarded),
        "outbound-only" => Some(Reach::OutboundOnly),
        _ => None,
    }
}

/// An address for people: a wildcard is every address.
fn shown(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("every address, port {},", address.port()) } else { address.to_string() }
}
