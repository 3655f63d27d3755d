//! Which pages of a site a change concerns: from what Ghost said and what links to what, nothing else.
//!
//! | what changed | which pages |
//! |---|---|
//! | a post appears or goes | its own; home, archives of its tags and authors, each with all its numbered pages and feed; whatever links to it; when it appears, whatever shows the newest post so far |
//! | a post's title, picture, tags ... | its own; whatever links to it; archives of the tags and authors it has or had |
//! | a post's text only | its own; lists and feeds that link to it |
//! | a page | its own; whatever links to it, unless only its text changed |
//! | a tag's description or picture | its archive |
//! | all of them | sitemaps, `/llms*.txt`, answers of the Content API |
//! | a tag's name or address, a post's date, anything else | every page |
//!
//! Promise: never panics; everything when in doubt; each target once, the most important first. What it cannot know is
//! what a theme chooses by a rule of its own ("three posts with this tag"): such a page is found by the sweep that
//! follows every change.

mod event;
mod links;

use std::collections::BTreeSet;

use sovereign_model::Origin;

pub use event::{Archive, Entry, Event, Subject, Tag};
pub use links::Links;

use crate::discover;
use crate::route::Target;

const CONTENT_API: &str = "/ghost/api/content/";

/// Which pages are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concern {
    /// Every text of the site.
    Everything,
    /// These.
    Pages(Scope),
}

/// Pages that a change concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// In the order in which they are to be fetched again. One of them may be new.
    pub targets: Vec<Target>,
    /// Of these, the pages of the thing itself: if the source no longer has them, they are gone for sure.
    pub own: BTreeSet<Target>,
}

impl Scope {
    /// How soon a page is to be fetched, also before pages of other changes; 0 comes first.
    pub fn rank(&self, target: &Target) -> u8 {
        rank(target, &self.own)
    }

    /// Those that Ghost makes from what it remembers until it says that the site changed.
    pub fn remembered(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| is_index(target))
    }
}

/// The path below which all answers of the Content API lie: any change concerns them.
///
/// # Panics
/// Never: the path is a constant in canonical form.
pub fn answers() -> Target {
    Target::parse(CONTENT_API).expect("a constant in canonical form")
}

/// What is known about a site's pages.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The origin that Ghost gives to addresses.
    pub canonical: &'a Origin,
    /// The pages that are kept.
    pub kept: &'a [Target],
    /// What they link to.
    pub links: &'a Links,
}

/// The pages that `event` concerns.
pub fn concern(event: &Event, site: Site<'_>) -> Concern {
    let concerned = match event {
        _ if !site.links.is_complete() => None,
        Event::Site | Event::Other => None,
        Event::Entry(entry) if !entry.concerns_readers() => return Concern::Pages(Scope::default()),
        Event::Entry(entry) => Search::new(site).entry(entry),
        Event::Tag(tag) => Search::new(site).tag(tag),
    };
    concerned.map_or(Concern::Everything, Concern::Pages)
}

struct Search<'a> {
    site: Site<'a>,
    own: BTreeSet<Target>,
    found: BTreeSet<Target>,
}

impl<'a> Search<'a> {
    fn new(site: Site<'a>) -> Self {
        Self { site, own: BTreeSet::new(), found: BTreeSet::new() }
    }

    /// `None`: every page.
    fn entry(mut self, entry: &Entry) -> Option<Scope> {
        if entry.moved {
            return None;
        }
        if entry.is_public {
            // An address that is not the site's own: its pages are not where we look for them.
            self.own.insert(self.resolve(entry.url.as_deref()?)?);
        }
        let named = |target: &&Target| !is_list(target) && entry.slugs.contains(last_segment(target.path()));
        self.own.extend(self.site.kept.iter().filter(named).cloned());
        let linking = self.site.links.linking_to(&self.own);
        let lists = linking.iter().filter(|target| is_list(target)).cloned();
        if entry.is_page {
            self.found.extend(if entry.cards && entry.was_public { linking } else { BTreeSet::new() });
            return Some(self.scope());
        }
        if entry.cards {
            self.found.extend(linking);
        } else {
            self.found.extend(lists);
        }
        if entry.membership {
            let archives: Vec<_> = entry.archives.iter().filter_map(|archive| self.archive(archive)).collect();
            self.found.extend(archives);
        }
        if entry.enters() || entry.leaves() {
            self.found.extend(Target::parse("/"));
        }
        if entry.membership {
            self.whole_lists();
        }
        if entry.enters() {
            self.around_the_newest(entry)?;
        }
        Some(self.scope())
    }

