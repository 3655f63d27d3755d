//! The store against real files, damaged files and a process that dies.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use http::{HeaderName, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::policy::WhenStale;
use crate::route::Target;

/// Set in the environment of the process that writes until it is killed.
const WRITER_FOLDER: &str = "SOVEREIGN_TEST_STORE";
const LIMITS: Limits = Limits { memory: 4096, memory_body: 1024, incidental: 3 };

fn open(folder: &Path) -> Arc<Store> {
    Arc::new(Store::open(folder, LIMITS).unwrap())
}

fn key(target: &str) -> Key {
    Key::new(site(), Target::parse(target).unwrap())
}

fn site() -> SiteName {
    "blog".parse().unwrap()
}

fn terms(seconds: u64) -> Terms {
    let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let fresh_until = fetched + Duration::from_secs(60);
    Terms { fetched, fresh_until, age: Duration::ZERO, dated: None, when_stale: WhenStale::Refresh }
}

fn head(target: &str) -> Head {
    let mut fields = HeaderMap::new();
    fields.insert(header::ETAG, HeaderValue::from_static("W/\"1\""));
    fields.append(header::LINK, HeaderValue::from_bytes(b"</\xe9>").unwrap());
    fields.append(header::LINK, HeaderValue::from_static("</b>"));
    Head { key: key(target), status: StatusCode::OK, fields, terms: terms(1_000_000), selection: Selection::default() }
}

fn put(store: &Arc<Store>, target: &str, body: &[u8]) -> Arc<Entry> {
    let mut writer = store.begin(store.ticket(&site()), head(target));
    for chunk in body.chunks(300) {
        writer.write(chunk).unwrap();
    }
    writer.commit().unwrap()
}

fn body(store: &Store, entry: &Arc<Entry>) -> Vec<u8> {
    match store.read(entry).unwrap() {
        Content::Memory(bytes) => bytes.to_vec(),
        Content::File(file) => file.read_at(0, usize::MAX).unwrap().to_vec(),
    }
}

fn file(folder: &Path, target: &str) -> PathBuf {
    record::path(folder, &key(target))
}

#[test]
fn pages_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let long: Vec<u8> = (0..5000u32).map(|i| i.to_le_bytes()[0]).collect();
    let store = open(folder.path());
    put(&store, "/", b"home");
    put(&store, "/empty", b"");
    put(&store, "/long.mp4?v=1", &long);
    store.sync().unwrap();
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.opened(), Opened { kept: 3, dropped: 0 });
    for (target, content) in [("/", &b"home"[..]), ("/empty", b""), ("/long.mp4?v=1", &long)] {
        let entry = store.get(&key(target)).unwrap();
        assert_eq!(body(&store, &entry), content, "{target}");
        assert_eq!(entry.length(), content.len() as u64);
        let Head { status, fields, terms, .. } = head(target);
        assert_eq!((entry.status(), entry.fields(), entry.terms()), (status, fields, terms));
    }
    assert!(store.get(&key("/none")).is_none());
    let at = Some(terms(1_000_000).fetched);
    assert_eq!(store.stats(&site()), Stats { kept: 3, stale: 0, bytes: 5004, oldest: at, newest: at });
    assert_eq!(store.keys(&site()), ["/", "/empty", "/long.mp4?v=1"].map(key));
}

#[test]
fn an_unfinished_page_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "/", b"old");
    let mut writer = store.begin(store.ticket(&site()), head("/"));
    writer.write(&[0; 3000]).unwrap();
    assert_eq!(list(&folder.path().join("tmp")).unwrap().len(), 1);
    drop(writer);
    assert_eq!(list(&folder.path().join("tmp")).unwrap().len(), 0);
    assert_eq!(body(&store, &store.get(&key("/")).unwrap()), b"old");
}

