//! The loop of a name server: from what is known to what Knot serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sovereign_model::agent_status::AgentStatus;
use sovereign_model::dns_record::is_within;
use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_status::{Away, WhyAway};
use sovereign_model::stack::UplinkAddress;
use sovereign_model::{DatacenterName, Digest, DnsName, SecondaryName};
use sovereign_runtime::control::{Refusal, Request, request_async};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use super::control::{Shared, Wish};
use super::room::Room;
use super::tables::{Made, Tables};
use crate::away::Seen;
use crate::challenge::{Challenges, Texts};
use crate::geography::nearest::Orders;
use crate::knot::DriverError;
use crate::knot::driver::{Brought, Driver};
use crate::knot::files::{Geography, Setup};
use crate::zone::{World, challenge_owner, public_addresses};

/// From one question to the agent to the next: what it knows is in the answers a second later at most.
const LOOK: Duration = Duration::from_secs(1);
/// The agent is on this machine, and has its answer ready.
const AGENT_WITHIN: Duration = Duration::from_millis(900);
/// From one question to Knot, whether it answers at all, to the next.
const CHECK: Duration = Duration::from_secs(5);
/// A Knot that runs and has not answered so often in a row hangs.
const HANGS: u32 = 2;
/// Systemd tells Knot to stop at the same time as its parent, which may hear of it later than of Knot's end.
const MAY_BE_TOLD_WITHIN: Duration = Duration::from_millis(50);
/// What failed is tried again after this, and after twice as long each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So long after Knot was started secondaries are told of its zones once more. They were told at once, and asked then: it may
/// have been the one before that answered, with what it had, and who has just asked does not look again for an hour. The
/// one before ends within ten seconds.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// Knot loads a zone in milliseconds.
const LOADS_WITHIN: Duration = Duration::from_secs(10);
/// It is asked so often whether it has.
const BETWEEN: Duration = Duration::from_millis(20);

/// What Knot is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    world: World,
    table: Option<PathBuf>,
}

/// What Knot did not take.
#[derive(Debug)]
struct Failed {
    wanted: Wanted,
    again: Instant,
    wait: Duration,
}

