//! Parts of what all threads write to, so that each writes to one of its own: a cache line that every core writes to for
//! every request would be waited for more than anything else.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts: as many as threads serve connections. Threads that share a part only wait for each other.
pub(crate) const LANES: usize = crate::threads::MOST;

/// The lane of this thread.
pub(crate) fn lane() -> usize {
    thread_local! {
        static LANE: usize = {
            static THREADS: AtomicUsize = AtomicUsize::new(0);
            THREADS.fetch_add(1, Ordering::Relaxed) % LANES
        };
    }
    // A thread that is ending has none any more.
    LANE.try_with(|lane| *lane).unwrap_or_default()
}

/// Something alone on its cache lines: two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);
