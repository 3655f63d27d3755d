//! `cargo xtask test`: every gate a change must pass.

use std::cell::Cell;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::compiler::Front;
use crate::run::{Deadline, cargo, run, say, target, watch};
use crate::tiers::{Tally, Tier, run_all};
use crate::{conformance, deny, docs, needs, rooms};

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
    Tier { name: "docs", checks: "generated pages are current", budget: Duration::from_secs(15), run: docs },
    Tier {
        name: "build",
        checks: "everything compiles, and no lint of rustc, clippy or rustdoc is broken",
        budget: minutes(13),
        run: build,
    },
    Tier { name: "deny", checks: "licences, bans and sources of dependencies", budget: minutes(2), run: deny },
    Tier { name: "unit", checks: "unit, property and snapshot tests", budget: minutes(3), run: unit },
    Tier {
        name: "conformance",
        checks: "HTTP caching as the public test suite has it",
        budget: minutes(1),
        run: conformance,
    },
    Tier { name: "e2e", checks: "the real binary with real parts, judged from outside", budget: minutes(25), run: e2e },
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

fn docs(_: Deadline) -> Result<Tally> {
    docs::check().map(|()| Tally::ONE)
}

/// A `cargo` for all that is tested: the lints are looked at as it compiles, see [`Front::Lints`].
fn linting<const N: usize>(args: [&str; N]) -> Result<Command> {
    let mut cargo = cargo(args);
    Front::Lints.of(&mut cargo)?;
    Ok(cargo)
}

/// Always of the whole workspace, here and below: of one package alone, dependencies have other features, and everything
/// is compiled once more.
fn build(deadline: Deadline) -> Result<Tally> {
    run(&mut linting(["test", "--workspace", "--all-targets", "--no-run", "--locked"])?, deadline).map(|()| Tally::ONE)
}

fn deny(deadline: Deadline) -> Result<Tally> {
    deny::check(deadline).map(|()| Tally::ONE)
}

fn unit(deadline: Deadline) -> Result<Tally> {
    let mut tally =
        counted(&mut linting(["test", "--workspace", "--lib", "--bins", "--locked", "--no-fail-fast"])?, deadline)?;
    if tally.failed == 0 {
        let mut documented = linting(["test", "--workspace", "--doc", "--locked", "--no-fail-fast"])?;
        tally.add(counted(&mut documented, deadline)?);
    }
    Ok(tally)
}

/// The test that begins with nothing and builds the Ghost image that the others use.
const COLD_RUN: &str = "a_site_is_written_at_home_read_at_the_office_and_survives";

fn conformance(deadline: Deadline) -> Result<Tally> {
    conformance::check(deadline, false)
}

/// Integration tests that make whole machines, networks or file systems of machines, of which there should not be two at a
/// time. What they do most is wait, so all other integration tests run beside them.
const MACHINES: &[&str] = &[
    "bare_host",
    "connection",
    "debian",
    "deployed",
    "folder",
    "hosts",
    "hosts_upgraded",
    "images",
    "instances",
    "lab",
    "lease",
    "lost",
    "moved",
    "real",
    "six",
    "small",
    "storage",
    "systemd",
    "upgraded",
];

/// Integration tests: after the cold run two lanes of them, in each one binary and one test after the other, as they load
/// machines and say how long something took.
fn e2e(deadline: Deadline) -> Result<Tally> {
    let apt: Vec<_> = needs::apt_config()?.into_iter().map(|path| ("APT_CONFIG", path)).collect();
    let mut cold = linting(["test", "--workspace", "--test=ghost", "--locked", "--", COLD_RUN, "--nocapture"])?;
    let mut tally = counted(&mut cold, deadline)?;
    if tally.failed > 0 {
        return Ok(tally);
    }
    let image = ghost_image(deadline)?;
    let tests = rooms::integration_tests()?;
    let unknown: Vec<_> = MACHINES.iter().filter(|name| !tests.contains(**name)).collect();
    ensure!(unknown.is_empty(), "there is no integration test {unknown:?}");
    let (machines, others): (Vec<_>, Vec<_>) = tests.iter().partition(|name| MACHINES.contains(&name.as_str()));
    let lane = |names: Vec<&String>| {
        let mut lane = linting(["test", "--workspace", "--locked", "--no-fail-fast"])?;
        lane.args(names.into_iter().map(|name| format!("--test={name}")));
        lane.args(["--", "--test-threads=1", "--nocapture", "--skip", COLD_RUN]);
        counted(lane.env("SOVEREIGN_GHOST_IMAGE", &image).envs(apt.iter().cloned()), deadline)
    };
    let (machines, others) = thread::scope(|scope| {
        let machines = scope.spawn(|| lane(machines));
        let others = lane(others);
        (machines.join().unwrap_or_else(|_| bail!("the lane of machines broke")), others)
    });
    // Both are asked first: what failed in one lane is counted also when the other was stopped.
    for ended in [machines, others] {
        match ended {
            Ok(counted) => tally.add(counted),
            Err(error) => {
                say(format!("{error:#}"));
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

/// The root of the image that the cold run has built; found without the network.
fn ghost_image(deadline: Deadline) -> Result<String> {
    let images = target().join("tmp/cache/sovereign/images");
    run(&mut linting(["build", "--quiet", "--workspace", "--example=build", "--locked"])?, deadline)?;
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
