//! From answers and silences to alive and dead, and from these to who is counted on. Pure: time comes in.
//!
//! ```text
//!             answers                     fall failures in a row
//!  Unknown ────────────▶ Alive ───────────────────────────────────────▶ Dead
//!     │                    ▲                                             │  ▲
//!     │                    └── rise answers in a row, and held for long ─┘  │
//!     └────────────────────────── fall failures in a row ───────────────────┘
//! ```
//!
//! Promise: what fails for good is dead after [`Rules::fall`] failures, whatever it did before; what has lived and died is
//! not alive again before it was held for [`Rules::hold`], and longer each time that it dies again soon; [`Rules::longest_hold`] of
//! nothing but answers always brings back.

use std::time::{Duration, Instant};

use sovereign_model::agent_status::Standing;

/// When looks are taken, and what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// From the beginning of one look to that of the next.
    pub interval: Duration,
    /// That is varied by so much of it in either direction, in percent: agents that started together must not look
    /// together for ever.
    pub jitter_percent: u32,
    /// A look that takes longer has failed, and after one that failed the next follows no later than this. At most one
    /// interval, so that looks follow each other as they should.
    pub timeout: Duration,
    /// So many failures in a row kill.
    pub fall: u32,
    /// So many answers in a row bring back.
    pub rise: u32,
    /// What has lived and died is held for dead for at least this long.
    pub hold: Duration,
    /// Doubled each time it dies again, up to this.
    pub longest_hold: Duration,
    /// What lives for this long has not flapped.
    pub calm: Duration,
}

impl Default for Rules {
    /// A data center that is killed right after it answered is looked at 2.2 s later, and three looks of 1.5 s follow each
    /// other: 6.7 s, of the ten that are promised. A packet that is lost comes again after a second, within a look; two
    /// looks in a row that lose more are no death.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            jitter_percent: 10,
            timeout: Duration::from_millis(1500),
            fall: 3,
            rise: 2,
            hold: Duration::from_secs(10),
            longest_hold: Duration::from_secs(300),
            calm: Duration::from_secs(600),
        }
    }
}

impl Rules {
    /// The longest time from a death to when it is known.
    pub fn known_within(&self) -> Duration {
        self.interval * (100 + self.jitter_percent) / 100 + self.timeout * self.fall
    }

    /// When the look after one that was begun at zero is due: `random` is anything. Who did not answer is looked at again
    /// at once.
    pub fn next(&self, answered: bool, random: u32) -> Duration {
        let span = 2 * self.jitter_percent + 1;
        let next = self.interval * (100 - self.jitter_percent + random % span) / 100;
        if answered { next } else { next.min(self.timeout) }
    }
}

/// How one address is.
#[derive(Debug, Clone)]
pub struct Health {
    state: State,
    since: Instant,
    deaths: u64,
    /// How long it was held the last time.
    held: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown { failures: u32 },
    Alive { failures: u32 },
    Dead { answers: u32 },
}

impl Health {
    /// Of an address that is watched from now on.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Unknown { failures: 0 }, since: now, deaths: 0, held: Duration::ZERO }
    }

    /// It answered. Whether that changes how it stands.
    pub fn answered(&mut self, rules: &Rules, now: Instant) -> bool {
        match &mut self.state {
            State::Unknown { .. } => self.becomes(State::Alive { failures: 0 }, now),
            State::Alive { failures } => {
                *failures = 0;
                false
            }
            State::Dead { answers } => {
                *answers += 1;
                let back = *answers >= rules.rise && now.duration_since(self.since) >= self.held;
                back && self.becomes(State::Alive { failures: 0 }, now)
            }
        }
    }

    /// It did not. Whether that changes how it stands.
    pub fn failed(&mut self, rules: &Rules, now: Instant) -> bool {
        let lived = now.duration_since(self.since);
        let is_new = matches!(self.state, State::Unknown { .. });
        match &mut self.state {
            State::Unknown { failures } | State::Alive { failures } => {
                *failures += 1;
                if *failures < rules.fall {
                    return false;
                }
                let flaps = self.deaths > 0 && lived < rules.calm;
                self.held = match flaps {
                    // Nobody was sent there yet: it may just be about to begin.
                    _ if is_new => Duration::ZERO,
                    true => (self.held * 2).clamp(rules.hold, rules.longest_hold),
                    false => rules.hold,
                };
                self.deaths += 1;
                self.becomes(State::Dead { answers: 0 }, now)
            }
            State::Dead { answers } => {
                *answers = 0;
                false
            }
        }
    }

    fn becomes(&mut self, state: State, now: Instant) -> bool {
        (self.state, self.since) = (state, now);
        true
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        match self.state {
            State::Unknown { .. } => Standing::Unknown,
            State::Alive { .. } => Standing::Alive,
            State::Dead { .. } => Standing::Dead,
        }
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// How often it has died.
    pub fn deaths(&self) -> u64 {
        self.deaths
    }
}

