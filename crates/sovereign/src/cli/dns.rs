//! What can be said about names.

use clap::{Args, Subcommand};
use sovereign_model::{DatacenterName, DnsName};

/// `dns`.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Print the records of the stack's domains, as a zone file each
    #[command(after_help = SHOW_HELP)]
    Show(DnsShowArgs),
    /// Print what the registrar is told of the keys that sign your domains
    #[command(after_help = DS_HELP)]
    Ds(DnsDsArgs),
}

pub(super) const HELP: &str = "\
Example:
  sovereign dns show example.org
  sovereign dns ds example.org";

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
own `records` stand beside these. A dynamic address is left out here: it is learned where it is.

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
