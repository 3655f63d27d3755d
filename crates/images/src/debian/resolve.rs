//! From a role to a lock: which packages, in which versions, Debian has for it today.
//!
//! apt asks the mirror, checks the signature with gpgv against Debian's keys, and works out what belongs to what. So a
//! mirror can withhold news, for as long as its index says it is good, and cannot do more.

use std::fs;
use std::path::Path;

use sovereign_model::Digest;

use super::DebianError;
use super::apt::{self, Refusal};
use super::kept::Kept;
use super::lock::{Lock, Package, Release};
use super::names::{Architecture, SuiteName};
use super::program::{Apt, Said};
use super::role::{Base, Role};
use super::sources::Mirrors;
use crate::error::At as _;
use crate::progress::{Progress, Receipt, Stage, Timed};
use crate::{ImageError, Options};

/// Asks the mirrors that this machine's apt is set up with, and locks what they have.
///
/// # Errors
/// When no mirror is known, it cannot be reached, what it has is not signed with Debian's keys or out of date, or the
/// role's packages cannot be had.
pub fn resolve(role: &Role, kept: &Kept, options: &Options, progress: &dyn Progress) -> Result<Lock, ImageError> {
    if options.offline {
        return Err(DebianError::Offline("locking packages").into());
    }
    let base = &role.base;
    if !base.keyring.is_file() {
        return Err(DebianError::KeysMissing(base.keyring.clone()).into());
    }
    let here = Architecture::here().ok_or(DebianError::Machine(std::env::consts::ARCH))?;
    let _alone = kept.lock(progress)?;
    let timed = Timed::start(Stage::Resolve, progress);
    let apt = Apt::new(kept, &here, &options.environment)?;
    let mirrors = Mirrors::choose(&apt.machine()?, base).map_err(DebianError::NoMirror)?;
    apt.write("debian.sources", &mirrors.sources(base, &here))?;

    let update = apt.get(&["update"])?;
    if !update.content {
        return Err(refused(&update, base).into());
    }
    let releases = base.suites.iter().map(|suite| release(&apt.lists(), suite)).collect::<Result<_, _>>()?;
    let mut install = vec!["--yes", "--print-uris", "install", "?essential"];
    install.extend(role.packages.iter().map(String::as_str));
    let offered = apt.get(&install)?;
    if !offered.content {
        let said = apt::complaints(&offered.stderr);
        return Err(DebianError::Unsolvable { role: role.name.clone(), said }.into());
    }
    let packages = apt::offers(&offered.stdout).map_err(DebianError::from)?;
    let packages = packages.into_iter().map(|offer| package(offer, &mirrors)).collect::<Result<_, _>>()?;
    let (name, wanted) = (role.name.clone(), role.packages.clone());
    let lock = Lock::new(name, here, base.codename.clone(), wanted, releases, packages);
    timed.finish(&mut Receipt::default());
    Ok(lock.map_err(|source| DebianError::Lock { path: None, source })?)
}

fn refused(update: &Said, base: &Base) -> DebianError {
    let said = apt::complaints(&update.stderr);
    match apt::refusal(&update.stderr) {
        Refusal::Signature => DebianError::Unsigned { keys: base.keyring.clone(), said },
        Refusal::Expired => DebianError::Expired { said },
        Refusal::NotYet => DebianError::NotYet { said },
        Refusal::Other => DebianError::Unreachable { said },
    }
}

/// A suite's index, whose signature apt has checked: it keeps no other.
fn release(lists: &Path, suite: &SuiteName) -> Result<Release, ImageError> {
    let endings = ["InRelease", "Release"].map(|file| format!("_dists_{suite}_{file}"));
    for entry in fs::read_dir(lists).at("list", lists)? {
        let path = entry.at("list", lists)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            let bytes = fs::read(&path).at("read", &path)?;
            let made = apt::made(&String::from_utf8_lossy(&bytes)).ok_or_else(|| DebianError::NoDate(suite.clone()))?;
            return Ok(Release { suite: suite.clone(), made, sha256: Digest::of(bytes) });
        }
    }
    Err(DebianError::NoDate(suite.clone()).into())
}

fn package(offer: apt::Offer, mirrors: &Mirrors) -> Result<Package, DebianError> {
    let elsewhere = || DebianError::Elsewhere(offer.uri.clone());
    let (archive, path) = mirrors.split(&offer.uri).ok_or_else(elsewhere)?;
    let path = apt::decoded(path).ok_or_else(elsewhere)?.parse().map_err(apt::NotUnderstood::from)?;
    let apt::Offer { name, version, architecture, bytes, sha256, .. } = offer;
    Ok(Package { name, version, architecture, archive, path, bytes, sha256 })
}
