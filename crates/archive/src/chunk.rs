//! Cutting files into chunks where their content says so: a change in one place leaves the chunks elsewhere as they were.
//!
//! A gear hash runs over the bytes; where its upper bits are zero, which the last 64 bytes decide, a chunk ends. What
//! compresses (dumps, databases, text) changes in small places and is cut finely; what does not (pictures, films) is
//! never changed in places, and fine chunks of it would only be more to keep account of.
//!
//! The table of the hash follows from a number in the archive's own configuration, which is encrypted: the sizes of chunks
//! tell nobody which well-known file is there.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A SHA-256. That of a file that is backed up is taken of the SHA-256s of its chunks, so that nothing is hashed twice.
pub type Sum = [u8; 32];

/// The SHA-256 of a chunk, which is its name.
pub(crate) fn name(chunk: &[u8]) -> [u8; 32] {
    Sha256::digest(chunk).into()
}

/// How large chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    smallest: usize,
    /// A chunk ends after this many bytes more on average.
    between: u64,
    largest: usize,
}

/// 48 KiB on average. Of a database in which 2 % of the rows had changed in groups, chunks of twice the size added twice
/// as much; half the size would mean twice the index, which is read at each run.
pub(crate) const FINE: Sizes = Sizes { smallest: 16 << 10, between: 32 << 10, largest: 256 << 10 };
/// 512 KiB on average.
pub(crate) const COARSE: Sizes = Sizes { smallest: 256 << 10, between: 256 << 10, largest: 2 << 20 };

/// How many bytes a sum depends on.
const WINDOW: usize = 64;

/// The table of the hash.
pub(crate) struct Gear([u64; 256]);

impl Gear {
    /// The one that follows from a number (SplitMix64).
    pub(crate) fn new(number: u64) -> Self {
        let mut state = number;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }))
    }

    /// How long the first chunk of `bytes` is, which are a file's rest or more than the largest chunk.
    fn cut(&self, bytes: &[u8], sizes: Sizes) -> usize {
        let Sizes { smallest, between, largest } = sizes;
        let bytes = &bytes[..bytes.len().min(largest)];
        let Some((before, after)) = bytes.split_at_checked(smallest) else { return bytes.len() };
        let step = |hash: u64, byte: &u8| (hash << 1).wrapping_add(self.0[usize::from(*byte)]);
        let mut hash = before[smallest - WINDOW..].iter().fold(0, step);
        let mask = (between - 1).reverse_bits();
        for (at, byte) in after.iter().enumerate() {
            if hash & mask == 0 {
                return smallest + at;
            }
            hash = step(hash, byte);
        }
        bytes.len()
    }

    /// Tells `take` of each chunk of a file. Its first bytes say how finely it is cut. `window` is room for it.
    ///
    /// # Errors
    /// Those of reading, and of `take`.
    pub(crate) fn chunks<E: From<io::Error>>(
        &self,
        file: &mut impl Read,
        window: &mut Window,
        sizes: impl FnOnce(&[u8]) -> Sizes,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        window.clear();
        let mut has_more = window.fill(file, FINE.largest)?;
        let sizes = if window.rest().len() > FINE.smallest { sizes(window.rest()) } else { FINE };
        loop {
            if has_more && window.rest().len() < sizes.largest {
                has_more = window.fill(file, 4 * sizes.largest)?;
            }
            let rest = window.rest();
            if rest.is_empty() {
                return Ok(());
            }
            let length = self.cut(rest, sizes);
            take(&rest[..length])?;
            window.begin += length;
        }
    }
}

/// The part of a file that is looked at: room that is cleared once, and used for one file after the other.
#[derive(Default)]
pub(crate) struct Window {
    room: Vec<u8>,
    /// What of it has been read, and not been taken.
    begin: usize,
    end: usize,
}

impl Window {
    fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
    }

    fn rest(&self) -> &[u8] {
        &self.room[self.begin..self.end]
    }

    /// Reads until there are so many bytes; whether there are.
    fn fill(&mut self, file: &mut impl Read, until: usize) -> io::Result<bool> {
        self.room.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        self.room.resize(self.room.len().max(until), 0);
        while self.end < until {
            match file.read(&mut self.room[self.end..until]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u64, count: usize) -> Vec<u8> {
        let gear = (0..).flat_map(|part| Gear::new(seed << 32 | part).0).flat_map(u64::to_le_bytes);
        gear.take(count).collect()
    }

    fn chunks(bytes: &[u8], sizes: Sizes) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut take = |chunk: &[u8]| -> io::Result<()> {
            chunks.push(chunk.to_vec());
            Ok(())
        };
        Gear::new(7).chunks(&mut &*bytes, &mut Window::default(), |_| sizes, &mut take).unwrap();
        chunks
    }

    proptest! {
        // Megabytes each.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_are_the_file_and_as_large_as_said(seed in any::<u64>(), count in 0..3_000_000_usize, fine in any::<bool>()) {
            let (bytes, sizes) = (noise(seed, count), if fine { FINE } else { COARSE });
            let chunks = chunks(&bytes, sizes);
            prop_assert_eq!(chunks.concat(), bytes);
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= sizes.largest));
            let but_the_last = chunks.len().saturating_sub(1);
            prop_assert!(chunks[..but_the_last].iter().all(|chunk| chunk.len() >= sizes.smallest));
        }
    }

    #[test]
    fn a_change_leaves_the_chunks_elsewhere() {
        let before = noise(1, 4_000_000);
        let mut after = before.clone();
        after.splice(2_000_000..2_000_100, noise(2, 150));
        let (before, after) = (chunks(&before, FINE), chunks(&after, FINE));
        let anew = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!((1..=3).contains(&anew), "{anew} of {}", after.len());
        let average = 4_000_000 / before.len();
        assert!((40_000..60_000).contains(&average), "{average}");
    }

    #[test]
    fn what_has_no_end_by_its_content_is_cut_all_the_same() {
        assert!(chunks(&vec![0; 1_000_000], FINE).iter().all(|chunk| chunk.len() <= FINE.largest));
    }
}
