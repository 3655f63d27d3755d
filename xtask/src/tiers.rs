//! Tiers: gates with a time budget each, run one after the other, and the account at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::run::{Deadline, say};

/// A gate.
pub(crate) struct Tier {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it checks, for people.
    pub(crate) checks: &'static str,
    /// How long it may take on two cores from a cold clone. Beyond it the tier fails: slow gates are not run.
    pub(crate) budget: Duration,
    /// The gate itself.
    pub(crate) run: fn(Deadline) -> Result<Tally>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests, or the gate itself where it is one check.
    pub(crate) passed: u64,
    /// Likewise.
    pub(crate) failed: u64,
    /// Tests that said they cannot run here.
    pub(crate) ignored: u64,
}

impl Tally {
    /// A gate that is one check and held.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0, ignored: 0 };

    /// Adds what a `test result:` line of the test runner says; other lines change nothing.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            if let Some((count, what)) = part.trim().split_once(' ')
                && let Ok(count) = count.parse::<u64>()
            {
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// How a tier ended.
struct Outcome {
    name: &'static str,
    took: Duration,
    budget: Duration,
    tally: Tally,
    error: Option<anyhow::Error>,
}

/// Runs the tiers, all of them whatever happens, and prints the account. What one leaves of its time those after it may
/// use, so that all together take no longer than their budgets together. Whether everything passed.
pub(crate) fn run_all(tiers: &[&Tier]) -> bool {
    let began = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut spare = Duration::ZERO;
    for tier in tiers {
        let outcome = outcome(tier, tier.budget + spare);
        spare = outcome.budget.saturating_sub(outcome.took);
        outcomes.push(outcome);
    }
    let mut total = Tally::default();
    say(format!("\n{:<10} {:>9} {:>9} {:>8} {:>8}", "tier", "seconds", "budget", "passed", "failed"));
    for Outcome { name, took, budget, tally, .. } in &outcomes {
        total.add(*tally);
        let (took, budget) = (took.as_secs_f64(), budget.as_secs());
        say(format!("{name:<10} {took:>9.1} {budget:>9} {:>8} {:>8}", tally.passed, tally.failed));
    }
    for outcome in &outcomes {
        if let Some(error) = &outcome.error {
            say(format!("\n{} failed: {error:#}", outcome.name));
        }
    }
    let passed = total.failed == 0;
    say(format!(
        "\ntest result: {}. {} passed; {} failed; {} ignored; finished in {:.1}s",
        if passed { "ok" } else { "FAILED" },
        total.passed,
        total.failed,
        total.ignored,
        began.elapsed().as_secs_f64()
    ));
    say(format!("{} passed, {} failed", total.passed, total.failed));
    passed
}

fn outcome(tier: &Tier, budget: Duration) -> Outcome {
    let Tier { name, checks, run, .. } = *tier;
    say(format!("\n=== {name}: {checks}"));
    let began = Instant::now();
    let result = run(Deadline::after(budget));
    let took = began.elapsed();
    let (mut tally, mut error) = match result {
        Ok(tally) => (tally, None),
        Err(error) => (Tally::default(), Some(error)),
    };
    if error.is_none() && took > budget {
        error = Some(anyhow::anyhow!("it took longer than its budget"));
    }
    if error.is_none() && tally.failed > 0 {
        error = Some(anyhow::anyhow!("{} tests failed", tally.failed));
    }
    if error.is_some() {
        // A gate that failed counts, also where no test was there to fail.
        tally.failed = tally.failed.max(1);
    }
    Outcome { name, took, budget, tally, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_runner_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 29 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 9.81s",
        ] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally { passed: 30, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_gate_over_its_budget_fails() {
        let slow = Tier { name: "slow", checks: "nothing", budget: Duration::ZERO, run: |_| Ok(Tally::ONE) };
        let outcome = outcome(&slow, slow.budget);
        assert_eq!(outcome.tally.failed, 1);
        assert!(outcome.error.is_some());
    }
}
