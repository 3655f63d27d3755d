//! Where an archive lies, in one word.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where duplicity finds an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// In a folder of this machine: `duplicity:///backups/blog`.
    Folder(PathBuf),
    /// Wherever else duplicity can read, by its own address: `duplicity+sftp://host/folder`.
    Elsewhere(String),
}

/// What is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAddress {
    /// Not one of ours.
    #[error("it begins with duplicity:/// and a folder, or with duplicity+ and an address of duplicity's")]
    Scheme,
    /// A folder that is not named from the root on.
    #[error("a folder is named from the root on, as in duplicity:///backups/blog")]
    Relative,
    /// A secret among the arguments.
    #[error("a password does not belong into an address, where everybody on this machine can read it")]
    Password,
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(folder) = text.strip_prefix("duplicity://") {
            return if folder.starts_with('/') { Ok(Self::Folder(folder.into())) } else { Err(NoAddress::Relative) };
        }
        let address = text.strip_prefix("duplicity+").ok_or(NoAddress::Scheme)?;
        let (scheme, rest) = address.split_once("://").ok_or(NoAddress::Scheme)?;
        let is_scheme =
            |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !is_scheme(scheme) {
            return Err(NoAddress::Scheme);
        }
        let host = rest.split('/').next().unwrap_or_default();
        match host.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => Err(NoAddress::Password),
            _ => Ok(Self::Elsewhere(address.to_owned())),
        }
    }
}

impl Address {
    /// As duplicity takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => {
                // Duplicity takes an address apart, and undoes this.
                let quoted = folder.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                format!("file://{quoted}")
            }
            Self::Elsewhere(address) => address.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Elsewhere(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_folder_or_what_duplicity_knows() {
        let url = |text: &str| text.parse::<Address>().map(|address| address.url());
        assert_eq!(url("duplicity:///backups/the blog"), Ok("file:///backups/the blog".to_owned()));
        assert_eq!(url("duplicity:///100%?"), Ok("file:///100%25%3F".to_owned()));
        assert_eq!(url("duplicity+sftp://ann@host//srv/blog"), Ok("sftp://ann@host//srv/blog".to_owned()));
        assert_eq!(url("duplicity+pexpect+sftp://h/b"), Ok("pexpect+sftp://h/b".to_owned()));
        assert_eq!(url("duplicity+sftp://ann:secret@host/blog"), Err(NoAddress::Password));
        assert_eq!(url("duplicity://backups/blog"), Err(NoAddress::Relative));
        for bad in ["", "/backups/blog", "sftp://host/blog", "duplicity+", "duplicity+://x", "duplicity+--evil://x"] {
            assert_eq!(url(bad), Err(NoAddress::Scheme), "{bad}");
        }
    }
}
