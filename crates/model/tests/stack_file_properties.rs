//! Properties of the stack file's parser: it never panics, reads back every stack that can be written, and finds every
//! mistake that is put into one, in its line.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sovereign_model::archive_copy::{ArchiveCopy, CopyFormat, CopyPlace, SftpPlace};
use sovereign_model::authority::Authority;
use sovereign_model::dns_record::LONGEST_TTL;
use sovereign_model::dns_record::RecordSet;
use sovereign_model::edge_rules::{AccessLog, EdgeRules, Keep, Limits, Proxy, ProxySpeech, Room};
use sovereign_model::file::{ProblemKind, Problems, Style, parse};
use sovereign_model::keep_rules::KeepRules;
use sovereign_model::provider::{Provider, Way};
use sovereign_model::secondary::{Secondary, TsigAlgorithm};
use sovereign_model::stack::{
    AdminReach, App, Archive, DataCommands, Datacenter, Domain, EngineKind, Host, Location, Mail, MirrorRules, Reach,
    Site, SiteSettings, Stack, Uplink, UplinkAddress,
};
use sovereign_model::{ByteSize, DatacenterName, DnsName, DnsRecord, Interval, Origin, SecondaryName};

fn read(text: &str) -> Result<Stack, Problems> {
    parse("stack.toml", text, Path::new("/srv"))
}

// --- any stack -------------------------------------------------------------------------------------------------------

fn location() -> impl Strategy<Value = Option<Location>> {
    let degrees = (-9000..=9000i32, -18000..=18000i32);
    let place = degrees
        .prop_map(|(north, east)| Location { latitude: f64::from(north) / 100.0, longitude: f64::from(east) / 100.0 });
    proptest::option::of(place)
}

fn jurisdiction() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[A-Z]{2}")
}

fn line() -> impl Strategy<Value = String> {
    "[ -~à-ü€]{0,20}[a-zé\"\\\\]"
}

fn proxy() -> impl Strategy<Value = Option<Proxy>> {
    let speaks = select(vec![ProxySpeech::ProxyProtocol, ProxySpeech::Http]);
    let from = select(vec!["127.0.0.1", "2001:db8::1"]).prop_map(|address| vec![address.parse().unwrap()]);
    proptest::option::of((speaks, from).prop_map(|(speaks, from)| Proxy { speaks, from }))
}

fn edge_rules() -> impl Strategy<Value = EdgeRules> {
    let logs = select(vec![AccessLog::Off, AccessLog::Truncated, AccessLog::Full]);
    let limits = (16..9999u32, 1..9999u32, 8..1000u64, 1..3600u32).prop_map(|(many, some, kibi, seconds)| Limits {
        connections: many,
        connections_per_address: some,
        requests_per_address: some,
        head: ByteSize(kibi << 10),
        head_within: seconds,
        body: ByteSize(kibi * 1_000_000),
        body_within: seconds,
    });
    (logs, limits).prop_map(|(access_log, limits)| EdgeRules { access_log, limits })
}

/// The ports keep data centers apart, the first uplink lets links in.
fn datacenter(index: u16) -> impl Strategy<Value = Datacenter> {
    let addresses = select(vec!["dynamic", "127.0.0.1", "192.0.2.7", "2001:db8::7", "::1"]);
    let reaches = select(vec![Reach::Direct, Reach::Forwarded, Reach::OutboundOnly]);
    let uplinks = proptest::collection::vec((addresses, reaches), 1..4);
    let places = (location(), jurisdiction());
    let local = select(vec![0, 500]);
    (uplinks, places, 0..3u16, local, proxy()).prop_map(move |(uplinks, places, hosts, local, proxy)| {
        let (location, jurisdiction) = places;
        let uplink = |(number, (address, reach)): (u16, (&str, Reach))| Uplink {
            name: format!("uplink {number}"),
            address: address.parse().map_or(UplinkAddress::Dynamic, UplinkAddress::Fixed),
            port: if index == 0 && number == 0 { 443 } else { 8000 + index * 10 + number },
            local_port: if index == 0 && number == 0 { 443 } else { 8000 + index * 10 + number + local },
            http: (local > 0).then_some(9000 + index * 10 + number),
            reach: if number == 0 { Reach::Direct } else { reach },
        };
        let named = |number: u16| Host { name: format!("host{number}").parse().unwrap(), address: None };
        Datacenter {
            name: format!("dc{index}").parse().unwrap(),
            engine: EngineKind::Embedded,
            hosts: match hosts {
                0 => vec![Host { name: "local".parse().unwrap(), address: None }],
                _ => (0..hosts).map(named).collect(),
            },
            location,
            jurisdiction,
            uplinks: (0..).zip(uplinks).map(uplink).collect(),
            metrics: proxy.is_some().then_some(9900 + index),
            proxy,
            lan: Vec::new(),
        }
    })
}

