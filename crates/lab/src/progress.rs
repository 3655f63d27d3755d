//! What long work tells while it goes on.

use std::time::{Duration, Instant};

/// Someone who watches. Called from several tasks: return soon.
pub trait Watcher: Sync {
    /// Something happened.
    fn report(&self, event: Event);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Watcher for Silent {
    fn report(&self, _: Event) {}
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A stage began; so many things are to be done in it.
    Began(Stage, usize),
    /// One more of its things is done.
    Advanced(Stage),
    /// It is over.
    Finished(Stage, Duration),
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The image is sent to Incus.
    Image,
    /// Bridges, and what hosts are stored in.
    Ground,
    /// Hosts are made and started.
    Hosts,
    /// Hosts are waited for, until SSH lets us in.
    Reach,
    /// What was made is removed.
    Removal,
}

/// Times a stage. Dropped before it is finished, the stage did not succeed.
pub(crate) struct Timed<'a> {
    watcher: &'a dyn Watcher,
    stage: Stage,
    began: Instant,
}

impl<'a> Timed<'a> {
    pub(crate) fn begin(watcher: &'a dyn Watcher, stage: Stage, things: usize) -> Self {
        watcher.report(Event::Began(stage, things));
        Self { watcher, stage, began: Instant::now() }
    }

    pub(crate) fn advance(&self) {
        self.watcher.report(Event::Advanced(self.stage));
    }

    pub(crate) fn finish(self) -> Duration {
        let took = self.began.elapsed();
        self.watcher.report(Event::Finished(self.stage, took));
        took
    }
}