/// Whether everything looks dead: the addresses of other data centers, and all of the own one's insides. Whoever sees that
/// has more reason to doubt itself. Its own data center counts as well where nothing of it is watched.
pub fn fails_open(others: impl IntoIterator<Item = Standing>, insides: impl IntoIterator<Item = Standing>) -> bool {
    let dead = |standing| standing == Standing::Dead;
    let mut insides = insides.into_iter().peekable();
    insides.peek().is_some() && insides.all(dead) && others.into_iter().all(dead)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        interval: Duration::from_secs(2),
        jitter_percent: 10,
        timeout: Duration::from_millis(1500),
        fall: 3,
        rise: 2,
        hold: Duration::from_secs(10),
        longest_hold: Duration::from_secs(300),
        calm: Duration::from_secs(600),
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn hear(health: &mut Health, answered: bool, now: Instant) -> bool {
        if answered { health.answered(&RULES, now) } else { health.failed(&RULES, now) }
    }

    /// Looks every second until it stands like this; how many seconds it took.
    fn until(health: &mut Health, answered: bool, wanted: Standing, now: &mut Instant) -> u64 {
        let began = *now;
        while health.standing() != wanted {
            *now += SECOND;
            hear(health, answered, *now);
        }
        (*now - began).as_secs()
    }

    #[test]
    fn one_answer_is_enough_at_first_and_failures_count_in_a_row() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        assert_eq!(health.standing(), Standing::Unknown);
        hear(&mut health, false, now);
        hear(&mut health, false, now);
        assert!(hear(&mut health, true, now));
        for answered in [false, false, true, false, false] {
            now += SECOND;
            assert!(!hear(&mut health, answered, now), "an answer between makes up for what came before");
        }
        assert!(hear(&mut health, false, now));
        assert_eq!((health.standing(), health.since(), health.deaths()), (Standing::Dead, now, 1));
    }

    #[test]
    fn what_never_answered_is_dead_too_and_does_not_flap_when_it_begins() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        until(&mut health, false, Standing::Dead, &mut now);
        assert_eq!(until(&mut health, true, Standing::Alive, &mut now), 2);
        // From now on it has lived.
        until(&mut health, false, Standing::Dead, &mut now);
        assert_eq!(until(&mut health, true, Standing::Alive, &mut now), 10);
    }

    #[test]
    fn what_flaps_is_held_for_longer_and_longer_until_it_was_calm() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        hear(&mut health, true, now);
        let mut held = Vec::new();
        for _ in 0..7 {
            until(&mut health, false, Standing::Dead, &mut now);
            held.push(until(&mut health, true, Standing::Alive, &mut now));
        }
        assert_eq!(held, [10, 20, 40, 80, 160, 300, 300]);
        now += RULES.calm;
        hear(&mut health, true, now);
        until(&mut health, false, Standing::Dead, &mut now);
        assert_eq!(until(&mut health, true, Standing::Alive, &mut now), 10);
    }

    #[test]
    fn a_single_answer_is_no_resurrection() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        hear(&mut health, true, now);
        until(&mut health, false, Standing::Dead, &mut now);
        now += RULES.hold;
        for answered in [true, false, true, false] {
            now += SECOND;
            assert!(!hear(&mut health, answered, now));
        }
        hear(&mut health, true, now);
        assert!(hear(&mut health, true, now));
    }

    #[test]
    fn whoever_sees_nothing_alive_doubts_itself() {
        use Standing::{Alive, Dead, Unknown};
        assert!(fails_open([Dead, Dead], [Dead]));
        // Its own data center is well: only the others are gone.
        assert!(!fails_open([Dead, Dead], [Alive]));
        assert!(!fails_open([Dead, Dead], []));
        assert!(!fails_open([Dead], [Dead, Unknown]));
        assert!(!fails_open([Dead, Unknown], [Dead]));
        assert!(fails_open([], [Dead]));
    }

    #[test]
    fn a_death_is_known_so_soon_that_a_name_server_has_time_for_the_rest_of_ten_seconds() {
        assert!(Rules::default().known_within() <= Duration::from_secs(7), "{:?}", Rules::default().known_within());
        assert_eq!(Rules::default(), RULES);
    }

    proptest! {
        /// Looks come as the rules have them, fail as late as they can, and the death comes at the worst of times.
        #[test]
        fn however_looks_fall_a_death_is_known_in_time(randoms in prop::collection::vec(any::<u32>(), 20), died in 0u64..20_000) {
            let rules = Rules::default();
            let start = Instant::now();
            let death = start + Duration::from_millis(died);
            let mut health = Health::new(start);
            let mut looks = start;
            for random in randoms {
                if looks < death {
                    health.answered(&rules, looks);
                } else {
                    let ends = looks + rules.timeout;
                    if health.failed(&rules, ends) {
                        prop_assert!(ends - death <= rules.known_within());
                        return Ok(());
                    }
                }
                let next = rules.next(looks < death, random);
                if looks < death {
                    prop_assert!(next >= rules.interval * 9 / 10 && next <= rules.interval * 11 / 10);
                } else {
                    prop_assert_eq!(next, rules.timeout);
                }
                looks += next;
            }
            prop_assert!(false, "it was never known");
        }

        /// Whatever comes, from its first answer on: it never dies twice within a hold, a death lasts as long as it must, failures always kill and
        /// answers always bring back.
        #[test]
        fn it_never_flaps_faster_than_it_is_held(past in prop::collection::vec((0u64..5000, any::<bool>()), 0..300)) {
            let mut now = Instant::now();
            let mut health = Health::new(now);
            let mut changes: Vec<(Standing, Instant)> = Vec::new();
            let mut lived = false;
            for (pause, answered) in past {
                now += Duration::from_millis(pause);
                let before = health.standing();
                let changed = hear(&mut health, answered, now);
                prop_assert_eq!(changed, before != health.standing());
                prop_assert!(!changed || answered == (health.standing() == Standing::Alive));
                lived |= answered;
                if changed && lived {
                    changes.push((health.standing(), now));
                }
            }
            for pair in changes.windows(2) {
                let [(from, at), (to, then)] = pair else { unreachable!() };
                prop_assert_ne!(from, to);
                prop_assert!(*from == Standing::Alive || *then - *at >= RULES.hold);
            }
            for triple in changes.windows(3) {
                prop_assert!(triple[2].1 - triple[0].1 >= RULES.hold);
            }
            let mut killed = health.clone();
            for _ in 0..RULES.fall {
                hear(&mut killed, false, now);
            }
            prop_assert_eq!(killed.standing(), Standing::Dead);
            hear(&mut health, true, now);
            hear(&mut health, true, now + RULES.longest_hold);
            prop_assert_eq!(health.standing(), Standing::Alive);
        }

        #[test]
        fn what_is_alive_anywhere_is_never_doubted(
            others in prop::collection::vec(0u8..3, 0..6), insides in prop::collection::vec(0u8..3, 0..4),
        ) {
            let standing = |kind: &u8| [Standing::Unknown, Standing::Alive, Standing::Dead][usize::from(*kind)];
            let open = fails_open(others.iter().map(standing), insides.iter().map(standing));
            let is_dead = |kind: &u8| *kind == 2;
            let all = others.iter().all(is_dead) && insides.iter().all(is_dead);
            prop_assert_eq!(open, all && !insides.is_empty());
        }
    }
}
