//! `sovereign dns drift`.

use serde::Serialize;
use sovereign_dns::ask::Asker;
use sovereign_dns::ask::walk::Walk;
use sovereign_dns::drift::{Drift, Seen, Severity, Signed, Wanted, compare, look};
use sovereign_keys::{SeedError, WorkingKeys};
use sovereign_model::DnsName;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{Domain, Stack};

use crate::cli::DnsDriftArgs;
use crate::commands::dns::{declared, remarks};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Page, Report, figures};
use crate::secrets;

/// What the world is told of the stack's domains.
#[derive(Debug, Serialize)]
pub(crate) struct Looked {
    /// Whether all of it is as the stack file wants it.
    well: bool,
    domains: Vec<LookedDomain>,
}

#[derive(Debug, Serialize)]
struct LookedDomain {
    name: DnsName,
    registrar: String,
    /// Who answers; `None` for the stack's own name servers.
    provider: Option<String>,
    /// The worst first.
    drift: Vec<Told>,
    /// What could not be compared, and why.
    remarks: Vec<String>,
    #[serde(flatten)]
    seen: Seen,
}

/// What differs, with its words.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    drift: Drift,
    message: String,
    help: String,
}

impl Report for Looked {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        for domain in &self.domains {
            page.title(&domain.name);
            let servers = figures::count(domain.seen.servers.len() as u64, "address", "addresses");
            match domain.drift.is_empty() {
                true => page.line(format_args!(
                    "{good}as declared{good:#}, at the registry and at {servers} of name servers",
                    good = theme.good
                )),
                false => page.line(format_args!("asked: the registry, and {servers} of name servers")),
            }
            for Told { drift, message, help } in &domain.drift {
                let style = match drift.severity {
                    Severity::Vanishes => theme.error,
                    Severity::Wrong => theme.warning,
                    Severity::Unknown | Severity::Minor => theme.faint,
                };
                page.line(format_args!("{style}{}{style:#}  {}: {message}", drift.severity, drift.place));
                page.help(help);
            }
            for remark in &domain.remarks {
                page.line(remark);
            }
        }
    }

    fn exit(&self) -> Exit {
        if self.well { Exit::Done } else { Exit::Attention }
    }
}

/// Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("not everybody was asked")]
pub(super) struct Stopped;

impl Reason for Stopped {}

/// Asks the registry and the name servers of each domain that is named, of all where none is.
pub(crate) fn run(context: &Context, args: &DnsDriftArgs) -> Result<Looked, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let mut asked: Vec<&Domain> = Vec::new();
    for name in &args.domains {
        asked.extend(declared(&stack, Some(name))?);
    }
    if args.domains.is_empty() {
        asked = declared(&stack, None)?;
    }
    let keys = signing_keys(context, &stack, &state, &asked)?;
    let mut looks = Vec::new();
    for domain in asked {
        let signed = signed(keys.as_ref(), domain)?;
        looks.push((domain, Wanted::of(&stack, domain, signed)));
    }
    let looking = async {
        let asker = Asker::default();
        let mut walk = Walk::new(asker, &args.roots.roots);
        let mut domains = Vec::new();
        for (domain, wanted) in &looks {
            let seen = look(asker, &mut walk, wanted).await;
            domains.push(looked(&stack, domain, wanted, seen));
        }
        domains
    };
    let domains = interrupt::run(&context.output, |stop| async move {
        tokio::select! {
            domains = looking => Ok(domains),
            () = stop.cancelled() => Err(Stopped.into()),
        }
    })?;
    Ok(Looked { well: domains.iter().all(|domain| domain.drift.is_empty()), domains })
}

fn looked(stack: &Stack, domain: &Domain, wanted: &Wanted, seen: Seen) -> LookedDomain {
    let told = |drift: Drift| Told { message: drift.what.to_string(), help: drift.help(), drift };
    let mut remarks = remarks(stack, domain, wanted.name_servers.len());
    if domain.provider.is_none() && wanted.signed.is_none() {
        remarks.push("the stack has no root seed yet, so a DS record is not compared".to_owned());
    }
    LookedDomain {
        name: domain.name.clone(),
        registrar: domain.registrar.clone(),
        provider: domain.provider.clone(),
        drift: compare(wanted, &seen).into_iter().map(told).collect(),
        remarks,
        seen,
    }
}

/// The keys that sign those of the domains that the stack answers for; `None` when there is no root seed yet.
///
/// # Errors
/// When the root seed must be opened and cannot.
pub(super) fn signing_keys(
    context: &Context,
    stack: &Stack,
    state: &StateFolder,
    domains: &[&Domain],
) -> Result<Option<WorkingKeys>, Failure> {
    let own: Vec<&Domain> = domains.iter().copied().filter(|domain| domain.provider.is_none()).collect();
    if own.is_empty() {
        return Ok(None);
    }
    match secrets::seed_file(stack, state).open() {
        Err(SeedError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => secrets::zone_keys(context, stack, state, &own).map(Some),
    }
}

/// What the registry should have of a domain's key.
///
/// # Errors
/// When the key cannot be read.
pub(super) fn signed(keys: Option<&WorkingKeys>, domain: &Domain) -> Result<Option<Signed>, Failure> {
    let Some(keys) = keys.filter(|_| domain.provider.is_none()) else { return Ok(None) };
    let key = keys.zone_key(&domain.name)?;
    Ok(Some(Signed { ds: key.ds(&domain.name).to_string(), dnskey: key.dnskey().to_string() }))
}
