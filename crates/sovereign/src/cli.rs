//! The command line: what can be said, and the help that teaches it. Parses, decides nothing.
//!
//! The environment is not read here (see [`crate::environment`]); help texts name the variables that stand in for an
//! option. No option takes a secret: those come from files and prompts.

mod cert;
mod daemons;
mod dc;
mod dns;
mod host;
mod lab;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use sovereign_archive::Subject;
use sovereign_hosts::record::HostId;
use sovereign_model::ssh::Fingerprint;
use sovereign_model::{CopyName, DatacenterName, SiteName, StackName};

pub(crate) use self::cert::{CertCommand, CertImportArgs, CertRenewArgs};
pub(crate) use self::daemons::{DaemonArgs, EdgeArgs, NameServerArgs, RenewerArgs, SuperviseArgs};
pub(crate) use self::dc::{DcCheckArgs, DcCommand, DcDrainArgs, DcMaintenanceArgs, DcUndrainArgs, Switch};
pub(crate) use self::dns::{
    DnsAdoptArgs, DnsCommand, DnsDriftArgs, DnsDsArgs, DnsLanArgs, DnsLoginArgs, DnsSecondaryArgs, DnsShowArgs,
};
pub(crate) use self::host::{
    HostAddArgs, HostCheckArgs, HostCommand, HostEvacuateArgs, HostRemoveArgs, HostRestoreArgs, HostUpgradeArgs,
};
pub(crate) use self::lab::{
    LabArgs, LabCloseArgs, LabCommand, LabCutArgs, LabDownArgs, LabHealArgs, LabReaddressArgs, LabSlowArgs,
    LabTargetArgs, LabUpArgs,
};
use crate::copy_at::CopyAt;
use crate::duplicity::{Address, Moment};

/// Shown below the list of commands.
const TOP_HELP: &str = "\
Start here:
  sovereign up                    bring the stack up; the first time, write a stack file to go by
  sovereign status                what runs, what is wrong, what to do about it
  sovereign open                  open the site

Exit codes:
  0 done, and all is well         3 changes pending (plan), not all well (status, audit, dns, cert)
  1 failed                        4 the plan is stale: the world has moved on
  2 usage, or a bad stack file  130 interrupted

Files:
  ./stack.toml, else $XDG_CONFIG_HOME/sovereign/stack.toml   what you declare
  $XDG_DATA_HOME/sovereign/<stack>                           state: journal, root seed, sites' data
  $XDG_CACHE_HOME/sovereign/images                           images, shared by stacks";

/// Deploys a whole public presence on machines of your own and keeps it running, trusting no third party
#[derive(Debug, Parser)]
#[command(name = "sovereign", version, after_help = TOP_HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const STATE_HELP: &str =
    "The state folder of the stack [env: SOVEREIGN_STATE] [default: $XDG_DATA_HOME/sovereign/<stack>]";

