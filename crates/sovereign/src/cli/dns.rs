//! What can be said about names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sovereign_dns::ask::PORT;
use sovereign_model::{DatacenterName, DnsName, ProviderName, SecondaryName};

/// `dns`.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Print the records of the stack's domains, as a zone file each
    #[command(after_help = SHOW_HELP)]
    Show(DnsShowArgs),
    /// Print what the registrar is told of the keys that sign your domains
    #[command(after_help = DS_HELP)]
    Ds(DnsDsArgs),
    /// Ask registries and name servers what they say of the stack's domains, and print what differs
    #[command(after_help = DRIFT_HELP)]
    Drift(DnsDriftArgs),
    /// Print what the owner of a secondary needs to answer for your domains, its key included
    #[command(after_help = SECONDARY_HELP)]
    Secondary(DnsSecondaryArgs),
    /// Print what the router of a home is told, so that names lead to hosts on its own network
    #[command(after_help = LAN_HELP)]
    Lan(DnsLanArgs),
    /// Take what a provider gave you, with which it is told what your domains are to have there
    #[command(after_help = LOGIN_HELP)]
    Login(DnsLoginArgs),
    /// Print what a domain publishes today, and what of it would vanish with the stack's answers
    #[command(after_help = ADOPT_HELP)]
    Adopt(DnsAdoptArgs),
}

pub(super) const HELP: &str = "\
Example:
  sovereign dns show example.org
  sovereign dns ds example.org
  sovereign dns secondary friend
  sovereign dns lan home
  sovereign dns adopt example.org --zone-file example.org.zone
  sovereign dns drift";

/// `dns show`.
#[derive(Debug, Args)]
pub(crate) struct DnsShowArgs {
    /// Only this domain
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: Option<DnsName>,
    /// As they are while this data center is away; may be given several times
    #[arg(long, value_name = "DATACENTER")]
    pub(crate) without: Vec<DatacenterName>,
}

const SHOW_HELP: &str = "\
Sites have the addresses of all their data centers that are counted on, mail is refused where nobody takes it, and your
own `records` stand beside these. A dynamic address is left out here: name servers learn it.

Examples:
  sovereign dns show
  sovereign dns show example.org > example.org.zone
  sovereign dns show --without home";

/// `dns ds`.
#[derive(Debug, Args)]
pub(crate) struct DnsDsArgs {
    /// Only this domain
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: Option<DnsName>,
}

const DS_HELP: &str = "\
Each domain that your own name servers answer for is signed with a key of its own, derived from the 24 words. Whoever asks
believes the signatures once the registry publishes the key's digest, a DS record, which you give to your registrar.

Give it only when every name server of the domain answers with signatures: before that, it makes the domain unreachable for
everybody who checks. Take it away, and wait a day, before you move the domain to somebody who does not have the key.

Examples:
  sovereign dns ds
  sovereign dns ds example.org --json";

/// `dns secondary`.
#[derive(Debug, Args)]
pub(crate) struct DnsSecondaryArgs {
    /// The secondary, as the stack file has it
    #[arg(value_name = "NAME")]
    pub(crate) name: SecondaryName,
}

const SECONDARY_HELP: &str = "\
A secondary is somebody else's name server, a friend's say, that answers for your domains with a copy of their zones, signed by
your key. It gets them from your name servers, and is told when they change, with a secret that follows from the 24 words.

It answers everybody with the addresses of all data centers that are counted on, wherever a question comes from: who is
dead leaves its answers too, and the nearest data center is not chosen.

Once it answers, give the registrar its name and addresses, as `sovereign dns ds` lists them.

Examples:
  sovereign dns secondary friend
  sovereign dns secondary friend --json";

/// `dns lan`.
#[derive(Debug, Args)]
pub(crate) struct DnsLanArgs {
    /// The data center, as the stack file has it
    #[arg(value_name = "DATACENTER")]
    pub(crate) datacenter: DatacenterName,
}

