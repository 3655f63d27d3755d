//! What a host says to the archive.

use sovereign_archive::entry::{Kind, TreePath};
use sovereign_archive::wire::{Ask, Tell};
use sovereign_archive::{Line, list};
use sovereign_services::ghost::{DumpSeen, compare_dumps, count_rows, write_table};

/// A whole answer of a source: whatever comes, it is a tree that lies in itself, or an error.
pub(crate) fn wire(data: &[u8]) {
    let mut line = Line::new(std::io::Cursor::new(data.to_vec()), std::io::sink());
    if let Ok(listed) = list(&mut line, &|_| {}) {
        let mut before: Option<&TreePath> = None;
        for entry in listed.manifest.entries() {
            assert!(before.is_none_or(|before| *before < entry.path), "in order, each once");
            let plain = entry.path.as_path().components().all(|part| matches!(part, std::path::Component::Normal(_)));
            assert!(plain && entry.path.as_path().is_relative(), "downwards");
            if let Some(parent) = entry.path.parent() {
                let parent = TreePath::parse(parent).expect("a part of a path is one");
                let folder = listed.manifest.get(&parent).expect("parents are listed");
                assert_eq!(folder.kind, Kind::Folder, "nothing lies in a link or a file");
            }
            before = Some(&entry.path);
        }
    }
    // One frame at a time, and what was understood is said again in the same way.
    let mut rest = data;
    while let Ok(tell) = Tell::receive(&mut rest) {
        let mut said = Vec::new();
        tell.send(&mut said).expect("into memory");
        if !matches!(tell, Tell::Unlisted(..) | Tell::FileFault(..)) {
            assert_eq!(Tell::receive(&mut said.as_slice()).expect("our own words"), tell);
        }
    }
    let mut rest = data;
    while let Ok(Some(ask)) = Ask::receive(&mut rest) {
        let mut said = Vec::new();
        ask.send(&mut said).expect("into memory");
        assert_eq!(Ask::receive(&mut said.as_slice()).expect("our own words"), Some(ask));
    }
}

/// A database as SQL: each of its readers understands it or says so, and a dump does not differ from itself.
pub(crate) fn dump(data: &[u8]) {
    DumpSeen::read(data).expect("memory is read");
    let mut table = Vec::new();
    write_table(data, "posts", &mut table).expect("memory is read and written");
    assert!(table.len() <= data.len(), "a part is no more than all of it");
    let _ = count_rows(data);
    if let Ok(compared) = compare_dumps(|| Ok(data), || Ok(data)) {
        assert_eq!(compared, Default::default());
    }
}
