//! `sovereign rotate zone/DOMAIN`: the key of a zone, which is exchanged little by little.

use std::time::SystemTime;

use sovereign_dns::ask::Asker;
use sovereign_dns::ask::walk::Walk;
use sovereign_dns::drift::Wanted;
use sovereign_dns::rollover::{NotUndone, Rollover};
use sovereign_keys::{Owner, Purpose, WorkingKeys, next_zone_epoch};
use sovereign_model::DnsName;

use super::dns_drift::Stopped;
use super::rotate::{Done, Rotated};
use crate::cli::RotateArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::secrets;
use crate::world::unix_seconds;
use crate::zone_keys::{self, Exchange};

/// One key is exchanged at a time.
#[derive(Debug, thiserror::Error)]
#[error("the key of {} is being exchanged: {}", .0.domain, .0.message)]
struct UnderWay(Exchange);

impl Reason for UnderWay {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(self.0.help.clone())
    }
}

/// There is nothing to undo.
#[derive(Debug, thiserror::Error)]
#[error("the key of {0} is not being exchanged")]
struct NotUnderWay(DnsName);

impl Reason for NotUnderWay {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Somebody would be led to a key that is gone.
#[derive(Debug, thiserror::Error)]
#[error("the exchange of the key of {domain} cannot be undone")]
struct CannotBeUndone {
    domain: DnsName,
    source: NotUndone,
}

impl Reason for CannotBeUndone {
    fn help(&self) -> Option<String> {
        Some(match self.source {
            NotUndone::Given => format!(
                "go on to its end, which `sovereign status` leads to; then `sovereign rotate zone/{}` once more brings another key",
                self.domain
            ),
            NotUndone::Unknown => {
                "try again later, or from a network whose router lets questions to port 53 through".to_owned()
            }
        })
    }
}

/// The key that was to come cannot be removed here.
#[derive(Debug, thiserror::Error)]
#[error("the working key that was to come cannot be removed")]
struct NotForgotten(#[source] std::io::Error);

impl Reason for NotForgotten {}

/// Has the next key be used beside the one that signs. It is derived first, so that none is promised that cannot be had.
pub(super) fn begin(
    context: &Context,
    declared: &Declared,
    domain: &DnsName,
    args: &RotateArgs,
) -> Result<Rotated, Failure> {
    let (stack, state) = (&declared.stack, &declared.state);
    let _lock = secrets::lock(state, "rotate")?;
    let (mut epochs, mut all) = zone_keys::read(state)?;
    let now = unix_seconds(SystemTime::now());
    if let Some(exchange) = all.under_way().get(domain) {
        return Err(UnderWay(Exchange::of(domain, exchange, now)).into());
    }
    let stored = secrets::seed_file(stack, state).open()?;
    let seed = stored.unlock(|| secrets::passphrase(context, args.passphrase_file.as_deref()))?;
    let purpose = Purpose::Zone(domain.clone());
    let from = epochs.of(&purpose);
    let to = next_zone_epoch(&seed, &stack.name, domain, from, all.newest(domain).max(from));
    epochs.set_coming(purpose.clone(), to);
    let owner = Owner { stack: stack.name.clone(), seed: stored.fingerprint().clone() };
    WorkingKeys::ensure(&state.keys(), &owner, [&purpose], &epochs, || Ok(seed))?;
    let zone_ttl = Wanted::of(stack, &stack.domains[domain], None).longest_ttl;
    all.begin(domain, Rollover::begin(from, to, zone_ttl, now));
    all.keep(state)?;
    Ok(Rotated { secret: purpose.to_string(), epoch: to, done: Done::Begun })
}

/// Has the key that was to come leave again, where nobody can have come to believe it alone.
pub(super) fn undo(
    context: &Context,
    declared: &Declared,
    domain: &DnsName,
    args: &RotateArgs,
) -> Result<Rotated, Failure> {
    let (stack, state) = (&declared.stack, &declared.state);
    let _lock = secrets::lock(state, "rotate")?;
    let (_, mut all) = zone_keys::read(state)?;
    let Some(exchange) = all.under_way().get(domain).cloned() else {
        return Err(NotUnderWay(domain.clone()).into());
    };
    let declared = &stack.domains[domain];
    let keys = secrets::zone_keys(context, stack, state, &[declared])?;
    let sights = interrupt::run(&context.output, |stop| async move {
        let mut walk = Walk::new(Asker::default(), &args.roots.roots);
        tokio::select! {
            sights = zone_keys::look_at(stack, [declared], &keys, &mut walk) => sights,
            () = stop.cancelled() => Err(Stopped.into()),
        }
    })?;
    for (_, sight) in &sights {
        exchange.may_be_undone(sight).map_err(|source| CannotBeUndone { domain: domain.clone(), source })?;
    }
    all.end(domain);
    all.keep(state)?;
    let purpose = Purpose::Zone(domain.clone());
    WorkingKeys::forget_coming(&state.keys(), &purpose).map_err(NotForgotten)?;
    Ok(Rotated { secret: purpose.to_string(), epoch: exchange.from, done: Done::Undone })
}
