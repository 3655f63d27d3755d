//! The life of the name server's process: it asks the agent who is counted on, and has Knot answer so.
//!
//! ```text
//!  agent ──status, each second──▶ Seen ─▶ World ─▶ Driver ─▶ Knot, a child of this process
//!  Debian's geoip files ──when they change──▶ table ──┘
//!  certificate's owner ──challenge──▶ Challenges ──────┘
//! ```
//!
//! | command | answer |
//! |---|---|
//! | `status` | [`NameServerStatus`] |
//! | `challenge` | with `{"set": {"www.example.org": ["text"]}}`: what is published for certificate authorities, in place of all that was before; answered once Knot serves it. With `of`, a name, of that asker alone |
//!
//! A second socket, where one is wanted, answers `challenge` with `of` and nothing else: for the renewer beside it.
//!
//! | module | what it does |
//! |---|---|
//! | `keeper` | the loop: from what is known to what Knot serves; starts it again when it dies |
//! | `control` | answers on the control socket |
//! | `room` | a folder of Knot's for each process, and what dead ones left |
//! | `tables` | makes the table of addresses anew when Debian's files change |
//!
//! Promise: it starts whole or not at all, and is ready when Knot has all zones. A Knot that dies is started again at once,
//! one that hangs within half a minute.
//! What Knot refuses leaves what is served in place. Two may run beside each other, on the same addresses: the new one
//! answers before the old one stops.
//!
//! Silence: when nothing of its own data center lives and another does, Knot is stopped. Resolvers are refused by the
//! machine at once and ask the other name servers, instead of being led by one that may not hear of anything any more.

mod control;
mod keeper;
mod room;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_config::{NameServerConfig, PROTOCOL};
#[cfg(doc)]
use sovereign_model::name_server_status::NameServerStatus;
use sovereign_model::{Digest, DnsName};
use sovereign_runtime::VerifyingKey;
use sovereign_runtime::control::Server;
use sovereign_runtime::lifecycle::{Drained, Lifecycle, Readiness};
use sovereign_runtime::loaded::{LoadError, load};
use sovereign_runtime::socket::SocketError;
use tracing::{info, warn};

use self::control::{Control, Renewal, Shared};
use self::keeper::Keeper;
use self::room::{Room, RoomError};
use self::tables::Tables;
use crate::geography::nearest::Orders;
use crate::knot::DriverError;
use crate::knot::driver::{self, Driver, Key};

/// Knot is told to stop, and killed after five seconds.
const GRACE: Duration = Duration::from_secs(8);

/// What a name server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The signed configuration file.
    pub config: PathBuf,
    /// Whose signature is believed.
    pub trust: VerifyingKey,
    /// Where the control socket is to be; it is taken over from a process that has it.
    pub control: PathBuf,
    /// Where the socket of the renewer beside it is to be, likewise; `None` where there is no renewer.
    pub renewal: Option<PathBuf>,
    /// The control socket of the agent beside it; `None` where there is no other data center, and so no agent.
    pub agent: Option<PathBuf>,
    /// The files with the countries of addresses, IPv4 and IPv6.
    pub geography: [PathBuf; 2],
    /// The program that is Knot, and its arguments.
    pub knot: Vec<String>,
}

/// Why the name server does not start.
#[derive(Debug, thiserror::Error)]
pub enum NameServerError {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// There is no folder for Knot.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// Knot does not serve what it should.
    #[error(transparent)]
    Knot(#[from] DriverError),
    /// The control socket cannot be bound.
    #[error("the control socket cannot be opened")]
    Control(#[source] SocketError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

impl NameServerError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Config(source) => source.help(),
            Self::Knot(source) => source.help(),
            Self::Control(source) => source.help(),
            Self::Room(_) | Self::Signals(_) => None,
        }
    }
}

/// Runs a name server until it is told to stop.
///
/// # Errors
/// When its configuration or its control socket cannot be used, or Knot does not serve.
pub async fn run(options: Options) -> Result<Drained, NameServerError> {
    serve(options, Lifecycle::new(GRACE)).await
}

/// Runs a name server for as long as `lifecycle` lasts. Signals end it too.
///
/// # Errors
/// As [`run`].
pub async fn serve(options: Options, lifecycle: Lifecycle) -> Result<Drained, NameServerError> {
    let (config, signed): (NameServerConfig, String) =
        load(&options.config, &options.trust, PROTOCOL, "a name server")?;
    let digest = Digest::of(&signed);
    info!(name_server = %config.edge(), domains = config.names.domains.len(), "the name server starts");
    let folder = NameServerFolder::new(&config.folder);
    let room = Room::take(&folder.knot())?;
    let mut keys: BTreeMap<DnsName, Vec<Key>> = BTreeMap::new();
    for (domain, tag) in config.keys.iter().chain(&config.coming_keys) {
        let key = Key { tag: *tag, file: folder.key(domain, *tag) };
        keys.entry(domain.clone()).or_default().push(key);
    }
    let driver = Driver::new(driver::Options { folder: room.path().to_owned(), keys, program: options.knot });
    let orders = Arc::new(Orders::new(&config.names));
    let tables = Tables::new(options.geography, room.path(), orders.clone());
    let (shared, wishes) = Shared::new(config, digest, driver.ask(), lifecycle.clone());
    let mut keeper = Keeper::new(shared.clone(), driver, room, orders, options.agent, wishes);

    // Told to stop while it begins, it drops what it has begun, and Knot with it.
    let living = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move { lifecycle.run().await }
    });
    let begun = lifecycle.stopping().run_until_cancelled(keeper.begin(tables)).await;
    match begun {
        Some(Ok(())) => {
            let control = Server::take_over(&options.control).map_err(NameServerError::Control)?;
            let renewal = Server::share(options.renewal.as_deref(), Renewal(shared.clone()), &lifecycle);
            let renewal = renewal.map_err(NameServerError::Control)?;
            let controlled = tokio::spawn({
                let lifecycle = lifecycle.clone();
                async move { control.serve(Arc::new(Control(shared)), &lifecycle).await }
            });
            lifecycle.spawn(keeper.keep());
            if let Err(error) = Readiness::from_env().ready() {
                warn!(%error, "whoever waits for this process cannot be told that it answers");
            }
            let drained = lived(living).await?;
            // Removes the control sockets' names, if they still are ours.
            let _ = tokio::join!(controlled, renewal);
            Ok(drained)
        }
        Some(Err(error)) => Err(error.into()),
        None => lived(living).await,
    }
}

async fn lived(living: tokio::task::JoinHandle<std::io::Result<Drained>>) -> Result<Drained, NameServerError> {
    let lived = living.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    lived.map_err(NameServerError::Signals)
}
