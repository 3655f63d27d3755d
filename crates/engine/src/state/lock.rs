//! One run at a time per stack.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sovereign_model::layout::StateFolder;

/// Who holds a lock: written into the lock file for the one who has to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// What it was asked to do, `up` for instance.
    pub command: String,
}

/// The stack's lock, held until this is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("another run works on this stack{}", .holder.as_ref().map(|h| format!(": `sovereign {}`, process {}", h.command, h.pid)).unwrap_or_default())]
    Held {
        /// Who, when it could be told.
        holder: Option<Holder>,
    },
    /// The file system refused.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LockError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some("wait until it is done, or interrupt it with Ctrl-C".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

impl Lock {
    /// Takes the lock for the run of `command`, without waiting.
    ///
    /// # Errors
    /// When another process holds it, named; or what the file system says.
    pub fn take(state: &StateFolder, command: &str) -> Result<Self, LockError> {
        let path = state.lock();
        Self::take_file(&path, command).map_err(|error| match error {
            TakeError::Held(holder) => LockError::Held { holder },
            TakeError::Io(source) => LockError::Io { path, source },
        })
    }

    fn take_file(path: &std::path::Path, command: &str) -> Result<Self, TakeError> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if let Err(errno) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(TakeError::Io(errno.into()));
            }
            let mut text = String::new();
            // Who holds it is a courtesy: a file that is just being written leaves the holder unnamed.
            let holder = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str(&text).ok());
            return Err(TakeError::Held(holder));
        }
        let holder = Holder { pid: std::process::id(), command: command.to_owned() };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&holder).expect("a number and a text serialize"))?;
        Ok(Self { _file: file })
    }
}

enum TakeError {
    Held(Option<Holder>),
    Io(io::Error),
}

impl From<io::Error> for TakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path());
        let first = Lock::take(&state, "up").unwrap();
        let error = Lock::take(&state, "down").unwrap_err();
        let expected = Holder { pid: std::process::id(), command: "up".to_owned() };
        assert!(matches!(error, LockError::Held { holder: Some(holder) } if holder == expected));
        drop(first);
        Lock::take(&state, "down").unwrap();
    }
}
