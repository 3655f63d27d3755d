use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::content::FaultKind;
use crate::{Lock, Silent, Stage};

fn lock(recipe: u32) -> Lock {
    Lock::parse(&format!(r#"{{"format":1,"image":"thing","recipe":{recipe},"packages":[]}}"#)).unwrap()
}

/// Puts an image into the store that holds one file with a text.
fn publish(store: &Store, lock: &Lock, text: &str, built: u64) -> Image {
    let workshop = store.lock(&Silent).unwrap();
    let root = workshop.fresh("build").unwrap().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), text).unwrap();
    let source = Source { packages: vec!["thing 1".to_owned()], compilers: vec![] };
    let of = (lock.image.clone(), lock.digest());
    workshop.publish(&root, of, source, SystemTime::UNIX_EPOCH + Duration::from_secs(built), &Silent).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("deep/images")).unwrap();
    (folder, store)
}

/// What is in the store's folder, hidden files too.
fn names(store: &Store) -> BTreeSet<String> {
    let entries = fs::read_dir(store.folder()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_image_is_found_by_its_lock_and_described() {
    let (_folder, store) = store();
    assert_eq!(store.find(lock(1).digest()).unwrap(), None);
    let image = publish(&store, &lock(1), "text", 7);
    assert_eq!(store.find(lock(1).digest()).unwrap().as_ref(), Some(&image));
    assert_eq!(store.find(lock(2).digest()).unwrap(), None);
    assert_eq!(store.verify(image.digest).unwrap(), []);
    let manifest = store.manifest(image.digest).unwrap();
    assert_eq!((manifest.built, manifest.files, manifest.bytes), (7, 1, 4));
    assert_eq!(names(&store), [".lock".to_owned(), image.digest.hex()].into());
}

#[test]
fn the_youngest_of_two_builds_wins() {
    let (_folder, store) = store();
    let younger = publish(&store, &lock(1), "younger", 9);
    publish(&store, &lock(1), "older", 8);
    assert_eq!(store.find(lock(1).digest()).unwrap(), Some(younger));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn equal_contents_are_one_image_of_the_later_lock() {
    let (_folder, store) = store();
    let first = publish(&store, &lock(1), "text", 1);
    let second = publish(&store, &lock(2), "text", 2);
    assert_eq!(first, second);
    assert_eq!(store.find(lock(2).digest()).unwrap(), Some(second));
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn a_damaged_image_is_named_and_replaced_by_the_next_build() {
    let (_folder, store) = store();
    let image = publish(&store, &lock(1), "text", 1);
    let file = image.root.join("file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "TEXT").unwrap();
    fs::write(image.root.join("more"), "").unwrap();
    let faults = store.verify(image.digest).unwrap();
    let faults: Vec<_> = faults.iter().map(|fault| (fault.path.to_str().unwrap(), fault.kind)).collect();
    assert_eq!(faults, [("file", FaultKind::Changed), ("more", FaultKind::Unexpected)]);
    publish(&store, &lock(1), "text", 2);
    assert_eq!(store.verify(image.digest).unwrap(), []);
}

#[test]
fn a_changed_list_does_not_hide_a_changed_file() {
    let (_folder, store) = store();
    let image = publish(&store, &lock(1), "text", 1);
    let list = store.folder().join(image.digest.hex()).join("contents");
    fs::remove_file(&list).unwrap();
    fs::write(&list, "").unwrap();
    assert!(matches!(store.verify(image.digest), Err(ImageError::Damaged { .. })));
}

#[test]
fn pruning_keeps_what_is_kept_and_removes_leftovers() {
    let (_folder, store) = store();
    let running = publish(&store, &lock(1), "running", 1);
    let previous = publish(&store, &lock(2), "previous", 2);
    let old = publish(&store, &lock(3), "old", 3);
    // A build that was killed in the middle, and an image whose description is damaged.
    fs::create_dir_all(store.folder().join(".work/build/root")).unwrap();
    let manifest = store.folder().join(old.digest.hex()).join("manifest.json");
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, "{}").unwrap();
    assert!(matches!(store.manifest(old.digest), Err(ImageError::Damaged { .. })));
    assert_eq!(store.find(lock(3).digest()).unwrap(), None);

    let pruned = store.prune(&[running.digest, previous.digest].into()).unwrap();
    assert_eq!(pruned.images, [old.digest]);
    assert_eq!(names(&store), [".lock".to_owned(), running.digest.hex(), previous.digest.hex()].into());
    assert!(matches!(store.image(old.digest), Err(ImageError::Unknown(_))));
}

#[test]
fn what_a_killed_build_left_is_no_image_and_its_downloads_are_kept() {
    let (_folder, store) = store();
    let work = store.folder().join(".work");
    fs::create_dir_all(work.join("build-1/root/half")).unwrap();
    fs::create_dir_all(work.join("downloads")).unwrap();
    fs::write(work.join("downloads/a.part"), "half").unwrap();
    assert!(store.list().unwrap().is_empty());
    let workshop = store.lock(&Silent).unwrap();
    let fresh = workshop.fresh("build").unwrap();
    assert_eq!(fs::read_dir(&fresh).unwrap().count(), 0);
    assert_ne!(fresh, work.join("build-1"));
    assert!(!work.join("build-1").exists());
    assert!(workshop.kept("downloads").unwrap().join("a.part").exists());
}

/// Passes notes on.
struct Notes(mpsc::Sender<String>);

impl Progress for Notes {
    fn report(&self, event: Event<'_>) {
        if let Event::Note { message } = event {
            self.0.send(message.to_owned()).unwrap();
        }
    }
}

#[test]
fn a_second_builder_waits_and_says_so() {
    let (_folder, store) = store();
    let (tell, told) = mpsc::channel();
    let workshop = store.lock(&Silent).unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| store.lock(&Notes(tell)).map(drop));
        assert_eq!(told.recv().unwrap(), "another build is running, waiting for it");
        assert!(!second.is_finished());
        drop(workshop);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn sealing_counts_files() {
    let (_folder, store) = store();
    struct Last(std::sync::Mutex<Option<(u64, Option<u64>)>>);
    impl Progress for Last {
        fn report(&self, event: Event<'_>) {
            if let Event::Advanced { stage: Stage::Seal, done, total, .. } = event {
                *self.0.lock().unwrap() = Some((done, total));
            }
        }
    }
    let last = Last(std::sync::Mutex::new(None));
    let workshop = store.lock(&Silent).unwrap();
    let root = workshop.fresh("build").unwrap().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "").unwrap();
    let source = Source { packages: vec![], compilers: vec![] };
    workshop.publish(&root, (lock(1).image.clone(), lock(1).digest()), source, SystemTime::UNIX_EPOCH, &last).unwrap();
    assert_eq!(*last.0.lock().unwrap(), Some((1, Some(1))));
}

/// Copies an image's folder to where another store asks for it.
fn copy(from: &Store, image: &Image, to: &Path) -> Result<(), ImageError> {
    let there = from.folder().join(image.digest.hex());
    let copied = std::process::Command::new("cp").arg("-a").arg(&there).arg(to).status().unwrap();
    assert!(copied.success());
    Ok(())
}

#[test]
fn an_image_that_was_kept_elsewhere_is_taken_in_whole_or_not_at_all() {
    let ((_elsewhere, from), (_folder, store)) = (store(), store());
    let image = publish(&from, &lock(1), "text", 1);
    let taken = store.take_in(image.digest, |to| copy(&from, &image, to)).unwrap();
    assert_eq!(store.verify(taken.digest).unwrap(), []);
    assert_eq!(names(&store), [".lock".to_owned(), image.digest.hex()].into());

    let other = publish(&from, &lock(2), "other", 2);
    let spoil: [&dyn Fn(&Path); 4] = [
        &|folder| fs::write(folder.join("root/more"), "").unwrap(),
        &|folder| fs::remove_file(folder.join("root/file")).unwrap(),
        &|folder| fs::remove_file(folder.join("manifest.json")).unwrap(),
        &|folder| {
            fs::remove_file(folder.join("contents")).unwrap();
            fs::write(folder.join("contents"), "").unwrap();
        },
    ];
    for spoil in spoil {
        let refused = store.take_in(other.digest, |to| {
            copy(&from, &other, to)?;
            spoil(&to.join(other.digest.hex()));
            Ok::<_, ImageError>(())
        });
        refused.unwrap_err();
        assert_eq!(names(&store), [".lock".to_owned(), image.digest.hex()].into());
    }
    let nothing = store.take_in(other.digest, |_| Ok::<_, ImageError>(()));
    nothing.unwrap_err();
}
