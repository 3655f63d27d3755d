//! From what was gathered to what an operator wants to know: what serves, what is wrong, what to do. Pure.

mod archive;
mod certificates;
mod copies;
mod lines;
mod name_servers;
mod on_hosts;
mod room;
mod sight;

use std::collections::BTreeMap;

use serde::Serialize;
use sovereign_engine::embedded::{SupervisorStatus, UnitState, UnitStatus};
use sovereign_hosts::lease::Holding;
use sovereign_model::edge_status::{EdgeStatus, Role, SiteStatus};
use sovereign_model::stack::{App, EngineKind, Site};
use sovereign_model::{DatacenterName, EdgeName, HostName, Origin, Stack};
use sovereign_services::ghost::outgoing_text;

use crate::datacenters::{Datacenters, Decided, Matter};
use crate::gather::Gathered;
use crate::output::figures;
use crate::zone_keys::Exchange;
pub(crate) use archive::Backed;
pub(crate) use certificates::CertificateReport;
pub(crate) use copies::CopyReport;
pub(crate) use name_servers::NameServerReport;
pub(crate) use room::CopyRoom;
use room::Judgement;
pub(crate) use sight::SeenBy;

/// A certificate with less than this left is said to be a problem: renewal comes much earlier.
const CERTIFICATE_WORRY_DAYS: u64 = 60;

/// A mirror that no page was confirmed in for this long does not follow its primary.
const MIRROR_WORRY_SECONDS: u64 = 3600;

const DAY: u64 = 86_400;

/// Readers do not notice, so there is no hurry.
const LOG_HELP: &str = "make room on the disk of the state folder; readers are served as before";

/// The stack as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Assessment {
    /// Its name.
    pub(crate) stack: String,
    /// Whether nothing needs attention.
    pub(crate) well: bool,
    /// What needs attention, most basic first.
    pub(crate) problems: Vec<Problem>,
    /// What is well and will not stay so by itself.
    pub(crate) warnings: Vec<Problem>,
    /// The supervisor of this machine; `None` when it does not run.
    pub(crate) supervisor: Option<Daemon>,
    /// The data centers.
    pub(crate) datacenters: Vec<DatacenterReport>,
    /// The sites.
    pub(crate) sites: Vec<SiteReport>,
    /// The certificates of public authorities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<CertificateReport>,
    /// Of what backups are proven.
    pub(crate) archive: Vec<Backed>,
    /// The name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) name_servers: Vec<NameServerReport>,
    /// The archive's copies.
    pub(crate) archive_copies: Vec<CopyReport>,
    /// Who works on hosts just now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) at_work: BTreeMap<EdgeName, Holding>,
    /// Until when all of this runs with nobody looking after it, in seconds since 1970, and what ends then.
    pub(crate) unattended_until: Option<Unattended>,
}

/// Something wrong, and a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) subject: String,
    /// What.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: Option<String>,
    /// Waiting does not help.
    #[serde(skip)]
    pub(crate) lasting: bool,
}

