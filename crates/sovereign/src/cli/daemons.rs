//! What daemons are started with, by one another.

use std::path::PathBuf;

use clap::Args;
use sovereign_engine::embedded::Part;

/// `edge`, `agent`.
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

/// `name-server`.
#[derive(Debug, Args)]
pub(crate) struct NameServerArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// The control socket of the agent beside it, if there is one
    #[arg(long)]
    pub(crate) agent: Option<PathBuf>,
}

/// `supervise`. The state folder is named by `--state`.
#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The part this process plays: `keeper`, `supervisor` or `relief`
    #[arg(long, default_value = "keeper")]
    pub(crate) part: Part,
}
