//! Gets the certificates that are wanted and renews them: what is decided in [`crate::choice`], done.
//!
//! ```text
//!  Renewer::pass ──┬─ name ─ its window asked for, when that is due
//!                  ├─ name ─ an order: written down ─▶ proven ─▶ finished ─▶ checked ─▶ stored
//!                  └─ name ─ refused ─▶ written down ─▶ the next authority
//! ```
//!
//! Promise: what fails for one name stops no other. What is begun is written down before it is asked for, so that whoever
//! is killed is followed by somebody who goes on with the same order, with the same key. Keys are made here and never
//! leave the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use instant_acme::{Order as OpenOrder, RevocationReason};
use rcgen::KeyPair;
use sovereign_model::{AuthorityName, DnsName};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::challenges::Challenges;
use crate::check::certificates;
use crate::choice::{self, Next};
use crate::failure::{Failure, Said};
use crate::moment::Moment;
use crate::pass::{Options, Outcome, Pass};
use crate::renewal::{ASK_AFTER_FAILURE, ask_again};
use crate::session::{Access, Session, Stopped, new_key};
use crate::state::{AuthorityState, Held, NameState, Order};
use crate::store::{Store, StoreError};
use crate::turn::Turn;

/// So many names are worked on at the same time: enough to hide how long an authority thinks, and few enough to be no
/// flood (of an address, Let's Encrypt answers 20 questions a second for a nonce).
const AT_ONCE: usize = 8;
/// So long at least between two passes.
const BETWEEN_PASSES: Duration = Duration::from_secs(60);
/// A conversation that breaks off for a reason that is nobody's fault is begun again so often.
const MOST_CONVERSATIONS: usize = 3;
/// An authority that says nothing about windows is asked again whether it does.
const ASK_FOR_WINDOWS: Duration = Duration::from_secs(24 * 3600);

/// Gets certificates. It writes files while it works, each until it is on disk: where others must not wait for that, it is
/// given a thread of its own.
pub struct Renewer<C> {
    store: Store,
    authorities: BTreeMap<AuthorityName, Access>,
    preferred: Vec<AuthorityName>,
    patience: Duration,
    turn: Turn,
    challenges: C,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Held while an account is made, so that it is made once.
    accounts: tokio::sync::Mutex<()>,
}

type Authorities = Mutex<BTreeMap<AuthorityName, AuthorityState>>;

impl<C: Challenges> Renewer<C> {
    /// One that works by `clock`.
    ///
    /// # Errors
    /// When its store cannot be used.
    pub fn new(
        options: Options,
        challenges: C,
        clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let preferred = options.authorities.iter().map(|access| access.authority.name.clone()).collect();
        let named = |access: Access| (access.authority.name.clone(), access);
        Ok(Self {
            store: Store::open(options.folder)?,
            authorities: options.authorities.into_iter().map(named).collect(),
            preferred,
            patience: options.patience,
            turn: options.turn,
            challenges,
            clock,
            accounts: tokio::sync::Mutex::new(()),
        })
    }

    /// Where certificates lie.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// An authority that is asked.
    pub(crate) fn access(&self, authority: &AuthorityName) -> Option<&Access> {
        self.authorities.get(authority)
    }

    /// All of them, the preferred first.
    pub(crate) fn preferred(&self) -> impl Iterator<Item = &Access> {
        self.preferred.iter().filter_map(|authority| self.authorities.get(authority))
    }

    pub(crate) fn now(&self) -> Moment {
        (self.clock)().into()
    }

    /// What to do next for a name of a domain.
    pub(crate) fn next(
        &self,
        state: &NameState,
        domain: &DnsName,
        authorities: &BTreeMap<AuthorityName, AuthorityState>,
        now: Moment,
    ) -> Next {
        choice::next(state, domain, &self.preferred, authorities, self.turn, now)
    }

    /// When something is to be done next for the names that are wanted, as far as is known without asking anybody.
    pub fn due(&self, wanted: &BTreeMap<DnsName, DnsName>) -> Moment {
        let (authorities, now) = (self.authority_states(), self.now());
        let next = wanted.iter().map(|(name, domain)| {
            // What cannot be read is looked at by a pass, which says so.
            let Ok(state) = self.store.state(name) else { return now };
            match self.next(&state, domain, &authorities, now) {
                Next::Well(due) => due.min(asks(&state).unwrap_or(due)),
                Next::Wait(until) => until,
                Next::Order(_) | Next::GoOn(_) => now,
            }
        });
        next.min().unwrap_or(now.after(ASK_FOR_WINDOWS))
    }

    /// Does what is due for the names that are wanted, each with its domain.
    pub async fn pass(&self, wanted: &BTreeMap<DnsName, DnsName>) -> Pass {
        self.renew(wanted, &BTreeSet::new()).await
    }

