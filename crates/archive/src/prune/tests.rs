//! A prune that is killed, at each of the moments when it changes something.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use super::*;

use crate::common::{Place, contents, noise, password, quiet, subject};

/// Reads go on for ever, writes and removals so often.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn WriteBackend>,
    left: AtomicUsize,
}

impl Mortal {
    fn lives(&self) -> RusticResult<()> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| RusticError::new(ErrorKind::Backend, "killed"))
    }
}

impl ReadBackend for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, of: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(of)
    }

    fn read_full(&self, of: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(of, id)
    }

    fn read_partial(&self, of: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(of, id, cacheable, offset, length)
    }

    fn warmup_path(&self, of: FileType, id: &Id) -> String {
        self.inner.warmup_path(of, id)
    }
}

impl WriteBackend for Mortal {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(&self, of: FileType, id: &Id, cacheable: bool, content: BytesList) -> RusticResult<()> {
        self.lives()?;
        self.inner.write_bytes(of, id, cacheable, content)
    }

    fn remove(&self, of: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        self.lives()?;
        self.inner.remove(of, id, cacheable)
    }
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let file = to.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn is_sound(archive: &Archive, place: &Place) {
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
    let newest = archive.newest(&subject()).unwrap().unwrap();
    let to = tempfile::tempdir().unwrap();
    archive.contents(&newest).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(contents(to.path()), contents(&place.site()));
}

fn is_sound_for_restic(folder: &Path) {
    let mut restic = Command::new("restic");
    restic.args(["--no-cache", "--no-lock", "check", "--read-data", "--repo"]).arg(folder);
    let said = restic.env("RESTIC_PASSWORD", password().expose()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("no errors were found"), "{text}{said:?}");
}

#[test]
fn whatever_kills_a_prune_leaves_what_stays_whole() {
    let place = Place::new();
    place.write("content/images/a.png", &noise(1, 50_000));
    let archive = place.archive();
    for round in 0..4 {
        place.write("data/site.db", &noise(round + 10, 500_000));
        place.take(&archive);
    }
    // First what is forgotten is marked, then what is marked is removed.
    for (step, forgets) in [("mark", 2), ("remove", 1)] {
        let mut after = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            copy(&place.repository(), folder.path());
            let left = AtomicUsize::new(after);
            let mortal = archive.copied_to(folder.path()).unwrap();
            let mortal = mortal.over(|inner| Arc::new(Mortal { inner, left }));
            let snapshots = mortal.snapshots().unwrap();
            let plan = mortal.plan_prune(&snapshots[..forgets], Duration::ZERO).unwrap();
            let room = plan.room();
            assert_eq!((room.removes > 0, step), (forgets == 1, step), "{room:?}");
            assert!(room.copies > 0, "{step}: {room:?}");
            let survived = plan.run(&quiet()).is_ok();
            drop(mortal);
            let pruned = archive.copied_to(folder.path()).unwrap();
            is_sound(&pruned, &place);
            is_sound_for_restic(folder.path());
            if survived {
                break;
            }
            // And the next one brings it to an end.
            let forgotten: Vec<_> = snapshots[..forgets].iter().map(|snapshot| &snapshot.id).collect();
            let still: Vec<_> =
                pruned.snapshots().unwrap().into_iter().filter(|one| forgotten.contains(&&one.id)).collect();
            pruned.plan_prune(&still, Duration::ZERO).unwrap().run(&quiet()).unwrap();
            assert_eq!(pruned.snapshots().unwrap().len(), snapshots.len() - forgets);
            pruned.plan_prune(&[], Duration::ZERO).unwrap().run(&quiet()).unwrap();
            let at_last = pruned.plan_prune(&[], Duration::ZERO).unwrap();
            assert!(at_last.is_nothing(), "{step} killed after {after}: {:?}", at_last.room());
            is_sound(&pruned, &place);
            after += 1;
        }
        assert!(after > 4, "{step}: only {after} moments");
        let snapshots = archive.snapshots().unwrap();
        archive.plan_prune(&snapshots[..forgets], Duration::ZERO).unwrap().run(&quiet()).unwrap();
    }
}
