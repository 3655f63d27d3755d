//! What is told on the control socket.

use std::sync::Arc;

use serde_json::Value;
use sovereign_model::Digest;
use sovereign_model::renewer_status::{RenewerStatus, Renewing};
use sovereign_runtime::control::{Commands, Refusal, Request};
use sovereign_runtime::lifecycle::Lifecycle;

use super::work::Work;
use crate::standing::Standing;

/// A renewer as seen from its control socket.
pub(super) struct Control {
    pub(super) work: Arc<Work>,
    pub(super) config_digest: Digest,
    pub(super) lifecycle: Lifecycle,
}

impl Control {
    fn status(&self) -> RenewerStatus {
        let Self { work, config_digest, lifecycle } = self;
        let last_error = work.last_error();
        let names = work.renewer.standing(&work.config.names).into_iter().map(|(name, standing)| {
            let Standing { ends, next, in_the_way } = standing;
            let (ends_unix, turn_unix) = (ends.map(|ends| ends.seconds()), next.map(|next| next.seconds()));
            (name, Renewing { ends_unix, turn_unix, why: in_the_way })
        });
        RenewerStatus {
            healthy: last_error.is_none(),
            draining: lifecycle.is_stopping(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            stack: work.config.stack.clone(),
            datacenter: work.config.datacenter.clone(),
            host: work.config.host.clone(),
            config_digest: *config_digest,
            names: names.collect(),
            last_error,
        }
    }
}

impl Commands for Control {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "status" => Ok(serde_json::to_value(self.status()).expect("names, numbers and texts serialize to JSON")),
            _ => Err(request.unknown()),
        }
    }
}
