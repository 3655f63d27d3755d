//! `sovereign dns drift`.

use std::time::SystemTime;

use serde::Serialize;
use sovereign_dns::ask::Asker;
use sovereign_dns::ask::walk::Walk;
use sovereign_dns::drift::{Drift, Seen, Severity, Signed, Wanted, compare, look};
use sovereign_dns::rollover::Sight;
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
use crate::world::unix_seconds;
use crate::zone_keys::{self, Exchange};

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
    /// How far the exchange of its key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<Exchange>,
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
            if let Some(exchange) = &domain.exchange {
                exchange.show(page);
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
        let coming = keys.as_ref().and_then(|keys| keys.coming_zone_key(&domain.name));
        let coming = coming.map(|key| zone_keys::signed(&domain.name, &key));
        looks.push((domain, Wanted::of(&stack, domain, signed).exchanging(coming)));
    }
    let looking = async {
        let asker = Asker::default();
        let mut walk = Walk::new(asker, &args.roots.roots);
        let mut domains = Vec::new();
        for (domain, wanted) in &looks {
            let seen = look(asker, &mut walk, wanted).await;
            domains.push(looked(&stack, domain, wanted, seen));
        }
        let sights = match &keys {
            Some(keys) => zone_keys::look_at(&stack, looks.iter().map(|(domain, _)| *domain), keys, &mut walk).await?,
            None => Vec::new(),
        };
        Ok((domains, sights))
    };
    let (mut domains, sights) = interrupt::run(&context.output, |stop| async move {
        tokio::select! {
            looked = looking => looked,
            () = stop.cancelled() => Err(Stopped.into()),
        }
    })?;
    for exchange in noted(&state, &sights)? {
        let of = domains.iter_mut().filter(|domain| domain.name == exchange.domain);
        of.for_each(|domain| domain.exchange = Some(exchange.clone()));
    }
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
        exchange: None,
        seen,
    }
}

/// How far exchanges of keys are, with what was seen just now; without, while another run writes down what it sees.
fn noted(state: &StateFolder, sights: &[(DnsName, Sight)]) -> Result<Vec<Exchange>, Failure> {
    if sights.is_empty() {
        return Ok(Vec::new());
    }
    match secrets::lock(state, "dns drift") {
        Ok(_lock) => zone_keys::note(state, sights),
        Err(_) => {
            let (_, all) = zone_keys::read(state)?;
            let now = unix_seconds(SystemTime::now());
            Ok(all.under_way().iter().map(|(domain, exchange)| Exchange::of(domain, exchange, now)).collect())
        }
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
    Ok(Some(zone_keys::signed(&domain.name, &keys.zone_key(&domain.name)?)))
}
