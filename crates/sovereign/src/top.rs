//! What is going on right now, in figures per second: two moments, and what lies between them.
//!
//! Pure: what daemons said comes in, what people see comes out. [`view`] draws the same figures on a live terminal that
//! the report prints elsewhere. A figure that cannot be known is missing, never zero: no rate before the second moment,
//! none across a restart, no hit rate without a request.

pub(crate) mod view;

use std::time::Duration;

use serde::Serialize;
use sovereign_engine::embedded::{UnitState, UnitStatus};
use sovereign_model::edge_status::{EdgeStatus, Role, SiteStatus, Traffic};
use sovereign_model::{DatacenterName, EdgeName, SiteName, StackName, UnitName};

use crate::assess::word;
use crate::gather::Gathered;
use crate::output::{Cell, Page, Report, Table, figures};

/// What everybody said, and when.
#[derive(Debug)]
pub(crate) struct Moment {
    /// Since anything; only differences are used.
    pub(crate) at: Duration,
    /// The same in seconds since the Unix epoch.
    pub(crate) unix: u64,
    /// The answers.
    pub(crate) gathered: Gathered,
}

/// All figures.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    stack: StackName,
    edges: Vec<EdgeLine>,
    sites: Vec<SiteLine>,
    units: Vec<UnitLine>,
}

/// An edge. Rates are per second.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct EdgeLine {
    datacenter: EdgeName,
    /// `serving`, `draining`, or why it did not answer.
    state: String,
    well: bool,
    requests: Option<f64>,
    /// The share of answers that came from the store, 0 to 1.
    hit_rate: Option<f64>,
    /// Answers that were stale.
    stale: Option<f64>,
    /// Answers that told a reader to ask less often.
    limited: Option<f64>,
    /// Connections that were too many.
    refused: Option<f64>,
    received_bytes: Option<f64>,
    sent_bytes: Option<f64>,
    connections: Option<usize>,
}

/// A copy of a site.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SiteLine {
    site: SiteName,
    datacenter: EdgeName,
    role: Role,
    state: String,
    well: bool,
    pages_kept: usize,
    pages_known: usize,
    pages_stale: usize,
    bytes: u64,
    /// Since when the page confirmed longest ago is unconfirmed.
    oldest_seconds: Option<u64>,
}

/// A unit's processes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct UnitLine {
    unit: UnitName,
    datacenter: DatacenterName,
    state: &'static str,
    well: bool,
    memory_bytes: u64,
    /// The share of one processor, 0 to 1 and beyond.
    processor: Option<f64>,
    restarts: u32,
}

impl Figures {
    /// What `now` shows, with rates since `before`.
    pub(crate) fn between(stack: StackName, before: Option<&Moment>, now: &Moment) -> Self {
        let span = before.map(|before| now.at.saturating_sub(before.at).as_secs_f64()).filter(|span| *span > 0.0);
        let past = before.map(|before| &before.gathered);
        let mut edges = Vec::new();
        let mut sites = Vec::new();
        for (name, edge) in &now.gathered.edges {
            let earlier = past.and_then(|past| past.edges.get(name)).and_then(|edge| edge.as_ref().ok());
            match edge {
                Ok(edge) => {
                    edges.push(EdgeLine::of(name, edge, earlier.zip(span)));
                    sites.extend(edge.sites.iter().map(|site| SiteLine::of(name, site, now.unix)));
                }
                Err(why) => edges.push(EdgeLine::silent(name, why)),
            }
        }
        sites.sort_by(|a, b| (&a.site, &a.datacenter).cmp(&(&b.site, &b.datacenter)));
        let earlier = past.and_then(|past| past.supervisor.as_ref()).map_or(&[][..], |supervisor| &supervisor.units);
        let units = now.gathered.supervisor.iter().flat_map(|supervisor| &supervisor.units);
        let units = units.map(|unit| {
            let earlier = earlier.iter().find(|earlier| earlier.name == unit.name && earlier.pid == unit.pid);
            UnitLine::of(unit, earlier.zip(span))
        });
        Self { stack, edges, sites, units: units.collect() }
    }
}

impl EdgeLine {
    fn of(name: &EdgeName, now: &EdgeStatus, before: Option<(&EdgeStatus, f64)>) -> Self {
        // Another process has begun to count anew.
        let before = before.filter(|(before, _)| before.process == now.process);
        let traffic =
            now.traffic.as_ref().zip(before.and_then(|(before, span)| Some((before.traffic.as_ref()?, span))));
        let grown = |figure: fn(&Traffic) -> u64| {
            traffic.map(|(now, (before, _))| figure(now).saturating_sub(figure(before)) as f64)
        };
        let rate = |figure| grown(figure).zip(traffic).map(|(grown, (_, (_, span)))| grown / span);
        let asked = grown(Traffic::requests).filter(|asked| *asked > 0.0);
        Self {
            datacenter: name.clone(),
            state: if now.draining { "draining" } else { "serving" }.to_owned(),
            well: now.healthy,
            requests: rate(Traffic::requests),
            hit_rate: asked.zip(grown(Traffic::from_store)).map(|(asked, kept)| kept / asked),
            stale: rate(|traffic| traffic.stale + traffic.away),
            limited: rate(|traffic| traffic.limited),
            refused: rate(|traffic| traffic.connections_refused),
            received_bytes: rate(|traffic| traffic.received_bytes),
            sent_bytes: rate(|traffic| traffic.sent_bytes),
            connections: Some(now.connections),
        }
    }

