//! A table of addresses in the MaxMind DB format, version 2.0: what name servers read who answers by geography.
//!
//! ```text
//! tree of bits ── per node two records of 24 bits: another node, a place in the data, or nothing
//! 16 zeros
//! data         ── per class a map: {"nearest": <name of the class>}
//! marker, metadata
//! ```
//!
//! Ranges are put in in ascending order, neighbours of one class as one, so that the tree is the smallest there is: two
//! halves of a node never say the same. IPv4 is below `::/96`, as readers expect it.

/// So many nodes at most, so that every place fits into 24 bits with room for the data, and the tree into 130 MB. Debian's
/// files need about a million.
const MOST_NODES: usize = (1 << 24) - (1 << 20);

/// Nothing is known of these addresses.
const NOTHING: u32 = u32::MAX;
/// With this bit a record is a class, without it another node.
const CLASS: u32 = 1 << 31;

/// The tree has no room for so many ranges, or the data none for such names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more ranges of addresses than a table can hold, {MOST_NODES} nodes")]
pub struct TooLarge;

/// A table that is being made.
#[derive(Debug)]
pub struct Table {
    nodes: Vec<[u32; 2]>,
    most: usize,
    classes: Vec<String>,
}

impl Table {
    /// An empty one with these classes.
    pub fn new(classes: Vec<String>) -> Self {
        Self { nodes: vec![[NOTHING; 2]], most: MOST_NODES, classes }
    }

    /// Gives the addresses from `first` to `last` the class of this index. None of them may have one yet.
    ///
    /// # Errors
    /// When there is no room left.
    pub fn put(&mut self, first: u128, last: u128, class: usize) -> Result<(), TooLarge> {
        let class = u32::try_from(class).map_err(|_| TooLarge)? | CLASS;
        let mut next = Some(first);
        // Cut into blocks that begin at a multiple of their size.
        while let Some(begin) = next.filter(|begin| *begin <= last) {
            let left = last - begin;
            let fits = if left == u128::MAX { 127 } else { (left + 1).ilog2() };
            let bits = begin.trailing_zeros().min(fits).min(127);
            self.put_block(begin, 128 - bits, class)?;
            next = begin.checked_add(1 << bits);
        }
        Ok(())
    }

    fn put_block(&mut self, address: u128, length: u32, record: u32) -> Result<(), TooLarge> {
        let side = |depth: u32| usize::from(address >> (127 - depth) & 1 == 1);
        let mut node = 0;
        for depth in 0..length - 1 {
            let next = self.nodes[node][side(depth)];
            node = if next & CLASS == 0 { next as usize } else { self.grow(node, side(depth))? };
        }
        self.nodes[node][side(length - 1)] = record;
        Ok(())
    }

    /// A new node where there was none.
    fn grow(&mut self, node: usize, side: usize) -> Result<usize, TooLarge> {
        let new = self.nodes.len();
        if new >= self.most {
            return Err(TooLarge);
        }
        self.nodes.push([self.nodes[node][side]; 2]);
        self.nodes[node][side] = u32::try_from(new).map_err(|_| TooLarge)?;
        Ok(new)
    }

    /// The whole file.
    ///
    /// # Errors
    /// When the names of the classes are too long for it.
    pub fn to_bytes(&self, built_unix: u64) -> Result<Vec<u8>, TooLarge> {
        let mut data = Vec::new();
        let mut places = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            places.push(data.len());
            map(&mut data, 1);
            text(&mut data, "nearest");
            text(&mut data, class);
        }
        let count = self.nodes.len();
        let mut file = Vec::with_capacity(count * 6 + data.len() + 512);
        for record in self.nodes.iter().flatten() {
            let value = match *record {
                NOTHING => count,
                class if class & CLASS != 0 => {
                    let place = places.get((class & !CLASS) as usize).ok_or(TooLarge)?;
                    count + SEPARATOR.len() + place
                }
                node => node as usize,
            };
            let value = u32::try_from(value).ok().filter(|value| value >> 24 == 0).ok_or(TooLarge)?;
            file.extend(&value.to_be_bytes()[1..]);
        }
        file.extend(SEPARATOR);
        file.extend(data);
        file.extend(MARKER);
        metadata(&mut file, u32::try_from(count).map_err(|_| TooLarge)?, built_unix);
        Ok(file)
    }
}

