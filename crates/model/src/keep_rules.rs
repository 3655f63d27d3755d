//! How many backups of each site are kept, and how far they reach back.
//!
//! Part of the stack file. The defaults here are those of the file format; a test compares them.

use serde::Serialize;

/// How many snapshots each rule keeps. What no rule keeps is forgotten when the archive is pruned. Never all 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeepRules {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// The newest of each of so many years.
    pub yearly: u32,
}

impl KeepRules {
    /// No rule keeps anything: what a stack file cannot say.
    pub const NOTHING: Self = Self { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
}

impl Default for KeepRules {
    /// Each rule reaches to where the next one has several: a day in hours, a week in days, a month in weeks (31 days
    /// touch five or six of them), a year in months, and ten years, since tax offices ask that long. The last three are
    /// kept whenever they were made, so that several backups within an hour are not all forgotten but one.
    fn default() -> Self {
        Self { last: 3, hourly: 24, daily: 7, weekly: 5, monthly: 12, yearly: 10 }
    }
}
