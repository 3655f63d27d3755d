//! What daemons are started with, by one another.

use std::path::PathBuf;

use clap::Args;
use sovereign_engine::embedded::Part;

/// `agent`, and what all have.
#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// The signed configuration file
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// The Ed25519 key that must have signed it, 64 hex digits
    #[arg(long)]
    pub(crate) trust: String,
    /// Where to make the control socket
    #[arg(long)]
    pub(crate) control: PathBuf,
}

/// `edge`.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// Where to make the socket of the renewer beside it, if there is one
    #[arg(long)]
    pub(crate) renewal: Option<PathBuf>,
}

/// `renewer`.
#[derive(Debug, Args)]
pub(crate) struct RenewerArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// The socket of the edge beside it
    #[arg(long)]
    pub(crate) edge: PathBuf,
    /// That of the name server
    #[arg(long)]
    pub(crate) name_server: PathBuf,
}

/// `name-server`.
#[derive(Debug, Args)]
pub(crate) struct NameServerArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// The control socket of the agent beside it, if there is one
    #[arg(long)]
    pub(crate) agent: Option<PathBuf>,
    /// Where to make the socket of the renewer beside it, if there is one
    #[arg(long)]
    pub(crate) renewal: Option<PathBuf>,
}

/// `supervise`. The state folder is named by `--state`.
#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The part this process plays: `keeper`, `supervisor` or `relief`
    #[arg(long, default_value = "keeper")]
    pub(crate) part: Part,
}
