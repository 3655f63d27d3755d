//! Providers of DNS: told from this machine what the stack's domains are to have there.
//!
//! Promise: nothing here fails a run. A provider that is away is said, with what to do, and told by the next run; what is there
//! as it should be is not touched, so a run that finds nothing to do has changed nothing. Two runs at once do the same.
//!
//! Which data centers live is told by agents on hosts, where there are any: see [`sovereign_dns::provider`]. Nothing here
//! puts back what they took out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sovereign_dns::provider::tell::{ByCrate, TellError, Teller, look};
use sovereign_dns::provider::{Change, Told, told};
use sovereign_dns::zone::World;
use sovereign_keys::{SecretText, given};
use sovereign_model::layout::StateFolder;
use sovereign_model::names::{self, Names};
use sovereign_model::provider::Provider;
use sovereign_model::stack::Domain;
use sovereign_model::{DnsName, ProviderName, Stack};
use tokio_util::sync::CancellationToken;

use crate::certificates::Said;
use crate::datacenters::{Datacenters, Matter};
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Progress, Report};

/// What a provider gave cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what provider {provider} gave")]
pub(crate) struct Unreadable {
    provider: ProviderName,
    source: std::io::Error,
}

impl Reason for Unreadable {
    fn help(&self) -> Option<String> {
        Some(format!("give it again: `sovereign dns login {}`", self.provider))
    }
}

/// The stack file declares no such provider.
#[derive(Debug, thiserror::Error)]
#[error("this stack tells no provider {name}")]
pub(crate) struct NotDeclared {
    name: ProviderName,
    known: Vec<String>,
}

impl Reason for NotDeclared {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self.known.as_slice() {
            [] => "declare one in the stack file: `[[provider]]`".to_owned(),
            known => format!("its providers are: {}", known.join(", ")),
        })
    }
}

/// A provider of the stack file.
///
/// # Errors
/// When there is no such.
pub(crate) fn declared<'s>(stack: &'s Stack, name: &ProviderName) -> Result<&'s Provider, NotDeclared> {
    let known = || stack.providers.iter().map(|provider| provider.name.to_string()).collect();
    let found = stack.providers.iter().find(|provider| provider.name == *name);
    found.ok_or_else(|| NotDeclared { name: name.clone(), known: known() })
}

/// Nothing proves the stack at a provider.
#[derive(Debug, thiserror::Error)]
#[error("nothing was given to prove the stack with at {0}")]
struct NotGiven(ProviderName);

impl Reason for NotGiven {
    fn help(&self) -> Option<String> {
        Some(format!("give what it gave you: `sovereign dns login {}`", self.0))
    }
}

/// What the stack proves itself with at one of them.
///
/// # Errors
/// When it was not given, or cannot be read.
pub(crate) fn secret(stack: &Stack, state: &StateFolder, provider: &Provider) -> Result<SecretText, Failure> {
    secrets(stack, state)?.remove(&provider.name).ok_or_else(|| NotGiven(provider.name.clone()).into())
}

/// What the stack proves itself with at each declared provider, where it was given.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn secrets(stack: &Stack, state: &StateFolder) -> Result<BTreeMap<ProviderName, SecretText>, Unreadable> {
    let mut secrets = BTreeMap::new();
    for Provider { name, .. } in &stack.providers {
        let read = given::read(&state.provider_secret(name));
        if let Some(secret) = read.map_err(|source| Unreadable { provider: name.clone(), source })? {
            secrets.insert(name.clone(), secret);
        }
    }
    Ok(secrets)
}

/// Who is told, and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Providers<'p> {
    pub(crate) stack: &'p Stack,
    pub(crate) state: &'p StateFolder,
    pub(crate) progress: &'p Progress,
}

/// What came of it, by domain.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Tellings(BTreeMap<DnsName, Telling>);

/// What was done, or is to be done, at the provider of a domain.
#[derive(Debug, Default, Serialize)]
struct Telling {
    provider: String,
    changes: Vec<Edited>,
    /// Whether they are made.
    made: bool,
    failures: Vec<Said>,
    /// Records that it cannot be told.
    left: Vec<String>,
}

/// A change in words.
#[derive(Debug, Serialize)]
struct Edited {
    owner: String,
    #[serde(rename = "type")]
    kind: String,
    add: BTreeSet<String>,
    remove: BTreeSet<String>,
}