fn settings() -> impl Strategy<Value = SiteSettings> {
    use proptest::option::of;
    let texts = (of(line()), of("[ -~\nö]{0,40}"), of("[a-z]{2}(-[A-Z]{2})?"), of("[A-Z][a-z]{2,8}/[A-Z][a-z]{2,8}"));
    (texts, of("#[0-9a-fA-F]{6}"), of(any::<bool>())).prop_map(
        |((title, description, language, timezone), accent_color, private)| SiteSettings {
            title,
            description,
            language,
            timezone,
            accent_color,
            private,
        },
    )
}

type SiteSeed = (u8, Index, Vec<Index>, u8, AdminReach, SiteSettings);

fn site_seed() -> impl Strategy<Value = SiteSeed> {
    let admins = select(vec![AdminReach::Public, AdminReach::Lan, AdminReach::Local]);
    let mirrors = proptest::collection::vec(any::<Index>(), 0..4);
    (0..3u8, any::<Index>(), mirrors, 0..3u8, admins, settings())
}

fn site(index: usize, seed: SiteSeed, datacenters: &[Datacenter]) -> Site {
    let (app, primary, mirrors, names, admin, settings) = seed;
    let primary = primary.get(datacenters);
    let mut chosen: Vec<DatacenterName> = Vec::new();
    for mirror in mirrors {
        let name = &mirror.get(datacenters).name;
        if *name != primary.name && !chosen.contains(name) {
            chosen.push(name.clone());
        }
    }
    let name = |number: u8| -> DnsName { format!("n{number}.site{index}.example.org").parse().unwrap() };
    Site {
        name: format!("site{index}").parse().unwrap(),
        app: match app {
            0 => App::Ghost,
            1 => App::Static { folder: format!("/srv/files/{index}").into() },
            _ => App::Upstream {
                address: format!("[::1]:{}", 3000 + index).parse().unwrap(),
                mirror: MirrorRules {
                    crawl: index.is_multiple_of(2),
                    start: vec!["/".to_owned(), "/sitemap.xml".to_owned()],
                    never: vec!["/private/".to_owned()],
                },
                data: DataCommands { dump: vec!["pg_dump".to_owned(), "a \"wiki\"".to_owned()], load: Vec::new() },
            },
        },
        canonical: Origin::https(format!("site{index}.localhost").parse().unwrap(), primary.port()),
        edge_port: primary.uplinks[0].local_port,
        names: (0..names).map(name).collect(),
        primary: primary.name.clone(),
        mirrors: chosen,
        admin,
        room: match admin {
            AdminReach::Public => Room::default(),
            AdminReach::Lan => Room { keep: Keep::All, budget: Some(ByteSize(1 << 30)) },
            AdminReach::Local => Room { keep: Keep::Budget, budget: Some(ByteSize(20_000_000_000)) },
        },
        hsts_days: if admin == AdminReach::Public { 365 } else { 0 },
        settings: if app == 0 { settings } else { SiteSettings::default() },
    }
}

fn domain() -> impl Strategy<Value = (String, Option<String>, Option<String>, Vec<u32>, Mail)> {
    let ttls = proptest::collection::vec(0..=LONGEST_TTL, 0..4);
    (line(), proptest::option::of(line()), jurisdiction(), ttls, select(vec![Mail::None, Mail::Elsewhere]))
}

fn archive() -> impl Strategy<Value = Archive> {
    let folder = proptest::option::of(select(vec!["/srv/archive", "/a b/ü"]));
    let keep = prop_oneof![Just(KeepRules::default()), (1..9u32, 0..99u32, 0..10_001u32).prop_map(keep_rules)];
    let copies = proptest::collection::vec(copy_place(), 0..4);
    let interval = || select(vec![Interval::NEVER, Interval::seconds(900), Interval::seconds(7 * 86_400)]);
    let all = (folder, interval(), interval(), keep, any::<bool>(), copies);
    all.prop_map(|(folder, every, prove, keep, images, copies)| Archive {
        folder: folder.map(Into::into),
        every,
        prove,
        keep,
        images,
        copies: copies.into_iter().enumerate().map(|(index, place)| archive_copy(index, place)).collect(),
    })
}

