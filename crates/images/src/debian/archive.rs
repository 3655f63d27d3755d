//! Tar archives of ours that are the same however often they are made: sorted, with numbers for owners, one time for all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tar::{EntryType, Header};

use super::role::Role;
use crate::ImageError;
use crate::error::At as _;

/// An archive under way.
pub(super) struct Archive<W: Write> {
    builder: tar::Builder<W>,
    made: u64,
}

impl<W: Write> Archive<W> {
    /// An archive in which everything was last changed at `made`.
    pub(super) fn new(to: W, made: u64) -> Self {
        Self { builder: tar::Builder::new(to), made }
    }

    fn header(&self, kind: EntryType, mode: u32, owner: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.into());
        header.set_gid(owner.into());
        header.set_mtime(self.made);
        header.set_size(0);
        header
    }

    pub(super) fn folder(&mut self, path: &str, mode: u32, owner: u32) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, mode, owner);
        self.builder.append_data(&mut header, path, io::empty())
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, owner: u32, bytes: u64, from: impl Read) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, mode, owner);
        header.set_size(bytes);
        self.builder.append_data(&mut header, path, from.take(bytes))
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        self.builder.append_link(&mut header, path, target)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }
}

/// The files and links of a role.
pub(super) fn overlay<W: Write>(role: &Role, made: u64, to: W) -> io::Result<W> {
    let mut archive = Archive::new(to, made);
    let files: BTreeMap<_, _> = role.files.iter().map(|file| (&file.path, file)).collect();
    for (path, file) in files {
        match path.strip_suffix('/') {
            Some(folder) => archive.folder(folder, file.mode, file.owner)?,
            None => archive.file(path, file.mode, file.owner, file.text.len() as u64, file.text.as_bytes())?,
        }
    }
    let links: BTreeMap<_, _> = role.links.iter().map(|(path, target)| (path, target)).collect();
    for (path, target) in links {
        archive.link(path, target)?;
    }
    archive.finish()
}

/// An image of the store, everything in it owned by root.
pub(super) fn layer<W: Write>(root: &Path, made: u64, to: W) -> Result<W, ImageError> {
    let mut archive = Archive::new(to, made);
    walk(root, "", &mut archive)?;
    archive.finish().at("write", root)
}

fn walk<W: Write>(root: &Path, inside: &str, archive: &mut Archive<W>) -> Result<(), ImageError> {
    let folder = root.join(inside);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).at("list", &folder)? {
        let entry = entry.at("list", &folder)?;
        let name = entry.file_name().into_string();
        names.push(name.map_err(|_| ImageError::Content { path: entry.path(), reason: "its name is not UTF-8" })?);
    }
    names.sort_unstable();
    for name in names {
        let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        let path = root.join(&name);
        let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
        if metadata.is_dir() {
            archive.folder(&name, 0o755, 0).at("write", &path)?;
            walk(root, &name, archive)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).at("read", &path)?;
            let target =
                target.to_str().ok_or(ImageError::Content { path: path.clone(), reason: "its target is not UTF-8" })?;
            archive.link(&name, target).at("write", &path)?;
        } else {
            let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            let file = fs::File::open(&path).at("read", &path)?;
            archive.file(&name, mode, 0, metadata.len(), file).at("read", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_the_same_in_whatever_order_a_role_names_its_files() {
        let role = Role::database();
        let mut turned = role.clone();
        turned.files.reverse();
        turned.links.reverse();
        let one = overlay(&role, 7, Vec::new()).unwrap();
        assert_eq!(one, overlay(&turned, 7, Vec::new()).unwrap());
        assert_ne!(one, overlay(&role, 8, Vec::new()).unwrap());
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&one[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (7, 0), "{path}");
            seen.push(path);
        }
        assert!(seen.contains(&"usr/lib/sovereign/database-root".to_owned()), "{seen:?}");
    }

    #[test]
    fn a_layer_keeps_what_is_executable_and_where_links_lead() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("b")).unwrap();
        fs::write(path("b/run"), "#!").unwrap();
        fs::set_permissions(path("b/run"), fs::Permissions::from_mode(0o555)).unwrap();
        fs::write(path("a"), "text").unwrap();
        std::os::unix::fs::symlink("b/run", path("link")).unwrap();
        let bytes = layer(folder.path(), 7, Vec::new()).unwrap();
        assert_eq!(bytes, layer(folder.path(), 7, Vec::new()).unwrap());
        let mut archive = tar::Archive::new(&bytes[..]);
        let seen = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        });
        let expected = [("a", 0o644), ("b", 0o755), ("b/run", 0o755), ("link", 0o777)];
        assert_eq!(seen.collect::<Vec<_>>(), expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