/// Options every command takes, before or after its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// The stack file [env: SOVEREIGN_STACK] [default: ./stack.toml, else the one in your configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) stack: Option<PathBuf>,
    // Not a comment of documentation: the angle brackets would be taken for HTML.
    #[arg(long, global = true, value_name = "DIR", help = STATE_HELP)]
    pub(crate) state: Option<PathBuf>,
    /// Answer with one JSON object on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on stderr; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to use colors; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_enum)]
    pub(crate) color: ColorWhen,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    // Plain comments: documented values would stretch the help of every command by ten lines.
    // On a terminal that can, unless NO_COLOR is set.
    Auto,
    // Even into a pipe.
    Always,
    // Not at all.
    Never,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the stack file, and do nothing else
    #[command(after_help = CHECK_HELP)]
    Check,
    /// Print the JSON Schema of the stack file
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Show what `up` would do
    #[command(after_help = PLAN_HELP)]
    Plan(PlanArgs),
    /// Bring what runs in line with the stack file
    #[command(after_help = UP_HELP)]
    Up(UpArgs),
    /// Stop everything; data stays
    #[command(after_help = DOWN_HELP)]
    Down(DownArgs),
    /// Show data centers, sites, mirrors, and what is wrong
    #[command(after_help = STATUS_HELP)]
    Status,
    /// Show what is open, from inside and from outside, and what is not as it should be
    #[command(after_help = AUDIT_HELP)]
    Audit(AuditArgs),
    /// Watch requests, mirrors and units as they are right now
    #[command(after_help = TOP_COMMAND_HELP)]
    Top,
    /// Show what a unit wrote
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// Open a site in the browser, or print its address
    #[command(after_help = OPEN_HELP)]
    Open(OpenArgs),
    /// The 24 words from which every secret of the stack is derived
    #[command(subcommand, after_help = SEED_HELP)]
    Seed(SeedCommand),
    /// Replace one derived secret by its next one
    #[command(after_help = ROTATE_HELP)]
    Rotate(RotateArgs),
    /// The internal certificate authority
    #[command(subcommand, after_help = CA_HELP)]
    Ca(CaCommand),
    /// Certificates of public authorities
    #[command(subcommand, after_help = cert::HELP)]
    Cert(CertCommand),
    /// The stack's domains
    #[command(subcommand, after_help = dns::HELP)]
    Dns(DnsCommand),
    /// What applications are made of, kept by digest
    #[command(subcommand, after_help = IMAGES_HELP)]
    Images(ImagesCommand),
    /// One site: its owner's password, its staff
    #[command(subcommand, after_help = SITE_HELP)]
    Site(SiteCommand),
    /// Data centers: taken out of answers, left alone while somebody works there
    #[command(subcommand, after_help = dc::HELP)]
    Dc(DcCommand),
    /// Machines that are reached over SSH: made ready, looked at, given back
    #[command(subcommand, after_help = host::HELP)]
    Host(HostCommand),
    /// Back sites up into the encrypted archive, and prove it by restoring
    #[command(after_help = BACKUP_HELP)]
    Backup(BackupArgs),
    /// The encrypted backups on this machine
    #[command(subcommand, after_help = ARCHIVE_HELP)]
    Archive(ArchiveCommand),
    /// Bring a site's data back from the archive: into the running site, or into a folder
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreArgs),
    /// Bring everything back on an empty machine: from a copy of the archive, and the 24 words
    #[command(after_help = RECOVER_HELP)]
    Recover(RecoverArgs),
    /// Rehearse a disaster, and print how long it takes and what it loses
    #[command(subcommand, after_help = DRILL_HELP)]
    Drill(DrillCommand),
    /// Do what is due: backups, proofs that all of them can be restored, certificates
    #[command(after_help = TICK_HELP)]
    Tick(TickArgs),
    /// Take a site's data over from an archive of another program's
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Start the stack when this machine starts
    #[command(subcommand, after_help = SERVICE_HELP)]
    Service(ServiceCommand),
    /// A world of data centers on this machine, to rehearse in
    #[command(subcommand, after_help = lab::HELP)]
    Lab(LabCommand),
    /// Print a completion script for your shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),

    /// The data plane of a host. Started by the supervisor.
    #[command(hide = true)]
    Edge(EdgeArgs),
    /// Watches the other data centers. Started by a host's systemd.
    #[command(hide = true)]
    Agent(DaemonArgs),
    /// Answers for the stack's domains, by Knot. Started by a host's systemd.
    #[command(hide = true)]
    NameServer(NameServerArgs),
    /// Renews certificates of public authorities. Started by a host's systemd.
    #[command(hide = true)]
    Renewer(RenewerArgs),
    /// The embedded engine. Started by `up`.
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Hands out the data of one site. Started by `backup`.
    #[command(hide = true)]
    ArchiveSource(ArchiveSourceArgs),
    /// Confines itself, then becomes an application. Started by the supervisor.
    #[command(hide = true)]
    Shim,
}

