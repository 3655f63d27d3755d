//! Copies that are killed at each of the moments when they change something, and archives that lost something.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

use crate::common::{Place as Site, contents, noise, password, quiet};

/// Reads go on for ever, changes so often. The one that is killed is done by half.
#[derive(Debug)]
struct Mortal {
    inner: Folder,
    path: std::path::PathBuf,
    left: AtomicUsize,
    /// What the disk cannot read.
    bad: Option<FileName>,
}

impl Mortal {
    fn lives(&self) -> io::Result<()> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| io::Error::other("killed"))
    }
}

impl Place for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn prepare(&self) -> io::Result<()> {
        self.lives().inspect_err(|_| fs::create_dir_all(self.path.join("keys")).unwrap())?;
        self.inner.prepare()
    }

    fn list(&self, kind: FileKind) -> io::Result<Listed> {
        self.inner.list(kind)
    }

    fn read(&self, name: &FileName) -> io::Result<Vec<u8>> {
        if self.bad == Some(*name) { Err(rustix::io::Errno::IO.into()) } else { self.inner.read(name) }
    }

    fn read_part(&self, name: &FileName, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.inner.read_part(name, offset, length)
    }

    fn write(&self, name: &FileName, content: &[u8]) -> io::Result<()> {
        self.lives().inspect_err(|_| {
            let beside = self.path.join(name.path() + crate::place::UNFINISHED);
            fs::create_dir_all(beside.parent().unwrap()).unwrap();
            fs::write(beside, &content[..content.len() / 2]).unwrap();
        })?;
        self.inner.write(name, content)
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        self.lives()?;
        self.inner.remove(name)
    }

    fn discard(&self, name: &FileName) -> io::Result<()> {
        self.lives()?;
        self.inner.discard(name)
    }

    fn settle(&self) -> io::Result<()> {
        self.inner.settle()
    }

    fn room(&self) -> io::Result<Option<Free>> {
        self.inner.room()
    }
}

