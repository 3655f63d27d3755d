//! How much room a site may take at an edge, and what is let go when there is no more: decided without I/O.
//!
//! | | there is room | the budget is used up | the disk is full |
//! |---|---|---|---|
//! | a page | kept | kept; with `keep = "budget"` media make room first | media make room, else passed through |
//! | media | kept | passed through; with `keep = "budget"` it may take the place of what is read less | the same |
//!
//! Promises:
//! * A page never makes room for anything, and with `keep = "all"` nothing ever does.
//! * A site takes more than its budget only for pages: they are small, and a mirror without them is none. They are kept
//!   for as long as the disk has room.
//! * What is let go was read least: longest ago, and of two the larger one. What would have fitted all the same stays.
//! * Media that nobody asks for never take the place of others, so a keeper that looks at everything again and again
//!   comes to rest. What was left out comes back when it was asked for before others were last read: asked for twice
//!   while they were not read at all.
//!
//! Left out: what a file takes on disk beyond its body. The reserve of the disk covers it.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use sovereign_model::edge_rules::Keep;

/// What an edge leaves free on the disk of its store: an application's database and the logs usually lie on the same
/// one, and write about this much in the days until somebody has made room.
pub const DISK_RESERVE: u64 = 256 << 20;

/// What a body is for the room it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A text, or what a browser needs to show it: pages, feeds, styles, scripts, fonts. Kept whatever happens.
    Page,
    /// Pictures, sound, films, downloads.
    Media,
}

impl Kind {
    /// Of an answer with these fields. One without a type is short: a redirect, an error.
    pub fn of(fields: &HeaderMap) -> Self {
        let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.map_or(Self::Page, Self::of_type)
    }

    /// Of a content type.
    pub fn of_type(kind: &str) -> Self {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (family, name) = kind.split_once('/').unwrap_or((&kind, ""));
        let page = match family {
            "text" | "font" => true,
            "application" => {
                // Fonts of before there was a family for them are `font-woff`, `x-font-ttf` and `vnd.ms-fontobject`.
                let script = matches!(name, "javascript" | "x-javascript" | "ecmascript" | "wasm");
                script || name.ends_with("xml") || name.ends_with("json") || name.contains("font")
            }
            _ => false,
        };
        if page { Self::Page } else { Self::Media }
    }
}

/// When something was read, in minutes since 1970: coarse, so that a page that is read a thousand times a second is
/// written to once a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u32);

impl Stamp {
    const MINUTE: u64 = 60;

    /// That moment.
    pub fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(u32::try_from(seconds / Self::MINUTE).unwrap_or(u32::MAX))
    }

    /// Its beginning.
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(self.0) * Self::MINUTE)
    }
}

/// What the disk has free, beyond what is promised to bodies on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes.
    pub free: u64,
}

impl Disk {
    /// What may be taken of it.
    pub fn left(self) -> u64 {
        self.free.saturating_sub(DISK_RESERVE)
    }

    /// What is missing of the reserve.
    fn short(self) -> u64 {
        DISK_RESERVE.saturating_sub(self.free)
    }
}

/// How a site stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What the operator wants.
    pub keep: Keep,
    /// Bytes of bodies that the site may take; `None`: as much as the disk has.
    pub budget: Option<u64>,
    /// Bytes of pages, kept or on their way.
    pub pages: u64,
    /// Bytes of media, kept or on their way.
    pub media: u64,
    /// The disk; `None` where a file system does not say.
    pub disk: Option<Disk>,
}

/// A body that is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub kind: Kind,
    /// By how much the site grows with it: its length without that of the body it replaces.
    pub growth: u64,
    /// What it takes of the disk: it is written beside the one it replaces.
    pub length: u64,
    /// When readers asked for it in vain the time before the last; the beginning of time when they did not.
    pub asked_before: Stamp,
}

/// A kept body that may be let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium<K> {
    /// Which one.
    pub key: K,
    /// Its length.
    pub length: u64,
    /// When it was last read.
    pub read: Stamp,
}

/// What becomes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<K> {
    /// There is room for it.
    Keep,
    /// Readers get it, and it is not kept.
    PassThrough,
    /// There is room for it without these.
    KeepAfterDropping(Vec<K>),
}

