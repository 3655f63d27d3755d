//! The data of units as it is and as it was: volumes that are kept, filled from others and put back, while nothing uses them.
//!
//! Promises: what is kept is a snapshot of the volume itself, so that keeping takes no room and putting back takes no time
//! that depends on its size; what fills a volume comes from another on the same host, whose blocks are shared where the
//! file system can. That a volume was filled is written on it last, so that one that was half filled is told from a whole
//! one. Left out: when any of this is to be done, and what was kept for which restore.

use std::path::Path;

use sovereign_incus::{SnapshotName, VolumeName};
use sovereign_model::UnitName;

use super::error::InstancesError;
use super::ground::unless_gone;
use super::host::InstanceHost;
use super::run::Tell;
use super::{Instances, health, names};

/// On a volume: what it was filled with last.
const KEY_HOLDS: &str = "user.sovereign.holds";

/// How snapshots of what a restore has replaced are called. Conversions have names of their own ([`names::BEFORE`]).
const REPLACED: &str = "replaced-";

/// Empties the volume at `$2`, and copies all that is in the one at `$1` into it. No link is followed.
const FILL: &str = "\
set -eu
[ -d \"$1\" ]
[ -d \"$2\" ]
find \"$2\" -xdev -mindepth 1 -delete
cp -a --reflink=auto -- \"$1/.\" \"$2/\"
sync -f \"$2\"
";

/// A volume of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfUnit<'a> {
    /// The unit.
    pub unit: &'a UnitName,
    /// The volume, by its name in the unit's description.
    pub volume: &'a str,
}

impl OfUnit<'_> {
    fn name(&self) -> Result<VolumeName, InstancesError> {
        Ok(names::volume(self.unit, self.volume)?)
    }
}

