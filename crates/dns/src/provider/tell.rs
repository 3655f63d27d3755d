//! How providers are told: the port, and what implements it by the crate `dns-update`.
//!
//! Promise: each question and each change ends within [`PATIENCE`]. Values are added before others go, each time in one
//! step of the provider's own where it has one: the crate's replacing of a set takes it away first (RFC 2136, Cloudflare), and
//! resolvers that ask in between remember for minutes that there is nothing.
//!
//! Left out: times to live of what is there, which the crate does not read.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dns_update::{DnsRecord, DnsUpdater, TsigAlgorithm};
use sovereign_model::DnsName;
use sovereign_model::provider::{Provider, Way};
use sovereign_model::secondary;
use sovereign_runtime::certificate::public_roots;
use tokio::time::timeout;

use super::value::{NotTold, kind_of, record, text};
use super::{Change, Set, Told, change};

/// A provider answers within this, or is away. It may ask to be asked again some seconds later.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A string of a text, with its quotes (RFC 1035 section 3.3).
const LONGEST_PLAIN: usize = 255 + 2;

/// Why a provider was not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// What the stack proves itself with cannot be used.
    #[error("what was given to prove the stack with is not what such a provider takes")]
    Secret,
    /// The machine believes nobody.
    #[error("this machine has no certificates of public authorities, so no provider's can be checked")]
    NoRoots,
    /// It takes too long.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It does not know who this is.
    #[error("it does not believe that this is the stack")]
    Unproven,
    /// It does not have the domain.
    #[error("it has no such domain")]
    NoDomain,
    /// The record cannot be told.
    #[error("{owner} {kind} cannot be told")]
    NotTold {
        /// Whose record.
        owner: String,
        /// Of which type.
        kind: String,
        /// Why.
        source: NotTold,
    },
    /// A name of a site is another name for something there.
    #[error("{owner} is another name for {target} there, and a site's name has addresses")]
    Alias {
        /// The name.
        owner: String,
        /// What it stands for.
        target: String,
    },
    /// It says something else, or nobody is there.
    #[error("it was not told: {0}")]
    Refused(String),
}

impl TellError {
    /// What to do about it.
    pub fn help(&self, provider: &Provider) -> Option<String> {
        let login = format!("`sovereign dns login {}`", provider.name);
        Some(match self {
            Self::Secret if matches!(provider.way, Way::Rfc2136 { .. }) => {
                format!("{login} takes the key's secret as it stands in the server's configuration, in base 64")
            }
            Self::Secret => format!("{login} takes the token as the provider shows it"),
            Self::NoRoots => "install the package ca-certificates".to_owned(),
            Self::Silent(_) | Self::Refused(_) => "it is tried again by itself".to_owned(),
            Self::Unproven => format!("give what it takes today: {login}"),
            Self::NoDomain => "add the domain there, or correct its `provider` in the stack file".to_owned(),
            Self::NotTold { .. } => "tell the provider yourself".to_owned(),
            Self::Alias { .. } => "remove that CNAME record there".to_owned(),
        })
    }

    fn of(error: dns_update::Error) -> Self {
        use dns_update::Error::{Api, Client, NotFound, Response, Unauthorized};
        match error {
            // As servers answer a key that they do not know, or that may not (RFC 8945 section 5.2, RFC 2136 section 2.2).
            Response(code) if code.contains("BADKEY") || code.contains("BADSIG") || code.contains("NotAuth") => {
                Self::Unproven
            }
            // So the crate's own client calls such an answer, which has no proof of its own.
            Client(why) if why.contains("truncated HMACs") => Self::Unproven,
            // Cloudflare, for a token that it does not know.
            Api(why) if why.starts_with("HTTP 403") => Self::Unproven,
            Unauthorized => Self::Unproven,
            NotFound => Self::NoDomain,
            other => Self::Refused(match other.source() {
                Some(source) => format!("{other}: {source}"),
                None => other.to_string(),
            }),
        }
    }
}

/// Whoever can be told.
pub trait Teller: Send + Sync {
    /// All values of a name of this domain that are there, each in its canonical form.
    fn seen(
        &self,
        domain: &DnsName,
        owner: &str,
        kind: &str,
    ) -> impl Future<Output = Result<BTreeSet<String>, TellError>> + Send;

    /// Carries a change out. It may be carried out already.
    fn change(&self, domain: &DnsName, change: &Change) -> impl Future<Output = Result<(), TellError>> + Send;
}

