//! How long to wait before trying again something that keeps failing.

use std::time::Duration;

/// Waits that double from `first` up to `longest`, and begin anew after a run of `well` or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    well: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration, well: Duration) -> Self {
        Self { first, longest, well, next: first }
    }

    /// The wait after a run that lasted `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.well {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = self.next.saturating_mul(2).min(self.longest);
        wait
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_good_run() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 5 * second, 60 * second);
        let waits: Vec<_> = [1, 1, 1, 1, 61, 1].map(|ran| backoff.after(ran * second).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 5, 1, 2]);
        backoff.reset();
        assert_eq!(backoff.after(second), second);
    }
}
