//! The life of the agent's process: it reads what it watches, looks at each again and again, and tells how it sees them.
//!
//! | command | answer |
//! |---|---|
//! | `status` | [`AgentStatus`] |
//! | `try` | with `{"trials": [...]}`, [`Trial`]s: what was [`Heard`] at each, in their order; it changes nothing of how others are seen |

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sovereign_model::Digest;
use sovereign_model::agent_config::{AgentConfig, PROTOCOL, Watched};
use sovereign_model::agent_status::{AgentStatus, Standing};
use sovereign_model::layout::AgentFolder;
use sovereign_model::trial::{Heard, MOST_TRIALS, Trial};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::control::{Commands, Refusal, Request, Server};
use sovereign_runtime::lifecycle::{Drained, Lifecycle, Readiness};
use sovereign_runtime::loaded::{LoadError, load};
use sovereign_runtime::socket::SocketError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::health::{Rules, fails_open};
use crate::learned::Learned;
use crate::probe::{Look, ProbeError, Prober, TrustError};
use crate::provider::publish::Pace;
use crate::provider::{Standings, followers};
use crate::trial::attempt;
use crate::view::View;

/// Nobody is connected to an agent but who asks for its status.
const GRACE: Duration = Duration::from_secs(1);

/// So many looks at once: they must not take the memory of a small machine, however many addresses are silent.
const AT_ONCE: usize = 32;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The signed configuration file.
    pub config: PathBuf,
    /// Whose signature is believed.
    pub trust: VerifyingKey,
    /// Where the control socket is to be; it is taken over from a process that has it.
    pub control: PathBuf,
    /// When looks are taken, and what they mean.
    pub rules: Rules,
    /// When providers of DNS are told who lives.
    pub pace: Pace,
}

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// Certificates cannot be checked.
    #[error("certificates cannot be checked")]
    Trust(#[source] TrustError),
    /// The control socket cannot be bound.
    #[error("the control socket cannot be opened")]
    Control(#[source] SocketError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

impl AgentError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Config(source) => source.help(),
            Self::Control(source) => source.help(),
            Self::Trust(_) => Some("`sovereign up` writes the configuration anew".into()),
            Self::Signals(_) => None,
        }
    }
}

/// Runs an agent until it is told to stop.
///
/// # Errors
/// When its configuration, its certificates or its control socket cannot be used.
pub async fn run(options: Options) -> Result<Drained, AgentError> {
    serve(options, Lifecycle::new(GRACE)).await
}

/// Runs an agent for as long as `lifecycle` lasts. Signals end it too.
///
/// # Errors
/// As [`run`].
pub async fn serve(options: Options, lifecycle: Lifecycle) -> Result<Drained, AgentError> {
    let (config, signed): (AgentConfig, String) = load(&options.config, &options.trust, PROTOCOL, "an agent")?;
    let config_digest = Digest::of(&signed);
    let with_public = config.watched.iter().map(|watched| watched.public);
    let with_public = with_public.chain(config.dynamic.iter().map(|dynamic| dynamic.public)).any(|public| public);
    let prober = Prober::new(&config.authority, with_public, options.rules.timeout).map_err(AgentError::Trust)?;
    info!(agent = %config.edge(), watched = config.watched.len(), "the agent starts");
    let now = Instant::now();
    let views = config.watched.iter().map(|_| Mutex::new(View::new(now))).collect();
    let agent = Arc::new(Agent {
        rules: options.rules,
        places: Semaphore::new(AT_ONCE),
        lifecycle: lifecycle.clone(),
        learned: Mutex::new(Learned::new(&config.dynamic)),
        providers: Arc::default(),
        config,
        config_digest,
        prober,
        views,
    });
    // The name server beside it, another user, asks it.
    let control = Server::take_over(&options.control).and_then(Server::shared_with_group);
    let control = control.map_err(AgentError::Control)?;
    let controlled = tokio::spawn({
        let (agent, lifecycle) = (Control(agent.clone()), lifecycle.clone());
        async move { control.serve(Arc::new(agent), &lifecycle).await }
    });
    for index in 0..agent.config.watched.len() {
        tokio::spawn(agent.clone().watch(index));
    }
    for uplink in 0..agent.config.dynamic.len() {
        tokio::spawn(agent.clone().follow(uplink));
    }
    let folder = options.config.parent().unwrap_or(Path::new(""));
    for follower in followers(&agent.config, &AgentFolder::new(folder), &agent.providers) {
        let (agent, stopping) = (agent.clone(), lifecycle.stopping());
        tokio::spawn(async move {
            let _: Option<()> = stopping.run_until_cancelled(follower.follow(options.pace, || agent.status())).await;
        });
    }
    if let Err(error) = Readiness::from_env().ready() {
        warn!(%error, "whoever waits for this process cannot be told that it watches");
    }
    let drained = lifecycle.run().await.map_err(AgentError::Signals)?;
    // Removes the control socket's name, if it still is ours.
    let _ = controlled.await;
    Ok(drained)
}

/// An agent at work.
struct Agent {
    config: AgentConfig,
    config_digest: Digest,
    rules: Rules,
    prober: Prober,
    places: Semaphore,
    lifecycle: Lifecycle,
    /// How each of what is watched is seen.
    views: Vec<Mutex<View>>,
    /// Where uplinks are whose address changes, and how they are seen.
    learned: Mutex<Learned>,
    /// The providers that are told who lives, and why they could not be.
    providers: Arc<Standings>,
}

