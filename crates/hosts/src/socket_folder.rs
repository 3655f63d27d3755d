//! The folder with a connection's sockets, and what processes that were killed have left of theirs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// How the names of such folders begin; the process that made it follows.
const OURS: &str = "sovereign-ssh-";
/// The master's socket. It removes that when it ends, and those that lead to the host not.
const MASTER: &str = "m";

/// A folder that only this user can enter, with a name that leaves room in the address of a unix socket.
#[derive(Debug)]
pub(crate) struct SocketFolder(PathBuf);

impl SocketFolder {
    pub(crate) fn make(below: &Path) -> io::Result<Self> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let path = below.join(format!("{OURS}{}-{}", std::process::id(), hex::encode(random)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let made = Self(path);
        sweep(below, made.0.symlink_metadata()?.uid());
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn master(&self) -> OsString {
        sovereign_ssh::literal(&self.0.join(MASTER))
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // nothing of worth is in it
    }
}

/// Removes the folders of processes of this user's that were killed.
fn sweep(below: &Path, user: u32) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(OURS)?.split('-').next());
        let is_gone = |process: &str| process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists();
        let is_folder_of = |metadata: fs::Metadata| metadata.is_dir() && metadata.uid() == user;
        let is_ours = || entry.metadata().is_ok_and(is_folder_of);
        // A process that is not seen from here may live all the same; its master listens then.
        if process.is_some_and(is_gone) && is_ours() && !has_master(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path()); // the next one tries again
        }
    }
}

fn has_master(folder: &Path) -> bool {
    UnixStream::connect(folder.join(MASTER)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let below = tempfile::tempdir().unwrap();
        // No process has so large a number.
        let names = ["4194999-aa", "4195000-bb", "1-cc", "none-dd"].map(|name| format!("{OURS}{name}"));
        for name in &names {
            fs::create_dir(below.path().join(name)).unwrap();
            // What a master that was killed leaves: nobody listens there any more.
            for socket in [MASTER, "f0"] {
                drop(UnixListener::bind(below.path().join(name).join(socket)).unwrap());
            }
        }
        let alive = below.path().join(&names[1]).join(MASTER);
        fs::remove_file(&alive).unwrap();
        let _master = UnixListener::bind(&alive).unwrap();
        std::os::unix::fs::symlink(below.path().join(&names[2]), below.path().join(format!("{OURS}4195001-ee")))
            .unwrap();

        let made = SocketFolder::make(below.path()).unwrap();
        let left = |name: &str| below.path().join(name).symlink_metadata().is_ok();
        assert_eq!(names.each_ref().map(|name| left(name)), [false, true, true, true]);
        assert!(left(&format!("{OURS}4195001-ee")) && made.path().is_dir());
        let path = made.path().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