    /// The same, with another certificate for those of `anew`, however good the one is that they have.
    pub async fn renew(&self, wanted: &BTreeMap<DnsName, DnsName>, anew: &BTreeSet<DnsName>) -> Pass {
        let mut outcomes = BTreeMap::new();
        let mut states = Vec::new();
        for name in wanted.keys() {
            match self.store.state(name) {
                Ok(state) => states.push(state),
                Err(error) => drop(outcomes.insert(name.clone(), Outcome::Unknown(error))),
            }
        }
        let authorities = Mutex::new(self.authority_states());
        let work = choice::by_urgency(states.iter(), self.now()).into_iter().map(|state| {
            let (authorities, state) = (&authorities, state.clone());
            async move {
                let domain = wanted.get(&state.name)?;
                let name = state.name.clone();
                let anew = anew.contains(&name);
                Some((name, self.name(state, domain, authorities, anew).await))
            }
        });
        let done: Vec<_> = futures_util::stream::iter(work).buffer_unordered(AT_ONCE).collect().await;
        let mut again = self.now().after(ASK_FOR_WINDOWS);
        for (name, (outcome, next)) in done.into_iter().flatten() {
            again = again.min(next);
            outcomes.insert(name, outcome);
        }
        Pass { outcomes, again: again.max(self.now().after(BETWEEN_PASSES)) }
    }

    pub(crate) fn authority_states(&self) -> BTreeMap<AuthorityName, AuthorityState> {
        let read = |(name, access): (&AuthorityName, &Access)| {
            let directory = access.authority.directory.to_string();
            // What cannot be read is not known: at worst an authority is asked once more.
            let state = self.store.authority_state(name, &directory).unwrap_or_else(|error| {
                warn!(authority = %name, %error, "what was tried there is not known");
                AuthorityState::new(directory)
            });
            (name.clone(), state)
        };
        self.authorities.iter().map(read).collect()
    }

    /// How a name stands when all was done for it, and when there is something to do again.
    async fn name(
        &self,
        mut state: NameState,
        domain: &DnsName,
        authorities: &Authorities,
        anew: bool,
    ) -> (Outcome, Moment) {
        choice::settle(&mut state, spread());
        self.look_for_window(&mut state, authorities).await;
        let mut failures = Vec::new();
        // Each authority once, and once more where an order that was open has come to nothing.
        for _ in 0..=2 * self.preferred.len() {
            let now = self.now();
            let next = if anew {
                choice::another(&state, domain, &self.preferred, &locked(authorities), now)
            } else {
                self.next(&state, domain, &locked(authorities), now)
            };
            let authority = match next {
                Next::Well(due) => return (Outcome::Well { due }, due.min(asks(&state).unwrap_or(due))),
                Next::Wait(until) => return (Outcome::Waits { until, failures }, until),
                Next::Order(authority) => {
                    state.order = None;
                    authority
                }
                Next::GoOn(authority) => authority,
            };
            let Some(access) = self.authorities.get(&authority) else { break };
            match self.attempt(&mut state, domain, access, authorities).await {
                Ok(not_after) => {
                    info!(name = %state.name, %authority, "a certificate was issued");
                    // Its window is asked for next.
                    return (Outcome::Issued { authority, not_after, failures }, self.now());
                }
                // The next one, then.
                Err(None) => choice::undo(&mut state),
                Err(Some(failure)) => {
                    let failed = failure.failed();
                    warn!(name = %state.name, why = failed.why, "no certificate");
                    let moment = (self.now(), spread());
                    let order = state.order.clone();
                    self.update(authorities, &authority, |known| {
                        choice::remember(&mut state, &authority, known, domain, &failed, moment);
                    });
                    // It may have decided by then.
                    if matches!(failure, Failure::Slow { .. }) {
                        state.order = order;
                    }
                    if let Err(error) = self.store.save(&state) {
                        warn!(name = %state.name, %error, "what was tried is not written down");
                    }
                    failures.push(failure);
                }
            }
        }
        let until = self.now().after(Duration::from_secs(3600));
        (Outcome::Waits { until, failures }, until)
    }

