//! The lease of a run: the lock of a stack's state folder, said to other management machines too, on the hosts themselves.
//!
//! Taken on all hosts that answer, one after the other in the order of their names, so that of two runs that begin at
//! once one gets the first host that both reach, and with it the rest. A host that does not answer is left out of the
//! run, also when it answers later on: nobody holds it. Data centers of homes are cut off from each other often, so no
//! majority is asked for. What follows: two runs that reach no host in common both go on, each on its own hosts; two
//! runs never work on one host at once.
//!
//! Kept by a runtime of its own, since a run's may be busy for minutes; over the connections that the run has anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use sovereign_hosts::lease::{self, Holder, Holding, Renewed, Seen, Taken, Tenure};
use sovereign_model::EdgeName;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, block_in_place};
use tokio_util::sync::CancellationToken;

use super::reach::{Link, Reach};
use super::{AT_ONCE, IncusEngineError};

/// How often it is seen whether a lease is to be renewed: clocks jump when a machine wakes up.
const LOOK: Duration = Duration::from_secs(1);

/// At the end of a run, for all hosts together. What is not given back runs out.
const FAREWELL: Duration = Duration::from_secs(10);

/// Another run is at work.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It holds hosts of this stack.
    #[error("another run works on hosts of this stack: {}", list(.by))]
    Held {
        /// Who holds which.
        by: BTreeMap<EdgeName, Holding>,
    },
    /// It took a host of this run.
    #[error("the lease on {host} is not this run's any more{}, so this run has ended in the midst of its work", .by.as_ref().map(|by| format!(": {} has it", name(&by.holder))).unwrap_or_default())]
    Lost {
        /// Which.
        host: EdgeName,
        /// Who has it now, if anybody.
        by: Option<Box<Holding>>,
    },
    /// Others take it and give it back while this run tries to.
    #[error("who works on {host} changes again and again")]
    Contested {
        /// Which.
        host: EdgeName,
    },
    /// The system gave no thread.
    #[error("cannot get a thread from the system")]
    NoThread(#[source] std::io::Error),
}

fn name(holder: &Holder) -> String {
    format!("`sovereign {}` of {}, process {}", holder.command, holder.who, holder.process)
}

/// Who works on hosts now, of those to which there is a connection. Changes nothing.
pub async fn held(reach: &Reach, folder: &Path) -> BTreeMap<EdgeName, Holding> {
    let looks = reach.edges().map(async |host| {
        let link = reach.opened(host)?;
        let seen = lease::look(&link.connection, folder).await.ok()?;
        Some((host.clone(), seen.held()?))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// Each run once, with its hosts, for people.
pub fn list(by: &BTreeMap<EdgeName, Holding>) -> String {
    let mut runs: BTreeMap<&str, (&Holding, Vec<String>)> = BTreeMap::new();
    for (host, holding) in by {
        runs.entry(&holding.holder.run).or_insert((holding, Vec::new())).1.push(host.to_string());
    }
    let runs = runs.into_values().map(|(holding, hosts)| {
        format!("{}, on {} for {}", name(&holding.holder), hosts.join(", "), Held(holding.held()))
    });
    runs.collect::<Vec<_>>().join("; ")
}

/// `40 s`, `5 min`.
struct Held(Duration);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds => write!(f, "{} min", seconds / 60),
        }
    }
}

impl LeaseError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some(format!(
                "wait until it is done; if it was killed, its lease runs out within {} s. `--take-lease` takes it at \
                 once, from a machine that is known to be dead",
                lease::VALID.as_secs()
            )),
            Self::Lost { .. } => Some("`sovereign status` says who is at work; then `sovereign up` goes on".to_owned()),
            Self::Contested { .. } => {
                Some("`sovereign status` says who is at work; try again when nobody is".to_owned())
            }
            Self::NoThread(_) => None,
        }
    }
}

/// The lease of this run. Given back when it is dropped; if the process is killed, it runs out.
#[derive(Debug)]
pub struct Lease {
    /// `None` when there are no hosts.
    keeping: Option<(Runtime, Arc<Keeping>)>,
}

#[derive(Debug)]
struct Keeping {
    reach: Arc<Reach>,
    folder: PathBuf,
    us: Holder,
    every: Duration,
    held: Mutex<BTreeMap<EdgeName, Tenure>>,
    lost: CancellationToken,
    /// What was lost first.
    why: OnceLock<(EdgeName, Option<Box<Holding>>)>,
    renews: OnceLock<AbortHandle>,
}

impl Lease {
    /// A lease on nothing yet. `folder` is where it lies on every host; once taken, it is renewed `every` so often, for
    /// which [`lease::RENEWED_EVERY`] is the right time.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(reach: &Arc<Reach>, folder: &Path, us: Holder, every: Duration) -> Result<Self, LeaseError> {
        if reach.edges().next().is_none() {
            return Ok(Self { keeping: None });
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("lease").enable_all().build();
        let keeping = Keeping {
            reach: Arc::clone(reach),
            folder: folder.to_owned(),
            us,
            every,
            held: Mutex::default(),
            lost: CancellationToken::new(),
            why: OnceLock::new(),
            renews: OnceLock::new(),
        };
        Ok(Self { keeping: Some((runtime.map_err(LeaseError::NoThread)?, Arc::new(keeping))) })
    }

    /// Takes it on all hosts that answer, and leaves out the others; from the runs that are named in `from` too, if they
    /// hold it.
    ///
    /// # Errors
    /// When another run holds a host. Then none is held.
    pub fn take(&self, from: &BTreeSet<String>) -> Result<(), LeaseError> {
        let Some((runtime, keeping)) = &self.keeping else { return Ok(()) };
        outside(|| runtime.block_on(keeping.take(from)))?;
        let renews = runtime.spawn(Arc::clone(keeping).keep()).abort_handle();
        let _ = keeping.renews.set(renews); // taken once
        Ok(())
    }

