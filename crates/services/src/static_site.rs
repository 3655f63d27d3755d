//! A static site: a folder of files that an edge serves itself. Nothing runs; there is only something to check.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

#[cfg(test)]
mod tests {
    use super::*;

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