fn duplicate(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let file = to.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

/// The files of a repository in a folder, without what is no part of it.
fn repository(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    contents(folder).into_iter().filter(|(name, _)| !name.to_string_lossy().starts_with("sovereign.")).collect()
}

/// Every snapshot that it lists can be restored.
fn is_whole(archive: &Archive, folder: &Path) -> usize {
    if !folder.join("config").exists() {
        return 0;
    }
    let copy = archive.copied_to(folder).unwrap();
    assert_eq!(copy.check(true).unwrap().errors, Vec::<String>::new());
    let snapshots = copy.snapshots().unwrap();
    for snapshot in &snapshots {
        let to = tempfile::tempdir().unwrap();
        copy.contents(snapshot).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    }
    snapshots.len()
}

fn is_whole_for_restic(folder: &Path, site: &Path) {
    let restic = |args: &[&str]| {
        let mut restic = Command::new("restic");
        restic.args(["--no-cache", "--repo"]).arg(folder).args(args);
        let said = restic.env("RESTIC_PASSWORD", password().expose()).output().unwrap();
        assert!(said.status.success(), "restic {args:?}: {said:?}");
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    assert!(restic(&["check", "--read-data"]).contains("no errors were found"));
    let to = tempfile::tempdir().unwrap();
    restic(&["restore", "latest", "--target", to.path().to_str().unwrap()]);
    assert_eq!(contents(&to.path().join("sites/blog")), contents(site));
}

/// Kills a copy into what `begin` lays out after each change that it makes, and goes on afterwards.
fn killed_at_each_change(archive: &Archive, begin: &dyn Fn(&Path)) -> usize {
    let mut after = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        begin(folder.path());
        let (inner, path) = (Folder::new(folder.path()), folder.path().to_owned());
        let mortal = Mortal { inner, path, left: AtomicUsize::new(after), bad: None };
        let survived = archive.for_copies().unwrap().copy_to(&mortal, Before::Unknown, &quiet()).is_ok();
        is_whole(archive, folder.path());
        let copied =
            archive.for_copies().unwrap().copy_to(&Folder::new(folder.path()), Before::Unknown, &quiet()).unwrap();
        assert!(copied.is_in_step(), "{copied:?} after {after}");
        assert_eq!(repository(folder.path()), repository(archive.folder()), "after {after}");
        if survived {
            return after;
        }
        after += 1;
    }
}

#[test]
fn whatever_kills_a_copy_leaves_whole_snapshots_and_the_next_one_goes_on() {
    let site = Site::new();
    site.write("content/images/a.png", &noise(1, 50_000));
    let archive = site.archive();
    for round in 0..3 {
        site.write("data/site.db", &noise(round + 10, 300_000));
        site.take(&archive);
    }
    let moments = killed_at_each_change(&archive, &|_| {});
    assert!(moments > 10, "only {moments} moments");

    // One that is behind: snapshots were forgotten here, and what only they had was removed.
    let old = tempfile::tempdir().unwrap();
    archive.for_copies().unwrap().copy_to(&Folder::new(old.path()), Before::Unknown, &quiet()).unwrap();
    let snapshots = archive.snapshots().unwrap();
    for forget in [&snapshots[..2], &[]] {
        archive.plan_prune(forget, Duration::ZERO).unwrap().run(&quiet()).unwrap();
    }
    site.write("data/site.db", &noise(20, 300_000));
    site.take(&archive);
    let moments = killed_at_each_change(&archive, &|folder| duplicate(old.path(), folder));
    assert!(moments > 10, "only {moments} moments");

    let there = Folder::new(old.path());
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert!(copied.is_in_step() && copied.files_removed > 4 && copied.snapshots.len() == 2, "{copied:?}");
    let again = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert_eq!((again.files_sent, again.files_removed, again.snapshots), (0, 0, copied.snapshots));
    is_whole_for_restic(old.path(), &site.site());
    // What the list is for is done.
    assert!(!removed::read(archive.folder()).unwrap().is_empty());
    archive.for_copies().unwrap().all_copies_are_in_step().unwrap();
    assert!(removed::read(archive.folder()).unwrap().is_empty());
}

fn as_place(folder: &Path) -> std::sync::Arc<dyn Place> {
    std::sync::Arc::new(Folder::new(folder))
}

fn largest_pack(archive: &Archive) -> (FileName, std::path::PathBuf) {
    let listed = Folder::new(archive.folder()).list(FileKind::Pack).unwrap();
    let (sum, _) = listed.files.into_iter().max_by_key(|(_, size)| *size).unwrap();
    let name = FileName::Named(FileKind::Pack, sum);
    (name, archive.folder().join(name.path()))
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn damage_here_stays_here() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let folder = tempfile::tempdir().unwrap();
    let there = Folder::new(folder.path());
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap().is_in_step());
    let good = repository(folder.path());

    // What is damaged here later is not sent: the copy has it.
    let (name, pack) = largest_pack(&archive);
    let right = fs::read(&pack).unwrap();
    fs::write(&pack, &right[..right.len() - 1]).unwrap();
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert_eq!((copied.damaged, repository(folder.path())), (vec![name], good.clone()));
    fs::write(&pack, &right).unwrap();
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap().is_in_step());

    // What is damaged before it was ever sent holds back what may need it, and nothing else.
    site.write("data/site.db", &noise(50, 1_500_000));
    let second = site.take(&archive).snapshot;
    let (name, pack) = largest_pack(&archive);
    flip(&pack);
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert_eq!(copied.damaged, [name]);
    assert_eq!(is_whole(&archive, folder.path()), 1);
    flip(&pack);
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert!(copied.is_in_step() && copied.snapshots.contains(&second.id));
    assert_eq!(is_whole(&archive, folder.path()), 2);

    // A snapshot's own file: the others go on.
    site.write("content/new", b"new");
    let third = site.take(&archive).snapshot;
    let file = archive.folder().join("snapshots").join(&third.id);
    flip(&file);
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert_eq!((copied.damaged.len(), is_whole(&archive, folder.path())), (1, 2));
}

