//! Where lines wait for the disk: each thread adds to memory of its own (of a few threads, where there are many), the
//! writer takes it all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::line::Clock;
use crate::lane::{Apart, LANES, lane};

/// What waits in one lane at most. What comes while the disk takes longer than it takes to get there is dropped.
const MOST_WAITING: usize = 4 << 20;
/// As much is written without waiting for more: it is still in the caches of the core that made it.
const ENOUGH: usize = 128 << 10;
/// How long lines are gathered otherwise: who follows the log does not notice.
const GATHER: Duration = Duration::from_millis(100);

/// The lines of all threads.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    lanes: [Apart<Mutex<Lines>>; LANES],
    /// Who takes them. It sleeps until it is woken.
    writer: OnceLock<Thread>,
    /// Whether it is not to wait for more.
    hurry: AtomicBool,
}

/// The lines of one lane.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) count: u64,
    pub(super) clock: Clock,
}

/// A line was not taken: too many wait already, or there is nobody to write it.
#[derive(Debug)]
pub(super) struct NotTaken;

impl Gathered {
    /// From now on `writer` takes lines.
    pub(super) fn take_with(&self, writer: Thread) {
        // There is one writer.
        let _ = self.writer.set(writer);
    }

    /// Adds a line, which `push` writes.
    pub(super) fn add(&self, push: impl FnOnce(&mut Vec<u8>, &mut Clock)) -> Result<(), NotTaken> {
        let Some(writer) = self.writer.get() else { return Err(NotTaken) };
        let mut lines = self.lane(lane());
        let (before, first) = (lines.text.len(), lines.count == 0);
        if before >= MOST_WAITING {
            return Err(NotTaken);
        }
        let Lines { text, count, clock } = &mut *lines;
        push(text, clock);
        *count += 1;
        let enough = before < ENOUGH && text.len() >= ENOUGH;
        drop(lines);
        if enough {
            self.hurry();
        } else if first {
            writer.unpark();
        }
        Ok(())
    }

    /// Lets the writer write at once.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Waits, as the writer, until there is something and it has gathered.
    pub(super) fn wait(&self) {
        if !self.hurry.load(Ordering::Acquire) {
            std::thread::park();
        }
        let until = Instant::now() + GATHER;
        while !self.hurry.swap(false, Ordering::AcqRel)
            && let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            std::thread::park_timeout(left);
        }
    }

    /// Takes what waits, lane by lane, and gives the lanes the room that was `taken` before. Returns how many lines.
    pub(super) fn take(&self, taken: &mut [Vec<u8>; LANES]) -> u64 {
        let mut count = 0;
        for (index, text) in taken.iter_mut().enumerate() {
            text.clear();
            // After a flood.
            text.shrink_to(2 * ENOUGH);
            let mut lines = self.lane(index);
            std::mem::swap(&mut lines.text, text);
            count += std::mem::take(&mut lines.count);
        }
        count
    }

    /// Whether there is somebody to write.
    pub(super) fn is_written(&self) -> bool {
        self.writer.get().is_some()
    }

    fn lane(&self, index: usize) -> MutexGuard<'_, Lines> {
        self.lanes[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
