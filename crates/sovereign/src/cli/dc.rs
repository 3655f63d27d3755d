//! What can be said about data centers.

use clap::{Args, Subcommand, ValueEnum};
use sovereign_model::DatacenterName;

use super::LeaseArgs;

/// `dc`.
#[derive(Debug, Subcommand)]
pub(crate) enum DcCommand {
    /// Which data centers there are, how they are reached, and what was decided of them
    List,
    /// Take a data center out of all answers of the name servers; it goes on serving whoever comes
    #[command(after_help = DRAIN_HELP)]
    Drain(DcDrainArgs),
    /// Put a data center back into answers
    #[command(after_help = UNDRAIN_HELP)]
    Undrain(DcUndrainArgs),
    /// Leave applications alone while somebody works on them: pages are read, writers are told
    #[command(after_help = MAINTENANCE_HELP)]
    Maintenance(DcMaintenanceArgs),
    /// Have the other data centers knock at every uplink, and print which rules are missing
    #[command(after_help = CHECK_HELP)]
    Check(DcCheckArgs),
}

pub(super) const HELP: &str = "\
Examples:
  sovereign dc list
  sovereign dc drain office
  sovereign dc maintenance on home
  sovereign dc check";

/// `dc check`.
#[derive(Debug, Args)]
pub(crate) struct DcCheckArgs {
    /// The data center that is knocked at [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) datacenter: Option<DatacenterName>,
}

const CHECK_HELP: &str = "\
Agents of the other data centers try HTTPS, plain HTTP where it is declared, and DNS over UDP and
TCP, at every address that is known. What cannot be told from outside is not concluded. Exit code 3
when something is closed, or could not be tried.

Examples:
  sovereign dc check
  sovereign dc check home --json";

/// `dc drain`.
#[derive(Debug, Args)]
pub(crate) struct DcDrainArgs {
    /// The data center
    #[arg(value_name = "NAME")]
    pub(crate) datacenter: DatacenterName,
    /// Also when some site would have nobody else to serve it: it stays in that site's answers then
    #[arg(long)]
    pub(crate) force: bool,
    /// Answers whether the lease may be taken from another run
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const DRAIN_HELP: &str = "\
Every name server that answers is told at once, wherever it is; `up` tells the others. No request
fails: what resolvers remember lives for half a minute, and the edges there serve everybody as
before. `plan`, `up` and `status` keep to it until `sovereign dc undrain`. Exit code 3 when a name
server could not be told.

Examples:
  sovereign dc drain office
  sovereign dc drain office --json";

/// `dc undrain`.
#[derive(Debug, Args)]
pub(crate) struct DcUndrainArgs {
    /// The data center
    #[arg(value_name = "NAME")]
    pub(crate) datacenter: DatacenterName,
    /// Answers whether the lease may be taken from another run
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const UNDRAIN_HELP: &str = "\
It is named again where its addresses answer. Exit code 3 when a name server could not be told.

Example:
  sovereign dc undrain office";

/// Whether it begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    // It begins.
    On,
    // It ends.
    Off,
}

/// `dc maintenance`.
#[derive(Debug, Args)]
pub(crate) struct DcMaintenanceArgs {
    /// Whether it begins or ends
    #[arg(value_name = "on|off", hide_possible_values = true)]
    pub(crate) switch: Switch,
    /// The data center whose applications are meant [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) datacenter: Option<DatacenterName>,
    /// Answers whether the lease may be taken from another run
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const MAINTENANCE_HELP: &str = "\
Concerns the sites that are written there. Their edges, at all data centers, serve every page that
they keep and ask the applications for nothing. Whoever needs an application (to write, to sign in,
for a page that is not kept) gets a page that says so, with 503 and Retry-After. It outlives
restarts of edges. Exit code 3 when an edge could not be told.

Examples:
  sovereign dc maintenance on home
  sovereign dc maintenance off";
