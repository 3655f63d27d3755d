//! Debian images as an operator makes them: locked, built, killed half-way, built again, found.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::{debian, eventually};

/// The processes that have `folder` in their arguments or work in it.
fn working_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let place = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        if arguments.contains(&folder.display().to_string()) || place.starts_with(folder) {
            found.push(arguments);
        }
    }
    found
}

#[test]
fn an_image_is_locked_killed_half_way_built_and_found() {
    let (operator, cache) = debian::operator();
    let before = operator.run(&["images", "build", "host"]);
    assert_eq!(before.code(), Some(1));
    assert!(before.stderr().contains("help: sovereign images lock host"), "{before:?}");

    debian::lock(&operator, &cache, "host");
    let locked = operator.json(&["images", "lock", "host"]);
    assert_eq!(locked["written"], false, "{locked}");
    assert_eq!(locked["fetched"].as_array().unwrap().len(), 0, "{locked}");

    // Killed in the midst of installing, in a store of its own.
    let own = operator.home().join("own");
    let mut build = operator.command(&["images", "build", "--offline", "host"]);
    let mut build = build.env("XDG_CACHE_HOME", &own).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let work = own.join("sovereign/images/.work");
    eventually("packages that are being installed", Duration::from_secs(120), || {
        let builds = fs::read_dir(&work).ok()?.flatten().filter_map(|build| fs::read_dir(build.path()).ok());
        let mut roots = builds.flat_map(Iterator::flatten).map(|root| root.path().join("var/lib/dpkg/status"));
        roots.any(|status| status.metadata().is_ok_and(|status| status.len() > 0)).then_some(())
    });
    build.kill().unwrap();
    build.wait().unwrap();
    eventually("an end of all that it started", Duration::from_secs(120), || working_in(&own).is_empty().then_some(()));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&own.display().to_string()), "{mounts}");
    let mut list = operator.command(&["images", "list"]);
    let list = list.env("XDG_CACHE_HOME", &own).output().unwrap();
    assert_eq!(String::from_utf8(list.stdout).unwrap(), "no images are kept\n");

    let first = operator.json(&["images", "build", "--offline", "host"]);
    let second = operator.json(&["images", "build", "--offline", "host"]);
    assert_eq!(second["built"], false, "{second}");
    for same in ["image", "fingerprint", "rootfs"] {
        assert_eq!(first[same], second[same]);
    }
    assert!(Path::new(second["rootfs"].as_str().unwrap()).is_file());
    let list = operator.run(&["images", "list"]).success().stdout();
    assert!(list.contains("debian-host"), "{list}");
}
