//! What runs, asked of everything that can answer, at the same time. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use sovereign_engine::embedded::{Client, SupervisorStatus};
use sovereign_engine::incus::evacuated::evacuated;
use sovereign_engine::incus::instances::Seen;
use sovereign_engine::incus::usage::Usage;
use sovereign_engine::incus::{IncusEngineError, Reach};
use sovereign_hosts::evacuation::Evacuation;
use sovereign_keys::LeafFacts;
use sovereign_model::agent_status::AgentStatus;
use sovereign_model::edge_status::EdgeStatus;
use sovereign_model::layout::StateFolder;
use sovereign_model::name_server_status::NameServerStatus;
use sovereign_model::renewer_status::RenewerStatus;
use sovereign_model::stack::{App, Datacenter};
use sovereign_model::{EdgeName, SiteName, Stack};
use sovereign_runtime::control::{Request, request_async};
use sovereign_services::ghost::{LARGEST_LOG, OUTGOING_LOG, Refused, ghost_unit, outgoing, refused_in};
use tokio::time::timeout;

use crate::backup::Record;
use crate::backup::copies::Copies;
use crate::certificates::{self, known::Known};
use crate::datacenters::Datacenters;
use crate::failure::Failure;
use crate::secrets;
use crate::zone_keys::{self, ZoneKeys};

/// An edge, an agent, a name server or a renewer answers from memory or a few files; one that does not within this time is not well.
const EDGE_PATIENCE: Duration = Duration::from_secs(3);

/// What applications were refused is good to know, and nothing to wait for.
const OUTGOING_PATIENCE: Duration = Duration::from_secs(3);

/// All answers.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The supervisor's; `None` when none runs.
    pub(crate) supervisor: Option<SupervisorStatus>,
    /// The edges', or why there is none.
    pub(crate) edges: BTreeMap<EdgeName, Result<EdgeStatus, String>>,
    /// The agents' of those edges that have one beside them, or why there is none.
    pub(crate) agents: BTreeMap<EdgeName, Result<AgentStatus, String>>,
    /// The name servers', likewise.
    pub(crate) name_servers: BTreeMap<EdgeName, Result<NameServerStatus, String>>,
    /// The renewers', likewise.
    pub(crate) renewers: BTreeMap<EdgeName, Result<RenewerStatus, String>>,
    /// The hosts' own, or why they cannot be asked.
    pub(crate) hosts: BTreeMap<EdgeName, Result<HostSeen, Away>>,
    /// The hosts that are evacuated on purpose.
    pub(crate) evacuated: BTreeMap<EdgeName, Evacuation>,
    /// The certificates that lie ready.
    pub(crate) certificates: BTreeMap<EdgeName, LeafFacts>,
    /// What is known of those of public authorities.
    pub(crate) public: Known,
    /// Whether somebody has shown that the words of the root seed are kept; `None` when there is no root seed.
    pub(crate) words_seen: Option<bool>,
    /// What is proven to be backed up, and what failed since.
    pub(crate) backups: Record,
    /// What is known of the archive's copies.
    pub(crate) copies: Copies,
    /// What is decided of data centers beside the stack file.
    pub(crate) decided: Datacenters,
    /// How far zones are whose keys are exchanged.
    pub(crate) zone_keys: ZoneKeys,
    /// What applications tried to reach and were refused; of those on hosts see [`refused_on_hosts`].
    pub(crate) outgoing: BTreeMap<SiteName, Vec<Refused>>,
}

/// What a host says of what is on it.
#[derive(Debug)]
pub(crate) struct HostSeen {
    /// What its units use.
    pub(crate) usage: Usage,
    /// Its applications, or why they cannot be seen.
    pub(crate) instances: Result<Seen, Away>,
}

/// Somebody who does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Away {
    /// What was heard instead.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

impl From<IncusEngineError> for Away {
    fn from(error: IncusEngineError) -> Self {
        // Whose host it is is said anyway.
        if let IncusEngineError::Host { source, .. } = error {
            let failure = Failure::from(*source);
            return Self { why: failure.chain().join(": "), help: failure.help() };
        }
        let failure = Failure::from(error);
        Self { why: failure.chain().join(": "), help: failure.help() }
    }
}