/// What is said while sites are looked at.
struct Said {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A process of ours.
#[derive(Debug, Serialize)]
pub(crate) struct Daemon {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its program's version.
    pub(crate) version: String,
    /// Memory it uses alone and shares in proportion, in bytes; the keeper's is included.
    pub(crate) memory_bytes: u64,
}

/// A data center.
#[derive(Debug, Serialize)]
pub(crate) struct DatacenterReport {
    /// Its name.
    pub(crate) name: DatacenterName,
    /// Its engine.
    pub(crate) engine: EngineKind,
    /// Its hosts' names.
    pub(crate) hosts: Vec<String>,
    /// The port readers connect to.
    pub(crate) port: u16,
    /// The generation its edge serves.
    pub(crate) generation: Option<u64>,
    /// When its certificate ends, in seconds since 1970.
    pub(crate) certificate_ends: Option<u64>,
    /// Since when it is taken out of answers, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drained: Option<Decided>,
    /// Since when its applications are being worked on, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maintenance: Option<Decided>,
    /// What runs there.
    pub(crate) units: Vec<UnitReport>,
    /// How the agents of the others see it.
    pub(crate) seen_by: Vec<SeenBy>,
}

/// Something that runs.
#[derive(Debug, Serialize)]
pub(crate) struct UnitReport {
    /// Its name.
    pub(crate) name: String,
    /// On which host; `None` for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<HostName>,
    /// How it is.
    pub(crate) state: UnitState,
    /// Its process id.
    pub(crate) pid: Option<i32>,
    /// How long it runs, in seconds.
    pub(crate) running_seconds: Option<u64>,
    /// How often it was started again; `None` when nobody counts.
    pub(crate) restarts: Option<u32>,
    /// Memory, in bytes; `None` when it is not known, as below.
    pub(crate) memory_bytes: Option<u64>,
    /// Processor time since its start, in milliseconds.
    pub(crate) cpu_ms: Option<u64>,
    /// How it is kept apart.
    pub(crate) confinement: Option<String>,
    /// What is wrong.
    pub(crate) problem: Option<String>,
}

/// A site.
#[derive(Debug, Serialize)]
pub(crate) struct SiteReport {
    /// Its name.
    pub(crate) name: String,
    /// Its canonical origin.
    pub(crate) canonical: Origin,
    /// What serves it.
    pub(crate) app: &'static str,
    /// Closed to the public.
    pub(crate) private: bool,
    /// Its copies, the primary's first.
    pub(crate) copies: Vec<Copy>,
    /// What the application tried to reach outside, and was refused.
    pub(crate) outgoing: Option<String>,
}

/// What an edge keeps of a site.
#[derive(Debug, Serialize)]
pub(crate) struct Copy {
    /// Where.
    pub(crate) datacenter: DatacenterName,
    /// On which host; `None` for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<HostName>,
    /// Whether the site is written there.
    pub(crate) role: Role,
    /// The address it is read at.
    pub(crate) url: Origin,
    /// Whether every known page is kept.
    pub(crate) complete: bool,
    /// Pages kept.
    pub(crate) pages_kept: usize,
    /// Pages known.
    pub(crate) pages_known: usize,
    /// Bytes kept.
    pub(crate) bytes: u64,
    /// Bytes known to belong to the site.
    pub(crate) bytes_known: u64,
    /// How much it may take; `None` when an older edge does not say.
    pub(crate) room: Option<CopyRoom>,
    /// Seconds since a page was confirmed last.
    pub(crate) age_seconds: Option<u64>,
    /// Whether its source answered last.
    pub(crate) source_reachable: Option<bool>,
}

/// When something ends that the stack does not renew by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Unattended {
    /// In seconds since 1970.
    pub(crate) unix: u64,
    /// What ends.
    pub(crate) because: String,
}

/// What serves, and what of it needs attention.
struct Serving {
    datacenters: Vec<DatacenterReport>,
    sites: Vec<SiteReport>,
    name_servers: Vec<NameServerReport>,
    said: Said,
}

fn serving(stack: &Stack, gathered: &Gathered, now: u64) -> Serving {
    let mut said = Said { problems: Vec::new(), warnings: Vec::new() };
    let supervisor = gathered.supervisor.as_ref();
    let is_here = stack.datacenters.values().any(|datacenter| datacenter.engine == EngineKind::Embedded);
    if supervisor.is_none() && is_here {
        said.problems.push(problem("stack", "nothing runs: there is no supervisor", Some("sovereign up")));
    }
    for (edge, note) in &gathered.evacuated {
        said.warnings.push(problem(
            edge,
            note.text(),
            Some(&format!("`sovereign host restore {edge}` brings it back")),
        ));
    }
    decisions(&gathered.decided, now, &mut said);
    said.warnings.extend(lines::limits(stack));
    // As it should be, and not at its end without the operator.
    said.warnings.extend(gathered.zone_keys.under_way().iter().map(|(domain, exchange)| {
        let Exchange { message, help, .. } = Exchange::of(domain, exchange, now);
        problem(domain, message, Some(&help))
    }));
    let datacenters = stack
        .datacenters
        .keys()
        .map(|name| datacenter(stack, name, gathered, supervisor, now, &mut said.problems))
        .collect();
    sight::clocks(gathered, &mut said.problems);
    let sites = stack.sites.values().map(|declared| site(stack, declared, gathered, now, &mut said)).collect();
    let name_servers = name_servers::judge(gathered, now, &mut said);
    Serving { datacenters, sites, name_servers, said }
}

