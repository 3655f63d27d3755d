//! What a build tells while it goes on, and what it says at the end.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Fetched;

/// Someone who watches a build. Called often and from the building thread: return soon.
pub trait Progress: Sync {
    /// Something happened.
    fn report(&self, event: Event<'_>);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event<'_>) {}
}

/// Something that happened. [`Stage::Compile`] runs beside the others, the rest one after the other; downloading is
/// interrupted by unpacking, so its `Advanced` events may come between those of other stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stage began.
    Started {
        /// Which.
        stage: Stage,
    },
    /// Some of a stage's work is done.
    Advanced {
        /// Which.
        stage: Stage,
        /// How much is done, all parts of the stage together.
        done: u64,
        /// How much there is to do, when it is known.
        total: Option<u64>,
        /// What `done` and `total` count.
        unit: Unit,
        /// What is being worked on.
        what: &'a str,
    },
    /// A stage is over.
    Finished {
        /// Which.
        stage: Stage,
        /// From its beginning to its end.
        took: Duration,
    },
    /// Something worth saying: a second attempt, waiting for another build.
    Note {
        /// A sentence without a full stop.
        message: &'a str,
    },
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Asking a mirror which packages there are.
    Resolve,
    /// Fetching the locked packages. Counts bytes.
    Download,
    /// Checking kept packages and putting them where a build finds them. Counts packages.
    Gather,
    /// Fetching and placing the application's own dependencies, or installing Debian's packages. Counts packages.
    Install,
    /// Compiling the database addon; runs beside the other stages.
    Compile,
    /// Removing what no run needs.
    Trim,
    /// Computing the digest, writing everything to disk. Counts files.
    Seal,
}

/// What numbers in [`Event::Advanced`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packages.
    Packages,
    /// Files.
    Files,
}

/// What was done to prepare an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// Whether anything was built; `false` when the image was there.
    pub built: bool,
    /// How long each stage took; the compilation overlaps with others.
    pub stages: Vec<(Stage, Duration)>,
    /// What came over the network, and from whom. Empty when nothing did.
    pub fetched: Vec<Fetched>,
}

impl Receipt {
    /// Adds what came from a host to what came from it before.
    pub(crate) fn fetched(&mut self, new: Fetched) {
        if new.files == 0 && new.bytes == 0 {
            return;
        }
        match self.fetched.iter_mut().find(|known| known.host == new.host) {
            Some(known) => {
                known.files += new.files;
                known.bytes += new.bytes;
            }
            None => self.fetched.push(new),
        }
    }
}

/// Times a stage and tells the observer of its beginning and end.
pub(crate) struct Timed<'a> {
    stage: Stage,
    began: Instant,
    progress: &'a dyn Progress,
}

impl<'a> Timed<'a> {
    pub(crate) fn start(stage: Stage, progress: &'a dyn Progress) -> Self {
        progress.report(Event::Started { stage });
        Self { stage, began: Instant::now(), progress }
    }

    pub(crate) fn finish(self, receipt: &mut Receipt) {
        let took = self.began.elapsed();
        self.progress.report(Event::Finished { stage: self.stage, took });
        receipt.stages.push((self.stage, took));
    }
}
