//! The lock of a root file system: which packages it is made of, to the byte.
//!
//! It belongs to the operator and not to the source code, because Debian's mirrors remove what was superseded: what one
//! operator locked a month ago another can no longer fetch. Kept as JSON with the stack's state, made by
//! [`resolve`](super::resolve()), and good for as long as the packages are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sovereign_model::{Digest, ImageName};

use super::names::{Architecture, PackageName, PoolPath, SuiteName, Version};

/// The version of the lock's format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// The role it is for.
    pub role: ImageName,
    /// The machines it is for.
    pub architecture: Architecture,
    /// Debian's release.
    pub suite: SuiteName,
    /// What the role asked for when the lock was made.
    pub wanted: Vec<String>,
    /// What was signed by Debian, and says which packages there are.
    pub releases: Vec<Release>,
    /// All packages, sorted by name, each once.
    pub packages: Vec<Package>,
}

/// A suite as it was when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Release {
    /// Its name in the archive.
    pub suite: SuiteName,
    /// When it was made, in seconds since 1970-01-01 00:00 UTC.
    pub made: u64,
    /// The digest of its signed index.
    pub sha256: Digest,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// What it is for; `all` for every machine.
    pub architecture: Architecture,
    /// The archive it is from.
    pub archive: Archive,
    /// Where it lies there.
    pub path: PoolPath,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// One of Debian's archives: mirrors keep them under addresses of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archive {
    /// The releases, their updates and backports.
    Debian,
    /// Fixes of security faults.
    DebianSecurity,
}

impl Archive {
    /// The archive that has a suite.
    pub fn of(suite: &str) -> Self {
        if suite.ends_with("-security") { Self::DebianSecurity } else { Self::Debian }
    }
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLock {
    /// Not JSON, or not the fields of a lock.
    #[error("it cannot be read")]
    Json(#[source] serde_json::Error),
    /// Written by another version of this program.
    #[error("it has format {0}, this program reads format {FORMAT}")]
    Format(u32),
    /// Two packages of one name, or not in their order.
    #[error("its packages are not sorted, each once, at {0}")]
    Order(PackageName),
    /// Nothing says when it was made.
    #[error("it names no release of Debian")]
    NoRelease,
}

/// A package whose version differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Which.
    pub package: PackageName,
    /// The version in the older lock; `None` when it was not there.
    pub old: Option<Version>,
    /// The version in the newer lock; `None` when it is no longer there.
    pub new: Option<Version>,
}

/// Reads only the version, so that a newer format is told from a damaged file.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Lock {
    /// A lock of what was found.
    ///
    /// # Errors
    /// When a package is there twice, or no release.
    pub(super) fn new(
        role: ImageName,
        architecture: Architecture,
        suite: SuiteName,
        wanted: Vec<String>,
        releases: Vec<Release>,
        mut packages: Vec<Package>,
    ) -> Result<Self, InvalidLock> {
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Self { format: FORMAT, role, architecture, suite, wanted, releases, packages }.checked()
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// When the text is no lock.
    pub fn parse(text: &str) -> Result<Self, InvalidLock> {
        let Versioned { format } = serde_json::from_str(text).map_err(InvalidLock::Json)?;
        if format != FORMAT {
            return Err(InvalidLock::Format(format));
        }
        serde_json::from_str::<Self>(text).map_err(InvalidLock::Json)?.checked()
    }

    fn checked(self) -> Result<Self, InvalidLock> {
        if self.releases.is_empty() {
            return Err(InvalidLock::NoRelease);
        }
        match self.packages.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            Some(pair) => Err(InvalidLock::Order(pair[1].name.clone())),
            None => Ok(self),
        }
    }

