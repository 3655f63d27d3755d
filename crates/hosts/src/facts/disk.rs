//! The disks of a host, as `lsblk` tells them.

use serde::{Deserialize, Serialize};

/// A disk as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Its device: `/dev/sdb`.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What is on it: partitions, file systems, where they are mounted. Empty when nothing is.
    pub holds: Vec<String>,
}

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

/// Other versions of `lsblk` write numbers as texts, or one mount point instead of several.
#[derive(Deserialize)]
struct Device {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    size: serde_json::Value,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    ro: serde_json::Value,
    #[serde(default)]
    fstype: Option<String>,
    #[serde(default)]
    pttype: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Self>,
}

/// Deeper is no stack of partitions, encryption and volumes.
const DEEPEST: usize = 8;
/// More is told of no disk.
const MOST_HELD: usize = 64;

/// The disks in a listing; `None` when it is none.
pub(super) fn parse(text: &str) -> Option<Vec<Disk>> {
    let listing: Listing = serde_json::from_str(text).ok()?;
    let disks = listing.blockdevices.iter().filter(|device| device.kind.as_deref() == Some("disk"));
    Some(disks.filter_map(Device::disk).filter(|disk| disk.size > 0).collect())
}

impl Device {
    fn disk(&self) -> Option<Disk> {
        let size = match &self.size {
            serde_json::Value::String(text) => text.parse().ok()?,
            number => number.as_u64()?,
        };
        let path = self.path.clone().filter(|path| {
            path.strip_prefix("/dev/").is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.:!/".contains(&byte))
            }) && !path.contains("..")
        })?;
        let read_only = matches!(&self.ro, serde_json::Value::Bool(true)) || self.ro == "1" || self.ro == 1;
        let mut holds = Vec::new();
        self.tell(&mut holds, DEEPEST);
        holds.truncate(MOST_HELD);
        Some(Disk { path, size, read_only, holds })
    }

    fn tell(&self, holds: &mut Vec<String>, deep: usize) {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        if let Some(table) = &self.pttype {
            // A partition repeats the table that it is in.
            if self.kind.as_deref() == Some("disk") {
                holds.push(format!("a partition table ({})", clean(table)));
            }
        }
        let mounted = self.mountpoints.iter().flatten().map(|path| clean(path)).collect::<Vec<_>>().join(", ");
        let mounted = if mounted.is_empty() { mounted } else { format!(", mounted at {mounted}") };
        let path = clean(self.path.as_deref().unwrap_or("a part of it"));
        match &self.fstype {
            Some(kind) => holds.push(format!("{} on {path}{mounted}", clean(kind))),
            None if !mounted.is_empty() => holds.push(format!("{path}{mounted}")),
            None if self.kind.as_deref() != Some("disk") => holds.push(path),
            None => {}
        }
        if let Some(deep) = deep.checked_sub(1) {
            self.children.iter().for_each(|child| child.tell(holds, deep));
        } else if !self.children.is_empty() {
            holds.push("more".to_owned());
        }
    }
}
