//! A source, and whoever writes in the folders that it hands out: it never leaves them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use common::{Place, contents, path};
use rustix::fs::{CWD, FileType, Mode};
use sovereign_archive::entry::Moment;
use sovereign_archive::wire::{Ask, Cause, Tell, VERSION, Wanted};
use sovereign_archive::{Offer, Root, SourceError, list, serve};

/// Asks a source of this offer, and says what it answers to each question, one answer per question.
fn ask(offer: Offer, questions: &[Ask]) -> Vec<Tell> {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let served = thread::spawn(move || {
        let mut from = far.try_clone().unwrap();
        serve(&offer, &mut from, &mut far)
    });
    let answers = questions
        .iter()
        .map(|question| {
            question.send(&mut near).unwrap();
            Tell::receive(&mut near).unwrap()
        })
        .collect();
    Ask::Quit.send(&mut near).unwrap();
    served.join().unwrap().unwrap();
    answers
}

fn read(name: &str) -> Ask {
    let at = Moment { seconds: 1, nanoseconds: 0 };
    Ask::Read(Wanted { path: path(name), size: 1, modified: at, changed: at, inode: 1 })
}

#[test]
fn links_lead_nowhere_and_pipes_are_not_waited_for() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "not yours").unwrap();
    let inside = |name: &str| place.site().join("content").join(name);
    symlink(&outside, inside("door")).unwrap();
    symlink(outside.join("secret"), inside("window")).unwrap();
    rustix::fs::mknodat(CWD, inside("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(inside("socket")).unwrap();

    let mut line = place.line();
    let listed = list(&mut line, &|_| {}).unwrap();
    assert_eq!(listed.left_out, 2, "the pipe and the socket");
    assert!(listed.manifest.get(&path("content/door")).is_some(), "the link itself is listed");
    assert!(listed.manifest.get(&path("content/door/secret")).is_none(), "and nothing behind it");

    // Whoever asks for more than was listed gets no further.
    for name in ["content/door/secret", "content/window", "content/pipe", "content/door", "content", "other/file"] {
        let answer = ask(place.offer(), &[Ask::Hello(VERSION), read(name)]).remove(1);
        assert!(matches!(answer, Tell::FileFault(Cause::Changed, _)), "{name}: {answer:?}");
    }

    let archive = place.archive();
    let taken = place.take(&archive);
    let to = place.folder.path().join("restored");
    archive.contents(&taken.snapshot).unwrap().restore(None, &to, &|_| {}).unwrap();
    assert!(contents(&to).iter().all(|(_, bytes)| bytes != b"not yours"));
}

#[test]
fn a_file_that_became_another_one_is_not_handed_out() {
    let place = Place::new();
    let answer = ask(place.offer(), &[Ask::Hello(VERSION), read("content/images/a.png")]).remove(1);
    assert_eq!(answer, Tell::FileFault(Cause::Changed, "it changed after it was listed".to_owned()));
}

#[test]
fn what_is_left_out_is_left_out_with_all_that_is_in_it() {
    let place = Place::new();
    let offer = Offer { without: vec![path("content/images")], ..place.offer() };
    let (near, far) = UnixStream::pair().unwrap();
    thread::spawn(move || serve(&offer, &mut far.try_clone().unwrap(), &mut far.try_clone().unwrap()));
    let mut line = sovereign_archive::Line::new(near.try_clone().unwrap(), near);
    let listed = list(&mut line, &|_| {}).unwrap();
    assert!(listed.manifest.entries().iter().all(|entry| !entry.path.is_in(&path("content/images"))));
}

#[test]
fn a_root_may_be_a_file_and_its_name_is_one() {
    let place = Place::new();
    let root = |name: &str, file: &str| Root { name: path(name), path: place.site().join(file) };
    let serve_nobody = |roots| serve(&Offer { roots, without: Vec::new() }, &mut std::io::empty(), &mut Vec::new());
    serve_nobody(vec![root("a", "data/site.db")]).unwrap();
    let twice = serve_nobody(vec![root("a", "data"), root("a", "content")]);
    assert!(matches!(twice, Err(SourceError::Name(_))), "{twice:?}");
    let deep = serve_nobody(vec![root("a/b", "data")]);
    assert!(matches!(deep, Err(SourceError::Name(_))), "{deep:?}");
    let gone = serve_nobody(vec![root("a", "gone")]);
    assert!(matches!(gone, Err(SourceError::Root { .. })), "{gone:?}");
}