#[test]
fn damaged_files_are_misses() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for target in ["/cut", "/head", "/body", "/moved", "/version", "/good"] {
        put(&store, target, b"some content");
    }
    drop(store);
    let change = |target, change: &dyn Fn(&mut Vec<u8>)| {
        let path = file(folder.path(), target);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    change("/cut", &|bytes| bytes.truncate(bytes.len() - 1));
    change("/head", &|bytes| bytes[100] ^= 1);
    change("/body", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    change("/version", &|bytes| bytes[7] += 1);
    fs::rename(file(folder.path(), "/moved"), file(folder.path(), "/good").with_file_name("other")).unwrap();
    let abandoned = folder.path().join("tmp").join("7-7");
    fs::write(&abandoned, b"left over").unwrap();
    File::options().write(true).open(&abandoned).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();

    let store = open(folder.path());
    assert_eq!(store.opened(), Opened { kept: 2, dropped: 4 });
    let damaged = store.get(&key("/body")).unwrap();
    let error = store.read(&damaged).unwrap_err();
    assert!(matches!(&error, StoreError::Record { source: RecordError::Body, .. }), "{error}");
    assert!(store.get(&key("/body")).is_none());
    assert_eq!(body(&store, &store.get(&key("/good")).unwrap()), b"some content");
    assert_eq!(list(&folder.path().join("tmp")).unwrap().len(), 0);
    put(&store, "/body", b"again");
    assert_eq!(body(&store, &store.get(&key("/body")).unwrap()), b"again");
}

#[test]
fn two_edges_share_a_folder_during_a_hand_over() {
    let folder = tempfile::tempdir().unwrap();
    let old = open(folder.path());
    let long = put(&old, "/long", &[1; 2000]);
    put(&old, "/gone", &[1; 2000]);
    let mut under_way = old.begin(old.ticket(&site()), head("/"));
    under_way.write(&[1; 2000]).unwrap();
    let new = open(folder.path());
    put(&new, "/long", &[2; 2000]);
    put(&new, "/", &[2; 2000]);
    new.remove(&key("/gone")).unwrap();
    under_way.commit().unwrap();

    let gone = old.get(&key("/gone")).unwrap();
    for entry in [long, gone, new.get(&key("/")).unwrap()] {
        let store = if entry.key() == &key("/") { &new } else { &old };
        assert!(matches!(store.read(&entry), Err(StoreError::Record { source: RecordError::Replaced, .. })));
        assert!(store.get(entry.key()).is_none());
    }
    assert_eq!(body(&new, &new.get(&key("/long")).unwrap()), [2; 2000]);
}

#[test]
fn a_replaced_page_is_not_taken_for_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old = put(&store, "/", &[1; 2000]);
    let Content::File(reading) = store.read(&old).unwrap() else { panic!("too long for memory") };
    let new = put(&store, "/", &[2; 2000]);
    assert!(matches!(store.read(&old), Err(StoreError::Record { source: RecordError::Replaced, .. })));
    assert_eq!(reading.read_at(1990, 99).unwrap(), [1; 10][..]);
    assert_eq!(body(&store, &store.get(&key("/")).unwrap()), [2; 2000]);
    assert!(Arc::ptr_eq(&new, &store.get(&key("/")).unwrap()));
}

#[test]
fn who_looks_a_replaced_page_up_again_finds_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path(), Limits { memory: 0, ..LIMITS }).unwrap());
    put(&store, "/", b"first");
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| (0..1000u32).for_each(|number| drop(put(&store, "/", &number.to_le_bytes()))));
        while !writer.is_finished() {
            let entry = store.get(&key("/")).unwrap();
            if store.read(&entry).is_err() {
                let again = store.get(&key("/")).expect("a page that is replaced is there all the time");
                assert!(!Arc::ptr_eq(&again, &entry));
            }
        }
    });
}

#[test]
fn invalidation_marks_and_overtakes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let page = put(&store, "/", b"1");
    put(&store, "/a.css?v=1", b"1");
    let asked = store.ticket(&site());
    let versioned = |entry: &Entry| !entry.key().target.is_versioned();
    assert_eq!(store.invalidate(&site(), versioned), 1);
    assert_eq!(store.invalidate(&site(), versioned), 0);
    assert!(page.is_stale() && !store.get(&key("/a.css?v=1")).unwrap().is_stale());

    // Answers to questions from before say nothing about now.
    store.refresh(asked, &page, page.fields(), terms(2_000_000)).unwrap();
    assert!(page.is_stale());
    assert!(store.begin(asked, head("/")).commit().unwrap().is_stale());

    let page = store.get(&key("/")).unwrap();
    store.refresh(store.ticket(&site()), &page, page.fields(), terms(3_000_000)).unwrap();
    assert!(!page.is_stale());
    assert_eq!(store.stats(&site()).newest, Some(terms(3_000_000).fetched));
}

#[test]
fn new_fields_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for content in [vec![7; 10], vec![7; 2000]] {
        let page = put(&store, "/", &content);
        let mut fields = page.fields();
        fields.insert(HeaderName::from_static("x-new"), HeaderValue::from_static("1"));
        store.refresh(store.ticket(&site()), &page, fields.clone(), terms(5)).unwrap();
        let store = open(folder.path());
        let page = store.get(&key("/")).unwrap();
        assert_eq!((page.fields(), body(&store, &page)), (fields, content));
    }
}

#[test]
fn removal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "/a", b"1");
    put(&store, "/b", b"1");
    assert!(store.remove(&key("/a")).unwrap());
    assert!(!store.remove(&key("/a")).unwrap());
    let under_way = store.begin(store.ticket(&site()), head("/c"));
    assert_eq!(store.remove_site(&site()).unwrap(), 1);
    assert!(matches!(under_way.commit(), Err(StoreError::Overtaken)));
    store.sync().unwrap();
    drop(store);
    assert_eq!(open(folder.path()).opened(), Opened::default());
}