/// The key that says where a copy is.
fn copy_place() -> impl Strategy<Value = &'static str> {
    select(vec!["folder", "disk", "sftp", "datacenter"])
}

fn archive_copy(index: usize, place: &str) -> ArchiveCopy {
    let at = match place {
        "folder" => CopyPlace::Folder(format!("/mnt/ü {index}").into()),
        "disk" => {
            let uuid = format!("{index}D2F-4A1B").parse().unwrap();
            CopyPlace::Disk { uuid, folder: "a b/archive".into() }
        }
        "sftp" => CopyPlace::Sftp(SftpPlace {
            address: format!("me@[2001:db8::{index}]:2222/~/archive").parse().unwrap(),
            key: "/srv/keys/archive".into(),
            host_key: format!("ssh-ed25519 AAAA{}", "C3Nz".repeat(16)).parse().unwrap(),
        }),
        // Every stack has the first one; a second copy there would be one too many.
        _ if index == 0 => CopyPlace::Datacenter("dc0".parse().unwrap()),
        _ => CopyPlace::Folder(format!("/mnt/{index}").into()),
    };
    let in_folder = matches!(at, CopyPlace::Folder(_) | CopyPlace::Disk { .. });
    let full = Interval::seconds(86_400);
    let format = if in_folder && index % 2 == 1 { CopyFormat::Duplicity { full } } else { CopyFormat::Restic };
    ArchiveCopy { name: format!("copy-{index}").parse().unwrap(), at, format }
}

fn keep_rules((last, daily, yearly): (u32, u32, u32)) -> KeepRules {
    KeepRules { last, daily, yearly, ..KeepRules::NOTHING }
}

/// Each name and each address once: which of them, and whether what can be left out is there.
fn authorities() -> impl Strategy<Value = Vec<Authority>> {
    let own = |index: usize, more: bool| Authority {
        name: format!("ca-{index}").parse().unwrap(),
        directory: format!("https://ca{index}.example:14000/dir?a=%20").parse().unwrap(),
        roots: more.then(|| "/srv/a b/roots.pem".into()),
        profile: more.then(|| "shortlived \"ü\"".to_owned()),
        caa: more.then(|| "ca.example".parse().unwrap()),
    };
    let known = Authority {
        name: "letsencrypt".parse().unwrap(),
        directory: "https://acme-v02.api.letsencrypt.org/directory".parse().unwrap(),
        roots: None,
        profile: None,
        caa: Some("letsencrypt.org".parse().unwrap()),
    };
    (proptest::collection::vec(any::<bool>(), 0..3), any::<bool>()).prop_map(move |(owned, with_known)| {
        let owned = owned.into_iter().enumerate().map(|(index, more)| own(index, more));
        with_known.then(|| known.clone()).into_iter().chain(owned).collect()
    })
}

/// Each with what can be left out, or without; they copy from the first data center, where that can be reached.
fn secondaries(kinds: &[bool], datacenters: &[Datacenter]) -> Vec<Secondary> {
    let secondary = |(index, more): (usize, &bool)| {
        let name: SecondaryName = format!("friend-{index}").parse().unwrap();
        let addresses: BTreeSet<IpAddr> = [format!("203.0.113.{index}"), format!("2001:db8::{index}")]
            .iter()
            .take(1 + usize::from(*more))
            .map(|address| address.parse().unwrap())
            .collect();
        let usual = addresses.iter().map(|address| SocketAddr::new(*address, 53)).collect();
        Secondary {
            host: more.then(|| format!("ns{index}.friend.example").parse().unwrap()),
            notify: if *more { vec!["[2001:db8::9]:5353".parse().unwrap()] } else { usual },
            key: if *more {
                format!("key{index}").parse().unwrap()
            } else {
                Secondary::usual_key(&name, &"any-stack".parse().unwrap())
            },
            algorithm: if *more { TsigAlgorithm::HmacSha512 } else { TsigAlgorithm::HmacSha256 },
            name,
            addresses,
        }
    };
    let is_reached = datacenters.iter().any(Datacenter::is_reached_for_good);
    kinds.iter().enumerate().filter(|_| is_reached).map(secondary).collect()
}

