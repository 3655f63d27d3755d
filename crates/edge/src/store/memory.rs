//! Bodies held in memory, up to a budget.
//!
//! Second chance: the hand goes round; a body that was asked for since the last round stays, the first that was not
//! goes. Only bytes go, never entries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;

use super::{Entry, lock};

#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Entries with a body in memory, and its length.
    round: VecDeque<(Weak<Entry>, u64)>,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, held: Mutex::default() }
    }

    /// Holds the body of `entry`, and lets others go if there are too many.
    pub(super) fn hold(&self, entry: &Arc<Entry>, body: &Bytes) {
        let length = entry.length();
        if length > self.budget {
            return;
        }
        let mut held = lock(&self.held);
        if !entry.wake(body.clone()) {
            return;
        }
        held.round.push_back((Arc::downgrade(entry), length));
        held.bytes += length;
        while held.bytes > self.budget {
            let Some((next, length)) = held.round.pop_front() else { break };
            match next.upgrade() {
                Some(next) if next.take_asked_for() => held.round.push_back((Arc::downgrade(&next), length)),
                gone_or_idle => {
                    if let Some(idle) = gone_or_idle {
                        idle.sleep();
                    }
                    held.bytes -= length;
                }
            }
        }
    }

    /// Lets the body of an entry go that is no longer in the index.
    pub(super) fn release(&self, entry: &Arc<Entry>) {
        let mut held = lock(&self.held);
        entry.sleep();
        let mut freed = 0;
        held.round.retain(|(other, length)| {
            let same = std::ptr::eq(other.as_ptr(), Arc::as_ptr(entry));
            freed += if same { *length } else { 0 };
            !same
        });
        held.bytes -= freed;
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.held).bytes
    }
}
