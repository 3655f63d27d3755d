//! How one address is seen: what looks at it have found, and what that makes of it.
//!
//! A look that took much longer than it may says that this process did not get to run, because the machine was
//! overwhelmed, paused or asleep. It says nothing of whom it looked at, and does not count. Nor does one that found no way
//! there, as long as there never was one: a machine without IPv6 can say nothing of an address of it.

use std::time::{Duration, Instant, SystemTime};

use sovereign_model::agent_config::Watched;
use sovereign_model::agent_status::{Sight, Standing};
use sovereign_runtime::control::Refusal;
use tracing::warn;

use crate::health::{Health, Rules};
use crate::probe::ProbeError;

/// A look that took so much longer than it may was not run in time.
const LATE: Duration = Duration::from_secs(1);

/// How an address is seen.
pub(crate) struct View {
    health: Health,
    latency: Option<Duration>,
    answered: bool,
    clock_ahead: Option<i64>,
    error: Option<String>,
}

impl View {
    /// Of an address that is watched from now on.
    pub(crate) fn new(now: Instant) -> Self {
        Self { health: Health::new(now), latency: None, answered: false, clock_ahead: None, error: None }
    }

    /// How far the clock there is ahead of the one here, in seconds, as a look has found.
    pub(crate) fn clock(&mut self, ahead: i64) {
        self.clock_ahead = Some(ahead);
    }

    /// What a look found that `took` so long, the wait for its turn left out; how the address stands, if that has changed.
    pub(crate) fn heard(
        &mut self,
        looked: Result<Duration, ProbeError>,
        took: Duration,
        rules: &Rules,
        now: Instant,
    ) -> Option<Standing> {
        let changed = match looked {
            Ok(latency) => {
                (self.latency, self.answered, self.error) = (Some(latency), true, None);
                self.health.answered(rules, now)
            }
            Err(_) if took > rules.timeout + LATE => {
                warn!(?took, "this process was not run in time: what it saw does not count");
                false
            }
            Err(error) => {
                // With its causes.
                self.error = Some(Refusal::because(&error, None).message);
                let never_a_way = error.is_no_way() && self.standing() == Standing::Unknown;
                !never_a_way && self.health.failed(rules, now)
            }
        };
        changed.then(|| self.standing())
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.health.standing()
    }

    /// Whether it has ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Why the last look failed, if it did.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// As it is told.
    pub(crate) fn sight(&self, of: &Watched, fails_open: bool) -> Sight {
        let standing = self.standing();
        // Counted back from now, so that a clock that is set changes nothing but the hour that is told.
        let since = SystemTime::now().checked_sub(self.health.since().elapsed());
        let since = since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
        Sight {
            datacenter: of.datacenter.clone(),
            at: of.at.clone(),
            address: of.address,
            standing,
            counted_on: fails_open || standing != Standing::Dead,
            since_unix: since.as_ref().map_or(0, Duration::as_secs),
            latency_us: self.latency.and_then(|latency| u64::try_from(latency.as_micros()).ok()),
            clock_ahead_seconds: self.clock_ahead,
            last_error: self.error.clone(),
            deaths: self.health.deaths(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{self, ConnectionRefused, NetworkUnreachable};

    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    /// A view of what was found, each in so much time.
    fn view(found: impl IntoIterator<Item = (Result<(), ErrorKind>, Duration)>) -> View {
        let now = Instant::now();
        let mut view = View::new(now);
        for (found, took) in found {
            let looked = found.map(|()| QUICK).map_err(|kind| ProbeError::Connect(kind.into()));
            view.heard(looked, took, &Rules::default(), now);
        }
        view
    }

    #[test]
    fn who_has_no_way_there_has_nothing_to_say_of_it_unless_there_was_one() {
        let no_way = [(Err(NetworkUnreachable), QUICK); 9];
        let never = view(no_way);
        assert_eq!((never.standing(), never.error()), (Standing::Unknown, Some("no connection: network unreachable")));
        assert_eq!(view([(Ok(()), QUICK)].into_iter().chain(no_way)).standing(), Standing::Dead);
        assert_eq!(view([(Err(ConnectionRefused), QUICK); 3]).standing(), Standing::Dead);
    }

    #[test]
    fn a_process_that_was_not_run_in_time_has_seen_nothing() {
        let late = Rules::default().timeout + LATE + QUICK;
        let view = view([(Ok(()), QUICK)].into_iter().chain([(Err(ConnectionRefused), late); 9]));
        assert_eq!((view.standing(), view.error()), (Standing::Alive, None));
    }
}
