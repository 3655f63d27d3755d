//! `cargo xtask`: what developers and CI run. One command per purpose, no shell scripts beside it.
//!
//! Promises: whatever is needed is looked for first and named with its reason; every step says how long it took; the
//! exit code is 0 only when everything passed. Nothing of the product depends on this crate.

mod backports;
mod bench;
mod compiler;
mod conformance;
mod deny;
mod dist;
mod docs;
mod figures;
mod fuzz;
mod needs;
mod prove;
mod rooms;
mod run;
mod stack;
mod test;
mod tiers;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  test [TIER...]   every gate a change must pass, or only the tiers named
                     --list      name the tiers with what they check and their time budgets
  fuzz [--seconds N] [TARGET...]
                   feed the parsers of strangers' bytes with what breaks parsers; 8 seconds per target
  prove [NAME...]  what takes long: release build, figures, advisories; run before a release
                     --list      name the proofs with what they check and their time budgets
  bench edge [--rounds N] [--seconds S] [--only CASE,...]
                   the edge beside nginx, Varnish, HAProxy and Caddy; fails when a must of docs/benchmarks.md is missed
  bench archive [--rounds N] [--megabytes N] [--only CASE,...] [--json FILE]
                   the archive beside duplicity, restic and borg; fails likewise
  conformance [--accept]
                   the public HTTP cache test suite against an edge, compared with what passed before
  dist             the static release binary with its checksum, in dist/
  docs [--check]   write the generated pages of docs/, or only say whether they are up to date

Environment:
  XTASK_APT_OPTIONS   options for apt-get, separated by spaces: `-o Acquire::Check-Valid-Until=false` on an image
                      whose package lists have expired";

fn main() -> ExitCode {
    if let Some(code) = compiler::as_compiler() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            run::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["test", rest @ ..] => test::test(rest),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        ["prove", rest @ ..] => prove::prove(rest),
        ["bench", rest @ ..] => bench::command(rest),
        // What `bench` starts as the limit of the machine.
        ["bare", rest @ ..] => match bench::bare(rest)? {},
        ["conformance", rest @ ..] => conformance::command(rest).map(|()| ExitCode::SUCCESS),
        ["dist"] => dist::dist().map(|_| ExitCode::SUCCESS),
        ["docs"] => docs::write().map(|()| ExitCode::SUCCESS),
        ["docs", "--check"] => docs::check().map(|()| ExitCode::SUCCESS),
        [] | ["help" | "--help" | "-h"] => {
            run::say(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("there is no such command: {}\n\n{USAGE}", args.join(" ")),
    }
}
