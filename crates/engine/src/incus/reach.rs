//! The hosts of a stack, each reached once: a connection over SSH, through which its Incus and its edge are asked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sovereign_hosts::evacuation::Evacuation;
use sovereign_hosts::{Connection, Login, SshError};
use sovereign_incus::{Client, Dial, Dialing, IncusError, InstanceName, MemberName, Patience, ProjectName, UnixSocket};
use sovereign_model::instance::InstanceSpec;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::Site;
use sovereign_model::{EdgeName, Stack, StackName, UnitName};
use sovereign_services::ghost::{self, Operator};
use tokio::sync::OnceCell;

use super::IncusEngineError;
use super::door::IncusDoor;
use super::instances::{Audited, Instances, Seen};
use super::newcomer::Newcomer;
use crate::causes;

/// Where Debian's package has the socket of Incus.
const SOCKET: &str = "/var/lib/incus/unix.socket";

/// The project that a host was made ready with, for all that is the stack's.
pub const PROJECT: &str = "sovereign";

/// Connecting, over a slow line too. A host that is off is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The hosts of a stack. Nothing is opened before it is needed, and what was opened is kept.
#[derive(Debug)]
pub struct Reach {
    hosts: BTreeMap<EdgeName, (Login, OnceCell<Link>)>,
    /// Hosts on which nothing is done in this run, and why.
    left_out: Mutex<BTreeMap<EdgeName, String>>,
    /// What this machine remembers of hosts that it evacuated.
    evacuated: BTreeMap<EdgeName, Evacuation>,
    sockets: PathBuf,
    state: StateFolder,
}

impl Reach {
    /// Hosts by their edges, and how each is logged in to. Sockets lie below `sockets`, which should have a short name.
    /// `state` is the stack's state folder on every host.
    pub fn new(hosts: impl IntoIterator<Item = (EdgeName, Login)>, sockets: PathBuf, state: StateFolder) -> Self {
        let hosts = hosts.into_iter().map(|(edge, login)| (edge, (login, OnceCell::new()))).collect();
        Self { hosts, left_out: Mutex::default(), evacuated: BTreeMap::new(), sockets, state }
    }

    /// The same, with what this machine remembers of hosts that it evacuated: one that is switched off does not say it.
    #[must_use]
    pub fn with_evacuated(self, evacuated: BTreeMap<EdgeName, Evacuation>) -> Self {
        Self { evacuated, ..self }
    }

    /// What this machine remembers of a host that it evacuated.
    pub fn remembered(&self, edge: &EdgeName) -> Option<&Evacuation> {
        self.evacuated.get(edge)
    }

    /// All hosts.
    pub fn edges(&self) -> impl Iterator<Item = &EdgeName> {
        self.hosts.keys()
    }

    /// The way to a host, which is opened the first time.
    ///
    /// # Errors
    /// When the host does not let us in, was left out, or there is no such host.
    pub async fn link(&self, edge: &EdgeName) -> Result<&Link, IncusEngineError> {
        if let Some(why) = self.left_out.lock().unwrap_or_else(PoisonError::into_inner).get(edge) {
            return Err(IncusEngineError::LeftOut { host: edge.clone(), why: why.clone() });
        }
        let (login, link) = self.hosts.get(edge).ok_or_else(|| IncusEngineError::NoHost { host: edge.clone() })?;
        let failed = |source| IncusEngineError::Host { host: edge.clone(), source: Box::new(source) };
        link.get_or_try_init(|| Link::open(edge, login.clone(), &self.sockets, &self.state)).await.map_err(failed)
    }

    /// A second connection to a host: somebody who comes in anew.
    ///
    /// # Errors
    /// As [`Reach::link`].
    pub async fn newcomer(&self, edge: &EdgeName) -> Result<Connection, IncusEngineError> {
        let (login, _) = self.hosts.get(edge).ok_or_else(|| IncusEngineError::NoHost { host: edge.clone() })?;
        let failed = |source| IncusEngineError::Host { host: edge.clone(), source: Box::new(source) };
        Connection::open(login.clone(), &self.sockets, PATIENCE).await.map_err(failed)
    }

