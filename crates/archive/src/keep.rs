//! Which snapshots stay and which are forgotten: decided from when they were made, the rules, and what time it is.
//!
//! The rules are those of restic's `forget --keep-*`. Going back from the newest, the newest snapshot of each hour stays,
//! for as many hours as the rule says; days, weeks (of ISO 8601: they begin on Monday), months and years likewise. An
//! hour without a snapshot is not counted. One rule is enough to stay. All of it is in UTC, so that moving the machine
//! or the clocks in spring forgets nothing; restic reckons in the time zone that a snapshot was made in.
//!
//! Promise: each subject is looked at by itself. Never forgotten are its newest snapshot, its newest one that is proven,
//! whatever another program made, and what seems to come from the future: a clock was wrong then, or is now. What is
//! from the future takes no other's place. Where nothing is known to be proven nothing is forgotten: the one to rely on
//! may be any of them. Deciding again about what stayed forgets nothing more.
//!
//! Left out: forgetting, and what time it is.

use std::collections::{BTreeMap, BTreeSet};

use rustic_core::jiff::{Timestamp, tz::Offset};
use serde::Serialize;
use sovereign_model::keep_rules::KeepRules;

use crate::entry::Moment;
use crate::repository::{Snapshot, Subject};

/// What has to be known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// Its name.
    pub id: String,
    /// What it is of.
    pub subject: Option<Subject>,
    /// When it was made.
    pub taken: Moment,
    /// Whether it was restored and found to be what had been read.
    pub proven: bool,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is the newest of its subject.
    Newest,
    /// It is the newest that is proven.
    NewestProven,
    /// None of its subject is known to be proven.
    NoneProven,
    /// The rule `last`.
    Last,
    /// The rule `hourly`.
    Hourly,
    /// The rule `daily`.
    Daily,
    /// The rule `weekly`.
    Weekly,
    /// The rule `monthly`.
    Monthly,
    /// The rule `yearly`.
    Yearly,
    /// Another program made it.
    AnotherProgram,
    /// It was made later than now.
    Future,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Why it stays.
    pub reasons: BTreeSet<Reason>,
}

impl Verdict {
    /// Whether nothing speaks for it.
    pub fn is_forgotten(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// A verdict for each of the snapshots, in their order.
pub fn decide(snapshots: &[Dated], rules: &KeepRules, now: Moment) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::default(); snapshots.len()];
    let mut subjects: BTreeMap<&Subject, Vec<(&Dated, &mut Verdict)>> = BTreeMap::new();
    for (snapshot, verdict) in snapshots.iter().zip(&mut verdicts) {
        let always = match &snapshot.subject {
            None => Reason::AnotherProgram,
            Some(_) if snapshot.taken > now => Reason::Future,
            Some(subject) => {
                subjects.entry(subject).or_default().push((snapshot, verdict));
                continue;
            }
        };
        verdict.reasons.insert(always);
    }
    for mut of_it in subjects.into_values() {
        // The newest first; the name makes the order certain when two were made at the same moment.
        of_it.sort_by(|(a, _), (b, _)| (b.taken, &b.id).cmp(&(a.taken, &a.id)));
        if let Some((_, newest)) = of_it.first_mut() {
            newest.reasons.insert(Reason::Newest);
        }
        if let Some((_, proven)) = of_it.iter_mut().find(|(snapshot, _)| snapshot.proven) {
            proven.reasons.insert(Reason::NewestProven);
        } else {
            for (_, verdict) in &mut of_it {
                verdict.reasons.insert(Reason::NoneProven);
            }
        }
        for (reason, count) in counts(rules) {
            let mut left = count;
            let mut last = None;
            for (position, (snapshot, verdict)) in of_it.iter_mut().enumerate() {
                let period = Some(period(reason, snapshot.taken.seconds, position));
                if left > 0 && period != last {
                    verdict.reasons.insert(reason);
                    last = period;
                    left -= 1;
                }
            }
        }
    }
    verdicts
}

fn counts(rules: &KeepRules) -> [(Reason, u32); 6] {
    let KeepRules { last, hourly, daily, weekly, monthly, yearly } = *rules;
    [
        (Reason::Last, last),
        (Reason::Hourly, hourly),
        (Reason::Daily, daily),
        (Reason::Weekly, weekly),
        (Reason::Monthly, monthly),
        (Reason::Yearly, yearly),
    ]
}

/// A number that snapshots share of which the rule keeps one.
fn period(rule: Reason, seconds: i64, position: usize) -> i64 {
    let days = seconds.div_euclid(86_400);
    match rule {
        Reason::Hourly => seconds.div_euclid(3_600),
        Reason::Daily => days,
        // 1970 began on a Thursday.
        Reason::Weekly => (days + 3).div_euclid(7),
        Reason::Monthly => {
            let (year, month) = year_and_month(seconds);
            year * 12 + month
        }
        Reason::Yearly => year_and_month(seconds).0,
        _ => position.try_into().unwrap_or(i64::MAX),
    }
}

fn year_and_month(seconds: i64) -> (i64, i64) {
    let possible = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let date = Offset::UTC.to_datetime(Timestamp::from_second(possible).unwrap_or_default());
    (date.year().into(), date.month().into())
}

impl Snapshot {
    /// What has to be known to decide about it.
    pub fn dated(&self, proven: bool) -> Dated {
        let taken = self.file.time.timestamp();
        // Before 1970 jiff counts both parts downwards; nobody made a snapshot then.
        let taken = Moment { seconds: taken.as_second(), nanoseconds: taken.subsec_nanosecond().unsigned_abs() };
        Dated { id: self.id.clone(), subject: self.subject.clone(), taken, proven }
    }

    /// When it was made, in UTC, for people: `2026-11-25 11:10`.
    pub fn taken_utc(&self) -> String {
        self.file.time.timestamp().strftime("%Y-%m-%d %H:%M").to_string()
    }
}

#[cfg(test)]
mod tests;
