//! `sovereign dns adopt`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use sovereign_dns::adopt::usual::{self, UsualError};
use sovereign_dns::adopt::{Compared, compare, drop_text, loses_mail, record_text, remembered, sets};
use sovereign_dns::ask::walk::{Parent, Walk};
use sovereign_dns::ask::{Asker, TransferError};
use sovereign_dns::provider::export::{self, ExportError};
use sovereign_keys::SecretText;
use sovereign_model::dns_record::{DEFAULT_TTL, NotARecord, parse_zone};
use sovereign_model::provider::Provider;
use sovereign_model::stack::{Domain, Stack};
use sovereign_model::{DnsName, DnsRecord};

use super::dns_drift::{Stopped, signed, signing_keys};
use crate::adopted::{Adopted, Adoption, quoted};
use crate::cli::DnsAdoptArgs;
use crate::commands::dns::declared;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Page, Report, figures};
use crate::providers;
use crate::secrets;
use crate::world::unix_seconds;

/// A zone file is no longer than this: people's have some kilobytes.
const LONGEST_FILE: u64 = 16 << 20;

/// What is published today could not be had.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("cannot read the zone file {path}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a zone file of {domain}", path = .path.display())]
    NotAZone { path: PathBuf, domain: DnsName, source: NotARecord },
    #[error("{path} has no record of {domain}", path = .path.display())]
    NotItsOwn { path: PathBuf, domain: DnsName },
    #[error("provider {} does not say what it has of {domain}", .provider.name)]
    NotExported { provider: Provider, domain: DnsName, source: ExportError },
    #[error("no name server of {domain} can be found: {why}")]
    NoServer { domain: DnsName, why: String },
}

impl Reason for AdoptError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotExported { source: ExportError::ListsNothing { .. }, .. } => Exit::Usage,
            Self::NoServer { .. } | Self::NotExported { .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "check the path and its permissions".to_owned(),
            Self::NotAZone { .. } => {
                "export it in the format of BIND (RFC 1035), as one file; lines that begin with `$INCLUDE` name others"
                    .to_owned()
            }
            Self::NotItsOwn { domain, .. } => {
                format!("names in it are relative to {domain}, unless they end with a dot or it says `$ORIGIN`")
            }
            Self::NotExported { provider, source, .. } => return source.help(provider),
            Self::NoServer { .. } => {
                "export the zone where it is kept, and give the file: `--zone-file FILE`, or name a server: \
                 `--server ADDRESS`"
                    .to_owned()
            }
        })
    }
}

/// What a domain publishes today, and what would become of it.
#[derive(Debug, Serialize)]
pub(crate) struct Looked {
    domain: DnsName,
    /// Where that was seen.
    source: String,
    #[serde(flatten)]
    compared: Compared,
    /// What keeps what would vanish, as entries of `records`.
    keep: Vec<String>,
    /// What lets it go, as entries of `drop`.
    drop: Vec<String>,
    /// Mail comes to it today, and would be refused.
    loses_mail: bool,
    /// The registry has a DS record that is not the stack's.
    foreign_ds: bool,
    remarks: Vec<String>,
}

impl Report for Looked {
    fn show(&self, page: &mut Page) {
        let Compared { same, new, replaced, dropped, vanishing } = &self.compared;
        page.line(format_args!("what {} publishes, by {}", self.domain, self.source));
        let mut group = |title: &str, records: &[DnsRecord]| {
            if !records.is_empty() {
                page.title(format_args!("{title}: {}", figures::count(records.len() as u64, "record", "records")));
                for record in records {
                    page.line(format_args!("  {record}"));
                }
            }
        };
        group("Same", same);
        group("New", new);
        group("Answered by the stack itself from now on", replaced);
        group("Dropped", dropped);
        group("Would vanish", vanishing);
        page.gap();
        for remark in &self.remarks {
            page.line(remark);
        }
        if vanishing.is_empty() {
            page.line("nothing would vanish unseen");
        } else {
            if !self.keep.is_empty() {
                page.line("to keep it, beside what the domain has in the stack file:");
                page.line("  records = [");
                for text in &self.keep {
                    page.line(format_args!("    {},", quoted(text)));
                }
                page.line("  ]");
            }
            let texts: Vec<String> = self.drop.iter().map(|text| format!("\"{text}\"")).collect();
            page.line("to let it go, one by one:");
            page.line(format_args!("  drop = [{}]", texts.join(", ")));
        }
        if self.loses_mail {
            page.help(
                "mail comes to this domain today. `mail = \"none\"`, which holds where `records` has nothing about mail, \
                 refuses all of it: keep the MX record, and what it says about senders (SPF, DKIM, DMARC)",
            );
        }
        if self.foreign_ds {
            page.help(
                "the registry has a DS record of somebody else's key: whoever checks signatures would not reach the \
                 domain on name servers without it. In this order: have the registrar remove the DS record; wait a day; \
                 change the name servers; when `sovereign dns drift` finds them well, give the registrar the stack's own, \
                 `sovereign dns ds`",
            );
        }
    }