/// What was decided beside the stack file is no trouble, and must not be forgotten.
fn decisions(decided: &Datacenters, now: u64, said: &mut Said) {
    let each = |matter, message: &str, help: &str| {
        let all = decided.decided(matter).iter();
        let told = all.map(|(name, decided)| {
            let help = format!("`sovereign dc {help} {name}` ends that");
            problem(name, format!("{message} {}", decided.text(now)), Some(&help))
        });
        told.collect::<Vec<_>>()
    };
    said.warnings.extend(each(Matter::Drained, "it is taken out of answers on purpose", "undrain"));
    said.warnings.extend(each(Matter::Maintained, "its applications are being worked on", "maintenance off"));
}

/// What keeps readers or writers from being served, or may soon. Keys, backups and copies of them are none of it.
pub(crate) fn serving_problems(stack: &Stack, gathered: &Gathered, now: u64) -> Vec<Problem> {
    serving(stack, gathered, now).said.problems
}

/// Judges. `now` is in seconds since 1970.
pub(crate) fn assess(stack: &Stack, gathered: &Gathered, now: u64) -> Assessment {
    let supervisor = gathered.supervisor.as_ref();
    let Serving { datacenters, sites, name_servers, mut said } = serving(stack, gathered, now);
    if gathered.words_seen == Some(false) {
        let message = "nobody has shown yet that its 24 words are written down: nothing brings it back without them";
        let help =
            "`sovereign seed show`, write them down on paper, then type them in from there: `sovereign seed verify`";
        said.problems.push(Problem { lasting: true, ..problem("root seed", message, Some(help)) });
    }
    let certificates = certificates::judge(stack, gathered, now, &mut said);
    certificates::of_renewers(gathered, &mut said);
    let archive = archive::judge(stack, &gathered.backups, now, &mut said);
    let archive_copies = copies::judge(stack, &gathered.backups, &gathered.copies, now, &mut said.problems);
    let Said { problems, warnings } = said;
    let own = gathered.certificates.iter().map(|(name, facts)| {
        let because = format!("the certificate of {name} ends; every `sovereign up` in its last third renews it");
        Unattended { unix: facts.not_after, because }
    });
    let public = gathered.public.names.iter().filter_map(|(name, known)| {
        let stored = known.certificate.as_ref().filter(|_| !certificates::is_renewed_there(gathered, name))?;
        let authority = &stored.authority;
        let because = format!("the certificate of {name} from {authority} ends; `sovereign tick` renews it from here");
        Some(Unattended { unix: certificates::lasts(stack, gathered, name, stored), because })
    });
    let unattended_until = own.chain(public).min_by_key(|ends| ends.unix);
    Assessment {
        stack: stack.name.to_string(),
        well: problems.is_empty(),
        problems,
        warnings,
        supervisor: supervisor.map(|status| Daemon {
            pid: status.pid,
            version: status.version.clone(),
            memory_bytes: status.usage.pss_bytes + status.keeper.as_ref().map_or(0, |keeper| keeper.usage.pss_bytes),
        }),
        datacenters,
        sites,
        name_servers,
        certificates,
        archive,
        archive_copies,
        unattended_until,
        at_work: BTreeMap::new(),
    }
}

