//! What goes into an archive comes out again, once.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use common::{Place, contents, noise, password, path, subject};
use sovereign_archive::{Archive, ArchiveError, Password};

#[test]
fn what_goes_in_comes_out() {
    let place = Place::new();
    let file = place.site().join("content/images/a.png");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let archive = place.archive();
    let taken = place.take(&archive);
    assert_eq!((taken.snapshot.files, taken.unchanged), (6, false), "five files and a link");
    assert_eq!(taken.bytes_read, 820_004);

    let to = place.folder.path().join("restored");
    let opened = archive.contents(&archive.newest(&subject()).unwrap().unwrap()).unwrap();
    let restored = opened.restore(None, &to, &|_| {}).unwrap();
    assert_eq!((restored.files, restored.bytes), (5, 820_004));
    assert_eq!(contents(&to), contents(&place.site()));
    let (before, after) = (file.metadata().unwrap(), to.join("content/images/a.png").metadata().unwrap());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(after.mode() & 0o7777, 0o640);

    let one = place.folder.path().join("one");
    opened.restore(Some(&path("content/images")), &one, &|_| {}).unwrap();
    assert_eq!(contents(&one).len(), 2);
    assert!(matches!(opened.restore(None, &one, &|_| {}), Err(ArchiveError::NotEmpty { .. })));
    let nowhere = opened.restore(Some(&path("content/imag")), &place.folder.path().join("none"), &|_| {});
    assert!(matches!(nowhere, Err(ArchiveError::NoPath { .. })));

    let scratch = place.folder.path().join("scratch");
    let proven = opened.prove(&mut taken.read.iter().map(|(path, sum)| (path, Some(sum))), &scratch, &|_| {}).unwrap();
    assert_eq!(proven.bytes, 820_004);
    let checked = archive.check(true).unwrap();
    assert_eq!((checked.errors, checked.remarks), (Vec::new(), Vec::new()));
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    let place = Place::new();
    let archive = place.archive();
    let first = place.take(&archive);
    let again = place.take(&archive);
    assert_eq!((again.bytes_read, again.unchanged), (0, true));
    assert_eq!(again.snapshot.id, first.snapshot.id);
    assert_eq!(archive.snapshots().unwrap().len(), 1, "nothing changed: no snapshot more");

    place.write("content/new", b"twelve bytes");
    let third = place.take(&archive);
    assert_eq!((third.bytes_read, third.read.len()), (12, 1));

    // The same size and times, but another file: only its number says so.
    let file = place.site().join("content/new");
    let (metadata, kept) = (file.metadata().unwrap(), place.folder.path().join("kept"));
    fs::write(&kept, "TWELVE BYTES").unwrap();
    let modified = fs::File::options().write(true).open(&kept).unwrap();
    modified.set_modified(metadata.modified().unwrap()).unwrap();
    fs::rename(&kept, &file).unwrap();
    let fourth = place.take(&archive);
    assert_eq!(fourth.read.len(), 1);
    assert_eq!(archive.snapshots().unwrap().len(), 3);
}

/// The library's comparison of inodes is reversed; when a new version puts it right, our use of it must change.
#[test]
fn a_file_with_another_inode_is_read_again() {
    use sovereign_archive::entry::{Entry, Kind, Moment};
    use sovereign_archive::wire::Tell;
    let place = Place::new();
    let archive = place.archive();
    let at = Moment { seconds: 1, nanoseconds: 0 };
    let take = |inode, byte: u8| {
        let kind = Kind::File { size: 1 };
        let entry = Entry { path: path("a"), kind, mode: 0o600, modified: at, changed: at, user: 0, group: 0, inode };
        let list = common::bytes_of(&[Tell::Entry(entry), Tell::ListEnd(1, 0)]);
        let file = common::bytes_of(&[Tell::Data(vec![byte]), Tell::FileEnd]);
        place.try_take(&archive, common::liar(common::bytes_of(&[Tell::Hello(1)]), list, file)).unwrap()
    };
    assert_eq!(take(7, b'x').read.len(), 1);
    assert_eq!(take(7, b'y').read.len(), 0, "unchanged by all that is known");
    assert_eq!(take(8, b'z').read.len(), 1);
}

