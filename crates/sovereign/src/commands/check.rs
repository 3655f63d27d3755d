//! `sovereign check`.

use std::path::PathBuf;

use serde::Serialize;
use sovereign_dns::zone::{self, NAME_SERVERS};
use sovereign_model::Stack;
use sovereign_model::names::Names;
use sovereign_model::stack::{Datacenter, EngineKind, Reach};

use crate::adopted;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Page, Report, figures};

/// A good stack file, counted.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    file: PathBuf,
    stack: String,
    datacenters: usize,
    domains: usize,
    sites: usize,
    /// What will not work outside this machine.
    warnings: Vec<Warning>,
}

/// Something that the format allows and the world does not.
#[derive(Debug, Serialize)]
struct Warning {
    message: String,
    help: String,
}

impl Report for Checked {
    fn show(&self, page: &mut Page) {
        let Self { file, stack, datacenters, domains, sites, warnings } = self;
        let good = page.theme().good;
        page.line(format_args!("{good}good{good:#}  {}", file.display()));
        page.line(format_args!(
            "stack {stack}: {}, {}, {}",
            figures::count(*datacenters as u64, "data center", "data centers"),
            figures::count(*domains as u64, "domain", "domains"),
            figures::count(*sites as u64, "site", "sites"),
        ));
        let warning = page.theme().warning;
        for Warning { message, help } in warnings {
            page.line(format_args!("{warning}warning{warning:#}  {message}"));
            page.help(help);
        }
    }
}

/// Parses the stack file, and counts what is in it. What its domains published before must not vanish unseen.
pub(crate) fn run(context: &Context) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    adopted::nothing_vanishes(&declared)?;
    let Declared { stack, file, .. } = declared;
    Ok(Checked {
        file,
        stack: stack.name.to_string(),
        datacenters: stack.datacenters.len(),
        domains: stack.domains.len(),
        sites: stack.sites.len(),
        warnings: too_few_name_servers(&stack).into_iter().chain(not_led_back(&stack)).collect(),
    })
}

/// The domains that registries refuse, or that vanish with one data center. It is no problem of the file: a stack that is tried
/// out on one machine has its domains already.
fn too_few_name_servers(stack: &Stack) -> Vec<Warning> {
    let names = Names::of(stack);
    let servers = names.domains.iter().map(|domain| (&domain.name, zone::name_servers(&names, &domain.name).len()));
    let lacking = servers.filter(|(_, servers)| *servers < NAME_SERVERS);
    let warning = |(domain, servers)| {
        Warning {
        message: format!("{domain} has {servers} of the {NAME_SERVERS} name servers that a domain needs"),
        help: "an uplink with a fixed address in another data center is one, and so is a `[[secondary]]`, a friend's name \
               server with a copy; or leave the domain to a `provider`"
            .to_owned(),
    }
    };
    lacking.map(warning).collect()
}

/// The data centers behind a router whose own people may not reach what is there.
fn not_led_back(stack: &Stack) -> impl Iterator<Item = Warning> {
    let is_behind = |datacenter: &&Datacenter| {
        datacenter.lan.is_empty()
            && datacenter.engine == EngineKind::Incus
            && datacenter.uplinks.iter().any(|uplink| uplink.reach == Reach::Forwarded)
    };
    stack.datacenters.values().filter(is_behind).map(|Datacenter { name, .. }| Warning {
        message: format!("at {name} names lead to the router's public address, and most routers lead nobody back in"),
        help: format!(
            "say which networks are {name}'s own, `lan = [\"192.168.1.0/24\"]`, then have the router ask its name server: \
             `sovereign dns lan {name}`"
        ),
    })
}
