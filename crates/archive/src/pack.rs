//! Packs: chunks of one kind, sealed, one behind the other, and at the end a header that lists them; and the index, which
//! says of all packs what is in them. Both as restic has them.
//!
//! ```text
//!  seal ── packs ─▶ write ──▶ data/.., and index/.. in the end and every five minutes
//! ```
//!
//! Each is a thread, so that nobody who compresses waits for a disk.

use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustic_core::repofile::{BlobType, MasterKey};
use rustic_core::{FileType, Id, WriteBackend as _};
use serde::Serialize;

use crate::chunk::name;
use crate::error::{ArchiveError, To as _};
use crate::held::Held;
use crate::repository::PACK;
use crate::seal::Sealer;

/// How often an index is written: what it names is of use to the next run when this one is killed.
const INDEX_EVERY: Duration = Duration::from_secs(300);
/// The most chunks that one index names.
const INDEX_CHUNKS: usize = 50_000;

/// A chunk that is not in the archive yet.
pub(crate) struct Chunk {
    pub(crate) name: [u8; 32],
    pub(crate) kind: BlobType,
    pub(crate) bytes: Vec<u8>,
}

/// Chunks, and their bytes before and after sealing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) packed: u64,
}

/// What was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) data: Amount,
    pub(crate) trees: Amount,
}

/// One that is being filled, or is full.
pub(crate) struct Pack {
    kind: BlobType,
    bytes: Vec<u8>,
    blobs: Vec<Blob>,
}

/// What an index says of a chunk.
#[derive(Serialize)]
struct Blob {
    #[serde(skip)]
    name: [u8; 32],
    id: Id,
    #[serde(rename = "type")]
    kind: BlobType,
    offset: u32,
    length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<NonZeroU32>,
}

#[derive(Serialize)]
struct Packed {
    id: Id,
    blobs: Vec<Blob>,
    time: rustic_core::jiff::Timestamp,
}

#[derive(Serialize)]
struct Index {
    packs: Vec<Packed>,
}

impl Pack {
    fn new(kind: BlobType) -> Self {
        Self { kind, bytes: Vec::new(), blobs: Vec::new() }
    }

    fn add(&mut self, chunk: &Chunk, sealer: &mut Sealer) -> Result<Amount, ArchiveError> {
        let offset = self.bytes.len();
        let uncompressed_length = sealer.seal(&chunk.bytes, &mut self.bytes)?;
        let length = self.bytes.len() - offset;
        let [offset, of_it] = [offset, length].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let name = chunk.name;
        self.blobs.push(Blob { name, id: Id::new(name), kind: self.kind, offset, length: of_it, uncompressed_length });
        Ok(Amount { chunks: 1, bytes: chunk.bytes.len() as u64, packed: length as u64 })
    }

    /// Puts the header behind it. Numbers are little-endian.
    fn close(&mut self, sealer: &mut Sealer) -> Result<(), ArchiveError> {
        let mut header = Vec::with_capacity(self.blobs.len() * 41);
        for Blob { name, kind, length, uncompressed_length, .. } in &self.blobs {
            let is_tree = u8::from(*kind == BlobType::Tree);
            header.push(if uncompressed_length.is_some() { 2 + is_tree } else { is_tree });
            header.extend(length.to_le_bytes());
            header.extend(uncompressed_length.iter().flat_map(|length| length.get().to_le_bytes()));
            header.extend(name);
        }
        let from = self.bytes.len();
        sealer.plain(&header, &mut self.bytes)?;
        let length = self.bytes.len() - from;
        self.bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        Ok(())
    }
}

/// Seals chunks into packs, until there are no more. Memory comes back in `used`: the kernel clears what is new.
///
/// # Errors
/// When that cannot be done. Whoever ends early does so without a word of its own: the other's is the cause.
pub(crate) fn seal(
    key: &MasterKey,
    chunks: &Receiver<Vec<Chunk>>,
    packs: &SyncSender<Pack>,
    used: &Receiver<Vec<u8>>,
) -> Result<Added, ArchiveError> {
    let mut sealer = Sealer::new(key)?;
    let (mut data, mut trees) = (Pack::new(BlobType::Data), Pack::new(BlobType::Tree));
    let mut added = Added::default();
    for chunk in chunks.iter().flatten() {
        let (pack, amount) = match chunk.kind {
            BlobType::Data => (&mut data, &mut added.data),
            BlobType::Tree => (&mut trees, &mut added.trees),
        };
        let Amount { chunks, bytes, packed } = pack.add(&chunk, &mut sealer)?;
        amount.chunks += chunks;
        amount.bytes += bytes;
        amount.packed += packed;
        if pack.bytes.len() as u64 >= PACK.as_u64() {
            pack.close(&mut sealer)?;
            let next = Pack { bytes: used.try_recv().unwrap_or_default(), ..Pack::new(chunk.kind) };
            if packs.send(std::mem::replace(pack, next)).is_err() {
                return Ok(added);
            }
        }
    }
    for mut pack in [data, trees] {
        if !pack.blobs.is_empty() {
            pack.close(&mut sealer)?;
            let _ = packs.send(pack); // who does not take it says why
        }
    }
    Ok(added)
}

/// Writes packs and their index, until there are no more; whether there were any.
///
/// # Errors
/// When that cannot be done, or there is no room.
pub(crate) fn write(
    key: &MasterKey,
    packs: &Receiver<Pack>,
    used: &Sender<Vec<u8>>,
    held: &Held,
) -> Result<bool, ArchiveError> {
    const ACTION: &str = "store the data";
    let mut sealer = Sealer::new(key)?;
    let mut index = Index { packs: Vec::new() };
    let (mut chunks, mut since, mut any) = (0, Instant::now(), false);
    let mut write_index = |index: &mut Index| {
        let text = serde_json::to_vec(index);
        let text = text.map_err(|error| ArchiveError::Repository { action: ACTION, why: error.to_string() })?;
        index.packs.clear();
        let sealed = sealer.file(&text)?;
        held.write_bytes(FileType::Index, &Id::new(name(&sealed)), false, sealed.into()).to(ACTION)
    };
    for Pack { bytes, blobs, .. } in packs {
        let id = Id::new(name(&bytes));
        let bytes = Bytes::from(bytes);
        held.write_bytes(FileType::Pack, &id, false, bytes.clone().into()).to(ACTION)?;
        let mut bytes = Vec::from(bytes);
        bytes.clear();
        let _ = used.send(bytes); // nobody needs it once all is sealed
        any = true;
        chunks += blobs.len();
        index.packs.push(Packed { id, blobs, time: rustic_core::jiff::Timestamp::now() });
        if chunks >= INDEX_CHUNKS || since.elapsed() >= INDEX_EVERY {
            write_index(&mut index)?;
            (chunks, since) = (0, Instant::now());
        }
    }
    if !index.packs.is_empty() {
        write_index(&mut index)?;
    }
    Ok(any)
}
