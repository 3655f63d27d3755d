//! `cargo xtask test`: every gate a change must pass.

use std::cell::Cell;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::run::{Deadline, cargo, run, say, target, watch};
use crate::tiers::{Tally, Tier, run_all};
use crate::{conformance, deny, docs, fuzz, needs, rooms};

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// The gates, cheapest first; together they stay below 45 minutes on two cores from a cold clone.
const TIERS: &[Tier] = &[
    Tier { name: "fmt", checks: "sources are formatted", budget: Duration::from_secs(15), run: fmt },
    Tier {
        name: "rooms",
        checks: "arrows between rooms go one way, pure rooms are pure",
        budget: Duration::from_secs(15),
        run: rooms,
    },
    Tier { name: "clippy", checks: "no lint is broken", budget: Duration::from_secs(265), run: clippy },
    Tier { name: "docs", checks: "documentation builds, generated pages are current", budget: minutes(1), run: docs },
    Tier { name: "deny", checks: "licences, bans and sources of dependencies", budget: minutes(2), run: deny },
    Tier { name: "unit", checks: "unit, property and snapshot tests", budget: Duration::from_secs(290), run: unit },
    Tier {
        name: "fuzz",
        checks: "parsers of strangers' bytes hold, 5 s each",
        budget: Duration::from_secs(200),
        run: fuzzed,
    },
    Tier {
        name: "conformance",
        checks: "HTTP caching as the public test suite has it",
        budget: Duration::from_secs(115),
        run: conformance,
    },
    Tier {
        name: "e2e",
        checks: "the real binary with real parts, judged from outside",
        budget: Duration::from_secs(1620),
        run: e2e,
    },
];

/// Runs all tiers, or those named.
///
/// # Errors
/// When the machine lacks something, or a name is no tier. Failed gates are in the exit code.
pub(crate) fn test(args: &[&str]) -> Result<ExitCode> {
    if args == ["--list"] {
        for Tier { name, checks, budget, .. } in TIERS {
            say(format!("{name:<11} {:>2} min  {checks}", budget.as_secs().div_ceil(60)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.iter().find(|arg| TIERS.iter().all(|tier| tier.name != **arg)) {
        bail!("{unknown} is no tier; `cargo xtask test --list` names them");
    }
    needs::ensure()?;
    let chosen: Vec<&Tier> = TIERS.iter().filter(|tier| args.is_empty() || args.contains(&tier.name)).collect();
    Ok(if run_all(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fmt(deadline: Deadline) -> Result<Tally> {
    run(&mut cargo(["fmt", "--all", "--", "--check"]), deadline).map(|()| Tally::ONE)
}

fn rooms(_: Deadline) -> Result<Tally> {
    rooms::check().map(|()| Tally::ONE)
}

fn clippy(deadline: Deadline) -> Result<Tally> {
    let lint = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny=warnings"];
    run(&mut cargo(lint), deadline).map(|()| Tally::ONE)
}

fn docs(deadline: Deadline) -> Result<Tally> {
    docs::check()?;
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    // Private items are documented too, so a link to one leads somewhere.
    run(doc.env("RUSTDOCFLAGS", "--deny=warnings --allow=rustdoc::private_intra_doc_links"), deadline)
        .map(|()| Tally::ONE)
}

fn deny(deadline: Deadline) -> Result<Tally> {
    deny::check(deadline).map(|()| Tally::ONE)
}

fn unit(deadline: Deadline) -> Result<Tally> {
    let mut tally =
        counted(&mut cargo(["test", "--workspace", "--lib", "--bins", "--locked", "--no-fail-fast"]), deadline)?;
    if tally.failed == 0 {
        let documented = counted(&mut cargo(["test", "--workspace", "--doc", "--locked", "--no-fail-fast"]), deadline)?;
        tally.add(documented);
    }
    Ok(tally)
}

/// The test that begins with nothing and builds the Ghost image that the others use.
const COLD_RUN: &str = "a_site_is_written_at_home_read_at_the_office_and_survives";

fn fuzzed(_: Deadline) -> Result<Tally> {
    fuzz::drive(fuzz::BRIEFLY, &[])
}

fn conformance(deadline: Deadline) -> Result<Tally> {
    conformance::check(deadline, false)
}

/// Integration tests, one binary after the other and one test after the other: they measure time and load machines. Always
/// of the whole workspace: of one package alone, dependencies have other features, and everything is compiled once more.
fn e2e(deadline: Deadline) -> Result<Tally> {
    let apt: Vec<_> = needs::apt_config()?.into_iter().map(|path| ("APT_CONFIG", path)).collect();
    let mut cold = cargo(["test", "--workspace", "--test=ghost", "--locked", "--", COLD_RUN, "--nocapture"]);
    let mut tally = counted(&mut cold, deadline)?;
    if tally.failed > 0 {
        return Ok(tally);
    }
    let mut rest = cargo(["test", "--workspace", "--test=*", "--locked", "--no-fail-fast", "--"]);
    rest.args(["--test-threads=1", "--nocapture", "--skip", COLD_RUN]);
    tally.add(counted(rest.env("SOVEREIGN_GHOST_IMAGE", ghost_image(deadline)?).envs(apt), deadline)?);
    Ok(tally)
}

/// The root of the image that the cold run has built; found without the network.
fn ghost_image(deadline: Deadline) -> Result<String> {
    let images = target().join("tmp/cache/sovereign/images");
    run(&mut cargo(["build", "--quiet", "--workspace", "--example=build", "--locked"]), deadline)?;
    let found = Command::new(target().join("debug/examples/build")).arg(images).arg("--offline").output()?;
    ensure!(found.status.success(), "the cold run left no image: {}", String::from_utf8_lossy(&found.stderr));
    Ok(String::from_utf8(found.stdout)?.trim().to_owned())
}

/// Runs tests and counts them. Failed tests are a count, anything else that fails is an error.
fn counted(command: &mut Command, deadline: Deadline) -> Result<Tally> {
    let tally = Cell::new(Tally::default());
    let ended = watch(command.env("INSTA_UPDATE", "no"), deadline, |line| {
        let mut sum = tally.get();
        sum.add_line(line);
        tally.set(sum);
    });
    match (ended, tally.get()) {
        (Err(error), Tally { failed: 0, .. }) => Err(error),
        (_, tally) => Ok(tally),
    }
}
