//! A snapshot's tree between our entries and the library's nodes.
//!
//! What is read back from a repository is checked like what comes from a host: whoever got hold of the key at some
//! time could have written anything there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustic_core::jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{DataId, IndexedFullStatus, Repository, TreeId};

use crate::entry::{ALL_MODES, DEEPEST, Entry, Kind, Moment, TreePath};
use crate::manifest::{Listing, Manifest};
use crate::repository::Subject;

/// Modes as restic has them, which are Go's: the kind and the odd bits far up.
const GO_FOLDER: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;
const GO_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// An entry with the chunks of its content.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) entry: Entry,
    pub(crate) content: Vec<DataId>,
}

/// The library's form of an entry; `None` for a time that it cannot write down.
pub(crate) fn node(entry: &Entry) -> Option<Node> {
    let odd = GO_BITS.iter().filter(|(bit, _)| entry.mode & bit != 0).fold(0, |mode, (_, go)| mode | go);
    let (kind, of_kind) = match &entry.kind {
        Kind::Folder => (NodeType::Dir, GO_FOLDER),
        Kind::File { .. } => (NodeType::File, 0),
        Kind::Link { target } => (NodeType::from_link(Path::new(OsStr::from_bytes(target))), GO_LINK),
    };
    let metadata = Metadata {
        mode: Some(entry.mode & 0o777 | odd | of_kind),
        mtime: Some(timestamp(entry.modified)?),
        ctime: Some(timestamp(entry.changed)?),
        uid: Some(entry.user),
        gid: Some(entry.group),
        inode: entry.inode,
        size: entry.size(),
        ..Metadata::default()
    };
    Some(Node::new_node(entry.path.name(), kind, metadata))
}

fn timestamp(moment: Moment) -> Option<Timestamp> {
    Timestamp::new(moment.seconds, moment.nanoseconds.try_into().ok()?).ok()
}

fn moment(timestamp: Option<Timestamp>) -> Moment {
    let all = timestamp.unwrap_or_default().as_nanosecond();
    let seconds = all.div_euclid(1_000_000_000).try_into().unwrap_or_default();
    Moment { seconds, nanoseconds: all.rem_euclid(1_000_000_000).try_into().unwrap_or_default() }
}

fn entry(node: &Node, path: TreePath) -> Result<Entry, String> {
    let kind = match &node.node_type {
        NodeType::Dir => Kind::Folder,
        NodeType::File => Kind::File { size: node.meta.size },
        link @ NodeType::Symlink { .. } => Kind::Link { target: link.to_link().as_os_str().as_bytes().to_vec() },
        _ => return Err(format!("{path} is a device, a pipe or a socket")),
    };
    let mode = node.meta.mode.unwrap_or_default();
    let odd = GO_BITS.iter().filter(|(_, go)| mode & go != 0).fold(0, |bits, (bit, _)| bits | bit);
    let entry = Entry {
        path,
        kind,
        mode: (mode & 0o777 | odd) & ALL_MODES,
        modified: moment(node.meta.mtime),
        changed: moment(node.meta.ctime),
        user: node.meta.uid.unwrap_or_default(),
        group: node.meta.gid.unwrap_or_default(),
        inode: node.meta.inode,
    };
    entry.checked().map_err(|error| error.to_string())
}

/// Reads the tree of a subject below a snapshot's root, in the order of a walk.
///
/// # Errors
/// When it cannot be read, is no tree, or a file has not as many bytes as it says.
pub(crate) fn read(
    repository: &Repository<IndexedFullStatus>,
    root: TreeId,
    subject: &Subject,
) -> Result<(Manifest, Vec<Vec<DataId>>), String> {
    let mut at = root;
    for name in subject.folder().split('/') {
        let tree = repository.get_tree(&at).map_err(|error| error.display_log())?;
        let found = tree.nodes.into_iter().find(|node| node.name() == OsStr::new(name));
        at = found.and_then(|node| node.subtree).ok_or_else(|| format!("there is no {}", subject.folder()))?;
    }
    let (mut listing, mut contents) = (Listing::default(), Vec::new());
    let mut take = |stored: Stored| {
        listing.push(stored.entry).map_err(|error| error.to_string())?;
        contents.push(stored.content);
        Ok(())
    };
    walk(repository, at, None, 1, &mut take)?;
    Ok((listing.finish(), contents))
}

fn walk(
    repository: &Repository<IndexedFullStatus>,
    at: TreeId,
    folder: Option<&TreePath>,
    depth: usize,
    take: &mut dyn FnMut(Stored) -> Result<(), String>,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err("its folders are too deep".to_owned());
    }
    for node in repository.get_tree(&at).map_err(|error| error.display_log())?.nodes {
        let name = node.name();
        let path = match folder {
            Some(folder) if !name.as_bytes().contains(&b'/') => folder.join(name.as_bytes()),
            _ => TreePath::parse(name.as_bytes()),
        };
        let path = path.map_err(|error| error.to_string())?;
        let entry = entry(&node, path.clone())?;
        let content = node.content.clone().unwrap_or_default();
        let mut size = 0_u64;
        for id in &content {
            let found = repository.get_index_entry(id).map_err(|error| error.display_log())?;
            size = size.saturating_add(found.data_length().into());
        }
        if size != entry.size() {
            return Err(format!("{path} has {size} bytes instead of {}", entry.size()));
        }
        take(Stored { entry, content })?;
        if node.is_dir() {
            let inside = node.subtree.ok_or_else(|| format!("{path} is a folder without a list"))?;
            walk(repository, inside, Some(&path), depth + 1, take)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
