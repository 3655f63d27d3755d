//! Whether a site lives on the data that it was given: it is set up in it, and asked as a reader would.

use std::time::{Duration, Instant};

use sovereign_engine::apply::{Caller, Engine as _, apply};
use sovereign_engine::journal::Journal;
use sovereign_keys::WorkingKeys;
use sovereign_model::Step;
use sovereign_model::stack::{AdminReach, Site};
use sovereign_plan::{Plan, Planned};
use tokio_util::sync::CancellationToken;

use crate::certificates::trust;
use crate::datacenters::Matter;
use crate::deployment::Deployment;
use crate::failure::{Failure, Reason};
use crate::output::Progress;
use crate::verify::ProbeError;

/// An application that is well answers its edge at once; an edge that found it away asks again after two seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// What an edge keeps no copy of, so that the answer is the application's own.
const LIVE_PATH: &str = "/ghost/api/admin/site/";

/// It says that it is well, and does not answer readers.
#[derive(Debug, thiserror::Error)]
#[error("{LIVE_PATH} is answered with {status}")]
struct NotServed {
    status: u16,
}

impl Reason for NotServed {}

/// The database is another: what was set up in it after it was copied is set up again.
///
/// # Errors
/// When that cannot be done.
pub(super) async fn set_up(
    deployment: &Deployment,
    keys: &WorkingKeys,
    site: &Site,
    progress: &Progress,
) -> Result<(), Failure> {
    let joined = deployment.joined(keys)?;
    let engine = deployment.engine(keys, &joined, progress);
    let plan = sovereign_plan::plan(&joined.wanted, &engine.observe().await?);
    let is_ours = |planned: &Planned| match &planned.step {
        Step::SetUpSite { site: of, .. } | Step::ApplySettings { site: of, .. } => *of == site.name,
        _ => false,
    };
    let steps: Vec<_> = plan.steps.iter().filter(|planned| is_ours(planned)).cloned().collect();
    if steps.is_empty() {
        return Ok(());
    }
    let journal = Journal::at(deployment.state.journal());
    let caller = Caller { command: "restore", version: env!("CARGO_PKG_VERSION") };
    apply(&engine, &Plan { steps, ..plan }, &journal, caller, &(), &CancellationToken::new()).await?;
    Ok(())
}

/// Asks it from outside, through its edge. Nobody is asked where no edge runs, or one whose certificate is another than
/// we expect, or where this machine may not ask: none of that says anything of the data.
///
/// # Errors
/// When it does not answer as it should.
pub(super) async fn ask(deployment: &Deployment, keys: &WorkingKeys, site: &Site) -> Result<(), Failure> {
    let place = site.place(&deployment.stack);
    if place.host.is_some() && site.admin != AdminReach::Public {
        return Ok(());
    }
    // An edge that leaves the application alone says nothing of the data either.
    if deployment.decided()?.decided(Matter::Maintained).contains_key(&site.primary) {
        return Ok(());
    }
    let prober = trust::prober(&deployment.stack, keys)?;
    let address = deployment.stack.datacenters[&site.primary].reached(&place);
    let deadline = Instant::now() + ANSWER_PATIENCE;
    loop {
        let refused = match prober.get(address, &site.canonical, LIVE_PATH, ANSWER_PATIENCE).await {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Err(ProbeError::Connect { .. } | ProbeError::Handshake { .. }) => return Ok(()),
            Ok(answer) => Failure::from(NotServed { status: answer.status }),
            Err(error) => error.into(),
        };
        if Instant::now() > deadline {
            return Err(refused);
        }
        tokio::time::sleep(LOOK).await;
    }
}
