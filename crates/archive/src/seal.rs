//! Sealing what goes into the repository, as restic has it: compressed by zstd, encrypted by AES-256 in counter mode,
//! authenticated by Poly1305-AES.
//!
//! The library does the same with a new compressor for each chunk, and a new decompressor, whose tables alone cost more
//! than the chunk. It still reads everything else of the repository, and all of it where an archive is checked.

use std::num::NonZeroU32;

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use bytes::Bytes;
use rustic_core::repofile::MasterKey;
use zeroize::Zeroizing;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::ArchiveError;

const NONCE: usize = 16;
const TAG: usize = 16;
const LEVEL: i32 = 3;
/// What stands before a file of the repository that is compressed.
const COMPRESSED_FILE: u8 = 2;
/// Enough to say whether a chunk compresses.
const SAMPLE: usize = 8 << 10;

/// Seals one thing after another.
pub(crate) struct Sealer {
    cipher: Aes256CtrPoly1305Aes,
    compressor: Compressor<'static>,
    /// Room for what is compressed.
    room: Vec<u8>,
}

fn failed(why: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Repository { action: "seal what is stored", why: why.to_string() }
}

impl Sealer {
    pub(crate) fn new(key: &MasterKey) -> Result<Self, ArchiveError> {
        Ok(Self {
            cipher: cipher(key).ok_or_else(|| failed("the archive's key is none"))?,
            compressor: Compressor::new(LEVEL).map_err(failed)?,
            room: Vec::new(),
        })
    }

    /// Whether it is worth compressing: a sample from the middle says it.
    pub(crate) fn compresses(&mut self, bytes: &[u8]) -> Result<bool, ArchiveError> {
        let from = bytes.len().saturating_sub(SAMPLE) / 2;
        let sample = &bytes[from..bytes.len().min(from + SAMPLE)];
        Ok(is_worth(self.compress(sample)?, sample))
    }

    /// Into the room; how long it is then.
    fn compress(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        self.room.resize(self.room.len().max(zstd::zstd_safe::compress_bound(bytes.len())), 0);
        self.compressor.compress_to_buffer(bytes, &mut self.room[..]).map_err(failed)
    }

    /// Puts `bytes` sealed behind what is in `to`. When they are compressed, it says how long they were.
    pub(crate) fn seal(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> Result<Option<NonZeroU32>, ArchiveError> {
        // A sample of something small is nearly all of it.
        if bytes.len() <= 4 * SAMPLE || self.compresses(bytes)? {
            let length = self.compress(bytes)?;
            if is_worth(length, bytes) {
                self.encrypt(&[], Compressed(length), to)?;
                return Ok(NonZeroU32::new(u32::try_from(bytes.len()).map_err(failed)?));
            }
        }
        self.encrypt(bytes, Compressed(0), to)?;
        Ok(None)
    }

    /// A file of the repository: an index, a snapshot.
    pub(crate) fn file(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let length = self.compress(bytes)?;
        let mut sealed = Vec::new();
        self.encrypt(&[COMPRESSED_FILE], Compressed(length), &mut sealed)?;
        Ok(sealed)
    }

    /// As it is: the header of a pack, a key.
    pub(crate) fn plain(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> Result<(), ArchiveError> {
        self.encrypt(bytes, Compressed(0), to)
    }

    /// `bytes`, and behind them what was compressed.
    fn encrypt(&mut self, bytes: &[u8], Compressed(length): Compressed, to: &mut Vec<u8>) -> Result<(), ArchiveError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(failed)?;
        to.extend(nonce);
        let from = to.len();
        to.extend(bytes);
        to.extend(&self.room[..length]);
        let sealed = self.cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], &mut to[from..]);
        to.extend(sealed.map_err(failed)?);
        Ok(())
    }
}

fn cipher(key: &MasterKey) -> Option<Aes256CtrPoly1305Aes> {
    let parts = Zeroizing::new([key.encrypt.as_slice(), &key.mac.k, &key.mac.r].concat());
    (parts.len() == size_of::<Key>()).then(|| Aes256CtrPoly1305Aes::new(Key::from_slice(&parts)))
}

