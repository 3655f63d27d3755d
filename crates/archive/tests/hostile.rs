//! Sources that lie: nothing they say leads out of the archive, or into it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{Place, bytes_of, liar, path};
use sovereign_archive::entry::{Entry, Kind, LARGEST_FILE, Moment};
use sovereign_archive::wire::{Cause, Tell};
use sovereign_archive::{ArchiveError, PullError};

fn entry(name: &str, kind: Kind) -> Entry {
    let at = Moment { seconds: 1_700_000_000, nanoseconds: 5 };
    Entry { path: path(name), kind, mode: 0o644, modified: at, changed: at, user: 0, group: 0, inode: 1 }
}

fn file(name: &str, size: u64) -> Tell {
    Tell::Entry(entry(name, Kind::File { size }))
}

fn folder(name: &str) -> Tell {
    Tell::Entry(entry(name, Kind::Folder))
}

fn link(name: &str, target: &str) -> Tell {
    Tell::Entry(entry(name, Kind::Link { target: target.as_bytes().to_vec() }))
}

fn with(change: impl FnOnce(&mut Entry)) -> Tell {
    let mut entry = entry("a", Kind::File { size: 0 });
    change(&mut entry);
    Tell::Entry(entry)
}

fn hello() -> Vec<u8> {
    bytes_of(&[Tell::Hello(1)])
}

/// A frame that our own code would not make: an entry with this path.
fn entry_at(raw: &[u8]) -> Vec<u8> {
    let good = bytes_of(&[file(&"x".repeat(raw.len().clamp(1, 255)), 0)]);
    let at = good.iter().position(|byte| *byte == b'x').unwrap_or(0);
    let mut payload = good[5..at - 4].to_vec();
    payload.extend((raw.len() as u32).to_be_bytes());
    payload.extend(raw);
    payload.extend(&good[at + raw.len().clamp(1, 255)..]);
    let mut frame = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    frame.push(b'e');
    frame.extend(payload);
    frame
}

#[test]
fn a_list_that_is_none_is_refused() {
    let long = "n".repeat(256);
    let raw: Vec<Vec<u8>> = ["", "/etc/passwd", "..", "../x", "a/../../x", "./a", "a//b", "a/", "a\0b", &long]
        .iter()
        .map(|raw| entry_at(raw.as_bytes()))
        .collect();
    let deep = entry_at(vec!["d"; 65].join("/").as_bytes());
    let whole: Vec<Vec<u8>> = vec![
        bytes_of(&[file("a/b", 0)]),                           // no parent
        bytes_of(&[link("a", "/etc"), file("a/passwd", 0)]),   // through a link
        bytes_of(&[file("a", 0), file("a", 0)]),               // twice
        bytes_of(&[folder("a"), file("a/b", 0), folder("a")]), // again
        bytes_of(&[file("b", 0), file("a", 0)]),               // out of order
        bytes_of(&[file("a", 0), Tell::ListEnd(2, 0)]),        // counted otherwise
        bytes_of(&[file("a", 0), Tell::ListEnd(0, 0)]),        //
        bytes_of(&[Tell::Data(vec![1])]),                      // not asked for
        bytes_of(&[Tell::FileEnd]),                            //
        bytes_of(&[Tell::Hello(1)]),                           //
        bytes_of(&[file("a", LARGEST_FILE + 1)]),              // a size that there is not
        (0..17).map(|n| file(&format!("{n:02}"), LARGEST_FILE)).flat_map(|file| bytes_of(&[file])).collect(), // nor all
        bytes_of(&[link("a", "")]),                            // to nowhere
        bytes_of(&[link("a", "b\0c")]),                        //
        bytes_of(&[link("a", &"x".repeat(4096))]),             //
        bytes_of(&[with(|entry| entry.mode = 0o060_644)]),     // a device, by its mode
        bytes_of(&[with(|entry| entry.mode = 0o010_644)]),     // a pipe
        bytes_of(&[with(|entry| entry.modified.seconds = i64::MAX)]), // a time that there is not
        bytes_of(&[with(|entry| entry.changed.nanoseconds = u32::MAX)]), //
        bytes_of(&[file("a", LARGEST_FILE)]).into_iter().map(|byte| byte ^ 0x80).collect(), // noise
        vec![0, 0, 0, 0],                                      // an empty frame
        vec![0xff; 64],                                        // a huge one
        [&[0, 0, 0, 2, b'e', 9][..], &[0; 8]].concat(),        // a kind of entry that there is not
        b"Welcome to Debian GNU/Linux!\n".to_vec(),            // a banner
    ];
    let place = Place::new();
    let archive = place.archive();
    for (number, mut list) in raw.into_iter().chain([deep]).chain(whole).enumerate() {
        list.extend(bytes_of(&[Tell::ListEnd(1, 0)]));
        let error = place.try_take(&archive, liar(hello(), list, Vec::new())).unwrap_err();
        assert!(matches!(error, ArchiveError::Source(_)), "list {number}: {error:?}");
    }
    for greeting in [bytes_of(&[Tell::Hello(2)]), bytes_of(&[Tell::FileEnd]), b"SSH-2.0-OpenSSH\r\n".to_vec()] {
        place.try_take(&archive, liar(greeting, Vec::new(), Vec::new())).unwrap_err();
    }
    assert_eq!(archive.snapshots().unwrap().len(), 0);
}