#[test]
fn a_closed_site_is_known_to_be_closed_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert!(!store.is_closed(&site()));
    store.set_closed(&site(), true).unwrap();
    drop(store);
    let store = open(folder.path());
    assert!(store.is_closed(&site()));
    store.set_closed(&site(), false).unwrap();
    store.set_closed(&site(), false).unwrap();
    assert!(!store.is_closed(&site()));
}

#[test]
fn made_up_queries_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "/", b"1");
    let linked = |number: usize| Target::parse(&format!("/a.css?v={number}")).unwrap();
    for number in 0..10 {
        put(&store, &format!("/?q={number}"), b"1");
        // Nobody links to it: a version is made up as easily as a query.
        put(&store, &format!("/?v={number}"), b"1");
        store.note_linked(&site(), &linked(number));
        put(&store, &format!("/a.css?v={number}"), b"1");
    }
    let made_up = |store: &Store| -> Vec<Key> {
        let unlinked = |key: &Key| key.target.query().is_some() && !store.is_linked(&key.site, &key.target);
        store.keys(&site()).into_iter().filter(unlinked).collect()
    };
    assert_eq!(made_up(&store), ["/?q=9", "/?v=8", "/?v=9"].map(key));
    assert_eq!(store.stats(&site()).kept, 14);
    // After a restart a version counts as linked until the site's pages were looked at.
    drop(store);
    let store = open(folder.path());
    assert_eq!(made_up(&store), ["/?q=9"].map(key));
    store.settle_linked(&site(), [linked(8), linked(9)].into()).unwrap();
    assert_eq!(made_up(&store).len(), 3);
    assert_eq!(store.stats(&site()).kept, 6);
}

#[test]
fn memory_keeps_to_its_budget_and_to_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let wanted = put(&store, "/wanted", &[1; 1000]);
    store.glance(&wanted).unwrap();
    assert!(wanted.awake().is_none() && store.memory.bytes() == 0);
    store.read(&wanted).unwrap();
    for number in 0..20 {
        assert!(wanted.awake().is_some(), "{number}");
        let other = put(&store, &format!("/{number}"), &[1; 1000]);
        store.read(&other).unwrap();
        assert!(store.memory.bytes() <= LIMITS.memory);
    }
    assert!(store.get(&key("/0")).unwrap().awake().is_none());
    for key in store.keys(&site()) {
        store.remove(&key).unwrap();
    }
    assert_eq!(store.memory.bytes(), 0);
}

proptest! {
    /// No change of a byte, no cut and no addition goes unnoticed.
    #[test]
    fn every_damage_is_noticed(at in any::<proptest::sample::Index>(), flip in 1u8.., cut in any::<bool>(), more in 0usize..3) {
        let folder = tempfile::tempdir().unwrap();
        put(&open(folder.path()), "/", b"content");
        let path = file(folder.path(), "/");
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        bytes.extend(std::iter::repeat_n(0, more));
        fs::write(&path, bytes).unwrap();
        let store = open(folder.path());
        if let Some(entry) = store.get(&key("/")) {
            prop_assert!(store.read(&entry).is_err());
        }
    }
}

/// A page whose content shows whether it is whole: one byte, repeated, and the length in a field.
fn telltale(store: &Arc<Store>, number: usize) {
    let byte = u8::try_from(number % 251).unwrap();
    let length = 1 + (number * 37) % 3000;
    let mut head = head(&format!("/{}", number % 17));
    head.fields.insert(header::CONTENT_LANGUAGE, HeaderValue::from(length));
    let mut writer = store.begin(store.ticket(&site()), head);
    for chunk in vec![byte; length].chunks(700) {
        writer.write(chunk).unwrap();
    }
    writer.commit().unwrap();
}

/// Not a test of its own: the process that [`no_torn_page_after_a_kill`] kills.
#[test]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(WRITER_FOLDER) else {
        return;
    };
    let store = open(Path::new(&folder));
    let mut number = std::process::id() as usize;
    loop {
        telltale(&store, number);
        number += 1;
        use std::io::Write as _;
        writeln!(std::io::stderr(), "{number}").unwrap();
    }
}

#[test]
fn no_torn_page_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::writes_until_killed", "--nocapture"])
            .env(WRITER_FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Some pages are written for sure; the kill hits whatever comes after them.
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(lines.take(5 + round * 7).filter(Result::is_ok).count(), 5 + round * 7);
        child.kill().unwrap();
        child.wait().unwrap();

        let store = open(folder.path());
        assert_eq!(store.opened().dropped, 0);
        assert!(store.opened().kept > 0);
        for key in store.keys(&site()) {
            let entry = store.get(&key).unwrap();
            let content = body(&store, &entry);
            assert_eq!(entry.fields()[header::CONTENT_LANGUAGE], HeaderValue::from(content.len()));
            assert!(content.iter().all(|byte| *byte == content[0]));
        }
    }
}
