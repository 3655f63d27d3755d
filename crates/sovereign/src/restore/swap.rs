//! Taking the place of a site's data: what has to be renamed, in which order, and how a run that was killed is finished.
//!
//! ```text
//!              ┌── in ──▶ every part in place ─▶ started ─▶ well ─▶ told ─▶ over: `before-<n>` has what was live
//!  intent ─────┤                                   │ not well     (at another place: opened first)
//!  on disk     └── back ◀──────────────────────────┘
//!                   └───▶ every part as it was ─▶ started ─▶ told ─▶ over: nothing has changed
//! ```
//!
//! A part goes by two renames, or what comes to the same (`volumes`): what is live to `before-<n>`, what is staged to its
//! place. How far a part is, the two folders tell, in which nobody else writes; so the intent on disk holds no more than which parts there are and whether
//! it goes in or back, and a run that finds one begins where the other was killed.
//!
//! Promise: the application is started on all of the old data or on all of the new, never on some of both; what is to be
//! renamed is decided here, in functions without effects; both generations are whole at the end, whatever the end is.

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The format of an intent.
const VERSION: u32 = 1;

/// What a Ghost's data consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The folder of its database.
    Data,
    /// What people uploaded.
    Content,
    /// What the engine remembers of its set-up: Ghost's own keys are in the database, and here.
    SetUp,
}

impl Part {
    /// All, in the order in which they are replaced.
    pub(crate) const ALL: [Self; 3] = [Self::Data, Self::Content, Self::SetUp];

    /// Its name where it is staged and kept.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Content => "content",
            Self::SetUp => "set-up.json",
        }
    }
}

/// What happens to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Change {
    /// It was live.
    pub(crate) had: bool,
    /// It is staged.
    pub(crate) gets: bool,
}

/// Where the new data comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Origin {
    /// A snapshot of the archive.
    Snapshot {
        /// Its name.
        id: String,
        /// When it was made.
        taken_unix: i64,
    },
    /// What a restore before this one replaced.
    Before {
        /// The number of that restore.
        number: u32,
    },
}

/// What is being done. On disk for as long as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Intent {
    version: u32,
    /// What takes the place.
    pub(crate) origin: Origin,
    /// The number under which what is live is kept.
    pub(crate) number: u32,
    /// What happens to each part.
    pub(crate) parts: BTreeMap<Part, Change>,
    /// Why it goes back, once it does.
    #[serde(default)]
    pub(crate) back: Option<String>,
}

impl Intent {
    /// To put what is staged in place.
    pub(crate) fn new(origin: Origin, number: u32, parts: BTreeMap<Part, Change>) -> Self {
        Self { version: VERSION, origin, number, parts, back: None }
    }

    /// Whether this program knows the format.
    pub(crate) fn is_known(&self) -> bool {
        self.version == VERSION
    }

    /// What has to be renamed next; `None` when every part is where it belongs.
    pub(crate) fn next(&self, found: impl Fn(Part) -> Found) -> Result<Option<Move>, Missing> {
        for (part, change) in &self.parts {
            let step =
                if self.back.is_none() { inward(*change, found(*part)) } else { backward(*change, found(*part)) };
            match step {
                Ok(None) => {}
                Ok(Some((from, to))) => return Ok(Some(Move { part: *part, from, to })),
                Err(()) => return Err(Missing { part: part.name() }),
            }
        }
        Ok(None)
    }
}

/// Where a part can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where the application uses it.
    Live,
    /// Where it waits to be used.
    Staged,
    /// Where it is kept when it has been replaced.
    Before,
}

/// A rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) part: Part,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

impl Move {
    /// What happens, for people.
    pub(crate) const fn says(self) -> &'static str {
        match (self.from, self.to) {
            (Place::Live, Place::Before) => "keep what is live",
            (Place::Staged, Place::Live) => "put in what was restored",
            (Place::Before, Place::Live) => "put back what was live",
            (Place::Live | Place::Before | Place::Staged, _) => "take out what was restored",
        }
    }
}

