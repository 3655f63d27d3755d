//! `sovereign dns secondary`.

use serde::Serialize;
use sovereign_dns::knot::copy;
use sovereign_dns::zone::NameServer;
use sovereign_model::names::Names;
use sovereign_model::secondary::TsigAlgorithm;
use sovereign_model::{DnsName, SecondaryName};

use crate::cli::DnsSecondaryArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::secrets;

/// The stack file has no such secondary.
#[derive(Debug, thiserror::Error)]
#[error("this stack has no secondary {0}")]
struct NotDeclared(SecondaryName, Vec<String>);

impl Reason for NotDeclared {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self.1.is_empty() {
            true => "declare one in the stack file: `[[secondary]]`".to_owned(),
            false => format!("its secondaries are: {}", self.1.join(", ")),
        })
    }
}

/// No domain is to be copied.
#[derive(Debug, thiserror::Error)]
#[error("secondary {0} has a copy of no domain")]
struct OfNothing(SecondaryName);

impl Reason for OfNothing {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(format!("name it in a domain without `provider`: `secondaries = [\"{}\"]`", self.0))
    }
}

/// What the owner of a secondary needs to know.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    name: SecondaryName,
    domains: Vec<DnsName>,
    /// Those that it copies from.
    primaries: Vec<NameServer>,
    key: DnsName,
    algorithm: TsigAlgorithm,
    secret: String,
    /// The same as a part of Knot's configuration.
    knot: String,
}

impl Report for Told {
    fn show(&self, page: &mut Page) {
        let domains: Vec<&str> = self.domains.iter().map(DnsName::as_str).collect();
        page.title(format_args!("{}, for {}", self.name, domains.join(", ")));
        page.line("the zones come from, and notices of changes too:");
        for server in &self.primaries {
            let addresses: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
            page.line(format_args!("  {}  {}", server.name, addresses.join("  ")));
        }
        page.line("the key that both sides prove themselves with (TSIG):");
        page.line(format_args!("  name       {}", self.key));
        page.line(format_args!("  algorithm  {}", self.algorithm));
        page.line(format_args!("  secret     {}", self.secret));
        page.line("as a part of Knot's configuration:");
        for line in self.knot.lines() {
            page.line(format_args!("  {line}"));
        }
        page.help(
            "hand it over where nobody reads along: whoever has the secret gets the whole zones. `sovereign rotate \
             transfer/NAME` makes another one",
        );
    }
}

/// Tells what the owner of a secondary needs.
pub(crate) fn run(context: &Context, args: &DnsSecondaryArgs) -> Result<Told, Failure> {
    let Declared { stack, state, .. } = Declared::load(context)?;
    let secondary = stack.secondaries.iter().find(|secondary| secondary.name == args.name);
    let secondary = secondary.ok_or_else(|| {
        let known = stack.secondaries.iter().map(|secondary| secondary.name.to_string());
        NotDeclared(args.name.clone(), known.collect())
    })?;
    let names = Names::of(&stack);
    let domains: Vec<DnsName> =
        copy::domains(&names, secondary).into_iter().map(|domain| domain.name.clone()).collect();
    let first = domains.first().ok_or_else(|| OfNothing(secondary.name.clone()))?;
    let key = secrets::transfer_key(context, &stack, &state, secondary)?;
    let secret = key.secret.expose();
    Ok(Told {
        name: secondary.name.clone(),
        primaries: copy::primaries(&names, first),
        key: secondary.key.clone(),
        algorithm: secondary.algorithm,
        secret: secret.to_owned(),
        knot: copy::conf(&names, secondary, secret),
        domains,
    })
}
