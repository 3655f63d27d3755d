//! Trees that somebody with the key wrote: nothing in them leads out of the folder they are restored into.

use std::io;
use std::path::PathBuf;

use rustic_core::repofile::SnapshotFile;
use rustic_core::{BackupOptions, ParentOptions, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticResult};

use super::*;
use crate::error::ArchiveError;
use crate::password::Password;
use crate::repository::{Archive, Snapshot};

#[test]
fn an_entry_survives_being_a_node() {
    let times = [(0, 0), (1_700_000_000, 123_456_789), (-5, 999_999_999)];
    for (mode, (seconds, nanoseconds)) in [0o644, 0o7777, 0o1755].into_iter().zip(times) {
        let at = Moment { seconds, nanoseconds };
        let kinds = [Kind::Folder, Kind::File { size: 7 }, Kind::Link { target: b"\xff/../x".to_vec() }];
        for kind in kinds {
            let path = TreePath::parse(b"a\\b \"\xffc").unwrap();
            let before = Entry { path, kind, mode, modified: at, changed: at, user: 1, group: 2, inode: u64::MAX };
            let node = node(&before).unwrap();
            let path = TreePath::parse(node.name().as_bytes()).unwrap();
            assert_eq!(super::entry(&node, path).unwrap(), before);
        }
    }
}

/// What the library stores as it is told to.
#[derive(Clone)]
struct Written(Vec<(PathBuf, Node)>);

struct Nothing;

impl ReadSourceOpen for Nothing {
    type Reader = io::Empty;

    fn open(self) -> RusticResult<io::Empty> {
        Ok(io::empty())
    }
}

impl ReadSource for Written {
    type Open = Nothing;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<Nothing>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let entry = |(path, node): (PathBuf, Node)| {
            let open = node.is_file().then_some(Nothing);
            Ok(ReadSourceEntry { path, node, open })
        };
        self.0.clone().into_iter().map(entry).collect::<Vec<_>>().into_iter()
    }
}

fn named(name: &[u8], kind: NodeType) -> (PathBuf, Node) {
    let metadata = Metadata { mode: Some(0o644), ..Metadata::default() };
    let node = Node::new_node(OsStr::from_bytes(name), kind, metadata);
    ("/sites/blog/x".into(), node)
}

#[test]
fn a_tree_that_no_source_could_have_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (place, known) = (folder.path().join("archive"), folder.path().join("known.json"));
    let archive = Archive::open_or_create(&place, &known, &Password::new("correct horse".to_owned())).unwrap();
    let link = || NodeType::from_link(Path::new("/etc"));
    let mut large = named(b"a", NodeType::File);
    large.1.meta.size = 5;
    let deep = PathBuf::from(format!("/sites/blog/{}/x", vec!["d"; DEEPEST].join("/")));
    let mut trees = vec![
        vec![named(b"a", NodeType::Fifo)],
        vec![named(b"a", NodeType::Socket)],
        vec![named(b"a", NodeType::Dev { device: 0x0801 })],
        vec![named(b"a", NodeType::Chardev { device: 0x0101 })],
        vec![named(b"a", NodeType::File), named(b"a", NodeType::File)],
        vec![named(b"a", link()), named(b"a", NodeType::File)],
        vec![named(b"b", NodeType::File), named(b"a", NodeType::File)],
        vec![named(b"a", NodeType::from_link(Path::new("")))],
        vec![large],
        vec![(deep, named(b"x", NodeType::File).1)],
    ];
    let long = [b'n'; 256];
    for name in [&b".."[..], b".", b"", b"a/b", b"/etc/cron.d/x", b"../../x", b"a\0b", &long] {
        trees.push(vec![named(name, NodeType::File)]);
    }
    for (number, tree) in trees.into_iter().enumerate() {
        let options = BackupOptions::default().parent_opts(ParentOptions::default().force(true)).no_scan(true);
        let repository = archive.repository().unwrap().to_indexed_ids().unwrap();
        let paths = [PathBuf::from("/sites/blog")];
        let file = repository.archive(&options, &Written(tree), SnapshotFile::default(), &paths).unwrap();
        let refused = archive.contents(&Snapshot::of(file));
        assert!(matches!(refused, Err(ArchiveError::Tampered { .. })), "tree {number}: {refused:?}");
    }
}
