//! The life of the edge process, from its socket to the end of its drain.

use std::fs::{self, File};
use std::io;
use std::net;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::control::Server;
use sovereign_runtime::lifecycle::{Drained, Lifecycle, Readiness};
use sovereign_runtime::socket::SocketError;
use sovereign_runtime::sockets::{self, SocketsError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::commands::{Control, Renewal};
use crate::edge::Edge;
use crate::generation::{ConfigError, Generation};
use crate::plain;
use crate::scrape;
use crate::serve::accept;
use crate::store::{Limits, Store, StoreError};
use crate::threads::Threads;
use crate::tls::{self, CredentialError};

/// The name of the listening sockets that are passed to an edge, for readers and peers.
pub const SOCKET: &str = "https";
/// The name of those where readers come over plain HTTP and are pointed to HTTPS.
pub const PLAIN_SOCKET: &str = "http";
/// The name of those where Prometheus asks for figures, over plain HTTP.
pub const METRICS_SOCKET: &str = "metrics";
/// A drain lasts at most this long: an upload of some megabytes over a slow line, a page that Ghost renders under load.
const GRACE: Duration = Duration::from_secs(20);
/// How often a process that does not own the store tries to.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What an edge is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The signed configuration file.
    pub config: PathBuf,
    /// Whose signature is believed.
    pub trust: VerifyingKey,
    /// Where the control socket is to be; it is taken over from a process that has it.
    pub control: PathBuf,
    /// Where the socket of the renewer beside it is to be, likewise; `None` where there is none.
    pub renewal: Option<PathBuf>,
}

/// Why the edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The listening socket was not passed, or is something else.
    #[error("no listening socket named {SOCKET:?} was passed")]
    Socket(#[source] SocketsError),
    /// The listening socket cannot be used.
    #[error("the listening socket cannot be used")]
    Listener(#[source] io::Error),
    /// The configuration is refused.
    #[error("the configuration cannot be served")]
    Config(#[source] ConfigError),
    /// The keys for session tickets cannot be made.
    #[error("TLS cannot be set up")]
    Tls(#[source] CredentialError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[source] StoreError),
    /// The control socket cannot be bound.
    #[error("the control socket cannot be opened")]
    Control(#[source] SocketError),
    /// The system gave no threads.
    #[error("the threads that serve connections cannot be started")]
    Threads(#[source] io::Error),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

impl EdgeError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Socket(source) => source.help(),
            Self::Config(source) => source.help(),
            Self::Tls(source) => source.help(),
            Self::Store(source) => source.help(),
            Self::Control(source) => source.help(),
            Self::Listener(_) | Self::Threads(_) | Self::Signals(_) => None,
        }
    }
}

/// The sockets an edge listens on.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For readers and peers: TLS, or what a proxy in front speaks.
    pub https: Vec<net::TcpListener>,
    /// For readers who come over plain HTTP and are pointed to HTTPS.
    pub http: Vec<net::TcpListener>,
    /// For Prometheus, on this machine.
    pub metrics: Vec<net::TcpListener>,
}

impl Listeners {
    /// Those that were passed to this process.
    fn passed() -> Result<Self, SocketsError> {
        let mut https = vec![sockets::take_listener(SOCKET)?];
        https.extend(sockets::take_listeners(SOCKET)?);
        let [http, metrics] = [PLAIN_SOCKET, METRICS_SOCKET].map(sockets::take_listeners);
        Ok(Self { https, http: http?, metrics: metrics? })
    }
}

/// Runs an edge on the sockets it was passed, until it is told to stop and has drained.
pub async fn run(options: Options) -> Result<Drained, EdgeError> {
    let listeners = Listeners::passed().map_err(EdgeError::Socket)?;
    raise_descriptor_limit();
    serve(options, listeners, Lifecycle::new(GRACE)).await
}

/// Every connection is a descriptor, and the usual soft limit of 1024 is meant for programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        warn!(%error, limit = limit.current, "the number of connections stays bounded by the limit on descriptors");
    }
}

/// Runs an edge on `listeners` for as long as `lifecycle` lasts. Signals end it too.
pub async fn serve(options: Options, listeners: Listeners, lifecycle: Lifecycle) -> Result<Drained, EdgeError> {
    let asynchronous = |listeners: Vec<net::TcpListener>| {
        let each = listeners.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        each.collect::<io::Result<Vec<_>>>().map_err(EdgeError::Listener)
    };
    let (https, http) = (asynchronous(listeners.https)?, asynchronous(listeners.http)?);
    let metrics = asynchronous(listeners.metrics)?;
    let tickets = tls::ticket_maker().map_err(EdgeError::Tls)?;
    let generation =
        Generation::load(&options.config, &options.trust, None, tickets.clone()).map_err(EdgeError::Config)?;
    let folder = generation.config.store.clone();
    let store = Store::open(&folder, Limits::of_this_machine()).map_err(EdgeError::Store)?;
    let kept = store.opened().kept;
    info!(edge = %generation.config.edge(), generation = generation.number, kept, "the edge starts");
    let edge = Edge::new(options.config, options.trust, tickets, generation, Arc::new(store), lifecycle.clone());
    let threads = Arc::new(Threads::start().map_err(EdgeError::Threads)?);
    let control = Server::take_over(&options.control).map_err(EdgeError::Control)?;
    let renewal = Server::share(options.renewal.as_deref(), Renewal(edge.clone()), &lifecycle);
    let renewal = renewal.map_err(EdgeError::Control)?;
    let commands = Arc::new(Control(edge.clone()));
    let controlled = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move { control.serve(commands, &lifecycle).await }
    });
    let mut accepting = JoinSet::new();
    for listener in https {
        accepting.spawn(accept(listener, edge.clone(), threads.clone()));
    }
    for listener in http {
        tokio::spawn(plain::accept(listener, edge.clone()));
    }
    tokio::spawn(own_store(edge.clone(), folder, metrics));
    if let Err(error) = Readiness::from_env().ready() {
        warn!(%error, "whoever waits for this process cannot be told that it serves");
    }
    let drained = lifecycle.run().await.map_err(EdgeError::Signals)?;
    // They have ended: no new connections are taken since the drain began.
    accepting.join_all().await;
    if let Some(threads) = Arc::into_inner(threads) {
        threads.end().await;
    }
    edge.access.flush().await;
    // Removes the control sockets' names, if they still are ours.
    let _ = tokio::join!(controlled, renewal);
    Ok(drained)
}

/// Owns the store, and tells figures on `metrics`, from when no other process does until this one is told to stop.
async fn own_store(edge: Arc<Edge>, folder: PathBuf, mut metrics: Vec<TcpListener>) {
    let mut tell_figures = || {
        for listener in metrics.drain(..) {
            tokio::spawn(scrape::accept(listener, edge.clone()));
        }
    };
    let stopping = edge.lifecycle().stopping();
    let mut waited = false;
    let lock = loop {
        match try_lock(&folder) {
            Ok(Some(lock)) => break lock,
            Ok(None) if !waited => {
                info!("another process owns the store: served from it, not written to it, until that one stops");
                waited = true;
            }
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "the store cannot be locked");
                // Nobody can own it then, and somebody must tell.
                tell_figures();
            }
        }
        if stopping.run_until_cancelled(tokio::time::sleep(TRY_AGAIN)).await.is_none() {
            return;
        }
    };
    tell_figures();
    edge.take_ownership();
    stopping.cancelled().await;
    drop(lock);
}

fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("owner.lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
