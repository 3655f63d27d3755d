//! Room in a real store: what comes back, what survives a restart, and that every promise is given back.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::prelude::*;
use sovereign_model::size::ByteSize;

use super::*;
use crate::policy::{Selection, Terms, WhenStale};
use crate::store::Limits;

fn site() -> SiteName {
    "blog".parse().unwrap()
}

fn key(target: &str) -> Key {
    Key::new(site(), Target::parse(target).unwrap())
}

fn head(target: &str, kind: &'static str) -> Head {
    let fetched = SystemTime::now();
    let terms = Terms {
        fetched,
        fresh_until: fetched + Duration::from_secs(60),
        age: Duration::ZERO,
        dated: None,
        when_stale: WhenStale::Refresh,
    };
    let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Head { key: key(target), status: StatusCode::OK, fields, terms, selection: Selection::default() }
}

fn open(folder: &std::path::Path, keep: Keep, budget: u64) -> Arc<Store> {
    let store = Arc::new(Store::open(folder, Limits::default()).unwrap());
    store.set_room(&site(), Room { keep, budget: Some(ByteSize(budget)) });
    store
}

fn put(store: &Arc<Store>, target: &str, kind: &'static str, length: usize) -> Result<Arc<Entry>, StoreError> {
    let head = head(target, kind);
    let room = store.reserve(&head, Some(length as u64))?;
    let mut writer = store.begin(store.ticket(&site()), head).within(room);
    writer.write(&vec![7; length])?;
    writer.commit()
}

fn image(store: &Arc<Store>, target: &str, length: usize) -> Result<Arc<Entry>, StoreError> {
    put(store, target, "image/png", length)
}

fn page(store: &Arc<Store>, target: &str, length: usize) -> Result<Arc<Entry>, StoreError> {
    put(store, target, "text/html", length)
}

fn is_kept(store: &Store, target: &str) -> bool {
    store.get(&key(target)).is_some()
}

fn later(minutes: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(60 * minutes)
}

/// Nothing is on its way.
fn nothing_is_promised(store: &Store) {
    let promised = store.space.with(&site(), |ledger| ledger.promised);
    assert_eq!((promised, store.space.unwritten.load(Ordering::Relaxed)), (Taken::default(), 0));
}

#[test]
fn what_is_read_stays_and_what_was_let_go_comes_back_when_it_is_read_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::Budget, 1000);
    let a = image(&store, "/a.png", 400).unwrap();
    image(&store, "/b.png", 400).unwrap();
    a.note_read(later(1));
    page(&store, "/", 300).unwrap();
    assert!(is_kept(&store, "/a.png") && !is_kept(&store, "/b.png"));
    let account = store.account(&site());
    assert_eq!(
        (account.left_out, account.left_out_bytes, account.facts.media, account.facts.pages),
        (1, 400, 400, 300)
    );

    // Nobody asks: a keeper passes it over, and gets nothing if it tries all the same.
    assert!(store.passes_over(&key("/b.png")));
    assert!(matches!(image(&store, "/b.png", 400), Err(StoreError::NoRoom { length: 400 })));
    // Asked for once, after the other was read: that may be anybody who asks for everything.
    store.note_wanted(&key("/b.png"), Stamp::at(later(2)));
    assert!(image(&store, "/b.png", 400).is_err());
    // Asked for again, while nobody reads the other.
    store.note_wanted(&key("/b.png"), Stamp::at(later(3)));
    image(&store, "/b.png", 400).unwrap();
    assert!(!is_kept(&store, "/a.png") && store.is_left_out(&key("/a.png")) && !store.is_left_out(&key("/b.png")));
    nothing_is_promised(&store);
}

#[test]
fn a_restart_knows_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::Budget, 1200);
    for target in ["/a.png", "/b.png", "/c.png"] {
        image(&store, target, 400).unwrap();
    }
    store.get(&key("/a.png")).unwrap().note_read(later(90));
    store.get(&key("/c.png")).unwrap().note_read(later(200));
    store.remember_reads(&site()).unwrap();
    // Too little to write it down.
    store.get(&key("/b.png")).unwrap().note_read(later(20));
    store.remember_reads(&site()).unwrap();
    drop(store);

    let store = open(folder.path(), Keep::Budget, 500);
    assert_eq!(store.get(&key("/a.png")).unwrap().last_read(), Stamp::at(later(90)));
    assert!(store.get(&key("/b.png")).unwrap().last_read() <= Stamp::at(SystemTime::now()));
    assert_eq!(store.settle_room(&site()).unwrap(), 2);
    assert!(is_kept(&store, "/c.png"));
    assert!(!is_kept(&store, "/a.png") && !is_kept(&store, "/b.png"));
}

#[test]
fn a_new_version_needs_only_what_it_is_longer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::All, 1000);
    image(&store, "/a.png", 900).unwrap();
    image(&store, "/a.png", 1000).unwrap();
    assert!(image(&store, "/a.png", 1001).is_err());
    let kept = store.get(&key("/a.png")).unwrap();
    assert_eq!(kept.length(), 1000, "the old one is still there");
    // It is known that it has grown by one byte, and nobody fetches it for that.
    assert_eq!(store.account(&site()).awaited, 1);
    assert!(store.passes_over(&key("/a.png")));
    image(&store, "/a.png", 10).unwrap();
    assert_eq!((store.account(&site()).facts.media, store.account(&site()).awaited), (10, 0));
    nothing_is_promised(&store);
}