    fn exit(&self) -> Exit {
        if self.compared.vanishing.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// What is published, and where that was seen.
struct Published {
    source: String,
    records: Vec<DnsRecord>,
    remarks: Vec<String>,
}

/// Looks at what a domain publishes, remembers it, and says what of it would vanish.
pub(crate) fn run(context: &Context, args: &DnsAdoptArgs) -> Result<Looked, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let asked = declared(&stack, Some(&args.domain))?;
    let keys = signing_keys(context, &stack, &state, &asked)?;
    let _lock = {
        secrets::private_folder(state.path())?;
        secrets::lock(&state, "dns adopt")?
    };
    let name = &args.domain;
    let file = args.zone_file.as_deref().map(|path| read_file(path, name)).transpose()?;
    let provider = args.provider.as_ref().map(|name| providers::declared(&stack, name)).transpose()?;
    let secret = provider.map(|provider| providers::secret(&stack, &state, provider)).transpose()?;
    let mut walk = Walk::new(Asker::default(), &args.roots.roots);
    let looking = async {
        let parent = walk.parent(name).await;
        let published = match (file, provider.zip(secret.as_ref()), args.server) {
            (Some(published), ..) => Ok(published),
            (None, Some((provider, secret)), _) => from_provider(name, provider, secret).await,
            (None, None, Some(server)) => from_server(name, server).await,
            (None, None, None) => from_its_servers(name, &mut walk, &parent).await,
        };
        published.map(|published| (published, parent))
    };
    let (mut published, parent) = interrupt::run(&context.output, |stop| async move {
        tokio::select! {
            found = looking => found,
            () = stop.cancelled() => Err(Stopped.into()),
        }
    })?;
    let mut looked = None;
    for domain in asked {
        let ours = signed(keys.as_ref(), domain)?.map(|signed| signed.ds);
        add_ds(&mut published, domain, &parent, ours.as_deref());
        let records = remembered(name, published.records.clone());
        let adoption = Adoption {
            unix: unix_seconds(SystemTime::now()),
            source: published.source.clone(),
            records: records.clone(),
        };
        Adopted::remember(&state, name, adoption)?;
        looked = Some(told(&stack, domain, &records, &published));
    }
    // `declared` gives the one domain that was asked for, or fails.
    looked.ok_or_else(|| AdoptError::NoServer { domain: name.clone(), why: "it is not declared".to_owned() }.into())
}

fn told(stack: &Stack, domain: &Domain, records: &[DnsRecord], published: &Published) -> Looked {
    let compared = compare(stack, domain, records);
    let of_registry = |record: &DnsRecord| record.kind == "DS" && record.owner == domain.name.as_str();
    Looked {
        domain: domain.name.clone(),
        source: published.source.clone(),
        keep: compared.vanishing.iter().filter_map(|record| record_text(record, &domain.name)).collect(),
        drop: sets(&compared.vanishing).keys().map(|set| drop_text(set, &domain.name)).collect(),
        loses_mail: loses_mail(domain, &compared),
        foreign_ds: compared.vanishing.iter().chain(&compared.dropped).any(of_registry),
        remarks: published.remarks.clone(),
        compared,
    }
}

/// What the registry has of keys that are not the stack's. What a zone file says of itself is not the registry's.
fn add_ds(published: &mut Published, domain: &Domain, parent: &Parent, ours: Option<&str>) {
    let is_its_own = |record: &DnsRecord| record.kind == "DS" && record.owner == domain.name.as_str();
    published.records.retain(|record| !is_its_own(record));
    let found = match parent {
        Parent::Delegated(delegation) => delegation.ds.as_ref(),
        Parent::NoSuchName { .. } | Parent::NotDelegated { .. } => return,
        Parent::Silent { .. } => None,
    };
    match found {
        Some(found) => {
            let foreign = found.iter().filter(|ds| ours.is_none_or(|ours| !ds.eq_ignore_ascii_case(ours)));
            let records = foreign.map(|ds| DnsRecord::new(&domain.name, DEFAULT_TTL, "DS", ds.clone()));
            published.records.extend(records);
        }
        None => published.remarks.push(
            "nobody above answers, so whether the registry has a DS record is not known: look again before the name \
             servers change"
                .to_owned(),
        ),
    }
}

fn read_file(path: &Path, domain: &DnsName) -> Result<Published, Failure> {
    let unreadable = |source| AdoptError::Unreadable { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > LONGEST_FILE {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "no zone file is so long")).into());
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let not_a_zone = |source| AdoptError::NotAZone { path: path.to_owned(), domain: domain.clone(), source };
    let all = parse_zone(&text, domain).map_err(not_a_zone)?;
    let count = all.len();
    let records: Vec<DnsRecord> = all.into_iter().filter(|record| record.is_within(domain)).collect();
    if records.is_empty() {
        return Err(AdoptError::NotItsOwn { path: path.to_owned(), domain: domain.clone() }.into());
    }
    let mut remarks = Vec::new();
    if records.len() < count {
        let others = figures::count((count - records.len()) as u64, "record", "records");
        remarks.push(format!("{others} of other domains in that file are not looked at"));
    }
    Ok(Published { source: format!("the zone file {}", path.display()), records, remarks })
}

