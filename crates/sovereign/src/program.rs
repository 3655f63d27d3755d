//! This program as a file: its digest, and a copy that stays when the build folder it came from is gone.
//!
//! ```text
//! bin/<digest>/sovereign    what runs: deleting a clone or building anew changes nothing under a running stack
//! bin/current               a link to the newest, for whoever starts the stack after a reboot
//! ```
//!
//! The copy before stays for going back; older ones are removed once everything runs the newest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sovereign_model::Digest;

use crate::failure::Reason;

/// This process's program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The digest of its bytes.
    pub(crate) digest: Digest,
    /// Where its copy lies, or will lie.
    pub(crate) installed: PathBuf,
}

/// The program could not be read or copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = .path.display())]
pub(crate) struct ProgramError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Reason for ProgramError {
    fn help(&self) -> Option<String> {
        (self.source.kind() == io::ErrorKind::StorageFull)
            .then(|| "free some space and run the command again".to_owned())
    }
}

/// The file this process was started from, found even when it has been replaced meanwhile.
const RUNNING: &str = "/proc/self/exe";

impl Program {
    /// This process's program, with its copy in `folder`. Reads the file, writes nothing.
    pub(crate) fn of_this_process(folder: &Path) -> Result<Self, ProgramError> {
        let failed = |source| ProgramError { action: "read this program", path: RUNNING.into(), source };
        let bytes = fs::read(RUNNING).map_err(failed)?;
        let digest = Digest::of(&bytes);
        Ok(Self { digest, installed: folder.join(digest.hex()).join("sovereign") })
    }

    /// Makes the copy, unless it is there, and points `current` to it.
    pub(crate) fn install(&self) -> Result<(), ProgramError> {
        if !self.installed.is_file() {
            self.copy()?;
        }
        let current = self.current();
        let target = Path::new(&self.digest.hex()).join("sovereign");
        if fs::read_link(&current).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let beside = current.with_extension(std::process::id().to_string());
        let linked = symlink(target, &beside).and_then(|()| fs::rename(&beside, &current));
        linked.map_err(|source| ProgramError { action: "link", path: current, source })
    }

    /// The link to the newest copy.
    pub(crate) fn current(&self) -> PathBuf {
        self.folder().with_file_name("current")
    }

    /// Removes copies that neither are this program nor the youngest besides it. To be called when nothing runs them.
    pub(crate) fn remove_older(&self) -> Result<(), ProgramError> {
        let all = self.folder().parent().expect("copies lie in a folder of their own").to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProgramError { action: "tidy up", path, source }
        };
        let mut others = Vec::new();
        for entry in fs::read_dir(&all).map_err(failed(&all))? {
            let entry = entry.map_err(failed(&all))?;
            let metadata = entry.metadata().map_err(failed(&entry.path()))?;
            if metadata.is_dir() && entry.path() != self.folder() {
                others.push((metadata.modified().map_err(failed(&entry.path()))?, entry.path()));
            }
        }
        others.sort();
        others.pop(); // the one to go back to
        others.iter().try_for_each(|(_, path)| fs::remove_dir_all(path).map_err(failed(path)))
    }

    /// The folder of the copy, named by the digest.
    fn folder(&self) -> &Path {
        self.installed.parent().expect("the copy lies in a folder named by its digest")
    }

    fn copy(&self) -> Result<(), ProgramError> {
        let failed = |action| move |source| ProgramError { action, path: self.installed.clone(), source };
        let folder = self.folder();
        fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        let beside = folder.join(format!("sovereign.{}", std::process::id()));
        fs::copy(RUNNING, &beside).map_err(failed("copy this program to"))?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).map_err(failed("make executable"))?;
        File::open(&beside).and_then(|file| file.sync_all()).map_err(failed("write to disk"))?;
        fs::rename(&beside, &self.installed).map_err(failed("put in place"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_this_program_and_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::of_this_process(folder.path()).unwrap();
        program.install().unwrap();
        assert_eq!(Digest::of(fs::read(&program.installed).unwrap()), program.digest);
        let made = fs::metadata(&program.installed).unwrap().modified().unwrap();
        program.install().unwrap();
        assert_eq!(fs::metadata(&program.installed).unwrap().modified().unwrap(), made);
        assert_eq!(fs::read_dir(folder.path().join(program.digest.hex())).unwrap().count(), 1);
        assert_eq!(fs::canonicalize(program.current()).unwrap(), fs::canonicalize(&program.installed).unwrap());
    }

    #[test]
    fn this_program_and_the_one_before_stay() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("a", 30), ("b", 10), ("c", 20)] {
            let copy = folder.path().join(name);
            fs::create_dir(&copy).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            File::open(&copy).unwrap().set_modified(then).unwrap();
        }
        let program = Program::of_this_process(folder.path()).unwrap();
        program.install().unwrap();
        program.remove_older().unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let mut expected = vec!["b".into(), "current".into(), std::ffi::OsString::from(program.digest.hex())];
        expected.sort();
        assert_eq!(left, expected);
    }
}
