//! Where lines wait for the disk: each thread adds to a piece of memory of its own, the writer takes them all.

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
/// How long lines are gathered otherwise: who follows the log does not notice, and a busy edge writes ten times a second.
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

/// There is no room for a line.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Gathered {
    /// From now on `writer` takes lines.
    pub(super) fn take_with(&self, writer: Thread) {
        // There is one writer.
        let _ = self.writer.set(writer);
    }

    /// Adds a line, which `push` writes.
    pub(super) fn add(&self, push: impl FnOnce(&mut Vec<u8>, &mut Clock)) -> Result<(), NoRoom> {
        let Some(writer) = self.writer.get() else { return Err(NoRoom) };
        let mut lines = self.lane(lane());
        let before = lines.text.len();
        if before >= MOST_WAITING {
            return Err(NoRoom);
        }
        let Lines { text, count, clock } = &mut *lines;
        push(text, clock);
        *count += 1;
        let enough = before < ENOUGH && text.len() >= ENOUGH;
        drop(lines);
        if enough {
            self.hurry();
        } else if before == 0 {
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

    /// Takes what waits, lane by lane: each is given `spare` room for the next lines, and `write` the lines and how many
    /// they are.
    pub(super) fn take(&self, spare: &mut Vec<u8>, mut write: impl FnMut(&[u8], u64)) {
        for index in 0..LANES {
            let mut lines = self.lane(index);
            if lines.count == 0 {
                continue;
            }
            std::mem::swap(&mut lines.text, spare);
            let count = std::mem::take(&mut lines.count);
            drop(lines);
            write(spare, count);
            spare.clear();
            // After a flood.
            spare.shrink_to(2 * ENOUGH);
        }
    }

    fn lane(&self, index: usize) -> MutexGuard<'_, Lines> {
        self.lanes[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
