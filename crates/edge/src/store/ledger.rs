//! What is written down of the room of one site: what was promised, and what is known and not kept.

use std::collections::HashMap;

use sovereign_model::edge_rules::Room;

use crate::room::{Disk, Facts, Kind, Stamp};
use crate::route::Target;

/// Bodies of one site that are remembered without being kept, like pages that a keeper looks for.
pub(super) const MOST_AWAITED: usize = 200_000;

/// No body is counted as longer than this, whatever is said of it: so many of them can be added up.
pub(super) const LONGEST: u64 = 1 << 44;

/// Bytes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) pages: u64,
    pub(super) media: u64,
}

impl Taken {
    pub(super) fn add(&mut self, kind: Kind, length: u64) {
        *self.of(kind) += length;
    }

    pub(super) fn subtract(&mut self, kind: Kind, length: u64) {
        let taken = self.of(kind);
        *taken = taken.saturating_sub(length);
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Page => &mut self.pages,
            Kind::Media => &mut self.media,
        }
    }
}

/// What is known of a body that belongs to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) target: Target,
    /// `None` when nobody has said.
    pub(crate) length: Option<u64>,
    pub(crate) kind: Kind,
}

/// The room of one site.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) room: Room,
    /// By how much the site grows when all bodies have come that are on their way, or that a keeper is asking for.
    pub(super) promised: Taken,
    /// What is known to belong to the site and is not kept.
    pub(super) awaited: HashMap<Target, Awaited>,
}

/// What is known to belong to a site and is not kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) kind: Kind,
    /// By how much the site would grow with it.
    pub(super) length: u64,
    /// There was no room for it.
    pub(super) left_out: bool,
    /// A keeper is asking for it, and its length is promised to it.
    pub(super) expected: bool,
    /// When readers last asked for it, and the time before.
    pub(super) asked: Stamp,
    pub(super) asked_before: Stamp,
}

impl Awaited {
    pub(super) fn new(kind: Kind, length: u64) -> Self {
        let never = Stamp::default();
        Self { kind, length, left_out: false, expected: false, asked: never, asked_before: never }
    }
}

impl Ledger {
    pub(super) fn facts(&self, kept: Taken, disk: Option<Disk>) -> Facts {
        Facts {
            keep: self.room.keep,
            budget: self.room.budget.map(|budget| budget.0),
            pages: kept.pages + self.promised.pages,
            media: kept.media + self.promised.media,
            disk,
        }
    }

    /// Takes back what was promised to a body that a keeper is asking for: it has come, or will not.
    pub(super) fn expect_no_more(&mut self, target: &Target) -> Option<&mut Awaited> {
        let awaited = self.awaited.get_mut(target)?;
        if std::mem::take(&mut awaited.expected) {
            self.promised.subtract(awaited.kind, awaited.length);
        }
        Some(awaited)
    }

    /// Keeps only those of what is awaited that `belong` to the site.
    pub(super) fn retain(&mut self, belong: impl Fn(&Target) -> bool) {
        let Self { promised, awaited, .. } = self;
        awaited.retain(|target, awaited| {
            let stays = belong(target);
            if !stays && awaited.expected {
                promised.subtract(awaited.kind, awaited.length);
            }
            stays
        });
    }

    pub(super) fn forget(&mut self, target: &Target) {
        self.expect_no_more(target);
        self.awaited.remove(target);
    }
}