fn problem(subject: impl ToString, message: impl ToString, help: Option<&str>) -> Problem {
    let (subject, message, help) = (subject.to_string(), message.to_string(), help.map(str::to_owned));
    Problem { subject, message, help, lasting: false }
}

fn datacenter(
    stack: &Stack,
    name: &DatacenterName,
    gathered: &Gathered,
    supervisor: Option<&SupervisorStatus>,
    now: u64,
    problems: &mut Vec<Problem>,
) -> DatacenterReport {
    let declared = &stack.datacenters[name];
    let mut units: Vec<_> = supervisor
        .into_iter()
        .flat_map(|status| &status.units)
        .filter(|unit| unit.datacenter == *name)
        .map(|status| unit(status, problems))
        .collect();
    let (mut generation, mut certificate_ends) = (None, None);
    for edge in declared.edges() {
        let unit = edge.unit();
        let is_here = edge.host.is_none();
        if is_here && supervisor.is_some() && !units.iter().any(|known| known.name == unit.as_str()) {
            problems.push(problem(name, "no edge was started here", Some("sovereign up")));
        }
        if let (Some(Err(why)), true) = (gathered.edges.get(&edge), is_here && supervisor.is_some()) {
            let help = format!("sovereign logs {unit}");
            problems.push(problem(&unit, why, Some(&help)));
        }
        if let Some(Ok(status)) = gathered.edges.get(&edge) {
            generation = generation.max(Some(status.generation));
            if let Some((log, why)) = status.access_log.as_ref().and_then(|log| Some((log, log.problem.as_deref()?))) {
                let message = format!("the access log is not written ({} lost so far): {why}", requests(log.dropped));
                problems.push(problem(&unit, message, Some(LOG_HELP)));
            }
        }
        let ends = gathered.certificates.get(&edge).map(|facts| facts.not_after);
        certificate_ends = certificate_ends.into_iter().chain(ends).min();
        if let Some(days) = ends.map(|ends| ends.saturating_sub(now) / DAY)
            && days < CERTIFICATE_WORRY_DAYS
        {
            problems.push(problem(&edge, format_args!("its certificate ends in {days} days"), Some("sovereign up")));
        }
        if !is_here {
            units.extend(on_hosts::units(gathered, &edge, problems));
        }
    }
    DatacenterReport {
        name: name.clone(),
        engine: declared.engine,
        hosts: declared.hosts.iter().map(|host| host.name.to_string()).collect(),
        port: declared.port(),
        generation,
        certificate_ends,
        drained: gathered.decided.decided(Matter::Drained).get(name).cloned(),
        maintenance: gathered.decided.decided(Matter::Maintained).get(name).cloned(),
        units,
        seen_by: sight::judge(name, gathered, now, problems),
    }
}

fn unit(status: &UnitStatus, problems: &mut Vec<Problem>) -> UnitReport {
    let logs = format!("sovereign logs {}", status.name);
    if !status.is_well() {
        let how = match (&status.problem, &status.refused) {
            (Some(why), _) => why.clone(),
            (None, Some(why)) => format!("its newest description does not run: {why}"),
            (None, None) => format!("it is {}", word(status.state)),
        };
        problems.push(problem(&status.name, how, Some(&logs)));
    }
    if let Some(without) = status.confinement.as_deref().filter(|how| how.starts_with("none")) {
        let message = format!("it is not confined: {without}");
        problems.push(problem(&status.name, message, Some("use a Linux kernel with Landlock (5.13 or newer)")));
    }
    UnitReport {
        name: status.name.to_string(),
        host: None,
        state: status.state,
        pid: status.pid,
        running_seconds: status.running_seconds,
        restarts: Some(status.restarts),
        memory_bytes: Some(status.usage.pss_bytes),
        cpu_ms: Some(status.usage.cpu_ms),
        confinement: status.confinement.clone(),
        problem: status.problem.clone().or_else(|| status.refused.clone()),
    }
}

