//! How often something is done by the clock, as operators write it: `6h`, `weekly`, `never`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A time that passes between two runs of something; none for what is never done by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval(Option<Duration>);

/// The units an interval can have, and the seconds in each.
const UNITS: [(&str, u64); 4] = [("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
/// Words that stand for one. A month is thirty days: nothing here depends on the calendar.
const WORDS: [(&str, u64); 4] = [("hourly", 3600), ("daily", 86_400), ("weekly", 604_800), ("monthly", 2_592_000)];
const NEVER: &str = "never";

impl Interval {
    /// Not by the clock.
    pub const NEVER: Self = Self(None);
    /// The shortest: what is due is looked for every few minutes, and a backup takes its time.
    pub const LEAST: Duration = Duration::from_secs(900);
    /// The longest: a year and a day.
    pub const MOST: Duration = Duration::from_secs(366 * 86_400);

    /// Every so many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Some(Duration::from_secs(seconds)))
    }

    /// The time between two runs.
    pub fn duration(self) -> Option<Duration> {
        self.0
    }

    /// Whether something that was done at `last` is due at `now`, both in seconds since 1970. What was never done is due
    /// at once. A time in the future is a clock that was wrong: nothing is known then of when it was done.
    pub fn is_due(self, last: Option<u64>, now: u64) -> bool {
        let Some(interval) = self.0 else { return false };
        match last.and_then(|last| now.checked_sub(last)) {
            Some(passed) => passed >= interval.as_secs(),
            None => true,
        }
    }
}

/// The text is not an interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInterval {
    /// It says none.
    #[error("{0:?} is not an interval")]
    Senseless(String),
    /// It is below [`Interval::LEAST`] or above [`Interval::MOST`].
    #[error("{0:?} is out of bounds")]
    Bounds(String),
}

impl FromStr for Interval {
    type Err = InvalidInterval;

    /// A whole number and a unit without a space between them, or a word.
    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        if text == NEVER {
            return Ok(Self::NEVER);
        }
        let senseless = || InvalidInterval::Senseless(text.to_owned());
        let seconds = match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, seconds)) => *seconds,
            None => {
                let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(senseless)?;
                let (digits, unit) = text.split_at(end);
                let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(senseless)?;
                let count: u64 = digits.parse().map_err(|_| senseless())?;
                count.saturating_mul(*factor)
            }
        };
        let duration = Duration::from_secs(seconds);
        if (Self::LEAST..=Self::MOST).contains(&duration) {
            Ok(Self(Some(duration)))
        } else {
            Err(InvalidInterval::Bounds(text.to_owned()))
        }
    }
}

impl fmt::Display for Interval {
    /// The shortest exact spelling in numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(seconds) = self.0.map(|duration| duration.as_secs()) else { return f.write_str(NEVER) };
        let exact = UNITS.iter().rev().find(|(_, factor)| seconds.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{}{unit}", seconds / factor),
            None => write!(f, "{seconds}s"),
        }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_as_people_write_them() {
        let read = |text: &str| text.parse::<Interval>().map(|interval| interval.0.map(|every| every.as_secs()));
        assert_eq!(read("6h"), Ok(Some(21_600)));
        assert_eq!(read("weekly"), Ok(Some(604_800)));
        assert_eq!(read("1w"), read("weekly"));
        assert_eq!(read("never"), Ok(None));
        for wrong in ["", "6", "h", "6 h", "-1h", "6H", "1.5h", "1y", "sometimes"] {
            assert!(matches!(read(wrong), Err(InvalidInterval::Senseless(_))), "{wrong}");
        }
        for wrong in ["0h", "14m", "367d", "99999999999999999999w", "9999999999999999999w"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Interval::seconds(21_600).to_string(), "6h");
        assert_eq!(Interval::seconds(90 * 60).to_string(), "90m");
        assert_eq!(Interval::NEVER.to_string(), "never");
    }

    #[test]
    fn what_was_never_done_is_due_and_what_is_never_done_is_not() {
        let hourly = Interval::seconds(3600);
        assert!(hourly.is_due(None, 0));
        assert!(!hourly.is_due(Some(100), 3699) && hourly.is_due(Some(100), 3700));
        assert!(hourly.is_due(Some(101), 100), "a clock was wrong");
        assert!(!Interval::NEVER.is_due(None, u64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(minutes in 15_u64..527_040) {
            let interval = Interval::seconds(minutes * 60);
            prop_assert_eq!(interval.to_string().parse(), Ok(interval));
        }
    }
}