/// Asks everybody.
///
/// # Errors
/// When a supervisor runs and does not answer, or a certificate's facts or what was decided cannot be read.
pub(crate) async fn gather(stack: &Stack, state: &StateFolder, reach: &Reach) -> Result<Gathered, Failure> {
    let client = Client::of(state.clone());
    let names: Vec<EdgeName> = stack.datacenters.values().flat_map(Datacenter::edges).collect();
    let (there, here): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.host.is_some());
    let asked =
        here.iter().map(async |name| ((*name).clone(), ask_edge(&state.edge(&name.datacenter).control()).await));
    let looked = there.iter().map(async |name| ((*name).clone(), look(stack, reach, name).await));
    let (asked, looked, supervisor) = tokio::join!(join_all(asked), join_all(looked), client.status());
    let (mut edges, mut hosts): (BTreeMap<_, _>, BTreeMap<_, _>) = (asked.into_iter().collect(), BTreeMap::new());
    let (mut agents, mut name_servers, mut renewers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, Looked { edge, agent, name_server, renewer, host }) in looked {
        edges.insert(name.clone(), edge);
        agents.extend(agent.map(|agent| (name.clone(), agent)));
        name_servers.extend(name_server.map(|name_server| (name.clone(), name_server)));
        renewers.extend(renewer.map(|renewer| (name.clone(), renewer)));
        hosts.insert(name, host);
    }
    let evacuated = evacuated(reach).await;
    let mut issued = BTreeMap::new();
    for name in names {
        let (chain, key) = state.certificate(&name);
        if let Some(facts) = LeafFacts::read(&chain, &key)? {
            issued.insert(name, facts);
        }
    }
    let ghosts = stack.sites.values().filter(|site| site.app == App::Ghost && site.host(stack).is_none());
    let outgoing = ghosts.filter_map(|site| {
        let refused = outgoing(state.site(&site.primary, &site.name).path()).ok()?;
        Some((site.name.clone(), refused))
    });
    Ok(Gathered {
        supervisor: supervisor?,
        edges,
        agents,
        name_servers,
        renewers,
        hosts,
        evacuated,
        certificates: issued,
        public: Known::look(stack, state, certificates::now()),
        words_seen: secrets::words_seen(stack, state),
        backups: Record::read(state),
        copies: Copies::read(state),
        decided: Datacenters::read(state)?,
        zone_keys: zone_keys::read(state)?.1,
        outgoing: outgoing.collect(),
    })
}

/// What was heard of a host: of its edge, and of the agent, the name server and the renewer where they are to be.
struct Looked {
    edge: Result<EdgeStatus, String>,
    agent: Option<Result<AgentStatus, String>>,
    name_server: Option<Result<NameServerStatus, String>>,
    renewer: Option<Result<RenewerStatus, String>>,
    host: Result<HostSeen, Away>,
}

/// A host, and its daemons. The way there is tried once for all that is asked.
async fn look(stack: &Stack, reach: &Reach, name: &EdgeName) -> Looked {
    let has_agent = stack.agents().any(|agent| agent == *name);
    let has_name_server = stack.name_servers().any(|name_server| name_server == *name);
    let has_renewer = stack.renewers().any(|renewer| renewer == *name);
    let link = match reach.link(name).await {
        Ok(link) => link,
        Err(error) => {
            let away = Away::from(error);
            return Looked {
                edge: Err(away.why.clone()),
                agent: has_agent.then(|| Err(away.why.clone())),
                name_server: has_name_server.then(|| Err(away.why.clone())),
                renewer: has_renewer.then(|| Err(away.why.clone())),
                host: Err(away),
            };
        }
    };
    let beside = [
        has_agent.then(|| name.agent()),
        has_name_server.then(|| name.name_server()),
        has_renewer.then(|| name.renewer()),
    ];
    let units: Vec<_> = std::iter::once(name.unit()).chain(beside.into_iter().flatten()).collect();
    let agent = async { if has_agent { Some(ask(&link.agent).await) } else { None } };
    let name_server = async { if has_name_server { Some(ask(&link.name_server).await) } else { None } };
    let renewer = async { if has_renewer { Some(ask(&link.renewer).await) } else { None } };
    let asked = (ask_edge(&link.control), link.usage(&stack.name, &units), link.look(&stack.name));
    let (edge, agent, name_server, renewer, usage, instances) =
        tokio::join!(asked.0, agent, name_server, renewer, asked.1, asked.2);
    let seen = usage.map(|usage| HostSeen { usage, instances: instances.map_err(Away::from) });
    Looked { edge, agent, name_server, renewer, host: seen.map_err(Away::from) }
}

/// What applications on hosts tried to reach and were refused, of those that can say so in a moment.
pub(crate) async fn refused_on_hosts(
    stack: &Stack,
    reach: &Reach,
    gathered: &Gathered,
) -> BTreeMap<SiteName, Vec<Refused>> {
    let ghosts = stack.sites.values().filter(|site| site.app == App::Ghost);
    let read = ghosts.filter_map(|site| {
        let place = site.place(stack);
        let instances = gathered.hosts.get(&place)?.as_ref().ok()?.instances.as_ref().ok()?;
        let runs = instances.units.get(&ghost_unit(site, &site.primary).ok()?)?;
        let instance = &runs.current.as_ref()?.instance;
        Some(async move {
            let read = async {
                let incus = reach.link(&place).await.ok()?.incus().await.ok()?;
                match incus.pull_file(instance, Path::new(OUTGOING_LOG), LARGEST_LOG as usize).await {
                    Ok(log) => Some(refused_in(&log.content)),
                    Err(error) => error.is_not_found().then(Vec::new),
                }
            };
            Some((site.name.clone(), timeout(OUTGOING_PATIENCE, read).await.ok()??))
        })
    });
    join_all(read).await.into_iter().flatten().collect()
}

/// The edge behind a control socket.
///
/// # Errors
/// A sentence that says why it did not answer.
pub(crate) async fn ask_edge(socket: &Path) -> Result<EdgeStatus, String> {
    ask(socket).await
}

/// The daemon behind a control socket.
///
/// # Errors
/// As [`ask_edge`].
pub(crate) async fn ask<S: DeserializeOwned>(socket: &Path) -> Result<S, String> {
    let answer = request_async(socket, &Request::new("status"), EDGE_PATIENCE)
        .await
        .map_err(|error| if error.nobody_listens() { "it does not run".to_owned() } else { error.to_string() })?;
    serde_json::from_value(answer).map_err(|error| format!("its answer cannot be understood: {error}"))
}
