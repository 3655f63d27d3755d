//! The two clocks, read together and once for a request that is answered at once: reading one costs as much as finding a
//! page.

use std::time::{Instant, SystemTime};

/// A moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// What a calendar and a page's terms say of it.
    pub(crate) wall: SystemTime,
    /// What durations are measured with: it never steps.
    pub(crate) monotonic: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }
}
