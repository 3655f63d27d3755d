//! Sealing what goes into the repository, as restic has it: compressed by zstd, encrypted by AES-256 in counter mode,
//! authenticated by Poly1305-AES.
//!
//! The library does the same with a new compressor for each chunk, whose tables alone cost more than the chunk. Reading is
//! left to it: whatever is sealed here is read back, and compared, by code that is not this.

use std::num::NonZeroU32;

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use rustic_core::repofile::MasterKey;
use zeroize::Zeroizing;
use zstd::bulk::Compressor;

use crate::error::ArchiveError;

const NONCE: usize = 16;
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
        let parts = Zeroizing::new([key.encrypt.as_slice(), &key.mac.k, &key.mac.r].concat());
        if parts.len() != size_of::<Key>() {
            return Err(failed("the archive's key is none"));
        }
        let compressor = Compressor::new(LEVEL).map_err(failed)?;
        Ok(Self { cipher: Aes256CtrPoly1305Aes::new(Key::from_slice(&parts)), compressor, room: Vec::new() })
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

/// What is not a sixteenth smaller is read faster as it is.
fn is_worth(compressed: usize, bytes: &[u8]) -> bool {
    compressed < bytes.len() - bytes.len() / 16
}

/// So many bytes of the room.
struct Compressed(usize);

#[cfg(test)]
mod tests {
    use aes256ctr_poly1305aes::aead::{Aead as _, Payload};

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
            let (nonce, sealed) = sealed[6..].split_at(NONCE);
            let payload = Payload { msg: sealed, aad: &[] };
            let opened = sealer.cipher.decrypt(Nonce::from_slice(nonce), payload).unwrap();
            let opened = if whole.is_some() { zstd::decode_all(&*opened).unwrap() } else { opened };
            assert_eq!(opened, bytes);
            let mut damaged = sealed.to_vec();
            damaged[50] ^= 1;
            let payload = Payload { msg: &damaged, aad: &[] };
            assert!(sealer.cipher.decrypt(Nonce::from_slice(nonce), payload).is_err());
        }
    }

    #[test]
    fn a_key_that_is_none_seals_nothing() {
        let mut key = MasterKey::new();
        key.encrypt.pop();
        assert!(Sealer::new(&key).is_err());
    }
}
