//! A way into the repository on which snapshots are held back until they are known to be whole.
//!
//! A snapshot's file stays in memory until [`Held::let_in`], whoever writes it and whenever: whatever kills this process
//! before leaves no snapshot. What it leaves are chunks that no snapshot refers to. Those that an index names
//! ([`crate::pack`] writes one every five minutes, and at the end) are used by the next run; the others take room until a
//! clean-up.
//!
//! Data is written only while the disk has room for it and a reserve: see [`crate::room`]. What is removed goes after
//! what was written before it lasts: a prune never leaves, whatever becomes of the machine, less than it found.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use crate::copy::backend::file_name;
use crate::error::{ArchiveError, To as _};
use crate::place::sync_names;
use crate::removed::Removed;
use crate::room::room_for;

/// The held ones, and the folder behind.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<dyn WriteBackend>,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    snapshots: Vec<(Id, BytesList)>,
    /// Folders that got new names.
    written: BTreeSet<PathBuf>,
    no_room: Option<ArchiveError>,
    /// The list of what is removed, once something is.
    removed: Option<Removed>,
}

impl State {
    /// Before it is removed: copies ask why something is missing.
    fn note_removal(&mut self, folder: &Path, of: FileType, id: &Id) -> io::Result<()> {
        let removed = match &mut self.removed {
            Some(removed) => removed,
            none => none.insert(Removed::open(folder)?),
        };
        removed.note(&file_name(of, id))
    }

    fn sync(&mut self) -> Result<(), ArchiveError> {
        for folder in std::mem::take(&mut self.written) {
            sync_names(&folder).map_err(ArchiveError::file("sync", folder))?;
        }
        Ok(())
    }
}

impl Held {
    /// Over `inner`, which writes into `folder`.
    pub(crate) fn new(inner: Arc<dyn WriteBackend>, folder: PathBuf) -> Self {
        Self { inner, folder, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is held. All that it refers to outlives a crash of the machine before it is there, and it does when
    /// this returns: the backend syncs files, and this the folders that name them.
    pub(crate) fn let_in(&self) -> Result<(), ArchiveError> {
        let mut state = self.state();
        state.sync()?;
        for (id, bytes) in state.snapshots.drain(..) {
            self.inner.write_bytes(FileType::Snapshot, &id, false, bytes).to("write the snapshot")?;
        }
        drop(state);
        self.settle()
    }

    /// Makes the names of snapshots outlive a crash of the machine.
    pub(crate) fn settle(&self) -> Result<(), ArchiveError> {
        let snapshots = self.folder.join("snapshots");
        sync_names(&snapshots).map_err(ArchiveError::file("sync", snapshots))
    }

    /// Why writing was refused, if it was.
    pub(crate) fn no_room(&self) -> Option<ArchiveError> {
        self.state().no_room.take()
    }

    /// Data only: the index that makes it of use is small, and has the reserve to go into.
    fn make_sure_of_room(&self, of: FileType, content: &BytesList) -> RusticResult<()> {
        if of != FileType::Pack {
            return Ok(());
        }
        room_for(&self.folder, content.size().try_into().unwrap_or(u64::MAX)).map_err(|error| {
            let text = error.to_string();
            self.state().no_room = Some(error);
            RusticError::with_source(ErrorKind::InputOutput, "the disk is full", text)
        })
    }
}

impl ReadBackend for Held {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, of: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(of)
    }

    fn list(&self, of: FileType) -> RusticResult<Vec<Id>> {
        self.inner.list(of)
    }

    fn read_full(&self, of: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(of, id)
    }

    fn read_partial(&self, of: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(of, id, cacheable, offset, length)
    }

    fn warmup_path(&self, of: FileType, id: &Id) -> String {
        self.inner.warmup_path(of, id)
    }
}

impl WriteBackend for Held {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(&self, of: FileType, id: &Id, cacheable: bool, content: BytesList) -> RusticResult<()> {
        if of == FileType::Snapshot {
            self.state().snapshots.push((*id, content));
            return Ok(());
        }
        self.make_sure_of_room(of, &content)?;
        self.inner.write_bytes(of, id, cacheable, content)?;
        let folder = match of {
            FileType::Pack => self.folder.join("data").join(&id.to_hex()[..2]),
            _ => self.folder.join(of.dirname()),
        };
        self.state().written.insert(folder);
        Ok(())
    }

    fn remove(&self, of: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        let mut state = self.state();
        let noted = state.sync().and_then(|()| {
            state
                .note_removal(&self.folder, of, id)
                .map_err(ArchiveError::file("note what is removed from", &self.folder))
        });
        drop(state);
        noted.map_err(|error| RusticError::with_source(ErrorKind::InputOutput, "nothing is removed yet", error))?;
        self.inner.remove(of, id, cacheable)
    }
}
