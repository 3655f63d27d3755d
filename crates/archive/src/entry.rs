//! What a tree of files is made of, as values that cannot be wrong.
//!
//! Everything here comes from a host or from a repository, and is hostile until it has passed one of these
//! constructors: a [`TreePath`] leads nowhere but down, an [`Entry`] has a size and times that can be stored. What a
//! tree may not hold has no variant: devices, pipes, sockets.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The longest path, in bytes; Linux takes no longer one either (`PATH_MAX`).
pub const LONGEST_PATH: usize = 4095;
/// The longest name of one folder or file, in bytes (`NAME_MAX`).
pub const LONGEST_NAME: usize = 255;
/// How deep folders may lie in each other. A walk holds one descriptor per level.
pub const DEEPEST: usize = 64;
/// The largest file: 1 TiB.
pub const LARGEST_FILE: u64 = 1 << 40;
/// The permission bits there are, set-user-id and its like included.
pub const ALL_MODES: u32 = 0o7777;
/// Seconds before and after 1970 that can be stored: until the year 9999.
const LAST_SECOND: i64 = 253_402_207_200;
const FIRST_SECOND: i64 = -LAST_SECOND / 10;

/// Why something is no part of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A path that leads elsewhere, or is none.
    #[error("the path {0} {1}")]
    Path(String, &'static str),
    /// A value that no file has.
    #[error("{0} has {1}")]
    Value(String, &'static str),
}

/// A path inside a tree: relative, downwards, of real names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// Checks bytes of whatever origin.
    ///
    /// # Errors
    /// When they are no path, or one that leads out of the tree.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let wrong = |why| Err(Malformed::Path(shown(&bytes[..bytes.len().min(100)]), why));
        if bytes.is_empty() {
            return wrong("is empty");
        }
        if bytes.len() > LONGEST_PATH {
            return wrong("is too long");
        }
        if bytes.contains(&0) {
            return wrong("contains a NUL");
        }
        if bytes[0] == b'/' {
            return wrong("is absolute");
        }
        let mut depth = 0;
        for name in bytes.split(|byte| *byte == b'/') {
            depth += 1;
            match name {
                b"" => return wrong("has an empty name in it"),
                b"." | b".." => return wrong("has . or .. in it"),
                name if name.len() > LONGEST_NAME => return wrong("has a name in it that is too long"),
                _ => {}
            }
        }
        if depth > DEEPEST { wrong("is too deep") } else { Ok(Self(bytes.to_vec())) }
    }

    /// The bytes, parts separated by slashes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of this system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its place below a folder.
    pub fn below(&self, folder: &Path) -> PathBuf {
        folder.join(self.as_path())
    }

    /// The names it is made of, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The folder it lies in; `None` for the tree's own.
    pub fn parent(&self) -> Option<&[u8]> {
        self.0.iter().rposition(|byte| *byte == b'/').map(|slash| &self.0[..slash])
    }

    /// The last of its names.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.names().last().unwrap_or_default())
    }

    /// Whether it is `other` or lies below it.
    pub fn is_in(&self, other: &Self) -> bool {
        self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// A name in this folder.
    ///
    /// # Errors
    /// When the path would be too long or too deep, or the name is none.
    pub fn join(&self, name: &[u8]) -> Result<Self, Malformed> {
        Self::parse(&[&self.0, b"/".as_slice(), name].concat())
    }
}

/// Folders before what is in them, names in the order of their bytes: the order of a tree that is walked.
impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(other.names())
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As people read it: what a terminal would act on is escaped.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Text of strangers, fit for a terminal: what would act on it is escaped, and what would show a name in another order
/// or on two lines (Unicode's explicit directions and its own ends of line).
pub(crate) fn shown(bytes: &[u8]) -> String {
    const REORDERS: [char; 14] = [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
        '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() || REORDERS.contains(&character) {
            let _ = write!(text, "{}", character.escape_default()); // into memory
        } else {
            text.push(character);
        }
    }
    text
}

/// A moment as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

impl Moment {
    pub(crate) fn is_possible(self) -> bool {
        (FIRST_SECOND..=LAST_SECOND).contains(&self.seconds) && self.nanoseconds < 1_000_000_000
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file of so many bytes.
    File {
        /// How many.
        size: u64,
    },
    /// A symbolic link: data, never followed.
    Link {
        /// Where it points, as it stands there.
        target: Vec<u8>,
    },
}

/// One folder, file or link, with what the file system says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where in the tree.
    pub path: TreePath,
    /// What.
    pub kind: Kind,
    /// Permission bits, [`ALL_MODES`] at most.
    pub mode: u32,
    /// When its content changed last.
    pub modified: Moment,
    /// When anything about it changed last.
    pub changed: Moment,
    /// The user it belongs to, where it came from.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// Its number in its file system.
    pub inode: u64,
}

impl Entry {
    /// Checks all values but the path, which is checked already.
    ///
    /// # Errors
    /// When one is a value that no file has.
    pub fn checked(self) -> Result<Self, Malformed> {
        let wrong = |why| Err(Malformed::Value(self.path.to_string(), why));
        if self.mode & !ALL_MODES != 0 {
            return wrong("a mode that there is not");
        }
        if !self.modified.is_possible() || !self.changed.is_possible() {
            return wrong("a time that there is not");
        }
        match &self.kind {
            Kind::File { size } if *size > LARGEST_FILE => wrong("a size beyond 1 TiB"),
            Kind::Link { target } if target.is_empty() || target.len() > LONGEST_PATH || target.contains(&0) => {
                wrong("a link target that leads nowhere")
            }
            _ => Ok(self),
        }
    }

    /// How many bytes its content has.
    pub fn size(&self) -> u64 {
        if let Kind::File { size } = self.kind { size } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_leads_nowhere_but_down() {
        for good in [
            "a",
            "a/b",
            "...",
            "a b",
            "-rf",
            "\u{202e}",
            "\u{ff0e}\u{ff0e}",
            "a\u{2215}b",
            &vec!["d"; DEEPEST].join("/"),
        ] {
            assert!(TreePath::parse(good.as_bytes()).is_ok(), "{good}");
        }
        let long = "n".repeat(LONGEST_NAME + 1);
        let deep = vec!["d"; DEEPEST + 1].join("/");
        let far = vec!["n".repeat(LONGEST_NAME); 17].join("/");
        for bad in ["", "/", "/etc", "..", ".", "a/../b", "a/./b", "a//b", "a/", "./a", "a\0b", &long, &deep, &far] {
            assert!(TreePath::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(TreePath::parse(b"\xff\xfe").is_ok(), "names are bytes");
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let mut paths = ["b", "a/z", "a", "a-b", "a/b/c", "a/b"].map(path);
        paths.sort();
        assert_eq!(paths.map(|path| path.to_string()), ["a", "a/b", "a/b/c", "a/z", "a-b", "b"]);
        assert!(path("a/b").is_in(&path("a")) && path("a").is_in(&path("a")) && !path("ab").is_in(&path("a")));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(path("a\u{1b}[2Jb\n").to_string(), "a\\u{1b}[2Jb\\n");
        assert_eq!(path("gepj.\u{202e}exe").to_string(), "gepj.\\u{202e}exe", "or it would read exe.jpeg");
        assert_eq!(TreePath::parse(b"caf\xe9").unwrap().to_string(), "caf\u{fffd}");
    }
}