impl Command {
    /// The words after `sovereign`, as `--json` names the command.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Schema => "schema",
            Self::Plan(_) => "plan",
            Self::Up(_) => "up",
            Self::Down(_) => "down",
            Self::Status => "status",
            Self::Audit(_) => "audit",
            Self::Top => "top",
            Self::Logs(_) => "logs",
            Self::Open(_) => "open",
            Self::Seed(SeedCommand::Show(_)) => "seed show",
            Self::Seed(SeedCommand::Verify(_)) => "seed verify",
            Self::Seed(SeedCommand::Restore(_)) => "seed restore",
            Self::Rotate(_) => "rotate",
            Self::Ca(CaCommand::Show) => "ca show",
            Self::Cert(CertCommand::List) => "cert list",
            Self::Cert(CertCommand::Renew(_)) => "cert renew",
            Self::Cert(CertCommand::Import(_)) => "cert import",
            Self::Dns(DnsCommand::Show(_)) => "dns show",
            Self::Dns(DnsCommand::Ds(_)) => "dns ds",
            Self::Dns(DnsCommand::Secondary(_)) => "dns secondary",
            Self::Dns(DnsCommand::Lan(_)) => "dns lan",
            Self::Dns(DnsCommand::Drift(_)) => "dns drift",
            Self::Dns(DnsCommand::Login(_)) => "dns login",
            Self::Dns(DnsCommand::Adopt(_)) => "dns adopt",
            Self::Images(ImagesCommand::List) => "images list",
            Self::Images(ImagesCommand::Lock(_)) => "images lock",
            Self::Images(ImagesCommand::Build(_)) => "images build",
            Self::Images(ImagesCommand::Prune) => "images prune",
            Self::Images(ImagesCommand::Verify) => "images verify",
            Self::Images(ImagesCommand::Restore) => "images restore",
            Self::Site(SiteCommand::Credentials(_)) => "site credentials",
            Self::Site(SiteCommand::Dump(_)) => "site dump",
            Self::Site(SiteCommand::Load(_)) => "site load",
            Self::Site(SiteCommand::Move(_)) => "site move",
            Self::Site(SiteCommand::Staff(StaffCommand::Invite(_))) => "site staff invite",
            Self::Site(SiteCommand::Staff(StaffCommand::Reset(_))) => "site staff reset",
            Self::Site(SiteCommand::Staff(StaffCommand::List(_))) => "site staff list",
            Self::Dc(DcCommand::List) => "dc list",
            Self::Dc(DcCommand::Drain(_)) => "dc drain",
            Self::Dc(DcCommand::Undrain(_)) => "dc undrain",
            Self::Dc(DcCommand::Maintenance(_)) => "dc maintenance",
            Self::Dc(DcCommand::Check(_)) => "dc check",
            Self::Host(HostCommand::Add(_)) => "host add",
            Self::Host(HostCommand::List) => "host list",
            Self::Host(HostCommand::Check(_)) => "host check",
            Self::Host(HostCommand::Evacuate(_)) => "host evacuate",
            Self::Host(HostCommand::Restore(_)) => "host restore",
            Self::Host(HostCommand::Upgrade(_)) => "host upgrade",
            Self::Host(HostCommand::Remove(_)) => "host remove",
            Self::Backup(_) => "backup",
            Self::Archive(ArchiveCommand::List(_)) => "archive list",
            Self::Archive(ArchiveCommand::Show(_)) => "archive show",
            Self::Archive(ArchiveCommand::Diff(_)) => "archive diff",
            Self::Archive(ArchiveCommand::Copy(_)) => "archive copy",
            Self::Archive(ArchiveCommand::Check(_)) => "archive check",
            Self::Archive(ArchiveCommand::Prune(_)) => "archive prune",
            Self::Archive(ArchiveCommand::Key(_)) => "archive key",
            Self::Restore(_) => "restore",
            Self::Recover(_) => "recover",
            Self::Drill(DrillCommand::Restore(_)) => "drill restore",
            Self::Drill(DrillCommand::Recover(_)) => "drill recover",
            Self::Import(_) => "import",
            Self::Service(ServiceCommand::Install) => "service install",
            Self::Service(ServiceCommand::Uninstall) => "service uninstall",
            Self::Lab(LabCommand::Up(_)) => "lab up",
            Self::Lab(LabCommand::Status(_)) => "lab status",
            Self::Lab(LabCommand::Down(_)) => "lab down",
            Self::Lab(LabCommand::Cut(_)) => "lab cut",
            Self::Lab(LabCommand::Slow(_)) => "lab slow",
            Self::Lab(LabCommand::Kill(_)) => "lab kill",
            Self::Lab(LabCommand::Close(_)) => "lab close",
            Self::Lab(LabCommand::Readdress(_)) => "lab readdress",
            Self::Lab(LabCommand::Heal(_)) => "lab heal",
            Self::Tick(_) => "tick",
            Self::Completions(_) => "completions",
            Self::Edge(_) => "edge",
            Self::Agent(_) => "agent",
            Self::NameServer(_) => "name-server",
            Self::Renewer(_) => "renewer",
            Self::Supervise(_) => "supervise",
            Self::ArchiveSource(_) => "archive-source",
            Self::Shim => "shim",
        }
    }

    /// Whether this is a long-running part of the stack and not something an operator types.
    pub(crate) const fn is_daemon(&self) -> bool {
        matches!(
            self,
            Self::Edge(_)
                | Self::Agent(_)
                | Self::NameServer(_)
                | Self::Renewer(_)
                | Self::Supervise(_)
                | Self::ArchiveSource(_)
                | Self::Shim
        )
    }
}

const CHECK_HELP: &str = "\
Every problem is reported at once, each with its line. Exit code 2 when there is one.

Examples:
  sovereign check
  sovereign --stack ~/shop.toml check --json";

const SCHEMA_HELP: &str = "\
Point your editor at it, for completion and hints while you write.

Example:
  sovereign schema > stack.schema.json";

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// One host, as data center and name [default: all hosts, and this machine]
    #[arg(value_name = "DATACENTER/HOST")]
    pub(crate) host: Option<HostId>,
}

const AUDIT_HELP: &str = "\
Each host is asked over SSH what it has, and its TCP ports are tried from here; both are compared with
what the stack file and this program give. Nothing is changed. All hosts at once; one that does not answer
delays none.

Exit code 0: as it should be. Exit code 3: something is not. Exit code 1: something could not be compared.

Examples:
  sovereign audit
  sovereign audit home/atlas --json";

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Also write the plan to a file that `up --plan` takes
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

const PLAN_HELP: &str = "\
Exit code 0: nothing has to change. Exit code 3: changes are pending.

Examples:
  sovereign plan
  sovereign plan --out plan.json && sovereign up --plan plan.json    # that plan, or none";

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Use the network for nothing: everything needed must be in the image store
    #[arg(long)]
    pub(crate) offline: bool,
    /// Answer every question with yes
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Apply this plan, made by `plan --out`; refused (exit code 4) when the world has moved on
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Back nothing up
    #[arg(long)]
    pub(crate) no_backup: bool,
    /// Go on from configurations that another management machine wrote to hosts, with what is declared here
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Begin this site empty where nothing of it is, though the archive has it; can be given more than once
    #[arg(long, value_name = "SITE")]
    pub(crate) begin_empty: Vec<SiteName>,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