/// Opens one chunk after another.
pub(crate) struct Opener {
    cipher: Aes256CtrPoly1305Aes,
    decompressor: Decompressor<'static>,
    /// Room for what was opened, and for what was compressed before.
    opened: Vec<u8>,
    whole: Vec<u8>,
}

fn damaged(why: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Repository { action: "read a chunk", why: why.to_string() }
}

impl Opener {
    pub(crate) fn new(key: &MasterKey) -> Result<Self, ArchiveError> {
        Ok(Self {
            cipher: cipher(key).ok_or_else(|| damaged("the archive's key is none"))?,
            decompressor: Decompressor::new().map_err(damaged)?,
            opened: Vec::new(),
            whole: Vec::new(),
        })
    }

    /// What was sealed; `whole` is how long it was when it was compressed.
    ///
    /// # Errors
    /// When a bit of it is not as it was, or it is not so long.
    pub(crate) fn open(&mut self, sealed: Bytes, whole: Option<NonZeroU32>) -> Result<&[u8], ArchiveError> {
        self.opened = Vec::from(sealed);
        let parts = self.opened.split_first_chunk_mut::<NONCE>();
        let parts = parts.and_then(|(nonce, rest)| Some((nonce, rest.split_last_chunk_mut::<TAG>()?)));
        let Some((nonce, (content, tag))) = parts else { return Err(damaged("it is too short")) };
        let opened =
            self.cipher.decrypt_in_place_detached(Nonce::from_slice(nonce), &[], content, Tag::from_slice(tag));
        opened.map_err(|_| damaged("it is damaged, or sealed with another key"))?;
        let Some(whole) = whole else { return Ok(content) };
        // Whoever has the key has written how long it is.
        self.whole.resize(self.whole.len().max(whole.get() as usize), 0);
        let length = self.decompressor.decompress_to_buffer(content, &mut self.whole[..]).map_err(damaged)?;
        if length != whole.get() as usize {
            return Err(damaged(format_args!("it has {length} bytes, and had {whole}")));
        }
        Ok(&self.whole[..length])
    }
}

/// What is not a sixteenth smaller is read faster as it is.
fn is_worth(compressed: usize, bytes: &[u8]) -> bool {
    compressed < bytes.len() - bytes.len() / 16
}

/// So many bytes of the room.
struct Compressed(usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compresses_is_compressed_and_all_of_it_can_be_opened() {
        let key = MasterKey::new();
        let mut sealer = Sealer::new(&key).unwrap();
        let text = b"a site that nobody reads twice; ".repeat(5000);
        let mut noise = vec![0; 100_000];
        getrandom::fill(&mut noise).unwrap();
        for (bytes, compresses) in [(&text[..], true), (&text[..100], true), (&noise, false), (&noise[..100], false)] {
            let mut sealed = b"before".to_vec();
            let whole = sealer.seal(bytes, &mut sealed).unwrap();
            assert_eq!(whole.is_some(), compresses, "{} bytes", bytes.len());
            let mut opener = Opener::new(&key).unwrap();
            let mut sealed = sealed.split_off(6);
            assert_eq!(opener.open(sealed.clone().into(), whole).unwrap(), bytes);
            let longer = NonZeroU32::new(bytes.len() as u32 + 1);
            assert!(opener.open(sealed.clone().into(), longer).is_err());
            assert!(opener.open(sealed[..NONCE + TAG - 1].to_vec().into(), whole).is_err());
            assert!(Opener::new(&MasterKey::new()).unwrap().open(sealed.clone().into(), whole).is_err());
            sealed[50] ^= 1;
            assert!(opener.open(sealed.into(), whole).is_err());
        }
    }

    #[test]
    fn a_key_that_is_none_seals_nothing() {
        let mut key = MasterKey::new();
        key.encrypt.pop();
        assert!(Sealer::new(&key).is_err());
        assert!(Opener::new(&key).is_err());
    }
}
