//! Which user ids can be given to units.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use sovereign_model::{Digest, UnitName};

/// The range systemd keeps for users that exist only while a service runs; no account is made in it.
const FIRST: u32 = 61_184;
const LAST: u32 = 65_519;

/// Ids without an account or a running process, beginning at one that follows from stack folder and unit: two stacks
/// on one machine begin at different ones, and a unit that lost its record gets the same one again.
pub(crate) fn candidates(state: &std::path::Path, unit: &UnitName) -> impl Iterator<Item = u32> + use<> {
    let digest = Digest::of(format!("{}\0{unit}", state.display()));
    let [a, b, c, d, ..] = *digest.as_bytes();
    let count = LAST - FIRST + 1;
    let start = u32::from_be_bytes([a, b, c, d]) % count;
    let taken = taken();
    (0..count).map(move |step| FIRST + (start + step) % count).filter(move |id| !taken.contains(id))
}

fn taken() -> BTreeSet<u32> {
    let accounts = ["/etc/passwd", "/etc/group"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect::<Vec<u32>>());
    let running = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    accounts.chain(running.filter_map(|entry| Some(entry.metadata().ok()?.uid()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_unit_begins_at_the_same_id_and_another_elsewhere() {
        let first = |state: &str, unit: &str| candidates(state.as_ref(), &unit.parse().unwrap()).next().unwrap();
        assert_eq!(first("/s", "ghost-blog@home"), first("/s", "ghost-blog@home"));
        assert_ne!(first("/s", "ghost-blog@home"), first("/s", "ghost-shop@home"));
        assert!((FIRST..=LAST).contains(&first("/s", "a@b")));
    }
}
