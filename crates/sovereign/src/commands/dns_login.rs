//! `sovereign dns login`.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use sovereign_dns::provider::tell::{ByCrate, TellError};
use sovereign_model::ProviderName;
use sovereign_model::provider::Provider;
use zeroize::Zeroizing;

use crate::cli::DnsLoginArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::providers::declared;
use crate::secrets;

/// It was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("cannot read {path}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// What was given is no secret of such a provider's.
#[derive(Debug, thiserror::Error)]
#[error("provider {} is not proven anything with this", .provider.name)]
struct Unusable {
    provider: Provider,
    source: TellError,
}

impl Reason for NotTaken {
    fn help(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Unusable(Unusable { provider, source }) => source.help(provider),
        }
    }
}

/// It was taken.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    provider: ProviderName,
}

impl Report for Taken {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("kept, for this user alone; `sovereign up` tells {} with it", self.provider));
    }
}

/// Takes what a provider gave the stack to prove itself with.
pub(crate) fn run(context: &Context, args: &DnsLoginArgs) -> Result<Taken, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let provider = declared(&stack, &args.provider)?;
    let text = match &args.secret_file {
        Some(path) => fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| NotTaken::Unreadable { path: path.clone(), source })?,
        None => context.output.ask_secret(
            &format!("What {} gave the stack to prove itself with: ", provider.name),
            "name a file with --secret-file",
        )?,
    };
    let secret = text.trim();
    ByCrate::new(provider, secret).map_err(|source| NotTaken::from(Unusable { provider: provider.clone(), source }))?;
    secrets::keep(&state.provider_secret(&provider.name), secret.as_bytes())?;
    Ok(Taken { provider: provider.name.clone() })
}
