//! What can be said about labs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sovereign_lab::{FORWARDED, LabName};

/// `lab`.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make a lab, or go on with one: hosts with a bare Debian, reached over SSH, and a stack file for them
    #[command(after_help = UP_HELP)]
    Up(LabUpArgs),
    /// Show its hosts, and what is broken
    #[command(after_help = STATUS_HELP)]
    Status(LabArgs),
    /// Remove it with everything in it
    #[command(after_help = DOWN_HELP)]
    Down(LabDownArgs),
    /// Let nothing pass between two data centers or hosts, or between one and everybody
    #[command(after_help = CUT_HELP)]
    Cut(LabCutArgs),
    /// Let little pass to and from a data center or host
    #[command(after_help = SLOW_HELP)]
    Slow(LabSlowArgs),
    /// Cut the power of a host, or of a whole data center
    #[command(after_help = KILL_HELP)]
    Kill(LabTargetArgs),
    /// Take a port away from those that a data center's router forwards
    #[command(after_help = CLOSE_HELP)]
    Close(LabCloseArgs),
    /// Give the router of a data center another public address
    #[command(after_help = READDRESS_HELP)]
    Readdress(LabReaddressArgs),
    /// Undo what was broken: at one place, or everywhere
    #[command(after_help = HEAL_HELP)]
    Heal(LabHealArgs),
}

/// Which lab, and where.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// The lab's name: a-z, 0-9 and '-', at most 10 characters
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) name: LabName,
}

/// `lab up`.
#[derive(Debug, Args)]
pub(crate) struct LabUpArgs {
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// How many data centers, up to 8
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub(crate) datacenters: usize,
    /// How many hosts in each, up to 16
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) hosts: usize,
    /// A data center behind a router, which has its address and forwards ports 53, 80 and 443 to its first host
    #[arg(long, value_name = "DATACENTER")]
    pub(crate) forwarded: Vec<String>,
    /// A data center that can only dial out
    #[arg(long, value_name = "DATACENTER")]
    pub(crate) outbound_only: Vec<String>,
    /// What hosts start from, as a tar archive [default: a bare Debian 12, locked and built once for all labs]
    #[arg(long, value_name = "FILE")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Use the network for nothing: the packages of that must be kept, as an earlier lab left them
    #[arg(long, conflicts_with = "rootfs")]
    pub(crate) offline: bool,
    /// The unix socket of the Incus that is used
    #[arg(long, value_name = "SOCKET", default_value = "/var/lib/incus/unix.socket")]
    pub(crate) incus: PathBuf,
}

/// `lab down`.
#[derive(Debug, Args)]
pub(crate) struct LabDownArgs {
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Answer every question with yes
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `lab cut`.
#[derive(Debug, Args)]
pub(crate) struct LabCutArgs {
    /// The one: a data center or a host
    #[arg(value_name = "ONE")]
    pub(crate) one: String,
    /// The other [default: everybody, this machine included]
    #[arg(value_name = "OTHER")]
    pub(crate) other: Option<String>,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// `lab slow`.
#[derive(Debug, Args)]
pub(crate) struct LabSlowArgs {
    /// A data center or a host
    #[arg(value_name = "ONE")]
    pub(crate) one: String,
    /// What passes each way, in kilobytes a second
    #[arg(long, value_name = "KILOBYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: u32,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// `lab kill`.
#[derive(Debug, Args)]
pub(crate) struct LabTargetArgs {
    /// A data center or a host
    #[arg(value_name = "ONE")]
    pub(crate) one: String,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// `lab close`.
#[derive(Debug, Args)]
pub(crate) struct LabCloseArgs {
    /// A data center behind a router that forwards ports
    #[arg(value_name = "DATACENTER")]
    pub(crate) datacenter: String,
    /// The port, by TCP and UDP: 53, 80 or 443
    #[arg(value_name = "PORT", value_parser = forwarded)]
    pub(crate) port: u16,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// A port that routers of labs forward.
fn forwarded(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| FORWARDED.contains(port));
    port.ok_or_else(|| "routers forward 53, 80 and 443".to_owned())
}

/// `lab readdress`.
#[derive(Debug, Args)]
pub(crate) struct LabReaddressArgs {
    /// A data center behind a router
    #[arg(value_name = "DATACENTER")]
    pub(crate) datacenter: String,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

/// `lab heal`.
#[derive(Debug, Args)]
pub(crate) struct LabHealArgs {
    /// A data center or a host [default: everything]
    #[arg(value_name = "ONE")]
    pub(crate) one: Option<String>,
    /// Which lab.
    #[command(flatten)]
    pub(crate) lab: LabArgs,
}

pub(super) const HELP: &str = "\
Hosts are unprivileged containers of an Incus on this machine, which can run an Incus themselves. They have a bare \
Debian and are reached only over SSH, as hosts at a provider are. Data centers are networks that this machine routes \
between. What a lab makes is its own: `lab down` removes all of it, and nothing else.

Examples:
  sovereign lab up --datacenters 2 --hosts 3
  sovereign lab cut home office
  sovereign lab heal
  sovereign lab down";

const UP_HELP: &str = "\
Needs Incus (Debian 12: package incus-base from bookworm-backports), its socket, and OpenSSH's client; mmdebstrap the \
first time. Stopped half-way, it goes on when it is run again. The first data center is called home, the second office; \
their hosts home-1, home-2, and so on.

Examples:
  sovereign lab up                                   # six hosts
  sovereign lab up --name small --datacenters 1 --hosts 2
  sovereign lab up --forwarded home                  # home has a router with address translation
  sovereign --stack ~/.local/share/sovereign/labs/lab/stack.toml check";

const STATUS_HELP: &str = "\
Exit code 0: every host runs and answers. Exit code 3: one does not, whatever the reason.

Example:
  sovereign lab status --json";

const DOWN_HELP: &str = "\
Hosts go with all data on them. The image that they started from stays in the store, for the next lab; so do its lock and \
its packages.

Example:
  sovereign lab down --yes";

const CUT_HELP: &str = "\
Needs root. Hosts of a data center that is cut off from everybody still reach each other.

Examples:
  sovereign lab cut home office            # the line between them
  sovereign lab cut home                   # home's line to the world, and to this machine
  sovereign lab cut home-1 home-2          # a cable within a data center";

const SLOW_HELP: &str = "\
Needs root. What is beyond the rate is dropped, as a line that is full does it.

Example:
  sovereign lab slow office --rate 50";

const KILL_HELP: &str = "\
At once, in the midst of whatever it does. `sovereign lab heal` switches it on again.

Examples:
  sovereign lab kill home-1
  sovereign lab kill home                  # the whole data center";

const CLOSE_HELP: &str = "\
Needs root. What is asked for at that port of the router's address gets no answer, as at a router without the rule.

Example:
  sovereign lab close home 53";

const READDRESS_HELP: &str = "\
Needs root. What went over the address before ends, as it does when a provider gives out another one. `lab heal` does \
not bring it back: run it again for the next.

Example:
  sovereign lab readdress home";

const HEAL_HELP: &str = "\
Examples:
  sovereign lab heal                       # everything
  sovereign lab heal home-1";
