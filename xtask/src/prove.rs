//! `cargo xtask prove`: what takes too long for every change. Run before a release; its figures go to docs/benchmarks.md.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::run::{Deadline, say};
use crate::tiers::{Tally, Tier, run_all};
use crate::{bench, deny, dist, figures, fuzz};

const PROOFS: &[Tier] = &[
    Tier { name: "advisories", checks: "no dependency has a known vulnerability", budget: minutes(6), run: advisories },
    Tier { name: "fuzz", checks: "parsers of strangers' bytes hold, 5 minutes each", budget: minutes(60), run: fuzzed },
    Tier { name: "dist", checks: "the release binary builds, is static and runs", budget: minutes(30), run: release },
    Tier { name: "up", checks: "a first, a later and a second `up`, by stage", budget: minutes(45), run: figures::up },
    Tier { name: "plan", checks: "how planning grows with the stack", budget: minutes(15), run: figures::plan },
    Tier { name: "memory", checks: "our own processes together, idle", budget: minutes(35), run: figures::memory },
    Tier {
        name: "images",
        checks: "every Debian image twice, byte for byte",
        budget: minutes(30),
        run: figures::images,
    },
    Tier { name: "load", checks: "no request fails during a deploy", budget: minutes(35), run: figures::load },
    Tier { name: "publish", checks: "how soon a post is everywhere", budget: minutes(50), run: figures::publish },
    Tier {
        name: "hosts",
        checks: "three hosts in a cluster, a site's instances, a site that moves to a host, upgrades of hosts",
        budget: minutes(40),
        run: figures::hosts,
    },
    Tier { name: "six", checks: "the whole life of a stack on six hosts", budget: minutes(40), run: figures::six },
    Tier {
        name: "homes",
        checks: "a home behind a router, one that only dials out, and names on their networks",
        budget: minutes(20),
        run: figures::homes,
    },
    Tier {
        name: "names",
        checks: "what a resolver hears when data centers die; an answer beside others; a year of certificates",
        budget: minutes(60),
        run: figures::names,
    },
    Tier { name: "lab", checks: "a lab of six hosts, how soon it is there", budget: minutes(20), run: figures::lab },
    Tier {
        name: "edge",
        checks: "kept pages beside nginx, Varnish, HAProxy, Caddy",
        budget: minutes(70),
        run: bench::edge,
    },
    Tier {
        name: "archive",
        checks: "backups beside duplicity, restic and borg",
        budget: minutes(90),
        run: bench::archive,
    },
];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Runs the proofs named, or all.
///
/// # Errors
/// When a name is unknown; failed proofs are in the exit code.
pub(crate) fn prove(names: &[&str]) -> Result<ExitCode> {
    if names == ["--list"] {
        for Tier { name, checks, budget, .. } in PROOFS {
            say(format!("{name:<10} {checks} ({} min)", budget.as_secs() / 60));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = names.iter().find(|name| PROOFS.iter().all(|proof| proof.name != **name)) {
        bail!("there is no such proof: {unknown}; `cargo xtask prove --list` names them");
    }
    let chosen: Vec<&Tier> = PROOFS.iter().filter(|proof| names.is_empty() || names.contains(&proof.name)).collect();
    Ok(if run_all(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn advisories(deadline: Deadline) -> Result<Tally> {
    if deny::advisories(deadline)? {
        return Ok(Tally::ONE);
    }
    say("skipped: run it again where the database can be reached");
    Ok(Tally { ignored: 1, ..Tally::default() })
}

fn fuzzed(_: Deadline) -> Result<Tally> {
    fuzz::drive(fuzz::LONG, &[])
}

fn release(_: Deadline) -> Result<Tally> {
    dist::dist().map(|_| Tally::ONE)
}
