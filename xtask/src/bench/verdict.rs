//! Figures: the middle of several, for people, and held against what is demanded.

use crate::tiers::Tally;

/// What is said of a figure. A must that is missed counts as failed, also for want of a figure when the run was `whole`:
/// nothing was left out. An aim is only named.
pub(super) fn verdict(
    measured: Option<f64>,
    must: Option<f64>,
    aim: Option<f64>,
    whole: bool,
    tally: &mut Tally,
) -> &'static str {
    let Some(measured) = measured else {
        tally.failed += u64::from(whole && must.is_some());
        return "not measured";
    };
    let reached = aim.is_none_or(|aim| measured <= aim);
    match must {
        Some(must) if measured > must => {
            tally.failed += 1;
            "**missed**"
        }
        Some(_) => {
            tally.passed += 1;
            if reached { "met" } else { "met; the aim is not" }
        }
        None if reached => "reached",
        None => "not reached",
    }
}

/// The middle one.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 }
}

/// Seconds, for people.
pub(super) fn shown(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.0} µs", seconds * 1e6) } else { format!("{:.1} ms", seconds * 1e3) }
}

/// What it was measured on.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!(
        "machine: {} processors,{}; Linux {}; load average {}",
        processors.lines().filter(|line| line.starts_with("processor")).count(),
        model.trim_start().trim_start_matches(':'),
        read("/proc/sys/kernel/osrelease"),
        read("/proc/loadavg"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_must_is_missed_above_its_limit_and_without_a_figure() {
        let mut tally = Tally::default();
        assert_eq!(verdict(Some(0.5), Some(0.6), Some(0.45), true, &mut tally), "met; the aim is not");
        assert_eq!(verdict(Some(0.61), Some(0.6), None, true, &mut tally), "**missed**");
        assert_eq!(verdict(None, Some(0.6), None, true, &mut tally), "not measured");
        assert_eq!(verdict(None, Some(0.6), None, false, &mut tally), "not measured");
        assert_eq!(verdict(Some(2.0), None, Some(1.2), true, &mut tally), "not reached");
        assert_eq!((tally.passed, tally.failed), (1, 2));
    }
}