impl Facts {
    /// Whether a body fits without anything being let go.
    fn fits(&self, wanted: &Wanted) -> bool {
        self.over_budget(wanted.growth) == 0 && self.over_disk(wanted.length) == 0
    }

    fn over_budget(&self, growth: u64) -> u64 {
        let all = self.pages.saturating_add(self.media).saturating_add(growth);
        self.budget.map_or(0, |budget| all.saturating_sub(budget))
    }

    fn over_disk(&self, length: u64) -> u64 {
        self.disk.map_or(0, |disk| length.saturating_sub(disk.left()))
    }

    /// The same while others take `bytes` of the disk.
    pub fn without(self, bytes: u64) -> Self {
        Self { disk: self.disk.map(|disk| Disk { free: disk.free.saturating_sub(bytes) }), ..self }
    }

    /// Whether it is worth fetching a body that nobody has asked for.
    pub fn may_fit(&self, wanted: &Wanted) -> bool {
        match (wanted.kind, self.keep) {
            (Kind::Media, _) => self.fits(wanted),
            (Kind::Page, Keep::All) => self.over_disk(wanted.length) == 0,
            (Kind::Page, Keep::Budget) => self.over_disk(wanted.length) <= self.media,
        }
    }

    /// How much the site could take here at most, if nothing else on the disk grew.
    pub fn limit(&self) -> Option<u64> {
        let disk = self.disk.map(|disk| self.pages.saturating_add(self.media).saturating_add(disk.left()));
        match (self.budget, disk) {
            (Some(budget), Some(disk)) => Some(budget.min(disk)),
            (budget, disk) => budget.or(disk),
        }
    }
}

/// Decides about `wanted`. `media`: what may be let go, gathered only when something has to be.
pub fn decide<K>(facts: &Facts, wanted: &Wanted, media: impl FnOnce() -> Vec<Medium<K>>) -> Verdict<K> {
    if facts.fits(wanted) {
        return Verdict::Keep;
    }
    let over_disk = facts.over_disk(wanted.length);
    let need = over_disk.max(facts.over_budget(wanted.growth));
    match (facts.keep, wanted.kind) {
        (Keep::All, Kind::Media) => Verdict::PassThrough,
        (Keep::All, Kind::Page) if over_disk == 0 => Verdict::Keep,
        (Keep::All, Kind::Page) => Verdict::PassThrough,
        (Keep::Budget, Kind::Media) => {
            let mut media = media();
            media.retain(|medium| medium.read < wanted.asked_before);
            let enough = sum(&media) >= need;
            if enough { Verdict::KeepAfterDropping(least_read(media, need)) } else { Verdict::PassThrough }
        }
        (Keep::Budget, Kind::Page) => {
            let media = media();
            if sum(&media) < over_disk {
                return Verdict::PassThrough;
            }
            // Beyond the budget if need be: all media are gone then.
            match least_read(media, need) {
                none if none.is_empty() => Verdict::Keep,
                drop => Verdict::KeepAfterDropping(drop),
            }
        }
    }
}

/// What is to be let go so that a site fits again: its budget was made smaller, or others fill the disk.
pub fn surplus<K>(facts: &Facts, media: impl FnOnce() -> Vec<Medium<K>>) -> Vec<K> {
    let need = facts.over_budget(0).max(facts.disk.map_or(0, Disk::short));
    if facts.keep == Keep::All || need == 0 { Vec::new() } else { least_read(media(), need) }
}

/// Those of `media` that were read least and take `need` bytes together; all of them when they take less.
fn least_read<K>(mut media: Vec<Medium<K>>, need: u64) -> Vec<K> {
    media.sort_by_key(|medium| (medium.read, Reverse(medium.length)));
    let mut freed = 0;
    let enough = media.iter().take_while(|medium| {
        let wanting = freed < need;
        freed += if wanting { medium.length } else { 0 };
        wanting
    });
    let picked = enough.count();
    media.truncate(picked);
    // What the last one made needless stays, or the next look at the site would fetch it again.
    let mut drop = Vec::with_capacity(picked);
    for medium in media.into_iter().rev() {
        match freed - medium.length {
            without if without >= need => freed = without,
            _ => drop.push(medium.key),
        }
    }
    drop
}

fn sum<K>(media: &[Medium<K>]) -> u64 {
    media.iter().map(|medium| medium.length).sum()
}

#[cfg(test)]
mod tests;