    fn silent(datacenter: &EdgeName, why: &str) -> Self {
        Self {
            datacenter: datacenter.clone(),
            state: why.to_owned(),
            well: false,
            requests: None,
            hit_rate: None,
            stale: None,
            limited: None,
            refused: None,
            received_bytes: None,
            sent_bytes: None,
            connections: None,
        }
    }

    fn cells(&self) -> [String; 10] {
        [
            self.datacenter.to_string(),
            self.state.clone(),
            self.requests.map(one_decimal).unwrap_or_default(),
            self.hit_rate.map(percent).unwrap_or_default(),
            self.stale.map(one_decimal).unwrap_or_default(),
            self.limited.map(one_decimal).unwrap_or_default(),
            self.refused.map(one_decimal).unwrap_or_default(),
            self.received_bytes.map(per_second).unwrap_or_default(),
            self.sent_bytes.map(per_second).unwrap_or_default(),
            self.connections.map(|count| count.to_string()).unwrap_or_default(),
        ]
    }
}

impl SiteLine {
    fn of(datacenter: &EdgeName, site: &SiteStatus, now: u64) -> Self {
        let away = site.source.reachable == Some(false);
        let state = if site.private {
            "private".to_owned()
        } else if away {
            "source away".to_owned()
        } else if let Some(pass) = &site.pass {
            format!("looking, {} of {}", pass.done, pass.known)
        } else if site.complete {
            "complete".to_owned()
        } else {
            "incomplete".to_owned()
        };
        Self {
            site: site.site.clone(),
            datacenter: datacenter.clone(),
            role: site.role,
            state,
            well: (site.complete || site.private) && !away,
            pages_kept: site.pages_kept,
            pages_known: site.pages_known,
            pages_stale: site.pages_stale,
            bytes: site.bytes,
            oldest_seconds: site.oldest_fetch_unix.map(|oldest| now.saturating_sub(oldest)),
        }
    }

    fn cells(&self) -> [String; 8] {
        let role = match self.role {
            Role::Primary => "primary",
            Role::Mirror => "mirror",
        };
        [
            self.site.to_string(),
            self.datacenter.to_string(),
            role.to_owned(),
            self.state.clone(),
            format!("{} of {}", self.pages_kept, self.pages_known),
            self.pages_stale.to_string(),
            figures::bytes(self.bytes),
            self.oldest_seconds.map(figures::seconds).unwrap_or_default(),
        ]
    }
}

impl UnitLine {
    fn of(now: &UnitStatus, before: Option<(&UnitStatus, f64)>) -> Self {
        let processor =
            before.map(|(before, span)| now.usage.cpu_ms.saturating_sub(before.usage.cpu_ms) as f64 / 1000.0 / span);
        Self {
            unit: now.name.clone(),
            datacenter: now.datacenter.clone(),
            state: word(now.state),
            well: now.state == UnitState::Healthy,
            memory_bytes: if now.usage.pss_bytes > 0 { now.usage.pss_bytes } else { now.usage.rss_bytes },
            processor,
            restarts: now.restarts,
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.datacenter.to_string(),
            self.unit.to_string(),
            self.state.to_owned(),
            figures::bytes(self.memory_bytes),
            self.processor.map(percent).unwrap_or_default(),
            self.restarts.to_string(),
        ]
    }
}

const EDGES: [&str; 10] =
    ["EDGE", "STATE", ">REQUESTS/S", ">STORE", ">STALE/S", ">LIMITED/S", ">REFUSED/S", ">IN/S", ">OUT/S", ">OPEN"];
const SITES: [&str; 8] = ["SITE", "AT", "ROLE", "STATE", ">PAGES", ">STALE", ">SIZE", ">OLDEST"];
const UNITS: [&str; 6] = ["AT", "UNIT", "STATE", ">MEMORY", ">PROCESSOR", ">RESTARTS"];
/// Which column says how it is.
const EDGE_STATE: usize = 1;
const SITE_STATE: usize = 3;
const UNIT_STATE: usize = 2;

fn one_decimal(value: f64) -> String {
    format!("{value:.1}")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn per_second(bytes: f64) -> String {
    figures::bytes(bytes.round() as u64)
}

impl Report for Figures {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        let style = |well| if well { theme.good } else { theme.warning };
        page.title(format_args!("Stack {}", self.stack));
        let mut edges = Table::new(EDGES);
        for line in &self.edges {
            let mut cells = line.cells().map(Cell::from);
            cells[EDGE_STATE] = Cell::styled(line.state.clone(), style(line.well));
            edges.row(cells);
        }
        page.table(&edges);
        let mut sites = Table::new(SITES);
        for line in &self.sites {
            let mut cells = line.cells().map(Cell::from);
            cells[SITE_STATE] = Cell::styled(line.state.clone(), style(line.well));
            sites.row(cells);
        }
        let mut units = Table::new(UNITS);
        for line in &self.units {
            let mut cells = line.cells().map(Cell::from);
            cells[UNIT_STATE] = Cell::styled(line.state, style(line.well));
            units.row(cells);
        }
        for table in [&sites, &units] {
            if !table.is_empty() {
                page.gap();
                page.table(table);
            }
        }
    }
}