/// What commands that change hosts have in common.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LeaseArgs {
    /// Take hosts from a run on another management machine that holds them, after a question: when it is known to be dead
    #[arg(long)]
    pub(crate) take_lease: bool,
}

const UP_HELP: &str = "\
Shows the plan, backs up what is there, applies the plan step by step, waits until all is well, and prints the \
addresses. Whatever interrupts it, the next `up` goes on from there. It removes no data, ever. What would work on data \
that cannot be backed up is left undone, and a site of which nothing is left but its snapshots waits for \
`sovereign restore` (exit code 1).

Examples:
  sovereign up
  sovereign up --offline          # prove that nothing has to be fetched";

/// `down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Remove the data too: sites, keys, the root seed. There is no way back but your archive and the 24 words
    #[arg(long)]
    pub(crate) purge: bool,
    /// The archive too, as far as it lies in the state folder. Then your copies of it are the only way back
    #[arg(long, requires = "purge")]
    pub(crate) with_archive: bool,
    /// Answer every question with yes
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const DOWN_HELP: &str = "\
Examples:
  sovereign down                  # stop; `up` brings everything back
  sovereign down --purge          # stop and remove everything the stack made, after a question";

const STATUS_HELP: &str = "\
Exit code 0 only when all is well; 3 when something needs attention, which is said with what to do.

Examples:
  sovereign status
  sovereign status --json | jq .sites";

const TOP_COMMAND_HELP: &str = "\
Figures are of the last second; q leaves. Into a pipe, or with --json, they are printed once.

Examples:
  sovereign top
  sovereign top --json | jq '.edges[].requests'";

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Only this unit, for instance ghost-blog@home; with --access, only this site [default: all]
    #[arg(value_name = "UNIT|SITE")]
    pub(crate) what: Option<String>,
    /// What was read: the access logs of the edges
    #[arg(short, long)]
    pub(crate) access: bool,
    /// Only this data center's edge
    #[arg(long, value_name = "DATACENTER", requires = "access")]
    pub(crate) at: Option<DatacenterName>,
    /// Go on as new lines come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many lines back
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) lines: usize,
}

const LOGS_HELP: &str = "\
Examples:
  sovereign logs                          # the last lines of every unit
  sovereign logs ghost-blog@home -f       # follow one
  sovereign logs --access blog -f         # what is read of a site, as it is read
  sovereign logs --access --json | jq -r '.requests[] | select(.status == 404) | .target'";

/// `open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The site [default: the only one]
    #[arg(value_name = "SITE")]
    pub(crate) site: Option<SiteName>,
}

const OPEN_HELP: &str = "\
On a machine without a screen it prints the address, and the ssh line that shows it on another.

Examples:
  sovereign open
  sovereign open blog";

/// `seed`.
#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Print the 24 words: write them down, on paper
    Show(PassphraseArgs),
    /// Type the words you wrote down; says whether they are the right ones
    Verify(PassphraseArgs),
    /// Bring a root seed back from its 24 words
    Restore(PassphraseArgs),
}

/// How the root seed file is opened.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// A file with the passphrase of the seed file [env: SOVEREIGN_PASSPHRASE_FILE] [default: ask]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

const SEED_HELP: &str = "\
The words are typed or piped in, never given as arguments: arguments are readable by everyone on the machine.

Examples:
  sovereign seed show
  sovereign seed verify
  sovereign seed restore < words.txt";

/// `rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which secret; an unknown name is answered with the list
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A file with the passphrase of the seed file [env: SOVEREIGN_PASSPHRASE_FILE] [default: ask]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Go back to the key that signed before, where the key of a zone is being exchanged and the registry has nothing of the new one
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) roots: dns::Roots,
}

const ROTATE_HELP: &str = "\
The next `up` puts the new secret to use. The key of a zone is exchanged little by little: both
keys sign until nobody believes the old one alone, and `status` says what is awaited.

Examples:
  sovereign rotate link/home && sovereign up
  sovereign rotate zone/example.org && sovereign up";

/// `ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Print the certificate to trust, PEM
    Show,
}

const CA_HELP: &str = "\
Examples:
  sovereign ca show > sovereign.pem
  curl --cacert sovereign.pem https://blog.localhost:8443/";

/// `images`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// What is kept: size, source, digest
    List,
    /// Pin the packages of a Debian image, and fetch and keep them; or the version of Ghost
    #[command(after_help = IMAGES_LOCK_HELP)]
    Lock(ImagesLockArgs),
    /// Build a Debian image from its lock, unless it is in the store
    #[command(after_help = IMAGES_BUILD_HELP)]
    Build(ImagesBuildArgs),
    /// Remove what neither runs nor is the generation before
    Prune,
    /// Read every byte again and compare
    Verify,
    /// Bring back from the archive what is not in the store
    Restore,
}

const IMAGES_HELP: &str = "\
Examples:
  sovereign images list
  sovereign images lock database && sovereign images build database
  sovereign images prune";

/// `images lock`.
#[derive(Debug, Args)]
pub(crate) struct ImagesLockArgs {
    /// What the image is for: host, site, database; or ghost
    #[arg(value_name = "ROLE")]
    pub(crate) role: String,
    /// Lock the versions of today, and show what changes; of ghost, the one that comes with this program
    #[arg(long)]
    pub(crate) update: bool,
    /// Lock this version; of ghost only
    #[arg(long, value_name = "VERSION", conflicts_with = "update")]
    pub(crate) version: Option<String>,
}

