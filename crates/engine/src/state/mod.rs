//! The state folder of a stack: which format it has, and who may change it now.
//!
//! Promise: a folder written by a newer program is refused before anything in it is read; one process at a time holds
//! the stack's [`Lock`].
//!
//! Left out: where things lie in it (the model's layout) and what is in the files. Their owners (keys, images, the
//! edge) know.

mod format;
mod lock;

use std::io;
use std::path::PathBuf;

use sovereign_model::layout::StateFolder;

pub use format::{FORMAT, State, StateError, prepare, read};
pub use lock::{Holder, Lock, LockError};

/// Makes the folder and those in it that belong to no single data center, each 0700.
pub(crate) fn create(state: &StateFolder) -> io::Result<()> {
    for folder in [state.path().to_owned(), state.journal(), state.run(), log_folders(state)] {
        crate::file::private_folder(&folder)?;
    }
    Ok(())
}

/// The folder of all logs: one folder per unit in it.
pub fn log_folders(state: &StateFolder) -> PathBuf {
    state.path().join("logs")
}

/// The supervisor's control socket.
pub fn supervisor_socket(state: &StateFolder) -> PathBuf {
    state.run().join("supervisor.sock")
}