/// Whom the domain of this number is at, where that one is told.
fn told(index: usize) -> Option<Provider> {
    let server = "[2001:db8::5]:5353".parse().unwrap();
    let key = "key.example.org".parse().unwrap();
    let way = match index {
        0 => Way::Rfc2136 { server, key, algorithm: TsigAlgorithm::HmacSha384 },
        1 => Way::Desec,
        _ => return None,
    };
    Some(Provider { name: format!("told-{index}").parse().unwrap(), way })
}

fn any_stack() -> impl Strategy<Value = Stack> {
    let datacenters = (1..5u16).prop_flat_map(|count| (0..count).map(datacenter).collect::<Vec<_>>());
    let domains = proptest::collection::vec(domain(), 0..3);
    let sites = proptest::collection::vec(site_seed(), 0..5);
    let archive = archive();
    let edge = prop_oneof![Just(EdgeRules::default()), edge_rules()];
    let kinds = proptest::collection::vec(any::<bool>(), 0..3);
    let all = (datacenters, domains, sites, archive, edge, authorities(), kinds);
    all.prop_map(|(datacenters, domains, sites, archive, edge, authorities, kinds)| Stack {
        secondaries: secondaries(&kinds, &datacenters),
        providers: (0..domains.len()).filter(|index| domains[*index].1.is_some()).filter_map(told).collect(),
        name: "any-stack".parse().unwrap(),
        sites: sites
            .into_iter()
            .enumerate()
            .map(|(index, seed)| site(index, seed, &datacenters))
            .map(|site| (site.name.clone(), site))
            .collect(),
        domains: domains
            .into_iter()
            .enumerate()
            .map(|(index, (registrar, provider, jurisdiction, ttls, mail))| {
                let name: DnsName = format!("d{index}.org").parse().unwrap();
                let owner = |index| format!("r{index}.{name}").parse().unwrap();
                let record = |(index, ttl)| DnsRecord::new(&owner(index), ttl, "TXT", format!("\"\\\"{ttl}; \""));
                let records = ttls.into_iter().enumerate().map(record).collect();
                let drop = vec![RecordSet { owner: format!("old.{name}"), kind: "TXT".to_owned() }];
                // The first domain has the first one only, the others have all.
                let mut with = secondaries(&kinds, &datacenters);
                with.truncate(if provider.is_some() {
                    0
                } else if index == 0 {
                    1
                } else {
                    usize::MAX
                });
                let secondaries = with.into_iter().map(|secondary| secondary.name).collect();
                let told = told(index).map(|provider| provider.name.to_string());
                let provider = provider.map(|other| told.unwrap_or(other));
                (name.clone(), Domain { name, registrar, provider, secondaries, jurisdiction, mail, records, drop })
            })
            .collect(),
        datacenters: datacenters.into_iter().map(|datacenter| (datacenter.name.clone(), datacenter)).collect(),
        archive,
        edge,
        authorities,
    })
}

// --- and its file ----------------------------------------------------------------------------------------------------

/// A TOML string: JSON's escapes are TOML's too, but for DEL, which no generator above makes.
fn quoted(text: impl AsRef<str>) -> String {
    serde_json::to_string(text.as_ref()).unwrap()
}