/// Keeps Knot serving what it should.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    driver: Driver,
    orders: Arc<Orders>,
    agent: Option<PathBuf>,
    transfer_keys: BTreeMap<SecondaryName, PathBuf>,
    wishes: mpsc::Receiver<Wish>,
    tables: Option<mpsc::Receiver<Result<Made, String>>>,
    seen: Option<Seen>,
    challenges: Challenges,
    table: Option<Made>,
    served: Option<Wanted>,
    failed: Option<Failed>,
    /// When secondaries are to be told once more.
    tell_again: Option<Instant>,
    /// So often in a row Knot has not answered.
    unanswered: u32,
    /// Last, so that Knot is gone when its folder goes.
    _room: Room,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        driver: Driver,
        room: Room,
        orders: Arc<Orders>,
        agent: Option<PathBuf>,
        wishes: mpsc::Receiver<Wish>,
    ) -> Self {
        let config = &shared.config;
        let folder = NameServerFolder::new(&config.folder);
        let key_of = |(name, digest): (&SecondaryName, &Digest)| (name.clone(), folder.transfer_key(name, digest));
        let transfer_keys = config.transfer_keys.iter().map(key_of).collect();
        Self {
            shared,
            driver,
            orders,
            agent,
            transfer_keys,
            wishes,
            tables: None,
            seen: None,
            challenges: Challenges::default(),
            table: None,
            served: None,
            failed: None,
            tell_again: None,
            unanswered: 0,
            _room: room,
        }
    }

    /// The beginning: with all that is to be known, Knot serves, or is silent.
    pub(super) async fn begin(&mut self, mut tables: Tables) -> Result<(), DriverError> {
        if tables.are_of_use() {
            let made = tables.next().await;
            self.take(made);
            let (sender, receiver) = mpsc::channel(1);
            self.tables = Some(receiver);
            let stopping = self.shared.lifecycle.stopping();
            tokio::spawn(
                stopping
                    .run_until_cancelled_owned(async move { while sender.send(tables.next().await).await.is_ok() {} }),
            );
        }
        self.look().await;
        self.bring().await
    }

    /// Until it is told to stop.
    pub(super) async fn keep(mut self) {
        let stopping = self.shared.lifecycle.stopping();
        let [mut looks, mut checks] = [LOOK, CHECK].map(interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                _ = looks.tick() => {
                    self.look().await;
                    self.tell_again().await;
                }
                Some(wish) = self.wishes.recv() => self.publish(wish).await,
                Some(made) = next(&mut self.tables) => self.take(made),
                _ = checks.tick() => self.check().await,
                ended = self.driver.ended() => {
                    if stopping.run_until_cancelled(sleep(MAY_BE_TOLD_WITHIN)).await.is_some() {
                        warn!("Knot has ended by itself, with {ended}, and is started again");
                    }
                }
            }
            // What went wrong is told by `status`, and tried again. What is begun when it is told to stop is given up.
            if stopping.run_until_cancelled(self.bring()).await.is_none() {
                break;
            }
        }
        self.driver.stop().await;
        self.shared.state().knot = None;
    }

    /// Ends a Knot that hangs.
    async fn check(&mut self) {
        if self.driver.process().is_none() {
            return;
        }
        // That its tool cannot be run says nothing of Knot.
        self.unanswered = match self.driver.ask().answers().await {
            Ok(false) => self.unanswered + 1,
            Ok(true) | Err(_) => 0,
        };
        if self.unanswered == HANGS {
            warn!("Knot runs and does not answer: it is ended, and started again");
            self.driver.stop().await;
            self.unanswered = 0;
        }
    }

    /// Tells secondaries once more, if it is time.
    async fn tell_again(&mut self) {
        let Some(_) = self.tell_again.take_if(|at| Instant::now() >= *at) else { return };
        match self.driver.ask().tell_secondaries().await {
            Ok(true) => {}
            // One that does not run is started, and tells them then.
            Ok(false) => debug!("Knot does not tell secondaries"),
            Err(error) => warn!(%error, "secondaries cannot be told"),
        }
    }

    /// Asks the agent, if there is one.
    async fn look(&mut self) {
        let Some(agent) = &self.agent else { return };
        let asked = request_async(agent, &Request::new("status"), AGENT_WITHIN).await;
        let told = match asked {
            Err(error) => Err(Refusal::because(&error, None).message),
            Ok(answer) => serde_json::from_value::<AgentStatus>(answer).map_err(|error| error.to_string()),
        };
        let own = &self.shared.config;
        let told = told.and_then(|status| {
            let is_beside = status.stack == own.stack && status.datacenter == own.datacenter;
            let theirs = || format!("it is the agent of {} in {}", status.datacenter, status.stack);
            if is_beside { Ok(status) } else { Err(theirs()) }
        });
        let now = Instant::now();
        let error = match told {
            Ok(status) => {
                let seen = Seen::new(&own.datacenter, &status, self.seen.as_ref(), now);
                if self.seen.as_ref().map(Seen::dead).unwrap_or_default() != seen.dead() {
                    let dead: Vec<String> = seen.dead().iter().map(|(place, at)| format!("{place} {at}")).collect();
                    info!(dead = dead.join(", "), "the agent sees others live or die");
                }
                self.seen = Some(seen);
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error.as_ref().filter(|_| self.shared.state().agent_error.is_none()) {
            warn!(error, "the agent cannot be asked");
        }
        self.shared.state().agent_error = error;
    }

    fn take(&mut self, made: Result<Made, String>) {
        let mut state = self.shared.state();
        match made {
            Ok(made) => {
                (state.geography, state.geography_error) = (Some(made.told.clone()), None);
                self.table = Some(made);
            }
            // The one that is there is better than none.
            Err(error) => state.geography_error = Some(error),
        }
    }

    /// What the agent told, while it is believed.
    fn believed(&self, now: Instant) -> Option<&Seen> {
        self.seen.as_ref().filter(|seen| seen.is_believed(now))
    }

    /// Where uplinks are whose provider changes their address.
    fn learned(&self, now: Instant) -> BTreeMap<(DatacenterName, String), BTreeSet<IpAddr>> {
        let is_dynamic = |(datacenter, at): &(DatacenterName, String)| {
            let place = self.shared.config.names.place(datacenter);
            let mut uplinks = place.into_iter().flat_map(|place| &place.uplinks);
            uplinks.any(|uplink| uplink.name == *at && uplink.address == UplinkAddress::Dynamic)
        };
        let met = self.believed(now).into_iter().flat_map(Seen::met).filter(|(uplink, _)| is_dynamic(uplink));
        met.map(|(uplink, addresses)| (uplink.clone(), addresses.clone())).collect()
    }

    fn wanted(&self, now: Instant) -> Wanted {
        let world = World {
            learned: self.learned(now),
            away: self.believed(now).map(Seen::dead).unwrap_or_default(),
            drained: self.shared.config.drained.clone(),
            challenges: self.challenges.at(now),
        };
        Wanted { world, table: self.table.as_ref().map(|table| table.path.clone()) }
    }

    /// Makes Knot serve what it should, unless it does.
    async fn bring(&mut self) -> Result<(), DriverError> {
        let now = Instant::now();
        let wanted = self.wanted(now);
        let is_silent = self.believed(now).is_some_and(Seen::is_broken_here);
        self.tell(&wanted.world, is_silent, now);
        if is_silent {
            self.fall_silent().await;
            return Ok(());
        }
        let serves = self.served.as_ref() == Some(&wanted) && self.driver.process().is_some();
        if serves && !self.driver.is_due(now) {
            self.failed = None;
            self.shared.state().last_error = None;
            return Ok(());
        }
        if self.failed.as_ref().is_some_and(|failed| failed.wanted == wanted && now < failed.again) {
            self.shared.state().knot = self.driver.process();
            return Ok(());
        }
        let config = &self.shared.config;
        let geography = wanted.table.as_deref().map(|table| Geography { orders: &self.orders, table });
        let setup = Setup {
            names: &config.names,
            world: &wanted.world,
            listen: &config.listen,
            datacenter: &config.datacenter,
            lan: config.lan.as_ref(),
            transfer_keys: &self.transfer_keys,
            geography,
        };
        let brought = self.driver.bring(&setup, now).await;
        let process = self.driver.process();
        let mut state = self.shared.state();
        state.knot = process;
        match brought {
            Ok(brought) => {
                if brought == Brought::Started && !config.names.secondaries.is_empty() {
                    self.tell_again = Some(now + TELL_AGAIN);
                }
                if brought != Brought::Unchanged {
                    state.signed_unix = Some(unix(SystemTime::now()));
                }
                state.last_error = None;
                (self.served, self.failed) = (Some(wanted), None);
                Ok(())
            }
            Err(error) => {
                let words = Refusal::because(&error, None).message;
                if state.last_error.as_ref() != Some(&words) {
                    warn!(error = words, "Knot does not serve what it should");
                }
                state.last_error = Some(words);
                let wait = self.failed.as_ref().filter(|failed| failed.wanted == wanted).map(|failed| failed.wait * 2);
                let wait = wait.map_or(AGAIN.0, |wait| wait.min(AGAIN.1));
                self.failed = Some(Failed { wanted, again: now + wait, wait });
                Err(error)
            }
        }
    }

    async fn fall_silent(&mut self) {
        if self.driver.process().is_some() {
            warn!("nothing of this data center lives, and others do: Knot is stopped, so that others are asked");
            self.driver.stop().await;
        }
        self.failed = None;
        let mut state = self.shared.state();
        (state.knot, state.last_error) = (None, None);
    }

    fn tell(&self, world: &World, is_silent: bool, now: Instant) {
        let names = &self.shared.config.names;
        let dead = world.away.iter().map(|place| (place.clone(), WhyAway::Dead));
        let drained = names.places.iter().filter(|place| world.drained.contains(&place.name));
        let drained = drained.flat_map(|place| public_addresses(place, world)).map(|at| (at, WhyAway::Drained));
        let away: BTreeSet<Away> =
            dead.chain(drained).map(|((datacenter, address), why)| Away { datacenter, address, why }).collect();
        let believed = self.believed(now);
        let mut state = self.shared.state();
        let own = &self.shared.config.datacenter;
        state.silent = is_silent.then(|| format!("nothing of {own} lives, and others do"));
        state.seen_unix =
            believed.map(|seen| unix(SystemTime::now()).saturating_sub(now.duration_since(seen.at()).as_secs()));
        state.fails_open = believed.is_some_and(Seen::fails_open);
        state.away = away.into_iter().collect();
        state.challenges = world.challenges.keys().cloned().collect();
    }

    /// Has challenges published in place of those that the same asker had; it is told once Knot has them.
    async fn publish(&mut self, Wish { asker, texts, answer }: Wish) {
        let now = Instant::now();
        let before = self.challenges.clone();
        let concerned: BTreeSet<DnsName> = before.of(&asker, now).into_keys().chain(texts.keys().cloned()).collect();
        if let Err(error) = self.challenges.set(asker, texts, now) {
            let _ = answer.send(Err(Refusal::new(error.to_string())));
            return;
        }
        let all = self.challenges.at(now);
        let brought = self.bring().await;
        let silent = self.shared.state().silent.clone();
        if let Err(error) = brought {
            self.challenges = before;
            // Who wished for it is gone, at worst.
            let _ = answer.send(Err(Refusal::because(&error, error.help())));
        } else if let Some(why) = silent {
            let help = "ask the name servers of the other data centers";
            let _ = answer.send(Err(Refusal::new(format!("this name server is silent: {why}")).help(help)));
        } else {
            let (ask, shared) = (self.driver.ask(), self.shared.clone());
            tokio::spawn(async move {
                let texts_of = |name: &DnsName| all.get(name).cloned().unwrap_or_default();
                let wanted: Texts = concerned.iter().map(|name| (name.clone(), texts_of(name))).collect();
                let has_them = async {
                    for (name, texts) in &wanted {
                        let domains = shared.config.names.domains.iter().map(|domain| &domain.name);
                        for domain in domains.filter(|domain| is_within(name.as_str(), domain.as_str())) {
                            while ask.texts(domain, &challenge_owner(name)).await? != *texts {
                                sleep(BETWEEN).await;
                            }
                        }
                    }
                    Ok::<(), DriverError>(())
                };
                let loaded = match timeout(LOADS_WITHIN, has_them).await {
                    Ok(loaded) => loaded.map_err(|error| Refusal::because(&error, error.help())),
                    Err(_) => Err(Refusal::new(format!("Knot has not loaded it within {LOADS_WITHIN:?}"))),
                };
                let _ = answer.send(loaded);
            });
        }
    }
}

async fn next<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => None,
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
