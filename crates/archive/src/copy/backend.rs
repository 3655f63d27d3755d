//! A place as the library reads a repository from it: for looking at a copy, and restoring from it.
//!
//! Where each question takes long, a whole pack is read at once and the last ones are kept: the chunks of a file lie in
//! few packs, one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use super::place::{FileKind, FileName, Place};
use crate::chunk::Sum;
use crate::error::ArchiveError;

/// How many packs are kept, of at most so many bytes each: 32 MiB in all.
const PACKS_KEPT: usize = 4;
const LARGEST_KEPT: usize = 8 << 20;

/// Our name of a file that the library knows.
pub(crate) fn file_name(of: FileType, id: &Id) -> FileName {
    let kind = match of {
        FileType::Config => return FileName::Config,
        FileType::Key => FileKind::Key,
        FileType::Pack => FileKind::Pack,
        FileType::Index => FileKind::Index,
        FileType::Snapshot => FileKind::Snapshot,
    };
    let mut sum = Sum::default();
    hex::decode_to_slice(id.to_hex().as_str(), &mut sum).map_or(FileName::Config, |()| FileName::Named(kind, sum))
}

/// The library's name of a file.
pub(crate) fn id(sum: &Sum) -> Id {
    hex::encode(sum).parse().unwrap_or_default()
}

/// A copy that is read.
pub(crate) struct CopyBackend {
    place: Arc<dyn Place>,
    packs: Mutex<VecDeque<(FileName, Bytes)>>,
}

impl fmt::Debug for CopyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopyBackend({})", self.place.location())
    }
}

fn failed(name: &FileName, error: io::Error) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, "cannot read `{file}` of the copy", error)
        .attach_context("file", name.path())
}

impl CopyBackend {
    pub(crate) fn new(place: Arc<dyn Place>) -> Self {
        Self { place, packs: Mutex::default() }
    }

    /// A pack from what is kept, or the whole of it, which is kept then if it is not too large.
    fn pack(&self, name: &FileName) -> io::Result<Bytes> {
        // Held while it is read: whoever else wants a chunk wants one of the same pack most often.
        let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kept)) = packs.iter().find(|(kept, _)| kept == name) {
            return Ok(kept.clone());
        }
        let whole = Bytes::from(self.place.read(name)?);
        if whole.len() <= LARGEST_KEPT + LARGEST_KEPT / 4 {
            packs.truncate(PACKS_KEPT - 1);
            packs.push_front((*name, whole.clone()));
        }
        Ok(whole)
    }

    fn part(&self, name: &FileName, offset: u32, length: u32) -> io::Result<Bytes> {
        let too_long = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let length = usize::try_from(length).map_err(|_| too_long())?;
        if !self.place.is_far() || !matches!(name, FileName::Named(FileKind::Pack, _)) {
            return self.place.read_part(name, offset.into(), length).map(Bytes::from);
        }
        let begin = usize::try_from(offset).map_err(|_| too_long())?;
        let range: Range<usize> = begin..begin.checked_add(length).ok_or_else(too_long)?;
        let whole = self.pack(name)?;
        if range.end > whole.len() { Err(too_long()) } else { Ok(whole.slice(range)) }
    }
}

impl ReadBackend for CopyBackend {
    fn location(&self) -> String {
        self.place.location()
    }

    fn list_with_size(&self, of: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let FileName::Named(kind, _) = file_name(of, &Id::default()) else {
            let config = FileName::Config;
            return match self.place.read(&config) {
                Ok(content) => Ok(vec![(Id::default(), content.len().try_into().unwrap_or(u32::MAX))]),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(failed(&config, error)),
            };
        };
        let listed = self.place.list(kind).map_err(|error| {
            RusticError::with_source(ErrorKind::Backend, "cannot list `{folder}` of the copy", error)
                .attach_context("folder", kind.folder())
        })?;
        Ok(listed.files.iter().map(|(sum, size)| (id(sum), (*size).try_into().unwrap_or(u32::MAX))).collect())
    }

    fn read_full(&self, of: FileType, id: &Id) -> RusticResult<Bytes> {
        let name = file_name(of, id);
        self.place.read(&name).map(Bytes::from).map_err(|error| failed(&name, error))
    }

    fn read_partial(&self, of: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let name = file_name(of, id);
        self.part(&name, offset, length).map_err(|error| failed(&name, error))
    }

    fn warmup_path(&self, of: FileType, id: &Id) -> String {
        file_name(of, id).path()
    }
}

fn refused<T>() -> RusticResult<T> {
    Err(RusticError::with_source(ErrorKind::Backend, "nothing is written", ArchiveError::OnlyRead))
}

impl WriteBackend for CopyBackend {
    fn create(&self) -> RusticResult<()> {
        refused()
    }

    fn write_bytes(&self, _: FileType, _: &Id, _: bool, _: BytesList) -> RusticResult<()> {
        refused()
    }

    fn remove(&self, _: FileType, _: &Id, _: bool) -> RusticResult<()> {
        refused()
    }
}