    /// Gets a certificate for a name from an authority, and takes it in; when it ends. `None` when it was not even begun.
    async fn attempt(
        &self,
        state: &mut NameState,
        domain: &DnsName,
        access: &Access,
        authorities: &Authorities,
    ) -> Result<Moment, Option<Failure>> {
        choice::begin(state, &access.authority.name, self.now());
        self.store.save(state).map_err(Failure::from)?;
        let mut conversations = 0;
        loop {
            conversations += 1;
            match self.conversation(state, domain, access, authorities).await {
                // The key is the same, so nothing is lost but what the authority has forgotten.
                Err(Stopped::NoAccount) if conversations < MOST_CONVERSATIONS => {
                    self.update(authorities, &access.authority.name, |known| known.account = None);
                }
                // Whatever was done is done: it goes on with the same order.
                Err(Stopped::Nonce) if conversations < MOST_CONVERSATIONS => {}
                Err(Stopped::HeldOff) => return Err(None),
                Err(stopped) => return Err(Some(given_up(stopped, &access.authority.name, &state.name))),
                Ok(ends) => return Ok(ends),
            }
        }
    }

    async fn conversation(
        &self,
        state: &mut NameState,
        domain: &DnsName,
        access: &Access,
        authorities: &Authorities,
    ) -> Result<Moment, Stopped> {
        let (name, authority) = (state.name.clone(), access.authority.name.clone());
        let session = self.session(access, &name, authorities, false).await?;
        let open = match state.order.clone() {
            Some(order) => self.resumed(&session, &name, &order).await?,
            None => None,
        };
        let (mut order, key) = match open {
            Some(open) => open,
            None => self.ordered(state, &session, &authority).await?,
        };
        let chain = session.complete(&mut order, &key, &self.challenges).await?;
        let pem = Zeroizing::new(key.serialize_pem());
        let facts = match access.check().fits(&chain, &pem, &name, self.now()) {
            Ok(facts) => facts,
            Err(source) => return Err(Failure::Misfit { authority, name, source }.into()),
        };
        let ends = facts.not_after;
        let held = Held::new(authority.clone(), facts, self.now());
        let before = state.clone();
        self.update(authorities, &authority, |known| choice::forget(state, known, domain));
        // What cannot be stored now is fetched again with the same order.
        self.store.keep(state, held, &chain, &pem).map_err(|error| {
            *state = before;
            Failure::from(error)
        })?;
        Ok(ends)
    }