    /// The text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a lock serializes to JSON");
        text.push('\n');
        text
    }

    /// What tells it from every other.
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }

    /// The youngest of its releases, in seconds since 1970: the time that everything in the image is given.
    pub fn made(&self) -> u64 {
        self.releases.iter().map(|release| release.made).max().unwrap_or_default()
    }

    /// The bytes of all packages.
    pub fn bytes(&self) -> u64 {
        self.packages.iter().fold(0, |sum, package| sum.saturating_add(package.bytes))
    }

    /// What a newer lock changes.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let versions = |lock: &Self| -> BTreeMap<_, _> {
            lock.packages.iter().map(|package| (package.name.clone(), package.version.clone())).collect()
        };
        let (old, mut new) = (versions(self), versions(newer));
        let mut changes: Vec<_> = old
            .into_iter()
            .map(|(package, old)| Change { new: new.remove(&package), package, old: Some(old) })
            .filter(|change| change.old != change.new)
            .collect();
        changes.extend(new.into_iter().map(|(package, new)| Change { package, old: None, new: Some(new) }));
        changes.sort_by(|a, b| a.package.cmp(&b.package));
        changes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A lock of packages with these names and versions, of no bytes each.
    pub(in crate::debian) fn lock_of(packages: &[(&str, &str)]) -> Lock {
        let package = |(name, version): &(&str, &str)| Package {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            architecture: "all".parse().unwrap(),
            archive: Archive::Debian,
            path: format!("pool/main/{name}_{version}_all.deb").parse().unwrap(),
            bytes: 0,
            sha256: Digest::of(""),
        };
        let release =
            Release { suite: "bookworm".parse().unwrap(), made: 1_700_000_000, sha256: Digest::of("release") };
        let role = "thing".parse().unwrap();
        let here = Architecture::here().unwrap();
        let packages = packages.iter().map(package).collect();
        Lock::new(role, here, "bookworm".parse().unwrap(), vec![], vec![release], packages).unwrap()
    }

    #[test]
    fn a_lock_reads_what_it_writes() {
        let lock = lock_of(&[("bash", "5.2"), ("apt", "1:2.6")]);
        assert_eq!(lock.packages[0].name.as_str(), "apt", "sorted");
        assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    }

    #[test]
    fn another_format_a_package_twice_and_no_release_are_refused() {
        let text = lock_of(&[("apt", "2"), ("bash", "5")]).to_text();
        let other = text.replace("\"format\": 1", "\"format\": 2, \"new\": true");
        assert!(matches!(Lock::parse(&other), Err(InvalidLock::Format(2))));
        let twice = text.replace("\"name\": \"apt\"", "\"name\": \"bash\"");
        assert!(matches!(Lock::parse(&twice), Err(InvalidLock::Order(_))), "{twice}");
        let role = "thing".parse().unwrap();
        let none = Lock::new(role, Architecture::here().unwrap(), "x".parse().unwrap(), vec![], vec![], vec![]);
        assert!(matches!(none, Err(InvalidLock::NoRelease)));
    }

    #[test]
    fn the_changes_are_named_with_both_versions() {
        let old = lock_of(&[("apt", "1"), ("bash", "5"), ("gone", "1")]);
        let new = lock_of(&[("apt", "2"), ("bash", "5"), ("come", "3")]);
        let text = |version: &Option<Version>| version.as_ref().map_or("-".to_owned(), ToString::to_string);
        let changes: Vec<_> = old
            .changes(&new)
            .iter()
            .map(|change| format!("{} {} {}", change.package, text(&change.old), text(&change.new)))
            .collect();
        assert_eq!(changes, ["apt 1 2", "come - 3", "gone 1 -"]);
        assert_eq!(old.changes(&old), []);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = Lock::parse(&text);
        }

        #[test]
        fn a_damaged_lock_is_refused_or_whole(at in 0_usize..900, byte: u8) {
            let lock = lock_of(&[("apt", "1"), ("bash", "5")]);
            let mut bytes = lock.to_text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = Lock::parse(&String::from_utf8_lossy(&bytes)) {
                prop_assert_eq!(Lock::parse(&read.to_text()).unwrap(), read);
            }
        }
    }
}
