//! From a lock to its packages, checked and kept.
//!
//! They are fetched by address and digest, so it does not matter whether the mirror's index still names them. What was
//! fetched is kept for good: see [`Kept`].

use std::fs;
use std::path::{Path, PathBuf};

use super::DebianError;
use super::apt::{self, Failure};
use super::kept::{Condition, Kept};
use super::lock::{Archive, Lock, Package};
use super::names::SuiteName;
use super::program::Apt;
use super::role::Role;
use super::sources::{self, Mirrors};
use crate::error::At as _;
use crate::progress::{Event, Progress, Receipt, Silent, Stage, Timed, Unit};
use crate::{Fetched, ImageError, Options};

/// How many packages one call of apt fetches: so many are lost when a fetch is killed, and so often it says how far it is.
const TOGETHER: usize = 12;

/// Fetches those packages of a lock that are not kept yet. A kept one that is damaged is replaced. Killed, it goes on
/// where it was.
///
/// # Errors
/// When a mirror cannot be reached, no longer has a package, or gives something else; offline, when one is missing.
pub fn fetch(
    lock: &Lock,
    role: &Role,
    kept: &Kept,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Receipt, ImageError> {
    let mut receipt = Receipt::default();
    let lacks = missing(lock, kept, progress)?;
    if lacks.is_empty() {
        return Ok(receipt);
    }
    if options.offline {
        let packages = lacks.iter().map(ToString::to_string).collect();
        return Err(DebianError::NotKept { packages }.into());
    }
    let _alone = kept.lock(progress)?;
    // Somebody else may have fetched them while this waited.
    let missing = missing(lock, kept, &Silent)?;
    if missing.is_empty() {
        return Ok(receipt);
    }
    let timed = Timed::start(Stage::Download, progress);
    let apt = Apt::new(kept, &lock.architecture, &options.environment)?;
    let mirrors = Mirrors::choose(&apt.machine()?, &role.base).map_err(DebianError::NoMirror)?;
    let folder = fresh(&kept.folder().join(".part"))?;
    let total = missing.iter().map(|package| package.bytes).sum();
    let (mut done, mut vanished) = (0, Vec::new());
    for group in missing.chunks(TOGETHER) {
        let what = group[0].to_string();
        let (unit, stage) = (Unit::Bytes, Stage::Download);
        progress.report(Event::Advanced { stage, done, total: Some(total), unit, what: &what });
        let group = Group { packages: group, folder: &folder, mirrors: &mirrors, suite: &lock.suite };
        vanished.extend(group.fetch(&apt, kept, &mut receipt)?);
        done += group.packages.iter().map(|package| package.bytes).sum::<u64>();
        progress.report(Event::Advanced { stage, done, total: Some(total), unit, what: &what });
    }
    fs::remove_dir_all(&folder).at("remove", &folder)?;
    if !vanished.is_empty() {
        return Err(DebianError::Vanished { role: lock.role.clone(), packages: vanished }.into());
    }
    timed.finish(&mut receipt);
    Ok(receipt)
}

/// The packages that are not kept, or no longer whole.
fn missing<'l>(lock: &'l Lock, kept: &Kept, progress: &dyn Progress) -> Result<Vec<&'l Package>, ImageError> {
    let mut missing = Vec::new();
    for package in &lock.packages {
        match kept.condition(package)? {
            Condition::Whole => continue,
            Condition::Missing => {}
            Condition::Damaged(_) => {
                let message = format!("the kept package {package} was damaged, fetching it again");
                progress.report(Event::Note { message: &message });
            }
        }
        missing.push(package);
    }
    Ok(missing)
}

fn fresh(folder: &Path) -> Result<PathBuf, ImageError> {
    if folder.exists() {
        fs::remove_dir_all(folder).at("remove", folder)?;
    }
    fs::create_dir_all(folder).at("create", folder)?;
    Ok(folder.to_owned())
}

/// Packages that are fetched together.
struct Group<'a> {
    packages: &'a [&'a Package],
    folder: &'a Path,
    mirrors: &'a Mirrors,
    suite: &'a SuiteName,
}

impl Group<'_> {
    fn mirror(&self, archive: Archive) -> Result<&str, DebianError> {
        self.mirrors.of(archive).ok_or_else(|| DebianError::NoMirror(self.suite.clone()))
    }

    /// Fetches them, and gives those that the mirror no longer has.
    fn fetch(&self, apt: &Apt<'_>, kept: &Kept, receipt: &mut Receipt) -> Result<Vec<String>, ImageError> {
        let mut arguments = vec!["download-file".to_owned()];
        let mut addresses = Vec::new();
        for package in self.packages {
            let address = sources::address(self.mirror(package.archive)?, package.path.as_str());
            let file = self.file(package).display().to_string();
            arguments.extend([address.clone(), file, format!("SHA256:{}", package.sha256.hex())]);
            addresses.push(address);
        }
        let said = apt.helper(&arguments)?;
        let failures = apt::failures(&said.stderr);
        let mut vanished = Vec::new();
        for (package, address) in self.packages.iter().zip(&addresses) {
            let host = sources::host(self.mirror(package.archive)?).to_owned();
            let file = self.file(package);
            let foreign = |said| DebianError::Foreign { package: package.to_string(), host: host.clone(), said };
            if file.exists() {
                if let Err(found) = kept.take_in(package, &file)? {
                    return Err(foreign(format!("it has the digest {found}")).into());
                }
                receipt.fetched(Fetched { host, files: 1, bytes: package.bytes });
                continue;
            }
            match failures.iter().find(|failure| failure.uri == *address) {
                Some(failure) if failure.vanished() => vanished.push(package.to_string()),
                Some(failure) if failure.foreign() => return Err(foreign(failure.reason.clone()).into()),
                Some(Failure { reason, .. }) => return Err(DebianError::Unreachable { said: reason.clone() }.into()),
                None => return Err(DebianError::Unreachable { said: apt::complaints(&said.stderr) }.into()),
            }
        }
        Ok(vanished)
    }

    fn file(&self, package: &Package) -> PathBuf {
        self.folder.join(format!("{}.deb", package.sha256.hex()))
    }
}