const LAN_HELP: &str = "\
Most routers lead nobody back in who asks for their public address from within, so that a site at home is read \
everywhere but there. Where the stack file says which networks are the data center's own (`lan`), its name server leads \
whoever asks from there to its hosts themselves. Devices ask their router, and this is what that is told: to ask the \
name server.

Examples:
  sovereign dns lan home
  sovereign dns lan home --json";

/// `dns drift`.
#[derive(Debug, Args)]
pub(crate) struct DnsDriftArgs {
    /// Only these domains
    #[arg(value_name = "DOMAIN")]
    pub(crate) domains: Vec<DnsName>,
    #[command(flatten)]
    pub(crate) roots: Roots,
}

/// Where the way from the root begins.
#[derive(Debug, Args)]
pub(crate) struct Roots {
    /// A root server, with a port where that is not 53, instead of the world's; may be given several times
    #[arg(long = "root", value_name = "ADDRESS", value_parser = place)]
    pub(crate) roots: Vec<SocketAddr>,
}

/// An address, with a port or DNS's own.
fn place(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let found = text.parse().or(alone).or(bare);
    found.map_err(|_| "not an address like 192.0.2.1, 192.0.2.1:5300 or [2001:db8::1]:5300".to_owned())
}

const DRIFT_HELP: &str = "\
Goes from the root servers to the registry of each domain, as resolvers do, and compares what is published there (name
servers, their addresses, the DS record) and what each name server answers with what the stack file wants. For each thing
that differs it says how bad that is, who can put it right, and how. No resolver is asked, so nothing old is believed.

A name of a site may have any of its data centers' addresses on your own name servers: who is dead is left out there.

Exit code 3 when something differs.

Examples:
  sovereign dns drift
  sovereign dns drift example.org --json";

/// `dns login`.
#[derive(Debug, Args)]
pub(crate) struct DnsLoginArgs {
    /// The provider, as the stack file has it
    #[arg(value_name = "PROVIDER")]
    pub(crate) provider: ProviderName,
    /// A file with it [default: ask, where a person sits]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

const LOGIN_HELP: &str = "\
The secret of a key for dynamic updates (rfc2136), as it stands in the server's configuration;
elsewhere a token. Give one that may change these domains and nothing else: it is kept for you
alone, backed up, and brought to the agents on your hosts, which take a dead data center out of
the provider's answers. Whoever has it can lead your readers elsewhere.

Another one takes its place; `sovereign up` brings it to the hosts.

Examples:
  sovereign dns login desec
  sovereign dns login desec --secret-file /run/secrets/desec";

/// `dns adopt`.
#[derive(Debug, Args)]
pub(crate) struct DnsAdoptArgs {
    /// The domain, as the stack file has it
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: DnsName,
    /// The zone as a file, as whoever answers for the domain exports it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "provider"])]
    pub(crate) zone_file: Option<PathBuf>,
    /// A provider of the stack file that has the domain: its interface exports the zone (cloudflare, desec)
    #[arg(long, value_name = "PROVIDER", conflicts_with = "server")]
    pub(crate) provider: Option<ProviderName>,
    /// A name server that is asked for the whole zone (AXFR), or for the usual names where it hands out none
    #[arg(long, value_name = "ADDRESS", value_parser = place)]
    pub(crate) server: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) roots: Roots,
}

const ADOPT_HELP: &str = "\
Reads what the domain publishes today, from a zone file, from a provider's interface, from a server that hands the zone
out, or else by asking its name servers for the usual names, and shows it beside what the stack would answer. For what
would vanish it prints the lines for the stack file: `records` keeps it, `drop` lets it go.

A zone file and a provider's interface have all of it. A provider proves you by what `dns login` was given.

What was seen is remembered. As long as something of it would vanish and is neither kept nor dropped, `check`, `plan` and
`up` say so and stop. Adopt again whenever the domain's records have changed.

Exit code 3 when something would vanish.

Examples:
  sovereign dns adopt example.org --zone-file example.org.zone
  sovereign dns adopt example.org --provider cloudflare
  sovereign dns adopt example.org --server 192.0.2.53
  sovereign dns adopt example.org";
