//! The life of a renewer's process: it stands beside the edge and the name server of a host, and renews what that edge shows,
//! while the management machine is away.
//!
//! ```text
//!            each second                             each minute
//!  edge ── words of all ──▶ Words ─▶ name server     edge ── chains ──▶ take over what another has got
//!   ▲ ◀─── its own word ─────┘ ▲                      ▲ ◀─── what it got, with its key
//!   ╰ carried to all others    ╰──── a pass, when its turn has come ────╯
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `words` | says which answers to challenges are to be given, and has its name server give those of everybody |
//! | `work` | looks what the edge shows, gets what is due, hands it over |
//! | `control` | answers `status`, with [`RenewerStatus`] |
//!
//! Promise: the key of a certificate is here from the order on until the edge has it, and then no more. Its account is
//! its own, made when an authority is asked first, and no other renewer's. Nothing that comes from edges is believed: a chain begins from a
//! root of a declared authority, and a word is signed by whom the management machine vouches for. Killed at any moment, the next
//! process goes on with what lies in the folder.
//!
//! Left out: names of sites that the edge beside it does not serve; who serves them renews them.

mod control;
mod words;
mod work;

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use sovereign_model::layout::RenewerFolder;
use sovereign_model::renewer_config::{Asked, PROTOCOL, RenewerConfig};
#[cfg(doc)]
use sovereign_model::renewer_status::RenewerStatus;
use sovereign_model::{AuthorityName, Digest};
use sovereign_runtime::control::Server;
use sovereign_runtime::lifecycle::{Drained, Lifecycle, Readiness};
use sovereign_runtime::loaded::{LoadError, load};
use sovereign_runtime::socket::SocketError;
use sovereign_runtime::{DecodePrivateKey as _, SigningKey, VerifyingKey};
use tokio::time::sleep;
use tracing::{info, warn};

use self::control::Control;
use self::words::Words;
use self::work::Work;
use crate::check::RootsError;
use crate::pass;
use crate::renewer::Renewer;
use crate::session::Access;
use crate::store::StoreError;
use crate::turn::Turn;

/// Nobody is connected to it but who asks for its status; an order goes on with the next process.
const GRACE: Duration = Duration::from_secs(2);
/// A word takes up to two hops of ten seconds to a name server that has no link to this host's edge, and Knot a second; an
/// authority that takes as long to answer is of no use.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a process that is not alone in its folder looks whether it is.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// How often it looks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// At the words of all: an authority waits for what they say.
    pub words: Duration,
    /// At what its edge shows, and whether something is due.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { words: Duration::from_secs(1), look: Duration::from_secs(60) }
    }
}

