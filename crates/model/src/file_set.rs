//! A set of files: what is in each of them, and the list that the whole set is known by.
//!
//! Promise: equal files have an equal digest, whenever and wherever they were written. The list is what sha256sum(1) reads
//! to check them, so that who has only the files and a usual machine can tell whether they are all there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::Digest;

/// Files by their path below a common folder, `/` between the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSet(BTreeMap<String, FileSeen>);

/// A file as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// Where it was.
    pub from: PathBuf,
    /// The digest of what is in it.
    pub content: Digest,
    /// How many bytes that is.
    pub length: u64,
    /// When it was changed, in unix seconds.
    pub changed: u64,
}

impl FileSet {
    /// Whether a path can stand in the list: a line of it ends where a name has a control character.
    pub fn can_name(path: &str) -> bool {
        !path.is_empty() && !path.chars().any(char::is_control)
    }

    /// The files, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileSeen)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list, as sha256sum(1) writes and checks it.
    pub fn list(&self) -> String {
        let mut list = String::new();
        for (path, file) in &self.0 {
            let mark = if path.contains('\\') { "\\" } else { "" };
            let path = path.replace('\\', "\\\\");
            writeln!(list, "{mark}{}  {path}", file.content.hex()).expect("writing to a string does not fail");
        }
        list
    }

    /// The digest of the list.
    pub fn digest(&self) -> Digest {
        Digest::of(self.list())
    }

    /// What is in which file, read from a list; lines that are none are passed over.
    pub fn listed(list: &str) -> BTreeMap<String, Digest> {
        let file = |line: &str| {
            let (is_marked, line) = line.strip_prefix('\\').map_or((false, line), |line| (true, line));
            let (digest, path) = line.split_once("  ")?;
            let path = if is_marked { path.replace("\\\\", "\\") } else { path.to_owned() };
            Some((path, format!("sha256:{digest}").parse().ok()?))
        };
        list.lines().filter_map(file).collect()
    }
}

impl FromIterator<(String, FileSeen)> for FileSet {
    fn from_iter<I: IntoIterator<Item = (String, FileSeen)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str, u64)]) -> FileSet {
        let seen = |content: &str, changed| FileSeen {
            from: "/srv".into(),
            content: Digest::of(content),
            length: content.len() as u64,
            changed,
        };
        files.iter().map(|(path, content, changed)| ((*path).to_owned(), seen(content, *changed))).collect()
    }

    #[test]
    fn what_is_in_files_decides_and_not_when_they_were_written() {
        let before = files(&[("index.html", "a", 1), ("b/c.css", "c", 2)]);
        assert_eq!(before.digest(), files(&[("b/c.css", "c", 9), ("index.html", "a", 9)]).digest());
        for other in [
            files(&[("index.html", "b", 1), ("b/c.css", "c", 2)]),
            files(&[("index.htm", "a", 1), ("b/c.css", "c", 2)]),
            files(&[("index.html", "a", 1)]),
        ] {
            assert_ne!(before.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn a_list_says_what_it_was_made_of_whatever_names_have_in_them() {
        let names = ["index.html", "a  b", "\\", "back\\\\slash\\n", " leading", "-rf", "*binary", "ü/é.html"];
        let all: Vec<_> = names.iter().map(|name| (*name, *name, 0)).collect();
        let set = files(&all);
        let listed: BTreeMap<String, Digest> = set.iter().map(|(path, file)| (path.to_owned(), file.content)).collect();
        assert_eq!(FileSet::listed(&set.list()), listed);
        assert_eq!(FileSet::listed("no list\n\n\\\nabc  def\n"), BTreeMap::new());
        assert!(!FileSet::can_name("a\nb") && !FileSet::can_name("") && FileSet::can_name("a b"));
    }
}