#[test]
fn two_bodies_on_their_way_are_not_given_the_same_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::All, 1000);
    let first = store.reserve(&head("/a.png", "image/png"), Some(600)).unwrap();
    assert!(store.reserve(&head("/b.png", "image/png"), Some(600)).is_err());
    drop(first);
    // Nothing came of it; the other one is fetched by a keeper, and that alone holds its room.
    assert!(!store.passes_over(&key("/b.png")));
    assert!(store.reserve(&head("/c.png", "image/png"), Some(600)).is_err());
    image(&store, "/b.png", 600).unwrap();
    store.expects_no_more(&key("/b.png"));
    assert!(store.passes_over(&key("/c.png")));
    nothing_is_promised(&store);
}

#[test]
fn a_body_of_unknown_length_ends_where_the_room_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::All, 1_000_000);
    let head = head("/film.mp4", "video/mp4");
    let room = store.reserve(&head, None).unwrap();
    let mut writer = store.begin(store.ticket(&site()), head.clone()).within(room);
    let chunk = vec![7; 300_000];
    for _ in 0..3 {
        writer.write(&chunk).unwrap();
    }
    assert!(matches!(writer.write(&chunk), Err(StoreError::NoRoom { length: 1_200_000 })));
    let super::super::Content::File(so_far) = writer.so_far().unwrap() else { panic!("it is long") };
    assert_eq!((writer.length(), so_far.length()), (900_000, 900_000), "as it was before");
    assert_eq!(so_far.read_at(899_999, 10).unwrap(), [7][..]);
    drop(writer);
    nothing_is_promised(&store);
    assert!(store.reserve(&head, None).is_err(), "it is not tried again");
    assert!(!is_kept(&store, "/film.mp4"));
}

#[test]
fn lengths_that_cannot_be_are_counted_as_less() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::All, 1000);
    let absurd = (0..100).map(|number| Known {
        target: Target::parse(&format!("/{number}.png")).unwrap(),
        length: Some(u64::MAX),
        kind: Kind::Media,
    });
    store.note_known(&site(), absurd);
    assert!(store.account(&site()).awaited >= 100 << 44);
    assert!((0..100).all(|number| store.passes_over(&key(&format!("/{number}.png")))));
    assert!(image(&store, "/0.png", 10).is_ok(), "what comes counts as what it is");
    assert_eq!(store.account(&site()).left_out, 99);
    nothing_is_promised(&store);
}

#[test]
fn addresses_that_readers_make_up_are_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Keep::All, 10);
    for number in 0..100 {
        assert!(image(&store, &format!("/a.png?v={number}"), 100).is_err());
    }
    assert_eq!(store.account(&site()).left_out, 0);
    let linked = key("/a.png?v=7");
    store.note_linked(&site(), &linked.target);
    assert!(image(&store, "/a.png?v=7", 100).is_err());
    assert_eq!(store.account(&site()).left_out, 1);
    store.settle_known(&site(), &HashSet::new());
    assert_eq!(store.account(&site()).awaited, 0);
}

#[test]
fn the_limit_of_a_site_without_a_budget_is_what_the_disk_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path(), Limits::default()).unwrap());
    let disk = rustix::fs::statvfs(folder.path()).unwrap();
    let facts = store.account(&site()).facts;
    let (limit, free) = (facts.limit().unwrap(), disk.f_bavail * disk.f_frsize);
    // Others write to this disk too.
    assert!(limit.abs_diff(free.saturating_sub(room::DISK_RESERVE)) < 1 << 30, "{limit} of {free}");
    assert!(image(&store, "/a.png", 10).is_ok());
    let film = head("/film.mp4", "video/mp4");
    assert!(store.reserve(&film, Some(u64::MAX)).is_err(), "more than any disk has");
    nothing_is_promised(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, goes and is asked for: the sums are those of the entries, and no promise stays behind.
    #[test]
    fn the_books_balance(
        budget in proptest::bool::ANY,
        steps in proptest::collection::vec((0u8..6, 0u8..8, 1usize..600), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), if budget { Keep::Budget } else { Keep::All }, 1500);
        for (now, (what, name, length)) in (1..).zip(steps) {
            let target = format!("/{name}.png");
            match what {
                0 => drop(page(&store, &format!("/{name}/"), length)),
                1 => drop(image(&store, &target, length)),
                2 => drop(store.remove(&key(&target)).unwrap()),
                3 => store.note_wanted(&key(&target), Stamp::at(later(now))),
                4 => drop(store.reserve(&head(&target, "image/png"), Some(length as u64))),
                _ => {
                    let known = Known { target: key(&target).target, length: Some(length as u64), kind: Kind::Media };
                    store.note_known(&site(), [known]);
                    if !store.passes_over(&key(&target)) {
                        drop(image(&store, &target, length));
                        store.expects_no_more(&key(&target));
                    }
                }
            }
            let of = |kind| -> u64 {
                let entries: Vec<_> = store.keys(&site()).iter().filter_map(|key| store.get(key)).collect();
                entries.iter().filter(|entry| entry.kind() == kind).map(|entry| entry.length()).sum()
            };
            let facts = store.account(&site()).facts;
            prop_assert_eq!((facts.pages, facts.media), (of(Kind::Page), of(Kind::Media)));
            prop_assert!(facts.pages + facts.media <= 1500 || facts.media == 0 || !budget);
            nothing_is_promised(&store);
        }
    }
}
