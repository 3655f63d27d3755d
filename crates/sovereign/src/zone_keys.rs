//! How far zones are whose keys are exchanged: what is written down of it, who looks, and what is said.
//!
//! ```text
//!  rotate zone/DOMAIN ──▶ both keys, as long as it is under way ──▶ up, tick, dns drift: look, and write down ──▶ over: the
//!                                                                                                              epoch is raised
//! ```
//!
//! Promise: which keys sign follows from what is written down here and in `epochs.json` alone, and both are in every
//! snapshot of the state: neither follows from the words. An epoch is given once, so that a key which was given up does not
//! come again.
//!
//! Left out: looking at domains that are not declared any more; what is known of them waits.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sovereign_dns::ask::Asker;
use sovereign_dns::ask::walk::Walk;
use sovereign_dns::drift::{Signed, Wanted};
use sovereign_dns::rollover::{Rollover, Sight, Stage, look};
use sovereign_keys::{Epochs, Purpose, WorkingKeys, ZoneKey};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::Domain;
use sovereign_model::{DnsName, Stack};

use crate::context::Context;
use crate::failure::Failure;
use crate::kept_file::{self, KeptFileError};
use crate::output::{Page, figures};
use crate::secrets;
use crate::world::unix_seconds;

/// The format of the file.
const VERSION: u32 = 1;

/// All exchanges. A file that cannot be used is never taken for one that says nothing: a key would leave that is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ZoneKeys {
    version: u32,
    /// The newest epoch that each zone's key was ever given.
    newest: BTreeMap<DnsName, u32>,
    under_way: BTreeMap<DnsName, Rollover>,
}

impl Default for ZoneKeys {
    fn default() -> Self {
        Self { version: VERSION, newest: BTreeMap::new(), under_way: BTreeMap::new() }
    }
}

/// The epochs of all secrets, and the exchanges that are under way.
///
/// # Errors
/// When a file is there and cannot be used.
pub(crate) fn read(state: &StateFolder) -> Result<(Epochs, ZoneKeys), Failure> {
    let mut epochs = Epochs::read(&secrets::epochs_file(state))?;
    let mut all: ZoneKeys = kept_file::read(state.zone_keys(), VERSION)?.unwrap_or_default();
    // Of one that is over the epoch was raised first.
    all.under_way.retain(|domain, exchange| epochs.of(&Purpose::Zone(domain.clone())) == exchange.from);
    for (domain, exchange) in &all.under_way {
        epochs.set_coming(Purpose::Zone(domain.clone()), exchange.to);
    }
    Ok((epochs, all))
}

impl ZoneKeys {
    /// Of which domains a key is exchanged, and how far that is.
    pub(crate) fn under_way(&self) -> &BTreeMap<DnsName, Rollover> {
        &self.under_way
    }

    /// The newest epoch that a zone's key was given.
    pub(crate) fn newest(&self, domain: &DnsName) -> u32 {
        self.newest.get(domain).copied().unwrap_or(1)
    }

    /// Has one begin.
    pub(crate) fn begin(&mut self, domain: &DnsName, exchange: Rollover) {
        self.newest.insert(domain.clone(), exchange.to);
        self.under_way.insert(domain.clone(), exchange);
    }

    /// Has none be under way any more.
    pub(crate) fn end(&mut self, domain: &DnsName) {
        self.under_way.remove(domain);
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, state: &StateFolder) -> Result<(), KeptFileError> {
        kept_file::write(&state.zone_keys(), self)
    }
}