    /// The way to a host, if it was opened: to one that was left out since, too.
    pub fn opened(&self, edge: &EdgeName) -> Option<&Link> {
        self.hosts.get(edge)?.1.get()
    }

    /// The operator's door of the Ghost of a site that is on a host.
    ///
    /// # Errors
    /// When the host is not reached, or no Ghost runs there.
    pub async fn operator(&self, stack: &Stack, site: &Site) -> Result<Operator, IncusEngineError> {
        let place = site.place(stack);
        let link = self.link(&place).await?;
        let undeclared = |_| IncusEngineError::Undeclared { what: format!("site {}", site.name) };
        let unit = ghost::ghost_unit(site, &site.primary).map_err(undeclared)?;
        let (client, instance) = link.instance(&stack.name, &unit).await?;
        Ok(Operator::through(Arc::new(IncusDoor::new(client.clone(), instance))))
    }

    /// Leaves a host out from now on: it is not asked any more, even if it would answer.
    pub fn leave_out(&self, edge: &EdgeName, why: &IncusEngineError) {
        let why = match why {
            IncusEngineError::Host { source, .. } => causes::with_causes(source),
            other => causes::with_causes(other),
        };
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(edge.clone(), why);
    }

    /// How much was asked of each host so far, of those to which there is a connection.
    pub fn asked(&self) -> BTreeMap<EdgeName, Asked> {
        let links = self.hosts.iter().filter_map(|(edge, (_, link))| Some((edge, link.get()?)));
        links.map(|(edge, link)| (edge.clone(), link.asked())).collect()
    }

    /// Ends all connections.
    pub async fn close(self) {
        for (_, link) in self.hosts.into_values() {
            if let Some(link) = link.into_inner() {
                link.connection.close().await;
            }
        }
    }
}

/// How much was asked of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Commands over SSH.
    pub commands: u64,
    /// Requests to its Incus.
    pub requests: u64,
}

/// The way to one host.
#[derive(Debug)]
pub struct Link {
    /// Commands and files.
    pub connection: Connection,
    /// The control socket of its edge, brought here.
    pub control: PathBuf,
    /// The control socket of the agent beside it, brought here.
    pub agent: PathBuf,
    /// That of the name server, likewise.
    pub name_server: PathBuf,
    /// That of the renewer, likewise.
    pub renewer: PathBuf,
    /// The edge of the host.
    pub(super) edge: EdgeName,
    incus: Arc<dyn Dial>,
    client: OnceCell<(Client, Option<MemberName>)>,
}

impl Link {
    async fn open(edge: &EdgeName, login: Login, sockets: &Path, state: &StateFolder) -> Result<Self, SshError> {
        let connection = Connection::open(login, sockets, PATIENCE).await?;
        let control = connection.forward(&state.edge(&edge.datacenter).control()).await?;
        let agent = connection.forward(&state.agent(&edge.datacenter).control()).await?;
        let name_server = connection.forward(&state.name_server(&edge.datacenter).control()).await?;
        let renewer = connection.forward(&state.renewer(&edge.datacenter).control()).await?;
        let incus = incus_of(&connection, edge).await?;
        Ok(Self {
            connection,
            control,
            agent,
            name_server,
            renewer,
            edge: edge.clone(),
            incus,
            client: OnceCell::new(),
        })
    }

    fn asked(&self) -> Asked {
        let requests = self.client.get().map_or(0, |(client, _)| client.requests());
        Asked { commands: self.connection.commands(), requests }
    }

    /// The host's Incus, in the project of the stack.
    ///
    /// # Errors
    /// When it does not answer, or cannot do what is asked of it.
    pub async fn incus(&self) -> Result<&Client, IncusError> {
        self.member().await.map(|(client, _)| client)
    }

