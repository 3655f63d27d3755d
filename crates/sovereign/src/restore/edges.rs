//! Telling the edges that a site's data is another, and seeing that they show it.
//!
//! An edge holds back when more than a tenth of a site is gone at once: a broken primary must not erase its mirrors. Here
//! the operator has said that the data is another, so what is gone may go.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sovereign_model::DatacenterName;
use sovereign_model::edge_status::{LastPass, SiteStatus};
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::Site;
use sovereign_runtime::control::{Request, request_async};

use crate::gather::ask_edge;
use crate::output::Stage;

/// An edge answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);
/// An edge that does nothing for so long is left to itself.
const IDLE: Duration = Duration::from_secs(30);
/// One that rests and has not seen everything is told again.
const AGAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// Data centers whose edge was told, and those whose edge could not be, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) told: Vec<DatacenterName>,
    pub(crate) untold: BTreeMap<DatacenterName, String>,
}

/// Tells them, the primary's first: the others ask it.
pub(crate) async fn tell(state: &StateFolder, site: &Site) -> Told {
    let mut outcome = Told::default();
    for datacenter in std::iter::once(&site.primary).chain(&site.mirrors) {
        match ask(state, site, datacenter, true).await {
            Ok(_) => outcome.told.push(datacenter.clone()),
            Err(why) => drop(outcome.untold.insert(datacenter.clone(), why)),
        }
    }
    outcome
}

/// Has an edge look at everything; how the site stood there before.
async fn ask(
    state: &StateFolder,
    site: &Site,
    datacenter: &DatacenterName,
    replaced: bool,
) -> Result<SiteStatus, String> {
    ask_at(&state.edge(datacenter).control(), site, replaced).await
}

/// The same of the edge behind a control socket.
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
    state: &StateFolder,
    site: &Site,
    told: &[DatacenterName],
    stage: &Stage,
) -> BTreeMap<DatacenterName, String> {
    let mut behind = BTreeMap::new();
    for datacenter in told {
        if let Err(why) = settle_one(state, site, datacenter, stage).await {
            behind.insert(datacenter.clone(), why);
        }
    }
    behind
}

async fn settle_one(state: &StateFolder, site: &Site, at: &DatacenterName, stage: &Stage) -> Result<(), String> {
    settle_at(&state.edge(at).control(), site, at.as_str(), stage).await
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
