//! `sovereign dns ds`.

use std::time::SystemTime;

use serde::Serialize;
use sovereign_dns::zone::{self, NameServer};
use sovereign_keys::{Dnskey, Ds, ZoneKey};
use sovereign_model::DnsName;
use sovereign_model::names::Names;
use sovereign_model::stack::Domain;

use crate::cli::DnsDsArgs;
use crate::commands::dns::declared;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::secrets;
use crate::world::unix_seconds;
use crate::zone_keys::{self, Exchange};

/// Somebody else signs the domain, if anybody does.
#[derive(Debug, thiserror::Error)]
#[error("{domain} is answered for by {provider}, who has the key if it is signed")]
struct NotOurs {
    domain: DnsName,
    provider: String,
}

impl Reason for NotOurs {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(format!(
            "ask {} for its DS record, or remove `provider` to answer with name servers of your own",
            self.provider
        ))
    }
}

/// No domain is on the stack's own name servers.
#[derive(Debug, thiserror::Error)]
#[error("no domain of this stack is on name servers of its own")]
struct AllElsewhere;

impl Reason for AllElsewhere {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("a domain without `provider` in the stack file is".to_owned())
    }
}

/// What registrars are told.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    domains: Vec<ToldDomain>,
}

#[derive(Debug, Serialize)]
struct ToldDomain {
    name: DnsName,
    registrar: String,
    #[serde(flatten)]
    key: ToldKey,
    /// The key that is to take its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    coming: Option<ToldKey>,
    /// How far that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<Exchange>,
    name_servers: Vec<NameServer>,
}

#[derive(Debug, Serialize)]
struct ToldKey {
    ds: Ds,
    dnskey: Dnskey,
    /// The same as lines of a zone file.
    records: [String; 2],
}

impl ToldKey {
    fn new(domain: &DnsName, key: &ZoneKey) -> Self {
        let (ds, dnskey) = (key.ds(domain), key.dnskey());
        let records = [format!("{domain}. IN DS {ds}"), format!("{domain}. IN DNSKEY {dnskey}")];
        Self { ds, dnskey, records }
    }

    fn show(&self, page: &mut Page) {
        let Self { ds, dnskey: key, .. } = self;
        page.line("where it asks for a DS record (\"DNSSEC\", \"delegation signer\"):");
        page.line(format_args!("  key tag      {}", ds.key_tag));
        page.line(format_args!("  algorithm    {} (ECDSA P-256 with SHA-256)", ds.algorithm));
        page.line(format_args!("  digest type  {} (SHA-256)", ds.digest_type));
        page.line(format_args!("  digest       {}", ds.digest));
        page.line("where it asks for the key instead (DNSKEY):");
        page.line(format_args!("  flags        {} (key signing key, secure entry point)", key.flags));
        page.line(format_args!("  protocol     {}", key.protocol));
        page.line(format_args!("  algorithm    {}", key.algorithm));
        page.line(format_args!("  public key   {}", key.public_key));
    }
}

impl ToldDomain {
    fn keys(&self) -> impl Iterator<Item = &ToldKey> {
        std::iter::once(&self.key).chain(&self.coming)
    }
}

impl Report for Told {
    fn show(&self, page: &mut Page) {
        for domain in &self.domains {
            page.gap();
            page.title(format_args!("{}, at {}", domain.name, domain.registrar));
            domain.key.show(page);
            if let Some(coming) = &domain.coming {
                page.line("the key that is to take its place:");
                coming.show(page);
            }
            page.line("its name servers, and their addresses (glue):");
            for server in &domain.name_servers {
                // Who is called by a name elsewhere is found by that name.
                let glue = server.glue(&domain.name).into_iter().flatten();
                let addresses: Vec<String> = glue.map(ToString::to_string).collect();
                page.line(format!("  {}  {}", server.name, addresses.join("  ")).trim_end());
            }
            page.line("as lines of a zone file:");
            for record in domain.keys().flat_map(|key| &key.records) {
                page.line(format_args!("  {record}"));
            }
            if let Some(exchange) = &domain.exchange {
                exchange.show(page);
            }
        }
        page.help(
            "tell the registrar only when every name server of the domain answers with signatures: before that, nobody \
             who checks them reaches it",
        );
    }
}

/// What the registrar of one domain is told, or of each.
pub(crate) fn print(context: &Context, args: &DnsDsArgs) -> Result<Told, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let asked = declared(&stack, args.domain.as_ref())?;
    if let (Some(_), Some((domain, provider))) = (&args.domain, elsewhere(&asked)) {
        return Err(NotOurs { domain, provider }.into());
    }
    let ours: Vec<&Domain> = asked.into_iter().filter(|domain| domain.provider.is_none()).collect();
    if ours.is_empty() {
        return Err(AllElsewhere.into());
    }
    let keys = secrets::zone_keys(context, &stack, &state, &ours)?;
    let names = Names::of(&stack);
    let (now, (_, exchanges)) = (unix_seconds(SystemTime::now()), zone_keys::read(&state)?);
    let tell = |domain: &&Domain| {
        let name = &domain.name;
        Ok(ToldDomain {
            name: name.clone(),
            registrar: domain.registrar.clone(),
            key: ToldKey::new(name, &keys.zone_key(name)?),
            coming: keys.coming_zone_key(name).map(|key| ToldKey::new(name, &key)),
            exchange: exchanges.under_way().get(name).map(|exchange| Exchange::of(name, exchange, now)),
            name_servers: zone::name_servers(&names, name),
        })
    };
    Ok(Told { domains: ours.iter().map(tell).collect::<Result<_, Failure>>()? })
}

fn elsewhere(domains: &[&Domain]) -> Option<(DnsName, String)> {
    domains.iter().find_map(|domain| Some((domain.name.clone(), domain.provider.clone()?)))
}
