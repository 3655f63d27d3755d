//! What things of ours are called in an Incus and on its host. Names follow from descriptions: nobody remembers them.

use std::path::{Path, PathBuf};

use sovereign_incus::{InstanceName, InvalidName, NetworkName, PoolName, ProjectName, SnapshotName, VolumeName};
use sovereign_model::{Digest, UnitName, instance::bridge};

/// An instance's name is a host's name too: 63 characters, of which a digest takes thirteen.
const LONGEST_UNIT: usize = 48;

/// Where Debian's package has the Incus of a host.
const INCUS: &str = "/var/lib/incus";

/// How the interfaces of instances begin on the host. What they let through is decided by that.
pub(super) const INTERFACES: &str = "sovi";

/// The project that everything is in.
pub(super) fn project() -> ProjectName {
    "sovereign".parse().expect("it is a name")
}

/// The pool that volumes and root file systems are in.
pub(super) fn pool() -> PoolName {
    "sovereign".parse().expect("it is a name")
}

/// The bridge.
pub(super) fn network() -> NetworkName {
    bridge::NAME.parse().expect("it is a name")
}

/// The instance of a unit by one description. Letters, digits and `-`, and a letter first.
pub(super) fn instance(unit: &UnitName, digest: &Digest) -> Result<InstanceName, InvalidName> {
    let unit = unit.as_str().replace('@', "-");
    let first = if unit.starts_with(|c: char| c.is_ascii_digit()) { "u" } else { "" };
    format!("{first}{}-{}", &unit[..unit.len().min(LONGEST_UNIT)], digest.short()).parse()
}

/// A volume of a unit. No name of a unit has a dot in it.
pub(super) fn volume(unit: &UnitName, volume: &str) -> Result<VolumeName, InvalidName> {
    format!("{}.{volume}", unit.as_str().replace('@', ".")).parse()
}

/// Where a volume of a unit lies on the host.
///
/// # Errors
/// When the unit's name makes no volume's name.
pub fn volume_folder(unit: &UnitName, volume: &str) -> Result<PathBuf, InvalidName> {
    let name = self::volume(unit, volume)?;
    let pool = Path::new(INCUS).join("storage-pools").join(pool().as_str());
    Ok(pool.join("custom").join(format!("{}_{name}", project())))
}

/// What a volume was before the description of that digest converted it.
pub(super) fn before(digest: &Digest) -> Result<SnapshotName, InvalidName> {
    format!("{BEFORE}{}", digest.short()).parse()
}

/// How such snapshots begin.
pub(super) const BEFORE: &str = "before-";

/// The interface of an instance on the host: fifteen characters, as long as one can be.
pub(super) fn interface(digest: &Digest) -> String {
    format!("{INTERFACES}{}", &digest.hex()[..11])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_incus_and_the_kernel_take() {
        let digest = Digest::of("x");
        for unit in ["ghost-blog@home", "9to5", &format!("ghost-{}@{}", "b".repeat(63), "d".repeat(63))] {
            let unit: UnitName = unit.parse().unwrap();
            let name = instance(&unit, &digest).unwrap();
            let name = name.as_str();
            assert!(name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && name.ends_with(&digest.short()));
        }
        assert_eq!(interface(&digest).len(), 15);
        assert_eq!(volume(&"ghost-blog@home".parse().unwrap(), "content").unwrap().as_str(), "ghost-blog.home.content");
    }
}
