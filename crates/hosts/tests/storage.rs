//! The place for a host's data on a real disk, made by a real Incus: never one that has data unless somebody said yes, and
//! gone on with where a run was killed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::incusd::Incusd;

/// What `host add` runs on a host.
const SCRIPT: &str = concat!(include_str!("../src/ready/place.sh"), include_str!("../src/ready/storage.sh"));
const SIZE: u64 = 512 << 20;

const TESTS: &[Test<Incusd>] =
    &[("a_disk_with_data_is_taken_only_with_a_yes", a_disk), ("without_a_disk_a_file_is_made", a_file)];

fn main() -> ExitCode {
    harness::main(TESTS, missing().as_deref(), Incusd::start_apart)
}

fn missing() -> Option<String> {
    let no_loop = || Command::new("losetup").arg("--find").output().map_or(true, |output| !output.status.success());
    Incusd::missing().or_else(|| no_loop().then(|| "there are no loop devices".to_owned()))
}

/// A file that is a disk. Dropped, it is none any more.
struct Disk(PathBuf);

impl Disk {
    fn new(file: &Path) -> Self {
        File::create(file).unwrap().set_len(SIZE).unwrap();
        let said = succeed(Command::new("losetup").args(["--find", "--show"]).arg(file));
        Self(said.trim().into())
    }

    /// The kind of file system on it, as `blkid` knows it.
    fn kind(&self) -> String {
        let mut look = Command::new("blkid");
        let said = look.args(["--probe", "--output", "value", "--match-tag", "TYPE"]).arg(&self.0).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("losetup").arg("--detach").arg(&self.0).status());
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the script where the daemon is. There is no systemd that could start it, and it runs.
fn storage(incusd: &Incusd, disk: &str, may: &str) -> Output {
    let programs = incusd.file("programs");
    fs::create_dir_all(&programs).unwrap();
    let systemctl = programs.join("systemctl");
    fs::write(&systemctl, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    let folder = format!("INCUS_DIR={}", incusd.socket().parent().unwrap().display());
    let script = format!("mkdir -p /etc/sovereign\n{SCRIPT}");
    let mut command = incusd.within("env");
    command.args([&path, &folder, "sh", "-c", &script, "storage", disk, may, &SIZE.to_string()]);
    command.output().unwrap()
}

fn incus(incusd: &Incusd, args: &[&str]) -> Output {
    let folder = format!("INCUS_DIR={}", incusd.socket().parent().unwrap().display());
    incusd.within("env").args([&folder, "incus"]).args(args).output().unwrap()
}

fn pool(incusd: &Incusd) -> Option<String> {
    let said = incus(incusd, &["storage", "show", "sovereign"]);
    said.status.success().then(|| String::from_utf8(said.stdout).unwrap())
}

#[track_caller]
fn delete_pool(incusd: &Incusd) {
    let deleted = incus(incusd, &["storage", "delete", "sovereign"]);
    assert!(deleted.status.success(), "{deleted:?}");
}

#[track_caller]
fn assert_made(output: &Output) {
    assert!(output.status.success() && output.stdout == b"changed\n", "{output:?}");
}

fn a_disk(incusd: &Incusd) {
    let disk = Disk::new(&incusd.file("disk"));
    let name = disk.0.to_str().unwrap();
    succeed(Command::new("mkfs.ext4").args(["-q", name]));
    let refused = storage(incusd, name, "keep");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has data"), "{refused:?}");
    assert!(!refused.status.success() && pool(incusd).is_none());
    assert_eq!(disk.kind(), "ext4", "nothing of it was touched");

    assert_made(&storage(incusd, name, "wipe"));
    let made = pool(incusd).unwrap();
    assert!(made.contains("driver: btrfs") && made.contains(name), "{made}");
    assert_eq!(disk.kind(), "btrfs");
    let again = storage(incusd, name, "keep");
    assert!(again.status.success() && again.stdout.is_empty(), "{again:?}");

    // What is on the disk is of a run that was killed before Incus knew of it: nobody is asked again.
    delete_pool(incusd);
    succeed(Command::new("mkfs.ext4").args(["-q", "-F", name]));
    assert_made(&storage(incusd, name, "keep"));
    delete_pool(incusd);

    // Another disk is another question, and what is no disk is none.
    let other = Disk::new(&incusd.file("other"));
    succeed(Command::new("mkfs.ext4").arg("-q").arg(&other.0));
    assert!(!storage(incusd, other.0.to_str().unwrap(), "keep").status.success());
    let nothing = storage(incusd, "/dev/none", "wipe");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no disk /dev/none"), "{nothing:?}");
    assert!(pool(incusd).is_none());
}

fn a_file(incusd: &Incusd) {
    assert_made(&storage(incusd, "", "keep"));
    let made = pool(incusd).unwrap();
    assert!(
        made.contains("driver: btrfs") && made.contains("size: 512MiB") || made.contains(&SIZE.to_string()),
        "{made}"
    );
    delete_pool(incusd);
}