impl Providers<'_> {
    /// Brings all of it to the providers; `None` where none is declared.
    pub(crate) async fn tell(self, stop: &CancellationToken) -> Option<Tellings> {
        let stage = (!self.stack.providers.is_empty()).then(|| self.progress.stage("tell providers of DNS"))?;
        let told = stop.run_until_cancelled(self.all(true)).await;
        stage.finish();
        told
    }

    /// Looks what would be done; `None` where none is declared.
    pub(crate) async fn look(self) -> Option<Tellings> {
        if self.stack.providers.is_empty() { None } else { Some(self.all(false).await) }
    }

    async fn all(self, make: bool) -> Tellings {
        let mut tellings = Tellings::default();
        // One that is away is asked once.
        let mut away: BTreeMap<&ProviderName, Said> = BTreeMap::new();
        for domain in self.stack.domains.values() {
            let Some(provider) = self.stack.told(domain) else { continue };
            let mut telling = Telling { provider: provider.to_string(), made: make, ..Telling::default() };
            match away.get(&provider.name) {
                Some(said) => telling.failures.push(said.clone()),
                None => {
                    if let Err(said) = self.one(domain, provider, make, &mut telling).await {
                        telling.failures.push(said.clone());
                        away.insert(&provider.name, said);
                    }
                }
            }
            tellings.0.insert(domain.name.clone(), telling);
        }
        tellings
    }

    /// # Errors
    /// When the provider need not be asked for another domain.
    async fn one(self, domain: &Domain, provider: &Provider, make: bool, telling: &mut Telling) -> Result<(), Said> {
        let said = |error: &TellError| Said::because(error, error.help(provider));
        let ready = self.ready(provider)?;
        let told = self.told(domain).map_err(|failure| Said::of(&failure))?;
        telling.left = told.left.iter().map(|(record, why)| format!("{record}: {why}")).collect();
        let changes = match look(&ready, &domain.name, &told).await {
            Ok(changes) => changes,
            Err(error @ (TellError::Silent(_) | TellError::Unproven)) => return Err(said(&error)),
            Err(error) => {
                telling.failures.push(said(&error));
                return Ok(());
            }
        };
        for change in changes {
            let made = if make { ready.change(&domain.name, &change).await } else { Ok(()) };
            match made {
                Ok(()) => {
                    let Change { owner, kind, add, remove, .. } = change;
                    telling.changes.push(Edited { owner, kind, add, remove });
                }
                Err(error @ TellError::Silent(_)) => return Err(said(&error)),
                Err(error) => telling.failures.push(said(&error)),
            }
        }
        Ok(())
    }

    fn ready(self, provider: &Provider) -> Result<ByCrate, Said> {
        let secret = secret(self.stack, self.state, provider).map_err(|failure| Said::of(&failure))?;
        ByCrate::new(provider, secret.expose()).map_err(|error| Said::because(&error, error.help(provider)))
    }

    fn told(self, domain: &Domain) -> Result<Told, Failure> {
        let drained = Datacenters::read(self.state)?.names(Matter::Drained);
        let followed = self.stack.agents().next().is_some();
        let world = World { drained, ..World::default() };
        Ok(told(&Names::of(self.stack), &names::Domain::from(domain), &world, followed))
    }
}

impl Tellings {
    /// Whether there is nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.values().all(|of| of.changes.is_empty() && of.failures.is_empty() && of.left.is_empty())
    }

    /// Whether something is to be done, or could not be.
    pub(crate) fn is_pending(&self) -> bool {
        self.0.values().any(|of| (!of.made && !of.changes.is_empty()) || !of.failures.is_empty())
    }
}

impl Report for Tellings {
    fn show(&self, page: &mut Page) {
        for (domain, Telling { provider, changes, failures, left, .. }) in &self.0 {
            for Edited { owner, kind, add, remove } in changes {
                let add = add.iter().map(|value| format!("+ {value}"));
                let values: Vec<String> = add.chain(remove.iter().map(|value| format!("- {value}"))).collect();
                page.line(format_args!("{provider}: {owner} {kind}  {}", values.join("  ")));
            }
            for said in failures {
                let warning = page.theme().warning;
                page.line(format_args!("{warning}{domain}{warning:#} at {provider}:"));
                said.show(page);
            }
            for record in left {
                page.line(format_args!("{domain}: tell {provider} yourself: {record}"));
            }
        }
    }
}
