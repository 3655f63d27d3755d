//! Which kept page links to which: what tells the pages that show a post, without knowing the theme.
//!
//! Learned while pages are looked at, complete after a pass over all of them, and made anew by the first pass of a
//! process. Only pages count, not pictures, styles and scripts. A target is a number here and a page a list of numbers,
//! so 1,000 pages with 30 links each take some 200 kB. A site beyond [`MOST_LINKS`] is never complete: each of its
//! changes concerns every page.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::route::Target;

/// Links that are remembered of one site: 16 MB.
const MOST_LINKS: usize = 4_000_000;
/// Addresses that are known to lead nowhere.
const MOST_ABSENT: usize = 10_000;
/// Below these lie files that no page is.
const FILES: &[&str] = &["/content/", "/assets/", "/public/"];

/// The links of one site.
#[derive(Debug, Default)]
pub struct Links {
    numbers: HashMap<Target, u32>,
    targets: Vec<Target>,
    pages: HashMap<u32, Box<[u32]>>,
    links: usize,
    /// Feeds, and what each lists first.
    feeds: BTreeMap<Target, Option<Target>>,
    absent: HashSet<Target>,
    complete: bool,
}

impl Links {
    /// Whether every page of the site was looked at since [`Links::doubt`].
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// All pages were looked at; `is_kept` tells which ones there are.
    pub fn settle(&mut self, is_kept: impl Fn(&Target) -> bool) {
        let feeds = std::mem::take(&mut self.feeds);
        let absent = std::mem::take(&mut self.absent);
        let old = std::mem::take(self);
        for (page, links) in &old.pages {
            let Some(page) = old.targets.get(*page as usize).filter(|page| is_kept(page)) else { continue };
            let links: Vec<_> = links.iter().filter_map(|link| old.targets.get(*link as usize).cloned()).collect();
            self.record(page, &links);
        }
        self.feeds = feeds.into_iter().filter(|(feed, _)| is_kept(feed)).collect();
        self.absent = absent;
        self.complete = self.links < MOST_LINKS;
    }

    /// Any page may be another one now.
    pub fn doubt(&mut self) {
        self.complete = false;
    }

    /// `page` links to `links`, and to nothing else.
    pub fn record(&mut self, page: &Target, links: &[Target]) {
        self.absent.remove(page);
        let links = links.iter().filter(|link| !is_file(link));
        let room = MOST_LINKS.saturating_sub(self.links);
        let numbers: Box<[u32]> = links.take(room).filter_map(|link| self.number(link)).collect();
        let Some(page) = self.number(page) else { return };
        self.links += numbers.len();
        let before = self.pages.insert(page, numbers);
        self.links -= before.map_or(0, |before| before.len());
        if self.links >= MOST_LINKS {
            self.complete = false;
        }
    }

    /// `feed` lists `first` before all others, or nothing at all.
    pub fn record_feed(&mut self, feed: &Target, first: Option<Target>) {
        self.feeds.insert(feed.clone(), first);
    }

    /// There is no such page.
    pub fn forget(&mut self, page: &Target) {
        if let Some(before) = self.numbers.get(page).and_then(|page| self.pages.remove(page)) {
            self.links -= before.len();
        }
        self.feeds.remove(page);
        if self.absent.len() < MOST_ABSENT {
            self.absent.insert(page.clone());
        }
    }

    /// Whether it was looked for and not there.
    pub fn is_absent(&self, page: &Target) -> bool {
        self.absent.contains(page)
    }

    /// The pages that link to any of `targets`.
    pub fn linking_to(&self, targets: &BTreeSet<Target>) -> BTreeSet<Target> {
        let wanted: HashSet<u32> = targets.iter().filter_map(|target| self.numbers.get(target).copied()).collect();
        if wanted.is_empty() {
            return BTreeSet::new();
        }
        let linking = self.pages.iter().filter(|(_, links)| links.iter().any(|link| wanted.contains(link)));
        linking.filter_map(|(page, _)| self.targets.get(*page as usize).cloned()).collect()
    }

    /// What `feed` lists first; `None` when it is not known.
    pub fn first_of(&self, feed: &Target) -> Option<Option<&Target>> {
        self.feeds.get(feed).map(Option::as_ref)
    }

    fn number(&mut self, target: &Target) -> Option<u32> {
        if let Some(number) = self.numbers.get(target) {
            return Some(*number);
        }
        let number = u32::try_from(self.targets.len()).ok()?;
        self.targets.push(target.clone());
        self.numbers.insert(target.clone(), number);
        Some(number)
    }
}

fn is_file(target: &Target) -> bool {
    target.is_versioned() || FILES.iter().any(|folder| target.path().starts_with(folder))
}
