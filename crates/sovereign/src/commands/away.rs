//! Hosts that do not answer while something is read there: named once, and tried again where that is waited for.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use sovereign_engine::incus::{IncusEngineError, Link};
use sovereign_model::{EdgeName, UnitName};

use crate::context::Context;
use crate::declared::Declared;
use crate::gather::Away;
use crate::hosts;
use crate::output::Page;

/// How often what is followed on a host is looked at: it takes a round trip and a program over there.
const LOOK: Duration = Duration::from_secs(1);

/// How soon a host that does not answer is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What could not be read.
#[derive(Debug, Serialize)]
pub(super) struct Silent {
    pub(super) host: EdgeName,
    /// Of which unit; `None` for all on the host.
    unit: Option<UnitName>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Silent {
    /// On a host, of one unit or of all.
    pub(super) fn new(host: &EdgeName, unit: Option<&UnitName>, error: IncusEngineError) -> Self {
        let Away { why: message, help } = error.into();
        Self { host: host.clone(), unit: unit.cloned(), message, help }
    }

    /// Names it, and the way out.
    pub(super) fn show(&self, page: &mut Page) {
        let warning = page.theme().warning;
        page.line(format_args!("{warning}{}{warning:#}: {}", self.host, self.message));
        if let Some(help) = &self.help {
            page.help(help);
        }
    }
}

/// Looks at something on a host again and again, until nobody wants to know any longer. What goes wrong is said once; a
/// connection that was lost is made anew.
pub(super) async fn follow(
    context: &Context,
    declared: &Declared,
    edge: &EdgeName,
    mut look: impl AsyncFnMut(&Link) -> Result<ControlFlow<()>, IncusEngineError>,
) {
    let mut said: Option<String> = None;
    let mut tell = |message: String| {
        if said.as_ref() != Some(&message) {
            context.output.say(format!("{edge}: {message}"));
            said = Some(message);
        }
    };
    loop {
        match hosts::reach(declared) {
            Err(failure) => tell(failure.chain().join(": ")),
            Ok(reach) => {
                match reach.link(edge).await {
                    Err(error) => tell(Away::from(error).why),
                    Ok(link) => loop {
                        match look(link).await {
                            Ok(ControlFlow::Break(())) => return,
                            Ok(ControlFlow::Continue(())) => {}
                            Err(error) => {
                                tell(Away::from(error).why);
                                if !link.connection.is_alive().await {
                                    break;
                                }
                            }
                        }
                        tokio::time::sleep(LOOK).await;
                    },
                }
                reach.close().await;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