    pub(super) async fn member(&self) -> Result<&(Client, Option<MemberName>), IncusError> {
        let connect = async {
            let client = Client::connect(Arc::clone(&self.incus), Patience::default(), &[]).await?;
            let member = client.server().await?.member();
            let project = PROJECT.parse::<ProjectName>().expect("a name without anything special in it");
            Ok((client.in_project(project), member))
        };
        self.client.get_or_try_init(|| connect).await
    }

    /// The instances of a stack on the host.
    ///
    /// # Errors
    /// As [`Link::incus`].
    pub async fn instances<'l>(&'l self, stack: &'l StackName) -> Result<Instances<'l, Connection>, IncusError> {
        let (client, member) = self.member().await?;
        Ok(Instances::new(client, &self.connection, stack, member.clone()))
    }

    /// The instance of a unit that others are to use, and the Incus that it is in.
    ///
    /// # Errors
    /// When its Incus does not answer, or has no such instance.
    pub async fn instance(
        &self,
        stack: &StackName,
        unit: &UnitName,
    ) -> Result<(&Client, InstanceName), IncusEngineError> {
        let host = || self.edge.clone();
        let incus = |source| IncusEngineError::Incus { host: host(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: host(), source: Box::new(source) };
        let current = self.instances(stack).await.map_err(incus)?.current(unit).await.map_err(failed)?;
        let instance = current.ok_or_else(|| IncusEngineError::NotThere { unit: unit.clone(), host: host() })?;
        Ok((self.incus().await.map_err(incus)?, instance))
    }

    /// The same, as data comes to it; `None` where there is no such instance.
    ///
    /// # Errors
    /// When its Incus does not answer.
    pub async fn newcomer(&self, stack: &StackName, unit: &UnitName) -> Result<Option<Newcomer>, IncusEngineError> {
        match self.instance(stack, unit).await {
            Ok((client, instance)) => Ok(Some(Newcomer { client: client.clone(), instance, edge: self.edge.clone() })),
            Err(IncusEngineError::NotThere { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What instances of a stack there are on the host, and how they are.
    ///
    /// # Errors
    /// When its Incus does not answer, or says what cannot be understood.
    pub async fn look(&self, stack: &StackName) -> Result<Seen, IncusEngineError> {
        let incus = |source| IncusEngineError::Incus { host: self.edge.clone(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: self.edge.clone(), source: Box::new(source) };
        self.instances(stack).await.map_err(incus)?.look().await.map_err(failed)
    }

    /// What of the host's Incus is not as `wanted` says.
    ///
    /// # Errors
    /// As [`Link::look`].
    pub async fn audit(&self, stack: &StackName, wanted: &[&InstanceSpec]) -> Result<Audited, IncusEngineError> {
        let incus = |source| IncusEngineError::Incus { host: self.edge.clone(), source: Box::new(source) };
        let failed = |source| IncusEngineError::Instances { host: self.edge.clone(), source: Box::new(source) };
        self.instances(stack).await.map_err(incus)?.audit(wanted).await.map_err(failed)
    }
}

/// The way to the Incus of a host: its socket, brought here by a connection to the host.
///
/// # Errors
/// When the connection has ended.
pub async fn incus_of(connection: &Connection, edge: &EdgeName) -> Result<Arc<dyn Dial>, SshError> {
    let here = UnixSocket::new(connection.forward(Path::new(SOCKET)).await?);
    Ok(Arc::new(Forwarded { here, edge: edge.clone() }))
}

/// A socket of this machine that leads to a host's Incus.
#[derive(Debug)]
struct Forwarded {
    here: UnixSocket,
    edge: EdgeName,
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Incus of {}", self.edge)
    }
}

impl Dial for Forwarded {
    fn dial(&self) -> Dialing<'_> {
        self.here.dial()
    }
}
