//! A snapshot is whole, or it is not there: whatever dies, whenever.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod common;

use std::fs;
use std::io::Write as _;
use std::sync::atomic::Ordering;

use common::{Place, contents, noise, subject};
use sovereign_archive::{Archive, ArchiveError, GRACE, PullError};

/// Whatever went before: only whole snapshots are there, all is sound, and the next backup is right.
fn is_sound(archive: &Archive, snapshots: usize) {
    assert_eq!(archive.snapshots().unwrap().len(), snapshots);
    let checked = archive.check(true).unwrap();
    assert_eq!(checked.errors, Vec::<String>::new());
    if let Some(newest) = archive.newest(&subject()).unwrap() {
        let to = tempfile::tempdir().unwrap();
        archive.contents(&newest).unwrap().restore(None, to.path(), &|_| {}).unwrap();
        assert!(!contents(to.path()).is_empty());
    }
}

#[test]
fn a_source_that_dies_at_any_point_leaves_no_part_of_a_snapshot() {
    let place = Place::new();
    let archive = place.archive();
    // How much it says in all, from a run into an archive of its own.
    let other = Place::new();
    let (line, said) = other.line_that(usize::MAX, |_| {});
    other.try_take(&other.archive(), line).unwrap();
    let all = said.load(Ordering::Relaxed);
    // Each byte of the first frames, then steps that fall on every kind of place, the last bytes one by one.
    let points = (0..60).chain((60..1200).step_by(61)).chain((1200..all).step_by(all / 25)).chain(all - 12..all);
    for point in points {
        let (line, _) = place.line_that(point, |_| {});
        let error = place.try_take(&archive, line).unwrap_err();
        assert!(matches!(error, ArchiveError::Source(_)), "after {point} of {all} bytes: {error:?}");
        assert_eq!(archive.snapshots().unwrap().len(), 0, "after {point} of {all} bytes");
    }
    is_sound(&archive, 0);
    place.take(&archive);
    is_sound(&archive, 1);
}

#[test]
fn a_source_that_dies_does_not_harm_the_snapshot_before() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    for (round, point) in [900, 5_000, 200_000, 700_000].into_iter().enumerate() {
        place.write("data/site.db", &noise(round as u64 + 100, 800_000));
        let (line, _) = place.line_that(point, |_| {});
        place.try_take(&archive, line).unwrap_err();
        is_sound(&archive, 1);
    }
    place.take(&archive);
    is_sound(&archive, 2);
}

#[test]
fn a_file_that_is_not_as_it_was_listed_is_named() {
    type Meddle = fn(&std::path::Path);
    let meddlers: [(&str, Meddle); 5] = [
        ("gone", |file| fs::remove_file(file).unwrap()),
        ("longer", |file| {
            fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
        }),
        ("shorter", |file| fs::File::options().write(true).open(file).unwrap().set_len(10).unwrap()),
        ("other", |file| fs::write(file, noise(55, 20_000)).unwrap()),
        ("a link", |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
        }),
    ];
    for (what, meddle) in meddlers {
        let place = Place::new();
        let archive = place.archive();
        let file = place.site().join("content/images/b.png");
        let (line, _) = place.line_that(usize::MAX, move |path| {
            if path.to_string() == "content/images/b.png" {
                meddle(&file);
            }
        });
        let error = place.try_take(&archive, line).unwrap_err();
        let ArchiveError::Source(PullError::Fault(fault)) = &error else { panic!("{what}: {error:?}") };
        assert_eq!(fault.path, "content/images/b.png", "{what}: {fault}");
        assert!(error.help().unwrap().contains("run the command again"), "{what}");
        is_sound(&archive, 0);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    // So large that reading is under way when it changes, however fast it is.
    let place = Place::new();
    let archive = place.archive();
    let file = place.site().join("data/site.db");
    fs::File::create(&file).unwrap().set_len(300_000_000).unwrap();
    let (line, said) = place.line_that(usize::MAX, |_| {});
    let meddler = std::thread::spawn(move || {
        while said.load(Ordering::Relaxed) < 1_000_000 {
            std::thread::yield_now();
        }
        fs::File::options().append(true).open(file).unwrap().write_all(b"x").unwrap();
    });
    let error = place.try_take(&archive, line).unwrap_err();
    meddler.join().unwrap();
    assert!(error.help().unwrap().contains("again"), "{error:?}");
    is_sound(&archive, 0);
}