const IMAGES_LOCK_HELP: &str = "\
Asks the mirrors that apt is set up with on this machine, checks Debian's signature, and writes names, versions and \
digests to a file beside the stack file: stack.images/ROLE.json. It is yours; keep it with the stack file. The packages \
are kept in $XDG_DATA_HOME/sovereign/.packages, because mirrors remove what is superseded.

Ghost comes with this program, so a newer program brings a newer Ghost. Locked, it stays as it is until you say otherwise; \
`sovereign up` then brings every Ghost of the stack to the version of the lock.

Examples:
  sovereign images lock database             # fetches what is not kept; versions stay as they are
  sovereign images lock --update database    # newer versions, security fixes among them
  sovereign images lock ghost                # stay with this version, whichever comes with the next program
  sovereign images lock ghost --version 6.64.0";

/// `images build`.
#[derive(Debug, Args)]
pub(crate) struct ImagesBuildArgs {
    /// What the image is for: host, site, database
    #[arg(value_name = "ROLE")]
    pub(crate) role: String,
    /// Use the network for nothing: the packages must be kept
    #[arg(long)]
    pub(crate) offline: bool,
}

const IMAGES_BUILD_HELP: &str = "\
The image is made of exactly the locked packages, by mmdebstrap, without the network. Two builds from one lock are the \
same bytes. Older images stay until `sovereign images prune`.

Examples:
  sovereign images build database
  sovereign images build site --offline";

/// `site`.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Print where to log in, and the owner's first password
    Credentials(SiteArgs),
    /// Who may write
    #[command(subcommand, after_help = STAFF_HELP)]
    Staff(StaffCommand),
    /// Write an `upstream` site's data to a file, by the program the stack file names
    #[command(after_help = DUMP_HELP)]
    Dump(DumpArgs),
    /// Read such a file in, in place of the data that is there
    #[command(after_help = LOAD_HELP)]
    Load(LoadArgs),
    /// Take a `ghost` site with all its data from this machine to the host where it is declared
    #[command(after_help = MOVE_HELP)]
    Move(MoveArgs),
}

/// `site dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
    /// Where to; `-` is standard output [default: SITE.dump]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

const DUMP_HELP: &str = "\
The file appears, or is replaced, only when the program has ended well and has written something.
FILE.sha256 beside it is what `site load`, and sha256sum --check, compare with.

Examples:
  sovereign site dump wiki --to /srv/dumps/wiki.dump
  sovereign site dump wiki --to - | age -r age1... > wiki.dump.age";

/// `site load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
    /// The file that `site dump` wrote, with its FILE.sha256
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Replace the data without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

const LOAD_HELP: &str = "\
The file is compared with its checksum first; then every edge fetches the site's pages anew.

Example:
  sovereign site load wiki --from /srv/dumps/wiki.dump";

/// `site move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
    /// Move without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not back the site up first
    #[arg(long)]
    pub(crate) no_backup: bool,
    /// Use no network but the hosts': everything needed must be kept already
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const MOVE_HELP: &str = "\
Declare first where it is to be: the data center's engine as \"incus\" with its hosts, or another such data center as \
`primary`. Another `canonical` name or port may be declared with it. Then this command, in the place of `up`:

  1. backs the site up
  2. starts database and Ghost at the host, empty, and copies what people uploaded, while the old Ghost serves
  3. stops the old Ghost; its edges go on serving kept pages, and nobody can write
  4. takes over the database and what was uploaded since, sets up, and asks the new place as a reader would
  5. does what is left of `sovereign up`

When anything fails before the end of 4, the old Ghost is started again. Killed at any time, the same command begins anew. \
The old data is neither changed nor removed.

Examples:
  sovereign site move blog
  sovereign site move blog --yes --json";

/// Which site.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
}

const SITE_HELP: &str = "\
Examples:
  sovereign site credentials blog
  sovereign site staff invite blog ann@example.org --role editor
  sovereign site dump wiki --to wiki.dump
  sovereign site move blog                # to the host where it is declared now";

/// `site staff`.
#[derive(Debug, Subcommand)]
pub(crate) enum StaffCommand {
    /// Print a one-time link that makes a new account
    Invite(InviteArgs),
    /// Print a one-time link that sets a new password
    Reset(ResetArgs),
    /// Accounts and open invitations
    List(SiteArgs),
}

const STAFF_HELP: &str = "\
No mail is sent: hand the link over yourself.

Examples:
  sovereign site staff invite blog ann@example.org --role editor
  sovereign site staff reset blog ann@example.org
  sovereign site staff list blog";

/// `site staff invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
    /// The name they log in with, in the form of an e-mail address; nothing is sent there
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// What they may do
    #[arg(long, value_enum, default_value = "author")]
    pub(crate) role: StaffRole,
}

/// `site staff reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The site
    #[arg(value_name = "SITE")]
    pub(crate) site: SiteName,
    /// The name they log in with
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
}