    /// Opens a conversation with an authority; with the account that is there, or a new one. `anyway`, also while it is
    /// held off.
    async fn session<'s>(
        &'s self,
        access: &'s Access,
        name: &'s DnsName,
        authorities: &Authorities,
        anyway: bool,
    ) -> Result<Session<'s>, Stopped> {
        let authority = &access.authority.name;
        let account = || locked(authorities).get(authority).and_then(|known| known.account.clone());
        let alone = self.accounts.lock().await;
        // Whoever was before may have waited in vain, and all need not.
        let now = self.now();
        let away = |known: &AuthorityState| known.whole.as_ref().is_some_and(|hold| hold.until > now);
        if !anyway && locked(authorities).get(authority).is_some_and(away) {
            return Err(Stopped::HeldOff);
        }
        let (key, known) = match self.store.account_key(authority).map_err(Failure::from)? {
            Some(key) => (key, account()),
            // Written down before it is used: whoever is killed has the account all the same.
            None => {
                let key = Zeroizing::new(new_key(name)?.serialize_pem());
                self.store.put_account_key(authority, &key).map_err(Failure::from)?;
                (key, None)
            }
        };
        if known.is_some() {
            drop(alone);
            return Ok(Session::open(access, name, &key, known.as_deref(), self.patience).await?.0);
        }
        let (session, id) = Session::open(access, name, &key, None, self.patience).await?;
        self.update(authorities, authority, |known| known.account = Some(id));
        Ok(session)
    }

    /// The order that is open and its key; `None` when one of the two is not there any more.
    async fn resumed(
        &self,
        session: &Session<'_>,
        name: &DnsName,
        order: &Order,
    ) -> Result<Option<(OpenOrder, KeyPair)>, Stopped> {
        let key = self.store.next_key(name).map_err(Failure::from)?;
        let Some(key) = key.and_then(|pem| KeyPair::from_pem(&pem).ok()) else { return Ok(None) };
        match session.resume(&order.url).await {
            Ok(open) => Ok(Some((open, key))),
            Err(Stopped::NotFound | Stopped::Failed(Failure::Refused { .. })) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A new order and its key, both written down.
    async fn ordered(
        &self,
        state: &mut NameState,
        session: &Session<'_>,
        authority: &AuthorityName,
    ) -> Result<(OpenOrder, KeyPair), Stopped> {
        let key = new_key(&state.name)?;
        self.store.put_next_key(&state.name, &Zeroizing::new(key.serialize_pem())).map_err(Failure::from)?;
        // Who suggests windows knows of replacing, by the account that has ordered it (RFC 9773 section 5).
        let replaced = state.held.as_ref().filter(|held| held.authority == *authority && held.window.is_some());
        let replaced = replaced.filter(|held| !held.elsewhere);
        let order = match replaced.and_then(|held| held.id.as_deref()) {
            Some(id) => match session.order(Some(id)).await {
                Err(Stopped::NotReplaced) => session.order(None).await?,
                order => order?,
            },
            None => session.order(None).await?,
        };
        let (authority, url, since) = (authority.clone(), order.url().to_owned(), self.now());
        state.order = Some(Order { authority, url, since });
        self.store.save(state).map_err(Failure::from)?;
        Ok((order, key))
    }

    /// Asks for the window that a certificate's authority suggests for its renewal, when that is due.
    async fn look_for_window(&self, state: &mut NameState, authorities: &Authorities) {
        let (name, now) = (state.name.clone(), self.now());
        let Some(held) = state.held.as_mut().filter(|held| held.ask <= now && !held.revoked) else { return };
        let (Some(id), Some(access)) = (&held.id, self.authorities.get(&held.authority)) else { return };
        let asked = match self.session(access, &name, authorities, false).await {
            Ok(session) => session.window(id).await,
            Err(stopped) => Err(stopped),
        };
        match asked {
            Ok(Some((window, wait))) => (held.window, held.ask) = (Some(window), ask_again(now, wait)),
            Ok(None) => (held.window, held.ask) = (None, now.after(ASK_FOR_WINDOWS)),
            Err(Stopped::HeldOff) => return,
            // What it said before is the best that is known.
            Err(stopped) => {
                held.ask = now.after(ASK_AFTER_FAILURE);
                let failure = given_up(stopped, &held.authority, &name);
                warn!(%name, why = failure.failed().why, "when to renew could not be asked");
            }
        }
        if let Err(error) = self.store.save(state) {
            warn!(%name, %error, "when to renew is not written down");
        }
    }

    /// Has the certificate of a name revoked by its authority; the next pass gets another. `false` when there is none.
    ///
    /// # Errors
    /// When the authority does not revoke it.
    pub async fn revoke(&self, name: &DnsName, reason: RevocationReason) -> Result<bool, Failure> {
        let mut state = self.store.state(name)?;
        let Some(held) = &mut state.held else { return Ok(false) };
        let Some(access) = self.authorities.get(&held.authority) else { return Ok(false) };
        let chain = self.store.chain(name, held)?;
        let Some(leaf) = chain.and_then(|chain| certificates(&chain)?.into_iter().next()) else { return Ok(false) };
        let authorities = Mutex::new(self.authority_states());
        let revoked = match self.session(access, name, &authorities, true).await {
            Ok(session) => session.revoke(&leaf, reason).await,
            Err(stopped) => Err(stopped),
        };
        revoked.map_err(|stopped| given_up(stopped, &access.authority.name, name))?;
        held.revoked = true;
        self.store.save(&state)?;
        Ok(true)
    }

    /// Changes what is known of an authority, and writes it down.
    fn update(&self, authorities: &Authorities, authority: &AuthorityName, change: impl FnOnce(&mut AuthorityState)) {
        let mut all = locked(authorities);
        let Some(known) = all.get_mut(authority) else { return };
        let before = known.clone();
        change(known);
        if *known != before
            && let Err(error) = self.store.save_authority(authority, known)
        {
            warn!(%authority, %error, "what was tried there is not written down");
        }
    }
}

/// When the authority of a certificate is to be asked for its window, where it can be.
fn asks(state: &NameState) -> Option<Moment> {
    state.held.as_ref().filter(|held| held.id.is_some()).map(|held| held.ask)
}

fn locked(authorities: &Authorities) -> std::sync::MutexGuard<'_, BTreeMap<AuthorityName, AuthorityState>> {
    authorities.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a conversation led nowhere, when nothing is left to be tried in it.
fn given_up(stopped: Stopped, authority: &AuthorityName, name: &DnsName) -> Failure {
    let (authority, name) = (authority.clone(), name.clone());
    let said = |text: &str| Said { kind: String::new(), text: text.to_owned() };
    match stopped {
        Stopped::Failed(failure) => failure,
        Stopped::HeldOff => {
            Failure::Refused { authority, name, retry_after: None, source: said("it is of no use at present") }
        }
        Stopped::NoAccount => {
            Failure::Account { authority, source: said("it forgets the account that it has just made") }
        }
        Stopped::Nonce => {
            Failure::Refused { authority, name, retry_after: None, source: said("it refuses its own nonces") }
        }
        Stopped::NotFound => {
            Failure::Refused { authority, name, retry_after: None, source: said("it does not know its own order") }
        }
        Stopped::NotReplaced => {
            Failure::Refused { authority, name, retry_after: None, source: said("it has an order for it already") }
        }
    }
}

/// From 0 to 1. Without random numbers many come back together, which is no harm to any.
fn spread() -> f64 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
