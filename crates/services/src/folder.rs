//! The folder an application lives in: which folders, files and links are ours there, and putting them in place.
//!
//! A [`Layout`] is plain data, computed by a service and comparable. [`Layout::write`] makes the disk agree: it may be
//! repeated, replaces a file in one step so that nobody sees half of it, and removes nothing. Whatever else lies in
//! the folder is the application's.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sovereign_model::Digest;

/// What must lie in an application's folder. All paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Folders, outer ones before inner ones.
    pub folders: Vec<FolderSpec>,
    /// Files.
    pub files: Vec<FileSpec>,
    /// Symbolic links.
    pub links: Vec<LinkSpec>,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSpec {
    /// Where.
    pub path: PathBuf,
    /// Its mode when it has to be made; an existing folder keeps its own, because an engine may have handed it over.
    pub mode: u32,
}

/// A file with all its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where.
    pub path: PathBuf,
    /// Every byte of it.
    pub content: Vec<u8>,
    /// Its mode.
    pub mode: u32,
}

impl FileSpec {
    /// The digest of the content.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.content)
    }
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// Where.
    pub path: PathBuf,
    /// What it points to.
    pub target: PathBuf,
}

/// A path that could not be put in place.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}", path = .path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::StorageFull => Some("free some space and run the command again".to_owned()),
            io::ErrorKind::PermissionDenied => {
                Some(format!("run as the user the state folder belongs to; see `ls -ld {}`", self.path.display()))
            }
            _ => None,
        }
    }
}

impl Layout {
    /// Makes the disk agree, and tells whether anything had to be changed.
    ///
    /// # Errors
    /// The first path that could not be written; what was written before it stays.
    pub fn write(&self) -> Result<bool, WriteError> {
        let mut changed = false;
        for folder in &self.folders {
            changed |= at(&folder.path, write_folder(folder))?;
        }
        for file in &self.files {
            changed |= at(&file.path, write_file(file))?;
        }
        for link in &self.links {
            changed |= at(&link.path, write_link(link))?;
        }
        Ok(changed)
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, WriteError> {
    result.map_err(|source| WriteError { path: path.to_owned(), source })
}

fn write_folder(folder: &FolderSpec) -> io::Result<bool> {
    if folder.path.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(folder.mode).create(&folder.path)?;
    fs::set_permissions(&folder.path, fs::Permissions::from_mode(folder.mode))?; // whatever the umask took away
    Ok(true)
}

fn write_file(file: &FileSpec) -> io::Result<bool> {
    let same = fs::symlink_metadata(&file.path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o7777 == file.mode)
        && fs::read(&file.path)? == file.content;
    if same {
        return Ok(false);
    }
    sovereign_runtime::file::replace(&file.path, &file.content, file.mode).map_err(|error| error.source)?;
    Ok(true)
}

fn write_link(link: &LinkSpec) -> io::Result<bool> {
    if fs::read_link(&link.path).is_ok_and(|target| target == link.target) {
        return Ok(false);
    }
    let beside = beside(&link.path);
    remove_if_there(&beside)?;
    symlink(&link.target, &beside)?;
    fs::rename(&beside, &link.path)?;
    Ok(true)
}

/// A name in the same folder that only an interrupted write can have left behind.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_twice_changes_once_and_repairs() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let layout = Layout {
            folders: vec![FolderSpec { path: path("a/b"), mode: 0o700 }],
            files: vec![FileSpec { path: path("a/file"), content: b"text".to_vec(), mode: 0o640 }],
            links: vec![LinkSpec { path: path("a/link"), target: "file".into() }],
        };
        assert!(layout.write().unwrap());
        assert!(!layout.write().unwrap(), "nothing to do the second time");
        assert_eq!(fs::read(path("a/link")).unwrap(), b"text");
        assert_eq!(fs::metadata(path("a/file")).unwrap().permissions().mode() & 0o777, 0o640);

        fs::write(path("a/file"), "other").unwrap();
        fs::remove_file(path("a/link")).unwrap();
        symlink("elsewhere", path("a/link")).unwrap();
        assert!(layout.write().unwrap());
        assert_eq!(fs::read(path("a/link")).unwrap(), b"text");
    }

    #[test]
    fn a_link_where_a_file_belongs_is_replaced_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, root.path().join("file")).unwrap();
        let file = FileSpec { path: root.path().join("file"), content: b"ours".to_vec(), mode: 0o600 };
        Layout { files: vec![file], ..Layout::default() }.write().unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read(root.path().join("file")).unwrap(), b"ours");
    }
}