/// Ghost's roles, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StaffRole {
    /// Writes drafts; others publish them.
    Contributor,
    /// Publishes own posts.
    Author,
    /// Publishes everyone's.
    Editor,
    /// May change everything but the owner.
    Administrator,
}

/// `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Only these sites [default: all]
    #[arg(value_name = "SITE")]
    pub(crate) sites: Vec<SiteName>,
}

const BACKUP_HELP: &str = "\
Nothing is stopped. A snapshot is whole or it is not there; what is new in it since the last proven one is restored at \
once and compared. The stack's own state (stack file, journal, epochs, CA certificate) is backed up each time, the root \
seed never. Upstream sites are not covered; each is named, and the exit code is 0 all the same.

Examples:
  sovereign backup
  sovereign backup blog --json";

/// `archive`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// What has been backed up, the oldest first
    List(ArchiveListArgs),
    /// What a snapshot has in it
    Show(ArchiveShowArgs),
    /// What changed from one snapshot to another: posts, pages, members, files
    #[command(after_help = ARCHIVE_DIFF_HELP)]
    Diff(ArchiveDiffArgs),
    /// Bring the archive's copies in other places in step with it
    #[command(after_help = ARCHIVE_COPY_HELP)]
    Copy(ArchiveCopyArgs),
    /// Look whether everything can be restored, and bring back from a copy what cannot
    #[command(after_help = ARCHIVE_CHECK_HELP)]
    Check(ArchiveCheckArgs),
    /// Forget old snapshots, as the stack file says, and free their room
    #[command(after_help = ARCHIVE_PRUNE_HELP)]
    Prune(ArchivePruneArgs),
    /// Print the password, for Debian's restic; or make a second one
    Key(ArchiveKeyArgs),
}

/// `archive list`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveListArgs {
    /// Of this copy, instead of the archive
    #[arg(long, value_name = "COPY")]
    pub(crate) from_copy: Option<CopyName>,
}

/// `archive show`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveShowArgs {
    /// The snapshot: the beginning of its name is enough
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    /// From this copy, instead of the archive
    #[arg(long, value_name = "COPY")]
    pub(crate) from_copy: Option<CopyName>,
}

/// `archive diff`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveDiffArgs {
    /// The older snapshot; alone, what changed from the one before it
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) from: String,
    /// The newer one [default: none, so that the first is compared with the one before it]
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) to: Option<String>,
}

const ARCHIVE_DIFF_HELP: &str = "\
Of a Ghost site it names posts, pages, members and images by title; of everything else, and of all else there, files. \
The databases are read by a process that sees nothing but them.

Examples:
  sovereign archive diff 8f3d51c2             # against the one before
  sovereign archive diff 8f3d51c2 newest";

/// `archive copy`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveCopyArgs {
    /// Only this one [default: all that the stack file declares]
    #[arg(value_name = "COPY")]
    pub(crate) copy: Option<CopyName>,
    /// Begin it anew where it was before and is not any more
    #[arg(long, requires = "copy")]
    pub(crate) anew: bool,
}

const ARCHIVE_COPY_HELP: &str = "\
Copies are declared as [[archive.copy]] in the stack file; `sovereign backup` does this after each run. Files are sent \
as they are, encrypted; each is compared with its checksum first, and what is damaged here is not sent. What is missing \
there is sent, what `sovereign archive prune` removed is removed, and nothing else is. A disk that is not plugged in is \
passed over.

Examples:
  sovereign archive copy
  sovereign archive copy nas
  sovereign archive check --copy nas --read-data
  sovereign restore blog --to /tmp/blog --from-copy nas";

/// `archive check`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveCheckArgs {
    /// Read every byte, not only what there should be
    #[arg(long)]
    pub(crate) read_data: bool,
    /// Look at this copy, instead of the archive
    #[arg(long, value_name = "COPY")]
    pub(crate) copy: Option<CopyName>,
    /// Read everything, show what can be brought back from a copy and what is lost, ask, and put it right
    #[arg(long)]
    pub(crate) repair: bool,
    /// Answer every question with yes
    #[arg(short, long, requires = "repair")]
    pub(crate) yes: bool,
}

const ARCHIVE_CHECK_HELP: &str = "\
What is damaged is never deleted: `--repair` sets it aside in the archive's folder. What no copy has is named by \
snapshot and file; a backup then reads again what is still there at the site.

Examples:
  sovereign archive check --read-data
  sovereign archive check --copy nas --read-data
  sovereign archive check --repair";

/// `archive prune`.
#[derive(Debug, Args)]
pub(crate) struct ArchivePruneArgs {
    /// Only show what would be forgotten, and what would stay and why
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Answer every question with yes
    #[arg(short, long)]
    pub(crate) yes: bool,
}

const ARCHIVE_PRUNE_HELP: &str = "\
What stays says `keep` below [archive] in the stack file; without it: the last 3 snapshots, and the newest of each of \
24 hours, 7 days, 5 weeks, 12 months and 10 years, of each site by itself. The newest one and the newest proven one \
stay whatever it says, and what other programs made; all of a site of which none is known to be proven.

