//! Root file systems, really built: from the mirror that this machine's apt is set up with, by mmdebstrap.
//!
//! The smallest one there is, Debian's essential packages, so that it can be built twice. Packages, the lock and the
//! first build are kept below `SOVEREIGN_E2E_CACHE`, or else beside the build's output, for the next run.

#![expect(clippy::print_stderr, reason = "what a build took is part of the test's account")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use sovereign_images::debian::{self, Blueprint, DebianError, Kept, Lock, Role, RootImage};
use sovereign_images::{Environment, Image, ImageError, Options, Silent, Store, ghost};

fn cache() -> PathBuf {
    let default = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    std::env::var_os("SOVEREIGN_E2E_CACHE").map_or_else(default, PathBuf::from).join("sovereign")
}

fn options(offline: bool) -> Options {
    Options { offline, now: SystemTime::now(), environment: Environment::of_this_process() }
}

fn role() -> Role {
    let mut role = Role::host();
    role.name = "debian-smallest".parse().unwrap();
    role.packages.clear();
    role
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    eprintln!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    result
}

/// A lock whose packages are kept; the one of the last run as long as that is so.
fn lock(kept: &Kept) -> Lock {
    let file = cache().join("debian-smallest.json");
    let old = fs::read_to_string(&file).ok().and_then(|text| Lock::parse(&text).ok());
    if let Some(old) = old.filter(|old| debian::fetch(old, &role(), kept, &options(true), &Silent).is_ok()) {
        return old;
    }
    let lock = timed("resolve", || debian::resolve(&role(), kept, &options(false), &Silent)).unwrap();
    timed("fetch", || debian::fetch(&lock, &role(), kept, &options(false), &Silent)).unwrap();
    fs::write(file, lock.to_text()).unwrap();
    lock
}

fn build(store: &Store, kept: &Kept, lock: &Lock) -> Result<RootImage, ImageError> {
    let role = role();
    let blueprint = Blueprint { role: &role, lock, layers: &[] };
    timed("build", || debian::build(store, kept, &blueprint, &options(true), &Silent)).map(|(image, _)| image)
}

/// What this machine's own apt and dpkg know, by name, size and time of change.
fn states_of_apt() -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let folders = ["/var/lib/apt/lists", "/var/lib/apt", "/var/lib/dpkg", "/var/cache/apt/archives", "/etc/apt"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut states: Vec<_> = entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .filter(|(_, metadata)| metadata.is_file())
        .map(|(path, metadata)| (path, metadata.len(), metadata.modified().ok()))
        .collect();
    states.sort();
    states
}

