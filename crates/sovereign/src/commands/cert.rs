//! `sovereign cert`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use sovereign_certs::wanted::Why;
use sovereign_model::{AuthorityName, DnsName};
use zeroize::Zeroizing;

use crate::certificates::known::{Known, KnownName};
use crate::certificates::{Certificates, Renewed, Rules, now, wanted};
use crate::cli::{CertImportArgs, CertRenewArgs, LeaseArgs};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Cell, Page, Report, Table, figures};
use crate::secrets;
use crate::world::unix_seconds;

/// Why a command about certificates does nothing.
#[derive(Debug, thiserror::Error)]
enum CertError {
    #[error("this stack asks no authority for certificates")]
    NoAuthority,
    #[error("no authority is asked for a certificate for {0}")]
    NotAsked(DnsName, Why),
    #[error("no site of this stack is called {0}")]
    NoSite(DnsName),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

impl Reason for CertError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::NoAuthority => Some(Why::NoAuthority.help().to_owned()),
            Self::NotAsked(_, why) => Some(why.help().to_owned()),
            Self::NoSite(_) => Some("`sovereign cert list` shows the names there are".to_owned()),
            Self::Unreadable { .. } => None,
        }
    }
}

/// Fails unless authorities are asked for all of these.
fn asked(Declared { stack, state, .. }: &Declared, names: &[DnsName]) -> Result<BTreeSet<DnsName>, CertError> {
    if stack.authorities.is_empty() {
        return Err(CertError::NoAuthority);
    }
    let all = wanted(stack, state);
    if let Some(name) = names.iter().find(|name| !all.names.contains_key(*name)) {
        return Err(match all.left.get(name) {
            Some(why) => CertError::NotAsked(name.clone(), *why),
            None => CertError::NoSite(name.clone()),
        });
    }
    Ok(names.iter().cloned().collect())
}

/// What is known of all names.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    /// The names that authorities are asked for.
    names: BTreeMap<DnsName, KnownName>,
    /// Those that none is asked for.
    left: BTreeMap<DnsName, Left>,
}

/// Why no authority is asked for a name.
#[derive(Debug, Serialize)]
struct Left {
    help: &'static str,
}

impl Report for Listed {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        let now = unix_seconds(SystemTime::now());
        let from_now = |unix: u64| figures::seconds(unix.saturating_sub(now));
        let mut table = Table::new(["NAME", "ISSUED BY", ">ENDS IN", ">RENEWED IN"]);
        for (name, known) in &self.names {
            let Some(stored) = &known.certificate else {
                table.row([name.as_str().into(), Cell::styled("nobody yet", theme.warning), "".into(), "".into()]);
                continue;
            };
            let style = if stored.late { theme.warning } else { theme.good };
            table.row([
                Cell::from(name.as_str()),
                stored.authority.as_str().into(),
                Cell::styled(from_now(stored.ends_unix), style),
                from_now(stored.due_unix).into(),
            ]);
        }
        for name in self.left.keys() {
            table.row([name.as_str().into(), "the stack's own".into(), "".into(), "".into()]);
        }
        page.table(&table);
        for (name, known) in &self.names {
            if let Some(why) = &known.unreadable {
                page.line(format_args!("{name}: {why}"));
            }
            if let Some(waits) = &known.waits {
                page.line(format_args!("{name}: tried again in {}", from_now(waits.until_unix)));
                for why in &waits.why {
                    page.line(format_args!("  {}{why}{:#}", theme.warning, theme.warning));
                }
            }
        }
        for (name, left) in &self.left {
            page.line(format_args!("{name}: no authority is asked"));
            page.help(left.help);
        }
    }

    fn exit(&self) -> Exit {
        let good = |known: &KnownName| known.certificate.as_ref().is_some_and(|stored| !stored.late);
        if self.names.values().all(good) { Exit::Done } else { Exit::Attention }
    }
}

/// Shows what is known.
pub(crate) fn list(context: &Context) -> Result<Listed, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let names = Known::look(&declared.stack, &declared.state, now()).names;
    let left = wanted(&declared.stack, &declared.state)
        .left
        .into_iter()
        .map(|(name, why)| (name, Left { help: why.help() }))
        .collect();
    Ok(Listed { names, left })
}

/// Renews what is due, or these names.
pub(crate) fn renew(context: &Context, args: &CertRenewArgs) -> Result<Renewed, Failure> {
    let declared = Declared::load(context)?;
    let anew = asked(&declared, &args.names)?;
    let rules = Rules { anew, ..Rules::default() };
    at_work(context, &declared, ("cert renew", &args.lease, args.yes), rules, |_| Ok(()))
}

/// Takes a certificate in.
pub(crate) fn import(context: &Context, args: &CertImportArgs) -> Result<Renewed, Failure> {
    let declared = Declared::load(context)?;
    asked(&declared, std::slice::from_ref(&args.name))?;
    let [chain, key] = [read(&args.chain)?, read(&args.key)?];
    let first = declared.stack.authorities.first().map(|first| first.name.clone());
    let authority: AuthorityName = args.authority.clone().or(first).ok_or(CertError::NoAuthority)?;
    // What there is now is brought to edges; nobody is asked for more.
    let rules = Rules { offline: true, ..Rules::default() };
    at_work(context, &declared, ("cert import", &args.lease, args.yes), rules, |certificates| {
        certificates.import(&args.name, &authority, &chain, &key)
    })
}

/// Holds what changes of a stack hold, and works on its certificates: first `before`, then what `rules` allow.
fn at_work(
    context: &Context,
    declared: &Declared,
    (command, take, yes): (&str, &LeaseArgs, bool),
    rules: Rules,
    before: impl FnOnce(Certificates<'_>) -> Result<(), Failure>,
) -> Result<Renewed, Failure> {
    sovereign_engine::state::read(&declared.state)?;
    let _lock = secrets::lock(&declared.state, command)?;
    let reach = Arc::new(hosts::reach(declared)?);
    let lease = lease::take(context, declared, &reach, command, take, yes)?;
    let progress = context.output.progress();
    let (stack, state) = (&declared.stack, &declared.state);
    let certificates = Certificates { stack, state, reach: &reach, progress: &progress };
    before(certificates)?;
    let renewed = interrupt::run(&context.output, |stop| {
        let work = async move { Ok(certificates.renew(rules, &stop).await) };
        lease::under(&lease, work)
    })?;
    Ok(renewed.unwrap_or_default())
}

fn read(path: &Path) -> Result<Zeroizing<String>, CertError> {
    let unreadable = |source| CertError::Unreadable { path: path.to_owned(), source };
    fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}