Snapshots are forgotten at once. What only they needed is marked, and its room is freed by the first prune that comes \
23 hours later or more: whoever reads the archive meanwhile can finish.

Examples:
  sovereign archive prune --dry-run
  sovereign archive prune                   # shows it and asks
  sovereign archive prune --yes             # by the clock, after a backup";

/// `archive key`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveKeyArgs {
    /// Make one more, for a second person: a random one, printed this once and kept nowhere
    #[arg(long)]
    pub(crate) add: bool,
    /// Print it into a pipe or a file too
    #[arg(short, long)]
    pub(crate) yes: bool,
}

const ARCHIVE_HELP: &str = "\
The archive is a restic repository: Debian's restic lists, checks and restores it too.

Examples:
  sovereign archive list
  sovereign archive check --read-data
  sovereign archive prune --dry-run         # what is beyond `keep` in the stack file
  sovereign archive key                     # what restic asks for";

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The site; with `--to` also one that is not declared any more, or `(state)`, as `archive list` names them
    #[arg(value_name = "SITE")]
    pub(crate) of: Subject,
    /// Into this folder, and not into the running site: one that is not there yet, or an empty one that only you write in
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
    /// Which snapshot [default: the newest that was proven]
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
    /// Only this, with what is below it, as `archive show` prints it
    #[arg(long, value_name = "PATH", requires = "to")]
    pub(crate) path: Option<PathBuf>,
    /// Only this table of the database, as SQL that makes it again
    #[arg(long, value_name = "TABLE", requires = "to", conflicts_with = "path")]
    pub(crate) table: Option<String>,
    /// Swap what is live and what the last restore replaced; again: swap both back
    #[arg(long, conflicts_with_all = ["to", "snapshot", "discard"])]
    pub(crate) undo: bool,
    /// Remove what restores have replaced
    #[arg(long, conflicts_with_all = ["to", "snapshot"])]
    pub(crate) discard: bool,
    /// With `--yes`: what was written after the snapshot may go
    #[arg(long, conflicts_with_all = ["to", "undo", "discard"])]
    pub(crate) accept_loss: bool,
    /// Do not back up first what is live
    #[arg(long, conflicts_with_all = ["to", "undo", "discard"])]
    pub(crate) no_backup: bool,
    /// Answer the question with yes
    #[arg(long, conflicts_with = "to")]
    pub(crate) yes: bool,
    /// From this copy, instead of the archive
    #[arg(long, value_name = "COPY", conflicts_with_all = ["undo", "discard"])]
    pub(crate) from_copy: Option<CopyName>,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const RESTORE_HELP: &str = "\
Into the running site, what is live is backed up first and then kept beside. Readers are served all the while; who \
writes is told to come back in a moment. When the site does not come to life with the restored data, the old is put back.

Every byte is compared with its checksum. In a folder, files belong to whoever runs this.

Examples:
  sovereign restore blog
  sovereign restore blog --undo
  sovereign restore blog --to /tmp/blog
  sovereign restore blog --to /tmp/images --path content/images --snapshot 8f3d51c2
  sovereign restore blog --to /tmp/posts --table posts
  sovereign restore '(state)' --to /tmp/state";

/// `drill`.
#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// Start a Ghost on each site's newest proven snapshot, and compare its pages with the live site's
    Restore(DrillArgs),
    /// Bring everything back from a copy of the archive and the 24 words, as if this machine were lost
    Recover(DrillRecoverArgs),
}

/// `drill restore`.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// The sites [default: all]
    #[arg(value_name = "SITE")]
    pub(crate) sites: Vec<SiteName>,
}

/// `drill recover`.
#[derive(Debug, Args)]
pub(crate) struct DrillRecoverArgs {
    /// From this copy [default: the first of the stack file's that can be read]
    #[arg(long, value_name = "COPY", conflicts_with = "archive")]
    pub(crate) from_copy: Option<CopyName>,
    /// From the copy in this folder, or at sftp://user@host:port/folder
    #[arg(long, value_name = "PLACE")]
    pub(crate) archive: Option<CopyAt>,
    #[command(flatten)]
    pub(crate) door: DoorArgs,
}

/// How one gets to a host that has a copy.
#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// A private key that the host lets in [default: the one that the 24 words lead to]
    #[arg(long, value_name = "FILE", requires = "archive")]
    pub(crate) identity: Option<PathBuf>,
    /// The fingerprint of the host's key, from the host itself: answers the question
    #[arg(long, value_name = "SHA256:...", requires = "archive")]
    pub(crate) fingerprint: Option<Fingerprint>,
}

const DRILL_HELP: &str = "\
RPO: how old what is restored is, which a disaster now would cost. RTO: from the first byte read out of the archive to a \
Ghost that answers. The drill's Ghost has no network and is removed with its data at the end; the live site is only read.

`drill recover` asks for the 24 words, opens the copy with them and nothing else, and restores into a folder that is removed \
at the end. Words that open it count as `seed verify`. RTO is the time until all is back, before `up`.

Exit code 1: a snapshot did not come to life, or the site on it names pages that it does not have; the words do not open \
the copy, or something does not come back.