fn requests(number: u64) -> String {
    figures::count(number, "request", "requests")
}

/// The state in one word.
pub(crate) fn word(state: UnitState) -> &'static str {
    match state {
        UnitState::Waiting => "waiting",
        UnitState::Starting => "starting",
        UnitState::Healthy => "healthy",
        UnitState::Unhealthy => "unhealthy",
        UnitState::Replacing => "replacing",
        UnitState::Pausing => "pausing",
        UnitState::Stopping => "stopping",
        UnitState::Stopped => "stopped",
    }
}

fn site(stack: &Stack, declared: &Site, gathered: &Gathered, now: u64, said: &mut Said) -> SiteReport {
    let places = std::iter::once(&declared.primary).chain(&declared.mirrors);
    let places = places.flat_map(|place| stack.datacenters[place].edges());
    let mut private = false;
    let source = declared.place(stack);
    let is_aside = gathered.evacuated.contains_key(&source);
    if is_aside {
        let message = format!("readers get kept pages and nobody can write: {source} is evacuated on purpose");
        said.warnings.push(problem(&declared.name, message, None));
    }
    let copies = places
        .filter_map(|place| {
            let edge: &EdgeStatus = gathered.edges.get(&place)?.as_ref().ok()?;
            // What nobody waits for is no problem; room is one all the same.
            let mut unheard = Said { problems: Vec::new(), warnings: Vec::new() };
            let is_aside = is_aside || gathered.evacuated.contains_key(&place);
            let said: &mut Said = if is_aside { &mut unheard } else { &mut *said };
            let Some(status) = edge.site(&declared.name) else {
                let subject = format!("{} at {place}", declared.name);
                said.problems.push(problem(subject, "it is not served here yet", Some("sovereign up")));
                return None;
            };
            private |= status.private;
            judge_copy(&place, status, now, said);
            Some(Copy {
                url: Origin::https(declared.canonical.host().clone(), stack.datacenters[&place.datacenter].port()),
                datacenter: place.datacenter,
                host: place.host,
                role: status.role,
                complete: status.complete,
                pages_kept: status.pages_kept,
                pages_known: status.pages_known,
                bytes: status.bytes,
                bytes_known: status.bytes_known.max(status.bytes),
                room: status.room.as_ref().map(CopyRoom::from),
                age_seconds: status.newest_fetch_unix.map(|newest| now.saturating_sub(newest)),
                source_reachable: status.source.reachable,
            })
        })
        .collect();
    SiteReport {
        name: declared.name.to_string(),
        canonical: declared.canonical.clone(),
        app: match declared.app {
            App::Ghost => "ghost",
            App::Static { .. } => "static",
            App::Upstream { .. } => "upstream",
        },
        private,
        copies,
        outgoing: gathered.outgoing.get(&declared.name).filter(|list| !list.is_empty()).map(|list| outgoing_text(list)),
    }
}

