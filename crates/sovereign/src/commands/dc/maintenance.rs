//! `sovereign dc maintenance`.

use std::collections::BTreeMap;

use serde::Serialize;
use sovereign_model::stack::App;
use sovereign_model::{DatacenterName, EdgeName, SiteName, Stack};

use super::{Outcome, Wish, decide, known, show_untold};
use crate::cli::{DcMaintenanceArgs, Switch};
use crate::context::Context;
use crate::datacenters::Matter;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report, StageTime};

/// Applications are left alone, or are asked again.
#[derive(Debug, Serialize)]
pub(crate) struct Maintained {
    datacenters: Vec<DatacenterName>,
    /// Whether they are left alone now.
    maintenance: bool,
    /// Whether it was otherwise before.
    changed: bool,
    /// The sites that are written there.
    sites: Vec<SiteName>,
    /// Edges that act on it.
    told: Vec<EdgeName>,
    /// Edges that do not yet, and why.
    untold: BTreeMap<EdgeName, String>,
    stages: Vec<StageTime>,
}

impl Report for Maintained {
    fn show(&self, page: &mut Page) {
        let sites: Vec<&str> = self.sites.iter().map(SiteName::as_str).collect();
        let sites = sites.join(", ");
        let before = if self.changed { "" } else { ", as before" };
        if self.maintenance {
            page.line(format_args!("nobody asks the application of {sites} for anything{before}"));
            page.line("kept pages are read as ever; whoever needs the application is told that it is being worked on");
        } else {
            page.line(format_args!("the application of {sites} is asked again{before}"));
        }
        show_untold(&self.untold, "the edge", page);
        if self.maintenance {
            page.help("`sovereign dc maintenance off` ends it");
        }
    }

    fn exit(&self) -> Exit {
        if self.untold.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// There is no application to be left alone.
#[derive(Debug, thiserror::Error)]
#[error("no site that has an application is written {}", match at { Some(at) => format!("at {at}"), None => "anywhere".to_owned() })]
struct NothingThere {
    at: Option<DatacenterName>,
}

impl Reason for NothingThere {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign dc drain` takes a data center out that serves readers only".to_owned())
    }
}

/// The sites with an application that are written at one of these.
fn written_at(stack: &Stack, datacenters: &[DatacenterName]) -> Vec<SiteName> {
    let has_application = |app: &App| !matches!(app, App::Static { .. });
    let sites = stack.sites.values().filter(|site| has_application(&site.app) && datacenters.contains(&site.primary));
    sites.map(|site| site.name.clone()).collect()
}

/// `dc maintenance`.
///
/// # Errors
/// When there is nothing to be left alone, or somebody who answers could not be told.
pub(crate) fn run(context: &Context, args: &DcMaintenanceArgs) -> Result<Maintained, Failure> {
    let DcMaintenanceArgs { switch, datacenter, yes, lease } = args;
    let declared = Declared::load(context)?;
    if let Some(name) = datacenter {
        known(&declared.stack, name)?;
    }
    let datacenters: Vec<DatacenterName> = match datacenter {
        Some(name) => vec![name.clone()],
        None => declared.stack.datacenters.keys().cloned().collect(),
    };
    let sites = written_at(&declared.stack, &datacenters);
    let maintenance = *switch == Switch::On;
    if maintenance && sites.is_empty() {
        return Err(NothingThere { at: datacenter.clone() }.into());
    }
    let command = if maintenance { "dc maintenance on" } else { "dc maintenance off" };
    let (matter, datacenters_meant) = (Matter::Maintained, &datacenters);
    let wish = Wish { command, matter, datacenters: datacenters_meant, on: maintenance, lease, yes: *yes };
    let Outcome { changed, told, untold, stages } = decide(context, declared, &wish, |_, _| Ok(()))?;
    Ok(Maintained { maintenance, changed, sites, told, untold, stages, datacenters })
}
