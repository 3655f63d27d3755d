//! What is let go and what never is, in stories and in properties.

use std::collections::BTreeMap;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const MB: u64 = 1_000_000;

fn facts(keep: Keep, budget: u64, pages: u64, media: u64) -> Facts {
    Facts { keep, budget: Some(budget), pages, media, disk: None }
}

fn wanted(kind: Kind, length: u64) -> Wanted {
    Wanted { kind, growth: length, length, asked_before: Stamp(0) }
}

/// Named by their place; lengths in MB.
fn media(list: &[(u64, u32)]) -> Vec<Medium<usize>> {
    let medium = |(key, (length, read)): (usize, &(u64, u32))| Medium { key, length: length * MB, read: Stamp(*read) };
    list.iter().enumerate().map(medium).collect()
}

#[test]
fn what_is_a_page() {
    for kind in [
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "text/javascript",
        "application/javascript",
        "application/json",
        "application/ld+json",
        "application/rss+xml; charset=utf-8",
        "application/xhtml+xml",
        "application/manifest+json",
        "font/woff2",
        "application/font-woff",
        "application/vnd.ms-fontobject",
    ] {
        assert_eq!(Kind::of_type(kind), Kind::Page, "{kind}");
    }
    for kind in [
        "image/png",
        "image/svg+xml",
        "audio/mpeg",
        "video/mp4",
        "application/pdf",
        "application/zip",
        "application/octet-stream",
        "nonsense",
        "",
    ] {
        assert_eq!(Kind::of_type(kind), Kind::Media, "{kind}");
    }
    assert_eq!(Kind::of(&HeaderMap::new()), Kind::Page, "a redirect");
    let bytes = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_bytes(b"\xff").unwrap())]);
    assert_eq!(Kind::of(&bytes), Kind::Page);
}

#[test]
fn the_least_read_goes_first_and_what_fits_all_the_same_stays() {
    let full = facts(Keep::Budget, 20 * MB, 0, 20 * MB);
    let decide = |page, list: &[(u64, u32)]| decide(&full, &wanted(Kind::Page, page * MB), || media(list));
    assert_eq!(decide(4, &[(5, 30), (5, 10), (5, 20), (5, 40)]), Verdict::KeepAfterDropping(vec![1]));
    assert_eq!(decide(6, &[(5, 30), (5, 10), (5, 20), (5, 40)]), Verdict::KeepAfterDropping(vec![2, 1]));
    // Read in the same minute: one long film rather than many pictures.
    assert_eq!(decide(4, &[(1, 10), (1, 10), (17, 10), (1, 10)]), Verdict::KeepAfterDropping(vec![2]));
    // The small one alone is not enough, with the next it is not needed.
    assert_eq!(decide(6, &[(2, 10), (10, 20), (8, 30)]), Verdict::KeepAfterDropping(vec![1]));
}

#[test]
fn media_come_back_when_they_are_asked_for_while_others_are_not_read() {
    let full = facts(Keep::Budget, 20 * MB, 10 * MB, 10 * MB);
    let decide = |asked_before| {
        let wanted = Wanted { asked_before: Stamp(asked_before), ..wanted(Kind::Media, 3 * MB) };
        decide(&full, &wanted, || media(&[(5, 10), (5, 20)]))
    };
    assert_eq!(decide(0), Verdict::PassThrough, "a keeper's question");
    assert_eq!(decide(10), Verdict::PassThrough);
    assert_eq!(decide(11), Verdict::KeepAfterDropping(vec![0]));
}

#[test]
fn pages_alone_may_go_beyond_the_budget_and_not_beyond_the_disk() {
    let page = wanted(Kind::Page, 2 * MB);
    let none = || unreachable!("nothing is to be let go");
    let over = facts(Keep::All, 20 * MB, 19 * MB, 0);
    assert_eq!(decide::<()>(&over, &page, none), Verdict::Keep);
    let over = facts(Keep::Budget, 20 * MB, 19 * MB, MB / 2);
    assert_eq!(decide(&over, &page, || media(&[(1, 10)])), Verdict::KeepAfterDropping(vec![0]));
    assert_eq!(decide(&over, &page, || media(&[])), Verdict::Keep);
    let disk = Some(Disk { free: DISK_RESERVE + MB });
    let full = Facts { disk, ..facts(Keep::All, 20 * MB, 0, MB) };
    assert_eq!(decide::<()>(&full, &page, none), Verdict::PassThrough);
    let full = Facts { keep: Keep::Budget, ..full };
    assert_eq!(decide(&full, &page, || media(&[(1, 10)])), Verdict::KeepAfterDropping(vec![0]));
    assert_eq!(decide(&full, &page, || media(&[])), Verdict::PassThrough);
}