impl Agent {
    /// Looks at one address until the agent is told to stop.
    async fn watch(self: Arc<Self>, index: usize) {
        let stopping = self.lifecycle.stopping();
        let watching = async {
            loop {
                let began = Instant::now();
                let answered = self.look(index).await;
                sleep(self.rules.next(answered, random()).saturating_sub(began.elapsed())).await;
            }
        };
        let _: Option<()> = stopping.run_until_cancelled(watching).await;
    }

    /// Looks at an uplink wherever it is learned to be, until the agent is told to stop.
    async fn follow(self: Arc<Self>, uplink: usize) {
        let stopping = self.lifecycle.stopping();
        let following = async {
            loop {
                let began = Instant::now();
                let watched = self.learned().watched(uplink);
                let mut answered = true;
                for watched in watched {
                    let (looked, took) = self.ask(&watched).await;
                    answered &= looked.is_ok();
                    let mut learned = self.learned();
                    if let Some(view) = learned.view(uplink, watched.address.ip()) {
                        self.note(&watched, view, looked, took);
                    }
                }
                sleep(self.rules.next(answered, random()).saturating_sub(began.elapsed())).await;
            }
        };
        let _: Option<()> = stopping.run_until_cancelled(following).await;
    }

    /// Whether it answered.
    async fn look(&self, index: usize) -> bool {
        let watched = &self.config.watched[index];
        let (looked, took) = self.ask(watched).await;
        if let Ok(look) = &looked
            && self.config.is_inside(watched)
        {
            self.learned().tell(index, look.learned.clone(), Instant::now());
        }
        let answered = looked.is_ok();
        self.note(watched, &mut self.view(index), looked, took);
        answered
    }

    /// What a look finds, and how long that took, the wait for its turn left out.
    async fn ask(&self, watched: &Watched) -> (Result<Look, ProbeError>, Duration) {
        let _place = self.places.acquire().await; // never closed
        let began = Instant::now();
        let looked = self.prober.look(watched).await;
        (looked, began.elapsed())
    }

    fn note(&self, watched: &Watched, view: &mut View, looked: Result<Look, ProbeError>, took: Duration) {
        if let Some(ahead) = looked.as_ref().map_or_else(ProbeError::clock_ahead, |look| look.clock_ahead) {
            view.clock(ahead);
        }
        let Some(standing) = view.heard(looked.map(|look| look.took), took, &self.rules, Instant::now()) else {
            return;
        };
        let (datacenter, at, address) = (&watched.datacenter, &watched.at, watched.address);
        match standing {
            Standing::Dead => warn!(%datacenter, at, %address, why = view.error(), "dead"),
            _ => info!(%datacenter, at, %address, "alive"),
        }
    }

    /// Tries each once.
    async fn try_all(self: Arc<Self>, trials: Vec<Trial>) -> Vec<Heard> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut trying = JoinSet::new();
        let mut heard = vec![Heard::Silent; trials.len()];
        for (index, trial) in trials.into_iter().enumerate() {
            let (agent, places) = (self.clone(), places.clone());
            trying.spawn(async move {
                let _place = places.acquire().await; // never closed
                (index, attempt(&agent.prober, &agent.config.datacenter, &trial).await)
            });
        }
        while let Some(tried) = trying.join_next().await {
            if let Ok((index, what)) = tried {
                heard[index] = what;
            }
        }
        heard
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, index: usize) -> MutexGuard<'_, View> {
        self.views[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> AgentStatus {
        let standings = || self.config.watched.iter().enumerate().map(|(index, of)| (of, self.view(index).standing()));
        let inside = |of: &Watched| self.config.is_inside(of);
        let learned = self.learned();
        let others = standings().filter(|(of, _)| !inside(of)).map(|(_, standing)| standing);
        let others = others.chain(learned.standings());
        let insides = standings().filter(|(of, _)| inside(of)).map(|(_, standing)| standing);
        let fails_open = fails_open(others, insides);
        let watched = self.config.watched.iter().enumerate();
        let watched = watched.map(|(index, of)| self.view(index).sight(of, fails_open));
        AgentStatus {
            healthy: true,
            draining: self.lifecycle.is_stopping(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            stack: self.config.stack.clone(),
            datacenter: self.config.datacenter.clone(),
            host: self.config.host.clone(),
            config_digest: self.config_digest,
            fails_open,
            watched: watched.chain(learned.sights(fails_open)).collect(),
            providers: self.providers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Any number: agents that look at the same moments are unkind, and nothing worse.
fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// The agent as seen from its control socket.
struct Control(Arc<Agent>);

impl Commands for Control {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "status" => Ok(serde_json::to_value(self.0.status()).expect("names, numbers and texts serialize to JSON")),
            "try" => {
                let trials: Vec<Trial> = request.field("trials")?;
                if trials.len() > MOST_TRIALS {
                    return Err(Refusal::new(format!("{MOST_TRIALS} are tried at once, and no more")));
                }
                Ok(json!({ "heard": self.0.clone().try_all(trials).await }))
            }
            _ => Err(request.unknown()),
        }
    }
}
