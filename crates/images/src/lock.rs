//! The lock: which packages an image is made of, to the byte.
//!
//! A lock is part of the source code, or an operator's, of another version of the application. It pins the few packages we fetch ourselves; the application's own lock, which
//! is inside one of them and thereby pinned too, covers the rest. Changing the steps of a build without changing a
//! package means counting up `recipe`, so that machines build anew.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};
use sovereign_model::{Digest, ImageName};

use crate::ImageError;

/// The version of the lock's format that this code reads.
const FORMAT: u32 = 1;

/// What an image is made of, on every platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// The image's name.
    pub image: ImageName,
    /// Counts changes of the build's steps.
    pub recipe: u32,
    /// The packages, in the order in which they are fetched.
    pub packages: Vec<Package>,
}

/// A package of an npm registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    /// What the build needs it for.
    pub part: Part,
    /// Its name, with scope.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The platform it is for; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The SHA-512 digest of its archive.
    pub integrity: Integrity,
    /// The size of its archive.
    pub bytes: u64,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// What the build needs a package for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The Node.js executable and its headers.
    Node,
    /// The program that installs the application's dependencies.
    PackageInstaller,
    /// The sources of the SQLite binding, compiled here.
    DatabaseAddon,
    /// The application.
    Application,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "Node.js",
            Self::PackageInstaller => "the package installer",
            Self::DatabaseAddon => "the database addon",
            Self::Application => "the application",
        })
    }
}

/// Operating system and processor, written `linux-x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Platform(String);

impl Platform {
    /// The platform of this program.
    pub fn here() -> Self {
        Self(format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Lock {
    /// Reads a lock.
    pub fn parse(text: &str) -> Result<Self, InvalidLock> {
        let lock: Self = serde_json::from_str(text).map_err(InvalidLock::Json)?;
        if lock.format != FORMAT {
            return Err(InvalidLock::Format(lock.format));
        }
        Ok(lock)
    }

    /// As text, to be kept.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("types of this workspace serialize to JSON");
        format!("{text}\n")
    }

    /// What the store finds an image by: everything in the lock, and the platform of this program.
    pub fn digest(&self) -> Digest {
        Digest::of_value(&(Platform::here(), self))
    }

    /// The packages for this platform, in the order of the lock.
    pub fn packages_here(&self) -> impl Iterator<Item = &Package> {
        let here = Platform::here();
        self.packages.iter().filter(move |package| package.platform.as_ref().is_none_or(|p| *p == here))
    }

    /// The package that plays a part on this platform.
    pub fn part(&self, part: Part) -> Result<&Package, ImageError> {
        self.packages_here().find(|package| package.part == part).ok_or_else(|| ImageError::Platform {
            image: self.image.clone(),
            platform: Platform::here(),
            part,
        })
    }
}

/// The text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLock {
    /// Not JSON, or not the fields of a lock.
    #[error("the lock cannot be read")]
    Json(#[source] serde_json::Error),
    /// Written by another version of this program.
    #[error("the lock has format {0}, this program reads format {FORMAT}")]
    Format(u32),
}

/// A SHA-512 digest as npm writes it: `sha512-` and base64 (W3C Subresource Integrity, section 3.5).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Integrity([u8; 64]);

impl Integrity {
    /// The integrity of bytes that went through `hasher`.
    pub(crate) fn of(hasher: Sha512) -> Self {
        Self(hasher.finalize().into())
    }

    /// The first 32 hex digits: enough to name a file by.
    pub(crate) fn file_name(&self) -> String {
        hex::encode(&self.0[..16])
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512-{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not `sha512-` and the base64 of 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an integrity (sha512- and base64)")]
pub struct InvalidIntegrity(String);

impl FromStr for Integrity {
    type Err = InvalidIntegrity;

    fn from_str(text: &str) -> Result<Self, InvalidIntegrity> {
        let bytes = text.strip_prefix("sha512-").and_then(|digits| BASE64.decode(digits).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| InvalidIntegrity(text.to_owned()))
    }
}

impl TryFrom<String> for Integrity {
    type Error = InvalidIntegrity;

    fn try_from(text: String) -> Result<Self, InvalidIntegrity> {
        text.parse()
    }
}

impl From<Integrity> for String {
    fn from(integrity: Integrity) -> Self {
        integrity.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lock_of_another_format_is_refused() {
        let text = r#"{"format":2,"image":"ghost","recipe":1,"packages":[]}"#;
        assert!(matches!(Lock::parse(text), Err(InvalidLock::Format(2))));
    }

    #[test]
    fn the_digest_follows_the_recipe() {
        let text = |recipe| format!(r#"{{"format":1,"image":"ghost","recipe":{recipe},"packages":[]}}"#);
        let digest = |recipe| Lock::parse(&text(recipe)).unwrap().digest();
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }

    #[test]
    fn short_and_foreign_digests_are_not_integrities() {
        for text in ["", "sha512-", "sha512-AAAA", "sha256-AAAA", "sha512-*"] {
            assert!(text.parse::<Integrity>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_integrity_reads_what_it_writes(bytes: Vec<u8>) {
            let integrity = Integrity::of(Sha512::new().chain_update(bytes));
            prop_assert_eq!(integrity.to_string().parse(), Ok(integrity));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Integrity>();
            let _ = Lock::parse(&text);
        }
    }
}