#[test]
fn a_database_that_changes_in_places_is_stored_in_places() {
    let place = Place::new();
    let archive = place.archive();
    // Databases compress, unlike pictures, which are cut more coarsely.
    let mut database: Vec<u8> = noise(9, 4_000_000).iter().map(|byte| byte % 64 + b' ').collect();
    place.write("data/site.db", &database);
    place.take(&archive);
    for at in [100_000, 2_000_000, 3_900_000] {
        database[at..at + 100].copy_from_slice(&noise(at as u64, 100));
    }
    place.write("data/site.db", &database);
    let added = place.take(&archive).snapshot.added;
    assert!(added < 600_000, "{added} bytes for 300 changed ones in three places");
}

#[test]
fn only_its_keys_open_it_and_one_run_at_a_time() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    assert!(matches!(Archive::open(&place.repository(), &place.known(), &password()), Err(ArchiveError::Locked)));
    let paper = Password::new("eight words on paper".to_owned());
    archive.add_password(&paper).unwrap();
    drop(archive);
    assert_eq!(Archive::open(&place.repository(), &place.known(), &paper).unwrap().snapshots().unwrap().len(), 1);
    let wrong = Archive::open(&place.repository(), &place.known(), &Password::new("guess".to_owned()));
    assert!(matches!(wrong, Err(ArchiveError::WrongKey { .. })), "{wrong:?}");
    let unknown = place.folder.path().join("unknown");
    let nothing = Archive::open(&place.folder.path().join("nothing"), &unknown, &password());
    assert!(matches!(nothing, Err(ArchiveError::Missing { .. })));
    assert_eq!(place.repository().metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn the_key_is_remembered_with_the_password_that_found_it() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    drop(archive);
    let file = place.folder.path().join("archive-key.json");
    let remembering = |text: &str| Password::new(text.to_owned()).remembered_in(file.clone());
    let open = |password: &Password| Archive::open(&place.repository(), &place.known(), password);
    drop(open(&remembering(password().expose())).unwrap());
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);

    // With no password's copy of the key, only what is remembered opens it.
    let keys = place.repository().join("keys");
    let copies = contents(&keys);
    copies.iter().for_each(|(copy, _)| fs::remove_file(keys.join(copy)).unwrap());
    assert_eq!(open(&remembering(password().expose())).unwrap().snapshots().unwrap().len(), 1);
    let refused = open(&password());
    assert!(refused.is_err(), "{refused:?}");
    let other = open(&remembering("another"));
    assert!(other.is_err(), "{other:?}: the file was written with another password");
    fs::write(&file, "{").unwrap();
    let senseless = open(&remembering(password().expose()));
    assert!(senseless.is_err(), "{senseless:?}: what cannot be understood was never there");
}