#[test]
fn what_vanishes_here_does_not_vanish_there() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    site.write("data/site.db", &noise(51, 600_000));
    site.take(&archive);
    let folder = tempfile::tempdir().unwrap();
    let there = Folder::new(folder.path());
    archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap();
    let good = repository(folder.path());
    let whole = tempfile::tempdir().unwrap();
    duplicate(archive.folder(), whole.path());
    for lost in ["snapshots", "index", "data"] {
        for entry in fs::read_dir(archive.folder().join(lost)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
        assert!(!copied.is_in_step() && copied.files_removed == 0, "{lost}: {copied:?}");
        assert_eq!(repository(folder.path()), good, "{lost}");
    }
    duplicate(whole.path(), archive.folder());
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap().is_in_step());

    // One snapshot is lost here, and a prune then removes what only that one had: the copy keeps it whole.
    let first = archive.snapshots().unwrap().remove(0);
    fs::remove_file(archive.folder().join("snapshots").join(&first.id)).unwrap();
    for _ in 0..2 {
        archive.plan_prune(&[], Duration::ZERO).unwrap().run(&quiet()).unwrap();
    }
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert!(!copied.is_in_step() && copied.files_removed == 0 && copied.files_sent > 0, "{copied:?}");
    assert_eq!(is_whole(&archive, folder.path()), 2);
    // And gives it back.
    let mut missing = archive.missing_beside(&as_place(folder.path())).unwrap();
    missing.sort();
    for name in &missing {
        assert!(archive.bring_back(name, &there).unwrap());
    }
    archive.give_up(&[]).unwrap();
    assert_eq!(is_whole(&archive, folder.path()), 2);
    assert_eq!(archive.check(true).unwrap().errors, Vec::<String>::new());
    let to = tempfile::tempdir().unwrap();
    archive.contents(&first).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap().is_in_step());
}

#[test]
fn a_copy_is_begun_in_an_empty_folder_and_is_one_archives() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let folder = tempfile::tempdir().unwrap();
    let there = Folder::new(folder.path());
    fs::write(folder.path().join("holiday.jpg"), "").unwrap();
    let refused = archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap_err();
    assert!(matches!(refused, CopyError::Occupied { .. }), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A pack that nobody claims is something else, too.
    fs::remove_file(folder.path().join("holiday.jpg")).unwrap();
    let (name, pack) = largest_pack(&archive);
    fs::create_dir_all(folder.path().join(name.path()).parent().unwrap()).unwrap();
    fs::copy(pack, folder.path().join(name.path())).unwrap();
    assert!(matches!(
        archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()),
        Err(CopyError::Occupied { .. })
    ));
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap();

    let other = Site::new();
    let theirs = other.archive();
    other.take(&theirs);
    let before = contents(folder.path());
    let refused = theirs.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap_err();
    assert!(matches!(refused, CopyError::Another { .. }), "{refused:?}");
    assert_eq!(contents(folder.path()), before);

    // The disk is not mounted: an empty folder, or none.
    let (copy, aside) = (folder.path().join("copy"), folder.path().join("aside"));
    archive.for_copies().unwrap().copy_to(&Folder::new(&copy), Before::Unknown, &quiet()).unwrap();
    fs::rename(&copy, &aside).unwrap();
    for there in [false, true] {
        if there {
            fs::create_dir(&copy).unwrap();
        }
        let refused = archive.for_copies().unwrap().copy_to(&Folder::new(&copy), Before::Known, &quiet()).unwrap_err();
        assert!(matches!(refused, CopyError::Gone { .. }), "{refused:?}");
        assert!(refused.help().unwrap().contains("--anew"));
        assert_eq!(copy.exists(), there);
    }
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 0);

    for inside in [archive.folder().join("copy"), site.folder.path().to_owned(), archive.folder().to_owned()] {
        let refused = Folder::new(inside).lies_apart_from(archive.folder());
        assert!(matches!(refused, Err(CopyError::Itself { .. })), "{refused:?}");
    }
    Folder::new(&copy).lies_apart_from(archive.folder()).unwrap();
}

