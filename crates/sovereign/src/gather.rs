//! What runs, asked of everything that can answer, at the same time. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sovereign_engine::embedded::{Client, SupervisorStatus};
use sovereign_keys::LeafFacts;
use sovereign_model::edge_status::EdgeStatus;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::App;
use sovereign_model::{DatacenterName, SiteName, Stack};
use sovereign_runtime::control::{Request, request_async};
use sovereign_services::ghost::{Refused, outgoing};
use tokio::task::JoinSet;

use crate::backup::Record;
use crate::backup::copies::Copies;
use crate::failure::Failure;
use crate::secrets;

/// An edge answers from memory; one that does not within this time is not well.
const EDGE_PATIENCE: Duration = Duration::from_secs(3);

/// All answers.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The supervisor's; `None` when none runs.
    pub(crate) supervisor: Option<SupervisorStatus>,
    /// The edges', or why there is none.
    pub(crate) edges: BTreeMap<DatacenterName, Result<EdgeStatus, String>>,
    /// The certificates that lie ready.
    pub(crate) certificates: BTreeMap<DatacenterName, LeafFacts>,
    /// Whether somebody has shown that the words of the root seed are kept; `None` when there is no root seed.
    pub(crate) words_seen: Option<bool>,
    /// What is proven to be backed up, and what failed since.
    pub(crate) backups: Record,
    /// What is known of the archive's copies.
    pub(crate) copies: Copies,
    /// What applications tried to reach and were refused.
    pub(crate) outgoing: BTreeMap<SiteName, Vec<Refused>>,
}

/// Asks everybody.
///
/// # Errors
/// When a supervisor runs and does not answer, or a certificate's facts cannot be read.
pub(crate) async fn gather(stack: &Stack, state: &StateFolder) -> Result<Gathered, Failure> {
    let client = Client::of(state.clone());
    let mut asked = JoinSet::new();
    for name in stack.datacenters.keys() {
        let (name, socket) = (name.clone(), state.edge(name).control());
        asked.spawn(async move { (name, ask_edge(&socket).await) });
    }
    let supervisor = client.status().await?;
    let edges = asked.join_all().await.into_iter().collect();
    let mut certificates = BTreeMap::new();
    for name in stack.datacenters.keys() {
        let folder = state.edge(name);
        if let Some(facts) = LeafFacts::read(&folder.chain(), &folder.key())? {
            certificates.insert(name.clone(), facts);
        }
    }
    let ghosts = stack.sites.values().filter(|site| site.app == App::Ghost);
    let outgoing = ghosts.filter_map(|site| {
        let refused = outgoing(state.site(&site.primary, &site.name).path()).ok()?;
        Some((site.name.clone(), refused))
    });
    Ok(Gathered {
        supervisor,
        edges,
        certificates,
        words_seen: secrets::words_seen(stack, state),
        backups: Record::read(state),
        copies: Copies::read(state),
        outgoing: outgoing.collect(),
    })
}

/// The edge behind a control socket.
///
/// # Errors
/// A sentence that says why it did not answer.
pub(crate) async fn ask_edge(socket: &Path) -> Result<EdgeStatus, String> {
    let answer = request_async(socket, &Request::new("status"), EDGE_PATIENCE)
        .await
        .map_err(|error| if error.nobody_listens() { "it does not run".to_owned() } else { error.to_string() })?;
    serde_json::from_value(answer).map_err(|error| format!("its answer cannot be understood: {error}"))
}
