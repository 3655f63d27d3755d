//! What is told and taken on the control socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sovereign_model::name_server_config::NameServerConfig;
use sovereign_model::name_server_status::{Away, Geography, NameServerStatus, ZoneStatus};
use sovereign_model::{Digest, DnsName};
use sovereign_runtime::control::{Commands, Refusal, Request};
use sovereign_runtime::lifecycle::Lifecycle;
use tokio::sync::{mpsc, oneshot};

use crate::challenge::{self, Asker, Texts};
use crate::knot::ask::Ask;

/// So many wish at once: few ask for certificates.
const WISHES: usize = 4;

/// A wish to have challenges published, and whom to tell.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) asker: Asker,
    pub(super) texts: Texts,
    pub(super) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// What changes while it runs, as it is told.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) knot: Option<u32>,
    pub(super) silent: Option<String>,
    pub(super) seen_unix: Option<u64>,
    pub(super) agent_error: Option<String>,
    pub(super) fails_open: bool,
    pub(super) away: Vec<Away>,
    pub(super) geography: Option<Geography>,
    pub(super) geography_error: Option<String>,
    pub(super) signed_unix: Option<u64>,
    pub(super) challenges: Vec<DnsName>,
    pub(super) last_error: Option<String>,
}

/// What the loop and the control socket share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: NameServerConfig,
    config_digest: Digest,
    pub(super) lifecycle: Lifecycle,
    ask: Ask,
    state: Mutex<State>,
    wishes: mpsc::Sender<Wish>,
}

impl Shared {
    pub(super) fn new(
        config: NameServerConfig,
        config_digest: Digest,
        ask: Ask,
        lifecycle: Lifecycle,
    ) -> (Arc<Self>, mpsc::Receiver<Wish>) {
        let (wishes, receiver) = mpsc::channel(WISHES);
        let state = Mutex::default();
        (Arc::new(Self { config, config_digest, lifecycle, ask, state, wishes }), receiver)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn status(&self) -> NameServerStatus {
        // A Knot that is not well has no numbers to tell; why, `last_error` says.
        let serials = self.ask.serials().await.unwrap_or_default();
        let state = self.state();
        let zone = |domain: &DnsName| {
            let serial = serials.get(domain).copied().filter(|_| state.knot.is_some());
            ZoneStatus { domain: domain.clone(), serial, signed_unix: state.signed_unix.filter(|_| serial.is_some()) }
        };
        let config = &self.config;
        NameServerStatus {
            healthy: state.last_error.is_none() && (state.knot.is_some() || state.silent.is_some()),
            draining: self.lifecycle.is_stopping(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            knot: state.knot,
            stack: config.stack.clone(),
            datacenter: config.datacenter.clone(),
            host: config.host.clone(),
            config_digest: self.config_digest,
            silent: state.silent.clone(),
            seen_unix: state.seen_unix,
            agent_error: state.agent_error.clone(),
            fails_open: state.fails_open,
            away: state.away.clone(),
            geography: state.geography.clone(),
            geography_error: state.geography_error.clone(),
            listen: config.listen.clone(),
            zones: config.names.domains.iter().map(|domain| zone(&domain.name)).collect(),
            challenges: state.challenges.clone(),
            last_error: state.last_error.clone(),
        }
    }

    async fn publish(&self, asker: Asker, set: BTreeMap<String, Vec<String>>) -> Result<Value, Refusal> {
        let texts = challenge::parse(&self.config.names, set).map_err(|wrong| {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            Refusal::new(wrong.join("; "))
        })?;
        let (answer, answered) = oneshot::channel();
        let stops = || Refusal::new("this name server stops");
        self.wishes.send(Wish { asker, texts: texts.clone(), answer }).await.map_err(|_| stops())?;
        answered.await.map_err(|_| stops())??;
        Ok(json!({ "published": texts }))
    }
}

/// The name server as seen from its control socket.
pub(super) struct Control(pub(super) Arc<Shared>);

impl Commands for Control {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "status" => {
                let status = self.0.status().await;
                Ok(serde_json::to_value(status).expect("names, numbers and texts serialize to JSON"))
            }
            "challenge" => {
                let asker: Option<Asker> = request.field("of")?;
                self.0.publish(asker.unwrap_or_default(), request.field("set")?).await
            }
            _ => Err(request.unknown()),
        }
    }
}

/// The same as the renewer beside it sees it: whoever asks says so, and is in nobody else's way.
pub(super) struct Renewal(pub(super) Arc<Shared>);

impl Commands for Renewal {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "challenge" => self.0.publish(request.field("of")?, request.field("set")?).await,
            _ => Err(request.unknown()),
        }
    }
}