#[test]
fn no_link_on_a_disk_is_followed() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let (name, _) = largest_pack(&archive);
    let pack = folder.path().join(name.path());
    // Where a part of a pack would be written first.
    fs::create_dir_all(pack.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&victim, format!("{}-tmp-", pack.display())).unwrap();
    let there = Folder::new(folder.path());
    archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(pack.symlink_metadata().unwrap().is_file());
    // A folder of packs that is a link.
    let linked = pack.parent().unwrap();
    fs::remove_dir_all(linked).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), linked).unwrap();
    archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap_err();
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn backups_go_on_while_copies_are_made_and_nothing_is_removed_meanwhile() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let original = archive.for_copies().unwrap();
    assert!(matches!(archive.for_copies(), Err(ArchiveError::LockedForCopies)));
    let plan = archive.plan_prune(&archive.snapshots().unwrap(), Duration::ZERO).unwrap();
    assert!(matches!(plan.run(&quiet()), Err(ArchiveError::LockedForCopies)));
    assert!(matches!(archive.give_up(&[]), Err(ArchiveError::LockedForCopies)));
    assert_eq!(archive.snapshots().unwrap().len(), 1);

    let (done, copies) = std::thread::scope(|scope| {
        let backups = scope.spawn(|| {
            for round in 0..12 {
                site.write("data/site.db", &noise(100 + round, 30_000));
                site.take(&archive);
            }
        });
        let mut copies = Vec::new();
        while !backups.is_finished() {
            let folder = tempfile::tempdir().unwrap();
            original.copy_to(&Folder::new(folder.path()), Before::Unknown, &quiet()).unwrap();
            copies.push(folder);
        }
        (backups.join(), copies)
    });
    done.unwrap();
    assert!(copies.len() > 2);
    let listed: Vec<usize> = copies.iter().map(|folder| is_whole(&archive, folder.path())).collect();
    assert!(listed.is_sorted(), "{listed:?}");
}

#[test]
fn a_copy_that_is_stopped_ends_before_the_next_file_and_goes_on_later() {
    let site = Site::new();
    let archive = site.archive();
    site.take(&archive);
    let folder = tempfile::tempdir().unwrap();
    let there = Folder::new(folder.path());
    let asked = AtomicUsize::new(0);
    let original = archive.for_copies().unwrap().until(move || asked.fetch_add(1, Ordering::SeqCst) == 2);
    let stopped = original.copy_to(&there, Before::Unknown, &quiet()).unwrap_err();
    assert!(matches!(stopped, CopyError::Stopped), "{stopped:?}");
    assert_eq!(list(&there).unwrap().0.values().map(|files| files.len()).sum::<usize>(), 2);
    drop(original);
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap().is_in_step());
    assert_eq!(is_whole(&archive, folder.path()), 1);
}

#[test]
fn what_a_bad_disk_does_not_give_keeps_nothing_else_from_being_brought() {
    let site = Site::new();
    let archive = site.archive();
    let first = site.take(&archive).snapshot;
    let (files, _) = list(&Folder::new(archive.folder())).unwrap();
    site.write("content/late", &noise(70, 200_000));
    site.take(&archive);
    let (later, _) = list(&Folder::new(archive.folder())).unwrap();
    let is_late = |pack: &&Sum| !files[&FileKind::Pack].contains_key(*pack);
    let bad = FileName::Named(FileKind::Pack, *later[&FileKind::Pack].keys().find(is_late).unwrap());
    let path = archive.folder().to_owned();
    let inner = Folder::new(&path);
    let disk = Mortal { inner, path, left: AtomicUsize::new(0), bad: Some(bad) };
    let archive = archive.read_from(std::sync::Arc::new(disk));
    let to = site.folder.path().join("brought");
    assert_eq!(archive.bring_to(&to, &|_, _| {}).unwrap(), [bad]);
    let brought = archive.copied_to(&to).unwrap();
    assert_eq!(brought.snapshots().unwrap().len(), 2);
    let restored = site.folder.path().join("restored");
    brought.contents(&first).unwrap().restore(None, &restored, &|_| {}).unwrap();
    assert!(!brought.check(true).unwrap().errors.is_empty(), "what is not there is missed");
}
