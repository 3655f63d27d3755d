//! What can be said about hosts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sovereign_hosts::record::HostId;
use sovereign_model::ssh::{Fingerprint, SshAddress};
use sovereign_model::{DatacenterName, HostName};

use super::LeaseArgs;

/// `host`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make a bare Debian host ready: check it, let the stack's keys in, install Incus, prepare storage
    #[command(after_help = ADD_HELP)]
    Add(HostAddArgs),
    /// Which hosts there are, and their pinned keys
    List,
    /// Look at hosts again: what they are, and whether they are as they were made
    #[command(after_help = CHECK_HELP)]
    Check(HostCheckArgs),
    /// Take a host out on purpose: what runs on it moves away or stops, and nothing is planned for it
    #[command(after_help = EVACUATE_HELP)]
    Evacuate(HostEvacuateArgs),
    /// Bring an evacuated host back
    #[command(after_help = RESTORE_HELP)]
    Restore(HostRestoreArgs),
    /// Upgrade Debian, kernel and Incus, one host after the other, and boot those again that must be
    #[command(after_help = UPGRADE_HELP)]
    Upgrade(HostUpgradeArgs),
    /// Undo all that was done on a host
    #[command(after_help = REMOVE_HELP)]
    Remove(HostRemoveArgs),
}

pub(super) const HELP: &str = "\
Examples:
  sovereign host add root@192.0.2.8 --datacenter home --name atlas
  sovereign host check
  sovereign host upgrade --dry-run
  sovereign host evacuate home/atlas
  sovereign host remove home/atlas";

/// `host add`.
#[derive(Debug, Args)]
pub(crate) struct HostAddArgs {
    /// Who logs in, and where: user@host:port, the port may be left out
    #[arg(value_name = "root@ADDRESS")]
    pub(crate) address: SshAddress,
    /// The data center that it is in
    #[arg(long, value_name = "NAME")]
    pub(crate) datacenter: DatacenterName,
    /// What it is called [default: the first part of its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<HostName>,
    /// The private key that it lets in now [default: those in ~/.ssh, and your agent's]
    #[arg(long, value_name = "FILE", conflicts_with = "recover")]
    pub(crate) identity: Option<PathBuf>,
    /// Log in with the key that the 24 words lead to, on a management machine that has nothing else
    #[arg(long)]
    pub(crate) recover: bool,
    /// The fingerprint of its key, from the host itself: answers the question
    #[arg(long, value_name = "SHA256:...")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// A whole disk of the host for sites' data [default: a file on the disk there is]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) disk: Option<String>,
    /// That disk may have data, and loses it: answers the question
    #[arg(long, requires = "disk")]
    pub(crate) wipe: bool,
    /// Look, say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on without asking; answers neither for the fingerprint nor for a disk with data
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const ADD_HELP: &str = "\
Killed at any point, the same command goes on from there. Nothing is sent to a host whose key was
not confirmed. The host needs no internet: packages come from its own mirrors, or through here.

Examples:
  sovereign host add root@192.0.2.8 --datacenter home --name atlas
  sovereign host add root@atlas.example.org --datacenter home --disk /dev/sdb --dry-run";

/// `host check`.
#[derive(Debug, Args)]
pub(crate) struct HostCheckArgs {
    /// The host, as data center and name [default: all]
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) host: Option<HostId>,
}

const CHECK_HELP: &str = "\
All hosts are looked at at once; one that does not answer delays none. Exit code 3 when one is not well.

Example:
  sovereign host check home/atlas";

/// `host evacuate`.
#[derive(Debug, Args)]
pub(crate) struct HostEvacuateArgs {
    /// The host, as data center and name
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) host: HostId,
    /// Look, say what would move and what would stop, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const EVACUATE_HELP: &str = "\
A site's instances stop where their data is, on the disks of this host; all else moves to the other hosts of its data
center. Edges serve kept pages meanwhile, this host's own too, until it is switched off. `plan`, `up` and
`status` leave it alone until `sovereign host restore`.

Examples:
  sovereign host evacuate home/atlas --dry-run
  sovereign host evacuate home/atlas";

/// `host restore`.
#[derive(Debug, Args)]
pub(crate) struct HostRestoreArgs {
    /// The host, as data center and name
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) host: HostId,
    /// Answers whether the lease may be taken from another run
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const RESTORE_HELP: &str = "\
What ran on it runs again, and it is done when that is well. A host that is not evacuated stays as it is.

Example:
  sovereign host restore home/atlas";

/// `host upgrade`.
#[derive(Debug, Args)]
pub(crate) struct HostUpgradeArgs {
    /// Hosts, as data center and name [default: all]
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) hosts: Vec<HostId>,
    /// Look, say what would be upgraded, and do nothing; exit code 3 when there is something
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Boot every host again, also one that need not be
    #[arg(long)]
    pub(crate) reboot: bool,
    /// Go on without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const UPGRADE_HELP: &str = "\
One host at a time, in all data centers together: those where nothing is written first, and of a data center the host
with the applications last. Before a host is touched everything must be well, and after it again; at the first
that is not, it stops. The same command goes on. Packages come from the host's own mirrors, or through here.

Examples:
  sovereign host upgrade --dry-run
  sovereign host upgrade
  sovereign host upgrade home/atlas --reboot";

/// `host remove`.
#[derive(Debug, Args)]
pub(crate) struct HostRemoveArgs {
    /// The host, as data center and name
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) host: HostId,
    /// Remove the data of instances that are on it too
    #[arg(long)]
    pub(crate) purge: bool,
    /// Forget it here and change nothing there: for a host that is gone
    #[arg(long)]
    pub(crate) forget: bool,
    /// Go on without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const REMOVE_HELP: &str = "\
Where instances or volumes are left nothing is removed, unless --purge says so. What was on the host
before, and packages that something else needs by now, stay. Where the data center has more hosts it leaves their
cluster first, which needs one of them; with --forget they forget it, and with --purge what they know of was on it.

Examples:
  sovereign host remove home/atlas
  sovereign host remove home/atlas --forget    # it burned";