/// Where a part was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) live: bool,
    pub(crate) staged: bool,
    pub(crate) before: bool,
}

/// Somebody else took away what was to be renamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is neither where it was staged nor in its place")]
pub(crate) struct Missing {
    part: &'static str,
}

type Step = Result<Option<(Place, Place)>, ()>;

fn inward(Change { had, gets }: Change, found: Found) -> Step {
    match (had && !found.before, gets && found.staged) {
        // Nothing leaves its place for what is not there.
        (true, false) if gets => Err(()),
        (true, _) => Ok(Some((Place::Live, Place::Before))),
        (false, true) => Ok(Some((Place::Staged, Place::Live))),
        (false, false) => Ok(None),
    }
}

fn backward(Change { had, gets }: Change, found: Found) -> Step {
    let is_in = gets && !found.staged && (found.before || (!had && found.live));
    Ok(match (is_in, had && found.before) {
        (true, _) => Some((Place::Live, Place::Staged)),
        (false, true) => Some((Place::Before, Place::Live)),
        (false, false) => None,
    })
}

/// What a swap needs of the world.
pub(crate) trait World {
    /// Puts the intent on disk.
    fn keep(&self, intent: &Intent) -> impl Future<Output = Result<(), Failure>>;

    /// Makes ready what is to take the place, where it is not staged yet.
    fn prepare(&self, intent: &Intent) -> impl Future<Output = Result<(), Failure>>;

    /// The next rename, from what is found; an error when something is missing.
    fn next(&self, intent: &Intent) -> impl Future<Output = Result<Option<Move>, Failure>>;

    /// Stops the application; returns when it has ended.
    fn stop(&self) -> impl Future<Output = Result<(), Failure>>;

    /// Renames, and makes that last.
    fn rename(&self, intent: &Intent, step: Move) -> impl Future<Output = Result<(), Failure>>;

    /// Starts the application, unless nothing runs at all, waits until it is well, and asks it as a reader would.
    fn revive(&self) -> impl Future<Output = Result<(), Failure>>;

    /// Leads readers to where the data is now, if it has come to another place. Done again by a run that was cut off in it.
    fn open(&self) -> impl Future<Output = Result<(), Failure>>;

    /// Tells the edges that the data is another.
    fn tell(&self) -> impl Future<Output = ()>;

    /// Removes the intent from the disk, and what is of no more use.
    fn forget(&self, intent: &Intent) -> impl Future<Output = Result<(), Failure>>;
}

/// How a swap ended. Either way it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What was staged is live.
    In,
    /// What was live before is, again.
    Back {
        /// Why.
        why: String,
        /// What is wrong with the application now, if something is.
        unwell: Option<String>,
    },
}

/// Carries an intent out to its end, wherever a run before this one was killed.
///
/// # Errors
/// When neither end can be reached: then the intent is still there.
pub(crate) async fn carry_out<W: World>(world: &W, mut intent: Intent) -> Result<Ended, Failure> {
    world.keep(&intent).await?;
    if intent.back.is_none() {
        match put_in(world, &intent).await {
            Ok(()) => {
                world.open().await?;
                world.tell().await;
                world.forget(&intent).await?;
                return Ok(Ended::In);
            }
            Err(error) => {
                intent.back = Some(error.chain().join(": "));
                world.keep(&intent).await?;
            }
        }
    }
    rename_all(world, &intent).await?;
    // It may have been unwell before: that is what restores are for.
    let unwell = world.revive().await.err().map(|error| error.chain().join(": "));
    world.tell().await;
    world.forget(&intent).await?;
    Ok(Ended::Back { why: intent.back.unwrap_or_default(), unwell })
}

async fn put_in<W: World>(world: &W, intent: &Intent) -> Result<(), Failure> {
    world.prepare(intent).await?;
    rename_all(world, intent).await?;
    world.revive().await
}

async fn rename_all<W: World>(world: &W, intent: &Intent) -> Result<(), Failure> {
    if world.next(intent).await?.is_some() {
        world.stop().await?;
    }
    while let Some(step) = world.next(intent).await? {
        world.rename(intent, step).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
