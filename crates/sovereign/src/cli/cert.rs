//! What can be said about certificates of public authorities.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sovereign_model::{AuthorityName, DnsName};

use super::LeaseArgs;

/// `cert`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Show which names have one, until when, and what is in the way
    #[command(after_help = LIST_HELP)]
    List,
    /// Renew what is due, and bring everything to the edges
    #[command(after_help = RENEW_HELP)]
    Renew(CertRenewArgs),
    /// Take in a certificate that was got elsewhere
    #[command(after_help = IMPORT_HELP)]
    Import(CertImportArgs),
}

pub(super) const HELP: &str = "\
Authorities are declared in the stack file, the preferred first: [[authority]]. Without any, the stack's own issues all \
certificates (`sovereign ca`).

Example:
  sovereign cert list
  sovereign cert renew";

const LIST_HELP: &str = "\
Asks nobody: `sovereign status` says whether edges show them. Names that no authority is asked for are listed with the \
reason; readers are shown the stack's own certificate for them.

Exit code 3 when a name has no certificate, or one in its last days.

Examples:
  sovereign cert list
  sovereign cert list --json";

/// `cert renew`.
#[derive(Debug, Args)]
pub(crate) struct CertRenewArgs {
    /// These names, however good their certificates are; else all that is due
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<DnsName>,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const RENEW_HELP: &str = "\
`sovereign up` and `sovereign tick` do the same by themselves when something is due. Edges show a new certificate from the \
next connection on; none is closed and nothing is restarted. An authority that has failed is left alone for a while, also \
here: `sovereign cert list` says until when.

Authorities count what they issue: renew a good certificate only when its key may be known to somebody.

Exit code 3 when a name is left without a certificate, or an edge does not show what there is.

Examples:
  sovereign cert renew                       # what is due
  sovereign cert renew www.example.org       # this one, now";

/// `cert import`.
#[derive(Debug, Args)]
pub(crate) struct CertImportArgs {
    /// The name
    #[arg(value_name = "NAME")]
    pub(crate) name: DnsName,
    /// The certificate and those that it was issued by, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) chain: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The declared authority that has issued it, and renews it [default: the first]
    #[arg(long, value_name = "AUTHORITY")]
    pub(crate) authority: Option<AuthorityName>,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

const IMPORT_HELP: &str = "\
For a site that comes from elsewhere: its readers notice nothing, and the authority is not asked before this certificate is \
due. It must be for the name, belong to the key, and begin from a root that this machine believes in, or one of those that \
the stack file names. One for several names is taken in for each of them.

Whoever had it before has the key still: `sovereign cert renew NAME` makes another.

Examples:
  sovereign cert import www.example.org --chain fullchain.pem --key privkey.pem";