#[test]
fn what_cannot_be_listed_is_no_snapshot() {
    let place = Place::new();
    let deep = vec!["d"; 70].join("/");
    place.write(&format!("content/{deep}/file"), b"x");
    let archive = place.archive();
    let error = place.try_take(&archive, place.line()).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Source(PullError::Fault(fault)) if fault.why.contains("too deep")),
        "{error:?}"
    );
    is_sound(&archive, 0);
}

#[test]
fn a_folder_that_cannot_be_written_leaves_no_part_of_a_snapshot() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    place.write("content/large", &noise(77, 20_000_000));
    for folder in ["data", "index", "snapshots"] {
        let blocked = place.repository().join(folder);
        let aside = place.repository().join(format!("{folder}-aside"));
        fs::rename(&blocked, &aside).unwrap();
        fs::write(&blocked, "in the way").unwrap();
        let failed = place.try_take(&archive, place.line());
        fs::remove_file(&blocked).unwrap();
        // Threads of the library outlive its failure for a moment, and make folders where they miss them.
        for _ in 0..100 {
            if fs::rename(&aside, &blocked).is_ok() {
                break;
            }
            let _ = fs::remove_dir_all(&blocked);
        }
        assert!(!aside.exists(), "{folder} could not be put back");
        failed.unwrap_err();
        is_sound(&archive, 1);
    }
    place.take(&archive);
    is_sound(&archive, 2);
}

/// Names the small file system that a run of this test binary in a namespace of its own has.
const SMALL: &str = "SOVEREIGN_SMALL_DISK";

#[test]
fn a_full_disk_leaves_no_part_of_a_snapshot() {
    if let Some(small) = std::env::var_os(SMALL) {
        return on_a_small_disk(std::path::Path::new(&small));
    }
    let small = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=24m none \"$SOVEREIGN_SMALL_DISK\" || exit 77; exec \"$0\" \"$@\"";
    let ran = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_leaves_no_part_of_a_snapshot", "--nocapture"])
        .env(SMALL, small.path())
        .status();
    match ran {
        Ok(status) if status.success() => {}
        // Users may have no namespaces here. As root they are there, and a failure is one.
        Ok(status) if matches!(status.code(), Some(1 | 77)) && !rustix::process::geteuid().is_root() => {
            eprintln!("ignored: this user cannot have a file system of their own ({status})");
        }
        other => panic!("{other:?}"),
    }
}

fn free(disk: &std::path::Path) -> u64 {
    rustix::fs::statvfs(disk).unwrap().f_bavail
}