/// Between the tree and the data.
const SEPARATOR: [u8; 16] = [0; 16];
/// Before the metadata.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// Types of values, as the format numbers them.
const TEXT: u8 = 2;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const UINT64: u8 = 9;
const LIST: u8 = 11;

fn metadata(into: &mut Vec<u8>, nodes: u32, built_unix: u64) {
    map(into, 9);
    text(into, "binary_format_major_version");
    number(into, UINT16, 2);
    text(into, "binary_format_minor_version");
    number(into, UINT16, 0);
    text(into, "build_epoch");
    number(into, UINT64, built_unix);
    text(into, "database_type");
    text(into, "Sovereign-Nearest");
    text(into, "description");
    map(into, 1);
    text(into, "en");
    text(into, "data centers, nearest first; made of the IPFire Location database, CC BY-SA 4.0");
    text(into, "ip_version");
    number(into, UINT16, 6);
    text(into, "languages");
    control(into, LIST, 0);
    text(into, "node_count");
    number(into, UINT32, u64::from(nodes));
    text(into, "record_size");
    number(into, UINT16, 24);
}

/// The byte that says what follows, and how much: types from 8 on and sizes from 29 on need more bytes.
fn control(into: &mut Vec<u8>, kind: u8, size: usize) {
    let (short, more): (u8, &[u8]) = match size {
        0..29 => (size as u8, &[]),
        29..285 => (29, &[(size - 29) as u8]),
        285..65_821 => (30, &((size - 285) as u16).to_be_bytes()),
        _ => (31, &((size - 65_821) as u32).to_be_bytes()[1..]),
    };
    if kind < 8 {
        into.push(kind << 5 | short);
    } else {
        into.extend([short, kind - 7]);
    }
    into.extend(more);
}

fn map(into: &mut Vec<u8>, pairs: usize) {
    control(into, MAP, pairs);
}

fn text(into: &mut Vec<u8>, value: &str) {
    control(into, TEXT, value.len());
    into.extend(value.as_bytes());
}

fn number(into: &mut Vec<u8>, kind: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let short = &bytes[value.leading_zeros() as usize / 8..];
    control(into, kind, short.len());
    into.extend(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_full_says_so() {
        let mut table = Table { most: 5000, ..Table::new(vec!["a".into(), "b".into()]) };
        // Two classes in turn: no two addresses are one.
        let full = (0..u128::MAX).find(|address| table.put(*address, *address, *address as usize % 2).is_err());
        assert!(full.is_some_and(|address| address > 4000) && table.nodes.len() == 5000, "{full:?}");
        table.most = 6000;
        assert_eq!(table.put(u128::MAX, u128::MAX, 1), Ok(()));
        assert_eq!(table.put(0, 0, 2), Ok(()));
        assert_eq!(table.to_bytes(0), Err(TooLarge), "no class has this number");
    }

    #[test]
    fn everything_can_have_one_class() {
        let mut table = Table::new(vec!["a".into()]);
        table.put(0, u128::MAX, 0).unwrap();
        assert_eq!(table.nodes, [[CLASS; 2]]);
    }

    #[test]
    fn sizes_are_written_as_the_format_says() {
        let written = |size| {
            let mut into = Vec::new();
            control(&mut into, TEXT, size);
            into
        };
        assert_eq!(written(28), [0x5c]);
        assert_eq!(written(29), [0x5d, 0]);
        assert_eq!(written(284), [0x5d, 255]);
        assert_eq!(written(285), [0x5e, 0, 0]);
        assert_eq!(written(65_820), [0x5e, 255, 255]);
        assert_eq!(written(65_821), [0x5f, 0, 0, 0]);
        let mut into = Vec::new();
        number(&mut into, UINT64, 0);
        number(&mut into, UINT16, 258);
        assert_eq!(into, [0, 2, 0xa2, 1, 2]);
    }
}