#[test]
fn a_site_that_no_longer_fits_lets_media_go_only_if_it_may() {
    let list = [(5, 30), (5, 10), (5, 20)];
    let shrunk = facts(Keep::Budget, 12 * MB, MB, 15 * MB);
    assert_eq!(surplus(&shrunk, || media(&list)), [1]);
    assert_eq!(surplus(&Facts { budget: Some(MB / 2), ..shrunk }, || media(&list)), [0, 2, 1]);
    assert!(surplus(&Facts { keep: Keep::All, ..shrunk }, || media(&list)).is_empty());
    let crowded = Facts { budget: None, disk: Some(Disk { free: DISK_RESERVE - MB }), ..shrunk };
    assert_eq!(surplus(&crowded, || media(&list)), [1]);
}

#[test]
fn the_limit_is_the_budget_or_less_when_the_disk_has_less() {
    let disk = Some(Disk { free: DISK_RESERVE + 5 * MB });
    let facts = Facts { disk, ..facts(Keep::All, 20 * MB, MB, MB) };
    assert_eq!(facts.limit(), Some(7 * MB));
    assert_eq!(Facts { budget: Some(3 * MB), ..facts }.limit(), Some(3 * MB));
    assert_eq!(Facts { budget: None, ..facts }.limit(), Some(7 * MB));
    assert_eq!(Facts { budget: None, disk: None, ..facts }.limit(), None);
}

/// A site of bodies by name, on which verdicts are carried out.
#[derive(Debug, Clone, Default)]
struct Shelf {
    kept: BTreeMap<u8, (Kind, u64, Stamp)>,
    /// Asked for, the time before the last and the last time.
    asked: BTreeMap<u8, (Stamp, Stamp)>,
    disk_free: u64,
}

impl Shelf {
    fn taken(&self, kind: Kind) -> u64 {
        self.kept.values().filter(|body| body.0 == kind).map(|body| body.1).sum()
    }

    fn facts(&self, keep: Keep, budget: Option<u64>) -> Facts {
        let free = DISK_RESERVE + self.disk_free;
        let disk = Some(Disk { free: free.saturating_sub(self.taken(Kind::Page) + self.taken(Kind::Media)) });
        Facts { keep, budget, pages: self.taken(Kind::Page), media: self.taken(Kind::Media), disk }
    }

    fn media(&self) -> Vec<Medium<u8>> {
        let media = self.kept.iter().filter(|(_, body)| body.0 == Kind::Media);
        media.map(|(key, body)| Medium { key: *key, length: body.1, read: body.2 }).collect()
    }

    /// Offers a body that is not kept; what was let go for it, or `None` when it was passed through.
    fn offer(
        &mut self,
        keep: Keep,
        budget: Option<u64>,
        name: u8,
        kind: Kind,
        length: u64,
        now: Stamp,
    ) -> Option<usize> {
        let asked_before = self.asked.get(&name).map_or(Stamp(0), |asked| asked.0);
        let wanted = Wanted { kind, growth: length, length, asked_before };
        let dropped = match decide(&self.facts(keep, budget), &wanted, || self.media()) {
            Verdict::Keep => Vec::new(),
            Verdict::PassThrough => return None,
            Verdict::KeepAfterDropping(keys) => keys,
        };
        for key in &dropped {
            let (_, _, read) = self.kept.remove(key).unwrap();
            self.asked.insert(*key, (Stamp(0), read));
        }
        self.kept.insert(name, (kind, length, now));
        Some(dropped.len())
    }
}

/// A body's kind and length follow from its name, as they do in a site that does not change.
fn body(name: u8) -> (Kind, u64) {
    let kind = if name.is_multiple_of(3) { Kind::Page } else { Kind::Media };
    (kind, u64::from(name) * 37 % 1000 + 1)
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::All), Just(Keep::Budget)]
}