    fn tag(mut self, tag: &Tag) -> Option<Scope> {
        let archives: BTreeSet<_> = tag.archives.iter().filter_map(|archive| self.archive(archive)).collect();
        let kept = archives.iter().any(|archive| self.site.kept.contains(archive));
        let used = kept || !self.site.links.linking_to(&archives).is_empty();
        if used && tag.labels {
            return None;
        }
        self.own.extend(archives.into_iter().filter(|archive| self.site.kept.contains(archive)));
        self.found.extend(self.own.iter().cloned());
        self.whole_lists();
        Some(self.scope())
    }

    /// A new post takes the place of the newest one so far, wherever that is shown for being the newest.
    fn around_the_newest(&mut self, entry: &Entry) -> Option<()> {
        if !entry.newest {
            return None;
        }
        let front = Target::parse("/rss/").ok()?;
        let mut newest: BTreeSet<Target> = self.site.links.first_of(&front)?.into_iter().cloned().collect();
        let feeds = self.found.iter().filter(|target| is_feed(target));
        newest.extend(feeds.filter_map(|feed| self.site.links.first_of(feed)).flatten().cloned());
        self.found.extend(self.site.links.linking_to(&newest));
        self.found.extend(newest.into_iter().filter(|newest| self.site.kept.contains(newest)));
        self.whole_lists();
        Some(())
    }

    /// A post that comes or goes moves the others: with one page of a list, all of its pages and its feed.
    fn whole_lists(&mut self) {
        let lists: BTreeSet<&str> = self.found.iter().map(list_of).collect();
        let pages = self.site.kept.iter().filter(|target| is_list(target) && lists.contains(list_of(target)));
        let pages: Vec<_> = pages.cloned().collect();
        self.found.extend(pages);
    }

    fn archive(&self, archive: &Archive) -> Option<Target> {
        match archive {
            Archive::At(url) => self.resolve(url),
            Archive::OfTag(slug) => Target::parse(&format!("/tag/{slug}/")).ok(),
        }
    }

    fn resolve(&self, url: &str) -> Option<Target> {
        discover::resolve(&Target::parse("/").ok()?, self.site.canonical, url)
    }

    fn scope(mut self) -> Scope {
        let at_any_change = |target: &&Target| is_index(target) || target.is_under(CONTENT_API);
        self.found.extend(self.site.kept.iter().filter(at_any_change).cloned());
        // Under a query it is the same page.
        let asked = |target: &&Target| {
            let path = target.without_query();
            path.is_some_and(|path| self.found.contains(&path) || self.own.contains(&path))
        };
        let asked: Vec<_> = self.site.kept.iter().filter(asked).cloned().collect();
        let mut targets: Vec<_> = self.found.into_iter().chain(asked).chain(self.own.iter().cloned()).collect();
        targets.sort_by_cached_key(|target| (rank(target, &self.own), target.clone()));
        targets.dedup();
        Scope { targets, own: self.own }
    }
}

fn rank(target: &Target, own: &BTreeSet<Target>) -> u8 {
    match target {
        _ if own.contains(target) && target.query().is_none() && !target.path().ends_with(".md") => 0,
        _ if target.as_str() == "/" => 1,
        _ if own.contains(target) => 2,
        _ if is_feed(target) => 3,
        _ if is_index(target) => 5,
        _ if numbered(target.path()).is_some() => 6,
        _ if is_list(target) => 4,
        _ => 7,
    }
}

/// `/tag/news/page/2/`, `/tag/news/rss/` and `/tag/news/` are `/tag/news/`.
fn list_of(target: &Target) -> &str {
    let path = target.path();
    if let Some(list) = path.strip_suffix("rss/") {
        return list;
    }
    numbered(path).unwrap_or(path)
}

/// What stands before `page/<number>/`.
fn numbered(path: &str) -> Option<&str> {
    let (list, number) = path.strip_suffix('/')?.rsplit_once("/page/")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| &path[..=list.len()])
}

/// Home, archives, numbered pages of anything, feeds.
fn is_list(target: &Target) -> bool {
    let path = target.path();
    path == "/"
        || is_feed(target)
        || numbered(path).is_some()
        || path.starts_with("/tag/")
        || path.starts_with("/author/")
}

fn is_feed(target: &Target) -> bool {
    target.path().ends_with("/rss/")
}

/// Sitemaps and what is meant for language models.
fn is_index(target: &Target) -> bool {
    let path = target.path();
    (path.starts_with("/sitemap") && path.ends_with(".xml")) || (path.starts_with("/llms") && path.ends_with(".txt"))
}

/// `slug` of `/2026/slug/` and of `/slug.md`.
fn last_segment(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    let segment = path.rsplit('/').next().unwrap_or_default();
    segment.strip_suffix(".md").unwrap_or(segment)
}

#[cfg(test)]
mod tests;
