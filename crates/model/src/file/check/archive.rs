//! What is said about the archive: where it is, when something is done with it, what is kept in it, and where its copies
//! are.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Check, Declared, Places};
use crate::archive_copy::{ArchiveCopy, CopyFormat, CopyPlace, SftpPlace};
use crate::file::problem::{Finding, ProblemKind};
use crate::file::reader::Node;
use crate::interval::Interval;
use crate::keep_rules::KeepRules;
use crate::name::{CopyName, DatacenterName, SiteName};
use crate::stack::{Archive, Site};

/// The keys of a copy that say where it is. `folder` does too, unless it is one on a disk.
const PLACES: [&str; 4] = ["disk", "sftp", "datacenter", "folder"];

impl Check<'_> {
    pub(super) fn archive(
        &mut self,
        file: &Node,
        datacenters: &BTreeMap<DatacenterName, Declared>,
        sites: &BTreeMap<SiteName, Site>,
    ) -> Archive {
        let node = file.node("archive");
        let keep = node.and_then(|node| node.node("keep")).map(|node| self.keep_rules(node)).unwrap_or_default();
        let folder = node.and_then(|node| self.folder(node));
        let copies = match node.filter(|node| node.has("copy")) {
            Some(node) => {
                let names_known =
                    !file.spoilt("datacenter") && file.nodes("datacenter").iter().all(|node| !node.spoilt("name"));
                self.copies(node.nodes("copy"), folder.as_deref(), &Places { datacenters, names_known })
            }
            None => unsaid(datacenters, sites),
        };
        let Archive { every, prove, .. } = Archive::default();
        Archive {
            folder,
            every: node.and_then(|node| node.parse("every")).unwrap_or(every),
            prove: node.and_then(|node| node.parse("prove")).unwrap_or(prove),
            keep,
            images: node.and_then(|node| node.flag("images")).unwrap_or_default(),
            copies,
        }
    }

    fn keep_rules(&mut self, node: &Node) -> KeepRules {
        let default = KeepRules::default();
        let number = |key, default| node.integer(key).and_then(|number| number.try_into().ok()).unwrap_or(default);
        let rules = KeepRules {
            last: number("last", default.last),
            hourly: number("hourly", default.hourly),
            daily: number("daily", default.daily),
            weekly: number("weekly", default.weekly),
            monthly: number("monthly", default.monthly),
            yearly: number("yearly", default.yearly),
        };
        if rules == KeepRules::NOTHING {
            let help = "give one of them a number: `last = 3` keeps the newest three, whenever they were made";
            let finding = Finding::new(ProblemKind::Conflict, node.span.clone(), "these rules would keep nothing");
            self.find(finding.help(help));
        }
        rules
    }

    fn copies(&mut self, nodes: &[Node], archive: Option<&Path>, places: &Places<'_>) -> Vec<ArchiveCopy> {
        let (mut names, mut at) = (BTreeMap::new(), BTreeMap::new());
        let mut copies = Vec::new();
        for node in nodes {
            let place = self.copy_place(node, archive, places);
            if let Some((key, place)) = &place {
                self.unique(&mut at, place.to_string(), &format!("the copy at {place}"), node.span_of(key));
            }
            let Some(name) = node.parse::<CopyName>("name") else { continue };
            let is_new = self.unique(&mut names, name.clone(), &format!("copy `{name}`"), node.span_of("name"));
            if let (true, Some((_, at))) = (is_new, place) {
                let format = self.copy_format(node, &at);
                copies.push(ArchiveCopy { name, at, format });
            }
        }
        copies
    }

    /// Duplicity writes into folders only: how it would log in elsewhere is nothing that we know.
    fn copy_format(&mut self, node: &Node, at: &CopyPlace) -> CopyFormat {
        const MONTHLY: Interval = Interval::seconds(30 * 86_400);
        let is_chain = node.text("format") == Some("duplicity");
        let mut conflict = |key, message: &str, help: &str| {
            self.find(Finding::new(ProblemKind::Conflict, node.span_of(key), message).help(help));
        };
        if is_chain && !matches!(at, CopyPlace::Folder(_) | CopyPlace::Disk { .. }) {
            conflict(
                "format",
                "a chain of duplicity is kept in a folder only",
                "write `folder`, or `disk` with `folder`",
            );
        }
        if !is_chain && node.has("full") {
            conflict("full", "`full` is for a chain of duplicity", "remove it, or add `format = \"duplicity\"`");
        }
        if is_chain {
            CopyFormat::Duplicity { full: node.parse("full").unwrap_or(MONTHLY) }
        } else {
            CopyFormat::Restic
        }
    }

    /// Where a copy is, and the key that says so.
    fn copy_place(
        &mut self,
        node: &Node,
        archive: Option<&Path>,
        places: &Places<'_>,
    ) -> Option<(&'static str, CopyPlace)> {
        let said = |key: &&str| node.has(key) || node.spoilt(key);
        let on_disk = said(&"disk");
        let mut keys = PLACES.into_iter().filter(said).filter(|key| !(on_disk && *key == "folder"));
        let Some(key) = keys.next() else {
            let message = "this copy is nowhere";
            let help = "add `folder = \"/mnt/nas/archive\"`, or `disk` with `folder`, `sftp`, or `datacenter`";
            self.find(Finding::new(ProblemKind::Missing, node.span.clone(), message).help(help));
            return None;
        };
        for other in keys {
            let message = format!("this copy is in two places: `{key}` and `{other}`");
            let finding = Finding::new(ProblemKind::Conflict, node.span_of(other), message);
            self.find(finding.help("keep one of them; declare a second copy for the other"));
        }
        for of_sftp in ["key", "host-key"] {
            if key == "sftp" && !said(&of_sftp) {
                let message = format!("a copy over SFTP needs `{of_sftp}`");
                let help = match of_sftp {
                    "key" => {
                        "add `key = \"/home/me/.ssh/archive\"`: the private key that logs in there, made with \
                              `ssh-keygen -t ed25519 -N \"\" -f /home/me/.ssh/archive`"
                    }
                    _ => {
                        "add `host-key = \"ssh-ed25519 AAAA...\"`: /etc/ssh/ssh_host_ed25519_key.pub of that host has it"
                    }
                };
                self.find(Finding::new(ProblemKind::Missing, node.span_of("sftp"), message).help(help));
            } else if key != "sftp" && said(&of_sftp) {
                let message = format!("`{of_sftp}` is for a copy over SFTP");
                let help = format!("remove `{of_sftp}`, or write `sftp` instead of `{key}`");
                self.find(Finding::new(ProblemKind::Conflict, node.span_of(of_sftp), message).help(help));
            }
        }
        let place = match key {
            "disk" => {
                let (uuid, folder) = (node.parse("disk"), self.folder_on_disk(node));
                CopyPlace::Disk { uuid: uuid?, folder: folder? }
            }
            "sftp" => {
                let key = node.text("key").map(|key| self.absolute(key));
                CopyPlace::Sftp(SftpPlace {
                    address: node.parse("sftp")?,
                    key: key?,
                    host_key: node.parse("host-key")?,
                })
            }
            "datacenter" => {
                let name = node.parse::<DatacenterName>("datacenter")?;
                if !self.known(&name, node.span_of("datacenter"), places) {
                    return None;
                }
                CopyPlace::Datacenter(name)
            }
            _ => {
                let folder = self.folder(node)?;
                self.apart(&folder, archive, node);
                CopyPlace::Folder(folder)
            }
        };
        Some((key, place))
    }

    /// A copy inside of what it is a copy of would be copied too.
    fn apart(&mut self, copy: &Path, archive: Option<&Path>, node: &Node) {
        if archive.is_some_and(|archive| archive.starts_with(copy) || copy.starts_with(archive)) {
            let message = "a copy and the archive cannot lie in each other";
            let help = "give the copy a folder of its own, on another disk";
            self.find(Finding::new(ProblemKind::Conflict, node.span_of("folder"), message).help(help));
        }
    }

    /// As a path below where the disk will be mounted.
    fn folder_on_disk(&mut self, node: &Node) -> Option<PathBuf> {
        if node.spoilt("folder") {
            return None;
        }
        let Some(text) = node.text("folder") else {
            let message = "a copy on a disk needs `folder`";
            let help = "add `folder = \"archive\"`: the folder on that disk";
            self.find(Finding::new(ProblemKind::Missing, node.span_of("disk"), message).help(help));
            return None;
        };
        let parts = || Path::new(text).components();
        let steps_up = parts().any(|part| part == Component::ParentDir);
        let folder: PathBuf = parts().filter(|part| matches!(part, Component::Normal(_))).collect();
        if steps_up || folder.as_os_str().is_empty() {
            let message = format!("{text:?} is no folder on a disk");
            let help = "write it from where the disk is mounted, \"archive\" say";
            self.find(Finding::new(ProblemKind::BadValue, node.span_of("folder"), message).help(help));
            return None;
        }
        Some(folder)
    }
}

/// The copies of a stack whose file says nothing about them: at the first data center that is no site's primary. When
/// each is one, at the first two, so that no site's only backup is where the site is.
fn unsaid(datacenters: &BTreeMap<DatacenterName, Declared>, sites: &BTreeMap<SiteName, Site>) -> Vec<ArchiveCopy> {
    if datacenters.len() < 2 {
        return Vec::new();
    }
    let mut in_order: Vec<_> = datacenters.iter().map(|(name, declared)| (declared.span.start, name)).collect();
    in_order.sort();
    let is_primary = |name: &DatacenterName| sites.values().any(|site| &site.primary == name);
    let free = in_order.iter().find(|(_, name)| !is_primary(name)).map(|(_, name)| *name);
    let chosen = match free {
        Some(name) => vec![name],
        None => in_order.into_iter().map(|(_, name)| name).take(2).collect(),
    };
    let copy = |name: &DatacenterName| {
        let at = CopyPlace::Datacenter(name.clone());
        Some(ArchiveCopy { name: name.as_str().parse().ok()?, at, format: CopyFormat::Restic })
    };
    chosen.into_iter().filter_map(copy).collect()
}
