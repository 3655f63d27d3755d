//! `cargo xtask prove`: what takes too long for every change. Run before a release; its figures go to docs/benchmarks.md.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::run::{Deadline, say};
use crate::tiers::{Tally, Tier, run_all};
use crate::{deny, dist};

const PROOFS: &[Tier] = &[
    Tier { name: "advisories", checks: "no dependency has a known vulnerability", budget: minutes(6), run: advisories },
    Tier { name: "dist", checks: "the release binary builds, is static and runs", budget: minutes(30), run: release },
];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Runs every proof.
///
/// # Errors
/// Never by itself; failed proofs are in the exit code.
pub(crate) fn prove() -> Result<ExitCode> {
    let all: Vec<&Tier> = PROOFS.iter().collect();
    Ok(if run_all(&all) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn advisories(deadline: Deadline) -> Result<Tally> {
    if deny::advisories(deadline)? {
        return Ok(Tally::ONE);
    }
    say("skipped: run it again where the database can be reached");
    Ok(Tally { ignored: 1, ..Tally::default() })
}

fn release(_: Deadline) -> Result<Tally> {
    dist::dist().map(|()| Tally::ONE)
}