/// How far the exchange of a zone's key is, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Exchange {
    pub(crate) domain: DnsName,
    /// The epochs of the key that leaves and of the one that comes.
    from: u32,
    to: u32,
    /// Whether the new key signs alone from now on.
    over: bool,
    #[serde(flatten)]
    stage: Stage,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Exchange {
    /// By what was seen until `now`.
    pub(crate) fn of(domain: &DnsName, exchange: &Rollover, now: u64) -> Self {
        let stage = exchange.stage(now);
        let held_up = match exchange.awaited() {
            none if none.is_empty() => String::new(),
            all => format!(": {}", all.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
        };
        let left = |until: u64| figures::seconds(until.saturating_sub(now));
        let wait = "`sovereign tick` goes on by itself";
        let (message, help) = match stage {
            Stage::BothKeys => (
                format!("its next key is not seen at all name servers yet{held_up}"),
                "`sovereign up` brings it; `sovereign dns drift` looks, from elsewhere too: behind its own router a home does \
                 not reach its public address"
                    .to_owned(),
            ),
            Stage::OneKeyForgotten { until_unix } => (
                format!("both keys sign; the new DS record may be given in {}, not before", left(until_unix)),
                wait.to_owned(),
            ),
            Stage::NewDigest => (
                format!("both keys sign; the registry does not have the new DS record yet{held_up}"),
                format!("give the registrar the new one beside the old one: `sovereign dns ds {domain}`"),
            ),
            Stage::OldAloneForgotten { until_unix } => (
                format!("the registry has the new DS record; the old one may go in {}", left(until_unix)),
                wait.to_owned(),
            ),
            Stage::OldDigestGone => (
                format!("the old DS record can go now{held_up}"),
                format!("have the registrar remove it: `sovereign dns ds {domain}` says which it is"),
            ),
            Stage::OldDigestForgotten { until_unix } => (
                format!("the registry has no DS record of the old key; that leaves in {}", left(until_unix)),
                wait.to_owned(),
            ),
            Stage::LastLook => (
                format!("the old key can leave{held_up}"),
                "`sovereign up` looks once more, and takes it out".to_owned(),
            ),
        };
        Self { domain: domain.clone(), from: exchange.from, to: exchange.to, over: false, stage, message, help }
    }

    fn over(self) -> Self {
        let message = format!("the exchange of its key is over: that of epoch {} signs alone", self.to);
        Self { over: true, message, help: "`sovereign up` takes the old one out of the zone".to_owned(), ..self }
    }

    /// For people.
    pub(crate) fn show(&self, page: &mut Page) {
        page.line(format_args!("{}: {}", self.domain, self.message));
        page.help(&self.help);
    }
}

/// What a key is at the registry and in the zone.
pub(crate) fn signed(domain: &DnsName, key: &ZoneKey) -> Signed {
    Signed { ds: key.ds(domain).to_string(), dnskey: key.dnskey().to_string() }
}

/// Looks at those of these domains whose keys are exchanged.
///
/// # Errors
/// When a key cannot be read.
pub(crate) async fn look_at(
    stack: &Stack,
    domains: impl IntoIterator<Item = &Domain>,
    keys: &WorkingKeys,
    walk: &mut Walk,
) -> Result<Vec<(DnsName, Sight)>, Failure> {
    let mut sights = Vec::new();
    for domain in domains {
        let Some(coming) = keys.coming_zone_key(&domain.name) else { continue };
        let (old, new) = (signed(&domain.name, &keys.zone_key(&domain.name)?), signed(&domain.name, &coming));
        let wanted = Wanted::of(stack, domain, None);
        sights.push((domain.name.clone(), look(Asker::default(), walk, &wanted, &old, &new).await));
    }
    Ok(sights)
}

/// Writes down what was seen just now, and raises the epochs of keys whose exchange is over. Whoever calls has the lock.
///
/// # Errors
/// When what is known cannot be read or written.
pub(crate) fn note(state: &StateFolder, sights: &[(DnsName, Sight)]) -> Result<Vec<Exchange>, Failure> {
    let (mut epochs, mut all) = read(state)?;
    let now = unix_seconds(SystemTime::now());
    let mut told = Vec::new();
    for (domain, sight) in sights {
        let Some(exchange) = all.under_way.get_mut(domain) else { continue };
        let is_over = exchange.see(sight, now);
        let said = Exchange::of(domain, exchange, now);
        if is_over {
            epochs.settle(&Purpose::Zone(domain.clone()), said.to);
            epochs.write(&secrets::epochs_file(state))?;
            all.end(domain);
        }
        told.push(if is_over { said.over() } else { said });
    }
    if !told.is_empty() {
        all.keep(state)?;
    }
    Ok(told)
}

/// Looks at all of the stack's domains whose keys are exchanged, from the world's root servers, and writes down what was
/// seen. Where there is none nobody is asked. Whoever calls has the lock.
///
/// # Errors
/// When a key cannot be had, or what is known cannot be read or written.
pub(crate) async fn go_on(context: &Context, stack: &Stack, state: &StateFolder) -> Result<Vec<Exchange>, Failure> {
    let domains = under_way(stack, &read(state)?.1);
    if domains.is_empty() {
        return Ok(Vec::new());
    }
    let keys = secrets::zone_keys(context, stack, state, &domains)?;
    let mut walk = Walk::new(Asker::default(), &[]);
    let sights = look_at(stack, domains, &keys, &mut walk).await?;
    note(state, &sights)
}

/// The stack's own domains whose keys are exchanged.
pub(crate) fn under_way<'s>(stack: &'s Stack, all: &ZoneKeys) -> Vec<&'s Domain> {
    secrets::own_domains(stack).filter(|domain| all.under_way.contains_key(&domain.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sovereign_dns::rollover::{Has, Registry};

    use super::*;

    fn sight(both: bool, registry: Has) -> Sight {
        Sight {
            zone_ttl: 100,
            servers: BTreeMap::from([("ns-home.example.org (192.0.2.1)".to_owned(), Some(both))]),
            registry: Registry::Has(BTreeMap::from([("a.org".to_owned(), Some(registry))])),
        }
    }

    #[test]
    fn an_epoch_is_given_once_and_the_one_that_is_to_come_counts_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        fs::create_dir(state.keys()).unwrap();
        let domain: DnsName = "example.org".parse().unwrap();
        let purpose = Purpose::Zone(domain.clone());
        let (epochs, mut all) = read(&state).unwrap();
        assert_eq!((epochs.of(&purpose), epochs.coming(&purpose), all.newest(&domain)), (1, None, 1));
        all.begin(&domain, Rollover::begin(1, 2, 100, 0));
        all.end(&domain);
        assert_eq!(all.newest(&domain), 2);
        all.begin(&domain, Rollover::begin(1, 3, 100, 0));
        all.keep(&state).unwrap();
        let (mut epochs, read_again) = read(&state).unwrap();
        assert_eq!((epochs.coming(&purpose), &read_again), (Some(3), &all));
        // Killed after the epoch was raised.
        epochs.settle(&purpose, 3);
        epochs.write(&secrets::epochs_file(&state)).unwrap();
        let (epochs, all) = read(&state).unwrap();
        assert!(epochs.of(&purpose) == 3 && epochs.coming(&purpose).is_none() && all.under_way().is_empty());
        assert_eq!(all.newest(&domain), 3);
        for bad in ["", "{}", r#"{"version": 2, "newest": {}, "under-way": {}}"#] {
            fs::write(state.zone_keys(), bad).unwrap();
            assert!(read(&state).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_stage_says_what_is_awaited_and_what_to_do() {
        let domain: DnsName = "example.org".parse().unwrap();
        let mut exchange = Rollover::begin(1, 2, 100, 0);
        let has = |old, new| Has { old, new, ttl: 50 };
        let mut said = Vec::new();
        for (now, both, registry) in [
            (0, false, has(true, false)),
            (10, true, has(true, false)),
            (1_000, true, has(true, false)),
            (1_010, true, has(true, true)),
            (2_000, true, has(true, true)),
            (2_010, true, has(false, true)),
            (3_000, true, has(false, true)),
        ] {
            let is_over = exchange.see(&sight(both, registry), now);
            let told = Exchange::of(&domain, &exchange, now);
            said.push(format!("{}\n  {}", told.message, told.help));
            if is_over {
                let over = told.over();
                said.push(format!("{}\n  {}", over.message, over.help));
            }
        }
        insta::assert_snapshot!(said.join("\n"));
    }
}
