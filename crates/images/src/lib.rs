//! Images: the programs a stack runs, fetched, checked and built on this machine, kept by what they contain.
//!
//! An image is a folder that never changes, named by the SHA-256 digest of its contents. What goes into it is written
//! in a lock committed with the source ([`lock`]): packages with their SHA-512 digests. Whoever serves the packages is
//! a third party that can refuse to answer and cannot do more: a wrong byte ends the build.
//!
//! ```text
//!  lock ──▶ download ──▶ unpack ──▶ install, compile, trim ──▶ seal ──▶ store
//!  pinned   by SHA-512   no escape  in a folder of its own     digest   one rename
//! ```
//!
//! That is the way of `ghost`. Root file systems of Debian are made otherwise, and kept in the same store: [`debian`].
//!
//! Promises: an image in the [`Store`] is complete (a killed build leaves nothing that looks like one); a build uses
//! nothing of the operator's package manager settings except where the registry is and how to reach it; with
//! [`Options::offline`] the network is not touched.
//!
//! Left out: running an image (the engine does that), choosing versions (the lock does that), images for another kind
//! of machine than this one.

mod addon;
mod child;
mod content;
pub mod debian;
mod download;
mod error;
pub mod ghost;
mod installer;
pub mod lock;
mod progress;
mod registry;
mod store;
#[cfg(test)]
mod test_registry;
pub mod unpack;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sovereign_model::Digest;

pub use content::{Fault, FaultKind};
pub use download::Fetched;
pub use error::ImageError;
pub use lock::{Integrity, Lock, Package, Part, Platform};
pub use progress::{Event, Progress, Receipt, Silent, Stage, Unit};
pub use store::{Manifest, Pruned, Source, Store};

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its contents, which is also its name in the store.
    pub digest: Digest,
    /// Its root folder, absolute.
    pub root: PathBuf,
}

impl Image {
    /// The Node.js executable.
    pub fn node(&self) -> PathBuf {
        self.root.join("node/bin/node")
    }

    /// The application's folder; a site's working directory links to it under the name `current`.
    pub fn app(&self) -> PathBuf {
        self.root.join("app")
    }
}

/// How an image is prepared.
#[derive(Debug, Clone)]
pub struct Options {
    /// Never touch the network; what is missing is an error.
    pub offline: bool,
    /// The time that goes into the manifest.
    pub now: SystemTime,
    /// Where settings of the registry, proxies, certificates and compilers come from.
    pub environment: Environment,
}

/// Environment variables, as a value: read once at the edge of the program, made up in tests.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable's value; `None` when it is unset, empty or not UTF-8.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(Path::new(name).as_os_str())?.to_str().filter(|value| !value.is_empty())
    }

    /// An npm setting given as `npm_config_<name>`, in any case, as npm reads it.
    fn npm(&self, setting: &str) -> Option<&str> {
        let wanted = format!("npm_config_{}", setting.replace('-', "_"));
        let value = self.0.iter().find(|(name, _)| name.to_str().is_some_and(|n| n.eq_ignore_ascii_case(&wanted)));
        value?.1.to_str().filter(|value| !value.is_empty())
    }

    /// The variables out of `names` that are set.
    fn only<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        names.iter().filter_map(|name| Some((*name, self.get(name)?)))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
