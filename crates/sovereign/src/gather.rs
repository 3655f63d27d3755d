//! What runs, asked of everything that can answer, at the same time. Changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use sovereign_engine::embedded::{Client, SupervisorStatus};
use sovereign_engine::incus::Reach;
use sovereign_engine::incus::instances::Seen;
use sovereign_keys::LeafFacts;
use sovereign_model::edge_status::EdgeStatus;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::{App, Datacenter};
use sovereign_model::{EdgeName, SiteName, Stack};
use sovereign_runtime::control::{Request, request_async};
use sovereign_services::ghost::{Refused, outgoing};

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
    pub(crate) edges: BTreeMap<EdgeName, Result<EdgeStatus, String>>,
    /// The applications on hosts, or why they cannot be seen.
    pub(crate) instances: BTreeMap<EdgeName, Result<Seen, String>>,
    /// The certificates that lie ready.
    pub(crate) certificates: BTreeMap<EdgeName, LeafFacts>,
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
pub(crate) async fn gather(stack: &Stack, state: &StateFolder, reach: &Reach) -> Result<Gathered, Failure> {
    let client = Client::of(state.clone());
    let names: Vec<EdgeName> = stack.datacenters.values().flat_map(Datacenter::edges).collect();
    let asked = names.iter().map(async |name| (name.clone(), ask(state, reach, name).await));
    let looked = names.iter().filter(|name| name.host.is_some());
    let looked = looked.map(async |name| (name.clone(), look(stack, reach, name).await));
    let (edges, instances, supervisor) = tokio::join!(join_all(asked), join_all(looked), client.status());
    let mut certificates = BTreeMap::new();
    for name in names {
        let (chain, key) = certificate(state, &name);
        if let Some(facts) = LeafFacts::read(&chain, &key)? {
            certificates.insert(name, facts);
        }
    }
    let ghosts = stack.sites.values().filter(|site| site.app == App::Ghost);
    let outgoing = ghosts.filter_map(|site| {
        let refused = outgoing(state.site(&site.primary, &site.name).path()).ok()?;
        Some((site.name.clone(), refused))
    });
    Ok(Gathered {
        supervisor: supervisor?,
        edges: edges.into_iter().collect(),
        instances: instances.into_iter().collect(),
        certificates,
        words_seen: secrets::words_seen(stack, state),
        backups: Record::read(state),
        copies: Copies::read(state),
        outgoing: outgoing.collect(),
    })
}

/// An edge, here or on a host.
async fn ask(state: &StateFolder, reach: &Reach, name: &EdgeName) -> Result<EdgeStatus, String> {
    if name.host.is_none() {
        return ask_edge(&state.edge(&name.datacenter).control()).await;
    }
    match reach.link(name).await {
        Ok(link) => ask_edge(&link.control).await,
        Err(error) => Err(Failure::from(error).chain().join(": ")),
    }
}

/// The applications on a host.
async fn look(stack: &Stack, reach: &Reach, name: &EdgeName) -> Result<Seen, String> {
    let looked = async { reach.link(name).await?.look(&stack.name).await };
    looked.await.map_err(|error| Failure::from(error).chain().join(": "))
}

/// Where this machine keeps the certificate of an edge, and its key.
fn certificate(state: &StateFolder, name: &EdgeName) -> (PathBuf, PathBuf) {
    let folder = state.edge(&name.datacenter);
    match &name.host {
        None => (folder.chain(), folder.key()),
        Some(host) => {
            let beside = |path: PathBuf| state.host(&name.datacenter, host).join(path.file_name().unwrap_or_default());
            (beside(folder.chain()), beside(folder.key()))
        }
    }
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