fn judge_copy(place: &EdgeName, status: &SiteStatus, now: u64, said: &mut Said) {
    let Said { problems, warnings } = said;
    let subject = format!("{} at {place}", status.site);
    let logs = format!("sovereign logs {}", place.unit());
    if status.maintenance {
        // Nothing is asked of the source, so nothing is confirmed either.
        let message = "readers get kept pages and nobody can write: the application is being worked on";
        return warnings.push(problem(&subject, message, None));
    }
    if status.source.reachable == Some(false) {
        let why = status.source.last_error.as_deref().unwrap_or("it does not answer");
        problems.push(problem(
            &subject,
            format_args!("readers get kept pages, the source is away: {why}"),
            Some(&logs),
        ));
    } else if !status.is_filled() {
        // An edge that has just started keeps its pages, and has to hear from the source whether these are all.
        let (message, help) = if status.pages_kept < status.pages_known {
            let message = format!("{} of {} pages are kept", status.pages_kept, status.pages_known);
            (message, "wait: it is being filled")
        } else {
            ("it is not known yet whether all pages are kept".to_owned(), "wait: the source is being asked")
        };
        problems.push(problem(&subject, message, Some(help)));
    }
    match room::judge(&subject, &place.datacenter, status) {
        Judgement::Well => {}
        Judgement::Warning(warning) => warnings.push(warning),
        Judgement::Problem(problem) => problems.push(Problem { lasting: true, ..problem }),
    }
    if let Some(held) = status.last_pass.as_ref().map(|pass| pass.held).filter(|held| *held > 0) {
        let message = format!("{held} pages are gone at the source; they are too many at once and are still served");
        problems.push(problem(&subject, message, Some(&logs)));
    }
    let age = status.newest_fetch_unix.map_or(0, |newest| now.saturating_sub(newest));
    if status.role == Role::Mirror && age > MIRROR_WORRY_SECONDS {
        problems.push(problem(&subject, format_args!("no page was confirmed for {} minutes", age / 60), Some(&logs)));
    }
}