Examples:
  sovereign drill restore blog
  sovereign drill recover --from-copy usb";

/// `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The archive, or a copy of it: a folder, or sftp://user@host:port/folder
    #[arg(long, value_name = "PLACE")]
    pub(crate) archive: CopyAt,
    /// The stack's name [default: what is written on the archive, in a folder]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<StackName>,
    #[command(flatten)]
    pub(crate) door: DoorArgs,
    /// A file with the passphrase for the seed file [env: SOVEREIGN_PASSPHRASE_FILE] [default: ask, where a person sits]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

const RECOVER_HELP: &str = "\
The words are typed or piped in, never given as arguments. Nothing is put over anything: not over another stack file, seed \
or data of a site. Cut off, it is run again and goes on. `up` comes after it.

A copy at a data center of the stack lies on its host, in /var/lib/sovereign/STACK/dc/DATACENTER/archive, and root is let in \
with a key that follows from the words. The host's own key is shown, to be compared with what its console says.

Examples:
  sovereign recover --archive /mnt/usb/repository
  sovereign recover --archive sftp://root@192.0.2.9/var/lib/sovereign/shop/dc/office/archive --name shop
  sovereign --state /srv/state --stack /srv/stack.toml recover --archive /mnt/usb/repository < words.txt";

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Where the archive lies: duplicity:///FOLDER, or duplicity+ and any address that duplicity knows
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Address,
    /// The site whose data it is [default: the only one]
    #[arg(value_name = "SITE")]
    pub(crate) site: Option<SiteName>,
    /// A file with the archive's passphrase [default: ask]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Your GnuPG folder, when the archive is encrypted to a key of yours
    #[arg(long, value_name = "DIR")]
    pub(crate) gnupg_home: Option<PathBuf>,
    /// An older state: the last one at this time, like 2026-11-25T18:00:00Z or 2026-11-25
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<Moment>,
}

const IMPORT_HELP: &str = "\
Restores an archive of duplicity with the real duplicity, compares every volume, and puts what it holds into our own \
archive as a snapshot of the site, proven like any other. The running site is not touched. A Ghost's content folder with \
data/ghost.db is expected for a site with Ghost, a folder of files for a static one.

Examples:
  sovereign import duplicity:///mnt/old/blog blog
  sovereign import duplicity:///mnt/old/blog blog --time 2026-11-25T18:00:00Z
  sovereign import duplicity+sftp://ann@backup.example//srv/blog blog --passphrase-file pass";

/// `archive-source`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveSourceArgs {
    /// A folder or file, and its name in the archive
    #[arg(long, value_name = "NAME=PATH", required = true)]
    pub(crate) root: Vec<std::ffi::OsString>,
}

/// `service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write and enable a systemd unit for this user
    Install,
    /// Disable and remove it
    Uninstall,
}

const SERVICE_HELP: &str = "\
Example:
  sovereign service install       # the stack outlives a reboot";

/// `tick`.
#[derive(Debug, Args)]
pub(crate) struct TickArgs {
    /// Have a timer of this machine run it every quarter of an hour
    #[arg(long, conflicts_with = "uninstall")]
    pub(crate) install: bool,
    /// Remove that timer
    #[arg(long)]
    pub(crate) uninstall: bool,
}

const TICK_HELP: &str = "\
How often what is done is the stack file's to say: `every` and `prove` of [archive]. What was missed while the machine \
was off is made up for once. Certificates of public authorities are renewed when they are due. It asks nothing and needs \
no passphrase. What goes wrong is in `sovereign status`.

Examples:
  sovereign tick --install        # from now on, by the clock
  sovereign tick                  # what is due now";

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

const COMPLETIONS_HELP: &str = "\
Example:
  sovereign completions bash > ~/.local/share/bash-completion/completions/sovereign";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The help of the program and of every visible command, one text to review.
    #[test]
    fn help() {
        fn collect(command: &mut clap::Command, path: &str, pages: &mut String) {
            let page = command.clone().term_width(100).render_help();
            pages.push_str(&format!("===== {path} --help\n{page}\n"));
            let names: Vec<_> =
                command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned()).collect();
            for name in names {
                let sub = command.find_subcommand_mut(&name).expect("just listed");
                collect(sub, &format!("{path} {name}"), pages);
            }
        }
        let mut root = Cli::command();
        root.build();
        let mut pages = String::new();
        collect(&mut root, "sovereign", &mut pages);
        insta::assert_snapshot!(pages);
    }

    #[test]
    fn common_options_go_before_or_after_the_command() {
        let before = Cli::try_parse_from(["sovereign", "--json", "--stack", "a.toml", "plan"]).unwrap();
        let after = Cli::try_parse_from(["sovereign", "plan", "--json", "--stack", "a.toml"]).unwrap();
        assert!(before.common.json && after.common.json);
        assert_eq!(before.common.stack, after.common.stack);
    }

    #[test]
    fn names_are_parsed_where_they_are_typed() {
        let error = Cli::try_parse_from(["sovereign", "open", "My Blog"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("My Blog"));
    }
}
