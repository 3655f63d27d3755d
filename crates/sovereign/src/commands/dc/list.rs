//! `sovereign dc list`.

use std::time::SystemTime;

use serde::Serialize;
use sovereign_model::stack::{EngineKind, Reach, UplinkAddress};
use sovereign_model::{DatacenterName, HostName, SiteName};

use crate::context::Context;
use crate::datacenters::{Datacenters, Decided, Matter};
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Cell, Page, Report, Table};
use crate::world::unix_seconds;

/// Which data centers there are.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    datacenters: Vec<Row>,
    /// The hour, in seconds since the Unix epoch.
    #[serde(skip)]
    now: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    name: DatacenterName,
    engine: EngineKind,
    hosts: Vec<HostName>,
    uplinks: Vec<Line>,
    /// The sites that are written there.
    sites: Vec<SiteName>,
    /// Since when it is taken out of answers, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    drained: Option<Decided>,
    /// Since when its applications are being worked on, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<Decided>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// `None` for one that changes.
    address: Option<std::net::IpAddr>,
    reach: Reach,
}

impl Report for List {
    fn show(&self, page: &mut Page) {
        let mut table = Table::new(["DATA CENTER", "UPLINKS", "HOSTS", "WRITTEN HERE", "STATE"]);
        for row in &self.datacenters {
            let line = |line: &Line| {
                let address = line.address.map_or_else(|| "dynamic".to_owned(), |address| address.to_string());
                match line.reach {
                    Reach::OutboundOnly => format!("{} (dials out only)", line.name),
                    Reach::Direct | Reach::Forwarded => format!("{} {address}", line.name),
                }
            };
            let state = [("out of answers", &row.drained), ("worked on", &row.maintenance)];
            let state: Vec<String> = state
                .into_iter()
                .filter_map(|(what, decided)| Some(format!("{what} {}", decided.as_ref()?.text(self.now))))
                .collect();
            let hosts: Vec<&str> = row.hosts.iter().map(HostName::as_str).collect();
            let sites: Vec<&str> = row.sites.iter().map(SiteName::as_str).collect();
            table.row([
                Cell::from(row.name.as_str()),
                row.uplinks.iter().map(line).collect::<Vec<_>>().join(", ").into(),
                if hosts.is_empty() { "this machine".into() } else { hosts.join(", ").into() },
                sites.join(", ").into(),
                Cell::styled(state.join("; "), page.theme().warning),
            ]);
        }
        page.table(&table);
    }
}

/// What is declared and decided. Asks nobody.
///
/// # Errors
/// When the stack file is bad, or what was decided cannot be read.
pub(crate) fn run(context: &Context) -> Result<List, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let decided = Datacenters::read(&state)?;
    let row = |name: &DatacenterName| {
        let declared = &stack.datacenters[name];
        let line = |uplink: &sovereign_model::stack::Uplink| Line {
            name: uplink.name.clone(),
            address: match uplink.address {
                UplinkAddress::Fixed(address) => Some(address),
                UplinkAddress::Dynamic => None,
            },
            reach: uplink.reach,
        };
        Row {
            name: name.clone(),
            engine: declared.engine,
            hosts: declared.hosts.iter().map(|host| host.name.clone()).collect(),
            uplinks: declared.uplinks.iter().map(line).collect(),
            sites: stack.sites.values().filter(|site| site.primary == *name).map(|site| site.name.clone()).collect(),
            drained: decided.decided(Matter::Drained).get(name).cloned(),
            maintenance: decided.decided(Matter::Maintained).get(name).cloned(),
        }
    };
    let datacenters = stack.datacenters.keys().map(row).collect();
    Ok(List { datacenters, now: unix_seconds(SystemTime::now()) })
}