impl<H: InstanceHost> Instances<'_, H> {
    /// Stops all instances of a unit, and sees that no start of the host starts them. They stay, until [`Instances::revive`].
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn halt(&self, unit: &UnitName) -> Result<(), InstancesError> {
        let listing = self.list().await?;
        for ours in listing.unit(unit) {
            self.park(ours).await?;
        }
        Ok(())
    }

    /// Has the current instance of a unit run again, and be well; `false` when there is none.
    ///
    /// # Errors
    /// When the host does not obey, or it does not become well.
    pub async fn revive(&self, unit: &UnitName, progress: Tell<'_>) -> Result<bool, InstancesError> {
        let listing = self.list().await?;
        let Some(ours) = listing.current(unit) else { return Ok(false) };
        self.keep_running(ours, progress).await?;
        Ok(true)
    }

    /// Keeps a volume as it is now, under a number. Nothing happens when that is kept already.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn keep(&self, of: &OfUnit<'_>, number: u32) -> Result<(), InstancesError> {
        if self.keeps(of, number).await? {
            return Ok(());
        }
        Ok(self.client.snapshot_volume(&names::pool(), &of.name()?, &replaced(number)?).await?)
    }

    /// Whether a volume is kept under a number.
    ///
    /// # Errors
    /// When the host does not answer, or there is no such volume.
    pub async fn keeps(&self, of: &OfUnit<'_>, number: u32) -> Result<bool, InstancesError> {
        Ok(self.kept(of).await?.contains(&number))
    }

    /// The numbers under which a volume is kept.
    ///
    /// # Errors
    /// When the host does not answer, or there is no such volume.
    pub async fn kept(&self, of: &OfUnit<'_>) -> Result<Vec<u32>, InstancesError> {
        let snapshots = self.client.volume_snapshots(&names::pool(), &of.name()?).await?;
        let names = snapshots.into_iter().filter_map(|snapshot| snapshot.name);
        Ok(names.filter_map(|name| name.as_str().strip_prefix(REPLACED)?.parse().ok()).collect())
    }

    /// Makes a volume what it was when it was kept under a number, which it stays. Its units are halted.
    ///
    /// # Errors
    /// When that is not kept, or the host does not obey.
    pub async fn put_back(&self, of: &OfUnit<'_>, number: u32) -> Result<(), InstancesError> {
        Ok(self.client.restore_volume(&names::pool(), &of.name()?, &replaced(number)?).await?)
    }

    /// Removes what is kept of a volume under a number, if it is.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn forget_kept(&self, of: &OfUnit<'_>, number: u32) -> Result<(), InstancesError> {
        let removed = self.client.delete_volume_snapshot(&names::pool(), &of.name()?, &replaced(number)?).await;
        Ok(unless_gone(removed)?)
    }

    /// Puts all that is in one volume into another, in the place of what is there. No unit of either runs.
    ///
    /// # Errors
    /// When the host does not obey; then the other volume may be half filled.
    pub async fn fill(&self, from: &OfUnit<'_>, to: &OfUnit<'_>) -> Result<(), InstancesError> {
        let [from, to] = [from, to].map(|of| names::volume_folder(of.unit, of.volume));
        let (from, to) = (from?, to?);
        let words = ["sh", "-c", FILL, "sovereign", text(&from), text(&to)];
        let answer = self.host.run(&words).await.map_err(InstancesError::host)?;
        if answer.code == 0 {
            return Ok(());
        }
        Err(InstancesError::NotFilled { path: to, said: health::bounded(answer.stderr.as_bytes(), 4) })
    }

    /// What a volume was filled with last, as it was written on it.
    ///
    /// # Errors
    /// When the host does not answer, or there is no such volume.
    pub async fn holds(&self, of: &OfUnit<'_>) -> Result<Option<String>, InstancesError> {
        let found = self.client.volume(&names::pool(), &of.name()?).await?;
        Ok(found.value.config.get(KEY_HOLDS).cloned())
    }

    /// Writes on a volume what it was filled with; `None`: with nothing.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn set_holds(&self, of: &OfUnit<'_>, what: Option<&str>) -> Result<(), InstancesError> {
        let mut found = self.client.volume(&names::pool(), &of.name()?).await?;
        let before = match what {
            Some(what) => found.value.config.insert(KEY_HOLDS.to_owned(), what.to_owned()),
            None => found.value.config.remove(KEY_HOLDS),
        };
        if before.as_deref() == what {
            return Ok(());
        }
        Ok(self.client.update_volume(&names::pool(), &found).await?)
    }

    /// Removes a unit with all that is on its volumes.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn remove_with_data(&self, unit: &UnitName, volumes: &[&str]) -> Result<(), InstancesError> {
        if self.list().await?.unit(unit).next().is_some() {
            self.stop(unit).await?;
        }
        for volume in volumes {
            let name = OfUnit { unit, volume }.name()?;
            unless_gone(self.client.delete_volume(&names::pool(), &name).await)?;
        }
        Ok(())
    }
}

fn replaced(number: u32) -> Result<SnapshotName, InstancesError> {
    Ok(format!("{REPLACED}{number}").parse()?)
}

/// Paths of ours are text.
fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_volume_is_filled_with_what_is_in_another_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to, elsewhere] = ["from", "to", "elsewhere"].map(|name| folder.path().join(name));
        for place in [&from, &to, &elsewhere] {
            fs::create_dir_all(place.join("data")).unwrap();
            fs::write(place.join("data/whose"), place.to_str().unwrap()).unwrap();
        }
        fs::write(to.join(".hidden"), "of before").unwrap();
        symlink(&elsewhere, to.join("link")).unwrap();
        symlink(&elsewhere, from.join("lead")).unwrap();
        let fill = |from: &Path| {
            Command::new("sh").args(["-c", FILL, "sovereign"]).args([from, &to]).output().unwrap().status.success()
        };
        for _ in 0..2 {
            assert!(fill(&from));
            let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["data", "lead"]);
            assert_eq!(fs::read_to_string(to.join("data/whose")).unwrap(), from.to_str().unwrap());
            assert!(elsewhere.join("data/whose").exists() && to.join("lead").is_symlink());
        }
        // Where nothing is, nothing is emptied for it.
        assert!(!fill(&folder.path().join("none")) && to.join("data/whose").exists());
    }

    #[test]
    fn what_restores_replace_is_not_taken_for_what_conversions_do() {
        assert_eq!(replaced(7).unwrap().as_str(), "replaced-7");
        assert!(!replaced(7).unwrap().as_str().starts_with(names::BEFORE));
    }
}