/// What has to be done at a provider so that all that is wanted of a domain is there.
///
/// # Errors
/// When the provider does not say what it has.
pub async fn look(teller: &impl Teller, domain: &DnsName, told: &Told) -> Result<Vec<Change>, TellError> {
    for owner in &told.sites {
        if let Some(target) = teller.seen(domain, owner, "CNAME").await?.pop_first() {
            return Err(TellError::Alias { owner: owner.clone(), target });
        }
    }
    let mut changes = Vec::new();
    for set in &told.sets {
        let Set { owner, kind, .. } = set;
        changes.extend(change(set, &teller.seen(domain, owner, kind).await?));
    }
    Ok(changes)
}

/// What proves the stack at a provider, fit to be sent.
///
/// # Errors
/// When it cannot be used, or no certificate of the provider's could be checked.
pub(super) fn proof<'s>(provider: &Provider, secret: &'s str) -> Result<&'s str, TellError> {
    let secret = secret.trim();
    // What cannot be in a header of HTTP would be left out of it.
    let is_token = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        return Err(TellError::Secret);
    }
    // Without any the crate ends the process.
    if !matches!(provider.way, Way::Rfc2136 { .. }) && public_roots().is_empty() {
        return Err(TellError::NoRoots);
    }
    Ok(secret)
}

/// A provider, and what the stack proves itself with there.
pub struct ByCrate {
    updater: DnsUpdater,
    /// Whether it has a step of its own for a whole set.
    replaces: bool,
    shortest_ttl: u32,
}

impl ByCrate {
    /// A provider to be told, with what it gave the stack to prove itself with.
    ///
    /// # Errors
    /// When that cannot be used, or no certificate of the provider's could be checked.
    pub fn new(provider: &Provider, secret: &str) -> Result<Self, TellError> {
        let secret = proof(provider, secret)?;
        let updater = match &provider.way {
            Way::Rfc2136 { server, key, algorithm } => {
                let algorithm = match algorithm {
                    secondary::TsigAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
                    secondary::TsigAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
                    secondary::TsigAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
                };
                let secret = STANDARD.decode(secret).map_err(|_| TellError::Secret)?;
                DnsUpdater::new_rfc2136_tsig(format!("tcp://{server}"), key.as_str(), secret, algorithm)
            }
            Way::Cloudflare => DnsUpdater::new_cloudflare(secret, Some(PATIENCE)),
            Way::Desec => DnsUpdater::new_desec(secret, Some(PATIENCE)),
        };
        Ok(Self {
            updater: updater.map_err(TellError::of)?,
            replaces: matches!(provider.way, Way::Desec),
            shortest_ttl: provider.way.shortest_ttl(),
        })
    }
}

async fn in_time<T>(asked: impl Future<Output = dns_update::Result<T>>) -> Result<T, TellError> {
    timeout(PATIENCE, asked).await.map_err(|_| TellError::Silent(PATIENCE))?.map_err(TellError::of)
}

impl Teller for ByCrate {
    async fn seen(&self, domain: &DnsName, owner: &str, kind: &str) -> Result<BTreeSet<String>, TellError> {
        let not_told = |source| TellError::NotTold { owner: owner.to_owned(), kind: kind.to_owned(), source };
        let kind = kind_of(kind).map_err(not_told)?;
        let records = in_time(self.updater.list_rrset(owner, kind, domain.as_str())).await?;
        records.iter().map(|record| text(record).map_err(not_told)).collect()
    }

    async fn change(&self, domain: &DnsName, change: &Change) -> Result<(), TellError> {
        let Change { owner, kind, ttl, add, remove, then } = change;
        let not_told = |source| TellError::NotTold { owner: owner.clone(), kind: kind.clone(), source };
        let records = |values: &BTreeSet<String>| {
            let records: Result<Vec<DnsRecord>, _> = values.iter().map(|value| record(kind, value)).collect();
            records.map_err(not_told)
        };
        // The crate puts a text between quotes as it is, where a provider takes whole sets.
        let is_plain = |value: &String| value.len() <= LONGEST_PLAIN && !value.contains('\\');
        if self.replaces && kind == "TXT" && !then.iter().all(is_plain) {
            return Err(not_told(NotTold::Value));
        }
        let (rrtype, domain) = (kind_of(kind).map_err(not_told)?, domain.as_str());
        let ttl = self.shortest_ttl.max(*ttl);
        let owner = owner.as_str();
        // A name has one other name, so that one takes the place of the other.
        if self.replaces || kind == "CNAME" {
            return in_time(self.updater.set_rrset(owner, rrtype, ttl, records(then)?, domain)).await;
        }
        in_time(self.updater.add_to_rrset(owner, rrtype, ttl, records(add)?, domain)).await?;
        in_time(self.updater.remove_from_rrset(owner, rrtype, records(remove)?, domain)).await
    }
}