#[test]
fn damage_is_found_and_never_restored() {
    let place = Place::new();
    let archive = place.archive();
    let taken = place.take(&archive);
    // One byte in the middle of the largest file: a pack with data.
    let packs = contents(&place.repository().join("data"));
    let (name, mut bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(place.repository().join("data").join(name), bytes).unwrap();
    assert_eq!(archive.check(false).unwrap().errors, Vec::<String>::new(), "nothing is missing");
    assert!(!archive.check(true).unwrap().errors.is_empty());
    let opened = archive.contents(&taken.snapshot).unwrap();
    opened.restore(None, &place.folder.path().join("restored"), &|_| {}).unwrap_err();
    let sums = &mut taken.read.iter().map(|(path, sum)| (path, Some(sum)));
    opened.prove(sums, &place.folder.path().join("scratch"), &|_| {}).unwrap_err();
}

#[test]
fn nothing_is_taken_for_the_archive_that_is_not_there() {
    let place = Place::new();
    let known = place.known();
    place.take(&place.archive());
    assert_eq!(known.metadata().unwrap().mode() & 0o777, 0o600);

    // The disk is not mounted: an empty folder, or none.
    let (folder, aside) = (place.repository(), place.folder.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    for there in [false, true] {
        if there {
            fs::create_dir(&folder).unwrap();
        }
        for refused in
            [Archive::open_or_create(&folder, &known, &password()), Archive::open(&folder, &known, &password())]
        {
            let error = refused.unwrap_err();
            assert!(matches!(error, ArchiveError::Gone { .. }), "{error:?}");
            assert!(error.help().unwrap().contains("repository.json"), "it says how to begin anew");
        }
        assert_eq!(folder.exists(), there);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing was put there, not even a lock");

    // Another archive is there, with the same password.
    let other = Place::new();
    other.archive();
    fs::remove_dir(&folder).unwrap();
    fs::rename(other.repository(), &folder).unwrap();
    let error = Archive::open_or_create(&folder, &known, &password()).unwrap_err();
    assert!(matches!(error, ArchiveError::Another { .. }), "{error:?}");

    // On purpose it may be.
    fs::remove_file(&known).unwrap();
    Archive::open_or_create(&folder, &known, &password()).unwrap();
    Archive::open(&folder, &known, &password()).unwrap();
    fs::write(&known, "nonsense").unwrap();
    let error = Archive::open_or_create(&folder, &known, &password()).unwrap_err();
    assert!(matches!(error, ArchiveError::Senseless { .. }), "{error:?}");
}

#[test]
fn an_archive_is_made_in_an_empty_folder_only() {
    let place = Place::new();
    fs::create_dir(place.repository()).unwrap();
    fs::write(place.repository().join("holiday.jpg"), "").unwrap();
    let error = Archive::open_or_create(&place.repository(), &place.known(), &password()).unwrap_err();
    assert!(matches!(error, ArchiveError::Occupied { .. }), "{error:?}");
    assert_eq!(fs::read_dir(place.repository()).unwrap().count(), 1);
    assert!(!place.known().exists());
    fs::remove_file(place.repository().join("holiday.jpg")).unwrap();
    fs::write(place.repository().join("sovereign.lock"), "").unwrap();
    let archive = place.archive();
    assert!(!place.repository().join("new").exists());
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
}

#[test]
fn one_snapshot_that_cannot_be_read_takes_no_other_away() {
    let place = Place::new();
    let archive = place.archive();
    let first = place.take(&archive);
    place.write("content/new", b"new");
    let second = place.take(&archive);
    let file = place.repository().join("snapshots").join(&first.snapshot.id);
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, bytes).unwrap();

    let inventory = archive.inventory().unwrap();
    assert_eq!(inventory.snapshots.iter().map(|snapshot| &snapshot.id).collect::<Vec<_>>(), [&second.snapshot.id]);
    assert_eq!(inventory.unreadable.iter().map(|lost| &lost.id).collect::<Vec<_>>(), [&first.snapshot.id]);
    assert!(matches!(archive.find(first.snapshot.short()), Err(ArchiveError::Unreadable { .. })));
    place.write("content/third", b"third");
    assert_eq!(place.take(&archive).read.len(), 1);
    let to = place.folder.path().join("restored");
    archive.contents(&second.snapshot).unwrap().restore(None, &to, &|_| {}).unwrap();
    let errors = archive.check(false).unwrap().errors;
    assert!(errors.iter().any(|error| error.contains(first.snapshot.short())), "{errors:?}");
}

#[test]
fn nothing_is_restored_where_others_may_write() {
    let place = Place::new();
    let archive = place.archive();
    let opened = archive.contents(&place.take(&archive).snapshot).unwrap();
    let to = place.folder.path().join("open");
    fs::create_dir(&to).unwrap();
    for mode in [0o777, 0o775] {
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        let error = opened.restore(None, &to, &|_| {}).unwrap_err();
        assert!(matches!(error, ArchiveError::NotOurs { .. }), "{error:?}");
    }
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&to, Some(65_534), None).unwrap();
        let error = opened.restore(None, &to, &|_| {}).unwrap_err();
        assert!(matches!(error, ArchiveError::NotOurs { .. }), "{error:?}");
        std::os::unix::fs::chown(&to, Some(0), None).unwrap();
    }
    opened.restore(None, &to, &|_| {}).unwrap();
}

#[test]
fn what_a_killed_run_left_half_written_is_removed() {
    let place = Place::new();
    let first = place.take(&place.archive());
    let left = place.repository().join("data/ab").join(format!("{}-tmp-", first.snapshot.id));
    fs::write(&left, "half").unwrap();
    let archive = place.archive();
    assert!(!left.exists());
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
}
