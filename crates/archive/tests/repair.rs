//! Every file of an archive is damaged or lost once: it comes back from a copy, or all goes on without it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Place as Site, contents, noise, quiet, subject};
use sovereign_archive::copy::{Before, FileKind, FileName, Folder, Place};
use sovereign_archive::{Archive, Lost};

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn names(archive: &Archive) -> Vec<FileName> {
    let folder = Folder::new(archive.folder());
    let named = |kind| folder.list(kind).unwrap().files.into_keys().map(move |sum| FileName::Named(kind, sum));
    FileKind::ALL.into_iter().flat_map(named).collect()
}

fn repository(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let ours = |name: &Path| name.starts_with("set-aside") || name.to_string_lossy().starts_with("sovereign.");
    contents(folder).into_iter().filter(|(name, _)| !ours(name)).collect()
}

fn is_whole(archive: &Archive, place: &Site) {
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
    let to = tempfile::tempdir().unwrap();
    archive.contents(&archive.newest(&subject()).unwrap().unwrap()).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(contents(to.path()), contents(&place.site()));
}

#[test]
fn whatever_is_damaged_comes_back_from_a_copy() {
    let place = Site::new();
    let archive = place.archive();
    place.take(&archive);
    let copy = Folder::new(place.folder.path().join("copy"));
    archive.for_copies().unwrap().copy_to(&copy, Before::Unknown, &quiet()).unwrap();
    let good = repository(archive.folder());
    let all = names(&archive);
    assert!(all.len() > 4, "{all:?}");
    assert!(archive.damage(&quiet()).unwrap().is_none());
    for name in all {
        let file = archive.folder().join(name.path());
        flip(&file);
        let damage = archive.damage(&quiet()).unwrap();
        assert_eq!((damage.damaged, damage.missing), (vec![name], vec![]));
        // Not from one that is damaged as well.
        let there = place.folder.path().join("copy").join(name.path());
        flip(&there);
        assert!(!archive.bring_back(&name, &copy).unwrap());
        flip(&there);
        assert!(archive.bring_back(&name, &copy).unwrap());
        assert_eq!(repository(archive.folder()), good, "{name}");

        fs::remove_file(&file).unwrap();
        let damage = archive.damage(&quiet()).unwrap();
        let is_named = matches!(name, FileName::Named(FileKind::Pack, _));
        assert_eq!(
            damage.missing,
            if is_named { vec![name] } else { vec![] },
            "an index names packs, and nothing the rest"
        );
        let there: Arc<dyn Place> = Arc::new(Folder::new(place.folder.path().join("copy")));
        let is_key = matches!(name, FileName::Named(FileKind::Key, _));
        assert_eq!(archive.missing_beside(&there).unwrap().contains(&name), !is_key, "{name}");
        assert!(archive.bring_back(&name, &copy).unwrap());
        assert_eq!(repository(archive.folder()), good, "{name}");
    }
    assert_eq!(
        fs::read_dir(archive.aside()).unwrap().count(),
        names(&archive).len(),
        "nothing that is damaged is gone"
    );
    is_whole(&archive, &place);
}

#[test]
fn without_a_copy_what_is_lost_is_named_and_all_goes_on() {
    let place = Site::new();
    let archive = place.archive();
    place.write("content/other", &noise(30, 700_000));
    let first = place.take(&archive).snapshot;
    place.write("content/more", &noise(31, 400_000));
    let second = place.take(&archive).snapshot;
    let mut kinds = Vec::new();
    for name in names(&archive) {
        let FileName::Named(kind, _) = name else { continue };
        // One that was written anew meanwhile is not there any more.
        let file = archive.folder().join(name.path());
        if kind == FileKind::Key || !file.exists() {
            continue;
        }
        flip(&file);
        assert_eq!(archive.damage(&quiet()).unwrap().damaged, [name]);
        let lost = archive.lost(&[name]).unwrap();
        archive.give_up(&[name]).unwrap();
        assert!(archive.damage(&quiet()).unwrap().is_none(), "{name}");
        kinds.push((kind, what(&lost)));
        // What is still at the source is stored again, and older snapshots are whole again that have the same.
        let again = place.take_after(&archive, Some(&first.id));
        assert_eq!(again.snapshot.files, second.files);
        let still = archive.lost(&[]).unwrap();
        assert!(
            still.iter().all(|lost| lost.snapshot == first.id),
            "only the older one had something of its own: {still:?}"
        );
        archive.give_up_snapshots(&still).unwrap();
        is_whole(&archive, &place);
    }
    let said = |kind: FileKind| -> Vec<String> {
        kinds.iter().filter(|(one, _)| *one == kind).map(|(_, what)| what.clone()).collect()
    };
    assert!(said(FileKind::Index).iter().all(|what| what == "nothing"), "an index can be made anew: {kinds:?}");
    assert!(said(FileKind::Snapshot).iter().all(|what| what == "a snapshot"), "{kinds:?}");
    let packs = said(FileKind::Pack);
    assert!(packs.contains(&"content/more".to_owned()), "a file of one snapshot: {packs:?}");
    assert!(packs.iter().any(|what| what.contains("data/site.db")), "files of both: {packs:?}");
    assert!(packs.iter().any(|what| what.contains("(all)")), "folders: {packs:?}");
}

/// In a word or two.
fn what(lost: &[Lost]) -> String {
    let mut words: Vec<String> = lost
        .iter()
        .flat_map(|lost| if lost.paths.is_empty() { vec!["a snapshot".to_owned()] } else { lost.paths.clone() })
        .map(|path| if path.is_empty() || path.ends_with('/') { "(all)".to_owned() } else { path })
        .collect();
    words.sort();
    words.dedup();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

#[test]
fn what_somebody_put_into_a_copy_is_not_brought_back() {
    use sha2::{Digest as _, Sha256};
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let folder = site.folder.path().join("copy");
    archive.for_copies().unwrap().copy_to(&Folder::new(&folder), Before::Unknown, &quiet()).unwrap();
    let copy: Arc<dyn Place> = Arc::new(Folder::new(&folder));
    for (seed, kind) in FileKind::ALL.into_iter().enumerate() {
        let bytes = noise(seed as u64 + 1, 500);
        let name = FileName::Named(kind, Sha256::digest(&bytes).into());
        copy.write(&name, &bytes).unwrap();
        let told = archive.missing_beside(&copy).unwrap();
        assert_eq!(told.contains(&name), kind == FileKind::Pack, "a pack that no index names harms nothing: {kind:?}");
    }
}
