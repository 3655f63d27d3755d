//! What is forgotten goes in two steps, and only what was shown.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::{Place, contents, noise, quiet, subject};
use sha2::{Digest as _, Sha256};
use sovereign_archive::{Archive, ArchiveError, GRACE};

fn is_sound(archive: &Archive, place: &Place) {
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
    let newest = archive.newest(&subject()).unwrap().unwrap();
    let to = tempfile::tempdir().unwrap();
    archive.contents(&newest).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(contents(to.path()), contents(&place.site()));
}

fn packs(place: &Place) -> u64 {
    contents(&place.repository().join("data")).iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn what_is_forgotten_is_marked_first_and_removed_later() {
    let place = Place::new();
    let archive = place.archive();
    let first = place.take(&archive).snapshot;
    place.write("data/site.db", &noise(4, 600_000));
    place.take(&archive);
    assert!(archive.plan_prune(&[], GRACE).unwrap().is_nothing());

    // A plan changes nothing, however often it is made.
    let before = contents(&place.repository());
    let plan = archive.plan_prune(std::slice::from_ref(&first), GRACE).unwrap();
    let planned = plan.room();
    assert!(planned.marks > 500_000 && planned.removes == 0, "{planned:?}");
    assert_eq!(contents(&place.repository()), before);

    let full = packs(&place);
    plan.run(&quiet()).unwrap();
    assert_eq!(archive.snapshots().unwrap().len(), 1);
    assert!(packs(&place) >= full, "marked, not removed");
    is_sound(&archive, &place);
    let waiting = archive.plan_prune(&[], GRACE).unwrap();
    assert!(waiting.is_nothing() && waiting.room().waits >= planned.marks, "{waiting:?}");

    // A day later.
    let later = archive.plan_prune(&[], Duration::ZERO).unwrap();
    let room = later.room();
    assert!(room.removes >= planned.marks && !later.is_nothing(), "{room:?} after {planned:?}");
    let full = packs(&place);
    later.run(&quiet()).unwrap();
    assert_eq!(packs(&place), full - room.removes, "as much is free as was said");
    assert!(archive.plan_prune(&[], Duration::ZERO).unwrap().is_nothing());
    is_sound(&archive, &place);
}

#[test]
fn what_was_marked_and_is_needed_again_is_kept() {
    let place = Place::new();
    let archive = place.archive();
    let old = fs::read(place.site().join("data/site.db")).unwrap();
    let first = place.take(&archive).snapshot;
    place.write("data/site.db", &noise(4, 600_000));
    place.take(&archive);
    archive.plan_prune(&[first], GRACE).unwrap().run(&quiet()).unwrap();
    place.write("data/site.db", &old);
    place.take(&archive);
    archive.plan_prune(&[], Duration::ZERO).unwrap().run(&quiet()).unwrap();
    is_sound(&archive, &place);
}

#[test]
fn a_plan_is_for_the_archive_it_was_made_from() {
    let place = Place::new();
    let archive = place.archive();
    let first = place.take(&archive).snapshot;
    place.write("data/site.db", &noise(4, 600_000));
    place.take(&archive);
    let plan = archive.plan_prune(&[first], GRACE).unwrap();
    place.write("data/site.db", &noise(5, 600_000));
    place.take(&archive);
    let refused = plan.run(&quiet()).unwrap_err();
    assert!(matches!(refused, ArchiveError::Stale), "{refused:?}");
    assert!(refused.help().unwrap().contains("again"));
    assert_eq!(archive.snapshots().unwrap().len(), 3, "nothing was done");
    is_sound(&archive, &place);
}

#[test]
fn nothing_is_pruned_beside_a_snapshot_that_cannot_be_read() {
    let place = Place::new();
    let archive = place.archive();
    let first = place.take(&archive).snapshot;
    let only_there = noise(4, 600_000);
    place.write("data/site.db", &only_there);
    let second = place.take(&archive).snapshot;
    place.write("data/site.db", &noise(5, 600_000));
    place.take(&archive);
    let ready = archive.plan_prune(std::slice::from_ref(&first), GRACE).unwrap();
    let file = place.repository().join("snapshots").join(&second.id);
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 1;
    fs::write(&file, bad).unwrap();

    let before = contents(&place.repository());
    for forget in [&[][..], std::slice::from_ref(&first)] {
        let refused = archive.plan_prune(forget, GRACE).unwrap_err();
        assert!(matches!(refused, ArchiveError::BesideUnreadable { .. }), "{refused:?}");
        assert!(refused.to_string().contains(second.short()), "{refused}");
        assert!(refused.help().unwrap().contains(&second.id));
    }
    assert_eq!(contents(&place.repository()), before);

    // What was planned while it could be read knows what it needs: all of it is there when its file is again.
    ready.run(&quiet()).unwrap();
    archive.plan_prune(&[], Duration::ZERO).unwrap_err();
    fs::write(&file, good).unwrap();
    archive.plan_prune(&[], Duration::ZERO).unwrap().run(&quiet()).unwrap();
    let to = tempfile::tempdir().unwrap();
    archive.contents(&second).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(fs::read(to.path().join("data/site.db")).unwrap(), only_there);
    is_sound(&archive, &place);
}

/// A pack that no index names, as a backup leaves that was killed at the wrong moment.
fn stray(place: &Place, seed: u64, age: Duration) -> std::path::PathBuf {
    let bytes = noise(seed, 40_000);
    let name = hex::encode(Sha256::digest(&bytes));
    let file = place.repository().join("data").join(&name[..2]).join(&name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(SystemTime::now() - age).unwrap();
    file
}

#[test]
fn what_interrupted_backups_left_goes_when_it_is_a_day_old() {
    let place = Place::new();
    let archive = place.archive();
    place.take(&archive);
    // One small index: the library would announce to mark them, and would not.
    let young = stray(&place, 7, Duration::from_secs(3600));
    let plan = archive.plan_prune(&[], GRACE).unwrap();
    assert_eq!((plan.room().marks, plan.room().waits, plan.is_nothing()), (0, 40_000, true));
    let old = stray(&place, 8, GRACE);
    let plan = archive.plan_prune(&[], GRACE).unwrap();
    assert_eq!((plan.room().marks, plan.room().waits, plan.room().removes), (0, 40_000, 40_000));
    plan.run(&quiet()).unwrap();
    assert_eq!((young.exists(), old.exists()), (true, false));
    is_sound(&archive, &place);

    // With an index to write it marks them, and they go with what else is marked.
    let first = archive.newest(&subject()).unwrap().unwrap();
    place.write("data/site.db", &noise(4, 600_000));
    place.take(&archive);
    let plan = archive.plan_prune(&[first], GRACE).unwrap();
    assert!(plan.room().marks > 540_000 && plan.room().waits == 0, "{plan:?}");
    plan.run(&quiet()).unwrap();
    assert!(young.exists());
    archive.plan_prune(&[], Duration::ZERO).unwrap().run(&quiet()).unwrap();
    assert!(!young.exists());
    is_sound(&archive, &place);
}