fn put(file: &mut String, key: &str, value: Option<impl AsRef<str>>) {
    if let Some(value) = value {
        writeln!(file, "{key} = {}", quoted(value)).unwrap();
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

/// Leaves defaults out, so that they are tested too.
fn written(stack: &Stack) -> String {
    let mut file = format!("version = 1\n[stack]\nname = {}\n", quoted(stack.name.as_str()));
    for datacenter in stack.datacenters.values() {
        writeln!(file, "[[datacenter]]\nname = \"{}\"", datacenter.name).unwrap();
        if let Some(Location { latitude, longitude }) = datacenter.location {
            writeln!(file, "location = {{ latitude = {latitude}, longitude = {longitude} }}").unwrap();
        }
        put(&mut file, "jurisdiction", datacenter.jurisdiction.as_ref());
        if let Some(Proxy { speaks, from }) = &datacenter.proxy {
            let speaks = if *speaks == ProxySpeech::Http { "http" } else { "proxy-protocol" };
            let from = list(from.iter().map(ToString::to_string));
            writeln!(file, "proxy = {{ speaks = \"{speaks}\", from = {from} }}").unwrap();
        }
        if let Some(port) = datacenter.metrics {
            writeln!(file, "metrics = {port}").unwrap();
        }
        for uplink in &datacenter.uplinks {
            writeln!(file, "[[datacenter.uplink]]\nname = {}", quoted(&uplink.name)).unwrap();
            match uplink.address {
                UplinkAddress::Dynamic => writeln!(file, "address = \"dynamic\"").unwrap(),
                UplinkAddress::Fixed(ip) => writeln!(file, "address = \"{ip}\"").unwrap(),
            }
            if uplink.port != 443 {
                writeln!(file, "port = {}", uplink.port).unwrap();
            }
            if uplink.local_port != uplink.port {
                writeln!(file, "listen = {}", uplink.local_port).unwrap();
            }
            if let Some(port) = uplink.http {
                writeln!(file, "http = {port}").unwrap();
            }
            match uplink.reach {
                Reach::Direct => {}
                Reach::Forwarded => file.push_str("reach = \"forwarded\"\n"),
                Reach::OutboundOnly => file.push_str("reach = \"outbound-only\"\n"),
            }
        }
        for host in datacenter.hosts.iter().filter(|host| host.name.as_str() != "local") {
            writeln!(file, "[[datacenter.host]]\nname = \"{}\"", host.name).unwrap();
        }
    }
    for domain in stack.domains.values() {
        writeln!(file, "[[domain]]\nname = \"{}\"", domain.name).unwrap();
        put(&mut file, "registrar", Some(&domain.registrar));
        put(&mut file, "provider", domain.provider.as_ref());
        if domain.provider.is_none() && domain.secondaries.len() < stack.secondaries.len() {
            writeln!(file, "secondaries = {}", list(domain.secondaries.iter().map(ToString::to_string))).unwrap();
        }
        put(&mut file, "jurisdiction", domain.jurisdiction.as_ref());
        put(&mut file, "mail", (domain.mail == Mail::Elsewhere).then_some("elsewhere"));
        writeln!(file, "records = {}", list(domain.records.iter().map(ToString::to_string))).unwrap();
        writeln!(file, "drop = {}", list(domain.drop.iter().map(ToString::to_string))).unwrap();
    }
    for site in stack.sites.values() {
        writeln!(file, "[[site]]\nname = \"{}\"", site.name).unwrap();
        match &site.app {
            App::Ghost => file.push_str("app = \"ghost\"\n"),
            App::Static { folder } => {
                let relative = folder.strip_prefix("/srv").unwrap().to_str().unwrap().to_owned();
                writeln!(file, "app = \"static\"\nfolder = {}", quoted(format!("./{relative}"))).unwrap();
            }
            App::Upstream {
                address,
                mirror: MirrorRules { crawl, start, never },
                data: DataCommands { dump, load },
            } => {
                let (start, never) = (list(start.iter().cloned()), list(never.iter().cloned()));
                writeln!(file, "app = \"upstream\"\naddress = \"{address}\"").unwrap();
                writeln!(file, "dump = {}", list(dump.iter().cloned())).unwrap();
                assert!(load.is_empty(), "left out, so that its default is tried");
                writeln!(file, "mirror = {{ crawl = {crawl}, start = {start}, never = {never} }}").unwrap();
            }
        }
        writeln!(file, "canonical = \"{}\"\nprimary = \"{}\"", site.canonical.host(), site.primary).unwrap();
        writeln!(file, "names = {}", list(site.names.iter().map(ToString::to_string))).unwrap();
        writeln!(file, "mirrors = {}", list(site.mirrors.iter().map(ToString::to_string))).unwrap();
        match site.admin {
            AdminReach::Local => {}
            AdminReach::Lan => file.push_str("admin = \"lan\"\n"),
            AdminReach::Public => file.push_str("admin = \"public\"\n"),
        }
        if let Some(budget) = site.room.budget {
            writeln!(file, "budget = \"{budget}\"").unwrap();
        }
        if site.room.keep == Keep::Budget {
            file.push_str("keep = \"budget\"\n");
        }
        if site.hsts_days != 365 {
            writeln!(file, "hsts = {}", site.hsts_days).unwrap();
        }
        let settings = &site.settings;
        if *settings != SiteSettings::default() {
            file.push_str("[site.settings]\n");
            put(&mut file, "title", settings.title.as_ref());
            put(&mut file, "description", settings.description.as_ref());
            put(&mut file, "language", settings.language.as_ref());
            put(&mut file, "timezone", settings.timezone.as_ref());
            put(&mut file, "accent-color", settings.accent_color.as_ref());
            if let Some(private) = settings.private {
                writeln!(file, "private = {private}").unwrap();
            }
        }
    }
    if stack.edge != EdgeRules::default() {
        let log = match stack.edge.access_log {
            AccessLog::Off => "off",
            AccessLog::Truncated => "truncated",
            AccessLog::Full => "full",
        };
        let limits = &stack.edge.limits;
        writeln!(file, "[edge]\naccess-log = \"{log}\"\n[edge.limits]\nconnections = {}", limits.connections).unwrap();
        writeln!(file, "connections-per-address = {}", limits.connections_per_address).unwrap();
        writeln!(file, "requests-per-address = {}", limits.requests_per_address).unwrap();
        writeln!(file, "head = \"{}\"\nhead-within = {}", limits.head, limits.head_within).unwrap();
        writeln!(file, "body = \"{}\"\nbody-within = {}", limits.body, limits.body_within).unwrap();
    }
    for Secondary { name, host, addresses, notify, key, algorithm } in &stack.secondaries {
        let addresses = list(addresses.iter().map(ToString::to_string));
        writeln!(file, "[[secondary]]\nname = \"{name}\"\naddresses = {addresses}").unwrap();
        put(&mut file, "host", host.as_ref().map(DnsName::as_str));
        if *algorithm != TsigAlgorithm::HmacSha256 {
            let notify = list(notify.iter().map(ToString::to_string));
            writeln!(file, "notify = {notify}\nkey = \"{key}\"\nalgorithm = \"{algorithm}\"").unwrap();
        }
    }
    for Provider { name, way } in &stack.providers {
        writeln!(file, "[[provider]]\nname = \"{name}\"\nkind = \"{}\"", way.kind()).unwrap();
        if let Way::Rfc2136 { server, key, algorithm } = way {
            writeln!(file, "server = \"{server}\"\nkey = \"{key}\"\nalgorithm = \"{algorithm}\"").unwrap();
        }
    }
    for Authority { name, directory, roots, profile, caa } in &stack.authorities {
        writeln!(file, "[[authority]]\nname = \"{name}\"").unwrap();
        if name.as_str() != "letsencrypt" {
            writeln!(file, "directory = \"{directory}\"").unwrap();
            put(&mut file, "caa", caa.as_ref().map(DnsName::as_str));
        }
        put(&mut file, "roots", roots.as_ref().map(|_| "./a b/roots.pem"));
        put(&mut file, "profile", profile.as_ref());
    }
    file.push_str("[archive]\n");
    if stack.archive.copies.is_empty() {
        file.push_str("copy = []\n");
    }
    put(&mut file, "folder", stack.archive.folder.as_ref().map(|folder| folder.to_str().unwrap()));
    writeln!(file, "every = \"{}\"\nprove = \"{}\"", stack.archive.every, stack.archive.prove).unwrap();
    writeln!(file, "images = {}", stack.archive.images).unwrap();
    if stack.archive.keep != KeepRules::default() {
        let KeepRules { last, hourly, daily, weekly, monthly, yearly } = stack.archive.keep;
        write!(file, "keep = {{ last = {last}, hourly = {hourly}, daily = {daily}, weekly = {weekly}, ").unwrap();
        writeln!(file, "monthly = {monthly}, yearly = {yearly} }}").unwrap();
    }
    for ArchiveCopy { name, at, format } in &stack.archive.copies {
        writeln!(file, "[[archive.copy]]\nname = \"{name}\"").unwrap();
        match at {
            CopyPlace::Folder(folder) => put(&mut file, "folder", folder.to_str()),
            CopyPlace::Disk { uuid, folder } => {
                writeln!(file, "disk = \"{uuid}\"\nfolder = {}", quoted(folder.to_str().unwrap())).unwrap();
            }
            CopyPlace::Sftp(SftpPlace { address, key: _, host_key }) => {
                writeln!(file, "sftp = \"{address}\"\nkey = \"./keys/archive\"\nhost-key = \"{}\"", host_key.as_str())
                    .unwrap();
            }
            CopyPlace::Datacenter(datacenter) => writeln!(file, "datacenter = \"{datacenter}\"").unwrap(),
        }
        if let CopyFormat::Duplicity { full } = format {
            writeln!(file, "format = \"duplicity\"\nfull = \"{full}\"").unwrap();
        }
    }
    file
}

// --- mistakes --------------------------------------------------------------------------------------------------------

/// A line of the file that begins so is replaced; what it becomes must be reported as this, in that line.
#[derive(Debug, Clone, Copy)]
struct Mistake {
    line: &'static str,
    becomes: &'static str,
    kind: ProblemKind,
    /// Where it is reported, counted from the changed line.
    offset: usize,
}

const fn mistake(line: &'static str, becomes: &'static str, kind: ProblemKind) -> Mistake {
    Mistake { line, becomes, kind, offset: 0 }
}

impl Mistake {
    /// Whether the mistake can be made there. Not all names have a form: an uplink may be called anything.
    fn fits(&self, lines: &[&str], place: usize) -> bool {
        let any_text = place > 0 && lines[place - 1] == "[[datacenter.uplink]]" && self.kind == ProblemKind::BadValue;
        lines[place].starts_with(self.line) && !(self.line == "name = " && any_text)
    }
}

const MISTAKES: &[Mistake] = &[
    mistake("version = ", "version = true", ProblemKind::WrongType),
    mistake("version = ", "version = 0", ProblemKind::BadValue),
    mistake("version = ", "version = 9", ProblemKind::Version),
    mistake("[stack]", "[stack", ProblemKind::Syntax),
    Mistake { offset: 1, ..mistake("[[datacenter]]", "[[datacenter]]\nnome = \"x\"", ProblemKind::UnknownKey) },
    Mistake { offset: 1, ..mistake("[[site]]", "[[site]]\nzzz.yyy = 1", ProblemKind::UnknownKey) },
    mistake("name = ", "name = \"-\"", ProblemKind::BadValue),
    mistake("name = ", "name = [\"a\"]", ProblemKind::WrongType),
    mistake("location = ", "location = { latitude = 91, longitude = 0 }", ProblemKind::BadValue),
    mistake("location = ", "location = { latitude = 1.0 }", ProblemKind::Missing),
    mistake("location = ", "location = \"Bern\"", ProblemKind::WrongType),
    mistake("jurisdiction = ", "jurisdiction = \"CHE\"", ProblemKind::BadValue),
    mistake("address = ", "address = \"localhost\"", ProblemKind::BadValue),
    mistake("mirror = ", "mirror = { start = [\"here\"] }", ProblemKind::BadValue),
    mistake("mirror = ", "mirror = { crawl = 1 }", ProblemKind::WrongType),
    mistake("port = ", "port = 65536", ProblemKind::BadValue),
    mistake("port = ", "port = 8.5", ProblemKind::WrongType),
    mistake("reach = ", "reach = \"none\"", ProblemKind::BadValue),
    mistake("registrar = ", "registrar = \" \"", ProblemKind::BadValue),
    mistake("app = ", "app = \"word press\"", ProblemKind::BadValue),
    mistake("folder = ", "folder = \"\"", ProblemKind::BadValue),
    mistake("canonical = ", "canonical = \"a_b.example.org\"", ProblemKind::BadValue),
    mistake("canonical = ", "canonical = \"-a.example.org\"", ProblemKind::BadValue),
    mistake("primary = ", "primary = \"nowhere\"", ProblemKind::UnknownReference),
    mistake("mirrors = ", "mirrors = [\"nowhere\"]", ProblemKind::UnknownReference),
    mistake("names = ", "names = [\"a.org\", \"A.ORG\"]", ProblemKind::Duplicate),
    mistake("names = ", "names = [\"*.example.org\"]", ProblemKind::BadValue),
    mistake("admin = ", "admin = \"lam\"", ProblemKind::BadValue),
    mistake("accent-color = ", "accent-color = \"#12345\"", ProblemKind::BadValue),
    mistake("timezone = ", "timezone = \"Europe Zurich\"", ProblemKind::BadValue),
    mistake("private = ", "private = 0", ProblemKind::WrongType),
    mistake("proxy = ", "proxy = { speaks = \"gopher\", from = [\"127.0.0.1\"] }", ProblemKind::BadValue),
    mistake("proxy = ", "proxy = { speaks = \"http\", from = [] }", ProblemKind::BadValue),
    mistake("proxy = ", "proxy = { speaks = \"http\" }", ProblemKind::Missing),
    mistake("metrics = ", "metrics = 0", ProblemKind::BadValue),
    mistake("listen = ", "listen = \"8443\"", ProblemKind::WrongType),
    mistake("http = ", "http = 65536", ProblemKind::BadValue),
    mistake("budget = ", "budget = \"20\"", ProblemKind::BadValue),
    mistake("hsts = ", "hsts = 9999", ProblemKind::BadValue),
    mistake("addresses = ", "addresses = []", ProblemKind::BadValue),
    mistake("addresses = ", "addresses = [\"192.0.2.1\", \"192.0.2.1\"]", ProblemKind::Duplicate),
    mistake("algorithm = ", "algorithm = \"hmac-md5\"", ProblemKind::BadValue),
    mistake("secondaries = ", "secondaries = [\"nobody\"]", ProblemKind::UnknownReference),
    mistake("kind = ", "kind = \"bind\"", ProblemKind::BadValue),
    mistake("server = ", "server = \"203.0.113.53\"", ProblemKind::BadValue),
    mistake("access-log = ", "access-log = \"everything\"", ProblemKind::BadValue),
    mistake("head = ", "head = \"7 KiB\"", ProblemKind::BadValue),
    mistake("body = ", "body = \"2 PB\"", ProblemKind::BadValue),
    mistake("connections = ", "connections = 1", ProblemKind::BadValue),
    mistake("keep = {", "keep = { last = -1 }", ProblemKind::BadValue),
    mistake("keep = {", "keep = { minutely = 1 }", ProblemKind::UnknownKey),
    mistake("disk = ", "disk = \"sda1\"", ProblemKind::BadValue),
    mistake("sftp = ", "sftp = \"me@nas\"", ProblemKind::BadValue),
    mistake("host-key = ", "host-key = \"nas ssh-ed25519 AAAA\"", ProblemKind::BadValue),
    mistake("datacenter = ", "datacenter = \"nowhere\"", ProblemKind::UnknownReference),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.problems.is_empty());
            problems.render(Style::Color);
        }
    }

    #[test]
    fn any_pieces_of_a_file_are_read_or_refused(
        stack in any_stack(),
        cuts in proptest::collection::vec((any::<Index>(), any::<Index>()), 1..6),
    ) {
        let file = written(&stack);
        let lines: Vec<&str> = file.lines().collect();
        let text: Vec<String> = cuts
            .iter()
            .flat_map(|(from, count)| lines.iter().skip(from.index(lines.len())).take(count.index(lines.len()) + 1))
            .map(|line| (*line).to_owned())
            .collect();
        if let Err(problems) = read(&text.join("\n")) {
            prop_assert!(!problems.problems.is_empty());
            for problem in &problems.problems {
                prop_assert!(problem.source.contains(&problem.text));
                prop_assert!(problem.help.is_some() || problem.kind == ProblemKind::Syntax, "{}", problem.message);
            }
            problems.render(Style::Plain);
        }
    }

    #[test]
    fn what_is_written_is_read_back(stack in any_stack()) {
        let file = written(&stack);
        match read(&file) {
            Ok(read) => prop_assert_eq!(read, stack),
            Err(problems) => prop_assert!(false, "{}\n{}", file, problems),
        }
    }

    #[test]
    fn every_mistake_is_found_where_it_is(stack in any_stack(), at in any::<Index>()) {
        let file = written(&stack);
        let lines: Vec<&str> = file.lines().collect();
        for mistake in MISTAKES {
            let places: Vec<usize> = (0..lines.len()).filter(|place| mistake.fits(&lines, *place)).collect();
            if places.is_empty() {
                continue;
            }
            let place = *at.get(&places);
            let mut changed = lines.clone();
            changed[place] = mistake.becomes;
            let problems = read(&changed.join("\n")).unwrap_err().problems;
            let expected = (mistake.kind, place + 1 + mistake.offset);
            prop_assert!(
                problems.iter().any(|problem| (problem.kind, problem.line) == expected),
                "{:?} is not among {:#?}", expected, problems
            );
        }
    }

    #[test]
    fn several_mistakes_are_all_found(stack in any_stack()) {
        let file = written(&stack)
            .replace("[[site]]", "[[site]]\nplanet = 1")
            .replace("[[datacenter.uplink]]", "[[datacenter.uplink]]\nplanet = 1")
            .replace("[stack]", "[stack]\nplanet = 1");
        let planted = file.matches("planet = 1").count();
        prop_assert_eq!(read(&file).unwrap_err().problems.len(), planted);
    }
}