    /// Waits until another run has taken a host of this one. Whatever this run does must end then.
    pub async fn lost(&self) -> LeaseError {
        let Some((_, keeping)) = &self.keeping else { return std::future::pending().await };
        keeping.lost.cancelled().await;
        match keeping.why.get() {
            Some((host, by)) => LeaseError::Lost { host: host.clone(), by: by.clone() },
            None => std::future::pending().await,
        }
    }

    /// Removes what lies of it on a host that is nobody's any more.
    pub fn vanish(&self, host: &EdgeName) {
        let Some((runtime, keeping)) = &self.keeping else { return };
        keeping.held().remove(host);
        let remove = async {
            let Some(link) = keeping.reach.opened(host) else { return };
            // Gone with its next start otherwise.
            let _ = lease::remove(&link.connection, &keeping.folder).await;
        };
        outside(|| runtime.block_on(remove));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((runtime, keeping)) = self.keeping.take() else { return };
        if let Some(renews) = keeping.renews.get() {
            renews.abort();
        }
        let farewell = async { tokio::time::timeout(FAREWELL, keeping.release()).await };
        let _ = outside(|| runtime.block_on(farewell));
        runtime.shutdown_background();
    }
}

/// Waits, wherever that is asked for.
fn outside<T>(wait: impl FnOnce() -> T) -> T {
    if Handle::try_current().is_ok() { block_in_place(wait) } else { wait() }
}

impl Keeping {
    fn held(&self) -> MutexGuard<'_, BTreeMap<EdgeName, Tenure>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, host: &EdgeName) -> Result<(&Link, Seen), IncusEngineError> {
        let link = self.reach.link(host).await?;
        let failed = |source| IncusEngineError::Host { host: host.clone(), source: Box::new(source) };
        Ok((link, lease::look(&link.connection, &self.folder).await.map_err(failed)?))
    }

    async fn take(&self, from: &BTreeSet<String>) -> Result<(), LeaseError> {
        let turns = Semaphore::new(AT_ONCE);
        let looks = self.reach.edges().map(async |host| {
            let _turn = turns.acquire().await; // never closed
            (host, self.look(host).await)
        });
        let mut free = Vec::new();
        let mut by = BTreeMap::new();
        for (host, looked) in join_all(looks).await {
            match looked {
                Err(error) => self.reach.leave_out(host, &error),
                Ok((link, seen)) => match seen.held_from(&self.us) {
                    Some(holding) if !from.contains(&holding.holder.run) => drop(by.insert(host.clone(), holding)),
                    _ => free.push((host, link, seen)),
                },
            }
        }
        if !by.is_empty() {
            return Err(LeaseError::Held { by });
        }
        // In the order of their names, as the map of hosts is.
        for (host, link, seen) in free {
            let from = |holder: &Holder| from.contains(&holder.run);
            match lease::take(&link.connection, &self.folder, &self.us, seen, from).await {
                Ok(Taken::Ours(tenure)) => self.have(host, link, tenure),
                Ok(Taken::Theirs(holding)) => {
                    self.release().await;
                    return Err(LeaseError::Held { by: [(host.clone(), *holding)].into() });
                }
                Ok(Taken::Contested) => {
                    self.release().await;
                    return Err(LeaseError::Contested { host: host.clone() });
                }
                Err(source) => {
                    self.reach
                        .leave_out(host, &IncusEngineError::Host { host: host.clone(), source: Box::new(source) });
                    link.connection.cut().await;
                }
            }
        }
        Ok(())
    }

    fn have(&self, host: &EdgeName, link: &Link, tenure: Tenure) {
        link.connection.work_until(tenure.until);
        self.held().insert(host.clone(), tenure);
    }

    /// Renews all of it, until it is stopped or something is lost.
    async fn keep(self: Arc<Self>) {
        let mut last = lease::here();
        while !self.lost.is_cancelled() {
            tokio::time::sleep(LOOK.min(self.every)).await;
            let now = lease::here();
            let all = self.held().clone();
            let is_due = now.saturating_sub(last) >= self.every;
            if is_due || all.values().any(|tenure| !tenure.is_certain(now)) {
                last = now;
                join_all(all.iter().map(|(host, tenure)| self.renew(host, tenure))).await;
            }
        }
    }

    async fn renew(&self, host: &EdgeName, tenure: &Tenure) {
        let Some(link) = self.reach.opened(host) else { return };
        match lease::renew(&link.connection, &self.folder, tenure).await {
            // Unless it was removed meanwhile.
            Ok(Renewed::Ours(renewed)) => {
                if let Some(held) = self.held().get_mut(host) {
                    link.connection.work_until(renewed.until);
                    *held = renewed;
                }
            }
            Ok(Renewed::Lost(by)) => {
                if self.held().remove(host).is_some() {
                    link.connection.cut().await;
                    let _ = self.why.set((host.clone(), by)); // the first is told
                    self.lost.cancel();
                }
            }
            // Somebody else may have it from now on. That ends nothing but what is done on this host.
            Err(_) if !tenure.is_certain(lease::here()) => {
                self.held().remove(host);
                link.connection.cut().await;
            }
            Err(_) => {}
        }
    }

    async fn release(&self) {
        let all = std::mem::take(&mut *self.held());
        let releases = all.iter().map(async |(host, tenure)| {
            let Some(link) = self.reach.opened(host) else { return };
            // It runs out otherwise.
            let _ = lease::release(&link.connection, &self.folder, tenure).await;
        });
        join_all(releases).await;
    }
}
