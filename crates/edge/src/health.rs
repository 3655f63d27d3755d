//! Whether a source, or a way to it, is to be counted on, judged by how questions to it have ended lately.
//!
//! ```text
//!                 FALL silences, or one refusal
//!          well ────────────────────────────────▶ away ◀─ any failure ─┐
//!          ▲  ▲                                   │  │                 │
//!          │  └── an answer, unless it flaps ─────┘  └─ an answer ─▶ on trial
//!          └────────── an answer after `settle` without a failure ─────┘
//! ```
//!
//! A refusal says that nobody is there (no socket, no route, a 503) and is believed at once: what is kept is as good as
//! an answer, and waiting would cost readers time. Silence (an answer that did not come, an exchange that broke off) says
//! little by itself: one slow page, one connection that was cut. Several count as one when they end together, as all
//! exchanges of one connection do.
//!
//! What comes back is well with its first answer, as after any restart. Only what falls again soon after is put on trial,
//! each time for longer: going to and fro costs readers more than staying with what is kept. What was not there yet when it
//! was asked for the first time has not come back, it has come.

use std::time::{Duration, Instant};

/// Silences in a row until it counts as away: HAProxy's default, for the same reason.
const FALL: u32 = 3;
/// Silences that end within this time are one event.
const APART: Duration = Duration::from_secs(1);
/// What fell within this time of having been well flaps.
const CALM: Duration = Duration::from_secs(60);
/// How long the first trial lasts; doubled with each that follows, up to [`LONGEST_SETTLE`].
const FIRST_SETTLE: Duration = Duration::from_secs(2);
/// As long as a mirror's keeper waits between two tries, with room.
const LONGEST_SETTLE: Duration = Duration::from_secs(30);

/// How a question failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Somebody or something said that nobody is there.
    Refused,
    /// No answer, or only a part of one.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unasked,
    /// `returned`: when it last came back, if it ever was away.
    Well {
        returned: Option<Instant>,
    },
    /// `before`: it was well before.
    Away {
        before: bool,
    },
    OnTrial {
        since: Instant,
    },
}

/// The judgement, and what it needs of the past.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: State,
    silences: u32,
    last_silence: Option<Instant>,
    settle: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: State::Unasked, silences: 0, last_silence: None, settle: Duration::ZERO }
    }
}

impl Health {
    /// A question was answered.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.silences = 0;
        self.state = match self.state {
            State::Unasked => State::Well { returned: None },
            State::Well { returned } => State::Well { returned },
            State::Away { before: false } => State::Well { returned: None },
            State::Away { .. } if !self.settle.is_zero() => State::OnTrial { since: now },
            State::OnTrial { since } if now.duration_since(since) < self.settle => State::OnTrial { since },
            State::Away { .. } | State::OnTrial { .. } => State::Well { returned: Some(now) },
        };
    }

    /// A question failed.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) {
        if failure == Failure::Silent && !matches!(self.state, State::OnTrial { .. }) {
            if self.silences > 0 && self.last_silence.is_some_and(|last| now.duration_since(last) < APART) {
                return;
            }
            self.last_silence = Some(now);
            self.silences += 1;
            if self.silences < FALL {
                return;
            }
        }
        let (before, flaps) = match self.state {
            State::Away { .. } => return,
            State::Unasked => (false, false),
            State::Well { returned } => (true, returned.is_some_and(|returned| now.duration_since(returned) < CALM)),
            State::OnTrial { .. } => (true, true),
        };
        let longer = (self.settle * 2).clamp(FIRST_SETTLE, LONGEST_SETTLE);
        self.settle = if flaps { longer } else { Duration::ZERO };
        self.silences = 0;
        self.state = State::Away { before };
    }

    /// Not to be counted on, and not on its way back.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.state, State::Away { .. })
    }

    /// Away, or on trial.
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(self.state, State::Away { .. } | State::OnTrial { .. })
    }

    /// Whether a question was ever asked.
    pub(crate) fn is_known(&self) -> bool {
        self.state != State::Unasked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fallen(at: Instant) -> Health {
        let mut health = Health::default();
        health.answered(at);
        health.failed(Failure::Refused, at);
        health
    }

    #[test]
    fn a_refusal_is_believed_at_once_and_the_first_answer_too() {
        let now = Instant::now();
        let mut health = fallen(now);
        assert!(health.is_away());
        health.answered(now);
        assert!(!health.is_doubtful());
    }

    #[test]
    fn what_was_not_there_yet_does_not_flap_when_it_falls_for_the_first_time() {
        let now = Instant::now();
        let mut health = Health::default();
        health.failed(Failure::Refused, now);
        health.answered(now + SECOND);
        health.failed(Failure::Refused, now + SECOND * 2);
        health.answered(now + SECOND * 3);
        assert!(!health.is_doubtful());
        health.failed(Failure::Refused, now + SECOND * 4);
        health.answered(now + SECOND * 5);
        assert!(health.is_doubtful());
    }

    #[test]
    fn one_silence_says_little_and_many_that_end_together_are_one() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..100).for_each(|_| health.failed(Failure::Silent, now));
        assert!(!health.is_away());
        health.failed(Failure::Silent, now + SECOND);
        health.answered(now + SECOND);
        for at in 2..4 {
            health.failed(Failure::Silent, now + SECOND * at);
        }
        assert!(!health.is_away(), "an answer between makes up for what came before");
        health.failed(Failure::Silent, now + SECOND * 4);
        assert!(health.is_away());
    }

    #[test]
    fn what_flaps_is_put_on_trial_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut health = fallen(now);
        health.answered(now);
        let mut trials = Vec::new();
        for _ in 0..6 {
            now += SECOND;
            health.failed(Failure::Refused, now);
            let back = now;
            health.answered(now);
            assert!(health.is_doubtful() && !health.is_away(), "one lucky answer");
            while health.is_doubtful() {
                now += SECOND;
                health.answered(now);
            }
            trials.push((now - back).as_secs());
        }
        assert_eq!(trials, [2, 4, 8, 16, 30, 30]);
        // A failure in a trial ends it.
        health.failed(Failure::Refused, now);
        health.answered(now + SECOND);
        health.failed(Failure::Silent, now + SECOND * 2);
        assert!(health.is_away());
        health.answered(now + SECOND * 3);
        health.answered(now + SECOND * 33);
        assert!(!health.is_doubtful());
        // After a calm time all is forgotten.
        now += SECOND * 33 + CALM;
        health.failed(Failure::Refused, now);
        health.answered(now);
        assert!(!health.is_doubtful());
    }

    proptest! {
        /// Whatever came before: half a minute of answers is enough, and a refusal is always believed.
        #[test]
        fn it_always_finds_back(past in prop::collection::vec((0u64..5000, 0u8..3), 0..60)) {
            let mut now = Instant::now();
            let mut health = Health::default();
            for (pause, what) in past {
                now += Duration::from_millis(pause);
                match what {
                    0 => health.answered(now),
                    1 => health.failed(Failure::Silent, now),
                    _ => health.failed(Failure::Refused, now),
                }
                prop_assert!(what != 2 || health.is_away());
                prop_assert!(!health.is_away() || health.is_doubtful());
            }
            health.answered(now);
            prop_assert!(!health.is_away());
            health.answered(now + LONGEST_SETTLE);
            prop_assert!(!health.is_doubtful());
        }
    }
}