/// What a renewer is started with.
#[derive(Clone)]
pub struct Options {
    /// The signed configuration file.
    pub config: PathBuf,
    /// Whose signature is believed.
    pub trust: VerifyingKey,
    /// Where the control socket is to be; it is taken over from a process that has it.
    pub control: PathBuf,
    /// The socket of the edge beside it.
    pub edge: PathBuf,
    /// That of the name server.
    pub name_server: PathBuf,
    /// How often it looks.
    pub pace: Pace,
    /// What time it is, as far as it concerns what is due.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Why a renewer does not start.
#[derive(Debug, thiserror::Error)]
pub enum RenewerError {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// Its key is missing, or another one than its configuration says.
    #[error("{} is not the key of this renewer", path.display())]
    Key {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is not known by what to believe an authority.
    #[error("authority {authority} has no roots to be believed by")]
    Roots {
        /// Which.
        authority: AuthorityName,
        /// Why.
        source: RootsError,
    },
    /// Its folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control socket cannot be bound.
    #[error("the control socket cannot be opened")]
    Control(#[source] SocketError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

impl RenewerError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Config(source) => source.help(),
            Self::Key { .. } => Some("`sovereign up` writes it anew".to_owned()),
            Self::Roots { source, .. } => source.help(),
            Self::Store(source) => source.help(),
            Self::Control(source) => source.help(),
            Self::Signals(_) => None,
        }
    }
}

/// Runs a renewer until it is told to stop.
///
/// # Errors
/// When its configuration, its folder or its control socket cannot be used.
pub async fn run(options: Options) -> Result<Drained, RenewerError> {
    serve(options, Lifecycle::new(GRACE)).await
}

/// Runs a renewer for as long as `lifecycle` lasts. Signals end it too.
///
/// # Errors
/// As [`run`].
pub async fn serve(options: Options, lifecycle: Lifecycle) -> Result<Drained, RenewerError> {
    let Options { config, trust, control, edge, name_server, pace, clock } = options;
    let (config, signed): (RenewerConfig, String) = load(&config, &trust, PROTOCOL, "a renewer")?;
    info!(renewer = %config.edge(), names = config.names.len(), before = config.before, "the renewer starts");
    let folder = RenewerFolder::new(&config.folder);
    let key = key_in(&folder.key(&config.key), &config.key)?;
    let access = |Asked { authority, roots }: &Asked| {
        let unusable = |source| RenewerError::Roots { authority: authority.name.clone(), source };
        Access::new(authority.clone(), roots.as_deref()).map_err(unusable)
    };
    let options = pass::Options {
        folder: folder.certificates(),
        authorities: config.authorities.iter().map(access).collect::<Result<_, _>>()?,
        patience: PATIENCE,
        turn: Turn::after(config.before, config.all, clock().into()),
    };
    let words = Words::new(&config, key, &trust, edge.clone(), name_server);
    let renewer = Renewer::new(options, words.clone(), clock)?;
    let work = Arc::new(Work::new(config, renewer, edge, pace.look));

    let server = Server::take_over(&control).map_err(RenewerError::Control)?;
    let controlled = tokio::spawn({
        let control = Control { work: work.clone(), config_digest: Digest::of(&signed), lifecycle: lifecycle.clone() };
        let lifecycle = lifecycle.clone();
        async move { server.serve(Arc::new(control), &lifecycle).await }
    });
    if let Err(error) = Readiness::from_env().ready() {
        warn!(%error, "whoever waits for this process cannot be told that it works");
    }
    let working = async {
        let _alone = alone(&folder).await;
        tokio::join!(words.carry(pace.words), work.go_on())
    };
    // Told to stop, it drops what it has begun.
    let stopping = lifecycle.stopping();
    let (drained, _) = tokio::join!(lifecycle.run(), stopping.run_until_cancelled(working));
    let drained = drained.map_err(RenewerError::Signals)?;
    // Removes the control socket's name, if it still is ours.
    let _ = controlled.await;
    Ok(drained)
}

/// Waits until nobody else works in the folder: the process before this one stops when this one is ready.
async fn alone(folder: &RenewerFolder) -> File {
    let path = folder.certificates().join("lock");
    let mut said = false;
    loop {
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        let locked = file.and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match locked {
            Ok(Some(file)) => return file,
            Ok(None) if !said => info!("another process renews in this folder: this one waits until it stops"),
            Err(error) if !said => warn!(%error, "the folder cannot be locked"),
            _ => {}
        }
        said = true;
        sleep(TRY_AGAIN).await;
    }
}

/// The key in a file, when it is the one with this public part.
fn key_in(path: &Path, public: &str) -> Result<SigningKey, RenewerError> {
    let pem = std::fs::read(path).map(zeroize::Zeroizing::new).ok();
    let der = pem.and_then(|pem| PrivatePkcs8KeyDer::from_pem_slice(&pem).ok());
    let key = der.and_then(|der| SigningKey::from_pkcs8_der(der.secret_pkcs8_der()).ok());
    let key = key.filter(|key| words::hex(key.verifying_key().as_bytes()) == public);
    key.ok_or_else(|| RenewerError::Key { path: path.to_owned() })
}
