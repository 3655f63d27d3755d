//! A static site: a folder of files that an edge serves itself. Nothing runs; there is only something to check, and what is
//! sent to an edge on a host.

mod memory;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sovereign_model::{FileSeen, FileSet};

pub use memory::Memory;

/// Why a folder cannot be served as a site.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is nothing at this path.
    #[error("the site's folder {folder} does not exist", folder = .folder.display())]
    Missing {
        /// The folder of the stack file.
        folder: PathBuf,
    },
    /// There is something else.
    #[error("{folder} is not a folder", folder = .folder.display())]
    NotAFolder {
        /// The folder of the stack file.
        folder: PathBuf,
    },
    /// It is there, but this user may not list it or read its start page.
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No line of a list can name it.
    #[error("the name {path:?} has a control character in it")]
    OddName {
        /// The file or folder.
        path: PathBuf,
    },
    /// There is no start page, so `/` would answer 404.
    #[error("{folder} has no index.html", folder = .folder.display())]
    NoStartPage {
        /// The folder of the stack file.
        folder: PathBuf,
    },
}

impl Problem {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Missing { folder } => {
                format!("create it, or correct `folder` in the stack file: mkdir -p {}", folder.display())
            }
            Self::NotAFolder { .. } => "name the folder that holds index.html, not a file in it".to_owned(),
            Self::Unreadable { path, .. } => {
                format!("give this user the right to read it: chmod u+rX {}", path.display())
            }
            Self::OddName { .. } => "rename it".to_owned(),
            Self::NoStartPage { folder } => format!("put the start page at {}", folder.join("index.html").display()),
        })
    }
}

/// Everything that is wrong with `folder` as a site; nothing when it can be served.
pub fn check(folder: &Path) -> Vec<Problem> {
    let folder_owned = || folder.to_owned();
    match fs::metadata(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return vec![Problem::Missing { folder: folder_owned() }];
        }
        Err(source) => return vec![Problem::Unreadable { path: folder_owned(), source }],
        Ok(meta) if !meta.is_dir() => return vec![Problem::NotAFolder { folder: folder_owned() }],
        Ok(_) => {}
    }
    let mut problems = Vec::new();
    if let Err(source) = fs::read_dir(folder) {
        problems.push(Problem::Unreadable { path: folder_owned(), source });
    }
    let index = folder.join("index.html");
    match fs::File::open(&index) {
        Ok(_) => {}
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            problems.push(Problem::NoStartPage { folder: folder_owned() });
        }
        Err(source) => problems.push(Problem::Unreadable { path: index, source }),
    }
    problems
}

/// The files of the site in `folder` that readers can ask for: no name that begins with a dot but `/.well-known/`, a link as
/// what it leads to, when that is in the folder. Each is read, unless `memory` knows what is in it.
///
/// # Errors
/// When something cannot be read, or has a name that no list can have.
pub fn files(folder: &Path, memory: &mut Memory) -> Result<FileSet, Problem> {
    let unreadable = |source| Problem::Unreadable { path: folder.to_owned(), source };
    let root = fs::canonicalize(folder).map_err(unreadable)?;
    let mut found = Vec::new();
    gather(&root, "", &mut vec![root.clone()], memory, &mut found)?;
    Ok(found.into_iter().collect())
}

/// All below the last folder of `way`, which begins with the site's; `path` is how readers come there.
fn gather(
    root: &Path,
    path: &str,
    way: &mut Vec<PathBuf>,
    memory: &mut Memory,
    found: &mut Vec<(String, FileSeen)>,
) -> Result<(), Problem> {
    let folder = way.last().cloned().unwrap_or_else(|| root.to_owned());
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::Unreadable { path, source }
    };
    for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
        let entry = entry.map_err(unreadable(&folder))?;
        let (name, at) = (entry.file_name(), entry.path());
        // Nobody can ask for a name that is not UTF-8.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.') || *name == ".well-known") else {
            continue;
        };
        let real = match fs::canonicalize(&at) {
            Ok(real) if real.starts_with(root) => real,
            Ok(_) => continue,
            // It leads nowhere, or has just gone.
            Err(_) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Problem::Unreadable { path: at, source }),
        };
        if !FileSet::can_name(name) {
            return Err(Problem::OddName { path: at });
        }
        let kind = fs::metadata(&real).map_err(unreadable(&real))?;
        let path = format!("{path}{name}");
        // A link that leads back up would never end.
        if kind.is_dir() && !way.contains(&real) {
            way.push(real);
            gather(root, &format!("{path}/"), way, memory, found)?;
            way.pop();
        } else if kind.is_file() {
            found.push((path, seen(&real, memory).map_err(unreadable(&real))?));
        }
    }
    Ok(())
}

fn seen(path: &Path, memory: &mut Memory) -> io::Result<FileSeen> {
    let (content, file) = memory.digest(path)?;
    let changed = file.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Ok(FileSeen { from: path.to_owned(), content, length: file.len(), changed })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use sovereign_model::Digest;

    use super::*;

    fn files(folder: &Path) -> Result<FileSet, Problem> {
        super::files(folder, &mut Memory::default())
    }

    #[test]
    fn files_are_those_that_readers_can_ask_for() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("site");
        for path in ["index.html", "a/b.css", ".well-known/x", ".git/config", "a/.secret", ".releases/1/page.html"] {
            let path = site.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        fs::write(root.path().join("outside"), "not for readers").unwrap();
        for (to, link) in [
            ("../outside", "out"),
            ("../../outside", "a/out"),
            ("gone", "dangling"),
            ("itself", "itself"),
            ("..", "a/up"),
            (".releases/1", "current"),
            ("a/b.css", "c.css"),
        ] {
            symlink(to, site.join(link)).unwrap();
        }
        symlink(&site, root.path().join("link")).unwrap();
        let found = files(&root.path().join("link")).unwrap();
        let paths: Vec<_> = found.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [".well-known/x", "a/b.css", "c.css", "current/page.html", "index.html"]);
        let (_, index) = found.iter().last().unwrap();
        assert_eq!((index.content, index.length), (Digest::of("index.html"), 10));
        assert_eq!(files(&site).unwrap().digest(), found.digest());

        fs::write(site.join("line\nbreak"), "").unwrap();
        assert!(matches!(files(&site), Err(Problem::OddName { .. })));
        assert!(matches!(files(&root.path().join("gone")), Err(Problem::Unreadable { .. })));
    }

    #[test]
    fn each_problem_is_told() {
        let root = tempfile::tempdir().unwrap();
        let told = |path: &Path| check(path).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(told(&root.path().join("gone")).ends_with("does not exist"));
        assert!(told(root.path()).ends_with("has no index.html"));
        let index = root.path().join("index.html");
        fs::write(&index, "<!doctype html>").unwrap();
        assert!(told(&index).ends_with("is not a folder"));
        assert_eq!(told(root.path()), "");
    }
}