/// Sites by the edges they are read at, for a summary.
pub(crate) fn addresses(stack: &Stack) -> BTreeMap<EdgeName, Vec<(&Site, Origin)>> {
    let mut addresses: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for site in stack.sites.values() {
        for place in site.datacenters() {
            let datacenter = &stack.datacenters[place];
            let origin = Origin::https(site.canonical.host().clone(), datacenter.port());
            for edge in datacenter.edges() {
                addresses.entry(edge).or_default().push((site, origin.clone()));
            }
        }
    }
    addresses
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use sovereign_engine::embedded::Usage;
    use sovereign_model::edge_config::EdgeApp;
    use sovereign_model::edge_status::{AccessLogStatus, SourceReport};
    use sovereign_model::{Digest, file};

    use super::*;
    use crate::backup::copies::{Copies, Known};
    use crate::backup::{Proof, Record};
    use crate::certificates::known;

    const NOW: u64 = 1_800_000_000;

    pub(crate) fn stack() -> Stack {
        file::parse("stack.toml", file::default_file(), Path::new("/")).unwrap()
    }

    fn unit(name: &str, state: UnitState) -> UnitStatus {
        UnitStatus {
            name: name.parse().unwrap(),
            datacenter: name.split_once('@').unwrap().1.parse().unwrap(),
            state,
            problem: None,
            wanted: Digest::of(name),
            running: Some(Digest::of(name)),
            pid: Some(7),
            running_seconds: Some(90),
            restarts: 0,
            last_exit: None,
            next_try_ms: None,
            confinement: Some("landlock".to_owned()),
            confined: None,
            usage: Usage::default(),
            sockets: Vec::new(),
            refused: None,
        }
    }

    fn edge(stack: &Stack, at: &str, role: Role) -> EdgeStatus {
        let site = &stack.sites[&"blog".parse().unwrap()];
        EdgeStatus {
            healthy: true,
            draining: false,
            version: "0.1.0".to_owned(),
            process: 7,
            stack: stack.name.clone(),
            datacenter: at.parse().unwrap(),
            host: None,
            generation: 1,
            config_digest: Digest::of(at),
            certificate: None,
            certificate_ends_unix: None,
            public_certificates: BTreeMap::new(),
            owns_store: true,
            connections: 0,
            traffic: None,
            access_log: None,
            sites: vec![SiteStatus {
                site: site.name.clone(),
                canonical: site.canonical.clone(),
                app: EdgeApp::Ghost,
                role,
                primary: None,
                epoch: 1,
                superseded: false,
                newest: None,
                private: false,
                maintenance: false,
                complete: true,
                pages_kept: 40,
                pages_known: 40,
                pages_stale: 0,
                bytes: 1 << 20,
                bytes_known: 1 << 20,
                room: None,
                oldest_fetch_unix: Some(NOW - 60),
                newest_fetch_unix: Some(NOW - 5),
                source: SourceReport { reachable: Some(true), last_error: None },
                pass: None,
                last_pass: None,
            }],
        }
    }

    pub(crate) fn well(stack: &Stack) -> Gathered {
        let units = ["edge@home", "edge@office", "ghost-blog@home"].map(|name| unit(name, UnitState::Healthy)).into();
        Gathered {
            supervisor: Some(SupervisorStatus {
                pid: 5,
                incarnation: 1,
                version: "0.1.0".to_owned(),
                usage: Usage::default(),
                keeper: None,
                units,
            }),
            edges: [("home", Role::Primary), ("office", Role::Mirror)]
                .map(|(at, role)| (at.parse().unwrap(), Ok(edge(stack, at, role))))
                .into(),
            agents: BTreeMap::new(),
            name_servers: BTreeMap::new(),
            renewers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            evacuated: BTreeMap::new(),
            certificates: BTreeMap::new(),
            public: known::Known::default(),
            outgoing: BTreeMap::new(),
            words_seen: Some(true),
            backups: proven(stack, NOW),
            copies: in_step(stack),
            decided: Datacenters::default(),
            zone_keys: crate::zone_keys::ZoneKeys::default(),
        }
    }

    /// Copies that are what the archive is.
    fn in_step(stack: &Stack) -> Copies {
        let snapshots = vec!["5ab5".repeat(16)];
        let known =
            |at: String| Known { at, in_step_unix: Some(NOW), snapshots: snapshots.clone(), ..Known::default() };
        let mut all = Copies::default();
        all.copies.extend(stack.archive.copies.iter().map(|copy| (copy.name.clone(), known(copy.at.to_string()))));
        all
    }

    /// Backups of everything, proven as a whole at `unix`.
    pub(crate) fn proven(stack: &Stack, unix: u64) -> Record {
        let proof = Proof {
            snapshot: "5ab5".repeat(16),
            taken_unix: 0,
            verified_unix: unix,
            files: 1,
            bytes: 1,
            examined: None,
            whole_unix: Some(unix),
        };
        let mut record = Record::default();
        let subjects = stack.sites.keys().map(ToString::to_string).chain(["(state)".to_owned()]);
        record.proofs.extend(subjects.map(|of| (of, proof.clone())));
        record
    }

    pub(super) fn told(stack: &Stack, gathered: &Gathered) -> Vec<String> {
        let problems = assess(stack, gathered, NOW).problems;
        problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.message)).collect()
    }

    fn edge_at<'g>(gathered: &'g mut Gathered, at: &str) -> &'g mut EdgeStatus {
        gathered.edges.get_mut(&at.parse().unwrap()).unwrap().as_mut().unwrap()
    }

    pub(super) fn site_at<'g>(gathered: &'g mut Gathered, at: &str) -> &'g mut SiteStatus {
        &mut edge_at(gathered, at).sites[0]
    }

    #[test]
    fn nothing_is_said_when_all_is_well() {
        let stack = stack();
        let assessment = assess(&stack, &well(&stack), NOW);
        assert!(assessment.well, "{:?}", assessment.problems);
        assert_eq!(assessment.sites[0].copies[1].url.to_string(), "https://blog.localhost:8444");
        assert_eq!(assessment.sites[0].copies[1].age_seconds, Some(5));
    }

    #[test]
    fn words_that_nobody_was_seen_to_have_are_a_problem() {
        let stack = stack();
        let gathered = Gathered { words_seen: Some(false), ..well(&stack) };
        let assessment = assess(&stack, &gathered, NOW);
        let [problem] = assessment.problems.as_slice() else { panic!("{:?}", assessment.problems) };
        assert!(problem.lasting && problem.subject == "root seed" && problem.help.is_some());
    }

    #[test]
    fn a_stack_that_does_not_run_has_one_problem() {
        let stack = stack();
        let nobody = |name: EdgeName| (name, Err("it does not run".to_owned()));
        let gathered = Gathered {
            supervisor: None,
            edges: stack.datacenters.values().flat_map(|datacenter| datacenter.edges()).map(nobody).collect(),
            agents: BTreeMap::new(),
            name_servers: BTreeMap::new(),
            renewers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            certificates: BTreeMap::new(),
            public: known::Known::default(),
            outgoing: BTreeMap::new(),
            words_seen: None,
            backups: proven(&stack, NOW),
            copies: in_step(&stack),
            decided: Datacenters::default(),
            zone_keys: crate::zone_keys::ZoneKeys::default(),
            evacuated: BTreeMap::new(),
        };
        assert_eq!(told(&stack, &gathered), ["stack: nothing runs: there is no supervisor"]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said_once() {
        let stack = stack();
        let mut gathered = well(&stack);
        gathered.supervisor.as_mut().unwrap().units[2].state = UnitState::Pausing;
        let home = site_at(&mut gathered, "home");
        home.source = SourceReport { reachable: Some(false), last_error: Some("connection refused".to_owned()) };
        // What was lost is no problem any more.
        let log = |problem| AccessLogStatus { written: 1, dropped: 70, problem };
        edge_at(&mut gathered, "home").access_log = Some(log(None));
        edge_at(&mut gathered, "office").access_log = Some(log(Some("No space left on device".to_owned())));
        let office = site_at(&mut gathered, "office");
        (office.complete, office.pages_kept, office.newest_fetch_unix) = (false, 12, Some(NOW - 7200));
        insta::assert_snapshot!(told(&stack, &gathered).join("\n"), @r"
        ghost-blog@home: it is pausing
        edge@office: the access log is not written (70 requests lost so far): No space left on device
        blog at home: readers get kept pages, the source is away: connection refused
        blog at office: 12 of 40 pages are kept
        blog at office: no page was confirmed for 120 minutes
        ");
    }

    #[test]
    fn what_an_operator_decided_is_no_trouble_and_is_said() {
        let stack = stack();
        let mut gathered = well(&stack);
        let [home, office] = ["home", "office"].map(|name| [name.parse().unwrap()]);
        let ann = Decided { since_unix: NOW - 40, by: "ann@laptop".to_owned() };
        let decided = Datacenters::default().with(Matter::Drained, &office, Some(&ann));
        gathered.decided = decided.with(Matter::Maintained, &home, Some(&ann));
        for at in ["home", "office"] {
            let site = site_at(&mut gathered, at);
            (site.maintenance, site.complete, site.newest_fetch_unix) = (true, false, Some(NOW - 7200));
            site.source = SourceReport { reachable: Some(false), last_error: Some("nobody asks".to_owned()) };
        }
        let assessment = assess(&stack, &gathered, NOW);
        assert!(assessment.well, "{:?}", assessment.problems);
        assert_eq!(assessment.datacenters[1].drained, Some(ann));
        let told = assessment.warnings.iter().map(|told| format!("{}: {}", told.subject, told.message));
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r"
        office: it is taken out of answers on purpose since 40 s by ann@laptop
        home: its applications are being worked on since 40 s by ann@laptop
        blog at home: readers get kept pages and nobody can write: the application is being worked on
        blog at office: readers get kept pages and nobody can write: the application is being worked on
        ");
    }

    #[test]
    fn an_edge_that_is_gone_or_serves_another_stack_file_is_named() {
        let stack = stack();
        let mut gathered = well(&stack);
        gathered.supervisor.as_mut().unwrap().units.remove(0);
        gathered.edges.insert("home".parse().unwrap(), Err("it does not run".to_owned()));
        site_at(&mut gathered, "office").site = "other".parse().unwrap();
        insta::assert_snapshot!(told(&stack, &gathered).join("\n"), @r"
        home: no edge was started here
        edge@home: it does not run
        blog at office: it is not served here yet
        ");
    }
}
