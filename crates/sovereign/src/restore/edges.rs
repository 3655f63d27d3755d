//! Telling the edges that a site's data is another, and seeing that they show it.
//!
//! An edge holds back when more than a tenth of a site is gone at once: a broken primary must not erase its mirrors. Here
//! the operator has said that the data is another, so what is gone may go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sovereign_model::EdgeName;
use sovereign_model::edge_status::{LastPass, SiteStatus};
use sovereign_model::stack::{Datacenter, Site};
use sovereign_runtime::control::{Request, request_async};

use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::gather::ask_edge;
use crate::hosts;
use crate::output::Stage;

/// An edge answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);
/// An edge that does nothing for so long is left to itself.
const IDLE: Duration = Duration::from_secs(30);
/// One that rests and has not seen everything is told again.
const AGAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// Edges that were told, and those that could not be, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) told: Vec<EdgeName>,
    pub(crate) untold: BTreeMap<EdgeName, String>,
}

/// Tells them, the one that has the site from its application first: the others ask it.
pub(crate) async fn tell(deployment: &Deployment, site: &Site) -> Told {
    let stack = &deployment.stack;
    let first = site.place(stack);
    let places = site.datacenters();
    let edges = places.filter_map(|place| stack.datacenters.get(place)).flat_map(Datacenter::edges);
    let others = edges.filter(|edge| *edge != first);
    let mut outcome = Told::default();
    for edge in std::iter::once(first.clone()).chain(others) {
        let told = async { ask_at(&control(deployment, &edge).await?, site, true).await };
        match told.await {
            Ok(_) => outcome.told.push(edge),
            Err(why) => drop(outcome.untold.insert(edge, why)),
        }
    }
    outcome
}

/// The control socket of an edge.
async fn control(deployment: &Deployment, edge: &EdgeName) -> Result<PathBuf, String> {
    let found = hosts::control(&deployment.state, &deployment.reach, edge).await;
    found.map_err(|error| Failure::from(error).chain().join(": "))
}

/// Has the edge behind a control socket look at everything; how the site stood there before.
async fn ask_at(control: &Path, site: &Site, replaced: bool) -> Result<SiteStatus, String> {
    let request = Request::new("fill").with("site", site.name.as_str());
    let request = request.with("replaced", replaced).with("accept-removals", true);
    match request_async(control, &request, PATIENCE).await {
        Ok(status) => {
            serde_json::from_value(status).map_err(|error| format!("its answer cannot be understood: {error}"))
        }
        Err(error) if error.nobody_listens() => Err("it does not run".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits until the edges that were told show the new data and nothing else; those that do not yet, and why. One after
/// the other, because a mirror has its pages from the primary's edge, and is told again once that has them.
pub(crate) async fn settle(
    deployment: &Deployment,
    site: &Site,
    told: &[EdgeName],
    stage: &Stage,
) -> BTreeMap<EdgeName, String> {
    let mut behind = BTreeMap::new();
    for edge in told {
        let settled = async { settle_at(&control(deployment, edge).await?, site, &edge.to_string(), stage).await };
        if let Err(why) = settled.await {
            behind.insert(edge.clone(), why);
        }
    }
    behind
}

/// Tells the edge behind a control socket that a site's data is another, and waits until it shows that.
///
/// # Errors
/// When it cannot be told, or does not show all of it in time: why.
pub(crate) async fn renew(control: &Path, site: &Site, at: &str, stage: &Stage) -> Result<(), String> {
    ask_at(control, site, true).await?;
    settle_at(control, site, at, stage).await
}

async fn settle_at(socket: &Path, site: &Site, at: &str, stage: &Stage) -> Result<(), String> {
    // What was found gone between the first word and this one must not be held back either.
    let before = ask_at(socket, site, false).await?.last_pass;
    let (mut asked, mut moved) = (Instant::now(), (Instant::now(), None));
    loop {
        let status = ask_edge(socket).await?.site(&site.name).cloned().ok_or("it does not know the site")?;
        let rests = status.pass.is_none();
        let shown = |last: &LastPass| last.complete && last.held == 0;
        if status.private || (rests && status.last_pass != before && status.last_pass.as_ref().is_some_and(shown)) {
            return Ok(());
        }
        if rests && asked.elapsed() > AGAIN {
            ask_at(socket, site, false).await?;
            asked = Instant::now();
        }
        let done = status.pass.as_ref().map_or(status.pages_kept, |pass| pass.done);
        stage.note(format!("{at}: {done} of {} pages", status.pages_known));
        if moved.1 != Some(done) {
            moved = (Instant::now(), Some(done));
        }
        if moved.0.elapsed() > IDLE {
            return Err(status.source.last_error.unwrap_or_else(|| "it has not looked at everything yet".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
}
