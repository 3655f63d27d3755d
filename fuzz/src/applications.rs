//! What applications, peers and package registries send.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use sovereign_edge::concern::{Concern, Event, Links, Site, concern};
use sovereign_edge::notice::Notice;
use sovereign_edge::policy::{self, Exchange};
use sovereign_edge::route::Target;
use sovereign_images::unpack::{Bounds, unpack as unpack_archive};
use sovereign_services::ghost::{outgoing_text, refused_in};

/// Whatever an answer's fields say: what is private is never kept, and what is kept has sane times.
pub(crate) fn terms(data: &[u8]) {
    let Some((&status, lines)) = data.split_first() else { return };
    let headers = crate::fields(lines);
    let status = StatusCode::from_u16(200 + u16::from(status) * 2).unwrap_or(StatusCode::OK);
    let asked_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let exchange = Exchange { asked_at, answered_at: asked_at + Duration::from_millis(40) };
    for target in ["/", "/assets/x.css?v=abc"] {
        let target = Target::parse(target).expect("a target");
        let Ok(terms) = policy::decide(&target, status, &headers, exchange) else { continue };
        assert!(!headers.contains_key("set-cookie"));
        let said = headers.get_all("cache-control").iter().filter_map(|value| value.to_str().ok());
        for directive in said.flat_map(|value| value.split(',')).filter(|value| !value.contains('"')) {
            let directive = directive.trim().to_ascii_lowercase();
            // Inside an unfinished quoted string a word is no directive.
            let quoted = headers.get_all("cache-control").iter().any(|value| value.as_bytes().contains(&b'"'));
            assert!(quoted || !matches!(directive.as_str(), "no-store" | "private"), "{headers:?}");
        }
        for later in [0, 1, 86_400, 40_000_000_000] {
            let now = asked_at + Duration::from_secs(later);
            let _ = (terms.ttl(now), terms.age(now), policy::judge(&terms, later % 2 == 0, now, || true));
        }
        let mut kept = policy::storable_fields(&headers);
        policy::merge_not_modified(&mut kept, &headers);
        policy::strip_hop_by_hop(&mut kept);
        assert!(!kept.contains_key("connection") && !kept.contains_key("set-cookie"));
    }
}

/// Whatever a webhook says: each page at most once, and of a site whose links are not known, all of them.
pub(crate) fn webhook(data: &[u8]) {
    let event = Event::parse(data);
    let target = |path: &str| Target::parse(path).expect("a target");
    let pages =
        ["/", "/a-post/", "/b-post/", "/tag/news/", "/tag/news/page/2/", "/rss/", "/sitemap.xml", "/p1/", "/p1.md"];
    let kept = pages.map(target);
    let canonical = "https://blog.localhost:8443".parse().expect("an origin");
    let mut links = Links::default();
    let site = Site { canonical: &canonical, kept: &kept, links: &links };
    if let Concern::Pages(scope) = concern(&event, site) {
        assert!(scope.targets.is_empty(), "nothing is known of these links: {scope:?}");
    }
    kept.iter().for_each(|page| links.record(page, &kept));
    links.record_feed(&target("/rss/"), Some(target("/b-post/")));
    links.settle(|_| true);
    if let Concern::Pages(scope) = concern(&event, Site { canonical: &canonical, kept: &kept, links: &links }) {
        let each: BTreeSet<_> = scope.targets.iter().collect();
        assert_eq!(each.len(), scope.targets.len(), "{scope:?}");
        assert!(scope.own.iter().all(|own| each.contains(own)), "{scope:?}");
        assert!(scope.targets.len() <= kept.len() + 2 * data.len(), "{scope:?}");
    }
}

/// A line of an edge: what is understood can be said again.
pub(crate) fn notice(data: &[u8]) {
    if let Some(notice) = Notice::parse(data) {
        let line = notice.line(true).expect("what comes in is what goes out");
        assert_eq!(Notice::parse(line.as_bytes()), Some(notice), "{line:?}");
    }
}

/// The guard's log, which Ghost itself could write: nothing in it plays tricks on a terminal.
pub(crate) fn outgoing_log(data: &[u8]) {
    let refused = refused_in(data);
    let told = outgoing_text(&refused);
    assert!(!told.chars().any(char::is_control), "{told:?}");
    assert!(refused.len() <= data.iter().filter(|byte| **byte == b'\n').count() + 1);
}

/// A package's archive, plain or compressed: nothing comes out beside the folder, and never too much.
pub(crate) fn unpack(data: &[u8]) {
    let place = tempfile::tempdir_in(scratch()).expect("a folder for a trial");
    let inside = place.path().join("inside");
    std::fs::create_dir(&inside).expect("a fresh folder");
    let bounds = Bounds { bytes: 1 << 20, entries: 100 };
    let mut gzip = flate2::GzBuilder::new().read(data, flate2::Compression::none());
    let _ = unpack_archive("trial", &mut gzip, &inside, bounds, |path| Some(path.to_owned()));
    let beside: Vec<_> =
        std::fs::read_dir(place.path()).expect("our folder").map(|entry| entry.map(|e| e.file_name())).collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert!(size_below(&inside) <= bounds.bytes);
}

fn size_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("our folder").flatten();
    entries
        .map(|entry| {
            let kind = entry.file_type().expect("the kind of our file");
            assert!(kind.is_dir() || kind.is_file(), "{}", entry.path().display());
            if kind.is_dir() { size_below(&entry.path()) } else { entry.metadata().expect("our file").len() }
        })
        .sum()
}

/// Memory where there is some: thousands of small files per second wear a disk.
pub(crate) fn scratch() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
