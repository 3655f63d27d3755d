//! Whose turn it is to renew, where several could and nobody can be sure of the others: pure, and without asking anybody.
//!
//! ```text
//!          due                                              half of what is left             not_after
//!           ├───── step ─────┬───── step ─────┬── ... ──┬──────────┤ · · · · · · · · · · · · · ┤
//!   the management machine   the first host   the next  the last
//! ```
//!
//! All renewers of a stack have one order, which follows from the stack file: the management machine, then hosts, as their
//! data centers are declared. Each counts for itself: who is first renews when a certificate is due, and everybody after
//! only when, a step later each, no newer one is seen. So whoever lives renews, and while those before it live
//! nobody after them has anything to do.
//!
//! Promise: everybody's turn comes before a certificate's last days ([`renewal::is_late`]). Not promised is that one renews
//! at a time: data centers that are cut off from each other each get a certificate of their own, and so may two that
//! come back together. Nothing is harmed by that: both certificates are good, of two the one that was issued later is shown
//! by everybody who sees both, and each renewer has an account of its own with limits of its own. A lease that a majority
//! gives would not renew where there is no majority, which is where readers need it.
//!
//! [`renewal::is_late`]: crate::renewal::is_late

use std::time::Duration;

use crate::moment::Moment;

/// So long the next in order waits for those before it: long enough for one that failed to have tried again a dozen times
/// and for a laptop to have slept a night's first half, short enough for five to have their turn within a day.
const STEP: Duration = Duration::from_secs(6 * 3600);

/// Where a renewer stands in the order of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    before: u32,
    all: u32,
    since: Moment,
}

impl Turn {
    /// Before everybody else: the management machine, and who is alone.
    pub const FIRST: Self = Self { before: 0, all: 1, since: Moment::LONG_AGO };

    /// After `before` others, of `all` there are; it has known what is wanted since `since`.
    pub const fn after(before: u32, all: u32, since: Moment) -> Self {
        Self { before, all, since }
    }

    /// Whether nobody comes before it.
    pub const fn is_first(self) -> bool {
        self.before == 0
    }

    /// When it renews what is due at `due` and ends at `not_after`, unless a newer one is seen by then.
    pub fn to_renew(self, due: Moment, not_after: Moment) -> Moment {
        let step = STEP.min(not_after.since(due) / 2 / self.all.max(1));
        due.after(step.saturating_mul(self.before))
    }

    /// When it gets one for a name that has none: who deploys a name gets its first certificate, if that can be had.
    pub fn to_begin(self) -> Moment {
        self.since.after(STEP.saturating_mul(self.before))
    }
}

#[cfg(test)]
mod tests;
