//! A copy on a disk of its own: known by its UUID, too small, mounted read-only, unplugged.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Place, contents, noise, password, quiet, subject};
use sovereign_archive::copy::{Before, CopyError, Disks, Folder, Unplugged};
use sovereign_archive::{Archive, Seen, Watch};

/// Names the disk that a run of this test binary in a namespace of its own has.
const DISK: &str = "SOVEREIGN_LOOP_DISK";
const UUID: &str = "5eed0000-ca9f-4a11-9d15-c0ffee000001";

#[test]
fn a_disk_is_found_by_its_uuid_never_overfilled_and_restored_from_when_it_cannot_be_written() {
    if let Some(disk) = std::env::var_os(DISK) {
        return on_the_disk(Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "cd \"$SOVEREIGN_LOOP_DISK\" && truncate -s 64M image && mkfs.ext4 -q -m 0 -U {UUID} image && mkdir disk || exit 76
         mount -o loop image disk || exit 77
         \"$0\" \"$@\"
         code=$?
         umount disk 2> /dev/null
         exit $code"
    );
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_disk_is_found_by_its_uuid_never_overfilled_and_restored_from_when_it_cannot_be_written"])
        .arg("--nocapture")
        .env(DISK, folder.path())
        .status()
        .unwrap();
    let must = rustix::process::geteuid().is_root() && std::env::var("CI").is_ok_and(|ci| ci == "true");
    match ran.code() {
        Some(0) => {}
        // Loop devices are the machine's: only root has them, and not in every container.
        Some(1 | 77) if !must => eprintln!("ignored: this user cannot mount an image of a disk ({ran})"),
        _ => panic!("{ran:?}"),
    }
}

fn run(program: &str, args: &[&str], at: &Path) {
    assert!(Command::new(program).args(args).arg(at).status().unwrap().success(), "{program} {args:?}");
}

fn is_whole(folder: &Path, known: &Path) -> Archive {
    let copy = Archive::open_copy(Arc::new(Folder::new(folder)), known, &password()).unwrap();
    assert_eq!(copy.check(true).unwrap().errors, Vec::<String>::new());
    copy
}

fn on_the_disk(folder: &Path) {
    let disk = folder.join("disk");
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo.lines().find(|line| line.contains(disk.to_str().unwrap())).unwrap();
    let device = line.split(' ').find(|field| field.starts_with("/dev/loop")).unwrap();
    // There is no udev in a test.
    let disks = Disks { by_uuid: folder.join("by-uuid"), ..Disks::default() };
    fs::create_dir(&disks.by_uuid).unwrap();
    let uuid = UUID.parse().unwrap();
    assert!(matches!(disks.mounted(&uuid), Err(Unplugged::Absent(_))));
    std::os::unix::fs::symlink(device, disks.by_uuid.join(UUID)).unwrap();
    assert_eq!(disks.mounted(&uuid).unwrap(), disk);

    let (site, copy) = (Place::new(), disk.join("archive"));
    let archive = site.archive();
    site.take(&archive);
    let there = Folder::new(&copy);
    assert!(archive.for_copies().unwrap().copy_to(&there, Before::Unknown, &quiet()).unwrap().is_in_step());

    // More than there is room for is not begun, and the figures are named.
    let before = contents(&copy);
    site.write("content/large", &noise(70, 80_000_000));
    let second = site.take(&archive).snapshot;
    let refused = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap_err();
    assert!(matches!(refused, CopyError::NoRoom { bytes: 80_000_000.., .. }), "{refused:?}");
    assert_eq!(contents(&copy), before);
    for forget in [std::slice::from_ref(&second), &[]] {
        archive.plan_prune(forget, std::time::Duration::ZERO).unwrap().run(&quiet()).unwrap();
    }

    // Others take the room in the midst: it ends, leaves nothing half, and goes on when there is room again.
    site.write("content/large", &noise(71, 30_000_000));
    let third = site.take(&archive).snapshot;
    let filler = disk.join("filler");
    let fill = filler.clone();
    let watch: Watch = Arc::new(move |seen| {
        if matches!(seen, Seen::Stored(1_000_000..)) && !fill.exists() {
            let mut all = fs::File::create(&fill).unwrap();
            while std::io::Write::write_all(&mut all, &[0; 1 << 16]).is_ok() {}
        }
    });
    let full = archive.for_copies().unwrap().copy_to(&there, Before::Known, &watch).unwrap_err();
    assert!(full.help().unwrap().contains("free some space"), "{full:?}");
    assert!(contents(&copy).iter().all(|(name, _)| !name.to_string_lossy().ends_with("-tmp-")));
    fs::remove_file(&filler).unwrap();
    assert_eq!(is_whole(&copy, &site.known()).snapshots().unwrap().len(), 1);
    let copied = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap();
    assert!(
        copied.is_in_step() && copied.snapshots.contains(&third.id) && copied.bytes_sent < 30_000_000,
        "{copied:?}"
    );

    // Read-only it is as good for a restore, and cannot be written.
    run("mount", &["-o", "remount,ro"], &disk);
    let opened = is_whole(&copy, &site.known());
    let to = tempfile::tempdir().unwrap();
    opened.contents(&opened.newest(&subject()).unwrap().unwrap()).unwrap().restore(None, to.path(), &|_| {}).unwrap();
    assert_eq!(contents(to.path()), contents(&site.site()));
    site.write("content/new", b"new");
    site.take(&archive);
    let refused = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap_err();
    assert!(refused.help().unwrap().contains("read-only"), "{refused:?}");

    run("umount", &[], &disk);
    assert!(matches!(disks.mounted(&uuid), Err(Unplugged::NotMounted(_))));
    let gone = archive.for_copies().unwrap().copy_to(&there, Before::Known, &quiet()).unwrap_err();
    assert!(matches!(gone, CopyError::Gone { .. }), "{gone:?}");
    assert!(!copy.exists());
}
