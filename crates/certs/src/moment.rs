//! Points in time, as they are stored: whole seconds since 1970-01-01 UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time. Arithmetic stays within what can be told instead of wrapping round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// Long before anything.
    pub const LONG_AGO: Self = Self(0);

    /// So many seconds after 1970-01-01 UTC.
    pub const fn at(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01 UTC.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_secs()))
    }

    /// So much earlier.
    #[must_use]
    pub const fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time.as_secs()))
    }

    /// How long after `earlier`; nothing when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

impl From<Moment> for SystemTime {
    fn from(Moment(seconds): Moment) -> Self {
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
    }
}

impl From<time::OffsetDateTime> for Moment {
    fn from(time: time::OffsetDateTime) -> Self {
        Self(u64::try_from(time.unix_timestamp()).unwrap_or(0))
    }
}