fn on_a_small_disk(disk: &std::path::Path) {
    let place = Place::new();
    let folder = disk.join("archive");
    let archive = Archive::open_or_create(&folder, &place.known(), &common::password()).unwrap();
    place.take(&archive);
    place.write("content/large", &noise(78, 40_000_000));
    // More than there is room for is not begun, and the figures are named.
    let before = free(disk);
    let error = place.try_take(&archive, place.line()).unwrap_err();
    assert!(matches!(error, ArchiveError::NoRoom { bytes: 40_000_000, .. }), "{error:?}");
    assert_eq!(free(disk), before, "nothing was written");
    is_sound(&archive, 1);
    // Others take the room in the midst: it ends before the disk is full.
    place.write("content/large", &noise(78, 18_000_000));
    let filler = disk.join("filler");
    let fill = filler.clone();
    let watch: sovereign_archive::Watch = std::sync::Arc::new(move |seen| {
        if matches!(seen, sovereign_archive::Seen::Stored(1_000_000..)) && !fill.exists() {
            fs::write(&fill, vec![0; 12_000_000]).unwrap();
        }
    });
    let error = archive.take(&subject(), "home", None, place.line(), &watch).unwrap_err();
    assert!(matches!(error, ArchiveError::NoRoom { .. }), "{error:?}");
    assert!(free(disk) > 0, "a reserve is left");
    fs::remove_file(&filler).unwrap();
    is_sound(&archive, 1);
    // What the interrupted runs left is in the way now: cleaned up, there is room for something smaller.
    archive.plan_prune(&[], GRACE).unwrap().run(&common::quiet()).unwrap();
    fs::remove_file(place.site().join("content/large")).unwrap();
    place.write("content/small", b"there is room for this");
    place.take(&archive);
    is_sound(&archive, 2);
    // A prune copies what is needed out of packs that are half of use, when there is room for it.
    place.write("data/site.db", &noise(79, 100_000));
    place.take(&archive);
    let old: Vec<_> = archive.snapshots().unwrap().drain(..2).collect();
    let planned = archive.plan_prune(&old, GRACE).unwrap();
    assert!(planned.room().copies > 200_000, "{planned:?}");
    fs::write(&filler, vec![0; usize::try_from((free(disk) - 340) * 4096).unwrap()]).unwrap();
    let error = planned.run(&common::quiet()).unwrap_err();
    assert!(matches!(error, ArchiveError::NoRoom { .. }), "{error:?}");
    is_sound(&archive, 3);
    // Planned anew it copies nothing, and does the rest.
    let planned = archive.plan_prune(&old, GRACE).unwrap();
    assert_eq!(planned.room().copies, 0, "{planned:?}");
    planned.run(&common::quiet()).unwrap();
    is_sound(&archive, 1);
}

#[test]
fn what_was_never_proven_is_no_ground_to_stand_on() {
    let place = Place::new();
    let archive = place.archive();
    // Let in, and its proof failed: the next run reads all of it again, and does not store it twice.
    let first = place.take_after(&archive, None);
    let again = place.take_after(&archive, None);
    assert_eq!((again.read.len(), &again.read), (5, &first.read));
    assert_eq!((again.snapshot.id.as_str(), again.unchanged), (first.snapshot.id.as_str(), true));
    assert_eq!(archive.snapshots().unwrap().len(), 1);
    assert!(again.unproven.is_empty(), "it is the one that is proven now");

    // Proven at last. One more that is not: what is new since the proven one is read again, and the other is named.
    let proven = Some(first.snapshot.id.as_str());
    place.write("content/new", b"new");
    let second = place.take_after(&archive, proven);
    place.write("content/newer", b"newer");
    let third = place.take_after(&archive, proven);
    assert_eq!(third.read.keys().map(ToString::to_string).collect::<Vec<_>>(), ["content/new", "content/newer"]);
    assert_eq!(third.unproven, [second.snapshot.id]);

    // One that is known to nobody any more, and one of another subject, are none.
    for none in [Some("ab".repeat(32)), None] {
        assert_eq!(place.take_after(&archive, none.as_deref()).read.len(), 7);
    }
    let other = sovereign_archive::Subject::State;
    let line = place.line();
    assert_eq!(archive.take(&other, "home", proven, line, &common::quiet()).unwrap().read.len(), 7);
}

#[test]
fn what_cannot_be_read_is_told_as_that_and_what_changes_as_that() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let archive = place.archive();
    // A folder that goes away while the list is made is a change.
    for (cause, may_pass) in
        [(sovereign_archive::wire::Cause::Changed, true), (sovereign_archive::wire::Cause::Unreadable, false)]
    {
        use sovereign_archive::wire::Tell;
        let list = common::bytes_of(&[Tell::Unlisted(cause, "a".into(), "gone".into()), Tell::ListEnd(0, 0)]);
        let error =
            place.try_take(&archive, common::liar(common::bytes_of(&[Tell::Hello(1)]), list, Vec::new())).unwrap_err();
        let ArchiveError::Source(error) = &error else { panic!("{error:?}") };
        assert_eq!(error.may_pass(), may_pass, "{error:?}");
    }
    // No permission is none; root has them all.
    if !rustix::process::geteuid().is_root() {
        let file = place.site().join("content/images/b.png");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        let error = place.try_take(&archive, place.line()).unwrap_err();
        assert!(!error.help().unwrap().contains("changed"), "{error:?}");
    }
}
