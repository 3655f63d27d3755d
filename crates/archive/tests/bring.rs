//! A copy of an archive, brought to where it is used: whole or no archive, wherever it is cut off.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use common::{Place, contents, password, subject};
use sovereign_archive::copy::{CopyError, Folder};
use sovereign_archive::{Archive, ArchiveError};

#[test]
fn it_is_whole_or_no_archive_and_goes_on_where_it_was_cut_off() {
    let place = Place::new();
    place.take(&place.archive());
    // One that is only read, as a copy elsewhere is.
    let there = Arc::new(Folder::new(place.repository()));
    let archive = Archive::open_copy(there, &place.known(), &password()).unwrap();
    let [to, known] = ["brought", "known.json"].map(|name| place.folder.path().join(name));
    let open = || Archive::open(&to, &known, &password());
    // Each run brings one file more than the one before, and is cut off then.
    let mut cut_off = 0;
    let cut_off_soon = || archive.bring_to(&to, &|_, _| resume_unwind(Box::new("without a word"))).unwrap();
    while catch_unwind(AssertUnwindSafe(cut_off_soon)).is_err() {
        assert!(matches!(open(), Err(ArchiveError::Missing { .. })), "half of it is no archive");
        cut_off += 1;
    }
    assert!(cut_off > 3, "it was cut off {cut_off} times");
    let brought = open().unwrap();
    let checked = brought.check(true).unwrap();
    assert_eq!((checked.errors, checked.remarks), (Vec::new(), Vec::new()));
    let restored = place.folder.path().join("restored");
    let newest = brought.newest(&subject()).unwrap().unwrap();
    brought.contents(&newest).unwrap().restore(None, &restored, &|_| {}).unwrap();
    assert_eq!(contents(&restored), contents(&place.site()));
}

#[test]
fn what_was_torn_is_brought_again_and_what_is_somebody_elses_stays() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    let to = place.folder.path().join("brought");
    let torn = fs::read_dir(place.repository().join("snapshots")).unwrap().next().unwrap().unwrap();
    fs::create_dir_all(to.join("snapshots")).unwrap();
    fs::write(to.join("snapshots").join(torn.file_name()), "half").unwrap();
    fs::write(to.join("config-tmp-"), "half").unwrap();
    archive.bring_to(&to, &|_, _| {}).unwrap();
    assert_eq!(fs::read(to.join("snapshots").join(torn.file_name())).unwrap(), fs::read(torn.path()).unwrap());
    assert!(!to.join("config-tmp-").exists());

    let theirs = place.folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("holiday.jpg"), "").unwrap();
    let refused = archive.bring_to(&theirs, &|_, _| {});
    assert!(matches!(refused, Err(CopyError::Archive(ArchiveError::Occupied { .. }))), "{refused:?}");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
}
