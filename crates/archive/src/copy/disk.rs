//! Finding a disk that is not always there, by the UUID of its file system.
//!
//! udev names a disk in `/dev/disk/by-uuid` while it is plugged in; the kernel says in `/proc/self/mountinfo` (proc(5))
//! where it is mounted. Nothing is mounted here: that is for whoever plugs it in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sovereign_model::archive_copy::DiskUuid;

/// Where the system tells of its disks.
#[derive(Debug, Clone)]
pub struct Disks {
    /// Links to devices, named by UUID.
    pub by_uuid: PathBuf,
    /// What is mounted where.
    pub mountinfo: PathBuf,
}

impl Default for Disks {
    fn default() -> Self {
        Self { by_uuid: "/dev/disk/by-uuid".into(), mountinfo: "/proc/self/mountinfo".into() }
    }
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unplugged {
    /// It is not there.
    #[error("disk {0} is not plugged in")]
    Absent(DiskUuid),
    /// It is there, and not mounted.
    #[error("disk {0} is plugged in and not mounted")]
    NotMounted(DiskUuid),
    /// The system does not say.
    #[error("cannot find out which disks are there")]
    Unknown(#[source] io::Error),
}

impl Disks {
    /// Where the file system of this UUID is mounted.
    ///
    /// # Errors
    /// When it is not.
    pub fn mounted(&self, uuid: &DiskUuid) -> Result<PathBuf, Unplugged> {
        let device = match fs::canonicalize(self.by_uuid.join(uuid.as_str())) {
            Ok(device) => device,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unplugged::Absent(uuid.clone())),
            Err(error) => return Err(Unplugged::Unknown(error)),
        };
        let numbers = match device.metadata() {
            Ok(metadata) => metadata.rdev(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unplugged::Absent(uuid.clone())),
            Err(error) => return Err(Unplugged::Unknown(error)),
        };
        let mountinfo = fs::read_to_string(&self.mountinfo).map_err(Unplugged::Unknown)?;
        let numbers = format!("{}:{}", rustix::fs::major(numbers), rustix::fs::minor(numbers));
        // The last one: what is mounted over another hides it.
        mountinfo
            .lines()
            .rev()
            .find_map(|line| mount_point(line, &numbers, &device))
            .ok_or_else(|| Unplugged::NotMounted(uuid.clone()))
    }
}

/// Where a line of mountinfo says that the whole of this device is mounted. btrfs has numbers of its own and often a
/// subvolume as its root, so there the device's name counts.
fn mount_point(line: &str, numbers: &str, device: &Path) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let (its_numbers, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    let mut fields = file_system.split(' ');
    let (kind, source) = (fields.next()?, fields.next()?);
    let is_it = match kind {
        "btrfs" => fs::canonicalize(plain(source)).is_ok_and(|source| source == device),
        _ => its_numbers == numbers && root == "/",
    };
    is_it.then(|| plain(point))
}

/// Space, tab, line break and backslash are written in octal there.
fn plain(text: &str) -> PathBuf {
    let replaced = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid() -> DiskUuid {
        "2f6a-11D0".parse().unwrap()
    }

    #[test]
    fn a_disk_is_where_the_kernel_says() {
        let folder = tempfile::tempdir().unwrap();
        let by_uuid = folder.path().join("by-uuid");
        fs::create_dir(&by_uuid).unwrap();
        let disks = Disks { by_uuid: by_uuid.clone(), mountinfo: folder.path().join("mountinfo") };
        let said = |disks: &Disks| disks.mounted(&uuid()).unwrap_err().to_string();
        assert_eq!(said(&disks), "disk 2f6a-11D0 is not plugged in");
        // /dev/null is a device everywhere: 1:3.
        std::os::unix::fs::symlink("/dev/null", by_uuid.join("2f6a-11D0")).unwrap();
        assert!(matches!(disks.mounted(&uuid()), Err(Unplugged::Unknown(_))));
        let others = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 1:3 /etc /mnt/part rw - ext4 /dev/null rw\nnonsense\n";
        fs::write(&disks.mountinfo, others).unwrap();
        assert_eq!(said(&disks), "disk 2f6a-11D0 is plugged in and not mounted");
        let line = "24 22 1:3 / /media/my\\040disk rw,nosuid shared:1 - vfat /dev/null rw\n";
        fs::write(&disks.mountinfo, format!("{others}{line}")).unwrap();
        assert_eq!(disks.mounted(&uuid()).unwrap(), Path::new("/media/my disk"));
        let line = "24 22 0:44 /@ /media/b rw,nosuid - btrfs /dev/null rw,subvol=/@\n";
        fs::write(&disks.mountinfo, format!("{others}{line}")).unwrap();
        assert_eq!(disks.mounted(&uuid()).unwrap(), Path::new("/media/b"));
        // A link that udev has not removed yet.
        let link = by_uuid.join("2f6a-11D0");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/dev/no-such-disk", &link).unwrap();
        assert_eq!(said(&disks), "disk 2f6a-11D0 is not plugged in");
    }
}
