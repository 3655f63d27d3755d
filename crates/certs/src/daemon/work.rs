//! The loop of a renewer: what the edge shows is known here, what is due is got, and what was got is the edge's.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sovereign_model::DnsName;
use sovereign_model::renewer_config::RenewerConfig;
use sovereign_runtime::control::{ControlError, Refusal, Request, request_async};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::words::Words;
use crate::moment::Moment;
use crate::renewer::Renewer;
use crate::store::StoreError;

/// The edge is on this machine; it makes files durable.
const WITHIN: Duration = Duration::from_secs(10);

/// What was in the way is looked at again so soon: after a start of the host the edge comes to life beside it.
const AGAIN: Duration = Duration::from_secs(2);

/// Why nothing could be done.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error("the edge beside it cannot be asked")]
    Edge(#[source] ControlError),
    #[error("the edge beside it does not take the certificate for {name}")]
    Refused { name: DnsName, source: Refusal },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A renewer at work.
pub(super) struct Work {
    pub(super) config: RenewerConfig,
    pub(super) renewer: Renewer<Words>,
    edge: PathBuf,
    every: Duration,
    last_error: Mutex<Option<String>>,
}

impl Work {
    pub(super) fn new(config: RenewerConfig, renewer: Renewer<Words>, edge: PathBuf, every: Duration) -> Self {
        let last_error = Mutex::new(Some("it has not looked yet".to_owned()));
        Self { config, renewer, edge, every, last_error }
    }

    /// Why it is not well.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For ever.
    pub(super) async fn go_on(&self) {
        let mut again = Moment::LONG_AGO;
        loop {
            let stuck = self.once(&mut again).await.err();
            let wait = if stuck.is_some() { self.every.min(AGAIN) } else { self.every };
            self.note(stuck);
            sleep(wait).await;
        }
    }

    /// Notes what is in the way, and says it once.
    fn note(&self, stuck: Option<Stuck>) {
        let now = stuck.map(|stuck| Refusal::because(&stuck, None).message);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = now.as_ref().filter(|why| last.as_ref() != Some(why)) {
            warn!(why, "nothing can be renewed at present");
        }
        *last = now;
    }

    /// Looks and hands over, and gets what is due; not `again` before then.
    async fn once(&self, again: &mut Moment) -> Result<(), Stuck> {
        // What another has got, and what was left here by a process that was killed.
        self.look().await?;
        self.hand().await?;
        let now = self.renewer.now();
        if *again > now || self.renewer.due(&self.config.names) > now {
            return Ok(());
        }
        *again = self.renewer.pass(&self.config.names).await.again;
        self.hand().await
    }

    /// Takes over what the edge shows that is newer than what is known here.
    async fn look(&self) -> Result<(), Stuck> {
        for name in self.config.names.keys() {
            let asked = Request::new("chain").with("name", name.as_str());
            let shown = match request_async(&self.edge, &asked, WITHIN).await {
                Ok(shown) => shown,
                // None is shown.
                Err(ControlError::Refused(_)) => continue,
                Err(error) => return Err(Stuck::Edge(error)),
            };
            let chain = shown["pem"].as_str().unwrap_or_default();
            if let Err(error) = self.renewer.take_over(name, chain, None) {
                // It is none of a declared authority's, say: to be replaced when what was known before is due.
                let error = &error as &dyn std::error::Error;
                debug!(%name, error, "what the edge shows is not taken over");
            }
        }
        Ok(())
    }

    /// Hands to the edge what was got here, and keeps its key no longer.
    async fn hand(&self) -> Result<(), Stuck> {
        let store = self.renewer.store();
        for name in self.config.names.keys() {
            let mut state = store.state(name)?;
            let Some(held) = state.held.as_ref().filter(|held| !held.elsewhere && !held.handed) else { continue };
            let Some(bundle) = store.bundle(name, held)? else { continue };
            let asked = Request::new("take").with("name", name.as_str()).with("pem", bundle.as_str());
            match request_async(&self.edge, &asked, WITHIN).await {
                Ok(taken) => {
                    info!(%name, newer = %taken["newer"], "the edge has the certificate")
                }
                Err(ControlError::Refused(source)) => return Err(Stuck::Refused { name: name.clone(), source }),
                Err(error) => return Err(Stuck::Edge(error)),
            }
            store.handed(&mut state)?;
        }
        Ok(())
    }
}
