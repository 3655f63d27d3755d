//! Public authorities that certificates are asked for by ACME (RFC 8555): which, and in which order.
//!
//! Part of the stack file. None declared means that the stack's own authority issues all certificates.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{AuthorityName, DnsName, Origin};

/// An authority that issues certificates by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Authority {
    /// Its name, unique in the stack: files of its account are called so.
    pub name: AuthorityName,
    /// Where it says what it offers.
    pub directory: DirectoryUrl,
    /// A file with the certificates, PEM, that its own begin from; `None` for those that machines believe in.
    pub roots: Option<PathBuf>,
    /// Which of its kinds of certificate; `None` for its usual one.
    pub profile: Option<String>,
    /// What it calls itself in CAA records (RFC 8659 section 4.2); `None` when it asks for none.
    pub caa: Option<DnsName>,
}

/// A public authority that a stack file names without saying where it is.
#[derive(Debug)]
pub struct Known {
    /// Its name in stack files.
    pub name: &'static str,
    /// Where it says what it offers.
    pub directory: &'static str,
    /// What it calls itself in CAA records.
    pub caa: &'static str,
}

/// Those that ask for neither a mail address nor an account that is made elsewhere first.
pub const KNOWN: &[Known] = &[Known {
    name: "letsencrypt",
    directory: "https://acme-v02.api.letsencrypt.org/directory",
    caa: "letsencrypt.org",
}];

impl Known {
    /// The one that is called so.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }
}

/// `https://host:port/path` of an ACME directory (RFC 8555 section 7.1.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DirectoryUrl {
    origin: Origin,
    path: String,
}

/// A text that is no address of a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a directory")]
pub struct NotADirectory(String);

impl DirectoryUrl {
    /// The server.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl FromStr for DirectoryUrl {
    type Err = NotADirectory;

    fn from_str(text: &str) -> Result<Self, NotADirectory> {
        let parsed = || {
            let rest = text.strip_prefix("https://")?;
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let origin = format!("https://{authority}").parse().ok()?;
            let path = if path.is_empty() { "/" } else { path };
            let is_plain =
                path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>'));
            is_plain.then(|| Self { origin, path: path.to_owned() })
        };
        parsed().ok_or_else(|| NotADirectory(text.to_owned()))
    }
}

impl TryFrom<String> for DirectoryUrl {
    type Error = NotADirectory;

    fn try_from(text: String) -> Result<Self, NotADirectory> {
        text.parse()
    }
}

impl From<DirectoryUrl> for String {
    fn from(url: DirectoryUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_directory_is_https_and_comes_out_as_it_went_in() {
        for text in ["https://acme.example.org/directory", "https://localhost:14000/dir?x=1", "https://ca.example/"] {
            assert_eq!(text.parse::<DirectoryUrl>().unwrap().to_string(), text);
        }
        let bare: DirectoryUrl = "https://CA.example:443".parse().unwrap();
        assert_eq!(bare.to_string(), "https://ca.example/");
        for wrong in [
            "",
            "ca.example",
            "http://ca.example/d",
            "https://",
            "https://a b/d",
            "https://u@ca.example/",
            "https://ca.example/a b",
            "https://ca.example/d#f",
        ] {
            assert!(wrong.parse::<DirectoryUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn known_authorities_are_as_a_stack_file_would_say_them() {
        for known in KNOWN {
            assert!(known.name.parse::<AuthorityName>().is_ok() && known.caa.parse::<DnsName>().is_ok());
            assert_eq!(known.directory.parse::<DirectoryUrl>().unwrap().to_string(), known.directory);
        }
    }
}
