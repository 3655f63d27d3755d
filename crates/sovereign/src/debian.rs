//! Debian root file systems: where an operator's locks and packages lie, and how the work on them is watched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use sovereign_images::debian::{DebianError, Lock, Role};
use sovereign_images::{Environment, Event, Image, ImageError, Options, Store, Unit};
use sovereign_runtime::file;

use crate::failure::{Failure, Reason};
use crate::output::{Progress, Stage};

/// How a build is prepared in this process.
pub(crate) fn options(offline: bool) -> Options {
    Options { offline, now: SystemTime::now(), environment: Environment::of_this_process() }
}

/// The images a role is built around, that of Ghost by this lock.
///
/// # Errors
/// When one is not in the store.
pub(crate) fn layers(role: &Role, ghost: &sovereign_images::Lock, store: &Store) -> Result<Vec<Image>, ImageError> {
    let layer = |image: &sovereign_model::ImageName| match sovereign_images::ghost::find(store, ghost)? {
        Some(found) if *image == ghost.image => Ok(found),
        _ => Err(DebianError::LayerMissing { role: role.name.clone(), layer: image.clone() }.into()),
    };
    role.layers.iter().map(|wanted| layer(&wanted.image)).collect()
}

/// The folder with the locks: for `stack.toml`, `stack.images` beside it.
pub(crate) fn locks(stack_file: &Path) -> PathBuf {
    stack_file.with_extension("images")
}

/// The file with the lock of a role, or of Ghost: the operator's, beside the stack file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockFile {
    path: PathBuf,
}

/// A lock could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(crate) struct LockFileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Reason for LockFileError {}

impl LockFile {
    /// For `stack.toml`, `stack.images/<role>.json` beside it.
    pub(crate) fn of(stack_file: &Path, role: &Role) -> Self {
        Self::named(stack_file, role.short())
    }

    /// For what is called so.
    pub(crate) fn named(stack_file: &Path, name: &str) -> Self {
        Self { path: locks(stack_file).join(format!("{name}.json")) }
    }

    /// In this file.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, when there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub(crate) fn read(&self) -> Result<Option<Lock>, Failure> {
        let Some(text) = self.text()? else { return Ok(None) };
        let unfit = |source| ImageError::from(DebianError::Lock { path: Some(self.path.clone()), source });
        Ok(Some(Lock::parse(&text).map_err(unfit)?))
    }

    /// What is written in it, when it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn text(&self) -> Result<Option<String>, Failure> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockFileError { action: "read", path: self.path.clone(), source }.into()),
            // What is not UTF-8 is no lock, and is told so.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        }
    }

    /// The lock.
    ///
    /// # Errors
    /// When there is none, too.
    pub(crate) fn expect(&self, role: &Role) -> Result<Lock, Failure> {
        let missing = || DebianError::NotLocked { role: role.name.clone(), path: self.path.clone() };
        Ok(self.read()?.ok_or_else(missing).map_err(ImageError::from)?)
    }

    /// Puts another in its place, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, lock: &Lock) -> Result<(), Failure> {
        self.replace(&lock.to_text())
    }

    /// Puts another text in its place, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn replace(&self, text: &str) -> Result<(), Failure> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let failed = |source| LockFileError { action: "create", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        Ok(file::replace(&self.path, text.as_bytes(), 0o644)?)
    }
}

/// Shows the stages of work on images as they come and go.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    progress: &'a Progress,
    role: &'a str,
    stages: Mutex<BTreeMap<sovereign_images::Stage, Stage>>,
}

impl<'a> Watched<'a> {
    /// Of work on a role.
    pub(crate) fn new(progress: &'a Progress, role: &'a Role) -> Self {
        Self::named(progress, role.short())
    }

    /// Of work on what is called so.
    pub(crate) fn named(progress: &'a Progress, name: &'a str) -> Self {
        Self { progress, role: name, stages: Mutex::default() }
    }

    fn name(&self, stage: sovereign_images::Stage) -> String {
        let role = self.role;
        match stage {
            sovereign_images::Stage::Resolve => format!("ask the mirror for packages of {role}"),
            sovereign_images::Stage::Download => format!("fetch packages of {role}"),
            sovereign_images::Stage::Gather => format!("check kept packages of {role}"),
            sovereign_images::Stage::Install => format!("install packages of {role}"),
            sovereign_images::Stage::Compile => format!("compile for {role}"),
            sovereign_images::Stage::Trim => format!("trim {role}"),
            sovereign_images::Stage::Seal => format!("hash and seal {role}"),
        }
    }
}

impl sovereign_images::Progress for Watched<'_> {
    fn report(&self, event: Event<'_>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { stage } => {
                stages.insert(stage, self.progress.stage(self.name(stage)));
            }
            Event::Advanced { stage, done, total, unit, what } => {
                let Some(shown) = stages.get(&stage) else { return };
                match unit {
                    Unit::Bytes => shown.expect_bytes(total.unwrap_or(0)),
                    Unit::Packages => shown.expect_things("packages", total.unwrap_or(0)),
                    Unit::Files => shown.expect_things("files", total.unwrap_or(0)),
                }
                shown.reach(done);
                shown.note(what);
            }
            Event::Finished { stage, .. } => {
                if let Some(shown) = stages.remove(&stage) {
                    shown.finish();
                }
            }
            Event::Note { message } => {
                for shown in stages.values() {
                    shown.note(message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lies_beside_its_stack_file_and_a_damaged_one_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let role = Role::host();
        let file = LockFile::of(&folder.path().join("stack.toml"), &role);
        assert_eq!(file.path(), folder.path().join("stack.images/host.json"));
        assert!(file.read().unwrap().is_none());
        let error = file.expect(&role).unwrap_err();
        assert_eq!(error.help().as_deref(), Some("sovereign images lock host"));
        fs::create_dir(folder.path().join("stack.images")).unwrap();
        fs::write(file.path(), b"{ \xff").unwrap();
        let error = file.read().unwrap_err();
        assert!(error.chain()[0].contains("stack.images/host.json"), "{:?}", error.chain());
        assert!(error.help().is_some());
    }
}
