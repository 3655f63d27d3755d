//! `sovereign dns`.

use std::time::SystemTime;

use serde::Serialize;
use sovereign_dns::zone::{self, NAME_SERVERS, NameServer, World};
use sovereign_model::names::{self, Names};
use sovereign_model::stack::{Domain, Stack, UplinkAddress};
use sovereign_model::{DatacenterName, DnsName, DnsRecord};

use crate::cli::DnsShowArgs;
use crate::context::Context;
use crate::datacenters::{Datacenters, Matter};
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::world::unix_seconds;

/// The stack file declares no such thing.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDeclared {
    #[error("this stack has no domain {0}")]
    Domain(DnsName, Vec<String>),
    #[error("this stack has no data center {0}")]
    Datacenter(DatacenterName, Vec<String>),
    #[error("this stack has no domain")]
    Nothing,
}

impl Reason for NotDeclared {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Domain(_, known) => format!("its domains are: {}", known.join(", ")),
            Self::Datacenter(_, known) => format!("its data centers are: {}", known.join(", ")),
            Self::Nothing => "declare one in the stack file: `[[domain]]`".to_owned(),
        })
    }
}

/// What is answered for the stack's domains.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    domains: Vec<ShownDomain>,
}

#[derive(Debug, Serialize)]
struct ShownDomain {
    name: DnsName,
    /// Who answers; `None` for the stack's own name servers.
    provider: Option<String>,
    name_servers: Vec<NameServer>,
    records: Vec<DnsRecord>,
    remarks: Vec<String>,
}

impl Report for Shown {
    fn show(&self, page: &mut Page) {
        for domain in &self.domains {
            page.gap();
            match &domain.provider {
                None => page.line(format_args!("; {}, on the stack's own name servers", domain.name)),
                Some(provider) => page.line(format_args!("; {}, to be kept at {provider}", domain.name)),
            }
            // A comment of a zone file, so that the whole page is one.
            for remark in &domain.remarks {
                page.line(format_args!("; {remark}"));
            }
            for record in &domain.records {
                page.line(record);
            }
        }
    }
}

/// The records of one domain, or of all.
pub(crate) fn show(context: &Context, args: &DnsShowArgs) -> Result<Shown, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let domains = declared(&stack, args.domain.as_ref())?;
    let names = Names::of(&stack);
    let drained = Datacenters::read(&state)?.names(Matter::Drained);
    let mut world = World { drained, ..World::default() };
    for name in &args.without {
        let place =
            names.place(name).ok_or_else(|| NotDeclared::Datacenter(name.clone(), texts(stack.datacenters.keys())))?;
        world.away.extend(zone::public_addresses(place, &world));
    }
    // A serial that grows with time, as the name servers choose it.
    let serial = u32::try_from(unix_seconds(SystemTime::now())).unwrap_or(u32::MAX);
    let shown = |domain: &Domain| {
        let named = names::Domain::from(domain);
        let (name_servers, records) = match domain.provider {
            None => (zone::name_servers(&names, &domain.name), zone::zone(&names, &named, serial, &world).records),
            Some(_) => (Vec::new(), zone::records(&names, &named, &world)),
        };
        let remarks = remarks(&stack, domain, name_servers.len());
        ShownDomain { name: domain.name.clone(), provider: domain.provider.clone(), name_servers, records, remarks }
    };
    Ok(Shown { domains: domains.into_iter().map(shown).collect() })
}

/// The domain that is asked for, or all of the stack's.
///
/// # Errors
/// When there is no such domain.
pub(super) fn declared<'s>(stack: &'s Stack, asked: Option<&DnsName>) -> Result<Vec<&'s Domain>, NotDeclared> {
    let domains: Vec<&Domain> = match asked {
        None => stack.domains.values().collect(),
        Some(name) => {
            let unknown = || NotDeclared::Domain(name.clone(), texts(stack.domains.keys()));
            vec![stack.domains.get(name).ok_or_else(unknown)?]
        }
    };
    if domains.is_empty() { Err(NotDeclared::Nothing) } else { Ok(domains) }
}

pub(super) fn texts(names: impl Iterator<Item: ToString>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}

/// What is missing in a zone, and why.
pub(super) fn remarks(stack: &Stack, domain: &Domain, servers: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    if domain.provider.is_none() && servers < NAME_SERVERS {
        remarks.push(format!(
            "{servers} of the {NAME_SERVERS} name servers that a domain needs: each needs a fixed address in a data \
             center of its own, or is a secondary"
        ));
    }
    for datacenter in stack.datacenters.values() {
        let dynamic = datacenter.uplinks.iter().filter(|uplink| uplink.address == UplinkAddress::Dynamic);
        remarks.extend(dynamic.map(|uplink| {
            format!("the address of {}'s uplink {} is dynamic, and left out here", datacenter.name, uplink.name)
        }));
    }
    remarks
}
