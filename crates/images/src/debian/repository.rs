//! A repository of exactly the kept packages, for one build: a folder that apt can read.
//!
//! Its index is written here, from what each package says of itself. Nobody signs it: every file in it was compared with
//! the lock a moment before.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sovereign_model::Digest;

use super::DebianError;
use super::kept::Kept;
use super::lock::{Lock, Package};
use super::program::command;
use crate::child::run;
use crate::error::At as _;
use crate::progress::{Event, Progress, Stage, Unit};
use crate::{Environment, ImageError};

/// Writes it into an empty folder. `linked` says that packages may be other names of the kept files.
pub(super) fn write(
    folder: &Path,
    lock: &Lock,
    kept: &Kept,
    linked: bool,
    environment: &Environment,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let pool = folder.join("pool");
    fs::create_dir(&pool).at("create", &pool)?;
    let (mut index, total) = (String::new(), Some(lock.packages.len() as u64));
    for (done, package) in lock.packages.iter().enumerate() {
        let file = kept.whole(package)?;
        let place = pool.join(format!("{}.deb", package.sha256.hex()));
        // Another file system, or a user who may not: then the bytes are copied.
        if !linked || fs::hard_link(&file, &place).is_err() {
            fs::copy(&file, &place).at("copy", &file)?;
        }
        index.push_str(&entry(package, &file, environment)?);
        let (stage, unit, what) = (Stage::Gather, Unit::Packages, package.name.as_str());
        progress.report(Event::Advanced { stage, done: done as u64 + 1, total, unit, what });
    }
    let dist = folder.join("dists").join(lock.suite.as_str());
    let name = format!("main/binary-{}/Packages", lock.architecture);
    let path = dist.join(&name);
    let parent = path.parent().unwrap_or(&dist);
    fs::create_dir_all(parent).at("create", parent)?;
    fs::write(&path, &index).at("write", &path)?;
    let path = dist.join("Release");
    fs::write(&path, release(lock, &name, &index)).at("write", &path)
}

/// What the index says about a package: the package's own description, and where it is.
fn entry(package: &Package, file: &Path, environment: &Environment) -> Result<String, ImageError> {
    let output = run("reading a package", command("dpkg-deb", environment).arg("--field").arg(file))?;
    let control = String::from_utf8_lossy(&output.stdout).into_owned();
    let says = |name: &str, value: &str| control.lines().any(|line| line == format!("{name}: {value}"));
    let (name, version) = (package.name.as_str(), package.version.as_str());
    if !says("Package", name) || !says("Version", version) || !says("Architecture", package.architecture.as_str()) {
        return Err(DebianError::Misnamed { package: package.name.clone() }.into());
    }
    let digits = package.sha256.hex();
    let (control, bytes) = (control.trim_end(), package.bytes);
    Ok(format!("{control}\nFilename: pool/{digits}.deb\nSize: {bytes}\nSHA256: {digits}\n\n"))
}

/// mmdebstrap asks for what is essential in a suite, by its name.
fn release(lock: &Lock, name: &str, index: &str) -> String {
    let (suite, architecture) = (&lock.suite, &lock.architecture);
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(lock.made()));
    let mut text = format!("Suite: {suite}\nCodename: {suite}\nArchitectures: {architecture}\nComponents: main\n");
    // Writing to a text does not fail.
    let _ = writeln!(text, "Date: {}", date.replace("GMT", "UTC"));
    let _ = writeln!(text, "SHA256:\n {} {} {name}", Digest::of(index).hex(), index.len());
    text
}
