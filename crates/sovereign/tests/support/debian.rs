//! Debian images as operators of tests have them: kept for the next run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Operator, leaf};

/// An operator who shares images and kept packages with other runs.
pub(crate) fn operator() -> (Operator, PathBuf) {
    let operator = Operator::new().with_shared_images();
    operator.write("stack.toml", &leaf::stack(&operator));
    fs::create_dir(operator.home().join("public")).unwrap();
    let cache = operator.shared();
    fs::create_dir_all(cache.join("packages")).unwrap();
    fs::create_dir_all(operator.home().join(".local/share/sovereign")).unwrap();
    symlink(cache.join("packages"), operator.home().join(".local/share/sovereign/.packages")).unwrap();
    (operator, cache)
}

/// Locks a role, as the last run did where its packages are still kept.
pub(crate) fn lock(operator: &Operator, cache: &Path, role: &str) {
    let file = format!("stack.images/{role}.json");
    let kept = cache.join(format!("debian-{role}.json"));
    if let Ok(text) = fs::read_to_string(&kept) {
        operator.write(&file, &text);
        if operator.run(&["images", "lock", role]).code() == Some(0) {
            return;
        }
    }
    operator.run(&["images", "lock", "--update", role]).success();
    fs::copy(operator.home().join(file), kept).unwrap();
}