/// The paths in the archive, with a slash at the end of folders.
fn listed(image: &RootImage) -> Vec<String> {
    let output = Command::new("tar").arg("--list").arg("--file").arg(image.rootfs()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn two_builds_from_one_lock_are_the_same_bytes_and_carry_nothing_of_this_machine() {
    let kept = Kept::open(cache().join("packages")).unwrap();
    let lock = lock(&kept);
    let here = tempfile::tempdir().unwrap();
    let (shared, own) = (Store::open(cache().join("images")).unwrap(), Store::open(here.path()).unwrap());
    let untouched = states_of_apt();
    let (first, second) = (build(&shared, &kept, &lock).unwrap(), build(&own, &kept, &lock).unwrap());
    assert_eq!(states_of_apt(), untouched, "this machine's own apt and dpkg are none of its business");
    eprintln!("{} packages, {} bytes", lock.packages.len(), fs::metadata(second.rootfs()).unwrap().len());
    assert_eq!(first.0.digest, second.0.digest);
    assert_eq!(first.fingerprint().unwrap(), second.fingerprint().unwrap());
    assert_eq!(own.verify(second.0.digest).unwrap(), []);

    let mut sum = Command::new("sh");
    sum.args(["-c", "cat \"$0\" \"$1\" | sha256sum"]).arg(second.metadata()).arg(second.rootfs());
    let sum = String::from_utf8(sum.output().unwrap().stdout).unwrap();
    assert!(sum.starts_with(&second.fingerprint().unwrap().hex()), "as Incus works it out: {sum}");

    let paths = listed(&second);
    for left in ["./etc/hostname", "./etc/resolv.conf", "./etc/apt/sources.list", "./var/cache/ldconfig/aux-cache"] {
        assert!(!paths.iter().any(|path| path == left), "{left}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("./var/log/") && !path.ends_with('/')), "a log");
    assert!(paths.iter().any(|path| path == "./etc/machine-id"));
    assert!(paths.iter().any(|path| path == "./etc/systemd/network/80-eth0.network"));
}

#[test]
fn a_damaged_package_is_named_before_anything_is_built() {
    let kept = Kept::open(cache().join("packages")).unwrap();
    let lock = lock(&kept);
    let here = tempfile::tempdir().unwrap();
    let copy = Kept::open(here.path().join("packages")).unwrap();
    for package in &lock.packages {
        fs::copy(kept.file(package), copy.file(package)).unwrap();
    }
    let package = &lock.packages[lock.packages.len() / 2];
    let mut bytes = fs::read(copy.file(package)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(copy.file(package), bytes).unwrap();

    let store = Store::open(here.path().join("images")).unwrap();
    let error = build(&store, &copy, &lock).unwrap_err();
    let ImageError::Debian(DebianError::Damaged { package: named, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(*named, package.to_string());
    assert_eq!(store.list().unwrap().len(), 0);

    fs::remove_file(copy.file(package)).unwrap();
    let error = build(&store, &copy, &lock).unwrap_err();
    assert!(matches!(&error, ImageError::Debian(DebianError::NotKept { .. })), "{error:?}");
}

#[test]
fn where_mmdebstrap_is_missing_the_package_is_named() {
    let kept = Kept::open(cache().join("packages")).unwrap();
    let lock = lock(&kept);
    let here = tempfile::tempdir().unwrap();
    let store = Store::open(here.path().join("images")).unwrap();
    let role = role();
    let blueprint = Blueprint { role: &role, lock: &lock, layers: &[] };
    let environment = [("PATH", here.path().to_owned())].into_iter().collect();
    let options = Options { offline: true, now: SystemTime::UNIX_EPOCH + Duration::from_secs(7), environment };
    let error = debian::build(&store, &kept, &blueprint, &options, &Silent).unwrap_err();
    assert_eq!(error.help().as_deref(), Some("apt install mmdebstrap"), "{error:?}");
}

/// The images a role is built around; without one of Ghost's there is no `site`.
fn layers(role: &Role, store: &Store) -> Option<Vec<Image>> {
    let ghost = ghost::find(store, ghost::lock()).unwrap();
    role.layers.iter().map(|layer| ghost.clone().filter(|_| layer.image == ghost::lock().image)).collect()
}

#[test]
#[ignore = "a figure: cargo xtask prove images"]
fn every_role_is_the_same_when_it_is_built_again() {
    let here = tempfile::tempdir_in(cache()).unwrap();
    let kept = Kept::open(here.path().join("packages")).unwrap();
    let shared = Store::open(cache().join("images")).unwrap();
    for role in Role::all() {
        let Some(layers) = layers(&role, &shared) else {
            eprintln!("{}: no image of Ghost here, so none of it", role.name);
            continue;
        };
        let lock = timed("resolve", || debian::resolve(&role, &kept, &options(false), &Silent)).unwrap();
        timed("resolve again", || debian::resolve(&role, &kept, &options(false), &Silent)).unwrap();
        timed("fetch", || debian::fetch(&lock, &role, &kept, &options(false), &Silent)).unwrap();
        timed("fetch again", || debian::fetch(&lock, &role, &kept, &options(false), &Silent)).unwrap();
        let blueprint = Blueprint { role: &role, lock: &lock, layers: &layers };
        let build = |name: &str| {
            let store = Store::open(here.path().join(name)).unwrap();
            let (image, receipt) =
                timed("build", || debian::build(&store, &kept, &blueprint, &options(true), &Silent)).unwrap();
            eprintln!("{:?}", receipt.stages);
            (image, store)
        };
        let ((one, _), (two, _)) = (build("one"), build("two"));
        let (packages, bytes) = (lock.packages.len(), fs::metadata(one.rootfs()).unwrap().len());
        eprintln!("{}: {packages} packages, {} bytes of them, {bytes} in the image", role.name, lock.bytes());
        assert_eq!(one.fingerprint().unwrap(), two.fingerprint().unwrap(), "{}", role.name);
        assert_eq!(one.0.digest, two.0.digest, "{}", role.name);
    }
}
