//! Unpacking a package's archive, trusting nothing in it.
//!
//! Only files and folders come out, under the folder that was given. Links, devices, absolute paths, `..` and
//! oversized archives end the unpacking with an error: npm packages have no use for them. Owners, times and all
//! permissions but "executable" are ignored.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::EntryType;

use crate::ImageError;

/// What an archive may hold at most: several times what any locked package holds, and little enough for a disk.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 1 << 30, entries: 100_000 }
    }
}

/// Unpacks a gzipped tar archive without its outermost folder.
///
/// `place` decides for each file, by its path without that folder, where it goes below `target`; `None` leaves it out.
///
/// # Errors
/// When the archive is damaged, holds what has no place in a package, or cannot be written out.
pub fn unpack(
    package: &str,
    archive: impl Read,
    target: &Path,
    bounds: Bounds,
    place: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<(), ImageError> {
    let broken = |source: io::Error| ImageError::Unpack { package: package.to_owned(), source };
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    // Also stops a bomb inside headers and padding, which the sum of file sizes does not see; an honest entry has less
    // than four kilobytes of them.
    let limit = bounds.bytes.saturating_add(bounds.entries.saturating_mul(4096));
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(limit));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let written = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |reason| ImageError::Archive { package: package.to_owned(), entry: written.clone(), reason };
        entries += 1;
        bytes = bytes.saturating_add(entry.size());
        if entries > bounds.entries {
            return Err(refuse("too many entries"));
        }
        if bytes > bounds.bytes {
            return Err(refuse("too many bytes"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Symlink | EntryType::Link => return Err(refuse("a link")),
            _ => return Err(refuse("neither a file nor a folder")),
        }
        let Some(place) = place(&inner_path(&written).map_err(refuse)?) else { continue };
        let path = target.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(broken)?;
        }
        let mode = if entry.header().mode().map_err(broken)? & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refuse("a second file of this name"));
            }
            opened => opened.map_err(broken)?,
        };
        io::copy(&mut entry, &mut file).map_err(broken)?;
    }
    Ok(())
}

/// The path below the outermost folder; only plain names are allowed in it.
fn inner_path(written: &str) -> Result<PathBuf, &'static str> {
    if written.contains(['\0', '\u{FFFD}']) {
        return Err("a name that is not text");
    }
    let mut components = Path::new(written).components().filter(|part| !matches!(part, Component::CurDir));
    match components.next() {
        Some(Component::Normal(_)) => {}
        Some(Component::ParentDir) => return Err("a path out of its folder"),
        Some(_) => return Err("an absolute path"),
        None => return Err("an empty path"),
    }
    let mut inner = PathBuf::new();
    for component in components {
        match component {
            Component::Normal(name) => inner.push(name),
            _ => return Err("a path out of its folder"),
        }
    }
    if inner.as_os_str().is_empty() { Err("a file in place of the outermost folder") } else { Ok(inner) }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// A gzipped archive with entries whose paths are written as they are, however wrong.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, data) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(data.len() as u64);
            header.set_mode(0o755);
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn refusal(entries: &[(&str, EntryType, &[u8])], bounds: Bounds) -> &'static str {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("target");
        let error = unpack("p 1", &archive(entries)[..], &target, bounds, |path| Some(path.to_owned())).unwrap_err();
        let outside: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(outside.iter().all(|name| name == "target"), "{outside:?}");
        match error {
            ImageError::Archive { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hostile_entries_are_refused() {
        let bounds = Bounds::default();
        for (path, kind, reason) in [
            ("package/../../out", EntryType::Regular, "a path out of its folder"),
            ("../out", EntryType::Regular, "a path out of its folder"),
            ("/out", EntryType::Regular, "an absolute path"),
            ("package", EntryType::Regular, "a file in place of the outermost folder"),
            ("package/link", EntryType::Symlink, "a link"),
            ("package/link", EntryType::Link, "a link"),
            ("package/device", EntryType::Char, "neither a file nor a folder"),
            ("package/pipe", EntryType::Fifo, "neither a file nor a folder"),
        ] {
            assert_eq!(refusal(&[(path, kind, b"")], bounds), reason, "{path}");
        }
        let twice = [("p/a", EntryType::Regular, &b"1"[..]), ("p/a", EntryType::Regular, &b"2"[..])];
        assert_eq!(refusal(&twice, bounds), "a second file of this name");
        assert_eq!(refusal(&twice, Bounds { entries: 1, ..bounds }), "too many entries");
        assert_eq!(refusal(&twice, Bounds { bytes: 1, ..bounds }), "too many bytes");
    }

    #[test]
    fn files_go_where_they_are_placed() {
        let target = tempfile::tempdir().unwrap();
        let archive =
            archive(&[("package/bin/a", EntryType::Regular, b"a"), ("package/doc/b", EntryType::Regular, b"b")]);
        unpack("p 1", &archive[..], target.path(), Bounds::default(), |path| {
            path.starts_with("bin").then(|| Path::new("x").join(path))
        })
        .unwrap();
        assert_eq!(fs::read(target.path().join("x/bin/a")).unwrap(), b"a");
        assert!(!target.path().join("doc").exists());
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let target = tempfile::tempdir().unwrap();
        let whole = archive(&[("package/a", EntryType::Regular, &[7; 4000])]);
        let error = unpack("p 1", &whole[..whole.len() / 2], target.path(), Bounds::default(), |p| Some(p.to_owned()));
        assert!(matches!(error, Err(ImageError::Unpack { .. })));
    }

    proptest! {
        #[test]
        fn an_inner_path_stays_inside(written in "[a./\\\\\0-]{0,12}") {
            if let Ok(inner) = inner_path(&written) {
                prop_assert!(inner.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