/// The whole zone, as the provider's interface exports it.
async fn from_provider(domain: &DnsName, provider: &Provider, secret: &SecretText) -> Result<Published, Failure> {
    let records = export::records(provider, secret.expose(), domain)
        .await
        .map_err(|source| AdoptError::NotExported { provider: provider.clone(), domain: domain.clone(), source })?;
    Ok(Published { source: format!("what {provider} exports"), records, remarks: Vec::new() })
}

/// The whole zone where the server hands it out, else the usual names.
async fn from_server(domain: &DnsName, server: SocketAddr) -> Result<Published, Failure> {
    let asker = Asker::default();
    let refused = match asker.transfer(server, domain).await {
        Ok(records) => {
            return Ok(Published { source: format!("a transfer from {server}"), records, remarks: Vec::new() });
        }
        Err(refused @ (TransferError::Refused { .. } | TransferError::Ask { .. } | TransferError::NotAZone { .. })) => {
            refused
        }
    };
    let records = usual::ask(asker, server, domain).await?;
    Ok(guessed(server, records, Some(refused.to_string())))
}

fn guessed(server: SocketAddr, records: Vec<DnsRecord>, why: Option<String>) -> Published {
    let mut remarks: Vec<String> = why.into_iter().collect();
    remarks.push(
        "only the usual names were asked for: what else there is, nobody says. A zone file has all of it: export it where \
         the domain is kept, and give it with `--zone-file FILE`"
            .to_owned(),
    );
    Published { source: format!("what {server} says of the usual names"), records, remarks }
}

/// The usual names, of the first of its servers that answers for all of them.
async fn from_its_servers(domain: &DnsName, walk: &mut Walk, parent: &Parent) -> Result<Published, Failure> {
    let no_server = |why: &str| AdoptError::NoServer { domain: domain.clone(), why: why.to_owned() };
    let delegation = match parent {
        Parent::Delegated(delegation) => delegation,
        Parent::Silent { .. } => return Err(no_server("nobody above answers").into()),
        Parent::NoSuchName { .. } => return Err(no_server("the registry has no such domain").into()),
        Parent::NotDelegated { .. } => return Err(no_server("the registry leads to none").into()),
    };
    let mut last: Option<UsualError> = None;
    for (name, glue) in &delegation.servers {
        let addresses = if glue.is_empty() { walk.addresses(name).await } else { glue.clone() };
        for server in walk.places(addresses) {
            match usual::ask(Asker::default(), server, domain).await {
                Ok(records) => return Ok(guessed(server, records, None)),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.map_or_else(|| no_server("its name servers have no addresses").into(), Failure::from))
}