#[test]
fn a_file_that_is_not_as_announced_is_refused() {
    let list = bytes_of(&[file("a", 5), Tell::ListEnd(1, 0)]);
    let answers: Vec<Vec<u8>> = vec![
        bytes_of(&[Tell::Data(vec![1; 6]), Tell::FileEnd]),
        bytes_of(&[Tell::Data(vec![1; 5]), Tell::Data(vec![1]), Tell::FileEnd]),
        bytes_of(&[Tell::Data(vec![1; 4]), Tell::FileEnd]),
        bytes_of(&[Tell::FileEnd]),
        bytes_of(&[Tell::Data(vec![1; 5]), Tell::FileFault(Cause::Changed, "changed".to_owned())]),
        bytes_of(&[Tell::Data(vec![1; 5]), Tell::Hello(1)]),
        bytes_of(&[file("a", 5)]),
        vec![0, 0, 0, 1, b'd'],
    ];
    let place = Place::new();
    let archive = place.archive();
    for (number, answer) in answers.into_iter().enumerate() {
        let error = place.try_take(&archive, liar(hello(), list.clone(), answer)).unwrap_err();
        let named = matches!(&error, ArchiveError::Source(PullError::Fault(fault)) if fault.path == "a");
        assert!(named, "answer {number}: {error:?}");
    }
    assert_eq!(archive.snapshots().unwrap().len(), 0);
}

#[test]
fn links_are_kept_as_data_and_restored_as_links() {
    let place = Place::new();
    let archive = place.archive();
    let list = bytes_of(&[folder("a"), link("a/up", "../../.."), link("etc", "/etc"), Tell::ListEnd(3, 0)]);
    let taken = place.try_take(&archive, liar(hello(), list, Vec::new())).unwrap();
    let to = place.folder.path().join("restored");
    archive.contents(&taken.snapshot).unwrap().restore(None, &to, &|_| {}).unwrap();
    assert_eq!(std::fs::read_link(to.join("etc")).unwrap().to_str(), Some("/etc"));
    assert!(to.join("a/up").symlink_metadata().unwrap().is_symlink());
}

/// Names are bytes: what looks alike, or like a way up, is one of its own, and comes back as what it was.
#[test]
fn names_that_look_like_others_are_others() {
    let names = ["a\u{2215}b", "caf\u{e9}", "cafe\u{301}", "\u{202e}gpj.exe", "\u{ff0e}\u{ff0e}"];
    let mut sorted = names;
    sorted.sort_by_key(|name| name.as_bytes());
    let place = Place::new();
    let archive = place.archive();
    let mut list: Vec<Tell> = sorted.iter().map(|name| link(name, "target")).collect();
    list.push(Tell::ListEnd(names.len() as u64, 0));
    let taken = place.try_take(&archive, liar(hello(), bytes_of(&list), Vec::new())).unwrap();
    let to = place.folder.path().join("restored");
    archive.contents(&taken.snapshot).unwrap().restore(None, &to, &|_| {}).unwrap();
    let mut restored: Vec<_> = common::contents(&to).into_iter().map(|(name, _)| name.into_os_string()).collect();
    restored.sort();
    assert_eq!(restored, sorted);
}

/// What is announced is asked room for before any of it is taken.
#[test]
fn a_size_that_fits_nowhere_is_refused_before_it_comes() {
    let place = Place::new();
    let archive = place.archive();
    let list: Vec<_> = (0..16).map(|n| file(&format!("{n:02}"), LARGEST_FILE)).chain([Tell::ListEnd(16, 0)]).collect();
    let error = place.try_take(&archive, liar(hello(), bytes_of(&list), Vec::new())).unwrap_err();
    assert!(matches!(error, ArchiveError::NoRoom { .. }), "{error:?}");
}

/// A source that says a byte now and then holds the archive's lock no longer than one that says nothing.
#[test]
fn a_source_that_is_too_slow_is_given_up() {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};
    let (near, mut far) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let said = [hello(), bytes_of(&[file("a", 1 << 30)])].concat();
        for byte in said.iter().cycle() {
            std::thread::sleep(Duration::from_millis(100));
            if far.write_all(&[*byte]).is_err() {
                break;
            }
        }
    });
    let line = sovereign_archive::Line::patient(near.try_clone().unwrap(), near, Duration::from_secs(1));
    let place = Place::new();
    let archive = place.archive();
    let began = Instant::now();
    place.try_take(&archive, line).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_source_that_stays_silent_is_given_up() {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;
    let (near, _far) = UnixStream::pair().unwrap();
    let line = sovereign_archive::Line::patient(near.try_clone().unwrap(), near, Duration::from_secs(1));
    let place = Place::new();
    let error = place.try_take(&place.archive(), line).unwrap_err();
    let text = std::error::Error::source(&error).and_then(std::error::Error::source);
    assert!(text.is_some(), "{error:?}");
}
