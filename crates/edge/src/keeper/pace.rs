//! How fast an application may be asked what nobody waits for.
//!
//! Ghost renders on one thread: what a sweep takes of it, its readers and authors do not have. So a sweep asks one
//! question at a time, and after each leaves the application alone for long enough that it works on questions of the
//! sweep for at most [`SHARE`] of the time. An application that is busy with others answers slowly, and is then asked
//! less often. 1,000 pages of 35 ms each take two minutes.

use std::time::{Duration, Instant};

/// The part of one processor core that a sweep may take of an application.
const SHARE: f64 = 0.3;

/// When the next question may be asked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ready: Option<Instant>,
}

impl Pace {
    /// An answer came at `now` and took this long.
    pub(super) fn answered(&mut self, now: Instant, took: Duration) {
        self.ready = Some(now + took.mul_f64((1.0 - SHARE) / SHARE));
    }

    /// When the next question may be asked, if that is later than `now`.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        self.ready.filter(|ready| *ready > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_application_has_most_of_its_time_for_others(took in proptest::collection::vec(0u64..2_000_000, 1..50)) {
            let start = Instant::now();
            let (mut now, mut worked) = (start, Duration::ZERO);
            let mut pace = Pace::default();
            for took in took.into_iter().map(Duration::from_micros) {
                now += took;
                worked += took;
                pace.answered(now, took);
                now = pace.wait(now).unwrap_or(now);
                let share = worked.as_secs_f64() / (now - start).as_secs_f64().max(1e-9);
                prop_assert!(share <= SHARE + 1e-6, "{share}");
            }
        }
    }

    #[test]
    fn a_thousand_pages_take_two_minutes() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let mut now = start;
        for _ in 0..1000 {
            now += Duration::from_millis(35);
            pace.answered(now, Duration::from_millis(35));
            now = pace.wait(now).unwrap();
        }
        assert!((now - start).abs_diff(Duration::from_secs(117)) < Duration::from_secs(1), "{:?}", now - start);
    }
}
