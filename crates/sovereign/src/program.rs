//! This program as a file: its digest, and a copy that stays when the build folder it came from is gone.
//!
//! What runs is always such a copy, named by its digest: deleting a clone or building anew changes nothing under a
//! running stack, and the copy before stays for going back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
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

    /// Makes the copy, unless it is there.
    pub(crate) fn install(&self) -> Result<(), ProgramError> {
        if self.installed.is_file() {
            return Ok(());
        }
        let failed = |action| move |source| ProgramError { action, path: self.installed.clone(), source };
        let folder = self.installed.parent().expect("the copy lies in a folder named by its digest");
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
    }
}