proptest! {
    /// Whatever readers and keepers do, in any order.
    #[test]
    fn a_budget_is_kept_and_pages_are_too(
        keep in keep(),
        budget in proptest::option::of(0u64..20_000),
        disk_free in 0u64..30_000,
        steps in proptest::collection::vec((any::<u8>(), any::<bool>()), 1..200),
    ) {
        let mut shelf = Shelf { disk_free, ..Shelf::default() };
        for (now, (name, by_reader)) in (1..).zip(steps) {
            let now = Stamp(now);
            let before = shelf.clone();
            if let Some(body) = shelf.kept.get_mut(&name) {
                body.2 = if by_reader { now } else { body.2 };
                continue;
            }
            if by_reader {
                let asked = shelf.asked.entry(name).or_default();
                *asked = (asked.1, now);
            }
            let (kind, length) = body(name);
            let dropped = shelf.offer(keep, budget, name, kind, length, now);

            for (name, kept) in &before.kept {
                let stays = shelf.kept.contains_key(name);
                prop_assert!(stays || (kept.0 == Kind::Media && keep == Keep::Budget), "{name} was let go");
            }
            let (pages, media) = (shelf.taken(Kind::Page), shelf.taken(Kind::Media));
            prop_assert!(pages + media <= disk_free);
            if let Some(budget) = budget {
                // Pages that came when media were there with `all`; pages alone with `budget`.
                let grown_by_page = kind == Kind::Page && dropped.is_some();
                let excused = media == 0 || (keep == Keep::All && (grown_by_page || pages + media <= before.total()));
                prop_assert!(pages + media <= budget || excused, "{pages} + {media} of {budget}");
            }
            let fits = |length| pages + media + length <= disk_free
                && budget.is_none_or(|budget| pages + media + length <= budget);
            for (name, kept) in before.kept.iter().filter(|(name, _)| !shelf.kept.contains_key(*name)) {
                prop_assert!(!fits(kept.1), "{name} was let go and would fit");
            }
            prop_assert!(kind == Kind::Media || dropped.is_some() || pages + media + length > disk_free);
        }
    }

    /// Of equal length, exactly those go that were read least.
    #[test]
    fn what_goes_was_read_least(reads in proptest::collection::vec(0u32..50, 1..40), need in 1u64..40) {
        let list: Vec<_> = reads.iter().map(|read| (1, *read)).collect();
        let gone = least_read(media(&list), need * MB);
        prop_assert_eq!(gone.len() as u64, need.min(reads.len() as u64));
        let latest_gone = gone.iter().map(|key| reads[*key]).max().unwrap();
        let stays = (0..reads.len()).filter(|key| !gone.contains(key));
        prop_assert!(stays.map(|key| reads[key]).min().is_none_or(|earliest| latest_gone <= earliest));
    }

    /// A keeper that looks at everything lets nothing go for media, and comes to rest after one look.
    #[test]
    fn a_sweep_lets_no_media_go_for_media_and_the_next_changes_nothing(
        keep in keep(),
        budget in 0u64..20_000,
        disk_free in 0u64..30_000,
        names in proptest::collection::vec(any::<u8>(), 1..80),
    ) {
        let mut shelf = Shelf { disk_free, ..Shelf::default() };
        let sweep = |shelf: &mut Shelf, now| {
            let mut fetched = 0;
            // Pages first, as the keeper does.
            let pages = names.iter().filter(|name| body(**name).0 == Kind::Page);
            for name in pages.chain(names.iter().filter(|name| body(**name).0 == Kind::Media)) {
                if shelf.kept.contains_key(name) {
                    continue;
                }
                let (kind, length) = body(*name);
                let wanted = Wanted { kind, growth: length, length, asked_before: Stamp(0) };
                let facts = shelf.facts(keep, Some(budget));
                if !facts.may_fit(&wanted) {
                    assert_eq!(decide(&facts, &wanted, || shelf.media()), Verdict::PassThrough);
                    continue;
                }
                let dropped = shelf.offer(keep, Some(budget), *name, kind, length, Stamp(now));
                assert!(kind == Kind::Page || dropped == Some(0), "{name}: {dropped:?}");
                fetched += 1;
            }
            fetched
        };
        sweep(&mut shelf, 1);
        prop_assert_eq!(sweep(&mut shelf, 2), 0);
    }
}

impl Shelf {
    fn total(&self) -> u64 {
        self.taken(Kind::Page) + self.taken(Kind::Media)
    }
}
